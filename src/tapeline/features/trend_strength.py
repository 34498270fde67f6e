"""Trend strength: how sure a trend is, and whether the path looks like one that carries on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import WILDER_MEMORY, Window, average_true_range, columns, frame, series, talib
from tapeline.features.kernels import rolling_regression
from tapeline.features.trend_kernels import rolling_hurst


@feature(
    lookback=lambda window: (WILDER_MEMORY + 10) * window,
    outputs=("plus_di_{window}", "minus_di_{window}"),
    reference="Wilder, New Concepts in Technical Trading Systems (1978), section IV",
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
)
def directional_movement(bars: pd.DataFrame, window: Window = 14) -> pd.DataFrame:
    """Wilder's directional indicators +DI and -DI: upward and downward reach over the true range, 0 to 100.

    NaN where the bars have had no range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> directional_movement(example_bars(10, 11, 12, 13, 14, 15), window=2).iloc[-1].round(2).tolist()
    [33.33, 0.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    ranges, floor = average_true_range(bars, window)
    moves = ranges > floor
    plus = talib("PLUS_DI", high, low, close, timeperiod=window)
    minus = talib("MINUS_DI", high, low, close, timeperiod=window)
    return frame(
        bars,
        **{f"plus_di_{window}": np.where(moves, plus, np.nan), f"minus_di_{window}": np.where(moves, minus, np.nan)},
    )


@feature(
    lookback=lambda window: window + 1,
    outputs=("aroon_up_{window}", "aroon_down_{window}"),
    reference="Chande, A Time Price Oscillator, Technical Analysis of Stocks and Commodities 13 (1995)",
)
def aroon_lines(bars: pd.DataFrame, window: Window = 25) -> pd.DataFrame:
    """How recent the highest high and the lowest low of the last bars are, 0 (``window`` bars ago) to 100 (now).

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> aroon_lines(example_bars(10, 11, 12), window=2).iloc[-1].tolist()
    [100.0, 50.0]
    """
    high, low = columns(bars, "high", "low")
    down, up = talib("AROON", high, low, timeperiod=window)
    return frame(bars, **{f"aroon_up_{window}": up, f"aroon_down_{window}": down})


@feature(
    lookback=lambda window: window,
    outputs="trend_t_value_{window}",
    reference="Lopez de Prado, Machine Learning for Asset Managers (2020), section 5.4",
)
def trend_t_value(bars: pd.DataFrame, window: Window = 20) -> pd.Series:
    """Student's t of the slope of the line through the logarithm of the last closes, clipped at 1000 either way.

    Above about 2 in size, a straight line is unlikely to be chance, were the closes independent around it. NaN for
    two bars and where the closes are all the same.

    Examples
    --------
    >>> trend_t_value(pd.DataFrame({"close": np.exp([0.0, 1.0, 1.0, 2.0])}), window=4).round(3).tolist()[-1]
    4.243
    """
    (close,) = columns(bars, "close")
    slope, fit = rolling_regression(np.log(close), window)
    result = np.full(close.size, np.nan)
    # t^2 = R^2 (n - 2) / (1 - R^2)
    with np.errstate(divide="ignore"):
        size = np.sqrt(fit * (window - 2.0) / np.maximum(1.0 - fit, 1e-12))
    known = np.isfinite(fit) & (window > 2)
    result[known] = np.clip(np.sign(slope[known]) * size[known], -1000.0, 1000.0)
    return series(bars, result)


@feature(
    lookback=lambda window: window + 1,
    outputs="hurst_{window}",
    reference="Di Matteo, Aste and Dacorogna, Physica A 324 (2003): the generalised exponent of order 1",
)
def hurst(bars: pd.DataFrame, window: Window = 128) -> pd.Series:
    """Hurst exponent of the log closes over ``window`` bars: 0.5 in a random walk, above in a trend, below in a range.

    The slope, in logarithms, of the mean absolute change over 1, 2, 4, ... bars against the number of bars, up to a
    quarter of the window. NaN in windows under 8 bars and where price has stood still.

    Examples
    --------
    >>> hurst(pd.DataFrame({"close": np.exp(np.arange(20.0))}), window=16).round(6).tolist()[-1]
    1.0
    """
    (close,) = columns(bars, "close")
    return series(bars, rolling_hurst(np.log(close), window))
