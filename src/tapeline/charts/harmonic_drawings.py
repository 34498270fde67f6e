"""Drawn harmonic patterns: with the published ratios, and near-misses that break one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from tapeline.charts.harmonic_ratios import PATTERNS, HarmonicRatios, Ratio
from tapeline.charts.harmonics import harmonic_pattern
from tapeline.charts.synthetic import Case, Drawing, bars_through

_FREE: Final[Mapping[Ratio, tuple[float, float]]] = {"XA/OX": (0.5, 1.5), "AB/XA": (0.4, 0.6)}
"""Where a pattern leaves a ratio open that its drawing needs."""

_BARS_A_LEG: Final = 45
_SHORTEST_LEG: Final = 9


def ratios_of(prices: Sequence[float]) -> dict[Ratio, float]:
    """The ratios of the prices O X A B C D.

    Examples
    --------
    >>> round(ratios_of([103.0, 100.0, 110.0, 104.0, 108.0, 102.0])["AD/XA"], 3)
    0.8
    """
    o, x, a, b, c, d = prices
    legs = {"OX": x - o, "XA": a - x, "AB": b - a, "BC": c - b, "CD": d - c, "XC": c - x, "AD": d - a}
    size = {name: abs(value) for name, value in legs.items()}
    return {
        "XA/OX": size["XA"] / size["OX"],
        "AB/XA": size["AB"] / size["XA"],
        "BC/AB": size["BC"] / size["AB"],
        "XC/XA": size["XC"] / size["XA"],
        "AD/XA": size["AD"] / size["XA"],
        "CD/BC": size["CD"] / size["BC"],
        "CD/AB": size["CD"] / size["AB"],
        "CD/XC": size["CD"] / size["XC"],
    }


def drawings(kind: str, count: int, *, noise: float = 0.0, seed: int = 0) -> list[Drawing]:
    """Bars through points with the published ratios, in both directions, of random size and duration.

    Ratios for which a range is published are drawn from it; one for which a number is published has it.

    Examples
    --------
    >>> [(drawing.kind, drawing.direction, len(drawing.points)) for drawing in drawings("crab", 2)]
    [('crab', 1, 5), ('crab', -1, 5)]
    """
    generator = np.random.default_rng([seed, *kind.encode()])
    return [_drawn(kind, _fitting(kind, generator), i, noise, generator) for i in range(count)]


def near_misses(kind: str, count: int, *, seed: int = 0, tolerance: float = 0.05) -> list[Drawing]:
    """The same with one ratio out of the tolerance, by two to four times the tolerance at its drawing.

    Examples
    --------
    >>> near_misses("crab", 1)[0].kind
    ''
    """
    generator = np.random.default_rng([seed, 1, *kind.encode()])
    result: list[Drawing] = []
    while len(result) < count:
        prices = _missing(kind, generator, tolerance)
        if prices is not None:
            result.append(_drawn("", prices, len(result), 0.0, generator, PATTERNS[kind].points))
    return result


def _fitting(kind: str, generator: np.random.Generator) -> list[float]:
    pattern = PATTERNS[kind]
    while True:
        prices = _prices(pattern, {}, generator)
        if prices is not None and _holds(pattern, prices, 0.0):
            return prices


def _missing(kind: str, generator: np.random.Generator, tolerance: float) -> list[float] | None:
    pattern = PATTERNS[kind]
    named = [ratio for ratio in pattern.bounds if ratio not in ("CD/BC", "CD/AB") or ratio == pattern.defining]
    ratio = named[generator.integers(len(named))]
    least, greatest = pattern.bounds[ratio]
    off = tolerance * generator.uniform(2.0, 4.0)
    value = least * (1.0 - off) if generator.random() < 0.5 else greatest * (1.0 + off)
    prices = _prices(pattern, {ratio: value}, generator)
    return None if prices is None or _holds(pattern, prices, 1.5 * tolerance) else prices


def _holds(pattern: HarmonicRatios, prices: Sequence[float], tolerance: float) -> bool:
    found = ratios_of(prices)
    slack = tolerance + 1e-9
    return all(
        least * (1.0 - slack) <= found[ratio] <= greatest * (1.0 + slack)
        for ratio, (least, greatest) in pattern.bounds.items()
    )


def _prices(
    pattern: HarmonicRatios, given: Mapping[Ratio, float], generator: np.random.Generator
) -> list[float] | None:
    """O X A B C D of a pattern that ends in a low, with XA from 0 to 1; None where the ratios give no zigzag."""

    def ratio(name: Ratio) -> float:
        least, greatest = pattern.bounds.get(name) or _FREE[name]
        return given.get(name) or float(generator.uniform(least, greatest))

    before = 1.0 / ratio("XA/OX")
    back = ratio("AB/XA") if pattern.points > 4 else 1.0
    b = 1.0 - back
    c = ratio("XC/XA") if "XC/XA" in pattern.bounds else b + back * ratio("BC/AB")
    where = {"AD/XA": (1.0, 1.0), "CD/BC": (c, c - b), "CD/AB": (c, back), "CD/XC": (c, c)}
    origin, unit = where[pattern.defining]
    d = origin - ratio(pattern.defining) * unit
    prices = [before, 0.0, 1.0, b, c, d]
    moves = np.diff(prices)
    proper = (moves[::2] < 0.0).all() and (moves[1::2] > 0.0).all() and np.abs(moves[1:]).min() > 0.05
    return prices if proper else None


def _drawn(
    kind: str, prices: Sequence[float], number: int, noise: float, generator: np.random.Generator, points: int = 0
) -> Drawing:
    points = points or PATTERNS[kind].points
    direction = 1 if number % 2 == 0 else -1
    kept = np.array(prices[-points:])
    # A way in that ends at the first point, and a way out that confirms the last.
    height = float(np.ptp(kept))
    way_in = kept[0] + np.sign(kept[0] - kept[1]) * generator.uniform(-1.5, -0.8) * height
    way_out = kept[-1] + generator.uniform(0.4, 0.6) * height
    path = np.array([way_in, *kept, way_out])
    lengths = np.abs(np.diff(path)) / float(np.abs(np.diff(kept)).max())
    bars = np.maximum(_SHORTEST_LEG, _BARS_A_LEG * lengths * generator.uniform(0.8, 1.25, lengths.size)).astype(int)
    rows = np.concatenate(([0], np.cumsum(bars)))
    scale = 10.0 ** generator.uniform(-1.0, 4.0)
    move = generator.uniform(0.01, 0.08)
    shape = scale * (1.0 + move * direction * (path - path[0]))
    corners = [(int(row), float(price)) for row, price in zip(rows, shape, strict=True)]
    drawn = bars_through(corners, noise=noise, seed=int(generator.integers(2**31)))
    return Drawing(drawn, kind, direction, tuple(corners[1:-1]))


CASES: Final[Mapping[str, Case]] = {
    kind: Case(harmonic_pattern, partial(drawings, kind), partial(near_misses, kind)) for kind in PATTERNS
}
"""By kind."""
