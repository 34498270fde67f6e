"""Drawn Elliott waves: each kind by its rules, and near-misses that break one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Final

import numpy as np

from tapeline.charts.elliott import elliott_wave
from tapeline.charts.elliott_rules import DIAGONALS, FLATS, KINDS
from tapeline.charts.synthetic import Case, Drawing, bars_through

_SHORTEST_LEG: Final = 12
"""Bars of the shortest leg: the others take as many as they are longer, so that all legs are about as steep."""

_LEAST_LEG: Final = 8


def drawings(kind: str, count: int, *, noise: float = 0.0, seed: int = 0) -> list[Drawing]:
    """Bars through a wave of this kind, with a move before it and a turn after, in both directions, of random size.

    Examples
    --------
    >>> [(drawing.direction, len(drawing.points)) for drawing in drawings("impulse", 2)]
    [(-1, 6), (1, 6)]
    """
    generator = np.random.default_rng([seed, *kind.encode()])
    return [_drawn(kind, _legs(kind, generator), kind, i, noise, generator) for i in range(count)]


def near_misses(kind: str, count: int, *, seed: int = 0) -> list[Drawing]:
    """The same with one rule of the kind broken.

    Examples
    --------
    >>> near_misses("impulse", 1)[0].kind
    ''
    """
    generator = np.random.default_rng([seed, 1, *kind.encode()])
    return [_drawn(kind, _broken(kind, i, generator), "", i, 0.0, generator) for i in range(count)]


def _legs(kind: str, generator: np.random.Generator) -> list[float]:
    """The lengths of the waves, the first of them 1."""
    u = generator.uniform
    if kind == "impulse":
        third, depth = u(1.5, 2.7), u(0.25, 0.45)
        return [1.0, u(0.45, 0.7), third, depth * third, max(u(0.65, 1.6), 1.15 * depth * third)]
    if kind in DIAGONALS:
        return [1.0, u(0.6, 0.7), u(0.82, 0.93), u(0.45, 0.55), u(0.62, 0.76)]
    if kind == "zigzag_correction":
        b = u(0.42, 0.74)
        return [1.0, b, u(max(0.7, b + 0.1), 1.8)]
    if kind == "flat_regular":
        return [1.0, u(0.92, 1.03), u(1.1, 1.4)]
    if kind == "flat_expanded":
        b = u(1.1, 1.35)
        return [1.0, b, u(b + 0.15, 2.2)]
    if kind == "flat_running":
        return [1.0, u(1.1, 1.35), u(0.7, 0.95)]
    if kind == "triangle":
        legs = [1.0, u(0.75, 1.1)]
        for low, high in ((0.7, 0.85), (0.7, 0.85), (0.65, 0.8)):
            legs.append(legs[-1] * u(low, high))
        return legs
    first, second = (_legs(str(generator.choice(["zigzag_correction", *FLATS[:2]])), generator) for _ in range(2))
    x = u(0.45, 0.7) * (first[0] - first[1] + first[2])
    # Y goes beyond W, as the second of two zigzags must.
    scale = max(u(0.8, 1.2), 1.15 * x / (second[0] - second[1] + second[2]))
    return [*first, x, *(scale * leg for leg in second)]


def _broken(kind: str, turn: int, generator: np.random.Generator) -> list[float]:
    """Waves of a kind with one rule broken, each rule in its turn."""
    legs, u = _legs(kind, generator), generator.uniform
    if kind == "impulse":
        if turn % 3 == 0:
            legs[1] = u(1.05, 1.2)
        elif turn % 3 == 1:
            legs[3] = legs[2] - u(0.3, 0.9) * legs[1]
            legs[4] = 1.2 * legs[3]
        else:
            legs = [u(1.6, 2.0), u(0.4, 0.6), 1.0, u(0.3, 0.4), u(1.3, 1.6)]
    elif kind in DIAGONALS:
        if turn % 2:
            legs[2], legs[3] = u(1.1, 1.2), u(0.8, 0.9) * legs[1] + 0.3
        else:
            legs[4] = legs[2] * u(1.1, 1.3)
    elif kind == "zigzag_correction":
        if turn % 2:
            legs[1:] = [u(0.81, 0.88), u(1.1, 1.5)]
        else:
            legs[2] = legs[1] * u(0.8, 0.95)
    elif kind == "flat_regular":
        legs[1:] = [u(0.81, 0.88), u(1.1, 1.4)] if turn % 2 else [u(0.92, 1.03), u(0.65, 0.85)]
    elif kind in FLATS:
        legs[1] = u(1.42, 1.6)
        legs[2] = legs[1] + u(0.1, 0.3) if kind == "flat_expanded" else u(0.7, 0.95) * legs[1] - 0.1
    elif kind == "triangle":
        place = 2 + turn % 3
        legs[place] = legs[place - 1] * u(1.05, 1.15)
    elif turn % 2:
        legs[3] = u(1.45, 1.7) * (legs[0] - legs[1] + legs[2])
    else:
        legs[5] = legs[4] * u(0.81, 0.88)
        legs[6] = legs[4] * u(1.0, 1.3)
    return legs


def _before(kind: str, path: Sequence[float], generator: np.random.Generator) -> list[float]:
    """Three pivots before the start at 0: a low, a high, and what leads in to the low."""
    u = generator.uniform
    if kind == "ending_diagonal":
        high = u(0.7, 1.0)
        low = -u(0.5, 1.0)
    else:
        high = max(path) * u(1.2, 1.6)
        low = high * u(0.4, 0.6)
    return [low + 0.7 * (high - low), low, high]


def _drawn(
    kind: str, legs: Sequence[float], name: str, turn: int, noise: float, generator: np.random.Generator
) -> Drawing:
    signed = [leg if k % 2 == 0 else -leg for k, leg in enumerate(legs)]
    path = [0.0, *accumulate(signed)]
    before = _before(kind, path, generator)
    tail = path[-1] - 0.6 * max(legs)
    heights = np.array([*before, *path, tail])
    lengths = np.abs(np.diff(heights))
    step = min(legs) / _SHORTEST_LEG
    bars = np.maximum(_LEAST_LEG, np.rint(lengths / step * generator.uniform(0.85, 1.2, lengths.size)))
    bars[[0, -1]] = np.maximum(bars[[0, -1]], 2 * _SHORTEST_LEG)
    rows = [0, *np.cumsum(bars).astype(int).tolist()]
    base = generator.uniform(20.0, 2_000.0)
    unit = base * generator.uniform(0.002, 0.02) * (1.0 if turn % 2 == 0 else -1.0)
    prices = (base + unit * heights).tolist()
    points = [*zip(rows, prices, strict=True)]
    drawn = bars_through(points, noise=noise, seed=int(generator.integers(2**31)))
    return Drawing(drawn, name, -1 if unit > 0 else 1, tuple(points[len(before) : -1]))


CASES: Final[Mapping[str, Case]] = {
    kind: Case(elliott_wave, partial(drawings, kind), partial(near_misses, kind)) for kind in KINDS
}
"""By kind."""
