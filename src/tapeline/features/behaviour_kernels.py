"""Compiled loops behind the search for unusual bars: sweeps, robust deviations, the left matrix profile."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def left_neighbours(values: Floats, window: int, apart: int) -> NDArray[np.int64]:
    """For each stretch of ``window`` values the start of the most similar one more than ``apart`` before it, -1: none.

    Similar are stretches of like shape: mean and deviation of each are taken out first. A flat stretch is like a flat
    one, and half as unlike any other as can be. Walks the diagonals of the distance matrix and sums the products anew
    every 256 steps, so that rounding does not add up. ``values`` should be near 0, their mean taken out.

    Examples
    --------
    >>> left_neighbours(np.array([0.0, 1, 0, 0, 1, 0]), 3, 1)
    array([-1, -1,  0,  0])
    """
    count = values.size - window + 1
    mean, deviation, flat = np.empty(count), np.empty(count), np.empty(count, dtype=np.bool_)
    for i in range(count):
        stretch = values[i : i + window]
        mean[i], deviation[i] = stretch.mean(), stretch.std()
        flat[i] = stretch.max() == stretch.min()
    best = np.full(count, np.inf)
    result = np.full(count, -1)
    for distance in range(apart + 1, count):
        product = 0.0
        for i in range(distance, count):
            j = i - distance
            if j % 256 == 0:
                product = 0.0
                for k in range(window):
                    product += values[i + k] * values[j + k]
            else:
                product += values[i + window - 1] * values[j + window - 1] - values[i - 1] * values[j - 1]
            if flat[i] or flat[j]:
                square = 0.0 if flat[i] and flat[j] else 1.0 * window
            else:
                alike = (product - window * mean[i] * mean[j]) / (window * deviation[i] * deviation[j])
                square = 2.0 * window * (1.0 - alike)
            if square < best[i]:
                best[i], result[i] = square, j
    return result


@njit(cache=True, nogil=True)
def sweeps_and_returns(high: Floats, low: Floats, close: Floats, window: int, within: int) -> tuple[Floats, Floats]:
    """At the bar that came back from a sweep: -1 of the highest high, 1 of the lowest low; and how far it went.

    The distance is in mean ranges of the ``window`` bars before the sweep; both are 0 where there is none, NaN for the
    first ``window + within - 1`` bars.

    Examples
    --------
    >>> one = np.ones(3)
    >>> sweeps_and_returns(np.array([3.0, 3, 5]), one, one * 2, 2, 1)
    (array([nan, nan, -1.]), array([nan, nan,  1.]))
    """
    side = np.full(close.size, np.nan)
    depth = np.full(close.size, np.nan)
    for i in range(window + within - 1, close.size):
        side[i], depth[i] = 0.0, 0.0
        for first in range(i - within + 1, i + 1):
            # The bar that swept first, against the bars before it.
            top, bottom, total = -np.inf, np.inf, 0.0
            for j in range(first - window, first):
                top = max(top, high[j])
                bottom = min(bottom, low[j])
                total += high[j] - low[j]
            usual = total / window
            if not usual > 1e-8 * close[i]:
                continue
            above, below, returned_above, returned_below = 0.0, 0.0, False, False
            for j in range(first, i):
                returned_above = returned_above or close[j] <= top
                returned_below = returned_below or close[j] >= bottom
            for j in range(first, i + 1):
                above = max(above, (high[j] - top) / usual)
                below = max(below, (bottom - low[j]) / usual)
            if high[first] > top and close[i] <= top and not returned_above and above > depth[i]:
                side[i], depth[i] = -1.0, above
            if low[first] < bottom and close[i] >= bottom and not returned_below and below > depth[i]:
                side[i], depth[i] = 1.0, below
    return side, depth


@njit(cache=True, nogil=True)
def rolling_absolute_deviation(values: Floats, memory: int) -> Floats:
    """Median absolute deviation of the ``memory`` values before each; NaN where less than half of them are numbers.

    Examples
    --------
    >>> rolling_absolute_deviation(np.array([1.0, 2.0, 4.0, 0.0]), 3)
    array([nan, 0. , 0.5, 1. ])
    """
    result = np.full(values.size, np.nan)
    for i in range(values.size):
        past = values[max(0, i - memory) : i]
        past = past[~np.isnan(past)]
        if past.size >= max(memory // 2, 1):
            result[i] = np.median(np.abs(past - np.median(past)))
    return result
