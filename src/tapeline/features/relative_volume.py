"""Relative volume as features: against the time of day, the day so far, and the bars before."""

from __future__ import annotations

from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from tapeline.cleaning.normalization import robust_zscore
from tapeline.cleaning.volume_profile import cumulative_relative_volume, log_volume, relative_volume_by_time
from tapeline.core.registry import feature
from tapeline.features.arrays import Count, Window, columns, series

Days = Annotated[int, Field(ge=5, le=250)]
SlotMinutes = Literal[1, 5, 10, 15, 30, 60, 120, 240, 1440]
Zone = Literal["UTC", "America/New_York", "America/Chicago", "Europe/London", "Europe/Berlin", "Asia/Tokyo"]

MINIMUM = 5
"""Fewer past days than this make no usual volume."""


@feature(
    lookback=lambda longest: longest,
    outputs="time_of_day_volume_{days}",
    reference="Admati and Pfleiderer, Review of Financial Studies 1 (1988): the pattern of volume in the day; RVOL",
    stackable=False,
)
def time_of_day_volume(
    bars: pd.DataFrame, days: Days = 20, slot_minutes: SlotMinutes = 60, zone: Zone = "UTC", longest: Count = 480
) -> pd.Series:
    """Volume over the median of the last ``days`` bars at the same time of day (RVOL); 0 or more, 1 is usual.

    Only the last ``longest`` bars count: the default holds 20 days of hours; take ``days * 1440`` for minutes, with
    ``slot_minutes=1``. NaN before 5 bars of the same time, and where the usual volume is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> time_of_day_volume(example_bars(*[10.0] * 145)).iloc[-1].round(4).item()
    2.377
    """
    return relative_volume_by_time(
        bars["volume"], days=days, minimum=MINIMUM, slot_minutes=slot_minutes, zone=zone, longest=longest
    ).astype(float)


@feature(
    lookback=lambda longest: longest,
    outputs="day_volume_{days}",
    reference="Admati and Pfleiderer, Review of Financial Studies 1 (1988): the pattern of volume in the day; RVOL",
    stackable=False,
)
def day_volume(
    bars: pd.DataFrame, days: Days = 20, slot_minutes: SlotMinutes = 60, zone: Zone = "UTC", longest: Count = 480
) -> pd.Series:
    """Volume of the day so far over the median of the ``days`` days before by the same time; 1 is usual.

    Only the last ``longest`` bars count. ``slot_minutes`` is best as long as a bar. NaN before 5 whole days.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> day_volume(example_bars(*[10.0] * 145)).iloc[-1].round(4).item()
    2.377
    """
    return cumulative_relative_volume(
        bars["volume"], days=days, minimum=MINIMUM, slot_minutes=slot_minutes, zone=zone, longest=longest
    ).astype(float)


@feature(
    lookback=lambda window: 2 * window + 1,
    outputs="volume_surprise_{window}",
    reference="Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993), chapter 3; of the log of volume",
)
def volume_surprise(bars: pd.DataFrame, window: Window = 100) -> pd.Series:
    """How unusual the bar's log volume is against the ``window`` bars before, in robust deviations, at most 100.

    NaN where the usual volume is 0 or nothing varies.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> volume_surprise(example_bars(*[10.0] * 9), window=3).round(2).tolist()[-1]
    -1.17
    """
    (volume,) = columns(bars, "volume")
    scored = robust_zscore(log_volume(volume, window), window, before=1)
    return series(bars, scored.clip(-100.0, 100.0))
