"""Volume: how much changed hands, and on which side of the bar. A window that holds an unknown volume is NaN."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    WILDER_MEMORY,
    Window,
    average_true_range,
    changes,
    columns,
    log_changes,
    ratio,
    series,
)
from tapeline.features.kernels import rolling_correlation, rolling_mean

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)


@feature(
    lookback=lambda window: window + 1,
    outputs="relative_volume_{window}",
    reference="Murphy, Technical Analysis of the Financial Markets (1999), chapter 7",
)
def relative_volume(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Volume over its mean in the ``window`` bars before; 0 or more, 1 is usual. NaN where there was none.

    Examples
    --------
    >>> bars = pd.DataFrame({"volume": [1.0, 3.0, 4.0]})
    >>> relative_volume(bars, window=2).tolist()
    [nan, nan, 2.0]
    """
    (volume,) = columns(bars, "volume")
    before = np.full(volume.size, np.nan)
    before[1:] = rolling_mean(volume, window)[:-1]
    return series(bars, ratio(volume, before))


@feature(
    lookback=lambda window: window + 1,
    outputs="signed_volume_{window}",
    reference="Granville, New Key to Stock Market Profits (1963): the change of on-balance volume, normalised",
)
def signed_volume(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Change of on-balance volume over the volume of the window, -1 (all on falls) to 1 (all on rises).

    NaN where there was no volume.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 1.0], "volume": [5.0, 3.0, 1.0]})
    >>> signed_volume(bars, window=2).tolist()
    [nan, nan, 0.5]
    """
    close, volume = columns(bars, "close", "volume")
    return series(bars, ratio(rolling_mean(np.sign(changes(close)) * volume, window), rolling_mean(volume, window)))


@feature(
    lookback=lambda window: window + 1,
    outputs="money_flow_index_{window}",
    reference="Quong and Soudack, Technical Analysis of Stocks and Commodities 7 (1989)",
)
def money_flow_index(bars: pd.DataFrame, window: Window = 14) -> pd.Series:
    """Money flow index: the share of turnover on a rising typical price, 0 to 100.

    NaN where no turnover came with a change. Summed window by window: TA-Lib's running sum never forgets a NaN.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> money_flow_index(example_bars(10, 11, 10), window=2).round(2).tolist()
    [nan, nan, 40.76]
    """
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    typical = (high + low + close) / 3.0
    change = changes(typical)
    turnover = typical * volume
    # NaN + 0 * NaN: an unknown change or volume stays unknown instead of counting as no flow.
    unknown = 0.0 * change + 0.0 * volume
    up = rolling_mean(np.where(change > 0.0, turnover, 0.0) + unknown, window)
    down = rolling_mean(np.where(change < 0.0, turnover, 0.0) + unknown, window)
    return series(bars, 100.0 * ratio(up, up + down))


@feature(
    lookback=lambda window: window,
    outputs="chaikin_money_flow_{window}",
    reference="Chaikin, in Achelis, Technical Analysis from A to Z, 2nd ed. (2000)",
)
def chaikin_money_flow(bars: pd.DataFrame, window: Window = 20) -> pd.Series:
    """Volume weighted by where each bar closed in its range, over volume, -1 (at the lows) to 1 (at the highs).

    A bar without range counts as closed in the middle. NaN where there was no volume.

    Examples
    --------
    >>> bars = pd.DataFrame({"high": [2.0, 2.0], "low": [0.0, 0.0], "close": [2.0, 1.0], "volume": [1.0, 1.0]})
    >>> chaikin_money_flow(bars, window=2).tolist()
    [nan, 0.5]
    """
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    place = np.where(high > low, ratio(2.0 * close - high - low, high - low), 0.0 * (high - low))
    return series(bars, ratio(rolling_mean(place * volume, window), rolling_mean(volume, window)))


@feature(
    lookback=lambda window, atr_window: max(window, WILDER_MEMORY * atr_window),
    outputs="vwap_distance_{window}",
    reference="Berkowitz, Logue and Noser, Journal of Finance 43 (1988); in average true ranges",
    tolerance=RECURSIVE,
)
def vwap_distance(bars: pd.DataFrame, window: Window = 24, atr_window: Window = 14) -> pd.Series:
    """Distance of the close above the volume-weighted typical price of the last ``window`` bars, in true ranges.

    Unbounded, around 0. NaN where there was no volume or price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> vwap_distance(example_bars(10, 10, 10), window=2, atr_window=2).tolist()
    [nan, nan, 0.0]
    """
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    typical = (high + low + close) / 3.0
    total = rolling_mean(volume, window)
    mean = ratio(rolling_mean(typical * volume, window), total)
    return series(bars, ratio(close - mean, *average_true_range(bars, atr_window)))


@feature(
    lookback=lambda window: window + 1,
    outputs="volume_correlation_{window}",
    reference="Karpoff, Journal of Financial and Quantitative Analysis 22 (1987)",
)
def volume_correlation(bars: pd.DataFrame, window: Window = 48) -> pd.Series:
    """Correlation of volume and the size of the log return over the last ``window`` bars, -1 to 1.

    NaN where one of them does not vary.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 2.0, 8.0], "volume": [9.0, 2.0, 1.0, 3.0]})
    >>> volume_correlation(bars, window=3).round(4).tolist()
    [nan, nan, nan, 1.0]
    """
    close, volume = columns(bars, "close", "volume")
    return series(bars, rolling_correlation(np.abs(log_changes(close)), volume, window))
