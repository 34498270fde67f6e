"""Kernels of the search for analogues: normalised windows, distances to past ones, the nearest that do not overlap."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import Floats
from tapeline.features.warping import envelope, envelope_bound, warping_distance

_CHUNK: Final = 4096


@njit(cache=True, nogil=True)
def normalised_windows(returns: Floats, window: int, first: int, end: int) -> tuple[Floats, Floats]:
    """Windows of the price path that end at the rows ``first`` to ``end - 1``, each of mean 0 and deviation 1.

    Parameters
    ----------
    returns:
        Log returns; the path of a window adds up the ``window - 1`` returns after its first bar.

    Returns
    -------
    ``(window, end - first)``, a column a window, and each window's deviation before it was taken out. A window that
    begins before the first row, holds a NaN or hardly moves (a deviation below 1e-8) is NaN with a deviation of 0.

    Examples
    --------
    >>> windows, deviation = normalised_windows(np.array([np.nan, 0.1, 0.2]), 3, 2, 3)
    >>> windows[:, 0].round(3).tolist(), deviation.round(3).tolist()
    ([-1.069, -0.267, 1.336], [0.125])
    """
    windows, deviations = np.full((window, end - first), np.nan), np.zeros(end - first)
    path = np.empty(window)
    for row in range(max(first, window - 1), end):
        path[0] = 0.0
        mean = 0.0
        for k in range(1, window):
            path[k] = path[k - 1] + returns[row - window + 1 + k]
            mean += path[k]
        mean /= window
        square = 0.0
        for k in range(window):
            path[k] -= mean
            square += path[k] * path[k]
        deviation = np.sqrt(square / window)
        if deviation > 1e-8:
            deviations[row - first] = deviation
            for k in range(window):
                windows[k, row - first] = path[k] / deviation
    return windows, deviations


@njit(cache=True, nogil=True)
def nearest_apart(distances: Floats, count: int, apart: int) -> NDArray[np.int64]:
    """The places of the ``count`` smallest distances, each at least ``apart`` from those chosen before it.

    Of equal distances the later place is chosen; NaN never is. -1 where there are no more. ``distances`` is used up.

    Examples
    --------
    >>> nearest_apart(np.array([3.0, 1.0, 1.5, 2.0]), 3, 2).tolist()
    [1, 3, -1]
    """
    chosen = np.full(count, -1, dtype=np.int64)
    for k in range(count):
        best, place = np.inf, -1
        for j in range(distances.size):
            if distances[j] <= best and distances[j] < np.inf:
                best, place = distances[j], j
        if place < 0:
            break
        chosen[k] = place
        distances[max(0, place - apart + 1) : place + apart] = np.inf
    return chosen


@njit(cache=True, nogil=True)
def nearest_warped(
    windows: Floats, current: Floats, count: int, apart: int, band: int
) -> tuple[NDArray[np.int64], Floats, int]:
    """The nearest columns by time warping, chosen as :func:`nearest_apart` does, with few distances worked out.

    Every column starts with its lower bound. The column with the smallest number is looked at next: if that number is
    its distance it is chosen, if it is a bound the distance takes its place. What is never looked at cannot be nearer.

    Returns
    -------
    The places, their distances, and how many distances were worked out.

    Examples
    --------
    >>> columns = np.array([[0.0, 5.0, 0.0], [1.0, 5.0, 0.0], [0.0, 5.0, 1.0]])
    >>> places, distances, worked = nearest_warped(columns, np.array([0.0, 0.0, 1.0]), 1, 1, 1)
    >>> places.tolist(), distances.tolist(), worked
    ([2], [0.0], 2)
    """
    low, high = envelope(current, band)
    numbers, known = np.full(windows.shape[1], np.inf), np.zeros(windows.shape[1], dtype=np.bool_)
    for j in range(windows.shape[1]):
        if not np.isnan(windows[0, j]):
            numbers[j] = envelope_bound(low, high, windows[:, j])
    chosen, found, worked = np.full(count, -1, dtype=np.int64), np.full(count, np.nan), 0
    k = 0
    while k < count:
        best, place = np.inf, -1
        for j in range(numbers.size):
            # Of equal numbers a bound goes first: its distance may be equal too, at a later place.
            if numbers[j] < best or (numbers[j] == best and best < np.inf and (known[place] or not known[j])):
                best, place = numbers[j], j
        if place < 0:
            break
        if not known[place]:
            numbers[place], known[place] = warping_distance(current, windows[:, place], band), True
            worked += 1
            continue
        chosen[k], found[k] = place, best
        for j in range(max(0, place - apart + 1), min(numbers.size, place + apart)):
            numbers[j] = np.inf
        k += 1
    return chosen, found, worked


@njit(cache=True, nogil=True)
def column_distances(windows: Floats, column: int, first: int, end: int, out: Floats) -> None:
    """Euclidean distance of one column to each from ``first`` to ``end - 1``, into ``out``; terms in one order always.

    Examples
    --------
    >>> out = np.empty(2)
    >>> column_distances(np.array([[0.0, 3.0, 1.0], [0.0, 4.0, 0.0]]), 0, 1, 3, out)
    >>> out.tolist()
    [5.0, 1.0]
    """
    out[:] = 0.0
    for k in range(windows.shape[0]):
        own = windows[k, column]
        row = windows[k, first:end]
        for j in range(end - first):
            away = row[j] - own
            out[j] += away * away
    for j in range(end - first):
        out[j] = np.sqrt(out[j])


@njit(cache=True, nogil=True)
def analogue_outcomes(
    returns: Floats, window: int, history: int, count: int, horizon: int, band: int
) -> tuple[Floats, Floats, Floats]:
    """What followed the nearest past windows of each bar's own: mean outcome, share that rose, mean distance.

    Candidates end ``horizon`` bars ago or earlier, so that what followed them is known, a whole window ago or earlier,
    so that none overlaps the current one, and less than ``history`` bars ago with all of their bars.

    Parameters
    ----------
    band:
        Of the warping distance; -1 for the Euclidean one.

    Returns
    -------
    Outcomes are log returns over the deviation of the analogue's own path, held to -10 to 10; the distance is over
    ``sqrt(window)``. NaN where there are not ``count`` candidates apart, or where the current window does not move.

    Examples
    --------
    >>> saw = np.tile([0.1, 0.1, -0.1, -0.1], 12)
    >>> outcome, rose, distance = analogue_outcomes(saw, 4, 40, 3, 2, -1)
    >>> bool(outcome[-1] > 0), float(rose[-1]), bool(distance[-1] < 1e-6)
    (True, 1.0, True)
    """
    size = returns.size
    outcome, rose, distance = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    nearest_end = max(window, horizon)
    candidates = history - window - nearest_end + 1
    if candidates < 1:
        return outcome, rose, distance
    distances = np.empty(candidates)
    for begin in range(0, size, _CHUNK):
        origin = begin - history
        windows, deviations = normalised_windows(returns, window, origin, min(size, begin + _CHUNK))
        for row in range(max(begin, history - 1), min(size, begin + _CHUNK)):
            own, end = row - origin, row - origin - nearest_end + 1
            first = end - candidates
            if deviations[own] == 0.0:
                continue
            if band < 0:
                column_distances(windows, own, first, end, distances)
                places = nearest_apart(distances.copy(), count, window)
                found = distances
            else:
                places, near, _ = nearest_warped(windows[:, first:end], windows[:, own].copy(), count, window, band)
                found = distances
                for k in range(count):
                    if places[k] >= 0:
                        found[places[k]] = near[k]
            if places[count - 1] < 0:
                continue
            total, up, away = 0.0, 0.0, 0.0
            for place in places:
                last = origin + first + place
                moved = 0.0
                for j in range(last + 1, last + horizon + 1):
                    moved += returns[j]
                moved /= deviations[first + place]
                total += min(max(moved, -10.0), 10.0)
                up += 1.0 if moved > 0.0 else 0.0
                away += found[place]
            outcome[row], rose[row] = total / count, up / count
            distance[row] = away / (count * np.sqrt(window))
    return outcome, rose, distance
