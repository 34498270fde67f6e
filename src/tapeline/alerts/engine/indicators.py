"""Indicators that cost the same for each tick: what they would be if the forming bar closed now, and what they are.

An indicator keeps numbers of closed bars, so chosen that the forming value is a short expression of them and of the
forming bar; they are NaN as long as it is not known, which makes the value unknown without asking. Those of one group
stand side by side in a block, all first numbers, then all second ones: one loop follows all timeframes of a symbol.
``commit`` takes a closed bar in. Sums over windows are added up anew at each close about the newest price, so neither
cancellation nor the rounding of millions of updates adds up, and a flat price gives the price itself.

Seeds and smoothing follow TA-Lib: Wilder's averages and exponential averages begin with the simple mean of their first
window; the fast average of MACD begins where the slow one does.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.alerts.engine.options import INNER

# Kinds. A new one needs its group below, a branch in ``commit`` and, in a group of its own, a loop in ``form_*``.
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
SMA, EMA, RSI, MACD, BOLLINGER, ATR, VOLUME_RATIO, VOLUME_SCORE, CHANGE, HIGHEST, LOWEST = range(5, 16)
EXTERNAL, ADD, SUBTRACT, MULTIPLY, DIVIDE, TRAILING_HIGH, TRAILING_LOW = range(16, 23)
STREAK, SINCE, VOLUME_NORM = range(23, 26)
KINDS: Final = 26
"""``STREAK``: consecutive bars of a timeframe at whose close, or now in the forming one, a comparison (``n``) of its
left with its right reading (or ``factor``) holds. ``SINCE``: nanoseconds since it holds, -1 where it does not.
``VOLUME_NORM``: the mean volume of the last ``n`` bars that began at the same time of day."""

COMPUTED: Final = frozenset({EXTERNAL, ADD, SUBTRACT, MULTIPLY, DIVIDE, TRAILING_HIGH, TRAILING_LOW, STREAK, SINCE})
"""Kinds that no bar brings: they follow other readings, or come from outside."""

# Groups, and the numbers of a member: those that the forming value needs, and its outputs.
MEAN, STRENGTH, CONVERGENCE, BAND, MOVE, FLOW, REACH, OPENING = range(8)
GROUPS: Final = 8
GROUP: Final = {
    SMA: MEAN, EMA: MEAN, RSI: STRENGTH, MACD: CONVERGENCE, BOLLINGER: BAND, CHANGE: MOVE, VOLUME_RATIO: FLOW,
    VOLUME_SCORE: FLOW, ATR: REACH, HIGHEST: OPENING, LOWEST: OPENING, VOLUME_NORM: OPENING,
}  # fmt: skip
NUMBERS: Final = (2, 3, 6, 2, 1, 2, 2, 1)
OUTPUTS: Final = (1, 1, 3, 3, 1, 1, 1, 1)
"""MACD: line, signal, histogram. Bollinger: middle, upper, lower."""
COUNTING: Final = frozenset({EMA, RSI, MACD, ATR})
"""Kinds that count their bars in a number of their own, which only ``commit`` touches."""

# A bar as the engine keeps it: rows over the timeframes, after the newest price.
BAR_OPEN, BAR_HIGH, BAR_LOW, BAR_CLOSE, BAR_VOLUME, BAR_PREVIOUS_CLOSE, BAR_COUNT = range(7)
BAR_SLOTS: Final = 7
# Rings of closed bars.
RING_CLOSE, RING_HIGH, RING_LOW, RING_VOLUME = range(4)
DAY: Final = 86_400_000_000_000


def output_count(kind: int) -> int:
    """How many outputs a kind has.

    Examples
    --------
    >>> output_count(MACD), output_count(CLOSE)
    (3, 1)
    """
    return OUTPUTS[GROUP[kind]] if kind in GROUP else 1


@njit(**INNER)
def form_means(arena: Any, at: Any, stride: Any, first: Any, last: Any, close: Any) -> None:
    """Of n - 1 closes (or all before, by weight) and the forming one. Numbers: mean, weight of the new price."""
    # Indices without a sign: numba then asks no index whether it counts from the end.
    mean, weight = np.uintp(at), np.uintp(at + stride)
    out = np.uintp(at + 2 * stride)
    for member in range(np.uintp(first), np.uintp(last)):
        old = arena[mean + member]
        arena[out + member] = old + (close - old) * arena[weight + member]


@njit(**INNER)
def form_strengths(arena: Any, at: Any, stride: Any, first: Any, last: Any, close: Any) -> None:
    """RSI. Numbers: gains and losses before this bar, n times their averages; the previous close, NaN in warm-up."""
    gains, losses, previous, out = np.uintp(at), np.uintp(at + stride), np.uintp(at + 2 * stride), np.uintp(
        at + 3 * stride
    )  # fmt: skip
    for member in range(np.uintp(first), np.uintp(last)):
        change = close - arena[previous + member]
        gain = arena[gains + member] + (change if change > 0.0 else 0.0)
        total = arena[gains + member] + arena[losses + member] + abs(change)
        arena[out + member] = 0.0 if total <= 0.0 else 100.0 * gain / total


@njit(**INNER)
def form_convergences(arena: Any, at: Any, stride: Any, first: Any, last: Any, close: Any) -> None:
    """MACD. Numbers: fast and slow average and signal before this bar, and the weights of the new value in each."""
    for member in range(first, last):
        fast, slow = np.uintp(at + member), np.uintp(at + stride + member)
        old, fast_weight = np.uintp(at + 2 * stride + member), np.uintp(at + 3 * stride + member)
        slow_weight, weight = np.uintp(at + 4 * stride + member), np.uintp(at + 5 * stride + member)
        out, second, third = (
            np.uintp(at + 6 * stride + member), np.uintp(at + 7 * stride + member), np.uintp(at + 8 * stride + member)
        )  # fmt: skip
        line = (arena[fast] + (close - arena[fast]) * arena[fast_weight]) - (
            arena[slow] + (close - arena[slow]) * arena[slow_weight]
        )
        signal = arena[old] + (line - arena[old]) * arena[weight]
        arena[out], arena[second], arena[third] = line, signal, line - signal


@njit(**INNER)
def form_bands(
    arena: Any, at: Any, stride: Any, first: Any, last: Any, close: Any, constants: Any, member_at: Any
) -> None:
    """Bollinger. Numbers: mean of the n - 1 closes before, and their squared deviations' sum over n."""
    for member in range(first, last):
        row = np.uintp(member_at + member)
        mean, part = np.uintp(at + member), np.uintp(at + stride + member)
        middle, upper, lower = (
            np.uintp(at + 2 * stride + member), np.uintp(at + 3 * stride + member), np.uintp(at + 4 * stride + member)
        )  # fmt: skip
        away = close - arena[mean]
        center = arena[mean] + away * constants[row, 0]
        width = constants[row, 2] * math.sqrt(arena[part] + away * away * constants[row, 1])
        arena[middle], arena[upper], arena[lower] = center, center + width, center - width


