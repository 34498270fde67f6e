"""Price levels by symbol and timeframe, sorted, so that a price costs the levels that it passes.

A list is cut into blocks of at most ``WIDTH`` levels, found by bisection over the blocks: joining and leaving cost the
same among a hundred and among a million. Equal levels stand in the order of their slots.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.alerts.engine.options import BORROWED, INNER

WIDTH: Final = 12
NOBODY: Final = -1
"""In place of a slot, list or symbol: none."""

LEVEL: Final = np.dtype(
    [
        ("fired_at", "i8"), ("joined", "i8"), ("rule", "i4"), ("symbol", "i4"), ("after", "i4"), ("truth", "u1"),
        ("status", "u1"), ("pad", "u1", (2,)),
    ]
)  # fmt: skip
"""What is remembered of one level, by slot. ``joined``: ascends as they come; ``after``: how many rules of the symbol's
set came before it; ``truth`` and ``status`` as of a condition and of a rule of a set."""

LEVEL_RULE: Final = np.dtype(
    [
        ("threshold", "f8"), ("cooldown", "i8"), ("bar", "i8"), ("duration", "i8"), ("comparison", "u1"),
        ("frequency", "u1"), ("flags", "u1"), ("crossing", "u1"), ("pad", "u1", (4,)),
    ]
)  # fmt: skip
"""A rule that is one level. ``duration``: the timeframe, in nanoseconds, whose forming close it compares."""

LEVEL_LIST: Final = np.dtype(
    [
        ("duration", "i8"), ("last", "f8"), ("begin", "i4"), ("count", "i4"), ("room", "i4"), ("total", "i4"),
        ("left", "i4"), ("next", "i4"), ("head", "i4"), ("waiting", "i4"), ("fresh", "i4"), ("pad", "i4"),
    ]
)  # fmt: skip
"""The levels of one symbol over one forming close.

``last``: the close for which they were asked; ``begin``, ``count``, ``room``: its blocks' names; ``total``: its levels;
``left``: where the close stands in the symbol's block; ``next``: the symbol's next list; ``head``, ``waiting``: levels
that joined since, linked; ``fresh``: whether all are to be asked.
"""

# Counters of the tables.
LISTS, BLOCKS, NAMES, FREE, STOPPED = range(5)
"""How many there are; which of them there was no room for."""
# What a link is.
LIST, NEXT = range(2)


class LevelTables(NamedTuple):
    """All levels.

    ``near``: by symbol, the two prices between which no truth of its levels changes; the first is not a number where
    that is to be found out. ``first``: a symbol's first list; ``names``, ``keys``, ``slots``, ``sizes``, ``free``:
    blocks of the lists; ``links``: by slot its list and the next one that waits; ``touched``: what is to be settled.
    """

    near: NDArray[np.float64]
    first: NDArray[np.int32]
    lists: NDArray[np.void]
    names: NDArray[np.int32]
    keys: NDArray[np.float64]
    slots: NDArray[np.int32]
    sizes: NDArray[np.int32]
    free: NDArray[np.int32]
    levels: NDArray[np.void]
    links: NDArray[np.int32]
    rules: NDArray[np.void]
    touched: NDArray[np.int32]
    counters: NDArray[np.int64]


@njit(**INNER)
def seek(tables: Any, group: Any, key: Any, slot: Any) -> Any:
    """The first place that is not before a level and slot: ``WIDTH`` times its block in the list, and where in it."""
    low, high = np.int64(0), np.int64(group.count) - 1
    if high < 0:
        return np.int64(0)
    while low < high:
        middle = (low + high + 1) // 2
        block = tables.names[group.begin + middle]
        first = tables.keys[block, 0]
        if first < key or (first == key and tables.slots[block, 0] <= slot):
            low = middle
        else:
            high = middle - 1
    block = tables.names[group.begin + low]
    begin, end = np.int64(0), np.int64(tables.sizes[block])
    while begin < end:
        middle = (begin + end) // 2
        here = tables.keys[block, middle]
        if here < key or (here == key and tables.slots[block, middle] < slot):
            begin = middle + 1
        else:
            end = middle
    if begin == tables.sizes[block]:
        return (low + 1) * WIDTH
    return low * WIDTH + begin


@njit(**BORROWED)
def insert(slots: Any, lefts: Any, begin: Any, tables: Any) -> Any:
    """Let levels join; the one at which there was no more room, else their number."""
    for at in range(begin, slots.size):
        slot = slots[at]
        level = tables.levels[slot]
        rule = tables.rules[level.rule]
        one = _list_of(tables, np.int64(level.symbol), rule.duration)
        if one < 0:
            tables.counters[STOPPED] = LISTS
            return at
        group = tables.lists[one]
        # Room for all that one level can need: the names of its list's blocks twice over, and a block.
        if group.count == group.room and tables.counters[NAMES] + 2 * group.room + 1 > tables.names.size:
            tables.counters[STOPPED] = NAMES
            return at
        blocks = tables.sizes.size - tables.counters[BLOCKS] + tables.counters[FREE]
        if blocks < 1 and (group.count == 0 or group.total >= WIDTH):
            tables.counters[STOPPED] = BLOCKS
            return at
        group.left = lefts[at]
        if group.count == group.room:
            _more_names(tables, group)
        _put(tables, group, rule.threshold, slot)
        group.total += 1
        tables.links[slot, LIST] = one
        if group.fresh == 0:
            if 8 * (group.waiting + 1) > group.total:
                ask_all(group)
            else:
                tables.links[slot, NEXT] = group.head
                group.head = slot
                group.waiting += 1
        tables.near[level.symbol, 0] = np.nan
    return slots.size


@njit(**BORROWED)
def remove(slots: Any, tables: Any) -> None:
    """Let levels go that are there."""
    for at in range(slots.size):
        slot = slots[at]
        level = tables.levels[slot]
        group = tables.lists[tables.links[slot, LIST]]
        found = seek(tables, group, tables.rules[level.rule].threshold, np.int64(slot))
        where, place = found // WIDTH, found % WIDTH
        block = tables.names[group.begin + where]
        for later in range(place, tables.sizes[block] - 1):
            tables.keys[block, later] = tables.keys[block, later + 1]
            tables.slots[block, later] = tables.slots[block, later + 1]
        tables.sizes[block] -= 1
        if tables.sizes[block] == 0:
            for later in range(group.begin + where, group.begin + group.count - 1):
                tables.names[later] = tables.names[later + 1]
            group.count -= 1
            tables.free[tables.counters[FREE]] = block
            tables.counters[FREE] += 1
        group.total -= 1
        if group.waiting > 0:
            # It may be one of those that wait, and they are linked one way only.
            ask_all(group)
        tables.near[level.symbol, 0] = np.nan
        level.symbol = NOBODY


@njit(**BORROWED)
def renumber(symbol: Any, gone: Any, tables: Any) -> None:
    """Rules of the symbol's set went that stood at these places, in their order: levels come after fewer."""
    one = tables.first[symbol]
    while one >= 0:
        group = tables.lists[one]
        for name in range(group.begin, group.begin + group.count):
            block = tables.names[name]
            for place in range(tables.sizes[block]):
                level = tables.levels[tables.slots[block, place]]
                fewer = 0
                while fewer < gone.size and gone[fewer] < level.after:
                    fewer += 1
                level.after -= fewer
        one = group.next


