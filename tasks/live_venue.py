"""The venues of the live flow: one interface over exchanges that push and terminals that are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import pandas as pd

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError
from tapeline.core.schemas import OHLCV, RAW_BARS, RAW_TICKS, RAW_TRADES
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.quality.feed_sink import FeedSink
from tapeline.streams.alerts import OnAlert
from tapeline.streams.binance import BinanceHistory
from tapeline.streams.book_keeper import BookKeeper, DepthOptions, check_depth
from tapeline.streams.collector import CollectorOptions
from tapeline.streams.connection import ConnectionOptions
from tapeline.streams.http_client import RequestsClient
from tapeline.streams.manager import FeedManager
from tapeline.streams.messages import Candle, Quarantined, Record
from tapeline.streams.timing import Backoff, RateLimiter, Timing

TICK: Final = Timeframe.parse("tick")
CHANNELS: Final = ("aggTrade", "trade", "bookTicker")
CANDLES: Final = "kline_"
"""Before a timeframe as exchanges spell it (``kline_1m``): the bars that the venue itself builds, as they close."""
DEPTH_STREAM: Final = "depth@100ms"
SNAPSHOTS_PER_MINUTE: Final = 60
"""A snapshot of 1,000 levels weighs 50 of the 6,000 that Binance allows a minute; the history takes 3,000 at most."""
SNAPSHOT_PAUSE: Final = 0.1
"""Seconds between two looks for books that wait."""


@dataclass(frozen=True)
class StreamRequest:
    """What a live run collects; made by :func:`parse_stream`.

    ``depth`` is None where no books are kept, ``maximum_seconds`` where the run has no end of its own.
    """

    source: str
    symbols: tuple[Symbol, ...]
    channels: tuple[str, ...]
    depth: DepthOptions | None
    maximum_seconds: float | None
    run_id: str

    @property
    def feed(self) -> str:
        """The name that stands in each row: the ids of single and of aggregated trades are two sequences."""
        return f"{self.source}-trade" if "trade" in self.channels else self.source


@dataclass
class SymbolFeed:
    """What a venue tells of one instrument: trades filled from the history, trades given up, the spread in bps."""

    filled: int = 0
    unfilled: int = 0
    duplicates: int = 0
    spread_bps: float | None = None


@dataclass
class VenueStatus:
    """What a venue tells of itself since the run began."""

    connected: bool = False
    messages: int = 0
    reconnects: int = 0
    gaps: int = 0
    drift: float | None = None
    symbols: dict[Symbol, SymbolFeed] = field(default_factory=dict)


class LiveVenue(Protocol):
    """One venue of a live run. ``run`` may be called again after an error and then goes on behind what is stored."""

    keeper: BookKeeper | None

    async def run(self) -> None:
        """Collect until :meth:`stop`; on return, also by an error, the sink has what was collected."""
        ...

    def stop(self) -> None:
        """Let ``run`` return."""
        ...

    def status(self) -> VenueStatus:
        """What was collected so far."""
        ...

    def close(self) -> None:
        """Give back what is held beyond ``run``."""
        ...


OpenVenue = Callable[[StreamRequest, Settings, Lake, FeedSink, OnAlert, Timing], LiveVenue]


class BinanceVenue:
    """Trades, quotes and books of Binance, native streams.

    Parameters
    ----------
    connection, collector:
        How connections are watched and gaps filled; those of the settings where None.
    """

    def __init__(
        self,
        request: StreamRequest,
        settings: Settings,
        lake: Lake,
        sink: FeedSink,
        on_alert: OnAlert,
        timing: Timing,
        *,
        connection: ConnectionOptions | None = None,
        collector: CollectorOptions | None = None,
    ) -> None:
        rules = settings.stream
        watched = ConnectionOptions(stale_after=rules.stale_seconds, maximum_attempts=rules.maximum_attempts)
        self._connection, self._collector = connection or watched, collector
        self.keeper = BookKeeper("binance", request.depth) if request.depth else None
        self._request, self._rules, self._sink, self._on_alert, self._timing = request, rules, sink, on_alert, timing
        client = RequestsClient(rules.binance_rest, timeout=settings.network.timeout_seconds)
        self._history = BinanceHistory(
            client, channel="trade" if "trade" in request.channels else "aggTrade", timing=timing
        )
        self._snapshots = RateLimiter(SNAPSHOTS_PER_MINUTE, 60.0, timing)
        self._unreadable = Symbol.parse(request.feed)
        self._manager: FeedManager | None = None
        self._before = VenueStatus()
        self._stopped = False

    async def run(self) -> None:
        """See :class:`LiveVenue`."""
        if self._stopped:
            return
        self._before, self._manager = self.status(), self._new_manager()
        tasks = {asyncio.create_task(self._manager.run())}
        if self.keeper is not None:
            tasks.add(asyncio.create_task(self._fetch_snapshots(self.keeper)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self.keeper is not None:
                self.keeper.disconnect()
        for task in tasks:
            if not task.cancelled():
                task.result()

    def stop(self) -> None:
        """See :class:`LiveVenue`."""
        self._stopped = True
        if self._manager is not None:
            self._manager.stop()

    def close(self) -> None:
        """Nothing is held beyond ``run``."""

    def status(self) -> VenueStatus:
        """See :class:`LiveVenue`; the sum over all calls of ``run``."""
        manager, before = self._manager, self._before
        if manager is None:
            return VenueStatus()
        counted = [(shard.connection.connected, shard.connection.counters) for shard in manager.streams.shards]
        found = VenueStatus(
            connected=all(connected for connected, _ in counted),
            messages=before.messages + sum(counters.messages for _, counters in counted),
            reconnects=before.reconnects + manager.breaks,
            gaps=before.gaps,
            symbols={symbol: SymbolFeed(**vars(feed)) for symbol, feed in before.symbols.items()},
        )
        for symbol, counters in manager.collector.symbol_counters().items():
            feed = found.symbols.setdefault(symbol, SymbolFeed())
            feed.filled += counters.filled
            feed.unfilled += counters.unfilled
            feed.duplicates += counters.duplicates
            found.gaps += counters.gaps
        for symbol in self._request.symbols:
            quote = manager.feed.board.quote(symbol)
            if quote is not None:
                found.symbols.setdefault(symbol, SymbolFeed()).spread_bps = quote.spread_bps
        with suppress(ConfigurationError):  # nothing with a time was seen yet
            found.drift = manager.drift.drift(manager.name) / 1e9
        return found

    def _new_manager(self) -> FeedManager:
        streams = [*self._request.channels, *([DEPTH_STREAM] if self.keeper is not None else [])]
        return FeedManager(
            self._request.symbols,
            streams,
            self._sink,
            history=self._history,
            last_ids=self._sink.last_ids,
            on_record=self._record,
            on_break=self._broken,
            on_alert=self._on_alert,
            url=self._rules.binance_stream,
            name=self._request.feed,
            connection=self._connection,
            collector=self._collector,
            timing=self._timing,
        )

    def _record(self, record: Record, received: int) -> None:
        if isinstance(record, Quarantined):
            self._sink.refuse(record, received, self._unreadable)
        elif isinstance(record, Candle):
            self._sink.take_bar(record, received)
        if self.keeper is not None:
            self.keeper.take(record, received)

    def _broken(self) -> None:
        if self.keeper is not None:
            self.keeper.disconnect()

    async def _fetch_snapshots(self, keeper: BookKeeper) -> None:
        """Ask for the snapshot of each book that waits, again and again with growing pauses where it does not come."""
        backoff, failures, due = Backoff(first=0.25, cap=30.0), dict[Symbol, int](), dict[Symbol, float]()
        while True:
            for symbol in keeper.requests():
                if self._timing.monotonic() < due.get(symbol, 0.0):
                    continue
                await self._snapshots.acquire()
                wait = 0.0
                try:
                    snapshot = await self._history.depth(symbol)
                    keeper.take(snapshot, self._timing.wall())
                except (TemporaryError, ProviderError) as error:
                    wait = (error.retry_after or 0.0) if isinstance(error, ThrottledError) else 0.0
                failures[symbol] = 0 if keeper.books[symbol].live else failures.get(symbol, 0) + 1
                pause = backoff.delay(failures[symbol], self._timing.random) if failures[symbol] else 0.0
                due[symbol] = self._timing.monotonic() + max(pause, wait)
            await self._timing.sleep(SNAPSHOT_PAUSE)


def parse_stream(
    source: str,
    symbols: list[str],
    channels: list[str] | None = None,
    *,
    depth_levels: int = 0,
    depth_seconds: float = 1.0,
    maximum_seconds: float | None = None,
    run_id: str = "local",
) -> StreamRequest:
    """What a user asks for, checked.

    Parameters
    ----------
    source:
        ``binance`` or ``mt5``.
    channels:
        Of Binance: ``aggTrade`` or ``trade``, ``bookTicker``, and ``kline_1m`` or another length of bars. A terminal
        has ticks only.
    depth_levels:
        Levels a side to sample; 0 keeps no books.

    Raises
    ------
    ConfigurationError
        An unknown source or channel, no symbol, or a number out of its bounds; the message names it.

    Examples
    --------
    >>> parse_stream("binance", ["BTCUSDT"]).channels
    ('aggTrade', 'bookTicker')
    """
    if source not in ("binance", "mt5"):
        raise ConfigurationError(f"source {source!r} has no live feed", hint="use binance or mt5")
    names = tuple(dict.fromkeys(Symbol.parse(name) for name in symbols))
    if not names:
        raise ConfigurationError("no symbol to stream", hint="for instance BTCUSDT")
    if maximum_seconds is not None and not 0 < maximum_seconds < 366 * 86_400:
        raise ConfigurationError(f"maximum_seconds = {maximum_seconds} must be positive and below a year")
    wanted = tuple(dict.fromkeys(channels or (("aggTrade", "bookTicker") if source == "binance" else ("tick",))))
    if source == "mt5":
        if wanted != ("tick",) or depth_levels:
            raise ConfigurationError(
                f"a terminal has no channels {list(wanted)} and {depth_levels} depth levels",
                hint="leave channels and depth out: it has ticks",
            )
        return StreamRequest(source, names, wanted, None, maximum_seconds, run_id)
    unknown = [name for name in wanted if name not in CHANNELS and not name.startswith(CANDLES)]
    if unknown:
        raise ConfigurationError(
            f"channels {unknown} are not collected", hint=f"use {', '.join(CHANNELS)}, {CANDLES}1m, {CANDLES}1h"
        )
    for name in wanted:
        if (
            name.startswith(CANDLES)
            and Timeframe.parse(name.removeprefix(CANDLES)).exchange_name != name[len(CANDLES) :]
        ):
            raise ConfigurationError(f"channel {name!r} is not as the venue spells it", hint=f"such as {CANDLES}1m")
    if {"trade", "aggTrade"} <= set(wanted):
        raise ConfigurationError("trade and aggTrade are the same trades, numbered twice", hint="choose one of them")
    depth = check_depth(depth_levels, depth_seconds) if depth_levels else None
    return StreamRequest(source, names, wanted, depth, maximum_seconds, run_id)


def stored_ids(lake: Lake, request: StreamRequest) -> dict[str, int]:
    """Of each instrument, the highest trade id that the lake holds from this feed."""
    found = {}
    for symbol in request.symbols:
        last = lake.last(RAW_TRADES, symbol, TICK)
        # Mostly the newest hour tells; another feed's newer trades of the same name make it look further back.
        for start in _starts(last):
            held = lake.read(RAW_TRADES, symbol, TICK, start=start, columns=["sequence", "source"])
            own = held.loc[(held["source"] == request.feed).to_numpy(), "sequence"]
            if len(own):
                found[str(symbol)] = int(own.max())
                break
    return found


def last_bar(lake: Lake, symbol: Symbol, timeframe: Timeframe) -> pd.DataFrame:
    """The last bar that the lake holds of a series, from whatever source; no row where it holds none."""
    last = lake.last(RAW_BARS, symbol, timeframe)
    start = pd.Timestamp(0, tz="UTC") if last is None else last
    return lake.read(RAW_BARS, symbol, timeframe, start=start, columns=list(OHLCV)).tail(1)


def stored_ticks(lake: Lake, symbol: Symbol, source: str, overlap: pd.Timedelta) -> pd.DataFrame:
    """The ticks that the lake holds from this feed, from ``overlap`` before the last one on."""
    last = lake.last(RAW_TICKS, symbol, TICK)
    columns = ["sequence", "bid", "ask", "last", "volume", "flags", "source"]
    for start in _starts(last):
        held = lake.read(RAW_TICKS, symbol, TICK, start=start, columns=columns)
        held = held[(held["source"] == source).to_numpy()]
        if len(held):
            return held[held.index >= held.index[-1] - overlap]
    return pd.DataFrame(columns=columns, index=pd.DatetimeIndex([], tz="UTC", name="ts").as_unit("ns"))


def _starts(last: pd.Timestamp | None) -> list[pd.Timestamp | None]:
    return [] if last is None else [*(last - pd.Timedelta(span) for span in ("1h", "1D", "30D")), None]


def open_venue(
    request: StreamRequest, settings: Settings, lake: Lake, sink: FeedSink, on_alert: OnAlert, timing: Timing
) -> LiveVenue:
    """The venue of a request."""
    if request.source == "binance":
        return BinanceVenue(request, settings, lake, sink, on_alert, timing)
    from tasks.live_terminal import TerminalVenue

    return TerminalVenue(request, settings, lake, sink, on_alert, timing)
