"""Kernels that find swings, each in one pass that can stop at any bar and go on at the next.

Every ``advance_*`` reads rows ``begin`` to ``end`` of arrays that may hold more, keeps what it must remember in the
arrays given, and appends to a log of four arrays: the row of the extreme, the row at which it was confirmed, its side
(1 a high, -1 a low) and its price. It returns how many swings the log now holds. So a history and a stream run through
the same statements. A bar with a NaN is no bar.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def _log(row: Any, at: Any, side: Any, price: Any, count: Any, found: Any, now: Any, which: Any, value: Any) -> Any:
    row[count], at[count], side[count], price[count] = found, now, which, value
    return count + 1


@njit(cache=True, nogil=True, inline="always")
def _stands_out(values: Any, sign: Any, centre: Any, left: Any, right: Any) -> Any:
    # Outwards on both sides at once: a row costs its distance to the nearest row that reaches it, and over a series
    # the smaller of two such distances sums to n log n at most, however wide the sides.
    value = sign * values[centre]
    for step in range(1, max(left, right) + 1):
        if step <= left and not sign * values[centre - step] < value:
            return False
        if step <= right and not sign * values[centre + step] < value:
            return False
    return True


@njit(cache=True, nogil=True)
def advance_fractals(
    high: Any,
    low: Any,
    left: Any,
    right: Any,
    begin: Any,
    end: Any,
    row: Any,
    at: Any,
    side: Any,
    price: Any,
    count: Any,
) -> Any:
    """Rows above (below) the ``left`` rows before and the ``right`` rows after them, known ``right`` rows later."""
    for t in range(max(begin, left + right), end):
        centre = t - right
        if _stands_out(high, 1.0, centre, left, right):
            count = _log(row, at, side, price, count, centre, t, 1, high[centre])
        if _stands_out(low, -1.0, centre, left, right):
            count = _log(row, at, side, price, count, centre, t, -1, low[centre])
    return count


@njit(cache=True, nogil=True)
def advance_zigzag(
    high: Any,
    low: Any,
    distance: Any,
    share: Any,
    begin: Any,
    end: Any,
    rows: Any,
    prices: Any,
    row: Any,
    at: Any,
    side: Any,
    price: Any,
    count: Any,
) -> Any:
    """Alternating extremes, each confirmed when price has come back from it by ``distance[t] + share * extreme``.

    ``rows`` holds (side of the leg under way, row of its extreme, row of the farthest return since), ``prices`` the
    prices of the latter two. Before the first swing the two are the highest high and the lowest low so far.
    """
    leg, top, bottom = rows[0], rows[1], rows[2]
    most, least = prices[0], prices[1]
    for t in range(begin, end):
        if np.isnan(high[t]) or np.isnan(low[t]):
            continue
        if leg == 0:
            if top < 0 or high[t] > most:
                top, most = t, high[t]
            if bottom < 0 or low[t] < least:
                bottom, least = t, low[t]
            if bottom < top == t and most - least >= distance[t] + share * least:
                count = _log(row, at, side, price, count, bottom, t, -1, least)
                leg, bottom = 1, -1
            elif top < bottom == t and most - least >= distance[t] + share * most:
                count = _log(row, at, side, price, count, top, t, 1, most)
                leg, top, bottom, most = -1, bottom, -1, least
            continue
        ahead = high[t] if leg == 1 else low[t]
        back = low[t] if leg == 1 else high[t]
        if leg * (ahead - most) > 0.0:
            # Within the bar that extends the leg nobody knows what came first: it confirms no turn.
            top, most, bottom = t, ahead, -1
            continue
        if bottom < 0 or leg * (least - back) > 0.0:
            bottom, least = t, back
        # A return as far as asked, by this bar: an earlier one was judged by the distance that held then.
        if leg * (most - back) >= distance[t] + share * most:
            count = _log(row, at, side, price, count, top, t, leg, most)
            leg = -leg
            top, most = bottom, least
            # What came after the new extreme and before this bar is a return already.
            bottom = -1
            for j in range(top + 1, t + 1):
                back = low[j] if leg == 1 else high[j]
                if not np.isnan(back) and (bottom < 0 or leg * (least - back) > 0.0):
                    bottom, least = j, back
    rows[0], rows[1], rows[2] = leg, top, bottom
    prices[0], prices[1] = most, least
    return count


@njit(cache=True, nogil=True, inline="always")
def _prominence_step(
    values: Any,
    sign: Any,
    t: Any,
    distance: Any,
    share: Any,
    stack: Any,
    base: Any,
    state: Any,
    row: Any,
    at: Any,
    side: Any,
    price: Any,
    count: Any,
) -> Any:
    """One value of :func:`advance_prominence` on one side.

    ``stack`` holds the first and last row of each value that none after it has exceeded, ``base`` the lowest value
    between it and the last one above it. ``state`` is (size, how many from the bottom were judged, last row).
    """
    size, judged, before = state[0], state[1], state[2]
    value = sign * values[t]
    state[2] = t
    if size and stack[size - 1, 1] == before and sign * values[before] == value:
        stack[size - 1, 1] = t
        return count
    lowest = value
    while size and sign * values[stack[size - 1, 0]] < value:
        size -= 1
        lowest = min(lowest, base[size])
    if size and sign * values[stack[size - 1, 0]] == value:
        # The valley between two equal peaks is the smaller of what was met since, and it counts for both.
        lowest = min(lowest, base[size - 1])
    judged = min(judged, size)
    stack[size, 0], stack[size, 1], base[size] = t, t, lowest
    size += 1
    while judged < size:
        peak = sign * values[stack[judged, 0]]
        needed = distance[t] + share * abs(peak)
        if not peak - value >= needed:
            break
        if peak - base[judged] >= needed and needed > 0.0:
            middle = (stack[judged, 0] + stack[judged, 1]) // 2
            count = _log(row, at, side, price, count, middle, t, np.int64(sign), sign * peak)
        judged += 1
    state[0], state[1] = size, judged
    return count


@njit(cache=True, nogil=True)
def advance_prominence(
    high: Any,
    low: Any,
    distance: Any,
    share: Any,
    begin: Any,
    end: Any,
    stacks: Any,
    bases: Any,
    state: Any,
    row: Any,
    at: Any,
    side: Any,
    price: Any,
    count: Any,
) -> Any:
    """Peaks and troughs that stand out by ``distance[t] + share * peak`` on both sides, known when the second does."""
    # Views made once, not for each bar.
    top_stack, top_base, top_state = stacks[0], bases[0], state[0]
    low_stack, low_base, low_state = stacks[1], bases[1], state[1]
    for t in range(begin, end):
        if np.isnan(high[t]) or np.isnan(low[t]):
            continue
        count = _prominence_step(
            high, 1.0, t, distance, share, top_stack, top_base, top_state, row, at, side, price, count
        )
        count = _prominence_step(
            low, -1.0, t, distance, share, low_stack, low_base, low_state, row, at, side, price, count
        )
    return count


@njit(cache=True, nogil=True)
def advance_true_range(
    high: Any, low: Any, close: Any, window: Any, begin: Any, end: Any, ranges: Any, mean: Any
) -> None:
    """True range, and its plain mean over the last ``window`` bars, NaN in the first ``window``.

    Summed anew for each bar: so it depends on these bars only, to the last bit, wherever the history starts.
    """
    for t in range(begin, end):
        ranges[t] = np.nan if t == 0 else max(high[t], close[t - 1]) - min(low[t], close[t - 1])
        if np.isnan(high[t]) or np.isnan(low[t]) or t < window or np.isnan(close[t - 1]):
            mean[t] = np.nan
            if t == 0 or np.isnan(high[t]) or np.isnan(low[t]) or np.isnan(close[t - 1]):
                ranges[t] = np.nan
            continue
        total = 0.0
        for j in range(t - window + 1, t + 1):
            total += ranges[j]
        mean[t] = total / window
