"""Kernels under the event frames: content hashes, what stands at each bar, and when a level was first crossed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

EMPTY: Final = -1
_FAN: Final = 16
_DEEPEST: Final = 16
"""Sixteen rows to a block and sixteen blocks to a larger one: more rows than there are have fewer depths."""


@njit(cache=True, nogil=True, inline="always")
def _mixed(state: np.uint64, value: np.uint64) -> np.uint64:
    # The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the output.
    z = (state ^ value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def _hashes(seed: Any, integers: Any, bits: Any) -> Any:
    rows = integers.shape[0]
    result = np.empty(rows, np.uint64)
    for i in range(rows):
        state = np.uint64(seed)
        for j in range(integers.shape[1]):
            state = _mixed(state, np.uint64(integers[i, j]))
        for j in range(bits.shape[1]):
            state = _mixed(state, np.uint64(bits[i, j]))
        result[i] = state
    return result


def event_hashes(
    seed: np.uint64,
    direction: Any,
    start: Any,
    end: Any,
    confirmed: Any,
    low: Any,
    high: Any,
    point_times: Any,
    point_prices: Any,
) -> Any:
    """A 64-bit content hash a finding, the same on every machine.

    Examples
    --------
    >>> one, ten = np.array([1]), np.array([10.0])
    >>> none = np.empty((1, 0))
    >>> int(event_hashes(np.uint64(7), one, one, one, one, ten, ten, none.astype(np.int64), none)[0]) > 0
    True
    """
    integers = np.column_stack((direction.astype(np.int64), start, end, confirmed, point_times))
    # Plus 0.0, so that -0.0 and 0.0 are one number; a NaN is put down as one pattern of bits.
    prices = np.column_stack((low, high, point_prices)) + 0.0
    prices[np.isnan(prices)] = np.nan
    return _hashes(seed, integers, np.ascontiguousarray(prices).view(np.int64))


@njit(cache=True, nogil=True)
def hexadecimal(values: Any) -> Any:
    """The sixteen digits of each value, one behind the other, as ASCII.

    Examples
    --------
    >>> bytes(hexadecimal(np.array([255], np.uint64)))
    b'00000000000000ff'
    """
    result = np.empty(16 * values.size, np.uint8)
    for i in range(values.size):
        value = values[i]
        for j in range(16):
            digit = (value >> np.uint64(60 - 4 * j)) & np.uint64(15)
            result[16 * i + j] = digit + np.uint64(48 if digit < np.uint64(10) else 87)
    return result


@njit(cache=True, nogil=True)
def newest_standing(known: Any, gone: Any, rows: Any) -> Any:
    """How many findings stand at each row, and which of them is the newest (-1 none).

    ``known`` ascends. A finding stands from its row ``known`` up to, not including, its row ``gone``.
    """
    change = np.zeros(rows + 1, np.int64)
    newest = np.full(rows, EMPTY)
    stack = np.empty(known.size, np.int64)
    size, following, count = 0, 0, 0
    for t in range(rows):
        while following < known.size and known[following] <= t:
            if gone[following] > t:
                stack[size] = following
                size += 1
                count += 1
                change[min(gone[following], rows)] -= 1
            following += 1
        count += change[t]
        # Those below the top may have gone as well; they are dropped when they come to the top.
        while size and gone[stack[size - 1]] <= t:
            size -= 1
        if size:
            newest[t] = stack[size - 1]
        change[t] = count
    return change[:rows], newest


@njit(cache=True, nogil=True)
def advance_crossings(
    sign: Any,
    strict: Any,
    values: Any,
    begin: Any,
    end: Any,
    known: Any,
    level: Any,
    count: Any,
    stack: Any,
    state: Any,
    hit: Any,
) -> None:
    """Walk on through the rows ``begin`` to ``end`` and note at which each level is first reached.

    A level counts from the row after ``known``. With ``sign`` 1 it is reached from below, ``values >= level``, with -1
    from above; ``strict`` asks for more than touching. ``known`` ascends; levels are kept in a stack with the nearest
    on top, so that a row costs what it reaches and a new level what it is out of order: the levels of gaps, swings
    and zones come nearest last, which makes it linear.

    ``state`` holds (how many levels were admitted, the size of the stack) between calls; ``hit`` is filled in place.
    """
    following, size = state[0], state[1]
    for t in range(begin, end):
        value = sign * values[t]
        while size:
            near = sign * level[stack[size - 1]]
            if not (value > near or (value == near and not strict)):
                break
            size -= 1
            hit[stack[size]] = t
        while following < count and known[following] <= t:
            place = size
            mine = sign * level[following]
            while place and sign * level[stack[place - 1]] < mine:
                stack[place] = stack[place - 1]
                place -= 1
            stack[place] = following
            size += 1
            following += 1
    state[0], state[1] = following, size


def first_crossings(sign: int, values: Any, known: Any, level: Any, *, strict: bool = False) -> Any:
    """The first row after ``known`` at which ``values`` reach ``level``, -1 where none does.

    Parameters
    ----------
    sign:
        1: reached by rising to it; -1: by falling to it.
    values:
        One number a row.
    known, level:
        One of each a level; ``known`` ascends.
    strict:
        The value must go beyond the level.

    Examples
    --------
    >>> first_crossings(1, np.array([1.0, 3.0, 2.0, 3.0]), np.array([1, 1]), np.array([3.0, 2.0])).tolist()
    [3, 2]
    """
    side = np.full(known.size, sign, np.int8)
    return _first_crossings(side, strict, values, values, known, level)


def first_returns(direction: Any, low: Any, high: Any, known: Any, level: Any, *, strict: bool = False) -> Any:
    """As :func:`first_crossings`, for levels of both sides at once: price comes back to each from where it went.

    Parameters
    ----------
    direction:
        Of each level: 1 where price lies above it and ``low`` must fall to it, -1 where ``high`` must rise to it.

    Examples
    --------
    >>> low, high = np.array([1.0, 3.0, 2.0]), np.array([2.0, 4.0, 3.0])
    >>> first_returns(np.array([1, -1], np.int8), low, high, np.array([0, 0]), np.array([2.0, 3.5])).tolist()
    [2, 1]
    """
    return _first_crossings(-direction, strict, high, low, known, level)


@njit(cache=True, nogil=True)
def _extremes(values: Any, sign: Any) -> Any:
    """The farthest value of every 16 rows, then of every 16 of those, one behind the other; NaN is passed over."""
    size, total = values.size, 0
    while size > _FAN:
        size = (size + _FAN - 1) // _FAN
        total += size
    tree, begin, below = np.empty(total), 0, values.size
    source, from_rows = values, True
    while below > _FAN:
        size = (below + _FAN - 1) // _FAN
        made = tree[begin : begin + size]
        turn = sign if from_rows else 1.0
        for i in range(size):
            block = source[_FAN * i : min(_FAN * i + _FAN, below)]
            best = -np.inf
            for value in block:
                turned = turn * value
                best = turned if turned > best else best
            made[i] = best
        source, begin, below, from_rows = made, begin + size, size, False
    return tree


@njit(cache=True, nogil=True)
def _depths(rows: Any) -> Any:
    """Where each depth begins among the extremes, and how many it has; the rows themselves are depth 0."""
    begins, sizes = np.zeros(_DEEPEST, np.int64), np.zeros(_DEEPEST, np.int64)
    begin, deepest = 0, 0
    sizes[0] = rows
    while sizes[deepest] > _FAN:
        deepest += 1
        sizes[deepest] = (sizes[deepest - 1] + _FAN - 1) // _FAN
        begins[deepest] = begin
        begin += sizes[deepest]
    return begins[: deepest + 1], sizes[: deepest + 1]


@njit(cache=True, nogil=True)
def _first_crossings(side: Any, strict: Any, rising: Any, falling: Any, known: Any, level: Any) -> Any:
    """Each level is looked for in the next rows one by one, and from there on by whole blocks of rows."""
    rows = rising.size
    hit = np.full(known.size, EMPTY)
    trees = np.empty(0), np.empty(0)
    built_up, built_down = False, False
    begins, sizes = _depths(rows)
    for i in range(known.size):
        up = side[i] > 0
        sign, goal = (1.0, level[i]) if up else (-1.0, -level[i])
        values = rising if up else falling
        t = max(known[i], 0) + 1
        soon = min(t + _FAN, rows)
        while t < soon:
            value = sign * values[t]
            if value > goal or (value == goal and not strict):
                hit[i] = t
                break
            t += 1
        if hit[i] != EMPTY or t >= rows:
            continue
        if up and not built_up:
            trees, built_up = (_extremes(rising, 1.0), trees[1]), True
        if not up and not built_down:
            trees, built_down = (trees[0], _extremes(falling, -1.0)), True
        hit[i] = _climb(sign, strict, values, trees[0] if up else trees[1], begins, sizes, t, goal)
    return hit


@njit(cache=True, nogil=True)
def _climb(sign: Any, strict: Any, values: Any, tree: Any, begins: Any, sizes: Any, t: Any, goal: Any) -> Any:
    """The first row from ``t`` on that reaches the goal: up to ever larger blocks until one does, then down into it."""
    depth, deepest = 0, sizes.size - 1
    while True:
        found = False
        stop = sizes[depth] if depth == deepest else min((t // _FAN + 1) * _FAN, sizes[depth])
        while t < stop:
            value = sign * values[t] if depth == 0 else tree[begins[depth] + t]
            if value > goal or (value == goal and not strict):
                found = True
                break
            t += 1
        if found and depth == 0:
            return t
        if found:
            depth, t = depth - 1, t * _FAN
        elif depth == deepest:
            return EMPTY
        else:
            # The next block of the same parent's level: all rows before it have been looked at.
            depth, t = depth + 1, (t + _FAN - 1) // _FAN
