"""The one interface of every source of bars: a request in, one of four typed outcomes out.

An outcome says what happened: ``Data`` (bars), ``Empty`` (a valid answer without bars), ``Throttled`` (come back
later), ``Failed`` (an error of a known class). No source answers an error with an empty frame, so "there is nothing"
and "we could not look" stay apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, TapelineError, ThrottledError
from tapeline.core.schemas import OHLCV, TimeOrigin
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe

Clock = Callable[[], pd.Timestamp]
"""Gives the present instant, time-zone-aware. Injected, so that no result depends on when a test runs."""

VolumeKind = Literal["traded", "tick", "none"]
Adjustment = Literal["none", "splits", "splits and dividends"]
SpreadUnit = Literal["points", "unknown"]

REJECTED_COLUMNS: Final = ("row_number", "record", "reasons")
OPTIONAL_COLUMNS: Final = ("spread", "tick_count", "quote_volume", "taker_buy_volume")
INBOX_FOLDER: Final = "_inbox"


def utc_now() -> pd.Timestamp:
    """The wall clock, in UTC: the default clock of the sources that look at a living market."""
    return pd.Timestamp.now(tz="UTC")


@dataclass(frozen=True)
class BarRequest:
    """Which bars are wanted.

    Parameters
    ----------
    symbol, timeframe:
        The instrument as the source spells it, and the length of a bar.
    start, end:
        Bounds on a bar's OPEN time: ``start <= ts < end``, time-zone-aware. ``None`` as start means as far back as one
        answer of the source reaches (a file or the sample: everything); ``None`` as end means up to the last bar that
        is complete.

    Raises
    ------
    ConfigurationError
        A bound without a time zone, or ``start`` not before ``end``.

    Examples
    --------
    >>> bounds = pd.Timestamp("2017-01-02", tz="UTC"), pd.Timestamp("2017-02-01", tz="UTC")
    >>> BarRequest(Symbol.parse("EURUSD"), Timeframe.parse("H1"), *bounds).start
    Timestamp('2017-01-02 00:00:00+0000', tz='UTC')
    """

    symbol: Symbol
    timeframe: Timeframe
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbol", Symbol.parse(self.symbol))
        object.__setattr__(self, "timeframe", Timeframe.parse(self.timeframe))
        for name in ("start", "end"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if not isinstance(bound, pd.Timestamp) or bound is pd.NaT or bound.tzinfo is None:
                raise ConfigurationError(
                    f"{name} {bound!r} must be a pandas Timestamp with a time zone",
                    hint="for instance pd.Timestamp('2017-01-02', tz='UTC')",
                )
            object.__setattr__(self, name, bound.tz_convert("UTC"))
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ConfigurationError(
                f"start {self.start.isoformat()} is not before end {self.end.isoformat()}",
                hint="the range is [start, end) by open time",
            )


@dataclass(frozen=True)
class Data:
    """Bars as the source served them, and the rows it served that could not be read.

    Parameters
    ----------
    bars:
        Index ``ts`` (UTC, ns; the bar's open), float64 ``open high low close volume``, optionally ``spread`` (float64)
        and ``tick_count`` (int64), ``quote_volume`` and ``taker_buy_volume`` (float64; volume in the quote currency,
        and what buyers took). Order, duplicates, NaN, infinities and impossible values are as served: judging
        them is the quality gate's work.
    rejected:
        Rows that are no bar at all, because a time or a number could not be read: ``row_number`` (int64, the row's
        position in the original, from 0, header not counted), ``record`` (the row as JSON, as it came), ``reasons``.
    source_id:
        The short, stable name that the lake stores with each row.
    provenance:
        Where exactly the rows come from, for a person: package and version, file and hash, exchange and market.
    adjustment:
        What has been done to past prices because of later corporate actions.
    volume_kind:
        ``traded`` units or contracts, ``tick`` (price changes counted) or ``none`` (no volume known; the column is 0).
    unfinished:
        How many bars were held back because they had not closed by the clock.
    resume_at:
        Where to start the next request if the source stopped at its own bound before the end of the range.
    spread_unit:
        The unit of ``spread`` where the column is present.
    notes:
        What a reader of the run must know, one sentence each.
    ts_origin:
        Whose clock stamped the bars: the ``exchange``, the ``broker``'s server, a ``provider`` who passes them on;
        None where that is not known, as of a file of anyone's.
    """

    bars: pd.DataFrame
    rejected: pd.DataFrame
    source_id: str
    provenance: str
    adjustment: Adjustment = "none"
    volume_kind: VolumeKind = "traded"
    unfinished: int = 0
    resume_at: pd.Timestamp | None = None
    spread_unit: SpreadUnit | None = None
    notes: tuple[str, ...] = ()
    ts_origin: TimeOrigin | None = None

    def __post_init__(self) -> None:
        index = self.bars.index
        if not isinstance(index, pd.DatetimeIndex) or str(index.dtype) != "datetime64[ns, UTC]" or index.name != "ts":
            raise DataError(f"{self.source_id}: bars must be indexed by 'ts' in UTC nanoseconds, was {index.dtype}")
        if index.hasnans:
            raise DataError(f"{self.source_id}: a bar without a time belongs to the rejected rows")
        wrong = [name for name in OHLCV if name not in self.bars.columns or self.bars[name].dtype != "float64"]
        unknown = [name for name in self.bars.columns if name not in (*OHLCV, *OPTIONAL_COLUMNS)]
        if wrong or unknown:
            raise DataError(
                f"{self.source_id}: columns {wrong} must be float64, columns {unknown} are not of the schema"
            )
        if tuple(self.rejected.columns) != REJECTED_COLUMNS:
            raise DataError(f"{self.source_id}: rejected rows must have the columns {list(REJECTED_COLUMNS)}")
        if self.bars.empty and self.rejected.empty:
            raise DataError(f"{self.source_id}: no bar and no rejected row", hint="an answer without rows is Empty")

    @property
    def adjusted(self) -> bool:
        """True where dividends were taken out of past prices, so that they are not what was paid."""
        return self.adjustment == "splits and dividends"


@dataclass(frozen=True)
class Empty:
    """A valid answer that holds no bar: the market was closed, the range lies before the listing, the file is blank."""

    reason: str


@dataclass(frozen=True)
class Throttled:
    """The source asked for patience; ``retry_after`` is what it asked for, in seconds, where it said so."""

    retry_after: float | None
    message: str


@dataclass(frozen=True)
class Failed:
    """The source could not answer; ``error`` is of the class that says who can do something about it."""

    error: TapelineError


Outcome = Data | Empty | Throttled | Failed


@runtime_checkable
class Source(Protocol):
    """What every source can do."""

    name: str

    def symbols(self) -> list[Symbol]:
        """The instruments it can name; an empty list where the service offers no such list."""
        ...

    def fetch(self, request: BarRequest) -> Outcome:
        """Fetch one range of bars. Expected failures come back as an outcome, never as an exception."""
        ...


def require(outcome: Outcome) -> Data | Empty:
    """Turn the two failures into exceptions, so that a retry policy can decide by class.

    Raises
    ------
    ThrottledError
        For ``Throttled``; a ``TemporaryError`` that carries ``retry_after``.
    TapelineError
        The error inside ``Failed``.

    Examples
    --------
    >>> require(Empty("the market was closed")).reason
    'the market was closed'
    >>> require(Throttled(2.0, "binance: too many requests"))
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ThrottledError: binance: too many requests (try again in 2 s)
    """
    if isinstance(outcome, Throttled):
        wait = "later" if outcome.retry_after is None else f"in {outcome.retry_after:g} s"
        raise ThrottledError(outcome.message, retry_after=outcome.retry_after, hint=f"try again {wait}")
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome


def unknown_symbol(symbol: str, known: list[str], where: str) -> str:
    """The hint for a symbol that a source does not have: the nearest names, else some of those it has."""
    folded = {name.casefold().replace("/", ""): name for name in known}
    near = get_close_matches(symbol.casefold().replace("/", ""), folded, n=3, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(folded[name] for name in near)}?"
    if not known:
        return f"{where} has none"
    return f"{where} has {', '.join(sorted(known)[:8])}{' and more' if len(known) > 8 else ''}"


def open_source(text: str, settings: Settings, *, clock: Clock | None = None) -> Source:
    """Open the source that a user named.

    Parameters
    ----------
    text:
        ``sample``; ``files`` (the folder ``data/_inbox`` of the project) or ``files:<folder or file>``;
        ``ccxt:<exchange>``; ``yahoo``; ``deribit``; ``mt5``.
    clock:
        The present, for deciding which bars have closed. Default: the wall clock, and for the sample the instant at
        which its files were recorded.

    Raises
    ------
    ConfigurationError
        An unknown source, an unknown exchange, or a folder that does not exist.
    """
    kind, _, detail = text.partition(":")
    now = clock or utc_now
    if kind == "sample" and not detail:
        from tapeline.sources.sample import SampleSource

        return SampleSource(clock=clock)
    if kind == "files":
        from tapeline.sources.files import FileSource

        return FileSource(Path(detail) if detail else settings.lake_path / INBOX_FOLDER, clock=now)
    if kind == "ccxt" and detail:
        from tapeline.sources.exchange import ExchangeSource

        return ExchangeSource(detail, settings.network, clock=now)
    if kind == "yahoo" and not detail:
        from tapeline.sources.yahoo import YahooSource

        return YahooSource(settings.network, clock=now)
    if kind == "deribit" and not detail:
        from tapeline.sources.deribit import DeribitVolatilitySource

        return DeribitVolatilitySource(settings.network, clock=now)
    if kind == "mt5" and not detail:
        from tapeline.sources.broker_clock import offsets_file
        from tapeline.sources.metatrader import MetaTraderSource
        from tapeline.sources.metatrader_session import open_gateway

        gateway = open_gateway(settings.metatrader, settings.network)
        offsets = offsets_file(settings.state_path)
        return MetaTraderSource(gateway, settings.metatrader, network=settings.network, clock=now, offsets=offsets)
    raise ConfigurationError(
        f"source {text!r} is unknown", hint="use sample, files, files:<folder>, ccxt:<exchange>, yahoo, deribit or mt5"
    )
