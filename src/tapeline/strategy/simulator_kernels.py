"""The engine of the simulator: one pass over bars that can stop at any row and go on at the next."""

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
    MARK,
    ORDER,
    ORDER_COUNT,
    POSITION,
    ROOM,
    SENT,
    STOP_ORDER,
    STOP_PRICE,
    TAKE_PRICE,
    VOLATILITY,
    VOLUME,
    age_order,
    in_reach,
    take_decision,
    trade_bar,
    turn_day,
)
from tapeline.strategy.costs import BY_TRADED

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
STRETCH: Final = 32
"""Rows that are looked through at once: enough for vector instructions, few to look at again one by one."""


class Market(NamedTuple):
    """Bars and what is known of trading in them, by row.

    ``half_spread``, ``volatility``, ``long_rate`` and ``short_rate`` may have one value for all rows, or none (then no
    spread, an unknown volatility, no financing). A rate is the share of the position's value at the last close that it
    pays at the bar's open, negative where it receives.
    """

    ts: Integers
    close_ts: Integers
    opened: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    half_spread: Floats
    volatility: Floats
    long_rate: Floats
    short_rate: Floats


class Decisions(NamedTuple):
    """What is wanted from each bar's close on, by row; all but ``target`` may have one value for all rows, or none.

    ``target`` is the signed position in units, NaN where nothing is decided. ``latency`` is in nanoseconds.
    """

    target: Floats
    stop: Floats
    take: Floats
    limit: Floats
    trigger: Floats
    latency: Integers


@njit(inline="always", **BORROWED)
def value_at(values: Any, row: Any, default: Any) -> Any:
    """The value of a row, or the one that stands for all rows, or the default."""
    if values.size > 1:
        return values[row]
    if values.size == 1:
        return values[0]
    return default


@njit(**BORROWED)
def advance(
    market: Any,
    decisions: Any,
    rules: Any,
    amounts: Any,
    counts: Any,
    log: Any,
    equity: Any,
    charged: Any,
    begin: Any,
    end: Any,
) -> Any:
    """Trade rows ``begin`` to ``end``; the row at which it stopped, earlier than ``end`` where the log has no room."""
    fills_room, orders_room = log.fill_codes.shape[0] - ROOM, log.order_codes.shape[0] - ROOM
    late = decisions.latency.size > 0
    financed = charged.size > 0
    tiered = rules.schedule.tiered == BY_TRADED
    # Arrays by themselves: one that is taken out of its tuple in each turn costs more than all else in the loop.
    opened, high, low, closes, volume = market.opened, market.high, market.low, market.close, market.volume
    half_spread, volatility, targets = market.half_spread, market.volatility, decisions.target
    row, decided = begin, -1
    while row < end:
        waiting = row - counts[SENT] if late else 1
        if counts[FILL_COUNT] > fills_room or counts[ORDER_COUNT] + waiting > orders_room:
            return row
        if financed:
            charge_financing(market, amounts, charged, row)
        if late:
            # Orders leave one after the other: one that is held up holds up those behind it.
            while (
                counts[SENT] < row
                and market.close_ts[counts[SENT]] + value_at(decisions.latency, counts[SENT], 0) <= market.ts[row]
            ):
                if not math.isnan(decisions.target[counts[SENT]]):
                    _arrive(decisions, rules, amounts, counts, log, counts[SENT], row)
                counts[SENT] += 1
        elif row > 0 and not math.isnan(targets[row - 1]):
            _arrive(decisions, rules, amounts, counts, log, row - 1, row)
        position = amounts[POSITION]
        if counts[ORDER] >= 0 or (
            position != 0.0
            and (
                counts[STOP_ORDER] >= 0
                or in_reach(position, high[row], low[row], amounts[STOP_PRICE], amounts[TAKE_PRICE])
            )
        ):
            amounts[VOLUME] = volume[row]
            amounts[VOLATILITY] = value_at(volatility, row, math.nan)
            amounts[HALF_SPREAD] = value_at(half_spread, row, 0.0)
            if tiered:
                turn_day(amounts, market.ts[row])
            if low[row] > -math.inf and low[row] <= opened[row] and opened[row] <= high[row] and high[row] < math.inf:
                trade_bar(rules, amounts, counts, log, row, opened[row], high[row], low[row])
            age_order(rules.in_force, counts, log, row)
        close = closes[row]
        if -math.inf < close < math.inf:
            amounts[MARK] = close
        position = amounts[POSITION]
        equity[row] = amounts[CASH] if position == 0.0 else amounts[CASH] + position * amounts[MARK]
        row += 1
        if not (late or financed or counts[ORDER] >= 0 or counts[STOP_ORDER] >= 0):
            if decided < row - 1:
                decided = next_decided(targets, row - 1, end)
            row = _pass_quiet(amounts, high, low, closes, equity, row, min(decided + 1, end))
    return end


