"""Trendlines: through two confirmed pivots of a side and touched by a third; their touches, breaks and retests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import line_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import Watch, expires_or_ends_at, next_row

Width = Annotated[float, Field(gt=0.0, le=10.0)]
"""How near a touch is, in mean true ranges as they stand at the line's confirmation."""

Gap = Annotated[int, Field(ge=1, le=10_000)]
Reach = Annotated[int, Field(ge=4, le=20_000)]


def line_memory(max_span: int, max_age: int, window: int, max_wait: int = 0) -> int:
    """Bars that decide which lines stand at the newest bar, and what it makes of them."""
    return PIVOT_MEMORY + max_span + max_age + max_wait + window


@dataclass(frozen=True)
class Lines:
    """Trendlines in the order in which they were confirmed: arrays of one length.

    ``side`` is -1 for a line under lows and 1 for one over highs; ``places`` the three pivots it touches, by their
    place among the zigzag's, ``rows`` and ``prices`` what these are, shape (lines, 3); ``slope`` in price a bar;
    ``known`` the row of confirmation; ``width`` how near a touch is, in price; ``score`` its quality, 0 to 1.
    """

    side: NDArray[np.int8]
    places: Rows
    rows: Rows
    prices: Floats
    slope: Floats
    known: Rows
    width: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.known)

    def watch(self, line: Rows, row: int) -> Watch:
        """A watch on some of the lines from a row on, by their widths."""
        return Watch(self.at(line, np.full(line.size, row)), self.slope[line], self.width[line])

    def at(self, line: Rows, row: Rows) -> Floats:
        """The price of some of the lines at some rows."""
        return self.prices[line, 0] + self.slope[line] * (row - self.rows[line, 0])


def touch_width(arrays: BarArrays, tolerance: float, window: int) -> Floats:
    """How near a touch is at each bar, in price; NaN before there is a mean range."""
    return tolerance * arrays.once(mean_true_range, window)


def find_lines(
    arrays: BarArrays,
    size: float = 2.0,
    unit: Unit = "atr",
    window: int = 14,
    tolerance: float = 0.25,
    min_gap: int = 5,
    max_span: int = 300,
) -> Lines:
    """The trendlines of both sides, under rising or falling lows and over highs.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> corners = [(0, 107), (20, 100), (30, 110), (40, 104), (50, 114), (60, 108), (66, 114)]
    >>> lines = find_lines(BarArrays(bars_through(corners)))
    >>> lines.side.tolist(), lines.slope.round(6).tolist(), lines.rows.tolist()
    ([-1], [0.2], [[20, 40, 60]])
    """
    pivots = find_pivots(arrays, size, unit, window)
    width = arrays.once(touch_width, tolerance, window)
    places, slope = np.empty((len(pivots), 3), np.int64), np.empty(len(pivots))
    count = kernels.find_lines(
        arrays.close, pivots.row, pivots.confirmed, pivots.side, pivots.price, width, min_gap, max_span, places, slope
    )
    places = places[:count]
    side, rows, prices = pivots.side[places[:, 2]], pivots.row[places], pivots.price[places]
    slope, known = -side * slope[:count], pivots.confirmed[places[:, 2]]
    off = np.abs(prices[:, 2] - prices[:, 0] - slope * (rows[:, 2] - rows[:, 0]))
    gaps = np.diff(rows, axis=1)
    score = 0.5 * (1.0 - off / width[known]) + 0.5 * gaps.min(axis=1) / gaps.max(axis=1)
    return Lines(side, places, rows, prices, slope, known, width[known], score)


