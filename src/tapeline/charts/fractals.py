"""Fractals: how rough the path of price is, and sequences of legs that repeat an earlier one, larger or smaller.

Williams' fractals, highs and lows that stand out from the bars on both sides, are :func:`tapeline.charts.swings
.fractal_swing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.charts import fractal_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Swings, Unit
from tapeline.charts.watch import Watch, watch_standing
from tapeline.core.registry import feature

Window = Annotated[int, Field(ge=16, le=10_000)]
Longest = Annotated[int, Field(ge=2, le=8)]
Legs = Annotated[int, Field(ge=2, le=12)]
Ratio = Annotated[float, Field(ge=1.0, le=16.0)]
Distance = Annotated[float, Field(gt=0.0, lt=1.0)]
Memory = Annotated[int, Field(ge=50, le=100_000)]


@feature(
    lookback=lambda window: window,
    outputs=("higuchi_dimension_{window}", "sevcik_dimension_{window}", "katz_dimension_{window}"),
    reference=(
        "Higuchi, Physica D 31 (1988), equations 1 to 3; Sevcik, Complexity International 5 (1998), equation 6a; Katz, "
        "Computers in Biology and Medicine 18 (1988)"
    ),
)
def fractal_dimension(bars: pd.DataFrame, window: Window = 100, longest: Longest = 8) -> pd.DataFrame:
    """Fractal dimension of the path of the log closes over ``window`` bars: 1 a straight line, 1.5 a random walk.

    Higuchi's compares the path's length measured with every close, every second, up to every ``longest``-th: the slope
    of its logarithm against that of one over the step; 2 is noise that fills the plane. Sevcik's is that of the path
    drawn in a square: it depends on the window and comes near to 1.5 only slowly. Katz' compares the path's length
    with how far it went from its first close, with distances along the price alone, so that it has no unit; it is a
    measure of how direct the way was rather than a dimension of the plane, and grows without bound. NaN where nothing
    has moved.

    Examples
    --------
    >>> straight = pd.DataFrame({"close": np.exp(np.arange(40.0) / 100.0)})
    >>> fractal_dimension(straight, window=32).iloc[-1].round(3).tolist()
    [1.0, 1.084, 1.0]
    """
    values = np.log(bars["close"].to_numpy(dtype=np.float64))
    found = {
        f"higuchi_dimension_{window}": kernels.rolling_higuchi(values, window, longest),
        f"sevcik_dimension_{window}": kernels.rolling_sevcik(values, window),
        f"katz_dimension_{window}": kernels.rolling_katz(values, window),
    }
    return pd.DataFrame(found, index=bars.index)


@dataclass(frozen=True)
class LegRuns:
    """Every run of so many legs of one zigzag: arrays of one length, by their last pivot's confirmation.

    ``shape`` (runs, 2 * legs): each leg's share of the run's height and of its bars. ``first`` and ``last`` are the
    rows of its first and last pivot, ``known`` the row of confirmation, ``side`` that of the last pivot. ``way`` is the
    direction of the first close beyond its last leg's range from then on, ``at`` that close's row (-1 none yet).
    """

    pivots: Swings
    legs: int
    shape: Floats
    way: Rows
    at: Rows

    def __len__(self) -> int:
        return len(self.shape)

    @property
    def first(self) -> Rows:
        """The row of each run's first pivot."""
        return self.pivots.row[: len(self)]

    @property
    def known(self) -> Rows:
        """The row at whose close each run was known."""
        return self.pivots.confirmed[self.legs :]


def leg_runs(arrays: BarArrays, size: float, unit: Unit, window: int, legs: int, max_wait: int) -> LegRuns:
    """The runs of a zigzag with their shapes and what followed each.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> runs = leg_runs(BarArrays(example_bars(10, 14, 18, 15, 12, 16)), 20.0, "percent", 14, 2, 10)
    >>> runs.shape.round(2).tolist(), runs.known.tolist()
    ([[0.56, 0.44, 0.5, 0.5]], [5])
    """
    pivots = find_pivots(arrays, size, unit, window)
    shape = kernels.leg_shapes(pivots.price, pivots.row, legs)
    way, at = kernels.range_outcomes(arrays.close, pivots.confirmed, pivots.price, legs, max_wait)
    return LegRuns(pivots, legs, shape, way, at)


def _watched(arrays: BarArrays, found: Sequence[Findings], max_wait: int) -> Watch:
    return watch_standing(found, ("target", "stop"), rows=len(arrays), max_age=max_wait)


