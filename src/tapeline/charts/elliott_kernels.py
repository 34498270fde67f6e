"""Kernels that go through pivots and say which waves end at each, by the rules, with the score of the guidelines.

They call the functions of the two tables one by one; a test holds them against the tables.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from tapeline.charts import elliott_guidelines as says
from tapeline.charts import elliott_rules as keeps
from tapeline.charts.elliott_rules import KINDS

_WEIGHTS: Final = tuple(says.weights_of(kind) for kind in KINDS)
_WIDTH: Final = 10
"""Pivots looked at: those of a combination and two before it."""

IMPULSE, LEADING, ENDING, ZIGZAG, REGULAR, EXPANDED, RUNNING, TRIANGLE, COMBINATION = range(9)
_IMPULSE_W, _LEADING_W, _ENDING_W, _ZIGZAG_W, _REGULAR_W, _EXPANDED_W, _RUNNING_W, _TRIANGLE_W, _COMBINATION_W = (
    _WEIGHTS
)


@njit(cache=True, nogil=True)
def motive_kind(p: Any, q: Any, context: Any) -> Any:
    """Which five-wave form six signed pivots are, -1 none; a diagonal needs the two pivots before it."""
    if not (
        keeps.wave_two_holds_the_start(p, q)
        and keeps.wave_three_passes_wave_one(p, q)
        and keeps.wave_five_passes_wave_three(p, q)
        and keeps.wave_three_is_not_the_shortest(p, q)
    ):
        return -1
    if keeps.wave_four_is_clear_of_wave_one(p, q):
        return IMPULSE
    if not (
        context
        and keeps.wave_four_overlaps_wave_one(p, q)
        and keeps.wave_four_holds_wave_two(p, q)
        and keeps.diagonal_thrusts_shrink(p, q)
        and keeps.diagonal_returns_shrink(p, q)
    ):
        return -1
    if keeps.leading_starts_a_move(p, q):
        return LEADING
    return ENDING if keeps.ending_ends_a_move(p, q) else -1


@njit(cache=True, nogil=True)
def three_kind(p: Any, q: Any) -> Any:
    """Which three-wave form four signed pivots are, wherever they stand; -1 none."""
    if not (keeps.c_at_least(p, q) and keeps.c_at_most(p, q)):
        return -1
    if keeps.zigzag_b_at_most(p, q):
        return ZIGZAG if keeps.zigzag_b_at_least(p, q) and keeps.c_passes_a(p, q) else -1
    if not keeps.flat_b_at_least(p, q):
        return -1
    if keeps.regular_b_at_most(p, q):
        return REGULAR if keeps.c_passes_a(p, q) else -1
    if not (keeps.b_passes_the_start(p, q) and keeps.b_at_most(p, q)):
        return -1
    return EXPANDED if keeps.c_passes_a(p, q) else RUNNING


@njit(cache=True, nogil=True)
def is_triangle(p: Any, q: Any) -> Any:
    """Whether six signed pivots are a contracting triangle."""
    return (
        keeps.correction_stays_within_the_move(p, q)
        and keeps.triangle_b_at_most(p, q)
        and keeps.triangle_c_holds_a(p, q)
        and keeps.triangle_d_holds_b(p, q)
        and keeps.triangle_e_holds_c(p, q)
    )


@njit(cache=True, nogil=True)
def is_combination(p: Any, q: Any) -> Any:
    """Whether eight signed pivots are two corrections joined by a third."""
    return (
        keeps.x_at_least(p, q)
        and keeps.x_is_no_new_trend(p, q)
        and keeps.correction_stays_within_the_move(p, q)
        and three_kind(p[:4], q) >= 0
        and three_kind(p[4:], q) >= 0
        and keeps.double_zigzag_goes_on(p, q)
    )


@njit(cache=True, nogil=True)
def legs_within(first: Any, last: Any, known: Any, sign: Any, below: Any) -> Any:
    """How many legs the degree below had confirmed between two rows by ``known``, and whether five are an impulse.

    ``below`` is (row, confirmed, price) of its pivots; (0, False) where it has no pivots at both rows.
    """
    row, confirmed, price = below
    begin, end = np.searchsorted(row, first), np.searchsorted(row, last)
    if end >= row.size or row[begin] != first or row[end] != last or confirmed[end] > known:
        return 0, False
    legs = end - begin
    if legs != 5:
        return legs, False
    p = sign * price[begin : end + 1]
    return legs, motive_kind(p, p[:2], False) == IMPULSE


@njit(cache=True, nogil=True)
def _mean_volume(volume: Any, first: Any, last: Any) -> Any:
    total = 0.0
    for t in range(first + 1, last + 1):
        total += volume[t]
    return total / (last - first) if last > first else math.nan


@njit(cache=True, nogil=True)
def _weighted(values: Any, weights: Any) -> Any:
    total, weight = 0.0, 0.0
    for k in range(weights.size):
        if not math.isnan(values[k]):
            total += weights[k] * values[k]
            weight += weights[k]
    return total / weight if weight > 0.0 else math.nan


@njit(cache=True, nogil=True)
def score_of(code: Any, p: Any, r: Any, volume: Any, known: Any, sign: Any, below: Any, g: Any) -> Any:
    """The mean of a finished wave's guidelines by weight, over those that can be measured; ``g`` is scratch."""
    if code <= ENDING:
        v = np.empty(5)
        for k in range(5):
            v[k] = _mean_volume(volume, r[k], r[k + 1])
        legs, lawful = legs_within(r[2], r[3], known, sign, below)
        if code != IMPULSE:
            g[0], g[1] = says.diagonal_depths(p, r, v), says.volume_of_the_waves(p, r, v)
            g[2] = says.five_within(legs, lawful) if code == LEADING else says.three_within(legs, lawful)
            return _weighted(g, _LEADING_W if code == LEADING else _ENDING_W)
        g[0], g[1] = says.wave_two_depth(p, r, v), says.wave_three_multiple(p, r, v)
        g[2], g[3] = says.wave_four_depth(p, r, v), says.wave_five_multiple(p, r, v)
        g[4], g[5] = says.wave_equality(p, r, v), says.alternation(p, r, v)
        g[6], g[7] = says.channelling(p, r, v), says.volume_of_the_waves(p, r, v)
        g[8] = says.five_within(legs, lawful)
        return _weighted(g, _IMPULSE_W)
    if code == COMBINATION:
        g[0], g[1] = says.y_multiple(p, r, g), says.x_depth(p, r, g)
        return _weighted(g, _COMBINATION_W)
    first, law = legs_within(r[0], r[1], known, sign, below)
    if code == TRIANGLE:
        g[0], g[1] = says.triangle_alternate_legs(p, r, g), says.triangle_e_at_the_line(p, r, g)
        g[2] = says.three_within(first, law)
        return _weighted(g, _TRIANGLE_W)
    third, lawful = legs_within(r[2], r[3], known, sign, below)
    last = says.five_within(third, lawful)
    if code == ZIGZAG:
        g[0], g[1] = says.zigzag_b_depth(p, r, g), says.zigzag_c_multiple(p, r, g)
        g[2], g[3], g[4] = says.zigzag_channel(p, r, g), says.five_within(first, law), last
        return _weighted(g, _ZIGZAG_W)
    three = says.three_within(first, law)
    if code == REGULAR:
        g[0], g[1], g[2] = says.regular_flat_equality(p, r, g), three, last
        return _weighted(g, _REGULAR_W)
    g[0], g[2], g[3] = says.wide_flat_b(p, r, g), three, last
    if code == EXPANDED:
        g[1] = says.expanded_flat_c(p, r, g)
        return _weighted(g, _EXPANDED_W)
    g[1] = says.running_flat_c(p, r, g)
    return _weighted(g, _RUNNING_W)


