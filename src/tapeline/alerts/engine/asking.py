"""Conditions and rules of one symbol: what holds, what has changed, what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tapeline.alerts.engine.fields import (
    BASE,
    FIRINGS,
    OPENED,
    S_CONDITION,
    S_CONDITION_END,
    S_RULE,
    S_RULE_END,
    SET,
    SIDE_COUNT,
    SLOT,
    TRUTH_AT,
)  # fmt: skip
from tapeline.alerts.engine.level_passing import forget_levels, reading_of
from tapeline.alerts.engine.options import INNER
from tapeline.alerts.engine.table import (
    AND,
    CROSSING,
    DIRTY,
    EACH_TICK,
    END,
    FALSE,
    LEVEL,
    NO_READING,
    NOT,
    OFF,
    ONCE,
    ONCE_PER_BAR,
    ONCE_PER_BAR_CLOSE,
    PULSE,
    TRUE,
    UNKNOWN,
    WATCHED,
)  # fmt: skip
from tapeline.alerts.engine.truth import truth_of


@njit(**INNER)
def ask(
    book: Any, symbol: Any, when: Any, at: Any, told: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any,
    counters: Any,
) -> None:  # fmt: skip
    """Ask the symbol's conditions of one kind of moment, from ``at`` on; fire where a rule became true.

    ``told``: so many of its levels are to be settled among them, each where it joined.
    """
    arena, base, number = book.arena, book.symbols[symbol, BASE], book.symbols[symbol, SET]
    slots = book.symbols[symbol, SLOT]
    shift = book.symbols[symbol, TRUTH_AT] - book.sets[number, S_CONDITION]
    first_rule = book.sets[number, S_RULE]
    dirty, settled = 0, 0
    for place in range(at, book.sets[number, S_CONDITION_END]):
        one = book.conditions[place]
        if one.when != when:
            continue
        difference = arena[base + one.left] - (one.threshold if one.right == NO_READING else arena[base + one.right])
        old = np.int64(book.truths[shift + place])
        new = truth_of(one.comparison, difference, one.hysteresis if old == TRUE else 0.0)
        if new == old and when == EACH_TICK:
            continue
        book.truths[shift + place] = new
        crosses = one.flags & CROSSING != 0
        rule = book.rules[first_rule + one.rule]
        slot = slots + one.rule
        if rule.program >= 0:
            if crosses and new == TRUE and old == FALSE:
                book.truths[shift + place] = new | PULSE
            if book.status[slot] & DIRTY == 0:
                book.status[slot] |= np.uint8(DIRTY)
                book.dirty[dirty] = one.rule
                dirty += 1
            continue
        while settled < told and book.levels.levels[book.levels.touched[settled]].after <= one.rule:
            _settle(book, symbol, np.int64(book.levels.touched[settled]), ts, tick, price, firings, sides, counters)
            settled += 1
        # A crossing holds for its record alone; what is asked at closes is told at each close at which it holds.
        before = np.int64(book.status[slot] & 3)
        resting = np.int64(FALSE) if crosses and new == TRUE else np.int64(new)
        _remember(book.status, slot, resting)
        if rule.flags & WATCHED != 0:
            value = np.int64(new) if old == FALSE else resting
            if value != before or (value == TRUE and rule.frequency == ONCE_PER_BAR_CLOSE):
                _fire(book, symbol, np.int64(one.rule), when, ts, tick, price, value, firings, sides, counters)
            if resting != value:
                _fire(book, symbol, np.int64(one.rule), when, ts, tick, price, resting, firings, sides, counters)
        elif new == TRUE and (old == FALSE if crosses else (old != TRUE or rule.frequency == ONCE_PER_BAR_CLOSE)):
            _try(book, symbol, np.int64(one.rule), when, ts, tick, price, firings, sides, counters)
    for place in range(settled, told):
        _settle(book, symbol, np.int64(book.levels.touched[place]), ts, tick, price, firings, sides, counters)
    for place in range(dirty):
        _run(book, symbol, book.dirty[place], when, ts, tick, price, firings, sides, counters)


@njit(**INNER)
def once_a_bar(
    book: Any, symbol: Any, began: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any, counters: Any
) -> None:
    """Bars began, of the timeframes whose bits are set: what fires once in them, and still holds, fires again."""
    number, slots = book.symbols[symbol, SET], book.symbols[symbol, SLOT]
    first = book.sets[number, S_RULE]
    for place in range(book.sets[number, S_RULE_END] - first):
        rule = book.rules[first + place]
        if (
            rule.frequency == ONCE_PER_BAR
            and began >> np.int64(rule.frame) & 1 != 0
            and rule.flags & LEVEL != 0
            and book.status[slots + place] & 3 == TRUE
        ):
            if rule.flags & WATCHED != 0:
                _fire(
                    book, symbol, place, np.int64(EACH_TICK), ts, tick, price, np.int64(TRUE), firings, sides, counters
                )
            else:
                _try(book, symbol, place, np.int64(EACH_TICK), ts, tick, price, firings, sides, counters)


@njit(**INNER)
def forget_sides(book: Any, symbol: Any) -> None:
    """After a gap nothing is known to have been on either side, so nothing crosses with the next tick."""
    number, truth_at = book.symbols[symbol, SET], book.symbols[symbol, TRUTH_AT]
    first = book.sets[number, S_CONDITION]
    for place in range(book.sets[number, S_CONDITION_END] - first):
        if book.conditions[first + place].flags & CROSSING != 0:
            book.truths[truth_at + place] = UNKNOWN
    forget_levels(book, symbol)
    # The next trade is asked even where it does not move the price.
    book.symbols[symbol, OPENED] = 0


@njit(**INNER)
def _settle(
    book: Any, symbol: Any, slot: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any, counters: Any
) -> None:
    """As :func:`ask` does with a rule of one condition."""
    level = book.levels.levels[slot]
    rule = book.levels.rules[level.rule]
    old, before = np.int64(level.truth), np.int64(level.status & 3)
    new = truth_of(rule.comparison, reading_of(book, symbol, slot) - rule.threshold, 0.0)
    if new == old:
        return
    level.truth = new
    crosses = rule.crossing != 0
    resting = np.int64(FALSE) if crosses and new == TRUE else np.int64(new)
    level.status = (level.status & np.uint8(252)) | np.uint8(resting)
    if rule.flags & WATCHED != 0:
        value = np.int64(new) if old == FALSE else resting
        if value != before:
            _fire_level(book, symbol, slot, ts, tick, price, value, firings, sides, counters)
        if resting != value:
            _fire_level(book, symbol, slot, ts, tick, price, resting, firings, sides, counters)
    elif new == TRUE and (old == FALSE if crosses else old != TRUE):
        if level.status & OFF != 0 or not _may_fire(rule.frequency, rule.bar, rule.cooldown, level.fired_at, ts):
            return
        if rule.frequency == ONCE:
            level.status |= np.uint8(OFF)
        level.fired_at = ts
        _fire_level(book, symbol, slot, ts, tick, price, np.int64(TRUE), firings, sides, counters)


@njit(**INNER)
def _fire_level(
    book: Any, symbol: Any, slot: Any, ts: Any, tick: Any, price: Any, truth: Any, firings: Any, sides: Any,
    counters: Any,
) -> None:  # fmt: skip
    level = book.levels.levels[slot]
    at, side = counters[FIRINGS], counters[SIDE_COUNT]
    one = firings[at]
    one.ts, one.price, one.rule, one.tick = ts, price, -1 - slot, tick
    one.sides, one.symbol, one.count, one.truth, one.at_close = side, symbol, 1, truth, EACH_TICK
    entry = sides[side]
    entry.left, entry.right = reading_of(book, symbol, slot), book.levels.rules[level.rule].threshold
    entry.truth = level.truth
    counters[FIRINGS], counters[SIDE_COUNT] = at + 1, side + 1


@njit(**INNER)
def _remember(status: Any, slot: Any, truth: Any) -> None:
    status[slot] = (status[slot] & np.uint8(252)) | np.uint8(truth)


@njit(**INNER)
def _run(
    book: Any, symbol: Any, place: Any, when: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any,
    counters: Any,
) -> None:  # fmt: skip
    """A rule of several conditions, one of which has changed."""
    number, slot = book.symbols[symbol, SET], book.symbols[symbol, SLOT] + place
    rule = book.rules[book.sets[number, S_RULE] + place]
    first, truths = book.sets[number, S_CONDITION] + rule.first, book.symbols[symbol, TRUTH_AT] + rule.first
    book.status[slot] &= np.uint8(255 - DIRTY)
    old = book.status[slot] & 3
    value = _value(book, rule.program, first, truths, True)
    new = value
    if rule.flags & LEVEL == 0:
        for at in range(truths, truths + rule.count):
            book.truths[at] &= np.uint8(3)
        new = _value(book, rule.program, first, truths, False)
    _remember(book.status, slot, new)
    if rule.flags & WATCHED != 0:
        if value != old or (value == TRUE and rule.frequency == ONCE_PER_BAR_CLOSE):
            _fire(book, symbol, place, when, ts, tick, price, value, firings, sides, counters)
        if new != value:
            # What held only while it crossed is over with the same record.
            _fire(book, symbol, place, when, ts, tick, price, np.int64(new), firings, sides, counters)
    elif value == TRUE and (old != TRUE or rule.frequency == ONCE_PER_BAR_CLOSE):
        _try(book, symbol, place, when, ts, tick, price, firings, sides, counters)


@njit(**INNER)
def _value(book: Any, program: Any, first: Any, truths: Any, pulses: Any) -> Any:
    """Kleene's value of a program: unknown wherever what is unknown decides."""
    stack, height = book.stack, 0
    while True:
        step = book.programs[program]
        program += 1
        if step >= 0:
            raw = book.truths[truths + step]
            state = np.int64(raw & 3)
            crosses = book.conditions[first + step].flags & CROSSING != 0
            if crosses and state == TRUE and not (pulses and raw & PULSE != 0):
                state = np.int64(FALSE)
            stack[height] = state
            height += 1
        elif step == NOT:
            if stack[height - 1] != UNKNOWN:
                stack[height - 1] = TRUE if stack[height - 1] == FALSE else FALSE
        elif step == END:
            return stack[0]
        else:
            height -= 1
            left, right = stack[height - 1], stack[height]
            deciding = FALSE if step == AND else TRUE
            if left == deciding or right == deciding:
                stack[height - 1] = deciding
            elif left == UNKNOWN or right == UNKNOWN:
                stack[height - 1] = UNKNOWN
            else:
                stack[height - 1] = left


