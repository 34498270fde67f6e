"""The published ratios of harmonic patterns: one table, each row with its source.

Points are named O X A B C D in the order of time; a pattern of five points uses X to D, AB=CD uses A to D, three drives
and 5-0 use all six. Legs are prices, without logarithm. Bounds are the published ones; the tolerance is the reader's.

Where authors publish an AB=CD multiple along with the ratios of the crab family it is not demanded: with B at 0.618 of
XA or less and D at 1.618 of it, CD is at least twice AB, so the 1.27 and 1.618 named for it can never hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np

from tapeline.charts.bar_arrays import Floats, Rows

Ratio = Literal["XA/OX", "AB/XA", "BC/AB", "XC/XA", "AD/XA", "CD/BC", "CD/AB", "CD/XC"]
Leg = Literal["AD", "CD", "OD"]

RATIOS: Final[tuple[Ratio, ...]] = ("XA/OX", "AB/XA", "BC/AB", "XC/XA", "AD/XA", "CD/BC", "CD/AB", "CD/XC")
KNOWN_AT_C: Final = 4
"""The first four ratios are known with C; the others place D."""

LEGS: Final[tuple[Leg, ...]] = ("AD", "CD", "OD")

_CARNEY_1998: Final = "Carney, The Harmonic Trader (1998)"
_CARNEY_2010: Final = "Carney, Harmonic Trading, volume 1 (2010)"
_CARNEY_2010_2: Final = "Carney, Harmonic Trading, volume 2 (2010)"


@dataclass(frozen=True)
class HarmonicRatios:
    """What one pattern demands.

    Parameters
    ----------
    points:
        How many of O X A B C D it has, counted from D backwards.
    bounds:
        The published least and greatest value of each ratio it demands; equal where one number is published.
    defining:
        The ratio by which its author places D. The completion price is its least published value.
    target_leg, targets:
        The first and the second target, as shares of that leg (``OD``: the whole of three drives) retraced from D.
    stop_at_x:
        The stop is X, because D lies within XA; else it is the far end of the zone in which D may lie.
    source:
        Where the numbers are published.
    """

    points: int
    bounds: Mapping[Ratio, tuple[float, float]]
    defining: Ratio
    source: str
    target_leg: Leg = "AD"
    targets: tuple[float, float] = (0.382, 0.618)
    stop_at_x: bool = False


PATTERNS: Final[Mapping[str, HarmonicRatios]] = {
    "gartley": HarmonicRatios(
        5,
        {"AB/XA": (0.618, 0.618), "BC/AB": (0.382, 0.886), "AD/XA": (0.786, 0.786), "CD/BC": (1.13, 1.618)},
        "AD/XA",
        f"Gartley, Profits in the Stock Market (1935), p. 222, for the shape; {_CARNEY_1998} for the ratios",
        stop_at_x=True,
    ),
    "bat": HarmonicRatios(
        5,
        {"AB/XA": (0.382, 0.5), "BC/AB": (0.382, 0.886), "AD/XA": (0.886, 0.886), "CD/BC": (1.618, 2.618)},
        "AD/XA",
        _CARNEY_2010,
        stop_at_x=True,
    ),
    "alternate_bat": HarmonicRatios(
        5,
        {"AB/XA": (0.382, 0.382), "BC/AB": (0.382, 0.886), "AD/XA": (1.13, 1.13), "CD/BC": (2.0, 3.618)},
        "AD/XA",
        f"{_CARNEY_2010}; found by Carney in 2003",
    ),
    "butterfly": HarmonicRatios(
        5,
        {"AB/XA": (0.786, 0.786), "BC/AB": (0.382, 0.886), "AD/XA": (1.27, 1.27), "CD/BC": (1.618, 2.618)},
        "AD/XA",
        f"found by Gilmore; ratios of {_CARNEY_1998}; 2.24 is the greatest CD/BC in later tables",
    ),
    "crab": HarmonicRatios(
        5,
        {"AB/XA": (0.382, 0.618), "BC/AB": (0.382, 0.886), "AD/XA": (1.618, 1.618), "CD/BC": (2.24, 3.618)},
        "AD/XA",
        _CARNEY_2010,
    ),
    "deep_crab": HarmonicRatios(
        5,
        {"AB/XA": (0.886, 0.886), "BC/AB": (0.382, 0.886), "AD/XA": (1.618, 1.618), "CD/BC": (2.0, 3.618)},
        "AD/XA",
        _CARNEY_2010_2,
    ),
    "shark": HarmonicRatios(
        5,
        {"BC/AB": (1.13, 1.618), "AD/XA": (0.886, 1.13), "CD/BC": (1.618, 2.24)},
        "AD/XA",
        "Carney (2011), Harmonic Trading, volume 3 (2016); its points 0XABC are X to D here, its target is that of 5-0",
        target_leg="CD",
        targets=(0.5, 0.618),
    ),
    "cypher": HarmonicRatios(
        5,
        {"AB/XA": (0.382, 0.618), "XC/XA": (1.272, 1.414), "CD/XC": (0.786, 0.786)},
        "CD/XC",
        "Oglesbee, as he taught it; there is no book of his",
        target_leg="CD",
        stop_at_x=True,
    ),
    "five_zero": HarmonicRatios(
        6,
        {"AB/XA": (1.13, 1.618), "BC/AB": (1.618, 2.24), "CD/BC": (0.5, 0.5)},
        "CD/BC",
        f"{_CARNEY_2010}; no targets are published in numbers, those of the other patterns are taken on CD",
        target_leg="CD",
    ),
    "three_drives": HarmonicRatios(
        6,
        {"XA/OX": (0.618, 0.786), "AB/XA": (1.27, 1.618), "BC/AB": (0.618, 0.786), "CD/BC": (1.27, 1.618)},
        "CD/BC",
        f"{_CARNEY_1998}, after Prechter; drives end at X, B and D; targets are taken on the whole of it",
        target_leg="OD",
    ),
    "ab_cd": HarmonicRatios(
        4,
        {"BC/AB": (0.382, 0.886), "CD/BC": (1.13, 2.618), "CD/AB": (1.0, 1.0)},
        "CD/AB",
        _CARNEY_1998,
    ),
}
"""By kind. Where ratios fit several patterns alike the earlier one is taken."""

KINDS: Final = tuple(PATTERNS)


@dataclass(frozen=True)
class RatioTable:
    """The table as arrays, one entry a pattern, as the kernels read it.

    ``low`` and ``high`` have the shape (patterns, ratios), NaN where a ratio is not demanded.
    """

    points: Rows
    low: Floats
    high: Floats
    defining: Rows
    leg: Rows
    targets: Floats
    stop_at_x: Any


@cache
def ratio_table() -> RatioTable:
    """The published table as arrays.

    Examples
    --------
    >>> table = ratio_table()
    >>> table.low[KINDS.index("gartley"), RATIOS.index("AD/XA")].item()
    0.786
    """
    low, high = np.full((2, len(PATTERNS), len(RATIOS)), np.nan)
    for i, pattern in enumerate(PATTERNS.values()):
        for ratio, (least, greatest) in pattern.bounds.items():
            low[i, RATIOS.index(ratio)], high[i, RATIOS.index(ratio)] = least, greatest
    rows = PATTERNS.values()
    table = RatioTable(
        points=np.array([row.points for row in rows]),
        low=low,
        high=high,
        defining=np.array([RATIOS.index(row.defining) for row in rows]),
        leg=np.array([LEGS.index(row.target_leg) for row in rows]),
        targets=np.array([row.targets for row in rows]),
        stop_at_x=np.array([row.stop_at_x for row in rows]),
    )
    for part in vars(table).values():
        part.flags.writeable = False
    return table
