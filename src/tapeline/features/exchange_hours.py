"""Exchange hours: when an exchange is open, by its own calendar, with its holidays, half days and summer times.

The calendars are those of ``exchange_calendars``. They also know closures that were announced at short notice; at the
bar in question each of those was known.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.features.arrays import Count, Floats, columns, frame, ratio
from tapeline.features.kernels import extremes_of_period
from tapeline.features.session_kernels import first_of_period

Instants = NDArray[np.int64]
MINUTE_NANOSECONDS = 60_000_000_000
Exchange = Annotated[str, Field(pattern=r"^[A-Za-z0-9/_]{2,20}$")]
"""A calendar of exchange_calendars by its code, such as XNYS, XLON, XTKS, CMES."""


@feature(
    lookback=1,
    outputs=("{exchange}_open", "{exchange}_minutes_from_open", "{exchange}_minutes_to_close", "{exchange}_holiday"),
    reference="Harris, Journal of Financial Economics 16 (1986): prices within the trading day",
)
def exchange_clock(bars: pd.DataFrame, exchange: Exchange = "XNYS") -> pd.DataFrame:
    """Where the bar's open stands in the exchange's session, and whether the exchange keeps a holiday that day.

    Returns
    -------
    ``_open``: 1 while the exchange trades (not in its lunch break), else 0. ``_minutes_from_open`` and
    ``_minutes_to_close``: minutes since this session's opening and until its closing, NaN while it is closed.
    ``_holiday``: 1 on a day (UTC, Monday to Friday) without a session, else 0. All NaN beyond the years that the
    calendar knows.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> exchange_clock(example_bars(10, 10, start="2017-01-03 14:00")).values.tolist()
    [[0.0, nan, nan, 0.0], [1.0, 30.0, 360.0, 0.0]]
    """
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    starts, ends, pauses, resumes, known = _sessions(exchange, opens)
    session = np.searchsorted(starts, opens, side="right") - 1
    place = np.maximum(session, 0)
    inside = (session >= 0) & known
    if starts.size:
        inside &= (opens < ends[place]) & ~((opens >= pauses[place]) & (opens < resumes[place]))
        since, until = (opens - starts[place]) / MINUTE_NANOSECONDS, (ends[place] - opens) / MINUTE_NANOSECONDS
    else:
        since = until = np.full(opens.size, np.nan)
    day = opens // (1440 * MINUTE_NANOSECONDS)
    trading = np.isin(day, np.concatenate((starts, ends - 1)) // (1440 * MINUTE_NANOSECONDS))
    holiday = ((day + 3) % 7 < 5) & ~trading
    return frame(
        bars,
        **{
            f"{exchange}_open": np.where(known, inside, np.nan),
            f"{exchange}_minutes_from_open": np.where(inside, since, np.nan),
            f"{exchange}_minutes_to_close": np.where(inside, until, np.nan),
            f"{exchange}_holiday": np.where(known, holiday, np.nan),
        },
    )


@feature(
    lookback=lambda longest: longest,
    outputs=("{exchange}_from_open", "{exchange}_range", "{exchange}_position"),
    reference="Crabel, Day Trading with Short Term Price Patterns (1990): the opening range and the day so far",
)
def exchange_session(bars: pd.DataFrame, exchange: Exchange = "XNYS", longest: Count = 480) -> pd.DataFrame:
    """The exchange's session so far: distance from its open, its range, and the close's place in it.

    The session's open is that of its first bar, its high and low those of its bars up to this one, of at most
    ``longest`` of the newest; NaN while the exchange is closed.

    Returns
    -------
    ``_from_open``: the close over the session's open, in percent. ``_range``: high less low so far in percent of the
    close. ``_position``: 0 at the low so far, 1 at the high, NaN where there is no range.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> exchange_session(example_bars(10, 10, 11, start="2017-01-03 14:00")).round(2).values.tolist()
    [[nan, nan, nan], [0.0, 20.0, 0.5], [10.0, 27.27, 0.67]]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    starts, ends, _, _, known = _sessions(exchange, opens)
    session = np.searchsorted(starts, opens, side="right") - 1
    inside = (session >= 0) & known
    if starts.size:
        inside &= opens < ends[np.maximum(session, 0)]
    return frame(bars, **_so_far(exchange, opened, high, low, close, session, inside, longest))


def _so_far(
    name: str,
    opened: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    session: Instants,
    inside: NDArray[np.bool_],
    longest: int,
) -> dict[str, Floats]:
    """Open, range and place of the period so far, where ``inside`` is true."""
    # Bars outside get a period of their own, so that a session starts with its own first bar.
    periods = np.where(inside, 2 * session + 1, 2 * session).astype(np.int64)
    first = first_of_period(opened, periods, longest)
    highest, lowest = extremes_of_period(high, low, periods, longest)
    return {
        f"{name}_from_open": np.where(inside, 100.0 * (close / first - 1.0), np.nan),
        f"{name}_range": np.where(inside, 100.0 * (highest - lowest) / close, np.nan),
        f"{name}_position": np.where(inside, ratio(close - lowest, highest - lowest), np.nan),
    }


def _sessions(exchange: str, opens: Instants) -> tuple[Instants, Instants, Instants, Instants, NDArray[np.bool_]]:
    """Starts, ends, lunch breaks (empty ones lie at the end) and which of the opens the calendar covers."""
    if not opens.size:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, nothing, nothing, np.empty(0, dtype=np.bool_)
    years = pd.DatetimeIndex(opens[[0, -1]], tz="UTC").year
    first, last, starts, ends, pauses, resumes = _schedule(exchange, int(years[0]), int(years[1]))
    return starts, ends, pauses, resumes, (opens >= first) & (opens < last)


@lru_cache(maxsize=16)
def _schedule(exchange: str, first: int, last: int) -> tuple[int, int, Instants, Instants, Instants, Instants]:
    """The sessions of these years and a little around them, and the bounds within which they are known."""
    import exchange_calendars

    try:
        kind = type(exchange_calendars.get_calendar(exchange))
    except exchange_calendars.errors.InvalidCalendarName:
        raise ConfigurationError(
            f"no exchange calendar is called '{exchange}'", hint="use a market identifier such as XNYS, XLON or XTKS"
        ) from None
    low, high = kind.bound_min(), kind.bound_max()
    start, end = pd.Timestamp(first - 1, 12, 1), pd.Timestamp(last + 1, 2, 1)
    start = start if low is None else max(start, low)
    end = end if high is None else min(end, high)
    nothing = np.empty(0, dtype=np.int64)
    if start >= end:
        return 0, 0, nothing, nothing, nothing, nothing
    schedule = exchange_calendars.get_calendar(exchange, start=start, end=end).schedule
    opens, closes = _nanoseconds(schedule["open"]), _nanoseconds(schedule["close"])
    lunch = schedule["break_start"].notna().to_numpy()
    pauses, resumes = closes.copy(), closes.copy()
    pauses[lunch] = _nanoseconds(schedule["break_start"][lunch])
    resumes[lunch] = _nanoseconds(schedule["break_end"][lunch])
    bounds = start.as_unit("ns").value, (end + pd.Timedelta(days=1)).as_unit("ns").value
    return *bounds, opens, closes, pauses, resumes


def _nanoseconds(column: pd.Series) -> Instants:
    return np.ascontiguousarray(pd.DatetimeIndex(column).tz_convert("UTC").as_unit("ns").asi8)
