"""Protective stops bar by bar: who is in the market, what protects him, and when that is moved.

A bar is settled first (what the market did to the position), then decided at its close (what is to stand from the next
bar on). Both read and write two small arrays, so that a history and a stream run through the same statements.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.strategy.fills import fill_order
from tapeline.strategy.orders import LIMIT, STOP
from tapeline.strategy.simulator_kernels import value_at
from tapeline.strategy.slippage import slipped

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Amounts.
POSITION, WANTED, ENTRY, STOP_PRICE, TAKE_PRICE, RISK, REWARD, BEST, LEVEL = range(9)
NEXT_RISK, NEXT_REWARD, NEXT_LEVEL, RANGE_SUM, LAST_CLOSE = range(9, 14)
AMOUNTS: Final = 14
# Whole numbers.
PENDING, AGE, HELD, ENTERED_AT, RANGES = range(5)
COUNTS: Final = 5

# How a distance is measured.
BY_DISTANCE, BY_SHARE, BY_ATR, BY_STRUCTURE, BY_CHANDELIER, BY_RISK = range(6)
NO_RULE: Final = -1

NOTHING, ENTERED, LEFT, RESIZED, WITHHELD, ADOPTED, AT_LEVEL, TRAILED, BROKEN_EVEN, TIMED_OUT, PASSED = range(11)
REASONS: Final = (
    "",
    "entry",
    "exit",
    "resize",
    "withheld",
    "adopted",
    "level",
    "trailing",
    "break_even",
    "time",
    "passed",
)
"""Why a bar's decision is what it is, in the order of the codes."""

TARGET, STOP_DISTANCE, TAKE_DISTANCE = range(3)
OUTPUTS: Final = 3


class Plan(NamedTuple):
    """A protective plan as kernels take it; a kind of ``NO_RULE`` is absent, a time of 0 never comes."""

    window: int
    initial_kind: int
    initial_value: float
    initial_buffer: float
    trail_kind: int
    trail_value: float
    trail_after: float
    even_after: float
    even_share: float
    time_bars: int
    time_nanoseconds: int
    take_kind: int
    take_value: float
    take_buffer: float


class Fills(NamedTuple):
    """How the market fills, where the position is worked out and not told."""

    slippage: Any
    through: float
    in_force: int


class Levels(NamedTuple):
    """What stands at a bar's close: Wilder's range, the extremes of the window, the levels below and above."""

    atr: float
    top: float
    bottom: float
    below: float
    above: float


@njit(cache=True, nogil=True)
def begin_protection() -> Any:
    """The state of an account that holds nothing and wants nothing."""
    amounts, counts = np.full(AMOUNTS, math.nan), np.zeros(COUNTS, np.int64)
    amounts[POSITION], amounts[WANTED], amounts[RANGE_SUM] = 0.0, 0.0, 0.0
    return amounts, counts


@njit(cache=True, nogil=True)
def true_range_mean(amounts: Any, counts: Any, window: Any, high: Any, low: Any, close: Any) -> Any:
    """Wilder's average true range after this bar; NaN until ``window`` ranges are known. A broken bar changes nothing.

    The first range needs a close before it. The mean of the first ``window`` ranges seeds the average (Wilder 1978).
    """
    if not (-math.inf < low <= high < math.inf and -math.inf < close < math.inf):
        return amounts[RANGE_SUM] if counts[RANGES] >= window else math.nan
    before = amounts[LAST_CLOSE]
    amounts[LAST_CLOSE] = close
    if math.isnan(before):
        return math.nan
    reach = max(high, before) - min(low, before)
    counts[RANGES] += 1
    if counts[RANGES] < window:
        amounts[RANGE_SUM] += reach
        return math.nan
    if counts[RANGES] == window:
        amounts[RANGE_SUM] = (amounts[RANGE_SUM] + reach) / window
    else:
        amounts[RANGE_SUM] += (reach - amounts[RANGE_SUM]) / window
    return amounts[RANGE_SUM]


