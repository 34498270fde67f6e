"""What an account does with one decision, one order, one bar, one fill; the engines go over rows.

What it must remember stands in two small arrays, what happened is appended to a log, so that a history and a stream of
single bars run through the same statements.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.kernel_options import BORROWED, INNER
from tapeline.strategy.costs import CommissionSchedule, commission_of_part
from tapeline.strategy.fills import fill_order, takes_liquidity, whole_lots
from tapeline.strategy.orders import (
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    CANCELLED,
    EXPIRED,
    FILLED,
    LIMIT,
    PARTIAL,
    REJECTED,
    STOP,
    WORKING,
)
from tapeline.strategy.slippage import SlippageModel, fillable, slipped

# Amounts: what is remembered from bar to bar, and from VOLUME on what the bar under way says.
CASH, POSITION, ANCHOR, MARK, TAKEN, STOP_PRICE, TAKE_PRICE, WANTED = range(8)
LIMIT_PRICE, TRIGGER, NEXT_STOP, NEXT_TAKE, VOLUME, VOLATILITY, HALF_SPREAD = range(8, 15)
# Notional traded in the 30 days before, and on the day under way (days since 1970); then by day, one place a day.
TRADED, TURNOVER, DAY, BY_DAY = 15, 16, 17, 18
DAYS: Final = 30
AMOUNTS: Final = BY_DAY + DAYS
# Whole numbers that are remembered; -1 is none.
SENT, ORDER, KIND, TRIGGERED, AGE, STOP_ORDER, TAKE_ORDER, FILL_COUNT, ORDER_COUNT = range(9)
COUNTS: Final = 9

# Columns of the log.
FILL_ROW, FILL_ORDER, FILL_REASON = range(3)
FILL_QUANTITY, FILL_PRICE, FILL_REFERENCE, FILL_COMMISSION = range(4)
ORDER_DECIDED, ORDER_ARRIVED, ORDER_KIND, ORDER_REASON, ORDER_STATUS, ORDER_ENDED = range(6)
ORDER_QUANTITY, ORDER_FILLED, ORDER_LIMIT, ORDER_STOP, ORDER_NOTIONAL, ORDER_MONEY, ORDER_COMMISSION = range(7)
FILL_CODE_COLUMNS, FILL_AMOUNT_COLUMNS, ORDER_CODE_COLUMNS, ORDER_AMOUNT_COLUMNS = 3, 4, 6, 7
# Of the type of what kernels read from arrays: for a plain constant among its arguments a kernel is compiled anew.
SIGNALLED, STOPPED, TARGETED = np.int64(BY_SIGNAL), np.int64(BY_STOP), np.int64(BY_TARGET)
NANOSECONDS_A_DAY: Final = 86_400_000_000_000
ROOM: Final = 8
"""More than the fills, and than the orders beyond those of decisions, that one bar can add."""


class Rules(NamedTuple):
    """Costs and constraints; ``in_force`` and ``margin`` 0 are none, ``by_distance`` counts from the entry price."""

    slippage: SlippageModel
    schedule: CommissionSchedule
    lot: float
    through: float
    in_force: int
    margin: float
    by_distance: bool


class Log(NamedTuple):
    """Fills and orders in the order in which they came; columns as named above."""

    fill_codes: NDArray[np.int64]
    fill_amounts: NDArray[np.float64]
    order_codes: NDArray[np.int64]
    order_amounts: NDArray[np.float64]


@njit(cache=True, nogil=True)
def begin_state(capital: float) -> Any:
    """Amounts and counts of an account that has traded nothing."""
    amounts, counts = np.full(AMOUNTS, math.nan), np.full(COUNTS, -1, np.int64)
    amounts[CASH], amounts[POSITION], amounts[TAKEN] = capital, 0.0, 0.0
    amounts[TRADED:] = 0.0
    counts[SENT], counts[FILL_COUNT], counts[ORDER_COUNT] = 0, 0, 0
    return amounts, counts


@njit(**BORROWED)
def turn_day(amounts: Any, ts: Any) -> None:
    """Bring what was traded in the 30 whole UTC days before up to the day of ``ts``, in nanoseconds."""
    day, last = float(ts // NANOSECONDS_A_DAY), amounts[DAY]
    if day == last:
        return
    amounts[BY_DAY + int(last) % DAYS] = amounts[TURNOVER]
    for passed in range(1, int(min(day - last, DAYS + 1.0))):
        amounts[BY_DAY + (int(last) + passed) % DAYS] = 0.0
    total = 0.0
    for before in range(DAYS, 0, -1):
        total += amounts[BY_DAY + (int(day) - before) % DAYS]
    amounts[TRADED], amounts[TURNOVER], amounts[DAY] = total, 0.0, day


@njit(**INNER)
def take_decision(
    by_distance: Any,
    amounts: Any,
    counts: Any,
    log: Any,
    decided: Any,
    row: Any,
    wanted: Any,
    stop: Any,
    take: Any,
    limit: Any,
    trigger: Any,
) -> None:
    """A decision reaches the market: it replaces the order that works, and protects a position that it keeps.

    ``decided`` is the row at whose close it was taken, ``row`` the one in which it arrives; ``wanted`` is the signed
    position, prices (or distances) that are not given are NaN.
    """
    end_order(counts, log, ORDER, CANCELLED, row)
    position = amounts[POSITION]
    keeps = wanted * position > 0.0
    if keeps and counts[STOP_ORDER] < 0:
        set_protection(by_distance, amounts, 1.0 if position > 0.0 else -1.0, stop, take)
    if wanted == position:
        return
    kind = (0 if math.isnan(limit) else LIMIT) + (0 if math.isnan(trigger) else STOP)
    order = log_order(counts, log, decided, row, kind, BY_SIGNAL, wanted - position, limit, trigger)
    if keeps and counts[STOP_ORDER] >= 0:
        # The position is being stopped out: nothing may be added to it.
        log.order_codes[order, ORDER_STATUS], log.order_codes[order, ORDER_ENDED] = REJECTED, row
        return
    counts[ORDER], counts[KIND], counts[TRIGGERED], counts[AGE] = order, kind, 0, 0
    amounts[WANTED], amounts[LIMIT_PRICE], amounts[TRIGGER] = wanted, limit, trigger
    amounts[NEXT_STOP], amounts[NEXT_TAKE] = stop, take


@njit(**INNER)
def trade_bar(rules: Any, amounts: Any, counts: Any, log: Any, row: Any, opened: Any, high: Any, low: Any) -> None:
    """All that one bar fills: first at its opening price, then in the rest of it, the worse before the better."""
    amounts[TAKEN] = 0.0
    if _threatened(amounts, counts, opened, opened):
        protect(rules, amounts, counts, log, row, STOPPED, opened, opened, opened)
        protect(rules, amounts, counts, log, row, TARGETED, opened, opened, opened)
    if counts[ORDER] >= 0:
        work_order(rules, amounts, counts, log, row, opened, opened, opened)
    if _threatened(amounts, counts, high, low):
        protect(rules, amounts, counts, log, row, STOPPED, opened, high, low)
    before, entered = amounts[POSITION], math.nan
    if counts[ORDER] >= 0:
        entered = work_order(rules, amounts, counts, log, row, opened, high, low)
    if _threatened(amounts, counts, high, low):
        if before * amounts[POSITION] > 0.0:
            protect(rules, amounts, counts, log, row, TARGETED, opened, high, low)
        else:
            # Entered inside the bar: what is left of it can only hurt, since its best price may have come before.
            protect(rules, amounts, counts, log, row, STOPPED, entered, high, low)


@njit(inline="always", **BORROWED)
def _threatened(amounts: Any, counts: Any, high: Any, low: Any) -> Any:
    """Whether there is a position that is being stopped out, or whose stop or target lies in the range."""
    position = amounts[POSITION]
    return position != 0.0 and (
        counts[STOP_ORDER] >= 0 or in_reach(position, high, low, amounts[STOP_PRICE], amounts[TAKE_PRICE])
    )


@njit(**INNER)
def protect(
    rules: Any,
    amounts: Any,
    counts: Any,
    log: Any,
    row: Any,
    reason: Any,
    opened: Any,
    high: Any,
    low: Any,
) -> None:
    """Let the stop or the target of the position meet the bar."""
    position = amounts[POSITION]
    if position == 0.0:
        return
    side = -1.0 if position > 0.0 else 1.0
    by_stop = reason == BY_STOP
    if by_stop:
        kind, slot, price = STOP, STOP_ORDER, amounts[STOP_PRICE]
        limit, stop = math.nan, price
    else:
        kind, slot, price = LIMIT, TAKE_ORDER, amounts[TAKE_PRICE]
        limit, stop = price, math.nan
    triggered = by_stop and counts[slot] >= 0
    if math.isnan(price) or (not by_stop and counts[STOP_ORDER] >= 0):
        return
    if not triggered and not in_reach(position, high, low, stop, limit):
        return
    filled, base, price, triggered = match_order(
        rules.slippage,
        rules.lot,
        rules.through,
        amounts,
        kind,
        side,
        abs(position),
        limit,
        stop,
        triggered,
        opened,
        high,
        low,
    )
    if filled == 0.0 and not triggered:
        return
    if counts[slot] < 0:
        counts[slot] = log_order(counts, log, row, row, kind, reason, -position, limit, stop)
    # What would add to the position that is left, or only close it, has lost its purpose.
    if counts[ORDER] >= 0 and amounts[WANTED] * position >= 0.0:
        end_order(counts, log, ORDER, CANCELLED, row)
    if by_stop:
        end_order(counts, log, TAKE_ORDER, CANCELLED, row)
    if filled > 0.0:
        book_fill(
            rules.schedule,
            rules.by_distance,
            amounts,
            counts,
            log,
            row,
            counts[slot],
            reason,
            kind,
            side,
            filled,
            base,
            price,
            limit,
            0.0,
        )
        if amounts[POSITION] == 0.0:
            end_order(counts, log, slot, FILLED, row)


@njit(**INNER)
def work_order(rules: Any, amounts: Any, counts: Any, log: Any, row: Any, opened: Any, high: Any, low: Any) -> Any:
    """Let the order of the last decision meet the bar; the market's price at which it filled, NaN where it did not."""
    remaining = amounts[WANTED] - amounts[POSITION]
    side = 1.0 if remaining > 0.0 else -1.0
    kind, limit = counts[KIND], amounts[LIMIT_PRICE]
    filled, base, price, triggered = match_order(
        rules.slippage,
        rules.lot,
        rules.through,
        amounts,
        kind,
        side,
        abs(remaining),
        limit,
        amounts[TRIGGER],
        counts[TRIGGERED] > 0,
        opened,
        high,
        low,
    )
    counts[TRIGGERED] = 1 if triggered else 0
    if filled == 0.0:
        return math.nan
    order = counts[ORDER]
    if rules.margin > 0.0:
        # At the market's price and the whole position wanted; a fill that shrinks the position is never refused.
        position = amounts[POSITION]
        after = position + side * filled
        if abs(after) > abs(position) and abs(after) * abs(base) * rules.margin > amounts[CASH] + position * base:
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
        SIGNALLED,
        kind,
        side,
        filled,
        base,
        price,
        limit,
        amounts[WANTED],
    )
    if amounts[POSITION] == amounts[WANTED]:
        end_order(counts, log, ORDER, FILLED, row)
    else:
        log.order_codes[order, ORDER_STATUS] = PARTIAL
    return base


