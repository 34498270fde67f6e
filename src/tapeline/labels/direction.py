"""Direction: which way the next candles go, and whether the move is worth more than a threshold."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import Tolerance, label
from tapeline.labels.frames import Horizon, Window
from tapeline.labels.future_return import future_return
from tapeline.labels.volatility import MEMORY, causal_volatility

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001), chapter 8: the doji",
)
def candle_direction(bars: pd.DataFrame, candles: Horizon = 1, doji: Share = 0.05) -> pd.DataFrame:
    """Direction of the candle that the next ``candles`` bars make together: 1 white, -1 black, 0 a doji.

    It opens at the next open and closes ``candles`` bars after the labelled one. It is a doji where its body is at
    most ``doji`` of its range, from the highest high to the lowest low of these bars.

    Returns
    -------
    A frame on ``ts``: ``value``, ``t_end`` the close of the last of the bars, ``outcome`` their simple return.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": 102.0, "low": 98.0, "close": [100.0, 101.0, 100.1],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> candle_direction(bars)["value"].tolist()
    [1.0, 0.0]
    """
    own = future_return(bars, candles)
    rows = len(own)
    opened, high, low, close = (bars[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close"))
    if not rows:
        return own
    highest = np.lib.stride_tricks.sliding_window_view(high[1:], candles).max(axis=1)
    lowest = np.lib.stride_tricks.sliding_window_view(low[1:], candles).min(axis=1)
    body = close[candles:] - opened[1 : rows + 1]
    return own.assign(value=np.where(np.abs(body) <= doji * (highest - lowest), 0.0, np.sign(body)))


@label(
    lookback=lambda kind, volatility_window: MEMORY * volatility_window if kind == "volatility" else 0,
    requires=("close_ts",),
    reference="Lopez de Prado, Advances in Financial Machine Learning (2018), section 3.2",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def threshold(
    bars: pd.DataFrame,
    horizon: Horizon = 24,
    kind: Literal["fixed", "volatility"] = "volatility",
    size: Annotated[float, Field(ge=0, le=1000)] = 0.5,
    cost: Percent = 0.0,
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """Whether the return to the horizon passes a threshold: 1 above it, -1 below its negative, 0 between.

    Parameters
    ----------
    kind, size:
        ``fixed``: ``size`` percent. ``volatility``: ``size`` standard deviations of a random walk over ``horizon``
        bars, by the exponentially weighted volatility known at the labelled bar's close; no label where that is zero.
    cost:
        What a round trip costs, in percent of the price. It is added to the threshold, so that a move counts only
        where it pays for itself.

    Returns
    -------
    A frame on ``ts``: ``value``, ``t_end`` the close of the last bar, ``outcome`` the simple return before costs.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": 102.0, "low": 98.0, "close": [100.0, 101.0, 99.0],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> threshold(bars, 1, "fixed", 0.8)["value"].tolist(), threshold(bars, 1, "fixed", 0.8, cost=0.3)["value"].tolist()
    ([1.0, -1.0], [0.0, 0.0])
    """
    own = future_return(bars, horizon)
    if kind == "fixed":
        least = np.full(len(own), size / 100.0)
    else:
        prices = (np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("high", "low", "close"))
        width = causal_volatility(*prices, kind="ewm", window=volatility_window)[: len(own)]
        least = size * np.sqrt(horizon) * np.where(width > 0.0, width, np.nan)
    least = least + cost / 100.0
    moved = own["value"].to_numpy()
    return own.assign(value=np.where(moved > least, 1.0, np.where(moved < -least, -1.0, 0.0)))[~np.isnan(least)]
