"""Support and resistance: levels that price turned at again and again, how they broke, and how they changed sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import level_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.swing_kernels import advance_fractals, advance_true_range
from tapeline.charts.swings import Period, Reach, find_swings
from tapeline.charts.watch import ends_at
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.features.arrays import frame

Touches = Annotated[int, Field(ge=2, le=50)]
Tolerance = Annotated[float, Field(gt=0.0, le=10.0)]
Life = Annotated[int, Field(ge=10, le=100_000)]

FARTHEST: Final = 20.0
"""The distance, in mean true ranges, that stands for no level."""

_KINDS: Final = {
    kernels.CONFIRMED: "support_resistance",
    kernels.BROKEN: "level_break",
    kernels.FLIPPED: "level_flip",
}
_COLUMNS: Final = ("price", "low", "high", "side", "touches", "age", "strength", "flips", "shown")
_LOG_START: Final = 4 * kernels.LOG_MARGIN


@dataclass(frozen=True)
class LevelLog:
    """What happened at levels, in the order in which it happened: arrays of one length.

    ``what`` is ``CONFIRMED``, ``BROKEN`` or ``FLIPPED`` of ``level_kernels``; ``direction`` 1 speaks for rising prices;
    ``start`` is the bar of the level's first swing, ``end`` that of the turn (or the break) and ``end_price`` its
    price; ``known`` the row at whose close it was known and ``gone`` the one at which it no longer held, -1 where it
    does. ``price`` is that of the first swing, ``low`` and ``high`` the range of its touches, ``strength`` and
    ``touches`` as they stood.
    """

    what: Rows
    direction: NDArray[np.int8]
    start: Rows
    end: Rows
    known: Rows
    gone: Rows
    touches: Rows
    flips: Rows
    price: Floats
    low: Floats
    high: Floats
    end_price: Floats
    strength: Floats

    def __len__(self) -> int:
        return len(self.what)

    def findings(self, what: int) -> Findings:
        """The findings of one sort."""
        mine = self.what == what
        start, end, known = self.start[mine], self.end[mine], self.known[mine]
        direction, price = self.direction[mine], self.price[mine]
        low, high = self.low[mine], self.high[mine]
        # A break and a flip are drawn at the level, a level to the turn that made it one.
        last = self.end_price[mine] if what == kernels.CONFIRMED else price
        return Findings(
            _KINDS[what],
            direction=direction,
            start=start,
            end=end,
            confirmed=known,
            low=low,
            high=high,
            invalidated=self.gone[mine],
            stop=np.where(direction > 0, low, high),
            score=self.strength[mine],
            point_rows=np.column_stack((start, end)),
            point_prices=np.column_stack((price, last)),
        )


class LevelStream:
    """Levels one bar at a time, by the same kernel as on the whole history and in a memory that does not grow.

    Every confirmed swing (``reach`` bars on both sides) founds a candidate at its price, ``tolerance`` mean true
    ranges wide on both sides, and is a visit to every candidate it lies within: it joins those. A visit begins with a
    trade within the tolerance and is a touch once a close has come back ``reaction`` mean true ranges from the visit's
    extreme; a bar and a swing are judged alike, and the founding swing too must earn its touch in this way. A close
    beyond the tolerance breaks it. A candidate that has not touches enough is dropped by its first break. A level
    changes sides: support becomes resistance or the other way round, and the next touch, now from the other side and
    after price had moved away, is a flip; a break back before that shows that price heeds it no more, and drops it.

    A candidate with ``touches`` is a level, unless it lies within the tolerance of one that had them earlier: of
    candidates at one price the first to be confirmed stands for all. A candidate is dropped at the latest ``max_age``
    bars after its swing was confirmed, or when there are more than 128, the oldest first; the level goes on in the one
    that then comes to the front, which is reported anew. So what is said at a bar depends on the last ``2 * max_age``
    bars and the warm-up of the swings, and on nothing before.

    Strength is the sum over touches of ``r * 2 ** (-age / half_life)``: ``r`` the reaction when the touch was known,
    in mean true ranges, 5 at most, ``age`` in bars since, ``half_life`` half of ``max_age``; each break halves it.

    Parameters
    ----------
    reach:
        Bars on both sides of a swing.
    touches:
        Touches that make a level.
    tolerance, reaction:
        In mean true ranges over ``window`` bars: as they stood when the swing was confirmed, and as they stand at the
        bar that came back.
    max_age:
        Bars a candidate is kept.

    Raises
    ------
    ConfigurationError
        A number out of its range.

    Examples
    --------
    >>> stream = LevelStream(reach=1, touches=2, window=2)
    >>> bars = [(10, 8, 9), (11, 9, 10), (10, 8.5, 9.5), (9, 7, 7.5), (9, 7.5, 8.5), (10.8, 9, 10), (9.5, 8, 8.2)]
    >>> [stream.push(*bar) for bar in bars][-1]
    [(0, -1, 1, 5, 6, 10.8, 11.0)]
    >>> stream.levels()[["side", "touches", "age"]].to_numpy().tolist()
    [[-1, 2, 5]]
    """

    def __init__(
        self,
        *,
        reach: int = 5,
        touches: int = 3,
        tolerance: float = 0.5,
        reaction: float = 1.0,
        max_age: int = 300,
        window: int = 14,
    ) -> None:
        for name, value, least in (
            ("reach", reach, 1), ("touches", touches, 2), ("max_age", max_age, 10), ("window", window, 2),
        ):  # fmt: skip
            if value < least:
                raise ConfigurationError(f"{name} = {value} is refused", hint=f"{least} or more")
        for name, amount in (("tolerance", tolerance), ("reaction", reaction)):
            if not amount > 0.0:
                raise ConfigurationError(f"{name} = {amount} is refused", hint="in mean true ranges, above 0")
        self.bars = 0
        self._reach, self._window = reach, window
        self._rules = (tolerance, reaction, touches, max_age, max_age / 2.0, FARTHEST)
        self._half_life = max_age / 2.0
        self._counts = np.zeros(3, np.int64)
        self._order = np.vstack((np.arange(kernels.CAPACITY), np.arange(kernels.CAPACITY)))
        self._integers = np.zeros((kernels.CAPACITY, kernels.INTEGERS), np.int64)
        self._numbers = np.zeros((kernels.CAPACITY, kernels.NUMBERS))
        self._log, self._prices = _log(_LOG_START)
        self._last = np.full((3, max(window + 1, 2 * reach + 1)), np.nan)
        self._work = np.empty((2, self._last.shape[1]))
        self._swings = np.empty(2, np.int64), np.empty(2, np.int64), np.empty(2, np.int8), np.empty(2)
        self._line = np.full((1, kernels.DENSE), np.nan)

    def push(self, high: float, low: float, close: float) -> list[tuple[int, int, int, int, int, float, float]]:
        """Take the next closed bar; what it made known: (what, direction, start, end, known, low, high).

        ``what`` is 0 for a level confirmed, 1 for one broken, 2 for a flip; rows count from the first bar pushed.
        """
        self._counts[kernels.LOGGED] = 0
        self._integers[:, kernels.OPEN :] = -1
        self._take(high, low, close)
        return [
            (int(line[0]), int(line[1]), int(line[2]), int(line[3]), int(line[4]), float(paid[1]), float(paid[2]))
            for line, paid in zip(self._log[: self._counts[kernels.LOGGED]], self._prices, strict=False)
        ]

    def _take(self, high: float, low: float, close: float) -> None:
        """Take the next closed bar, and log what it made known behind what the log holds."""
        held, width = self._last, self._last.shape[1]
        held[:, :-1] = held[:, 1:]
        held[:, -1] = high, low, close
        now, self.bars = self.bars, self.bars + 1
        have = min(self.bars, width)
        part = held[:, width - have :]
        ranges, mean = self._work[:, width - have :]
        advance_true_range(part[0], part[1], part[2], self._window, max(have - self._window, 0), have, ranges, mean)
        row, at, side, price = self._swings
        count = advance_fractals(part[0], part[1], self._reach, self._reach, have - 1, have, row, at, side, price, 0)
        row[:count] += now - have + 1
        at[:count] = now
        self._counts[kernels.TAKEN] = 0
        kernels.advance_levels(
            part[0, -1:], part[1, -1:], part[2, -1:], mean[-1:], 0, 1, now, row, at, side, price, count,
            *self._rules, self._counts, self._order, self._integers, self._numbers, self._log, self._prices, self._line,
        )  # fmt: skip

    def nearest(self) -> Floats:
        """The values of :func:`nearest_levels` at the last bar."""
        return self._line[0].copy()

    def levels(self, *, all_candidates: bool = False) -> pd.DataFrame:
        """The levels as of the last bar, by price.

        ``price`` of the first swing, ``low`` and ``high`` of its touches, ``side`` 1 support and -1 resistance,
        ``touches``, ``age`` in bars since the first swing, ``strength``, ``flips``, and ``shown``: false for a
        candidate that another one stands for or that has not touches enough, of which there are only with
        ``all_candidates``.
        """
        order = self._order[0, : self._counts[kernels.SIZE]]
        whole, number = self._integers[order], self._numbers[order]
        now = self.bars - 1
        faded = 0.5 ** ((now - whole[:, kernels.UPDATED]) / self._half_life)
        table = pd.DataFrame(
            {
                "price": number[:, kernels.PRICE],
                "low": number[:, kernels.LOW],
                "high": number[:, kernels.HIGH],
                "side": whole[:, kernels.SIDE],
                "touches": whole[:, kernels.TOUCHES],
                "age": now - whole[:, kernels.START],
                "strength": number[:, kernels.STRENGTH] * faded,
                "flips": whole[:, kernels.FLIPS],
                "shown": whole[:, kernels.SHOWN] == 1,
            },
            columns=list(_COLUMNS),
        )
        chosen = table if all_candidates else table[table["shown"]]
        return chosen.sort_values("price", kind="stable", ignore_index=True)

    def _walk(self, arrays: BarArrays, dense: Floats) -> LevelLog:
        """All bars at once into an empty stream."""
        swings = arrays.once(find_swings, "fractal", left=self._reach, right=self._reach)
        unit = arrays.once(mean_true_range, self._window)
        end = len(arrays)
        done = 0
        while True:
            done = kernels.advance_levels(
                arrays.high, arrays.low, arrays.close, unit, done, end, 0,
                swings.row, swings.confirmed, swings.side, swings.price, len(swings),
                *self._rules, self._counts, self._order, self._integers, self._numbers, self._log, self._prices, dense,
            )  # fmt: skip
            if done == end:
                break
            log, prices = _log(2 * self._log.shape[0])
            log[: self._log.shape[0]], prices[: self._log.shape[0]] = self._log, self._prices
            self._log, self._prices = log, prices
        self.bars = end
        size = self._counts[kernels.LOGGED]
        return log_of_lines(self._log[:size], self._prices[:size])


def log_of_lines(lines: Any, prices: Any, first: int = 0) -> LevelLog:
    """What the kernel wrote down, its rows counted from ``first``."""
    whole, number = np.ascontiguousarray(lines.T), np.ascontiguousarray(prices.T)
    if first:
        whole[2:5] -= first
        whole[5] = np.where(whole[5] >= 0, whole[5] - first, -1)
    return LevelLog(
        what=whole[0], direction=whole[1].astype(np.int8), start=whole[2], end=whole[3], known=whole[4],
        gone=whole[5], touches=whole[6], flips=whole[7], price=number[0], low=number[1], high=number[2],
        end_price=number[3], strength=number[4],
    )  # fmt: skip


def _log(rows: int) -> tuple[Any, Any]:
    return np.empty((rows, kernels.LOG_INTEGERS), np.int64), np.empty((rows, kernels.LOG_NUMBERS))


def find_levels(bars: pd.DataFrame | BarArrays, **options: Any) -> LevelLog:
    """What happened at the levels of bars; the options are those of :class:`LevelStream`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14, 12, 10, 12, 14, 12, 10, 12)
    >>> bars = bars.assign(high=bars["close"] + 1.0, low=bars["close"] - 1.0)
    >>> found = find_levels(bars, reach=1, touches=2, window=2)
    >>> found.price.tolist(), found.direction.tolist(), found.known.tolist()
    ([15.0, 9.0], [-1, 1], [7, 9])
    """
    return LevelStream(**options)._walk(BarArrays.of(bars), np.empty((0, kernels.DENSE)))


def _log_of(
    arrays: BarArrays, reach: int, touches: int, tolerance: float, reaction: float, max_age: int, window: int
) -> LevelLog:
    return arrays.once(
        find_levels, reach=reach, touches=touches, tolerance=tolerance, reaction=reaction, max_age=max_age,
        window=window,
    )  # fmt: skip


def level_memory(reach: int, max_age: int, window: int) -> int:
    """The bars that decide what is said at a bar: two lives of a candidate and the warm-up before the first."""
    return 2 * (max_age + 1) + 2 * reach + window + 2


@detector(
    lookback=level_memory,
    reference="Osler, Support for resistance, FRBNY Economic Policy Review 6 (2000); Edwards, Magee (1948), ch. 13",
    watch=ends_at(),
)
def support_resistance(
    arrays: BarArrays,
    reach: Reach = 5,
    touches: Touches = 3,
    tolerance: Tolerance = 0.5,
    reaction: Tolerance = 1.0,
    max_age: Life = 300,
    window: Period = 14,
) -> Iterator[Found]:
    """Levels of support and resistance, confirmed at the close that completes the last of ``touches`` touches.

    Kind ``support_resistance``, ``direction`` 1 for support (price above it) and -1 for resistance. ``start`` is the
    first swing, ``end`` the extreme of the last touch, ``low`` and ``high`` the zone its touches span, ``stop`` the
    border beyond which it fails, ``score`` its strength. Invalidated by the first close beyond it by more than the
    tolerance, or when its first swing is more than ``max_age`` bars old. What a touch, a level and the strength are:
    :class:`LevelStream`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14, 12, 10, 12, 14, 12, 10, 12)
    >>> bars = bars.assign(high=bars["close"] + 1.0, low=bars["close"] - 1.0)
    >>> found = support_resistance(bars, reach=1, touches=2, window=2)
    >>> found[["direction", "low", "high"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[-1.0, 15.0, 15.0], [1.0, 9.0, 9.0]], '2017-01-02 08:00:00+00:00')
    """
    yield _log_of(arrays, reach, touches, tolerance, reaction, max_age, window).findings(kernels.CONFIRMED)


@detector(
    lookback=level_memory,
    reference="Edwards, Magee, Technical Analysis of Stock Trends (1948), chapter 13",
    watch=ends_at(),
)
def level_break(
    arrays: BarArrays,
    reach: Reach = 5,
    touches: Touches = 3,
    tolerance: Tolerance = 0.5,
    reaction: Tolerance = 1.0,
    max_age: Life = 300,
    window: Period = 14,
) -> Iterator[Found]:
    """Closes beyond a level by more than its tolerance, confirmed at that close.

    Kind ``level_break``, ``direction`` that of the break. ``start`` is the first swing of the level, ``end`` the
    breaking bar, ``low`` and ``high`` the level's zone, ``stop`` its far border, ``score`` its strength when it broke.
    Invalidated by the first close back beyond the other side, or when the level is dropped. A level may break more
    than once.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14, 12, 10, 12, 14, 12, 14, 18)
    >>> bars = bars.assign(high=bars["close"] + 1.0, low=bars["close"] - 1.0)
    >>> level_break(bars, reach=1, touches=2, window=2)[["direction", "low", "high"]].to_numpy().tolist()
    [[1.0, 15.0, 15.0]]
    """
    yield _log_of(arrays, reach, touches, tolerance, reaction, max_age, window).findings(kernels.BROKEN)


@detector(
    lookback=level_memory,
    reference="Edwards, Magee (1948), chapter 13: broken resistance becomes support",
    watch=ends_at(),
)
def level_flip(
    arrays: BarArrays,
    reach: Reach = 5,
    touches: Touches = 3,
    tolerance: Tolerance = 0.5,
    reaction: Tolerance = 1.0,
    max_age: Life = 300,
    window: Period = 14,
) -> Iterator[Found]:
    """The first touch of a broken level from its other side, confirmed when price has come back from it.

    Kind ``level_flip``, ``direction`` 1 where resistance became support. ``start`` is the first swing of the level,
    ``end`` the extreme of the retest, ``low`` and ``high`` the zone of all its touches, ``stop`` the border beyond
    which it fails, ``score`` its strength. Invalidated as a level is.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14, 12, 10, 12, 14, 12, 14, 20, 24, 20, 16.5, 20, 24)
    >>> bars = bars.assign(high=bars["close"] + 1.0, low=bars["close"] - 1.0)
    >>> level_flip(bars, reach=1, touches=2, window=2)[["direction", "low", "high"]].to_numpy().tolist()
    [[1.0, 15.0, 15.5]]
    """
    yield _log_of(arrays, reach, touches, tolerance, reaction, max_age, window).findings(kernels.FLIPPED)


@feature(
    lookback=level_memory,
    outputs=tuple(
        f"{side}_{name}"
        for side in ("support", "resistance")
        for name in ("distance", "touches", "strength", "age", "flips")
    ),
    reference="Osler, Support for resistance, FRBNY Economic Policy Review 6 (2000)",
)
def nearest_levels(
    bars: pd.DataFrame,
    reach: Reach = 5,
    touches: Touches = 3,
    tolerance: Tolerance = 0.5,
    reaction: Tolerance = 1.0,
    max_age: Life = 300,
    window: Period = 14,
) -> pd.DataFrame:
    """The nearest support below and resistance above the close, as known at each close.

    Returns
    -------
    A side: ``_distance`` from the close in mean true ranges (20 where there is none within 20; below 0 while price is
    beyond it but not by the tolerance), ``_touches``, ``_strength``, ``_age`` in bars since its first swing and
    ``_flips``, 0 where there is none. NaN where the mean true range is 0. What they mean: :class:`LevelStream`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14, 12, 10, 12, 14, 12, 10, 12)
    >>> bars = bars.assign(high=bars["close"] + 1.0, low=bars["close"] - 1.0)
    >>> nearest_levels(bars, reach=1, touches=2, window=2).iloc[-1].round(2).tolist()
    [1.0, 2.0, 1.98, 5.0, 0.0, 1.0, 2.0, 1.96, 7.0, 0.0]
    """
    dense = np.empty((len(bars), kernels.DENSE))
    stream = LevelStream(
        reach=reach, touches=touches, tolerance=tolerance, reaction=reaction, max_age=max_age, window=window
    )
    stream._walk(BarArrays.of(bars), dense)
    names = [
        f"{side}_{name}"
        for side in ("support", "resistance")
        for name in ("distance", "touches", "strength", "age", "flips")
    ]
    return frame(bars, **dict(zip(names, dense.T, strict=True)))
