"""Quarantine rows: nothing lost, the same bad row always the same row, and JSON that reads back exactly."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import SchemaError
from tapeline.core.schemas import QUARANTINE
from tapeline.quality.checks import check_bars
from tapeline.quality.quarantine import json_records, quarantine, quarantine_rejected
from tests.quality.batches import raw_bars


def refused(bars: pd.DataFrame) -> pd.DataFrame:
    return quarantine(bars, check_bars(bars, "H1"), stage="values", source="test")


def test_refused_rows_keep_their_values_time_and_place() -> None:
    bars = raw_bars(5)
    bars.iloc[3, bars.columns.get_loc("close")] = math.inf
    bars.iloc[1, bars.columns.get_loc("high")] = 0.1
    rows = refused(bars)
    assert rows["row_number"].tolist() == [1, 3]
    assert rows.index.equals(bars.index[[1, 3]].rename("ts"))
    assert rows["reasons"].tolist()[0] == ["high_below_low: the high lies below the low"]
    record = json.loads(rows["record"].iloc[1])
    assert record["close"] == "Infinity"
    assert record["open"] == bars["open"].iloc[3]
    assert pd.Timestamp(record["ts"]) == bars.index[3]
    assert (rows["stage"].unique(), rows["source"].unique()) == (["values"], ["test"])
    assert QUARANTINE.to_arrow(rows).num_rows == 2


def test_the_same_bad_row_is_one_row_wherever_and_whenever_it_comes() -> None:
    bars = raw_bars(6)
    bars.iloc[4, bars.columns.get_loc("open")] = math.nan
    later = bars.iloc[3:].assign(known_at=bars["known_at"].iloc[3:] + pd.Timedelta(days=1), revision=np.int32(2))
    assert refused(bars)["id"].tolist() == refused(later)["id"].tolist()
    twice = pd.concat([bars, bars.iloc[[1, 1]]])
    assert len(refused(twice)) == 2  # the broken row, and the repeated one once
    other = bars.assign(open=bars["open"].where(bars["open"].notna(), -1.0))
    assert refused(other)["id"].tolist() != refused(bars)["id"].tolist()
    elsewhere = quarantine(bars, check_bars(bars, "H1"), stage="values", source="another")
    assert elsewhere["id"].tolist() != refused(bars)["id"].tolist()


def test_a_row_without_a_time_stands_at_the_epoch() -> None:
    bars = raw_bars(2)
    bars.index = bars.index.where([True, False])
    rows = refused(bars)
    assert rows.index.tolist() == [pd.Timestamp(0, tz="UTC")]
    assert json.loads(rows["record"].iloc[0])["ts"] is None
    far = raw_bars(1).set_axis(pd.DatetimeIndex(np.array(["9999-01-01"], dtype="M8[us]"), name="ts").tz_localize("UTC"))
    rows = refused(far)
    assert rows.index.tolist() == [pd.Timestamp(0, tz="UTC")]
    assert json.loads(rows["record"].iloc[0])["ts"].startswith("9999-01-01")


def test_nothing_refused_is_an_empty_table() -> None:
    rows = refused(raw_bars(3))
    assert QUARANTINE.to_arrow(rows).num_rows == 0
    assert rows.index.name == "ts"


def test_what_a_source_could_not_read() -> None:
    rejected = pd.DataFrame(
        {"row_number": [4, 9], "record": ['{"a": "x"}', "not json"], "reasons": [["no time"], ["b", "c"]]}
    )
    rows = quarantine_rejected(rejected, stage="ingest", source="files")
    assert rows["reasons"].tolist() == [["unreadable: no time"], ["unreadable: b", "unreadable: c"]]
    assert rows["row_number"].tolist() == [4, 9]
    assert rows["record"].tolist() == ['{"a": "x"}', "not json"]
    assert QUARANTINE.to_arrow(rows).num_rows == 2
    assert QUARANTINE.to_arrow(quarantine_rejected(rejected.iloc[:0], stage="ingest", source="files")).num_rows == 0
    with pytest.raises(SchemaError, match="no reason"):
        quarantine_rejected(rejected.assign(reasons=[[], ["b"]]), stage="ingest", source="files")
    with pytest.raises(SchemaError, match="record"):
        quarantine_rejected(rejected.drop(columns="record"), stage="ingest", source="files")


@given(
    st.lists(
        st.tuples(st.floats(), st.text(max_size=5), st.booleans(), st.integers(-(2**62), 2**62)), min_size=1, max_size=8
    )
)
def test_records_read_back_exactly(rows: list[tuple[float, str, bool, int]]) -> None:
    frame = pd.DataFrame(rows, columns=['a"b', "ü", "flag", "count"]).astype({"ü": object})
    for (number, text, flag, count), record in zip(rows, map(json.loads, json_records(frame)), strict=True):
        found = record['a"b']
        assert (math.isnan(number) and found == "NaN") or float(found) == number
        assert (record["ü"], record["flag"], record["count"]) == (text, flag, count)


def test_records_hold_any_cell() -> None:
    frame = pd.DataFrame(
        {
            "mixed": [None, math.nan, b"\xff", [1, 2]],
            "category": pd.Categorical(["a", None, "b", "a"]),
            "small": np.array([0.1, 1e-30, np.inf, 3], dtype=np.float32),
            "nullable": pd.array([1, None, 2, 3], dtype="Int64"),
        }
    )
    records = [json.loads(text) for text in json_records(frame)]
    assert [r["mixed"] for r in records] == [None, "NaN", "b'\\xff'", [1, 2]]
    assert [r["category"] for r in records] == ["a", None, "b", "a"]
    assert [r["small"] for r in records] == [0.1, 1e-30, "Infinity", 3]
    assert [r["nullable"] for r in records] == [1, None, 2, 3]
