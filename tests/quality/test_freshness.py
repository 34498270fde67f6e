"""How old a lake's series are: by the clock, and by the hours in which their market was open."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tapeline.core.schemas import RAW_BARS, features_spec
from tapeline.core.settings import CalendarSettings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.freshness import LakeInventory
from tests.support import make_bars

H1 = Timeframe.parse("H1")
RUN = Lineage("run", "test")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Five trading days from Monday 2017-01-02; the last bar opens on Friday at 20:00 and closes at 21:00."""
    lake = Lake(tmp_path)
    bars = make_bars(5 * 24 - 3)
    stamped = bars.assign(known_at=bars["close_ts"], known_at_is_estimate=True, source="yahoo", revision=0)
    for symbol in ("EURUSD", "BTC/USDT"):
        lake.write(RAW_BARS, stamped, Symbol.parse(symbol), H1, lineage=RUN)
    return lake


def test_a_closed_market_makes_nothing_stale(lake: Lake):
    monday = pd.Timestamp("2017-01-09 01:00", tz="UTC")
    rules = CalendarSettings(default="24x7", symbols={"EUR*": "24x5"})
    found = {state.symbol: state for state in LakeInventory(lake, rules, lambda: monday)()}
    assert found["EURUSD"].freshness_seconds == found["BTC/USDT"].freshness_seconds == (2 * 24 + 4) * 3_600
    assert found["BTC/USDT"].open_freshness_seconds == found["BTC/USDT"].freshness_seconds
    # Friday 21:00 to 22:00 and Sunday 22:00 to Monday 01:00 in UTC, New York's winter.
    assert found["EURUSD"].open_freshness_seconds == 4 * 3_600
    assert found["EURUSD"].rows == 117
    assert found["EURUSD"].timeframe_seconds == 3_600


def test_a_rule_for_a_source_is_found_through_the_stored_rows(lake: Lake):
    rules = CalendarSettings(default="24x7", sources={"yahoo*": "24x5"})
    saturday = pd.Timestamp("2017-01-07 12:00", tz="UTC")
    found = {state.symbol: state for state in LakeInventory(lake, rules, lambda: saturday)()}
    assert found["BTC/USDT"].open_freshness_seconds == 3_600


def test_versions_of_a_table_are_one_and_other_zones_are_left_out(lake: Lake):
    bars = make_bars(50)
    for version, rows in (("core@1111111111111111", 30), ("core@2222222222222222", 50)):
        frame = pd.DataFrame({"known_at": bars["close_ts"], "x": 1.0}, index=bars.index)[:rows]
        lake.write(features_spec(version, ["x"]), frame, Symbol.parse("EURUSD"), H1, lineage=RUN)
    now = bars["close_ts"].iloc[-1] + pd.Timedelta(seconds=30)
    found = [s for s in LakeInventory(lake, CalendarSettings(), lambda: now)() if s.table.startswith("features")]
    assert [(s.table, s.rows, s.freshness_seconds) for s in found] == [("features/core", 50, 30.0)]
    assert found[0].size_bytes == sum(path.stat().st_size for path in (lake.root / "features").rglob("*.parquet"))


def test_a_clock_behind_the_data_gives_no_negative_age(lake: Lake):
    early = pd.Timestamp("2016-01-01", tz="UTC")
    found = list(LakeInventory(lake, CalendarSettings(default="24x5"), lambda: early)())
    assert {(s.freshness_seconds, s.open_freshness_seconds) for s in found} == {(0.0, 0.0)}
