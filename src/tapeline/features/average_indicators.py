"""Averages and lines in the units of price, as published: for charts, rules and features built on them.

A model should see distances instead, such as ``sma_distance``: a level says when it was, not what is happening.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tapeline.features.arrays import EMA_MEMORY, WILDER_MEMORY
from tapeline.features.indicator import PRICE, RECURSIVE, Parameter, Share, indicator, window

MURPHY: Final = "Murphy, Technical Analysis of the Financial Markets (1999), chapter 9"
KAUFMAN: Final = "Kaufman, Trading Systems and Methods, 5th ed. (2013), chapter 6"
KAMA_MEMORY: Final = 2_500
"""Bars: where price goes nowhere, Kaufman's average moves by (2/31)^2 a bar, so 3e-5 of its start is left then."""

sma = indicator(
    __name__,
    "sma",
    "Simple moving average of the close.",
    library="SMA",
    inputs="close",
    outputs="sma_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference=MURPHY,
)
ema = indicator(
    __name__,
    "ema",
    "Exponential moving average of the close, weight 2 / (window + 1), seeded with a simple one.",
    library="EMA",
    inputs="close",
    outputs="ema_{window}",
    lookback=lambda window: (EMA_MEMORY + 1) * window,
    window=window(20),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference=MURPHY,
)
wilder_average = indicator(
    __name__,
    "wilder_average",
    "Wilder's moving average of the close: an exponential one of weight 1 / window.",
    library="RMA",
    inputs="close",
    outputs="wilder_average_{window}",
    lookback=lambda window: (WILDER_MEMORY + 1) * window,
    window=window(14),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Wilder, New Concepts in Technical Trading Systems (1978), section II",
)
weighted_average = indicator(
    __name__,
    "weighted_average",
    "Linearly weighted moving average of the close, the newest bar counts most.",
    library="WMA",
    inputs="close",
    outputs="weighted_average_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference=MURPHY,
)
triangular_average = indicator(
    __name__,
    "triangular_average",
    "Simple average of a simple average of the close: weights form a triangle.",
    library="TRIMA",
    inputs="close",
    outputs="triangular_average_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference=MURPHY,
)
double_ema = indicator(
    __name__,
    "double_ema",
    "Double exponential average: 2 EMA - EMA(EMA), which follows a straight line without lag.",
    library="DEMA",
    inputs="close",
    outputs="double_ema_{window}",
    lookback=lambda window: (EMA_MEMORY + 4) * window,
    window=window(20),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Mulloy, Smoothing Data with Faster Moving Averages, Stocks & Commodities 12:1 (1994)",
)
triple_ema = indicator(
    __name__,
    "triple_ema",
    "Triple exponential average: 3 EMA - 3 EMA(EMA) + EMA(EMA(EMA)).",
    library="TEMA",
    inputs="close",
    outputs="triple_ema_{window}",
    lookback=lambda window: (EMA_MEMORY + 6) * window,
    window=window(20),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Mulloy, Smoothing Data with Faster Moving Averages, Stocks & Commodities 12:1 (1994)",
)
tillson_average = indicator(
    __name__,
    "tillson_average",
    "Tillson's T3: six exponential averages combined so that they overshoot little.",
    library="T3",
    inputs="close",
    outputs="tillson_average_{window}",
    lookback=lambda window: (EMA_MEMORY + 13) * window,
    window=window(10),
    volume_factor=Parameter("vfactor", Share, 0.7),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Tillson, Better Moving Averages, Stocks & Commodities 16:1 (1998)",
)
hull_average = indicator(
    __name__,
    "hull_average",
    "Hull's average: the weighted average of twice a fast weighted average less a slow one.",
    library="HMA",
    inputs="close",
    outputs="hull_average_{window}",
    lookback=lambda window: window + int(np.sqrt(window)) + 1,
    window=window(20),
    scale=PRICE,
    reference="Hull, Active Investing (2005)",
)
zero_lag_ema = indicator(
    __name__,
    "zero_lag_ema",
    "Exponential average of the close plus its change over half a window, which offsets the lag.",
    library="ZLEMA",
    inputs="close",
    outputs="zero_lag_ema_{window}",
    lookback=lambda window: (EMA_MEMORY + 2) * window,
    window=window(20),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Ehlers and Way, Zero Lag (Well, Almost), Stocks & Commodities 28:12 (2010)",
)
kaufman_average = indicator(
    __name__,
    "kaufman_average",
    "Kaufman's adaptive average: fast where price goes straight, slow where it wanders.",
    library="KAMA",
    inputs="close",
    outputs="kaufman_average_{window}",
    lookback=lambda window: KAMA_MEMORY + window,
    window=window(10),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Kaufman, Smarter Trading (1995), chapter 7",
)
regression_line = indicator(
    __name__,
    "regression_line",
    "End of the least-squares line through the closes of the window.",
    library="LINEARREG",
    inputs="close",
    outputs="regression_line_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference=KAUFMAN,
)
regression_intercept = indicator(
    __name__,
    "regression_intercept",
    "Start of the least-squares line through the closes of the window.",
    library="LINEARREG_INTERCEPT",
    inputs="close",
    outputs="regression_intercept_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference=KAUFMAN,
)
regression_change = indicator(
    __name__,
    "regression_change",
    "Slope of the least-squares line through the closes of the window, price a bar.",
    library="LINEARREG_SLOPE",
    inputs="close",
    outputs="regression_change_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference=KAUFMAN,
)
regression_forecast = indicator(
    __name__,
    "regression_forecast",
    "The least-squares line through the closes of the window, one bar further.",
    library="TSF",
    inputs="close",
    outputs="regression_forecast_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference=KAUFMAN,
)
average_price = indicator(
    __name__,
    "average_price",
    "Mean of open, high, low and close.",
    library="AVGPRICE",
    inputs="open high low close",
    outputs="average_price",
    lookback=1,
    scale=PRICE,
    reference=MURPHY,
)
median_price = indicator(
    __name__,
    "median_price",
    "Middle of the bar's range.",
    library="MEDPRICE",
    inputs="high low",
    outputs="median_price",
    lookback=1,
    scale=PRICE,
    reference=MURPHY,
)
typical_price = indicator(
    __name__,
    "typical_price",
    "Mean of high, low and close.",
    library="TYPPRICE",
    inputs="high low close",
    outputs="typical_price",
    lookback=1,
    scale=PRICE,
    reference=MURPHY,
)
weighted_close = indicator(
    __name__,
    "weighted_close",
    "Mean of high, low and twice the close.",
    library="WCLPRICE",
    inputs="high low close",
    outputs="weighted_close",
    lookback=1,
    scale=PRICE,
    reference=MURPHY,
)
hilbert_trendline = indicator(
    __name__,
    "hilbert_trendline",
    "Average over the dominant cycle, which removes that cycle.",
    library="HT_TRENDLINE",
    inputs="close",
    outputs="hilbert_trendline",
    lookback=500,
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Ehlers, Rocket Science for Traders (2001), chapter 10",
)
