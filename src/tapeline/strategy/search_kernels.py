"""Many sets of decisions over the same bars, with the equity of each at the ends of some periods."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tapeline.strategy.simulator_kernels import Decisions
from tapeline.strategy.sweep_kernels import run_set, small_log


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
    equity, charged, log = np.empty(rows), np.empty(0), small_log()
    for which in range(sets):
        decisions = Decisions(targets[which], stops[which], takes[which], none, none, no_latency)
        run_set(market, decisions, rules, capital, log, equity, charged, found[which])
        for place in range(last.size):
            marked[which, place] = equity[last[place]]
    return found, marked
