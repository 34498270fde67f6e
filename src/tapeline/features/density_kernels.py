"""Compiled loops over where price has been: a kernel density of the last prices, and clusters of turning prices."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import Floats

CELLS = 96
"""Cells of the grid between the lowest and the highest price of a window; a bandwidth covers 5 or more of them."""

REACH = 4.0
"""Bandwidths beyond which a price adds nothing: the normal density there is exp(-8) of its height."""


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _spread(prices: Floats, weights: Floats) -> tuple[float, float, float, float, float]:
    """Sum of the weights, their squares' sum, weighted mean and deviation; and the largest price's size."""
    total, squares, moment, largest = 0.0, 0.0, 0.0, 0.0
    for j in range(prices.size):
        total += weights[j]
        squares += weights[j] * weights[j]
        moment += weights[j] * prices[j]
        largest = max(largest, abs(prices[j]))
    mean = moment / total if total > 0.0 else np.nan
    away = 0.0
    for j in range(prices.size):
        away += weights[j] * (prices[j] - mean) ** 2
    return total, squares, mean, np.sqrt(away / total) if total > 0.0 else np.nan, largest


@njit(cache=True, nogil=True)
def _binned(prices: Floats, weights: Floats, low: float, step: float, cells: Floats) -> None:
    """Each weight split between the two grid points beside its price."""
    cells[:] = 0.0
    last = cells.size - 1
    for j in range(prices.size):
        place = (prices[j] - low) / step
        k = min(int(place), last - 1)
        part = min(place - k, 1.0)
        cells[k] += weights[j] * (1.0 - part)
        cells[k + 1] += weights[j] * part


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _smoothed(cells: Floats, bell: Floats, smooth: Floats) -> None:
    # The bell lies in the middle of 2 * reach + 1 places; the cells have reach zeros on either side.
    for k in range(smooth.size):
        total = 0.0
        for m in range(bell.size):
            total += bell[m] * cells[k + m]
        smooth[k] = total


@njit(cache=True, nogil=True)
def rolling_density(
    prices: Floats, weights: Floats, at: Floats, window: int, floor: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Gaussian kernel density of the last ``window`` prices, weighted; Scott's bandwidth for their effective number.

    Parameters
    ----------
    at:
        The price at which the density is asked for, bar by bar.
    floor:
        Windows whose deviation is not above this share of their largest price give NaN, as those without weight do.

    Returns
    -------
    The density at ``at`` over the one at the highest mode; the signed distance of ``at`` above that mode and above
    the nearest mode, in weighted standard deviations of the prices; and the number of modes at least a tenth as high
    as the highest.

    Examples
    --------
    >>> prices = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 3.0])
    >>> density, highest, nearest, modes = rolling_density(prices, np.ones(6), prices, 6, 0.0)
    >>> round(float(highest[-1]), 1), abs(round(float(nearest[-1]), 1)), float(modes[-1])
    (2.1, 0.1, 2.0)
    """
    size = prices.size
    shares, to_highest = np.full(size, np.nan), np.full(size, np.nan)
    to_nearest, counts = np.full(size, np.nan), np.full(size, np.nan)
    smooth = np.empty(CELLS)
    for i in range(window - 1, size):
        recent, heavy = prices[i - window + 1 : i + 1], weights[i - window + 1 : i + 1]
        total, squares, _, deviation, largest = _spread(recent, heavy)
        if not (total > 0.0 and deviation > floor * largest):
            continue
        effective = total * total / squares
        # The sample deviation, as the weighted covariance of reliability weights has it.
        sample = deviation / np.sqrt(1.0 - 1.0 / effective) if effective > 1.0 + 1e-9 else deviation
        bandwidth = sample * effective**-0.2
        low, high = recent.min(), recent.max()
        step = (high - low) / (CELLS - 1)
        reach = int(min(np.ceil(REACH * bandwidth / step), 4 * CELLS))
        bell = np.empty(2 * reach + 1)
        for m in range(reach + 1):
            bell[reach + m] = bell[reach - m] = np.exp(-0.5 * (m * step / bandwidth) ** 2)
        cells = np.zeros(CELLS + 2 * reach)
        _binned(recent, heavy, low, step, cells[reach : reach + CELLS])
        _smoothed(cells, bell, smooth)
        best = 0
        for k in range(CELLS):
            if smooth[k] > smooth[best]:
                best = k
        modes, nearest = 0, np.inf
        for k in range(CELLS):
            left = smooth[k - 1] if k > 0 else -1.0
            right = smooth[k + 1] if k < CELLS - 1 else -1.0
            if smooth[k] > left and smooth[k] >= right and smooth[k] >= 0.1 * smooth[best]:
                modes += 1
                away = at[i] - low - k * step
                if abs(away) < abs(nearest):
                    nearest = away
        here = 0.0
        for j in range(window):
            u = (at[i] - recent[j]) / bandwidth
            if abs(u) < 2.0 * REACH:
                here += heavy[j] * np.exp(-0.5 * u * u)
        shares[i] = min(here / smooth[best], 1.0)
        to_highest[i] = (at[i] - low - best * step) / deviation
        to_nearest[i] = nearest / deviation
        counts[i] = modes
    return shares, to_highest, to_nearest, counts