@njit(**INNER)
def ask_all(group: Any) -> None:
    """All levels of a list are asked next; what waits, among them."""
    group.fresh, group.head, group.waiting = 1, NOBODY, 0


@njit(**INNER)
def _list_of(tables: Any, symbol: Any, duration: Any) -> Any:
    """The list of a symbol over a timeframe, made where there is none; -1 where there is no room for it."""
    one = np.int64(tables.first[symbol])
    while one >= 0:
        if tables.lists[one].duration == duration:
            return one
        one = np.int64(tables.lists[one].next)
    if tables.counters[LISTS] == tables.lists.size:
        return np.int64(-1)
    one = tables.counters[LISTS]
    tables.counters[LISTS] += 1
    made = tables.lists[one]
    made.duration, made.last = duration, np.nan
    made.begin = made.count = made.room = made.total = 0
    made.next = tables.first[symbol]
    tables.first[symbol] = one
    ask_all(made)
    return one


@njit(**INNER)
def _more_names(tables: Any, group: Any) -> None:
    """Names move to the end, with room for as many again."""
    end = tables.counters[NAMES]
    for place in range(group.count):
        tables.names[end + place] = tables.names[group.begin + place]
    group.begin, group.room = end, max(2 * group.room, 1)
    tables.counters[NAMES] += group.room


@njit(**INNER)
def _new_block(tables: Any, group: Any, where: Any) -> Any:
    """A block without levels, at a place among a list's blocks."""
    if tables.counters[FREE] > 0:
        tables.counters[FREE] -= 1
        block = np.int64(tables.free[tables.counters[FREE]])
    else:
        block = tables.counters[BLOCKS]
        tables.counters[BLOCKS] += 1
    for place in range(group.begin + group.count, group.begin + where, -1):
        tables.names[place] = tables.names[place - 1]
    tables.names[group.begin + where] = block
    tables.sizes[block] = 0
    group.count += 1
    return block


@njit(**INNER)
def _put(tables: Any, group: Any, key: Any, slot: Any) -> None:
    found = seek(tables, group, key, np.int64(slot))
    where, place = found // WIDTH, found % WIDTH
    if place == 0 and where > 0:
        # Before the first of a block is behind the last of the one before it.
        where, place = where - 1, np.int64(tables.sizes[tables.names[group.begin + where - 1]])
    block = np.int64(tables.names[group.begin + where]) if group.count > 0 else _new_block(tables, group, np.int64(0))
    if tables.sizes[block] == WIDTH:
        # What ascends fills its blocks; else half of one moves.
        kept = WIDTH if place == WIDTH and where == group.count - 1 else WIDTH // 2
        other = _new_block(tables, group, where + 1)
        for later in range(kept, WIDTH):
            tables.keys[other, later - kept] = tables.keys[block, later]
            tables.slots[other, later - kept] = tables.slots[block, later]
        tables.sizes[block], tables.sizes[other] = kept, WIDTH - kept
        if place > kept or kept == WIDTH:
            block, place = other, place - kept
    for later in range(tables.sizes[block], place, -1):
        tables.keys[block, later] = tables.keys[block, later - 1]
        tables.slots[block, later] = tables.slots[block, later - 1]
    tables.keys[block, place], tables.slots[block, place] = key, slot
    tables.sizes[block] += 1
