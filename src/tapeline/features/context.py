"""Context: another instrument beside this one, such as a volatility index; joined by the engine as of each close.

``column`` is the joined column, ``<prefix>_<column>`` of the feature set's ``[context.<prefix>]``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import feature
from tapeline.features.arrays import STILL, Count, Window, columns, ratio, series
from tapeline.features.kernels import rolling_deviation


@feature(
    lookback=1,
    outputs="{column}_level",
    requires=("{column}",),
    reference="Whaley, Journal of Derivatives 1 (1993): the volatility index as a gauge of fear",
)
def context_level(bars: pd.DataFrame, column: str = "vix_close") -> pd.Series:
    """The context's newest known value itself: for what has a scale of its own, such as a volatility index or a yield.

    Examples
    --------
    >>> context_level(pd.DataFrame({"vix_close": [12.5, 13.0]})).tolist()
    [12.5, 13.0]
    """
    return series(bars, *columns(bars, column))


@feature(
    lookback=lambda window: window + 1,
    outputs="{column}_return_{window}",
    requires=("{column}",),
    reference="Tsay, Analysis of Financial Time Series, 3rd ed., section 1.1",
)
def context_return(bars: pd.DataFrame, column: str = "sp500_close", window: Count = 24) -> pd.Series:
    """Log return of the context between what was known now and ``window`` bars before; 0 where nothing new came.

    Examples
    --------
    >>> context_return(pd.DataFrame({"sp500_close": [1.0, 1.0, 2.0]}), window=1).round(4).tolist()
    [nan, 0.0, 0.6931]
    """
    (values,) = columns(bars, column)
    logs = np.log(np.where(values > 0.0, values, np.nan))
    result = np.full(logs.size, np.nan)
    result[window:] = logs[window:] - logs[:-window]
    return series(bars, result)


@feature(
    lookback=lambda window: window,
    outputs="{column}_zscore_{window}",
    requires=("{column}",),
    reference="Chan, Algorithmic Trading (2013), chapter 3",
)
def context_zscore(bars: pd.DataFrame, column: str = "vix_close", window: Window = 240) -> pd.Series:
    """Distance of the context from its mean over ``window`` bars, in standard deviations.

    Between plus and minus the root of ``window - 1``; NaN where it has not changed.

    Examples
    --------
    >>> context_zscore(pd.DataFrame({"vix_close": [1.0, 1.0, 4.0]}), window=3).round(4).tolist()
    [nan, nan, 1.4142]
    """
    (values,) = columns(bars, column)
    mean, deviation = rolling_deviation(values, window)
    return series(bars, ratio(values - mean, deviation, STILL * np.abs(mean)))
