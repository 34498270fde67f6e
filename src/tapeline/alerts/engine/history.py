"""Bars of the past into the states of indicators, through the same functions that live ticks use."""

from __future__ import annotations

from typing import Any

from numba import njit

from tapeline.alerts.engine import indicators as ind


@njit(cache=True, nogil=True)
def load_bars(
    opened: Any, high: Any, low: Any, close: Any, volume: Any, arena: Any, base: Any, frames: Any, indicators: Any
) -> None:
    """Close bar after bar in one block; nothing is asked and nothing fires."""
    row = frames[0]
    bar = base + row.bar
    for at in range(close.size):
        arena[bar + ind.BAR_OPEN], arena[bar + ind.BAR_HIGH] = opened[at], high[at]
        arena[bar + ind.BAR_LOW], arena[bar + ind.BAR_CLOSE] = low[at], close[at]
        arena[bar + ind.BAR_VOLUME] = volume[at]
        for number in range(row.begin, row.end):
            one = indicators[number]
            ind.forming(one, arena, base + one.state, bar, base + one.out)
        close_bar(arena, base, row, indicators, 0)


@njit(cache=True, nogil=True)
def close_bar(arena: Any, base: Any, row: Any, indicators: Any, start: Any) -> None:
    """The forming bar of a timeframe becomes the newest closed one."""
    bar, ring, capacity = base + row.bar, base + row.ring, row.capacity
    if capacity > 0:
        place = int(arena[bar + ind.BAR_COUNT]) % capacity
        arena[ring + ind.RING_CLOSE * capacity + place] = arena[bar + ind.BAR_CLOSE]
        arena[ring + ind.RING_HIGH * capacity + place] = arena[bar + ind.BAR_HIGH]
        arena[ring + ind.RING_LOW * capacity + place] = arena[bar + ind.BAR_LOW]
        arena[ring + ind.RING_VOLUME * capacity + place] = arena[bar + ind.BAR_VOLUME]
    arena[bar + ind.BAR_COUNT] += 1.0
    for number in range(start + row.begin, start + row.end):
        one = indicators[number]
        if one.closed_out >= 0:
            for output in range(3 if one.kind == ind.MACD or one.kind == ind.BOLLINGER else 1):
                arena[base + one.closed_out + output] = arena[base + one.out + output]
        ind.commit(one.kind, one.n, one.n2, one.n3, arena, base + one.state, bar, base + one.out, ring, capacity)
    arena[bar + ind.BAR_PREVIOUS_CLOSE] = arena[bar + ind.BAR_CLOSE]
