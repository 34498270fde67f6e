"""Trend scanning: the sign of the straightest trend that starts at a bar, over a choice of lengths."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import label
from tapeline.labels.barrier_unit import price_arrays
from tapeline.labels.frames import labels_frame

Length = Annotated[int, Field(ge=3, le=100_000)]

LARGEST_T = 1e6
"""What the t value of a line without residual is cut to."""


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Lopez de Prado, Machine Learning for Asset Managers (2020), section 5.4; first in the seminar of 2019",
)
def trend_scanning(bars: pd.DataFrame, shortest: Length = 5, longest: Length = 24) -> pd.DataFrame:
    """Direction of the most significant linear trend of the closes that starts at the labelled bar: 1, -1 or 0.

    A line is fitted by least squares to the ``n`` closes from the labelled one on, for each ``n`` from ``shortest`` to
    ``longest``; the length whose slope has the largest absolute t value is the trend, the shorter of two that are
    equal.

    Which length wins is known only when the longest has been seen, so ``t_end`` is the close of bar ``longest - 1``
    after the labelled one, not, as in the published snippet, the end of the winning trend: purging by that would let
    a label through that later bars have chosen.

    Returns
    -------
    A frame on ``ts``: ``value`` the sign of the slope; ``t_value`` its t value, cut to a million, whose absolute value
    serves as a weight; ``bars`` how many closes the trend has; ``t_end``; ``outcome`` the simple return from the next
    open to the last close of the trend.

    Raises
    ------
    ConfigurationError
        ``longest`` is below ``shortest``.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=6, freq="1h", tz="UTC", name="ts")
    >>> price = np.array([1.0, 2.0, 3.1, 4.0, 2.0, 1.0])
    >>> bars = pd.DataFrame({"open": price, "high": price, "low": price, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> trend_scanning(bars, 3, 5)[["value", "t_value", "bars"]].round(2).values.tolist()
    [[1.0, 38.17, 4.0], [1.0, 17.32, 3.0]]
    """
    if longest < shortest:
        raise ConfigurationError(f"trend_scanning: longest = {longest} is below shortest = {shortest}")
    opened, _, _, close = price_arrays(bars)
    decided, values = _scan(opened, close, shortest, longest)
    known = decided >= 0
    return labels_frame(bars, decided, values[0], values[1]).assign(t_value=values[2][known], bars=values[3][known])


@njit(cache=True, nogil=True)
def _scan(
    opened: NDArray[np.float64], close: NDArray[np.float64], shortest: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values: sign, outcome, t value, closes in the trend."""
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    values = np.full((4, rows), np.nan)
    for t in range(rows - longest + 1):
        total, squares, products = 0.0, 0.0, 0.0
        best, best_n = 0.0, shortest
        for i in range(longest):
            # Relative to the first close: the level would swallow the digits of the residuals.
            y = close[t + i] / close[t] - 1.0
            total, squares, products = total + y, squares + y * y, products + i * y
            n = i + 1
            if n < shortest:
                continue
            spread = n * (n * n - 1.0) / 12.0
            about_mean = products - total * (n - 1) / 2.0
            varied = squares - total * total / n
            slope = about_mean / spread
            residual = varied - slope * about_mean
            if slope == 0.0 or not varied > 0.0:
                score = 0.0
            elif residual <= 1e-14 * varied:
                score = np.sign(slope) * LARGEST_T
            else:
                score = slope / np.sqrt(residual / (n - 2) / spread)
                score = min(max(score, -LARGEST_T), LARGEST_T)
            if abs(score) > abs(best):
                best, best_n = score, n
        decided[t] = t + longest - 1
        values[0, t], values[2, t], values[3, t] = np.sign(best), best, float(best_n)
        values[1, t] = close[t + best_n - 1] / opened[t + 1] - 1.0
    return decided, values
