"""Timeframes: names, grids, closes and partitions."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.request import parse_request
from tapeline.core.timeframe import Timeframe, supported


@pytest.mark.parametrize(
    ("text", "name", "seconds", "period"),
    [
        ("S1", "S1", 1, "day"),
        ("M1", "M1", 60, "month"),
        ("1m", "M1", 60, "month"),
        ("M30", "M30", 1800, "month"),
        ("H1", "H1", 3600, "year"),
        ("4h", "H4", 14400, "year"),
        ("D1", "D1", 86400, "year"),
        ("1w", "W1", 604800, "year"),
    ],
)
def test_names(text, name, seconds, period) -> None:
    timeframe = Timeframe.parse(text)
    assert (timeframe.name, timeframe.seconds, timeframe.period) == (name, seconds, period)
    assert Timeframe.parse(timeframe.exchange_name) == timeframe
    assert Timeframe.parse(timeframe) is timeframe


@pytest.mark.parametrize("text", ["", "H7", "M0", "1M", "h1", "H", "60", "H1 ", "../H1", "D2", "M100"])
def test_what_is_no_timeframe(text) -> None:
    with pytest.raises(ConfigurationError, match="use one of"):
        Timeframe.parse(text)


def test_they_are_ordered_by_length() -> None:
    everything = supported()
    assert everything == sorted(everything)
    assert [t.nanoseconds for t in everything] == sorted(t.nanoseconds for t in everything)
    assert Timeframe.parse("M30") < Timeframe.parse("H1") < Timeframe.parse("D1")


@given(st.integers(-(10**9), 4 * 10**9), st.sampled_from(supported()))
def test_floor_is_the_grid_point_at_or_before(seconds, timeframe) -> None:
    index = pd.DatetimeIndex([pd.Timestamp(seconds, unit="s", tz="UTC")])
    floored = timeframe.floor(index)
    assert floored[0] <= index[0] < floored[0] + timeframe.duration
    assert timeframe.is_on_grid(floored).all()
    assert timeframe.is_on_grid(index).iloc[0] == (floored[0] == index[0])
    assert timeframe.closes(floored)[0] == timeframe.close(floored[0])
    if timeframe.name == "W1":
        assert floored[0].day_of_week == 0


def test_closes_keep_nanoseconds_and_are_named() -> None:
    index = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts").as_unit("ns")
    closes = Timeframe.parse("H1").closes(index)
    assert closes.name == "close_ts"
    assert str(closes.dtype) == "datetime64[ns, UTC]"
    np.testing.assert_array_equal(closes[:-1], index[1:])


def test_ticks_have_a_place_in_the_lake_and_no_length() -> None:
    tick = Timeframe.parse("tick")
    assert (str(tick), tick.is_tick, tick.period) == ("tick", True, "day")
    assert tick not in supported()
    assert tick < Timeframe.parse("S1")
    assert pickle.loads(pickle.dumps(tick)) == tick == Timeframe.parse(tick)
    index = pd.DatetimeIndex([pd.Timestamp("2017-01-02", tz="UTC")])
    needs_a_length = [
        lambda: tick.nanoseconds,
        lambda: tick.seconds,
        lambda: tick.duration,
        lambda: tick.exchange_name,
        lambda: tick.close(index[0]),
        lambda: tick.closes(index),
        lambda: tick.floor(index),
        lambda: tick.is_on_grid(index),
        lambda: parse_request(["EURUSD"], "tick"),
    ]
    for ask in needs_a_length:
        with pytest.raises(ConfigurationError, match="bars"):
            ask()
    for text in ("Tick", "tick ", "ticks", "T0"):
        with pytest.raises(ConfigurationError, match="use one of"):
            Timeframe.parse(text)
