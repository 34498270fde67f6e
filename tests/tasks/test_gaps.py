"""Absent bars are kept in the lake with their reason, told with the run, and taken back when bars come."""

from __future__ import annotations

import pandas as pd
import pytest

from tapeline.core.schemas import AUDIT, CLEAN_BARS, GAPS, RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake, Lineage
from tasks import gaps as gaps_module
from tasks.clean import clean_bars, served
from tasks.gaps import record_gaps
from tasks.job import Job
from tests.lake.support import EURUSD, H1, data_hashes, raw
from tests.support import make_bars

# Three weeks in New York's summer time, from a Monday on; the weekends of foreign exchange are absent, as in reality.
BARS = raw(make_bars(480, start="2017-03-13", gaps=False), source="test")
OPEN = (BARS.index.day_of_week < 4) | ((BARS.index.day_of_week == 4) & (BARS.index.hour < 21))
OPEN |= (BARS.index.day_of_week == 6) & (BARS.index.hour >= 21)
BARS = BARS[OPEN]
HOLE = slice(30, 34)
GBPUSD = Symbol.parse("GBPUSD")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A lake of one ingest with a hole of four bars; gives (lake, what was shown)."""
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_CALENDARS__SOURCES", '{"test": "24x5"}')
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    shown: dict[str, list] = {}
    monkeypatch.setattr(gaps_module, "show_table", lambda key, rows, description: shown.update({key: rows}))
    return Lake(load_settings().lake_path), shown


def without(hole: slice) -> pd.DataFrame:
    return BARS.drop(BARS.index[hole])


def ingest(lake: Lake, bars: pd.DataFrame, symbol=EURUSD, run: str = "run-1") -> None:
    lake.write(RAW_BARS, bars, symbol, H1, lineage=Lineage(run, "ingest", ("test",)))


def held(lake: Lake) -> pd.DataFrame:
    return lake.read(GAPS, EURUSD, H1).reset_index().astype({"reason": "str", "evidence": "str"})


def test_the_clean_stage_keeps_and_tells_what_is_absent(project):
    lake, shown = project
    ingest(lake, without(HOLE))
    _, cleaned = clean_bars.fn(Job("run-1", "sample", EURUSD, H1))
    table = held(lake)
    weekends = table[table["reason"] == "market_closed"]
    (hole,) = table[table["reason"] != "market_closed"].itertuples()
    assert len(weekends) >= 2
    assert (weekends["missing_bars"] == 0).all()
    assert (hole.ts, hole.end) == (BARS.index[HOLE.start], BARS.index[HOLE.stop])
    assert (hole.missing_bars, hole.reason) == (4, "unknown")
    assert hole.known_at == BARS["close_ts"].iloc[HOLE.stop]
    assert hole.open_time == 4 * H1.nanoseconds
    assert "1 unknown (4 bars)" in cleaned.notes[-1]
    assert {row["reason"]: row["missing bars"] for row in shown["gaps-EURUSD H1"]} == {"market_closed": 0, "unknown": 4}
    assert "gaps" in set(lake.read(AUDIT, EURUSD, H1)["suite"].astype(str))
    before = data_hashes(lake.root)
    clean_bars.fn(Job("run-2", "sample", EURUSD, H1))
    clean_bars.fn(Job("run-2", "sample", EURUSD, H1, start=BARS.index[-1]))
    lines = {name for name, value in data_hashes(lake.root).items() if before.get(name) != value}
    assert not lines, "nothing new, nothing written, the audit table included"


@pytest.mark.parametrize(("peer", "reason"), [(BARS, "no_trade"), (BARS.drop(BARS.index[HOLE]), "outage")])
def test_other_instruments_of_the_source_bear_witness(project, peer, reason):
    lake, _ = project
    ingest(lake, without(HOLE))
    ingest(lake, peer, GBPUSD)
    clean_bars.fn(Job("run-1", "sample", EURUSD, H1))
    table = held(lake)
    assert table.loc[table["missing_bars"] == 4, "reason"].tolist() == [reason]
    # One that began later knows nothing of the hole.
    other = Lake(lake.root.parent / "other")
    ingest(other, without(HOLE))
    ingest(other, peer.iloc[100:], GBPUSD)
    job = Job("run-1", "sample", EURUSD, H1)
    found, _ = record_gaps(without(HOLE).index, job, "test", load_settings(), other, data_version="v")
    assert found.loc[found["missing_bars"] == 4, "reason"].astype(str).tolist() == ["unknown"]


def test_a_gap_in_which_bars_came_is_kept_as_filled_and_the_rest_of_it_as_a_gap(project):
    lake, _ = project
    ingest(lake, without(HOLE))
    clean_bars.fn(Job("run-1", "sample", EURUSD, H1))
    ingest(lake, BARS.iloc[30:32], run="run-2")
    clean_bars.fn(Job("run-2", "sample", EURUSD, H1))
    table = held(lake)
    table = table[table["reason"] != "market_closed"].set_index("end")["reason"].items()
    assert [(end, reason) for end, reason in table] == [(BARS.index[34], "filled"), (BARS.index[34], "unknown")]
    still = held(lake)
    assert still.loc[still["reason"] == "unknown", ["ts", "missing_bars"]].to_dict("list") == {
        "ts": [BARS.index[32]],
        "missing_bars": [2],
    }


def test_a_later_run_that_cannot_prove_a_download_does_not_weaken_the_verdict(project):
    lake, _ = project
    ingest(lake, without(HOLE))
    clean_bars.fn(Job("run-1", "sample", EURUSD, H1))
    late = without(HOLE).iloc[[200]].assign(close=1.15, high=1.3, low=0.9)
    ingest(lake, late, run="run-2")
    clean_bars.fn(Job("run-3", "sample", EURUSD, H1))
    assert held(lake).loc[held(lake)["missing_bars"] == 4, "reason"].tolist() == ["unknown"]
    fresh, _ = record_gaps(
        without(HOLE).index, Job("run-3", "sample", EURUSD, H1), "test", load_settings(), lake, data_version="v"
    )
    assert fresh.loc[fresh["missing_bars"] == 4, "reason"].astype(str).tolist() == ["not_downloaded"]


def test_a_bar_that_stands_in_closes_no_gap_and_the_bar_before_the_job_opens_one():
    bars = BARS.iloc[10:20].assign(filled=[None] * 3 + [True] * 2 + [None] * 5)
    index = served(bars, BARS.iloc[:8])
    assert list(index) == [BARS.index[7], *BARS.index[10:13], *BARS.index[15:20]]
    assert served(bars.iloc[:0], None).empty


def test_unusual_bars_are_looked_for_where_the_settings_say_so(project, monkeypatch):
    lake, _ = project
    spike = BARS.copy()
    spike.iloc[300, spike.columns.get_indexer(["open", "high", "low", "close"])] = [1.0, 9.0, 1.0, 8.0]
    ingest(lake, spike)
    _, quiet = clean_bars.fn(Job("run-1", "sample", EURUSD, H1))
    assert "anomalies" not in {check.check for check in quiet.checks}
    monkeypatch.setenv("TAPELINE_QUALITY__ANOMALIES", '["spike_and_return"]')
    _, told = clean_bars.fn(Job("run-1", "sample", EURUSD, H1))
    (check,) = [check for check in told.checks if check.check == "anomalies"]
    assert check.rows_found == 1
    stamp = BARS.index[300].strftime("%Y-%m-%d %H:%M")
    assert check.details["messages"][0].startswith(f"OHLCV spike and return at {stamp}")
    clean = lake.read(CLEAN_BARS, EURUSD, H1)
    assert clean["close"].iloc[300] == 8.0, "it is told, not changed"