@njit(**INNER)
def next_decided(targets: Any, row: Any, end: Any) -> Any:
    """The first row from ``row`` on, and before ``end``, at whose close something is decided; else ``end``."""
    while row < end:
        until = min(row + STRETCH, end)
        decided = np.int64(0)
        for at in range(np.uint64(row), np.uint64(until)):
            decided |= np.int64(targets[at] == targets[at])
        if decided:
            while math.isnan(targets[row]):
                row += 1
            return row
        row = until
    return end


@njit(inline="always", **BORROWED)
def _pass_quiet(amounts: Any, high: Any, low: Any, closes: Any, equity: Any, row: Any, end: Any) -> Any:
    """Value the account over rows in which no order works; the first in which its stop or target is in reach.

    The same as one turn of :func:`advance` a row. Most rows of most histories are of this kind, and this loop is what a
    simulation costs: it goes by stretches that are looked through without a branch and with an index that cannot be
    negative, for of such loops the compiler makes vector instructions.
    """
    cash, position, mark = amounts[CASH], amounts[POSITION], amounts[MARK]
    if position == 0.0:
        for at in range(np.uint64(row), np.uint64(end)):
            equity[at] = cash
        for last in range(end - 1, row - 1, -1):
            if abs(closes[last]) < math.inf:
                amounts[MARK] = closes[last]
                break
        return end
    if position > 0.0:
        lower, upper = amounts[STOP_PRICE], amounts[TAKE_PRICE]
    else:
        lower, upper = amounts[TAKE_PRICE], amounts[STOP_PRICE]
    reached = np.int64(0)
    while row < end and not reached:
        until, unpriced = min(row + STRETCH, end), np.int64(0)
        for at in range(np.uint64(row), np.uint64(until)):
            reached |= np.int64(low[at] <= lower) | np.int64(high[at] >= upper)
            unpriced |= np.int64(not abs(closes[at]) < math.inf)
        if reached:
            until = row
            while not (low[until] <= lower or high[until] >= upper):
                until += 1
        if unpriced:
            for at in range(row, until):
                if abs(closes[at]) < math.inf:
                    mark = closes[at]
                equity[at] = cash + position * mark
        elif row < until:
            for at in range(np.uint64(row), np.uint64(until)):
                equity[at] = cash + position * closes[at]
            mark = closes[until - 1]
        row = until
    amounts[MARK] = mark
    return row


@njit(inline="always", **BORROWED)
def charge_financing(market: Any, amounts: Any, charged: Any, row: Any) -> None:
    """Charge a position for having been held into the row, on its value at the last close."""
    charged[row] = 0.0
    position = amounts[POSITION]
    if position != 0.0:
        rate = value_at(market.long_rate if position > 0.0 else market.short_rate, row, 0.0)
        charged[row] = abs(position) * amounts[MARK] * rate
        amounts[CASH] -= charged[row]


@njit(**INNER)
def _arrive(decisions: Any, rules: Any, amounts: Any, counts: Any, log: Any, decided: Any, row: Any) -> None:
    take_decision(
        rules.by_distance,
        amounts,
        counts,
        log,
        decided,
        row,
        decisions.target[decided],
        value_at(decisions.stop, decided, math.nan),
        value_at(decisions.take, decided, math.nan),
        value_at(decisions.limit, decided, math.nan),
        value_at(decisions.trigger, decided, math.nan),
    )


@njit(**BORROWED)
def in_order(opens: Any, closes: Any) -> Any:
    """Whether each bar ends at or after it begins, and before or when the next one begins."""
    disorder = False
    for row in range(opens.size):
        disorder |= closes[row] < opens[row]
    for row in range(opens.size - 1):
        disorder |= closes[row] > opens[row + 1]
    return not disorder
