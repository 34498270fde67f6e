from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.schemas import INSTANT, NAME
from tapeline.lake.content import canonical, content_hash, equal_rows

POINTS = pa.list_(pa.struct([("ts", pa.int64()), ("price", pa.float64())]))


def hashed(table: pa.Table) -> str:
    return content_hash(canonical(table))


def sample(rows: int = 40) -> pa.Table:
    generator = np.random.default_rng(1)
    instants = pa.array(np.arange(rows) * 60_000_000_000).cast(INSTANT)
    return pa.table(
        {
            "ts": instants,
            "close_ts": pa.array((np.arange(rows) + 1) * 60_000_000_000).cast(INSTANT),
            "price": pa.array([None if n % 7 == 0 else float(v) for n, v in enumerate(generator.random(rows))]),
            "single": pa.array(np.ones(rows)),
            "small": pa.array(np.arange(rows), pa.int8()),
            "flag": pa.array([n % 3 == 0 for n in range(rows)]),
            "source": pa.array([f"s{n % 4}" for n in range(rows)]).cast(NAME),
            "text": pa.array([None if n % 5 == 0 else "x" * (n % 6) for n in range(rows)]),
            "points": pa.array(
                [None if n % 9 == 0 else [{"ts": n, "price": n / 2}] * (n % 3) for n in range(rows)], POINTS
            ),
        }
    )


@given(st.lists(st.integers(0, 40), max_size=4))
def test_content_does_not_depend_on_chunks_or_offsets(cuts):
    table = sample()
    edges = [0, *sorted(cuts), 40]
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    assert hashed(pa.concat_tables(pieces)) == hashed(table)


@pytest.mark.parametrize("column", sample().column_names)
def test_every_column_and_every_row_counts(column):
    table = sample()
    values = table.column(column)
    moved = pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)]).column(column)
    if column != "single":  # all its values are the same
        index = table.column_names.index(column)
        assert hashed(table.set_column(index, column, moved)) != hashed(table), values
    assert hashed(table.drop_columns([column])) != hashed(table)
    assert hashed(table.rename_columns([name + "_" * (name == column) for name in table.column_names])) != hashed(table)
    assert hashed(table.slice(0, 39)) != hashed(table)


def test_the_distance_of_a_second_time_column_counts():
    table = sample()
    late = pa.array((np.arange(40) + 2) * 60_000_000_000).cast(INSTANT)
    assert hashed(table.set_column(1, "close_ts", late)) != hashed(table)


def test_dictionary_order_and_unused_entries_do_not_count():
    codes = pa.array([0, 1, 0, None], pa.int32())
    one = pa.table({"source": pa.DictionaryArray.from_arrays(codes, ["b", "a"])})
    other_codes = pa.array([2, 0, 2, None], pa.int32())
    two = pa.table({"source": pa.DictionaryArray.from_arrays(other_codes, ["a", "unused", "b"])})
    assert hashed(one) == hashed(two)
    assert canonical(one).column("source").to_pylist() == ["b", "a", "b", None]


def test_what_lies_under_a_null_and_how_a_nan_is_spelt_do_not_count():
    under = pa.Array.from_buffers(
        pa.float64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([1.0, 99.0]).tobytes())]
    )
    assert under.to_pylist() == [1.0, None]
    assert hashed(pa.table({"v": under})) == hashed(pa.table({"v": pa.array([1.0, None])}))
    negative = np.array([0xFFF8000000000001], dtype=np.uint64).view(np.float64)
    assert hashed(pa.table({"v": pa.array(negative)})) == hashed(pa.table({"v": pa.array([np.nan])}))


def test_null_and_nan_are_different_content():
    assert hashed(pa.table({"v": pa.array([1.0, None])})) != hashed(pa.table({"v": pa.array([1.0, np.nan])}))


def test_equal_rows_of_numbers_texts_and_nested_values():
    a = pa.array([1.0, np.nan, None, 2.0])
    b = pa.array([1.0, np.nan, np.nan, 3.0])
    assert equal_rows(a, b).tolist() == [True, True, True, False]
    text = pa.array(["a", None, None, "b"])
    assert equal_rows(text, pa.array(["a", None, "", "c"])).tolist() == [True, True, False, False]
    one = pa.array(
        [[{"ts": 1, "price": np.nan}], [], None, [{"ts": 1, "price": 1.0}], [{"ts": 1, "price": 1.0}]], POINTS
    )
    two = pa.array([[{"ts": 1, "price": np.nan}], [], [], [{"ts": 2, "price": 1.0}], None], POINTS)
    assert equal_rows(one, two).tolist() == [True, True, False, False, False]
