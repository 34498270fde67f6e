"""Pivot lines: the levels that follow from a completed day, week or month, and the bars they hold at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.core.errors import ConfigurationError

Method = Literal["classic", "fibonacci", "camarilla", "woodie", "demark"]
Span = Literal["day", "week", "month"]
Minute = Annotated[int, Field(ge=0, le=1439)]
"""The minute of the local day at which a day begins; weeks begin on that minute of Monday, months of the first."""

LEVELS: Final = ("s4", "s3", "s2", "s1", "pivot", "r1", "r2", "r3", "r4")

_MINUTE: Final = 60_000_000_000
_DAY_MINUTES: Final = 1440
_FIBONACCI: Final = (0.382, 0.618, 1.0)
_CAMARILLA: Final = (1.1 / 12.0, 1.1 / 6.0, 1.1 / 4.0, 1.1 / 2.0)


def pivot_levels(
    high: Floats | float, low: Floats | float, close: Floats | float, opened: Floats | float, method: Method = "classic"
) -> Mapping[str, Floats]:
    """The levels that follow from a completed period, by name: ``pivot``, ``r1`` upwards and ``s1`` downwards.

    ========== ==================================== ==========================================================
    method     pivot P                              levels (H high, L low, C close, R = H - L)
    ========== ==================================== ==========================================================
    classic    (H + L + C) / 3                      r1, s1 = 2P - L, 2P - H; r2, s2 = P +- R;
                                                    r3, s3 = H + 2(P - L), L - 2(H - P)
    fibonacci  (H + L + C) / 3                      P +- 0.382 R, 0.618 R, R
    camarilla  C                                    C +- 1.1 R / 12, 1.1 R / 6, 1.1 R / 4, 1.1 R / 2
    woodie     (H + L + 2 O) / 4                    as classic, with this P
    demark     X / 4                                r1, s1 = X / 2 - L, X / 2 - H; X = H + 2L + C where C < O,
                                                    2H + L + C where C > O, else H + L + 2C
    ========== ==================================== ==========================================================

    Sources: Person, A Complete Guide to Technical Trading Tactics (2004), chapter 6, for the classic ones; Stott's
    Camarilla equation (1989); Woodie's with the open of the new session; DeMark, New Market Timing Techniques (1997).

    Parameters
    ----------
    high, low, close:
        Of the completed period.
    opened:
        ``demark``: the open of that period. ``woodie``: the open of the period that is traded now. Else unused.

    Raises
    ------
    ConfigurationError
        The method is unknown.

    Examples
    --------
    >>> {name: round(float(price), 2) for name, price in pivot_levels(12.0, 8.0, 10.0, 9.0).items()}
    {'pivot': 10.0, 'r1': 12.0, 's1': 8.0, 'r2': 14.0, 's2': 6.0, 'r3': 16.0, 's3': 4.0}
    >>> float(pivot_levels(12.0, 8.0, 10.0, 9.0, "demark")["pivot"])
    10.5
    """
    top, bottom, last, first = (np.asarray(value, dtype=np.float64) for value in (high, low, close, opened))
    reach = top - bottom
    if method in ("fibonacci", "camarilla"):
        pivot = last if method == "camarilla" else (top + bottom + last) / 3.0
        levels = {"pivot": pivot}
        for i, share in enumerate(_CAMARILLA if method == "camarilla" else _FIBONACCI, start=1):
            levels[f"r{i}"], levels[f"s{i}"] = pivot + share * reach, pivot - share * reach
        return levels
    if method == "demark":
        fell, rose = top + 2.0 * bottom + last, 2.0 * top + bottom + last
        doubled = np.where(last < first, fell, np.where(last > first, rose, top + bottom + 2.0 * last))
        return {"pivot": doubled / 4.0, "r1": doubled / 2.0 - bottom, "s1": doubled / 2.0 - top}
    if method not in ("classic", "woodie"):
        raise ConfigurationError(
            f"pivot method '{method}' is unknown", hint="classic, fibonacci, camarilla, woodie or demark"
        )
    pivot = (top + bottom + 2.0 * first) / 4.0 if method == "woodie" else (top + bottom + last) / 3.0
    return {
        "pivot": pivot,
        "r1": 2.0 * pivot - bottom,
        "s1": 2.0 * pivot - top,
        "r2": pivot + reach,
        "s2": pivot - reach,
        "r3": top + 2.0 * (pivot - bottom),
        "s3": bottom - 2.0 * (top - pivot),
    }


def period_numbers(index: pd.DatetimeIndex, span: Span = "day", zone: str = "UTC", start_minute: int = 0) -> Rows:
    """The number of the day, week or month in which each bar opens; it never falls.

    Days begin at ``start_minute`` of the clock in ``zone``, in summer and winter time; the forex day is
    ``zone="America/New_York", start_minute=17 * 60``: what opens on Sunday at 17:00 there is Monday's. A bar belongs
    to the period in which it opens.

    Raises
    ------
    ConfigurationError
        The zone or the span is unknown, or the minute is not one of a day.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-08 21:59", "2017-01-08 22:00"], tz="UTC")
    >>> (period_numbers(ts, "day", "America/New_York", 17 * 60) - 17_174).tolist()
    [0, 1]
    """
    if span not in ("day", "week", "month"):
        raise ConfigurationError(f"span '{span}' is unknown", hint="day, week or month")
    if not 0 <= start_minute < _DAY_MINUTES:
        raise ConfigurationError(f"start_minute = {start_minute} is refused", hint="0 to 1439")
    if zone != "UTC":
        try:
            index = index.tz_convert(ZoneInfo(zone)).tz_localize(None)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"time zone {zone!r} is unknown", hint="a name of the IANA database, such as America/New_York"
            ) from None
    return _numbers(index.as_unit("ns").asi8, span, start_minute)


def bar_periods(arrays: BarArrays, span: Span, zone: str, start_minute: int) -> Rows:
    """The number of the period in which each bar opens, as :func:`period_numbers` counts."""
    if zone == "UTC" and span in ("day", "week", "month") and 0 <= start_minute < _DAY_MINUTES:
        return _numbers(arrays.opened, span, start_minute)
    return period_numbers(pd.DatetimeIndex(arrays.opened.view("M8[ns]"), tz="UTC"), span, zone, start_minute)


def new_period(arrays: BarArrays, span: Span, zone: str, start_minute: int) -> bool:
    """Whether the last bar is the first of its period."""
    numbers = arrays.once(_last_periods, span, zone, start_minute)
    return numbers.size < 2 or bool(numbers[-1] != numbers[-2])


def _last_periods(arrays: BarArrays, span: Span, zone: str, start_minute: int) -> Rows:
    return bar_periods(arrays.tail(2), span, zone, start_minute)


def _numbers(local: Rows, span: Span, start_minute: int) -> Rows:
    minutes = local // _MINUTE
    days = (minutes + (_DAY_MINUTES - start_minute) % _DAY_MINUTES) // _DAY_MINUTES
    if span == "week":
        # Day 0 is a Thursday.
        days = (days + 3) // 7
    elif span == "month":
        days = days.astype("M8[D]").astype("M8[M]").astype(np.int64)
    # When clocks go back at the very hour a day begins, its first hour comes twice.
    return np.maximum.accumulate(days) if days.size else days


@njit(cache=True, nogil=True)
def _periods(opened: Any, high: Any, low: Any, close: Any, numbers: Any, first: Any, prices: Any, which: Any) -> Any:
    count = 0
    for t in range(numbers.size):
        if t == 0 or numbers[t] != numbers[t - 1]:
            first[count] = t
            prices[count, 0] = prices[count, 1] = prices[count, 2] = prices[count, 3] = np.nan
            count += 1
        i = count - 1
        which[t] = i
        if np.isnan(prices[i, 0]):
            prices[i, 0] = opened[t]
        if not prices[i, 1] >= high[t] and not np.isnan(high[t]):
            prices[i, 1] = high[t]
        if not prices[i, 2] <= low[t] and not np.isnan(low[t]):
            prices[i, 2] = low[t]
        if not np.isnan(close[t]):
            prices[i, 3] = close[t]
    return count


@dataclass(frozen=True)
class PivotLines:
    """The levels of every period of some bars.

    ``first`` is the row at which each period begins and ``prices`` its levels, of shape (periods, 9) in the order of
    ``LEVELS``, NaN where a method has none, or the period before is not whole or has no range; ``which`` is the period
    of each bar.
    """

    first: Rows
    prices: Floats
    which: Rows

    def known(self, longest: int) -> NDArray[np.bool_]:
        """Whether the period before each bar's own is there whole and began less than ``longest`` bars ago."""
        before = np.maximum(self.which - 1, 0)
        return (self.which >= 2) & (np.arange(self.which.size) - self.first[before] < longest)


