"""The kernel: ticks in, firings out, in one pass that can stop where the firings have no more room and go on there.

Order of one tick: bars that ended at or before it close, in the order of their ends, and what is asked at closes is
asked; then the tick enters the forming bars, the indicators follow, and what is asked at each tick is asked.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.alerts.engine.history import close_bar
from tapeline.alerts.engine.indicators import (
    ADD,
    BAR_CLOSE,
    BAR_HIGH,
    BAR_LOW,
    BAR_OPEN,
    BAR_VOLUME,
    DIVIDE,
    EXTERNAL,
    MULTIPLY,
    SUBTRACT,
    TRAILING_HIGH,
    TRAILING_LOW,
    forming,
)  # fmt: skip
from tapeline.alerts.engine.layout import CLOCK_SLOTS, FAR
from tapeline.alerts.engine.table import (
    ABOVE,
    AND,
    AT_LEAST,
    AT_MOST,
    BELOW,
    CROSSING,
    DIRTY,
    DISABLED,
    EACH_TICK,
    END,
    EQUAL,
    FALSE,
    LEVEL,
    NO_READING,
    NOT,
    ONCE,
    ONCE_PER_BAR,
    ONCE_PER_BAR_CLOSE,
    PULSE,
    TRUE,
    UNKNOWN,
    WATCHED,
)  # fmt: skip

# What a record of a batch is.
TRADE, VALUE, EVENT, CLOCK, GAP = range(5)
"""A trade; a new value of an external series (its place in ``size``); one that holds only for this record; a time that
has been reached (symbol -1: by all), with which bars close; a gap in the feed: what was on which side is not known."""

FIRINGS, SIDE_COUNT, LATE, NEXT_SYMBOL = range(4)
"""Counters: firings and sides written; ticks that came after their bar had closed; where a clock record goes on."""
COUNTERS: Final = 4
NANOSECONDS: Final = 1_000_000_000
MILLISECONDS: Final = 1_000_000


class Book(NamedTuple):
    """All that the engine keeps, by symbol where not said otherwise.

    ``arena`` holds the blocks, ``base`` says where each begins; ``clocks`` and ``clock_base`` the same for times.
    ``layout`` numbers the symbol's layout; ``frame_*`` and ``indicator_*`` say where a layout's rows stand.
    ``condition_*`` and ``rule_*`` are the symbol's regions in ``conditions`` and ``rules``.
    """

    arena: NDArray[np.float64]
    base: NDArray[np.int64]
    clocks: NDArray[np.int64]
    clock_base: NDArray[np.int64]
    price: NDArray[np.float64]
    layout: NDArray[np.int32]
    frames: NDArray[np.void]
    frame_begin: NDArray[np.int32]
    frame_end: NDArray[np.int32]
    indicators: NDArray[np.void]
    indicator_begin: NDArray[np.int32]
    computed_begin: NDArray[np.int32]
    computed_end: NDArray[np.int32]
    conditions: NDArray[np.void]
    condition_begin: NDArray[np.int64]
    condition_count: NDArray[np.int32]
    rules: NDArray[np.void]
    rule_begin: NDArray[np.int64]
    rule_count: NDArray[np.int32]
    programs: NDArray[np.int16]
    stack: NDArray[np.int64]
    dirty: NDArray[np.int32]


@njit(cache=True, nogil=True)
def process(
    symbols: Any,
    times: Any,
    prices: Any,
    sizes: Any,
    records: Any,
    book: Any,
    firings: Any,
    sides: Any,
    counters: Any,
    begin: Any,
) -> Any:
    """Take the records from ``begin`` on; the one at which it stopped for want of room, else their number."""
    # Arrays by themselves: handing the whole book to a function at each tick would cost more than all its work.
    arena, clocks, frames, indicators, conditions = (
        book.arena, book.clocks, book.frames, book.indicators, book.conditions
    )  # fmt: skip
    for tick in range(begin, symbols.size):
        symbol, ts, record = symbols[tick], times[tick], records[tick]
        if symbol < 0:
            for one in range(counters[NEXT_SYMBOL], book.base.size):
                if not _has_room(book, one, firings, sides, counters):
                    counters[NEXT_SYMBOL] = one
                    return tick
                _close_until(book, one, ts, tick, firings, sides, counters)
            counters[NEXT_SYMBOL] = 0
            continue
        if not _has_room(book, symbol, firings, sides, counters):
            return tick
        base = book.base[symbol]
        if record == TRADE:
            layout, clock, price = book.layout[symbol], book.clock_base[symbol], prices[tick]
            first, last, start = book.frame_begin[layout], book.frame_end[layout], book.indicator_begin[layout]
            closed = _is_due(clocks, clock, last - first, ts)
            if closed:
                _close_until(book, symbol, ts, tick, firings, sides, counters)
            if _take(arena, base, clocks, clock, frames, first, last, indicators, start, ts, price, sizes[tick]):
                counters[LATE] += 1
            book.price[symbol] = price
            if book.computed_begin[layout] < book.computed_end[layout]:
                _compute(book, symbol)
            begin_at = book.condition_begin[symbol]
            end_at = begin_at + book.condition_count[symbol]
            changed = _next_change(arena, base, conditions, begin_at, end_at)
            if changed < end_at or closed:
                _evaluate(book, symbol, EACH_TICK, changed, ts, tick, price, closed, firings, sides, counters)
        elif record == CLOCK:
            _close_until(book, symbol, ts, tick, firings, sides, counters)
        elif record == GAP:
            _forget_sides(book, symbol)
        else:
            closed = _close_until(book, symbol, ts, tick, firings, sides, counters)
            place = base + np.int64(sizes[tick])
            before = book.arena[place]
            book.arena[place] = prices[tick]
            _compute(book, symbol)
            at = book.condition_begin[symbol]
            _evaluate(book, symbol, EACH_TICK, at, ts, tick, book.price[symbol], closed, firings, sides, counters)
            if record == EVENT:
                book.arena[place] = before
                _compute(book, symbol)
                _evaluate(book, symbol, EACH_TICK, at, ts, tick, book.price[symbol], False, firings, sides, counters)
    return symbols.size


@njit(cache=True, nogil=True, inline="always")
def _has_room(book: Any, symbol: Any, firings: Any, sides: Any, counters: Any) -> Any:
    """Whether all that one record of a symbol can bring has a place."""
    times = book.frame_end[book.layout[symbol]] - book.frame_begin[book.layout[symbol]] + 3
    return (
        firings.size - counters[FIRINGS] >= 2 * times * book.rule_count[symbol]
        and sides.size - counters[SIDE_COUNT] >= 2 * times * book.condition_count[symbol]
    )


@njit(cache=True, nogil=True)
def _close_until(book: Any, symbol: Any, ts: Any, tick: Any, firings: Any, sides: Any, counters: Any) -> Any:
    """Close the bars that ended by ``ts``, those that ended first before the others; whether any did."""
    layout = book.layout[symbol]
    first, last = book.frame_begin[layout], book.frame_end[layout]
    clock, base, start = book.clock_base[symbol], book.base[symbol], book.indicator_begin[layout]
    closed = False
    while True:
        ended = FAR
        for frame in range(last - first):
            ended = min(ended, book.clocks[clock + CLOCK_SLOTS * frame + 1])
        if ended > ts:
            return closed
        closed = True
        for frame in range(last - first):
            if book.clocks[clock + CLOCK_SLOTS * frame + 1] == ended:
                close_bar(book.arena, base, book.frames[first + frame], book.indicators, start)
        for frame in range(last - first):
            at = clock + CLOCK_SLOTS * frame
            if book.clocks[at + 1] == ended:
                book.clocks[at + 1], book.clocks[at + 2] = FAR, ended
        _compute(book, symbol)
        for frame in range(last - first):
            # Between its end, which stands in the third slot now, and the next bar that a tick will begin.
            at = clock + CLOCK_SLOTS * frame
            if book.clocks[at + 2] == ended and book.clocks[at + 1] == FAR:
                price = book.price[symbol]
                at = book.condition_begin[symbol]
                _evaluate(book, symbol, frame + 1, at, ended, tick, price, False, firings, sides, counters)


@njit(cache=True, nogil=True)
def _is_due(clocks: Any, clock: Any, frames: Any, ts: Any) -> Any:
    """Whether a bar ended by ``ts``."""
    for frame in range(frames):  # noqa: SIM110 - numba has no any()
        if clocks[clock + CLOCK_SLOTS * frame + 1] <= ts:
            return True
    return False


@njit(cache=True, nogil=True)
def _take(
    arena: Any,
    base: Any,
    clocks: Any,
    clock: Any,
    frames: Any,
    first: Any,
    last: Any,
    indicators: Any,
    start: Any,
    ts: Any,
    price: Any,
    size: Any,
) -> Any:
    """Let a trade enter the forming bars, and their indicators follow; whether it came too late for one."""
    late = False
    at = clock
    for number in range(first, last):
        row = frames[number]
        bar = base + row.bar
        if clocks[at + 1] == FAR:
            opened = ts - ts % row.duration
            if opened < clocks[at + 2]:
                late = True
                at += CLOCK_SLOTS
                continue
            clocks[at], clocks[at + 1] = opened, opened + row.duration
            arena[bar + BAR_OPEN], arena[bar + BAR_HIGH], arena[bar + BAR_LOW] = price, price, price
            arena[bar + BAR_CLOSE], arena[bar + BAR_VOLUME] = price, size
        elif ts < clocks[at]:
            late = True
            at += CLOCK_SLOTS
            continue
        else:
            arena[bar + BAR_HIGH] = max(arena[bar + BAR_HIGH], price)
            arena[bar + BAR_LOW] = min(arena[bar + BAR_LOW], price)
            arena[bar + BAR_CLOSE] = price
            arena[bar + BAR_VOLUME] += size
        at += CLOCK_SLOTS
        for place in range(start + row.begin, start + row.end):
            one = indicators[place]
            forming(one, arena, base + one.state, bar, base + one.out)
    return late


@njit(cache=True, nogil=True)
def _next_change(arena: Any, base: Any, conditions: Any, begin: Any, end: Any) -> Any:
    """The first condition asked at each tick whose truth is another than before; ``end`` where there is none."""
    for number in range(begin, end):
        one = conditions[number]
        right = one.threshold if one.right == NO_READING else arena[base + one.right]
        old = one.state
        hysteresis = one.hysteresis if old == TRUE else np.float32(0.0)
        if _holds(one.comparison, arena[base + one.left] - right, hysteresis) != old and one.when == EACH_TICK:
            return number
    return end


@njit(cache=True, nogil=True, inline="always")
def _compute(book: Any, symbol: Any) -> None:
    """Arithmetic of readings, and extremes since a rule began."""
    layout = book.layout[symbol]
    if book.computed_begin[layout] == book.computed_end[layout]:
        return
    arena, base = book.arena, book.base[symbol]
    for number in range(book.computed_begin[layout], book.computed_end[layout]):
        one = book.indicators[number]
        kind = one.kind
        if kind == EXTERNAL:
            continue
        left = arena[base + one.left] if one.left >= 0 else book.price[symbol]
        right = arena[base + one.right] if one.right >= 0 else one.factor
        if kind == ADD:
            value = left + right
        elif kind == SUBTRACT:
            value = left - right
        elif kind == MULTIPLY:
            value = left * right
        elif kind == DIVIDE:
            value = left / right if right != 0.0 else np.nan
        else:
            value = arena[base + one.out]
            if math.isnan(left):
                continue
            if (kind == TRAILING_HIGH and not left <= value) or (kind == TRAILING_LOW and not left >= value):
                value = left
        arena[base + one.out] = value


@njit(cache=True, nogil=True)
def _evaluate(
    book: Any,
    symbol: Any,
    when: Any,
    at: Any,
    ts: Any,
    tick: Any,
    price: Any,
    closed: Any,
    firings: Any,
    sides: Any,
    counters: Any,
) -> None:
    """Ask the symbol's conditions of one kind of moment, from ``at`` on; fire where a rule became true."""
    arena, base, conditions = book.arena, book.base[symbol], book.conditions
    first = book.condition_begin[symbol]
    dirty = 0
    for number in range(at, first + book.condition_count[symbol]):
        one = conditions[number]
        if one.when != when:
            continue
        difference = arena[base + one.left] - (one.threshold if one.right == NO_READING else arena[base + one.right])
        old = one.state
        new = _holds(one.comparison, difference, one.hysteresis if old == TRUE else np.float32(0.0))
        if new == old and when == EACH_TICK:
            continue
        one.state = new
        crosses = one.flags & CROSSING != 0
        rule = book.rules[one.rule]
        if rule.program >= 0:
            if crosses and new == TRUE and old == FALSE:
                one.state = new | PULSE
            if rule.flags & DIRTY == 0:
                rule.flags |= DIRTY
                book.dirty[dirty] = one.rule
                dirty += 1
            continue
        rule.state = new
        if rule.flags & WATCHED != 0:
            # From unknown nothing crosses; what is asked at closes is told at each close at which it holds.
            told = new != old and not (crosses and new == TRUE and old != FALSE)
            if told or (new == TRUE and not crosses and rule.frequency == ONCE_PER_BAR_CLOSE):
                _fire(book, one.rule, when, ts, tick, price, new, firings, sides, counters)
        elif new == TRUE and (old == FALSE if crosses else (old != TRUE or rule.frequency == ONCE_PER_BAR_CLOSE)):
            _try(book, one.rule, when, ts, tick, price, firings, sides, counters)
    for place in range(dirty):
        _run(book, book.dirty[place], when, ts, tick, price, firings, sides, counters)
    if closed:
        # A bar began: what fires once a bar, and still holds, fires again.
        begin = book.rule_begin[symbol]
        for number in range(begin, begin + book.rule_count[symbol]):
            rule = book.rules[number]
            if rule.frequency == ONCE_PER_BAR and rule.flags & LEVEL != 0 and rule.state == TRUE:
                _try(book, number, when, ts, tick, price, firings, sides, counters)


