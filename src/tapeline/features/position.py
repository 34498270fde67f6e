"""Position: where the close stands between the extremes of a recent stretch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    WILDER_MEMORY,
    Count,
    Window,
    average_true_range,
    columns,
    frame,
    ratio,
    series,
    talib,
)
from tapeline.features.kernels import extremes_of_period

DAY_NANOSECONDS = 86_400_000_000_000
MONDAY_NANOSECONDS = 4 * DAY_NANOSECONDS


@feature(
    lookback=lambda window: window,
    outputs="donchian_position_{window}",
    reference="Donchian's channel, in Kaufman, Trading Systems and Methods, 5th ed., chapter 5",
)
def donchian_position(bars: pd.DataFrame, window: Window = 55) -> pd.Series:
    """Place of the close between the lowest low and the highest high of the last ``window`` bars, 0 to 1.

    NaN where the range has no height.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> donchian_position(example_bars(10, 11, 12), window=2).round(4).tolist()
    [nan, 0.6667, 0.75]
    """
    high, low, close = columns(bars, "high", "low", "close")
    lowest, highest = talib("MIN", low, timeperiod=window), talib("MAX", high, timeperiod=window)
    return series(bars, ratio(close - lowest, highest - lowest))


@feature(
    lookback=lambda window, atr_window: max(window, WILDER_MEMORY * atr_window),
    outputs=("distance_to_high_{window}", "distance_to_low_{window}"),
    reference="George and Hwang, Journal of Finance 59 (2004): nearness to the high; in average true ranges",
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
)
def distance_to_extremes(bars: pd.DataFrame, window: Window = 120, atr_window: Window = 14) -> pd.DataFrame:
    """How far the close lies below the highest high and above the lowest low, in average true ranges; 0 or more.

    NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> distance_to_extremes(example_bars(10, 10, 10), window=2, atr_window=2).iloc[-1].tolist()
    [0.5, 0.5]
    """
    high, low, close = columns(bars, "high", "low", "close")
    unit, floor = average_true_range(bars, atr_window)
    below = ratio(talib("MAX", high, timeperiod=window) - close, unit, floor)
    above = ratio(close - talib("MIN", low, timeperiod=window), unit, floor)
    return frame(bars, **{f"distance_to_high_{window}": below, f"distance_to_low_{window}": above})


@feature(
    lookback=lambda longest: longest,
    outputs="position_in_day",
    reference="Crabel, Day Trading with Short Term Price Patterns (1990); the UTC day so far",
)
def position_in_day(bars: pd.DataFrame, longest: Count = 1440) -> pd.Series:
    """Place of the close between the low and the high of the UTC day so far, 0 to 1.

    Of a day of more than ``longest`` bars, only that many of the newest count: the default holds a day of minutes.
    NaN where the day has had no range yet.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> position_in_day(example_bars(10, 11, 12, start="2017-01-02 22:00")).round(4).tolist()
    [0.5, 0.6667, 0.6667]
    """
    return _in_period(bars, DAY_NANOSECONDS, longest)


@feature(
    lookback=lambda longest: longest,
    outputs="position_in_week",
    reference="Crabel, Day Trading with Short Term Price Patterns (1990); the week from Monday 00:00 UTC so far",
)
def position_in_week(bars: pd.DataFrame, longest: Count = 168) -> pd.Series:
    """Place of the close between the low and the high of the week so far, from Monday 00:00 UTC, 0 to 1.

    Of a week of more than ``longest`` bars, only that many of the newest count: the default holds a week of hours,
    and for shorter bars it is a trailing range. NaN where the week has had no range yet.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> position_in_week(example_bars(10, 11, 12, start="2017-01-01 22:00")).round(4).tolist()
    [0.5, 0.6667, 0.6667]
    """
    return _in_period(bars, 7 * DAY_NANOSECONDS, longest)


def _in_period(bars: pd.DataFrame, nanoseconds: int, longest: int) -> pd.Series:
    high, low, close = columns(bars, "high", "low", "close")
    periods = (pd.DatetimeIndex(bars.index).as_unit("ns").asi8 - MONDAY_NANOSECONDS) // nanoseconds
    highest, lowest = extremes_of_period(high, low, np.ascontiguousarray(periods), longest)
    return series(bars, ratio(close - lowest, highest - lowest))
