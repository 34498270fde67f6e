"""Momentum: how far and how one-sidedly price has moved."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    EMA_MEMORY,
    STILL,
    WILDER_MEMORY,
    Count,
    Window,
    changes,
    columns,
    frame,
    ratio,
    series,
    talib,
)
from tapeline.features.kernels import rolling_mean, wilder_mean

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)


@feature(
    lookback=lambda window: window + 1,
    outputs="log_return_{window}",
    reference="Tsay, Analysis of Financial Time Series, 3rd ed., section 1.1",
)
def log_return(bars: pd.DataFrame, window: Count = 1) -> pd.Series:
    """Logarithm of the close over the close ``window`` bars before: a continuously compounded return.

    Unbounded; 0 means unchanged, 0.01 is close to one percent. The first ``window`` rows are NaN.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 2.0]})
    >>> log_return(bars).round(4).tolist()
    [nan, 0.6931, 0.0]
    """
    (close,) = columns(bars, "close")
    result = np.full(close.size, np.nan)
    logs = np.log(close)
    result[window:] = logs[window:] - logs[:-window]
    return series(bars, result)


@feature(
    lookback=lambda window: WILDER_MEMORY * window,
    outputs="rsi_{window}",
    reference="Wilder, New Concepts in Technical Trading Systems (1978), section VI",
    tolerance=RECURSIVE,
)
def rsi(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Relative strength index: the share of upward movement in all movement, 0 to 100.

    Wilder's smoothing, seeded with the mean of the first ``window`` changes. NaN for the first ``window`` rows and
    where price has stood still so long that nothing is left to compare.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 3.0, 2.0]})
    >>> rsi(bars, window=2).round(2).tolist()
    [nan, nan, 100.0, 50.0]
    """
    (close,) = columns(bars, "close")
    moved = wilder_mean(np.abs(changes(close)), window)
    return series(bars, np.where(moved > STILL * close, talib("RSI", close, timeperiod=window), np.nan))


@feature(
    lookback=lambda fast, slow, signal: EMA_MEMORY * (max(fast, slow) + signal),
    outputs=("macd_{fast}_{slow}", "macd_signal_{fast}_{slow}_{signal}", "macd_histogram_{fast}_{slow}_{signal}"),
    reference="Appel, The Moving Average Convergence-Divergence Method (1979); as a share of price",
    tolerance=RECURSIVE,
)
def macd(bars: pd.DataFrame, fast: Window = 12, slow: Window = 26, signal: Window = 9) -> pd.DataFrame:
    """Distance between a fast and a slow exponential average in percent of the close, its own average, the difference.

    Unbounded, around 0. Dividing by the close makes it comparable over years and instruments.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> macd(example_bars(10, 10, 10, 12), fast=2, slow=3, signal=2).iloc[-1].round(3).tolist()
    [2.778, 1.389, 1.389]
    """
    (close,) = columns(bars, "close")
    parts = talib("MACD", close, fastperiod=fast, slowperiod=slow, signalperiod=signal)
    line, average, histogram = (100.0 * part / close for part in parts)
    return frame(
        bars,
        **{
            f"macd_{fast}_{slow}": line,
            f"macd_signal_{fast}_{slow}_{signal}": average,
            f"macd_histogram_{fast}_{slow}_{signal}": histogram,
        },
    )


