"""Analogues: past stretches of price of the same shape as the last bars, and what followed them.

Shapes are compared after mean and deviation are taken out, by Euclidean distance (which makes the nearest one the left
matrix profile's, :func:`tapeline.features.behaviour.left_profile`) or by dynamic time warping. Only the past is
searched, and only stretches whose outcome is known.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import feature
from tapeline.features.analogue_kernels import (
    analogue_outcomes,
    column_distances,
    nearest_apart,
    nearest_warped,
    normalised_windows,
)
from tapeline.features.arrays import Count, columns, frame
from tapeline.features.market_regime import ratio_returns

Measure = Literal["euclid", "warping"]
Shape = Annotated[int, Field(ge=4, le=1_000)]


@feature(
    lookback=lambda history: history + 1,
    outputs=(
        "analogue_outcome_{window}_{horizon}",
        "analogue_rose_{window}_{horizon}",
        "analogue_distance_{window}_{horizon}",
    ),
    reference="Nearest neighbours of a shape: Lo, Mamaysky and Wang, Journal of Finance 55 (2000), on prediction from "
    "like patterns; z-normalised distance: Mueen et al., MASS (2017); warping: Sakoe and Chiba (1978)",
)
def analogue_outcome(
    bars: pd.DataFrame,
    window: Shape = 24,
    horizon: Count = 12,
    history: Annotated[int, Field(ge=20, le=20_000)] = 480,
    count: Annotated[int, Field(ge=1, le=100)] = 5,
    measure: Measure = "euclid",
) -> pd.DataFrame:
    """What followed the ``count`` past stretches most like the last ``window`` closes, within ``history`` bars.

    The stretches overlap neither the current one nor each other, and the ``horizon`` bars after each have closed.
    Warping pairs closes at most a tenth of the window apart. NaN until there is history enough, where fewer than
    ``count`` such stretches are, and where the current one does not move.

    Returns
    -------
    ``analogue_outcome``: mean log return of the ``horizon`` bars after each, over the deviation of its own path, -10
    to 10. ``analogue_rose``: the share after which price rose. ``analogue_distance``: mean distance, 0 (the same
    shape) to 2 (its mirror image).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wave = 100 + 10 * np.sin(np.arange(120) / 5)
    >>> analogue_outcome(example_bars(*wave), window=12, horizon=6, history=110, count=2).iloc[-1].round(1).tolist()
    [1.8, 1.0, 0.0]
    """
    (close,) = columns(bars, "close")
    outcome, rose, distance = analogue_outcomes(
        ratio_returns(close), window, history, count, horizon, _band(window, measure)
    )
    name = f"{window}_{horizon}"
    return frame(
        bars,
        **{
            f"analogue_outcome_{name}": outcome,
            f"analogue_rose_{name}": rose,
            f"analogue_distance_{name}": distance,
        },
    )


def nearest_analogues(
    bars: pd.DataFrame,
    window: int = 24,
    *,
    horizon: int = 12,
    count: int = 5,
    history: int | None = None,
    measure: Measure = "euclid",
    band: int | None = None,
    at: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """The past stretches most like the one that ends at a bar, nearest first, with what followed each.

    Parameters
    ----------
    bars:
        Bars on sorted open times; ``close`` is compared. Bars after ``at`` are not read.
    horizon:
        Bars after a stretch that make up its outcome; they must have closed by ``at``.
    history:
        Search this many bars only, the current one included; all of them where None.
    band:
        Places that warping may shift a close by; a tenth of the window where None.
    at:
        Open time of the bar at which to stand; the last one where None.

    Returns
    -------
    A row an analogue, at most ``count``: ``start`` and ``end`` (open times of its first and last bar), ``distance``
    over ``sqrt(window)``, ``outcome`` (log return of the ``horizon`` bars after it), ``outcome_known_at`` (open of the
    bar at whose close the outcome was known). Empty where there is none, or where the current stretch does not move.

    Raises
    ------
    ConfigurationError
        A window below 4, a horizon, count or history below 1, a negative band, or an unknown measure.
    DataError
        There is no bar at ``at``, or fewer bars than a window.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wave = example_bars(*(100 + 10 * np.sin(np.arange(120) * np.pi / 10)))
    >>> found = nearest_analogues(wave, 12, horizon=5, count=2)
    >>> ((wave.index[-1] - found["end"]) % pd.Timedelta("20h")).dt.total_seconds().tolist()
    [0.0, 0.0]
    >>> found["distance"].round(6).tolist()
    [0.0, 0.0]
    """
    if window < 4 or min(horizon, count) < 1 or (history is not None and history < 1):
        raise ConfigurationError(
            f"window = {window} must be 4 at least, horizon = {horizon}, count = {count} and history = {history} 1"
        )
    if band is not None and band < 0:
        raise ConfigurationError(f"band = {band} is negative")
    index = pd.DatetimeIndex(bars.index)
    row = len(index) - 1 if at is None else int(index.get_indexer(pd.DatetimeIndex([at]))[0])
    if row < 0:
        raise DataError(f"there is no bar at {at}")
    if row + 1 < window:
        raise DataError(f"{row + 1} bars up to then are fewer than the window of {window}")
    (close,) = columns(bars.iloc[: row + 1], "close")
    returns = ratio_returns(close)
    earliest = window - 1 if history is None else max(window - 1, row - history + window)
    latest = row - max(window, horizon) + 1
    windows, deviations = normalised_windows(returns, window, earliest, row + 1)
    places, distances = np.empty(0, dtype=np.int64), np.empty(0)
    if latest > earliest and deviations[-1] > 0.0:
        if _band(window, measure) < 0:
            distances = np.empty(latest - earliest)
            column_distances(windows, row - earliest, 0, latest - earliest, distances)
            places = nearest_apart(distances.copy(), count, window)
            distances = distances[places]
        else:
            places, distances, _ = nearest_warped(
                windows[:, : latest - earliest],
                windows[:, -1].copy(),
                count,
                window,
                _band(window, measure) if band is None else band,
            )
        distances, places = distances[places >= 0], places[places >= 0]
    ends = places + earliest
    logs = np.log(close)
    return pd.DataFrame(
        {
            "start": index[ends - window + 1],
            "end": index[ends],
            "distance": distances / np.sqrt(window),
            "outcome": logs[ends + horizon] - logs[ends],
            "outcome_known_at": index[ends + horizon],
        }
    )


def _band(window: int, measure: str) -> int:
    """Places that warping may shift by; -1 for none at all."""
    if measure not in ("euclid", "warping"):
        raise ConfigurationError(f"measure = {measure!r} is unknown", hint="use 'euclid' or 'warping'")
    return -1 if measure == "euclid" else max(1, window // 10)
