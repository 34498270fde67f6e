"""Sessions: the forex sessions of four cities by their local clocks, their overlaps, and each session so far."""

from __future__ import annotations

from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.registry import feature
from tapeline.features.arrays import Count, columns, frame, ratio, series
from tapeline.features.kernels import extremes_of_period
from tapeline.features.session_kernels import first_of_period

City = Literal["sydney", "tokyo", "london", "new_york"]

HOURS: Final = {
    "sydney": ("Australia/Sydney", 7 * 60, 16 * 60),
    "tokyo": ("Asia/Tokyo", 9 * 60, 18 * 60),
    "london": ("Europe/London", 8 * 60, 17 * 60),
    "new_york": ("America/New_York", 8 * 60, 17 * 60),
}
"""By city, its zone and the local minutes from which and until which its dealers trade."""

MINUTE_NANOSECONDS: Final = 60_000_000_000
DAY_MINUTES: Final = 1440


@feature(
    lookback=1,
    outputs=("sydney", "tokyo", "london", "new_york", "sydney_tokyo", "tokyo_london", "london_new_york"),
    reference="King, Osler and Rime, in Handbook of Exchange Rates (2012), chapter 1: trading follows the sun",
)
def forex_sessions(bars: pd.DataFrame) -> pd.DataFrame:
    """Which cities trade currencies as the bar opens, and which of their sessions overlap, each 1 or 0.

    Local office hours on local weekdays (``HOURS``), in summer and winter time; holidays count as open.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> forex_sessions(example_bars(10, start="2017-01-03 14:00")).iloc[0].tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    """
    index = pd.DatetimeIndex(bars.index)
    on = {city: _local(index, city)[0] for city in HOURS}
    return frame(
        bars,
        **on,
        sydney_tokyo=on["sydney"] & on["tokyo"],
        tokyo_london=on["tokyo"] & on["london"],
        london_new_york=on["london"] & on["new_york"],
    )


@feature(
    lookback=lambda longest: longest,
    outputs=("{city}_from_open", "{city}_range", "{city}_position"),
    reference="Crabel, Day Trading with Short Term Price Patterns (1990): the opening range and the day so far",
)
def session_so_far(bars: pd.DataFrame, city: City = "london", longest: Count = 540) -> pd.DataFrame:
    """A city's session so far: distance from its open, its range, and the close's place in it.

    Of a session of more than ``longest`` bars only that many of the newest count: the default holds one of minutes.

    Returns
    -------
    ``_from_open``: the close over the session's open, in percent. ``_range``: high less low so far in percent of the
    close. ``_position``: 0 at the low so far, 1 at the high, NaN where there is no range. All NaN between sessions.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> session_so_far(example_bars(10, 10, 11, start="2017-01-03 07:00")).round(2).values.tolist()
    [[nan, nan, nan], [0.0, 20.0, 0.5], [10.0, 27.27, 0.67]]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    inside, day = _local(pd.DatetimeIndex(bars.index), city)
    # Bars between sessions get periods of their own.
    periods = np.where(inside, 2 * day + 1, 2 * day)
    first = first_of_period(opened, periods, longest)
    highest, lowest = extremes_of_period(high, low, periods, longest)
    return frame(
        bars,
        **{
            f"{city}_from_open": np.where(inside, 100.0 * (close / first - 1.0), np.nan),
            f"{city}_range": np.where(inside, 100.0 * (highest - lowest) / close, np.nan),
            f"{city}_position": np.where(inside, ratio(close - lowest, highest - lowest), np.nan),
        },
    )


@feature(lookback=1, outputs=("month_sine", "month_cosine"), reference="Hyndman, Forecasting, 3rd ed., section 7.4")
def month_of_year(bars: pd.DataFrame) -> pd.DataFrame:
    """The month (UTC) as a point on a circle, each coordinate -1 to 1; January is (0, 1), April (1, 0).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> month_of_year(example_bars(10, start="2017-04-03")).round(4).values.tolist()
    [[1.0, 0.0]]
    """
    angle = 2.0 * np.pi * (pd.DatetimeIndex(bars.index).month.to_numpy() - 1.0) / 12.0
    return frame(bars, month_sine=np.sin(angle), month_cosine=np.cos(angle))


@feature(
    lookback=1,
    outputs="rollover",
    requires=("close_ts",),
    reference="Weithers, Foreign Exchange (2006), chapter 4: positions roll to the next value date at 17:00 New York",
)
def rollover(bars: pd.DataFrame) -> pd.Series:
    """Whether 17:00 New York, when currency positions roll over, falls into the bar or up to an hour before it, 1 or 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> rollover(example_bars(10, 10, 10, start="2017-01-03 21:00")).tolist()
    [0.0, 1.0, 0.0]
    """
    zone = ZoneInfo("America/New_York")
    local = pd.DatetimeIndex(bars.index).tz_convert(zone)
    minute = local.hour.to_numpy() * 60 + local.minute.to_numpy()
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    length = (pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8 - opens) // MINUTE_NANOSECONDS
    # Minutes from the last 17:00 to this bar's open, and from its open to the next one.
    since = (minute - 17 * 60) % DAY_MINUTES
    return series(bars, (since < 60) | (DAY_MINUTES - since < length))


def _local(index: pd.DatetimeIndex, city: str) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether the session is on, and the local day it belongs to."""
    zone, opens, closes = HOURS[city]
    local = index.tz_convert(ZoneInfo(zone)).tz_localize(None).as_unit("ns").asi8
    minutes = local // MINUTE_NANOSECONDS
    day = minutes // DAY_MINUTES
    minute = minutes - day * DAY_MINUTES
    return ((day + 3) % 7 < 5) & (minute >= opens) & (minute < closes), day
