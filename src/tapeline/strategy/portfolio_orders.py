"""One book of an account of many: its orders meet its bars within what margin and the limits of risk permit."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.core.kernel_options import INNER
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
    SENT,
    STOP_ORDER,
    STOP_PRICE,
    STOPPED,
    TAKE_PRICE,
    TAKEN,
    TARGETED,
    TRIGGER,
    TRIGGERED,
    VOLATILITY,
    VOLUME,
    WANTED,
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
from tapeline.strategy.costs import BY_TRADED
from tapeline.strategy.orders import (
    BY_SIGNAL,
    CANCELLED,
    FILLED,
    MARKET,
    PARTIAL,
    REJECTED,
)
from tapeline.strategy.portfolio_margin import covered, rules_of
from tapeline.strategy.portfolio_state import (
    CASH,
    CLOSING,
    FILLS,
    MARGIN,
    ORDERS,
    REFUSAL_BOOK,
    REFUSAL_DECIDED,
    REFUSAL_ORDER,
    REFUSAL_REASON,
    REFUSAL_ROW,
    REFUSED,
    STOPPING,
)
from tapeline.strategy.risk_kernels import (
    PERMITTED,
    note_fill,
    permitted_quantity,
)
from tapeline.strategy.simulator_kernels import value_at

# Typed, as in account_kernels.
NO_ORDER: Final = np.int64(-1)


@njit(**INNER)
def can_leave(books: Any, book: Any, position: Any, high: Any, low: Any) -> Any:
    """Whether a bar may meet the stop or the target of a position."""
    if position == 0.0:
        return False
    stop, take = books.amounts[book, STOP_PRICE], books.amounts[book, TAKE_PRICE]
    return books.counts[book, STOP_ORDER] >= 0 or in_reach(position, high, low, stop, take)


@njit(**INNER)
def open_bar(
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
            arrive(decisions, terms, books, account, risk, log, notes, book, decided, row)
        counts[SENT] = rows.following[decided] if rows.following.size > 0 else decided + 1
    if books.closing[book] != 0:
        send_closing_order(books, log, book, row)
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
            rules = rules_of(terms, book)
            if amounts[POSITION] != 0.0:
                protect(rules, amounts, counts, log, row, STOPPED, opened, opened, opened)
                settle(books, account, risk, log, notes, book, known)
                protect(rules, amounts, counts, log, row, TARGETED, opened, opened, opened)
                settle(books, account, risk, log, notes, book, known)
            if counts[ORDER] >= 0:
                work_order(rules, terms, books, account, risk, log, notes, book, row, known, opened, opened, opened)
            account.taken[symbol] = amounts[TAKEN]
    tallies[ORDERS] = counts[ORDER_COUNT]


@njit(**INNER)
def rest_of_bar(
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
        rules = rules_of(terms, book)
        if position != 0.0:
            protect(rules, amounts, counts, log, row, STOPPED, opened, high, low)
            settle(books, account, risk, log, notes, book, known)
        before, entered = amounts[POSITION], math.nan
        if counts[ORDER] >= 0:
            entered = work_order(rules, terms, books, account, risk, log, notes, book, row, known, opened, high, low)
        if before * amounts[POSITION] > 0.0:
            protect(rules, amounts, counts, log, row, TARGETED, opened, high, low)
        elif amounts[POSITION] != 0.0:
            # Entered inside the bar: what is left of it can only hurt, since its best price may have come before.
            protect(rules, amounts, counts, log, row, STOPPED, entered, high, low)
        settle(books, account, risk, log, notes, book, known)
        account.taken[symbol] = amounts[TAKEN]
    if books.closing[book] == 0:
        age_order(terms.in_force[book], counts, log, row)
    tallies[ORDERS] = counts[ORDER_COUNT]


@njit(**INNER)
def arrive(
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
        refuse(account, notes, book, row, decided, NO_ORDER, np.int64(CLOSING), wanted - position, 0.0)
        return
    stop, take = value_at(decisions.stop, decided, math.nan), value_at(decisions.take, decided, math.nan)
    limit, trigger = value_at(decisions.limit, decided, math.nan), value_at(decisions.trigger, decided, math.nan)
    if account.limited and wanted != position:
        side = 1.0 if wanted > position else -1.0
        asked = abs(wanted - position)
        price = amounts[MARK] if math.isnan(trigger) else trigger
        price = price if math.isnan(limit) else limit
        permitted, code = permitted_part(terms, books, account, risk, book, side, asked, price, stop)
        if permitted < asked:
            refuse(account, notes, book, row, decided, NO_ORDER, code, side * asked, side * permitted)
            wanted = position + side * permitted
    before = counts[ORDER_COUNT]
    take_decision(terms.by_distance[book], amounts, counts, log, decided, row, wanted, stop, take, limit, trigger)
    if counts[ORDER_COUNT] > before and log.order_codes[before, ORDER_STATUS] == REJECTED:
        refuse(account, notes, book, row, decided, before, np.int64(STOPPING), wanted - position, 0.0)


@njit(**INNER)
def send_closing_order(books: Any, log: Any, book: Any, row: Any) -> None:
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


@njit(**INNER)
def work_order(
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
        permitted, code = permitted_part(terms, books, account, risk, book, side, filled, base, stop)
        if permitted >= filled:
            break
        refuse(
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
    if account.margined and not covered(terms, books, account, book, position + side * filled, base):
        refuse(
            account,
            notes,
            book,
            row,
            log.order_codes[order, ORDER_DECIDED],
            order,
            np.int64(MARGIN),
            side * filled,
            0.0,
        )
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
    settle(books, account, risk, log, notes, book, known)
    return base


@njit(**INNER)
def settle(books: Any, account: Any, risk: Any, log: Any, notes: Any, book: Any, known: Any) -> None:
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


@njit(**INNER)
def permitted_part(
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


@njit(**INNER)
def refuse(
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
    """Write down what was refused, and why."""
    at = account.tallies[REFUSED]
    codes = notes.refusal_codes
    codes[at, REFUSAL_BOOK], codes[at, REFUSAL_ROW], codes[at, REFUSAL_DECIDED] = book, row, decided
    codes[at, REFUSAL_ORDER], codes[at, REFUSAL_REASON] = order, reason
    notes.refusal_amounts[at, 0], notes.refusal_amounts[at, 1] = asked, permitted
    account.tallies[REFUSED] = at + 1
