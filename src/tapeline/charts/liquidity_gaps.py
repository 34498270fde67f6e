"""Liquidity gaps: prices that a pause leaped over, prices crossed on little volume, and how far they were filled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import first_crossings
from tapeline.charts.events import Findings, event_rows
from tapeline.charts.pivot_lines import Minute, period_numbers
from tapeline.charts.swings import Period
from tapeline.charts.watch import ends_at
from tapeline.core.errors import DataError
from tapeline.core.registry import feature
from tapeline.features.arrays import Count, frame

Across = Literal["pause", "day"]
"""What a gap leaps over: a pause in trading only, or also the turn of a day between bars without one."""

Least = Annotated[float, Field(gt=0.0, le=100.0)]
Minutes = Annotated[int, Field(ge=0, le=100_000)]
Span = Annotated[int, Field(ge=1, le=100)]
Part = Annotated[float, Field(gt=0.0, lt=1.0)]
Sample = Annotated[int, Field(ge=10, le=10_000)]

_MINUTE: Final = 60_000_000_000
_WEEK: Final = 7 * 86_400 * 1_000_000_000
_SATURDAY_NOON: Final = int(2.5 * 86_400) * 1_000_000_000
"""After the epoch, which was a Thursday."""


@dataclass(frozen=True)
class OpeningGaps:
    """Gaps between a close and the next open: arrays of one length.

    ``row`` is the bar that opened elsewhere; ``direction`` 1 upwards; ``before`` the close before it, ``after`` its
    open; ``size`` the distance in mean true ranges as they stood at the close before; ``weekend`` whether a Saturday
    lies between.
    """

    row: Rows
    direction: NDArray[np.int8]
    before: Floats
    after: Floats
    size: Floats
    weekend: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)


def find_opening_gaps(
    bars: pd.DataFrame | BarArrays,
    least: float = 0.25,
    across: Across = "pause",
    pause: int = 30,
    zone: str = "UTC",
    start_minute: int = 0,
    window: int = 14,
) -> OpeningGaps:
    """The opening gaps of bars; the parameters are those of :func:`session_gap`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 10)
    >>> gaps = find_opening_gaps(bars.assign(open=[10.0, 10, 10, 10, 11]).drop(bars.index[3]), window=2)
    >>> gaps.row.tolist(), gaps.before.tolist(), gaps.after.tolist(), gaps.size.tolist()
    ([3], [10.0], [11.0], [0.5])
    """
    arrays = BarArrays.of(bars)
    opened, closed = arrays.opened[1:], arrays.closed[:-1]
    turned = opened - closed >= max(pause, 1) * _MINUTE
    if across == "day":
        numbers = period_numbers(pd.DatetimeIndex(arrays.bars.index), "day", zone, start_minute)
        turned |= np.diff(numbers) > 0
    step = arrays.open[1:] - arrays.close[:-1]
    unit = arrays.once(mean_true_range, window)[:-1]
    row = np.flatnonzero(turned & (np.abs(step) >= least * unit) & (unit > 0.0))
    saturdays = (opened[row] - 1 - _SATURDAY_NOON) // _WEEK - (closed[row] - 1 - _SATURDAY_NOON) // _WEEK
    return OpeningGaps(
        row + 1,
        np.sign(step[row]).astype(np.int8),
        arrays.close[row],
        arrays.open[row + 1],
        np.abs(step[row]) / unit[row],
        saturdays > 0,
    )


def _opens_elsewhere(
    arrays: BarArrays, least: float, across: Across, pause: int, zone: str, start_minute: int, window: int
) -> bool:
    """Whether the last bar opens with a gap, by the bars that decide that."""
    paused = len(arrays) > 1 and bool(arrays.opened[-1] - arrays.closed[-2] >= max(pause, 1) * _MINUTE)
    if not paused and across == "pause":
        return False
    tail = arrays.tail(window + 3)
    rows = find_opening_gaps(tail, least, across, pause, zone, start_minute, window).row
    return rows.size > 0 and bool(rows[-1] == len(tail) - 1)


@detector(
    lookback=lambda window: window + 3,
    reference="Edwards, Magee, Technical Analysis of Stock Trends (1948), chapter 12: gaps and their closing",
    watch=ends_at("target"),
    probe=_opens_elsewhere,
)
def session_gap(
    arrays: BarArrays,
    least: Least = 0.25,
    across: Across = "pause",
    pause: Minutes = 30,
    zone: str = "UTC",
    start_minute: Minute = 0,
    window: Period = 14,
) -> Iterator[Found]:
    """Opens away from the close before a pause, confirmed at the close of the bar that opened there.

    Kinds ``weekend_gap``, where noon of a Saturday (UTC) lies in the pause, and ``session_gap``. ``direction`` 1 where
    price opened higher; ``low`` and ``high`` are the close and the open, ``target`` the close, where it is filled;
    ``score`` its size in mean true ranges over ``window`` bars as they stood at that close, ``least`` or more.
    Invalidated by the first trade at the close before: the gap is filled, perhaps by its own bar. How far a gap that
    stands is filled: :func:`gap_fill`, :func:`fill_states`.

    Parameters
    ----------
    across:
        ``pause``: only where at least ``pause`` minutes lie between two bars. ``day``: also where a day begins between
        two bars, at ``start_minute`` of the clock in ``zone``: for markets that never pause.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 10, 12).assign(open=[10.0, 10, 10, 10, 11, 12], low=[9.0] * 4 + [10.5, 10])
    >>> found = session_gap(bars.drop(bars.index[3]), window=2)
    >>> found[["kind", "direction", "low", "high", "score"]].to_numpy().tolist()
    [['session_gap', 1, 10.0, 11.0, 0.5]]
    >>> str(found["confirmed_at"].iloc[0]), str(found["invalidated_at"].iloc[0])
    ('2017-01-02 05:00:00+00:00', '2017-01-02 06:00:00+00:00')
    """
    gaps = arrays.once(find_opening_gaps, least, across, pause, zone, start_minute, window)
    filled = np.full(len(gaps), -1)
    for side, values in ((1, arrays.low), (-1, arrays.high)):
        mine = gaps.direction == side
        # Its own bar may fill it, so it counts from the bar before on.
        filled[mine] = first_crossings(-side, values, gaps.row[mine] - 1, gaps.before[mine])
    for kind, chosen in (("weekend_gap", gaps.weekend), ("session_gap", ~gaps.weekend)):
        row, before, after = gaps.row[chosen], gaps.before[chosen], gaps.after[chosen]
        yield Findings(
            kind,
            direction=gaps.direction[chosen],
            start=row - 1,
            end=row,
            confirmed=row,
            low=np.minimum(before, after),
            high=np.maximum(before, after),
            invalidated=filled[chosen],
            target=before,
            score=gaps.size[chosen],
            point_rows=np.column_stack((row - 1, row)),
            point_prices=np.column_stack((before, after)),
        )


@feature(
    lookback=lambda max_age, window: max_age + window + 3,
    outputs=("gap_size", "gap_filled", "gap_age"),
    requires=("close_ts",),
    reference="Edwards, Magee, Technical Analysis of Stock Trends (1948), chapter 12",
    stackable=False,
)
def gap_fill(
    bars: pd.DataFrame,
    least: Least = 0.25,
    across: Across = "pause",
    pause: Minutes = 30,
    zone: str = "UTC",
    start_minute: Minute = 0,
    max_age: Count = 300,
    window: Period = 14,
) -> pd.DataFrame:
    """The newest opening gap: its size, how much of it has been filled, and its age.

    Returns
    -------
    ``gap_size``: in mean true ranges, above 0 where price opened higher. ``gap_filled``: the largest share of it that
    was traded back through so far, 0 to 1. ``gap_age``: bars since. Where there is none of at most ``max_age`` bars:
    0, 1 and ``max_age + 1``. NaN in the warm-up of the mean true range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 10, 12).assign(open=[10.0, 10, 10, 10, 11, 12], low=[9.0] * 4 + [10.5, 10])
    >>> gap_fill(bars.drop(bars.index[3]), window=2).iloc[-2:].to_numpy().tolist()
    [[0.5, 0.5, 0.0], [0.5, 1.0, 1.0]]
    """
    arrays = BarArrays.of(bars)
    gaps = find_opening_gaps(arrays, least, across, pause, zone, start_minute, window)
    result = np.empty((3, len(arrays)))
    unit = arrays.once(mean_true_range, window)
    _newest_gap(
        arrays.high, arrays.low, unit, gaps.row, gaps.direction, gaps.before, gaps.after, gaps.size, max_age, result
    )
    return frame(bars, gap_size=result[0], gap_filled=result[1], gap_age=result[2])


@njit(cache=True, nogil=True)
def _newest_gap(
    high: Any,
    low: Any,
    unit: Any,
    row: Any,
    direction: Any,
    before: Any,
    after: Any,
    size: Any,
    max_age: Any,
    result: Any,
) -> None:
    following, share = 0, 0.0
    for t in range(high.size):
        if following < row.size and row[following] == t:
            following += 1
            share = 0.0
        i = following - 1
        if i < 0 or t - row[i] > max_age:
            result[0, t], result[1, t], result[2, t] = 0.0, 1.0, max_age + 1.0
        else:
            back = after[i] - low[t] if direction[i] > 0 else high[t] - after[i]
            share = max(share, min(back / abs(after[i] - before[i]), 1.0))
            result[0, t], result[1, t], result[2, t] = direction[i] * size[i], share, t - row[i]
        if np.isnan(unit[t]):
            result[:, t] = np.nan


def _new_void(arrays: BarArrays, span: int, reach: float, thin: float, sample: int, window: int) -> bool:
    """Whether price has crossed so much in the last bars; whether on little volume is for the search to say."""
    tail = arrays.tail(window + span + 1)
    if len(tail) <= window + span:
        return False
    unit = mean_true_range(tail, window)[-span - 1]
    return bool(abs(tail.close[-1] - tail.open[-span]) >= reach * unit > 0.0)


@detector(
    lookback=lambda span, sample, window: span + sample + window + 3,
    reference="liquidity void in Huddleston's (ICT) teaching; single prints in Steidlmayer's market profile (1984)",
    watch=ends_at("target"),
    probe=_new_void,
)
def liquidity_void(
    arrays: BarArrays,
    span: Span = 3,
    reach: Least = 2.0,
    thin: Part = 0.4,
    sample: Sample = 100,
    window: Period = 14,
) -> Iterator[Found]:
    """Prices crossed quickly on little volume, confirmed at the close that ends the crossing.

    Kind ``liquidity_void``, ``direction`` that of the move. Over ``span`` bars price went from the first's open to the
    last's close by at least ``reach`` mean true ranges of the ``window`` bars before, while the bars' mean volume was
    not above the quantile ``thin`` of the ``sample`` volumes before them. Of bars in a row at which this holds in one
    direction, the first one counts. ``low`` and ``high`` are the open and the close, ``target`` the open, where it is
    filled; ``score`` is the share of the sample's volumes above the mean volume: 1 where none was lower. Invalidated
    by the first later trade at the open: the void is filled. None without volume.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10] * 14, 12, 14, 16, 16).assign(volume=[5.0] * 14 + [3, 3, 3, 5])
    >>> found = liquidity_void(bars, sample=10, window=2)
    >>> found[["direction", "low", "high", "score"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[1.0, 10.0, 14.0, 1.0]], '2017-01-02 16:00:00+00:00')
    """
    unit = arrays.once(mean_true_range, window)
    row, score = np.empty(len(arrays), np.int64), np.empty(len(arrays))
    count = _voids(arrays.open, arrays.close, arrays.volume, unit, span, reach, thin, sample, row, score)
    row, score = row[:count].copy(), score[:count].copy()
    start = row - span + 1
    begin, end = arrays.open[start], arrays.close[row]
    direction = np.sign(end - begin).astype(np.int8)
    filled = np.full(count, -1)
    for side, values in ((1, arrays.low), (-1, arrays.high)):
        mine = direction == side
        filled[mine] = first_crossings(-side, values, row[mine], begin[mine])
    yield Findings(
        "liquidity_void",
        direction=direction,
        start=start,
        end=row,
        confirmed=row,
        low=np.minimum(begin, end),
        high=np.maximum(begin, end),
        invalidated=filled,
        target=begin,
        score=score,
        point_rows=np.column_stack((start, row)),
        point_prices=np.column_stack((begin, end)),
    )


@njit(cache=True, nogil=True)
def _voids(
    opened: Any,
    close: Any,
    volume: Any,
    unit: Any,
    span: Any,
    reach: Any,
    thin: Any,
    sample: Any,
    row: Any,
    score: Any,
) -> Any:
    count, before = 0, 0
    for t in range(span + sample - 1, close.size):
        first = t - span + 1
        move = close[t] - opened[first]
        side = 0
        if unit[first - 1] > 0.0 and abs(move) >= reach * unit[first - 1]:
            paid = 0.0
            for j in range(first, t + 1):
                paid += volume[j]
            paid /= span
            below, above = 0, 0
            for j in range(first - sample, first):
                below += volume[j] < paid
                above += volume[j] > paid
            # A sum with a NaN in it lies neither below nor above anything.
            if not np.isnan(paid) and below <= thin * sample:
                side = 1 if move > 0.0 else -1
                if side != before:
                    row[count], score[count] = t, above / sample
                    count += 1
        before = side
    return count


def fill_states(events: pd.DataFrame, bars: pd.DataFrame | BarArrays, at: pd.Timestamp | None = None) -> pd.DataFrame:
    """How far gaps and voids are filled as of an instant: a row an event that was known by then.

    Parameters
    ----------
    events:
        Rows of the events schema with a direction and a range, such as those of :func:`session_gap`,
        :func:`liquidity_void` or :func:`tapeline.charts.gaps.fair_value_gap`.
    bars:
        The bars they were found on, with ``close_ts``.
    at:
        The last close where absent.

    Returns
    -------
    On the events' index: ``filled``, the largest share of the range that later bars traded back through (an opening
    gap's own bar counts too), and ``state``: ``open`` (none of it), ``partial`` or ``filled`` (all of it).

    Raises
    ------
    DataError
        There are no bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10, 10, 12).assign(open=[10.0, 10, 10, 10, 11, 12], low=[9.0] * 4 + [10.5, 10])
    >>> bars = bars.drop(bars.index[3])
    >>> gaps = session_gap(bars, window=2)
    >>> fill_states(gaps, bars, at=bars["close_ts"].iloc[3]).to_numpy().tolist()
    [[0.5, 'partial']]
    >>> fill_states(gaps, bars).to_numpy().tolist()
    [[1.0, 'filled']]
    """
    arrays = BarArrays.of(bars)
    if not len(arrays):
        raise DataError("there are no bars to follow the events on")
    now = pd.Timestamp(arrays.closed[-1], unit="ns", tz="UTC") if at is None else at
    known = events[events["confirmed_at"] <= now]
    rows, _ = event_rows(known, arrays)
    own = known["kind"].astype(str).isin(["session_gap", "weekend_gap"]).to_numpy()
    end = int(arrays.closed.searchsorted(pd.Timestamp(now).as_unit("ns").value, side="right"))
    share = np.zeros(len(known))
    _filled(
        arrays.high, arrays.low, np.where(own, rows, rows + 1), end,
        known["direction"].to_numpy(np.int8), known["low"].to_numpy(np.float64), known["high"].to_numpy(np.float64),
        share,
    )  # fmt: skip
    state = np.where(share >= 1.0, "filled", np.where(share > 0.0, "partial", "open"))
    return pd.DataFrame({"filled": share, "state": state}, index=known.index)


@njit(cache=True, nogil=True)
def _filled(high: Any, low: Any, begin: Any, end: Any, direction: Any, bottom: Any, top: Any, share: Any) -> None:
    for i in range(begin.size):
        height = top[i] - bottom[i]
        for t in range(begin[i], end):
            back = top[i] - low[t] if direction[i] > 0 else high[t] - bottom[i]
            if height > 0.0:
                share[i] = max(share[i], min(back / height, 1.0))
            elif back >= 0.0:
                share[i] = 1.0
            if share[i] >= 1.0:
                break