@njit(**INNER)
def match_order(
    slippage: Any,
    lot: Any,
    through: Any,
    amounts: Any,
    kind: Any,
    side: Any,
    quantity: Any,
    limit: Any,
    stop: Any,
    triggered: Any,
    opened: Any,
    high: Any,
    low: Any,
) -> Any:
    """:func:`fill_order` with what is left of the bar's volume, and the price with half spread and slippage."""
    available = fillable(slippage, quantity, amounts[VOLUME], amounts[TAKEN])
    if available < quantity:
        available = whole_lots(available, lot)
    filled, base, triggered = fill_order(
        kind, side, quantity, limit, stop, triggered, opened, high, low, available, through
    )
    price = base
    if filled > 0.0 and takes_liquidity(kind, side, base, limit):
        price = slipped(slippage, side, filled, base, amounts[VOLUME], amounts[VOLATILITY], amounts[HALF_SPREAD])
        if side * price > side * limit:
            price = limit
        if math.isnan(price):
            # The slippage model cannot say what it costs: there is no price to trade at.
            filled = 0.0
    return filled, base, price, triggered


@njit(**INNER)
def book_fill(
    schedule: Any,
    by_distance: Any,
    amounts: Any,
    counts: Any,
    log: Any,
    row: Any,
    order: Any,
    reason: Any,
    kind: Any,
    side: Any,
    filled: Any,
    base: Any,
    price: Any,
    limit: Any,
    wanted: Any,
) -> None:
    """Write a fill down: cash, position, protection of a position that it opens, log."""
    orders = log.order_amounts
    fee, notional, money = commission_of_part(
        schedule,
        filled,
        price,
        not takes_liquidity(kind, side, base, limit),
        amounts[TRADED],
        orders[order, ORDER_NOTIONAL],
        orders[order, ORDER_MONEY],
        orders[order, ORDER_COMMISSION],
    )
    amounts[TURNOVER] += filled * abs(price) * schedule.multiplier
    orders[order, ORDER_NOTIONAL], orders[order, ORDER_MONEY] = notional, money
    orders[order, ORDER_COMMISSION] += fee
    before = amounts[POSITION]
    # The last part lands on the wanted position exactly: sums of parts would leave dust.
    whole = filled >= abs(wanted - before)
    after = wanted if whole else before + side * filled
    amounts[CASH] -= side * filled * price + fee
    amounts[POSITION] = after
    amounts[TAKEN] += filled
    if math.isnan(amounts[MARK]):
        amounts[MARK] = base
    at = counts[FILL_COUNT]
    log.fill_codes[at, FILL_ROW], log.fill_codes[at, FILL_ORDER] = row, order
    log.fill_codes[at, FILL_REASON] = reason
    log.fill_amounts[at, FILL_QUANTITY], log.fill_amounts[at, FILL_PRICE] = side * filled, price
    log.fill_amounts[at, FILL_REFERENCE], log.fill_amounts[at, FILL_COMMISSION] = base, fee
    counts[FILL_COUNT] = at + 1
    log.order_amounts[order, ORDER_FILLED] += side * filled
    if before * after <= 0.0:
        end_order(counts, log, TAKE_ORDER, FILLED if reason == BY_TARGET else CANCELLED, row)
        if reason != BY_STOP:
            end_order(counts, log, STOP_ORDER, CANCELLED, row)
        amounts[STOP_PRICE], amounts[TAKE_PRICE], amounts[ANCHOR] = math.nan, math.nan, math.nan
        if after != 0.0:
            amounts[ANCHOR] = price
            set_protection(by_distance, amounts, side, amounts[NEXT_STOP], amounts[NEXT_TAKE])


