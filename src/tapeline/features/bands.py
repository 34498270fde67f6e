"""Bands: how wide the channels around price are, where the close lies in them, and when they squeeze."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    EMA_MEMORY,
    WILDER_MEMORY,
    Count,
    Window,
    average_true_range,
    columns,
    frame,
    ratio,
    series,
    talib,
)
from tapeline.features.kernels import rolling_deviation, rolling_mean, run_length

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)
Multiple = Annotated[float, Field(gt=0, le=100)]


@feature(
    lookback=lambda window, atr_window: max(window, WILDER_MEMORY * atr_window),
    outputs=("atr_band_position_{window}", "atr_band_width_{window}"),
    reference="Kaufman, Trading Systems and Methods, 5th ed., chapter 8: volatility bands",
    tolerance=RECURSIVE,
)
def atr_bands(
    bars: pd.DataFrame, window: Window = 20, atr_window: Window = 14, multiple: Multiple = 2.0
) -> pd.DataFrame:
    """Bands ``multiple`` average true ranges around the mean close: place of the close in them, and their width.

    The place is 0 at the lower band and 1 at the upper one, NaN where price has stood still; the width is the bands'
    distance in percent of the mean.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> atr_bands(example_bars(10, 10, 10), window=2, atr_window=2).iloc[-1].tolist()
    [0.5, 80.0]
    """
    (close,) = columns(bars, "close")
    ranges, floor = average_true_range(bars, atr_window)
    mean = rolling_mean(close, window)
    return frame(
        bars,
        **{
            f"atr_band_position_{window}": 0.5 + ratio(close - mean, 2.0 * multiple * ranges, floor),
            f"atr_band_width_{window}": 200.0 * multiple * ranges / mean,
        },
    )


@feature(
    lookback=lambda window, atr_window: max(EMA_MEMORY * window, WILDER_MEMORY * atr_window),
    outputs="keltner_width_{window}",
    reference="Raschke's form of the Keltner channel, in Kaufman, Trading Systems and Methods, 5th ed., chapter 8",
    tolerance=RECURSIVE,
)
def keltner_width(
    bars: pd.DataFrame, window: Window = 20, atr_window: Window = 10, multiple: Multiple = 2.0
) -> pd.Series:
    """Distance between the lines of the Keltner channel, in percent of its middle; 0 or more.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> keltner_width(example_bars(10, 10, 10, 10), window=2, atr_window=2).iloc[-1].item()
    80.0
    """
    (close,) = columns(bars, "close")
    ranges, _ = average_true_range(bars, atr_window)
    return series(bars, 200.0 * multiple * ranges / talib("EMA", close, timeperiod=window))


@feature(
    lookback=lambda window: window,
    outputs="donchian_width_{window}",
    reference="Donchian's channel, in Kaufman, Trading Systems and Methods, 5th ed., chapter 5",
)
def donchian_width(bars: pd.DataFrame, window: Window = 20) -> pd.Series:
    """Highest high less lowest low of the last ``window`` bars, in percent of their middle; 0 or more.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> donchian_width(example_bars(10, 10), window=2).tolist()
    [nan, 20.0]
    """
    high, low = columns(bars, "high", "low")
    highest, lowest = talib("MAX", high, timeperiod=window), talib("MIN", low, timeperiod=window)
    return series(bars, 200.0 * (highest - lowest) / (highest + lowest))


@feature(
    lookback=lambda window, longest: window + longest,
    outputs=("squeeze_{window}", "squeeze_age_{window}"),
    reference="Carter, Mastering the Trade (2005), chapter 11: Bollinger bands inside the Keltner channel",
)
def squeeze(
    bars: pd.DataFrame,
    window: Window = 20,
    deviations: Multiple = 2.0,
    multiple: Multiple = 1.5,
    longest: Count = 100,
) -> pd.DataFrame:
    """How tight Bollinger's bands are beside a Keltner channel, and for how many bars they have been inside it.

    Both channels are around the mean close of ``window`` bars; the Keltner one is ``multiple`` mean true ranges wide
    on each side. ``squeeze`` is the ratio of the two widths: below 1 the bands are inside. ``squeeze_age`` counts the
    bars in a row inside (positive) or outside (negative), up to ``longest``. NaN where the bars have had no range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> squeeze(example_bars(10, 10, 10, 10.5), window=2).round(3).values.tolist()[-2:]
    [[0.0, 1.0], [0.148, 2.0]]
    """
    high, low, close = columns(bars, "high", "low", "close")
    _, deviation = rolling_deviation(close, window)
    channel = multiple * rolling_mean(talib("TRANGE", high, low, close), window)
    tightness = ratio(deviations * deviation, channel, 1e-8 * close)
    inside = np.where(np.isnan(tightness), np.nan, np.where(tightness < 1.0, 1.0, -1.0))
    return frame(bars, **{f"squeeze_{window}": tightness, f"squeeze_age_{window}": run_length(inside, longest)})
