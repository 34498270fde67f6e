"""Limits of risk as an engine asks them: what may still be traded, and when nothing may.

A fill that reduces or closes a position is never refused. One that opens or adds is cut to what every limit allows, or
refused. All bounds are shares of the account's equity; an infinite bound is none.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.kernel_options import INNER
from tapeline.strategy.fills import whole_lots
from tapeline.strategy.risk_tail import BEYOND_VALUE_AT_RISK, TOO_SHORT, WITHIN, within_tail

PERMITTED: Final = 0
KILL_SWITCH, DAILY_LOSS, TRADES_PER_DAY, OPEN_POSITIONS, NO_STOP = range(1, 6)
TRADE_RISK, TRADE_NOTIONAL, SYMBOL_EXPOSURE, GROUP_EXPOSURE, GROSS_LEVERAGE, NET_LEVERAGE = range(6, 12)
VALUE_AT_RISK, EXPECTED_SHORTFALL, NO_HISTORY, NO_EQUITY = range(12, 16)
RISK_REASONS: Final = (
    "permitted",
    "kill_switch",
    "daily_loss",
    "trades_per_day",
    "open_positions",
    "no_stop",
    "trade_risk",
    "trade_notional",
    "symbol_exposure",
    "group_exposure",
    "gross_leverage",
    "net_leverage",
    "value_at_risk",
    "expected_shortfall",
    "no_history",
    "no_equity",
)
"""Names of the reason codes, by code: the limit that bound, or why nothing can be said.

