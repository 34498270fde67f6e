"""Readings that follow others: arithmetic, extremes since a rule began, streaks of bars, time that has passed."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from tapeline.alerts.engine.fields import S_COMPUTED, S_COMPUTED_END
from tapeline.alerts.engine.indicators import (
    ADD,
    DIVIDE,
    EXTERNAL,
    MULTIPLY,
    SINCE,
    STREAK,
    SUBTRACT,
    TRAILING_HIGH,
    TRAILING_LOW,
)  # fmt: skip
from tapeline.alerts.engine.layout import CLOCK_SLOTS, FAR
from tapeline.alerts.engine.options import INNER
from tapeline.alerts.engine.table import TRUE, UNKNOWN
from tapeline.alerts.engine.truth import truth_of


@njit(**INNER)
def compute(book: Any, base: Any, number: Any, clock: Any, ts: Any, ended: Any) -> None:
    """Let the computed readings of a block follow. ``ended``: the end of the bars that have just closed, if any."""
    arena = book.arena
    for place in range(book.sets[number, S_COMPUTED], book.sets[number, S_COMPUTED_END]):
        one = book.rows[place]
        kind = one.kind
        if kind == EXTERNAL:
            continue
        left = arena[base + one.left] if one.left >= 0 else arena[base]
        right = arena[base + one.right] if one.right >= 0 else one.factor
        out = base + one.out
        if kind == ADD:
            arena[out] = left + right
        elif kind == SUBTRACT:
            arena[out] = left - right
        elif kind == MULTIPLY:
            arena[out] = left * right
        elif kind == DIVIDE:
            arena[out] = left / right if right != 0.0 else math.nan
        elif kind == TRAILING_HIGH:
            if left == left and not left <= arena[out]:
                arena[out] = left
        elif kind == TRAILING_LOW:
            if left == left and not left >= arena[out]:
                arena[out] = left
        elif kind == STREAK:
            truth = truth_of(one.n, left - right, 0.0)
            at = clock + CLOCK_SLOTS * one.frame
            state = base + one.count
            if book.clocks[at] != FAR:
                # ``n2``: all that is compared is of closed bars, so the forming one says nothing new.
                now = arena[state] if one.n2 != 0 else arena[state] + 1.0
                arena[out] = now if truth == TRUE else (math.nan if truth == UNKNOWN else 0.0)
            elif book.clocks[at + 1] == ended:
                arena[state] = arena[state] + 1.0 if truth == TRUE else 0.0
                arena[out] = math.nan if truth == UNKNOWN else arena[state]
        elif kind == SINCE:
            truth = truth_of(one.n, left - right, 0.0)
            state = base + one.count
            if truth == TRUE:
                if arena[state] < 0.0:
                    arena[state], arena[state + 1] = float(ts // 1_000_000_000), float(ts % 1_000_000_000)
                begun = int(arena[state]) * 1_000_000_000 + int(arena[state + 1])
                arena[out] = float(ts - begun)
            else:
                arena[state] = -1.0
                arena[out] = math.nan if truth == UNKNOWN else -1.0