@njit(**INNER)
def form_moves(arena: Any, at: Any, stride: Any, first: Any, last: Any, close: Any) -> None:
    """Change against the close of n bars before. Number: that close."""
    for member in range(first, last):
        arena[at + stride + member] = close / arena[at + member] - 1.0


@njit(**INNER)
def form_flows(
    arena: Any, at: Any, stride: Any, first: Any, last: Any, volumes: Any, constants: Any, member_at: Any
) -> None:
    """Volume against its window: (volume - first number) / second number. ``volumes``: of the first timeframe."""
    for member in range(first, last):
        volume = arena[np.uintp(volumes + np.int64(constants[np.uintp(member_at + member), 3]))]
        center, scale = arena[np.uintp(at + member)], arena[np.uintp(at + stride + member)]
        arena[np.uintp(at + 2 * stride + member)] = (volume - center) / scale


@njit(**INNER)
def form_reaches(
    arena: Any, at: Any, stride: Any, first: Any, last: Any, bars: Any, timeframes: Any, constants: Any, member_at: Any
) -> None:
    """ATR. Numbers: true ranges before this bar, n times their average; the previous close, NaN in warm-up."""
    for member in range(first, last):
        frame = np.int64(constants[member_at + member, 3])
        previous = arena[at + stride + member]
        high, low = arena[bars + BAR_HIGH * timeframes + frame], arena[bars + BAR_LOW * timeframes + frame]
        reach = (previous if previous > high else high) - (previous if previous < low else low)
        known = math.nan if math.isnan(previous) else reach
        arena[at + 2 * stride + member] = (arena[at + member] + known) * constants[member_at + member, 0]


