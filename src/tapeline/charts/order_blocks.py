"""Order blocks: the candle a break of structure came from, its mitigation, and the breaker it turns into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import first_returns
from tapeline.charts.events import Findings
from tapeline.charts.gaps import Age
from tapeline.charts.structure import MEMORY, Breaks, By, fractal_breaks, next_breaks
from tapeline.charts.structure_kernels import order_rows
from tapeline.charts.swings import Period, Reach
from tapeline.charts.watch import Watch, ends_at, next_row, pending, watch_levels


@dataclass(frozen=True)
class Blocks:
    """Order blocks in the order of the breaks that confirmed them: arrays of one length.

    ``row`` is the bar of the block, ``confirmed`` the bar of the break, ``direction`` that of the break; ``low`` and
    ``high`` the range of the bar; ``touched`` the row at which price first came back into it and ``failed`` the one
    at which a close went through it, -1 where not.
    """

    row: Rows
    confirmed: Rows
    direction: NDArray[np.int8]
    low: Floats
    high: Floats
    touched: Rows
    failed: Rows

    def __len__(self) -> int:
        return len(self.row)


def find_blocks(bars: pd.DataFrame | BarArrays, breaks: Breaks) -> Blocks:
    """The order block of each break.

    Two breaks may come from one bar: each confirms a block of its own.
    """
    arrays = BarArrays.of(bars)
    high, low, close = arrays.high, arrays.low, arrays.close
    row = order_rows(arrays.open, high, low, close, breaks.swing, breaks.row, breaks.direction)
    bottom, top = low[row], high[row]
    up = breaks.direction > 0
    touched = first_returns(breaks.direction, low, high, breaks.row, np.where(up, top, bottom))
    failed = first_returns(breaks.direction, close, close, breaks.row, np.where(up, bottom, top), strict=True)
    return Blocks(row, breaks.row, breaks.direction, bottom, top, touched, failed)


def fractal_blocks(arrays: BarArrays, reach: int, by: By = "close") -> Blocks:
    """The order blocks of the breaks that :func:`tapeline.charts.structure.fractal_breaks` finds."""
    return find_blocks(arrays, arrays.once(fractal_breaks, reach, by))


def relative_volume(arrays: BarArrays, rows: Rows, window: int) -> Floats:
    """The volume of each row over the mean of the ``window`` bars before it; NaN without volume or such a mean."""
    volume = arrays.volume
    usual = np.zeros(rows.size)
    for back in range(1, window + 1):
        usual += np.where(rows >= back, volume[np.maximum(rows - back, 0)], np.nan)
    result = np.full(rows.size, np.nan)
    np.divide(volume[rows] * window, usual, out=result, where=usual > 0.0)
    return result


@detector(
    lookback=lambda reach, window: MEMORY * reach + window,
    reference="order block in Huddleston's (ICT) teaching: the last opposite candle before the move that broke",
    watch=ends_at("stop", closes=True),
)
def order_block(arrays: BarArrays, reach: Reach = 5, by: By = "close", window: Period = 14) -> Iterator[Found]:
    """The last candle against the move that broke structure, confirmed at the close of the bar that broke.

    Kind ``order_block``, ``direction`` that of the break. The candle is the last one that closed the other way, at or
    before the extreme of the move and not before the broken swing; where there is none, the bar of the extreme. ``low``
    and ``high`` are its range, ``stop`` the far side, ``target`` the broken level, ``score`` its volume over the mean
    of the ``window`` bars before it (NaN without volume). Invalidated by a close through its far side: nothing is
    deleted, and the block then stands as a ``breaker_block``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14, 12).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0, 14.0])
    >>> found = order_block(bars, reach=1)
    >>> found[["direction", "low", "high", "target"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[1.0, 9.0, 12.0, 13.0]], '2017-01-02 05:00:00+00:00')
    """
    breaks = arrays.once(fractal_breaks, reach, by)
    blocks = arrays.once(fractal_blocks, reach, by)
    yield Findings(
        "order_block",
        direction=blocks.direction,
        start=blocks.row,
        end=blocks.confirmed,
        confirmed=blocks.confirmed,
        low=blocks.low,
        high=blocks.high,
        invalidated=blocks.failed,
        target=breaks.level,
        stop=np.where(blocks.direction > 0, blocks.low, blocks.high),
        score=relative_volume(arrays, blocks.row, window),
        point_rows=np.column_stack((blocks.row, breaks.swing, blocks.confirmed)),
        point_prices=np.column_stack((blocks.low, breaks.level, breaks.level)),
    )
    yield next_breaks(arrays, reach, by)


@detector(
    lookback=lambda reach, max_age: MEMORY * reach + max_age,
    reference="mitigation of an order block in Huddleston's (ICT) teaching: the first return into its range",
    watch=ends_at("stop", closes=True),
)
def order_block_mitigation(
    arrays: BarArrays, reach: Reach = 5, by: By = "close", max_age: Age = 500
) -> Iterator[Found]:
    """First returns of price into an order block, confirmed at the close of the bar that returned.

    Kind ``order_block_mitigation`` with range and ``direction`` of the block; ``start`` is the block's bar, ``end``
    the bar that came back within ``max_age`` bars of the break, ``stop`` the far side, ``score`` the bars it took.
    Invalidated by a close through the far side.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14, 12).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0, 14.0])
    >>> found = order_block_mitigation(bars, reach=1)
    >>> found[["low", "high", "score"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[9.0, 12.0, 1.0]], '2017-01-02 06:00:00+00:00')
    """
    blocks = arrays.once(fractal_blocks, reach, by)
    yield _later(arrays, blocks, blocks.touched, "order_block_mitigation", max_age, turned=False)
    yield _until_later(arrays, blocks, blocks.touched, turned=False) | next_breaks(arrays, reach, by)


@detector(
    lookback=lambda reach, max_age: MEMORY * reach + max_age,
    reference="breaker block in Huddleston's (ICT) teaching: an order block that failed",
    watch=ends_at("stop", closes=True),
)
def breaker_block(arrays: BarArrays, reach: Reach = 5, by: By = "close", max_age: Age = 500) -> Iterator[Found]:
    """Order blocks that a close went through, confirmed at that close, now of the other direction.

    Kind ``breaker_block`` with the range of the block and the opposite ``direction``; ``start`` is the block's bar,
    ``end`` the bar that closed through it within ``max_age`` bars of the break, ``stop`` the side at which it fails in
    its turn, ``score`` the bars it took. Invalidated by the first close beyond that side.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14, 12, 8).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0, 14.0, 13.0])
    >>> breaker_block(bars, reach=1)[["direction", "low", "high"]].to_numpy().tolist()
    [[-1.0, 9.0, 12.0]]
    """
    blocks = arrays.once(fractal_blocks, reach, by)
    yield _later(arrays, blocks, blocks.failed, "breaker_block", max_age, turned=True)
    yield _until_later(arrays, blocks, blocks.failed, turned=True) | next_breaks(arrays, reach, by)


def _until_later(arrays: BarArrays, blocks: Blocks, at: Rows, *, turned: bool) -> Watch:
    # A block counts from the bar after its break on: its far side for a close, its near one for any price.
    level = np.where((blocks.direction > 0) == turned, blocks.low, blocks.high)
    return watch_levels(pending(at, level), closes=turned, until=next_row(arrays, blocks.confirmed))


def _later(arrays: BarArrays, blocks: Blocks, at: Rows, kind: str, max_age: int, *, turned: bool) -> Findings:
    """What happened to blocks at the rows ``at``, as findings of their own, confirmed when it happened."""
    chosen = np.flatnonzero((at >= 0) & (at - blocks.confirmed <= max_age))
    chosen = chosen[np.argsort(at[chosen], kind="stable")]
    row, now = blocks.row[chosen], at[chosen]
    low, high = blocks.low[chosen], blocks.high[chosen]
    direction = (-blocks.direction[chosen] if turned else blocks.direction[chosen]).astype(np.int8)
    up = direction > 0
    close = arrays.close
    until = first_returns(direction, close, close, now, np.where(up, low, high), strict=True)
    # A bar may come back into a block and close through it at once: then it stood for no time at all.
    through = (close[now] < low) & up | (close[now] > high) & ~up
    until[through] = now[through]
    return Findings(
        kind,
        direction=direction,
        start=row,
        end=now,
        confirmed=now,
        low=low,
        high=high,
        invalidated=until,
        stop=np.where(up, low, high),
        score=(now - blocks.confirmed[chosen]).astype(np.float64),
        point_rows=np.column_stack((row, blocks.confirmed[chosen], now)),
        point_prices=np.column_stack((np.where(up, low, high), np.where(up, high, low), close[now])),
    )