@feature(
    lookback=lambda window, smoothing: window + 2 * smoothing,
    outputs=("stochastic_k_{window}", "stochastic_d_{window}"),
    reference="Lane, Lane's Stochastics, Technical Analysis of Stocks and Commodities 2 (1984)",
)
def stochastic(bars: pd.DataFrame, window: Window = 14, smoothing: Window = 3) -> pd.DataFrame:
    """Slow stochastic: where the close lies in the range of the last bars, smoothed once (k) and twice (d), 0 to 100.

    NaN where the range has no height.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> stochastic(example_bars(10, 11, 12, 13, 14), window=2, smoothing=2).iloc[-1].tolist()
    [75.0, 75.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    lowest, highest = talib("MIN", low, timeperiod=window), talib("MAX", high, timeperiod=window)
    raw = 100.0 * ratio(close - lowest, highest - lowest)
    # Averaged here, because TA-Lib's own stochastic puts 0 where the range has no height, and averages that 0.
    smooth = rolling_mean(raw, smoothing)
    return frame(
        bars,
        **{
            f"stochastic_k_{window}": np.clip(smooth, 0.0, 100.0),
            f"stochastic_d_{window}": np.clip(rolling_mean(smooth, smoothing), 0.0, 100.0),
        },
    )


@feature(
    lookback=lambda window: window,
    outputs="williams_r_{window}",
    reference="Williams, How I Made One Million Dollars Last Year Trading Commodities (1979)",
)
def williams_r(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Williams %R: how far the close lies below the highest high, in percent of the range, -100 to 0.

    NaN where the range has no height.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> williams_r(example_bars(10, 11, 12), window=2).tolist()
    [nan, -33.33333333333333, -25.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    lowest, highest = talib("MIN", low, timeperiod=window), talib("MAX", high, timeperiod=window)
    return series(bars, -100.0 * ratio(highest - close, highest - lowest))


@feature(
    lookback=lambda window: window,
    outputs="cci_{window}",
    reference="Lambert, Commodity Channel Index, Commodities Magazine (October 1980)",
    tolerance=RECURSIVE,
)
def cci(bars: pd.DataFrame, window: Window = 20) -> pd.Series:
    """Commodity channel index: distance of the typical price from its mean, in 1.5 % of its mean absolute deviation.

    Unbounded; about three quarters of the values lie within -100 and 100. NaN where nothing moved.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> cci(example_bars(10, 11, 12, 13), window=3).round(2).tolist()
    [nan, nan, 100.0, 100.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    typical = (high + low + close) / 3.0
    moved = talib("MAX", typical, timeperiod=window) - talib("MIN", typical, timeperiod=window)
    return series(bars, np.where(moved > STILL * close, talib("CCI", high, low, close, timeperiod=window), np.nan))


@feature(
    lookback=lambda window, smoothing: WILDER_MEMORY * window + window + smoothing,
    outputs="stochastic_rsi_{window}",
    reference="Chande and Kroll, The New Technical Trader (1994), chapter 8",
    tolerance=Tolerance(relative=1e-6, absolute=1e-5),
)
def stochastic_rsi(bars: pd.DataFrame, window: Window = 14, smoothing: Window = 3) -> pd.Series:
    """Where the RSI lies in its own range of the last ``window`` bars, averaged over ``smoothing`` bars, 0 to 100.

    NaN where the RSI has not moved by a millionth.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> stochastic_rsi(example_bars(10, 11, 10, 12, 11, 13, 12, 14), window=2, smoothing=2).iloc[-1].round(2).item()
    50.0
    """
    strength = rsi(bars, window)
    rolling = strength.rolling(window)
    lowest, highest = rolling.min(), rolling.max()
    raw = 100.0 * (strength - lowest) / (highest - lowest).where(highest - lowest > 1e-6)
    return series(bars, np.clip(rolling_mean(raw.to_numpy(), smoothing), 0.0, 100.0))


@feature(
    lookback=lambda slow, fast: EMA_MEMORY * (slow + fast),
    outputs="true_strength_{slow}_{fast}",
    reference="Blau, True Strength Index, Technical Analysis of Stocks and Commodities 9 (1991)",
    tolerance=RECURSIVE,
)
def true_strength(bars: pd.DataFrame, slow: Window = 25, fast: Window = 13) -> pd.Series:
    """True strength index: doubly smoothed change over doubly smoothed absolute change, -100 to 100.

    NaN where nothing has moved.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> true_strength(example_bars(10, 11, 12, 13, 14, 15), slow=3, fast=2).iloc[-1].item()
    100.0
    """
    (close,) = columns(bars, "close")
    change = changes(close)

    def smoothed(values: np.ndarray) -> np.ndarray:
        return talib("EMA", talib("EMA", values, timeperiod=slow), timeperiod=fast)

    return series(bars, 100.0 * ratio(smoothed(change), smoothed(np.abs(change)), STILL * close))


@feature(
    lookback=lambda slow: slow + 1,
    outputs="ultimate_oscillator_{fast}_{middle}_{slow}",
    reference="Williams, The Ultimate Oscillator, Technical Analysis of Stocks and Commodities 3 (1985)",
    tolerance=RECURSIVE,
)
def ultimate_oscillator(bars: pd.DataFrame, fast: Window = 7, middle: Window = 14, slow: Window = 28) -> pd.Series:
    """Buying pressure in the true range over three windows, weighted 4 : 2 : 1, 0 to 100.

    NaN where the fast window has no range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> ultimate_oscillator(example_bars(10, 11, 12, 13, 14), fast=2, middle=3, slow=4).round(2).tolist()
    [nan, nan, nan, nan, 66.67]
    """
    high, low, close = columns(bars, "high", "low", "close")
    values = talib("ULTOSC", high, low, close, timeperiod1=fast, timeperiod2=middle, timeperiod3=slow)
    height = talib("MAX", talib("TRANGE", high, low, close), timeperiod=min(fast, middle, slow))
    return series(bars, np.where(height > STILL * close, values, np.nan))


@feature(
    lookback=lambda window: window,
    outputs="body_momentum_{window}",
    reference="Chande and Kroll, The New Technical Trader (1994): the intraday momentum index, recentred",
)
def body_momentum(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Sum of the bodies over the sum of their sizes in the last ``window`` bars, -1 (all down) to 1 (all up).

    NaN where every bar closed where it opened.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> body_momentum(example_bars(10, 12, 11), window=2).round(4).tolist()
    [nan, 1.0, 0.3333]
    """
    opened, close = columns(bars, "open", "close")
    body = close - opened
    return series(bars, ratio(rolling_mean(body, window), rolling_mean(np.abs(body), window)))
