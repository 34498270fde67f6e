"""Alignment: many series on one clock, each value from when it was known and with its age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join
from tapeline.core.timeframe import Timeframe


@dataclass(frozen=True)
class TimedSeries:
    """A series and when its values could be read.

    Parameters
    ----------
    frame:
        The values, one row an observation, on a time-zone-aware index.
    timeframe:
        Of bars: a row is known at its close. None for observations that are known at their own time.
    lag:
        What passes between that and the moment at which it could be read: a publication or transport delay.
    tolerance:
        The greatest age at which a value is still used; older ones are missing. None: no limit.

    A column ``known_at`` says it row by row; a row is never read before it, nor before its close.
    """

    frame: pd.DataFrame
    timeframe: Timeframe | str | None = None
    lag: timedelta = timedelta(0)
    tolerance: timedelta | None = None

    def known(self) -> pd.DatetimeIndex:
        """The instant from which each row could be read, before the lag."""
        index = self.frame.index
        if not isinstance(index, pd.DatetimeIndex) or (index.tz is None and len(index)):
            raise DataError("a series has no time-zone-aware index", hint="normalize_timestamps() gives one")
        known = index.as_unit("ns") if self.timeframe is None else Timeframe.parse(self.timeframe).closes(index)
        if "known_at" not in self.frame.columns:
            return known
        stated = pd.DatetimeIndex(self.frame["known_at"])
        if stated.hasnans:
            raise DataError("'known_at' has missing instants", hint="quarantine those rows first")
        return known.where(known >= stated, stated)


def align_series(clock: pd.DatetimeIndex, series: Mapping[str, TimedSeries]) -> pd.DataFrame:
    """Put many series on one clock: at each instant the newest value of each that was known by then.

    Parameters
    ----------
    clock:
        The instants at which the values are used, not decreasing. For bars that is their close,
        ``timeframe.closes(bars.index)``, not their open.
    series:
        Each under its name, which becomes the prefix of its columns.

    Returns
    -------
    A frame on the clock: ``<name>_<column>`` for each column but ``known_at``, and ``<name>_age``, the seconds since
    the value could be read. NaN where nothing was known or all was older than the tolerance.

    Raises
    ------
    ConfigurationError
        No series, or two whose columns would have one name.
    DataError
        The clock decreases or has no time zone, a series has no times, or a lag is negative.

    Examples
    --------
    >>> hours = pd.date_range("2017-01-02 09:00", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 3.0]}, index=hours)
    >>> rate = pd.DataFrame({"value": [0.5]}, index=pd.DatetimeIndex(["2017-01-02 10:30"], tz="UTC"))
    >>> aligned = align_series(hours, {"eurusd": TimedSeries(bars, "H1"), "rate": TimedSeries(rate)})
    >>> aligned["eurusd_close"].tolist(), aligned["rate_value"].tolist(), aligned["rate_age"].tolist()
    ([nan, 1.0, 2.0], [nan, nan, 0.5], [nan, nan, 1800.0])
    """
    if not series:
        raise ConfigurationError("there is no series to align")
    out = pd.DataFrame(index=clock)
    for name, timed in series.items():
        out = asof_join(
            out,
            timed.frame.drop(columns="known_at", errors="ignore"),
            at=clock,
            known_at=timed.known(),
            prefix=f"{name}_",
            lag=timed.lag,
            tolerance=timed.tolerance,
            age=True,
        )
    return out
