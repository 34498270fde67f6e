"""Drawn chart patterns and trendlines: each kind by its definition, and near-misses that break it in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from tapeline.charts.continuation_patterns import BORDER_KINDS, FLAG_KINDS, bordered_pattern, flag_pattern
from tapeline.charts.reversal_patterns import NAMES, bowl_pattern, reversal_pattern
from tapeline.charts.synthetic import Case, Drawing, bars_of_closes, bars_through
from tapeline.charts.trendlines import trendline

Corner = tuple[int, float]
"""Bars since the corner before, and the level in a figure that is about 1 high."""

BOWLS: Final = ("rounding_bottom", "rounding_top", "cup_with_handle", "inverted_cup_with_handle")
REVERSALS: Final = tuple(name for pair in NAMES.values() for name in pair)
FALLING: Final = (*(pair[0] for pair in NAMES.values()), "rounding_top", "inverted_cup_with_handle")
"""Kinds whose direction is always -1."""


@dataclass(frozen=True)
class _Figure:
    """Levels to draw through, the direction found where they are not turned over, and the corners that are reported."""

    corners: Sequence[Corner]
    direction: int
    first: int
    last: int


def drawings(kind: str, count: int, *, noise: float = 0.0, seed: int = 0) -> list[Drawing]:
    """Bars through a pattern of this kind and the close that completes it, of random size, duration and proportions.

    ``noise`` is as in :func:`tapeline.charts.synthetic.bars_through`. Kinds that have both directions get both in turn.

    Examples
    --------
    >>> [(drawing.kind, drawing.direction, len(drawing.points)) for drawing in drawings("rectangle", 2)]
    [('rectangle', -1, 5), ('rectangle', 1, 5)]
    """
    generator = np.random.default_rng([seed, *kind.encode()])
    return [_drawn(kind, kind, i, -1, noise, generator) for i in range(count)]


def near_misses(kind: str, count: int, *, seed: int = 0) -> list[Drawing]:
    """The same with one part of the definition broken, each part in its turn.

    Examples
    --------
    >>> near_misses("rectangle", 1)[0].kind
    ''
    """
    generator = np.random.default_rng([seed, 1, *kind.encode()])
    return [_drawn(kind, "", i, i % 3, 0.0, generator) for i in range(count)]


def _drawn(kind: str, name: str, turn: int, broken: int, noise: float, generator: np.random.Generator) -> Drawing:
    scale, start = generator.uniform(0.002, 0.05), float(np.exp(generator.uniform(0.0, 8.0)))
    if kind in BOWLS:
        over = -1.0 if kind in FALLING else 1.0
        cup = kind.endswith("handle")
        levels, points = _cup(broken, noise, generator) if cup else _rounding(broken, noise, generator)
        bars = bars_of_closes(start * (1.0 + scale * over * levels))
        prices = tuple((row, float(bars["close"].iloc[row])) for row in points)
        return Drawing(bars, name, int(over), prices)
    if kind in REVERSALS:
        over = 1.0 if kind in FALLING else -1.0
        figure = _reversal(kind, broken, generator)
    elif kind == "trendline":
        over = 1.0 if turn % 2 else -1.0
        figure = _trendline(broken, generator)
    elif kind in FLAG_KINDS.values():
        over = 1.0 if turn % 2 else -1.0
        figure = _flag(kind, broken, generator)
    else:
        over = 1.0
        figure = _bordered(kind, turn, broken, generator)
    rows = np.cumsum([bars for bars, _ in figure.corners])
    path = [
        (int(row), start * (1.0 + scale * over * level)) for row, (_, level) in zip(rows, figure.corners, strict=True)
    ]
    bars = bars_through(path, noise=noise, seed=int(generator.integers(1 << 30)))
    return Drawing(bars, name, int(over) * figure.direction, tuple(path[figure.first : figure.last + 1]))


def _bars(generator: np.random.Generator, low: int = 12, high: int = 28) -> int:
    return int(generator.integers(low, high))


def _reversal(kind: str, broken: int, generator: np.random.Generator) -> _Figure:
    """A top: a lead-in that falls, the rise to end, peaks and troughs, the fall through the neckline."""
    u = generator.uniform
    if kind.startswith("head"):
        left, neck = u(0.45, 0.65), u(-0.08, 0.08)
        levels = [left, neck, 1.0, neck + u(-0.15, 0.15), left + u(-0.1, 0.1)]
        if broken == 0:
            levels[0], levels[4] = (0.3, 0.75) if u() < 0.5 else (0.8, 0.35)
        elif broken == 1:
            levels[2] = max(levels[0], levels[4]) + 0.05
    elif kind.startswith("double"):
        levels = [1.0, 0.0, 1.0 + u(-0.1, 0.1)]
        if broken == 0:
            levels[2] = u(0.6, 0.75)
        elif broken == 1:
            levels[2] = u(1.3, 1.5)
    else:
        levels = [1.0, u(-0.1, 0.1), 1.0 + u(-0.05, 0.05), u(-0.1, 0.1), 1.0 + u(-0.05, 0.05)]
        if broken == 0:
            levels[2] = u(0.6, 0.75)
        elif broken == 1:
            levels[4] = u(0.6, 0.75)
    steep = _bars(generator)
    corners = [(0, levels[0] - 0.2), (steep + 18, -u(0.5, 0.9)), (steep + 10, levels[0])]
    corners += [(_bars(generator), level) for level in levels[1:]]
    if broken == 2:
        # It falls far enough to confirm the last peak, turns above the neckline and goes on up.
        corners += [(steep, 0.3), (2 * steep, 1.6), (5, 1.5)]
    else:
        corners += [(steep + 8, -u(0.4, 0.6)), (6, -0.3)]
    return _Figure(corners, -1, 2, 1 + len(levels))


def _borders(kind: str, generator: np.random.Generator) -> tuple[float, float]:
    """How far the upper border, at 1 in the beginning, and the lower one, at 0, move over the pattern."""
    u = generator.uniform
    flat = u(-0.05, 0.05)
    if kind == "rectangle":
        return flat, u(-0.05, 0.05)
    if kind == "symmetrical_triangle":
        return -u(0.25, 0.38), u(0.25, 0.38)
    if kind == "broadening":
        return u(0.3, 0.5), -u(0.3, 0.5)
    if kind == "rising_wedge":
        rise = u(0.35, 0.55)
        return rise, rise + u(0.4, 0.5)
    if kind == "ascending_triangle":
        return flat, u(0.35, 0.55)
    if kind == "ascending_broadening":
        return u(0.4, 0.7), flat
    mirror = {
        "falling_wedge": "rising_wedge",
        "descending_triangle": "ascending_triangle",
        "descending_broadening": "ascending_broadening",
    }
    upper, lower = _borders(mirror[kind], generator)
    return -lower, -upper


def _bordered(kind: str, turn: int, broken: int, generator: np.random.Generator) -> _Figure:
    """Five touches that begin with a high, or with a low, and a close beyond the upper or the lower border."""
    u = generator.uniform
    upper, lower = _borders(kind, generator)
    if broken == 0:
        # A channel: its borders slope alike and neither draw together nor apart.
        upper = lower = u(0.4, 0.5) * (1.0 if u() < 0.5 else -1.0)
    down, high_first = turn % 2 == 0, (turn // 2) % 2 == 0
    legs = np.array([_bars(generator, 16, 28) for _ in range(4)])
    at = np.concatenate(([0.0], np.cumsum(legs) / legs.sum()))
    highs = [(i % 2 == 0) == high_first for i in range(5)]
    levels = [1.0 + upper * x if top else lower * x for x, top in zip(at, highs, strict=True)]
    if broken == 1:
        # A middle touch that falls short of its border.
        levels[2] += -0.35 * (levels[2] - levels[1])
    base = -1.2 if high_first else 2.2
    corners: list[Corner] = [(0, base + (0.5 if high_first else -0.5)), (26, base), (_bars(generator) + 12, levels[0])]
    corners += [(int(bars), level) for bars, level in zip(legs, levels[1:], strict=True)]
    middle = 0.5 * (1.0 + upper + lower)
    if broken == 2:
        corners.append((8, middle))
    else:
        beyond = min(lower, levels[3], levels[4]) - 0.4 if down else max(1.0 + upper, levels[3], levels[4]) + 0.4
        # From the last touch on the side of the break price first turns back into the pattern.
        if highs[4] != down:
            corners.append((8, middle))
        corners.append((14 + int(20 * abs(beyond - middle)), beyond))
        corners.append((5, beyond + (0.05 if down else -0.05)))
    return _Figure(corners, -1 if down else 1, 2, 6)


def _flag(kind: str, broken: int, generator: np.random.Generator) -> _Figure:
    """Small turns that make the usual range, a pole up, a pause of four pivots, the move on."""
    u = generator.uniform
    quiet = 1.0 / u(25.0, 40.0)
    corners: list[Corner] = [(0, 0.0), *[(4, (4 * (k % 2) + 0.2 * k) * quiet) for k in range(1, 11)]]
    depth = u(0.25, 0.32)
    if kind == "flag":
        low, top = 1.0 - depth, 1.0 - u(0.08, 0.12)
        lows = [low, low - u(0.08, 0.12)]
    else:
        low, top = 1.0 - depth, 1.0 - u(0.08, 0.1)
        lows = [low, low + u(0.04, 0.06)]
    if broken == 0:
        # It slopes along the pole.
        top, lows = 1.12, [low, low + 0.12]
    elif broken == 1:
        lows = [0.3, 0.25]
    pole = 40 if broken == 2 else _bars(generator, 5, 10)
    corners += [(pole, 1.0), (_bars(generator, 4, 6), lows[0]), (_bars(generator, 4, 6), top)]
    corners += [(_bars(generator, 4, 6), lows[1]), (10, 1.5), (4, 1.48)]
    return _Figure(corners, 1, 10, 14)


def _trendline(broken: int, generator: np.random.Generator) -> _Figure:
    """A line over three highs that fall or rise, with lows of no order between them."""
    u = generator.uniform
    gaps = [_bars(generator, 24, 44) for _ in range(2)]
    slope = u(-0.012, 0.006)
    # A miss in height is one in mean true ranges: the legs are about 1 high and 12 to 22 bars long.
    off = 0.0 if broken < 0 else (0.35, -0.35, 0.6)[broken]
    highs = [1.0, 1.0 + slope * gaps[0] + off, 1.0 + slope * sum(gaps)]
    lows = [-u(0.3, 0.6), -u(0.9, 1.2) + min(0.0, slope * gaps[0])]
    corners: list[Corner] = [(0, 0.3), (24, -0.4), (18, highs[0])]
    for k in range(2):
        corners += [(gaps[k] // 2, lows[k]), (gaps[k] - gaps[k] // 2, highs[k + 1])]
    corners += [(12, highs[2] - 0.8), (4, highs[2] - 0.85)]
    return _Figure(corners, -1, 2, 6)


def _shaken(path: np.ndarray, keep: Sequence[int], noise: float, generator: np.random.Generator) -> np.ndarray:
    """The path with noise of so many mean steps, but for the rows to keep."""
    shaken = path + generator.normal(0.0, noise * np.abs(np.diff(path)).mean(), path.size) if noise else path.copy()
    shaken[list(keep)] = path[list(keep)]
    return shaken


def _basin(bars: int, broken: int, edge: float) -> np.ndarray:
    """From 1 to 0 and back to ``edge``: a parabola; a V where ``broken`` is 0, the bottom far to the left where 1."""
    across = np.linspace(-1.0, 1.0, bars)
    if broken == 0:
        shape = np.abs(across)
    elif broken == 1:
        shape = np.where(across < -0.7, ((across + 0.7) / 0.3) ** 2, (across + 0.7) / 1.7)
    else:
        shape = across**2
    return np.where(across > 0.0, edge, 1.0) * shape


def _rounding(broken: int, noise: float, generator: np.random.Generator) -> tuple[np.ndarray, Sequence[int]]:
    bars = int(generator.integers(45, 100))
    lead = np.concatenate((np.linspace(0.4, 0.1, 20), np.linspace(0.1, 1.0, 26)[1:]))
    # Unbroken it goes on through the rim; where that part is broken it turns below it.
    edge = 0.85 if broken == 2 else 1.0
    bowl = _basin(bars, broken, edge)[1:]
    after = np.linspace(edge, 0.4 if broken == 2 else 1.25, 10)[1:]
    rim = lead.size - 1
    levels = _shaken(np.concatenate((lead, bowl, after)), (rim,), noise, generator)
    beyond = np.flatnonzero(levels[rim + 5 :] > levels[rim])
    last = rim + 5 + int(beyond[0]) if beyond.size else rim + bars - 1
    return levels, (rim, rim + bars // 2, last)


def _cup(broken: int, noise: float, generator: np.random.Generator) -> tuple[np.ndarray, Sequence[int]]:
    bars, right = int(generator.integers(45, 90)), 1.0 + generator.uniform(-0.08, 0.08)
    base = 0.4 if broken == 1 else -generator.uniform(0.3, 0.6)
    lead = np.concatenate((np.linspace(base + 0.3, base, 20), np.linspace(base, 1.0, 36)[1:]))
    bowl = _basin(bars, 0 if broken == 0 else 2, right)[1:]
    pullback = 0.7 if broken == 2 else generator.uniform(0.3, 0.4)
    handle = np.linspace(right, right - pullback, 8)[1:]
    after = np.linspace(right - pullback, right + 0.3, 14)[1:]
    left, rim = lead.size - 1, lead.size + bars - 2
    levels = _shaken(np.concatenate((lead, bowl, handle, after)), (left, rim), noise, generator)
    return levels, (left, left + bars // 2, rim)


def _detector(kind: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    if kind in BOWLS:
        return bowl_pattern
    if kind in REVERSALS:
        return reversal_pattern
    if kind == "trendline":
        return trendline
    return flag_pattern if kind in FLAG_KINDS.values() else bordered_pattern


KINDS: Final = (*REVERSALS, *BORDER_KINDS.values(), *FLAG_KINDS.values(), *BOWLS, "trendline")
CASES: Final[Mapping[str, Case]] = {
    kind: Case(_detector(kind), partial(drawings, kind), partial(near_misses, kind)) for kind in KINDS
}
