"""Liquidity and volatility of each bar in plain words, and what price does to the liquidity that rests at swings."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats
from tapeline.charts.event_kernels import newest_standing
from tapeline.charts.events import event_rows
from tapeline.charts.liquidity import equal_extremes, liquidity_sweep
from tapeline.charts.swings import Reach
from tapeline.core.registry import feature
from tapeline.features.volatility_regime import volatility_regime
from tapeline.features.window_kernels import rolling_quantiles

Memory = Annotated[int, Field(ge=20, le=20_000)]
Recent = Annotated[int, Field(ge=1, le=1_000)]

LIQUIDITY: Final = ("thin", "normal", "deep")
"""Codes -1, 0 and 1."""

MEASURES: Final = {"spread": -1.0, "depth": 1.0, "volume": 1.0}
"""What a bar may say of liquidity, and whether more of it is more liquid."""

_QUARTILES: Final = np.array([0.25, 0.75])
_MAX_AGE: Final = 300
_WINDOW: Final = 24


def liquidity_level(bars: pd.DataFrame | BarArrays, memory: int = 480) -> Floats:
    """How liquid each bar is among the bars before it: -1 thin, 0 normal, 1 deep; NaN while too little is known.

    Each measure that the bars carry (``spread``, ``depth``: the size at the best quotes, ``volume``) is below the first
    quartile, above the third, or between those of its last ``memory`` values; a small spread is liquid. The level is
    the median of what the measures say: with one measure that one, with two it takes both to leave normal.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> liquidity_level(example_bars(*range(10, 40)), memory=20).tolist()[-1]
    1.0
    """
    arrays = BarArrays.of(bars)
    said = []
    for name, sign in MEASURES.items():
        if name not in arrays.bars.columns:
            continue
        values = np.ascontiguousarray(arrays.bars[name].to_numpy(dtype=np.float64))
        low, high = rolling_quantiles(values, memory, _QUARTILES)
        level = sign * ((values > high) * 1.0 - (values < low) * 1.0)
        said.append(np.where(np.isfinite(high) & np.isfinite(values), level, np.nan))
    votes = np.sort(np.array(said), axis=0)  # NaN last
    known = np.isfinite(votes).sum(axis=0)
    below, above = np.maximum((known - 1) // 2, 0), np.maximum(known // 2, 0)
    column = np.arange(len(arrays))
    middle = 0.5 * (votes[below, column] + votes[above, column])
    # Half a step, from two measures of which one says normal, is normal.
    return np.where(known > 0, np.trunc(middle), np.nan)


@feature(
    lookback=lambda memory, reach, recent: max(memory + _WINDOW, _MAX_AGE + 4 * reach + 20) + recent,
    outputs=(
        "liquidity_level", "volatility_level", "sweep_direction", "bars_since_sweep", "equal_highs_above",
        "equal_lows_below",
    ),
    requires=("close_ts",),
    reference="resting liquidity, sweeps and equal highs in Huddleston's (ICT) teaching; levels by rolling quartiles",
    stackable=False,
)  # fmt: skip
def liquidity_volatility_context(
    bars: pd.DataFrame, memory: Memory = 480, reach: Reach = 5, recent: Recent = 24
) -> pd.DataFrame:
    """Liquidity and volatility of each bar, and what stands at the swings around it.

    Returns
    -------
    ``liquidity_level``: -1 thin, 0 normal, 1 deep (:func:`liquidity_level`); ``volatility_level``: 0 low, 1 normal, 2
    high, 3 extreme (:func:`tapeline.features.volatility_regime.volatility_regime`); ``sweep_direction``: 1 where the
    newest sweep of the last ``recent`` bars took lows, -1 where it took highs, 0 without one; ``bars_since_sweep``: of
    that sweep, ``recent`` where there is none; ``equal_highs_above`` and ``equal_lows_below``: how many groups of equal
    highs, and of equal lows, no later trade has passed, of the last 300 bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10, 12] * 20, 10, 10).assign(high=[11.0, 13.0] * 20 + [12.0, 13.5])
    >>> found = liquidity_volatility_context(bars, memory=20, reach=1)
    >>> found[["sweep_direction", "bars_since_sweep"]].iloc[-1].tolist()
    [-1.0, 0.0]
    """
    arrays = BarArrays.of(bars)
    rows = np.arange(len(arrays))
    sweeps = liquidity_sweep(arrays, reach=reach, max_age=_MAX_AGE)
    known, _ = event_rows(sweeps, arrays)
    newest, way = np.full(len(arrays), -1), np.zeros(len(arrays))
    inside = known < len(arrays)
    newest[known[inside]] = known[inside]
    way[known[inside]] = sweeps["direction"].to_numpy(dtype=np.float64)[inside]
    newest = np.maximum.accumulate(newest) if rows.size else newest
    age = np.where(newest >= 0, rows - newest, recent)
    soon = age < recent
    data = {
        "liquidity_level": liquidity_level(arrays, memory),
        "volatility_level": volatility_regime(arrays.bars, _WINDOW, memory).iloc[:, 0].to_numpy(),
        "sweep_direction": np.where(soon, way[np.maximum(newest, 0)] if rows.size else way, 0.0),
        "bars_since_sweep": np.where(soon, age, recent).astype(np.float64),
    }
    pools = equal_extremes(arrays, reach=reach, max_age=_MAX_AGE)
    for kind, name in (("equal_highs", "equal_highs_above"), ("equal_lows", "equal_lows_below")):
        mine = pools[pools["kind"] == kind]
        begin, gone = event_rows(mine, arrays)
        count, _ = newest_standing(begin, np.minimum(gone, begin + _MAX_AGE), len(arrays))
        data[name] = count.astype(np.float64)
    return pd.DataFrame(data, index=arrays.bars.index)


def name_liquidity(levels: Floats | pd.Series) -> np.ndarray:
    """``thin``, ``normal`` or ``deep``; None where unknown.

    Examples
    --------
    >>> name_liquidity(np.array([-1.0, np.nan])).tolist()
    ['thin', None]
    """
    values = np.asarray(levels, dtype=np.float64)
    known = np.isfinite(values)
    told = np.full(values.shape, None, dtype=object)
    told[known] = np.array(LIQUIDITY, dtype=object)[values[known].astype(int) + 1]
    return told
