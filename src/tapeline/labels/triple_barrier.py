"""The triple-barrier label: which of a profit target, a loss limit and a time limit comes first."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.registry import Tolerance, label
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame
from tapeline.labels.volatility import MEMORY, VolatilityKind, causal_volatility

BLOCK: Final = 16
"""Bars that are held against the barriers in one comparison before each is looked at."""


@label(
    lookback=lambda volatility_window: MEMORY * volatility_window,
    requires=("close_ts",),
    reference="Lopez de Prado, Advances in Financial Machine Learning (2018), section 3.4",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def triple_barrier(
    bars: pd.DataFrame,
    horizon: Horizon = 24,
    upper: Multiple = 1.5,
    lower: Multiple = 1.5,
    volatility: VolatilityKind = "atr",
    volatility_window: Window = 24,
    vertical: Literal["sign", "zero"] = "sign",
) -> pd.DataFrame:
    """First touch of two price barriers within a time limit, for a long position opened at the next bar's open.

    The barriers lie at ``entry * (1 + upper * v)`` and ``entry * (1 - lower * v)``, where ``v`` is the volatility a
    bar, as a share of price, known at the labelled bar's close. They are watched from the entry bar's open on.

    Parameters
    ----------
    horizon:
        The time limit: the position is closed at the close of the bar ``horizon`` bars after the labelled one.
    upper, lower:
        Distances of the barriers in units of ``v``.
    volatility, volatility_window:
        ``atr``: Wilder's average true range over the close. ``ewm``: root of the exponentially weighted mean squared
        log return (RiskMetrics).
    vertical:
        The value where the time limit comes first: the sign of the return, or zero.

    Returns
    -------
    A frame on ``ts``: ``value`` 1 (upper first), -1 (lower first), 0 (both inside one bar, whose order is unknown; or
    nothing moved); ``t_end`` the close of the bar in which it was decided; ``outcome`` the simple return from entry
    to exit, with the worse barrier where one bar holds both, and the open where a bar opens beyond a barrier.
    A bar is absent while its label is undecided, and where its volatility is not known or zero.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> price = np.array([1.00, 1.00, 1.00, 1.00, 1.05])
    >>> bars = pd.DataFrame({"open": price, "high": price * 1.01, "low": price * 0.99, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> triple_barrier(bars, horizon=2, volatility_window=2)["value"].tolist()
    [1.0]
    """
    opened, high, low, close = (
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("open", "high", "low", "close")
    )
    width = causal_volatility(high, low, close, kind=volatility, window=volatility_window)
    decided, value, outcome = _first_touch(opened, high, low, close, width, horizon, upper, lower, vertical == "sign")
    return labels_frame(bars, decided, value, outcome)


@njit(cache=True)
def _block_extremes(
    opened: NDArray[np.float64], high: NDArray[np.float64], low: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The highest and the lowest price of each ``BLOCK`` bars; a missing price touches nothing and is passed over."""
    blocks = opened.size // BLOCK + 1
    highest, lowest = np.full(blocks, -np.inf), np.full(blocks, np.inf)
    for i in range(opened.size):
        b = i // BLOCK
        for price in (opened[i], high[i], low[i]):
            if price > highest[b]:
                highest[b] = price
            if price < lowest[b]:
                lowest[b] = price
    return highest, lowest


@njit(cache=True)
def _first_touch(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    width: NDArray[np.float64],
    horizon: int,
    upper: float,
    lower: float,
    use_sign: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    value = np.full(rows, np.nan)
    outcome = np.full(rows, np.nan)
    highest, lowest = _block_extremes(opened, high, low)
    for t in range(rows - 1):
        if not width[t] > 0.0:
            continue
        entry = opened[t + 1]
        top = entry * (1.0 + upper * width[t])
        bottom = entry * (1.0 - lower * width[t])
        last = t + horizon
        stop = min(last, rows - 1)
        j = t
        while j < stop:
            j += 1
            # A whole block of bars that stays between the barriers decides nothing, unless the time limit is in it.
            while j % BLOCK == 0 and j + BLOCK <= stop and highest[j // BLOCK] < top and lowest[j // BLOCK] > bottom:
                j += BLOCK
            # A bar that opens beyond a barrier is decided there and then, whatever it touches afterwards.
            if opened[j] >= top:
                touched, price = 1.0, opened[j]
            elif opened[j] <= bottom:
                touched, price = -1.0, opened[j]
            elif high[j] >= top and low[j] <= bottom:
                touched, price = 0.0, bottom
            elif high[j] >= top:
                touched, price = 1.0, top
            elif low[j] <= bottom:
                touched, price = -1.0, bottom
            elif j == last:
                price = close[j]
                touched = float(np.sign(price - entry)) if use_sign else 0.0
            else:
                continue
            decided[t], value[t], outcome[t] = j, touched, price / entry - 1.0
            break
    return decided, value, outcome
