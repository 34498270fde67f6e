"""Broker time to UTC: against the zone database, around every change of clocks, and on a real MetaTrader export."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.clock.broker_time import BrokerTime
from tapeline.core.errors import ConfigurationError, DataError

NEW_YORK, UTC = ZoneInfo("America/New_York"), ZoneInfo("UTC")


@settings(max_examples=200, deadline=None)
@given(seconds=st.integers(946_684_800, 2_000_000_000))
def test_every_instant_survives_the_way_there_and_back(seconds: int) -> None:
    ts = pd.DatetimeIndex(pd.to_datetime([seconds], unit="s", utc=True), name="ts")
    for text in ("UTC", "UTC+2", "GMT-3:30", "new-york-close", "Europe/Athens", "Europe/Dublin", "Australia/Lord_Howe"):
        early, late = (BrokerTime.parse(text, ambiguous=rule) for rule in ("earlier", "later"))
        wall = early.to_wall(ts)
        assert ts[0] in (early.to_utc(wall)[0], late.to_utc(wall)[0])
        assert early.to_utc(wall)[0] <= late.to_utc(wall)[0]
        if not early.odd_hours(wall)["ambiguous"].iloc[0]:
            assert early.to_utc(wall)[0] == late.to_utc(wall)[0]


@settings(max_examples=100, deadline=None)
@given(seconds=st.integers(1_262_304_000, 2_000_000_000))
def test_the_new_york_close_is_midnight_on_the_server(seconds: int) -> None:
    """The standard library's zone database as the second opinion."""
    ts = pd.DatetimeIndex(pd.to_datetime([seconds], unit="s", utc=True))
    wall = BrokerTime.parse("new-york-close").to_wall(ts)[0]
    local = datetime.fromtimestamp(seconds, UTC).astimezone(NEW_YORK).replace(tzinfo=None)
    assert wall.to_pydatetime() - local == pd.Timedelta(hours=7)
    assert (wall.hour == 0) == (local.hour == 17)


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        ("2021-03-12", 2.0),  # winter
        ("2021-03-15", 3.0),  # New York has changed, Europe not
        ("2021-03-29", 3.0),
        ("2021-10-29", 3.0),
        ("2021-11-03", 3.0),  # Europe has changed back, New York not
        ("2021-11-08", 2.0),
    ],
)
def test_the_switch_follows_american_dates(day: str, hours: float) -> None:
    ts = pd.DatetimeIndex([f"{day} 12:00"], tz="UTC")
    assert BrokerTime.parse("new-york-close").offset(ts).tolist() == [hours]


def test_an_hour_that_comes_twice_follows_the_rule() -> None:
    wall = pd.DatetimeIndex(["2021-10-31 02:30", "2021-10-31 03:30", "2021-10-31 03:30", "2021-10-31 04:30"])
    hours = {
        rule: BrokerTime.parse("Europe/Athens", ambiguous=rule).to_utc(wall).strftime("%H:%M").tolist()
        for rule in ("later", "earlier", "infer")
    }
    assert hours == {
        "later": ["23:30", "01:30", "01:30", "02:30"],
        "earlier": ["23:30", "00:30", "00:30", "02:30"],
        "infer": ["23:30", "00:30", "01:30", "02:30"],
    }
    server = BrokerTime.parse("Europe/Athens", ambiguous="refuse")
    with pytest.raises(DataError, match="Europe/Athens"):
        server.to_utc(wall)
    assert server.odd_hours(wall)["ambiguous"].tolist() == [False, True, True, False]


def test_the_earlier_instant_is_earlier_where_winter_is_the_daylight_time() -> None:
    """The zone database gives Dublin a NEGATIVE daylight saving time in winter."""
    wall = pd.DatetimeIndex(["2021-10-31 01:30"])
    early, late = (BrokerTime.parse("Europe/Dublin", ambiguous=rule).to_utc(wall)[0] for rule in ("earlier", "later"))
    assert late - early == pd.Timedelta(hours=1)


def test_an_hour_that_never_comes_follows_the_rule() -> None:
    wall = pd.DatetimeIndex(["2021-03-28 02:59", "2021-03-28 03:30", "2021-03-28 04:00"])
    server = BrokerTime.parse("Europe/Athens")
    assert server.to_utc(wall).strftime("%H:%M").tolist() == ["00:59", "01:00", "01:00"]
    assert server.odd_hours(wall)["nonexistent"].tolist() == [False, True, False]
    with pytest.raises(DataError, match="odd hours"):
        BrokerTime.parse("Europe/Athens", nonexistent="refuse").to_utc(wall)


def test_odd_hours_of_a_new_york_server_lie_on_sunday_morning() -> None:
    server = BrokerTime.parse("new-york-close")
    wall = pd.date_range("2021-01-01", "2022-01-01", freq="30min")
    odd = server.odd_hours(wall)
    odd = odd[odd.any(axis=1)]
    assert len(odd) == 4
    assert set(odd.index.day_of_week) == {6}
    assert set(odd.index.hour) == {8, 9}


def test_metatrader_seconds() -> None:
    server = BrokerTime.parse("UTC+2")
    assert server.seconds_to_utc(np.array([7_200, 1_600_000_000])).as_unit("s").asi8.tolist() == [0, 1_599_992_800]
    with pytest.raises(DataError, match="seconds since 1970"):
        server.seconds_to_utc(np.array([1_600_000_000_000]))


def test_a_real_metatrader_export_opens_its_weeks_at_the_new_york_close(test_data: Path) -> None:
    """Bars of a real server: converted by the rule, every week begins at or after Sunday 17:00 in New York."""
    files = sorted((test_data / "data" / "smc_eurusd_m15_mt5").glob("**/EURUSD_15M.csv"))
    if not files:
        pytest.skip("no MetaTrader export")
    table = pd.read_csv(files[0])
    column = next(name for name in table.columns if name.lower() in ("time", "date", "datetime", "timestamp"))
    wall = pd.DatetimeIndex(pd.to_datetime(table[column]))
    ts = BrokerTime.parse("new-york-close").to_utc(wall)
    opens = ts[1:][np.diff(ts.asi8) > 40 * 3_600 * 10**9].tz_convert("America/New_York")
    weekly = opens[opens.day_of_week == 6]
    assert len(weekly) > 20
    assert (weekly.hour == 17).mean() > 0.9


@pytest.mark.parametrize(
    "text", ["", "UTC+15", "UTC+2:75", "Mars/Olympus", "../../etc/passwd", "EURUSD", "/etc/passwd"]
)
def test_unknown_zones_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        BrokerTime.parse(text)


def test_unknown_rules_and_unfit_times_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="rules"):
        BrokerTime.parse("UTC", ambiguous="guess")  # type: ignore[arg-type]
    server = BrokerTime.parse("UTC+2")
    with pytest.raises(DataError, match="time zone"):
        server.to_utc(pd.DatetimeIndex(["2021-01-01"], tz="UTC"))
    with pytest.raises(DataError, match="1 server times are missing"):
        server.to_utc(pd.DatetimeIndex(["2021-01-01", pd.NaT]))
    with pytest.raises(DataError, match="without a time zone"):
        server.to_wall(pd.DatetimeIndex(["2021-01-01"]))
