"""Window statistics: what the distribution of the last returns looks like, and what they share with another series."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, Window, columns, frame, log_changes, ratio, series
from tapeline.features.kernels import rolling_correlation
from tapeline.features.window_kernels import (
    rolling_covariance,
    rolling_drawdown,
    rolling_entropy,
    rolling_quantiles,
    rolling_rank_correlation,
    running_moments,
)

ROUNDED = Tolerance(relative=1e-7, absolute=1e-9)
Share = Annotated[float, Field(ge=0, le=1)]


@feature(
    lookback=lambda window: window + 1,
    outputs=("return_mean_{window}", "return_deviation_{window}"),
    reference="Tsay, Analysis of Financial Time Series, 3rd ed., section 1.2",
    tolerance=ROUNDED,
)
def return_distribution(bars: pd.DataFrame, window: Window = 48) -> pd.DataFrame:
    """Mean and sample standard deviation of the last ``window`` log returns, in percent a bar.

    Examples
    --------
    >>> return_distribution(pd.DataFrame({"close": [1.0, 1.01, 1.0]}), window=2).iloc[-1].round(4).tolist()
    [0.0, 1.4072]
    """
    (close,) = columns(bars, "close")
    mean, deviation, _, _ = running_moments(log_changes(close), window)
    unbiased = np.sqrt(window / (window - 1.0))
    return frame(
        bars, **{f"return_mean_{window}": 100.0 * mean, f"return_deviation_{window}": 100.0 * unbiased * deviation}
    )


@feature(
    lookback=lambda window: window + 1,
    outputs=("return_low_{window}", "return_median_{window}", "return_high_{window}"),
    reference="Hyndman and Fan, The American Statistician 50 (1996), definition 7",
)
def return_quantiles(bars: pd.DataFrame, window: Window = 96, low: Share = 0.05, high: Share = 0.95) -> pd.DataFrame:
    """A low quantile, the median and a high quantile of the last ``window`` log returns, in percent.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": np.exp(np.cumsum([0.0, 0.01, 0.02, 0.03]))})
    >>> return_quantiles(bars, window=3, low=0.0, high=1.0).iloc[-1].round(4).tolist()
    [1.0, 2.0, 3.0]
    """
    (close,) = columns(bars, "close")
    found = 100.0 * rolling_quantiles(log_changes(close), window, np.array([low, 0.5, high]))
    return frame(
        bars,
        **{f"return_low_{window}": found[0], f"return_median_{window}": found[1], f"return_high_{window}": found[2]},
    )


@feature(
    lookback=lambda window: window + 1,
    outputs="return_entropy_{window}",
    reference="Shannon, Bell System Technical Journal 27 (1948); over a histogram, as a share of its maximum",
)
def return_entropy(
    bars: pd.DataFrame, window: Window = 96, bins: Annotated[int, Field(ge=2, le=1000)] = 10
) -> pd.Series:
    """Entropy of the last ``window`` log returns in equal bins between their extremes, 0 to 1; 1 is evenly spread.

    NaN where price has stood still.

    Examples
    --------
    >>> return_entropy(pd.DataFrame({"close": [1.0, 2.0, 1.0, 2.0, 1.0]}), window=4, bins=2).iloc[-1].item()
    1.0
    """
    (close,) = columns(bars, "close")
    # Rounded, so that a scale of prices cannot push a return over the edge of a bin.
    return series(bars, rolling_entropy(np.round(log_changes(close), 12), window, bins))


@feature(
    lookback=lambda window: window,
    outputs="max_drawdown_{window}",
    reference="Magdon-Ismail and Atiya, Maximum Drawdown, Risk Magazine 17 (2004)",
)
def max_drawdown(bars: pd.DataFrame, window: Window = 96) -> pd.Series:
    """Largest fall of the close from a high within the last ``window`` bars, in percent of that high, 0 to 100.

    Examples
    --------
    >>> max_drawdown(pd.DataFrame({"close": [4.0, 2.0, 3.0]}), window=3).tolist()
    [nan, nan, 50.0]
    """
    (close,) = columns(bars, "close")
    return series(bars, 100.0 * rolling_drawdown(close, window))


@feature(
    lookback=lambda window: window + 1,
    outputs=("{column}_correlation_{window}", "{column}_beta_{window}", "{column}_covariance_{window}"),
    requires=("{column}",),
    reference="Sharpe, Journal of Finance 19 (1964): beta; Tsay, Analysis of Financial Time Series, section 8.1",
)
def comovement(bars: pd.DataFrame, column: str = "sp500_close", window: Window = 96) -> pd.DataFrame:
    """Correlation, beta and covariance of this instrument's log returns with those of another column.

    Beta is the least-squares slope on the other's returns; the covariance is in squared percent a bar. Correlation
    and beta are NaN where the other has not moved.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 4.0, 1.0, 4.0], "gold_close": [1.0, 2.0, 1.0, 2.0]})
    >>> comovement(bars, "gold_close", window=3).iloc[-1].round(4).tolist()[:2]
    [1.0, 2.0]
    """
    ours, theirs = _returns(bars, "close"), _returns(bars, column)
    covariance, variance = rolling_covariance(ours, theirs, window)
    return frame(
        bars,
        **{
            f"{column}_correlation_{window}": rolling_correlation(ours, theirs, window),
            f"{column}_beta_{window}": ratio(covariance, variance, STILL**2),
            f"{column}_covariance_{window}": 1e4 * covariance,
        },
    )


@feature(
    lookback=lambda window: window + 1,
    outputs="{column}_rank_correlation_{window}",
    requires=("{column}",),
    reference="Spearman, American Journal of Psychology 15 (1904)",
)
def rank_comovement(bars: pd.DataFrame, column: str = "sp500_close", window: Window = 48) -> pd.Series:
    """Rank correlation of this instrument's log returns with those of another column, -1 to 1.

    Equal returns have their mean rank. NaN where one side has not moved.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 8.0, 9.0], "gold_close": [1.0, 2.0, 9.0, 9.5]})
    >>> rank_comovement(bars, "gold_close", window=3).iloc[-1].item()
    1.0
    """
    # Rounded, so that a scale of prices cannot make two equal returns differ.
    ours, theirs = np.round(_returns(bars, "close"), 12), np.round(_returns(bars, column), 12)
    return series(bars, rolling_rank_correlation(ours, theirs, window))


def _returns(bars: pd.DataFrame, name: str) -> np.ndarray:
    (values,) = columns(bars, name)
    return log_changes(np.where(values > 0.0, values, np.nan))
