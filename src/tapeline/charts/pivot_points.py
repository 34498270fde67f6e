"""Pivot points: where price stands among the levels of the last completed day, week or month, and what it does there.

The last confirmed swings, which traders call pivots too, are here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.charts.bar_arrays import BarArrays, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.pivot_lines import Method, Minute, PivotLines, Span, find_pivot_lines, new_period
from tapeline.charts.swings import Period, Reach, find_swings
from tapeline.charts.watch import Watch, ends_at, watch_levels
from tapeline.core.registry import feature
from tapeline.features.arrays import Count, frame, ratio

FARTHEST: Final = 20.0
"""The distance, in mean true ranges, that stands for no level on that side."""


@feature(
    lookback=lambda longest, window: longest + window + 2,
    outputs=tuple(f"{{span}}_{{method}}_{name}" for name in ("pivot", "above", "below", "place")),
    reference="Person, A Complete Guide to Technical Trading Tactics (2004), chapter 6",
    stackable=False,
)
def pivot_points(
    bars: pd.DataFrame,
    method: Method = "classic",
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    longest: Count = 2880,
    window: Period = 14,
) -> pd.DataFrame:
    """How far the close lies from the pivot points of the last completed period, in mean true ranges.

    Of a period that began more than ``longest`` bars ago there are none: the default holds two days of minutes, and
    weeks or months of short bars need more.

    Returns
    -------
    ``_pivot``: the close less the pivot. ``_above``, ``_below``: the way to the next level above and below, 20 where
    there is none within 20. ``_place``: how many levels lie below the close less how many lie above it. NaN before a
    whole period has passed and where the mean true range is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 12, 11, start="2017-01-02", hours=24)
    >>> pivot_points(bars, window=2).iloc[-1].round(2).tolist()
    [-0.1, 0.1, 0.38, -1.0]
    """
    arrays = BarArrays.of(bars)
    lines = find_pivot_lines(arrays, method, span, zone, start_minute)
    unit = arrays.once(mean_true_range, window)
    unit = np.where(lines.known(longest), unit, np.nan)
    result = np.empty((4, len(arrays)))
    _distances(arrays.close, unit, lines.prices, lines.which, FARTHEST, result)
    names = (f"{span}_{method}_{name}" for name in ("pivot", "above", "below", "place"))
    return frame(bars, **dict(zip(names, result, strict=True)))


@njit(cache=True, nogil=True)
def _distances(close: Any, unit: Any, prices: Any, which: Any, farthest: Any, result: Any) -> None:
    for t in range(close.size):
        if not unit[t] > 0.0 or np.isnan(prices[which[t], 4]):
            result[:, t] = np.nan
            continue
        above, below, place = farthest, farthest, 0.0
        for k in range(prices.shape[1]):
            way = (prices[which[t], k] - close[t]) / unit[t]
            if way > 0.0:
                above, place = min(above, way), place - 1.0
            elif way <= 0.0:
                below, place = min(below, -way), place + 1.0
        result[0, t] = (close[t] - prices[which[t], 4]) / unit[t]
        result[1, t], result[2, t], result[3, t] = above, below, place


@njit(cache=True, nogil=True)
def _meetings(high: Any, low: Any, close: Any, prices: Any, first: Any, which: Any, known: Any, log: Any) -> Any:
    """Log touches and breaks: (0 or 1, row, level, direction, row at which it no longer holds)."""
    levels = prices.shape[1]
    done, standing = np.zeros((3, levels), np.bool_), np.full((3, levels), -1)
    count = 0
    for t in range(1, close.size):
        if first[which[t]] == t:
            for kind in range(3):
                for k in range(levels):
                    if standing[kind, k] >= 0:
                        log[standing[kind, k], 4] = t
            done[:], standing[:] = False, -1
        if not known[t]:
            continue
        for k in range(levels):
            line = prices[which[t], k]
            before = close[t - 1]
            for j in range(k):
                if prices[which[t], j] == line:
                    # Two levels at one price, which Woodie's open can make, are met once.
                    line = np.nan
            if not done[0, k] and low[t] <= line and high[t] >= line:
                done[0, k] = True
                log[count, 0], log[count, 1], log[count, 2], log[count, 4] = 0, t, k, -1
                log[count, 3] = 1 if before > line else -1 if before < line else 0
                standing[0, k] = count
                count += 1
            for kind in range(1, 3):
                side = 1 if kind == 1 else -1
                if not done[kind, k] and side * (close[t] - line) > 0.0 and side * (before - line) <= 0.0:
                    done[kind, k] = True
                    log[count, 0], log[count, 1], log[count, 2], log[count, 3] = 1, t, k, side
                    log[count, 4] = -1
                    standing[kind, k] = count
                    count += 1
            for kind in range(3):
                place = standing[kind, k]
                if place >= 0 and log[place, 3] * (close[t] - line) < 0.0:
                    log[place, 4] = t
                    standing[kind, k] = -1
    return count


def pivot_meetings(
    arrays: BarArrays, method: Method, span: Span, zone: str, start_minute: int, longest: int
) -> tuple[PivotLines, Rows]:
    """The lines, and what price did at them: rows of (0 touch or 1 break, row, level, direction, gone)."""
    lines = arrays.once(find_pivot_lines, method, span, zone, start_minute)
    log = np.empty((3 * int(np.isfinite(lines.prices).sum()) + 1, 5), np.int64)
    count = _meetings(
        arrays.high, arrays.low, arrays.close, lines.prices, lines.first, lines.which, lines.known(longest), log
    )
    return lines, log[:count]


def _findings(arrays: BarArrays, lines: PivotLines, log: Rows, what: int, kind: str) -> Findings:
    _, row, level, direction, gone = np.ascontiguousarray(log[log[:, 0] == what].T)
    own = lines.prices[lines.which[row]]
    price = own[np.arange(row.size), level]
    ahead = direction[:, None] * (own - price[:, None])
    ahead[~(ahead > 0.0)] = np.nan
    way = np.fmin.reduce(ahead, axis=1)
    start = lines.first[lines.which[row]]
    return Findings(
        kind,
        direction=direction.astype(np.int8),
        start=start,
        end=row,
        confirmed=row,
        low=price,
        high=price,
        invalidated=gone,
        target=price + direction * way,
        score=(level - 4).astype(np.float64),
        point_rows=np.column_stack((start, row)),
        point_prices=np.column_stack((price, price)),
    )


def _next_lines(lines: PivotLines, *, closes: bool = False) -> Watch:
    """A watch on the lines of the last period: what it finds there also ends there."""
    return watch_levels(lines.prices[lines.which[-1:]].ravel(), closes=closes)


@detector(
    lookback=lambda longest: longest + 3,
    reference="Person, A Complete Guide to Technical Trading Tactics (2004), chapter 6",
    watch=ends_at(),
    probe=new_period,
)
def pivot_touch(
    arrays: BarArrays,
    method: Method = "classic",
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    longest: Count = 2880,
) -> Iterator[Found]:
    """The first trade of each period at each of its pivot points, confirmed at that bar's close.

    Kind ``pivot_touch``, ``direction`` 1 where price came from above (the level may hold as support), -1 from below.
    ``low`` and ``high`` are the level, ``score`` its number: 0 the pivot, 1 to 4 the resistances, -1 to -4 the
    supports; ``target`` is the next level along the direction. Invalidated by a close beyond the level against the
    direction, at the latest by the first bar of the next period.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 12, 11, start="2017-01-02", hours=24)
    >>> pivot_touch(bars)[["direction", "low", "score"]].round(2).to_numpy().tolist()[:2]
    [[1.0, 9.0, -1.0], [0.0, 10.0, 0.0]]
    """
    lines, log = arrays.once(pivot_meetings, method, span, zone, start_minute, longest)
    yield _findings(arrays, lines, log, 0, "pivot_touch")
    yield _next_lines(lines)


@detector(
    lookback=lambda longest: longest + 3,
    reference="Person, A Complete Guide to Technical Trading Tactics (2004), chapter 6",
    watch=ends_at(),
    probe=new_period,
)
def pivot_break(
    arrays: BarArrays,
    method: Method = "classic",
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    longest: Count = 2880,
) -> Iterator[Found]:
    """The first close of each period beyond each of its pivot points, by direction, confirmed at that close.

    Kind ``pivot_break``, ``direction`` that of the close, which lies beyond a level that the close before did not;
    the rest is as in :func:`pivot_touch`. Invalidated by a close back on the other side, at the latest by the first
    bar of the next period.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 12, 11, start="2017-01-02", hours=24)
    >>> pivot_break(bars)[["direction", "low", "target", "score"]].round(2).to_numpy().tolist()
    [[1.0, 10.0, 11.0, 0.0], [1.0, 11.0, 12.0, 1.0], [-1.0, 11.33, 9.67, 0.0]]
    """
    lines, log = arrays.once(pivot_meetings, method, span, zone, start_minute, longest)
    yield _findings(arrays, lines, log, 1, "pivot_break")
    yield _next_lines(lines, closes=True)


@feature(
    lookback=lambda reach, max_age, window: max_age + 2 * reach + window + 2,
    outputs=("swing_high_distance", "swing_high_age", "swing_low_distance", "swing_low_age"),
    reference="Williams, Trading Chaos (1995), the fractal: the last confirmed swings as pivots",
)
def swing_pivots(bars: pd.DataFrame, reach: Reach = 5, max_age: Count = 300, window: Period = 14) -> pd.DataFrame:
    """How far the close lies from the last confirmed swing high and low, and how old these are.

    Returns
    -------
    ``_distance``: the swing's price less the close in mean true ranges over ``window`` bars, for the low the close
    less its price; below 0 once price has closed beyond it. ``_age``: bars since the swing's extreme. NaN where no
    swing of that side lies within ``max_age`` bars or the mean true range is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14, 12, 10, 12)
    >>> bars = bars.assign(high=bars["close"] + 1.0, low=bars["close"] - 1.0)
    >>> swing_pivots(bars, reach=1, window=2).iloc[-1].tolist()
    [1.0, 3.0, 1.0, 1.0]
    """
    arrays = BarArrays.of(bars)
    swings = arrays.once(find_swings, "fractal", left=reach, right=reach)
    unit, now = arrays.once(mean_true_range, window), np.arange(len(arrays))
    values = {}
    for side, name in ((1, "high"), (-1, "low")):
        mine = swings.side == side
        row, known, price = swings.row[mine], swings.confirmed[mine], swings.price[mine]
        last = np.searchsorted(known, now, side="right") - 1
        age = np.where(last >= 0, now - row[last], np.inf) if row.size else np.full(now.size, np.inf)
        there = age <= max_age
        way = side * (price[last] - arrays.close) if row.size else np.full(now.size, np.nan)
        values[f"swing_{name}_distance"] = ratio(np.where(there, way, np.nan), unit)
        values[f"swing_{name}_age"] = np.where(there & (unit > 0.0), age, np.nan)
    return frame(bars, **values)
