"""Volatility breakouts: whether a bar's range bursts out of the band of recent ranges, and which way price goes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.registry import Tolerance, label
from tapeline.labels.barrier_unit import price_arrays
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame


@label(
    lookback=lambda window: window,
    requires=("close_ts",),
    reference="Crabel, Day Trading with Short Term Price Patterns and Opening Range Breakout (1990): range expansion",
    tolerance=Tolerance(relative=1e-9, absolute=1e-12),
)
def volatility_breakout(
    bars: pd.DataFrame, horizon: Horizon = 12, window: Window = 48, size: Multiple = 2.0
) -> pd.DataFrame:
    """Whether volatility expands past its band within the horizon: 1 with price going up, -1 down, 0 not.

    Volatility is a bar's true range as a share of the close before it. The band is the mean of the last ``window`` of
    them plus ``size`` standard deviations, all up to the labelled bar. The first of the next ``horizon`` bars above
    the band decides; its side is that of its close against the close before it. Where it reaches further than the
    band both above and below that close, no one knows which way came first: 0, with ``ambiguous`` 1.

    Returns
    -------
    A frame on ``ts``: ``value``; ``expanded`` 1 where the band was left, by either side; ``ambiguous``; ``bars`` after
    how many (NaN: not); ``t_end`` the close of the deciding bar, or of the last one; ``outcome`` the simple return
    from the next open to that close. A bar without ``window`` true ranges before it is absent.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=6, freq="1h", tz="UTC", name="ts")
    >>> high = [101.0, 101.0, 101.0, 101.0, 105.0, 101.0]
    >>> bars = pd.DataFrame({"open": 100.0, "high": high, "low": 99.0, "close": [100.0] * 4 + [104.0, 100.0],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> volatility_breakout(bars, horizon=2, window=2)[["value", "bars"]].values.tolist()
    [[1.0, 2.0], [1.0, 1.0]]
    """
    decided, values = _expansions(*price_arrays(bars), horizon, window, size)
    known = decided >= 0
    return labels_frame(bars, decided, values[0], values[1]).assign(
        expanded=values[2][known], ambiguous=values[3][known], bars=values[4][known]
    )


@njit(cache=True, nogil=True)
def _expansions(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    horizon: int,
    window: int,
    size: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values: side, outcome, expanded, ambiguous, bars."""
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    values = np.full((5, rows), np.nan)
    ranges = np.full(rows, np.nan)
    for i in range(1, rows):
        ranges[i] = (max(high[i], close[i - 1]) - min(low[i], close[i - 1])) / close[i - 1]
    for t in range(window, rows - 1):
        # Anew for each bar: a running sum would carry what lies before the window.
        mean, square = 0.0, 0.0
        for i in range(t - window + 1, t + 1):
            mean += ranges[i]
        mean /= window
        for i in range(t - window + 1, t + 1):
            square += (ranges[i] - mean) ** 2
        band = mean + size * np.sqrt(square / window)
        for j in range(t + 1, min(t + horizon, rows - 1) + 1):
            side, expanded, ambiguous, bars = 0.0, 0.0, 0.0, np.nan
            if ranges[j] > band:
                before = close[j - 1]
                up, down = (high[j] - before) / before, (before - low[j]) / before
                expanded, bars = 1.0, float(j - t)
                if up > band and down > band:
                    ambiguous = 1.0
                else:
                    side = np.sign(close[j] - before)
            elif j < t + horizon:
                continue
            decided[t], values[0, t], values[1, t] = j, side, close[j] / opened[t + 1] - 1.0
            values[2, t], values[3, t], values[4, t] = expanded, ambiguous, bars
            break
    return decided, values
