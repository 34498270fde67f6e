"""Bands, channels, ranges and deviations in the units of price, as published: for charts, rules and features."""

from __future__ import annotations

from typing import Final

from tapeline.features.arrays import EMA_MEMORY, WILDER_MEMORY, Floats
from tapeline.features.indicator import PRICE, RECURSIVE, Factor, Parameter, Share, indicator, window
from tapeline.features.kernels import rolling_deviation

WILDER: Final = "Wilder, New Concepts in Technical Trading Systems (1978), section"
BOLLINGER: Final = "Bollinger, Bollinger on Bollinger Bands (2001), chapter 7"


def _bollinger(close: Floats, window: int, deviations: float) -> tuple[Floats, ...]:
    # Not TA-Lib's: its sums of squares lose the deviation of a price that hardly moves.
    mean, deviation = rolling_deviation(close, window)
    return mean + deviations * deviation, mean, mean - deviations * deviation


def _deviation(close: Floats, window: int) -> Floats:
    return rolling_deviation(close, window)[1]


midpoint = indicator(
    __name__,
    "midpoint",
    "Middle between the highest and the lowest close of the window.",
    library="MIDPOINT",
    inputs="close",
    outputs="midpoint_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 9",
)
midprice = indicator(
    __name__,
    "midprice",
    "Middle between the highest high and the lowest low of the window.",
    library="MIDPRICE",
    inputs="high low",
    outputs="midprice_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference="Donchian, Commodities: High Finance (1960): the middle of the channel",
)
close_percentile = indicator(
    __name__,
    "close_percentile",
    "A percentile of the closes of the window; 50 is the median.",
    library="PERCENTILE",
    inputs="close",
    outputs="close_percentile_{window}_{percent:g}",
    lookback=lambda window: window,
    window=window(30),
    percent=Parameter("percentile", Factor, 50.0),
    scale=PRICE,
    reference="Hyndman and Fan, Sample Quantiles in Statistical Packages, American Statistician 50 (1996)",
)
close_deviation = indicator(
    __name__,
    "close_deviation",
    "Standard deviation of the closes of the window, divided by their number.",
    compute=_deviation,
    inputs="close",
    outputs="close_deviation_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference=BOLLINGER,
)
mean_deviation = indicator(
    __name__,
    "mean_deviation",
    "Mean absolute distance of the closes of the window from their mean.",
    library="AVGDEV",
    inputs="close",
    outputs="mean_deviation_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference="Lambert, Commodity Channel Index, Commodities (1980)",
)
bollinger_bands = indicator(
    __name__,
    "bollinger_bands",
    "Simple average of the close with bands some standard deviations away.",
    compute=_bollinger,
    inputs="close",
    outputs="bollinger_upper_{window} bollinger_middle_{window} bollinger_lower_{window}",
    lookback=lambda window: window,
    window=window(20),
    deviations=Parameter("", Factor, 2.0),
    scale=PRICE,
    reference=BOLLINGER,
)
keltner_channel = indicator(
    __name__,
    "keltner_channel",
    "Exponential average of the close with bands some average true ranges away.",
    library="KC",
    inputs="high low close",
    outputs="keltner_upper_{window} keltner_middle_{window} keltner_lower_{window}",
    lookback=lambda window, atr_window: max((EMA_MEMORY + 1) * window, (WILDER_MEMORY + 1) * atr_window),
    window=window(20),
    atr_window=window(10, "atrperiod"),
    multiple=Parameter("nbdev", Factor, 2.0),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Raschke's form of Keltner, How to Make Money in Commodities (1960)",
)
donchian_channel = indicator(
    __name__,
    "donchian_channel",
    "Highest high and lowest low of the window, and their middle.",
    library="DONCHIAN",
    inputs="high low",
    outputs="donchian_upper_{window} donchian_middle_{window} donchian_lower_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference="Donchian, Commodities: High Finance (1960)",
)
acceleration_bands = indicator(
    __name__,
    "acceleration_bands",
    "Averages of high and low stretched by the bar's relative range.",
    library="ACCBANDS",
    inputs="high low close",
    outputs="acceleration_upper_{window} acceleration_middle_{window} acceleration_lower_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference="Headley, Big Trends in Trading (2002)",
)
parabolic_sar = indicator(
    __name__,
    "parabolic_sar",
    "Wilder's parabolic stop and reverse: it forgets its start at the second reversal.",
    library="SAR",
    inputs="high low",
    outputs="parabolic_sar",
    lookback=1_000,
    acceleration=Parameter("acceleration", Share, 0.02),
    maximum=Parameter("maximum", Share, 0.2),
    scale=PRICE,
    reference=f"{WILDER} II",
)
range_average = indicator(
    __name__,
    "range_average",
    "Simple average of the bars' ranges, high less low.",
    library="ADR",
    inputs="high low",
    outputs="range_average_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference="Kaufman, Trading Systems and Methods, 5th ed. (2013), chapter 20",
)
true_range = indicator(
    __name__,
    "true_range",
    "The bar's range, stretched to the close before.",
    library="TRANGE",
    inputs="high low close",
    outputs="true_range",
    lookback=2,
    scale=PRICE,
    reference=f"{WILDER} III",
)
atr = indicator(
    __name__,
    "atr",
    "Average true range: Wilder's average of the true range.",
    library="ATR",
    inputs="high low close",
    outputs="atr_{window}",
    lookback=lambda window: (WILDER_MEMORY + 1) * window,
    window=window(14),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference=f"{WILDER} III",
)
