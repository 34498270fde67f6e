"""Timeframes: the length of a bar, its grid, its close and the lake partition that fits it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd

from tapeline.core.errors import ConfigurationError

Period = Literal["year", "month", "day"]

_UNIT_NANOSECONDS: Final = {
    "S": 1_000_000_000,
    "M": 60_000_000_000,
    "H": 3_600_000_000_000,
    "D": 86_400_000_000_000,
    "W": 604_800_000_000_000,
}
_COUNTS: Final = {
    "S": (1, 5, 10, 15, 30),
    "M": (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30),
    "H": (1, 2, 3, 4, 6, 8, 12),
    "D": (1,),
    "W": (1,),
}
_NAME: Final = re.compile(r"([SMHDW])(\d{1,2})")
_EXCHANGE_NAME: Final = re.compile(r"(\d{1,2})([smhdw])")
_MONDAY_NANOSECONDS: Final = 4 * _UNIT_NANOSECONDS["D"]  # 1970-01-05 was the epoch's first Monday


TICK_NAME: Final = "tick"


@dataclass(frozen=True, order=True)
class Timeframe:
    """A fixed bar length, aligned to the UTC grid (weeks to Monday 00:00), or ``tick``: no bars at all.

    Ordered by length. The canonical name is the one MetaTrader uses (``M1``, ``H4``, ``D1``); the spelling of the
    exchanges (``1m``, ``4h``, ``1d``) is understood on input. Lower-case ``m`` in that spelling means minutes.
    ``tick`` is where the lake keeps ticks, trades and books, which have no length: ``is_tick`` and ``period`` are all
    that can be asked of it, everything that needs a bar length raises ConfigurationError.

    Parameters
    ----------
    length:
        The bar's length in nanoseconds, 0 for ``tick``; read it as ``nanoseconds``, which refuses ``tick``.
    name:
        The canonical name.

    Examples
    --------
    >>> Timeframe.parse("1h"), Timeframe.parse("H1").seconds
    (Timeframe('H1'), 3600)
    >>> Timeframe.parse("H1").close(pd.Timestamp("2017-01-02 09:00", tz="UTC"))
    Timestamp('2017-01-02 10:00:00+0000', tz='UTC')
    >>> Timeframe.parse("tick").seconds
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: 'tick' has no bar length (a timeframe of bars is needed here, such as M1)
    """

    length: int
    name: str

    @classmethod
    def parse(cls, text: str | Timeframe) -> Timeframe:
        """Read ``H1``, ``1h`` or ``tick``; raise ConfigurationError for anything that is not a supported length."""
        if isinstance(text, Timeframe):
            return text
        if text == TICK_NAME:
            return cls(0, TICK_NAME)
        found = _NAME.fullmatch(text)
        if found:
            unit, count = found[1], int(found[2])
        else:
            found = _EXCHANGE_NAME.fullmatch(text)
            if not found:
                raise _unknown(text)
            unit, count = found[2].upper(), int(found[1])
        if count not in _COUNTS[unit]:
            raise _unknown(text)
        return cls(count * _UNIT_NANOSECONDS[unit], f"{unit}{count}")

    @property
    def is_tick(self) -> bool:
        """True for the timeframe of ticks, trades and books, which has no bars."""
        return self.length == 0

    @property
    def nanoseconds(self) -> int:
        """The bar's length in nanoseconds."""
        if self.is_tick:
            raise ConfigurationError(
                f"'{self.name}' has no bar length", hint="a timeframe of bars is needed here, such as M1"
            )
        return self.length

    @property
    def duration(self) -> pd.Timedelta:
        """The bar's length."""
        return pd.Timedelta(self.nanoseconds, unit="ns")

    @property
    def seconds(self) -> int:
        """The bar's length in whole seconds."""
        return self.nanoseconds // 1_000_000_000

    @property
    def exchange_name(self) -> str:
        """The spelling that ccxt and the exchanges use, such as ``1h``."""
        if self.is_tick:
            raise ConfigurationError(f"'{self.name}' is no exchange's timeframe", hint="ask for bars, such as M1")
        return f"{self.name[1:]}{self.name[0].lower()}"

    @property
    def period(self) -> Period:
        """The lake partition: a year for hourly bars and longer, a month for minutes, a day for seconds and ticks."""
        if self.length >= _UNIT_NANOSECONDS["H"]:
            return "year"
        return "month" if self.length >= _UNIT_NANOSECONDS["M"] else "day"

    def close(self, ts: pd.Timestamp) -> pd.Timestamp:
        """The instant at which the bar that opened at ``ts`` is complete, hence known."""
        return ts + self.duration

    def closes(self, index: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The close of every bar of an index of open times."""
        return pd.DatetimeIndex(index + self.duration, name="close_ts")

    def floor(self, index: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The open time of the bar of this timeframe in which each instant lies."""
        stamps = index.as_unit("ns").asi8
        offset = _MONDAY_NANOSECONDS if self.name[0] == "W" else 0
        floored = (stamps - offset) // self.nanoseconds * self.nanoseconds + offset
        return pd.DatetimeIndex(pd.to_datetime(floored, unit="ns", utc=True), name=index.name)

    def is_on_grid(self, index: pd.DatetimeIndex) -> pd.Series:
        """True where an open time lies on this timeframe's grid."""
        return pd.Series(self.floor(index) == index, index=index)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Timeframe({self.name!r})"


def supported() -> list[Timeframe]:
    """Every length of bars that can be named, shortest first."""
    return sorted(Timeframe.parse(f"{unit}{count}") for unit, counts in _COUNTS.items() for count in counts)


def _unknown(text: str) -> ConfigurationError:
    names = ", ".join(f"{u}{c}" for u, counts in _COUNTS.items() for c in counts)
    return ConfigurationError(f"timeframe {text!r} is unknown", hint=f"use one of {names}, or the spelling 1m, 4h, 1d")
