"""Sessions by local clocks and by exchange calendars, the session so far, and the levels of the day before."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.features.exchange_hours import exchange_clock, exchange_session
from tapeline.features.kernels import extremes_of_period
from tapeline.features.levels import previous_day_levels
from tapeline.features.sessions import HOURS, forex_sessions, month_of_year, rollover, session_so_far
from tests.core.samples import eurusd
from tests.support import make_bars


def clock_bars(start: str, end: str, freq: str = "30min") -> pd.DataFrame:
    ts = pd.date_range(start, end, freq=freq, tz="UTC", name="ts").as_unit("ns")
    price = 100 + np.random.default_rng(0).normal(0, 1, len(ts)).cumsum()
    frame = pd.DataFrame({"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 1.0}, index=ts)
    return frame.assign(close_ts=ts + pd.Timedelta(freq))


@pytest.mark.parametrize(
    ("city", "day", "opens"),
    [
        ("new_york", "2017-03-10", "13:00"),
        ("new_york", "2017-03-13", "12:00"),
        ("london", "2017-03-24", "08:00"),
        ("london", "2017-03-27", "07:00"),
        ("sydney", "2017-03-30", "20:00"),
        ("sydney", "2017-04-04", "21:00"),
        ("tokyo", "2017-07-04", "00:00"),
    ],
)
def test_sessions_follow_summer_times_on_both_halves_of_the_globe(city, day, opens) -> None:
    on = forex_sessions(clock_bars("2017-03-01", "2017-07-10"))[city]
    starts = on.index[(on == 1) & (on.shift() == 0)]
    assert f"{starts[starts.normalize() == pd.Timestamp(day, tz='UTC')][0]:%H:%M}" == opens


def test_overlaps_are_where_both_are_on() -> None:
    on = forex_sessions(clock_bars("2017-03-01", "2017-04-10"))
    for first, second in (("sydney", "tokyo"), ("tokyo", "london"), ("london", "new_york")):
        np.testing.assert_array_equal(on[f"{first}_{second}"], on[first] * on[second])
        # London and Tokyo meet only while London is on summer time.
        assert on[f"{first}_{second}"].any()
    assert not on["tokyo_london"].loc["2017-03-15"].to_numpy()[20:].any()
    assert on.loc["2017-03-11 00:00":"2017-03-11 20:00"].to_numpy().sum() == 0
    assert set(HOURS) < set(on.columns)


@pytest.mark.parametrize("city", list(HOURS))
def test_the_session_so_far_against_a_slow_definition(city) -> None:
    bars = eurusd().iloc[1700:1900]
    ours, on = session_so_far(bars, city), forex_sessions(bars)[city].to_numpy()
    for row in range(30, 200):
        if not on[row]:
            assert ours.iloc[row].isna().all()
            continue
        start = row
        while start > 0 and on[start - 1]:
            start -= 1
        part = bars.iloc[start : row + 1]
        close, high, low = part["close"].iloc[-1], part["high"].max(), part["low"].min()
        expected = [100 * (close / part["open"].iloc[0] - 1), 100 * (high - low) / close, (close - low) / (high - low)]
        np.testing.assert_allclose(ours.iloc[row], expected, atol=1e-9)


def test_an_exchange_keeps_its_holidays_half_days_and_lunch_breaks() -> None:
    bars = clock_bars("2017-11-20", "2017-11-28")
    clock = exchange_clock(bars, "XNYS")
    assert clock["XNYS_holiday"].loc["2017-11-23"].eq(1).all(), "Thanksgiving"
    assert clock["XNYS_open"].loc["2017-11-23"].sum() == 0
    assert clock["XNYS_open"].loc["2017-11-22"].sum() == 13
    assert clock["XNYS_open"].loc["2017-11-24"].sum() == 7, "closes at 13:00"
    row = clock.loc["2017-11-24 17:00"]
    assert (row["XNYS_minutes_from_open"], row["XNYS_minutes_to_close"]) == (150.0, 60.0)
    assert clock["XNYS_holiday"].loc["2017-11-25":"2017-11-26"].eq(0).all(), "a weekend is no holiday"
    hong_kong = exchange_clock(bars, "XHKG")["XHKG_open"]
    assert hong_kong.loc["2017-11-22 03:30":"2017-11-22 05:00"].tolist() == [1.0, 0.0, 0.0, 1.0]
    summer = exchange_clock(clock_bars("2017-03-10", "2017-03-14"), "XNYS")["XNYS_open"]
    assert summer.loc["2017-03-10 14:00"] == 0
    assert summer.loc["2017-03-13 13:30"] == 1


def test_an_exchange_session_so_far_and_what_is_not_known() -> None:
    bars = clock_bars("2017-11-20", "2017-11-28")
    ours, on = exchange_session(bars, "XNYS"), exchange_clock(bars, "XNYS")["XNYS_open"] == 1
    assert ours[~on].isna().all().all()
    day = bars[on].loc["2017-11-22"]
    found = ours.loc[day.index]
    np.testing.assert_allclose(found["XNYS_from_open"], 100 * (day["close"] / day["open"].iloc[0] - 1))
    height = day["high"].cummax() - day["low"].cummin()
    np.testing.assert_allclose(found["XNYS_range"], 100 * height / day["close"])
    np.testing.assert_allclose(found["XNYS_position"], (day["close"] - day["low"].cummin()) / height)
    with pytest.raises(ConfigurationError, match="no exchange calendar is called 'XNOWHERE'"):
        exchange_clock(bars, "XNOWHERE")
    # The calendar of Shanghai begins in December 1990; before that nothing is said.
    old = exchange_clock(clock_bars("1985-01-07", "1985-01-09"), "XSHG")
    assert old.isna().all().all()


def test_the_month_goes_round_and_the_rollover_is_at_five_in_new_york() -> None:
    bars = clock_bars("2017-01-01", "2017-12-31", "12h")
    month = month_of_year(bars)
    angle = np.arctan2(month["month_sine"], month["month_cosine"]) / (2 * np.pi) * 12 % 12
    np.testing.assert_allclose(angle.round(6) % 12, bars.index.month - 1)
    hours = clock_bars("2017-03-10", "2017-03-14", "1h")
    at = rollover(hours)
    assert at.index[at == 1].strftime("%d %H").tolist() == ["10 22", "11 22", "12 21", "13 21"]
    days = clock_bars("2017-03-06", "2017-03-10", "1D")
    assert rollover(days).eq(1).all()


def test_the_levels_of_the_day_before() -> None:
    import talib

    bars = make_bars(400, gaps=False)
    ours = previous_day_levels(bars, atr_window=14)
    unit = talib.ATR(*(bars[c].to_numpy() for c in ("high", "low", "close")), timeperiod=14)
    for row in range(60, 400, 7):
        day = bars.index[row].normalize()
        before = bars[(bars.index >= day - pd.Timedelta(days=1)) & (bars.index < day)]
        top, bottom, last, close = (
            before["high"].max(),
            before["low"].min(),
            before["close"].iloc[-1],
            bars["close"].iloc[row],
        )
        expected = np.array([close - top, close - bottom, close - last, close - (top + bottom + last) / 3]) / unit[row]
        np.testing.assert_allclose(ours.iloc[row], expected, rtol=1e-9)
    # The first day of a history may be a part of a day, so nothing is said of it either.
    assert ours.iloc[:48].isna().all().all()
    assert ours.iloc[48].notna().all()


def test_extremes_of_a_period_are_those_of_a_look_through_it() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        rows, longest = int(generator.integers(1, 80)), int(generator.integers(1, 20))
        high = generator.integers(0, 9, rows).astype(float)
        low = high - generator.integers(0, 3, rows)
        periods = np.cumsum(generator.random(rows) < 0.1)
        highs, lows = extremes_of_period(high, low, periods.astype(np.int64), longest)
        for i in range(rows):
            start = max(i - longest + 1, int(np.searchsorted(periods, periods[i])))
            assert (highs[i], lows[i]) == (high[start : i + 1].max(), low[start : i + 1].min())
