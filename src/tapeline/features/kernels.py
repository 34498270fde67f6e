"""Compiled loops over bars.

A window is summed anew at every bar: that costs ``window`` additions a bar, and gives the same bits whatever came
before the window, where a running sum would carry the rounding of every spike it ever held.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats


@njit(cache=True)
def wilder_mean(values: Floats, window: int) -> Floats:
    """Wilder's average: seeded with the mean of the first ``window`` values that are not NaN, weight 1 / window.

    Examples
    --------
    >>> wilder_mean(np.array([np.nan, 1.0, 3.0, 6.0]), 2)
    array([nan, nan,  2.,  4.])
    """
    result = np.full(values.size, np.nan)
    start = 0
    while start < values.size and np.isnan(values[start]):
        start += 1
    if start + window > values.size:
        return result
    mean = 0.0
    for i in range(start, start + window):
        mean += values[i]
    mean /= window
    result[start + window - 1] = mean
    for i in range(start + window, values.size):
        mean += (values[i] - mean) / window
        result[i] = mean
    return result
