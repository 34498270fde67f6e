"""Market structure over causal swings: their labels, breaks of structure, changes of character."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import structure_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.swings import Period, Reach, Swings, find_swings
from tapeline.charts.watch import Watch, ends_at, last_of_sides, watch_levels

By = Literal["close", "wick"]
"""What breaks a level: the close of a bar, or its high or low."""

Displacement = Annotated[float, Field(ge=0.0, le=100.0)]

MEMORY: Final = 200
"""Bars, by the bars on one side of a swing, after which structure no longer depends on where the history began.

The trend is known from the first break on, the levels from the first two swings; what has neither in so many bars is
a market that stands still.
"""


@dataclass(frozen=True)
class Breaks:
    """Breaks of confirmed swings in the order in which they happened: arrays of one length.

    ``row`` is the bar that broke, ``swing`` the bar of the broken extreme, ``level`` its price, ``direction`` 1
    upwards, ``trend`` the direction of the break before this one (0 at the first), ``opposite`` the price of the last
    swing on the other side, NaN before there was one.
    """

    row: Rows
    swing: Rows
    level: Floats
    direction: NDArray[np.int8]
    trend: NDArray[np.int8]
    opposite: Floats

    def __len__(self) -> int:
        return len(self.row)

    @property
    def changes_character(self) -> NDArray[np.bool_]:
        """Whether each goes against the break before it."""
        return self.trend == -self.direction


class StructureStream:
    """Breaks of structure one bar at a time, by the same kernel as on the whole history.

    Feed it each closed bar with the swings that this bar confirmed, as ``SwingStream.push`` gives them.

    Examples
    --------
    >>> stream = StructureStream()
    >>> stream.push(1.0, 3.0, 1.0, 2.0, [(0, 0, 1, 3.0)])
    []
    >>> stream.push(2.0, 5.0, 2.0, 4.0, [])
    [(1, 0, 1, 0)]
    """

    def __init__(self, by: By = "close") -> None:
        self.by = by
        self._bar = 0
        self._state, self._levels = np.array([0, 0, -1, -1]), np.full(4, np.nan)
        self._log = np.empty((4, 4), np.int64), np.empty(4)

    def push(
        self, opened: float, high: float, low: float, close: float, confirmed: list[tuple[int, int, int, float]]
    ) -> list[tuple[int, int, int, int]]:
        """Take the next bar; the breaks it makes as (row, row of the swing, direction, trend before)."""
        up, down = (close, close) if self.by == "close" else (high, low)
        row = np.array([swing[0] for swing in confirmed], dtype=np.int64)
        side = np.array([swing[2] for swing in confirmed], dtype=np.int8)
        price = np.array([swing[3] for swing in confirmed], dtype=np.float64)
        self._state[0] = 0
        # The kernel sees this bar as its row 0; the swings it confirms are known at its close.
        at = np.zeros(len(confirmed), np.int64)
        found, stops = self._log
        count = kernels.advance_breaks(
            np.array([up]), np.array([down]), np.array([close >= opened]), 0, 1,
            row, at, side, price, len(confirmed), self._state, self._levels, found, stops, 0,
        )  # fmt: skip
        now, self._bar = self._bar, self._bar + 1
        return [(now, int(line[1]), int(line[2]), int(line[3])) for line in found[:count]]


def find_breaks(bars: pd.DataFrame | BarArrays, swings: Swings, by: By = "close") -> Breaks:
    """The breaks of these swings; each swing can be broken once, and only the last confirmed one of a side.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 9, 8, 12, 14)
    >>> find_breaks(bars, find_swings(bars, "directional_change", size=20.0)).level.tolist()
    [10.0, 12.0]
    """
    arrays = BarArrays.of(bars)
    close = arrays.close
    up, down = (close, close) if by == "close" else (arrays.high, arrays.low)
    state, levels = np.array([0, 0, -1, -1]), np.full(4, np.nan)
    found, stops = np.empty((len(swings) + 2, 4), np.int64), np.empty(len(swings) + 2)
    count = kernels.advance_breaks(
        up, down, close >= arrays.open, 0, close.size,
        swings.row, swings.confirmed, swings.side, swings.price, len(swings),
        state, levels, found, stops, 0,
    )  # fmt: skip
    row, swing, direction, trend = (np.ascontiguousarray(part) for part in found[:count].T)
    level = _levels(swings, swing, direction)
    return Breaks(row, swing, level, direction.astype(np.int8), trend.astype(np.int8), stops[:count].copy())


def _levels(swings: Swings, swing: Rows, direction: Rows) -> Floats:
    level = np.empty(swing.size)
    for side in (1, -1):
        mine, wanted = swings.side == side, direction == side
        rows, prices = swings.row[mine], swings.price[mine]
        order = np.argsort(rows, kind="stable")
        level[wanted] = prices[order][np.searchsorted(rows[order], swing[wanted])]
    return level


def fractal_breaks(arrays: BarArrays, reach: int, by: By = "close") -> Breaks:
    """The breaks of the swings that stand out from ``reach`` bars on both sides."""
    return find_breaks(arrays, arrays.once(find_swings, "fractal", left=reach, right=reach), by)


def displacement_of(arrays: BarArrays, breaks: Breaks, window: int) -> Floats:
    """The body of each breaking bar along the break, in mean true ranges of the bars before it."""
    before = np.maximum(breaks.row - 1, 0)
    usual = arrays.once(mean_true_range, window)[before]
    result = np.full(len(breaks), np.nan)
    body = breaks.direction * (arrays.close[breaks.row] - arrays.open[breaks.row])
    np.divide(body, usual, out=result, where=usual > 0.0)
    return result


def break_findings(breaks: Breaks, kind: str, score: Floats, until: Rows, chosen: Any) -> Findings:
    """Some of the breaks as findings: ``stop`` is the last swing on the other side."""
    row, swing, level = breaks.row[chosen], breaks.swing[chosen], breaks.level[chosen]
    return Findings(
        kind,
        direction=breaks.direction[chosen],
        start=swing,
        end=row,
        confirmed=row,
        low=level,
        high=level,
        invalidated=until[chosen],
        stop=breaks.opposite[chosen],
        score=score[chosen],
        point_rows=np.column_stack((swing, row)),
        point_prices=np.column_stack((level, level)),
    )


@detector(
    lookback=lambda reach: 8 * MEMORY + 2 * reach,
    reference="Edwards, Magee, Technical Analysis of Stock Trends (1948), Dow theory: the sequence of highs and lows",
    watch=ends_at(),
)
def swing_label(arrays: BarArrays, reach: Reach = 5) -> Iterator[Found]:
    """Each swing against the last one of its side, known when the swing is confirmed.

    Kinds ``higher_high``, ``lower_high``, ``higher_low``, ``lower_low``; ``direction`` 1 for the higher, -1 for the
    lower ones. A high that only equals the last is no higher one, a low that only equals it no lower one. ``start`` is
    the last swing, ``end`` this one, which is confirmed ``reach`` bars later; ``low`` and ``high`` are its price,
    ``score`` the change in percent.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14, 12).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0, 14.0])
    >>> found = swing_label(bars, reach=1)
    >>> found[["kind", "high"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([['higher_high', 15.0]], '2017-01-02 06:00:00+00:00')
    """
    swings = arrays.once(find_swings, "fractal", left=reach, right=reach)
    for side, names in ((1, ("higher_high", "lower_high")), (-1, ("lower_low", "higher_low"))):
        mine = np.flatnonzero(swings.side == side)
        before, now = mine[:-1], mine[1:]
        change = swings.price[now] - swings.price[before]
        for name, chosen in zip(names, (side * change > 0.0, ~(side * change > 0.0)), strict=True):
            old, new = before[chosen], now[chosen]
            row, price = swings.row[new], swings.price[new]
            yield Findings(
                name,
                direction=np.full(new.size, 1 if name.startswith("higher") else -1, np.int8),
                start=swings.row[old],
                end=row,
                confirmed=swings.confirmed[new],
                low=price,
                high=price,
                score=100.0 * (price - swings.price[old]) / swings.price[old],
                point_rows=np.column_stack((swings.row[old], row)),
                point_prices=np.column_stack((swings.price[old], price)),
            )


def next_breaks(arrays: BarArrays, reach: int, by: By) -> Watch:
    """A watch on the swings of which the next bar may break one: the last of each side."""
    swings = arrays.once(find_swings, "fractal", left=reach, right=reach)
    return watch_levels(last_of_sides(swings.side, swings.price), closes=by == "close")


@detector(
    lookback=lambda reach, window: MEMORY * reach + window,
    reference="Dow theory; named break of structure in Huddleston's (ICT) teaching",
    watch=ends_at(),
)
def break_of_structure(arrays: BarArrays, reach: Reach = 5, by: By = "close", window: Period = 14) -> Iterator[Found]:
    """Breaks of the last confirmed swing along the trend, confirmed at the bar that breaks.

    Kind ``break_of_structure``. The trend is the direction of the break before; the first break of a history starts
    one. ``start`` is the bar of the swing, ``end`` the breaking bar, ``low`` and ``high`` the level, ``stop`` the last
    swing on the other side, ``score`` the breaking bar's body in mean true ranges. Each level is broken once.
    Invalidated by the next break of the other direction.

    Parameters
    ----------
    reach:
        Bars on both sides of a swing; it counts from the bar after its confirmation on.
    by:
        ``close``: a close beyond the level; ``wick``: any trade beyond it.
    window:
        Bars of the mean true range in ``score``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14, 12).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0, 14.0])
    >>> found = break_of_structure(bars, reach=1)
    >>> found[["direction", "high"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[1.0, 13.0]], '2017-01-02 05:00:00+00:00')
    """
    breaks = arrays.once(fractal_breaks, reach, by)
    until = kernels.opposite_next(breaks.row, breaks.direction)
    score = displacement_of(arrays, breaks, window)
    yield break_findings(breaks, "break_of_structure", score, until, ~breaks.changes_character)
    yield next_breaks(arrays, reach, by)


@detector(
    lookback=lambda reach, window: MEMORY * reach + window,
    reference="change of character and market structure shift in Huddleston's (ICT) teaching",
    watch=ends_at(),
)
def change_of_character(
    arrays: BarArrays,
    reach: Reach = 5,
    by: By = "close",
    displacement: Displacement = 1.0,
    window: Period = 14,
) -> Iterator[Found]:
    """Breaks of the last confirmed swing against the trend, confirmed at the bar that breaks.

    Kind ``market_structure_shift`` where the breaking bar's body is at least ``displacement`` mean true ranges of the
    bars before it, else ``change_of_character``. The rest is as in ``break_of_structure``, and the two share their
    trend: each break is in one of them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14, 12, 8, 8).assign(high=[11.0, 13, 12, 12.5, 15, 14, 12, 9])
    >>> found = change_of_character(bars.assign(low=[9.0, 10, 8.5, 9, 11, 11, 7, 7]), reach=1)
    >>> found[["kind", "direction", "high"]].to_numpy().tolist()
    [['change_of_character', -1, 8.5]]
    """
    breaks = arrays.once(fractal_breaks, reach, by)
    until = kernels.opposite_next(breaks.row, breaks.direction)
    score = displacement_of(arrays, breaks, window)
    turns = breaks.changes_character
    strong = score >= displacement
    yield break_findings(breaks, "change_of_character", score, until, turns & ~strong)
    yield break_findings(breaks, "market_structure_shift", score, until, turns & strong)
    yield next_breaks(arrays, reach, by)
