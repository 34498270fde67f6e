"""Momentum measured in volatility, so that a quiet market and a wild one can be compared."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import feature
from tapeline.features.arrays import STILL, Count, Floats, Window, columns, frame, log_changes, ratio, series
from tapeline.features.kernels import rolling_mean


@feature(
    lookback=lambda window: window + 1,
    outputs="rate_of_change_{window}",
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 10",
)
def rate_of_change(bars: pd.DataFrame, window: Count = 10) -> pd.Series:
    """Change of the close over ``window`` bars, in percent of the close then.

    Examples
    --------
    >>> rate_of_change(pd.DataFrame({"close": [10.0, 11.0]}), window=1).round(4).tolist()
    [nan, 10.0]
    """
    (close,) = columns(bars, "close")
    result = np.full(close.size, np.nan)
    result[window:] = 100.0 * (close[window:] / close[:-window] - 1.0)
    return series(bars, result)


@feature(
    lookback=lambda window, volatility_window: max(window, volatility_window) + 1,
    outputs="scaled_momentum_{window}",
    reference="Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012), section 2",
)
def scaled_momentum(bars: pd.DataFrame, window: Count = 24, volatility_window: Window = 96) -> pd.Series:
    """Log return over ``window`` bars, in standard deviations of a random walk over as many.

    The deviation a bar is the root mean square of the last ``volatility_window`` log returns. Mostly between -3 and 3;
    NaN where price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 4.0, 8.0, 16.0]})
    >>> scaled_momentum(bars, window=4, volatility_window=2).iloc[-1].round(6).item()
    2.0
    """
    (close,) = columns(bars, "close")
    return series(bars, _scaled(np.log(close), _volatility(close, volatility_window), window))


@feature(
    lookback=lambda fast, middle, slow, volatility_window: max(fast, middle, slow, volatility_window) + 1,
    outputs=("time_series_momentum", "momentum_agreement"),
    reference="Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012), equation 5",
)
def time_series_momentum(
    bars: pd.DataFrame,
    fast: Count = 24,
    middle: Count = 120,
    slow: Count = 480,
    volatility_window: Window = 96,
    target: Annotated[float, Field(gt=0, le=100)] = 0.1,
) -> pd.DataFrame:
    """Time-series momentum over three horizons: the position that its rule holds, and how far the horizons agree.

    Each horizon votes with the sign of its return. ``momentum_agreement`` is the mean vote, -1 to 1;
    ``time_series_momentum`` the mean vote times ``target`` (percent a bar) over the volatility in percent a bar, at
    most 10 either way: the size that keeps the risk constant. NaN where price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.02, 1.01, 1.03]})
    >>> time_series_momentum(bars, 1, 2, 4, volatility_window=4, target=1.0).iloc[-1].round(4).tolist()
    [0.7683, 1.0]
    """
    (close,) = columns(bars, "close")
    logs = np.log(close)
    votes = (
        np.sign(_past_return(logs, fast)) + np.sign(_past_return(logs, middle)) + np.sign(_past_return(logs, slow))
    ) / 3.0
    volatility = 100.0 * _volatility(close, volatility_window)
    size = ratio(np.full(close.size, target), volatility, 100.0 * STILL)
    return frame(bars, time_series_momentum=np.clip(votes * size, -10.0, 10.0), momentum_agreement=votes)


def _past_return(logs: Floats, window: int) -> Floats:
    result = np.full(logs.size, np.nan)
    result[window:] = logs[window:] - logs[:-window]
    return result


def _volatility(close: Floats, window: int) -> Floats:
    return np.sqrt(rolling_mean(log_changes(close) ** 2, window))


def _scaled(logs: Floats, volatility: Floats, window: int) -> Floats:
    return ratio(_past_return(logs, window), volatility * np.sqrt(window), STILL)
