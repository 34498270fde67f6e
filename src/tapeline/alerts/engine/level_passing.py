"""What a new price does to the levels of its symbol: those that it passes are asked, and no others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tapeline.alerts.engine.fields import BASE
from tapeline.alerts.engine.level_lists import LIST, NEXT, WIDTH, ask_all, seek
from tapeline.alerts.engine.options import INNER
from tapeline.alerts.engine.table import TRUE, UNKNOWN, WATCHED
from tapeline.alerts.engine.truth import truth_of


@njit(**INNER)
def is_between(book: Any, symbol: Any, price: Any) -> Any:
    """Whether a price changes no truth of a symbol's levels."""
    near = book.levels.near
    return near[symbol, 0] < price < near[symbol, 1]


@njit(**INNER)
def most_asked(book: Any, symbol: Any, price: Any) -> Any:
    """At most so many levels of a symbol change with a price, or with a record that is none (not a number)."""
    tables = book.levels
    most = np.int64(0)
    one = tables.first[symbol]
    while one >= 0:
        group = tables.lists[one]
        if group.fresh != 0 or math.isnan(group.last):
            most += group.total
        else:
            most += group.waiting
            if not math.isnan(price):
                begin = seek(tables, group, min(group.last, price), np.int64(-1)) // WIDTH
                end = seek(tables, group, max(group.last, price), np.int64(tables.levels.size)) // WIDTH
                most += min((end - begin + 1) * WIDTH, np.int64(group.total))
        one = group.next
    return most


@njit(**INNER)
def all_of(book: Any, symbol: Any) -> Any:
    """How many levels a symbol has."""
    tables = book.levels
    total = np.int64(0)
    one = tables.first[symbol]
    while one >= 0:
        total += tables.lists[one].total
        one = tables.lists[one].next
    return total


@njit(**INNER)
def pass_levels(book: Any, symbol: Any) -> Any:
    """Let the levels of a symbol follow its closes; how many are to be settled, in ``touched`` as they joined."""
    tables = book.levels
    base = book.symbols[symbol, BASE]
    told = np.int64(0)
    low, high = -math.inf, math.inf
    one = tables.first[symbol]
    while one >= 0:
        group = tables.lists[one]
        now, last = book.arena[base + group.left], group.last
        unknown = math.isnan(now)
        if group.fresh != 0 or math.isnan(last) != unknown:
            told = _ask_range(tables, group, -math.inf, math.inf, now, told)
        else:
            slot = np.int64(group.head)
            while slot >= 0:
                told = _ask(tables, slot, now, told)
                slot = np.int64(tables.links[slot, NEXT])
            if not unknown and now != last:
                told = _ask_range(tables, group, min(last, now), max(last, now), now, told)
        group.fresh, group.head, group.waiting, group.last = 0, -1, 0, now
        if group.total > 0:
            if unknown:
                low = math.nan
            else:
                place = seek(tables, group, now, np.int64(-1))
                low, high = _closer(tables, group, place, now, low, high)
        one = group.next
    tables.near[symbol, 0], tables.near[symbol, 1] = low, high
    _sort(tables, told)
    return told


@njit(**INNER)
def forget_levels(book: Any, symbol: Any) -> None:
    """After a gap no side is known of what crosses."""
    tables = book.levels
    one = tables.first[symbol]
    while one >= 0:
        group = tables.lists[one]
        for name in range(group.begin, group.begin + group.count):
            block = tables.names[name]
            for place in range(tables.sizes[block]):
                level = tables.levels[tables.slots[block, place]]
                if tables.rules[level.rule].crossing != 0:
                    level.truth = UNKNOWN
        ask_all(group)
        one = group.next
    tables.near[symbol, 0] = math.nan


@njit(**INNER)
def reading_of(book: Any, symbol: Any, slot: Any) -> Any:
    """The close that a level compares."""
    return book.arena[book.symbols[symbol, BASE] + book.levels.lists[book.levels.links[slot, LIST]].left]


@njit(**INNER)
def _closer(tables: Any, group: Any, place: Any, now: Any, low: Any, high: Any) -> Any:
    """The nearest levels around a price, where they are nearer than those of the lists before."""
    where, at = place // WIDTH, place % WIDTH
    if where < group.count:
        above = tables.keys[tables.names[group.begin + where], at]
        if above == now:
            # On a level: whatever comes next leaves it.
            return (now if not math.isnan(low) else low), now
        high = min(high, above)
    if place > 0 and not math.isnan(low):
        if at > 0:
            below = tables.keys[tables.names[group.begin + where], at - 1]
        else:
            other = tables.names[group.begin + where - 1]
            below = tables.keys[other, tables.sizes[other] - 1]
        low = max(low, below)
    return low, high


@njit(**INNER)
def _ask_range(tables: Any, group: Any, least: Any, most: Any, now: Any, told: Any) -> Any:
    """Ask the levels from one to another, both among them."""
    place = seek(tables, group, least, np.int64(-1))
    where, at = place // WIDTH, place % WIDTH
    while where < group.count:
        block = tables.names[group.begin + where]
        while at < tables.sizes[block]:
            if tables.keys[block, at] > most:
                return told
            told = _ask(tables, np.int64(tables.slots[block, at]), now, told)
            at += 1
        where, at = where + 1, np.int64(0)
    return told


@njit(**INNER)
def _ask(tables: Any, slot: Any, now: Any, told: Any) -> Any:
    """Ask one; where it can bring no firing it is settled here, else it is noted."""
    level = tables.levels[slot]
    rule = tables.rules[level.rule]
    new = truth_of(rule.comparison, now - rule.threshold, 0.0)
    if new == level.truth:
        return told
    if new == TRUE or rule.flags & WATCHED != 0:
        tables.touched[told] = slot
        return told + 1
    level.truth = new
    level.status = (level.status & np.uint8(252)) | np.uint8(new)
    return told


@njit(**INNER)
def _sort(tables: Any, count: Any) -> None:
    """What is to be settled, in the order in which it joined (heapsort)."""
    some, levels = tables.touched, tables.levels
    begin, end = count // 2, count
    while end > 1:
        if begin > 0:
            begin -= 1
        else:
            end -= 1
            some[end], some[0] = some[0], some[end]
        parent = begin
        while True:
            child = 2 * parent + 1
            if child >= end:
                break
            if child + 1 < end and levels[some[child]].joined < levels[some[child + 1]].joined:
                child += 1
            if levels[some[parent]].joined >= levels[some[child]].joined:
                break
            some[parent], some[child] = some[child], some[parent]
            parent = child
