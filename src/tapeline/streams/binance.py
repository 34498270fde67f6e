"""Binance live: combined and array streams over as many connections as they need, and its REST history by trade id.

Limits: Binance API documentation, "WebSocket Streams", general information: 1,024 streams and 24 hours a connection,
five messages a second from the client, pings and pongs among them.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, Literal, TypeAlias

from tapeline.core.errors import ConfigurationError, ProviderError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedLostError, OnAlert, ignore
from tapeline.streams.connection import Connection, ConnectionOptions, Session
from tapeline.streams.dialects.base import MILLISECOND, Milliseconds, Price, Sequence, Size, Text, decoder, symbol_of
from tapeline.streams.dialects.binance import Binance
from tapeline.streams.http_client import HttpClient
from tapeline.streams.messages import BookSnapshot, Record, Refusal, Trade, msgspec
from tapeline.streams.timing import RateLimiter, Timing

SPOT: Final = "wss://stream.binance.com:9443/stream"
SPOT_REST: Final = "https://api.binance.com"
STREAMS_PER_CONNECTION: Final = 1_024
MESSAGES_PER_SECOND: Final = 4
"""One less than Binance allows, which leaves room for pings and pongs."""
STREAMS_PER_MESSAGE: Final = 200
PAGE: Final = 1_000

Channel: TypeAlias = Literal["aggTrade", "trade"]
VenueStatus: TypeAlias = Literal["open", "closed", "halted"]
_STREAM: Final = re.compile(r"(?:[a-z0-9_]{2,40}@|!)[A-Za-z0-9_]{2,24}(?:@[A-Za-z0-9_:+]{1,16})*")
_STATUSES: Final[dict[str, VenueStatus]] = {"TRADING": "open", "HALT": "halted", "AUCTION_MATCH": "halted"}
_COMBINED: Final = b'{"stream"'


class BinanceStreams:
    """Streams of Binance, sharded over supervised connections.

    Parameters
    ----------
    streams:
        Their names, such as ``btcusdt@aggTrade``, ``ethusdt@bookTicker``, ``!miniTicker@arr``.
    on_record:
        Takes each record and when its message was received (ns, our clock).
    on_break:
        Called when a connection was lost: what came meanwhile is missing.
    on_session:
        Called when a connection has its streams after nothing was connected: at the start and after a break.
    url:
        The address for combined streams; ``wss://fstream.binance.com/stream`` for USD-M futures.
    gate:
        Cleared where nothing more can be taken; see :class:`~tapeline.streams.collector.TickCollector`.

    Examples
    --------
    >>> streams = BinanceStreams(stream_names(["BTCUSDT", "ETHUSDT"], ["aggTrade", "bookTicker"]), print)
    >>> [sorted(shard.wanted) for shard in streams.shards][0][:2]
    ['btcusdt@aggTrade', 'btcusdt@bookTicker']
    """

    def __init__(
        self,
        streams: Iterable[str],
        on_record: Callable[[Record, int], None],
        *,
        url: str = SPOT,
        name: str = "binance",
        on_break: Callable[[str], None] | None = None,
        on_session: Callable[[], None] | None = None,
        on_alert: OnAlert = ignore,
        gate: asyncio.Event | None = None,
        options: ConnectionOptions | None = None,
        timing: Timing | None = None,
        per_connection: int = STREAMS_PER_CONNECTION,
    ) -> None:
        if not 1 <= per_connection <= STREAMS_PER_CONNECTION:
            raise ConfigurationError(f"per_connection = {per_connection} must be 1 to {STREAMS_PER_CONNECTION}")
        self.name, self.url, self.per_connection = name, url, per_connection
        self.on_record, self.on_break, self.on_session, self.on_alert = on_record, on_break, on_session, on_alert
        self.gate, self.options, self.timing = gate, options, timing or Timing()
        wanted = list(dict.fromkeys(checked_stream(stream) for stream in streams))
        self._shard_numbers = itertools.count()
        self.shards = [Shard(self, next(self._shard_numbers), part) for part in _batched(wanted, per_connection)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = self._stopped = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keep all connections up until ``stop``; one that gives up does not end the others.

        Without a stream there is no connection, and it waits for the first one.

        Raises
        ------
        FeedLostError
            After all have ended, where one gave up.
        """
        self._running = True
        for shard in self.shards:
            self._start(shard)
        try:
            while self._tasks or not (self._stopped or self.shards):
                if not self._tasks:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in self._tasks if task.done()]:
                    failed = task.exception()
                    if failed is not None and not isinstance(failed, FeedLostError):
                        raise failed
                    self._tasks.remove(task)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        lost = [shard.connection.name for shard in self.shards if shard.lost]
        if lost:
            raise FeedLostError(f"{', '.join(lost)} gave up")

    def stop(self) -> None:
        """End all connections."""
        self._stopped = True
        self._changed.set()
        for shard in self.shards:
            shard.connection.stop()

    async def subscribe(self, streams: Iterable[str]) -> None:
        """Add streams while running: into connections with room, then over new ones. Those already there stay."""
        present = {stream for shard in self.shards for stream in shard.wanted}
        new = [each for each in dict.fromkeys(checked_stream(stream) for stream in streams) if each not in present]
        for shard in self.shards:
            room = self.per_connection - len(shard.wanted)
            part, new = new[:room], new[room:]
            if part:
                await shard.add(part)
        for part in _batched(new, self.per_connection):
            shard = Shard(self, next(self._shard_numbers), part)
            self.shards.append(shard)
            if self._running and not self._stopped:
                self._start(shard)
        self._changed.set()

    async def unsubscribe(self, streams: Iterable[str]) -> None:
        """Take streams away while running; names that are not there are ignored. An empty connection is ended."""
        gone = set(streams)
        for shard in list(self.shards):
            mine = [stream for stream in shard.wanted if stream in gone]
            if mine and len(mine) == len(shard.wanted):
                # It would be silent, taken for lost, and opened again and again.
                shard.wanted.clear()
                self.shards.remove(shard)
                shard.connection.stop()
            elif mine:
                await shard.remove(mine)

    def _start(self, shard: Shard) -> None:
        self._tasks.add(asyncio.create_task(shard.run()))


