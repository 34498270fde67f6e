"""Where an order meets the market: one function for a bar, one for a tick, and nothing else decides a fill.

The rules are the table in docs/simulator.md, which is also the table of the tests. A price here is what the market
traded; half spread and slippage come on top of it wherever :func:`takes_liquidity` says so.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from tapeline.strategy.orders import LIMIT, MARKET, STOP, STOP_LIMIT

_INFINITE = math.inf


@njit(cache=True, nogil=True, inline="always")
def fill_order(
    kind: Any,
    side: Any,
    quantity: Any,
    limit: Any,
    stop: Any,
    triggered: Any,
    opened: Any,
    high: Any,
    low: Any,
    available: Any,
    through: Any,
) -> Any:
    """How much of an order one bar fills, at what price, and whether its stop has traded by the bar's end.

    Parameters
    ----------
    kind:
        ``MARKET`` 0, ``LIMIT`` 1, ``STOP`` 2 or ``STOP_LIMIT`` 3.
    side:
        1 buys, -1 sells.
    quantity:
        Units still to be filled.
    limit, stop:
        Prices; those the kind has no use for are not read.
    triggered:
        Whether the stop had traded before this bar; the order is a market or a limit order from then on.
    opened, high, low:
        The bar from the first moment at which the order is live in it. A bar that is not
        ``low <= opened <= high``, all finite, fills nothing and triggers nothing.
    available:
        The most units that the bar can give; infinite where its volume is not asked.
    through:
        How far beyond a resting limit the market must trade before the limit counts as filled; 0: a touch is enough.

    Returns
    -------
    ``(filled, price, triggered)``. ``filled`` is 0 and ``price`` NaN where nothing fills.

    Notes
    -----
    A bar does not say in which order its prices came. Where that matters the worse order is assumed: a stop-limit
    order that is triggered inside the bar by a price beyond its limit fills in a later bar.

    Examples
    --------
    >>> fill_order(STOP, -1, 10.0, math.nan, 98.0, False, 97.0, 99.0, 96.0, math.inf, 0.0)
    (10.0, 97.0, True)
    >>> fill_order(LIMIT, 1, 10.0, 98.0, math.nan, False, 99.0, 99.5, 97.0, 4.0, 0.0)
    (4.0, 98.0, False)
    """
    units = quantity if available >= quantity else available
    filled, price = 0.0, math.nan
    # Written so that a NaN fails every comparison; the stop is watched even where no quantity is to be had.
    if low > -_INFINITE and low <= opened and opened <= high and high < _INFINITE and quantity > 0.0:
        from_open = True
        first = opened
        if kind >= STOP and not triggered:
            beyond = high >= stop if side > 0 else low <= stop
            if beyond:
                triggered = True
                # A stop that the open has passed is live from the open on: the gap is paid, not wished away.
                from_open = opened >= stop if side > 0 else opened <= stop
                first = opened if from_open else stop
        if kind == MARKET or (kind == STOP and triggered):
            filled, price = units, first
        elif kind == LIMIT or (kind == STOP_LIMIT and triggered):
            marketable = first < limit if side > 0 else first > limit
            if kind == STOP_LIMIT and first == limit:
                marketable = marketable or not from_open
            # Inside the bar only what comes after the trigger can reach the limit, and a bar does not show that.
            reached = from_open and (low <= limit - through if side > 0 else high >= limit + through)
            if marketable or reached:
                price = min(first, limit) if side > 0 else max(first, limit)
                filled = units
    if not filled > 0.0:
        filled, price = 0.0, math.nan
    return filled, price, triggered


@njit(cache=True, nogil=True, inline="always")
def fill_order_at_tick(
    kind: Any,
    side: Any,
    quantity: Any,
    limit: Any,
    stop: Any,
    triggered: Any,
    bid: Any,
    ask: Any,
    available: Any,
    through: Any,
) -> Any:
    """How much of an order one quote fills: a buyer meets the ask, a seller the bid; the spread is thereby paid.

    A quote without ``bid <= ask``, both finite, fills nothing and triggers nothing. A stop to buy is triggered by the
    ask and one to sell by the bid, as brokers of leveraged accounts do. Otherwise the rules of :func:`fill_order`.

    Returns
    -------
    ``(filled, price, triggered)``.

    Examples
    --------
    >>> fill_order_at_tick(STOP, 1, 5.0, math.nan, 101.0, False, 101.2, 101.4, math.inf, 0.0)
    (5.0, 101.4, True)
    """
    filled, price = 0.0, math.nan
    if bid <= ask:
        one = ask if side > 0 else bid
        filled, price, triggered = fill_order(
            kind, side, quantity, limit, stop, triggered, one, one, one, available, through
        )
    return filled, price, triggered


@njit(cache=True, nogil=True, inline="always")
def whole_lots(quantity: Any, lot: Any) -> Any:
    """A quantity cut down to whole lots; ``lot`` 0 leaves it as it is.

    A billionth of a lot is forgiven, so that three lots of 0.1 are three although 0.3 / 0.1 is a little less.

    Examples
    --------
    >>> whole_lots(25.9, 10.0), whole_lots(25.9, 0.0), round(whole_lots(0.3, 0.1), 9)
    (20.0, 25.9, 0.3)
    """
    if lot > 0.0 and quantity < _INFINITE:
        quantity = math.floor(quantity / lot + 1e-9) * lot
    return quantity


@njit(cache=True, nogil=True, inline="always")
def takes_liquidity(kind: Any, side: Any, price: Any, limit: Any) -> Any:
    """Whether a fill at ``price`` crossed the spread: all but a limit order that is filled at its own limit.

    Examples
    --------
    >>> takes_liquidity(LIMIT, 1, 98.0, 98.0), takes_liquidity(LIMIT, 1, 97.0, 98.0), takes_liquidity(STOP, 1, 1.0, 2.0)
    (False, True, True)
    """
    return kind in (MARKET, STOP) or side * price < side * limit
