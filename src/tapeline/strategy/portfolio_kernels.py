"""The engine of many symbols on one account: one pass over the opens and closes of all bars, in the order of time.

A book is a symbol, or in hedging mode a symbol and a tag. What one book does with its orders is done by the functions
of one account (:mod:`tapeline.strategy.account_kernels`); here stands what books share: cash, margin, limits of risk.
The pass can stop before any event and go on at it, so that a history and a stream run through the same statements.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.strategy.account_kernels import (
    AGE,
    ANCHOR,
    FILL_COMMISSION,
    FILL_COUNT,
    FILL_PRICE,
    FILL_QUANTITY,
    HALF_SPREAD,
    KIND,
    LIMIT_PRICE,
    MARK,
    NEXT_STOP,
    NEXT_TAKE,
    ORDER,
    ORDER_COUNT,
    ORDER_DECIDED,
    ORDER_FILLED,
    ORDER_QUANTITY,
    ORDER_REASON,
    ORDER_STATUS,
    POSITION,
    ROOM,
    SENT,
    STOP_ORDER,
    STOP_PRICE,
    TAKE_PRICE,
    TAKEN,
    TRIGGER,
    TRIGGERED,
    VOLATILITY,
    VOLUME,
    WANTED,
    Rules,
    age_order,
    book_fill,
    end_order,
    in_reach,
    log_order,
    match_order,
    protect,
    take_decision,
    turn_day,
)
from tapeline.strategy.costs import BY_TRADED, CommissionSchedule
from tapeline.strategy.kernel_options import BORROWED
from tapeline.strategy.orders import (
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    CANCELLED,
    FILLED,
    MARKET,
    PARTIAL,
    REASONS,
    REJECTED,
)
from tapeline.strategy.risk_kernels import (
    CLOSE_ALL,
    PERMITTED,
    RISK_REASONS,
    RiskRules,
    RiskState,
    mark_risk,
    note_fill,
    permitted_quantity,
)
from tapeline.strategy.simulator_kernels import value_at
from tapeline.strategy.slippage import SlippageModel

# Functions that are called by kernels alone are compiled without the parts that Python would call.
_INNER: Final[dict[str, Any]] = {**BORROWED, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BY_MARGIN: Final = len(REASONS)
BY_KILL_SWITCH: Final = BY_MARGIN + 1
PORTFOLIO_REASONS: Final = (*REASONS, "margin", "kill_switch")
"""Why an order was sent: as of one symbol, or to close a position for want of margin or by the kill switch."""

MARGIN, CLOSING, STOPPING = range(len(RISK_REASONS), len(RISK_REASONS) + 3)
REFUSALS: Final = (*RISK_REASONS, "margin", "closing", "stopping")
"""Why a decision or a fill was cut or refused: a limit of risk; want of margin; its position is being closed by the
account, or by its own stop."""

CASH: Final = 0
FILLS, ORDERS, REFUSED, MARKED, INSTANT, WATCHED_AT, NEEDED = range(7)
TALLIES: Final = 7
"""Places in ``Account.tallies``: rows of the logs that are used, the instant of the newest rates, the time at which
limits were last looked at, and how much room a full log lacked."""

REFUSAL_BOOK, REFUSAL_ROW, REFUSAL_DECIDED, REFUSAL_ORDER, REFUSAL_REASON = range(5)
EQUITY, PATH_CASH, GROSS, NET, MARGIN_USED = range(5)


class Rows(NamedTuple):
    """Of each row of the market its book, and the book's next row; without the latter rows of a book are in line."""

    book: Integers
    following: Integers


class Terms(NamedTuple):
    """Costs and constraints by book: :class:`Rules` taken apart, since kernels are not compiled for a number of books.

    ``margin`` and ``maintenance`` are shares of a position's value; 0 asks nothing.
    """

    slippage: Floats
    schedule: Floats
    thresholds: Floats
    maker: Floats
    taker: Floats
    lot: Floats
    through: Floats
    in_force: Integers
    by_distance: NDArray[np.bool_]
    margin: Floats
    maintenance: Floats