@njit(cache=True, nogil=True)
def _leave(amounts: Any, counts: Any) -> None:
    amounts[POSITION] = 0.0
    for slot in (ENTRY, STOP_PRICE, TAKE_PRICE, RISK, REWARD, BEST, LEVEL):
        amounts[slot] = math.nan
    counts[HELD] = 0


@njit(cache=True, nogil=True)
def _enter(amounts: Any, counts: Any, position: Any, price: Any, opened_at: Any) -> None:
    side = 1.0 if position > 0.0 else -1.0
    expected = counts[PENDING] > 0 and amounts[WANTED] * side > 0.0
    _leave(amounts, counts)
    amounts[POSITION], amounts[ENTRY], amounts[BEST] = position, price, price
    counts[ENTERED_AT] = opened_at
    if expected:
        amounts[RISK], amounts[REWARD], amounts[LEVEL] = amounts[NEXT_RISK], amounts[NEXT_REWARD], amounts[NEXT_LEVEL]
        amounts[STOP_PRICE] = price - side * amounts[RISK]
        amounts[TAKE_PRICE] = price + side * amounts[REWARD]


@njit(cache=True, nogil=True)
def _protected_out(fills: Any, amounts: Any, opened: Any, high: Any, low: Any) -> Any:
    """Whether the stop or the target takes the position out between these prices."""
    position = amounts[POSITION]
    side = -1.0 if position > 0.0 else 1.0
    _, _, stopped = fill_order(
        STOP, side, 1.0, math.nan, amounts[STOP_PRICE], False, opened, high, low, math.inf, fills.through
    )
    taken, _, _ = fill_order(
        LIMIT, side, 1.0, amounts[TAKE_PRICE], math.nan, False, opened, high, low, math.inf, fills.through
    )
    return stopped or taken > 0.0


@njit(cache=True, nogil=True)
def settle(
    fills: Any, amounts: Any, counts: Any, opened_at: Any, opened: Any, high: Any, low: Any, half_spread: Any
) -> None:
    """What a bar does to the position, by the order of events in docs/simulator.md."""
    if low > -math.inf and low <= opened and opened <= high and high < math.inf:
        position = amounts[POSITION]
        if position != 0.0 and _protected_out(fills, amounts, opened, opened, opened):
            _leave(amounts, counts)
            # An order that would have added to the position, or closed it, has lost its purpose.
            if amounts[WANTED] * position >= 0.0:
                counts[PENDING] = 0
        if counts[PENDING]:
            position, wanted = amounts[POSITION], amounts[WANTED]
            if wanted == 0.0:
                _leave(amounts, counts)
            elif position * wanted > 0.0:
                amounts[POSITION] = wanted
            else:
                side = 1.0 if wanted > 0.0 else -1.0
                price = slipped(fills.slippage, side, abs(wanted - position), opened, math.nan, math.nan, half_spread)
                _enter(amounts, counts, wanted, price, opened_at)
            counts[PENDING] = 0
        if amounts[POSITION] != 0.0 and _protected_out(fills, amounts, opened, high, low):
            _leave(amounts, counts)
    if counts[PENDING]:
        counts[AGE] += 1
        if fills.in_force > 0 and counts[AGE] >= fills.in_force:
            counts[PENDING] = 0
            amounts[WANTED] = amounts[POSITION]


@njit(cache=True, nogil=True)
def adopt(amounts: Any, counts: Any, position: Any, price: Any, opened_at: Any) -> None:
    """Take the position as an account tells it, instead of working it out."""
    if position == 0.0:
        if amounts[POSITION] != 0.0:
            _leave(amounts, counts)
            if not counts[PENDING]:
                amounts[WANTED] = 0.0
    elif position * amounts[POSITION] > 0.0:
        amounts[POSITION] = position
    else:
        _enter(amounts, counts, position, price, opened_at)
        if math.isnan(amounts[STOP_PRICE]):
            amounts[WANTED] = position
    if position * amounts[WANTED] > 0.0 or position == amounts[WANTED]:
        counts[PENDING] = 0


