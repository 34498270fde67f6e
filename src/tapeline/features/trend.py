"""Trend: which way price has been going, and how straight."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    EMA_MEMORY,
    STILL,
    WILDER_MEMORY,
    Window,
    average_true_range,
    changes,
    columns,
    frame,
    ratio,
    series,
    talib,
)
from tapeline.features.kernels import rolling_mean, rolling_regression

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)


@feature(
    # Two Wilder averages, one over the other: the second remembers a little longer than one alone.
    lookback=lambda window: (WILDER_MEMORY + 10) * window,
    outputs=("adx_{window}", "directional_{window}"),
    reference="Wilder, New Concepts in Technical Trading Systems (1978), section IV",
    tolerance=RECURSIVE,
)
def adx(bars: pd.DataFrame, window: Window = 14) -> pd.DataFrame:
    """Average directional index, 0 (no trend) to 100, and the difference +DI - -DI, -100 (down) to 100 (up).

    NaN where the bars have had no range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> adx(example_bars(10, 11, 12, 13, 14, 15), window=2).iloc[-1].round(2).tolist()
    [100.0, 33.33]
    """
    high, low, close = columns(bars, "high", "low", "close")
    ranges, floor = average_true_range(bars, window)
    moves = ranges > floor
    strength = talib("ADX", high, low, close, timeperiod=window)
    plus = talib("PLUS_DI", high, low, close, timeperiod=window)
    minus = talib("MINUS_DI", high, low, close, timeperiod=window)
    # DX is a ratio of directional movement; a stretch in which no bar went beyond the one before it has none.
    directed = plus + minus > 1e-4
    return frame(
        bars,
        **{
            f"adx_{window}": np.where(moves & directed, strength, np.nan),
            f"directional_{window}": np.where(moves, plus - minus, np.nan),
        },
    )


@feature(
    lookback=lambda window: window + 1,
    outputs="aroon_{window}",
    reference="Chande, A Time Price Oscillator, Technical Analysis of Stocks and Commodities 13 (1995)",
)
def aroon(bars: pd.DataFrame, window: Window = 25) -> pd.Series:
    """Aroon oscillator: how much more recent the highest high is than the lowest low, -100 to 100.

    Of equal extremes the newest counts.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> aroon(example_bars(10, 11, 12), window=2).tolist()
    [nan, nan, 50.0]
    """
    high, low = columns(bars, "high", "low")
    return series(bars, talib("AROONOSC", high, low, timeperiod=window))


@feature(
    lookback=lambda window, atr_window: max(EMA_MEMORY * window, WILDER_MEMORY * atr_window),
    outputs="ema_distance_{window}",
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 9; in average true ranges",
    tolerance=RECURSIVE,
)
def ema_distance(bars: pd.DataFrame, window: Window = 20, atr_window: Window = 14) -> pd.Series:
    """Distance of the close above its exponential average, in average true ranges.

    Unbounded, around 0. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> ema_distance(example_bars(10, 10, 10, 12), window=2, atr_window=2).iloc[-1].round(3).item()
    0.222
    """
    (close,) = columns(bars, "close")
    return series(bars, ratio(close - talib("EMA", close, timeperiod=window), *average_true_range(bars, atr_window)))


@feature(
    lookback=lambda window, atr_window: max(window, WILDER_MEMORY * atr_window),
    outputs="sma_distance_{window}",
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 9; in average true ranges",
    tolerance=RECURSIVE,
)
def sma_distance(bars: pd.DataFrame, window: Window = 50, atr_window: Window = 14) -> pd.Series:
    """Distance of the close above its mean over ``window`` bars, in average true ranges.

    Unbounded, around 0. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> sma_distance(example_bars(10, 10, 10, 12), window=2, atr_window=2).iloc[-1].round(3).item()
    0.333
    """
    (close,) = columns(bars, "close")
    return series(bars, ratio(close - rolling_mean(close, window), *average_true_range(bars, atr_window)))


@feature(
    lookback=lambda fast, slow, atr_window: max(EMA_MEMORY * max(fast, slow), WILDER_MEMORY * atr_window),
    outputs="ema_cross_{fast}_{slow}",
    reference="Appel, Technical Analysis: Power Tools for Active Investors (2005); in average true ranges",
    tolerance=RECURSIVE,
)
def ema_cross(bars: pd.DataFrame, fast: Window = 10, slow: Window = 50, atr_window: Window = 14) -> pd.Series:
    """Distance of a fast exponential average above a slow one, in average true ranges; changes sign where they cross.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> ema_cross(example_bars(10, 10, 10, 13), fast=2, slow=3, atr_window=2).iloc[-1].round(3).item()
    0.143
    """
    (close,) = columns(bars, "close")
    apart = talib("EMA", close, timeperiod=fast) - talib("EMA", close, timeperiod=slow)
    return series(bars, ratio(apart, *average_true_range(bars, atr_window)))


@feature(
    lookback=lambda window: window,
    outputs=("regression_slope_{window}", "regression_fit_{window}"),
    reference="Draper and Smith, Applied Regression Analysis, 3rd ed., section 1.2",
)
def regression(bars: pd.DataFrame, window: Window = 20) -> pd.DataFrame:
    """Slope a bar of the line through the logarithm of the last closes, in percent, and its R squared, 0 to 1.

    R squared is NaN where the closes are all the same.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.01**2]})
    >>> regression(bars, window=3).iloc[-1].round(3).tolist()
    [0.995, 1.0]
    """
    (close,) = columns(bars, "close")
    slope, fit = rolling_regression(np.log(close), window)
    return frame(bars, **{f"regression_slope_{window}": 100.0 * slope, f"regression_fit_{window}": fit})


@feature(
    lookback=lambda window: window + 1,
    outputs="efficiency_{window}",
    reference="Kaufman, Trading Systems and Methods, 5th ed., chapter 1: the efficiency ratio, with its sign",
)
def efficiency(bars: pd.DataFrame, window: Window = 20) -> pd.Series:
    """Net change of the close over the path it took, -1 (straight down) to 1 (straight up), near 0 in noise.

    NaN where price has not moved in the window.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 1.5, 2.0]})
    >>> efficiency(bars, window=3).tolist()
    [nan, nan, nan, 0.5]
    """
    (close,) = columns(bars, "close")
    change = changes(close)
    return series(bars, ratio(rolling_mean(change, window), rolling_mean(np.abs(change), window)))


@feature(
    lookback=lambda window: window + 1,
    outputs="vortex_{window}",
    reference="Botes and Siepman, The Vortex Indicator, Technical Analysis of Stocks and Commodities 28 (2010)",
)
def vortex(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Vortex indicator VI+ - VI-: upward less downward reach between neighbouring bars, over the true range.

    Usually between -1 and 1. NaN where the bars have had no range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> vortex(example_bars(10, 11, 12, 13), window=2).round(4).tolist()
    [nan, nan, 0.5, 0.6667]
    """
    high, low, close = columns(bars, "high", "low", "close")
    reach = np.full(close.size, np.nan)
    reach[1:] = np.abs(high[1:] - low[:-1]) - np.abs(low[1:] - high[:-1])
    ranges = rolling_mean(talib("TRANGE", high, low, close), window)
    return series(bars, ratio(rolling_mean(reach, window), ranges, STILL * close))