class Books(NamedTuple):
    """What is remembered of each book, written in place; books of one symbol are neighbours.

    ``settled`` is the position up to the last fill that the account has paid for, ``mean`` its average entry price,
    ``rate`` the newest value of its money in the account's, ``fill_rate`` that of the open of its bar under way,
    ``closing`` 0 or the reason for which the account closes it.
    """

    amounts: Floats
    counts: Integers
    settled: Floats
    mean: Floats
    rate: Floats
    fill_rate: Floats
    closing: Integers
    symbol: Integers
    currency: Integers


class Account(NamedTuple):
    """What books share: switches, cash, counters, and by symbol the volume taken from the bar under way, and values."""

    larger_leg: bool
    margined: bool
    maintained: bool
    limited: bool
    totals: Floats
    tallies: Integers
    taken: Floats
    taken_at: Integers
    values: Floats


class Risk(NamedTuple):
    """Limits and their state; by symbol, in the order of books."""

    rules: RiskRules
    state: RiskState


class Notes(NamedTuple):
    """Beside the log of fills: when the account knew of each; and what was refused."""

    fill_known: Integers
    refusal_codes: Integers
    refusal_amounts: Floats


class Path(NamedTuple):
    """By instant of closes the account; by row of the market its position, financing and rate.

    The position is that at the row's close, the others are of its open, and empty where nothing is financed, or all
    money is the account's.
    """

    at: Integers
    amounts: Floats
    position: Floats
    charged: Floats
    rate: Floats


@njit(**BORROWED)
def advance_portfolio(
    market: Any,
    decisions: Any,
    rows: Any,
    events: Any,
    instants: Any,
    rates: Any,
    terms: Any,
    books: Any,
    account: Any,
    risk: Any,
    log: Any,
    notes: Any,
    path: Any,
    begin: Any,
    end: Any,
) -> Any:
    """Take events ``begin`` to ``end``; the one before which it stopped, earlier than ``end`` where a log is full.

    An event is twice a row of the market, and 1 more for its open. ``instants`` gives the row of ``rates`` (instants by
    currencies) for each event, or is empty where all money is the account's.
    """
    fills_room, orders_room = log.fill_codes.shape[0] - ROOM, log.order_codes.shape[0] - ROOM
    refusals_room = notes.refusal_codes.shape[0] - ROOM
    tallies, counts, amounts = account.tallies, books.counts, books.amounts
    close_ts, closes, highs, lows, targets = market.close_ts, market.close, market.high, market.low, decisions.target
    late, financed, converts = decisions.latency.size > 0, path.charged.size > 0, path.rate.size > 0
    tallies[INSTANT] = -1
    for at in range(begin, end):
        event = events[at]
        row = event >> 1
        book = rows.book[row]
        waiting = row - counts[book, SENT] if counts[book, SENT] >= 0 else 0
        if (
            tallies[FILLS] > fills_room
            or tallies[ORDERS] + waiting > orders_room
            or tallies[REFUSED] + 2 * waiting > refusals_room
        ):
            tallies[NEEDED] = 2 * waiting
            return at
        if instants.size > 0 and instants[at] != tallies[INSTANT]:
            tallies[INSTANT] = instants[at]
            for each in range(books.rate.size):
                if books.currency[each] >= 0:
                    books.rate[each] = rates[instants[at], books.currency[each]]
        if event & 1:
            if account.limited and tallies[WATCHED_AT] != market.ts[row]:
                _watch(books, account, risk, market.ts[row], _equity(books, account))
            position, sent = amounts[book, POSITION], counts[book, SENT]
            quiet = counts[book, ORDER] < 0 and books.closing[book] == 0 and not late
            quiet = quiet and (sent < 0 or math.isnan(targets[sent])) and (position == 0.0 or not financed)
            if quiet and not _can_leave(books, book, position, highs[row], lows[row]):
                counts[book, SENT], books.fill_rate[book] = row, books.rate[book]
                if converts:
                    path.rate[row] = books.rate[book]
                continue
            _open_bar(market, decisions, rows, terms, books, account, risk, log, notes, path, book, row)
            continue
        if counts[book, ORDER] >= 0 or _can_leave(books, book, amounts[book, POSITION], highs[row], lows[row]):
            _rest_of_bar(market, terms, books, account, risk, log, notes, book, row)
        if -math.inf < closes[row] < math.inf:
            amounts[book, MARK] = closes[row]
        path.position[row] = amounts[book, POSITION]
        last = at + 1 == end or (events[at + 1] & 1) == 1 or close_ts[events[at + 1] >> 1] != close_ts[row]
        if last:
            _mark(terms, books, account, risk, path, close_ts[row])
    return end


