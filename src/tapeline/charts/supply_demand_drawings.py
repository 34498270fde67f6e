"""Drawn supply and demand zones, and bases that are none, to measure the detector of ``supply_demand`` with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Literal

import numpy as np

from tapeline.charts.supply_demand import KINDS, supply_demand_zone, zone_test
from tapeline.charts.synthetic import Case, Drawing, bars_of_closes

Flaw = Literal["", "long base", "wide base", "slow departure", "both ways"]
_FLAWS: Final[tuple[Flaw, ...]] = ("long base", "wide base", "slow departure", "both ways")
_LEAD: Final = 40


def _steps(reached: int, left: int, flaw: Flaw, generator: np.random.Generator) -> tuple[list[float], int, int]:
    """Moves from close to close in usual bars; the rows of the base's first and last bar."""
    lead = [1.0 if i % 2 else -1.0 for i in range(_LEAD)]
    base_bars = int(generator.integers(2, 5)) if flaw != "long base" else 9
    arrival = [float(reached * generator.uniform(1.6, 2.2)) for _ in range(3)]
    small = 2.4 if flaw == "wide base" else 0.2
    base = [float(small * (1 if i % 2 else -1) * reached) for i in range(base_bars)]
    departure = [float(left * generator.uniform(1.6, 2.2)) for _ in range(3)]
    if flaw == "slow departure":
        departure = [0.45 * left] * 3
    if flaw == "both ways":
        departure = [-1.6 * left, *[2.4 * left] * 3]
    first = _LEAD + len(arrival)
    rest = [float(left * 0.9 * (1 if i % 2 else -1)) for i in range(12)]
    return [*lead, *arrival, *base, *departure, *rest], first, first + base_bars - 1


def _draw(kind: str, flaw: Flaw, noise: float, generator: np.random.Generator, *, test: bool) -> Drawing:
    chosen = list(KINDS.items())[int(generator.integers(4))] if kind not in KINDS.values() else None
    (reached, left), name = chosen or next(item for item in KINDS.items() if item[1] == kind)
    steps, first, last = _steps(reached, left, flaw, generator)
    moves = np.array(steps)
    if test:
        # Away for some bars and straight back to the base, where it stays.
        away = last + 4
        moves = np.concatenate((moves[:away], np.full(3, left * 1.0), np.full(14, -left * 0.8)))
    scale, start = np.exp(generator.uniform(-5.0, 1.0)), np.exp(generator.uniform(4.0, 8.0))
    moves = moves + noise * generator.normal(0.0, 0.2, moves.size)
    bars = bars_of_closes(start + 60.0 * scale + scale * np.cumsum(moves))
    # Wicks: in the base longer than the body, elsewhere short.
    inside = (np.arange(len(bars)) >= first) & (np.arange(len(bars)) <= last)
    wick = scale * np.where(inside, 0.25, 0.05)
    bars = bars.assign(high=bars["high"] + wick, low=bars["low"] - wick)
    close = bars["close"].to_numpy()
    at = [(first, float(close[first])), (last, float(close[last]))]
    if not test:
        return Drawing(bars, "" if flaw else name, left, tuple(at))
    inner = slice(first, last + 1)
    border = bars["high"].to_numpy()[inner].max() if left > 0 else bars["low"].to_numpy()[inner].min()
    near = bars["low"].to_numpy() if left > 0 else bars["high"].to_numpy()
    later = np.arange(len(bars)) > last + 6
    back = np.flatnonzero(later & (left * (near - border) <= 0.0))
    if not back.size:
        # Noise has kept price away from the base: that is no return, so another one is drawn.
        return _draw(name, flaw, noise, generator, test=test)
    return Drawing(bars, "zone_test", left, (*at, (int(back[0]), float(close[back[0]]))))


def zone_drawings(kind: str, count: int, *, noise: float, seed: int) -> list[Drawing]:
    """A quiet stretch, an impulse, a base of two to four narrow bars and an impulse away from it.

    ``noise`` is in fifths of a usual bar's move.
    """
    generator = np.random.default_rng(seed)
    return [_draw(kind, "", noise, generator, test=False) for _ in range(count)]


def zone_near_misses(kind: str, count: int, *, seed: int) -> list[Drawing]:
    """The same with a base too long or too wide, a departure too slow, or one that first went the other way."""
    generator = np.random.default_rng(seed)
    return [_draw(kind, _FLAWS[i % len(_FLAWS)], 0.0, generator, test=False) for i in range(count)]


def return_drawings(count: int, *, noise: float, seed: int) -> list[Drawing]:
    """A zone of any form to which price comes back."""
    generator = np.random.default_rng(seed)
    return [_draw("", "", noise, generator, test=True) for _ in range(count)]


def return_near_misses(count: int, *, seed: int) -> list[Drawing]:
    """Zones that price does not come back to."""
    generator = np.random.default_rng(seed)
    return [_draw("", "", 0.0, generator, test=False) for _ in range(count)]


CASES: Final[Mapping[str, Case]] = MappingProxyType(
    {
        kind: Case(supply_demand_zone, partial(zone_drawings, kind), partial(zone_near_misses, kind))
        for kind in KINDS.values()
    }
    | {"zone_test": Case(zone_test, return_drawings, return_near_misses)}
)
"""By kind, how it is measured."""
