"""Kernels of price profiles: what was traded in rows of price, by period, by window and bar by bar.

A profile divides its own range, lowest low to highest high, into rows of one height, the lowest first. A bar's weight
is spread evenly over its low to high: two entries in an array of differences and one at each end, whatever its height,
so a profile costs bars + rows. Rows that differ by less than ``TIE`` of the whole are equally high.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

TIE: Final = 1e-9
_NOTHING: Final = 1e-12
"""A share of the whole below which a row holds what rounding has left of bars that passed it by."""


@njit(cache=True, nogil=True, inline="always")
def _row_of(place: Any, rows: Any) -> Any:
    # Places are not below 0, where cutting off would not be the floor.
    return min(int(place), rows - 1)


@njit(cache=True, nogil=True, inline="always")
def _last_row_of(place: Any, first: Any, rows: Any) -> Any:
    # What ends on the border of two rows does not reach into the upper one.
    row = int(place)
    if row == place:
        row -= 1
    return max(min(row, rows - 1), first)


@njit(cache=True, nogil=True)
def _add(
    low: Any, high: Any, weight: Any, begin: Any, end: Any, bottom: Any, scale: Any, edge: Any, slope: Any
) -> None:
    """Spread the weights of the bars ``begin`` to ``end``; ``scale`` is rows per price, ``bottom`` below all of them.

    The loop stands in here: a call a bar, inlined, costs four times as much.
    """
    rows = edge.size
    for t in range(begin, end):
        if not (weight[t] > 0.0 and low[t] <= high[t]):
            continue
        under, over = (low[t] - bottom) * scale, (high[t] - bottom) * scale
        first = _row_of(under, rows)
        last = _last_row_of(over, first, rows)
        if first == last:
            edge[first] += weight[t]
            continue
        whole = weight[t] / (over - under)
        edge[first] += whole * (first + 1 - under)
        edge[last] += whole * (over - last)
        if last > first + 1:
            # Only here is no row given more than the weight: a narrow bar's density would drown what else is summed.
            slope[first + 1] += whole
            slope[last] -= whole


@njit(cache=True, nogil=True)
def _sum_up(edge: Any, slope: Any, volume: Any) -> Any:
    """From differences to rows; the whole."""
    level, total = 0.0, 0.0
    for k in range(volume.size):
        level += slope[k]
        volume[k] = edge[k] + level
        total += volume[k]
    kept = 0.0
    for k in range(volume.size):
        if volume[k] <= _NOTHING * total:
            volume[k] = 0.0
        kept += volume[k]
    return kept


@njit(cache=True, nogil=True)
def spread(low: Any, high: Any, weight: Any, bottom: Any, height: Any, volume: Any) -> Any:
    """Fill the rows of one profile that begins at ``bottom`` with rows of ``height``; the sum of them.

    Examples
    --------
    >>> volume = np.empty(4)
    >>> spread(np.array([0.0, 1.0]), np.array([4.0, 1.0]), np.array([8.0, 5.0]), 0.0, 1.0, volume)
    13.0
    >>> volume.tolist()
    [2.0, 7.0, 2.0, 2.0]
    """
    edge, slope = np.zeros(volume.size), np.zeros(volume.size)
    _add(low, high, weight, 0, low.size, bottom, 1.0 / height, edge, slope)
    return _sum_up(edge, slope, volume)


@njit(cache=True, nogil=True)
def touch(low: Any, high: Any, bottom: Any, height: Any, volume: Any, reached: Any) -> Any:
    """Count each bracket once in each row between its low and its high; the sum of the counts.

    ``reached`` takes the first and the last row of each bracket.
    """
    volume[:] = 0.0
    total = 0.0
    for i in range(low.size):
        reached[i, 0] = _row_of((low[i] - bottom) / height, volume.size)
        reached[i, 1] = _last_row_of((high[i] - bottom) / height, reached[i, 0], volume.size)
        for k in range(reached[i, 0], reached[i, 1] + 1):
            volume[k] += 1.0
            total += 1.0
    return total


@njit(cache=True, nogil=True)
def control_row(volume: Any, total: Any) -> Any:
    """The highest row; of equal ones that nearest to the middle of the profile, then the lower one.

    Examples
    --------
    >>> control_row(np.array([1.0, 5.0, 2.0, 5.0, 1.0, 1.0]), 15.0)
    3
    """
    best, middle, found = volume.max(), 0.5 * (volume.size - 1), -1
    for k in range(volume.size):
        if volume[k] >= best - TIE * total and (found < 0 or abs(k - middle) < abs(found - middle)):
            found = k
    return found


@njit(cache=True, nogil=True)
def value_rows(volume: Any, total: Any, control: Any, share: Any, together: Any) -> Any:
    """The first and the last row around ``control`` that hold ``share`` of the whole.

    Of the ``together`` rows above and the ``together`` rows below, those that hold more come next, all of them at once;
    the upper ones where both hold the same. At a border of the profile there may be fewer.

    Examples
    --------
    >>> value_rows(np.array([1.0, 2.0, 9.0, 3.0, 3.0, 2.0]), 20.0, 2, 0.7, 2)
    (2, 4)
    """
    first, last, held = control, control, volume[control]
    # Rounding must not ask for one more row than the share does.
    wanted = (share - _NOTHING) * total
    while held < wanted and (first > 0 or last < volume.size - 1):
        above, below = 0.0, 0.0
        for k in range(last + 1, min(last + together, volume.size - 1) + 1):
            above += volume[k]
        for k in range(max(first - together, 0), first):
            below += volume[k]
        if last < volume.size - 1 and (first == 0 or above >= below - TIE * total):
            last = min(last + together, volume.size - 1)
            held += above
        else:
            first = max(first - together, 0)
            held += below
    return first, last


@njit(cache=True, nogil=True)
def profile_nodes(volume: Any, total: Any, size: Any, row: Any, side: Any) -> Any:
    """Local extremes that stand out by ``size``, from the lowest up: high nodes (1) and low nodes (-1) in turn.

    A high node is a row from which the profile falls by ``size`` on both sides before it gets higher, its prominence;
    beyond the profile nothing is traded. A low node is the lowest row between two of them. Of equal rows side by side
    the middle one. ``row`` and ``side`` hold as many as there are rows; returns how many were found.

    Examples
    --------
    >>> row, side = np.empty(6, np.int64), np.empty(6, np.int8)
    >>> count = profile_nodes(np.array([1.0, 6.0, 2.0, 3.0, 9.0, 0.0]), 21.0, 3.0, row, side)
    >>> row[:count].tolist(), side[:count].tolist()
    ([1, 2, 4], [1, -1, 1])
    """
    count, seeking, extreme, begin, end = 0, 1, 0.0, 0, 0
    tie = TIE * total
    for k in range(volume.size):
        ahead = seeking * (volume[k] - extreme)
        if ahead > tie or k == 0:
            extreme, begin, end = volume[k], k, k
        elif ahead >= -tie and end == k - 1:
            end = k
        elif -ahead >= size:
            row[count], side[count] = (begin + end) // 2, seeking
            count += 1
            seeking, extreme, begin, end = -seeking, volume[k], k, k
    if seeking > 0 and extreme >= size:
        row[count], side[count] = (begin + end) // 2, 1
        count += 1
    return count


@njit(cache=True, nogil=True)
def _range(low: Any, high: Any, begin: Any, end: Any) -> Any:
    bottom, top = np.inf, -np.inf
    for t in range(begin, end):
        if low[t] < bottom:
            bottom = low[t]
        if high[t] > top:
            top = high[t]
    return bottom, top


@njit(cache=True, nogil=True)
def _fill(
    low: Any, high: Any, weight: Any, begin: Any, end: Any, bottom: Any, top: Any, edge: Any, slope: Any, volume: Any
) -> Any:
    """One profile of the rows ``begin`` to ``end``; the whole, 0 where it has no range or nothing was traded."""
    volume[:] = 0.0
    if not (top > bottom and top - bottom < np.inf):
        return 0.0
    edge[:], slope[:] = 0.0, 0.0
    scale = volume.size / (top - bottom)
    _add(low, high, weight, begin, end, bottom, scale, edge, slope)
    return _sum_up(edge, slope, volume)


@njit(cache=True, nogil=True)
def period_profiles(
    low: Any, high: Any, weight: Any, first: Any, share: Any, together: Any,
    bottom: Any, height: Any, volume: Any, total: Any, control: Any, lowest: Any, highest: Any,
) -> None:  # fmt: skip
    """The profile of each period but the last, which is not over: ``first`` says at which rows they begin."""
    rows = volume.shape[1]
    edge, slope = np.empty(rows), np.empty(rows)
    for p in range(first.size):
        total[p], control[p], lowest[p], highest[p] = 0.0, -1, -1, -1
        bottom[p], height[p] = np.nan, np.nan
        if p == first.size - 1:
            volume[p] = 0.0
            continue
        under, over = _range(low, high, first[p], first[p + 1])
        total[p] = _fill(low, high, weight, first[p], first[p + 1], under, over, edge, slope, volume[p])
        if total[p] > 0.0:
            bottom[p], height[p] = under, (over - under) / rows
            control[p] = control_row(volume[p], total[p])
            lowest[p], highest[p] = value_rows(volume[p], total[p], control[p], share, together)


@njit(cache=True, nogil=True)
def developing_profiles(
    low: Any, high: Any, weight: Any, begins: Any, longest: Any, rows: Any, share: Any, together: Any, result: Any
) -> None:
    """By bar, of its period so far: the price of the point of control, and both edges of the value area.

    ``begins`` is the row at which each bar's period began. Rows are summed on while the range stays and anew where a
    bar widens it, always in the order of the bars: so the last bar of a period has the profile of the whole period.
    """
    edge, slope, volume = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    bottom, top, begun = np.inf, -np.inf, -1
    for t in range(low.size):
        result[:, t] = np.nan
        if begins[t] != begun:
            bottom, top, begun = np.inf, -np.inf, begins[t]
        if t - begun >= longest:
            continue
        wider = low[t] < bottom or high[t] > top
        if low[t] < bottom:
            bottom = low[t]
        if high[t] > top:
            top = high[t]
        if wider:
            total = _fill(low, high, weight, begun, t + 1, bottom, top, edge, slope, volume)
        elif top > bottom and top - bottom < np.inf:
            _add(low, high, weight, t, t + 1, bottom, rows / (top - bottom), edge, slope)
            total = _sum_up(edge, slope, volume)
        else:
            total = 0.0
        if total > 0.0:
            control = control_row(volume, total)
            first, last = value_rows(volume, total, control, share, together)
            height = (top - bottom) / rows
            result[0, t] = bottom + (control + 0.5) * height
            result[1, t], result[2, t] = bottom + first * height, bottom + (last + 1) * height


@njit(cache=True, nogil=True)
def rolling_profiles(
    low: Any, high: Any, weight: Any, window: Any, rows: Any, share: Any, together: Any, result: Any
) -> None:
    """By bar, of the last ``window`` bars: point of control, both edges of the value area, skewness, and the range.

    Each window divides its own range, so nothing of the one before can be kept: a bar costs window + rows.
    """
    edge, slope, volume = np.empty(rows), np.empty(rows), np.empty(rows)
    for t in range(low.size):
        result[:, t] = np.nan
        if t + 1 < window:
            continue
        bottom, top = _range(low, high, t - window + 1, t + 1)
        total = _fill(low, high, weight, t - window + 1, t + 1, bottom, top, edge, slope, volume)
        if not total > 0.0:
            continue
        control = control_row(volume, total)
        first, last = value_rows(volume, total, control, share, together)
        height = (top - bottom) / rows
        result[0, t] = bottom + (control + 0.5) * height
        result[1, t], result[2, t] = bottom + first * height, bottom + (last + 1) * height
        result[4, t] = top - bottom
        mean = 0.0
        for k in range(rows):
            mean += k * volume[k] / total
        second, third = 0.0, 0.0
        for k in range(rows):
            away = k - mean
            second += away * away * volume[k] / total
            third += away * away * away * volume[k] / total
        result[3, t] = third / second**1.5 if second > _NOTHING else 0.0


@njit(cache=True, nogil=True)
def all_nodes(volume: Any, total: Any, share: Any, chosen: Any, profile: Any, row: Any, side: Any) -> Any:
    """The nodes of the chosen profiles whose prominence is ``share`` of their highest row, one after the other."""
    count = 0
    for p in range(total.size):
        if chosen[p]:
            found = profile_nodes(volume[p], total[p], share * volume[p].max(), row[count:], side[count:])
            profile[count : count + found] = p
            count += found
    return count


@njit(cache=True, nogil=True)
def first_trades(low: Any, high: Any, known: Any, price: Any) -> Any:
    """The first row from ``known`` on whose bar trades the price, -1 where none does; ``known`` ascends.

    Prices not yet traded are kept in order, so that a bar finds those it trades by halving.
    """
    hit = np.full(known.size, -1)
    waiting, numbers = np.empty(known.size), np.empty(known.size, np.int64)
    size, following = 0, 0
    for t in range(low.size):
        while following < known.size and known[following] <= t:
            place = size
            while place and waiting[place - 1] > price[following]:
                waiting[place], numbers[place] = waiting[place - 1], numbers[place - 1]
                place -= 1
            waiting[place], numbers[place] = price[following], following
            size += 1
            following += 1
        if not size:
            continue
        begin = np.searchsorted(waiting[:size], low[t])
        end = begin
        while end < size and waiting[end] <= high[t]:
            hit[numbers[end]] = t
            end += 1
        if end > begin:
            for k in range(end, size):
                waiting[begin + k - end], numbers[begin + k - end] = waiting[k], numbers[k]
            size -= end - begin
    return hit