@detector(
    lookback=lambda memory, window, ratio: int(PIVOT_MEMORY * max(1.0, ratio / 2.0)) + memory + window,
    reference=(
        "Mandelbrot, The (Mis)behavior of Markets (2004), self-affine price paths; Lo, Mamaysky, Wang, Journal of "
        "Finance 55 (2000), a shape as a sequence of extrema"
    ),
    watch=_watched,
)
def fractal_repeat(
    arrays: BarArrays,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    legs: Legs = 5,
    ratio: Ratio = 2.0,
    bound: Distance = 0.1,
    memory: Memory = 1000,
    max_wait: Age = 200,
) -> Iterator[Found]:
    """The newest sequence of legs has the shape of an earlier one, of its own degree or of a larger one.

    Kind ``fractal_repeat``, confirmed with the last pivot of the newer sequence. The shape of a sequence is each leg's
    share of its whole height and each leg's share of its bars, so size and duration do not count, and a sequence is
    compared with mirrored ones as well. The distance of two shapes is the mean of the two total variations: half the
    sum of the absolute differences of their shares, 0 to 1; within ``bound`` they repeat. Earlier sequences are those
    of the zigzag of this ``size`` and of the one ``ratio`` times as large whose end was confirmed before this one
    began, that began at most ``memory`` bars before now, and whose sequel is known by now: the first close beyond the
    range of their last leg, within ``max_wait`` bars. The nearest counts.

    ``direction`` is what the earlier one did next, turned over where the two mirror each other: the side on which price
    closed beyond its last leg. ``target`` is the end of the newer sequence's last leg on that side, ``stop`` the
    other; nothing is found where price has closed beyond either already. ``score`` is the similarity, 1 less the
    distance. ``start`` and ``end`` are the newer sequence's first and last pivot, ``low`` and ``high`` its range; the
    points are the first and last pivot of the earlier one and then of the newer one. Invalidated when target or stop is
    traded, or after ``max_wait`` bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> shape = [(0, 100), (20, 110), (30, 104), (50, 118), (62, 106), (80, 115)]
    >>> later = [(row + 180, 2 * price - 112) for row, price in shape]
    >>> bars = bars_through([(0, 105), (20, 100), *[(r + 20, p) for r, p in shape[1:]], (130, 86), *later, (275, 108)])
    >>> found = fractal_repeat(bars, legs=4)
    >>> found[["direction", "score"]].round(2).to_numpy().tolist()[-1]
    [-1.0, 1.0]
    """
    runs = arrays.once(leg_runs, size, unit, window, legs, max_wait)
    coarse = runs if ratio == 1.0 else arrays.once(leg_runs, size * ratio, unit, window, legs, max_wait)
    if not len(runs):
        return
    libraries = [runs] if ratio == 1.0 else [runs, coarse]
    matches = [
        kernels.nearest_earlier(
            runs.shape, runs.first, runs.known, past.shape, past.first, past.known, past.at, bound, memory
        )
        for past in libraries
    ]
    distances = np.array([np.where(place >= 0, distance, np.inf) for place, distance in matches])
    which = distances.argmin(axis=0)
    best = distances.min(axis=0)
    pivots = runs.pivots
    for number, (past, (place, _)) in enumerate(zip(libraries, matches, strict=True)):
        mine = np.flatnonzero((which == number) & np.isfinite(best))
        if not mine.size:
            continue
        like, last = place[mine], mine + legs
        mirrored = past.pivots.side[like + legs] * pivots.side[last]
        direction = (past.way[like] * mirrored).astype(np.int8)
        ends = np.column_stack((pivots.price[last - 1], pivots.price[last]))
        bottom, top, close = ends.min(axis=1), ends.max(axis=1), arrays.close[runs.known[mine]]
        ahead = (close >= bottom) & (close <= top)
        mine, like, last, direction = mine[ahead], like[ahead], last[ahead], direction[ahead]
        bottom, top = bottom[ahead], top[ahead]
        target, stop = np.where(direction > 0, top, bottom), np.where(direction > 0, bottom, top)
        known = runs.known[mine]
        spans = pivots.price[mine[:, None] + np.arange(legs + 1)]
        there, here = np.column_stack((like, like + legs)), np.column_stack((mine, last))
        yield Findings(
            "fractal_repeat",
            direction=direction,
            start=pivots.row[mine],
            end=pivots.row[last],
            confirmed=known,
            low=spans.min(axis=1),
            high=spans.max(axis=1),
            invalidated=fates(arrays, known, direction, target, stop, max_wait).row,
            target=target,
            stop=stop,
            score=1.0 - best[mine],
            point_rows=np.column_stack((past.pivots.row[there], pivots.row[here])),
            point_prices=np.column_stack((past.pivots.price[there], pivots.price[here])),
        )