@njit(cache=True, nogil=True, inline="always")
def _holds(comparison: Any, difference: Any, hysteresis: Any) -> Any:
    """Whether a comparison holds, by the difference of its sides; one that held lets go ``hysteresis`` later."""
    if math.isnan(difference):
        return np.uint8(UNKNOWN)
    if comparison == ABOVE:
        held = difference > -hysteresis
    elif comparison == BELOW:
        held = difference < hysteresis
    elif comparison == AT_LEAST:
        held = difference >= -hysteresis
    elif comparison == AT_MOST:
        held = difference <= hysteresis
    elif comparison == EQUAL:
        held = difference == 0.0
    else:
        held = difference != 0.0
    return np.uint8(TRUE) if held else np.uint8(FALSE)


@njit(cache=True, nogil=True)
def _run(
    book: Any, number: Any, when: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any, counters: Any
) -> None:
    """A rule of several conditions, one of which has changed."""
    rule = book.rules[number]
    rule.flags &= ~np.uint8(DIRTY)
    old = rule.state
    value = _value(book, rule.program, rule.first, True)
    new = value
    if rule.flags & LEVEL == 0:
        for at in range(rule.first, rule.first + rule.count):
            book.conditions[at].state &= np.uint8(3)
        new = _value(book, rule.program, rule.first, False)
    rule.state = new
    if rule.flags & WATCHED != 0:
        if value != old or (value == TRUE and rule.frequency == ONCE_PER_BAR_CLOSE):
            _fire(book, number, when, ts, tick, price, value, firings, sides, counters)
        if new != value:
            # What held only while it crossed is over with the same record.
            _fire(book, number, when, ts, tick, price, new, firings, sides, counters)
    elif value == TRUE and (old != TRUE or rule.frequency == ONCE_PER_BAR_CLOSE):
        _try(book, number, when, ts, tick, price, firings, sides, counters)


