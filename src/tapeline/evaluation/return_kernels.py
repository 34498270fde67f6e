"""Passes over a series of returns: moments, falls below the former peak, resampled histories."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

(MEAN, DEVIATION, SKEWNESS, KURTOSIS, DOWNSIDE, LOG_GROWTH, STABILITY, SMALLEST, LARGEST, POSITIVE, IDLE) = range(11)
MOMENTS: Final = 11
PEAK, TROUGH, RECOVERY = range(3)
NEVER: Final = -1


@njit(cache=True, nogil=True)
def moments(returns: Any, floor: Any) -> Any:
    """Mean, deviation (n - 1), population skewness and excess kurtosis, root mean square below ``floor``, and so on.

    ``LOG_GROWTH`` is the sum of log returns and ``STABILITY`` the squared correlation of their running sum with the
    number of the period; ``POSITIVE`` and ``IDLE`` are shares of periods with a gain and with no change at all.
    """
    rows = returns.size
    found = np.full(MOMENTS, np.nan)
    total, below, smallest, largest = 0.0, 0.0, math.inf, -math.inf
    gains, idle = 0, 0
    for row in range(rows):
        value = returns[row]
        total += value
        short = min(value - floor, 0.0)
        below += short * short
        smallest, largest = min(smallest, value), max(largest, value)
        gains += value > 0.0
        idle += value == 0.0
    mean = total / rows
    second, third, fourth, residue = 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        gap = returns[row] - mean
        square = gap * gap
        residue += gap
        second += square
        third += square * gap
        fourth += square * square
    # What rounding left in the first pass is taken back in the second.
    found[MEAN] = mean + residue / rows
    if rows > 1:
        found[DEVIATION] = math.sqrt(second / (rows - 1))
    # A constant series leaves the rounding of its mean, which is no deviation.
    if second / rows > 1e-24 * max(mean * mean, 1e-24):
        found[SKEWNESS] = third / rows / (second / rows) ** 1.5
        found[KURTOSIS] = fourth / rows / (second / rows) ** 2 - 3.0
    else:
        found[DEVIATION] = 0.0 if rows > 1 else math.nan
    found[DOWNSIDE] = math.sqrt(below / rows)
    found[SMALLEST], found[LARGEST] = smallest, largest
    found[POSITIVE], found[IDLE] = gains / rows, idle / rows
    _growth(returns, found)
    return found


@njit(cache=True, nogil=True)
def _growth(returns: Any, found: Any) -> None:
    rows = returns.size
    if found[SMALLEST] <= -1.0:
        found[LOG_GROWTH] = -math.inf
        return
    total, summed = 0.0, 0.0
    for row in range(rows):
        total += math.log1p(returns[row])
        summed += total
    found[LOG_GROWTH] = total
    centre, middle = summed / rows, (rows - 1) / 2.0
    level, cross, spread, across = 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        level += math.log1p(returns[row])
        cross += (row - middle) * (level - centre)
        spread += (level - centre) ** 2
        across += (row - middle) ** 2
    if spread > 0.0 and across > 0.0:
        found[STABILITY] = cross * cross / (spread * across)


@njit(cache=True, nogil=True)
def robust_variance(returns: Any, mean: Any, deviation: Any, lags: Any) -> Any:
    """The long-run variance of one return's influence on the Sharpe ratio, by Newey and West's weights (1987)."""
    rows = returns.size
    influence = np.empty(rows)
    ratio = mean / deviation
    for row in range(rows):
        scaled = (returns[row] - mean) / deviation
        influence[row] = scaled - 0.5 * ratio * (scaled * scaled - 1.0)
    total = 0.0
    for row in range(rows):
        total += influence[row] * influence[row]
    for lag in range(1, lags + 1):
        product = 0.0
        for row in range(lag, rows):
            product += influence[row] * influence[row - lag]
        total += 2.0 * (1.0 - lag / (lags + 1.0)) * product
    return total / rows


@njit(cache=True, nogil=True)
def drawdowns(levels: Any) -> Any:
    """Every fall below a former peak: rows of the peak, the trough and the recovery (-1: not yet), and the depths.

    Also the deepest fall as a share of its peak, the longest in rows, and the rows spent below a peak.
    """
    rows = levels.size
    count = 0
    falling = False
    for row in range(1, rows):
        if not falling and levels[row] < levels[row - 1]:
            count += 1
            falling = True
            top = levels[row - 1]
        elif falling and levels[row] >= top:
            falling = False
    places, depths = np.full((count, 3), NEVER, np.int64), np.zeros(count)
    at, peak, below, longest = -1, 0, 0, 0
    falling = False
    for row in range(1, rows):
        if not falling:
            if levels[row] < levels[row - 1]:
                at += 1
                falling = True
                peak = row - 1
                places[at, PEAK] = peak
        elif levels[row] >= levels[peak]:
            places[at, RECOVERY] = row
            falling = False
        if falling:
            below += 1
            longest = max(longest, row - peak)
            depth = 1.0 - levels[row] / levels[peak]
            if depth > depths[at]:
                depths[at], places[at, TROUGH] = depth, row
    return places, depths, longest, below


@njit(cache=True, nogil=True)
def resampled(returns: Any, begins: Any, starts: Any) -> Any:
    """Growth, mean, deviation and deepest fall of histories made of blocks; one row a sample.

    ``begins`` says where a new block begins, ``starts`` with which row.
    """
    samples, rows = starts.shape
    found = np.empty((samples, 4))
    for sample in range(samples):
        level, peak, worst, total, squares = 1.0, 1.0, 0.0, 0.0, 0.0
        row = 0
        for place in range(rows):
            row = starts[sample, place] if place == 0 or begins[sample, place] else (row + 1) % rows
            value = returns[row]
            total += value
            squares += value * value
            level *= 1.0 + value
            peak = max(peak, level)
            worst = max(worst, 1.0 - level / peak)
        mean = total / rows
        found[sample, 0], found[sample, 1] = level, mean
        found[sample, 2] = math.sqrt(max(squares - rows * mean * mean, 0.0) / max(rows - 1, 1))
        found[sample, 3] = worst
    return found
