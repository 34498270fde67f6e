"""Drawn Wolfe waves: by the published rules, and near-misses that break one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from tapeline.charts.synthetic import Case, Drawing, bars_through
from tapeline.charts.wolfe_waves import wolfe_wave

_LEG: Final = (24, 44)
"""Bars of a leg, from and to."""

_MARGIN: Final = 0.3
"""By how much a near-miss misses, in heights of the first leg; wider than any overshoot that the defaults allow."""


def drawings(count: int, *, noise: float = 0.0, seed: int = 0) -> list[Drawing]:
    """Bars through the five points of a wave, in both directions, of random size, slope and duration.

    Examples
    --------
    >>> [(drawing.kind, drawing.direction, len(drawing.points)) for drawing in drawings(2)]
    [('wolfe_wave', 1, 5), ('wolfe_wave', -1, 5)]
    """
    generator = np.random.default_rng(seed)
    return [_drawn("wolfe_wave", *_wave(generator), i, noise, generator) for i in range(count)]


def near_misses(count: int, *, seed: int = 0) -> list[Drawing]:
    """Five points that break one rule: 3 short of 1, 4 beyond 2 or 1, lines that part, 5 short of or far beyond.

    Examples
    --------
    >>> near_misses(1)[0].kind
    ''
    """
    generator = np.random.default_rng([seed, 1])
    breaks = (_third_short, _fourth_above, _fourth_below, _parting, _fifth_short, _fifth_beyond)
    result = []
    for i in range(count):
        rows, prices = _wave(generator)
        result.append(_drawn("", rows, breaks[i % len(breaks)](rows, prices), i, 0.0, generator))
    return result


def _wave(generator: np.random.Generator) -> tuple[list[int], list[float]]:
    """Rows and prices of the points 1 to 5 of a bullish wave whose leg from 1 to 2 goes from 0 to 1."""
    while True:
        rows = np.concatenate(([0], np.cumsum(generator.integers(*_LEG, 4)))).tolist()
        one, two = 0.0, 1.0
        three = -generator.uniform(0.1, 0.5)
        four = generator.uniform(0.2, 0.75)
        line = _at(rows, [one, three], (0, 2), rows[4])
        zone = _at([rows[1], rows[3]], [0.0, four - two], (0, 1), rows[1] + rows[4] - rows[2]) + three
        five = line + generator.uniform(0.2, 0.9) * (zone - line)
        lower, upper = (three - one) / (rows[2] - rows[0]), (four - two) / (rows[3] - rows[1])
        if upper < lower:
            arrival = (two - upper * rows[1] - one) / (lower - upper)
            if rows[4] + 30 < arrival < 3.5 * rows[4]:
                return rows, [one, two, three, four, five]


def _at(rows: Sequence[int], prices: Sequence[float], points: tuple[int, int], row: int) -> float:
    """The line through two points at a row; ``prices`` are those of the two."""
    first, last = rows[points[0]], rows[points[1]]
    return prices[0] + (prices[1] - prices[0]) * (row - first) / (last - first)


def _third_short(rows: Sequence[int], prices: Sequence[float]) -> list[float]:
    one, two, _, four, five = prices
    return [one, two, one + 0.15, max(four, 0.6), five]


def _fourth_above(rows: Sequence[int], prices: Sequence[float]) -> list[float]:
    one, two, three, _, five = prices
    return [one, two, three, two + _MARGIN, five]


def _fourth_below(rows: Sequence[int], prices: Sequence[float]) -> list[float]:
    one, two, three, _, five = prices
    return [one, two, three - _MARGIN, one - 0.1, min(five, three - 2.0 * _MARGIN)]


def _parting(rows: Sequence[int], prices: Sequence[float]) -> list[float]:
    one, two, _, _, _ = prices
    three = -0.9
    four = 0.85
    return [one, two, three, four, _at(rows, [one, three], (0, 2), rows[4]) - 0.1]


def _fifth_short(rows: Sequence[int], prices: Sequence[float]) -> list[float]:
    one, two, three, four, _ = prices
    line = _at(rows, [one, three], (0, 2), rows[4])
    return [one, two, three, max(four, line + 3.0 * _MARGIN), line + _MARGIN]


def _fifth_beyond(rows: Sequence[int], prices: Sequence[float]) -> list[float]:
    one, two, three, four, _ = prices
    slope = (four - two) / (rows[3] - rows[1])
    return [one, two, three, four, three + slope * (rows[4] - rows[2]) - 2.0 * _MARGIN]


def _drawn(
    kind: str, rows: Sequence[int], prices: Sequence[float], number: int, noise: float, generator: np.random.Generator
) -> Drawing:
    direction = 1 if number % 2 == 0 else -1
    lead = int(generator.integers(30, 50))
    path = np.array([generator.uniform(0.8, 1.4), *prices, prices[-1] + generator.uniform(0.35, 0.5)])
    times = np.array([0, *(lead + np.array(rows)), lead + rows[-1] + 14])
    scale = 10.0 ** generator.uniform(-1.0, 4.0)
    move = generator.uniform(0.01, 0.1)
    shape = scale * (1.0 + move * direction * path)
    corners = [(int(row), float(price)) for row, price in zip(times, shape, strict=True)]
    bars = bars_through(corners, noise=noise, seed=int(generator.integers(2**31)))
    return Drawing(bars, kind, direction, tuple(corners[1:-1]))


CASES: Final[Mapping[str, Case]] = {"wolfe_wave": Case(wolfe_wave, drawings, near_misses)}
"""By kind."""
