"""Kernels of bowls: a parabola through closes, rounding tops and bottoms, cups with handle."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.charts.pattern_kernels import append, highest_since, volume_recedes, wait

ROUNDING: Final = 0
CUP: Final = 0


@njit(cache=True, nogil=True)
def bowl(close: Any, first: Any, last: Any, way: Any) -> Any:
    """The parabola by least squares through the closes of rows ``first`` to ``last``, in the mirror of ``way``.

    Returns R squared, the place of its lowest point (-1 at the first row, 1 at the last) and the share of the closes'
    squared distance from two straight lines, first close to lowest close to last close, that it leaves. R squared is
    -1 where the curve is no bowl.
    """
    rows = last - first + 1
    half = (rows - 1) / 2.0
    total, lowest, bottom = 0.0, np.inf, first
    for t in range(first, last + 1):
        value = way * close[t]
        total += value
        if value < lowest:
            lowest, bottom = value, t
    mean = total / rows
    squares, fourths, with_x, with_xx, spread = 0.0, 0.0, 0.0, 0.0, 0.0
    for t in range(first, last + 1):
        x = (t - first) / half - 1.0
        value = way * close[t] - mean
        squares += x * x
        fourths += x * x * x * x
        with_x += x * value
        with_xx += x * x * value
        spread += value * value
    curvature = fourths - squares * squares / rows
    if not spread > 0.0 or bottom in (first, last):
        return -1.0, 0.0, 1.0
    # The cross terms vanish because the rows lie evenly about their middle and the values have mean zero.
    slope, bend = with_x / squares, with_xx / curvature
    if not bend > 0.0:
        return -1.0, 0.0, 1.0
    left = spread - slope * slope * squares - bend * bend * curvature
    corner, begin, end = 0.0, way * close[first], way * close[last]
    for t in range(first, last + 1):
        if t <= bottom:
            line = begin + (lowest - begin) * (t - first) / (bottom - first)
        else:
            line = lowest + (end - lowest) * (t - bottom) / (last - bottom)
        corner += (way * close[t] - line) ** 2
    beyond = left / corner if corner > 0.0 else np.inf
    return 1.0 - left / spread, -slope / (2.0 * bend), beyond


@njit(cache=True, nogil=True)
def find_roundings(
    high: Any,
    low: Any,
    close: Any,
    volume: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    fit: Any,
    centre: Any,
    min_span: Any,
    max_span: Any,
    log: Any,
    prices: Any,
    waits: Any,
) -> Any:
    """From each rim to the first close beyond it: a finding where the closes between make a bowl."""
    rows, count, waiting = close.size, 0, 0
    for i in range(row.size):
        # At a high the bowl lies below it and speaks for rising prices.
        way, rim, first = side[i], side[i] * price[i], row[i]
        until = first + max_span + 1
        for t in range(confirmed[i] + 1, min(rows, until)):
            if not way * close[t] > rim:
                continue
            if t - first >= min_span:
                quality, lowest, beyond = bowl(close, first, t, way)
                bottom = -highest_since(high, low, -way, first, t)
                target = rim + (rim - bottom)
                if quality >= fit and abs(lowest) <= centre and beyond < 1.0 and way * close[t] < target:
                    # Volume is bowl-shaped too: less in the middle than at the rims (Bulkowski).
                    quarter = (t - first) // 4
                    dry = volume_recedes(volume, first, first + 2 * quarter)
                    score = (quality + 1.0 - abs(lowest) / centre + dry) / 3.0
                    values = (way * rim, way * target, way * bottom, score)
                    count = append(log, prices, count, ROUNDING, way, i, i, t, values)
            until = t
            break
        if until > rows:
            waiting = wait(waits, waiting, price[i], 0.0)
    return count, waiting


@njit(cache=True, nogil=True)
def find_cups(
    high: Any,
    low: Any,
    close: Any,
    volume: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    fit: Any,
    centre: Any,
    rims: Any,
    rise: Any,
    handle: Any,
    min_span: Any,
    max_span: Any,
    log: Any,
    prices: Any,
    waits: Any,
) -> Any:
    """A rise, a bowl between two rims of nearly one height, a shallow handle, and a close beyond the right rim."""
    rows, count, waiting = close.size, 0, 0
    for c in range(2, row.size):
        way, rim, right = side[c], side[c] * price[c], row[c]
        found, a = -1, c - 2
        bottom = way * price[c - 1]
        while a >= 0 and right - row[a] <= max_span:
            level = way * price[a]
            if level >= rim - rims * (rim - bottom):
                if level <= rim + rims * (rim - bottom) and right - row[a] >= min_span:
                    found = a
                break
            if a > 0:
                bottom = min(bottom, way * price[a - 1])
            a -= 2
        if found < 0:
            continue
        left = row[found]
        bottom = -highest_since(high, low, -way, left, right)
        depth = rim - bottom
        length = right - left
        before = max(0, left - length)
        base = -highest_since(high, low, -way, before, left)
        if way * price[found] - base < rise * depth:
            continue
        quality, lowest, beyond = bowl(close, left, right, way)
        if quality < fit or abs(lowest) > centre or beyond >= 1.0:
            continue
        lows = np.inf
        until = right + length // 2 + 1
        for t in range(right + 1, min(rows, until)):
            lows = min(lows, way * (low[t] if way > 0 else high[t]))
            if rim - lows > handle * depth:
                until = t
                break
            if t < confirmed[c] or not way * close[t] > rim:
                continue
            target = rim + depth
            if way * close[t] < target:
                level = 1.0 - abs(way * price[found] - rim) / (rims * depth)
                score = (quality + level + volume_recedes(volume, left, right)) / 3.0
                values = (way * rim, way * target, way * lows, score)
                count = append(log, prices, count, CUP, way, found, c, t, values)
            until = t
            break
        if until > rows:
            waiting = wait(waits, waiting, price[c], 0.0)
    return count, waiting


@njit(cache=True, nogil=True)
def lowest_between(high: Any, low: Any, way: Any, first: Any, last: Any) -> Any:
    """For each finding: the row of the lowest price between two rows, the highest where ``way`` is -1."""
    found = np.empty(first.size, np.int64)
    for i in range(first.size):
        least = np.inf
        for t in range(first[i], last[i] + 1):
            value = low[t] if way[i] > 0 else -high[t]
            if value < least:
                least, found[i] = value, t
    return found
