"""The kernel: records in, firings out, in one pass that can stop where the firings have no more room and go on there.

Order of one trade: bars that ended at or before it close, in the order of their ends, and what is asked at closes is
asked; then the trade enters the forming bars, the indicators follow, and what is asked at each tick is asked.

A trade is late where it is older than its symbol's newest trade or than the end of a bar that has closed: it enters
high, low and volume of the bars that are still open; the close stays the newest trade's.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.alerts.engine.asking import ask, forget_sides, once_a_bar
from tapeline.alerts.engine.computing import compute
from tapeline.alerts.engine.fields import (
    AHEAD,
    AHEAD_LIMIT,
    BASE,
    CLOCK_AT,
    CLOCK_TIME,
    FIRINGS,
    LATE,
    NEWEST,
    NEXT_END,
    NEXT_SYMBOL,
    OPENED,
    PLACE,
    PRICE,
    RECORD,
    REFUSED,
    REFUSED_FIRST,
    S_COMPUTED,
    S_COMPUTED_END,
    S_CONDITION,
    S_CONDITION_END,
    S_FLAGS,
    S_FRAME,
    S_FRAMES,
    S_ONCE_A_BAR,
    S_ROW,
    S_RULE,
    S_RULE_END,
    S_SPAN,
    SET,
    SIDE_COUNT,
    SIZE,
    SYMBOL,
    TIME,
    TOO_LATE,
    TRUTH_AT,
)  # fmt: skip
from tapeline.alerts.engine.forming import form_prices, form_volumes
from tapeline.alerts.engine.history import close_bar, open_bar
from tapeline.alerts.engine.indicators import BAR_CLOSE, BAR_HIGH, BAR_LOW, BAR_OPEN, BAR_VOLUME, EXTERNAL
from tapeline.alerts.engine.layout import CLOCK_SLOTS, F_DURATION, F_OPENING, FAR, READS_RECORD, TELLS_TIME
from tapeline.alerts.engine.level_lists import LevelTables
from tapeline.alerts.engine.level_passing import all_of, is_between, most_asked, pass_levels
from tapeline.alerts.engine.options import BORROWED, INNER
from tapeline.alerts.engine.table import EACH_TICK, NEVER, NO_READING, TRUE
from tapeline.alerts.engine.truth import truth_of

# What a record of a batch is.
TRADE, VALUE, EVENT, CLOCK, GAP = range(5)
"""A trade; a new value of an external series (its place in ``size``); one that holds only for this record; a time that
has been reached (symbol -1: by all), with which bars close; a gap in the feed: what was on which side is not known."""

EARLIEST: Final = 0
LATEST: Final = 7_258_118_400_000_000_000


class Book(NamedTuple):
    """All that the engine keeps.

    What changes with each tick: ``arena`` (blocks), ``clocks``, ``symbols`` (rows of
    ``SYMBOL_FIELDS``), ``truths`` (of conditions), ``status`` and ``fired_at`` (of rules). What stays: ``sets``,
    ``frames``, ``rows``, ``spans`` and ``constants`` of layouts, ``conditions``, ``rules`` and ``programs``.
    ``levels``: the rules that only compare the price with a number.
    """

    arena: NDArray[np.float64]
    clocks: NDArray[np.int64]
    symbols: NDArray[np.int64]
    truths: NDArray[np.uint8]
    status: NDArray[np.uint8]
    fired_at: NDArray[np.int64]
    sets: NDArray[np.int64]
    frames: NDArray[np.int64]
    rows: NDArray[np.void]
    spans: NDArray[np.int32]
    constants: NDArray[np.float64]
    conditions: NDArray[np.void]
    rules: NDArray[np.void]
    programs: NDArray[np.int16]
    stack: NDArray[np.int64]
    dirty: NDArray[np.int64]
    levels: LevelTables


@njit(**BORROWED)
def process(
    symbols: Any, times: Any, prices: Any, sizes: Any, records: Any, book: Any, firings: Any, sides: Any,
    refusals: Any, counters: Any, begin: Any,
) -> Any:  # fmt: skip
    """Take the records from ``begin`` on; the one at which it stopped for want of room, else their number."""
    arena, table, sets = book.arena, book.symbols, book.sets
    for tick in range(begin, symbols.size):
        symbol, ts, record = np.int64(symbols[tick]), times[tick], records[tick]
        reason = _reason(symbol, ts, record, prices[tick], sizes[tick], table.shape[0], counters)
        if reason >= 0:
            _refuse(tick, np.int64(reason), refusals, counters)
            continue
        if symbol < 0:
            for one in range(counters[NEXT_SYMBOL], table.shape[0]):
                if table[one, NEXT_END] <= ts or sets[table[one, SET], S_FLAGS] & TELLS_TIME != 0:
                    if not _has_room(book, one, math.nan, firings, sides, counters):
                        counters[NEXT_SYMBOL] = one
                        return tick
                    _reach_time(book, one, ts, tick, firings, sides, counters)
            counters[NEXT_SYMBOL] = 0
            counters[CLOCK_TIME] = max(counters[CLOCK_TIME], ts)
            continue
        number = table[symbol, SET]
        if not _has_room(book, symbol, prices[tick] if record == TRADE else math.nan, firings, sides, counters):
            return tick
        base = table[symbol, BASE]
        if record == TRADE:
            price, size = prices[tick], sizes[tick]
            if table[symbol, NEXT_END] <= ts:
                _close_until(book, symbol, ts, tick, firings, sides, counters)
            frames = sets[number, S_FRAMES]
            flags = sets[number, S_FLAGS]
            began = told = np.int64(0)
            if ts < table[symbol, NEWEST]:
                if not _take_late(book, symbol, ts, price, size):
                    _refuse(tick, np.int64(TOO_LATE), refusals, counters)
                    continue
                counters[LATE] += 1
                ts, price = table[symbol, NEWEST], arena[base]
            else:
                # Where bars begin, after a gap and after a change of rules, also a price that is the same is asked.
                moved = table[symbol, OPENED] == 0 or price != arena[base]
                if table[symbol, OPENED] == 0:
                    began = _open_bars(book, symbol, ts, price)
                table[symbol, NEWEST] = ts
                arena[base] = price
                bars, count = np.uintp(base + 1), np.uintp(frames)
                high, low = bars + BAR_HIGH * count, bars + BAR_LOW * count
                close, volume = bars + BAR_CLOSE * count, bars + BAR_VOLUME * count
                for frame in range(count):
                    arena[volume + frame] += size
                if moved:
                    for frame in range(count):
                        arena[high + frame] = max(arena[high + frame], price)
                        arena[low + frame] = min(arena[low + frame], price)
                        arena[close + frame] = price
                    form_prices(arena, base, sets, number, book.spans, sets[number, S_SPAN], book.constants, price)
                elif flags & READS_RECORD == 0:
                    continue
                if flags & READS_RECORD != 0:
                    form_volumes(arena, base, sets, number, book.spans, sets[number, S_SPAN], book.constants)
                    if sets[number, S_COMPUTED] < sets[number, S_COMPUTED_END]:
                        compute(book, base, number, table[symbol, CLOCK_AT], ts, np.int64(NEVER))
            if not is_between(book, symbol, price):
                told = pass_levels(book, symbol)
            at = _next_change(
                arena, base, book.conditions, sets[number, S_CONDITION], sets[number, S_CONDITION_END], book.truths,
                table[symbol, TRUTH_AT],
            )  # fmt: skip
            if told > 0 or at < sets[number, S_CONDITION_END]:
                ask(book, symbol, np.int64(EACH_TICK), at, told, ts, tick, price, firings, sides, counters)
            if began != 0 and sets[number, S_ONCE_A_BAR] != 0:
                once_a_bar(book, symbol, began, ts, tick, price, firings, sides, counters)
        elif record == CLOCK:
            _reach_time(book, symbol, ts, tick, firings, sides, counters)
        elif record == GAP:
            forget_sides(book, symbol)
        else:
            place = np.int64(sizes[tick])
            if not _is_external(book, number, place):
                _refuse(tick, np.int64(PLACE), refusals, counters)
                continue
            _close_until(book, symbol, ts, tick, firings, sides, counters)
            ts = max(ts, table[symbol, NEWEST])
            before = arena[base + place]
            arena[base + place] = prices[tick]
            _ask_all(book, symbol, ts, tick, firings, sides, counters)
            if record == EVENT:
                arena[base + place] = before
                _ask_all(book, symbol, ts, tick, firings, sides, counters)
    return symbols.size


@njit(**INNER)
def _reason(symbol: Any, ts: Any, record: Any, price: Any, size: Any, known: Any, counters: Any) -> Any:
    """Why a record cannot be taken, -1 where it can."""
    if record == TRADE:
        if not 0.0 < price < math.inf:
            return PRICE
        if not 0.0 <= size < math.inf:
            return SIZE
    elif record > GAP:
        return RECORD
    elif record <= EVENT and not 0.0 <= size < 2.0**31:
        return PLACE
    if symbol >= known or (symbol < 0 and not (symbol == -1 and record == CLOCK)):
        return SYMBOL
    if not EARLIEST <= ts <= LATEST:
        return TIME
    limit, now = counters[AHEAD_LIMIT], counters[CLOCK_TIME]
    if limit > 0 and now > 0 and symbol >= 0 and ts - now > limit:
        return AHEAD
    return -1


@njit(**INNER)
def _refuse(tick: Any, reason: Any, refusals: Any, counters: Any) -> None:
    at = counters[REFUSED]
    refusals[at, 0], refusals[at, 1] = tick, reason
    counters[REFUSED] = at + 1
    counters[REFUSED_FIRST + reason] += 1


@njit(**INNER)
def _has_room(book: Any, symbol: Any, price: Any, firings: Any, sides: Any, counters: Any) -> Any:
    """Whether all that one record of a symbol can bring has a place. ``price``: of a trade, else not a number."""
    sets, number = book.sets, book.symbols[symbol, SET]
    times = 2 * (sets[number, S_FRAMES] + 3)
    most_fired = firings.size - counters[FIRINGS] - times * (sets[number, S_RULE_END] - sets[number, S_RULE])
    most_sides = sides.size - counters[SIDE_COUNT] - times * (
        sets[number, S_CONDITION_END] - sets[number, S_CONDITION]
    )  # fmt: skip
    most = min(most_fired, most_sides)
    if most < 0 or is_between(book, symbol, price):
        return most >= 0
    # A level tells at most two things, and only the first time that a record asks.
    return most >= 2 * all_of(book, symbol) or most >= 2 * most_asked(book, symbol, price)


@njit(**INNER)
def _is_external(book: Any, number: Any, place: Any) -> Any:
    """Whether a place of a block is an external value's."""
    for row in range(book.sets[number, S_COMPUTED], book.sets[number, S_COMPUTED_END]):
        one = book.rows[row]
        if one.kind == EXTERNAL and one.out == place:
            return True
    return False


