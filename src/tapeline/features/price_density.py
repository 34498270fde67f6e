"""Where price has been: how dense its past is at the close, where that past is densest, and the levels it turned at."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, Floats, columns, frame
from tapeline.features.density_kernels import cluster_sorted, rolling_density, turning_levels
from tapeline.features.kernels import rolling_mean

Sample = Annotated[int, Field(ge=20, le=20_000)]
Span = Annotated[int, Field(ge=1, le=1000)]
Reach = Annotated[float, Field(gt=0, le=100)]
Turns = Annotated[int, Field(ge=2, le=100)]

FARTHEST = 20.0
"""Levels farther away than this many ranges count as none."""


@feature(
    lookback=lambda window: window,
    outputs=(
        "{weight}_density_{window}",
        "{weight}_to_main_mode_{window}",
        "{weight}_to_mode_{window}",
        "{weight}_modes_{window}",
    ),
    reference="Silverman, Density Estimation for Statistics and Data Analysis (1986), section 3.5; price by time as "
    "Steidlmayer's market profile; bandwidth by Scott, Multivariate Density Estimation (1992)",
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
)
def price_density(bars: pd.DataFrame, window: Sample = 240, weight: Literal["time", "volume"] = "time") -> pd.DataFrame:
    """Density of the typical prices of the last ``window`` bars at the close, by time spent or by volume traded there.

    A gaussian kernel density with Scott's bandwidth. Its modes, on a grid of 96 prices between the window's extremes,
    are prices that were accepted; modes lower than a tenth of the highest are not counted.

    Returns
    -------
    The density at the close as a share of that at the highest mode, 0 to 1. The distance of the close above the
    highest mode, and above the nearest, in standard deviations of the window's prices. The number of modes. NaN where
    price has stood still, by volume also where none traded; an unknown volume counts as none.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> price_density(example_bars(*[10.0, 11.0] * 15, *[20.0] * 10), window=40).iloc[-1].round(1).tolist()
    [0.3, 2.4, 0.0, 2.0]
    """
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    typical = (high + low + close) / 3.0
    weights = np.ones(close.size) if weight == "time" else np.where(volume > 0.0, volume, 0.0)
    density, highest, nearest, modes = rolling_density(typical, weights, close, window, STILL)
    return frame(
        bars,
        **{
            f"{weight}_density_{window}": density,
            f"{weight}_to_main_mode_{window}": highest,
            f"{weight}_to_mode_{window}": nearest,
            f"{weight}_modes_{window}": modes,
        },
    )


@feature(
    lookback=lambda window: window + 1,
    outputs=(
        "cluster_above_{window}",
        "cluster_above_turns_{window}",
        "cluster_below_{window}",
        "cluster_below_turns_{window}",
    ),
    reference="Ester, Kriegel, Sander and Xu, KDD (1996): DBSCAN; of swing highs and lows as Murphy, Technical "
    "Analysis of the Financial Markets (1999), chapter 4: support and resistance",
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
    delay=lambda span: span,
)
def price_clusters(
    bars: pd.DataFrame, window: Sample = 480, span: Span = 3, reach: Reach = 0.5, turns: Turns = 3
) -> pd.DataFrame:
    """The nearest levels at which price has turned several times, above and below the close, and how many times.

    Swing highs and lows count once ``span`` bars after them confirm them. ``turns`` of them within ``reach`` mean true
    ranges of one another make a level (DBSCAN); its price is their mean.

    Returns
    -------
    The distance up to the nearest level above, in mean true ranges of the window, and the number of its turns, its
    strength; the same down. 20 and 0 where no level is as near. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10.0, 13.0, 10.0, 12.0] * 6)
    >>> price_clusters(bars, window=20, span=1).iloc[-1].round(2).tolist()
    [0.44, 5.0, 20.0, 0.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    above, above_turns, below, below_turns = turning_levels(
        high, low, close, _mean_range(high, low, close, window), span, window, reach, turns, FARTHEST
    )
    return frame(
        bars,
        **{
            f"cluster_above_{window}": above,
            f"cluster_above_turns_{window}": above_turns,
            f"cluster_below_{window}": below,
            f"cluster_below_turns_{window}": below_turns,
        },
    )


def standing_clusters(
    bars: pd.DataFrame, window: int = 480, span: int = 3, reach: float = 0.5, turns: int = 3
) -> pd.DataFrame:
    """The levels of :func:`price_clusters` that stand at the last bar, lowest first.

    Parameters
    ----------
    bars, window, span, reach, turns:
        As for :func:`price_clusters`.

    Returns
    -------
    One row a level: ``level`` (the mean of its turning prices), ``low`` and ``high`` (the outermost of them),
    ``turns`` (their number, the level's strength), ``first`` and ``last`` (when the first and the last of them was),
    ``known_at`` (the open of the bar at whose close the last of them was confirmed).

    Raises
    ------
    ConfigurationError
        A parameter is out of its bounds.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[10.0, 13.0, 10.0, 12.0] * 6)
    >>> standing_clusters(bars, window=20, span=1)[["level", "turns"]].values.tolist()
    [[14.0, 5.0]]
    """
    for name, value, least in (("window", window, 20), ("span", span, 1), ("turns", turns, 2)):
        if value < least:
            raise ConfigurationError(f"{name} = {value} is below {least}")
    if not reach > 0:
        raise ConfigurationError(f"reach = {reach} is not above 0")
    high, low, close = columns(bars, "high", "low", "close")
    unit = _mean_range(high, low, close, window)
    first = max(close.size - window, 0)
    found = [
        (values[row], row)
        for values, sign in ((high, 1.0), (low, -1.0))
        for row in _turning_rows(sign * values, span)
        if row - span >= first
    ]
    rows = np.array([row for _, row in sorted(found)], dtype=np.int64)
    prices = np.array([price for price, _ in sorted(found)], dtype=np.float64)
    marks = np.empty(prices.size, dtype=np.int64)
    known = close.size >= window and unit[-1] > 0.0
    count = cluster_sorted(prices, prices.size, reach * unit[-1], turns, marks) if known else 0
    groups = [marks == mark for mark in range(count)]
    return pd.DataFrame(
        {
            "level": [prices[group].mean() for group in groups],
            "low": [prices[group].min() for group in groups],
            "high": [prices[group].max() for group in groups],
            "turns": [int(group.sum()) for group in groups],
            "first": [bars.index[rows[group].min()] for group in groups],
            "last": [bars.index[rows[group].max()] for group in groups],
            "known_at": [bars.index[rows[group].max() + span] for group in groups],
        }
    )


def _turning_rows(values: Floats, span: int) -> list[int]:
    """Rows above the ``span`` values before them and not below those after them."""
    if values.size < 2 * span + 1:
        return []
    around = np.lib.stride_tricks.sliding_window_view(values, 2 * span + 1)
    middle = around[:, span]
    turned = (middle > around[:, :span].max(axis=1)) & (middle >= around[:, span + 1 :].max(axis=1))
    return (np.flatnonzero(turned) + span).tolist()


def _mean_range(high: Floats, low: Floats, close: Floats, window: int) -> Floats:
    """Mean true range of the last ``window`` bars; NaN where it is no movement."""
    if not close.size:
        return close
    before = np.concatenate((np.array([np.nan]), close[:-1]))
    mean = rolling_mean(np.maximum(high, before) - np.minimum(low, before), window)
    return np.where(mean > STILL * close, mean, np.nan)