class Shard:
    """The streams of one connection."""

    def __init__(self, owner: BinanceStreams, number: int, streams: list[str]) -> None:
        self.wanted = dict.fromkeys(streams)
        self.lost = False
        self.quarantined = 0
        self.refusals: list[Refusal] = []
        self._owner = owner
        self._dialect = Binance()
        self._parse, self._on_record = self._dialect.parse, owner.on_record
        self._answers: dict[int, asyncio.Future[Refusal | None]] = {}
        self._numbers = itertools.count(1)
        self._limiters: dict[int, RateLimiter] = {}
        self.connection = Connection(
            f"{owner.name}-{number}",
            owner.url,
            self._take,
            on_open=self._subscribe_all,
            on_break=owner.on_break,
            on_control=self._control,
            on_alert=owner.on_alert,
            gate=owner.gate,
            options=owner.options,
            timing=owner.timing,
        )

    async def run(self) -> None:
        """Keep the connection up."""
        self.lost = False
        try:
            await self.connection.run()
        except FeedLostError:
            self.lost = True
            raise

    async def add(self, streams: list[str]) -> None:
        """Subscribe more streams on each open session."""
        self.wanted.update(dict.fromkeys(streams))
        await self._on_sessions("SUBSCRIBE", streams)

    async def remove(self, streams: list[str]) -> None:
        """Unsubscribe streams on each open session."""
        for stream in streams:
            self.wanted.pop(stream, None)
        await self._on_sessions("UNSUBSCRIBE", streams)

    def _take(self, raw: bytes, received: int) -> None:
        for record in self._parse(raw):
            self._on_record(record, received)

    def _control(self, raw: bytes, session: Session) -> bool:
        """Answers to our own messages; data of combined streams begin with their stream's name."""
        if raw.startswith(_COMBINED):
            return False
        try:
            answer = _ANSWER.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return False
        waiting = None if answer.id is None else self._answers.pop(answer.id, None)
        if waiting is None or waiting.done():
            return False
        problem = answer.error or (answer if answer.code is not None else None)
        waiting.set_result(None if problem is None else Refusal(str(problem.code), problem.msg or ""))
        return True

    async def _subscribe_all(self, session: Session) -> None:
        await self._ask(session, "SUBSCRIBE", list(self.wanted))
        if self._owner.on_session is not None and len(self.connection.sessions) == 1:
            self._owner.on_session()

    async def _on_sessions(self, method: str, streams: list[str]) -> None:
        for session in [each for each in self.connection.sessions if not each.ended.done()]:
            try:
                async with asyncio.timeout(self.connection.options.subscribe_timeout):
                    await self._ask(session, method, streams)
            except (ConnectionError, TimeoutError):
                # The next session subscribes to all that is wanted; this one cannot be trusted to.
                await session.close()

    async def _ask(self, session: Session, method: str, streams: list[str]) -> None:
        """Send the streams in messages at the documented rate, and wait for each answer."""
        limiter = self._limiters.get(session.number)
        if limiter is None:
            self._limiters = {
                each.number: self._limiters[each.number]
                for each in self.connection.sessions
                if each.number in self._limiters
            }
            limiter = self._limiters[session.number] = RateLimiter(MESSAGES_PER_SECOND, 1.0, self._owner.timing)
        for part in _batched(streams, STREAMS_PER_MESSAGE):
            await limiter.acquire()
            number = next(self._numbers)
            answer = self._answers[number] = asyncio.get_running_loop().create_future()
            try:
                await session.send(msgspec.json.encode({"method": method, "params": part, "id": number}).decode())
                await asyncio.wait({answer, session.ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._answers.pop(number, None)
            if not answer.done():
                raise ConnectionError("the session ended before it answered")
            refusal = answer.result()
            if refusal is not None:
                self.refusals.append(refusal)
                self.connection.alert("refused", f"{method} of {len(part)} streams: {refusal.code} {refusal.detail}")


class BinanceHistory:
    """Trades by id, statuses and depth over REST.

    Parameters
    ----------
    client:
        Fetches from ``SPOT_REST``.
    channel:
        ``aggTrade`` or ``trade``: the ids of the one are not those of the other.
    weight_per_minute:
        Of Binance's request weight (6,000 a minute and address), how much to use.
    """

    _PATHS: Final = {"aggTrade": ("/api/v3/aggTrades", 4), "trade": ("/api/v3/historicalTrades", 25)}

    def __init__(
        self,
        client: HttpClient,
        *,
        channel: Channel = "aggTrade",
        weight_per_minute: int = 3_000,
        timing: Timing | None = None,
    ) -> None:
        if channel not in self._PATHS:
            raise ConfigurationError(f"channel {channel!r} has no history", hint="use aggTrade or trade")
        self._client, self._path = client, self._PATHS[channel][0]
        self._limiter = RateLimiter(max(1, weight_per_minute // self._PATHS[channel][1]), 60.0, timing or Timing())
        self._decoder = _AGGREGATES if channel == "aggTrade" else _TRADES

    async def trades_from(self, symbol: Symbol, first: int) -> list[Trade]:
        """The trades from this id on, at most ``PAGE``; ProviderError where the answer cannot be read."""
        await self._limiter.acquire()
        parameters = {"symbol": symbol, "fromId": str(first), "limit": str(PAGE)}
        body = await self._client.get(self._path, parameters)
        rows: list[Any] = _decoded(self._decoder, body, self._path)
        return [row.trade(symbol) for row in rows]

    async def statuses(self) -> dict[Symbol, VenueStatus]:
        """Whether each instrument trades, as the venue says."""
        answer = _decoded(_EXCHANGE, await self._client.get("/api/v3/exchangeInfo", {}), "exchangeInfo")
        return {symbol_of(each.symbol): _STATUSES.get(each.status, "closed") for each in answer.symbols}

    async def depth(self, symbol: Symbol, *, limit: int = PAGE) -> BookSnapshot:
        """The snapshot that a live book waits for."""
        body = await self._client.get("/api/v3/depth", {"symbol": symbol, "limit": str(limit)})
        found = Binance().parse_snapshot(body, symbol)[0]
        if not isinstance(found, BookSnapshot):
            raise ProviderError(f"depth of {symbol}: {found}")
        return found


def stream_names(symbols: Iterable[str], channels: Iterable[str]) -> list[str]:
    """The streams of instruments, as Binance spells them.

    Examples
    --------
    >>> stream_names(["BTCUSDT"], ["aggTrade", "kline_1m"])
    ['btcusdt@aggTrade', 'btcusdt@kline_1m']
    """
    kinds = list(channels)
    return [checked_stream(f"{Symbol.parse(symbol).lower()}@{kind}") for symbol in symbols for kind in kinds]


def checked_stream(stream: str) -> str:
    """The name of a stream, where it can be one; ConfigurationError otherwise."""
    if not isinstance(stream, str) or not _STREAM.fullmatch(stream):
        raise ConfigurationError(f"{stream!r} is not the name of a stream", hint="such as btcusdt@aggTrade")
    return stream


class _Answer(msgspec.Struct):
    id: int | None = None
    code: int | None = None
    msg: Text | None = None
    error: _Answer | None = None


class _RestAggregate(msgspec.Struct):
    a: Sequence
    p: Price
    q: Size
    T: Milliseconds
    m: bool

    def trade(self, symbol: Symbol) -> Trade:
        return Trade(symbol, self.T * MILLISECOND, self.p, self.q, -1 if self.m else 1, str(self.a))


class _RestTrade(msgspec.Struct):
    id: Sequence
    price: Price
    qty: Size
    time: Milliseconds
    isBuyerMaker: bool  # noqa: N815 - the venue's spelling

    def trade(self, symbol: Symbol) -> Trade:
        side: Literal[-1, 1] = -1 if self.isBuyerMaker else 1
        return Trade(symbol, self.time * MILLISECOND, self.price, self.qty, side, str(self.id))


class _Instrument(msgspec.Struct):
    symbol: Text
    status: Text


class _Exchange(msgspec.Struct):
    symbols: Annotated[list[_Instrument], msgspec.Meta(max_length=50_000)]


_ANSWER = decoder(_Answer)
_AGGREGATES = decoder(Annotated[list[_RestAggregate], msgspec.Meta(max_length=PAGE)])
_TRADES = decoder(Annotated[list[_RestTrade], msgspec.Meta(max_length=PAGE)])
_EXCHANGE = decoder(_Exchange)


def _decoded(reader: Any, body: bytes, path: str) -> Any:
    try:
        return reader.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProviderError(f"{path}: {error}") from error


def _batched(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
