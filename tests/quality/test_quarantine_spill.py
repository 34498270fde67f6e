"""Refused rows wait on disk, reach the lake once, and outlive a crash at every point."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tapeline.core.schemas import QUARANTINE
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.quarantine_spill import QuarantineSpill

BITCOIN = Symbol.parse("BTC/USDT")
TICK = Timeframe.parse("tick")


def put(spill: QuarantineSpill, number: int) -> None:
    spill.add_message(
        BITCOIN, raw=b"\xff{%d" % number, length=9, reason="cut off", received=number, number=number, source="demo"
    )


def into(lake: Lake):
    return lambda rows, symbol: lake.write(QUARANTINE, rows, symbol, TICK, lineage=Lineage("run", "stream"))


def test_rows_reach_the_lake_once_with_reason_and_content(tmp_path):
    lake, spill = Lake(tmp_path / "lake"), QuarantineSpill(tmp_path / "spill")
    for number in range(3):
        put(spill, number)
    assert spill.waiting_bytes > 0
    assert spill.flush(into(lake)) == 3
    assert spill.flush(into(lake)) == 0
    assert spill.waiting_bytes == 0
    assert list((tmp_path / "spill").iterdir()) == []
    rows = lake.read(QUARANTINE, BITCOIN, TICK)
    assert [list(reasons) for reasons in rows["reasons"]] == [["unreadable: cut off"]] * 3
    assert sorted(json.loads(text)["received"] for text in rows["record"]) == [0, 1, 2]
    assert json.loads(rows["record"].iloc[0])["raw"].startswith("\\xff{")


def test_what_a_killed_process_left_is_moved_by_the_next_and_a_torn_line_is_left_out(tmp_path):
    first = QuarantineSpill(tmp_path)
    put(first, 1)  # written, never flushed or closed: the process was killed
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b'{"symbol": "BTC/US')
    moved = []
    second = QuarantineSpill(tmp_path)
    put(second, 2)
    assert second.flush(lambda rows, symbol: moved.extend(rows["row_number"])) == 2
    assert sorted(moved) == [1, 2]


def test_a_lake_that_fails_leaves_the_rows_and_a_repeated_write_changes_nothing(tmp_path):
    lake, spill = Lake(tmp_path / "lake"), QuarantineSpill(tmp_path / "spill")
    put(spill, 1)

    def dies(rows: pd.DataFrame, symbol: Symbol) -> None:
        into(lake)(rows, symbol)
        raise OSError("killed behind the write")

    with pytest.raises(OSError, match="killed"):
        spill.flush(dies)
    put(spill, 2)
    assert spill.flush(into(lake)) == 2
    assert len(lake.read(QUARANTINE, BITCOIN, TICK)) == 2


def test_the_bound_is_kept_and_said(tmp_path):
    spill = QuarantineSpill(tmp_path, maximum_bytes=1_000)
    while spill.waiting_bytes < 700:
        put(spill, spill.rows)
    with pytest.raises(OSError, match="at most 1,000"):
        spill.add_message(BITCOIN, raw=b"{" * 500, length=500, reason="cut off", received=1, number=1, source="demo")
    assert 0 < spill.waiting_bytes <= 1_000
    assert spill.flush(lambda rows, symbol: None) == spill.rows
    put(spill, 1)
