"""Kernels of what profiles say: the shape of each, and what price does at the value area of the period before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tapeline.charts.profile_kernels import profile_nodes


@njit(cache=True, nogil=True, inline="always")
def _below(volume: Any, place: Any) -> Any:
    """What lies below a place counted in rows."""
    held, whole = 0.0, int(place)
    for k in range(whole):
        held += volume[k]
    return held + (place - whole) * volume[whole] if whole < volume.size else held


@njit(cache=True, nogil=True)
def shapes(
    volume: Any, total: Any, control: Any, lean: Any, least: Any, balance: Any, split: Any, valley: Any, part: Any,
    code: Any, score: Any, nodes: Any,
) -> None:  # fmt: skip
    """The shape of each profile: 1 P, 2 b, 3 D, 4 double, 0 none of them; its score, and the rows of two peaks.

    ``nodes`` takes the lower high node, the low node and the upper high node of a double distribution.
    """
    rows = volume.shape[1]
    row, side = np.empty(rows, np.int64), np.empty(rows, np.int8)
    for p in range(total.size):
        code[p], score[p] = 0, np.nan
        nodes[p] = -1
        if control[p] < 0:
            continue
        held = volume[p]
        count = profile_nodes(held, total[p], split * held.max(), row, side)
        best = 0.0
        for i in range(1, count - 1):
            if side[i] > 0:
                continue
            # The low node itself belongs to neither distribution.
            under = _below(held, float(row[i])) / total[p]
            over = 1.0 - under - held[row[i]] / total[p]
            smaller = min(held[row[i - 1]], held[row[i + 1]])
            if min(under, over) >= part and held[row[i]] <= valley * smaller and min(under, over) > best:
                best = min(under, over)
                code[p], score[p] = 4, 1.0 - held[row[i]] / smaller
                nodes[p, 0], nodes[p, 1], nodes[p, 2] = row[i - 1], row[i], row[i + 1]
        if code[p]:
            continue
        place = (control[p] + 0.5) / rows
        lower = _below(held, rows / 3.0) / total[p]
        middle = _below(held, rows * 2.0 / 3.0) / total[p] - lower
        upper = 1.0 - lower - middle
        if 3.0 * place >= 2.0 and upper >= lean and lower <= least:
            code[p], score[p] = 1, upper
        elif 3.0 * place <= 1.0 and lower >= lean and upper <= least:
            code[p], score[p] = 2, lower
        elif 1.0 < 3.0 * place < 2.0 and middle >= lean and abs(upper - lower) <= balance:
            code[p], score[p] = 3, middle


@njit(cache=True, nogil=True)
def value_visits(
    opened: Any, high: Any, low: Any, close: Any, ends: Any, begins: Any, last: Any, value_low: Any, value_high: Any,
    closes: Any, log: Any, stops: Any,
) -> Any:  # fmt: skip
    """What price did at the value area of the period before: log (kind, row, direction, first row), and stops.

    ``ends`` says at which rows a bracket closes, ``begins`` at which the period of each began, ``last`` whose value
    area counts (-1 none). Kind 1: came from outside and closed inside for ``closes`` brackets; kind 2: came from
    outside, traded inside and closed outside again, on the same side, before that.
    """
    count = 0
    side, run, start, entered = 0, 0, 0, False
    # The farthest prices since the last close outside: ``outer`` with the bracket that made it, ``inner`` without.
    outer_high, outer_low, inner_high, inner_low = -np.inf, np.inf, -np.inf, np.inf
    bracket_high, bracket_low = -np.inf, np.inf
    for t in range(close.size):
        if last[t] < 0:
            side = 0
            continue
        bottom, top = value_low[last[t]], value_high[last[t]]
        if begins[t] == t or last[t - 1] < 0:
            side, run, start = 0, 0, t
            if begins[t] == t:
                side = 1 if opened[t] > top else -1 if opened[t] < bottom else 0
            outer_high, outer_low, inner_high, inner_low = opened[t], opened[t], -np.inf, np.inf
            bracket_high, bracket_low = -np.inf, np.inf
        if high[t] > bracket_high:
            bracket_high = high[t]
        if low[t] < bracket_low:
            bracket_low = low[t]
        if not ends[t] or np.isnan(close[t]):
            continue
        outer_high, outer_low = max(outer_high, bracket_high), min(outer_low, bracket_low)
        inner_high, inner_low = max(inner_high, bracket_high), min(inner_low, bracket_low)
        now = 1 if close[t] > top else -1 if close[t] < bottom else 0
        if now == 0:
            run += 1
            if side != 0 and run == closes:
                log[count, 0], log[count, 1], log[count, 2], log[count, 3] = 1, t, -side, start
                stops[count] = outer_high if side > 0 else outer_low
                count += 1
                side = 0
        else:
            entered = inner_low <= top if now > 0 else inner_high >= bottom
            if side == now and entered:
                log[count, 0], log[count, 1], log[count, 2], log[count, 3] = 2, t, now, start
                stops[count] = inner_low if now > 0 else inner_high
                count += 1
            side, run, start = now, 0, t
            outer_high, outer_low, inner_high, inner_low = bracket_high, bracket_low, -np.inf, np.inf
        bracket_high, bracket_low = -np.inf, np.inf
    return count
