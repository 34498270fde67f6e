"""What an account of many books is worth, and what margin its positions ask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tapeline.core.kernel_options import INNER
from tapeline.strategy.account_kernels import (
    MARK,
    POSITION,
    Rules,
)
from tapeline.strategy.costs import CommissionSchedule
from tapeline.strategy.portfolio_state import CASH
from tapeline.strategy.slippage import SlippageModel


@njit(**INNER)
def covered(terms: Any, books: Any, account: Any, book: Any, after: Any, price: Any) -> Any:
    """Whether equity covers the margin of a grown position; one that shrinks, or frees margin, is never refused."""
    position = books.amounts[book, POSITION]
    if abs(after) <= abs(position):
        return True
    equity = account.totals[CASH]
    for each in range(books.symbol.size):
        units = books.amounts[each, POSITION]
        if units != 0.0:
            equity += units * (price if each == book else books.amounts[each, MARK]) * books.rate[each]
    needed = requirement(terms.margin, books, account, np.bool_(False), book, after, price)
    if needed <= equity:
        return True
    return needed <= requirement(terms.margin, books, account, np.bool_(False), book, position, price)


@njit(**INNER)
def requirement(
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


@njit(**INNER)
def account_equity(books: Any, account: Any) -> Any:
    """Cash and all positions at their newest prices and rates, in the account's currency."""
    equity = account.totals[CASH]
    for book in range(books.symbol.size):
        units = books.amounts[book, POSITION]
        if units != 0.0:
            equity += units * books.amounts[book, MARK] * books.rate[book]
    return equity


@njit(**INNER)
def rules_of(terms: Any, book: Any) -> Any:
    """The costs and constraints of one book as the functions of one account take them."""
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