``no_equity`` is an equity, a price or a point value that is not above 0.
"""

OPEN: Final = 0
NO_NEW_RISK: Final = 1
CLOSE_ALL: Final = 2
"""What :func:`mark_risk` says: trade on, only reduce, or close every position."""

HIGH_WATER, DAY_START, LAST_EQUITY = range(3)
DAY, TRADES_TODAY, DAY_STOPPED, KILLED, GROUP_ROW, RETURN_ROWS = range(6)
"""Places in ``RiskState.amounts`` and ``RiskState.counts``."""

_DAY: Final = 86_400_000_000_000
_BEFORE_TIME: Final = -(2**62)
_SLACK: Final = 1e-9


class RiskRules(NamedTuple):
    """What kernels take, made by :meth:`tapeline.strategy.risk.RiskLimits.compiled` or :func:`no_limits`.

    Attributes
    ----------
    trade_risk:
        Loss if the position, with what is added, is stopped out, as a share of equity: quantity times stop distance
        times point value. Where it is finite, a trade without a stop distance is refused.
    trade_notional:
        Value of what one order adds.
    symbol_exposure:
        Value of the position in a symbol.
    group_exposure:
        Sum of the absolute values of the positions in a group. Absolute, since what moved together with the opposite
        sign is as much one risk, and since correlations that a hedge leans on break when it is needed.
    gross_leverage, net_leverage:
        Sum of absolute values, and absolute value of the sum, over all symbols.
    open_positions, trades_per_day:
        Numbers. A trade begins when a position is opened or turned; adding to it is part of it. Days are UTC's.
    daily_loss:
        Share of the equity at the day's start; once it is lost, no new risk until the next day.
    drawdown:
        Share of the highest equity; once it is lost, no new risk until :func:`reset_kill_switch`.
    close_all:
        Whether the drawdown limit also closes every position.
    value_at_risk, expected_shortfall, confidence:
        Of the book after the trade, by historical simulation over the last ``window`` rows of ``returns``.
    window, least:
        Most and fewest rows of returns that are used.
    lot, point_value:
        By symbol: smallest step of a quantity (0: none), and money of the account for one unit and one point of price.
    groups, groups_known_at:
        ``groups[k, g, i]``: whether symbol i is in group g from ``groups_known_at[k]`` (ns) on.
    returns, returns_known_at:
        ``returns[k, i]``: of symbol i over one period, known from ``returns_known_at[k]`` on; must not decrease.
    """

    trade_risk: float
    trade_notional: float
    symbol_exposure: float
    group_exposure: float
    gross_leverage: float
    net_leverage: float
    open_positions: float
    trades_per_day: float
    daily_loss: float
    drawdown: float
    close_all: bool
    value_at_risk: float
    expected_shortfall: float
    confidence: float
    window: int
    least: int
    lot: NDArray[np.float64]
    point_value: NDArray[np.float64]
    groups: NDArray[np.bool_]
    groups_known_at: NDArray[np.int64]
    returns: NDArray[np.float64]
    returns_known_at: NDArray[np.int64]


class RiskState(NamedTuple):
    """What is remembered between instants: arrays, written in place.

    Attributes
    ----------
    amounts:
        Highest equity, equity at the day's start, last equity.
    counts:
        UTC day, trades opened in it, whether its loss stopped it, whether the kill switch is on, the row of
        ``RiskRules.groups`` in force (-1: none), and how many rows of ``RiskRules.returns`` are known.
    point_value:
        By symbol; whoever converts currencies writes here the money that one point is worth now.
    """

    amounts: NDArray[np.float64]
    counts: NDArray[np.int64]
    point_value: NDArray[np.float64]


def no_limits(symbols: int) -> RiskRules:
    """Rules that permit everything: one unit is worth its price, no lots.

    Examples
    --------
    >>> rules = no_limits(2)._replace(gross_leverage=1.5)
    >>> state = begin_risk(rules, 2, 1_000.0)
    >>> quantity, reason = permitted_quantity(rules, state, 0, 0.0, 1, 20.0, 100.0, np.nan, np.zeros(2), 1_000.0)
    >>> quantity, RISK_REASONS[reason]
    (15.0, 'gross_leverage')
    """
    bounds = dict.fromkeys(RiskRules._fields[:10], math.inf)
    return RiskRules(
        **bounds,
        close_all=False,
        value_at_risk=math.inf,
        expected_shortfall=math.inf,
        confidence=0.99,
        window=500,
        least=100,
        lot=np.zeros(symbols),
        point_value=np.ones(symbols),
        groups=np.zeros((0, 0, symbols), np.bool_),
        groups_known_at=np.zeros(0, np.int64),
        returns=np.zeros((0, symbols)),
        returns_known_at=np.zeros(0, np.int64),
    )


def begin_risk(rules: RiskRules, symbols: int, capital: float) -> RiskState:
    """The state before the first instant: nothing traded, ``capital`` the highest equity and the day's start.

    Examples
    --------
    >>> begin_risk(no_limits(2), 2, 1_000.0).amounts.tolist()
    [1000.0, 1000.0, 1000.0]
    """
    # Groups that always stood are in force before the first instant.
    declared = rules.groups_known_at.size > 0 and rules.groups_known_at[0] <= _BEFORE_TIME
    counts = np.array([_BEFORE_TIME, 0, 0, 0, 0 if declared else -1, 0], np.int64)
    return RiskState(np.full(3, float(capital)), counts, np.resize(rules.point_value, symbols).astype(np.float64))


def reset_kill_switch(state: RiskState) -> None:
    """Let new risk in again, by hand: the last equity becomes the highest.

    Examples
    --------
    >>> rules = no_limits(1)._replace(drawdown=0.1)
    >>> state = begin_risk(rules, 1, 100.0)
    >>> mark_risk(rules, state, 0, 90.0), mark_risk(rules, state, 1, 200.0)
    (1, 1)
    >>> reset_kill_switch(state)
    >>> mark_risk(rules, state, 2, 190.0)
    0
    """
    state.counts[KILLED] = 0
    state.amounts[HIGH_WATER] = state.amounts[LAST_EQUITY]


@njit(cache=True, nogil=True)
def mark_risk(rules: Any, state: Any, ts: Any, equity: Any) -> Any:
    """Take the account's equity at an instant: roll the day, move the high-water mark, find what is stopped.

    Parameters
    ----------
    rules, state:
        The state is written to.
    ts:
        Nanoseconds UTC; must not decrease from call to call. What is known at ``ts`` itself counts as known.
    equity:
        Cash and open profit, in the account's currency. NaN is no news: the last one stands.

    Returns
    -------
    ``OPEN``, ``NO_NEW_RISK`` or ``CLOSE_ALL``.

    Examples
    --------
    >>> rules = no_limits(1)._replace(daily_loss=0.02, drawdown=0.1, close_all=True)
    >>> state, hour = begin_risk(rules, 1, 100.0), 3_600_000_000_000
    >>> [mark_risk(rules, state, at * hour, equity) for at, equity in ((0, 99.0), (1, 98.0), (2, 99.5), (24, 99.5))]
    [0, 1, 1, 0]
    >>> mark_risk(rules, state, 25 * hour, 90.0)
    2
    """
    amounts, counts = state.amounts, state.counts
    day = ts // _DAY
    if day != counts[DAY]:
        # A day's loss counts from the last equity before it, so that a gap over midnight belongs to the new day.
        amounts[DAY_START] = amounts[LAST_EQUITY]
        counts[DAY] = day
        counts[TRADES_TODAY] = 0
        counts[DAY_STOPPED] = 0
    while counts[GROUP_ROW] + 1 < rules.groups_known_at.size and rules.groups_known_at[counts[GROUP_ROW] + 1] <= ts:
        counts[GROUP_ROW] += 1
    while counts[RETURN_ROWS] < rules.returns_known_at.size and rules.returns_known_at[counts[RETURN_ROWS]] <= ts:
        counts[RETURN_ROWS] += 1
    if equity == equity:
        amounts[LAST_EQUITY] = equity
        if equity > amounts[HIGH_WATER]:
            amounts[HIGH_WATER] = equity
        if _lost(amounts[DAY_START], equity, rules.daily_loss):
            counts[DAY_STOPPED] = 1
        if _lost(amounts[HIGH_WATER], equity, rules.drawdown):
            counts[KILLED] = 1
    if counts[KILLED] == 1:
        return CLOSE_ALL if rules.close_all else NO_NEW_RISK
    return NO_NEW_RISK if counts[DAY_STOPPED] == 1 else OPEN


@njit(cache=True, nogil=True)
def note_fill(state: Any, position: Any, quantity: Any) -> None:
    """Count a fill of ``quantity`` signed units on top of ``position``: opening or turning it begins a trade.

    Call it after every fill; further parts of the same order, and additions, begin none.

    Examples
    --------
    >>> state = begin_risk(no_limits(1), 1, 100.0)
    >>> for position, quantity in ((0.0, 5.0), (5.0, 5.0), (10.0, -5.0), (5.0, -8.0)):
    ...     note_fill(state, position, quantity)
    >>> int(state.counts[TRADES_TODAY])
    2
    """
    after = position + quantity
    # What summing leaves of a closed position is none: 0.3 - 0.1 - 0.1 - 0.1 is not 0 in binary.
    if abs(after) > _SLACK * abs(quantity) and position * after <= 0.0:
        state.counts[TRADES_TODAY] += 1


@njit(cache=True, nogil=True)
def permitted_quantity(
    rules: Any,
    state: Any,
    which: Any,
    position: Any,
    side: Any,
    quantity: Any,
    price: Any,
    stop_distance: Any,
    values: Any,
    equity: Any,
) -> Any:
    """How much of a trade the limits permit, and which of them bound.

    What reduces or closes the position passes whole; the rest opens, adds or turns, and is cut to whole lots within
    all limits. Of several that bind, the tightest is named. Nothing is written: ask when a decision arrives and again
    at the price of the fill, then tell :func:`note_fill`.

    Parameters
    ----------
    rules, state:
        As of the last :func:`mark_risk`.
    which:
        Number of the symbol.
    position:
        Signed units held in it.
    side, quantity:
        1 buys, -1 sells; units, above zero.
    price:
        At which it would be filled.
    stop_distance:
        Points of price to the protective stop; NaN where there is none.
    values:
        Signed market values by symbol, in the account's currency. That of ``which`` is taken from ``position`` and
        ``price``, whatever stands there.
    equity:
        Now, in the account's currency.

    Returns
    -------
    Units from 0 to ``quantity``, and the reason's code (see ``RISK_REASONS``), 0 where all of it is permitted.

    Examples
    --------
    >>> rules = no_limits(1)._replace(trade_risk=0.01, lot=np.array([10.0]))
    >>> state = begin_risk(rules, 1, 10_000.0)
    >>> permitted_quantity(rules, state, 0, 0.0, 1, 500.0, 20.0, 0.55, np.zeros(1), 10_000.0)  # 100 / 0.55 = 181.8
    (180.0, 6)
    >>> permitted_quantity(rules, state, 0, 180.0, -1, 180.0, 20.0, np.nan, np.zeros(1), 10_000.0)
    (180.0, 0)
    """
    reducing = min(quantity, abs(position)) if position * side < 0.0 else 0.0
    opening = quantity - reducing
    if not opening > 0.0:
        return reducing, PERMITTED
    held = position + side * reducing
    reason = _closed_door(rules, state, which, held, stop_distance, values, equity)
    if reason != PERMITTED:
        return reducing, reason
    unit = abs(price) * state.point_value[which]
    if not (unit > 0.0 and unit < math.inf):
        return reducing, NO_EQUITY
    room, reason = opening, PERMITTED
    value, added = abs(held) * unit, side * held * unit
    others_gross, others_net = 0.0, 0.0
    for symbol in range(values.size):
        if symbol != which:
            others_gross += abs(values[symbol])
            others_net += values[symbol]
    if rules.trade_risk < math.inf:
        risked = stop_distance * state.point_value[which]
        room, reason = _tighter(room, reason, rules.trade_risk * equity / risked - abs(held), TRADE_RISK)
    room, reason = _tighter(room, reason, rules.trade_notional * equity / unit, TRADE_NOTIONAL)
    room, reason = _tighter(room, reason, (rules.symbol_exposure * equity - value) / unit, SYMBOL_EXPOSURE)
    if rules.group_exposure < math.inf and state.counts[GROUP_ROW] >= 0:
        members = rules.groups[state.counts[GROUP_ROW]]
        for group in range(members.shape[0]):
            if members[group, which]:
                grouped = value
                for symbol in range(values.size):
                    if symbol != which and members[group, symbol]:
                        grouped += abs(values[symbol])
                room, reason = _tighter(room, reason, (rules.group_exposure * equity - grouped) / unit, GROUP_EXPOSURE)
    room, reason = _tighter(room, reason, (rules.gross_leverage * equity - others_gross - value) / unit, GROSS_LEVERAGE)
    net = rules.net_leverage * equity - side * others_net - added
    room, reason = _tighter(room, reason, net / unit, NET_LEVERAGE)
    if reason != PERMITTED:
        room = max(whole_lots(room, rules.lot[which]), 0.0)
    if room > 0.0 and (rules.value_at_risk < math.inf or rules.expected_shortfall < math.inf):
        known = state.counts[RETURN_ROWS]
        room, beyond = within_tail(
            rules.returns[max(known - rules.window, 0) : known],
            rules.least,
            rules.confidence,
            rules.value_at_risk * equity,
            rules.expected_shortfall * equity,
            values,
            which,
            held * unit,
            side * unit,
            room,
            rules.lot[which],
        )
        if beyond == TOO_SHORT:
            reason = NO_HISTORY
        elif beyond != WITHIN:
            reason = VALUE_AT_RISK if beyond == BEYOND_VALUE_AT_RISK else EXPECTED_SHORTFALL
    return reducing + room, reason


@njit(**INNER)
def _lost(start: Any, equity: Any, share: Any) -> Any:
    # A hair before the bound counts as at it: 100 - 98 over 100 is not 0.02 in binary.
    return share < math.inf and start - equity >= share * start * (1.0 - _SLACK)


@njit(inline="always", **INNER)
def _tighter(room: Any, reason: Any, allowed: Any, code: Any) -> Any:
    return (max(allowed, 0.0), code) if allowed < room * (1.0 - _SLACK) else (room, reason)


@njit(**INNER)
def _closed_door(rules: Any, state: Any, which: Any, held: Any, stop_distance: Any, values: Any, equity: Any) -> Any:
    """Why nothing at all may be opened, or ``PERMITTED``."""
    if state.counts[KILLED] == 1 or _lost(state.amounts[HIGH_WATER], equity, rules.drawdown):
        return KILL_SWITCH
    if state.counts[DAY_STOPPED] == 1 or _lost(state.amounts[DAY_START], equity, rules.daily_loss):
        return DAILY_LOSS
    if not (equity > 0.0 and equity < math.inf):
        return NO_EQUITY
    if held == 0.0:
        if state.counts[TRADES_TODAY] >= rules.trades_per_day:
            return TRADES_PER_DAY
        if rules.open_positions < math.inf:
            others = 0
            for symbol in range(values.size):
                others += symbol != which and values[symbol] != 0.0
            if others >= rules.open_positions:
                return OPEN_POSITIONS
    if rules.trade_risk < math.inf and not (stop_distance > 0.0 and stop_distance < math.inf):
        return NO_STOP
    return PERMITTED
