"""The clock, empty intervals, and bars out of finer bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.builder import CandleBuilder, build_candles
from tapeline.candles.resample import extract_bars, resample
from tapeline.candles.threshold_bars import DollarCandles, TickCandles, VolumeCandles
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.schemas import RAW_BARS
from tests.candles.tape import exact_ticks, rough_trades, trades_frame
from tests.support import make_bars


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2020-01-01 {text}", tz="UTC")


@pytest.fixture
def trades() -> pd.DataFrame:
    index = pd.DatetimeIndex([at("10:00:05"), at("10:00:59.999999999"), at("10:01:00"), at("10:04:30")], name="ts")
    return pd.DataFrame({"price": [1.0, 2.0, 3.0, 4.0], "size": 1.0}, index=index)


def test_a_tick_at_the_border_belongs_to_the_next_bar(trades):
    bars = build_candles(trades, TimeCandles("M1"))
    assert bars.index.tolist() == [at("10:00"), at("10:01")]
    assert bars["close_ts"].tolist() == [at("10:01"), at("10:02")]
    assert bars["close"].tolist() == [2.0, 3.0]


def test_the_last_bar_is_closed_by_the_clock_and_not_by_being_last(trades):
    assert len(build_candles(trades, TimeCandles("M1"), now=at("10:04:59.999999999"))) == 2
    assert len(build_candles(trades, TimeCandles("M1"), now=at("10:05"))) == 3
    builder = CandleBuilder(TimeCandles("M1"))
    assert len(builder.update(trades)) == 2
    assert builder.forming().index.tolist() == [at("10:04")]
    assert builder.advance(at("10:05"))["close"].tolist() == [4.0]
    assert builder.forming().empty
    assert builder.advance(at("10:06")).empty
    late = pd.DataFrame({"price": [9.0], "size": [1.0]}, index=[at("10:05:30")])
    with pytest.raises(DataError, match="was closed by the clock"):
        builder.update(late)
    with pytest.raises(DataError, match="was closed by the clock"):
        CandleBuilder.restore(TimeCandles("M1"), builder.state()).push(at("10:05:30").value, 9.0, 1.0)
    with pytest.raises(ConfigurationError, match="time zone"):
        builder.advance(pd.Timestamp("2020-01-01"))
    with pytest.raises(ConfigurationError, match="only time bars"):
        CandleBuilder(TickCandles(1)).update(trades, now=at("11:00"))


def test_empty_intervals_only_when_asked(trades):
    flagged = build_candles(trades, TimeCandles("M1", empty="flag"), now=at("10:06:30"))
    assert flagged.index.tolist() == [at(f"10:0{j}") for j in range(6)]
    assert flagged["filled"].tolist() == [False, False, True, True, False, True]
    assert flagged["close"].isna().tolist() == flagged["filled"].tolist()
    assert flagged["tick_count"].tolist() == [2, 1, 0, 0, 1, 0]
    filled = build_candles(trades, TimeCandles("M1", empty="previous_close"), now=at("10:06:30"))
    assert filled["open"].tolist() == [1.0, 3.0, 3.0, 3.0, 4.0, 4.0]
    assert filled["volume"].tolist() == [2.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    assert filled.loc[filled["filled"], "vwap"].isna().all()
    trades.index = [*trades.index[:3], pd.Timestamp("2200-01-01", tz="UTC")]
    with pytest.raises(DataError, match="more than 5000000"):
        build_candles(trades, TimeCandles("M1", empty="flag"))


@settings(max_examples=40, deadline=None)
@given(exact_ticks(least=2), st.integers(0, 900), st.sampled_from(["flag", "previous_close"]))
def test_filling_equals_a_reindex(ticks, beyond, policy):
    frame = trades_frame(ticks)
    now = frame.index[-1] + pd.Timedelta(beyond, unit="s")
    bars = build_candles(frame, TimeCandles("M1"), now=now)
    filled = build_candles(frame, TimeCandles("M1", empty=policy), now=now)
    if bars.empty:
        assert filled.empty
        return
    grid = pd.date_range(bars.index[0], now.floor("min") - pd.Timedelta("1min"), freq="1min", name="ts")
    grid = grid[grid <= now.floor("min")]
    expected = bars["close"].reindex(grid)
    expected = expected.ffill() if policy == "previous_close" else expected
    np.testing.assert_array_equal(filled["close"], expected)
    assert (filled.index == grid).all()


@settings(max_examples=40, deadline=None)
@given(exact_ticks(), st.sampled_from([("S5", "M1"), ("M1", "M5"), ("S30", "H1")]))
def test_resampled_bars_are_those_from_ticks(ticks, pair):
    fine, coarse = pair
    frame = trades_frame(ticks)
    finer = build_candles(frame, TimeCandles(fine), forming=True)
    from_ticks = build_candles(frame, TimeCandles(coarse), forming=True)
    joined = resample(finer, coarse, forming=True)
    pd.testing.assert_frame_equal(joined.drop(columns="vwap"), from_ticks.drop(columns="vwap"), check_exact=True)
    np.testing.assert_allclose(joined["vwap"], from_ticks["vwap"], rtol=1e-15)


@settings(max_examples=20, deadline=None)
@given(exact_ticks(), st.integers(1, 30))
def test_activity_bars_take_finer_bars_as_wholes(ticks, threshold):
    seconds = build_candles(trades_frame(ticks), TimeCandles("S5"), forming=True)
    for candle, column in ((TickCandles(threshold), "tick_count"), (VolumeCandles(threshold), "volume")):
        bars = build_candles(seconds, candle)
        amounts, expected = seconds[column].to_numpy(), []
        total = 0.0
        for amount in amounts:
            total += amount
            if total >= threshold:
                expected.append(total)
                total = 0.0
        assert bars[column].tolist() == expected
    assert build_candles(seconds, DollarCandles(50.0))["tick_count"].sum() <= len(ticks)


def test_closed_only_by_the_clock_when_resampling():
    minutes = make_bars(13, timeframe="M1", gaps=False)
    assert len(resample(minutes, "M5")) == 2
    assert len(resample(minutes.iloc[:10], "M5")) == 2, "the last fine bar closes with the coarse one"
    assert len(resample(minutes, "M5", now=minutes.index[0] + pd.Timedelta("15min"))) == 3
    assert len(resample(minutes, "M5", forming=True)) == 3
    assert resample(minutes.drop(columns="close_ts"), "M5", bars_timeframe="M1").equals(resample(minutes, "M5"))


def test_bars_that_do_not_divide_are_refused():
    with pytest.raises(DataError, match="across the border of two M5 bars"):
        resample(make_bars(10, timeframe="M3", gaps=False), "M5")
    with pytest.raises(SchemaError, match="'close_ts' is missing"):
        resample(make_bars(10).drop(columns="close_ts"), "H4")
    with pytest.raises(SchemaError, match="not those of bars"):
        resample(rough_trades(5), "H4")


def test_extracted_bars_fit_the_lake():
    trades = rough_trades(300)
    quotes = pd.DataFrame({"bid": trades["price"], "ask": trades["price"] * 0.9999}, index=trades.index)
    for frame in (trades, quotes, make_bars(50, timeframe="S30", gaps=False)):
        bars = extract_bars(frame, "M1")
        assert len(bars) > 3
        arrival = {"known_at": bars["close_ts"], "known_at_is_estimate": True, "source": "test", "revision": 0}
        table = RAW_BARS.to_arrow(bars.assign(**arrival))
        assert table.schema == RAW_BARS.schema
    assert (extract_bars(quotes, "M1")["spread"] < 0).all()
    assert extract_bars(trades, "M1")["spread"].isna().all()