@njit(inline="always", **BORROWED)
def set_protection(by_distance: Any, amounts: Any, side: Any, stop: Any, take: Any) -> None:
    """Set what is given of stop and target; a distance counts from the price at which the position was opened."""
    if not math.isnan(stop):
        amounts[STOP_PRICE] = amounts[ANCHOR] - side * stop if by_distance else stop
    if not math.isnan(take):
        amounts[TAKE_PRICE] = amounts[ANCHOR] + side * take if by_distance else take


@njit(inline="always", **BORROWED)
def in_reach(position: Any, high: Any, low: Any, stop: Any, take: Any) -> Any:
    """Whether a bar can have reached a protective price at all."""
    if position > 0.0:
        return low <= stop or high >= take
    return high >= stop or low <= take


@njit(inline="always", **BORROWED)
def age_order(in_force: Any, counts: Any, log: Any, row: Any) -> None:
    """Count a bar of the order that works, and end it when it was in force long enough; 0: it never expires."""
    if counts[ORDER] >= 0:
        counts[AGE] += 1
        if in_force > 0 and counts[AGE] >= in_force:
            end_order(counts, log, ORDER, EXPIRED, row)


@njit(inline="always", **BORROWED)
def log_order(
    counts: Any, log: Any, decided: Any, row: Any, kind: Any, reason: Any, quantity: Any, limit: Any, stop: Any
) -> Any:
    """Write a new order down; its row in the log."""
    at = counts[ORDER_COUNT]
    log.order_codes[at, ORDER_DECIDED], log.order_codes[at, ORDER_ARRIVED] = decided, row
    log.order_codes[at, ORDER_KIND], log.order_codes[at, ORDER_REASON] = kind, reason
    log.order_codes[at, ORDER_STATUS], log.order_codes[at, ORDER_ENDED] = WORKING, -1
    log.order_amounts[at, ORDER_QUANTITY], log.order_amounts[at, ORDER_FILLED] = quantity, 0.0
    log.order_amounts[at, ORDER_LIMIT], log.order_amounts[at, ORDER_STOP] = limit, stop
    log.order_amounts[at, ORDER_NOTIONAL:] = 0.0
    counts[ORDER_COUNT] = at + 1
    return at


@njit(inline="always", **BORROWED)
def end_order(counts: Any, log: Any, slot: Any, status: Any, row: Any) -> None:
    """Close the order of a slot, if there is one."""
    order = counts[slot]
    if order >= 0:
        log.order_codes[order, ORDER_STATUS], log.order_codes[order, ORDER_ENDED] = status, row
        counts[slot] = -1
