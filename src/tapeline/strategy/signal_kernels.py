"""What a signal is held against: spreads that are usual at the hour, and the signals before it."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.quality.order_statistics import median, push, quantile

Integers = NDArray[np.int64]

ANY_HOUR: Final = 24
NEVER: Final = int(np.iinfo(np.int64).min)
REJECT_BOTH, HIGHER_CONFIDENCE, NET = range(3)
TOTAL, GREATEST, NUMBER = range(3)


class SpreadMemory(NamedTuple):
    """The latest spreads of each symbol by hour of the day, and of all hours last: ascending, and as they came."""

    ordered: NDArray[np.float64]
    ring: NDArray[np.float64]
    seen: Integers


class SignalMemory(NamedTuple):
    """What was accepted: when each signal was last, and by bar and side the weights of those that stand.

    ``bound`` and ``touched`` say when; ``marked`` and ``opened`` are the number of the instant that is being judged.
    """

    bound: Integers
    marked: Integers
    kept: NDArray[np.float64]
    touched: Integers
    group: NDArray[np.float64]
    opened: Integers


def spread_memory(symbols: int, window: int) -> SpreadMemory:
    """An empty memory."""
    return SpreadMemory(
        np.empty((symbols, ANY_HOUR + 1, window)),
        np.empty((symbols, ANY_HOUR + 1, window)),
        np.zeros((symbols, ANY_HOUR + 1), np.int64),
    )


def signal_memory(signals: int, bars: int) -> SignalMemory:
    """An empty memory."""
    return SignalMemory(
        np.full(signals, NEVER),
        np.full(signals, -1),
        np.zeros((bars, 2, 3)),
        np.full(bars, NEVER),
        np.zeros((bars, 2, 3)),
        np.full(bars, -1),
    )


@njit(cache=True, nogil=True)
def spread_limits(
    memory: Any, symbol: Any, hour: Any, spread: Any, minimum: Any, multiple: Any, share: Any, limits: Any
) -> None:
    """The greatest usual spread at each quote, by the quotes before it; infinite where these are too few.

    The greater of ``multiple`` medians and the quantile ``share`` of the same hour's spreads, of all hours' where the
    hour has fewer than ``minimum``. A spread that is no number counts for nothing.
    """
    window = memory.ring.shape[2]
    for i in range(spread.size):
        s, bucket = symbol[i], hour[i]
        if memory.seen[s, bucket] < minimum:
            bucket = ANY_HOUR
        count = min(memory.seen[s, bucket], window)
        limits[i] = math.inf
        if memory.seen[s, bucket] >= minimum:
            ordered = memory.ordered[s, bucket]
            limits[i] = max(multiple * median(ordered, count), quantile(ordered, count, share))
        if 0.0 <= spread[i] < math.inf:
            for slot in (hour[i], ANY_HOUR):
                push(memory.ordered[s, slot], memory.ring[s, slot], memory.seen[s, slot], spread[i])
                memory.seen[s, slot] += 1


@njit(cache=True, nogil=True)
def settle_instants(
    memory: Any,
    first: Any,
    at: Any,
    key: Any,
    bar: Any,
    side: Any,
    weight: Any,
    clean: Any,
    policy: Any,
    window: Any,
    duplicate: Any,
    contradictory: Any,
) -> Any:
    """Which signals repeat or contradict others, instant by instant. ``at`` ascends; the number of instants so far.

    Signals of one instant are judged together, and against those that were accepted up to ``window`` before; what was
    accepted earlier is not taken back.
    """
    begin, instant = 0, first
    while begin < at.size:
        end = begin
        while end < at.size and at[end] == at[begin]:
            end += 1
        since = at[begin] - window
        for i in range(begin, end):
            k, b = key[i], bar[i]
            if memory.bound[k] > NEVER and memory.bound[k] >= since:
                duplicate[i] = True
            elif clean[i]:
                duplicate[i] = memory.marked[k] == instant
                memory.marked[k] = instant
            if not clean[i] or duplicate[i]:
                continue
            if memory.opened[b] != instant:
                memory.opened[b] = instant
                recent = memory.touched[b] > NEVER and memory.touched[b] >= since
                for s in range(2):
                    for c in range(3):
                        if not recent:
                            memory.kept[b, s, c] = 0.0
                        memory.group[b, s, c] = memory.kept[b, s, c]
            if side[i] != 0:
                _count(memory.group[b, 1 if side[i] > 0 else 0], weight[i])
        for i in range(begin, end):
            if not clean[i] or duplicate[i]:
                continue
            b = bar[i]
            if side[i] != 0:
                own, other = (1, 0) if side[i] > 0 else (0, 1)
                if memory.group[b, other, NUMBER] > 0.0:
                    contradictory[i] = (
                        policy == REJECT_BOTH
                        or (
                            policy == HIGHER_CONFIDENCE
                            and not memory.group[b, own, GREATEST] > memory.group[b, other, GREATEST]
                        )
                        or (policy == NET and not memory.group[b, own, TOTAL] > memory.group[b, other, TOTAL])
                    )
                if contradictory[i]:
                    continue
                _count(memory.kept[b, own], weight[i])
                memory.touched[b] = at[i]
            memory.bound[key[i]] = at[i]
        begin, instant = end, instant + 1
    return instant


@njit(cache=True, nogil=True)
def _count(sums: Any, weight: Any) -> None:
    sums[TOTAL] += weight
    sums[GREATEST] = max(sums[GREATEST], weight)
    sums[NUMBER] += 1.0
