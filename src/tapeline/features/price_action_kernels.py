"""Compiled loops behind the price action annotations: swings, breakouts and their retests.

Each reads a bounded number of bars back, so that a live tail gives what all history gives.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def swing_sequence(values: Floats, span: int, window: int) -> Floats:
    """At the bar that confirms a swing high: 1 where it is above the swing high before it, -1 where below, else 0.

    A swing high is a value above the ``span`` values before it and not below the ``span`` values after it; the last of
    those confirms it. Both swings lie within the last ``window`` values. For swing lows pass the negative of the lows
    and turn the sign. NaN for the first ``window - 1`` values.

    Examples
    --------
    >>> swing_sequence(np.array([1.0, 3.0, 1.0, 2.0, 4.0, 1.0]), 1, 6)
    array([nan, nan, nan, nan, nan,  1.])
    """
    result = np.full(values.size, np.nan)
    # The two newest confirmed swings, as rows; -1 where there is none.
    newest, before = -1, -1
    for i in range(values.size):
        middle = i - span
        confirmed = False
        if middle >= span:
            confirmed = True
            for j in range(1, span + 1):
                if not (values[middle] > values[middle - j]) or not (values[middle] >= values[middle + j]):
                    confirmed = False
                    break
        if confirmed:
            before, newest = newest, middle
        if i < window - 1:
            continue
        result[i] = 0.0
        # The swing before must be recognisable within the window alone: its own span before it included.
        if confirmed and before >= 0 and before - span > i - window:
            if values[newest] > values[before]:
                result[i] = 1.0
            elif values[newest] < values[before]:
                result[i] = -1.0
    return result


@njit(cache=True, nogil=True)
def breakouts(high: Floats, low: Floats, close: Floats, window: int) -> tuple[Floats, Floats]:
    """First closes beyond the extremes of the ``window`` bars before: 1 up, -1 down, 0 neither; and the level broken.

    First means that the close before was not beyond its own extremes in the same direction. NaN for the first
    ``window + 1`` bars; the level is NaN where nothing broke.

    Examples
    --------
    >>> side, level = breakouts(np.array([2.0, 2, 2, 4]), np.array([1.0, 1, 1, 2]), np.array([1.5, 1.5, 1.5, 3.5]), 2)
    >>> side, level
    (array([nan, nan, nan,  1.]), array([nan, nan, nan,  2.]))
    """
    side = np.full(close.size, np.nan)
    level = np.full(close.size, np.nan)
    was = 0
    for i in range(window, close.size):
        top, bottom = -np.inf, np.inf
        for j in range(i - window, i):
            top = max(top, high[j])
            bottom = min(bottom, low[j])
        now = 1 if close[i] > top else -1 if close[i] < bottom else 0
        if i > window:
            side[i] = now if now != was else 0
            if side[i] != 0:
                level[i] = top if now == 1 else bottom
        was = now
    return side, level


@njit(cache=True, nogil=True)
def retests(
    high: Floats, low: Floats, close: Floats, side: Floats, level: Floats, reach: Floats, within: int
) -> Floats:
    """At the bar that retested the newest breakout and held: the breakout's side, else 0.

    A retest is one of the ``within`` bars after the breakout's that comes within ``reach`` of the broken level and
    closes on the breakout's side of it; the first one counts, and none after a close on the level's other side. NaN
    where the breakouts of the last ``within`` bars are not all known.

    Examples
    --------
    >>> one = np.ones(3)
    >>> retests(one * 5, np.array([3.0, 4, 2.9]), one * 4, np.array([1.0, 0, 0]), one * 3, one * 0.1, 2)
    array([nan, nan,  1.])
    """
    result = np.full(close.size, np.nan)
    for i in range(within, close.size):
        if np.isnan(side[i - within]) or np.isnan(reach[i - within]):
            continue
        result[i] = 0.0
        broke = -1
        for j in range(i - 1, i - within - 1, -1):
            if side[j] != 0.0:
                broke = j
                break
        if broke < 0:
            continue
        price, direction = level[broke], side[broke]
        over = False
        for j in range(broke + 1, i):
            failed, touched = _meets(high[j], low[j], close[j], price, direction, reach[j])
            if failed or touched:
                over = True
                break
        if not over:
            failed, touched = _meets(high[i], low[i], close[i], price, direction, reach[i])
            if touched and not failed:
                result[i] = direction
    return result


@njit(cache=True, nogil=True)
def _meets(high: float, low: float, close: float, level: float, side: float, reach: float) -> tuple[bool, bool]:
    """Whether a bar closes on the wrong side of a broken level, and whether it comes near it."""
    if side > 0.0:
        return close <= level, low <= level + reach
    return close >= level, high >= level - reach
