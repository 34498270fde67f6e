"""Market calendars: when a market is open, so that an absent bar can be told from one that was never due.

Exchanges come from the package ``exchange_calendars``, which is imported where it is used. Round-the-clock markets and
foreign exchange have rules of our own, because theirs are a matter of definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError
from tapeline.core.timeframe import Timeframe

Instants = NDArray[np.int64]

ALWAYS: Final = "24x7"
FOREX: Final = "24x5"
_DEALT: Final = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY", "SEK", "NOK", "XAU", "XAG")
_PAIRS: Final = frozenset(one + other for one in _DEALT for other in _DEALT if one != other)
_DAY: Final = 86_400_000_000_000
_NEW_YORK: Final = "America/New_York"
_FOREX_CLOSE: Final = pd.Timedelta(hours=17)
_FOREX_HOLIDAYS: Final = ((1, 1), (12, 25))
_KEPT_CALENDARS: Final = 32


class Sessions(NamedTuple):
    """Spans of trading, ascending and disjoint, as nanoseconds since the epoch.

    Parameters
    ----------
    opens, closes:
        Each span is ``[open, close)``; a lunch break parts a session into two.
    middles:
        The middle of each whole session, breaks included: what decides to which day's bar a session belongs.
    """

    opens: Instants
    closes: Instants
    middles: Instants


@dataclass(frozen=True)
class MarketCalendar:
    """When one market trades. Made by :meth:`parse`.

    ``24x7`` never closes. ``24x5`` is foreign exchange: each trading day runs from 17:00 to 17:00 in New York, from
    Sunday's evening to Friday's, so that its hours in UTC move with New York's daylight saving time and not with
    Europe's; the trading days of 1 January and 25 December are holidays (brokers differ: some quote thinly through
    part of them). Every other name is one of ``exchange_calendars`` (``XNYS``, ``XLON``, ``CMES``).

    Examples
    --------
    >>> forex = MarketCalendar.parse("24x5")
    >>> friday, sunday = pd.Timestamp("2017-03-10 22:00", tz="UTC"), pd.Timestamp("2017-03-12 21:00", tz="UTC")
    >>> forex.is_open(friday - pd.Timedelta(1)), forex.is_open(friday), forex.is_open(sunday)
    (True, False, True)
    """

    name: str

    @classmethod
    def parse(cls, name: str) -> MarketCalendar:
        """A calendar by name; ConfigurationError where there is none of that name."""
        if name in (ALWAYS, FOREX):
            return cls(name)
        if not isinstance(name, str) or name not in _exchange_names():
            raise ConfigurationError(
                f"market calendar {name!r} is unknown",
                hint=f"use {ALWAYS}, {FOREX} or an exchange's code such as XNYS, XLON, CMES",
            )
        return cls(name)

    def sessions(self, start: pd.Timestamp, end: pd.Timestamp) -> Sessions:
        """Every span of trading that touches ``[start, end)``, whole, and perhaps some more on both sides.

        Raises
        ------
        ConfigurationError
            A bound has no time zone, or the exchange's calendar does not reach so far.
        """
        if start.tz is None or end.tz is None:
            raise ConfigurationError(f"bounds {start} and {end} need time zones", hint="tz='UTC'")
        # Whole years, so that a feed that asks every minute finds the answer already there.
        first, last = (start.tz_convert("UTC") - pd.Timedelta(days=8)), (end.tz_convert("UTC") + pd.Timedelta(days=8))
        return _sessions(self.name, first.year, last.year)

    def is_open(self, instant: pd.Timestamp) -> bool:
        """True where the market trades at this instant; it does at its open and no longer at its close."""
        return bool(self.open_time(_array(instant), _array(instant + pd.Timedelta(1)))[0])

    def open_time(self, starts: Instants, ends: Instants) -> Instants:
        """How many nanoseconds of trading lie in each ``[start, end)``, instants as nanoseconds since the epoch."""
        if not len(starts):
            return np.zeros(0, dtype=np.int64)
        held = self._covering(starts, ends)
        return _open_before(held, ends) - _open_before(held, starts)

    def due_bars(self, starts: Instants, ends: Instants, timeframe: Timeframe | str) -> Instants:
        """How many bars were due in each ``[start, end)``, counted in steps of the timeframe from ``start``.

        Below a day a step is due where it touches a span of trading. From a day on it is due where it holds the
        middle of a session: the two hours of a Sunday's evening are no bar of their own.

        Examples
        --------
        >>> day = np.array([pd.Timestamp("2017-07-03", tz="UTC").value])
        >>> MarketCalendar.parse("XNYS").due_bars(day, day + 86_400_000_000_000, "H1").tolist()  # closes at 17:00 UTC
        [4]
        """
        step = Timeframe.parse(timeframe).nanoseconds
        if not len(starts):
            return np.zeros(0, dtype=np.int64)
        held = self._covering(starts, ends)
        opens, closes = (held.opens, held.closes) if step < _DAY else (held.middles, held.middles + 1)
        return _due(np.asarray(starts), np.asarray(ends), opens, closes, step)

    def _covering(self, starts: Instants, ends: Instants) -> Sessions:
        return self.sessions(pd.Timestamp(int(np.min(starts)), tz="UTC"), pd.Timestamp(int(np.max(ends)), tz="UTC"))


def choose_calendar(
    symbol: str, source: str | None = None, *, default: str, symbols: Mapping[str, str], sources: Mapping[str, str]
) -> MarketCalendar:
    """The calendar of an instrument: by its symbol, else by its source, else that of currency pairs, else the default.

    Two of the currencies that dealers quote against each other around the clock, such as ``EURUSD`` or ``XAUUSD``, are
    ``24x5`` unless a rule says otherwise. A pair on an exchange (``EUR/USD``) is not: exchanges of coins never close.

    Parameters
    ----------
    symbol, source:
        The instrument and where its bars come from, as the lake names them.
    default:
        The calendar where nothing else is said. Nothing more is guessed: a wrong calendar would hide real gaps.
    symbols, sources:
        Calendars by pattern (``BTC*``, ``ccxt:*``; ``*`` and ``?`` as in file names); the first match counts, an exact
        name before any pattern.

    Examples
    --------
    >>> rules = {"symbols": {"AAPL": "XNYS", "BTC*": "24x7"}, "sources": {"ccxt*": "24x7", "metatrader": "24x5"}}
    >>> choose_calendar("AAPL", "yahoo", default="24x7", **rules).name
    'XNYS'
    >>> choose_calendar("XTIUSD", "metatrader", default="24x7", **rules).name
    '24x5'
    >>> choose_calendar("EURUSD", "sample", default="24x7", **rules).name
    '24x5'
    """
    named = _match(symbol, symbols) or (source and _match(source, sources))
    return MarketCalendar.parse(named or (FOREX if symbol in _PAIRS else default))


def _match(text: str, rules: Mapping[str, str]) -> str | None:
    if text in rules:
        return rules[text]
    return next((name for pattern, name in rules.items() if fnmatchcase(text, pattern)), None)


def missing_before(
    stamps: Instants, timeframe: Timeframe | str, calendar: MarketCalendar, *, newest: int | None = None
) -> Instants:
    """How many due bars are absent just before each bar of a feed; 0 for a bar that is no newer than one before it.

    Parameters
    ----------
    stamps:
        Open times in the order of arrival, ns.
    newest:
        The newest open time before the first of them; None at the start of a feed.
    """
    step = Timeframe.parse(timeframe).nanoseconds
    out = np.zeros(len(stamps), dtype=np.int64)
    if not len(stamps):
        return out
    before = np.maximum.accumulate(np.r_[stamps[0] if newest is None else newest, stamps])[:-1]
    holes = np.flatnonzero(stamps > before + step)
    out[holes] = calendar.due_bars(before[holes] + step, stamps[holes], timeframe)
    return out


def _array(instant: pd.Timestamp) -> Instants:
    return np.array([instant.as_unit("ns").value], dtype=np.int64)


def _open_before(held: Sessions, instants: Instants) -> Instants:
    """Nanoseconds of trading before each instant, from the first span on."""
    total = np.r_[0, np.cumsum(held.closes - held.opens)]
    last = np.searchsorted(held.opens, instants, side="right")
    current = np.maximum(last - 1, 0)
    part = np.minimum(instants, held.closes[current]) - held.opens[current]
    return np.where(last > 0, total[current] + part, 0)


@njit(cache=True)
def _due(starts: np.ndarray, ends: np.ndarray, opens: np.ndarray, closes: np.ndarray, step: int) -> np.ndarray:
    out = np.zeros(starts.size, dtype=np.int64)
    for i in range(starts.size):
        start, end = starts[i], ends[i]
        last = -1
        k = np.searchsorted(closes, start, side="right")
        while k < opens.size and opens[k] < end:
            first = max((max(opens[k], start) - start) // step, last + 1)
            final = (min(closes[k], end) - 1 - start) // step
            if final >= first:
                out[i] += final - first + 1
                last = final
            k += 1
    return out


@lru_cache(maxsize=_KEPT_CALENDARS)
def _sessions(name: str, first_year: int, last_year: int) -> Sessions:
    first, last = pd.Timestamp(first_year, 1, 1), pd.Timestamp(last_year, 12, 31)
    if name == ALWAYS:
        opens = pd.date_range(first, last + pd.Timedelta(days=1), freq="D", tz="UTC").as_unit("ns").asi8
        return Sessions(opens[:-1], opens[1:], opens[:-1] + _DAY // 2)
    if name == FOREX:
        return _forex(first, last)
    return _exchange(name, first, last)


def _forex(first: pd.Timestamp, last: pd.Timestamp) -> Sessions:
    days = pd.date_range(first, last, freq="D")
    holiday = np.zeros(len(days), dtype=bool)
    for month, day in _FOREX_HOLIDAYS:
        holiday |= (days.month == month) & (days.day == day)
    days = days[(days.day_of_week < 5) & ~holiday]
    # New York never moves its clocks at 17:00, so that each of these instants exists once.
    closes = (days + _FOREX_CLOSE).tz_localize(_NEW_YORK).as_unit("ns").asi8
    opens = (days - pd.Timedelta(days=1) + _FOREX_CLOSE).tz_localize(_NEW_YORK).as_unit("ns").asi8
    return Sessions(opens, closes, opens + (closes - opens) // 2)


def _exchange(name: str, first: pd.Timestamp, last: pd.Timestamp) -> Sessions:
    import exchange_calendars

    kind = type(exchange_calendars.get_calendar(name))
    low, high = kind.bound_min(), kind.bound_max()
    if (low is not None and last < low) or (high is not None and first > high):
        raise ConfigurationError(
            f"the calendar {name} is known from {low} to {high}, asked for {first.date()} to {last.date()}",
            hint="name another calendar for these years",
        )
    schedule = exchange_calendars.get_calendar(
        name, start=first if low is None else max(first, low), end=last if high is None else min(last, high)
    ).schedule
    opens, closes = (_nanoseconds(schedule[column]) for column in ("open", "close"))
    middles = opens + (closes - opens) // 2
    paused = schedule["break_start"].notna().to_numpy()
    if paused.any():
        pauses = [_nanoseconds(schedule[c][paused]) for c in ("break_start", "break_end")]
        opens, closes = np.sort(np.r_[opens, pauses[1]]), np.sort(np.r_[closes, pauses[0]])
    return Sessions(opens, closes, middles)


def _nanoseconds(column: pd.Series) -> Instants:
    return column.dt.tz_convert("UTC").dt.as_unit("ns").astype("int64").to_numpy()


@lru_cache(maxsize=1)
def _exchange_names() -> frozenset[str]:
    import exchange_calendars

    return frozenset(exchange_calendars.get_calendar_names(include_aliases=False))
