"""What a person asks for, from a command line, a form or a schedule, parsed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe


@dataclass(frozen=True)
class Request:
    """Symbols, one timeframe and a half-open UTC range [start, end) of open times; None leaves that side open."""

    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    start: pd.Timestamp | None
    end: pd.Timestamp | None


def parse_request(symbols: Sequence[str], timeframe: str, start: str | None = None, end: str | None = None) -> Request:
    """Parse and check what was asked for.

    Raises
    ------
    ConfigurationError
        No symbol, a symbol twice or one that is not a valid name, a timeframe that is unknown or has no bars, a time
        that does not parse, or an empty range.

    Examples
    --------
    >>> parse_request(["EURUSD"], "1h", "2017-03-01").start
    Timestamp('2017-03-01 00:00:00+0000', tz='UTC')
    """
    if not symbols:
        raise ConfigurationError("no symbol was asked for", hint="for instance EURUSD")
    names = tuple(Symbol.parse(symbol) for symbol in symbols)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"symbols {', '.join(twice)} were asked for twice", hint="name each once")
    first, last = parse_instant(start, "start"), parse_instant(end, "end")
    if first is not None and last is not None and first >= last:
        raise ConfigurationError(f"start {first} is not before end {last}", hint="end is exclusive and must lie later")
    bars = Timeframe.parse(timeframe)
    _ = bars.nanoseconds  # refuses 'tick' here, where it was typed
    return Request(names, bars, first, last)


def parse_instant(text: str | None, what: str) -> pd.Timestamp | None:
    """Read a UTC instant such as ``2017-03-01`` or ``2017-03-01T12:00``; a time with an offset is converted.

    ``what`` names the argument in the error.
    """
    if text is None:
        return None
    try:
        instant = pd.Timestamp(text)
        instant = instant.tz_localize("UTC") if instant.tzinfo is None else instant.tz_convert("UTC")
        return instant.as_unit("ns")
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(f"{what} {text!r} is not a time", hint="for instance 2017-03-01") from error