@njit(cache=True, nogil=True)
def _initial(plan: Any, side: Any, at: Any, levels: Any) -> Any:
    """Distance of the stop from the entry, of the target, and the level to which the stop may be tightened."""
    level = math.nan
    if plan.initial_kind == BY_DISTANCE:
        risk = plan.initial_value
    elif plan.initial_kind == BY_SHARE:
        risk = abs(at) * plan.initial_value
    else:
        risk = plan.initial_value * levels.atr
        if plan.initial_kind == BY_STRUCTURE:
            found = (levels.below if side > 0.0 else levels.above) - side * plan.initial_buffer * levels.atr
            if side * (at - found) > 0.0:
                level, risk = found, side * (at - found)
    reward = math.nan
    if plan.take_kind == BY_RISK:
        reward = plan.take_value * risk
    elif plan.take_kind == BY_ATR:
        reward = plan.take_value * levels.atr
    elif plan.take_kind == BY_SHARE:
        reward = abs(at) * plan.take_value
    elif plan.take_kind == BY_DISTANCE:
        reward = plan.take_value
    elif plan.take_kind == BY_STRUCTURE:
        found = (levels.above if side > 0.0 else levels.below) - side * plan.take_buffer * levels.atr
        reward = side * (found - at)
    if not reward > 0.0:
        reward = math.nan
    return risk, reward, level


@njit(cache=True, nogil=True)
def _trailing(plan: Any, side: Any, best: Any, levels: Any) -> Any:
    """Where the trailing rule would have the stop; NaN where it has none."""
    if plan.trail_kind == BY_DISTANCE:
        return best - side * plan.trail_value
    if plan.trail_kind == BY_SHARE:
        return best - side * plan.trail_value * abs(best)
    if plan.trail_kind == BY_ATR:
        return best - side * plan.trail_value * levels.atr
    if plan.trail_kind == BY_CHANDELIER:
        return (levels.top if side > 0.0 else levels.bottom) - side * plan.trail_value * levels.atr
    if plan.trail_kind == BY_STRUCTURE:
        return (levels.below if side > 0.0 else levels.above) - side * plan.trail_value * levels.atr
    return math.nan


@njit(cache=True, nogil=True)
def decide(
    plan: Any,
    amounts: Any,
    counts: Any,
    closed_at: Any,
    high: Any,
    low: Any,
    close: Any,
    levels: Any,
    wanted: Any,
    out: Any,
) -> Any:
    """What stands from this close on, into ``out``: target, stop and take as distances from the entry. The reason."""
    out[TARGET], out[STOP_DISTANCE], out[TAKE_DISTANCE] = math.nan, math.nan, math.nan
    position = amounts[POSITION]
    side = 1.0 if position > 0.0 else -1.0
    if position != 0.0:
        counts[HELD] += 1
        if -math.inf < low <= high < math.inf:
            reached = high if side > 0.0 else low
            if side * reached > side * amounts[BEST]:
                amounts[BEST] = reached
    reason = NOTHING
    if not math.isnan(wanted):
        if wanted == 0.0:
            reason = LEFT
        elif wanted * position > 0.0:
            amounts[WANTED], counts[PENDING], counts[AGE] = wanted, int(wanted != position), 0
            reason = RESIZED
        else:
            risk, reward, level = _initial(plan, 1.0 if wanted > 0.0 else -1.0, close, levels)
            if 0.0 < risk < math.inf:
                amounts[WANTED], counts[PENDING], counts[AGE] = wanted, 1, 0
                amounts[NEXT_RISK], amounts[NEXT_REWARD], amounts[NEXT_LEVEL] = risk, reward, level
                out[TARGET], out[STOP_DISTANCE], out[TAKE_DISTANCE] = wanted, risk, reward
                return ENTERED
            # What cannot be protected is not entered; what it would have turned round is closed all the same.
            reason = WITHHELD
            if position == 0.0:
                amounts[WANTED], counts[PENDING] = 0.0, 0
                return reason
    if reason in (NOTHING, RESIZED):
        if amounts[WANTED] * position <= 0.0:
            return reason
        moved = _update(plan, amounts, counts, closed_at, close, levels, side)
        if moved == NOTHING and reason == NOTHING:
            return reason
        if moved in (TIMED_OUT, PASSED) or reason == NOTHING:
            reason = moved
    if reason in (LEFT, WITHHELD, TIMED_OUT, PASSED):
        amounts[WANTED], counts[PENDING], counts[AGE] = 0.0, int(position != 0.0), 0
        out[TARGET] = 0.0
        return reason
    out[TARGET] = amounts[WANTED]
    out[STOP_DISTANCE] = side * (amounts[ENTRY] - amounts[STOP_PRICE])
    out[TAKE_DISTANCE] = side * (amounts[TAKE_PRICE] - amounts[ENTRY])
    return reason


