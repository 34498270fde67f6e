"""Volume normaliser: how much was traded, against what is usual lately and at this time of day.

All forms compare with bars before the current one. A result is NaN while too little is known, at an unknown volume,
and where what is usual is nothing.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.cleaning.signal_array import Floats, Values, as_floats, on_values, require
from tapeline.cleaning.signal_kernels import moving_median
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.quality.order_statistics import median

MINUTE = 60_000_000_000
DAY_MINUTES = 1440


def volume_to_median(volume: Values, window: int = 100) -> Values:
    """Volume over the median of the ``window`` volumes before it: 1 is usual, 0 or more.

    One huge bar does not spoil the comparison of the next ``window``, as it does with a mean.

    Examples
    --------
    >>> volume_to_median(np.array([1.0, 2.0, 90.0, 4.0]), window=3)
    array([nan, nan, nan,  2.])
    """
    require("window", window, 1, whole=True)
    return on_values(volume, lambda x: _over(_checked(x), _usual(x, window)))


def log_volume(volume: Values, window: int = 100) -> Values:
    """Logarithm of one plus the volume in units of the median before it: 0 is usual, huge volumes are tamed.

    It does not depend on the unit of volume:
    ``log(1 + volume / median) - log(2)``; 0 is the median, ``-log(2)`` no volume at all.

    Examples
    --------
    >>> log_volume(np.array([1.0, 1.0, 3.0]), window=2).round(4)
    array([   nan,    nan, 0.6931])
    """
    return on_values(volume, lambda x: np.log1p(volume_to_median(x, window)) - np.log(2.0))


def relative_volume_by_time(
    volume: pd.Series, *, days: int = 20, minimum: int = 5, slot_minutes: int = 60, zone: str = "UTC", longest: int = 0
) -> pd.Series:
    """Volume over the median volume of the bars at the same time of day before it (RVOL): 1 is usual.

    Volume has the shape of the day: a quiet opening hour may hold more than a wild lunch break. The day of the zone is
    cut into slots; a bar belongs to the slot its open time falls into.

    Parameters
    ----------
    volume:
        On a sorted UTC ``DatetimeIndex`` of open times, 0 or more, or NaN.
    days:
        Bars of the slot remembered, one a day where the slot is as long as the bar. All bars in a slot count alike.
    minimum:
        Fewer remembered bars than this give NaN.
    slot_minutes:
        Length of a slot, a divisor of 1440; the bars' own length, or longer.
    zone:
        Time zone whose wall clock the day follows, so that an opening stays in its slot in summer and winter.
    longest:
        Above 0: forget what is more than this many bars ago, so that a tail of history gives the same numbers.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="12h", tz="UTC")
    >>> relative_volume_by_time(pd.Series([10.0, 100.0, 20.0, 50.0], ts), minimum=1).tolist()
    [nan, nan, 2.0, 0.5]
    """
    require("days", days, 1, whole=True)
    require("minimum", minimum, 1, days, whole=True)
    require("longest", longest, 0, whole=True)
    slots, _ = time_slots(volume.index, slot_minutes, zone)
    x = _checked(as_floats(volume))
    usual = _slot_medians(x, slots, DAY_MINUTES // slot_minutes, days, minimum, longest or x.size)
    return pd.Series(_over(x, usual), index=volume.index, name=volume.name)


def cumulative_relative_volume(
    volume: pd.Series, *, days: int = 20, minimum: int = 5, slot_minutes: int = 60, zone: str = "UTC", longest: int = 0
) -> pd.Series:
    """Volume of the day so far over the median of what the days before had traded by the same time: 1 is usual.

    Parameters as for :func:`relative_volume_by_time`. A day before counts with the volume up to and including the
    slot of the current bar; a day without a bar in or after that slot is left out, as its record may be cut short.
    Within a slot the current day is only partly counted: take ``slot_minutes`` as long as a bar.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="12h", tz="UTC")
    >>> cumulative_relative_volume(pd.Series([10.0, 100.0, 20.0, 200.0], ts), minimum=1).tolist()
    [nan, nan, 2.0, 2.0]
    """
    require("days", days, 1, whole=True)
    require("minimum", minimum, 1, days, whole=True)
    require("longest", longest, 0, whole=True)
    slots, day = time_slots(volume.index, slot_minutes, zone)
    x = _checked(as_floats(volume))
    result = _day_so_far(x, slots, day, DAY_MINUTES // slot_minutes, days, minimum, longest or x.size + 1)
    return pd.Series(result, index=volume.index, name=volume.name)


def time_slots(index: pd.Index, slot_minutes: int, zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The slot of the local day that each open time falls into, and the local day as a count since 1970.

    Raises
    ------
    ConfigurationError
        The slots do not divide the day, or the zone is unknown.
    DataError
        The index is not sorted UTC time.

    Examples
    --------
    >>> slots, days = time_slots(pd.DatetimeIndex(["2017-01-02 14:30"], tz="UTC"), 30, "America/New_York")
    >>> slots.tolist(), days.tolist()
    ([19], [17168])
    """
    require("slot_minutes", slot_minutes, 1, DAY_MINUTES, whole=True)
    if DAY_MINUTES % slot_minutes:
        raise ConfigurationError(f"slot_minutes = {slot_minutes} does not divide the day", hint="try 5, 30 or 60")
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or not index.is_monotonic_increasing:
        raise DataError("volumes need a sorted index of UTC times")
    try:
        local = index.tz_convert(ZoneInfo(zone))
    except (KeyError, ValueError, OSError, TypeError):
        raise ConfigurationError(f"zone = {zone!r} is unknown", hint="give a name such as America/New_York") from None
    minutes = local.tz_localize(None).as_unit("ns").asi8 // MINUTE
    day = minutes // DAY_MINUTES
    return (minutes - day * DAY_MINUTES) // slot_minutes, day


