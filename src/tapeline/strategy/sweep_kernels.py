"""Many sets of decisions over the same bars, with a few figures kept of each, and its equity at chosen rows."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.core.kernel_options import INNER, OWNING_INNER
from tapeline.strategy.account_kernels import (
    FILL_AMOUNT_COLUMNS,
    FILL_CODE_COLUMNS,
    FILL_COMMISSION,
    FILL_COUNT,
    ORDER,
    ORDER_AMOUNT_COLUMNS,
    ORDER_CODE_COLUMNS,
    ORDER_COUNT,
    ROOM,
    STOP_ORDER,
    TAKE_ORDER,
    Log,
    begin_state,
)
from tapeline.strategy.simulator_kernels import STRETCH, Decisions, advance

SWEEP_COLUMNS: Final = ("equity", "drawdown", "fills", "commission", "mean", "deviation")


@njit(cache=True, nogil=True)
def sweep_block(
    market: Any,
    targets: Any,
    stops: Any,
    takes: Any,
    none: Any,
    no_latency: Any,
    rules: Any,
    capital: Any,
    ends: Any,
) -> Any:
    """Trade each row of ``targets``: its figures in the order of ``SWEEP_COLUMNS``, and its equity at rows ``ends``.

    ``stops`` and ``takes`` have one row for all sets, or a row a set.
    """
    sets, rows = targets.shape
    found, marked = np.empty((sets, 6)), np.empty((sets, ends.size))
    equity, charged, log = np.empty(rows), np.empty(0), small_log()
    for which in range(sets):
        stop, take = min(which, stops.shape[0] - 1), min(which, takes.shape[0] - 1)
        decisions = Decisions(targets[which], stops[stop], takes[take], none, none, no_latency)
        amounts, counts = begin_state(capital)
        # Of the type that advance gives back: it is compiled anew for a constant.
        fills, paid, row = 0, 0.0, np.int64(0)
        while row < rows:
            row = advance(market, decisions, rules, amounts, counts, log, equity, charged, row, rows)
            for fill in range(counts[FILL_COUNT]):
                paid += log.fill_amounts[fill, FILL_COMMISSION]
            fills += counts[FILL_COUNT]
            if row < rows:
                make_room(counts, log)
        found[which, 0], found[which, 2], found[which, 3] = equity[rows - 1] if rows else capital, fills, paid
        found[which, 1], found[which, 4], found[which, 5] = figures(equity, capital)
        for place in range(ends.size):
            marked[which, place] = equity[ends[place]]
    return found, marked


@njit(**OWNING_INNER)
def small_log() -> Any:
    """A log that is emptied again and again: a set keeps its figures, not its fills."""
    room = 64 * ROOM
    return Log(
        np.empty((room, FILL_CODE_COLUMNS), np.int64),
        np.empty((room, FILL_AMOUNT_COLUMNS)),
        np.empty((room, ORDER_CODE_COLUMNS), np.int64),
        np.empty((room, ORDER_AMOUNT_COLUMNS)),
    )


@njit(**OWNING_INNER)
def make_room(counts: Any, log: Any) -> None:
    """Forget what is over and move the orders that still work to the front."""
    codes, amounts = np.empty((3, ORDER_CODE_COLUMNS), np.int64), np.empty((3, ORDER_AMOUNT_COLUMNS))
    kept = np.int64(0)
    for slot in (ORDER, STOP_ORDER, TAKE_ORDER):
        if counts[slot] >= 0:
            _copy_order(log.order_codes, log.order_amounts, counts[slot], codes, amounts, kept)
            counts[slot] = kept
            kept += 1
    for order in range(kept):
        _copy_order(codes, amounts, order, log.order_codes, log.order_amounts, order)
    counts[FILL_COUNT], counts[ORDER_COUNT] = 0, kept


@njit(**INNER)
def _copy_order(codes: Any, amounts: Any, here: Any, to_codes: Any, to_amounts: Any, there: Any) -> None:
    # Number by number: for an assignment of rows Numba compiles the message that it would raise, which takes seconds.
    for column in range(ORDER_CODE_COLUMNS):
        to_codes[there, column] = codes[here, column]
    for column in range(ORDER_AMOUNT_COLUMNS):
        to_amounts[there, column] = amounts[here, column]


@njit(**INNER)
def figures(equity: Any, capital: Any) -> Any:
    """Drawdown, and mean and standard deviation of the changes from close to close."""
    rows = equity.size
    if rows == 0:
        return 0.0, 0.0, 0.0
    drawdown, highest, row = 0.0, capital, 0
    while row < rows:
        # A stretch with neither a new high nor a deeper fall, which most are, is only looked through.
        until, fall, news = min(row + STRETCH, rows), drawdown * highest, np.int64(0)
        for at in range(np.uint64(row), np.uint64(until)):
            news |= np.int64(equity[at] > highest) | np.int64(highest - equity[at] > fall)
        if news:
            for at in range(row, until):
                value = equity[at]
                if value > highest:
                    highest = value
                elif highest - value > drawdown * highest:
                    drawdown = (highest - value) / highest
        row = until
    mean = (equity[rows - 1] - capital) / rows
    return drawdown, mean, math.sqrt(max(squared_changes(equity, capital) / rows - mean * mean, 0.0))


@njit(**INNER)
def squared_changes(equity: Any, capital: Any) -> Any:
    """The sum of the squared changes from close to close, in four sums that do not wait for each other."""
    first = equity[0] - capital
    one, two, three, four = first * first, 0.0, 0.0, 0.0
    last = np.uint64(equity.size - (equity.size - 1) % 4)
    for at in range(np.uint64(1), last, np.uint64(4)):
        a = equity[at] - equity[at - np.uint64(1)]
        b = equity[at + np.uint64(1)] - equity[at]
        c = equity[at + np.uint64(2)] - equity[at + np.uint64(1)]
        d = equity[at + np.uint64(3)] - equity[at + np.uint64(2)]
        one, two, three, four = one + a * a, two + b * b, three + c * c, four + d * d
    for at in range(last, np.uint64(equity.size)):
        a = equity[at] - equity[at - np.uint64(1)]
        one += a * a
    return (one + two) + (three + four)
