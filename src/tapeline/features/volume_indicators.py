"""Volume indicators as published, bounded to a window where the published form sums up for ever.

What sums up since the first bar (on-balance volume, accumulation and distribution, the negative volume index) says
something only by its change, and its level depends on where the history begins: here it is the change over a window.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tapeline.features.arrays import EMA_MEMORY, Floats, changes, log_changes, ratio
from tapeline.features.indicator import MONEY, PRICE, RECURSIVE, VOLUME, indicator, window
from tapeline.features.kernels import rolling_mean
from tapeline.features.recursive_kernels import restarting_ema, restarting_sum

GRANVILLE: Final = "Granville, New Key to Stock Market Profits (1963)"
CHAIKIN: Final = "Chaikin, as in Achelis, Technical Analysis from A to Z (2001)"
FOSBACK: Final = "Fosback, Stock Market Logic (1976), part 2"


def _money_flow(high: Floats, low: Floats, close: Floats, volume: Floats) -> Floats:
    # A bar without a range has no place of the close in it: it says nothing of who was stronger.
    place = np.where(high > low, ratio(2.0 * close - high - low, high - low), 0.0)
    return place * volume


def _accumulation(high: Floats, low: Floats, close: Floats, volume: Floats, window: int) -> Floats:
    return window * rolling_mean(_money_flow(high, low, close, volume), window)


def _chaikin(high: Floats, low: Floats, close: Floats, volume: Floats, fast: int, slow: int) -> Floats:
    line = restarting_sum(_money_flow(high, low, close, volume))
    return restarting_ema(line, fast) - restarting_ema(line, slow)


def _on_balance(close: Floats, volume: Floats, window: int) -> Floats:
    return window * rolling_mean(np.sign(changes(close)) * volume, window)


def _price_trend(close: Floats, volume: Floats, window: int) -> Floats:
    before = np.concatenate((np.full(min(1, close.size), np.nan), close[:-1]))
    return window * rolling_mean(changes(close) / before * volume, window)


def _force(close: Floats, volume: Floats, window: int) -> Floats:
    return restarting_ema(changes(close) * volume, window)


def _percentage_oscillator(volume: Floats, fast: int, slow: int) -> Floats:
    long = restarting_ema(volume, slow)
    # Where nothing has traded for a whole window, what is left of the average is a memory of its start.
    traded = np.where(rolling_mean(volume, slow) > 0, long, 0.0)
    return 100.0 * ratio(restarting_ema(volume, fast) - long, traded)


def _vwap(high: Floats, low: Floats, close: Floats, volume: Floats, window: int) -> Floats:
    return ratio(rolling_mean((high + low + close) / 3.0 * volume, window), rolling_mean(volume, window))


def _weighted_close(close: Floats, volume: Floats, window: int) -> Floats:
    return ratio(rolling_mean(close * volume, window), rolling_mean(volume, window))


def _facilitation(high: Floats, low: Floats, volume: Floats) -> Floats:
    return ratio(high - low, volume)


def _ease(high: Floats, low: Floats, volume: Floats, window: int) -> Floats:
    return rolling_mean(changes((high + low) / 2.0) * ratio(high - low, volume), window)


def _return_where(close: Floats, volume: Floats, window: int, sign: float) -> Floats:
    moved = np.sign(changes(volume))
    returns = np.where(np.isnan(moved), np.nan, np.where(moved == sign, log_changes(close), 0.0))
    return window * rolling_mean(returns, window)


accumulation_change = indicator(
    __name__,
    "accumulation_change",
    "Change of the accumulation and distribution line over the window.",
    compute=_accumulation,
    inputs="high low close volume",
    outputs="accumulation_change_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=VOLUME,
    reference=CHAIKIN,
)
chaikin_oscillator = indicator(
    __name__,
    "chaikin_oscillator",
    "Fast less slow exponential average of the accumulation and distribution line.",
    compute=_chaikin,
    inputs="high low close volume",
    outputs="chaikin_oscillator_{fast}_{slow}",
    lookback=lambda fast, slow: (EMA_MEMORY + 3) * max(fast, slow),
    fast=window(3),
    slow=window(10),
    scale=VOLUME,
    tolerance=RECURSIVE,
    reference=CHAIKIN,
)
on_balance_change = indicator(
    __name__,
    "on_balance_change",
    "Change of on-balance volume over the window.",
    compute=_on_balance,
    inputs="close volume",
    outputs="on_balance_change_{window}",
    lookback=lambda window: window + 1,
    window=window(20),
    scale=VOLUME,
    reference=GRANVILLE,
)
price_trend_change = indicator(
    __name__,
    "price_trend_change",
    "Change of the volume price trend over the window: returns times volume, summed.",
    compute=_price_trend,
    inputs="close volume",
    outputs="price_trend_change_{window}",
    lookback=lambda window: window + 1,
    window=window(20),
    scale=VOLUME,
    reference="Achelis, Technical Analysis from A to Z (2001), Price and Volume Trend",
)
force_index = indicator(
    __name__,
    "force_index",
    "Exponential average of the close's change times volume.",
    compute=_force,
    inputs="close volume",
    outputs="force_index_{window}",
    lookback=lambda window: (EMA_MEMORY + 2) * window,
    window=window(13),
    scale=MONEY,
    tolerance=RECURSIVE,
    reference="Elder, Trading for a Living (1993), chapter 42",
)
percentage_volume_oscillator = indicator(
    __name__,
    "percentage_volume_oscillator",
    "Fast less slow exponential average of volume, in percent of the slow one.",
    compute=_percentage_oscillator,
    inputs="volume",
    outputs="percentage_volume_oscillator_{fast}_{slow}",
    lookback=lambda fast, slow: (EMA_MEMORY + 2) * max(fast, slow),
    fast=window(12),
    slow=window(26),
    tolerance=RECURSIVE,
    reference="Achelis, Technical Analysis from A to Z (2001), Volume Oscillator",
)
vwap = indicator(
    __name__,
    "vwap",
    "Volume-weighted average of the bars' typical prices over the window.",
    compute=_vwap,
    inputs="high low close volume",
    outputs="vwap_{window}",
    lookback=lambda window: window,
    window=window(14),
    scale=PRICE,
    reference="Berkowitz, Logue and Noser, Journal of Finance 43 (1988)",
)
volume_weighted_average = indicator(
    __name__,
    "volume_weighted_average",
    "Average of the window's closes, weighted by volume.",
    compute=_weighted_close,
    inputs="close volume",
    outputs="volume_weighted_average_{window}",
    lookback=lambda window: window,
    window=window(20),
    scale=PRICE,
    reference="Arms, Volume Cycles in the Stock Market (1983)",
)
market_facilitation = indicator(
    __name__,
    "market_facilitation",
    "The bar's range per unit of volume.",
    compute=_facilitation,
    inputs="high low volume",
    outputs="market_facilitation",
    lookback=1,
    scale=(1, -1),
    reference="Williams, Trading Chaos (1995), chapter 6",
)
ease_of_movement = indicator(
    __name__,
    "ease_of_movement",
    "Mean of the middle's change times the range over volume.",
    compute=_ease,
    inputs="high low volume",
    outputs="ease_of_movement_{window}",
    lookback=lambda window: window + 1,
    window=window(14),
    scale=(2, -1),
    reference="Arms, Volume Cycles in the Stock Market (1983)",
)
quiet_return = indicator(
    __name__,
    "quiet_return",
    "Log return over the window on bars with less volume than before: the negative volume index.",
    compute=lambda close, volume, window: _return_where(close, volume, window, -1.0),
    inputs="close volume",
    outputs="quiet_return_{window}",
    lookback=lambda window: window + 1,
    window=window(24),
    reference=FOSBACK,
)
busy_return = indicator(
    __name__,
    "busy_return",
    "Log return over the window on bars with more volume than before: the positive volume index.",
    compute=lambda close, volume, window: _return_where(close, volume, window, 1.0),
    inputs="close volume",
    outputs="busy_return_{window}",
    lookback=lambda window: window + 1,
    window=window(24),
    reference=FOSBACK,
)
