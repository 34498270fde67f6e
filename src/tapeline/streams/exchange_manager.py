"""The exchange manager: every venue by its name, one client each, one rate each, one set of errors for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import pandas as pd

from tapeline.core.errors import ConfigurationError, TapelineError, TemporaryError, ThrottledError
from tapeline.core.settings import ExchangeSettings, Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.token_bucket import TokenBucket
from tapeline.streams.alerts import OnAlert, ignore
from tapeline.streams.binance import SPOT, BinanceStreams, stream_names
from tapeline.streams.capabilities import OANDA, Capabilities, StreamChannel, capabilities
from tapeline.streams.ccxt_client import CcxtClient, Configure
from tapeline.streams.connection import ConnectionOptions
from tapeline.streams.messages import BookSnapshot, Record, Ticker, Trade
from tapeline.streams.oanda import OandaClient
from tapeline.streams.supervised_stream import StreamOptions, SupervisedStream
from tapeline.streams.timing import Backoff, Timing
from tapeline.streams.venue_client import Balance, Market, VenueClient

Result = TypeVar("Result")


class ExchangeManager:
    """Opens venues by name, each with one client and one rate, and closes them all.

    A call that failed in a way that time heals is tried again with capped back-off and jitter, as often as
    ``network.maximum_tries`` says; a venue that asks for a longer wait than the cap gets its error raised at once.
    Everything raised is an error of :mod:`tapeline.core.exchange_errors`.

    Parameters
    ----------
    settings:
        ``exchanges`` has the credentials by name, ``network`` time-outs and tries.
    timing:
        Clocks and sleep; injected in tests.
    configure:
        Called with each new object of ccxt, before it is used: a proxy, options, another address.
    oanda_addresses:
        REST and stream of OANDA, where they are not its own.

    Examples
    --------
    >>> from tapeline.core.settings import Settings
    >>> async def use() -> list[str]:
    ...     async with ExchangeManager(Settings()) as manager:
    ...         manager.open("oanda")
    ...         return manager.opened
    >>> asyncio.run(use())
    ['oanda']
    """

    def __init__(
        self,
        settings: Settings,
        *,
        timing: Timing | None = None,
        on_alert: OnAlert = ignore,
        configure: Configure | None = None,
        oanda_addresses: tuple[str, str] | None = None,
    ) -> None:
        self.timing, self.on_alert = timing or Timing(), on_alert
        self._settings, self._configure, self._oanda_addresses = settings, configure, oanda_addresses
        self._tries = settings.network.maximum_tries
        first = settings.network.backoff_seconds
        self._backoff = Backoff(first=first) if first > 0 else None
        self._clients: dict[str, VenueClient] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self.retries = 0

    def __repr__(self) -> str:
        return f"ExchangeManager({', '.join(self.opened)})"

    async def __aenter__(self) -> ExchangeManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def opened(self) -> list[str]:
        """The names of the venues that have a client."""
        return sorted(self._clients)

    def open(self, exchange: str) -> VenueClient:
        """The client of a venue, made on first use: ``oanda``, or an id of ccxt.

        Raises
        ------
        ConfigurationError
            There is no such venue, or it has no test environment where the settings ask for it.
        """
        found = self._clients.get(exchange)
        if found is None:
            found = self._clients[exchange] = self._new_client(exchange)
        return found

    def bucket(self, exchange: str) -> TokenBucket:
        """The venue's rate: hand it to others that ask the same venue, such as ``ExchangeSource(bucket=...)``."""
        found = self._buckets.get(exchange)
        if found is None:
            rate = capabilities(exchange).requests_per_second
            found = self._buckets[exchange] = TokenBucket(rate, monotonic=self.timing.monotonic)
        return found

    def capabilities(self, exchange: str) -> Capabilities:
        """What a venue offers; asks nobody."""
        return capabilities(exchange)

    async def markets(self, exchange: str) -> list[Market]:
        """The instruments of a venue."""
        return await self._call(exchange, lambda client: client.markets())

    async def bars(
        self, exchange: str, symbol: str, timeframe: str, *, start: pd.Timestamp | None = None, limit: int | None = None
    ) -> pd.DataFrame:
        """One page of closed bars: from ``start`` (an open time with a time zone) on, else the latest.

        Returns
        -------
        Index ``ts`` (UTC, ns; the bar's open), float64 ``open high low close volume``; OANDA adds bid and ask bars.
        The bar that still forms is left out by the clock, read before the question is asked.
        """
        name, frame = Symbol.parse(symbol), Timeframe.parse(timeframe)
        since, now = _nanoseconds(start), self.timing.wall()
        return await self._call(exchange, lambda client: client.bars(name, frame, start=since, limit=limit, now=now))

    async def trades(
        self, exchange: str, symbol: str, *, start: pd.Timestamp | None = None, limit: int | None = None
    ) -> list[Trade]:
        """One page of trades, oldest first."""
        name, since = Symbol.parse(symbol), _nanoseconds(start)
        return await self._call(exchange, lambda client: client.trades(name, start=since, limit=limit))

    async def ticker(self, exchange: str, symbol: str) -> Ticker:
        """The rolling summary of an instrument."""
        name = Symbol.parse(symbol)
        return await self._call(exchange, lambda client: client.ticker(name))

    async def order_book(self, exchange: str, symbol: str, *, limit: int | None = None) -> BookSnapshot:
        """The best levels of an instrument's book."""
        name = Symbol.parse(symbol)
        return await self._call(exchange, lambda client: client.order_book(name, limit=limit))

    async def server_time(self, exchange: str) -> int:
        """The venue's clock, in ns since the epoch."""
        return await self._call(exchange, lambda client: client.server_time())

    async def balance(self, exchange: str) -> list[Balance]:
        """What the account holds; ConfigurationError where credentials are missing."""
        return await self._call(exchange, lambda client: client.balance())

    def stream(
        self,
        exchange: str,
        channel: StreamChannel,
        symbols: Iterable[str],
        on_record: Callable[[Record, int], None],
        *,
        timeframe: str | None = None,
        on_break: Callable[[str], None] | None = None,
        options: StreamOptions | None = None,
    ) -> SupervisedStream:
        """A stream that is watched, opened again and freed of doubled trades; call its ``run``.

        Parameters
        ----------
        on_record:
            Takes each record and when it arrived (ns, our clock).
        on_break:
            Called when a session was lost: what came until the next one is missing, and ``trades`` may fill it.

        Raises
        ------
        ConfigurationError
            The venue does not stream this.
        """
        names = [Symbol.parse(symbol) for symbol in symbols]
        if not names:
            raise ConfigurationError("a stream needs at least one symbol")
        frame = None if timeframe is None else Timeframe.parse(timeframe)
        connect = self.open(exchange).watch(channel, names, frame)
        return SupervisedStream(
            f"{exchange}-{channel}",
            connect,
            on_record,
            on_break=on_break,
            on_alert=self.on_alert,
            options=options,
            timing=self.timing,
        )

    def binance_streams(
        self,
        symbols: Iterable[str],
        channels: Iterable[str],
        on_record: Callable[[Record, int], None],
        *,
        url: str = SPOT,
        options: ConnectionOptions | None = None,
        **more: Any,
    ) -> BinanceStreams:
        """Binance's own streams, without ccxt: 1,024 a connection, renewed with overlap, decoded in C.

        ``symbols`` as Binance spells them (``BTCUSDT``), ``channels`` too (``aggTrade``); ``more`` goes to
        :class:`~tapeline.streams.binance.BinanceStreams`.
        """
        return BinanceStreams(
            stream_names(symbols, channels),
            on_record,
            url=url,
            on_alert=self.on_alert,
            options=options,
            timing=self.timing,
            **more,
        )

    async def close(self) -> None:
        """Close every client; the manager may open them again."""
        clients, self._clients = self._clients, {}
        await asyncio.gather(*(client.close() for client in clients.values()))

    def _new_client(self, exchange: str) -> VenueClient:
        found = self._settings.exchanges.get(exchange, ExchangeSettings())
        bucket, network = self.bucket(exchange), self._settings.network
        if exchange == OANDA:
            return OandaClient(found, network, bucket=bucket, addresses=self._oanda_addresses)
        return CcxtClient(exchange, found, network, bucket=bucket, configure=self._configure)

    async def _call(self, exchange: str, ask: Callable[[VenueClient], Awaitable[Result]]) -> Result:
        client = self.open(exchange)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await ask(client)
            except TapelineError as error:
                wait = self._wait(error, attempt)
                if wait is None:
                    raise
            self.retries += 1
            await self.timing.sleep(wait)

    def _wait(self, error: TapelineError, attempt: int) -> float | None:
        """Seconds until the next try, None where there is none."""
        if not isinstance(error, TemporaryError) or attempt >= self._tries:
            return None
        asked = (error.retry_after or 0.0) if isinstance(error, ThrottledError) else 0.0
        if asked > (self._backoff.cap if self._backoff else Backoff().cap):
            return None  # whoever called can wait without holding a connection
        pause = self._backoff.delay(attempt, self.timing.random) if self._backoff else 0.0
        return max(asked, pause)


def _nanoseconds(start: pd.Timestamp | None) -> int | None:
    if start is None:
        return None
    if not isinstance(start, pd.Timestamp) or start is pd.NaT or start.tzinfo is None:
        raise ConfigurationError(
            f"start {start!r} must be a pandas Timestamp with a time zone", hint="pd.Timestamp('2017-01-02', tz='UTC')"
        )
    return int(start.as_unit("ns").value)
