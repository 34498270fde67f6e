"""Kernels of supply and demand: bases between two impulses, and what price did at the zones they left."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

DENSE: Final = 8
"""A side: distance to the nearest zone, its strength, tests, the share of it traded back through; demand first."""


@njit(cache=True, nogil=True, inline="always")
def _is_base(opened: Any, high: Any, low: Any, close: Any, unit: Any, t: Any, body: Any, narrow: Any) -> Any:
    height = high[t] - low[t]
    return t > 0 and abs(close[t] - opened[t]) <= body * height and height <= narrow * unit[t - 1]


@njit(cache=True, nogil=True)
def find_bases(
    opened: Any,
    high: Any,
    low: Any,
    close: Any,
    volume: Any,
    unit: Any,
    longest: Any,
    body: Any,
    narrow: Any,
    leg: Any,
    impulse: Any,
    integers: Any,
    numbers: Any,
) -> Any:
    """Every base that an impulse led to and another one left; how many.

    ``integers``: first and last row of the base, row that confirmed, direction it was left in, direction it was
    reached in. ``numbers``: low, high, score. Both hold a row a base, in the order of the bases.
    """
    count = 0
    t = 2
    rows = high.size
    while t < rows:
        if not _is_base(opened, high, low, close, unit, t, body, narrow):
            t += 1
            continue
        first = t
        while t < rows and _is_base(opened, high, low, close, unit, t, body, narrow):
            t += 1
        last = t - 1
        measure = unit[first - 1]
        # Where the bar before could not be judged, the run may have begun earlier.
        if last - first >= longest or first < leg or not (unit[first - 2] >= 0.0 and measure > 0.0):
            continue
        bottom, top, traded = low[first], high[first], 0.0
        for j in range(first, last + 1):
            bottom, top = min(bottom, low[j]), max(top, high[j])
            traded += volume[j]
        risen, fallen = 0.0, 0.0
        for j in range(first - leg, first):
            risen, fallen = max(risen, close[first - 1] - low[j]), max(fallen, high[j] - close[first - 1])
        if max(risen, fallen) < impulse * measure:
            continue
        side, leaving = 0, 0.0
        for j in range(last + 1, min(rows, last + leg + 1)):
            now = 1 if close[j] > top else -1 if close[j] < bottom else 0
            if now == -side and side != 0:
                break
            side = now if now != 0 else side
            leaving += volume[j]
            gone = max(close[j] - top, bottom - close[j])
            if gone < impulse * measure or not gone > 0.0:
                continue
            integers[count, 0], integers[count, 1], integers[count, 2] = first, last, j
            integers[count, 3], integers[count, 4] = now, 1 if risen >= fallen else -1
            speed = gone / ((j - last) * measure)
            parts = speed / (1.0 + speed) + measure / (measure + top - bottom)
            kinds = 2.0
            usual, paid = traded / (last - first + 1), leaving / (j - last)
            if usual + paid > 0.0:
                parts += paid / (usual + paid)
                kinds += 1.0
            numbers[count, 0], numbers[count, 1], numbers[count, 2] = bottom, top, parts / kinds
            count += 1
            break
    return count


@njit(cache=True, nogil=True)
def follow_zones(
    high: Any,
    low: Any,
    close: Any,
    unit: Any,
    known: Any,
    side: Any,
    bottom: Any,
    top: Any,
    score: Any,
    max_age: Any,
    farthest: Any,
    ended: Any,
    broken: Any,
    tests: Any,
    share: Any,
    tested: Any,
    dense: Any,
) -> Any:
    """Walk through all bars and fill in what became of each zone; how many tests ``tested`` holds.

    Parameters
    ----------
    known, side, bottom, top, score:
        The zones in the order of their confirmation; ``side`` 1 demand.
    ended, broken, tests, share:
        A zone: the row it ended at (-1 none), whether by a close through it, how often price returned to it, the
        largest share of it that was traded back through.
    tested:
        A return: (zone, row, its number). Must hold a row for each, at most one a bar and zone.
    dense:
        (rows, ``DENSE``), filled where it has rows.
    """
    active, inside = np.empty(known.size, np.int64), np.zeros(known.size, np.bool_)
    size, following, count = 0, 0, 0
    for t in range(high.size):
        kept = 0
        for k in range(size):
            i = active[k]
            near = low[t] if side[i] > 0 else high[t]
            border, far = (top[i], bottom[i]) if side[i] > 0 else (bottom[i], top[i])
            met = side[i] * (near - border) <= 0.0
            if met:
                height = top[i] - bottom[i]
                reached = min(side[i] * (border - near) / height, 1.0) if height > 0.0 else 1.0
                share[i] = max(share[i], reached)
                if not inside[i]:
                    inside[i] = True
                    tests[i] += 1
                    if count < tested.shape[0]:
                        tested[count, 0], tested[count, 1], tested[count, 2] = i, t, tests[i]
                    count += 1
            elif side[i] * (near - border) > 0.0:
                inside[i] = False
            if side[i] * (close[t] - far) < 0.0:
                ended[i], broken[i] = t, True
            elif t - known[i] >= max_age:
                ended[i] = t
            else:
                active[kept] = i
                kept += 1
        size = kept
        while following < known.size and known[following] <= t:
            active[size] = following
            size += 1
            following += 1
        if dense.shape[0]:
            _read(active, size, close[t], unit[t], side, bottom, top, score, tests, share, farthest, dense[t])
    return count


@njit(cache=True, nogil=True)
def _read(
    active: Any,
    size: Any,
    close: Any,
    unit: Any,
    side: Any,
    bottom: Any,
    top: Any,
    score: Any,
    tests: Any,
    share: Any,
    farthest: Any,
    line: Any,
) -> None:
    line[:] = 0.0
    line[0], line[4] = farthest, farthest
    if not unit > 0.0:
        line[:] = np.nan
        return
    for k in range(size):
        i = active[k]
        part, border = (0, top[i]) if side[i] > 0 else (4, bottom[i])
        distance = side[i] * (close - border) / unit
        if distance < line[part]:
            line[part], line[part + 1], line[part + 2], line[part + 3] = distance, score[i], tests[i], share[i]
