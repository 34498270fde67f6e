"""Drawn days with profiles of a known shape, and days that come back to a value area, to measure their detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.charts.profile_shape import profile_event, profile_shape
from tapeline.charts.synthetic import Case, Drawing, bars_of_closes

DAY: Final = 1_440
_AFTER: Final = 3
_BRACKET: Final = 30

Generator = np.random.Generator


def _turns(bars: int, low: float, high: float, generator: Generator) -> Any:
    """A path that goes to and fro between two prices at an even pace."""
    period = generator.uniform(35.0, 75.0)
    place = (np.arange(bars) / period + generator.uniform()) % 2.0
    return low + (high - low) * np.abs(place - 1.0)


def _bell(bars: int, generator: Generator) -> Any:
    """A path whose turns grow and shrink again around the middle of 0 to 1."""
    reach = 0.5 * np.sin(np.linspace(0.05, np.pi - 0.05, bars)) ** 3
    return 0.5 + reach * (2.0 * _turns(bars, 0.0, 1.0, generator) - 1.0)


def _leg(bars: int, start: float, end: float) -> Any:
    return np.linspace(start, end, bars, endpoint=False)


def _top_heavy(generator: Generator) -> Any:
    rise = int(generator.integers(40, 160))
    return np.concatenate((_leg(rise, 0.0, 0.7), _turns(DAY - rise, 0.68, 1.0, generator)))


def _two_bells(generator: Generator) -> Any:
    half, move = int(generator.integers(560, 820)), 50
    rest = DAY - half - move
    return np.concatenate(
        (0.4 * _bell(half, generator), _leg(move, 0.2, 0.8), 0.6 + 0.4 * _bell(rest, generator))
    )  # fmt: skip


def _flat(generator: Generator) -> Any:
    """A day that spends the same time at each price: a trend without a pause."""
    return np.linspace(0.0, 1.0, DAY) + 0.01 * _turns(DAY, -1.0, 1.0, generator)


def _half_risen(generator: Generator) -> Any:
    """A P whose lower third holds too much: half the day was spent on the rise."""
    rise = DAY // 2 + int(generator.integers(100, 200))
    return np.concatenate((_leg(rise, 0.0, 0.7), _turns(DAY - rise, 0.68, 1.0, generator)))


def _bridged(generator: Generator) -> Any:
    """Two distributions with nearly as much traded between them: no low node."""
    part, bridge = int(DAY * 0.42), int(DAY * 0.16)
    low, high = _turns(part, 0.0, 0.4, generator), _turns(DAY - part - bridge, 0.6, 1.0, generator)
    return np.concatenate((low, _leg(bridge, 0.4, 0.6), high))


_SHAPES: Final[Mapping[str, tuple[Callable[[Generator], Any], Callable[[Generator], Any], int]]] = MappingProxyType(
    {
        "profile_shape_p": (_top_heavy, _half_risen, 1),
        "profile_shape_b": (lambda generator: 1.0 - _top_heavy(generator), lambda g: 1.0 - _half_risen(g), -1),
        "profile_shape_d": (lambda generator: _bell(DAY, generator), _flat, 0),
        "profile_shape_double": (_two_bells, _bridged, 1),
    }
)
"""By kind: how a day of that shape is drawn, a day that is nearly so, and the direction."""


def _priced(path: Any, noise: float, generator: Generator) -> pd.DataFrame:
    scale, start = np.exp(generator.uniform(-5.0, 1.0)), np.exp(generator.uniform(4.0, 8.0))
    return bars_of_closes(start + 20.0 * scale * (path + noise * generator.normal(0.0, 0.01, path.size)))


def shape_drawings(kind: str, count: int, *, noise: float, seed: int) -> list[Drawing]:
    """A day of any kind, a day of that shape, and the first bars of the next; ``noise`` in hundredths of the range."""
    return [_shaped(kind, noise, np.random.default_rng((seed, i)), miss=False) for i in range(count)]


def shape_near_misses(kind: str, count: int, *, seed: int) -> list[Drawing]:
    """The same with a day that is nearly of that shape: a slow rise, a bridge between two parts, an even trend."""
    return [_shaped(kind, 0.0, np.random.default_rng((seed, i)), miss=True) for i in range(count)]


def _shaped(kind: str, noise: float, generator: Generator, *, miss: bool) -> Drawing:
    drawn, nearly, direction = _SHAPES[kind]
    day = (nearly if miss else drawn)(generator)
    if kind == "profile_shape_double" and generator.uniform() < 0.5:
        day, direction = 1.0 - day, -1
    before = _turns(DAY, 0.2, 0.8, generator)
    bars = _priced(np.concatenate((before, day, np.full(_AFTER, day[-1]))), noise, generator)
    last = 2 * DAY - 1
    at = ((DAY, float(bars["close"].iloc[DAY])), (last, float(bars["close"].iloc[last])))
    return Drawing(bars, "" if miss else kind, direction, at)


def visit_drawings(kind: str, count: int, *, noise: float, seed: int) -> list[Drawing]:
    """A balanced day, then one that opens outside its value area and comes back: to stay, or to leave again."""
    return [_visited(kind, noise, np.random.default_rng((seed, i))) for i in range(count)]


def visit_near_misses(kind: str, count: int, *, seed: int) -> list[Drawing]:
    """The same with one close inside instead of two, or with a day that never comes down to the value area."""
    other = "value_rejection" if kind == "value_acceptance" else "neither"
    return [_visited(other, 0.0, np.random.default_rng((seed, i))) for i in range(count)]


def _visited(kind: str, noise: float, generator: Generator) -> Drawing:
    side = 1 if generator.uniform() < 0.5 else -1
    outside = int(generator.integers(3, 8)) * _BRACKET
    stay = _BRACKET * (3 if kind == "value_acceptance" else 1)
    place = 0.55 if kind != "neither" else 1.4
    # Ten minutes before a bracket ends price goes in, and ten minutes into one it goes out again.
    wait = outside - 10
    path = np.concatenate(
        (
            _bell(DAY, generator), _bell(DAY - 20, generator), _leg(20, 0.5, 1.4),
            _turns(wait, 1.35, 1.45, generator), _leg(5, 1.4, place), np.full(stay, place), _leg(5, place, 1.4),
            _turns(2 * _BRACKET, 1.35, 1.45, generator),
        )
    )  # fmt: skip
    bars = _priced(path if side > 0 else 1.0 - path, noise, generator)
    # The close of the second bracket inside, or of the first outside again.
    found = 2 * DAY + outside + _BRACKET - 1
    at = ((2 * DAY + wait, float(bars["close"].iloc[2 * DAY + wait])), (found, float(bars["close"].iloc[found])))
    return Drawing(bars, kind if kind != "neither" else "", -side if kind == "value_acceptance" else side, at)


CASES: Final[Mapping[str, Case]] = MappingProxyType(
    {
        **{
            kind: Case(profile_shape, partial(shape_drawings, kind), partial(shape_near_misses, kind))
            for kind in _SHAPES
        },
        **{
            kind: Case(profile_event, partial(visit_drawings, kind), partial(visit_near_misses, kind))
            for kind in ("value_acceptance", "value_rejection")
        },
    }
)
"""By kind, how it is measured."""
