"""The profile flow on the packaged sample: what it stores and shows, and that a second run describes nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import PROFILES, RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.sources.base import open_source
from tests.flows.artifacts import artifacts_shown
from tests.monitoring.fake_services import fake_services

pytestmark = pytest.mark.prefect


def test_the_flow_describes_each_batch_once(prefect_server: str, tmp_path: Path, monkeypatch, capsys):
    import pandas as pd

    from flows.data_profile import profile
    from tasks.backfill import load_history
    from tasks.job import Job

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    lake, symbol, hourly = Lake(settings.lake_path), Symbol.parse("EURUSD"), Timeframe.parse("H1")
    start, end = pd.Timestamp("2017-01-02", tz="UTC"), pd.Timestamp("2017-03-06", tz="UTC")
    now = pd.Timestamp("2020-01-01", tz="UTC")
    load_history(
        Job("run", "sample", symbol, hourly, start, end), open_source("sample", settings), settings, lake, now=now
    )
    with artifacts_shown("profile") as shown:
        (first,) = profile(symbols=["EURUSD"], timeframe="H1")
    assert (first.batches, first.profiled, first.newest) == (9, 9, pd.Timestamp("2017-02-27", tz="UTC"))
    stored = lake.read(PROFILES, symbol, hourly)
    closes = stored[stored["column"] == "close"]
    assert len(closes) == 9
    assert closes["rows"].sum() == len(lake.read(RAW_BARS, symbol, hourly)) > 900
    assert "ingested_at" not in set(stored["column"]), "when a row was stored is no property of the market"
    version = lake.version(PROFILES, symbol, hourly)
    (second,) = profile(symbols=["EURUSD"], timeframe="H1")
    assert (second.batches, second.profiled, second.alarms) == (9, 0, 0)
    assert lake.version(PROFILES, symbol, hourly) == version
    assert first.report is not None
    page = first.report.read_text()
    assert "2017-02-27 00:00 to 2017-03-06 00:00 UTC" in page
    assert page.count("<svg") > 15
    (table,) = shown.of("table", "profile-raw-bars-eurusd-h1")
    assert "log_return" in str(table)
    assert "profile-raw-bars-eurusd-h1-page" in {each.key for each in shown.all}
    (series,) = shown.of("table", "profile")
    assert (series[0]["series"], series[0]["batches"], series[0]["new"]) == ("EURUSD H1", 9, 9)
    assert "Profiles of raw/bars" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="no table 'raw/ticks'"):
        profile(symbols=["EURUSD"], timeframe="H1", table="raw/ticks")


@pytest.mark.network_shape
def test_a_newest_batch_that_drifted_is_told_once(prefect_server: str, tmp_path: Path, monkeypatch):
    from flows.data_profile import profile
    from tests.lake.support import EURUSD, H1, LINEAGE, raw
    from tests.support import make_bars

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_CALENDARS__DEFAULT", "24x5")
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    bars = make_bars(120 * 20)
    bars.loc[bars.index[-120:], "volume"] *= 500.0
    week = bars.index[-120]
    lake = Lake(load_settings().lake_path)
    with fake_services() as services:
        monkeypatch.setenv("TAPELINE_NOTIFICATIONS__URLS", f'["{services.telegram_url()}"]')
        lake.write(RAW_BARS, raw(bars).loc[:week].iloc[:-1], EURUSD, H1, lineage=LINEAGE)
        profile()
        assert services.texts() == [], "an ordinary history is no news"
        lake.write(RAW_BARS, raw(bars).loc[week:], EURUSD, H1, lineage=LINEAGE)
        profile()
        (told,) = services.texts()
        assert f"raw/bars of EURUSD H1 drifted in the week of {week:%Y-%m-%d}" in told
        assert "volume: psi" in told
        profile()
        assert len(services.texts()) == 1
