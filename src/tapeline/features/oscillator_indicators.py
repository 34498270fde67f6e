"""Oscillators and measures of movement as published, beside those of the momentum, trend and volatility modules."""

from __future__ import annotations

from typing import Final

import numpy as np

from tapeline.features.arrays import EMA_MEMORY, STILL, WILDER_MEMORY, Count, Floats, changes, ratio, talib
from tapeline.features.indicator import PRICE, RECURSIVE, Compute, Parameter, indicator, where_moved, window
from tapeline.features.kernels import rolling_deviation, rolling_mean, wilder_mean
from tapeline.features.recursive_kernels import smoothed_stochastic

WILDER: Final = "Wilder, New Concepts in Technical Trading Systems (1978), section"
KAUFMAN: Final = "Kaufman, Trading Systems and Methods, 5th ed. (2013), chapter"
APPEL: Final = "Appel, Technical Analysis: Power Tools for Active Investors (2005), chapter 6"

KNOW_SURE_THING: Final = ((10, 10), (15, 10), (20, 10), (30, 15))
"""Pring's rates of change and the averages over them, in bars; they weigh 1 to 4."""


def _directional(name: str) -> Compute:
    def compute(high: Floats, low: Floats, close: Floats, window: int) -> Floats:
        moved = talib("ATR", high, low, close, timeperiod=window)
        return where_moved(moved, STILL * close, talib(name, high, low, close, timeperiod=window))

    return compute


def _chande(close: Floats, window: int) -> Floats:
    moved = rolling_mean(np.abs(changes(close)), window)
    return where_moved(moved, STILL * close, talib("CMOU", close, timeperiod=window))


def _wilder_chande(close: Floats, window: int) -> Floats:
    moved = wilder_mean(np.abs(changes(close)), window)
    return where_moved(moved, STILL * close, talib("CMO", close, timeperiod=window))


def _vertical_horizontal(close: Floats, window: int) -> Floats:
    moved = rolling_mean(np.abs(changes(close)), window)
    return where_moved(moved, STILL * close, talib("VHF", close, timeperiod=window))


def _stochastic_momentum(high: Floats, low: Floats, close: Floats, window: int, slow: int, fast: int) -> Floats:
    # Blau smooths first over the long span; the ratio of the two averages needs no signal line here.
    top, bottom = talib("MAX", high, timeperiod=window), talib("MIN", low, timeperiod=window)
    start = window - 1

    def smoothed(values: Floats) -> Floats:
        result = np.full(values.size, np.nan)
        result[start:] = talib("EMA", talib("EMA", values[start:], timeperiod=slow), timeperiod=fast)
        return result

    reach = smoothed(top - bottom)
    return 100.0 * ratio(smoothed(close - (top + bottom) / 2.0), reach / 2.0, STILL * close)


def _mass(high: Floats, low: Floats, window: int, smoothing: int) -> Floats:
    single = talib("EMA", high - low, timeperiod=smoothing)
    least = talib("MIN", single, timeperiod=window)
    return where_moved(least, STILL * low, talib("MASSI", high, low, fastperiod=smoothing, slowperiod=window))


def _chaikin_volatility(high: Floats, low: Floats, window: int, change: int) -> Floats:
    average = talib("EMA", high - low, timeperiod=window)
    least = talib("MIN", average, timeperiod=change + 1)
    found = talib("CVI", high, low, timeperiod=window, rocperiod=change)
    return where_moved(least, STILL * low, found)


def _relative_volatility(close: Floats, window: int, deviation_window: int) -> Floats:
    deviation = rolling_deviation(close, deviation_window)[1]
    start = deviation_window - 1
    moved = changes(close)
    result = np.full(close.size, np.nan)
    every = talib("RMA", np.where(moved != 0, deviation, 0.0)[start:], timeperiod=window)
    rising = talib("RMA", np.where(moved > 0, deviation, 0.0)[start:], timeperiod=window)
    result[start:] = 100.0 * ratio(rising, every, STILL * close[start:])
    return result


def _know_sure_thing(close: Floats, multiple: int) -> tuple[Floats, Floats]:
    total = np.zeros(close.size)
    for weight, (change, smoothing) in enumerate(KNOW_SURE_THING, start=1):
        changed = talib("ROC", close, timeperiod=change * multiple)
        total += weight * rolling_mean(changed, smoothing * multiple)
    return total, rolling_mean(total, 9 * multiple)


def _schaff(close: Floats, fast: int, slow: int, cycle: int) -> Floats:
    distance = talib("EMA", close, timeperiod=fast) - talib("EMA", close, timeperiod=slow)
    first = smoothed_stochastic(distance, STILL * close, cycle, 0.5, False)
    # The second range is one of percentages; while the first rests at 0 or 100 it is none, and the last answer stands.
    return smoothed_stochastic(first, np.full(close.size, 1e-9), cycle, 0.5, True)


