"""Levels: how far the close lies from prices that many people watch, in average true ranges."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import WILDER_MEMORY, Count, Window, average_true_range, columns, frame, ratio
from tapeline.features.position import DAY_NANOSECONDS, MONDAY_NANOSECONDS
from tapeline.features.session_kernels import last_period


@feature(
    lookback=lambda longest, atr_window: max(longest, WILDER_MEMORY * atr_window) + 1,
    outputs=("to_last_high", "to_last_low", "to_last_close", "to_pivot"),
    reference="Person, A Complete Guide to Technical Trading Tactics (2004), chapter 6: floor traders' pivots",
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
)
def previous_day_levels(bars: pd.DataFrame, longest: Count = 2880, atr_window: Window = 14) -> pd.DataFrame:
    """The close less the high, low, close and pivot of the UTC day before, each in average true ranges.

    The pivot is the mean of the three. The day before is the last one that had bars. NaN where that day began more
    than ``longest`` bars ago (the default holds two days of minutes) or where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 12, start="2017-01-01 12:00", hours=12)
    >>> previous_day_levels(bars, atr_window=2).iloc[-1].round(3).tolist()
    [0.333, 1.0, 0.667, 0.667]
    """
    high, low, close = columns(bars, "high", "low", "close")
    days = (pd.DatetimeIndex(bars.index).as_unit("ns").asi8 - MONDAY_NANOSECONDS) // DAY_NANOSECONDS
    top, bottom, last, began = last_period(high, low, close, np.ascontiguousarray(days))
    unit, floor = average_true_range(bars, atr_window)
    # The bar before the day's first one must be there too, or a short history could not tell a whole day from a part.
    near = (began > 0) & (np.arange(close.size) - began < longest)
    unit = np.where(near, unit, np.nan)
    return frame(
        bars,
        to_last_high=ratio(close - top, unit, floor),
        to_last_low=ratio(close - bottom, unit, floor),
        to_last_close=ratio(close - last, unit, floor),
        to_pivot=ratio(close - (top + bottom + last) / 3.0, unit, floor),
    )
