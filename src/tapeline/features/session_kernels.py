"""Compiled loops over the periods that bars fall into: days, weeks, sessions."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def first_of_period(values: Floats, periods: NDArray[np.int64], longest: int) -> Floats:
    """The first value of the current period, or of its last ``longest`` bars.

    Examples
    --------
    >>> first_of_period(np.array([3.0, 2.0, 1.0, 0.0]), np.array([0, 0, 0, 1]), 2)
    array([3., 3., 2., 0.])
    """
    result = np.empty(values.size)
    first = 0
    for i in range(values.size):
        if periods[i] != periods[first]:
            first = i
        result[i] = values[max(first, i - longest + 1)]
    return result


@njit(cache=True, nogil=True)
def last_period(
    high: Floats, low: Floats, close: Floats, periods: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """High, low and close of the period before the current one, and the row at which it began (-1: there is none).

    Examples
    --------
    >>> one = np.array([3.0, 5.0, 4.0])
    >>> last_period(one, one - 1.0, one, np.array([0, 0, 1]))[0]
    array([nan, nan,  5.])
    """
    highs, lows, closes = np.full(high.size, np.nan), np.full(high.size, np.nan), np.full(high.size, np.nan)
    began = np.full(high.size, -1, dtype=np.int64)
    start, before = 0, -1
    top, bottom, last = np.nan, np.nan, np.nan
    for i in range(high.size):
        if periods[i] != periods[start]:
            top, bottom, last = high[start:i].max(), low[start:i].min(), close[i - 1]
            before, start = start, i
        highs[i], lows[i], closes[i], began[i] = top, bottom, last, before
    return highs, lows, closes, began
