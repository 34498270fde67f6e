"""How many periods a year has: given, or measured from their times, and always said."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

Calendar = Literal["measured", "crypto", "stocks"]

YEAR: Final = 365.2425 * 86_400e9
SESSIONS: Final = 252
SHORT_SPAN: Final = 0.25
"""Below this share of a year an annual figure is mostly extrapolation, and the basis says so."""


class AnnualPeriods(NamedTuple):
    """How many periods a year has, and how that is known.

    Attributes
    ----------
    per_year:
        Periods a year.
    basis:
        One sentence for the reader of a report.
    """

    per_year: float
    basis: str


def annual_periods(index: pd.DatetimeIndex, calendar: Calendar | float = "measured") -> AnnualPeriods:
    """How many periods of this index a year has.

    Parameters
    ----------
    index:
        Times of the periods, increasing.
    calendar:
        A number: that many. ``measured``: as many as the index shows for its span, closed hours and gaps left out as
        they were. ``crypto``: a market that never closes, 365 days of as many periods as the median step gives.
        ``stocks``: 252 sessions of the median number of periods that a day of the index has.

    Raises
    ------
    ConfigurationError
        The number is not above 0, or the calendar is unknown.
    DataError
        Fewer than two times, or they do not increase.

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01", periods=48, freq="1h", tz="UTC")
    >>> annual_periods(hours, "crypto")
    AnnualPeriods(per_year=8760.0, basis='365 days of 24 periods, a market that never closes')
    >>> annual_periods(hours).basis
    'measured: 48 periods in 2.0 days, too short a span to say much of a year'
    """
    if isinstance(calendar, int | float) and not isinstance(calendar, bool):
        if not 0 < calendar < math.inf:
            raise ConfigurationError(f"periods a year = {calendar} is not above 0", hint="252 for days of a share")
        return AnnualPeriods(float(calendar), "given")
    stamps = index.as_unit("ns").asi8
    if stamps.size < 2 or not (np.diff(stamps) > 0).all():
        raise DataError(f"{stamps.size} times, or some not after the one before, give no length of a period")
    step = float(np.median(np.diff(stamps)))
    if calendar == "crypto":
        daily = 86_400e9 / step
        return AnnualPeriods(365 * daily, f"365 days of {daily:.6g} periods, a market that never closes")
    if calendar == "stocks":
        _, counts = np.unique(stamps // 86_400_000_000_000, return_counts=True)
        daily = float(np.median(counts))
        if step > 1.5 * 86_400e9:
            raise ConfigurationError(
                "the periods are longer than a session", hint="give the number of periods a year: 52 for weeks"
            )
        return AnnualPeriods(SESSIONS * daily, f"{SESSIONS} sessions of {daily:.6g} periods")
    if calendar != "measured":
        raise ConfigurationError(f"calendar '{calendar}' is unknown", hint="use measured, crypto, stocks or a number")
    # The last period has a length too: the median one.
    span = float(stamps[-1] - stamps[0]) + step
    years = span / YEAR
    length = f"{years:.2f} years" if years >= 1 else f"{span / 86_400e9:.1f} days"
    warning = ", too short a span to say much of a year" if years < SHORT_SPAN else ""
    return AnnualPeriods(stamps.size / years, f"measured: {stamps.size:,} periods in {length}{warning}")
