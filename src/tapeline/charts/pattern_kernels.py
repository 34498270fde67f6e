"""Kernels that read chart patterns off pivots and wait for the close that completes each.

Every kernel looks at each run of pivots once, in a mirror in which the side it speaks of is up, and appends what it
finds to two logs: whole numbers (see ``LOG``) and prices (see ``PRICES``). It returns how many findings they hold. Of
findings of one class and direction that the same bar completes, the one with the highest score is kept.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

LOG: Final = 5
"""Whole numbers a finding: its class, its direction, the places of its first and its last pivot, its row."""

PRICES: Final = 4
"""Prices a finding: the border broken, target, stop, and its score last."""

HEAD_AND_SHOULDERS: Final = 0
DOUBLE: Final = 1
TRIPLE: Final = 2

ASCENDING_TRIANGLE: Final = 0
DESCENDING_TRIANGLE: Final = 1
SYMMETRICAL_TRIANGLE: Final = 2
RISING_WEDGE: Final = 3
FALLING_WEDGE: Final = 4
RECTANGLE: Final = 5
BROADENING: Final = 6
RISING_BROADENING: Final = 7
FALLING_BROADENING: Final = 8

FLAG: Final = 0
PENNANT: Final = 1

_NEIGHBOURS: Final = 16


@njit(cache=True, nogil=True)
def append(log: Any, prices: Any, count: Any, kind: Any, way: Any, first: Any, last: Any, at: Any, values: Any) -> Any:
    """Write a finding down; of those of one class, direction and row the one with the highest score stays."""
    slot = count
    for earlier in range(count - 1, max(-1, count - 1 - _NEIGHBOURS), -1):
        if log[earlier, 0] == kind and log[earlier, 1] == way and log[earlier, 4] == at:
            if prices[earlier, PRICES - 1] >= values[PRICES - 1]:
                return count
            slot = earlier
            break
    log[slot, 0], log[slot, 1], log[slot, 2], log[slot, 3], log[slot, 4] = kind, way, first, last, at
    for j in range(PRICES):
        prices[slot, j] = values[j]
    return max(count, slot + 1)


@njit(cache=True, nogil=True)
def wait(waits: Any, count: Any, level: Any, slope: Any) -> Any:
    """Write down a border that a later close may yet break: its price at the last row, and how far it moves a bar."""
    waits[count, 0], waits[count, 1] = level, slope
    return count + 1


@njit(cache=True, nogil=True)
def volume_recedes(volume: Any, first: Any, last: Any) -> Any:
    """1 where the later half of the rows traded less a bar than the earlier one, 0 where not, a half where unknown."""
    middle = (first + last + 1) // 2
    early, late = 0.0, 0.0
    for t in range(first, middle):
        early += volume[t]
    for t in range(middle, last + 1):
        late += volume[t]
    if middle == first or np.isnan(early) or np.isnan(late) or early + late <= 0.0:
        return 0.5
    return 1.0 if late / (last + 1 - middle) < early / (middle - first) else 0.0


@njit(cache=True, nogil=True)
def highest_since(high: Any, low: Any, way: Any, first: Any, last: Any) -> Any:
    """In the mirror of ``way``: the highest price of these rows."""
    most = -np.inf
    for t in range(first, last + 1):
        most = max(most, way * (high[t] if way > 0 else low[t]))
    return most


@njit(cache=True, nogil=True)
def find_reversals(
    close: Any,
    volume: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    shape: Any,
    tolerance: Any,
    head: Any,
    max_wait: Any,
    max_span: Any,
    log: Any,
    prices: Any,
    waits: Any,
) -> Any:
    """Head and shoulders, double and triple tops, and the same upside down; completed by a close through the neck."""
    rows, count, waiting = close.size, 0, 0
    before = 3 if shape == DOUBLE else 5
    for last in range(before, row.size):
        s, first = side[last], last - before + 1
        if row[last] - row[first] > max_span:
            continue
        e0, e1, e2, e3 = s * price[first - 1], s * price[first], s * price[first + 1], s * price[first + 2]
        r1, r2, r3 = row[first], row[first + 1], row[first + 2]
        slope, neck, limit = 0.0, e2, max(e1, e3)
        if shape == DOUBLE:
            height = limit - e2
            if height <= 0.0:
                continue
            uneven = abs(e1 - e3) / height
            even = min(r2 - r1, r3 - r2) / max(r2 - r1, r3 - r2)
            if e0 >= e2 or uneven > tolerance:
                continue
        else:
            e4, e5 = s * price[first + 3], s * price[first + 4]
            r4, r5 = row[first + 3], row[first + 4]
            even = min(r3 - r1, r5 - r3) / max(r3 - r1, r5 - r3)
            if e0 >= min(e2, e4):
                continue
            if shape == TRIPLE:
                limit = max(limit, e5)
                neck = min(e2, e4)
                height = limit - neck
                if height <= 0.0:
                    continue
                uneven = (limit - min(e1, min(e3, e5))) / height
                if uneven > tolerance:
                    continue
            else:
                slope = (e4 - e2) / (r4 - r2)
                height = e3 - (e2 + slope * (r3 - r2))
                if height <= 0.0:
                    continue
                uneven = max(abs(e1 - e5), abs(e2 - e4)) / height
                if uneven > tolerance or e3 - max(e1, e5) <= head * height:
                    continue
                limit = e5
        until = confirmed[last] + max_wait + 1
        for t in range(confirmed[last], min(rows, until)):
            value = s * close[t]
            border = neck + slope * (t - r2)
            if value > limit:
                until = t
                break
            if value < border:
                target = border - height
                if value > target:
                    recedes = volume_recedes(volume, r1, row[last])
                    score = (1.0 - uneven / tolerance + even + recedes) / 3.0
                    values = (s * border, s * target, s * limit, score)
                    count = append(log, prices, count, shape, -s, first, last, t, values)
                until = t
                break
        if until > rows:
            waiting = wait(waits, waiting, s * (neck + slope * (rows - 1 - r2)), s * slope)
    return count, waiting


@njit(cache=True, nogil=True)
def _border_class(upper: Any, lower: Any, narrowing: Any, flat: Any, narrow: Any) -> Any:
    """What two borders make, by how far each moves over the pattern as a share of its height; -1 for nothing named."""
    if abs(upper) <= flat and abs(lower) <= flat:
        return RECTANGLE
    if abs(upper) <= flat:
        return ASCENDING_TRIANGLE if lower > 0.0 else FALLING_BROADENING
    if abs(lower) <= flat:
        return DESCENDING_TRIANGLE if upper < 0.0 else RISING_BROADENING
    if upper < 0.0 < lower:
        return SYMMETRICAL_TRIANGLE
    if lower < 0.0 < upper:
        return BROADENING
    if narrowing <= narrow:
        return RISING_WEDGE if upper > 0.0 else FALLING_WEDGE
    return -1


@njit(cache=True, nogil=True)
def find_borders(
    high: Any,
    low: Any,
    close: Any,
    volume: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    tolerance: Any,
    flat: Any,
    narrow: Any,
    max_wait: Any,
    max_span: Any,
    log: Any,
    prices: Any,
    waits: Any,
) -> Any:
    """Triangles, wedges, rectangles and broadening formations: five touches of two borders, then a close beyond one."""
    rows, count, waiting = close.size, 0, 0
    for last in range(4, row.size):
        s = side[last]
        x1, x2, x3, x4, x5 = row[last - 4], row[last - 3], row[last - 2], row[last - 1], row[last]
        span = x5 - x1
        if span > max_span:
            continue
        # In the mirror the first, third and fifth pivot are highs.
        e1, e2, e3 = s * price[last - 4], s * price[last - 3], s * price[last - 2]
        e4, e5 = s * price[last - 1], s * price[last]
        height = max(e1, max(e3, e5)) - min(e2, e4)
        # Where nothing has moved for so long that the mean range is zero, pivots may lie on one price.
        if height <= 0.0:
            continue
        near, far = (e5 - e1) / span, (e4 - e2) / (x4 - x2)
        off = abs(e3 - (e1 + near * (x3 - x1))) / height
        begins, ends = e1 - (e2 + far * (x1 - x2)), e5 - (e2 + far * (x5 - x2))
        if off > tolerance or begins <= 0.0 or ends <= 0.0:
            continue
        upper, lower = near * span / height, far * span / height
        if s < 0:
            upper, lower = -lower, -upper
        kind = _border_class(upper, lower, ends / begins, flat, narrow)
        if kind < 0:
            continue
        until = confirmed[last] + max_wait + 1
        if far > near:
            # Where the borders meet there is nothing left to break.
            until = min(until, x5 + int(min(ends / (far - near), 1e9)) + 1)
        for t in range(confirmed[last], min(rows, until)):
            value = s * close[t]
            top, bottom = e1 + near * (t - x1), e2 + far * (t - x2)
            if bottom <= value <= top or np.isnan(value):
                continue
            up = value > top
            border = top if up else bottom
            way = s if up else -s
            target = border + height if up else border - height
            if (kind == RISING_WEDGE and way < 0) or (kind == FALLING_WEDGE and way > 0):
                # The farthest price of the wedge on the side to which it breaks.
                target = max(e1, max(e3, e5)) if up else min(e2, e4)
            # Behind the last turn on the other side, and behind whatever was traded since.
            behind = -highest_since(high, low, -way, x4 if up else x5, t)
            if way * close[t] < way * s * target and behind < way * close[t]:
                shortest = min(min(x2 - x1, x3 - x2), min(x4 - x3, x5 - x4))
                longest = max(max(x2 - x1, x3 - x2), max(x4 - x3, x5 - x4))
                score = (1.0 - off / tolerance + shortest / longest + volume_recedes(volume, x1, x5)) / 3.0
                values = (s * border, s * target, way * behind, score)
                count = append(log, prices, count, kind, way, last - 4, last, t, values)
            until = t
            break
        if until > rows:
            waiting = wait(waits, waiting, s * (e1 + near * (rows - 1 - x1)), s * near)
            waiting = wait(waits, waiting, s * (e2 + far * (rows - 1 - x2)), s * far)
    return count, waiting


@njit(cache=True, nogil=True)
def find_flags(
    close: Any,
    volume: Any,
    usual: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    pole_ranges: Any,
    max_pole: Any,
    max_flag: Any,
    depth: Any,
    narrow: Any,
    max_wait: Any,
    log: Any,
    prices: Any,
    waits: Any,
) -> Any:
    """A steep pole and a small pause against it, then a close beyond the pause along the pole."""
    rows, count, waiting = close.size, 0, 0
    for last in range(4, row.size):
        s = -side[last]
        x0, x1, x2, x3, x4 = row[last - 4], row[last - 3], row[last - 2], row[last - 1], row[last]
        if x1 - x0 > max_pole or x4 - x1 > max_flag:
            continue
        # In the mirror the pole rises from the first pivot to the second.
        e0, e1, e2 = s * price[last - 4], s * price[last - 3], s * price[last - 2]
        e3, e4 = s * price[last - 1], s * price[last]
        pole, bottom = e1 - e0, min(e2, e4)
        # The range before the pole: the pole itself has made that of its own bars wide.
        if not (usual[x0] > 0.0 and pole >= pole_ranges * usual[x0]) or e1 - bottom > depth * pole:
            continue
        upper, lower = (e3 - e1) / (x3 - x1), (e4 - e2) / (x4 - x2)
        begins, ends = e1 - (e2 + lower * (x1 - x2)), (e1 + upper * (x4 - x1)) - e4
        if begins <= 0.0 or ends <= 0.0:
            continue
        if ends <= narrow * begins and upper < 0.0:
            kind = PENNANT
        elif narrow * begins < ends <= begins / narrow and upper <= 0.0 and e4 <= e2 + 0.25 * begins:
            kind = FLAG
        else:
            continue
        until = confirmed[last] + max_wait + 1
        for t in range(confirmed[last], min(rows, until)):
            value = s * close[t]
            border = e1 + upper * (t - x1)
            if value < bottom:
                until = t
                break
            if value > border:
                target = bottom + pole
                if value < target:
                    even = min(x3 - x1, x4 - x2) / max(x3 - x1, x4 - x2)
                    shallow = 1.0 - (e1 - bottom) / (depth * pole)
                    score = (shallow + even + volume_recedes(volume, x0, x4)) / 3.0
                    values = (s * border, s * target, s * bottom, score)
                    count = append(log, prices, count, kind, s, last - 4, last, t, values)
                until = t
                break
        if until > rows:
            waiting = wait(waits, waiting, s * (e1 + upper * (rows - 1 - x1)), s * upper)
    return count, waiting