def find_pivot_lines(
    bars: pd.DataFrame | BarArrays,
    method: Method = "classic",
    span: Span = "day",
    zone: str = "UTC",
    start_minute: int = 0,
) -> PivotLines:
    """The levels that hold in each period: those of the last period before it that had bars.

    They hold from the first bar that opens in the new period, however many bars are missing around the border, and
    to its last. The first period of the bars may have begun before them: the second has no levels.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> lines = find_pivot_lines(example_bars(10, 10, 12, 11, start="2017-01-02", hours=24))
    >>> lines.prices[:, 4].round(2).tolist()
    [nan, nan, 10.0, 11.33]
    """
    arrays = BarArrays.of(bars)
    numbers = arrays.once(bar_periods, span, zone, start_minute)
    rows = len(arrays)
    first, which, prices = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty((rows, 4))
    count = _periods(arrays.open, arrays.high, arrays.low, arrays.close, numbers, first, prices, which)
    opened, high, low, close = prices[:count].T
    lines = np.full((count, len(LEVELS)), np.nan)
    if count > 2:
        base = opened[2:] if method == "woodie" else opened[1:-1]
        for name, values in pivot_levels(high[1:-1], low[1:-1], close[1:-1], base, method).items():
            # A period without a range has no levels: all of them would be one price.
            lines[2:, LEVELS.index(name)] = np.where(high[1:-1] > low[1:-1], values, np.nan)
    else:
        pivot_levels(1.0, 1.0, 1.0, 1.0, method)
    return PivotLines(first[:count].copy(), lines, which)


def pivot_table(
    bars: pd.DataFrame | BarArrays,
    method: Method = "classic",
    span: Span = "day",
    zone: str = "UTC",
    start_minute: int = 0,
) -> pd.DataFrame:
    """The prices of the levels that hold at each bar, for charts: the columns are those of ``LEVELS``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> pivot_table(example_bars(10, 10, 12, start="2017-01-02", hours=24)).iloc[2].dropna().to_dict()
    {'s3': 7.0, 's2': 8.0, 's1': 9.0, 'pivot': 10.0, 'r1': 11.0, 'r2': 12.0, 'r3': 13.0}
    """
    arrays = BarArrays.of(bars)
    lines = find_pivot_lines(arrays, method, span, zone, start_minute)
    return pd.DataFrame(lines.prices[lines.which], columns=list(LEVELS), index=arrays.bars.index)
