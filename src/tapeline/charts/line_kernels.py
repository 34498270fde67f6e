"""Kernels of straight lines: trendlines by touches, and what becomes of lines and channels after they are known."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

REACH: Final = 10
"""How many pivots of a side, counted back from the newest, may anchor a line through it."""

TOUCH: Final = 0
BREAK: Final = 1
RETEST: Final = 2


@njit(cache=True, nogil=True, inline="always")
def _off(row: Any, price: Any, sign: Any, i: Any, slope: Any, p: Any) -> Any:
    """How far pivot ``p`` lies inside the line through pivot ``i``: positive on the side that the line bounds."""
    return sign * (price[p] - price[i]) - slope * (row[p] - row[i])


@njit(cache=True, nogil=True)
def _bounds(close: Any, sign: Any, row: Any, price: Any, i: Any, slope: Any, last: Any, width: Any) -> Any:
    """Whether no close from pivot ``i`` to row ``last`` is beyond the line by more than ``width``."""
    begin, base = row[i], sign * price[i]
    for t in range(begin, last + 1):  # noqa: SIM110 - numba compiles no generator
        if sign * close[t] < base + slope * (t - begin) - width:
            return False
    return True


@njit(cache=True, nogil=True)
def find_lines(
    close: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    width: Any,
    min_gap: Any,
    max_span: Any,
    places: Any,
    slopes: Any,
) -> Any:
    """Lines through two pivots of a side that the newest pivot of that side touches as the third.

    For each pivot the line that reaches farthest back is taken, of those through one first pivot the one nearest to
    the newest. ``places`` gets the three pivots, ``slopes`` the slope a bar in the mirror in which the line lies below
    price.
    """
    count = 0
    for k in range(row.size):
        near = width[confirmed[k]]
        if not near > 0.0:
            continue
        sign = -side[k]
        oldest, seen = k, 0
        while oldest - 2 >= 0 and seen < REACH and row[k] - row[oldest - 2] <= max_span:
            oldest, seen = oldest - 2, seen + 1
        done = False
        for i in range(oldest, k - 3, 2):
            best, chosen, incline = np.inf, -1, 0.0
            for j in range(i + 2, k - 1, 2):
                if row[j] - row[i] < min_gap or row[k] - row[j] < min_gap:
                    continue
                slope = sign * (price[j] - price[i]) / (row[j] - row[i])
                off = abs(_off(row, price, sign, i, slope, k))
                if off > near or off >= best:
                    continue
                fits = True
                for p in range(i + 2, k - 1, 2):
                    # A pivot beyond the line broke it, and one that touches it was the third touch already.
                    if p != j and _off(row, price, sign, i, slope, p) <= near:
                        fits = False
                        break
                if fits and i - 2 >= 0 and row[k] - row[i - 2] <= max_span:
                    # The line began at an older pivot: this one is not its first touch.
                    fits = abs(_off(row, price, sign, i, slope, i - 2)) > near
                if fits and _bounds(close, sign, row, price, i, slope, confirmed[k], near):
                    best, chosen, incline = off, j, slope
            # Ranges have changed since: what is the third touch by today's measure may be a later one by that of then.
            for earlier in range(count - 1, -1, -1):
                if places[earlier, 2] < k - 2 * REACH:
                    break
                if places[earlier, 0] == i and places[earlier, 1] == chosen:
                    chosen = -1
                    break
            if chosen >= 0:
                places[count, 0], places[count, 1], places[count, 2] = i, chosen, k
                slopes[count] = incline
                count += 1
                done = True
            if done:
                break
    return count


@njit(cache=True, nogil=True)
def _grown(log: Any) -> Any:
    larger = np.empty((2 * log.shape[0], log.shape[1]), np.int64)
    larger[: log.shape[0]] = log
    return larger


@njit(cache=True, nogil=True)
def follow_lines(
    high: Any,
    low: Any,
    close: Any,
    sign: Any,
    origin: Any,
    base: Any,
    slope: Any,
    known: Any,
    width: Any,
    max_age: Any,
    max_wait: Any,
) -> Any:
    """Walk each line on from the row after it was known: its further touches, its break, the retest of the break.

    In the mirror of ``sign`` the line lies below price and ``base`` is its price at row ``origin``. A touch counts when
    the bar before did not touch. Returns rows of (line, row, TOUCH, BREAK or RETEST); the row at which each line broke
    or expired, -1 while it stands; and how far price had gone from each line by then.
    """
    rows, count = close.size, 0
    log = np.empty((16 + 2 * origin.size, 3), np.int64)
    gone, reach = np.full(origin.size, -1), np.zeros(origin.size)
    for i in range(origin.size):
        s, near, begin, start = sign[i], width[i], origin[i], base[i]
        farthest, touching, broken = 0.0, True, -1
        for t in range(begin, known[i] + 1):
            farthest = max(farthest, s * (high[t] if s > 0 else low[t]) - start - slope[i] * (t - begin))
        last = known[i] + max_age
        for t in range(known[i] + 1, min(rows, last + 1)):
            line = start + slope[i] * (t - begin)
            if s * close[t] < line - near:
                broken = t
                break
            farthest = max(farthest, s * (high[t] if s > 0 else low[t]) - line)
            now = s * (low[t] if s > 0 else high[t]) <= line + near
            if now and not touching:
                if count == log.shape[0]:
                    log = _grown(log)
                log[count, 0], log[count, 1], log[count, 2] = i, t, TOUCH
                count += 1
            touching = now
        reach[i] = farthest
        if broken < 0:
            gone[i] = last if last < rows else -1
            continue
        gone[i] = broken
        if count + 2 > log.shape[0]:
            log = _grown(log)
        log[count, 0], log[count, 1], log[count, 2] = i, broken, BREAK
        count += 1
        for t in range(broken + 1, min(rows, broken + max_wait + 1)):
            line = start + slope[i] * (t - begin)
            if s * close[t] > line + near:
                break
            if s * (high[t] if s > 0 else low[t]) >= line - near and s * close[t] < line:
                log[count, 0], log[count, 1], log[count, 2] = i, t, RETEST
                count += 1
                break
    return log[:count], gone, reach


@njit(cache=True, nogil=True)
def find_parallels(
    high: Any,
    low: Any,
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    width: Any,
    places: Any,
    slopes: Any,
    heights: Any,
    touches: Any,
    misses: Any,
) -> None:
    """For each line the parallel through the farthest price on its other side, as known when the line is.

    ``heights`` gets the distance between the two, ``touches`` how many pivots of the other side, confirmed by then, lie
    within the width of the parallel, ``misses`` their mean distance from it.
    """
    for n in range(places.shape[0]):
        i, k = places[n, 0], places[n, 2]
        sign, known = -side[k], confirmed[k]
        farthest = 0.0
        for t in range(row[i], known + 1):
            value = sign * ((high[t] if sign > 0 else low[t]) - price[i]) - slopes[n] * (t - row[i])
            farthest = max(farthest, value)
        count, total = 0, 0.0
        p = i + 1
        while p < row.size and confirmed[p] <= known:
            if side[p] == sign:
                miss = farthest - _off(row, price, sign, i, slopes[n], p)
                if miss <= width[known]:
                    count += 1
                    total += miss
            p += 1
        heights[n], touches[n], misses[n] = farthest, count, total / count if count else np.nan


@njit(cache=True, nogil=True)
def follow_channels(
    high: Any,
    low: Any,
    close: Any,
    origin: Any,
    lower: Any,
    slope: Any,
    height: Any,
    known: Any,
    width: Any,
    median: Any,
    max_age: Any,
) -> Any:
    """Walk each channel on from the row after it was known: touches of its borders, of its middle, and its break.

    ``lower`` is the lower border's price at row ``origin``. Returns rows of (channel, row, border, TOUCH or BREAK), the
    border -1 for the lower, 1 for the upper and 0 for the median line, which is looked at only where ``median``; and
    the row at which each channel broke or expired, -1 while it stands. A touch counts when the bar before did not.
    """
    rows, count = close.size, 0
    log = np.empty((16 + 4 * origin.size, 4), np.int64)
    gone = np.full(origin.size, -1)
    on = np.empty(3, np.bool_)
    now = np.empty(3, np.bool_)
    for i in range(origin.size):
        near = width[i]
        on[:] = True
        last = known[i] + max_age
        for t in range(known[i] + 1, min(rows, last + 1)):
            bottom = lower[i] + slope[i] * (t - origin[i])
            top, middle = bottom + height[i], bottom + 0.5 * height[i]
            if count + 3 > log.shape[0]:
                log = _grown(log)
            beyond = -1 if close[t] < bottom - near else 1 if close[t] > top + near else 0
            if beyond != 0:
                log[count, 0], log[count, 1], log[count, 2], log[count, 3] = i, t, beyond, BREAK
                count += 1
                gone[i] = t
                break
            now[0], now[1], now[2] = low[t] <= bottom + near, low[t] <= middle <= high[t], high[t] >= top - near
            for border in range(3):
                if now[border] and not on[border] and (border != 1 or median):
                    log[count, 0], log[count, 1], log[count, 2], log[count, 3] = i, t, border - 1, TOUCH
                    count += 1
                on[border] = now[border]
        if gone[i] < 0 and last < rows:
            gone[i] = last
    return log[:count], gone


@njit(cache=True, nogil=True)
def rolling_channel(close: Any, window: Any) -> Any:
    """The least-squares line through each last ``window`` closes: slope a bar, value at the last, deviation, R squared.

    The deviation is the root of the mean squared distance from the line. Summed anew for each bar, so that it depends
    on these bars only, to the last bit. NaN in the first ``window - 1`` rows, R squared also where nothing moved.
    """
    rows = close.size
    slope, value = np.full(rows, np.nan), np.full(rows, np.nan)
    deviation, fit = np.full(rows, np.nan), np.full(rows, np.nan)
    half = (window - 1) / 2.0
    squares = window * (window * window - 1.0) / 12.0
    for t in range(window - 1, rows):
        first = t - window + 1
        # Distances from the first close: prices far from zero would lose digits in the squares.
        anchor, total = close[first], 0.0
        for j in range(window):
            total += close[first + j] - anchor
        mean = total / window
        with_x, spread = 0.0, 0.0
        for j in range(window):
            away = close[first + j] - anchor - mean
            with_x += (j - half) * away
            spread += away * away
        if np.isnan(spread):
            continue
        bend = with_x / squares
        left = max(spread - bend * with_x, 0.0)
        slope[t], value[t] = bend, anchor + mean + bend * half
        deviation[t] = np.sqrt(left / window)
        # What rounding leaves of closes that are all the same is no movement.
        if spread > 1e-20 * window * anchor * anchor:
            fit[t] = 1.0 - left / spread
    return slope, value, deviation, fit
