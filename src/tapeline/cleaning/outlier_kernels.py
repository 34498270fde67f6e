"""Kernels of the outlier methods: what the past of each value says about where it should lie."""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.quality.order_statistics import (
    MAD_TO_SIGMA,
    MEAN_DEVIATION_TO_SIGMA,
    median,
    push,
    quantile,
    robust_scale,
)


@njit(cache=True)
def past_moments(values: np.ndarray, window: int, minimum: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the last ``window`` values before each (all of them where it is 0)."""
    n = values.size
    centre, scale = np.full(n, np.nan), np.full(n, np.nan)
    ring = np.empty(max(window, 1))
    count, slot, mean, squares = 0, 0, 0.0, 0.0
    for i in range(n):
        if count >= minimum and count > 1:
            centre[i] = mean
            scale[i] = np.sqrt(max(squares, 0.0) / (count - 1))
        x = values[i]
        if np.isnan(x):
            continue
        if window > 0 and count == window:
            gone = ring[slot]
            rest = mean - (gone - mean) / (count - 1) if count > 1 else 0.0
            squares -= (gone - mean) * (gone - rest)
            mean = rest
            count -= 1
        # Welford's update keeps the sum of squares accurate where plain sums would cancel.
        count += 1
        step = x - mean
        mean += step / count
        squares += step * (x - mean)
        if window > 0:
            ring[slot] = x
            slot = (slot + 1) % window
            if slot == 0:
                # Once a turn the moments are taken afresh, so that rounding cannot pile up.
                mean = float(np.mean(ring))
                squares = float(np.sum((ring - mean) ** 2))
    return centre, scale


@njit(cache=True)
def past_order(values: np.ndarray, window: int, minimum: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median, robust standard deviation and quartiles of the last ``window`` values before each."""
    n = values.size
    middle, scale = np.full(n, np.nan), np.full(n, np.nan)
    low, high = np.full(n, np.nan), np.full(n, np.nan)
    ring, ordered = np.empty(window), np.empty(window)
    count, seen = 0, 0
    for i in range(n):
        if count >= minimum:
            middle[i] = median(ordered, count)
            scale[i] = robust_scale(ordered, count, middle[i])
            low[i], high[i] = quantile(ordered, count, 0.25), quantile(ordered, count, 0.75)
        if not np.isnan(values[i]):
            count = push(ordered, ring, seen, values[i])
            seen += 1
    return middle, scale, low, high


@njit(cache=True)
def past_order_expanding(
    ranks: np.ndarray, ordered: np.ndarray, minimum: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same over all values before each, in O(log^2 n) a value.

    Parameters
    ----------
    ranks:
        For each value its place in ``ordered``, -1 where it is missing. Equal values have places of their own.
    ordered:
        All present values, ascending. Later values stand in it and are never counted before their turn: a Fenwick
        tree over the places holds the values seen so far (P. M. Fenwick, Softw. Pract. Exper. 24 (1994), 327-336).
    """
    n = ranks.size
    middle, scale = np.full(n, np.nan), np.full(n, np.nan)
    low, high = np.full(n, np.nan), np.full(n, np.nan)
    tree = np.zeros(ordered.size + 1, dtype=np.int64)
    top = 1
    while top * 2 <= ordered.size:
        top *= 2
    count, total, about = 0, 0.0, np.nan
    for i in range(n):
        if count >= minimum:
            middle[i] = _seen_quantile(tree, top, ordered, count, 0.5)
            low[i] = _seen_quantile(tree, top, ordered, count, 0.25)
            high[i] = _seen_quantile(tree, top, ordered, count, 0.75)
            scale[i] = MAD_TO_SIGMA * _seen_deviation(tree, top, ordered, count, middle[i])
            if scale[i] == 0.0:
                # More than half of the values equal the median, so that it rarely moves: the sum is kept.
                if middle[i] != about:
                    about, total = middle[i], 0.0
                    for k in range(count):
                        total += abs(_seen(tree, top, ordered, k) - about)
                scale[i] = MEAN_DEVIATION_TO_SIGMA * total / count
        if ranks[i] >= 0:
            place = ranks[i] + 1
            while place < tree.size:
                tree[place] += 1
                place += place & -place
            count += 1
            if not np.isnan(about):
                total += abs(ordered[ranks[i]] - about)
    return middle, scale, low, high


@njit(cache=True)
def _seen(tree: np.ndarray, top: int, ordered: np.ndarray, k: int) -> float:
    """The ``k``-th smallest value seen, from 0."""
    place, left, step = 0, k, top
    while step > 0:
        if place + step < tree.size and tree[place + step] <= left:
            place += step
            left -= tree[place]
        step //= 2
    return ordered[place]


@njit(cache=True)
def _seen_quantile(tree: np.ndarray, top: int, ordered: np.ndarray, count: int, share: float) -> float:
    place = share * (count - 1)
    low = int(place)
    first = _seen(tree, top, ordered, low)
    if place == low:
        return first
    second = _seen(tree, top, ordered, low + 1)
    # Half way between two values the sum is halved, as a median is; elsewhere as numpy's linear quantile.
    return 0.5 * (first + second) if share == 0.5 else first + (place - low) * (second - first)


@njit(cache=True)
def _seen_deviation(tree: np.ndarray, top: int, ordered: np.ndarray, count: int, middle: float) -> float:
    """The median of ``|x - middle|`` over the values seen.

    The ``m`` values nearest to the middle are a run of the ascending values; the run's left end is found by bisection,
    and its farther end is the ``m``-th smallest distance.
    """
    upper = _nearest(tree, top, ordered, count, middle, count // 2 + 1)
    if count % 2:
        return upper
    return 0.5 * (_nearest(tree, top, ordered, count, middle, count // 2) + upper)


@njit(cache=True)
def _nearest(tree: np.ndarray, top: int, ordered: np.ndarray, count: int, middle: float, m: int) -> float:
    low, high = 0, count - m
    while low < high:
        start = (low + high) // 2
        if middle - _seen(tree, top, ordered, start) > _seen(tree, top, ordered, start + m) - middle:
            low = start + 1
        else:
            high = start
    return max(middle - _seen(tree, top, ordered, low), _seen(tree, top, ordered, low + m - 1) - middle)
