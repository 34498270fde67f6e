"""Compiled recursions that survive holes: after a NaN they start afresh, so that nothing before it counts."""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def restarting_ema(values: Floats, window: int) -> Floats:
    """Exponential average, weight 2 / (window + 1), seeded with the first value after the start or after a NaN.

    The first ``window - 1`` results of each such run are NaN, being mostly seed.

    Examples
    --------
    >>> restarting_ema(np.array([1.0, 3.0, np.nan, 5.0, 5.0]), 2)
    array([       nan, 2.33333333,        nan,        nan, 5.        ])
    """
    result = np.full(values.size, np.nan)
    weight = 2.0 / (window + 1.0)
    average, seen = 0.0, 0
    for i in range(values.size):
        value = values[i]
        if np.isnan(value):
            seen = 0
            continue
        average = value if seen == 0 else average + weight * (value - average)
        seen += 1
        if seen >= window:
            result[i] = average
    return result


@njit(cache=True, nogil=True)
def restarting_sum(values: Floats) -> Floats:
    """Running sum that starts from nothing after each NaN, which stays NaN.

    Examples
    --------
    >>> restarting_sum(np.array([1.0, 2.0, np.nan, 4.0]))
    array([ 1.,  3., nan,  4.])
    """
    result = np.full(values.size, np.nan)
    total = 0.0
    for i in range(values.size):
        if np.isnan(values[i]):
            total = 0.0
            continue
        total += values[i]
        result[i] = total
    return result


@njit(cache=True, nogil=True)
def smoothed_stochastic(values: Floats, floor: Floats, window: int, weight: float, hold: bool) -> Floats:
    """Place of each value in the range of its last ``window``, 0 to 100, smoothed exponentially.

    NaN, with a fresh start of the smoothing, where the window holds a NaN or a range that is not above ``floor``; with
    ``hold``, a range too small repeats the result before.

    Examples
    --------
    >>> smoothed_stochastic(np.array([1.0, 2.0, 1.5]), np.zeros(3), 2, 0.5, False)
    array([ nan, 100.,  50.])
    """
    result = np.full(values.size, np.nan)
    average, running = 0.0, False
    for i in range(window - 1, values.size):
        low = high = values[i]
        for j in range(i - window + 1, i):
            low, high = min(low, values[j]), max(high, values[j])
            if np.isnan(values[j]):
                low = np.nan
                break
        if not high - low > floor[i]:
            running = running and hold and not np.isnan(low)
            if running:
                result[i] = average
            continue
        place = 100.0 * (values[i] - low) / (high - low)
        average = average + weight * (place - average) if running else place
        running = True
        result[i] = average
    return result