@njit(**INNER)
def _next_change(
    arena: Any, base: Any, conditions: Any, begin: Any, end: Any, truths: Any, truth_at: Any
) -> Any:  # fmt: skip
    """The first condition asked at each tick whose truth is another than before; ``end`` where there is none."""
    shift = truth_at - begin
    for number in range(begin, end):
        one = conditions[np.uintp(number)]
        right = one.threshold if one.right == NO_READING else arena[np.uintp(base + one.right)]
        old = truths[np.uintp(shift + number)]
        difference = arena[np.uintp(base + one.left)] - right
        if (
            truth_of(one.comparison, difference, one.hysteresis if old == TRUE else 0.0) != old
            and one.when == EACH_TICK
        ):
            return number
    return end


@njit(**INNER)
def _close_until(book: Any, symbol: Any, ts: Any, tick: Any, firings: Any, sides: Any, counters: Any) -> None:
    """Close the bars that ended by ``ts``, those that ended first before the others."""
    number, clock, base = book.symbols[symbol, SET], book.symbols[symbol, CLOCK_AT], book.symbols[symbol, BASE]
    count, first = book.sets[number, S_FRAMES], book.sets[number, S_FRAME]
    clocks = book.clocks
    while book.symbols[symbol, NEXT_END] <= ts:
        ended = book.symbols[symbol, NEXT_END]
        after = FAR
        for frame in range(count):
            end = clocks[clock + CLOCK_SLOTS * frame]
            if end == ended:
                close_bar(
                    book.arena, base, book.frames, first + frame, frame, count, book.rows, book.sets[number, S_ROW],
                    ended,
                )  # fmt: skip
                clocks[clock + CLOCK_SLOTS * frame], clocks[clock + CLOCK_SLOTS * frame + 1] = FAR, ended
            else:
                after = min(after, end)
        book.symbols[symbol, NEXT_END], book.symbols[symbol, OPENED] = after, 0
        book.symbols[symbol, NEWEST] = max(book.symbols[symbol, NEWEST], ended)
        if book.sets[number, S_COMPUTED] < book.sets[number, S_COMPUTED_END]:
            compute(book, base, number, clock, ended, ended)
        for frame in range(count):
            # Between its end, which stands in the second slot now, and the next bar that a trade will begin.
            at = clock + CLOCK_SLOTS * frame
            if clocks[at + 1] == ended and clocks[at] == FAR:
                ask(
                    book, symbol, frame + 1, book.sets[number, S_CONDITION], np.int64(0), ended, tick,
                    book.arena[base], firings, sides, counters,
                )  # fmt: skip


