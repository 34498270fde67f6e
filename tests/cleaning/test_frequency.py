"""Frequency: coarser bars against the source and plain groups, finer ones against what was known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.resample import extract_bars
from tapeline.cleaning.frequency import MONTH, convert_frequency, to_coarser, to_finer
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.schemas import OHLCV
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar
from tests.quality.batches import sample_bars
from tests.support import make_bars

FOREX = MarketCalendar.parse("24x5")
NEW_YORK = MarketCalendar.parse("XNYS")
HOWS = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def ticks(rows: int = 4000, seed: int = 2) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    ts = pd.Timestamp("2017-01-02", tz="UTC") + pd.to_timedelta(np.cumsum(generator.integers(1, 90, rows)), unit="s")
    price = 1.1 + np.cumsum(generator.integers(-3, 4, rows)) * 1e-5
    return pd.DataFrame(
        {
            "price": price,
            "size": generator.integers(1, 9, rows).astype(float),
            "side": 1,
            "id": np.arange(rows).astype(str),
        },
        index=pd.DatetimeIndex(ts, name="ts").as_unit("ns"),
    )


@pytest.mark.parametrize("wanted", ["M5", "M15", "H1", "H4", "D1", "W1"])
def test_coarser_bars_are_those_built_from_the_source(wanted: str) -> None:
    trades = ticks()
    minutes = extract_bars(trades, "M1", now=pd.Timestamp("2017-02-01", tz="UTC"))
    now = pd.Timestamp("2017-01-30", tz="UTC")
    want = extract_bars(trades, wanted, now=now)
    found = to_coarser(minutes, "M1", wanted, now=now)
    assert len(want)
    pd.testing.assert_frame_equal(found[list(OHLCV)], want[list(OHLCV)], check_freq=False)
    pd.testing.assert_series_equal(found["tick_count"], want["tick_count"], check_freq=False)


@pytest.mark.parametrize("wanted", ["D1", "W1", MONTH])
def test_forex_sessions_are_those_of_new_yorks_clock(wanted: str) -> None:
    bars = sample_bars()
    now = pd.Timestamp("2018-02-01", tz="UTC")
    found = to_coarser(bars, "H1", wanted, calendar=FOREX, now=now)
    # The trading day ends at 17:00 in New York: seven hours later by its clock begins the next date.
    date = (bars.index.tz_convert("America/New_York").tz_localize(None) + pd.Timedelta(hours=7)).normalize()
    keep = (date.day_of_week < 5) & ~((date.month == 12) & (date.day == 25)) & ~((date.month == 1) & (date.day == 1))
    label = {"D1": date, "W1": date - pd.to_timedelta(date.day_of_week, unit="D")}.get(
        wanted, date.to_period("M").to_timestamp()
    )
    want = bars[keep].groupby(label[keep]).agg(HOWS)
    assert found.index.tz_localize(None).tolist() == want.index.tolist()
    np.testing.assert_allclose(found[list(OHLCV)], want, rtol=1e-12)
    assert (found["known_at"] >= found["close_ts"]).all()


def test_exchange_days_leave_out_what_is_not_traded_in_them() -> None:
    ts = pd.date_range("2017-07-03 08:00", "2017-07-05 21:00", freq="30min", tz="UTC", name="ts")
    bars = make_bars(len(ts), timeframe="M30", gaps=False).set_axis(ts).drop(columns="close_ts")
    days = to_coarser(bars, "M30", "D1", calendar=NEW_YORK)
    assert [str(t.date()) for t in days.index] == ["2017-07-03"]  # the fourth is a holiday, the fifth's day not over
    inside = bars["2017-07-03 13:30":"2017-07-03 16:30"]  # an early close at 17:00 UTC
    assert days[list(OHLCV)].iloc[0].tolist() == [
        inside["open"].iloc[0],
        inside["high"].max(),
        inside["low"].min(),
        inside["close"].iloc[-1],
        pytest.approx(inside["volume"].sum()),
    ]
    later = to_coarser(bars, "M30", "D1", calendar=NEW_YORK, now=pd.Timestamp("2017-07-06", tz="UTC"))
    assert [str(t.date()) for t in later.index] == ["2017-07-03", "2017-07-05"]


def test_months_of_the_calendar() -> None:
    bars = sample_bars()
    found = to_coarser(bars, "H1", MONTH)
    want = bars.groupby(bars.index.tz_localize(None).to_period("M").to_timestamp()).agg(HOWS)
    # The clock, the newest close, has not reached the end of December.
    assert found.index.tz_localize(None).tolist() == want.index[:-1].tolist()
    np.testing.assert_allclose(found[list(OHLCV)], want.iloc[:-1], rtol=1e-12)
    assert found["close_ts"].iloc[0] == pd.Timestamp("2017-02-01", tz="UTC")


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(2, 400), wanted=st.sampled_from(["H4", "D1", "W1", MONTH]), session=st.booleans())
def test_no_coarser_bar_is_there_before_it_is_closed(cut: int, wanted: str, session: bool) -> None:
    bars = sample_bars().iloc[:400]
    calendar = FOREX if session and wanted != "H4" else None
    whole = to_coarser(bars, "H1", wanted, calendar=calendar, now=pd.Timestamp("2018-01-01", tz="UTC"))
    part = to_coarser(bars.iloc[:cut], "H1", wanted, calendar=calendar)
    clock = bars.index[cut - 1] + pd.Timedelta(hours=1)
    known = whole["known_at"] if "known_at" in whole else whole["close_ts"]
    pd.testing.assert_frame_equal(part, whole[known <= clock], check_freq=False)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 30), wanted=st.sampled_from(["M15", "M20", "M30", "M5"]), cut=st.integers(1, 30))
def test_finer_bars_repeat_what_had_closed(rows: int, wanted: str, cut: int) -> None:
    bars = make_bars(rows, start="2017-01-06 12:00").drop(columns="close_ts")  # with a weekend in it
    found = to_finer(bars, "H1", wanted)
    step = Timeframe.parse(wanted).duration
    for ts, row in found.iterrows():
        closed = bars[bars.index + pd.Timedelta(hours=1) <= ts + step]
        assert row["close"] == closed["close"].iloc[-1]
        assert row["source_ts"] == closed.index[-1]
        assert row["age"] == (ts + step - closed.index[-1] - pd.Timedelta(hours=1)).total_seconds()
    end = bars.index[-1] + pd.Timedelta(hours=1)
    assert len(found) == (end - bars.index[0] - pd.Timedelta(hours=1)) / step + 1
    assert found["repeated"].all()
    part = to_finer(bars.iloc[:cut], "H1", wanted)
    pd.testing.assert_frame_equal(part, found[found["close_ts"] <= part["close_ts"].max()])


def test_finer_bars_keep_to_the_market_and_to_arrival() -> None:
    bars = make_bars(60, start="2017-01-06 12:00", gaps=False).drop(columns="close_ts")
    found = to_finer(bars, "H1", "M30", calendar=FOREX)
    assert all(FOREX.is_open(ts) for ts in found.index)
    assert len(found) < len(to_finer(bars, "H1", "M30"))
    late = bars.assign(known_at=bars.index + pd.Timedelta(hours=2))
    at = bars.index[[0, 1, 2]]
    assert to_finer(late, "H1", "M30", at=at)["source_ts"].tolist() == [bars.index[0]]
    daily = convert_frequency(to_coarser(sample_bars(), "H1", "D1"), "D1", "H1", calendar=FOREX)
    assert (daily["age"] >= 0).all()


def test_there_and_back_is_not_invented() -> None:
    bars = make_bars(50, gaps=False).drop(columns="close_ts")
    back = to_coarser(to_finer(bars, "H1", "M30").drop(columns="close_ts"), "M30", "H1")
    # The first half of an hour shows the hour before, as it was known then: never the hour's own close.
    np.testing.assert_array_equal(back["open"].iloc[1:], bars["open"].iloc[: len(back) - 1])


def test_arguments_are_checked() -> None:
    bars = make_bars(10).drop(columns="close_ts")
    assert convert_frequency(bars, "H1", "H1") is bars
    with pytest.raises(ConfigurationError, match="M30 is not longer than H1"):
        to_coarser(bars, "H1", "M30")
    with pytest.raises(ConfigurationError, match="D1 is not shorter than H1"):
        to_finer(bars, "H1", "D1")
    with pytest.raises(ConfigurationError, match="do not follow sessions"):
        to_coarser(bars, "H1", "H4", calendar=NEW_YORK)
    with pytest.raises(ConfigurationError, match="no time zone"):
        to_coarser(bars, "H1", MONTH, now=pd.Timestamp("2018-01-01"))
    with pytest.raises(DataError, match="across the border"):
        to_coarser(make_bars(10, timeframe="M4").drop(columns="close_ts"), "M4", "M6")
    with pytest.raises(DataError, match="not sorted"):
        to_coarser(bars.iloc[::-1], "H1", MONTH)
    with pytest.raises(SchemaError, match="lack"):
        to_coarser(bars[["close"]], "H1", MONTH)
    with pytest.raises(DataError, match="more than 5000000"):
        to_finer(bars, "H1", "S1", now=pd.Timestamp("2018-01-01", tz="UTC"))
    assert len(to_coarser(bars.iloc[:0], "H1", "D1", calendar=FOREX)) == 0
    assert len(to_finer(bars.iloc[:0], "H1", "M30")) == 0
