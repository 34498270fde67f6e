"""A bar that closes and one that begins; bars of the past through the same functions that live ticks use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tapeline.alerts.engine import indicators as ind
from tapeline.alerts.engine.fields import S_FRAME, S_FRAMES, S_ROW, S_SPAN
from tapeline.alerts.engine.forming import form_prices, form_volumes
from tapeline.alerts.engine.layout import F_CAPACITY, F_DURATION, F_OPENING, F_RING, F_ROW, F_ROW_END
from tapeline.alerts.engine.options import BORROWED, INNER


@njit(**BORROWED)
def load_bars(
    times: Any, opened: Any, high: Any, low: Any, close: Any, volume: Any, book: Any, base: Any, number: Any, frame: Any
) -> None:
    """Close bar after bar of one timeframe in one block; nothing is asked and nothing fires."""
    arena, count = book.arena, book.sets[number, S_FRAMES]
    place, start = book.sets[number, S_FRAME] + frame, book.sets[number, S_ROW]
    span = book.sets[number, S_SPAN] + 1 + frame
    bar = base + 1 + frame
    for at in range(close.size):
        arena[bar + ind.BAR_OPEN * count], arena[bar + ind.BAR_HIGH * count] = opened[at], high[at]
        arena[bar + ind.BAR_LOW * count], arena[bar + ind.BAR_CLOSE * count] = low[at], close[at]
        arena[bar + ind.BAR_VOLUME * count] = volume[at]
        if book.frames[place, F_OPENING] != 0:
            open_bar(arena, base, book.frames, place, book.rows, start, times[at])
        form_prices(arena, base, book.sets, number, book.spans, span, book.constants, close[at])
        form_volumes(arena, base, book.sets, number, book.spans, span, book.constants)
        ended = times[at] + book.frames[place, F_DURATION]
        close_bar(arena, base, book.frames, place, frame, count, book.rows, start, ended)


@njit(**INNER)
def open_bar(arena: Any, base: Any, frames: Any, place: Any, rows: Any, start: Any, opened: Any) -> None:
    """What is known of a bar where it begins: extremes of the bars before it, the norm of its time of day."""
    for number in range(start + frames[place, F_ROW], start + frames[place, F_ROW_END]):
        one = rows[number]
        if one.kind == ind.HIGHEST or one.kind == ind.LOWEST:
            arena[base + one.out] = arena[base + one.at]
        elif one.kind == ind.VOLUME_NORM:
            slot = opened % ind.DAY // frames[place, F_DURATION]
            arena[base + one.out] = ind.slot_mean(arena, base + one.count + slot * (one.n + 1), one.n)


@njit(**INNER)
def close_bar(
    arena: Any, base: Any, frames: Any, place: Any, frame: Any, count: Any, rows: Any, start: Any, ended: Any
) -> None:
    """The forming bar of a timeframe becomes the newest closed one. ``count``: timeframes of the block."""
    bar = base + 1 + frame
    total = int(arena[bar + ind.BAR_COUNT * count])
    _push(arena, base, frames, place, np.int64(ind.RING_CLOSE), total, arena[bar + ind.BAR_CLOSE * count])
    _push(arena, base, frames, place, np.int64(ind.RING_HIGH), total, arena[bar + ind.BAR_HIGH * count])
    _push(arena, base, frames, place, np.int64(ind.RING_LOW), total, arena[bar + ind.BAR_LOW * count])
    _push(arena, base, frames, place, np.int64(ind.RING_VOLUME), total, arena[bar + ind.BAR_VOLUME * count])
    arena[bar + ind.BAR_COUNT * count] = total + 1.0
    slot = (ended - frames[place, F_DURATION]) % ind.DAY // frames[place, F_DURATION]
    for number in range(start + frames[place, F_ROW], start + frames[place, F_ROW_END]):
        one = rows[number]
        kind = one.kind
        if one.closed_out >= 0:
            for output in range(3 if kind == ind.MACD or kind == ind.BOLLINGER else 1):
                arena[base + one.closed_out + output] = arena[base + one.out + output * one.stride]
        if kind > ind.VOLUME:
            ring = ind.RING_CLOSE
            if kind == ind.HIGHEST:
                ring = ind.RING_HIGH
            elif kind == ind.LOWEST:
                ring = ind.RING_LOW
            elif kind == ind.VOLUME_RATIO or kind == ind.VOLUME_SCORE:
                ring = ind.RING_VOLUME
            ind.commit(
                kind, one.n, one.n2, one.n3, arena, base + one.at, one.stride, base + one.count, bar, count,
                base + frames[place, F_RING + ring], frames[place, F_CAPACITY + ring], slot,
            )  # fmt: skip
    arena[bar + ind.BAR_PREVIOUS_CLOSE * count] = arena[bar + ind.BAR_CLOSE * count]


@njit(**INNER)
def _push(arena: Any, base: Any, frames: Any, place: Any, ring: Any, total: Any, value: Any) -> None:
    capacity = frames[place, F_CAPACITY + ring]
    if capacity > 0:
        arena[base + frames[place, F_RING + ring] + total % capacity] = value
