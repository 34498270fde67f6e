"""Profiles of what the lake holds: any table, each content once, and the past as it was known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import PROFILES, RAW_BARS, RAW_TICKS, features_spec
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.profile import with_changes
from tasks.profile import default_period, describe_series, plan_series
from tests.lake.support import raw
from tests.lake.ticks import TICK, ticks
from tests.support import make_bars

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
LINEAGE = Lineage("run", "test")
NOW = pd.Timestamp("2030-01-01", tz="UTC")


@pytest.fixture
def room(tmp_path):
    settings = load_settings(root=tmp_path, calendars={"default": "24x5"})
    return settings, Lake(settings.lake_path)


def described(room, timeframe="H1", table="raw/bars", now=NOW, start=None, end=None, **named):
    settings, lake = room
    (job,) = plan_series("run", ["EURUSD"], timeframe, start, end)
    result, rows, made = describe_series(job, settings, lake, table=table, now=now, **named)
    return result, rows, made, lake.read(PROFILES, EURUSD, job.timeframe)


def test_a_correction_makes_a_profile_of_its_own_known_when_it_was(room) -> None:
    _, lake = room
    frame = raw(make_bars(400))
    lake.write(RAW_BARS, frame, EURUSD, H1, lineage=LINEAGE)
    first, rows, _, stored = described(room)
    assert first.batches == first.profiled == stored["version"].nunique() > 2
    close = stored[stored["column"] == "close"]
    week = close.index[1]
    held = lake.read(RAW_BARS, EURUSD, H1, start=week, end=week + pd.Timedelta(days=7))
    assert close.loc[week, "mean"] == pytest.approx(held["close"].mean(), rel=1e-12)
    assert (close["known_at"] <= close["end"]).all()
    assert next(row for row in rows if row["column"] == "ts")["missing_bars"] is not None
    again = described(room)
    assert (again[0].profiled, len(again[3])) == (0, len(stored))

    late = pd.Timestamp("2029-01-01", tz="UTC")
    fixed = held.iloc[[3]].reset_index().assign(close=9.0, high=9.0, known_at=late)
    lake.write(RAW_BARS, fixed[list(RAW_BARS.schema.names)], EURUSD, H1, lineage=LINEAGE)
    second, _, made, now_stored = described(room)
    assert second.profiled == len(made) == 1
    both = now_stored[(now_stored["column"] == "close") & (now_stored.index == week)]
    assert sorted(both["known_at"]) == sorted([close.loc[week, "known_at"], late])


def test_a_batch_that_is_not_over_waits(room) -> None:
    _, lake = room
    lake.write(RAW_BARS, raw(make_bars(60)), EURUSD, H1, lineage=LINEAGE)
    during = described(room, period="day", now=pd.Timestamp("2017-01-03 12:00", tz="UTC"))[0]
    assert (during.batches, during.newest) == (1, pd.Timestamp("2017-01-02", tz="UTC"))
    after = described(room, period="day")[0]
    assert (after.batches, after.profiled) == (3, 2)
    part = described(room, period="day", start="2017-01-03", end="2017-01-04")[0]
    assert (part.batches, part.profiled) == (1, 0)


def test_ticks_and_features_have_profiles_too(room) -> None:
    _, lake = room
    minute = 60 * 10**9
    # Ten hours with a tick each half minute, but for the third one.
    instants = np.arange(0, 10 * 60 * minute, minute // 2)
    instants = instants[(instants < 120 * minute) | (instants >= 180 * minute)]
    lake.write(RAW_TICKS, ticks(instants), EURUSD, TICK, lineage=LINEAGE)
    result, rows, _, stored = described(room, timeframe="tick", table="raw/ticks")
    assert (result.period, result.batches) == ("day", 1)
    index = stored[stored["column"] == "ts"].iloc[0]
    assert (index["rows"], index["q50"], index["maximum"]) == (len(instants), 30.0, 3_630.0)
    assert index["missing_bars"] == 24 * 60 - 9 * 60
    assert {"ask_less_bid", "bid", "sequence"} <= {row["column"] for row in rows}

    bars = make_bars(300)
    spec = features_spec("core@0123456789abcdef", ["one"])
    values = np.where(np.arange(300) < 20, np.nan, np.arange(300)).astype(np.float32)
    features = pd.DataFrame({"known_at": bars["close_ts"], "one": values}, index=bars.index)
    lake.write(spec, features, EURUSD, H1, lineage=LINEAGE)
    result, rows, _, _ = described(room, table="features")
    assert result.table == "features/core@0123456789abcdef"
    assert sum(row["nulls"] for row in rows if row["column"] == "one") == 0, "of the newest week"
    assert described(room, table=result.table)[0].profiled == 0


def test_a_change_of_the_feed_raises_an_alarm_in_the_week_in_which_it_came(room) -> None:
    _, lake = room
    bars = make_bars(120 * 20)
    bars.loc[bars.index[-120:], "volume"] *= 500.0
    lake.write(RAW_BARS, raw(bars), EURUSD, H1, lineage=LINEAGE)
    result, rows, made, _ = described(room)
    assert result.batches == 20
    assert [bool([text for text in row["alarms"] if text.startswith("volume:")]) for row in made] == [False] * 19 + [
        True
    ]
    assert "psi" in next(row for row in rows if row["column"] == "volume")["drift"]
    assert sum(len(row["alarms"]) for row in made[:-1]) == 0


def test_what_is_not_there_is_named(room) -> None:
    _, lake = room
    with pytest.raises(ConfigurationError, match="it holds nothing"):
        described(room)
    lake.write(RAW_BARS, raw(make_bars(60)), EURUSD, H1, lineage=LINEAGE)
    with pytest.raises(ConfigurationError, match="clean/bars") as refused:
        described(room, table="clean/bars")
    assert "raw/bars" in str(refused.value)
    with pytest.raises(ConfigurationError, match="decade"):
        described(room, period="decade")
    assert [default_period(Timeframe.parse(name)) for name in ("tick", "M15", "H4", "D1")] == [
        "day",
        "day",
        "week",
        "year",
    ]
    assert with_changes(pd.DataFrame({"x": [1.0]})).columns.tolist() == ["x"]
