"""Shape: what one bar looks like, and how it stands to the one before it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    WILDER_MEMORY,
    Count,
    Window,
    average_true_range,
    changes,
    columns,
    frame,
    ratio,
    series,
    talib,
)
from tapeline.features.kernels import run_length

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)


@feature(
    lookback=1,
    outputs=("body", "upper_wick", "lower_wick"),
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001), chapter 3",
)
def candle(bars: pd.DataFrame) -> pd.DataFrame:
    """The bar's parts as shares of its range: body -1 (black) to 1 (white), upper and lower wick 0 to 1.

    The sizes add up to 1. NaN where the bar has no range.

    Examples
    --------
    >>> candle(pd.DataFrame({"open": [2.0], "high": [5.0], "low": [1.0], "close": [4.0]})).values.tolist()
    [[0.5, 0.25, 0.25]]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    height = high - low
    return frame(
        bars,
        body=ratio(close - opened, height),
        upper_wick=ratio(high - np.maximum(opened, close), height),
        lower_wick=ratio(np.minimum(opened, close) - low, height),
    )


@feature(
    lookback=1,
    outputs="close_location",
    reference="Chaikin, in Achelis, Technical Analysis from A to Z, 2nd ed. (2000): the close location value",
)
def close_location(bars: pd.DataFrame) -> pd.Series:
    """Where the bar closed in its range, -1 (at the low) to 1 (at the high); NaN where it has none.

    Examples
    --------
    >>> close_location(pd.DataFrame({"high": [3.0], "low": [1.0], "close": [2.5]})).tolist()
    [0.5]
    """
    high, low, close = columns(bars, "high", "low", "close")
    return series(bars, ratio(2.0 * close - high - low, high - low))


@feature(
    lookback=lambda atr_window: WILDER_MEMORY * atr_window + 1,
    outputs="opening_gap",
    reference="Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. (2005), chapter on gaps; in average true ranges",
    tolerance=RECURSIVE,
)
def opening_gap(bars: pd.DataFrame, atr_window: Window = 14) -> pd.Series:
    """The open less the close before it, in average true ranges as of that close. Unbounded, mostly near 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> opening_gap(example_bars(10, 10, 10, 12), atr_window=2).tolist()
    [nan, nan, nan, 0.0]
    """
    opened, close = columns(bars, "open", "close")
    ranges, floor = average_true_range(bars, atr_window)
    gap = np.full(close.size, np.nan)
    gap[1:] = ratio(opened[1:] - close[:-1], ranges[:-1], floor[:-1])
    return series(bars, gap)


@feature(
    lookback=lambda atr_window: WILDER_MEMORY * atr_window + 1,
    outputs="relative_range",
    reference="Wilder, New Concepts in Technical Trading Systems (1978), section III: the volatility ratio",
    tolerance=RECURSIVE,
)
def relative_range(bars: pd.DataFrame, atr_window: Window = 14) -> pd.Series:
    """The bar's true range over the average true range before it; 0 or more, 1 is usual.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> relative_range(example_bars(10, 10, 10, 12), atr_window=2).tolist()
    [nan, nan, nan, 2.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    ranges, floor = average_true_range(bars, atr_window)
    result = np.full(close.size, np.nan)
    result[1:] = ratio(talib("TRANGE", high, low, close)[1:], ranges[:-1], floor[:-1])
    return series(bars, result)


@feature(
    lookback=lambda longest: longest + 1,
    outputs="streak",
    reference="Connors and Alvarez, Short Term Trading Strategies That Work (2008), chapter 3",
)
def streak(bars: pd.DataFrame, longest: Count = 20) -> pd.Series:
    """How many closes in a row have risen (positive) or fallen (negative), up to ``longest``; 0 for an unchanged one.

    Examples
    --------
    >>> streak(pd.DataFrame({"close": [1.0, 2.0, 3.0, 2.0]})).tolist()
    [nan, 1.0, 2.0, -1.0]
    """
    (close,) = columns(bars, "close")
    return series(bars, run_length(np.sign(changes(close)), longest))
