"""Ticks, trades and books in the lake: many rows an instant, in order, none twice, corrections kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import SchemaError
from tapeline.core.schemas import RAW_BOOK, RAW_TICKS, RAW_TRADES
from tapeline.lake import Lake, query
from tests.lake.support import EURUSD, LINEAGE, SWAP, data_hashes
from tests.lake.ticks import TICK, ticks


def test_rows_of_one_instant_keep_their_order_and_are_stored_once(tmp_path):
    lake = Lake(tmp_path)
    frame = ticks([5, 5, 5, 7, 86_400 * 10**9, 86_400 * 10**9])
    receipt = lake.write(RAW_TICKS, frame.sample(frac=1, random_state=1), EURUSD, TICK, lineage=LINEAGE)
    assert receipt.partitions == ("2025-07-30", "2025-07-31")
    assert receipt.path.name == "timeframe=tick"
    held = lake.read(RAW_TICKS, EURUSD, TICK).reset_index()
    assert held["bid"].tolist() == frame["bid"].tolist()
    before = data_hashes(tmp_path)
    assert lake.write(RAW_TICKS, frame, EURUSD, TICK, lineage=LINEAGE).rows_unchanged == 6
    assert data_hashes(tmp_path) == before
    assert lake.last(RAW_TICKS, EURUSD, TICK) == pd.Timestamp("2025-07-31", tz="UTC")


def test_the_inventory_defines_no_gaps_for_ticks(tmp_path):
    lake = Lake(tmp_path)
    lake.write(RAW_TICKS, ticks([0, 0, 10**12]), EURUSD, TICK, lineage=LINEAGE)
    row = lake.status().iloc[0]
    assert (row["timeframe"], row["rows"]) == ("tick", 3)
    assert row[["gaps", "missing"]].isna().all()
    assert [str(series.timeframe) for series in lake.series()] == ["tick"]
    counted = query(lake, "select timeframe, count(*) as n from raw_ticks group by all").to_pylist()
    assert counted == [{"timeframe": "tick", "n": 3}]
    assert lake.damaged() == []


def test_a_corrected_tick_is_a_revision_and_the_old_one_stays_known(tmp_path):
    lake, frame = Lake(tmp_path), ticks([1, 1, 2])
    lake.write(RAW_TICKS, frame, EURUSD, TICK, lineage=LINEAGE)
    late = pd.Timestamp("2025-08-01", tz="UTC")
    lake.write(RAW_TICKS, frame.iloc[[1]].assign(bid=9.0, known_at=late), EURUSD, TICK, lineage=LINEAGE)
    assert lake.read(RAW_TICKS, EURUSD, TICK)["bid"].tolist() == [1.1, 9.0, frame["bid"][2]]
    then = lake.read(RAW_TICKS, EURUSD, TICK, as_of="2025-07-31")
    assert then["bid"].tolist() == frame["bid"].tolist()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=6))
def test_batches_in_any_order_hold_what_a_dictionary_holds(batches):
    """The search for known keys looks only at the stretch that a batch covers, and must miss none there."""
    expected: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        for number, instants in enumerate(batches):
            frame = ticks(instants).assign(bid=float(number))
            lake.write(RAW_TICKS, frame, EURUSD, TICK, lineage=LINEAGE)
            expected.update(zip(zip(frame["ts"], frame["sequence"], strict=True), frame["bid"], strict=True))
        held = lake.read(RAW_TICKS, EURUSD, TICK).reset_index()
    assert dict(zip(zip(held["ts"], held["sequence"], strict=True), held["bid"], strict=True)) == expected
    assert len(held) == len(expected)
    keys = held[["ts", "sequence"]]
    assert keys.equals(keys.sort_values(["ts", "sequence"]))


def test_trades_and_books_keep_many_rows_an_instant(tmp_path):
    lake = Lake(tmp_path)
    lead = ticks([1, 1, 1, 1])[["ts", "sequence", "known_at", "known_at_is_estimate", "source", "revision"]]
    trades = lead.assign(price=1.0, size=[1.0, 2.0, 3.0, 4.0], side=np.int8(-1), id=["10", "9", "8", ""])
    lake.write(RAW_TRADES, trades, SWAP, TICK, lineage=LINEAGE)
    assert lake.read(RAW_TRADES, SWAP, TICK)["id"].tolist() == ["10", "9", "8", ""]
    side = np.array([1, 1, -1, -1], dtype=np.int8)
    book = lead.assign(sequence=77, side=side, level=np.int32([0, 1, 0, 1]), price=[9.0, 8.0, 10.0, 11.0], size=1.0)
    lake.write(RAW_BOOK, book, SWAP, TICK, lineage=LINEAGE)
    held = lake.read(RAW_BOOK, SWAP, TICK)
    assert list(zip(held["side"], held["level"], held["price"], strict=True)) == [
        (-1, 0, 10.0),
        (-1, 1, 11.0),
        (1, 0, 9.0),
        (1, 1, 8.0),
    ]
    with pytest.raises(SchemaError, match="repeat a key"):
        lake.write(RAW_BOOK, pd.concat([book, book]), SWAP, TICK, lineage=LINEAGE)
