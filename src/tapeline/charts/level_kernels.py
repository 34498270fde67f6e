"""The kernel of support and resistance: a bounded memory of price levels, advanced bar by bar.

A history and a stream run through the same statements: :func:`advance_levels` reads rows ``begin`` to ``end``, keeps
what it must remember in the arrays given, appends to a log, and can stop at any bar and go on at the next.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

CAPACITY: Final = 128
"""Candidates remembered at once. A new one beyond that takes the place of the oldest."""

CONFIRMED: Final = 0
BROKEN: Final = 1
FLIPPED: Final = 2

# How many candidates there are, how many swings were taken in, how long the log is.
SIZE: Final = 0
TAKEN: Final = 1
LOGGED: Final = 2

# Integers of a candidate.
START: Final = 0
"""The row of its swing."""
KNOWN: Final = 1
"""The row at which that swing was confirmed."""
SIDE: Final = 2
"""1 where price lies above it (support), -1 where below (resistance)."""
STATE: Final = 3
TOUCHES: Final = 4
FLIPS: Final = 5
TURN: Final = 6
"""The row of the extreme of the visit under way, or of the last one."""
REACHED: Final = 7
"""The row at which it had touches enough, -1 before."""
SHOWN: Final = 8
"""1 while it is the level of its prices, 0 while another one is."""
TOLD: Final = 9
"""1 once it has been logged as a level."""
UPDATED: Final = 10
"""The row as of which its strength stands."""
BROKE: Final = 11
"""1 between a break and the touch that makes it a flip."""
OPEN: Final = 12
"""Three places in the log, one a kind, of what is to be invalidated by its next break or its end; -1 none."""
INTEGERS: Final = 15

# Numbers of a candidate.
PRICE: Final = 0
WIDTH: Final = 1
EXTREME: Final = 2
STRENGTH: Final = 3
LOW: Final = 4
HIGH: Final = 5
NUMBERS: Final = 6

# What price does at a candidate.
AWAY: Final = 0
VISITING: Final = 1
LEAVING: Final = 2
"""It broke through and has not yet gone far enough for a return to be one."""
DROPPED: Final = 3
"""It was broken before it was a level, or again before it was touched from its other side."""

LOG_INTEGERS: Final = 9
"""What happened, direction, start, row of the turn, row at which it was known, invalidated, touches, flips, side."""
LOG_NUMBERS: Final = 5
"""Price of the level, low and high of its touches, price of the turn, strength."""

LOG_MARGIN: Final = 3 * CAPACITY
"""Places in the log that one bar may need."""

DENSE: Final = 10
"""A side: distance to the nearest level, touches, strength, age, flips; support first."""

MOST_REACTION: Final = 5.0


@njit(cache=True, nogil=True)
def _close_open(integers: Any, i: Any, now: Any, log: Any) -> None:
    for kind in range(3):
        place = integers[i, OPEN + kind]
        if place >= 0:
            log[place, 5] = now
            integers[i, OPEN + kind] = -1


@njit(cache=True, nogil=True)
def _write(
    what: Any,
    direction: Any,
    end: Any,
    end_price: Any,
    i: Any,
    now: Any,
    counts: Any,
    integers: Any,
    numbers: Any,
    log: Any,
    prices: Any,
) -> None:
    place = counts[LOGGED]
    log[place, 0], log[place, 1], log[place, 2] = what, direction, integers[i, START]
    log[place, 3], log[place, 4], log[place, 5] = end, now, -1
    log[place, 6], log[place, 7], log[place, 8] = integers[i, TOUCHES], integers[i, FLIPS], integers[i, SIDE]
    prices[place, 0], prices[place, 1], prices[place, 2] = numbers[i, PRICE], numbers[i, LOW], numbers[i, HIGH]
    prices[place, 3], prices[place, 4] = end_price, numbers[i, STRENGTH]
    integers[i, OPEN + what] = place
    counts[LOGGED] += 1


@njit(cache=True, nogil=True)
def _show(
    now: Any, needed: Any, half_life: Any, counts: Any, order: Any, integers: Any, numbers: Any, log: Any, prices: Any
) -> None:
    """Of the candidates with touches enough, those not within reach of one that had them earlier, are the levels."""
    chosen = np.empty(CAPACITY, np.int64)
    count = 0
    for k in range(counts[SIZE]):
        i = order[0, k]
        integers[i, SHOWN] = 0
        if integers[i, TOUCHES] < needed:
            continue
        place = count
        while place and integers[chosen[place - 1], REACHED] > integers[i, REACHED]:
            chosen[place] = chosen[place - 1]
            place -= 1
        chosen[place] = i
        count += 1
    shown = 0
    for k in range(count):
        i = chosen[k]
        free = True
        for j in range(shown):
            other = chosen[j]
            if abs(numbers[i, PRICE] - numbers[other, PRICE]) <= numbers[other, WIDTH]:
                free = False
                break
        if not free:
            continue
        # The places before ``k`` hold what is no longer needed.
        chosen[shown] = i
        shown += 1
        integers[i, SHOWN] = 1
        if not integers[i, TOLD]:
            integers[i, TOLD] = 1
            _weaken(i, now, half_life, integers, numbers)
            _write(
                CONFIRMED, integers[i, SIDE], integers[i, TURN], numbers[i, EXTREME],
                i, now, counts, integers, numbers, log, prices,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _weaken(i: Any, now: Any, half_life: Any, integers: Any, numbers: Any) -> None:
    numbers[i, STRENGTH] *= 0.5 ** ((now - integers[i, UPDATED]) / half_life)
    integers[i, UPDATED] = now


@njit(cache=True, nogil=True)
def _step(
    i: Any,
    now: Any,
    high: Any,
    low: Any,
    close: Any,
    unit: Any,
    reaction: Any,
    needed: Any,
    half_life: Any,
    counts: Any,
    integers: Any,
    numbers: Any,
    log: Any,
    prices: Any,
) -> Any:
    """One bar at one candidate; whether the levels shown may have changed by it."""
    side, price, width = integers[i, SIDE], numbers[i, PRICE], numbers[i, WIDTH]
    if side * (close - price) < -width:
        _weaken(i, now, half_life, integers, numbers)
        _close_open(integers, i, now, log)
        if integers[i, TOUCHES] < needed or integers[i, BROKE]:
            integers[i, STATE] = DROPPED
            return integers[i, SHOWN] == 1
        if integers[i, SHOWN]:
            _write(BROKEN, -side, now, close, i, now, counts, integers, numbers, log, prices)
        numbers[i, STRENGTH] *= 0.5
        integers[i, SIDE], integers[i, STATE], integers[i, BROKE] = -side, LEAVING, 1
        return False
    if integers[i, STATE] == LEAVING:
        if side * (close - price) >= reaction * unit and side * (close - price) > width:
            integers[i, STATE] = AWAY
        return False
    near = low if side > 0 else high
    if integers[i, STATE] == AWAY:
        if not side * (near - price) <= width:
            return False
        integers[i, STATE], integers[i, TURN], numbers[i, EXTREME] = VISITING, now, near
    elif side * (near - numbers[i, EXTREME]) < 0.0:
        integers[i, TURN], numbers[i, EXTREME] = now, near
    came_back = side * (close - numbers[i, EXTREME])
    if not (came_back >= reaction * unit and side * (close - price) > width and unit > 0.0):
        return False
    _weaken(i, now, half_life, integers, numbers)
    numbers[i, STRENGTH] += min(came_back / unit, MOST_REACTION)
    # A wick beyond the tolerance belongs to the touch, but not to the prices of the level.
    turned = min(max(numbers[i, EXTREME], price - width), price + width)
    numbers[i, LOW], numbers[i, HIGH] = min(numbers[i, LOW], turned), max(numbers[i, HIGH], turned)
    integers[i, STATE] = AWAY
    integers[i, TOUCHES] += 1
    if integers[i, BROKE]:
        integers[i, BROKE] = 0
        integers[i, FLIPS] += 1
        if integers[i, SHOWN]:
            _write(
                FLIPPED, side, integers[i, TURN], numbers[i, EXTREME],
                i, now, counts, integers, numbers, log, prices,
            )  # fmt: skip
    if integers[i, TOUCHES] == needed:
        integers[i, REACHED] = now
        return True
    return False


@njit(cache=True, nogil=True)
def _read(
    now: Any,
    close: Any,
    unit: Any,
    half_life: Any,
    farthest: Any,
    counts: Any,
    order: Any,
    integers: Any,
    numbers: Any,
    line: Any,
) -> None:
    """The nearest level on each side of the close into ``line``: see ``DENSE``."""
    for part in range(2):
        line[5 * part] = farthest
        for j in range(1, 5):
            line[5 * part + j] = 0.0
    if not unit > 0.0:
        line[:] = np.nan
        return
    for k in range(counts[SIZE]):
        i = order[0, k]
        if not integers[i, SHOWN]:
            continue
        side = integers[i, SIDE]
        part = 0 if side > 0 else 5
        distance = side * (close - numbers[i, PRICE]) / unit
        if distance < line[part]:
            line[part] = distance
            line[part + 1] = integers[i, TOUCHES]
            line[part + 2] = numbers[i, STRENGTH] * 0.5 ** ((now - integers[i, UPDATED]) / half_life)
            line[part + 3] = now - integers[i, START]
            line[part + 4] = integers[i, FLIPS]


@njit(cache=True, nogil=True)
def advance_levels(
    high: Any,
    low: Any,
    close: Any,
    unit: Any,
    begin: Any,
    end: Any,
    first: Any,
    row: Any,
    at: Any,
    side: Any,
    price: Any,
    swings: Any,
    tolerance: Any,
    reaction: Any,
    needed: Any,
    max_age: Any,
    half_life: Any,
    farthest: Any,
    counts: Any,
    order: Any,
    integers: Any,
    numbers: Any,
    log: Any,
    prices: Any,
    dense: Any,
) -> Any:
    """Walk on through the rows ``begin`` to ``end``; the row at which it stopped because the log may overflow, or end.

    Parameters
    ----------
    unit:
        The mean true range at each row.
    first:
        What row 0 of these arrays is in the whole history: rows of swings and of the log count from there.
    row, at, side, price, swings:
        The swings so far, in the order of their confirmation.
    tolerance, reaction:
        In mean true ranges: half the width of a level, and how far a close must come back for a touch.
    needed, max_age, half_life, farthest:
        The touches of a level, the bars it lives, those after which a touch counts half, the distance that says none.
    counts, order, integers, numbers:
        The candidates, kept between calls. ``order[0]`` holds their places by age and then the free places; row 1 is
        for scratch.
    log, prices:
        What happened; filled in place from ``counts[LOGGED]`` on.
    dense:
        (rows, ``DENSE``), filled where it has rows.
    """
    for t in range(begin, end):
        # A bar can break or touch each candidate once and show each once; the swings it confirms are few.
        if counts[LOGGED] + LOG_MARGIN > log.shape[0]:
            return t
        now = t + first
        changed = False
        most, least, last, measure = high[t], low[t], close[t], unit[t]
        kept, gone = 0, 0
        for k in range(counts[SIZE]):
            i = order[0, k]
            # Price that stays on its side and out of reach changes nothing: the common case, looked at first.
            reach = numbers[i, PRICE] + integers[i, SIDE] * numbers[i, WIDTH]
            away = least > reach if integers[i, SIDE] > 0 else most < reach
            if now - integers[i, KNOWN] > max_age:
                _close_open(integers, i, now, log)
                integers[i, STATE] = DROPPED
                changed |= integers[i, SHOWN] == 1
            elif not (away and integers[i, STATE] == AWAY):
                changed |= _step(
                    i, now, most, least, last, measure, reaction, needed, half_life,
                    counts, integers, numbers, log, prices,
                )  # fmt: skip
            if integers[i, STATE] == DROPPED:
                order[1, gone] = i
                gone += 1
            else:
                order[0, kept] = i
                kept += 1
        for k in range(gone):
            order[0, kept + k] = order[1, k]
        counts[SIZE] = kept
        while counts[TAKEN] < swings and at[counts[TAKEN]] <= now:
            taken = counts[TAKEN]
            counts[TAKEN] += 1
            width = tolerance * measure
            if not width > 0.0:
                continue
            if counts[SIZE] == CAPACITY:
                i = order[0, 0]
                _close_open(integers, i, now, log)
                changed |= integers[i, SHOWN] == 1
                order[0, :-1] = order[0, 1:]
                order[0, -1] = i
                counts[SIZE] -= 1
            i = order[0, counts[SIZE]]
            counts[SIZE] += 1
            integers[i, :] = 0
            integers[i, START], integers[i, KNOWN], integers[i, SIDE] = row[taken], now, -side[taken]
            integers[i, STATE], integers[i, TURN], integers[i, REACHED] = VISITING, row[taken], -1
            integers[i, UPDATED] = now
            integers[i, OPEN : OPEN + 3] = -1
            numbers[i, PRICE], numbers[i, WIDTH], numbers[i, EXTREME] = price[taken], width, price[taken]
            numbers[i, STRENGTH], numbers[i, LOW], numbers[i, HIGH] = 0.0, price[taken], price[taken]
            # The swing itself is a visit; it counts once price has come back far enough, maybe by now.
            changed |= _step(
                i, now, most, least, last, measure, reaction, needed, half_life,
                counts, integers, numbers, log, prices,
            )  # fmt: skip
        if changed:
            _show(now, needed, half_life, counts, order, integers, numbers, log, prices)
        if dense.shape[0]:
            _read(now, last, measure, half_life, farthest, counts, order, integers, numbers, dense[t])
    return end
