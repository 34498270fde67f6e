"""Drawn levels, their breaks and their flips, to measure the detectors of ``levels`` with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd

from tapeline.charts.levels import level_break, level_flip, support_resistance
from tapeline.charts.synthetic import Case, Drawing, bars_through

_LEG: Final = 12
"""Bars of a leg: more than two reaches, so that each turn is a swing, with a range that tolerances are shares of."""


def _path(turns: Sequence[float], generator: np.random.Generator) -> tuple[list[tuple[int, float]], int]:
    """A path through these heights with legs of random lengths, at a random price; how many legs up to the last."""
    scale, base = np.exp(generator.uniform(-5.0, 2.0)), np.exp(generator.uniform(0.0, 8.0))
    sign = 1 if generator.random() < 0.5 else -1
    row, points = 0, []
    for turn in turns:
        points.append((row, float(base + 40.0 * scale + sign * scale * turn)))
        row += int(generator.integers(_LEG, _LEG + 8))
    return points, sign


def with_wicks(bars: pd.DataFrame, points: Sequence[tuple[int, float]], share: float = 0.1) -> pd.DataFrame:
    """The bars with a small wick at each inner point, ``share`` of a usual range: one bar there is the extreme alone.

    Examples
    --------
    >>> points = [(0, 100.0), (4, 104.0), (6, 102.0)]
    >>> with_wicks(bars_through(points), points)["high"].round(2).tolist()[3:6]
    [103.0, 104.09, 104.0]
    """
    high, low = bars["high"].to_numpy().copy(), bars["low"].to_numpy().copy()
    wick = share * float((high - low).mean())
    for (_, before), (row, price) in pairwise(points[:-1]):
        if price > before:
            high[row] += wick
        else:
            low[row] -= wick
    return bars.assign(high=high, low=low)


def _wander(generator: np.random.Generator) -> list[float]:
    """Turns well below a level at 10, none near another."""
    return [0.0, 5.0 + generator.uniform(-0.3, 0.3), 1.0]


def _draw(
    kind: str,
    turns: Sequence[float],
    last: int,
    direction: int,
    noise: float,
    seed: int,
    generator: np.random.Generator,
) -> Drawing:
    points, sign = _path(turns, generator)
    bars = with_wicks(bars_through(points, noise=noise, seed=seed), points)
    return Drawing(bars, kind, sign * direction, tuple(points[: last + 1]))


def _touches(generator: np.random.Generator, spread: float) -> list[float]:
    """Three turns at 10 within ``spread``, with valleys at different depths between them."""
    tops = 10.0 + spread * generator.uniform(-0.5, 0.5, 3)
    valleys = np.array([2.0, 3.6]) + generator.uniform(-0.3, 0.3, 2)
    return [*_wander(generator), tops[0], valleys[0], tops[1], valleys[1], tops[2]]


def level_drawings(count: int, *, noise: float, seed: int) -> list[Drawing]:
    """Three turns at one price, above (resistance) or, mirrored, below it (support)."""
    generator = np.random.default_rng(seed)
    return [
        _draw("support_resistance", [*_touches(generator, 0.2), 5.2], 7, -1, noise, seed + i, generator)
        for i in range(count)
    ]


def level_near_misses(count: int, *, seed: int) -> list[Drawing]:
    """Three turns, each well beyond the last: lower highs that no level joins."""
    generator = np.random.default_rng(seed)
    result = []
    for i in range(count):
        step = generator.uniform(1.6, 2.2)
        turns = [0.0, 10.0, 0.5 + step, 10.0 - step, 1.2 + 2 * step, 10.0 - 2 * step, 4.0]
        result.append(_draw("", turns[:6], 5, -1, 0.0, seed + i, generator))
    return result


def break_drawings(count: int, *, noise: float, seed: int) -> list[Drawing]:
    """Three turns at one price and a leg that closes well beyond it."""
    generator = np.random.default_rng(seed)
    drawings = []
    for i in range(count):
        points, sign = _path([*_touches(generator, 0.2), 5.2, 16.0], generator)
        bars = with_wicks(bars_through(points, noise=noise, seed=seed + i), points)
        level, close = points[3][1], bars["close"].to_numpy()
        # The level may be as wide as half a usual range of the bars, which on such a path is a bar's step.
        width = 0.5 * float((bars["high"] - bars["low"]).mean())
        beyond = int(np.flatnonzero((sign * (close - level) > width) & (np.arange(close.size) > points[-2][0]))[0])
        drawings.append(Drawing(bars, "level_break", sign, (*points[:9], (beyond, float(close[beyond])))))
    return drawings


def break_near_misses(count: int, *, seed: int) -> list[Drawing]:
    """Three turns at one price and a fourth that stops at it too."""
    generator = np.random.default_rng(seed)
    return [
        _draw("", [*_touches(generator, 0.2), 5.2, 10.0, 6.5], 9, 1, 0.0, seed + i, generator) for i in range(count)
    ]


def flip_drawings(count: int, *, noise: float, seed: int) -> list[Drawing]:
    """Three turns at one price, a break, and a return to the price from beyond that turns again."""
    generator = np.random.default_rng(seed)
    drawings = []
    for i in range(count):
        turns = [*_touches(generator, 0.2), 5.2, 16.0, 10.0 + generator.uniform(0.0, 0.1), 15.0]
        drawings.append(_draw("level_flip", turns, 10, 1, noise, seed + i, generator))
    return drawings


def flip_near_misses(count: int, *, seed: int) -> list[Drawing]:
    """A broken level whose return turns well before it."""
    generator = np.random.default_rng(seed)
    return [
        _draw("", [*_touches(generator, 0.2), 5.2, 16.0, 12.6, 15.0], 10, 1, 0.0, seed + i, generator)
        for i in range(count)
    ]


CASES: Final[Mapping[str, Case]] = MappingProxyType(
    {
        "support_resistance": Case(support_resistance, level_drawings, level_near_misses),
        "level_break": Case(level_break, break_drawings, break_near_misses),
        "level_flip": Case(level_flip, flip_drawings, flip_near_misses),
    }
)
"""By kind, how it is measured."""