@njit(**INNER)
def commit(
    kind: Any, n: Any, n2: Any, n3: Any, arena: Any, at: Any, stride: Any, count_at: Any, bar: Any, step: Any,
    ring: Any, capacity: Any, slot: Any,
) -> None:  # fmt: skip
    """Take the bar that just closed into the numbers. Its outputs are written already; the rings hold it already.

    ``at``: the member's first number, the others ``stride`` apart. ``bar``: the bar's first number, the others
    ``step`` apart; ``BAR_COUNT`` counts the closed bars, this one included. ``ring``: the ring that the kind reads.
    ``slot``: the number of the bar within its day.
    """
    close, total = arena[bar + BAR_CLOSE * step], int(arena[bar + BAR_COUNT * step])
    if kind in (SMA, BOLLINGER):
        held = n - 1
        mean = _ring_mean(arena, ring, capacity, total, held, close)
        arena[at] = mean
        if kind == BOLLINGER:
            arena[at + stride] = _ring_squares(arena, ring, capacity, total, held, mean) / n
    elif kind in (RSI, ATR):
        _commit_wilder(kind, n, arena, at, stride, count_at, bar, step)
    elif kind == MACD:
        _commit_macd(n, n2, n3, arena, at, stride, count_at, close)
    elif kind == EMA:
        count = arena[count_at]
        arena[at] += (close - arena[at]) * (1.0 / (count + 1.0) if count < n else 2.0 / (n + 1.0))
        count = min(count + 1.0, float(n))
        arena[count_at] = count
        arena[at + stride] = _weight(count, n)
    elif kind in (VOLUME_RATIO, VOLUME_SCORE):
        newest = arena[bar + BAR_VOLUME * step]
        mean = _ring_mean(arena, ring, capacity, total, n, newest)
        if kind == VOLUME_RATIO:
            arena[at], arena[at + stride] = 0.0, mean if mean > 0.0 else math.nan
        else:
            deviation = math.sqrt(_ring_squares(arena, ring, capacity, total, n, mean) / n)
            arena[at], arena[at + stride] = mean, deviation if deviation > 0.0 else math.nan
    elif kind == CHANGE:
        arena[at] = arena[ring + (total - n) % capacity] if total >= n else math.nan
    elif kind in (HIGHEST, LOWEST):
        extreme = arena[ring + (total - 1) % capacity]
        for back in range(1, n):
            value = arena[ring + (total + capacity - 1 - back) % capacity]
            if math.isnan(value) or (value > extreme if kind == HIGHEST else value < extreme):
                extreme = value
            if math.isnan(extreme):
                break
        arena[at] = extreme
    elif kind == VOLUME_NORM:
        # Of each slot of the day, how many it has had, and the last n of them.
        place = count_at + slot * (n + 1)
        had = arena[place]
        arena[place + 1 + int(had) % n] = arena[bar + BAR_VOLUME * step]
        arena[place] = had + 1.0


@njit(**INNER)
def slot_mean(arena: Any, place: Any, n: Any) -> Any:
    """The mean of a slot's volumes; NaN before it has had n."""
    if arena[place] < n:
        return math.nan
    total = 0.0
    for one in range(1, n + 1):
        total += arena[place + one]
    return total / n


@njit(**INNER)
def _weight(count: Any, n: Any) -> Any:
    """What a new value weighs after ``count`` others: the mean of n, then 2 / (n + 1)."""
    if count < n - 1:
        return math.nan
    return 1.0 / n if count < n else 2.0 / (n + 1.0)


