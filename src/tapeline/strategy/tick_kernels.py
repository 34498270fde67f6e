"""The engine of the tick simulator: one pass over quotes and trades that can stop at any row and go on at the next.

A quote is a bar of one price for each side: buyers meet the ask, sellers the bid, which is what
:func:`tapeline.strategy.fills.fill_order_at_tick` says. So decisions, protection, orders and booking are those of bars.
What ticks add stands here: displayed sizes, deeper levels of a recorded book, and the queue at a limit.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.kernel_options import BORROWED, INNER
from tapeline.strategy.account_kernels import (
    CASH,
    FILL_COUNT,
    HALF_SPREAD,
    KIND,
    LIMIT_PRICE,
    MARK,
    ORDER,
    ORDER_COUNT,
    ORDER_DECIDED,
    POSITION,
    ROOM,
    SENT,
    STOP_ORDER,
    STOP_PRICE,
    STOPPED,
    TAKE_PRICE,
    TAKEN,
    TARGETED,
    TRIGGERED,
    VOLUME,
    WANTED,
    end_order,
    in_reach,
    protect,
    take_decision,
    turn_day,
    work_order,
)
from tapeline.strategy.costs import BY_TRADED
from tapeline.strategy.latency import missed
from tapeline.strategy.orders import BY_STOP, EXPIRED, LIMIT, STOP, STOP_LIMIT
from tapeline.strategy.simulator_kernels import charge_financing

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Of the last good quote: its prices, what was taken of its sizes, and the queue ahead of the order that rests.
BID, ASK, BID_TAKEN, ASK_TAKEN, AHEAD = range(5)
QUOTE: Final = 5
# Whether the order rests in a queue, chances it had, when it expires, and the newest book (-1: none yet).
RESTS, CHANCE, EXPIRES, BOOK = range(4)
PLACES: Final = 4


class Ticks(NamedTuple):
    """Quotes and trades by row; a row may be either or both, what it is not is NaN.

    Sizes, trades and rates may be empty: then sizes are not known, nothing traded, nothing is charged.
    """

    ts: Integers
    bid: Floats
    ask: Floats
    bid_size: Floats
    ask_size: Floats
    price: Floats
    size: Floats
    taker: Floats
    long_rate: Floats
    short_rate: Floats


class TickDecisions(NamedTuple):
    """What is wanted, one row a decision; ``arrival`` is when each reaches the market and never decreases."""

    arrival: Integers
    target: Floats
    stop: Floats
    take: Floats
    limit: Floats
    trigger: Floats


class Venue(NamedTuple):
    """Where orders rest: ``printed`` says that quotes were made of trades, ``in_force`` and ``book_age`` are in ns."""

    printed: bool
    queued: bool
    share_ahead: float
    miss: float
    seed: Any
    in_force: int
    book_age: int


class Levels(NamedTuple):
    """Books one after the other, each the bids from ``bids`` and the asks from ``asks`` up to ``end``, best first.

    ``taken`` is what was taken of each level by the account.
    """

    stamps: Integers
    bids: Integers
    asks: Integers
    end: Integers
    price: Floats
    size: Floats
    taken: Floats


@njit(cache=True, nogil=True)
def begin_ticks() -> Any:
    """What is remembered of the market before the first tick."""
    quote, places = np.full(QUOTE, math.nan), np.zeros(PLACES, np.int64)
    quote[BID_TAKEN], quote[ASK_TAKEN], places[BOOK] = 0.0, 0.0, -1
    return quote, places


@njit(inline="always", **BORROWED)
def is_quote(bid: Any, ask: Any) -> Any:
    """Whether a quote can be traded: both prices finite, neither 0, not crossed.

    Examples
    --------
    >>> is_quote(1.0, 1.0), is_quote(1.1, 1.0), is_quote(0.0, 1.0), is_quote(1.0, math.nan)
    (True, False, False, False)
    """
    return -math.inf < bid and bid <= ask and ask < math.inf and bid != 0.0 and ask != 0.0


@njit(**BORROWED)
def advance_ticks(
    ticks: Any,
    decisions: Any,
    rules: Any,
    resting: Any,
    venue: Any,
    levels: Any,
    amounts: Any,
    counts: Any,
    quote: Any,
    places: Any,
    log: Any,
    equity: Any,
    marks: Any,
    charged: Any,
    begin: Any,
    end: Any,
) -> Any:
    """Trade rows ``begin`` to ``end``; the row at which it stopped, earlier than ``end`` where the log has no room.

    ``rules`` hold for what meets a quote, ``resting`` for what a trade leaves to the order in the queue. ``equity`` and
    ``marks`` (the price at which the position could be closed) are written by row.
    """
    fills_room, orders_room = log.fill_codes.shape[0] - ROOM, log.order_codes.shape[0] - ROOM
    times, bids, asks = ticks.ts, ticks.bid, ticks.ask
    stamps, arrivals, targets = levels.stamps, decisions.arrival, decisions.target
    tiered = rules.schedule.tiered == BY_TRADED
    financed, traded, expires = charged.size > 0, ticks.price.size > 0, venue.in_force > 0
    amounts[HALF_SPREAD] = 0.0
    for row in range(begin, end):
        now = times[row]
        while places[BOOK] + 1 < stamps.size and stamps[places[BOOK] + 1] <= now:
            places[BOOK] += 1
        due, book = counts[SENT], places[BOOK]
        while due < arrivals.size and arrivals[due] <= now:
            due += 1
        # Every level can be a fill of its own, of the stop, the target, the order, and of the stop again.
        deep = 4 * (levels.end[book] - levels.bids[book]) if book >= 0 else 0
        if counts[FILL_COUNT] + deep > fills_room or counts[ORDER_COUNT] + due - counts[SENT] > orders_room:
            return row
        if financed:
            charge_financing(ticks, amounts, charged, row)
        if expires:
            _expire(counts, places, log, row, now)
        while counts[SENT] < due:
            if not math.isnan(targets[counts[SENT]]):
                _arrive(decisions, rules, venue, amounts, counts, quote, places, log, counts[SENT], row)
            counts[SENT] += 1
        if expires:
            _expire(counts, places, log, row, now)
        if tiered:
            turn_day(amounts, now)
        if traded and counts[ORDER] >= 0 and places[RESTS] > 0:
            _serve_queue(ticks, resting, venue, amounts, counts, quote, places, log, row)
        bid, ask = bids[row], asks[row]
        if is_quote(bid, ask):
            quote[BID], quote[ASK], quote[BID_TAKEN], quote[ASK_TAKEN] = bid, ask, 0.0, 0.0
            position = amounts[POSITION]
            one = bid if position > 0.0 else ask
            if counts[ORDER] >= 0 or (
                position != 0.0
                and (counts[STOP_ORDER] >= 0 or in_reach(position, one, one, amounts[STOP_PRICE], amounts[TAKE_PRICE]))
            ):
                _meet_quote(ticks, rules, venue, levels, amounts, counts, quote, places, log, row)
        position = amounts[POSITION]
        if position == 0.0:
            equity[row], marks[row] = amounts[CASH], math.nan
        else:
            value = quote[BID] if position > 0.0 else quote[ASK]
            if not math.isnan(value):
                amounts[MARK] = value
            equity[row], marks[row] = amounts[CASH] + position * amounts[MARK], amounts[MARK]
    return end


@njit(inline="always", **BORROWED)
def _expire(counts: Any, places: Any, log: Any, row: Any, now: Any) -> None:
    if counts[ORDER] >= 0 and now >= places[EXPIRES]:
        end_order(counts, log, ORDER, EXPIRED, row)


@njit(**INNER)
def _arrive(
    decisions: Any,
    rules: Any,
    venue: Any,
    amounts: Any,
    counts: Any,
    quote: Any,
    places: Any,
    log: Any,
    decided: Any,
    row: Any,
) -> None:
    take_decision(
        rules.by_distance,
        amounts,
        counts,
        log,
        decided,
        row,
        decisions.target[decided],
        decisions.stop[decided],
        decisions.take[decided],
        decisions.limit[decided],
        decisions.trigger[decided],
    )
    places[RESTS], places[CHANCE], quote[AHEAD] = 0, 0, math.nan
    places[EXPIRES] = decisions.arrival[decided] + venue.in_force


@njit(**INNER)
def _meet_quote(
    ticks: Any,
    rules: Any,
    venue: Any,
    levels: Any,
    amounts: Any,
    counts: Any,
    quote: Any,
    places: Any,
    log: Any,
    row: Any,
) -> None:
    """All that one quote fills: the stop, the target, the order, and the stop of what the order has just opened."""
    _protect(ticks, rules, venue, levels, amounts, counts, quote, places, log, row, STOPPED)
    _protect(ticks, rules, venue, levels, amounts, counts, quote, places, log, row, TARGETED)
    before = counts[FILL_COUNT]
    if counts[ORDER] >= 0:
        if places[RESTS] == 0:
            _take(ticks, rules, venue, levels, amounts, counts, quote, places, log, row)
        elif not venue.printed:
            _reach_resting(ticks, rules, venue, levels, amounts, counts, quote, places, log, row)
    if counts[FILL_COUNT] > before:
        _protect(ticks, rules, venue, levels, amounts, counts, quote, places, log, row, STOPPED)


@njit(**INNER)
def _protect(
    ticks: Any,
    rules: Any,
    venue: Any,
    levels: Any,
    amounts: Any,
    counts: Any,
    quote: Any,
    places: Any,
    log: Any,
    row: Any,
    reason: Any,
) -> None:
    """Let the stop or the target of the position meet the quote, then the levels behind it."""
    position = amounts[POSITION]
    if position == 0.0:
        return
    buys = position < 0.0
    slot, one = (ASK_TAKEN, quote[ASK]) if buys else (BID_TAKEN, quote[BID])
    amounts[VOLUME], amounts[TAKEN] = _displayed(ticks, row, buys), quote[slot]
    protect(rules, amounts, counts, log, row, reason, one, one, one)
    quote[slot] = amounts[TAKEN]
    first, last = _behind(venue, levels, places, ticks.ts[row], buys)
    for level in range(first, last):
        # A level behind the quote fills what was triggered; it is no quote that triggers.
        if amounts[POSITION] * position <= 0.0 or (reason == BY_STOP and counts[STOP_ORDER] < 0):
            break
        price = levels.price[level]
        if price > one if buys else price < one:
            amounts[VOLUME], amounts[TAKEN] = levels.size[level], levels.taken[level]
            protect(rules, amounts, counts, log, row, reason, price, price, price)
            levels.taken[level] = amounts[TAKEN]


@njit(**INNER)
def _take(
    ticks: Any,
    rules: Any,
    venue: Any,
    levels: Any,
    amounts: Any,
    counts: Any,
    quote: Any,
    places: Any,
    log: Any,
    row: Any,
) -> None:
    """Let the order of the last decision meet the quote and the levels behind it; what is left of a limit may rest."""
    kind, buys = counts[KIND], amounts[WANTED] > amounts[POSITION]
    slot, one = (ASK_TAKEN, quote[ASK]) if buys else (BID_TAKEN, quote[BID])
    amounts[VOLUME], amounts[TAKEN] = _displayed(ticks, row, buys), quote[slot]
    work_order(rules, amounts, counts, log, row, one, one, one)
    quote[slot] = amounts[TAKEN]
    first, last = _behind(venue, levels, places, ticks.ts[row], buys)
    for level in range(first, last):
        if counts[ORDER] < 0 or (kind >= STOP and counts[TRIGGERED] == 0):
            break
        price = levels.price[level]
        if price > one if buys else price < one:
            amounts[VOLUME], amounts[TAKEN] = levels.size[level], levels.taken[level]
            work_order(rules, amounts, counts, log, row, price, price, price)
            levels.taken[level] = amounts[TAKEN]
    if venue.queued and counts[ORDER] >= 0 and (kind == LIMIT or (kind == STOP_LIMIT and counts[TRIGGERED] > 0)):
        places[RESTS] = 1
        quote[AHEAD] = _queue_ahead(ticks, venue, levels, amounts, quote, places, row, buys)


@njit(**INNER)
def _reach_resting(
    ticks: Any,
    rules: Any,
    venue: Any,
    levels: Any,
    amounts: Any,
    counts: Any,
    quote: Any,
    places: Any,
    log: Any,
    row: Any,
) -> None:
    """A quote that comes to the limit of a resting order trades with it, at the limit and for what it displays."""
    limit, buys = amounts[LIMIT_PRICE], amounts[WANTED] > amounts[POSITION]
    slot, one, own = (ASK_TAKEN, quote[ASK], quote[BID]) if buys else (BID_TAKEN, quote[BID], quote[ASK])
    if math.isnan(quote[AHEAD]) or (limit > own if buys else limit < own):
        quote[AHEAD] = _queue_ahead(ticks, venue, levels, amounts, quote, places, row, buys)
    if (one <= limit if buys else one >= limit) and not _misses(venue, counts, places, log):
        amounts[VOLUME], amounts[TAKEN] = _displayed(ticks, row, buys), quote[slot]
        # A bar that opens at the limit: who rests is not given the better price of who comes.
        work_order(rules, amounts, counts, log, row, limit, max(limit, one), min(limit, one))
        quote[slot] = amounts[TAKEN]


@njit(**INNER)
def _serve_queue(
    ticks: Any, resting: Any, venue: Any, amounts: Any, counts: Any, quote: Any, places: Any, log: Any, row: Any
) -> None:
    """A trade serves who stood before, then the order; one beyond the limit has served them all."""
    price, left = ticks.price[row], ticks.size[row]
    side = 1.0 if amounts[WANTED] > amounts[POSITION] else -1.0
    limit = amounts[LIMIT_PRICE]
    if not (-math.inf < price < math.inf) or price == 0.0 or not left > 0.0:
        return
    beyond = side * price < side * limit
    if not beyond and (price != limit or ticks.taker[row] == side):
        return
    if not beyond:
        if math.isnan(quote[AHEAD]):
            return
        passed = min(quote[AHEAD], left)
        quote[AHEAD] -= passed
        left -= passed
    if left > 0.0 and not _misses(venue, counts, places, log):
        amounts[VOLUME], amounts[TAKEN] = math.inf if beyond else left, 0.0
        work_order(resting, amounts, counts, log, row, limit, limit, limit)


@njit(inline="always", **BORROWED)
def _misses(venue: Any, counts: Any, places: Any, log: Any) -> Any:
    """Whether the order that works misses this chance, by seed."""
    places[CHANCE] += 1
    number = log.order_codes[counts[ORDER], ORDER_DECIDED]
    return missed(venue.seed, number, places[CHANCE] - 1, venue.miss)


@njit(inline="always", **BORROWED)
def _displayed(ticks: Any, row: Any, buys: Any) -> Any:
    """The size on the side that is met; infinite where none is recorded."""
    sizes = ticks.ask_size if buys else ticks.bid_size
    size = sizes[row] if sizes.size > 0 else math.inf
    return math.inf if math.isnan(size) else size


@njit(inline="always", **BORROWED)
def _behind(venue: Any, levels: Any, places: Any, now: Any, asks: Any) -> Any:
    """The levels of a side in the newest book, none where there is no book or it is too old."""
    book = places[BOOK]
    first, last = 0, 0
    if book >= 0 and now - levels.stamps[book] <= venue.book_age:
        first = levels.asks[book] if asks else levels.bids[book]
        last = levels.end[book] if asks else levels.asks[book]
    return first, last


@njit(**INNER)
def _queue_ahead(
    ticks: Any, venue: Any, levels: Any, amounts: Any, quote: Any, places: Any, row: Any, buys: Any
) -> Any:
    """Units that stand before an order at its limit; NaN where no quote and no book shows them."""
    limit, own = amounts[LIMIT_PRICE], quote[BID] if buys else quote[ASK]
    if venue.printed:
        return math.nan
    if limit > own if buys else limit < own:
        return 0.0
    if limit == own:
        size = _displayed(ticks, row, not buys)
        if size < math.inf:
            return size * venue.share_ahead
    first, last = _behind(venue, levels, places, ticks.ts[row], not buys)
    for level in range(first, last):
        if levels.price[level] == limit:
            return levels.size[level] * venue.share_ahead
    return math.nan
