"""All indicators of a block, or of one of its timeframes, as the forming bars stand."""

from __future__ import annotations

from typing import Any

from numba import njit

from tapeline.alerts.engine.fields import S_FRAMES, S_GROUP, S_MEMBER, S_SPAN
from tapeline.alerts.engine.indicators import (
    BAND,
    BAR_VOLUME,
    CONVERGENCE,
    FLOW,
    MEAN,
    MOVE,
    REACH,
    STRENGTH,
    form_bands,
    form_convergences,
    form_flows,
    form_means,
    form_moves,
    form_reaches,
    form_strengths,
)  # fmt: skip
from tapeline.alerts.engine.options import INNER


@njit(**INNER)
def form_prices(
    arena: Any, base: Any, sets: Any, number: Any, spans: Any, span: Any, constants: Any, close: Any
) -> None:  # fmt: skip
    """What follows the price. ``span``: which members, of all timeframes or of one; ``span`` of the set: all."""
    every = sets[number, S_SPAN]
    first, last = spans[span, 2 * MEAN], spans[span, 2 * MEAN + 1]
    if first < last:
        form_means(arena, base + sets[number, S_GROUP + MEAN], spans[every, 2 * MEAN + 1], first, last, close)
    first, last = spans[span, 2 * STRENGTH], spans[span, 2 * STRENGTH + 1]
    if first < last:
        form_strengths(
            arena, base + sets[number, S_GROUP + STRENGTH], spans[every, 2 * STRENGTH + 1], first, last, close
        )
    first, last = spans[span, 2 * CONVERGENCE], spans[span, 2 * CONVERGENCE + 1]
    if first < last:
        form_convergences(
            arena, base + sets[number, S_GROUP + CONVERGENCE], spans[every, 2 * CONVERGENCE + 1], first, last, close
        )
    first, last = spans[span, 2 * BAND], spans[span, 2 * BAND + 1]
    if first < last:
        form_bands(
            arena, base + sets[number, S_GROUP + BAND], spans[every, 2 * BAND + 1], first, last, close, constants,
            sets[number, S_MEMBER + BAND],
        )  # fmt: skip
    first, last = spans[span, 2 * MOVE], spans[span, 2 * MOVE + 1]
    if first < last:
        form_moves(arena, base + sets[number, S_GROUP + MOVE], spans[every, 2 * MOVE + 1], first, last, close)


@njit(**INNER)
def form_volumes(
    arena: Any, base: Any, sets: Any, number: Any, spans: Any, span: Any, constants: Any
) -> None:  # fmt: skip
    """What follows volume and extremes."""
    every = sets[number, S_SPAN]
    frames = sets[number, S_FRAMES]
    first, last = spans[span, 2 * FLOW], spans[span, 2 * FLOW + 1]
    if first < last:
        form_flows(
            arena, base + sets[number, S_GROUP + FLOW], spans[every, 2 * FLOW + 1], first, last,
            base + 1 + BAR_VOLUME * frames, constants, sets[number, S_MEMBER + FLOW],
        )  # fmt: skip
    first, last = spans[span, 2 * REACH], spans[span, 2 * REACH + 1]
    if first < last:
        form_reaches(
            arena, base + sets[number, S_GROUP + REACH], spans[every, 2 * REACH + 1], first, last, base + 1, frames,
            constants, sets[number, S_MEMBER + REACH],
        )  # fmt: skip