@njit(**_INNER)
def _can_leave(books: Any, book: Any, position: Any, high: Any, low: Any) -> Any:
    """Whether a bar may meet the stop or the target of a position."""
    if position == 0.0:
        return False
    stop, take = books.amounts[book, STOP_PRICE], books.amounts[book, TAKE_PRICE]
    return books.counts[book, STOP_ORDER] >= 0 or in_reach(position, high, low, stop, take)


@njit(**_INNER)
def _open_bar(
    market: Any,
    decisions: Any,
    rows: Any,
    terms: Any,
    books: Any,
    account: Any,
    risk: Any,
    log: Any,
    notes: Any,
    path: Any,
    book: Any,
    row: Any,
) -> None:
    """A bar's open: financing, decisions that arrive, then what trades at the opening price."""
    amounts, counts, tallies = books.amounts[book], books.counts[book], account.tallies
    books.fill_rate[book] = books.rate[book]
    if path.rate.size > 0:
        path.rate[row] = books.rate[book]
    position = amounts[POSITION]
    if position != 0.0 and path.charged.size > 0:
        rate = value_at(market.long_rate if position > 0.0 else market.short_rate, row, 0.0)
        path.charged[row] = abs(position) * amounts[MARK] * rate
        account.totals[CASH] -= path.charged[row] * books.rate[book]
    counts[FILL_COUNT], counts[ORDER_COUNT] = tallies[FILLS], tallies[ORDERS]
    if counts[SENT] < 0:
        counts[SENT] = row
    # Orders of a book leave one after the other: one that is held up holds up those behind it.
    while counts[SENT] != row and (
        market.close_ts[counts[SENT]] + value_at(decisions.latency, counts[SENT], 0) <= market.ts[row]
    ):
        decided = counts[SENT]
        if not math.isnan(decisions.target[decided]):
            _arrive(decisions, terms, books, account, risk, log, notes, book, decided, row)
        counts[SENT] = rows.following[decided] if rows.following.size > 0 else decided + 1
    if books.closing[book] != 0:
        _send_closing_order(books, log, book, row)
    opened, high, low = market.opened[row], market.high[row], market.low[row]
    if counts[ORDER] >= 0 or (
        position != 0.0
        and (counts[STOP_ORDER] >= 0 or in_reach(position, high, low, amounts[STOP_PRICE], amounts[TAKE_PRICE]))
    ):
        amounts[VOLUME] = market.volume[row]
        amounts[VOLATILITY] = value_at(market.volatility, row, math.nan)
        amounts[HALF_SPREAD] = value_at(market.half_spread, row, 0.0)
        if terms.schedule[book, 0] == BY_TRADED:
            turn_day(amounts, market.ts[row])
        if low > -math.inf and low <= opened and opened <= high and high < math.inf:
            symbol, known = books.symbol[book], market.ts[row]
            if account.taken_at[symbol] != known:
                account.taken_at[symbol], account.taken[symbol] = known, 0.0
            # Books of one symbol share its volume.
            amounts[TAKEN] = account.taken[symbol]
            rules = _rules_of(terms, book)
            if amounts[POSITION] != 0.0:
                protect(rules, amounts, counts, log, row, BY_STOP, opened, opened, opened)
                _settle(books, account, risk, log, notes, book, known)
                protect(rules, amounts, counts, log, row, BY_TARGET, opened, opened, opened)
                _settle(books, account, risk, log, notes, book, known)
            if counts[ORDER] >= 0:
                _work_order(rules, terms, books, account, risk, log, notes, book, row, known, opened, opened, opened)
            account.taken[symbol] = amounts[TAKEN]
    tallies[ORDERS] = counts[ORDER_COUNT]


