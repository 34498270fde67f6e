"""Volatility: how much price moves, whichever way; a share of price or a place in a band, never a price."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    EMA_MEMORY,
    STILL,
    WILDER_MEMORY,
    Window,
    average_true_range,
    columns,
    frame,
    log_changes,
    ratio,
    series,
    talib,
)
from tapeline.features.kernels import rolling_deviation, rolling_mean

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)
Deviations = Annotated[float, Field(gt=0, le=100)]


@feature(
    lookback=lambda window: WILDER_MEMORY * window,
    outputs="atr_percent_{window}",
    reference="Wilder, New Concepts in Technical Trading Systems (1978), section III; in percent of the close",
    tolerance=RECURSIVE,
)
def atr_percent(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Wilder's average true range in percent of the close; 0 or more.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> atr_percent(example_bars(10, 10, 10), window=2).tolist()
    [nan, nan, 20.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    return series(bars, talib("NATR", high, low, close, timeperiod=window))


@feature(
    lookback=lambda window: window,
    outputs=("bollinger_position_{window}", "bollinger_width_{window}"),
    reference="Bollinger, Bollinger on Bollinger Bands (2001), chapters 8 and 9: %b and BandWidth",
)
def bollinger(bars: pd.DataFrame, window: Window = 20, deviations: Deviations = 2.0) -> pd.DataFrame:
    """Bollinger bands: %b, 0 at the lower band and 1 at the upper one, and the bands' distance in percent of the mean.

    The bands lie ``deviations`` population standard deviations from the mean. %b is NaN where price has stood still.
    The deviation is taken in two passes, because TA-Lib's running one leaves noise where price stands still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [9.0, 11.0, 10.0]})
    >>> bollinger(bars, window=2).round(2).values.tolist()
    [[nan, nan], [0.75, 40.0], [0.25, 19.05]]
    """
    (close,) = columns(bars, "close")
    mean, deviation = rolling_deviation(close, window)
    position = 0.5 + ratio(close - mean, 2.0 * deviations * deviation, STILL * close)
    width = 200.0 * deviations * deviation / mean
    return frame(bars, **{f"bollinger_position_{window}": position, f"bollinger_width_{window}": width})


@feature(
    lookback=lambda window, atr_window: max(EMA_MEMORY * window, WILDER_MEMORY * atr_window),
    outputs="keltner_position_{window}",
    reference="Raschke's form of the Keltner channel, in Kaufman, Trading Systems and Methods, 5th ed., chapter 8",
    tolerance=RECURSIVE,
)
def keltner_position(
    bars: pd.DataFrame, window: Window = 20, atr_window: Window = 10, multiple: Deviations = 2.0
) -> pd.Series:
    """Place of the close in the Keltner channel, 0 at its lower line and 1 at its upper one.

    The channel is the exponential average of the close plus and minus ``multiple`` average true ranges. NaN where
    price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> keltner_position(example_bars(10, 10, 10, 10), window=2, atr_window=2).iloc[-1].item()
    0.5
    """
    (close,) = columns(bars, "close")
    ranges, floor = average_true_range(bars, atr_window)
    return series(bars, 0.5 + ratio(close - talib("EMA", close, timeperiod=window), ranges, floor) / (2.0 * multiple))


@feature(
    lookback=lambda window: window + 1,
    outputs="realised_volatility_{window}",
    reference="Andersen and Bollerslev, International Economic Review 39 (1998)",
)
def realised_volatility(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Root mean square of the last ``window`` log returns, in percent a bar; 0 or more. Not annualised.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.0]})
    >>> realised_volatility(bars, window=2).round(4).tolist()
    [nan, nan, 0.995]
    """
    (close,) = columns(bars, "close")
    return series(bars, 100.0 * np.sqrt(rolling_mean(log_changes(close) ** 2, window)))


