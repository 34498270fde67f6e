"""Momentum: how far and how one-sidedly price has moved."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, WILDER_MEMORY, Count, Window, columns, series
from tapeline.features.kernels import wilder_mean


@feature(
    lookback=lambda window: window + 1,
    outputs="log_return_{window}",
    reference="Tsay, Analysis of Financial Time Series, 3rd ed., section 1.1",
)
def log_return(bars: pd.DataFrame, window: Count = 1) -> pd.Series:
    """Logarithm of the close over the close ``window`` bars before: a continuously compounded return.

    Unbounded, 0 means unchanged, 0.01 is close to one percent. The first ``window`` rows are NaN.

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
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
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
    import talib

    (close,) = columns(bars, "close")
    moved = wilder_mean(np.abs(np.diff(close, prepend=np.nan)), window)
    return series(bars, np.where(moved > STILL * close, talib.RSI(close, window), np.nan))
