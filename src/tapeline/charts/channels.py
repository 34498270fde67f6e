"""Channels: parallel to a trendline, about a regression, and Andrews' pitchfork; touches, breaks and quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts import line_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots, pivot_runs
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.trendlines import Gap, Reach, Width, find_lines, line_memory, touch_width
from tapeline.charts.watch import Watch, expires_or_ends_at
from tapeline.core.registry import feature

Length = Annotated[int, Field(ge=4, le=10_000)]
Deviations = Annotated[float, Field(gt=0.0, le=10.0)]
Fit = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1, le=20)]


@dataclass(frozen=True)
class Channels:
    """Channels of one kind in the order in which they were confirmed: arrays of one length.

    ``lower`` is the price of the lower border at row ``origin``, ``slope`` in price a bar, ``height`` the distance to
    the upper border, ``known`` the row of confirmation, ``width`` how near a touch is, ``score`` the quality, 0 to 1.
    ``end`` is the last row of what it was drawn through, ``point_rows`` and ``point_prices`` its corner points.
    """

    direction: NDArray[np.int8]
    origin: Rows
    end: Rows
    known: Rows
    lower: Floats
    slope: Floats
    height: Floats
    width: Floats
    score: Floats
    point_rows: Rows
    point_prices: Floats

    def __len__(self) -> int:
        return len(self.known)

    def watch(self, channel: Rows, row: int, *, median: bool) -> Watch:
        """A watch on the borders of some of the channels from a row on, and on their middle."""
        shares = (0.0, 0.5, 1.0) if median else (0.0, 1.0)
        bottom, height = self.at(channel, np.full(channel.size, row)), self.height[channel]
        level = np.concatenate([bottom + share * height for share in shares])
        return Watch(level, np.tile(self.slope[channel], len(shares)), np.tile(self.width[channel], len(shares)))

    def at(self, channel: Rows, row: Rows) -> Floats:
        """The price of the lower border of some of the channels at some rows."""
        return self.lower[channel] + self.slope[channel] * (row - self.origin[channel])


def corners(origin: Rows, known: Rows, lower: Floats, slope: Floats, height: Floats) -> tuple[Rows, Floats]:
    """The four corners of channels: along the lower border from ``origin`` to ``known``, back along the upper one."""
    ends = lower + slope * (known - origin)
    rows = np.column_stack((origin, known, known, origin))
    return rows, np.column_stack((lower, ends, ends + height, lower + height))


def channel_findings(
    arrays: BarArrays, channels: Channels, kind: str, max_age: int, *, median: bool = False
) -> Iterator[Found]:
    """Channels as findings, their touches as ``<kind>_touch``, their breaks as ``<kind>_break``.

    With ``median`` what touches the middle line is a ``<kind>_median`` as well.
    """
    if not len(channels):
        return
    log, gone = kernels.follow_channels(
        arrays.high, arrays.low, arrays.close, np.ascontiguousarray(channels.origin), channels.lower, channels.slope,
        channels.height, channels.known, channels.width, median, max_age,
    )  # fmt: skip
    yield channels.watch(np.flatnonzero(gone < 0), len(arrays) - 1, median=median)
    here = channels.at(np.arange(len(channels)), channels.known)
    yield Findings(
        kind,
        direction=channels.direction,
        start=channels.point_rows[:, 0],
        end=channels.end,
        confirmed=channels.known,
        low=here,
        high=here + channels.height,
        invalidated=gone,
        score=channels.score,
        point_rows=channels.point_rows,
        point_prices=channels.point_prices,
    )
    touched = log[:, 3] == kernels.TOUCH
    for name, chosen in ((f"{kind}_touch", touched & (log[:, 2] != 0)), (f"{kind}_median", touched & (log[:, 2] == 0))):
        which, row, border = log[chosen, :3].T
        if not which.size:
            continue
        level = channels.at(which, row) + 0.5 * (border + 1) * channels.height[which]
        direction = np.where(border == 0, channels.direction[which], -border).astype(np.int8)
        yield _at_line(channels, name, which, row, level, direction, gone[which], None, None)
    which, row, border = log[~touched, :3].T
    if not which.size:
        return
    direction = border.astype(np.int8)
    bottom, height = channels.at(which, row), channels.height[which]
    level = bottom + 0.5 * (border + 1) * height
    target, stop = level + border * height, bottom + 0.5 * height
    ahead = border * (target - arrays.close[row]) > 0.0
    which, row, level, direction = which[ahead], row[ahead], level[ahead], direction[ahead]
    target, stop = target[ahead], stop[ahead]
    until = fates(arrays, row, direction, target, stop, max_age).row
    yield _at_line(channels, f"{kind}_break", which, row, level, direction, until, target, stop)


def _at_line(
    channels: Channels,
    kind: str,
    which: Rows,
    row: Rows,
    level: Floats,
    direction: NDArray[np.int8],
    until: Rows,
    target: Floats | None,
    stop: Floats | None,
) -> Findings:
    origin = channels.origin[which]
    return Findings(
        kind,
        direction=direction,
        start=origin,
        end=row,
        confirmed=row,
        low=level,
        high=level,
        invalidated=until,
        target=target,
        stop=stop,
        score=channels.score[which],
        point_rows=np.column_stack((origin, row)),
        point_prices=np.column_stack((level - channels.slope[which] * (row - origin), level)),
    )


@detector(
    lookback=line_memory,
    reference=(
        "Edwards, Magee, Technical Analysis of Stock Trends (1948), trend channels; Murphy, Technical Analysis of the "
        "Financial Markets (1999), chapter 4, the channel line"
    ),
    watch=expires_or_ends_at("target", "stop"),
)
def parallel_channel(
    arrays: BarArrays,
    size: Size = 2.0,
    unit: Unit = "atr",
    window: Period = 14,
    tolerance: Width = 0.25,
    min_gap: Gap = 5,
    max_span: Reach = 300,
    opposite: Count = 1,
    max_age: Age = 200,
) -> Iterator[Found]:
    """A trendline and its parallel through the farthest price on the other side; then touches of both, and the break.

    Kind ``parallel_channel``, confirmed with its trendline (see ``trendline``, whose parameters these are) where at
    least ``opposite`` pivots of the other side, confirmed by then, lie within the tolerance of the parallel and the
    two lines are more than twice the tolerance apart; ``direction`` 1 where the trendline lies under lows.
    ``parallel_channel_touch``: a bar comes within the tolerance of a border without a close beyond it and the bar
    before did not; ``direction`` 1 at the lower border, -1 at the upper one. ``parallel_channel_break``: the first
    close beyond a border by more than the tolerance, ``direction`` that of the close, within ``max_age`` bars; target:
    the border plus (less) the channel's height (Murphy); stop: the middle of the channel at that bar.

    ``low`` and ``high`` are the borders at the confirmation, for touches and breaks the border touched. ``score`` is
    the channel's quality, 0 to 1: the mean of the trendline's score and of how near the pivots at the parallel are to
    it, as a share of the tolerance. The points are the channel's four corners, from its first touch to the confirmation
    along the lower border and back along the upper one; for touches and breaks the border at the channel's first row
    and at theirs. A channel and its touches are invalidated by the break or after ``max_age``
    bars; a break when target or stop is traded, or after ``max_age`` bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> corners = [(0, 107), (20, 100), (30, 110), (40, 104), (50, 114), (60, 108), (66, 114), (80, 100)]
    >>> found = parallel_channel(bars_through(corners))
    >>> found["kind"].tolist()
    ['parallel_channel', 'parallel_channel_touch', 'parallel_channel_break']
    >>> found[["low", "high"]].round(3).to_numpy().tolist()[0]
    [108.4, 116.4]
    """
    lines = arrays.once(find_lines, size, unit, window, tolerance, min_gap, max_span)
    pivots = find_pivots(arrays, size, unit, window)
    if not len(lines):
        return
    height, touches, miss = np.empty(len(lines)), np.empty(len(lines), np.int64), np.empty(len(lines))
    kernels.find_parallels(
        arrays.high, arrays.low, pivots.row, pivots.confirmed, pivots.side, pivots.price,
        arrays.once(touch_width, tolerance, window), lines.places, -lines.side * lines.slope, height, touches, miss,
    )  # fmt: skip
    chosen = np.flatnonzero((touches >= opposite) & (height > 2.0 * lines.width))
    side, height, width = lines.side[chosen], height[chosen], lines.width[chosen]
    rows, prices = lines.rows[chosen], lines.prices[chosen]
    known, slope = lines.known[chosen], lines.slope[chosen]
    lower = np.where(side < 0, prices[:, 0], prices[:, 0] - height)
    point_rows, point_prices = corners(rows[:, 0], known, lower, slope, height)
    channels = Channels(
        direction=(-side).astype(np.int8),
        origin=rows[:, 0],
        end=rows[:, 2],
        known=known,
        lower=lower,
        slope=slope,
        height=height,
        width=width,
        score=0.5 * lines.score[chosen] + 0.5 * (1.0 - miss[chosen] / width),
        point_rows=point_rows,
        point_prices=point_prices,
    )
    yield from channel_findings(arrays, channels, "parallel_channel", max_age)


def _rolling_channel(arrays: BarArrays, window: int) -> tuple[Floats, Floats, Floats, Floats]:
    return kernels.rolling_channel(arrays.close, window)


@feature(
    lookback=lambda window, atr_window: max(window, atr_window + 1),
    outputs=("channel_slope_{window}", "channel_position_{window}", "channel_width_{window}", "channel_fit_{window}"),
    reference="Raff, Trading the Regression Channel (1996); Draper and Smith, Applied Regression Analysis, section 1.2",
)
def channel_of_regression(
    bars: pd.DataFrame, window: Length = 100, deviations: Deviations = 2.0, atr_window: Period = 14
) -> pd.DataFrame:
    """The regression channel of the last closes: its slope, where price is in it, its width and its fit.

    The middle is the least-squares line through the last ``window`` closes, the borders lie ``deviations`` standard
    deviations of the residuals (divided by ``window``) from it. ``channel_slope`` is the slope a bar and
    ``channel_width`` the distance of the borders, both in mean true ranges over ``atr_window`` bars;
    ``channel_position`` is 0 at the lower border, 1 at the upper one and beyond these outside; ``channel_fit`` is R
    squared. NaN where nothing has moved.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> channel_of_regression(example_bars(10, 11, 12, 13, 15), window=4, atr_window=2).iloc[-1].round(3).tolist()
    [0.371, 0.774, 0.313, 0.966]
    """
    arrays = BarArrays(bars)
    slope, value, deviation, fit = _rolling_channel(arrays, window)
    usual = mean_true_range(arrays, atr_window)
    result = np.full((4, len(arrays)), np.nan)
    moves = (usual > 0.0) & ~np.isnan(fit)
    width = 2.0 * deviations * deviation
    result[0, moves], result[2, moves] = slope[moves] / usual[moves], width[moves] / usual[moves]
    # A line through all closes has no width: price is in its middle, as far as rounding tells.
    wide = moves & (width > 1e-9 * usual)
    result[1, moves] = 0.5
    result[1, wide] += (arrays.close[wide] - value[wide]) / width[wide]
    result[3] = fit
    names = ("slope", "position", "width", "fit")
    return pd.DataFrame({f"channel_{name}_{window}": result[i] for i, name in enumerate(names)}, index=bars.index)


def _fits(arrays: BarArrays, window: int, fit: float) -> bool:
    """Whether the fit of the last closes has come up to the least, or may have but for rounding."""
    quality = kernels.rolling_channel(arrays.close[-window - 1 :], window)[3]
    return len(arrays) > window and bool(quality[-1] > fit - 1e-9 and quality[-2] < fit + 1e-9)


@detector(
    lookback=lambda window, max_age, atr_window: 2 * window + max_age + atr_window + 2,
    reference="Raff, Trading the Regression Channel (1996), the channel carried on until price closes outside it",
    watch=expires_or_ends_at("target", "stop"),
    probe=_fits,
)
def regression_channel(
    arrays: BarArrays,
    window: Length = 60,
    deviations: Deviations = 2.0,
    fit: Fit = 0.75,
    tolerance: Width = 0.1,
    atr_window: Period = 14,
    max_age: Age = 100,
) -> Iterator[Found]:
    """A line that fits the last closes well, with its residuals as borders; then touches of these, and the break.

    Kind ``regression_channel``, confirmed at the bar at which R squared of the least-squares line through the last
    ``window`` closes rises to ``fit``; the borders lie ``deviations`` standard deviations of the residuals from it.
    From there the channel is carried on as drawn. ``direction`` is that of its slope, ``score`` its quality: R squared.
    ``regression_channel_touch`` and ``regression_channel_break``, ``low``, ``high``, target, stop and invalidation as
    in ``parallel_channel``, with ``tolerance`` in mean true ranges over ``atr_window`` bars at the confirmation. The
    points are the channel's four corners over the window.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_of_closes
    >>> rows = np.arange(90)
    >>> closes = 100.0 + np.sin(rows) + np.interp(rows, [30, 75, 89], [0.0, 22.0, 5.0])
    >>> found = regression_channel(bars_of_closes(closes), window=20)
    >>> found[["kind", "direction"]].to_numpy().tolist()
    [['regression_channel', 1], ['regression_channel_break', 1], ['regression_channel', -1]]
    """
    slope, value, deviation, quality = arrays.once(_rolling_channel, window)
    good = quality >= fit
    known = 1 + np.flatnonzero(good[1:] & ~good[:-1] & ~np.isnan(quality[:-1]))
    width = arrays.once(touch_width, tolerance, atr_window)[known]
    height = 2.0 * deviations * deviation[known]
    kept = (width > 0.0) & (height > 0.0)
    known, width, height = known[kept], width[kept], height[kept]
    origin, incline = known - window + 1, slope[known]
    lower = value[known] - incline * (window - 1) - 0.5 * height
    point_rows, point_prices = corners(origin, known, lower, incline, height)
    channels = Channels(
        direction=np.sign(incline).astype(np.int8),
        origin=origin,
        end=known,
        known=known,
        lower=lower,
        slope=incline,
        height=height,
        width=width,
        score=quality[known],
        point_rows=point_rows,
        point_prices=point_prices,
    )
    yield from channel_findings(arrays, channels, "regression_channel", max_age)


@detector(
    lookback=lambda max_span, max_age, window: PIVOT_MEMORY + max_span + max_age + window,
    reference="Andrews, Action-Reaction Course (1960s), the median line; Mikula, The Best Trendline Methods (2002)",
    watch=expires_or_ends_at("target", "stop"),
)
def pitchfork(
    arrays: BarArrays,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    tolerance: Width = 0.25,
    max_span: Reach = 200,
    max_age: Age = 100,
) -> Iterator[Found]:
    """Andrews' pitchfork: a median line from one pivot through the middle of the next two, and parallels through these.

    Kind ``pitchfork``, drawn through three confirmed pivots A, B, C in a row, at most ``max_span`` bars apart, where C
    has not gone back as far as A; confirmed with C where that bar closes between the parallels. ``direction`` 1 where A
    and C are lows. ``pitchfork_touch``: a bar comes within ``tolerance`` mean true ranges (as at the confirmation) of a
    parallel without a close beyond it, ``pitchfork_median``: a bar holds the median line, the bar before not;
    ``direction`` 1 at the lower parallel, -1 at the upper, the fork's at the median. ``pitchfork_break``: the first
    close beyond a parallel by more than the tolerance within ``max_age`` bars; target, stop and invalidation as in
    ``parallel_channel``.

    ``low`` and ``high`` are the parallels at the confirmation, for the rest the line touched. ``score`` is the fork's
    quality, 0 to 1: 1 where C is half way back from B to A, as in Andrews' drawings, 0 where it is at A or B. The
    points are A, B and C.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> found = pitchfork(bars_through([(0, 107), (20, 100), (30, 110), (40, 105), (60, 121), (90, 100)]))
    >>> found[["kind", "direction"]].to_numpy().tolist()[:2]
    [['pitchfork', 1], ['pitchfork_median', 1]]
    >>> found[["low", "high", "score"]].round(3).to_numpy().tolist()[0]
    [106.5, 116.5, 1.0]
    """
    runs = pivot_runs(find_pivots(arrays, size, unit, window), 3)
    if not len(runs):
        return
    row, price, known = runs.row, runs.price, runs.known
    legs = np.abs(runs.legs)
    slope = (0.5 * (price[:, 1] + price[:, 2]) - price[:, 0]) / (0.5 * (row[:, 1] + row[:, 2]) - row[:, 0])
    # Both parallels at A's row: the one through the high of B and C is the upper one.
    at_first = price[:, 1:] - slope[:, None] * (row[:, 1:] - row[:, :1])
    lower, upper = at_first.min(axis=1), at_first.max(axis=1)
    width = arrays.once(touch_width, tolerance, window)[known]
    drift = slope * (known - row[:, 0])
    close = arrays.close[known]
    inside = (close >= lower + drift) & (close <= upper + drift)
    kept = np.flatnonzero((legs[:, 1] < legs[:, 0]) & (width > 0.0) & inside & (row[:, 2] - row[:, 0] <= max_span))
    share = legs[kept, 1] / legs[kept, 0]
    channels = Channels(
        direction=(-runs.side[kept]).astype(np.int8),
        origin=row[kept, 0],
        end=row[kept, 2],
        known=known[kept],
        lower=lower[kept],
        slope=slope[kept],
        height=(upper - lower)[kept],
        width=width[kept],
        score=1.0 - 2.0 * np.abs(share - 0.5),
        point_rows=row[kept],
        point_prices=price[kept],
    )
    yield from channel_findings(arrays, channels, "pitchfork", max_age, median=True)
