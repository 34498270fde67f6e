"""Compiled loops of the microstructure features."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats

_SQUARE: Final = 3.0 - 2.0 * math.sqrt(2.0)
_FRESH: Final = 4_096
"""Bars after which running sums start afresh, so that what is long past costs them no digits."""


@njit(cache=True, nogil=True)
def window_sums(values: Floats, window: int) -> Floats:
    """Sum of the last ``window`` values, at a cost that does not grow with the window and without any subtraction.

    The series is cut into blocks of ``window``: each sum is the end of one block and the beginning of the next (the
    scheme of van Herk and of Gil and Werman for extremes). So a spike or a NaN is in the windows that hold it and
    leaves nothing behind.

    Examples
    --------
    >>> window_sums(np.array([1.0, 2.0, 4.0, 8.0]), 2)
    array([nan,  3.,  6., 12.])
    """
    size = values.size
    result = np.full(size, np.nan)
    ends = np.zeros(window + 1)
    for first in range(0, size, window):
        beginning = 0.0
        for i in range(first, min(first + window, size)):
            beginning += values[i]
            taken = i - first + 1
            if first > 0 or taken == window:
                result[i] = ends[taken] + beginning if taken < window else beginning
        if first + window <= size:
            total = 0.0
            for j in range(window - 1, -1, -1):
                total += values[first + j]
                ends[j] = total
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def high_low_spreads(high: Floats, low: Floats, close: Floats) -> Floats:
    """Corwin and Schultz's spread of each bar with the one before it, as a share of price, negative ones included.

    A gap between the bars is taken out first: where the low lies above the close before, or the high below it, the
    bar is moved by the difference.

    Examples
    --------
    >>> high_low_spreads(np.array([1.02, 1.02]), np.array([1.0, 1.0]), np.array([1.01, 1.01])).round(4)
    array([   nan, 0.0198])
    """
    spreads = np.full(high.size, np.nan)
    before = 0.0
    for i in range(high.size):
        own = math.log(high[i] / low[i])
        if i > 0:
            top, bottom = high[i], low[i]
            gap = max(bottom - close[i - 1], 0.0) + min(top - close[i - 1], 0.0)
            top, bottom = top - gap, bottom - gap
            moved = math.log(top / bottom) if gap != 0.0 else own
            beta = before * before + moved * moved
            gamma = math.log(max(top, high[i - 1]) / min(bottom, low[i - 1])) ** 2
            alpha = (math.sqrt(2.0 * beta) - math.sqrt(beta)) / _SQUARE - math.sqrt(gamma / _SQUARE)
            spreads[i] = 2.0 * math.tanh(0.5 * alpha)
        before = own
    return spreads


@njit(cache=True, nogil=True, error_model="numpy")
def bucketed_imbalance(volume: Floats, signed: Floats, window: int, buckets: int) -> Floats:
    """VPIN of each window: its volume cut into ``buckets`` equal parts in time order, mean size of their imbalance.

    A bar that lies in two buckets gives each its share of volume and imbalance. NaN in a window without volume.

    Parameters
    ----------
    volume, signed:
        Volume of each bar, and bought less sold.

    Examples
    --------
    >>> bucketed_imbalance(np.array([1.0, 1.0, 2.0]), np.array([1.0, -1.0, 1.0]), 3, 2)
    array([ nan,  nan, 0.25])
    """
    size = volume.size
    result = np.full(size, np.nan)
    totals, known = window_sums(volume, window), window_sums(signed, window)
    # Sums from the last fresh start on: of volume, and of imbalance. A bucket's border is a mix of the sums at the
    # window's ends, and these only grow; so the bar that holds a border is looked for from where it was before.
    volumes, imbalances = np.zeros(size + 1), np.zeros(size + 1)
    places = np.zeros(buckets, dtype=np.int64)
    for i in range(window - 1, size):
        first = i - window + 1
        start = i if first % _FRESH else first
        if start == first:
            volumes[first], imbalances[first] = 0.0, 0.0
            places[:] = first
        for j in range(start, i + 1):
            unknown = np.isnan(volume[j]) or np.isnan(signed[j])
            volumes[j + 1] = volumes[j] + (0.0 if unknown else volume[j])
            imbalances[j + 1] = imbalances[j] + (0.0 if unknown else signed[j])
        total = totals[i]
        if not total > 0.0 or np.isnan(known[i]):
            continue
        room = total / buckets
        away, before = 0.0, imbalances[first]
        for bucket in range(1, buckets):
            border = volumes[first] + bucket * room
            place = max(places[bucket], first)
            # Nearly always by nought or one bar, which of the two nobody can guess: added instead of decided.
            place += np.int64(place < i) & np.int64(volumes[place + 1] <= border)
            while place < i and volumes[place + 1] <= border:
                place += 1
            places[bucket] = place
            part = (border - volumes[place]) / volume[place] if volume[place] > 0.0 else 0.0
            so_far = imbalances[place] + min(part, 1.0) * signed[place]
            away += abs(so_far - before)
            before = so_far
        away += abs(imbalances[i + 1] - before)
        result[i] = min(away / total, 1.0)
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def rolling_impact(change: Floats, flow: Floats, window: int) -> tuple[Floats, Floats]:
    """Slope of the least-squares line of changes on flow over the last ``window``, and slope times flow's deviation.

    The second is what one standard deviation of the flow moves. NaN where the flow does not vary or one is unknown.

    Examples
    --------
    >>> slope, moved = rolling_impact(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), 3)
    >>> slope.round(4), moved.round(4)
    (array([nan, nan, 0.1]), array([   nan,    nan, 0.8165]))
    """
    slopes, moved = np.full(change.size, np.nan), np.full(change.size, np.nan)
    sx, sy = window_sums(flow, window), window_sums(change, window)
    sxx, sxy = window_sums(flow * flow, window), window_sums(flow * change, window)
    for i in range(change.size):
        spread = sxx[i] - sx[i] * sx[i] / window
        if spread > 1e-12 * sxx[i]:
            together = sxy[i] - sx[i] * sy[i] / window
            slopes[i] = together / spread
            moved[i] = together / math.sqrt(spread * window)
    return slopes, moved