@njit(**_INNER)
def _rest_of_bar(
    market: Any, terms: Any, books: Any, account: Any, risk: Any, log: Any, notes: Any, book: Any, row: Any
) -> None:
    """What trades in a bar after its open, the worse before the better; the account learns of it at the close."""
    amounts, counts, tallies = books.amounts[book], books.counts[book], account.tallies
    opened, high, low = market.opened[row], market.high[row], market.low[row]
    position = amounts[POSITION]
    if counts[ORDER] < 0 and not (
        counts[STOP_ORDER] >= 0 or in_reach(position, high, low, amounts[STOP_PRICE], amounts[TAKE_PRICE])
    ):
        return
    counts[FILL_COUNT], counts[ORDER_COUNT] = tallies[FILLS], tallies[ORDERS]
    if low > -math.inf and low <= opened and opened <= high and high < math.inf:
        symbol, known = books.symbol[book], market.close_ts[row]
        amounts[TAKEN] = account.taken[symbol]
        rules = _rules_of(terms, book)
        if position != 0.0:
            protect(rules, amounts, counts, log, row, BY_STOP, opened, high, low)
            _settle(books, account, risk, log, notes, book, known)
        before, entered = amounts[POSITION], math.nan
        if counts[ORDER] >= 0:
            entered = _work_order(rules, terms, books, account, risk, log, notes, book, row, known, opened, high, low)
        if before * amounts[POSITION] > 0.0:
            protect(rules, amounts, counts, log, row, BY_TARGET, opened, high, low)
        elif amounts[POSITION] != 0.0:
            # Entered inside the bar: what is left of it can only hurt, since its best price may have come before.
            protect(rules, amounts, counts, log, row, BY_STOP, entered, high, low)
        _settle(books, account, risk, log, notes, book, known)
        account.taken[symbol] = amounts[TAKEN]
    if books.closing[book] == 0:
        age_order(terms.in_force[book], counts, log, row)
    tallies[ORDERS] = counts[ORDER_COUNT]


@njit(**_INNER)
def _arrive(
    decisions: Any,
    terms: Any,
    books: Any,
    account: Any,
    risk: Any,
    log: Any,
    notes: Any,
    book: Any,
    decided: Any,
    row: Any,
) -> None:
    """A decision reaches the market, as far as the account lets it."""
    amounts, counts = books.amounts[book], books.counts[book]
    wanted, position = decisions.target[decided], amounts[POSITION]
    if books.closing[book] != 0:
        _refuse(account, notes, book, row, decided, -1, CLOSING, wanted - position, 0.0)
        return
    stop, take = value_at(decisions.stop, decided, math.nan), value_at(decisions.take, decided, math.nan)
    limit, trigger = value_at(decisions.limit, decided, math.nan), value_at(decisions.trigger, decided, math.nan)
    if account.limited and wanted != position:
        side = 1.0 if wanted > position else -1.0
        asked = abs(wanted - position)
        price = amounts[MARK] if math.isnan(trigger) else trigger
        price = price if math.isnan(limit) else limit
        permitted, code = _permitted(terms, books, account, risk, book, side, asked, price, stop)
        if permitted < asked:
            _refuse(account, notes, book, row, decided, -1, code, side * asked, side * permitted)
            wanted = position + side * permitted
    before = counts[ORDER_COUNT]
    take_decision(terms.by_distance[book], amounts, counts, log, decided, row, wanted, stop, take, limit, trigger)
    if counts[ORDER_COUNT] > before and log.order_codes[before, ORDER_STATUS] == REJECTED:
        _refuse(account, notes, book, row, decided, before, STOPPING, wanted - position, 0.0)