@detector(
    lookback=line_memory,
    reference=(
        "Edwards, Magee, Technical Analysis of Stock Trends (1948), trendlines; Murphy, Technical Analysis of the "
        "Financial Markets (1999), chapter 4; Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. (2005): measure rule"
    ),
    watch=expires_or_ends_at("target", "stop"),
)
def trendline(
    arrays: BarArrays,
    size: Size = 2.0,
    unit: Unit = "atr",
    window: Period = 14,
    tolerance: Width = 0.25,
    min_gap: Gap = 5,
    max_span: Reach = 300,
    max_age: Age = 200,
    max_wait: Age = 30,
) -> Iterator[Found]:
    """Lines that three confirmed pivots of a side touch, and then their touches, their break and its retest.

    Lines are straight in price. One goes through two lows (highs) of the zigzag, ``min_gap`` bars apart at least, and
    is known when a third, at most ``max_span`` bars after the first, is confirmed within ``tolerance`` mean true ranges
    of it. No close between the first and the confirmation lies beyond it by more than that, no other pivot of the side
    touches it, and the pivot before the first does not. Of several lines through the same third pivot the one that
    reaches farthest back is kept; anchors are among the last 10 pivots of the side.

    ========================  =========================================================================================
    ``trendline``             confirmed at the third touch's confirmation; ``direction`` 1 under lows, -1 over highs
    ``trendline_touch``       a bar comes within the tolerance of it and does not close beyond it, the bar before did
                              not; ``direction`` as the line's
    ``trendline_break``       the first close beyond it by more than the tolerance, within ``max_age`` bars;
                              ``direction`` that of the close
    ``trendline_retest``      within ``max_wait`` bars of the break, the first bar that comes back within the tolerance
                              and closes on the far side; a close back beyond the tolerance before it ends the wait
    ========================  =========================================================================================

    ``low`` and ``high`` are the line's price at the confirming bar. A break and its retest carry, after Bulkowski, the
    target: the line there less the farthest that price had gone from the line; and as stop the line plus one mean true
    range. ``score`` is the line's quality, 0 to 1: the mean of how near the third touch is, as a share of the
    tolerance, and of its shorter gap between touches over its longer one. A line and its touches are invalidated when
    it breaks or after ``max_age`` bars, a break and its retest when target or stop is traded, or after ``max_age``
    bars. The points are the line's three touches, else its first one and itself at the confirming bar.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> corners = [(0, 107), (20, 100), (30, 110), (40, 104), (50, 114), (60, 108), (66, 114), (80, 100)]
    >>> found = trendline(bars_through(corners))
    >>> found[["kind", "direction"]].to_numpy().tolist()
    [['trendline', 1], ['trendline_touch', 1], ['trendline_break', -1]]
    >>> found["low"].round(3).tolist(), float(found["target"].iloc[2].round(3))
    ([108.4, 110.0, 110.2], 102.2)
    """
    lines = arrays.once(find_lines, size, unit, window, tolerance, min_gap, max_span)
    if not len(lines):
        return
    sign = (-lines.side).astype(np.float64)
    log, gone, reach = kernels.follow_lines(
        arrays.high, arrays.low, arrays.close, sign, lines.rows[:, 0], sign * lines.prices[:, 0], sign * lines.slope,
        lines.known, lines.width, max_age, max_wait,
    )  # fmt: skip
    here = lines.at(np.arange(len(lines)), lines.known)
    yield Findings(
        "trendline",
        direction=(-lines.side).astype(np.int8),
        start=lines.rows[:, 0],
        end=lines.rows[:, 2],
        confirmed=lines.known,
        low=here,
        high=here,
        invalidated=gone,
        score=lines.score,
        point_rows=lines.rows,
        point_prices=lines.prices,
    )
    usual = arrays.once(mean_true_range, window)
    for what, kind in ((kernels.TOUCH, "trendline_touch"), (kernels.BREAK, "trendline_break"),
                       (kernels.RETEST, "trendline_retest")):  # fmt: skip
        line, row = log[log[:, 2] == what, :2].T
        if not line.size:
            continue
        level, direction = lines.at(line, row), (-lines.side[line]).astype(np.int8)
        target = stop = None
        until = gone[line]
        if what != kernels.TOUCH:
            direction = -direction
            target, stop = level + direction * reach[line], level - direction * usual[row]
            open_yet = direction * (target - arrays.close[row]) > 0.0
            line, row, level, direction = line[open_yet], row[open_yet], level[open_yet], direction[open_yet]
            target, stop = target[open_yet], stop[open_yet]
            until = fates(arrays, row, direction, target, stop, max_age).row
        yield Findings(
            kind,
            direction=direction,
            start=lines.rows[line, 0],
            end=row,
            confirmed=row,
            low=level,
            high=level,
            invalidated=until,
            target=target,
            stop=stop,
            score=lines.score[line],
            point_rows=np.column_stack((lines.rows[line, 0], row)),
            point_prices=np.column_stack((lines.prices[line, 0], level)),
        )
    # A line that stands is met within its width, a broken one is watched for its retest.
    last = len(arrays) - 1
    open_still = (gone < 0) | (last - gone < max_wait)
    yield lines.watch(np.flatnonzero(open_still), last) | Watch(until=next_row(arrays, gone))