momentum = indicator(
    __name__,
    "momentum",
    "Close less the close some bars before, in price.",
    library="MOM",
    inputs="close",
    outputs="momentum_{window}",
    lookback=lambda window: window + 1,
    window=Parameter("timeperiod", Count, 10),
    scale=PRICE,
    reference="Murphy (1999), chapter 10",
)
absolute_oscillator = indicator(
    __name__,
    "absolute_oscillator",
    "Fast less slow exponential average of the close, in price.",
    inputs="close",
    compute=lambda close, fast, slow: talib("APO", close, fastperiod=fast, slowperiod=slow, matype=1),
    outputs="absolute_oscillator_{fast}_{slow}",
    lookback=lambda fast, slow: (EMA_MEMORY + 1) * max(fast, slow),
    fast=window(12),
    slow=window(26),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference=APPEL,
)
percentage_oscillator = indicator(
    __name__,
    "percentage_oscillator",
    "Fast less slow exponential average in percent of the slow one.",
    inputs="close",
    compute=lambda close, fast, slow: talib("PPO", close, fastperiod=fast, slowperiod=slow, matype=1),
    outputs="percentage_oscillator_{fast}_{slow}",
    lookback=lambda fast, slow: (EMA_MEMORY + 1) * max(fast, slow),
    fast=window(12),
    slow=window(26),
    tolerance=RECURSIVE,
    reference=APPEL,
)
awesome_oscillator = indicator(
    __name__,
    "awesome_oscillator",
    "Fast less slow simple average of the bars' middles, in price.",
    library="AO",
    inputs="high low",
    outputs="awesome_oscillator_{fast}_{slow}",
    lookback=lambda fast, slow: max(fast, slow),
    fast=window(5, "fastperiod"),
    slow=window(34, "slowperiod"),
    scale=PRICE,
    reference="Williams, New Trading Dimensions (1998), chapter 5",
)
accelerator = indicator(
    __name__,
    "accelerator",
    "The awesome oscillator less its own simple average, in price.",
    library="AC",
    inputs="high low",
    outputs="accelerator_{fast}_{slow}_{signal}",
    lookback=lambda fast, slow, signal: max(fast, slow) + signal,
    fast=window(5, "fastperiod"),
    slow=window(34, "slowperiod"),
    signal=window(5, "signalperiod"),
    scale=PRICE,
    reference="Williams, New Trading Dimensions (1998), chapter 6",
)
directional_index = indicator(
    __name__,
    "directional_index",
    "Wilder's DX: how one-sided directional movement is, 0 to 100, before smoothing.",
    compute=_directional("DX"),
    inputs="high low close",
    outputs="directional_index_{window}",
    lookback=lambda window: 2 * (WILDER_MEMORY + 1) * window,
    window=window(14),
    tolerance=RECURSIVE,
    reference=f"{WILDER} IV",
)
directional_rating = indicator(
    __name__,
    "directional_rating",
    "Wilder's ADXR: the mean of ADX now and a window before, 0 to 100.",
    compute=_directional("ADXR"),
    inputs="high low close",
    outputs="directional_rating_{window}",
    lookback=lambda window: (2 * WILDER_MEMORY + 4) * window,
    window=window(14),
    tolerance=RECURSIVE,
    reference=f"{WILDER} IV",
)
chande_momentum = indicator(
    __name__,
    "chande_momentum",
    "Rises less falls over their sum in the window, -100 to 100.",
    compute=_chande,
    inputs="close",
    outputs="chande_momentum_{window}",
    lookback=lambda window: window + 1,
    window=window(14),
    reference="Chande and Kroll, The New Technical Trader (1994), chapter 5",
)
wilder_chande_momentum = indicator(
    __name__,
    "wilder_chande_momentum",
    "Chande's momentum with Wilder's smoothing, as TA-Lib has it, -100 to 100.",
    compute=_wilder_chande,
    inputs="close",
    outputs="wilder_chande_momentum_{window}",
    lookback=lambda window: (WILDER_MEMORY + 1) * window,
    window=window(14),
    tolerance=RECURSIVE,
    reference="Chande and Kroll, The New Technical Trader (1994), chapter 5",
)
coppock = indicator(
    __name__,
    "coppock",
    "Weighted average of the sum of two rates of change, in percent.",
    library="COPPOCK",
    inputs="close",
    outputs="coppock_{window}_{fast}_{slow}",
    lookback=lambda window, fast, slow: window + max(fast, slow),
    window=window(10, "wmaperiod"),
    fast=window(11, "roc1period"),
    slow=window(14, "roc2period"),
    reference="Coppock, Barron's (15 October 1962)",
)
detrended_price = indicator(
    __name__,
    "detrended_price",
    "The close half a window ago less the window's average now, in price; knows no future.",
    library="DPO",
    inputs="close",
    outputs="detrended_price_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference=f"{KAUFMAN} 9",
)
elder_ray = indicator(
    __name__,
    "elder_ray",
    "High and low less the exponential average of the close: bull and bear power, in price.",
    library="ERI",
    inputs="high low close",
    outputs="bull_power_{window} bear_power_{window}",
    lookback=lambda window: (EMA_MEMORY + 1) * window,
    window=window(13),
    scale=PRICE,
    tolerance=RECURSIVE,
    reference="Elder, Trading for a Living (1993), chapter 41",
)
forecast_oscillator = indicator(
    __name__,
    "forecast_oscillator",
    "Close less what the line through the window before foretold, in percent of it.",
    library="FOSC",
    inputs="close",
    outputs="forecast_oscillator_{window}",
    lookback=lambda window: window + 1,
    window=window(14),
    reference="Chande and Kroll, The New Technical Trader (1994), chapter 2",
)
qstick = indicator(
    __name__,
    "qstick",
    "Simple average of close less open, in price.",
    library="QSTICK",
    inputs="open close",
    outputs="qstick_{window}",
    lookback=lambda window: window,
    window=window(10),
    scale=PRICE,
    reference="Chande and Kroll, The New Technical Trader (1994), chapter 7",
)
stochastic_momentum = indicator(
    __name__,
    "stochastic_momentum",
    "Blau's index: the close's place in the range, numerator and range smoothed twice.",
    compute=_stochastic_momentum,
    inputs="high low close",
    outputs="stochastic_momentum_{window}_{slow}_{fast}",
    lookback=lambda window, slow, fast: window + (EMA_MEMORY + 6) * (slow + fast),
    window=window(13),
    slow=window(25),
    fast=window(2),
    tolerance=RECURSIVE,
    reference="Blau, Momentum, Direction, and Divergence (1995), chapter 3",
)
trix = indicator(
    __name__,
    "trix",
    "One-bar change of a triple exponential average, in percent.",
    library="TRIX",
    inputs="close",
    outputs="trix_{window}",
    lookback=lambda window: (EMA_MEMORY + 9) * window,
    window=window(15),
    tolerance=RECURSIVE,
    reference="Hutson, Good TRIX, Stocks & Commodities 1:5 (1983)",
)
vertical_horizontal = indicator(
    __name__,
    "vertical_horizontal",
    "Range of the closes over the path they took: above 0.4 or so, a trend.",
    compute=_vertical_horizontal,
    inputs="close",
    outputs="vertical_horizontal_{window}",
    lookback=lambda window: window + 1,
    window=window(28),
    reference="White, The Vertical Horizontal Filter, Futures (August 1991)",
)
mass_index = indicator(
    __name__,
    "mass_index",
    "Sum of the range's average over that average's own; above 27, then below 26.5: a reversal.",
    compute=_mass,
    inputs="high low",
    outputs="mass_index_{window}_{smoothing}",
    lookback=lambda window, smoothing: window + (2 * EMA_MEMORY + 12) * smoothing,
    window=window(25),
    smoothing=window(9),
    tolerance=RECURSIVE,
    reference="Dorsey, The Mass Index, Stocks & Commodities 10:6 (1992)",
)
chaikin_volatility = indicator(
    __name__,
    "chaikin_volatility",
    "Change of the range's exponential average, in percent.",
    compute=_chaikin_volatility,
    inputs="high low",
    outputs="chaikin_volatility_{window}_{change}",
    lookback=lambda window, change: (2 * EMA_MEMORY + 6) * window + change,
    window=window(10),
    change=window(10),
    tolerance=RECURSIVE,
    reference=f"{KAUFMAN} 20",
)
relative_volatility = indicator(
    __name__,
    "relative_volatility",
    "Share of the closes' deviation that fell on rising bars, of all that moved, 0 to 100.",
    compute=_relative_volatility,
    inputs="close",
    outputs="relative_volatility_{window}_{deviation_window}",
    lookback=lambda window, deviation_window: 2 * (WILDER_MEMORY + 1) * window + deviation_window,
    window=window(14),
    deviation_window=window(10),
    tolerance=RECURSIVE,
    reference="Dorsey, The Relative Volatility Index, Stocks & Commodities 11:6 (1993)",
)
close_percent_rank = indicator(
    __name__,
    "close_percent_rank",
    "Percent of the closes before, in the window, that lie below the close.",
    library="PERCENTRANK",
    inputs="close",
    outputs="close_percent_rank_{window}",
    lookback=lambda window: window + 1,
    window=window(100),
    reference="Connors and Alvarez, An Introduction to ConnorsRSI (2012)",
)
know_sure_thing = indicator(
    __name__,
    "know_sure_thing",
    "Pring's weighted sum of four smoothed rates of change, and its average of nine.",
    compute=_know_sure_thing,
    inputs="close",
    outputs="know_sure_thing_{multiple} know_sure_thing_signal_{multiple}",
    lookback=lambda multiple: 54 * multiple,
    multiple=Parameter("", Count, 1),
    reference="Pring, Summed Rate of Change (KST), Stocks & Commodities 10:9 (1992)",
)
schaff_cycle = indicator(
    __name__,
    "schaff_cycle",
    "MACD taken twice through a smoothed stochastic, 0 to 100.",
    compute=_schaff,
    inputs="close",
    outputs="schaff_cycle_{fast}_{slow}_{cycle}",
    lookback=lambda fast, slow, cycle: (EMA_MEMORY + 1) * max(fast, slow) + 60 * cycle,
    fast=window(23),
    slow=window(50),
    cycle=window(10),
    tolerance=RECURSIVE,
    reference="Schaff, The Schaff Trend Cycle (2008)",
)