@njit(cache=True, nogil=True)
def _target(code: Any, p: Any) -> Any:
    if code == IMPULSE:
        return p[4]
    if code == LEADING:
        return p[5] - 0.618 * (p[5] - p[0])
    if code == TRIANGLE:
        return p[5] - max(p[1] - p[0], p[1] - p[2])
    return p[0]


@njit(cache=True, nogil=True)
def _log(code: Any, i: Any, points: Any, p: Any, r: Any, volume: Any, pivots: Any, below: Any, g: Any, log: Any) -> Any:
    """Append one finding to ``log``: numbers (code, index of the last pivot, pivots), prices (score, target, stop)."""
    numbers, prices, count = log
    sign = pivots[2][i]
    known = pivots[1][i]
    numbers[count, 0], numbers[count, 1], numbers[count, 2] = code, i, points
    prices[count, 0] = score_of(code, p, r, volume, known, sign, below, g)
    prices[count, 1] = sign * _target(code, p)
    prices[count, 2] = sign * (p[3] if code == TRIANGLE else p[points - 1])
    return count + 1


@njit(cache=True, nogil=True)
def find_waves(pivots: Any, below: Any, volume: Any, numbers: Any, prices: Any) -> Any:
    """Every wave that ends at a pivot, in the order of the pivots; how many were written.

    Parameters
    ----------
    pivots:
        (row, confirmed, side, price) of the degree.
    below:
        (row, confirmed, price) of the degree below.
    numbers, prices:
        Filled: at most four lines a pivot.
    """
    row, _, side, price = pivots
    p, r, g = np.full(_WIDTH, np.nan), np.zeros(_WIDTH, np.int64), np.empty(_WIDTH)
    # Views on the same pivots, made once: the last four, six and eight of them, and the two before each.
    four, six, eight = (p[6:], r[6:]), (p[4:], r[4:]), (p[2:], r[2:])
    before_four, before_six, before_eight = p[4:6], p[2:4], p[:2]
    count = 0
    for i in range(4, row.size):
        for k in range(max(0, _WIDTH - 1 - i), _WIDTH):
            j = i - _WIDTH + 1 + k
            p[k], r[k] = side[i] * price[j], row[j]
        if i >= 5:
            # Numbers that are written down would have each call compiled by itself.
            code = motive_kind(six[0], before_six, i >= 7)
            if code >= 0:
                count = _log(code, i, np.int64(6), six[0], six[1], volume, pivots, below, g, (numbers, prices, count))
        if keeps.correction_stays_within_the_move(four[0], before_four):
            code = three_kind(four[0], before_four)
            if code >= 0:
                count = _log(code, i, np.int64(4), four[0], four[1], volume, pivots, below, g, (numbers, prices, count))
        if i >= 6 and is_triangle(six[0], before_six):
            count = _log(
                np.int64(TRIANGLE), i, np.int64(6), six[0], six[1], volume, pivots, below, g, (numbers, prices, count)
            )
        if i >= 8 and is_combination(eight[0], before_eight):
            count = _log(
                np.int64(COMBINATION),
                i,
                np.int64(8),
                eight[0],
                eight[1],
                volume,
                pivots,
                below,
                g,
                (numbers, prices, count),
            )
    return count


@njit(cache=True, nogil=True)
def told_below(numbers: Any, row: Any, confirmed: Any, lower: Any, lower_row: Any, lower_confirmed: Any) -> Any:
    """Which findings the degree below had told by then: the same kind through the same rows.

    ``numbers`` and ``lower`` are what :func:`find_waves` wrote for each degree.
    """
    result = np.zeros(numbers.shape[0], np.bool_)
    j = 0
    for i in range(numbers.shape[0]):
        last = numbers[i, 1]
        while j < lower.shape[0] and lower_row[lower[j, 1]] < row[last]:
            j += 1
        k = j
        while k < lower.shape[0] and lower_row[lower[k, 1]] == row[last]:
            same = lower[k, 0] == numbers[i, 0] and lower_confirmed[lower[k, 1]] <= confirmed[last]
            for back in range(numbers[i, 2]):
                if same and lower_row[lower[k, 1] - back] != row[last - back]:
                    same = False
            if same:
                result[i] = True
            k += 1
    return result