@njit(**INNER)
def _may_fire(frequency: Any, bar: Any, cooldown: Any, last: Any, ts: Any) -> Any:
    """Whether it is another bar than that of the last firing, and the cooldown is over."""
    if frequency == ONCE_PER_BAR and last // bar == ts // bar:
        return False
    return not (cooldown > 0 and ts - last < cooldown)


@njit(**INNER)
def _try(
    book: Any, symbol: Any, place: Any, when: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any,
    counters: Any,
) -> None:  # fmt: skip
    """Fire, unless the rule is off, has fired in this bar, or cools down."""
    rule = book.rules[book.sets[book.symbols[symbol, SET], S_RULE] + place]
    slot = book.symbols[symbol, SLOT] + place
    if book.status[slot] & OFF != 0:
        return
    if not _may_fire(rule.frequency, rule.bar, rule.cooldown, book.fired_at[slot], ts):
        return
    if rule.frequency == ONCE:
        book.status[slot] |= np.uint8(OFF)
    book.fired_at[slot] = ts
    _fire(book, symbol, place, when, ts, tick, price, np.int64(TRUE), firings, sides, counters)


@njit(**INNER)
def _fire(
    book: Any, symbol: Any, place: Any, when: Any, ts: Any, tick: Any, price: Any, truth: Any, firings: Any, sides: Any,
    counters: Any,
) -> None:  # fmt: skip
    number, base = book.symbols[symbol, SET], book.symbols[symbol, BASE]
    rule = book.rules[book.sets[number, S_RULE] + place]
    first, truths = book.sets[number, S_CONDITION] + rule.first, book.symbols[symbol, TRUTH_AT] + rule.first
    at, side = counters[FIRINGS], counters[SIDE_COUNT]
    one = firings[at]
    one.ts, one.price, one.rule, one.tick = ts, price, book.symbols[symbol, SLOT] + place, tick
    one.sides, one.symbol, one.count, one.truth, one.at_close = side, symbol, rule.count, truth, when
    for offset in range(rule.count):
        condition = book.conditions[first + offset]
        entry = sides[side + offset]
        entry.left = book.arena[base + condition.left]
        entry.right = condition.threshold if condition.right == NO_READING else book.arena[base + condition.right]
        entry.truth = book.truths[truths + offset] & 3
    counters[FIRINGS], counters[SIDE_COUNT] = at + 1, side + rule.count