@njit(**_INNER)
def _send_closing_order(books: Any, log: Any, book: Any, row: Any) -> None:
    """At the first open after the account decided to close a book: a market order in place of whatever works."""
    amounts, counts, reason = books.amounts[book], books.counts[book], books.closing[book]
    if amounts[POSITION] == 0.0:
        books.closing[book] = 0
        return
    if counts[ORDER] >= 0 and log.order_codes[counts[ORDER], ORDER_REASON] == reason:
        return
    end_order(counts, log, ORDER, CANCELLED, row)
    # A stop that has triggered is a market order already.
    if counts[STOP_ORDER] < 0:
        counts[ORDER] = log_order(counts, log, row, row, MARKET, reason, -amounts[POSITION], math.nan, math.nan)
        counts[KIND], counts[TRIGGERED], counts[AGE] = MARKET, 0, 0
        amounts[WANTED], amounts[LIMIT_PRICE], amounts[TRIGGER] = 0.0, math.nan, math.nan
        amounts[NEXT_STOP], amounts[NEXT_TAKE] = math.nan, math.nan


@njit(**_INNER)
def _work_order(
    rules: Any,
    terms: Any,
    books: Any,
    account: Any,
    risk: Any,
    log: Any,
    notes: Any,
    book: Any,
    row: Any,
    known: Any,
    opened: Any,
    high: Any,
    low: Any,
) -> Any:
    """Let the working order meet the bar within limits and margin; the market's price of its fill, NaN without one."""
    amounts, counts = books.amounts[book], books.counts[book]
    position, wanted = amounts[POSITION], amounts[WANTED]
    remaining = wanted - position
    side = 1.0 if remaining > 0.0 else -1.0
    kind, limit, order = counts[KIND], amounts[LIMIT_PRICE], counts[ORDER]
    reason, triggered_before = log.order_codes[order, ORDER_REASON], counts[TRIGGERED] > 0
    quantity, cut = abs(remaining), False
    filled, base, price = 0.0, math.nan, math.nan
    for attempt in range(2):
        filled, base, price, triggered = match_order(
            rules.slippage,
            rules.lot,
            rules.through,
            amounts,
            kind,
            side,
            quantity,
            limit,
            amounts[TRIGGER],
            triggered_before,
            opened,
            high,
            low,
        )
        counts[TRIGGERED] = 1 if triggered else 0
        if filled == 0.0:
            return math.nan
        if not account.limited or reason != BY_SIGNAL or attempt == 1:
            break
        stop = math.nan if position * side > 0.0 else amounts[NEXT_STOP]
        permitted, code = _permitted(terms, books, account, risk, book, side, filled, base, stop)
        if permitted >= filled:
            break
        _refuse(
            account,
            notes,
            book,
            row,
            log.order_codes[order, ORDER_DECIDED],
            order,
            code,
            side * filled,
            side * permitted,
        )
        if not permitted > 0.0:
            end_order(counts, log, ORDER, REJECTED, row)
            return math.nan
        # Less of it may have a better price.
        wanted, cut = position + side * permitted, True
        quantity = abs(wanted - position)
    if account.margined and not _covered(terms, books, account, book, position + side * filled, base):
        _refuse(account, notes, book, row, log.order_codes[order, ORDER_DECIDED], order, MARGIN, side * filled, 0.0)
        end_order(counts, log, ORDER, REJECTED, row)
        return math.nan
    log.order_amounts[order, ORDER_QUANTITY] = log.order_amounts[order, ORDER_FILLED] + remaining
    book_fill(
        rules.schedule,
        rules.by_distance,
        amounts,
        counts,
        log,
        row,
        order,
        reason,
        kind,
        side,
        filled,
        base,
        price,
        limit,
        wanted,
    )
    if cut:
        end_order(counts, log, ORDER, CANCELLED, row)
    elif amounts[POSITION] == amounts[WANTED]:
        end_order(counts, log, ORDER, FILLED, row)
    else:
        log.order_codes[order, ORDER_STATUS] = PARTIAL
    _settle(books, account, risk, log, notes, book, known)
    return base