@njit(cache=True, nogil=True)
def _update(plan: Any, amounts: Any, counts: Any, closed_at: Any, close: Any, levels: Any, side: Any) -> Any:
    """Move the stop of the position that is held; why, or nothing."""
    if plan.time_bars > 0 and counts[HELD] >= plan.time_bars:
        return TIMED_OUT
    if plan.time_nanoseconds > 0 and closed_at - counts[ENTERED_AT] >= plan.time_nanoseconds:
        return TIMED_OUT
    if not (-math.inf < close < math.inf):
        return NOTHING
    entry, reason = amounts[ENTRY], NOTHING
    if math.isnan(amounts[STOP_PRICE]):
        risk, reward, _ = _initial(plan, side, entry, levels)
        if not 0.0 < risk < math.inf:
            return NOTHING
        amounts[RISK], amounts[REWARD] = risk, reward
        amounts[STOP_PRICE], amounts[TAKE_PRICE] = entry - side * risk, entry + side * reward
        reason = ADOPTED
    stop = amounts[STOP_PRICE]
    gained = side * (amounts[BEST] - entry)
    best, why = stop, reason
    if side * amounts[LEVEL] > side * best:
        best, why = amounts[LEVEL], AT_LEVEL
    if gained >= plan.even_after * amounts[RISK]:
        even = entry + side * plan.even_share * abs(entry)
        if side * even > side * best:
            best, why = even, BROKEN_EVEN
    if gained >= plan.trail_after * amounts[RISK]:
        trailed = _trailing(plan, side, amounts[BEST], levels)
        if side * trailed > side * best:
            best, why = trailed, TRAILED
    if side * best >= side * close:
        # No stop can rest on that side of the market: what it would have done is done at the next open.
        return PASSED
    # The engine has the price from the distance, so that both round alike; a step that rounds away is none.
    best = entry - side * (side * (entry - best))
    if side * best > side * stop:
        amounts[STOP_PRICE] = best
        return why
    return reason


@njit(cache=True, nogil=True)
def protect_history(
    plan: Any,
    fills: Any,
    opened_at: Any,
    closed_at: Any,
    prices: Any,
    half_spread: Any,
    atr: Any,
    top: Any,
    bottom: Any,
    below: Any,
    above: Any,
    wanted: Any,
    out: Any,
    held: Any,
    reasons: Any,
) -> None:
    """Settle and decide every bar, from open, high, low and close as the rows of ``prices``.

    ``held`` gets position, entry, stop and take in prices as they stand after each close, NaN where there is none.
    """
    amounts, counts = begin_protection()
    opened, high, low, close = prices
    for row in range(opened_at.size):
        settle(
            fills, amounts, counts, opened_at[row], opened[row], high[row], low[row], value_at(half_spread, row, 0.0)
        )
        levels = Levels(atr[row], top[row], bottom[row], below[row], above[row])
        reasons[row] = decide(
            plan, amounts, counts, closed_at[row], high[row], low[row], close[row], levels, wanted[row], out[row]
        )
        held[row, 0] = amounts[POSITION]
        held[row, 1], held[row, 2], held[row, 3] = amounts[ENTRY], amounts[STOP_PRICE], amounts[TAKE_PRICE]


@njit(cache=True, nogil=True)
def true_range_history(window: Any, prices: Any) -> Any:
    """:func:`true_range_mean` of each bar."""
    amounts, counts = begin_protection()
    _, high, low, close = prices
    found = np.empty(close.size)
    for row in range(close.size):
        found[row] = true_range_mean(amounts, counts, window, high[row], low[row], close[row])
    return found
