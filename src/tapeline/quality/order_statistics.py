"""Order statistics of a moving window: the last values kept in ascending order, so that quantiles are read off."""

from __future__ import annotations

import numpy as np
from numba import njit

MAD_TO_SIGMA = 1.4826
"""Times this the median absolute deviation is a standard deviation under the normal distribution."""

MEAN_DEVIATION_TO_SIGMA = 1.2533
"""Times this the mean absolute deviation is a standard deviation under the normal distribution."""


@njit(cache=True)
def push(ordered: np.ndarray, ring: np.ndarray, seen: int, value: float) -> int:
    """Put a value into the window and drop the oldest one where it is full; gives how many it holds then.

    ``ordered`` and ``ring`` have the window's length, ``seen`` is how many values were put in before.
    """
    window = ring.size
    slot = seen % window
    count = min(seen, window)
    if count == window:
        gone = np.searchsorted(ordered, ring[slot])
        for k in range(gone, count - 1):
            ordered[k] = ordered[k + 1]
        count -= 1
    place = np.searchsorted(ordered[:count], value)
    for k in range(count, place, -1):
        ordered[k] = ordered[k - 1]
    ordered[place] = value
    ring[slot] = value
    return count + 1


@njit(cache=True)
def median(ordered: np.ndarray, count: int) -> float:
    """The median of the first ``count`` ascending values."""
    half = count // 2
    return ordered[half] if count % 2 else 0.5 * (ordered[half - 1] + ordered[half])


@njit(cache=True)
def quantile(ordered: np.ndarray, count: int, share: float) -> float:
    """A quantile of the first ``count`` ascending values, linear between neighbours as numpy's default is."""
    place = share * (count - 1)
    low = int(place)
    if low + 1 >= count:
        return ordered[count - 1]
    return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])


@njit(cache=True)
def median_deviation(ordered: np.ndarray, count: int, middle: float) -> float:
    """The median of ``|x - middle|``, found by walking outwards from the middle of the ascending values."""
    right = np.searchsorted(ordered[:count], middle)
    left = right - 1
    half = count // 2
    last = 0.0
    here = 0.0
    for _ in range(half + 1):
        last = here
        if left < 0 or (right < count and ordered[right] - middle < middle - ordered[left]):
            here = ordered[right] - middle
            right += 1
        else:
            here = middle - ordered[left]
            left -= 1
    return here if count % 2 else 0.5 * (last + here)


@njit(cache=True)
def robust_scale(ordered: np.ndarray, count: int, middle: float) -> float:
    """A robust standard deviation: the MAD's, or the mean absolute deviation's where more than half are equal."""
    scale = MAD_TO_SIGMA * median_deviation(ordered, count, middle)
    if scale == 0.0:
        total = 0.0
        for k in range(count):
            total += abs(ordered[k] - middle)
        scale = MEAN_DEVIATION_TO_SIGMA * total / count
    return scale