@njit(**INNER)
def _reach_time(book: Any, symbol: Any, ts: Any, tick: Any, firings: Any, sides: Any, counters: Any) -> None:
    """A time has been reached: bars close, and what counts the time that has passed is asked."""
    _close_until(book, symbol, ts, tick, firings, sides, counters)
    if book.sets[book.symbols[symbol, SET], S_FLAGS] & TELLS_TIME != 0:
        _ask_all(book, symbol, max(ts, book.symbols[symbol, NEWEST]), tick, firings, sides, counters)


@njit(**INNER)
def _ask_all(book: Any, symbol: Any, ts: Any, tick: Any, firings: Any, sides: Any, counters: Any) -> None:
    number, base = book.symbols[symbol, SET], book.symbols[symbol, BASE]
    compute(book, base, number, book.symbols[symbol, CLOCK_AT], ts, np.int64(NEVER))
    at, price = book.sets[number, S_CONDITION], book.arena[base]
    told = np.int64(0)
    if math.isnan(book.levels.near[symbol, 0]):
        told = pass_levels(book, symbol)
    ask(book, symbol, np.int64(EACH_TICK), at, told, ts, tick, price, firings, sides, counters)


@njit(**INNER)
def _open_bars(book: Any, symbol: Any, ts: Any, price: Any) -> Any:
    """Begin the bars that are not under way; a bit for each timeframe of which one began."""
    number, clock, base = book.symbols[symbol, SET], book.symbols[symbol, CLOCK_AT], book.symbols[symbol, BASE]
    count, first = book.sets[number, S_FRAMES], book.sets[number, S_FRAME]
    began, after = np.int64(0), FAR
    for frame in range(count):
        at = clock + CLOCK_SLOTS * frame
        if book.clocks[at] == FAR:
            began |= np.int64(1) << frame
            duration = book.frames[first + frame, F_DURATION]
            opened = ts - ts % duration
            book.clocks[at] = opened + duration
            bar = base + 1 + frame
            book.arena[bar + BAR_OPEN * count] = price
            book.arena[bar + BAR_HIGH * count] = price
            book.arena[bar + BAR_LOW * count] = price
            book.arena[bar + BAR_VOLUME * count] = 0.0
            if book.frames[first + frame, F_OPENING] != 0:
                open_bar(book.arena, base, book.frames, first + frame, book.rows, book.sets[number, S_ROW], opened)
        after = min(after, book.clocks[at])
    book.symbols[symbol, NEXT_END], book.symbols[symbol, OPENED] = after, 1
    return began


