"""Kernels over pivots: which runs have the ratios of which pattern, where D may lie, and which target is still ahead.

Depth is the length of CD: how far price goes from C towards D. All ratios that place D, of whatever leg, become one
interval of depth, and the zone of a pattern is what these intervals have in common.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

_KNOWN_AT_C: Final = 4
_TINY: Final = 1e-12


@njit(cache=True, nogil=True, inline="always")
def _closeness(value: Any, low: Any, high: Any, tolerance: Any) -> Any:
    """1 within the published bounds, 0 at the edge of the tolerance, negative beyond it."""
    if value < low:
        return 1.0 - (1.0 - value / low) / tolerance
    if value > high:
        return 1.0 - (value / high - 1.0) / tolerance
    return 1.0


@njit(cache=True, nogil=True)
def _known(price: Any, c: Any, points: Any, legs: Any, known: Any) -> None:
    """The legs up to pivot ``c`` (OX XA AB BC XC, zero where there is none) and the ratios known with it."""
    legs[3] = abs(price[c] - price[c - 1])
    legs[2] = abs(price[c - 1] - price[c - 2])
    legs[1] = abs(price[c - 2] - price[c - 3]) if points >= 5 else 0.0
    legs[0] = abs(price[c - 3] - price[c - 4]) if points >= 6 else 0.0
    legs[4] = abs(price[c] - price[c - 3]) if points >= 5 else 0.0
    known[0] = legs[1] / legs[0] if legs[0] > 0.0 else np.nan
    known[1] = legs[2] / legs[1] if legs[1] > 0.0 else np.nan
    known[2] = legs[3] / legs[2] if legs[2] > 0.0 else np.nan
    known[3] = legs[4] / legs[1] if legs[1] > 0.0 else np.nan


@njit(cache=True, nogil=True, inline="always")
def _depth(ratio: Any, which: Any, legs: Any, retraced: Any) -> Any:
    """The depth at which ratio ``which`` has a value; ``retraced`` is how far C lies from A towards D."""
    if which == 4:
        return ratio * legs[1] - retraced
    if which == 5:
        return ratio * legs[3]
    if which == 6:
        return ratio * legs[2]
    return ratio * legs[4]


@njit(cache=True, nogil=True)
def _zone(low: Any, high: Any, k: Any, tolerance: Any, legs: Any, known: Any, retraced: Any) -> Any:
    """(near, far, sum of closeness, ratios demanded) of pattern ``k`` with its ratios up to C; far < near: none."""
    total, count = 0.0, 0
    for j in range(_KNOWN_AT_C):
        if np.isnan(low[k, j]):
            continue
        if np.isnan(known[j]):
            return 1.0, 0.0, 0.0, 0
        close = _closeness(known[j], low[k, j], high[k, j], tolerance)
        if close < -_TINY:
            return 1.0, 0.0, 0.0, 0
        total += max(close, 0.0)
        count += 1
    near, far = 0.0, np.inf
    for j in range(_KNOWN_AT_C, low.shape[1]):
        if not np.isnan(low[k, j]):
            near = max(near, _depth(low[k, j] * (1.0 - tolerance), j, legs, retraced))
            far = min(far, _depth(high[k, j] * (1.0 + tolerance), j, legs, retraced))
    return near, far, total, count


@njit(cache=True, nogil=True)
def _reached(high: Any, low: Any, begin: Any, end: Any, side: Any) -> Any:
    """The highest high (``side`` 1) or lowest low (-1) of the rows ``begin`` to ``end``; no trade at all: infinite."""
    best = -np.inf
    for t in range(begin, end):
        best = max(best, high[t] if side > 0 else -low[t])
    return side * best


@njit(cache=True, nogil=True)
def _target(price: Any, d: Any, where: Any, leg: Any, targets: Any, points: Any, reached: Any, side: Any) -> Any:
    """The nearest target above (``side`` 1) or below ``where`` that price had not ``reached`` yet; NaN: none."""
    if leg == 0:
        length = abs(where - price[d - 3])
    elif leg == 1:
        length = abs(where - price[d - 1])
    else:
        length = abs(where - price[d - points + 1])
    for share in targets:
        level = where + side * share * length
        if side * (level - reached) > 0.0:
            return level
    return np.nan


@njit(cache=True, nogil=True)
def formed_patterns(
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    bar_high: Any,
    bar_low: Any,
    points: Any,
    low: Any,
    high: Any,
    leg: Any,
    targets: Any,
    stop_at_x: Any,
    tolerance: Any,
    exclusive: Any,
) -> Any:
    """The patterns that each pivot completes as its D: of those with at least ``exclusive`` points the best one.

    Returns
    -------
    (pattern, pivot of D) as int64 of shape (found, 2), and (low, high, target, stop, score) as float64.
    """
    kinds = points.size
    where, values = np.empty((2 * row.size, 2), np.int64), np.empty((2 * row.size, 5))
    legs, known = np.zeros(5), np.zeros(4)
    count = 0
    for d in range(3, row.size):
        best, best_score = -1, -1.0
        near_best, far_best = 0.0, 0.0
        c, turn = d - 1, -float(side[d])
        depth = abs(price[d] - price[c])
        before = 0
        for k in range(kinds):
            if points[k] > d + 1:
                continue
            if points[k] != before:
                _known(price, c, points[k], legs, known)
                before = points[k]
            retraced = turn * (price[c - 2] - price[c])
            near, far, total, demanded = _zone(low, high, k, tolerance, legs, known, retraced)
            slack = _TINY * depth
            if demanded == 0 or depth < near - slack or depth > far + slack:
                continue
            for j in range(_KNOWN_AT_C, low.shape[1]):
                if np.isnan(low[k, j]):
                    continue
                # Depth is ratio times length less what A lies beyond C: solved for the ratio.
                unit = _depth(1.0, j, legs, 0.0)
                offset = _depth(0.0, j, legs, retraced)
                total += max(_closeness((depth - offset) / unit, low[k, j], high[k, j], tolerance), 0.0)
                demanded += 1
            score = total / demanded
            if points[k] >= exclusive and score <= best_score:
                continue
            if points[k] >= exclusive:
                best, best_score, near_best, far_best = k, score, near, far
                continue
            count = _keep(where, values, count, k, d, near, far, score, price, turn)
        if best >= 0:
            count = _keep(where, values, count, best, d, near_best, far_best, best_score, price, turn)
    for i in range(count):
        k, d = where[i, 0], where[i, 1]
        turn = -float(side[d])
        reached = _reached(bar_high, bar_low, row[d] + 1, confirmed[d] + 1, turn)
        values[i, 2] = _target(price, d, price[d], leg[k], targets[k], points[k], reached, turn)
        values[i, 3] = price[d - 4] if stop_at_x[k] else values[i, 0] if turn > 0.0 else values[i, 1]
    return where[:count], values[:count]


@njit(cache=True, nogil=True, inline="always")
def _keep(
    where: Any, values: Any, count: Any, k: Any, d: Any, near: Any, far: Any, score: Any, price: Any, turn: Any
) -> Any:
    where[count, 0], where[count, 1] = k, d
    one, other = price[d - 1] - turn * near, price[d - 1] - turn * far
    values[count, 0], values[count, 1], values[count, 4] = min(one, other), max(one, other), score
    return count + 1


@njit(cache=True, nogil=True)
def forming_patterns(
    row: Any,
    confirmed: Any,
    side: Any,
    price: Any,
    bar_high: Any,
    bar_low: Any,
    points: Any,
    low: Any,
    high: Any,
    defining: Any,
    leg: Any,
    targets: Any,
    stop_at_x: Any,
    tolerance: Any,
) -> Any:
    """The patterns that each pivot may be the C of, with a zone for D that price has not reached when C is known.

    Returns
    -------
    (pattern, pivot of C) as int64 of shape (found, 2), and (low, high, target, stop, score, completion) as float64.
    """
    kinds = points.size
    where, values = np.empty((kinds * row.size, 2), np.int64), np.empty((kinds * row.size, 6))
    legs, known, extended = np.zeros(5), np.zeros(4), np.zeros(6)
    count = 0
    for c in range(2, row.size):
        # A low for D is approached from a high C: price turns up there.
        turn = float(side[c])
        travelled = turn * (price[c] - _reached(bar_high, bar_low, row[c] + 1, confirmed[c] + 1, -turn))
        before = 0
        for k in range(kinds):
            if points[k] > c + 2:
                continue
            if points[k] != before:
                _known(price, c, points[k], legs, known)
                before = points[k]
            retraced = turn * (price[c - 2] - price[c])
            near, far, total, demanded = _zone(low, high, k, tolerance, legs, known, retraced)
            if demanded == 0 or far < near or near <= travelled:
                continue
            depth = min(max(_depth(low[k, defining[k]], defining[k], legs, retraced), near), far)
            completion = price[c] - turn * depth
            count = _keep(where, values, count, k, c + 1, near, far, total / demanded, price, turn)
            i = count - 1
            where[i, 1] = c
            # The target is reckoned from D as projected: the pivots O to C, then D.
            first = c - points[k] + 2
            extended[: points[k] - 1] = price[first : c + 1]
            values[i, 2] = _target(
                extended, points[k] - 1, completion, leg[k], targets[k], points[k], -turn * np.inf, turn
            )
            values[i, 3] = price[c - 3] if stop_at_x[k] else values[i, 0] if turn > 0.0 else values[i, 1]
            values[i, 5] = completion
    return where[:count], values[:count]
