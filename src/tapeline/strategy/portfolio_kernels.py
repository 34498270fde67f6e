"""The engine of many symbols on one account: one pass over the opens and closes of all bars, in the order of time.

A book is a symbol, or in hedging mode a symbol and a tag. What one book does with its orders is done by the functions
of one account (:mod:`tapeline.strategy.account_kernels`); here stands what books share: cash, margin, limits of risk.
The pass can stop before any event and go on at it, so that a history and a stream run through the same statements.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tapeline.core.kernel_options import BORROWED, INNER
from tapeline.strategy.account_kernels import (
    MARK,
    ORDER,
    POSITION,
    ROOM,
    SENT,
)
from tapeline.strategy.portfolio_margin import account_equity, requirement
from tapeline.strategy.portfolio_orders import can_leave, open_bar, rest_of_bar
from tapeline.strategy.portfolio_state import (
    BY_KILL_SWITCH,
    BY_MARGIN,
    CASH,
    EQUITY,
    FILLS,
    GROSS,
    INSTANT,
    MARGIN_USED,
    MARKED,
    NEEDED,
    NET,
    ORDERS,
    PATH_CASH,
    REFUSED,
    WATCHED_AT,
)
from tapeline.strategy.risk_kernels import (
    CLOSE_ALL,
    mark_risk,
)


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
                watch(books, account, risk, market.ts[row], account_equity(books, account))
            position, sent = amounts[book, POSITION], counts[book, SENT]
            quiet = counts[book, ORDER] < 0 and books.closing[book] == 0 and not late
            quiet = quiet and (sent < 0 or math.isnan(targets[sent])) and (position == 0.0 or not financed)
            if quiet and not can_leave(books, book, position, highs[row], lows[row]):
                counts[book, SENT], books.fill_rate[book] = row, books.rate[book]
                if converts:
                    path.rate[row] = books.rate[book]
                continue
            open_bar(market, decisions, rows, terms, books, account, risk, log, notes, path, book, row)
            continue
        if counts[book, ORDER] >= 0 or can_leave(books, book, amounts[book, POSITION], highs[row], lows[row]):
            rest_of_bar(market, terms, books, account, risk, log, notes, book, row)
        if -math.inf < closes[row] < math.inf:
            amounts[book, MARK] = closes[row]
        path.position[row] = amounts[book, POSITION]
        last = at + 1 == end or (events[at + 1] & 1) == 1 or close_ts[events[at + 1] >> 1] != close_ts[row]
        if last:
            mark(terms, books, account, risk, path, close_ts[row])
    return end


@njit(**INNER)
def mark(terms: Any, books: Any, account: Any, risk: Any, path: Any, now: Any) -> None:
    """All closes of an instant are known: value the account, ask for margin, look at the limits."""
    gross, net = 0.0, 0.0
    for book in range(books.symbol.size):
        units = books.amounts[book, POSITION]
        if units != 0.0:
            value = units * books.amounts[book, MARK] * books.rate[book]
            net += value
            gross += abs(value)
    equity = account_equity(books, account) if gross != 0.0 else account.totals[CASH]
    at = account.tallies[MARKED]
    path.at[at] = now
    path.amounts[at, EQUITY], path.amounts[at, PATH_CASH] = equity, account.totals[CASH]
    path.amounts[at, GROSS], path.amounts[at, NET] = gross, net
    margin = requirement(terms.margin, books, account, np.bool_(False), np.int64(-1), 0.0, 0.0) if gross != 0.0 else 0.0
    path.amounts[at, MARGIN_USED] = margin
    account.tallies[MARKED] = at + 1
    if account.maintained and gross != 0.0:
        call_margin(terms, books, account, equity)
    if account.limited:
        watch(books, account, risk, now, equity)


@njit(**INNER)
def call_margin(terms: Any, books: Any, account: Any, equity: Any) -> None:
    """Choose positions to close until equity covers the rest: the largest loss first, of equal ones the first book."""
    while equity < requirement(terms.maintenance, books, account, np.bool_(True), np.int64(-1), 0.0, 0.0):
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


@njit(**INNER)
def watch(books: Any, account: Any, risk: Any, now: Any, equity: Any) -> None:
    """Show the limits of risk the newest equity; where the kill switch fell, close every book."""
    account.tallies[WATCHED_AT] = now
    if mark_risk(risk.rules, risk.state, now, equity) == CLOSE_ALL:
        for book in range(books.symbol.size):
            if books.amounts[book, POSITION] != 0.0 and books.closing[book] == 0:
                books.closing[book] = BY_KILL_SWITCH