@njit(**INNER)
def _take_late(book: Any, symbol: Any, ts: Any, price: Any, size: Any) -> Any:
    """Let a late trade enter the bars that are open at its time; whether there was one."""
    number, clock, base = book.symbols[symbol, SET], book.symbols[symbol, CLOCK_AT], book.symbols[symbol, BASE]
    count, first = book.sets[number, S_FRAMES], book.sets[number, S_FRAME]
    entered = False
    for frame in range(count):
        end = book.clocks[clock + CLOCK_SLOTS * frame]
        if end != FAR and end - book.frames[first + frame, F_DURATION] <= ts < end:
            entered = True
            bar = base + 1 + frame
            book.arena[bar + BAR_HIGH * count] = max(book.arena[bar + BAR_HIGH * count], price)
            book.arena[bar + BAR_LOW * count] = min(book.arena[bar + BAR_LOW * count], price)
            book.arena[bar + BAR_VOLUME * count] += size
            form_volumes(
                book.arena, base, book.sets, number, book.spans, book.sets[number, S_SPAN] + 1 + frame, book.constants
            )
    if entered and book.sets[number, S_COMPUTED] < book.sets[number, S_COMPUTED_END]:
        compute(book, base, number, clock, book.symbols[symbol, NEWEST], np.int64(NEVER))
    return entered