@njit(**_INNER)
def _settle(books: Any, account: Any, risk: Any, log: Any, notes: Any, book: Any, known: Any) -> None:
    """Let the account pay for the book's newest fill, if it has not yet."""
    at = account.tallies[FILLS]
    if books.counts[book, FILL_COUNT] == at:
        return
    quantity, price = log.fill_amounts[at, FILL_QUANTITY], log.fill_amounts[at, FILL_PRICE]
    rate = books.fill_rate[book]
    account.totals[CASH] -= (quantity * price + log.fill_amounts[at, FILL_COMMISSION]) * rate
    notes.fill_known[at] = known
    before, after = books.settled[book], books.amounts[book, POSITION]
    if before * after <= 0.0:
        books.mean[book] = price
    elif abs(after) > abs(before):
        added = abs(quantity)
        books.mean[book] = (books.mean[book] * abs(before) + price * added) / (abs(before) + added)
    books.settled[book] = after
    if after == 0.0:
        books.closing[book] = 0
    if account.limited:
        note_fill(risk.state, before, quantity)
    account.tallies[FILLS] = at + 1


@njit(**_INNER)
def _permitted(
    terms: Any,
    books: Any,
    account: Any,
    risk: Any,
    book: Any,
    side: Any,
    quantity: Any,
    price: Any,
    stop: Any,
) -> Any:
    """How much of a trade the limits permit; what shrinks the book's own position always passes."""
    amounts, symbol = books.amounts[book], books.symbol[book]
    position = amounts[POSITION]
    reducing = min(quantity, abs(position)) if position * side < 0.0 else 0.0
    opening = quantity - reducing
    if not opening > 0.0:
        return quantity, PERMITTED
    if position * side > 0.0:
        level = amounts[STOP_PRICE]
        if not math.isnan(stop):
            level = amounts[ANCHOR] - side * stop if terms.by_distance[book] else stop
        distance = abs(price - level)
    else:
        distance = stop if terms.by_distance[book] else abs(price - stop)
    values, equity, held = account.values, account.totals[CASH], 0.0
    values[:] = 0.0
    for each in range(books.symbol.size):
        units = books.amounts[each, POSITION]
        if units != 0.0:
            value = units * books.amounts[each, MARK] * books.rate[each]
            values[books.symbol[each]] += value
            equity += value
            if books.symbol[each] == symbol:
                held += units
    risk.state.point_value[symbol] = books.rate[book]
    permitted, code = permitted_quantity(
        risk.rules, risk.state, symbol, held + side * reducing, side, opening, price, distance, values, equity
    )
    return reducing + permitted, code


@njit(**_INNER)
def _refuse(
    account: Any,
    notes: Any,
    book: Any,
    row: Any,
    decided: Any,
    order: Any,
    reason: Any,
    asked: Any,
    permitted: Any,
) -> None:
    at = account.tallies[REFUSED]
    codes = notes.refusal_codes
    codes[at, REFUSAL_BOOK], codes[at, REFUSAL_ROW], codes[at, REFUSAL_DECIDED] = book, row, decided
    codes[at, REFUSAL_ORDER], codes[at, REFUSAL_REASON] = order, reason
    notes.refusal_amounts[at, 0], notes.refusal_amounts[at, 1] = asked, permitted
    account.tallies[REFUSED] = at + 1


@njit(**_INNER)
def _covered(terms: Any, books: Any, account: Any, book: Any, after: Any, price: Any) -> Any:
    """Whether equity covers the margin of a grown position; one that shrinks, or frees margin, is never refused."""
    position = books.amounts[book, POSITION]
    if abs(after) <= abs(position):
        return True
    equity = account.totals[CASH]
    for each in range(books.symbol.size):
        units = books.amounts[each, POSITION]
        if units != 0.0:
            equity += units * (price if each == book else books.amounts[each, MARK]) * books.rate[each]
    needed = _requirement(terms.margin, books, account, False, book, after, price)
    if needed <= equity:
        return True
    return needed <= _requirement(terms.margin, books, account, False, book, position, price)


