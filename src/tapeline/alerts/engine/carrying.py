"""What symbols know, from one place or layout to another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine.layout import CLOCK_SLOTS, F_CAPACITY, F_RING, Indicator, Layout, counts_of


def carry(
    old: Layout,
    held: NDArray[np.float64],
    times: NDArray[np.int64],
    new: Layout,
    blocks: NDArray[np.float64],
    clocks: NDArray[np.int64],
) -> None:
    """Copy what two layouts share, for symbols by row: the price, bars, times, outputs, numbers, counts, rings."""
    if old.size == 0:
        return
    blocks[:, 0] = held[:, 0]
    source, target = _columns(old, new)
    blocks[:, target] = held[:, source]
    for place, duration in enumerate(new.durations):
        if duration not in old.durations:
            continue
        was = old.durations.index(duration)
        after, before = CLOCK_SLOTS * place, CLOCK_SLOTS * was
        clocks[:, after : after + CLOCK_SLOTS] = times[:, before : before + CLOCK_SLOTS]
        totals = held[:, 1 + kinds.BAR_COUNT * len(old.durations) + was].astype(np.int64)
        for ring in range(4):
            _carry_ring(
                held, int(old.frames[was, F_RING + ring]), int(old.frames[was, F_CAPACITY + ring]), blocks,
                int(new.frames[place, F_RING + ring]), int(new.frames[place, F_CAPACITY + ring]), totals,
            )  # fmt: skip


def moved(
    array: NDArray[Any], before: NDArray[np.int64], after: NDArray[np.int64], count: NDArray[np.int64]
) -> NDArray[Any]:
    """A new array in which pieces stand at other places, with nothing between them."""
    made = np.zeros(int(count.sum()), array.dtype)
    for source, target, width in zip(before.tolist(), after.tolist(), count.tolist(), strict=True):
        made[target : target + width] = array[source : source + width]
    return made


def _columns(old: Layout, new: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in an old block, and where the same number stands in a new one; rings are another matter."""
    source: list[int] = []
    target: list[int] = []
    for place, duration in enumerate(new.durations):
        if duration in old.durations:
            was = old.durations.index(duration)
            source.extend(1 + slot * len(old.durations) + was for slot in range(kinds.BAR_SLOTS))
            target.extend(1 + slot * len(new.durations) + place for slot in range(kinds.BAR_SLOTS))
    before, after = _standing(old), _standing(new)
    for indicator, places in new.places.items():
        if indicator not in old.places:
            continue
        if indicator.kind > kinds.VOLUME or indicator.closed:
            source.extend(old.places[indicator])
            target.extend(places)
        # What bars bring has a row only where its closed value is read, too: nothing of it is carried.
        if indicator.closed or indicator not in before or indicator not in after:
            continue
        numbers = kinds.NUMBERS[kinds.GROUP[indicator.kind]] if indicator.kind in kinds.GROUP else 0
        was_at, was_stride, was_count = before[indicator]
        at, stride, count = after[indicator]
        for number in range(numbers):
            source.append(was_at + number * was_stride)
            target.append(at + number * stride)
        for number in range(counts_of(indicator)):
            source.append(was_count + number)
            target.append(count + number)
    return np.array(source, np.int64), np.array(target, np.int64)


def _standing(layout: Layout) -> dict[Indicator, tuple[int, int, int]]:
    """Where the numbers of each indicator begin, how far apart they are, and where its counts begin."""
    by_out = {int(row["out"]): row for row in layout.rows}
    return {
        indicator: (int(row["at"]), int(row["stride"]), int(row["count"]))
        for indicator, places in layout.places.items()
        if not indicator.closed and (row := by_out.get(places[0])) is not None
    }


def _carry_ring(
    held: NDArray[np.float64],
    source: int,
    capacity: int,
    blocks: NDArray[np.float64],
    target: int,
    room: int,
    totals: NDArray[np.int64],
) -> None:
    """The newest bars of a ring into one of another capacity; what was not kept stays unknown."""
    everyone = np.arange(len(totals))
    for back in range(min(capacity, room)):
        number = totals - 1 - back
        there = number >= 0
        values = held[everyone, source + number % capacity]
        places = target + number % room
        blocks[everyone[there], places[there]] = values[there]
