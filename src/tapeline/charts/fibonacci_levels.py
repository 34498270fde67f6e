"""Fibonacci levels of confirmed legs: price at them, levels that meet, and where the close lies in the last leg."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import EMPTY, first_crossings
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.fibonacci import RETRACEMENTS
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import NEVER, expires_or_ends_at, watch_levels
from tapeline.core.registry import feature

Clear = Annotated[float, Field(ge=0.0, le=100.0)]
Legs = Annotated[int, Field(ge=2, le=20)]

_RATIOS: Final = np.array(RETRACEMENTS)
_MEETING: Final = np.array((*RETRACEMENTS, 1.272, 1.618))
"""Of each leg: its retracements, and beyond its start what its reversal would be at 1.272 and 1.618 of it."""

_KINDS: Final = ("fibonacci_touch", "fibonacci_rejection", "fibonacci_break")


@njit(cache=True, nogil=True)
def _level_events(
    high: Any, low: Any, close: Any, usual: Any, clear: Any, row: Any, confirmed: Any, price: Any, log: Any, level: Any
) -> Any:
    """Fill ``log`` with (kind, row, index of the leg's last pivot, place of the ratio); how many."""
    count = 0
    ratios = _RATIOS.size
    state = np.empty(ratios, np.int8)
    for i in range(1, row.size):
        end, move = price[i], price[i] - price[i - 1]
        up = move > 0.0
        for k in range(ratios):
            state[k] = 0
        last = confirmed[i + 1] if i + 1 < row.size else high.size - 1
        for t in range(row[i] + 1, last + 1):
            for k in range(ratios):
                if state[k] == 2:
                    continue
                at = end - _RATIOS[k] * move
                if state[k] == 0:
                    if not (low[t] <= at if up else high[t] >= at):
                        # The levels lie one behind the other: what is farther was not reached either.
                        break
                    if t <= confirmed[i]:
                        # Traded before the leg was known: what follows is no first touch.
                        state[k] = 2
                        continue
                    state[k] = 1
                    log[count, 0], log[count, 1], log[count, 2], log[count, 3] = 0, t, i, k
                    level[count] = at
                    count += 1
                away = (close[t] - at) if up else (at - close[t])
                if abs(away) >= clear * usual[t] and away != 0.0:
                    state[k] = 2
                    log[count, 0], log[count, 1], log[count, 2], log[count, 3] = (1 if away > 0.0 else 2), t, i, k
                    level[count] = at
                    count += 1
    return count


@detector(
    lookback=PIVOT_MEMORY,
    reference="Frost, Prechter, Elliott Wave Principle (1978), ch. 4; Murphy (1999), ch. 4, percentage retracements",
    watch=expires_or_ends_at("target", "stop"),
)
def fibonacci_level(
    arrays: BarArrays,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    clear: Clear = 0.25,
    max_age: Age = 100,
) -> Iterator[Found]:
    """Price at the retracements of the last confirmed leg: 0.236, 0.382, 0.5, 0.618 and 0.786.

    ``fibonacci_touch``: the first bar after the leg's confirmation that trades at a level; one traded between the leg's
    end and its confirmation is not told. ``fibonacci_rejection``: the first close from then on that stands ``clear``
    mean true ranges back on the side of the leg's end; ``fibonacci_break``: that stands as far beyond. Of the two
    whichever comes first is told, for as long as the leg is the last confirmed one.

    ``direction`` is the leg's for touch and rejection (a retracement should hold), against it for a break. ``low`` and
    ``high`` are the level, ``score`` its ratio, ``start`` the leg's start. Target and stop are the ends of the leg: its
    end and its start, for a break the other way round. Points: the leg's start and end, and the bar at the level.
    Invalidated when one of them is traded, or after ``max_age`` bars. Prices are linear.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> bars = bars_through([(0, 108.0), (20, 100.0), (40, 110.0), (46, 104.9), (66, 114.0)])
    >>> found = fibonacci_level(bars)
    >>> found[found["score"] == 0.5][["kind", "direction"]].to_numpy().tolist()[2:4]
    [['fibonacci_touch', 1], ['fibonacci_rejection', 1]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    if len(pivots) < 2:
        return
    usual = arrays.once(mean_true_range, window)
    # The stretches of two legs that follow each other overlap by the return that confirms the second.
    most = 2 * _RATIOS.size * len(pivots)
    log, level = np.empty((most, 4), np.int64), np.empty(most)
    count = _level_events(
        arrays.high, arrays.low, arrays.close, usual, clear, pivots.row, pivots.confirmed, pivots.price, log, level
    )
    order = np.argsort(log[:count, 0], kind="stable")
    code, row, pivot, ratio = log[order].T
    # A level of the last leg that was touched has yet to hold or break, which the range of the bar decides.
    mine = code[pivot == len(pivots) - 1]
    open_still = 2 * np.count_nonzero(mine == 0) > mine.size
    levels = pivots.price[-1] - _RATIOS * (pivots.price[-1] - pivots.price[-2])
    yield watch_levels(levels, until=len(arrays) if open_still else NEVER)
    level = level[order]
    leg, broken = pivots.side[pivot], code == 2
    start, end = pivots.price[pivot - 1], pivots.price[pivot]
    direction = np.where(broken, -leg, leg)
    target, stop = np.where(broken, start, end), np.where(broken, end, start)
    until = fates(arrays, row, direction, target, stop, max_age).row
    rows, prices = np.empty((count, 3), np.int64), np.empty((count, 3))
    rows[:, 0], rows[:, 1], rows[:, 2] = pivots.row[pivot - 1], pivots.row[pivot], row
    prices[:, 0], prices[:, 1], prices[:, 2] = start, end, level
    score = _RATIOS[ratio]
    ends = np.searchsorted(code, np.arange(len(_KINDS) + 1)).tolist()
    for kind, (first, last) in zip(_KINDS, pairwise(ends), strict=True):
        if first == last:
            continue
        mine = slice(first, last)
        yield Findings(
            kind,
            direction=direction[mine],
            start=rows[mine, 0],
            end=row[mine],
            confirmed=row[mine],
            low=level[mine],
            high=level[mine],
            invalidated=until[mine],
            target=target[mine],
            stop=stop[mine],
            score=score[mine],
            point_rows=rows[mine],
            point_prices=prices[mine],
        )


@njit(cache=True, nogil=True)
def _zones(
    confirmed: Any, price: Any, close: Any, usual: Any, legs: Any, least: Any, width: Any, at: Any, zone: Any
) -> Any:
    """Fill ``at`` with (pivot, oldest leg that takes part, how many take part) and ``zone`` with (low, high)."""
    ratios = _MEETING.size
    level, owner = np.empty(legs * ratios), np.empty(legs * ratios, np.int64)
    seen = np.empty(legs, np.bool_)
    count = 0
    for i in range(legs, price.size):
        reach = width * usual[confirmed[i]]
        if not reach > 0.0:
            continue
        held = 0
        for j in range(legs):
            end, start = price[i - j], price[i - j - 1]
            for k in range(ratios):
                value, place = end - _MEETING[k] * (end - start), held
                while place and level[place - 1] > value:
                    level[place], owner[place] = level[place - 1], owner[place - 1]
                    place -= 1
                level[place], owner[place] = value, j
                held += 1
        first = 0
        while first < held:
            # Most levels have too few near them for so many legs: that is seen at once.
            if first + least > held or level[first + least - 1] - level[first] > reach:
                first += 1
                continue
            for j in range(legs):
                seen[j] = False
            bottom, after, parts, oldest = level[first], first, 0, 0
            while after < held and level[after] - bottom <= reach:
                j = owner[after]
                if not seen[j]:
                    seen[j] = True
                    parts += 1
                    oldest = max(oldest, j)
                after += 1
            if parts >= least and seen[0]:
                top = level[after - 1]
                if not bottom <= close[confirmed[i]] <= top:
                    at[count, 0], at[count, 1], at[count, 2] = i, i - oldest, parts
                    zone[count, 0], zone[count, 1] = bottom, top
                    count += 1
                first = after
            else:
                first += 1
    return count


@detector(
    lookback=PIVOT_MEMORY,
    reference="Boroden, Fibonacci Trading (2008), price clusters",
    watch=expires_or_ends_at("low", "high", closes=True),
)
def fibonacci_confluence(
    arrays: BarArrays,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    legs: Legs = 4,
    least: Legs = 3,
    width: Clear = 0.1,
    max_age: Age = 200,
) -> Iterator[Found]:
    """Prices at which levels of several legs meet, known when the newest of the legs is confirmed.

    Kind ``fibonacci_confluence``: levels of at least ``least`` of the last ``legs`` confirmed legs, the newest among
    them, within ``width`` mean true ranges of that bar. The levels of a leg are its retracements 0.236, 0.382, 0.5,
    0.618, 0.786, and 1.272 and 1.618 of it back from its end. ``direction`` 1 where the zone lies below the close (it
    should hold price up), -1 above; a zone around the close is not told. ``score`` is the share of the legs that take
    part, 0 to 1. ``start`` is where the oldest of them starts, ``end`` the end of the newest; the points are those of
    the newest leg. Invalidated by a close beyond its far side, or after ``max_age`` bars. Prices are linear.

    Examples
    --------
    >>> from tapeline.charts.synthetic import random_walk
    >>> found = fibonacci_confluence(random_walk(400, seed=4))
    >>> bool(len(found)), bool((found["score"] >= 0.75).all())
    (True, True)
    """
    pivots = find_pivots(arrays, size, unit, window)
    if len(pivots) <= legs:
        return
    usual = arrays.once(mean_true_range, window)
    most = len(pivots) * _MEETING.size
    at, zone = np.empty((most, 3), np.int64), np.empty((most, 2))
    count = _zones(pivots.confirmed, pivots.price, arrays.close, usual, legs, least, width, at, zone)
    if not count:
        return
    newest, oldest, parts = at[:count].T
    low, high = zone[:count, 0].copy(), zone[:count, 1].copy()
    confirmed = pivots.confirmed[newest]
    direction = np.where(high < arrays.close[confirmed], 1, -1).astype(np.int8)
    until = np.full(count, EMPTY)
    for sign, far in ((1, low), (-1, high)):
        mine = direction == sign
        until[mine] = first_crossings(-sign, arrays.close, confirmed[mine], far[mine], strict=True)
    last = confirmed + max_age
    expired = ((until == EMPTY) | (until > last)) & (last < len(arrays))
    until[expired] = last[expired]
    rows = np.column_stack((pivots.row[newest - 1], pivots.row[newest]))
    yield Findings(
        "fibonacci_confluence",
        direction=direction,
        start=pivots.row[oldest - 1],
        end=pivots.row[newest],
        confirmed=confirmed,
        low=low,
        high=high,
        invalidated=until,
        score=parts / legs,
        point_rows=rows,
        point_prices=np.column_stack((pivots.price[newest - 1], pivots.price[newest])),
    )


@feature(
    lookback=PIVOT_MEMORY,
    outputs=("fibonacci_position_{size}", "fibonacci_distance_{size}"),
    reference="Frost, Prechter, Elliott Wave Principle (1978), ch. 4; the last leg as a zigzag confirms it",
    stackable=False,
)
def fibonacci_position(bars: pd.DataFrame, size: Size = 3.0, unit: Unit = "atr", window: Period = 14) -> pd.DataFrame:
    """Where the close lies in the last confirmed leg, and how far from its nearest retracement.

    The position is the share of the leg that is retraced: 0 at its end, 1 at its start, below 0 and above 1 beyond.
    The distance is the close less the nearest of 0, 0.236, 0.382, 0.5, 0.618, 0.786 and 1, in mean true ranges of this
    bar. NaN before the first leg is confirmed; the distance also where price stands still.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> bars = bars_through([(0, 108.0), (20, 100.0), (40, 110.0), (46, 104.9), (66, 114.0)])
    >>> fibonacci_position(bars).iloc[[44, 46]].round(2).to_numpy().tolist()
    [[0.34, 0.7], [0.51, -0.15]]
    """
    arrays = BarArrays(bars)
    pivots = find_pivots(arrays, size, unit, window)
    usual = mean_true_range(arrays, window)
    position, distance = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    if len(pivots) > 1:
        # The last pivot confirmed by each bar; two may be confirmed by one.
        newest = np.searchsorted(pivots.confirmed, np.arange(len(bars)), side="right") - 1
        there = newest >= 1
        end, start = pivots.price[newest[there]], pivots.price[newest[there] - 1]
        move = start - end
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (arrays.close[there] - end) / move
            ratios = np.array((0.0, *RETRACEMENTS, 1.0))
            nearest = ratios[np.abs(share[:, None] - ratios).argmin(axis=1)]
            apart = (share - nearest) * move / usual[there]
        position[there], distance[there] = share, apart
        position[~np.isfinite(position)] = np.nan
        distance[~np.isfinite(distance)] = np.nan
    data = {f"fibonacci_position_{size}": position, f"fibonacci_distance_{size}": distance}
    return pd.DataFrame(data, index=bars.index)
