"""SuperTrend: a band of true ranges that follows price and turns when a close breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import NOT_YET, Findings
from tapeline.charts.swings import Period
from tapeline.charts.watch import ends_at
from tapeline.core.registry import Tolerance, feature

Multiple = Annotated[float, Field(gt=0.0, le=100.0)]
SOURCE: Final = "Seban, Tout le monde merite d'etre riche (2008): SuperTrend over Wilder's average true range"
GRID: Final = ((7, 2.0), (10, 3.0), (14, 2.0), (14, 4.0), (21, 3.0))
"""Windows and multiples that vote in the consensus: from quick and near to slow and far."""

MEMORY: Final = 30
_TURNS: Final = 1_500
_SAME: Final = Tolerance(relative=1e-8, absolute=1e-8)


@dataclass(frozen=True)
class Trend:
    """By bar: the ``line``, its ``direction`` (1 below price, -1 above, 0 unknown) and the average true range."""

    line: Floats
    direction: NDArray[np.int8]
    usual: Floats


@njit(cache=True, nogil=True)
def _follow(high: Any, low: Any, close: Any, window: Any, multiple: Any, line: Any, direction: Any, usual: Any) -> None:
    mean, upper, lower, side, seen = 0.0, 0.0, 0.0, 0, 0
    for t in range(close.size):
        line[t], direction[t], usual[t] = np.nan, 0, np.nan
        if np.isnan(high[t] + low[t] + close[t]):
            seen, side = 0, 0
            continue
        seen += 1
        if seen == 1:
            continue
        true_range = max(high[t], close[t - 1]) - min(low[t], close[t - 1])
        if seen <= window + 1:
            mean += (true_range - mean) / (seen - 1) if seen > 2 else true_range - mean
        else:
            mean += (true_range - mean) / window
        if seen <= window:
            continue
        middle = (high[t] + low[t]) / 2.0
        above, below = middle + multiple * mean, middle - multiple * mean
        if side == 0:
            upper, lower = above, below
            side = 1 if close[t] > middle else -1
        else:
            # A band only comes nearer, until a close has gone beyond it.
            upper = above if above < upper or close[t - 1] > upper else upper
            lower = below if below > lower or close[t - 1] < lower else lower
            if side > 0 and close[t] < lower:
                side = -1
            elif side < 0 and close[t] > upper:
                side = 1
        line[t] = lower if side > 0 else upper
        direction[t], usual[t] = side, mean


def find_trend(bars: pd.DataFrame | BarArrays, window: int = 10, multiple: float = 3.0) -> Trend:
    """The line with its direction as arrays.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> find_trend(example_bars(10, 12, 14, 16, 9, 6), 2, 1.0).direction.tolist()
    [0, 0, 1, 1, -1, -1]
    """
    arrays = BarArrays.of(bars)
    rows = len(arrays)
    line, direction, usual = np.empty(rows), np.empty(rows, np.int8), np.empty(rows)
    _follow(arrays.high, arrays.low, arrays.close, window, multiple, line, direction, usual)
    return Trend(line, direction, usual)


@feature(
    lookback=lambda window: MEMORY * window + _TURNS,
    outputs="supertrend_{window}",
    reference=SOURCE,
    scale=(1, 0),
    tolerance=_SAME,
)
def supertrend(bars: pd.DataFrame, window: Period = 10, multiple: Multiple = 3.0) -> pd.Series:
    """The line, in price: below the bars in a rising trend, above them in a falling one.

    The middle of each bar's range less (plus) ``multiple`` average true ranges, which never moves away from price while
    the trend lasts. A close beyond it turns the trend, at that bar. It forgets where the history began when it turns.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> supertrend(example_bars(10, 12, 14, 16), 2, 1.0).tolist()[2:]
    [9.0, 11.0]
    """
    return pd.Series(find_trend(bars, window, multiple).line, index=bars.index)


@feature(
    lookback=lambda window: MEMORY * window + _TURNS,
    outputs=("supertrend_direction_{window}", "supertrend_distance_{window}", "supertrend_age_{window}"),
    reference=SOURCE,
    tolerance=_SAME,
)
def supertrend_state(bars: pd.DataFrame, window: Period = 10, multiple: Multiple = 3.0) -> pd.DataFrame:
    """The trend without unit.

    Returns
    -------
    ``direction`` 1 or -1; ``distance`` from the line to the close in average true ranges, positive above the line;
    ``age`` in bars since the trend turned, of 1,000 at most.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> supertrend_state(example_bars(10, 12, 14, 16, 9, 6), 2, 1.0)["supertrend_age_2"].tolist()[2:]
    [0.0, 1.0, 0.0, 1.0]
    """
    arrays = BarArrays.of(bars)
    found = find_trend(arrays, window, multiple)
    known = found.direction != 0
    direction = np.where(known, found.direction, np.nan)
    moving = found.usual > 1e-8 * arrays.close
    distance = np.full(len(arrays), np.nan)
    np.divide(arrays.close - found.line, found.usual, out=distance, where=known & moving)
    return pd.DataFrame(
        {
            f"supertrend_direction_{window}": direction,
            f"supertrend_distance_{window}": distance,
            f"supertrend_age_{window}": np.where(known, np.minimum(_age(found.direction), 1_000.0), np.nan),
        },
        index=bars.index,
    )


def _age(direction: NDArray[np.int8]) -> Floats:
    if not direction.size:
        return np.empty(0)
    row = np.arange(direction.size)
    turned = np.concatenate(([True], direction[1:] != direction[:-1]))
    return (row - np.maximum.accumulate(np.where(turned, row, 0))).astype(np.float64)


@feature(
    lookback=MEMORY * max(window for window, _ in GRID) + _TURNS,
    outputs=("supertrend_consensus", "supertrend_agreement"),
    reference=SOURCE,
)
def supertrend_consensus(bars: pd.DataFrame) -> pd.DataFrame:
    """What SuperTrends of several windows and multiples say together: (7, 2), (10, 3), (14, 2), (14, 4), (21, 3).

    Returns
    -------
    ``supertrend_consensus``: the mean of their directions, -1 to 1; ``supertrend_agreement``: the share of them on the
    side of the majority. NaN until all of them have a direction.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> supertrend_consensus(example_bars(*range(10, 40))).iloc[-1].tolist()
    [1.0, 1.0]
    """
    arrays = BarArrays.of(bars)
    votes = np.array([find_trend(arrays, window, multiple).direction for window, multiple in GRID], dtype=np.float64)
    votes[:, (votes == 0).any(axis=0)] = np.nan
    mean = votes.mean(axis=0)
    return pd.DataFrame(
        {"supertrend_consensus": mean, "supertrend_agreement": 0.5 + 0.5 * np.abs(mean)}, index=bars.index
    )


def _turns_now(arrays: BarArrays, window: int, multiple: float) -> bool:
    way = arrays.once(find_trend, window, multiple).direction
    return way.size < 2 or bool(way[-1] != way[-2])


@detector(lookback=lambda window: MEMORY * window + _TURNS, reference=SOURCE, watch=ends_at(), probe=_turns_now)
def supertrend_flip(arrays: BarArrays, window: Period = 10, multiple: Multiple = 3.0) -> Iterator[Found]:
    """Turns of SuperTrend, confirmed at the close that breaks the band.

    Kind ``supertrend_flip``, ``direction`` that of the new trend; ``start`` is the bar of the turn before, ``end`` the
    breaking bar; ``low`` and ``high`` are the broken line, ``stop`` is the line on the other side, ``score`` the bars
    that the old trend lasted. Invalidated by the next turn.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = supertrend_flip(example_bars(10, 12, 14, 16, 9, 6), 2, 1.0)
    >>> found[["direction", "high", "score"]].to_numpy().tolist()
    [[-1.0, 11.0, 2.0]]
    """
    found = arrays.once(find_trend, window, multiple)
    way = found.direction
    row = np.flatnonzero((way[1:] != way[:-1]) & (way[1:] != 0) & (way[:-1] != 0)) + 1
    first = np.flatnonzero(way != 0)[:1]
    before = np.concatenate((first, row[:-1])) if row.size else row
    broken = found.line[row - 1]
    yield Findings(
        "supertrend_flip",
        direction=way[row],
        start=before,
        end=row,
        confirmed=row,
        low=broken,
        high=broken,
        invalidated=np.concatenate((row[1:], [NOT_YET])) if row.size else row,
        stop=found.line[row],
        score=(row - before).astype(np.float64),
        point_rows=np.column_stack((row - 1, row)),
        point_prices=np.column_stack((broken, found.line[row])),
    )
