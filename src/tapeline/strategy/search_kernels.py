"""Many sets of decisions over the same bars, with the equity of each at the ends of some periods."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tapeline.strategy.account_kernels import (
    FILL_AMOUNT_COLUMNS,
    FILL_CODE_COLUMNS,
    FILL_COMMISSION,
    FILL_COUNT,
    ORDER_AMOUNT_COLUMNS,
    ORDER_CODE_COLUMNS,
    ROOM,
    Log,
    begin_state,
)
from tapeline.strategy.simulator_kernels import Decisions, advance
from tapeline.strategy.sweep_kernels import figures, make_room


@njit(cache=True, nogil=True)
def equity_block(
    market: Any,
    targets: Any,
    stops: Any,
    takes: Any,
    none: Any,
    no_latency: Any,
    rules: Any,
    capital: Any,
    last: Any,
) -> Any:
    """As ``sweep_block`` with protection by set; and the equity at the rows ``last``, one row a set."""
    sets, rows = targets.shape
    found, marked = np.empty((sets, 6)), np.empty((sets, last.size))
    equity, charged = np.empty(rows), np.empty(0)
    room = 64 * ROOM
    log = Log(
        np.empty((room, FILL_CODE_COLUMNS), np.int64),
        np.empty((room, FILL_AMOUNT_COLUMNS)),
        np.empty((room, ORDER_CODE_COLUMNS), np.int64),
        np.empty((room, ORDER_AMOUNT_COLUMNS)),
    )
    for which in range(sets):
        decisions = Decisions(targets[which], stops[which], takes[which], none, none, no_latency)
        amounts, counts = begin_state(capital)
        fills, paid, row = 0, 0.0, 0
        while row < rows:
            row = advance(market, decisions, rules, amounts, counts, log, equity, charged, row, rows)
            for fill in range(counts[FILL_COUNT]):
                paid += log.fill_amounts[fill, FILL_COMMISSION]
            fills += counts[FILL_COUNT]
            if row < rows:
                make_room(counts, log)
        found[which, 0], found[which, 2], found[which, 3] = equity[rows - 1], fills, paid
        found[which, 1], found[which, 4], found[which, 5] = figures(equity, capital)
        for place in range(last.size):
            marked[which, place] = equity[last[place]]
    return found, marked