@njit(cache=True, nogil=True)
def cluster_sorted(values: Floats, size: int, reach: float, minimum: int, marks: NDArray[np.int64]) -> int:
    """Clusters of sorted numbers by density (DBSCAN in one dimension).

    A number with ``minimum`` numbers, itself included, within ``reach`` is a core; cores within ``reach`` of one
    another share a cluster; what lies within ``reach`` of a core joins its cluster, the lower one of two.

    Parameters
    ----------
    values, size:
        Sorted numbers, the first ``size`` of which count.
    marks:
        Where the clusters are written: 0, 1, ... from the lowest on, -1 for what belongs to none.

    Returns
    -------
    The number of clusters.

    Examples
    --------
    >>> marks = np.empty(6, dtype=np.int64)
    >>> cluster_sorted(np.array([1.0, 1.1, 1.2, 2.0, 3.0, 3.1]), 6, 0.15, 2, marks), marks.tolist()
    (2, [0, 0, 0, -1, 1, 1])
    """
    count, last = 0, -1
    first, behind = 0, 0
    for k in range(size):
        marks[k] = -1
    for k in range(size):
        while values[k] - values[first] > reach:
            first += 1
        behind = max(behind, k)
        while behind + 1 < size and values[behind + 1] - values[k] <= reach:
            behind += 1
        if behind - first + 1 < minimum:
            continue
        if last < 0 or values[k] - values[last] > reach:
            count += 1
        last = k
        for m in range(first, behind + 1):
            if marks[m] < 0:
                marks[m] = count - 1
    return count


@njit(cache=True, nogil=True)
def turning_levels(
    high: Floats,
    low: Floats,
    close: Floats,
    unit: Floats,
    span: int,
    window: int,
    reach: float,
    minimum: int,
    far: float,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Distances to the nearest clusters of turning prices above and below the close, and how many turns made each.

    A high turns where it is above the ``span`` highs before it and not below the ``span`` after it, a low likewise;
    it counts from the bar that confirms it, as long as all these bars lie within the last ``window``. Clusters are
    those of :func:`cluster_sorted` with ``reach`` units of the bar; a cluster's level is the mean of its prices.

    Returns
    -------
    Distance up to the nearest level above the close and its turns, distance down to the nearest at or below it and its
    turns; distances in units, at most ``far``. ``far`` and 0 turns where there is none as near. NaN where the unit is.

    Examples
    --------
    >>> high = np.array([2.0, 3.0, 2.0, 3.0, 2.0, 2.5])
    >>> up, turns, down, _ = turning_levels(high, high - 0.5, high - 0.2, np.ones(6), 1, 6, 0.3, 2, 9.0)
    >>> up[-1].round(3), turns[-1], down[-1].round(3)
    (np.float64(0.7), np.float64(2.0), np.float64(0.8))
    """
    size = high.size
    above, above_turns = np.full(size, np.nan), np.full(size, np.nan)
    below, below_turns = np.full(size, np.nan), np.full(size, np.nan)
    # Two turns at one bar at most.
    prices, rows = np.empty(2 * window + 2), np.empty(2 * window + 2, dtype=np.int64)
    marks = np.empty(2 * window + 2, dtype=np.int64)
    held = 0
    for i in range(size):
        middle = i - span
        if middle >= span:
            for side in (1.0, -1.0):
                values = high if side > 0.0 else low
                now = side * values[middle]
                turned = True
                for j in range(1, span + 1):
                    if not (now > side * values[middle - j]) or not (now >= side * values[middle + j]):
                        turned = False
                        break
                if turned:
                    place = held
                    while place > 0 and prices[place - 1] > values[middle]:
                        prices[place], rows[place] = prices[place - 1], rows[place - 1]
                        place -= 1
                    prices[place], rows[place] = values[middle], middle
                    held += 1
        kept = 0
        for k in range(held):
            if rows[k] - span > i - window:
                prices[kept], rows[kept] = prices[k], rows[k]
                kept += 1
        held = kept
        if i < window - 1 or not unit[i] > 0.0:
            continue
        above[i], above_turns[i], below[i], below_turns[i] = far, 0.0, far, 0.0
        cluster_sorted(prices, held, reach * unit[i], minimum, marks)
        k = 0
        while k < held:
            mark, total, count = marks[k], 0.0, 0
            while k < held and marks[k] == mark:
                total += prices[k] - close[i]
                count += 1
                k += 1
            if mark < 0:
                continue
            away = total / count / unit[i]
            if away > 0.0 and away < above[i]:
                above[i], above_turns[i] = away, count
            elif away <= 0.0 and -away < below[i]:
                below[i], below_turns[i] = -away, count
    return above, above_turns, below, below_turns