@njit(**_INNER)
def _requirement(
    shares: Any, books: Any, account: Any, without_closing: Any, own: Any, position: Any, price: Any
) -> Any:
    """Margin that positions ask, with ``position`` at ``price`` in the book ``own`` (-1: none)."""
    total, longs, shorts = 0.0, 0.0, 0.0
    count = books.symbol.size
    for book in range(count):
        units, mark = books.amounts[book, POSITION], books.amounts[book, MARK]
        if book == own:
            units, mark = position, price
        if units != 0.0 and not (without_closing and books.closing[book] != 0):
            value = abs(units) * abs(mark) * books.rate[book]
            if units > 0.0:
                longs += value
            else:
                shorts += value
        if book + 1 == count or books.symbol[book + 1] != books.symbol[book]:
            total += (max(longs, shorts) if account.larger_leg else longs + shorts) * shares[book]
            longs, shorts = 0.0, 0.0
    return total


@njit(**_INNER)
def _equity(books: Any, account: Any) -> Any:
    equity = account.totals[CASH]
    for book in range(books.symbol.size):
        units = books.amounts[book, POSITION]
        if units != 0.0:
            equity += units * books.amounts[book, MARK] * books.rate[book]
    return equity


@njit(**_INNER)
def _mark(terms: Any, books: Any, account: Any, risk: Any, path: Any, now: Any) -> None:
    """All closes of an instant are known: value the account, ask for margin, look at the limits."""
    gross, net = 0.0, 0.0
    for book in range(books.symbol.size):
        units = books.amounts[book, POSITION]
        if units != 0.0:
            value = units * books.amounts[book, MARK] * books.rate[book]
            net += value
            gross += abs(value)
    equity = _equity(books, account) if gross != 0.0 else account.totals[CASH]
    at = account.tallies[MARKED]
    path.at[at] = now
    path.amounts[at, EQUITY], path.amounts[at, PATH_CASH] = equity, account.totals[CASH]
    path.amounts[at, GROSS], path.amounts[at, NET] = gross, net
    margin = _requirement(terms.margin, books, account, False, -1, 0.0, 0.0) if gross != 0.0 else 0.0
    path.amounts[at, MARGIN_USED] = margin
    account.tallies[MARKED] = at + 1
    if account.maintained and gross != 0.0:
        _call_margin(terms, books, account, equity)
    if account.limited:
        _watch(books, account, risk, now, equity)


@njit(**_INNER)
def _call_margin(terms: Any, books: Any, account: Any, equity: Any) -> None:
    """Choose positions to close until equity covers the rest: the largest loss first, of equal ones the first book."""
    while equity < _requirement(terms.maintenance, books, account, True, -1, 0.0, 0.0):
        worst, least = -1, math.inf
        for book in range(books.symbol.size):
            units = books.amounts[book, POSITION]
            if units != 0.0 and books.closing[book] == 0:
                profit = units * (books.amounts[book, MARK] - books.mean[book]) * books.rate[book]
                if profit < least:
                    worst, least = book, profit
        if worst < 0:
            return
        books.closing[worst] = BY_MARGIN


@njit(**_INNER)
def _watch(books: Any, account: Any, risk: Any, now: Any, equity: Any) -> None:
    account.tallies[WATCHED_AT] = now
    if mark_risk(risk.rules, risk.state, now, equity) == CLOSE_ALL:
        for book in range(books.symbol.size):
            if books.amounts[book, POSITION] != 0.0 and books.closing[book] == 0:
                books.closing[book] = BY_KILL_SWITCH


@njit(**_INNER)
def _rules_of(terms: Any, book: Any) -> Any:
    s, c = terms.slippage[book], terms.schedule[book]
    return Rules(
        SlippageModel(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10]),
        CommissionSchedule(
            c[0], c[1], c[2], c[3], c[4], c[5], terms.thresholds[book], terms.maker[book], terms.taker[book]
        ),
        terms.lot[book],
        terms.through[book],
        terms.in_force[book],
        0.0,
        terms.by_distance[book],
    )
