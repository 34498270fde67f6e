"""Columns by the names of smart-money-concepts, on the rows at which they were known.

That library stamps a finding where it lies and deletes or changes it later. Here each function gives one row a bar, a
value on the row whose close confirmed it, and a column that says where it lies. What needs the future to be stamped as
there, is in the functions whose name ends in ``_whole``, for research and for comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tapeline.charts.bar_arrays import BarArrays, Rows
from tapeline.charts.gaps import find_gaps
from tapeline.charts.liquidity import equal_extremes, liquidity_sweep
from tapeline.charts.order_blocks import find_blocks
from tapeline.charts.structure import find_breaks
from tapeline.charts.swings import find_swings
from tapeline.core.registry import research


def fvg(bars: pd.DataFrame) -> pd.DataFrame:
    """Fair value gaps on the row of their third bar, and on the row that mitigates one, which.

    Returns
    -------
    ``FVG`` (1, -1, NaN), ``Top``, ``Bottom``; ``MitigatesIndex``: the row of the third bar of the newest gap that this
    row touched first. There, the gap stands one row earlier, on its middle bar, and its ``MitigatedIndex`` is read from
    the future.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> fvg(example_bars(10, 14, 15, 15, 12)).iloc[[2, 4]].to_numpy().tolist()
    [[1.0, 13.0, 11.0, nan], [nan, nan, nan, 2.0]]
    """
    arrays = BarArrays(bars)
    gaps = find_gaps(arrays)
    touched = gaps.reached(arrays, 0.0)
    done = touched >= 0
    return _columns(
        bars,
        FVG=(gaps.third, gaps.direction),
        Top=(gaps.third, gaps.high),
        Bottom=(gaps.third, gaps.low),
        MitigatesIndex=(touched[done], gaps.third[done]),
    )


@research
def fvg_whole(bars: pd.DataFrame) -> pd.DataFrame:
    """Fair value gaps as smart-money-concepts gives them: on the middle bar, with the row of a later mitigation.

    Not causal: the middle bar does not know the third, nor the mitigation (0 where there is none).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> fvg_whole(example_bars(10, 14, 15, 15, 12)).iloc[1].tolist()
    [1.0, 13.0, 11.0, 4.0]
    """
    arrays = BarArrays(bars)
    gaps = find_gaps(arrays)
    middle = gaps.third - 1
    return _columns(
        bars,
        FVG=(middle, gaps.direction),
        Top=(middle, gaps.high),
        Bottom=(middle, gaps.low),
        MitigatedIndex=(middle, np.maximum(gaps.reached(arrays, 0.0), 0)),
    )


def swing_highs_lows(bars: pd.DataFrame, swing_length: int = 50) -> pd.DataFrame:
    """Swing highs and lows on the row that confirms them, ``swing_length`` bars later.

    Returns
    -------
    ``HighLow`` (1 a high, -1 a low), ``Level``, and ``Index``, the row of the extreme. Where a bar is both a high and
    a low, the low. Two highs may follow one another: none is deleted because a higher one came.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11).assign(high=[11.0, 13.0, 12.0, 12.5])
    >>> swing_highs_lows(bars, swing_length=1).iloc[2].tolist()
    [1.0, 13.0, 1.0]
    """
    swings = find_swings(bars, "fractal", left=swing_length, right=swing_length)
    at = swings.confirmed
    return _columns(bars, HighLow=(at, swings.side), Level=(at, swings.price), Index=(at, swings.row))


def bos_choch(bars: pd.DataFrame, swing_length: int = 50, close_break: bool = True) -> pd.DataFrame:
    """Breaks of structure and changes of character on the row that breaks.

    Returns
    -------
    ``BOS``, ``CHOCH`` (1, -1, NaN), ``Level``, and ``Index``, the row of the broken swing. There, they stand on the
    row of the swing, are found from four swings in a row, and those never broken are removed: another definition, so
    the two do not compare.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0])
    >>> bos_choch(bars, swing_length=1).iloc[4].tolist()
    [1.0, nan, 13.0, 1.0]
    """
    swings = find_swings(bars, "fractal", left=swing_length, right=swing_length)
    breaks = find_breaks(bars, swings, "close" if close_break else "wick")
    turns = breaks.changes_character
    return _columns(
        bars,
        BOS=(breaks.row[~turns], breaks.direction[~turns]),
        CHOCH=(breaks.row[turns], breaks.direction[turns]),
        Level=(breaks.row, breaks.level),
        Index=(breaks.row, breaks.swing),
    )


def ob(bars: pd.DataFrame, swing_length: int = 50, close_break: bool = True) -> pd.DataFrame:
    """Order blocks on the row of the break that confirms them.

    Returns
    -------
    ``OB`` (1, -1, NaN), ``Top``, ``Bottom``, ``OBVolume`` (the block's own bar), and ``Index``, the row of the block;
    ``MitigatesIndex``: the row of the newest block that this row came back into first. There, the volume is that of
    three bars, and a block that was crossed twice is erased from the past.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 11, 14).assign(high=[11.0, 13.0, 12.0, 12.5, 15.0])
    >>> ob(bars, swing_length=1).iloc[4].tolist()
    [1.0, 12.0, 9.0, 3.0, 2.0, nan]
    """
    swings = find_swings(bars, "fractal", left=swing_length, right=swing_length)
    blocks = find_blocks(bars, find_breaks(bars, swings, "close" if close_break else "wick"))
    at, back = blocks.confirmed, blocks.touched >= 0
    return _columns(
        bars,
        OB=(at, blocks.direction),
        Top=(at, blocks.high),
        Bottom=(at, blocks.low),
        OBVolume=(at, bars["volume"].to_numpy(dtype=np.float64)[blocks.row]),
        Index=(at, blocks.row),
        MitigatesIndex=(blocks.touched[back], blocks.row[back]),
    )


def liquidity(bars: pd.DataFrame, swing_length: int = 50, tolerance: float = 0.25) -> pd.DataFrame:
    """Equal highs and lows on the row that confirms the last of them, and the rows that sweep a swing.

    Returns
    -------
    ``Liquidity`` (1 above highs, -1 below lows), ``Level`` (the outer one), ``Index`` (the row of the first of them),
    ``Sweeps`` (1 where this row ran beyond a swing high and closed back, -1 below a low). ``tolerance`` is in mean true
    ranges as they stand; there, it is a share of the range of the whole series, so the past changes with the future.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10, 12] * 12).assign(high=[11.0, 13.0] * 12)
    >>> liquidity(bars, swing_length=1).iloc[16].tolist()
    [1.0, 13.0, 13.0, nan]
    """
    pools = equal_extremes(bars, reach=swing_length, tolerance=tolerance)
    sweeps = liquidity_sweep(bars, reach=swing_length)
    known = _rows(bars, pools["confirmed_at"])
    return _columns(
        bars,
        Liquidity=(known, -pools["direction"].to_numpy()),
        Level=(known, pools["stop"].to_numpy()),
        Index=(known, bars.index.searchsorted(pd.DatetimeIndex(pools["start"]))),
        Sweeps=(_rows(bars, sweeps["confirmed_at"]), -sweeps["direction"].to_numpy()),
    )


def _rows(bars: pd.DataFrame, instants: Any) -> Rows:
    return np.asarray(pd.DatetimeIndex(bars["close_ts"]).searchsorted(pd.DatetimeIndex(instants)), dtype=np.int64)


def _columns(bars: pd.DataFrame, **values: tuple[Any, Any]) -> pd.DataFrame:
    """One column a name from (rows, values); NaN elsewhere, the last value where a row has several."""
    data = {}
    for name, (rows, given) in values.items():
        column = np.full(len(bars), np.nan)
        column[rows] = given
        data[name] = column
    return pd.DataFrame(data, index=bars.index)