@njit(**INNER)
def _commit_wilder(
    kind: Any, n: Any, arena: Any, at: Any, stride: Any, count_at: Any, bar: Any, step: Any
) -> None:  # fmt: skip
    previous, close = arena[bar + BAR_PREVIOUS_CLOSE * step], arena[bar + BAR_CLOSE * step]
    count = arena[count_at]
    if not math.isnan(previous):
        # After the first mean of n the sums are n - 1 parts of it: with the next one added they are n parts again.
        whole = count >= n - 1.0
        if kind == RSI:
            change = close - previous
            arena[at] += change if change > 0.0 else 0.0
            arena[at + stride] += -change if change < 0.0 else 0.0
            if whole:
                arena[at] *= (n - 1.0) / n
                arena[at + stride] *= (n - 1.0) / n
        else:
            arena[at] += max(arena[bar + BAR_HIGH * step], previous) - min(arena[bar + BAR_LOW * step], previous)
            if whole:
                arena[at] *= (n - 1.0) / n
        count = min(count + 1.0, float(n))
        arena[count_at] = count
    arena[at + (2 if kind == RSI else 1) * stride] = close if count >= n - 1.0 else math.nan


@njit(**INNER)
def _commit_macd(
    fast: Any, slow: Any, smooth: Any, arena: Any, at: Any, stride: Any, count_at: Any, close: Any
) -> None:  # fmt: skip
    count = arena[count_at]
    begun = count - (slow - fast)
    if begun >= 0.0:
        weight = 1.0 / (begun + 1.0) if begun < fast else 2.0 / (fast + 1.0)
        arena[at] += (close - arena[at]) * weight
    arena[at + stride] += (close - arena[at + stride]) * (1.0 / (count + 1.0) if count < slow else 2.0 / (slow + 1.0))
    lines = count - (slow - 1.0)
    if lines >= 0.0:
        line, signal = arena[at] - arena[at + stride], arena[at + 2 * stride]
        arena[at + 2 * stride] = signal + (line - signal) * (
            1.0 / (lines + 1.0) if lines < smooth else 2.0 / (smooth + 1.0)
        )
    count = min(count + 1.0, slow + smooth + 1.0)
    arena[count_at] = count
    arena[at + 3 * stride] = _weight(count - (slow - fast), fast)
    arena[at + 4 * stride] = _weight(count, slow)
    arena[at + 5 * stride] = _weight(max(count - (slow - 1.0), 0.0), smooth)


@njit(**INNER)
def _ring_mean(arena: Any, ring: Any, capacity: Any, total: Any, count: Any, anchor: Any) -> Any:
    """The mean of the newest ``count``, about an anchor. NaN where the ring does not hold so many."""
    if count == 0:
        return 0.0
    if total < count:
        return math.nan
    newest = (total - 1) % capacity
    begin = newest - count + 1
    one = _sum_away(arena, ring + max(begin, 0), ring + newest + 1, anchor)
    if begin < 0:
        one += _sum_away(arena, ring + capacity + begin, ring + capacity, anchor)
    return anchor + one / count


@njit(**INNER)
def _ring_squares(arena: Any, ring: Any, capacity: Any, total: Any, count: Any, center: Any) -> Any:
    """The squared deviations from a center, summed over the newest ``count``."""
    if count == 0:
        return 0.0
    if total < count:
        return math.nan
    newest = (total - 1) % capacity
    begin = newest - count + 1
    one = _sum_squares(arena, ring + max(begin, 0), ring + newest + 1, center)
    if begin < 0:
        one += _sum_squares(arena, ring + capacity + begin, ring + capacity, center)
    return one


@njit(**INNER)
def _sum_away(arena: Any, begin: Any, end: Any, anchor: Any) -> Any:
    # Four sums at once: a single one would wait for each addition.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = begin + (end - begin) // 4 * 4
    for place in range(begin, whole, 4):
        a += arena[np.uintp(place)] - anchor
        b += arena[np.uintp(place + 1)] - anchor
        c += arena[np.uintp(place + 2)] - anchor
        d += arena[np.uintp(place + 3)] - anchor
    for place in range(whole, end):
        a += arena[np.uintp(place)] - anchor
    return (a + b) + (c + d)


@njit(**INNER)
def _sum_squares(arena: Any, begin: Any, end: Any, center: Any) -> Any:
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = begin + (end - begin) // 4 * 4
    for place in range(begin, whole, 4):
        first, second = arena[np.uintp(place)] - center, arena[np.uintp(place + 1)] - center
        third, fourth = arena[np.uintp(place + 2)] - center, arena[np.uintp(place + 3)] - center
        a += first * first
        b += second * second
        c += third * third
        d += fourth * fourth
    for place in range(whole, end):
        away = arena[np.uintp(place)] - center
        a += away * away
    return (a + b) + (c + d)