@njit(cache=True, nogil=True)
def _value(book: Any, program: Any, first: Any, pulses: Any) -> Any:
    """Kleene's value of a program: unknown wherever what is unknown decides."""
    stack, height = book.stack, 0
    while True:
        step = book.programs[program]
        program += 1
        if step >= 0:
            one = book.conditions[first + step]
            state = one.state & 3
            if one.flags & CROSSING != 0 and state == TRUE and not (pulses and one.state & PULSE != 0):
                state = FALSE
            stack[height] = state
            height += 1
        elif step == NOT:
            if stack[height - 1] != UNKNOWN:
                stack[height - 1] = TRUE if stack[height - 1] == FALSE else FALSE
        elif step == END:
            return np.uint8(stack[0])
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


@njit(cache=True, nogil=True)
def _try(
    book: Any, number: Any, when: Any, ts: Any, tick: Any, price: Any, firings: Any, sides: Any, counters: Any
) -> None:
    """Fire, unless the rule is off, has fired in this bar, or cools down."""
    rule = book.rules[number]
    if rule.flags & DISABLED != 0:
        return
    if rule.frequency == ONCE_PER_BAR:
        bar = np.int64(rule.bar) * NANOSECONDS
        if rule.fired_at // bar == ts // bar:
            return
    if rule.cooldown > 0 and ts - rule.fired_at < np.int64(rule.cooldown) * MILLISECONDS:
        return
    if rule.frequency == ONCE:
        rule.flags |= DISABLED
    rule.fired_at = ts
    _fire(book, number, when, ts, tick, price, np.uint8(TRUE), firings, sides, counters)


