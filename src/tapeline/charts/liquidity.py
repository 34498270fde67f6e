"""Liquidity above highs and below lows: equal highs and lows, and the bars that sweep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import first_crossings, first_returns
from tapeline.charts.events import Findings
from tapeline.charts.gaps import Age
from tapeline.charts.structure_kernels import equal_levels
from tapeline.charts.swings import Period, Reach, exceeded, find_swings
from tapeline.charts.watch import ends_at, pending, watch_levels

Width = Annotated[float, Field(gt=0.0, le=100.0)]


@detector(
    lookback=lambda reach, max_age, window: max_age + 4 * reach + window + 2,
    reference="equal highs and lows, resting liquidity, in Huddleston's (ICT) teaching",
    watch=ends_at("stop"),
)
def equal_extremes(
    arrays: BarArrays, reach: Reach = 5, tolerance: Width = 0.25, max_age: Age = 300, window: Period = 14
) -> Iterator[Found]:
    """Swings at nearly the price of earlier ones that no swing since has passed, known when the swing is confirmed.

    Kinds ``equal_highs`` (``direction`` -1: a ceiling with stops above it) and ``equal_lows`` (1). ``start`` is the
    first of the swings, at most ``max_age`` bars before the last, ``end``; ``low`` and ``high`` their range, ``score``
    how many they are. Nearly is ``tolerance`` mean true ranges over ``window`` bars as they stand at the confirmation,
    never a share of the whole series. Invalidated by the first trade beyond them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 12, 10, 13).assign(high=[11.0, 13.0, 12.0, 13.1, 12.0, 14.0])
    >>> found = equal_extremes(bars, reach=1, window=2)
    >>> found[["low", "high", "score"]].to_numpy().tolist(), str(found["kind"].iloc[0])
    ([[13.0, 13.1, 2.0]], 'equal_highs')
    """
    swings = arrays.once(find_swings, "fractal", left=reach, right=reach)
    width = tolerance * arrays.once(mean_true_range, window)[swings.confirmed]
    for side, kind, values in ((1, "equal_highs", arrays.high), (-1, "equal_lows", arrays.low)):
        mine = (swings.side == side) & (width >= 0.0)
        row, at = swings.row[mine], swings.confirmed[mine]
        members, span = equal_levels(row, at, side * swings.price[mine], width[mine], max_age, 2)
        chosen = members[:, 0] > 0
        near, far = side * span[chosen, 0], side * span[chosen, 1]
        first, last, known = members[chosen, 1], row[chosen], at[chosen]
        yield Findings(
            kind,
            direction=np.full(last.size, -side, np.int8),
            start=first,
            end=last,
            confirmed=known,
            low=np.minimum(near, far),
            high=np.maximum(near, far),
            invalidated=first_crossings(side, values, known, far, strict=True),
            stop=far,
            score=members[chosen, 0].astype(np.float64),
            point_rows=np.column_stack((first, last)),
            point_prices=np.column_stack((values[first], values[last])),
        )


@detector(
    lookback=lambda reach, max_age, window: max_age + 3 * reach + window + 2,
    reference="liquidity sweep in Huddleston's (ICT) teaching; turtle soup in Connors, Raschke, Street Smarts (1995)",
    watch=ends_at("low", "high", closes=True),
)
def liquidity_sweep(arrays: BarArrays, reach: Reach = 5, max_age: Age = 300, window: Period = 14) -> Iterator[Found]:
    """Bars that are the first to trade beyond a confirmed swing and close back on its near side.

    Kind ``liquidity_sweep``, ``direction`` -1 after a sweep of highs and 1 of lows, confirmed at that bar's close.
    ``start`` is the swing, confirmed at most ``max_age`` bars before, ``end`` the sweeping bar; ``low`` and ``high``
    run from the level to the wick's end, which is also ``stop``; ``score`` is the wick beyond the level in mean true
    ranges of the bars before. A bar that sweeps several swings gives one finding for each. Invalidated by the first
    close beyond the level.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 10, 10, 11).assign(high=[11.0, 13.0, 12.0, 11.5, 13.5])
    >>> liquidity_sweep(bars, reach=1, window=2)[["direction", "low", "high"]].to_numpy().tolist()
    [[-1.0, 13.0, 13.5]]
    """
    swings = arrays.once(find_swings, "fractal", left=reach, right=reach)
    high, low, close = arrays.high, arrays.low, arrays.close
    hit = exceeded(arrays, swings)
    back = swings.side * (swings.price - close[hit]) >= 0.0
    chosen = np.flatnonzero((hit >= 0) & (hit - swings.confirmed <= max_age) & back)
    chosen = chosen[np.argsort(hit[chosen], kind="stable")]
    at, side, level = hit[chosen], swings.side[chosen], swings.price[chosen]
    wick = np.where(side > 0, high[at], low[at])
    usual = arrays.once(mean_true_range, window)[np.maximum(at - 1, 0)]
    score = np.full(at.size, np.nan)
    np.divide(np.abs(wick - level), usual, out=score, where=usual > 0.0)
    until = first_returns(-side, close, close, at, level, strict=True)
    yield Findings(
        "liquidity_sweep",
        direction=(-side).astype(np.int8),
        start=swings.row[chosen],
        end=at,
        confirmed=at,
        low=np.minimum(level, wick),
        high=np.maximum(level, wick),
        invalidated=until,
        stop=wick,
        score=score,
        point_rows=np.column_stack((swings.row[chosen], at)),
        point_prices=np.column_stack((level, wick)),
    )
    yield watch_levels(pending(hit, swings.price))
