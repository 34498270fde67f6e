"""Wolfe waves over the zigzag's pivots: five points, the sweet zone, the line of the price at arrival, the arrival.

Lines are straight in price and in bars, without logarithm, and a bar is a bar whatever time lies between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import expires_or_ends_at
from tapeline.charts.wolfe_kernels import wolfe_runs
from tapeline.core.errors import DataError

Overshoot = Annotated[float, Field(ge=0.0, le=100.0)]
Reach = Annotated[float, Field(gt=0.0, le=100.0)]
Age = Annotated[int, Field(ge=1, le=100_000)]

_POINTS = 6
_COLUMNS = ("sweet_low", "sweet_high", "epa", "epa_at_arrival", "bars_to_arrival", "arrival")


@detector(
    lookback=PIVOT_MEMORY,
    reference="Wolfe, in Connors and Raschke, Street Smarts (1995), appendix",
    follows=("max_age",),
    watch=expires_or_ends_at("target", "stop"),
)
def wolfe_wave(
    arrays: BarArrays,
    overshoot: Overshoot = 3.0,
    reach: Reach = 5.0,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    max_age: Age = 200,
) -> Iterator[Found]:
    """Five pivots in the shape of a Wolfe wave, known when point 5 is confirmed as a pivot.

    Kind ``wolfe_wave``, ``direction`` 1 where price should rise from point 5, a low. For that one, the other being its
    mirror image:

    ========  ============================================================================================
    point 2   a high
    point 1   the low before it
    point 3   the low after it, lower than point 1
    point 4   the high after point 3, between the prices of point 1 and point 2
    lines     1-3 and 2-4 converge: the line 2-4 falls faster
    point 5   the low after point 4, below the line 1-3
    ========  ============================================================================================

    ``low`` and ``high`` are the sweet zone at the bar of point 5: between the line 1-3 and the parallel of the line 2-4
    through point 3. ``target`` is the estimated price at arrival (EPA), the line 1-4, at the bar of the confirmation;
    it moves on with time. ``stop`` is point 5. Invalidated when one of the two is traded or after ``max_age`` bars.
    ``score`` is the mean of two symmetries, from 0 to 1: of the moves 1-2 and 3-4 in price, and of the stretches 1-3
    and 3-5 in bars, each as the smaller over the greater. ``points`` are 1 to 5 and the price of the EPA line at the
    estimated time of arrival (ETA), where the lines 1-3 and 2-4 meet. That bar is still to come, so this last point is
    dated at the confirming bar; :func:`wolfe_projections` gives the ETA.

    The published rules say that point 5 is likely to exceed the line 1-3 and should turn in the sweet zone; here it
    must do the first, and may lie beyond the zone by ``overshoot``. Not reported are waves whose lines have met by the
    confirmation, or meet later than ``reach`` says (nearly parallel ones), and those that had traded at the EPA line.

    Parameters
    ----------
    overshoot:
        Mean true ranges over ``window`` bars, as they stand at the confirmation. The default is the zigzag's size: how
        far price may go without making another swing.
    reach:
        How long after point 5 the lines may meet, in lengths of the wave from 1 to 5.
    size, unit, window:
        Of the zigzag, as in ``zigzag_swing``.
    max_age:
        Bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> path = [(0, 112.0), (20, 104.0), (40, 110.0), (60, 102.0), (80, 106.0), (100, 99.8), (110, 101.8)]
    >>> found = wolfe_wave(bars_through(path))
    >>> found[["direction", "low", "high", "target", "stop"]].round(2).to_numpy().tolist()
    [[1.0, 98.0, 100.0, 106.83, 99.8]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    if len(pivots) < 5:
        return
    usual = arrays.once(mean_true_range, window)
    last, values = wolfe_runs(
        pivots.row, pivots.confirmed, pivots.side, pivots.price, arrays.high, arrays.low, usual, overshoot, reach
    )
    if not len(last):
        return
    corners = last[:, None] + np.arange(-4, 1)
    known, stop, target = pivots.confirmed[last], pivots.price[last], np.ascontiguousarray(values[:, 2])
    direction = (-pivots.side[last]).astype(np.int8)
    yield Findings(
        "wolfe_wave",
        direction=direction,
        start=pivots.row[corners[:, 0]],
        end=pivots.row[last],
        confirmed=known,
        low=values[:, :2].min(axis=1),
        high=values[:, :2].max(axis=1),
        invalidated=fates(arrays, known, direction, target, stop, max_age).row,
        target=target,
        stop=stop,
        score=values[:, 4],
        point_rows=np.column_stack((pivots.row[corners], known)),
        point_prices=np.column_stack((pivots.price[corners], values[:, 3])),
    )


def wolfe_projections(events: pd.DataFrame, bars: pd.DataFrame | BarArrays, *, at: int | None = None) -> pd.DataFrame:
    """The moving lines of Wolfe waves at one bar: the sweet zone, the EPA, and when and where it should be met.

    Parameters
    ----------
    events:
        Rows of ``wolfe_wave`` on these bars.
    bars:
        With all bars from point 1 on.
    at:
        The row of the bar at whose close to read them; the last one where absent.

    Returns
    -------
    A frame on the events' index: ``sweet_low`` and ``sweet_high`` (the zone at that bar), ``epa`` (the line 1-4 there),
    ``epa_at_arrival``, ``bars_to_arrival`` (from that bar to the ETA; negative once it is past) and ``arrival`` (the
    ETA as the open time of a bar). A bar of the past is named by its own time. One to come is counted on in usual bar
    lengths, the median of these bars: a market that pauses arrives later than that.

    Raises
    ------
    DataError
        The events are no Wolfe waves, or they are not on these bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> path = [(0, 112.0), (20, 104.0), (40, 110.0), (60, 102.0), (80, 106.0), (100, 99.8), (110, 101.8)]
    >>> bars = bars_through(path)
    >>> lines = wolfe_projections(wolfe_wave(bars), bars, at=110)
    >>> lines[["sweet_low", "sweet_high", "epa", "epa_at_arrival", "bars_to_arrival"]].round(2).to_numpy().tolist()
    [[97.0, 99.5, 107.0, 109.33, 70.0]]
    >>> str(lines["arrival"].iloc[0])
    '2017-01-02 03:00:00+00:00'
    """
    arrays = BarArrays.of(bars)
    if not (events["kind"].astype(str) == "wolfe_wave").all():
        raise DataError("these events are not all Wolfe waves", hint="events[events['kind'] == 'wolfe_wave']")
    if not len(events):
        floats: dict[str, Any] = {name: pd.Series(dtype=np.float64) for name in _COLUMNS[:-1]}
        return pd.DataFrame(floats | {"arrival": pd.Series(dtype="datetime64[ns, UTC]")})
    row = len(arrays) - 1 if at is None else at
    if not 0 <= row < len(arrays):
        raise DataError(f"at {row} is no row of {len(arrays)} bars")
    rows, prices = _corners(events, arrays)
    lower, upper, rise = (
        (prices[:, k] - prices[:, j]) / (rows[:, k] - rows[:, j]) for j, k in ((0, 2), (1, 3), (0, 3))
    )
    arrival = rows[:, 0] + (prices[:, 5] - prices[:, 0]) / rise
    edges = np.column_stack((prices[:, 0] + lower * (row - rows[:, 0]), prices[:, 2] + upper * (row - rows[:, 2])))
    length = int(np.median(np.diff(arrays.opened)))
    whole = np.round(arrival).astype(np.int64)
    beyond = np.maximum(whole - (len(arrays) - 1), 0)
    opened = arrays.opened[np.minimum(whole, len(arrays) - 1)] + beyond * length
    return pd.DataFrame(
        {
            "sweet_low": edges.min(axis=1),
            "sweet_high": edges.max(axis=1),
            "epa": prices[:, 0] + rise * (row - rows[:, 0]),
            "epa_at_arrival": prices[:, 5],
            "bars_to_arrival": arrival - row,
            "arrival": pd.DatetimeIndex(opened.view("M8[ns]")).tz_localize("UTC"),
        },
        index=events.index,
    )


def _corners(events: pd.DataFrame, arrays: BarArrays) -> tuple[Any, Any]:
    """Rows and prices of the points of each event."""
    times = np.array([[point["ts"].value for point in points] for points in events["points"]])
    prices = np.array([[point["price"] for point in points] for points in events["points"]])
    if times.shape != (len(events), _POINTS):
        raise DataError(f"a Wolfe wave has {_POINTS} points, these have {times.shape[1:]}")
    rows = np.minimum(arrays.opened.searchsorted(times), len(arrays) - 1)
    if (arrays.opened[rows] != times).any():
        raise DataError("points of these events lie on none of these bars", hint="give the bars they were found on")
    return rows, prices
