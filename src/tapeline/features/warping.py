"""Dynamic time warping in a band, and the bound that spares most of it.

Sakoe and Chiba, IEEE Transactions on Acoustics, Speech and Signal Processing 26 (1978); the lower bound: Keogh and
Ratanamahatana, Knowledge and Information Systems 7 (2005).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def warping_distance(first: Floats, second: Floats, band: int) -> float:
    """Dynamic time warping distance of two series of equal length: the root of the least sum of squared differences.

    A warping path pairs values at most ``band`` places apart; a band of 0 gives the Euclidean distance, one of the
    length less 1 any path. Two series of unequal length are infinitely far apart.

    Examples
    --------
    >>> a, b = np.array([0.0, 0.0, 1.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0, 1.0, 1.0])
    >>> float(warping_distance(a, b, 0)), float(warping_distance(a, b, 1))
    (1.7320508075688772, 0.0)
    """
    size = first.size
    if second.size != size:
        return np.inf
    if size == 0:
        return 0.0
    before, now = np.full(size + 1, np.inf), np.full(size + 1, np.inf)
    before[0] = 0.0
    for i in range(size):
        start, end = max(0, i - band), min(size, i + band + 1)
        now[start] = np.inf
        for j in range(start, end):
            away = first[i] - second[j]
            now[j + 1] = away * away + min(before[j], before[j + 1], now[j])
        # Beyond the band nothing may be reached from the next row.
        if end < size:
            now[end + 1] = np.inf
        before, now = now, before
    return np.sqrt(before[size])


@njit(cache=True, nogil=True)
def envelope(values: Floats, band: int) -> tuple[Floats, Floats]:
    """The lowest and the highest value within ``band`` places of each.

    Examples
    --------
    >>> low, high = envelope(np.array([1.0, 3.0, 2.0]), 1)
    >>> low.tolist(), high.tolist()
    ([1.0, 1.0, 2.0], [3.0, 3.0, 3.0])
    """
    low, high = np.empty(values.size), np.empty(values.size)
    for i in range(values.size):
        near = values[max(0, i - band) : i + band + 1]
        low[i], high[i] = near.min(), near.max()
    return low, high


@njit(cache=True, nogil=True)
def envelope_bound(low: Floats, high: Floats, values: Floats) -> float:
    """A lower bound of the warping distance to the series whose envelope is given: how far values leave it.

    Examples
    --------
    >>> envelope_bound(np.zeros(3), np.ones(3), np.array([0.5, 4.0, -4.0]))
    5.0
    """
    total = 0.0
    for i in range(values.size):
        if values[i] > high[i]:
            total += (values[i] - high[i]) ** 2
        elif values[i] < low[i]:
            total += (low[i] - values[i]) ** 2
    return np.sqrt(total)