@njit(cache=True, nogil=True)
def _fire(
    book: Any,
    number: Any,
    when: Any,
    ts: Any,
    tick: Any,
    price: Any,
    truth: Any,
    firings: Any,
    sides: Any,
    counters: Any,
) -> None:
    rule = book.rules[number]
    base = book.base[rule.symbol]
    at, side = counters[FIRINGS], counters[SIDE_COUNT]
    one = firings[at]
    one.ts, one.price, one.rule, one.tick = ts, price, number, tick
    one.sides, one.count, one.truth, one.at_close = side, rule.count, truth, when
    for offset in range(rule.count):
        condition = book.conditions[rule.first + offset]
        entry = sides[side + offset]
        entry.left = book.arena[base + condition.left]
        entry.right = condition.threshold if condition.right == NO_READING else book.arena[base + condition.right]
        entry.truth = condition.state & 3
    counters[FIRINGS], counters[SIDE_COUNT] = at + 1, side + rule.count


@njit(cache=True, nogil=True)
def _forget_sides(book: Any, symbol: Any) -> None:
    """After a gap nothing is known to have been on either side, so nothing crosses with the next tick."""
    begin = book.condition_begin[symbol]
    for number in range(begin, begin + book.condition_count[symbol]):
        if book.conditions[number].flags & CROSSING != 0:
            book.conditions[number].state = np.uint8(UNKNOWN)
