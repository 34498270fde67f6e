"""Kernels of fractal dimension over rolling windows, and of the search for an earlier sequence of legs of one shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def rolling_higuchi(values: Any, window: Any, longest: Any) -> Any:
    """Higuchi's dimension of each last ``window`` values, from curves of every 1 to ``longest`` values.

    NaN in the first ``window - 1`` rows and where a curve has no length.

    Examples
    --------
    >>> rolling_higuchi(np.arange(20.0), 16, 4)[-1].round(6).item()
    1.0
    """
    rows = values.size
    result = np.full(rows, np.nan)
    steps = np.arange(1.0, longest + 1.0)
    across = np.log(1.0 / steps)
    centred = across - across.mean()
    squares = (centred * centred).sum()
    for t in range(window - 1, rows):
        first, total, valid = t - window + 1, 0.0, True
        for k in range(1, longest + 1):
            length = 0.0
            for m in range(k):
                jumps = (window - 1 - m) // k
                walked = 0.0
                for j in range(1, jumps + 1):
                    walked += abs(values[first + m + j * k] - values[first + m + (j - 1) * k])
                length += walked * (window - 1.0) / (jumps * k) / k
            # Not greater than zero also where a value is missing.
            if not length > 0.0:
                valid = False
                break
            total += centred[k - 1] * np.log(length / k)
        if valid:
            result[t] = total / squares
    return result


@njit(cache=True, nogil=True)
def rolling_sevcik(values: Any, window: Any) -> Any:
    """Sevcik's dimension of each last ``window`` values: the length of the curve in the unit square.

    NaN in the first ``window - 1`` rows and where all values are the same.

    Examples
    --------
    >>> rolling_sevcik(np.arange(20.0), 16)[-1].round(3).item()
    1.102
    """
    rows = values.size
    result = np.full(rows, np.nan)
    across = 1.0 / (window - 1.0)
    for t in range(window - 1, rows):
        first = t - window + 1
        most, least = values[first], values[first]
        for j in range(first + 1, t + 1):
            most, least = max(most, values[j]), min(least, values[j])
        tall = most - least
        if not tall > 0.0:
            continue
        length = 0.0
        for j in range(first + 1, t + 1):
            up = (values[j] - values[j - 1]) / tall
            length += np.sqrt(across * across + up * up)
        result[t] = 1.0 + np.log(length) / np.log(2.0 * (window - 1.0))
    return result


@njit(cache=True, nogil=True)
def rolling_katz(values: Any, window: Any) -> Any:
    """Katz' dimension of each last ``window`` values, with distances along the values only.

    NaN in the first ``window - 1`` rows and where all values are the same.

    Examples
    --------
    >>> rolling_katz(np.arange(20.0), 16)[-1].round(6).item()
    1.0
    """
    rows = values.size
    result = np.full(rows, np.nan)
    steps = np.log(window - 1.0)
    for t in range(window - 1, rows):
        first, length, farthest = t - window + 1, 0.0, 0.0
        for j in range(first + 1, t + 1):
            length += abs(values[j] - values[j - 1])
            farthest = max(farthest, abs(values[j] - values[first]))
        if farthest > 0.0:
            result[t] = steps / (steps + np.log(farthest / length))
    return result


@njit(cache=True, nogil=True)
def leg_shapes(price: Any, row: Any, legs: Any) -> Any:
    """The shape of each run of so many legs: each leg's share of all height, then its share of all bars.

    Shape (runs, 2 * legs); run ``i`` ends at pivot ``i + legs``. Heights have no sign: a run and its mirror are alike.
    """
    runs = max(0, price.size - legs)
    shapes = np.empty((runs, 2 * legs))
    for i in range(runs):
        tall, long = 0.0, 0.0
        for j in range(legs):
            shapes[i, j] = abs(price[i + j + 1] - price[i + j])
            shapes[i, legs + j] = row[i + j + 1] - row[i + j]
            tall += shapes[i, j]
            long += shapes[i, legs + j]
        for j in range(legs):
            shapes[i, j] = shapes[i, j] / tall if tall > 0.0 else np.nan
            shapes[i, legs + j] /= long
    return shapes


@njit(cache=True, nogil=True)
def range_outcomes(close: Any, confirmed: Any, price: Any, legs: Any, max_wait: Any) -> Any:
    """What followed each run: the first close beyond its last leg's range after it was known.

    Returns the direction of that close (0 while there is none within ``max_wait`` bars) and its row.
    """
    runs = max(0, price.size - legs)
    way, at = np.zeros(runs, np.int64), np.full(runs, -1)
    for i in range(runs):
        last = i + legs
        top, bottom = max(price[last], price[last - 1]), min(price[last], price[last - 1])
        for t in range(confirmed[last], min(close.size, confirmed[last] + max_wait + 1)):
            if close[t] > top or close[t] < bottom:
                way[i], at[i] = (1 if close[t] > top else -1), t
                break
    return way, at


@njit(cache=True, nogil=True)
def nearest_earlier(
    shapes: Any,
    first: Any,
    known: Any,
    earlier: Any,
    earlier_first: Any,
    earlier_known: Any,
    outcome_at: Any,
    bound: Any,
    memory: Any,
) -> Any:
    """For each run the earlier one of the nearest shape: its place (-1 none) and the distance.

    Distance is the mean of two total variations, that of the shares of height and that of the shares of bars: half the
    sum of their absolute differences, 0 for one shape and at most 1. An earlier run must have ended, its last pivot
    confirmed, before this one began; what followed it must have been known when this one is; and it must begin at most
    ``memory`` bars before that.
    """
    runs, width = shapes.shape
    place, distance = np.full(runs, -1), np.full(runs, np.nan)
    begin, following = 0, 0
    for i in range(runs):
        while following < earlier_known.size and earlier_known[following] < first[i]:
            following += 1
        while begin < following and earlier_first[begin] < known[i] - memory:
            begin += 1
        best = bound
        for j in range(begin, following):
            if outcome_at[j] < 0 or outcome_at[j] > known[i]:
                continue
            total = 0.0
            for c in range(width):
                total += abs(shapes[i, c] - earlier[j, c])
                if total * 0.25 > best:
                    break
            total *= 0.25
            # Of two equally near the newer one.
            if total <= best:
                best, place[i] = total, j
        if place[i] >= 0:
            distance[i] = best
    return place, distance