@feature(
    lookback=lambda window: window,
    outputs="parkinson_{window}",
    reference="Parkinson, Journal of Business 53 (1980)",
)
def parkinson(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Parkinson's volatility from the bars' ranges, in percent a bar; 0 or more. Blind to gaps.

    Examples
    --------
    >>> bars = pd.DataFrame({"high": [1.01, 1.01], "low": [1.0, 1.0]})
    >>> parkinson(bars, window=2).round(4).tolist()
    [nan, 0.5976]
    """
    high, low = columns(bars, "high", "low")
    squares = np.log(high / low) ** 2 / (4.0 * np.log(2.0))
    return series(bars, 100.0 * np.sqrt(rolling_mean(squares, window)))


@feature(
    lookback=lambda window: window,
    outputs="garman_klass_{window}",
    reference="Garman and Klass, Journal of Business 53 (1980), the practical estimator",
)
def garman_klass(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Garman and Klass's volatility from open, high, low and close, in percent a bar; 0 or more. Blind to gaps.

    Examples
    --------
    >>> bars = pd.DataFrame({"open": [1.0] * 2, "high": [1.01] * 2, "low": [1.0] * 2, "close": [1.0] * 2})
    >>> garman_klass(bars, window=2).round(4).tolist()
    [nan, 0.7036]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    squares = 0.5 * np.log(high / low) ** 2 - (2.0 * np.log(2.0) - 1.0) * np.log(close / opened) ** 2
    return series(bars, 100.0 * np.sqrt(np.maximum(rolling_mean(squares, window), 0.0)))


@feature(
    lookback=lambda window: window,
    outputs="rogers_satchell_{window}",
    reference="Rogers and Satchell, Annals of Applied Probability 1 (1991)",
)
def rogers_satchell(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Rogers and Satchell's volatility, right under a drift too, in percent a bar; 0 or more. Blind to gaps.

    Examples
    --------
    >>> bars = pd.DataFrame({"open": [1.0] * 2, "high": [1.01] * 2, "low": [1.0] * 2, "close": [1.0] * 2})
    >>> rogers_satchell(bars, window=2).round(4).tolist()
    [nan, 0.995]
    """
    return series(bars, 100.0 * np.sqrt(np.maximum(rolling_mean(_rogers_satchell(bars), window), 0.0)))


@feature(
    lookback=lambda window: window + 1,
    outputs="yang_zhang_{window}",
    reference="Yang and Zhang, Journal of Business 73 (2000), equations 7 and 8",
)
def yang_zhang(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Yang and Zhang's volatility, which counts the gaps between bars, in percent a bar; 0 or more.

    Examples
    --------
    >>> bars = pd.DataFrame({"open": [1.0, 1.0, 1.01], "high": [1.01] * 3, "low": [1.0] * 3, "close": [1.0, 1.0, 1.01]})
    >>> yang_zhang(bars, window=2).round(4).tolist()
    [nan, nan, 1.1864]
    """
    opened, close = columns(bars, "open", "close")
    gap = np.full(close.size, np.nan)
    gap[1:] = np.log(opened[1:] / close[:-1])
    weight = 0.34 / (1.34 + (window + 1.0) / (window - 1.0))
    unbiased = window / (window - 1.0)
    overnight = rolling_deviation(gap, window)[1] ** 2 * unbiased
    inside = rolling_deviation(np.log(close / opened), window)[1] ** 2 * unbiased
    drifting = np.maximum(rolling_mean(_rogers_satchell(bars), window), 0.0)
    return series(bars, 100.0 * np.sqrt(overnight + weight * inside + (1.0 - weight) * drifting))


@feature(
    lookback=lambda fast, slow: max(fast, slow) + 1,
    outputs="volatility_ratio_{fast}_{slow}",
    reference="Kaufman, Trading Systems and Methods, 5th ed., chapter 20; a ratio of two root mean squares",
)
def volatility_ratio(bars: pd.DataFrame, fast: Window = 12, slow: Window = 96) -> pd.Series:
    """Realised volatility of the last ``fast`` bars over that of the last ``slow``; above 1 where it is rising.

    0 or more; NaN where price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.0, 1.0, 1.01, 1.0]})
    >>> volatility_ratio(bars, fast=2, slow=4).round(4).tolist()[-1]
    1.4142
    """
    (close,) = columns(bars, "close")
    squares = log_changes(close) ** 2
    return series(bars, np.sqrt(ratio(rolling_mean(squares, fast), rolling_mean(squares, slow), STILL**2)))


@feature(
    lookback=lambda window: 2 * window - 1,
    outputs="ulcer_{window}",
    reference="Martin and McCann, The Investor's Guide to Fidelity Funds (1989)",
)
def ulcer(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Ulcer index: root mean square of the close's distance below its recent high, in percent, 0 to 100.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [10.0, 10.0, 9.0]})
    >>> ulcer(bars, window=2).round(3).tolist()
    [nan, nan, 7.071]
    """
    (close,) = columns(bars, "close")
    below = 100.0 * (close / talib("MAX", close, timeperiod=window) - 1.0)
    return series(bars, np.sqrt(rolling_mean(below**2, window)))


def _rogers_satchell(bars: pd.DataFrame) -> np.ndarray:
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    return np.log(high / close) * np.log(high / opened) + np.log(low / close) * np.log(low / opened)
