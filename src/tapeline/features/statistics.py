"""Statistics: the shape of the distribution of recent returns, and what one return says of the next."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import feature
from tapeline.features.arrays import STILL, Count, Window, columns, frame, log_changes, ratio, series
from tapeline.features.kernels import (
    rolling_correlation,
    rolling_deviation,
    rolling_mean,
    rolling_moments,
    rolling_rank,
)


@feature(
    lookback=lambda window: window,
    outputs="close_zscore_{window}",
    reference="Chan, Algorithmic Trading (2013), chapter 3",
)
def close_zscore(bars: pd.DataFrame, window: Window = 100) -> pd.Series:
    """Distance of the close from its mean over ``window`` bars, in standard deviations; NaN where price stood still.

    Between plus and minus the root of ``window - 1``.

    Examples
    --------
    >>> close_zscore(pd.DataFrame({"close": [1.0, 1.0, 4.0]}), window=3).round(4).tolist()
    [nan, nan, 1.4142]
    """
    (close,) = columns(bars, "close")
    mean, deviation = rolling_deviation(close, window)
    return series(bars, ratio(close - mean, deviation, STILL * close))


@feature(
    lookback=lambda window: window + 1,
    outputs="return_zscore_{window}",
    reference="Tsay, Analysis of Financial Time Series, 3rd ed., section 1.2",
)
def return_zscore(bars: pd.DataFrame, window: Window = 48) -> pd.Series:
    """The bar's log return less its mean over ``window`` bars, in standard deviations; NaN where price stood still.

    Between plus and minus the root of ``window - 1``.

    Examples
    --------
    >>> return_zscore(pd.DataFrame({"close": [1.0, 1.0, 1.0, 2.0]}), window=3).round(4).tolist()
    [nan, nan, nan, 1.4142]
    """
    (close,) = columns(bars, "close")
    returns = log_changes(close)
    mean, deviation = rolling_deviation(returns, window)
    return series(bars, ratio(returns - mean, deviation, STILL))


@feature(
    lookback=lambda window: window + 1,
    outputs=("return_skewness_{window}", "return_kurtosis_{window}"),
    reference="Joanes and Gill, The Statistician 47 (1998): g1 and g2",
)
def return_moments(bars: pd.DataFrame, window: Window = 100) -> pd.DataFrame:
    """Skewness and excess kurtosis of the last ``window`` log returns; both are 0 for a normal distribution.

    Kurtosis is at least -2. NaN where the returns are all the same.

    Examples
    --------
    >>> return_moments(pd.DataFrame({"close": [1.0, 1.0, 1.0, 2.0]}), window=3).iloc[-1].round(4).tolist()
    [0.7071, -1.5]
    """
    (close,) = columns(bars, "close")
    skew, kurtosis = rolling_moments(log_changes(close), window)
    return frame(bars, **{f"return_skewness_{window}": skew, f"return_kurtosis_{window}": kurtosis})


@feature(
    lookback=lambda window, lag: window + lag + 1,
    outputs="autocorrelation_{window}_{lag}",
    reference="Box, Jenkins and Reinsel, Time Series Analysis, 4th ed., section 2.1.4",
)
def autocorrelation(bars: pd.DataFrame, window: Window = 100, lag: Count = 1) -> pd.Series:
    """Correlation of the last ``window`` log returns with those ``lag`` bars before, -1 to 1.

    Above 0 where moves carry on, below where they turn back. NaN where price stood still.

    Examples
    --------
    >>> autocorrelation(pd.DataFrame({"close": [1.0, 2.0, 1.0, 2.0, 1.0]}), window=3).round(4).tolist()[-1]
    -1.0
    """
    (close,) = columns(bars, "close")
    returns = log_changes(close)
    before = np.full(returns.size, np.nan)
    before[lag:] = returns[:-lag]
    return series(bars, rolling_correlation(returns, before, window))


@feature(
    lookback=lambda window, step: window + step,
    outputs="variance_ratio_{window}_{step}",
    reference="Lo and MacKinlay, Review of Financial Studies 1 (1988), without the mean",
)
def variance_ratio(bars: pd.DataFrame, window: Window = 100, step: Window = 4) -> pd.Series:
    """Mean squared return over ``step`` bars, over ``step`` times that over one; 1 in a random walk, above in a trend.

    0 to ``step`` in long windows. NaN where price stood still.

    Examples
    --------
    >>> variance_ratio(pd.DataFrame({"close": [1.0, 2.0, 4.0, 8.0, 16.0]}), window=2, step=2).round(4).tolist()[-1]
    2.0
    """
    (close,) = columns(bars, "close")
    logs = np.log(close)
    several = np.full(logs.size, np.nan)
    several[step:] = logs[step:] - logs[:-step]
    single = rolling_mean(log_changes(close) ** 2, window)
    return series(bars, ratio(rolling_mean(several**2, window), step * single, step * STILL**2))


@feature(
    lookback=lambda window: window,
    outputs="close_rank_{window}",
    reference="Conover, Practical Nonparametric Statistics, 3rd ed., chapter 5",
)
def close_rank(bars: pd.DataFrame, window: Window = 100) -> pd.Series:
    """Share of the last ``window`` closes that lie below the current one, ties and itself by half, 0 to 1.

    Examples
    --------
    >>> close_rank(pd.DataFrame({"close": [1.0, 3.0, 2.0]}), window=3).tolist()
    [nan, nan, 0.5]
    """
    (close,) = columns(bars, "close")
    return series(bars, rolling_rank(close, window))