def _checked(x: Floats) -> Floats:
    wrong = x < 0.0
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"volume cannot be negative, row {row} is {x[row]}")
    return x


def _usual(x: Floats, window: int) -> Floats:
    before = np.full(x.size, np.nan)
    before[1:] = moving_median(x, window)[:-1]
    return before


def _over(x: Floats, usual: Floats) -> Floats:
    result = np.full(x.size, np.nan)
    np.divide(x, usual, out=result, where=usual > 0.0)
    return result


@njit(cache=True)
def _slot_medians(
    values: Floats, slots: NDArray[np.int64], count: int, days: int, minimum: int, longest: int
) -> Floats:
    """Median of the last ``days`` known values of the same slot, none of them ``longest`` bars back or more."""
    result = np.full(values.size, np.nan)
    kept = np.empty((count, days))
    rows = np.empty((count, days), dtype=np.int64)
    seen = np.zeros(count, dtype=np.int64)
    ordered = np.empty(days)
    for i in range(values.size):
        slot = slots[i]
        filled = 0
        for k in range(min(seen[slot], days)):
            if i - rows[slot, k] < longest:
                value = kept[slot, k]
                place = filled
                while place > 0 and ordered[place - 1] > value:
                    ordered[place] = ordered[place - 1]
                    place -= 1
                ordered[place] = value
                filled += 1
        if filled >= minimum:
            result[i] = median(ordered, filled)
        if not np.isnan(values[i]):
            spot = seen[slot] % days
            kept[slot, spot] = values[i]
            rows[slot, spot] = i
            seen[slot] += 1
    return result


@njit(cache=True)
def _day_so_far(
    values: Floats,
    slots: NDArray[np.int64],
    day: NDArray[np.int64],
    count: int,
    days: int,
    minimum: int,
    longest: int,
) -> Floats:
    """Sum of the day so far over the median of the same sums of the ``days`` days before."""
    result = np.full(values.size, np.nan)
    sums = np.zeros((days, count))  # by remembered day: the volume up to and including each slot
    lasts = np.zeros(days, dtype=np.int64)  # its last slot with a bar
    firsts = np.zeros(days, dtype=np.int64)  # the row of its first bar
    known = np.zeros(days, dtype=np.bool_)
    ordered = np.empty(days)
    finished, start, total = 0, 0, 0.0
    today = np.zeros(count)
    for i in range(values.size):
        if i > 0 and day[i] != day[i - 1]:
            spot = finished % days
            sums[spot] = today
            lasts[spot] = slots[i - 1]
            firsts[spot] = start
            known[spot] = not np.isnan(total)
            finished += 1
            start, total = i, 0.0
        total += values[i]
        first = slots[i - 1] + 1 if i > start else 0
        for slot in range(first, slots[i] + 1):
            today[slot] = today[slot - 1] if slot > 0 and i > start else 0.0
        today[slots[i]] = total
        filled = 0
        for k in range(min(finished, days)):
            # A day whose bar before is out of reach may have begun before its first bar here.
            if not known[k] or lasts[k] < slots[i] or i - firsts[k] >= longest - 1:
                continue
            value = sums[k, slots[i]]
            place = filled
            while place > 0 and ordered[place - 1] > value:
                ordered[place] = ordered[place - 1]
                place -= 1
            ordered[place] = value
            filled += 1
        if filled >= minimum and i - start < longest - 1:
            usual = median(ordered, filled)
            if usual > 0.0:
                result[i] = total / usual
    return result
