"""Elliott waves: finished waves as events, and what the wave under way may be, ranked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import elliott_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.elliott_rules import KINDS, POINTS
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import PIVOT_MEMORY
from tapeline.charts.swings import Period, Size, Swings, Unit, swing_degrees
from tapeline.charts.watch import expires_or_ends_at

Degrees = Annotated[int, Field(ge=1, le=4)]
"""How many degrees are told, each of pivots twice as large as those of the one below."""


@dataclass(frozen=True)
class Waves:
    """Finished waves of one or more degrees: arrays of one length, in the order of degree, then of confirmation.

    ``code`` is the place of the kind in ``KINDS``; ``row`` and ``price`` hold the pivots of each, filled up on the
    right to eight with the last one; ``confirmed`` is the row at which the last was confirmed, ``sign`` 1 where the
    first wave rises; ``target``, ``stop`` and ``score`` are those of the event.
    """

    code: Rows
    row: Rows
    price: Floats
    confirmed: Rows
    sign: NDArray[np.int8]
    target: Floats
    stop: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.code)

    def by_kind(self) -> Waves:
        """The same, kind after kind."""
        order = np.argsort(self.code, kind="stable")
        return Waves(*(getattr(self, name)[order] for name in _FIELDS))


_FIELDS: Final = tuple(field.name for field in fields(Waves))


def degree_sizes(size: float, degrees: int) -> tuple[float, ...]:
    """The sizes of the pivots of each degree, smallest first, led by that which is only looked at for the waves within.

    Examples
    --------
    >>> degree_sizes(3.0, 2)
    (1.5, 3.0, 6.0)
    """
    return tuple(size * 2.0**k for k in range(-1, degrees))


def volume_of(arrays: BarArrays) -> Floats:
    """The volume of the bars, NaN where they have no such column; read-only, so that kernels are compiled for one kind.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> volume_of(BarArrays(example_bars(10, 11).drop(columns="volume"))).tolist()
    [nan, nan]
    """
    try:
        volume = arrays.volume.view()
    except KeyError:
        volume = np.full(len(arrays), np.nan)
    volume.setflags(write=False)
    return volume


def find_elliott_waves(bars: Any, size: float = 3.0, degrees: int = 2, unit: Unit = "atr", window: int = 14) -> Waves:
    """The finished waves of each degree; what the degree below had told through the same pivots is not told again.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> bars = bars_through([(0, 112.0), (24, 100.0), (44, 110.0), (56, 104.0), (88, 120.0), (104, 112.0),
    ...                      (128, 124.0), (148, 114.0)])
    >>> [KINDS[code] for code in find_elliott_waves(bars, degrees=1).code]
    ['impulse']
    """
    arrays = BarArrays.of(bars)
    volume = volume_of(arrays)
    levels = list(swing_degrees(arrays, degree_sizes(size, degrees), unit=unit, window=window).values())
    parts, lower, below = [], np.empty((0, 3), np.int64), levels[0]
    for pivots in levels[1:]:
        numbers, prices = np.empty((4 * len(pivots), 3), np.int64), np.empty((4 * len(pivots), 3))
        count = kernels.find_waves(
            (pivots.row, pivots.confirmed, pivots.side, pivots.price),
            (below.row, below.confirmed, below.price), volume, numbers, prices,
        )  # fmt: skip
        numbers, prices = numbers[:count], prices[:count]
        told = kernels.told_below(
            numbers, pivots.row, pivots.confirmed, lower, below.row, below.confirmed
        )  # fmt: skip
        parts.append(_waves(pivots, numbers[~told], prices[~told]))
        lower, below = numbers, pivots
    if len(parts) == 1:
        return parts[0]
    return Waves(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


def _waves(pivots: Swings, numbers: Rows, prices: Floats) -> Waves:
    code, last, points = numbers[:, 0], numbers[:, 1], numbers[:, 2]
    places = np.minimum(last[:, None] - points[:, None] + 1 + np.arange(8), last[:, None])
    return Waves(
        code, pivots.row[places], pivots.price[places], pivots.confirmed[last], pivots.side[last],
        target=prices[:, 1], stop=prices[:, 2], score=prices[:, 0],
    )  # fmt: skip


@detector(
    lookback=lambda degrees: PIVOT_MEMORY * 2 ** max(0, degrees - 2),
    reference="Frost, Prechter, Elliott Wave Principle (1978); tables in elliott_rules and elliott_guidelines",
    watch=expires_or_ends_at("target", "stop"),
)
def elliott_wave(
    arrays: BarArrays,
    size: Size = 3.0,
    degrees: Degrees = 2,
    unit: Unit = "atr",
    window: Period = 14,
    max_age: Age = 200,
) -> Iterator[Found]:
    """Finished Elliott waves through consecutive pivots of a degree, confirmed with the last pivot.

    Kinds ``impulse``, ``leading_diagonal``, ``ending_diagonal``, ``zigzag_correction``, ``flat_regular``,
    ``flat_expanded``, ``flat_running``, ``triangle`` (contracting or barrier) and ``combination`` (W-X-Y of zigzags and
    flats). Each keeps all hard rules of its kind; ``score`` is the mean of its guidelines by weight, 0 to 1, over those
    that can be measured: volume where there is some, the waves within where the degree below sees any. One stretch may
    be counted in several ways, and each is told.

    ``direction`` is where price should go next, against the wave that has ended. ``stop`` is the price beyond which the
    count is wrong: the end of the last wave, for a triangle the end of C. ``target``: after an impulse the end of its
    wave 4 (ch. 2, Depth of corrective waves), after an ending diagonal its start, after a leading one 61.8 percent of
    it, after a correction the start of A, out of a triangle its widest leg beyond E; NaN where the close that confirmed
    it was there already. Invalidated when target or stop is traded, or after ``max_age`` bars.

    Prices are taken as they are, not their logarithms. Truncated fifths, expanding diagonals and triangles, and triple
    combinations are not told. On pivots alone a wave's inner structure is seen only as far as the degree below shows
    it; it moves the score, it is no condition.

    Parameters
    ----------
    size, unit, window:
        The pivots of the smallest degree that is told; half the size shows the waves within it.
    degrees:
        How many degrees are told, each with pivots twice the size of the one before.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> bars = bars_through([(0, 112.0), (24, 100.0), (44, 110.0), (56, 104.0), (88, 120.0), (104, 112.0),
    ...                      (128, 124.0), (148, 114.0)])
    >>> found = elliott_wave(bars, degrees=1)
    >>> found[["kind", "direction", "target", "stop"]].to_numpy().tolist()
    [['impulse', -1, 112.0, 124.0]]
    """
    waves = find_elliott_waves(arrays, size, degrees, unit, window)
    if not len(waves):
        return
    waves = waves.by_kind()
    direction = (-waves.sign).astype(np.int8)
    passed = direction * (arrays.close[waves.confirmed] - waves.target) >= 0.0
    target = np.where(passed, np.nan, waves.target)
    until = fates(arrays, waves.confirmed, direction, target, waves.stop, max_age).row
    low, high = waves.price.min(axis=1), waves.price.max(axis=1)
    ends = np.searchsorted(waves.code, np.arange(len(KINDS) + 1)).tolist()
    for kind, (first, last) in zip(KINDS, pairwise(ends), strict=True):
        if first == last:
            continue
        mine, points = slice(first, last), POINTS[kind]
        rows, prices = waves.row[mine, :points], waves.price[mine, :points]
        yield Findings(
            kind,
            direction=direction[mine],
            start=rows[:, 0],
            end=rows[:, -1],
            confirmed=waves.confirmed[mine],
            low=low[mine],
            high=high[mine],
            invalidated=until[mine],
            target=target[mine],
            stop=waves.stop[mine],
            score=waves.score[mine],
            point_rows=rows,
            point_prices=prices,
        )
