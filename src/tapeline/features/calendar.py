"""Calendar: the hour, the weekday, the sessions of the world's markets, and the pauses between bars.

Everything is read from a bar's open time, which is known long before its close. Sessions follow the local clocks, so
that London opens at 08:00 London time in summer and in winter.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from tapeline.core.registry import feature
from tapeline.features.arrays import Floats, frame, series

MINUTE_NANOSECONDS = 60_000_000_000
DAY_MINUTES = 1440
WEEK_DAYS = 7


@feature(lookback=1, outputs=("hour_sine", "hour_cosine"), reference="Hyndman, Forecasting, 3rd ed., section 7.4")
def hour_of_day(bars: pd.DataFrame) -> pd.DataFrame:
    """The time of day (UTC) as a point on a circle, each coordinate -1 to 1; midnight is (0, 1), 06:00 is (1, 0).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> hour_of_day(example_bars(10, start="2017-01-02 06:00")).round(4).values.tolist()
    [[1.0, 0.0]]
    """
    minute, _ = _minute_and_weekday(pd.DatetimeIndex(bars.index))
    angle = 2.0 * np.pi * minute / DAY_MINUTES
    return frame(bars, hour_sine=np.sin(angle), hour_cosine=np.cos(angle))


@feature(lookback=1, outputs=("weekday_sine", "weekday_cosine"), reference="Hyndman, Forecasting, 3rd ed., section 7.4")
def day_of_week(bars: pd.DataFrame) -> pd.DataFrame:
    """The weekday (UTC) as a point on a circle, each coordinate -1 to 1; Monday is (0, 1).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> day_of_week(example_bars(10, start="2017-01-02")).values.tolist()
    [[0.0, 1.0]]
    """
    _, weekday = _minute_and_weekday(pd.DatetimeIndex(bars.index))
    angle = 2.0 * np.pi * weekday / WEEK_DAYS
    return frame(bars, weekday_sine=np.sin(angle), weekday_cosine=np.cos(angle))


@feature(lookback=1, outputs="tokyo_session", reference="Japan Exchange Group, trading hours until November 2024")
def tokyo_session(bars: pd.DataFrame) -> pd.Series:
    """Whether the bar opened from 09:00 to 15:00 Tokyo time on a weekday, 1 or 0; holidays count as open.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> tokyo_session(example_bars(10, 10, start="2017-01-02 05:00")).tolist()
    [1.0, 0.0]
    """
    return _session(bars, "Asia/Tokyo", 9 * 60, 15 * 60)


@feature(lookback=1, outputs="london_session", reference="London Stock Exchange, trading hours")
def london_session(bars: pd.DataFrame) -> pd.Series:
    """Whether the bar opened from 08:00 to 16:30 London time on a weekday, 1 or 0; holidays count as open.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> london_session(example_bars(10, 10, start="2017-01-02 07:00")).tolist()
    [0.0, 1.0]
    >>> london_session(example_bars(10, 10, start="2017-07-03 07:00")).tolist()  # summer time
    [1.0, 1.0]
    """
    return _session(bars, "Europe/London", 8 * 60, 16 * 60 + 30)


@feature(lookback=1, outputs="new_york_session", reference="New York Stock Exchange, core trading session")
def new_york_session(bars: pd.DataFrame) -> pd.Series:
    """Whether the bar opened from 09:30 to 16:00 New York time on a weekday, 1 or 0; holidays count as open.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> new_york_session(example_bars(10, 10, start="2017-01-03 14:00")).tolist()
    [0.0, 1.0]
    """
    return _session(bars, "America/New_York", 9 * 60 + 30, 16 * 60)


@feature(
    lookback=2,
    outputs="pause",
    requires=("close_ts",),
    reference="French, Journal of Financial Economics 8 (1980): returns across closed markets differ",
)
def pause(bars: pd.DataFrame) -> pd.Series:
    """How many bars are missing between this bar and the one before it; 0 where trading was continuous.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> pause(example_bars(10, 10, 10, 10).iloc[[0, 1, 3]]).tolist()
    [nan, 0.0, 1.0]
    """
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    result = np.full(opens.size, np.nan)
    result[1:] = (opens[1:] - closes[:-1]) / (closes - opens)[1:]
    return series(bars, result)


def _session(bars: pd.DataFrame, zone: str, opens: int, closes: int) -> pd.Series:
    minute, weekday = _minute_and_weekday(pd.DatetimeIndex(bars.index).tz_convert(ZoneInfo(zone)))
    return series(bars, (weekday < 5) & (minute >= opens) & (minute < closes))


def _minute_and_weekday(index: pd.DatetimeIndex) -> tuple[Floats, Floats]:
    """Minutes since local midnight and the local weekday (Monday is 0)."""
    minutes = index.as_unit("ns").tz_localize(None).asi8 // MINUTE_NANOSECONDS
    days = minutes // DAY_MINUTES
    # Day 0 of the epoch was a Thursday.
    return (minutes - days * DAY_MINUTES).astype(np.float64), ((days + 3) % WEEK_DAYS).astype(np.float64)
