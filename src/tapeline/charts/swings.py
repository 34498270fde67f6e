"""Swings: the highs and lows at which price turned, each with the bar of its extreme and the bar that confirmed it.

All other detectors stand on these. A swing is stamped at its extreme (``start``, ``end``) and may be used from
``confirmed_at`` on, never before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import swing_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import EMPTY, advance_crossings
from tapeline.charts.events import Findings
from tapeline.charts.watch import ends_at
from tapeline.core.errors import ConfigurationError

Reach = Annotated[int, Field(ge=1, le=10_000)]
"""A number of bars on one side of an extreme."""

Size = Annotated[float, Field(gt=0.0, le=1_000.0)]
"""How far price must come back: in average true ranges, or in percent of the extreme."""

Unit = Literal["atr", "percent"]
Period = Annotated[int, Field(ge=2, le=10_000)]
Method = Literal["fractal", "zigzag", "prominence", "directional_change"]
METHODS: Final[tuple[Method, ...]] = ("fractal", "zigzag", "prominence", "directional_change")

_LOG_START: Final = 64


@dataclass(frozen=True)
class Swings:
    """Swings in the order in which they were confirmed: arrays of one length.

    ``row`` is the bar of the extreme, ``confirmed`` the bar at whose close it was confirmed, ``side`` 1 a high and
    -1 a low, ``price`` the high or low there.
    """

    row: Rows
    confirmed: Rows
    side: NDArray[np.int8]
    price: Floats

    def __len__(self) -> int:
        return len(self.row)


class SwingStream:
    """Swings one bar at a time, by the same kernels and in the same order as on the whole history.

    Parameters
    ----------
    method:
        ``fractal``, ``zigzag``, ``prominence`` or ``directional_change``.
    size, unit, window:
        For all but ``fractal``: how far price must turn, in average true ranges over ``window`` bars or in percent.
    left, right:
        For ``fractal``: the bars on both sides that the extreme exceeds.

    Examples
    --------
    >>> stream = SwingStream("fractal", left=1, right=1)
    >>> [stream.push(high, high - 1.0, high - 0.5) for high in (2.0, 3.0, 2.0)]
    [[], [], [(1, 2, 1, 3.0)]]
    """

    def __init__(
        self,
        method: Method = "fractal",
        *,
        left: int = 2,
        right: int = 2,
        size: float = 3.0,
        unit: Unit = "atr",
        window: int = 14,
        capacity: int = 1024,
    ) -> None:
        if method not in METHODS:
            raise ConfigurationError(f"swing method '{method}' is unknown", hint=f"one of {', '.join(METHODS)}")
        self.method, self.left, self.right, self.window = method, left, right, window
        percent = method == "directional_change" or unit == "percent"
        self.share, self.multiple = (size / 100.0, 0.0) if percent else (0.0, size)
        self.bars = 0
        self.count = 0
        self._prices = np.full((3, capacity), np.nan)
        self._ranges, self._distance = np.zeros(capacity), np.zeros(capacity)
        self._row, self._at = np.empty(_LOG_START, np.int64), np.empty(_LOG_START, np.int64)
        self._side, self._price = np.empty(_LOG_START, np.int8), np.empty(_LOG_START)
        self._memory = self._fresh(capacity)

    def push(self, high: float, low: float, close: float) -> list[tuple[int, int, int, float]]:
        """Take the next closed bar; the swings it confirms as (row, confirmed row, side, price)."""
        if self.bars == self._prices.shape[1]:
            self._grow()
        self._prices[:, self.bars] = high, low, close
        before = self.count
        self._advance(self.bars, self.bars + 1)
        new = range(before, self.count)
        return [(int(self._row[i]), int(self._at[i]), int(self._side[i]), float(self._price[i])) for i in new]

    def extend(self, high: Floats, low: Floats, close: Floats) -> Swings:
        """Take many bars at once into an empty stream; all swings they confirm."""
        self._prices = np.ascontiguousarray(np.vstack((high, low, close)))
        rows = self._prices.shape[1]
        self._ranges, self._distance = np.zeros(rows), np.zeros(rows)
        self._memory = self._fresh(rows)
        self._row, self._at = np.empty(2 * rows + 2, np.int64), np.empty(2 * rows + 2, np.int64)
        self._side, self._price = np.empty(2 * rows + 2, np.int8), np.empty(2 * rows + 2)
        self._advance(0, rows)
        return self.swings

    @property
    def swings(self) -> Swings:
        """All swings so far."""
        kept = slice(0, self.count)
        return Swings(self._row[kept].copy(), self._at[kept].copy(), self._side[kept].copy(), self._price[kept].copy())

    def since(self, first: int) -> Swings:
        """The swings whose extreme lies at or after this bar, their rows counted from it."""
        begin = int(np.searchsorted(self._at[: self.count], first))
        row = self._row[begin : self.count]
        kept = np.flatnonzero(row >= first) + begin
        return Swings(self._row[kept] - first, self._at[kept] - first, self._side[kept], self._price[kept])

    def _fresh(self, capacity: int) -> tuple[Any, ...]:
        if self.method == "fractal":
            return ()
        if self.method == "prominence":
            state = np.zeros((2, 3), np.int64)
            state[:, 2] = EMPTY
            return np.zeros((2, capacity + 1, 2), np.int64), np.zeros((2, capacity + 1)), state
        return np.array([0, EMPTY, EMPTY]), np.zeros(2)

    def _advance(self, begin: int, end: int) -> None:
        high, low, close = self._prices
        # Each bar makes one swing a side at most that is still to be confirmed, so all can never be more than this.
        while self._row.size < 2 * end + 2:
            self._row, self._at = _doubled(self._row), _doubled(self._at)
            self._side, self._price = _doubled(self._side), _doubled(self._price)
        log: tuple[Any, ...] = (self._row, self._at, self._side, self._price, self.count)
        if self.multiple:
            kernels.advance_true_range(high, low, close, self.window, begin, end, self._ranges, self._distance)
            self._distance[begin:end] *= self.multiple
        if self.method == "fractal":
            self.count = kernels.advance_fractals(high, low, self.left, self.right, begin, end, *self._memory, *log)
        elif self.method == "prominence":
            self.count = kernels.advance_prominence(
                high, low, self._distance, self.share, begin, end, *self._memory, *log
            )
        else:
            top, bottom = (close, close) if self.method == "directional_change" else (high, low)
            self.count = kernels.advance_zigzag(
                top, bottom, self._distance, self.share, begin, end, *self._memory, *log
            )
        self.bars = end

    def _grow(self) -> None:
        self._prices, self._ranges = _doubled(self._prices), _doubled(self._ranges)
        self._distance = _doubled(self._distance)
        if self.method == "prominence":
            stacks, bases, state = self._memory
            self._memory = _doubled(stacks, 1), _doubled(bases, 1), state


def _doubled(part: Any, axis: int = -1) -> Any:
    return np.concatenate((part, np.zeros_like(part)), axis=axis)


def find_swings(bars: pd.DataFrame | BarArrays, method: Method = "fractal", **options: Any) -> Swings:
    """The swings of bars as arrays; the options are those of :class:`SwingStream`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> find_swings(example_bars(10, 12, 9, 9), "directional_change", size=5.0).price.tolist()
    [10.0, 12.0]
    """
    arrays = BarArrays.of(bars)
    return SwingStream(method, **options).extend(arrays.high, arrays.low, arrays.close)


def swing_degrees(
    bars: pd.DataFrame | BarArrays,
    sizes: Sequence[float] = (1.5, 3.0, 6.0, 12.0),
    method: Method = "zigzag",
    **options: Any,
) -> Mapping[float, Swings]:
    """The swings of several degrees, by how far price must turn (``fractal``: by the bars on each side).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 11, 13, 9, 9.5)
    >>> {size: len(found) for size, found in swing_degrees(bars, (5.0, 20.0), "directional_change").items()}
    {5.0: 5, 20.0: 2}
    """
    arrays = BarArrays.of(bars)
    if method == "fractal":
        return {size: arrays.once(find_swings, method, left=int(size), right=int(size), **options) for size in sizes}
    return {size: arrays.once(find_swings, method, size=size, **options) for size in sizes}


def exceeded(bars: pd.DataFrame | BarArrays, swings: Swings) -> Rows:
    """The row at which price first traded beyond each swing after its confirmation, -1 where it has not."""
    arrays = BarArrays.of(bars)
    hit = np.full(len(swings), EMPTY)
    for side, values in ((1, arrays.high), (-1, arrays.low)):
        chosen = np.flatnonzero(swings.side == side)
        found = np.full(chosen.size, EMPTY)
        stack, state = np.empty(chosen.size, np.int64), np.zeros(2, np.int64)
        known, level = swings.confirmed[chosen], swings.price[chosen]
        advance_crossings(side, True, values, 0, values.size, known, level, chosen.size, stack, state, found)
        hit[chosen] = found
    return hit


def swing_findings(arrays: BarArrays, swings: Swings, kind: str) -> Findings:
    """Swings as findings: ``direction`` is the way price turned, so -1 at a high and 1 at a low."""
    return Findings(
        kind,
        direction=(-swings.side).astype(np.int8),
        start=swings.row,
        end=swings.row,
        confirmed=swings.confirmed,
        low=swings.price,
        high=swings.price,
        invalidated=exceeded(arrays, swings),
        stop=swings.price,
        point_rows=swings.row[:, None],
        point_prices=swings.price[:, None],
    )


@detector(
    lookback=lambda left, right: left + right + 1,
    reference="Williams, Trading Chaos (1995), the fractal; left = right = 2 there",
    watch=ends_at("stop"),
)
def fractal_swing(arrays: BarArrays, left: Reach = 2, right: Reach = 2) -> Iterator[Found]:
    """Highs above, and lows below, the bars on both sides of them, confirmed when the last of these has closed.

    Kind ``fractal_swing``, ``direction`` -1 at a high and 1 at a low: the way price turned. Strictly beyond each of
    the ``left`` bars before and the ``right`` bars after; ``low`` and ``high`` are both its price. Invalidated when
    price trades beyond it. A bar may be both a high and a low.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 15, 11, 9, 10).assign(high=[11.0, 13.0, 17.0, 16.0, 12.0, 11.0])
    >>> found = fractal_swing(bars, left=1, right=1)
    >>> found[["direction", "high"]].to_numpy().tolist()
    [[-1.0, 17.0]]
    """
    found = arrays.once(find_swings, "fractal", left=left, right=right)
    yield swing_findings(arrays, found, "fractal_swing")


@detector(
    lookback=2_000,
    reference="Merrill, Filtered Waves (1977); Wilder (1978) for the true range as a measure",
    watch=ends_at("stop"),
)
def zigzag_swing(arrays: BarArrays, size: Size = 3.0, unit: Unit = "atr", window: Period = 14) -> Iterator[Found]:
    """Alternating highs and lows, each confirmed when price has come back from it by ``size``.

    Kind ``zigzag_swing``, ``direction`` as in ``fractal_swing``. ``size`` is in mean true ranges over ``window`` bars,
    as they stand at the confirming bar, or in percent of the extreme. The bar that makes the extreme never confirms
    it, because nobody knows what came first in it. A confirmed swing is never moved: the leg under way is none.

    Two histories that start apart agree once both have seen the same turns; within the declared lookback they have on
    ordinary data, which the audit measures.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = zigzag_swing(example_bars(10, 14, 18, 15, 12, 16), size=20.0, unit="percent")
    >>> found[["direction", "high"]].to_numpy().tolist()
    [[1.0, 9.0], [-1.0, 19.0], [1.0, 11.0]]
    """
    found = arrays.once(find_swings, "zigzag", size=size, unit=unit, window=window)
    yield swing_findings(arrays, found, "zigzag_swing")


@detector(
    lookback=2_000,
    reference="topographic prominence, as scipy.signal.find_peaks measures it; confirmed on the second side",
    watch=ends_at("stop"),
)
def prominence_swing(arrays: BarArrays, size: Size = 3.0, unit: Unit = "atr", window: Period = 14) -> Iterator[Found]:
    """Highs and lows that stand out by ``size`` from what lies before and after them.

    Kind ``prominence_swing``, ``direction`` as in ``fractal_swing``. A high is taken when price has fallen by ``size``
    on both sides of it without passing it, and is confirmed at the bar where the second fall is complete. With a
    fixed size these are the peaks of ``scipy.signal.find_peaks(high, prominence=size)``, without those that the end
    of the series cuts short; the middle of a flat top is the row, as there. Highs and lows need not alternate.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = prominence_swing(example_bars(10, 14, 18, 17, 14, 11), size=20.0, unit="percent")
    >>> found[["direction", "high"]].to_numpy().tolist()
    [[-1.0, 19.0]]
    """
    found = arrays.once(find_swings, "prominence", size=size, unit=unit, window=window)
    yield swing_findings(arrays, found, "prominence_swing")


@detector(
    lookback=2_000,
    reference="Glattfelder, Dupuis, Olsen, Patterns in high-frequency FX data, Quantitative Finance 11 (2011)",
    watch=ends_at("stop"),
)
def directional_change(arrays: BarArrays, size: Size = 0.4) -> Iterator[Found]:
    """Closes from which price has come back by ``size`` percent: the directional changes of intrinsic time.

    Kind ``directional_change``, ``direction`` as in ``fractal_swing``; closes only, so a wick turns nothing.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = directional_change(example_bars(10, 14, 18, 15, 12, 16), size=20.0)
    >>> found[["direction", "high"]].to_numpy().tolist()
    [[1.0, 10.0], [-1.0, 18.0], [1.0, 12.0]]
    """
    found = arrays.once(find_swings, "directional_change", size=size)
    yield swing_findings(arrays, found, "directional_change")
