"""Indicators that cost the same for each tick: what they would be if the forming bar closed now, and what they are.

Each indicator keeps a few numbers of closed bars. ``forming`` reads them with the forming bar's numbers and changes
nothing; ``commit`` takes a closed bar into them. Sums over windows are taken about an anchor price and added up anew
once in a window, so that neither cancellation nor the rounding of millions of updates adds up.

Seeds and smoothing follow TA-Lib: Wilder's averages and exponential averages begin with the simple mean of their first
window; the fast average of MACD begins where the slow one does.
"""

from __future__ import annotations

import math
from typing import Any, Final

from numba import njit

# Kinds. A new one needs its numbers of slots below, a branch in ``forming`` and one in ``commit``.
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
SMA, EMA, RSI, MACD, BOLLINGER, ATR, VOLUME_RATIO, VOLUME_SCORE, CHANGE, HIGHEST, LOWEST = range(5, 16)
EXTERNAL, ADD, SUBTRACT, MULTIPLY, DIVIDE, TRAILING_HIGH, TRAILING_LOW = range(16, 23)
KINDS: Final = 23

STATE_SLOTS: Final = (0, 0, 0, 0, 0, 3, 3, 4, 9, 4, 5, 1, 3, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1)
"""Numbers of closed bars that each kind keeps."""
OUTPUT_SLOTS: Final = (1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
"""MACD: line, signal, histogram. Bollinger: middle, upper, lower."""
COMPUTED: Final = frozenset({EXTERNAL, ADD, SUBTRACT, MULTIPLY, DIVIDE, TRAILING_HIGH, TRAILING_LOW})
"""Kinds that belong to no timeframe."""

# A bar as the engine keeps it.
BAR_OPEN, BAR_HIGH, BAR_LOW, BAR_CLOSE, BAR_VOLUME, BAR_PREVIOUS_CLOSE, BAR_COUNT = range(7)
BAR_SLOTS: Final = 7
# Rings of closed bars.
RING_CLOSE, RING_HIGH, RING_LOW, RING_VOLUME = range(4)


@njit(cache=True, nogil=True, inline="always")
def forming(one: Any, arena: Any, state: Any, bar: Any, out: Any) -> None:
    """Write what the indicator is if the bar closed as it stands.

    Parameters
    ----------
    one:
        Its row in the layout: kind, lengths in bars, and what can be worked out of them beforehand.
    arena:
        All numbers of one engine; ``state``, ``bar`` and ``out`` are places in it.
    """
    kind = one.kind
    close = arena[bar + BAR_CLOSE]
    if kind == RSI:
        n, count = one.n, arena[state]
        if count < n:
            arena[out] = math.nan
        else:
            change = close - arena[state + 3]
            gain, loss = max(change, 0.0), max(-change, 0.0)
            # Of the first mean, n changes, the forming one among them. Both are n times the averages: their ratio is.
            before = n - 1.0 if count > n else 1.0
            gain, loss = arena[state + 1] * before + gain, arena[state + 2] * before + loss
            total = gain + loss
            arena[out] = 100.0 * gain / total if total > 0.0 else 0.0
    elif kind == MACD:
        _macd(one, arena, state, close, out)
    elif kind == BOLLINGER:
        if arena[state] < one.n - 1:
            arena[out], arena[out + 1], arena[out + 2] = math.nan, math.nan, math.nan
        else:
            moved = close - arena[state + 3]
            mean = (arena[state + 1] + moved) * one.inverse
            variance = (arena[state + 2] + moved * moved) * one.inverse - mean * mean
            width = one.factor * math.sqrt(variance) if variance > 0.0 else 0.0
            mean += arena[state + 3]
            arena[out], arena[out + 1], arena[out + 2] = mean, mean + width, mean - width
    elif kind == SMA:
        anchor = arena[state + 2]
        arena[out] = (
            anchor + (arena[state + 1] + (close - anchor)) * one.inverse if arena[state] >= one.n - 1 else math.nan
        )
    elif kind == EMA:
        n, count = one.n, arena[state]
        if count < n - 1:
            arena[out] = math.nan
        elif count < n:
            arena[out] = (arena[state + 1] + close) / n
        else:
            arena[out] = arena[state + 2] + (close - arena[state + 2]) * one.alpha
    elif kind == VOLUME_RATIO:
        arena[out] = arena[bar + BAR_VOLUME] / arena[state] if arena[state] > 0.0 else math.nan
    elif kind <= VOLUME:
        arena[out] = arena[bar + kind]
    elif kind == VOLUME_SCORE:
        arena[out] = (
            (arena[bar + BAR_VOLUME] - arena[state + 1]) / arena[state + 2] if arena[state + 2] > 0.0 else math.nan
        )
    elif kind == ATR:
        n, count = one.n, arena[state]
        if count < n:
            arena[out] = math.nan
        else:
            previous = arena[bar + BAR_PREVIOUS_CLOSE]
            true_range = max(arena[bar + BAR_HIGH], previous) - min(arena[bar + BAR_LOW], previous)
            arena[out] = (arena[state + 1] * (n - 1.0 if count > n else 1.0) + true_range) * one.inverse
    elif kind == CHANGE:
        arena[out] = close / arena[state] - 1.0 if arena[state] != 0.0 else math.nan
    else:
        arena[out] = arena[state]


@njit(cache=True, nogil=True)
def _macd(one: Any, arena: Any, state: Any, close: Any, out: Any) -> None:
    """The line, its signal and their difference.

    State: closed bars, sum of closes for the fast and the slow seed, both averages, sum of lines for the signal's seed,
    signal, lines so far.
    """
    slow, smooth, count = one.n2, one.n3, arena[state]
    arena[out], arena[out + 1], arena[out + 2] = math.nan, math.nan, math.nan
    if count < slow - 1:
        return
    if count < slow:
        line = (arena[state + 1] + close) / one.n - (arena[state + 2] + close) / slow
    else:
        line = (arena[state + 3] + (close - arena[state + 3]) * one.alpha) - (
            arena[state + 4] + (close - arena[state + 4]) * one.alpha2
        )
    arena[out] = line
    lines = arena[state + 7]
    if lines < smooth - 1:
        return
    if lines < smooth:
        signal = (arena[state + 5] + line) / smooth
    else:
        signal = arena[state + 6] + (line - arena[state + 6]) * one.alpha3
    arena[out + 1], arena[out + 2] = signal, line - signal


@njit(cache=True, nogil=True)
def commit(
    kind: Any, n: Any, n2: Any, n3: Any, arena: Any, state: Any, bar: Any, out: Any, ring: Any, capacity: Any
) -> None:
    """Take the bar that just closed into the state. Its outputs are written already; the rings hold it already.

    ``ring`` is where the rings of the timeframe begin, four of ``capacity`` one after the other; ``BAR_COUNT`` of the
    bar counts the closed bars, this one included, so the newest stands at ``(count - 1) % capacity``.
    """
    close, total = arena[bar + BAR_CLOSE], int(arena[bar + BAR_COUNT])
    if kind == RSI:
        count = arena[state]
        if count >= 1.0:
            change = close - arena[state + 3]
            gain, loss = max(change, 0.0), max(-change, 0.0)
            if count < n:
                arena[state + 1] += gain
                arena[state + 2] += loss
            elif count == n:
                arena[state + 1] = (arena[state + 1] + gain) / n
                arena[state + 2] = (arena[state + 2] + loss) / n
            else:
                arena[state + 1] = (arena[state + 1] * (n - 1) + gain) / n
                arena[state + 2] = (arena[state + 2] * (n - 1) + loss) / n
        arena[state] = count + 1.0
        arena[state + 3] = close
    elif kind == MACD:
        _commit_macd(n, n2, n3, arena, state, close)
    elif kind == BOLLINGER:
        _commit_window(n, arena, state, ring + RING_CLOSE * capacity, capacity, total, True)
    elif kind == SMA:
        _commit_window(n, arena, state, ring + RING_CLOSE * capacity, capacity, total, False)
    elif kind == EMA:
        count = arena[state]
        if count < n - 1:
            arena[state + 1] += close
        elif count < n:
            arena[state + 2] = (arena[state + 1] + close) / n
        else:
            arena[state + 2] += (close - arena[state + 2]) * (2.0 / (n + 1.0))
        arena[state] = count + 1.0
    elif kind == ATR:
        count = arena[state]
        if count >= 1.0:
            previous = arena[bar + BAR_PREVIOUS_CLOSE]
            true_range = max(arena[bar + BAR_HIGH], previous) - min(arena[bar + BAR_LOW], previous)
            if count < n:
                arena[state + 1] += true_range
            elif count == n:
                arena[state + 1] = (arena[state + 1] + true_range) / n
            else:
                arena[state + 1] = (arena[state + 1] * (n - 1) + true_range) / n
        arena[state] = count + 1.0
    elif kind in (VOLUME_RATIO, VOLUME_SCORE):
        # Once a bar, so the window is simply added up.
        volumes = ring + RING_VOLUME * capacity
        if total < n:
            return
        sum_of = 0.0
        for back in range(n):
            sum_of += arena[volumes + (total - 1 - back) % capacity]
        mean = sum_of / n
        if kind == VOLUME_RATIO:
            arena[state] = mean
            return
        squares = 0.0
        for back in range(n):
            away = arena[volumes + (total - 1 - back) % capacity] - mean
            squares += away * away
        arena[state + 1], arena[state + 2] = mean, math.sqrt(squares / n)
    elif kind == CHANGE:
        # Of the forming bar to the close of n bars before it.
        if total >= n:
            arena[state] = arena[ring + RING_CLOSE * capacity + (total - n) % capacity]
    elif kind in (HIGHEST, LOWEST):
        if total < n:
            return
        if kind == HIGHEST:
            extreme = -math.inf
            for back in range(n):
                extreme = max(extreme, arena[ring + RING_HIGH * capacity + (total - 1 - back) % capacity])
        else:
            extreme = math.inf
            for back in range(n):
                extreme = min(extreme, arena[ring + RING_LOW * capacity + (total - 1 - back) % capacity])
        arena[state] = extreme


@njit(cache=True, nogil=True)
def _commit_macd(fast: Any, slow: Any, smooth: Any, arena: Any, state: Any, close: Any) -> None:
    count = arena[state]
    arena[state] = count + 1.0
    if count < slow - 1:
        if count >= slow - fast:
            arena[state + 1] += close
        arena[state + 2] += close
        return
    if count < slow:
        arena[state + 3], arena[state + 4] = (arena[state + 1] + close) / fast, (arena[state + 2] + close) / slow
    else:
        arena[state + 3] += (close - arena[state + 3]) * (2.0 / (fast + 1.0))
        arena[state + 4] += (close - arena[state + 4]) * (2.0 / (slow + 1.0))
    line, lines = arena[state + 3] - arena[state + 4], arena[state + 7]
    if lines < smooth - 1:
        arena[state + 5] += line
    elif lines < smooth:
        arena[state + 6] = (arena[state + 5] + line) / smooth
    else:
        arena[state + 6] += (line - arena[state + 6]) * (2.0 / (smooth + 1.0))
    arena[state + 7] = lines + 1.0


@njit(cache=True, nogil=True)
def _commit_window(n: Any, arena: Any, state: Any, ring: Any, capacity: Any, total: Any, squares: Any) -> None:
    """Sums of the newest n - 1 closes about an anchor, for the mean of them and the forming close.

    State: closed bars up to n - 1; sum; then the squares' sum and the anchor (Bollinger) or the anchor (a mean).
    """
    place = 3 if squares else 2
    held = min(total, n - 1)
    arena[state] = held
    if total < n or total % n == 0:
        # Add up anew about the newest close: what rounding has left is gone.
        anchor = arena[ring + (total - 1) % capacity]
        plain, second = 0.0, 0.0
        for back in range(held):
            moved = arena[ring + (total - 1 - back) % capacity] - anchor
            plain += moved
            second += moved * moved
        arena[state + place] = anchor
        arena[state + 1] = plain
        if squares:
            arena[state + 2] = second
        return
    anchor = arena[state + place]
    entering = arena[ring + (total - 1) % capacity] - anchor
    leaving = arena[ring + (total - n) % capacity] - anchor
    arena[state + 1] += entering - leaving
    if squares:
        arena[state + 2] += entering * entering - leaving * leaving
