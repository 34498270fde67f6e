"""A venue through ccxt: REST calls and watched streams of one exchange, with the manager's rate, errors and secrets."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.exchange_errors import (
    THROTTLED_STATUS,
    NotOfferedError,
    UnreadableAnswerError,
    VenueUnavailableError,
    exchange_error,
    refine,
    retry_after_of,
)
from tapeline.core.settings import ExchangeSettings, NetworkSettings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.token_bucket import TokenBucket
from tapeline.streams.capabilities import Capabilities, StreamChannel, capabilities_of, ccxt_class
from tapeline.streams.ccxt_records import book_of, candle_of, number, quote_of, ticker_of, trade_of
from tapeline.streams.dialects.base import MILLISECOND
from tapeline.streams.messages import BookSnapshot, Record, Ticker, Trade
from tapeline.streams.venue_client import Balance, Batches, Connect, Market, closed_bars

PAUSE_WITHOUT_WORD: Final = 30.0
"""Seconds for which a venue is left alone that throttles without saying for how long."""

LONGEST_PAUSE: Final = 3_600.0
_MAXIMUM_ARRIVALS: Final = 1_000
CACHED_TRADES: Final = 10_000
_SIGNED: Final = re.compile(r"(?i)sign|key|auth|pass|token")
_SETTINGS: Final = (("key", "apiKey"), ("secret", "secret"), ("password", "password"), ("token", "token"))

Result = TypeVar("Result")
Configure = Callable[[Any], None]


class CcxtClient:
    """One exchange of ccxt.

    Parameters
    ----------
    exchange:
        Its id in ccxt.
    settings:
        Credentials, and whether to use the test environment.
    bucket:
        The venue's rate: every REST request takes its cost, as ccxt knows it, from there.
    configure:
        Called with each new object of ccxt: a proxy, options of an exchange, another address.

    Raises
    ------
    ConfigurationError
        There is no such exchange, or it has no test environment where one is asked for.
    """

    def __init__(
        self,
        exchange: str,
        settings: ExchangeSettings,
        network: NetworkSettings,
        *,
        bucket: TokenBucket | None = None,
        configure: Configure | None = None,
    ) -> None:
        self.name = exchange
        self._kind = ccxt_class(exchange)
        self._settings, self._network, self._configure = settings, network, configure
        self._secrets = settings.secrets()
        self._client = self._new_client()
        self.capabilities: Capabilities = capabilities_of(self._client)
        self.bucket = bucket or TokenBucket(self.capabilities.requests_per_second)
        self._share_bucket(self._client)
        self._loading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"CcxtClient({self.name!r})"

    async def markets(self) -> list[Market]:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        found = []
        for market in (await self._load_markets()).values():
            with suppress(ConfigurationError):  # an exchange may list names that could not safely name a folder
                symbol = Symbol.parse(market["symbol"])
                active = market.get("active") is not False
                found.append(
                    Market(symbol, str(market["id"]), market.get("base") or "", market.get("quote") or "", active)
                )
        return sorted(found, key=lambda market: market.symbol)

    async def bars(
        self, symbol: Symbol, timeframe: Timeframe, *, start: int | None, limit: int | None, now: int
    ) -> pd.DataFrame:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        self._require(self.capabilities.bars, "bars")
        if timeframe.exchange_name not in self.capabilities.timeframes:
            raise NotOfferedError(
                f"{self.name} serves no {timeframe} bars", hint=f"it has {', '.join(self.capabilities.timeframes)}"
            )
        await self._load_markets()
        since = None if start is None else math.ceil(start / MILLISECOND)
        rows = await self._call(self._client.fetch_ohlcv(symbol, timeframe.exchange_name, since, limit))
        if not isinstance(rows, list):
            raise UnreadableAnswerError(f"{self.name}: the answer holds no bars")
        read = [
            (int(row[0]) * MILLISECOND, number(row[1]), number(row[2]), number(row[3]), number(row[4]), number(row[5]))
            for row in rows
            if row[0] is not None
        ]
        return closed_bars(read, timeframe, now)

    async def trades(self, symbol: Symbol, *, start: int | None, limit: int | None) -> list[Trade]:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        self._require(self.capabilities.trades, "trades")
        await self._load_markets()
        since = None if start is None else math.ceil(start / MILLISECOND)
        rows = await self._call(self._client.fetch_trades(symbol, since, limit))
        return sorted((trade_of(row) for row in rows), key=lambda trade: trade.ts)

    async def ticker(self, symbol: Symbol) -> Ticker:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        self._require(self.capabilities.ticker, "ticker")
        await self._load_markets()
        return ticker_of(symbol, await self._call(self._client.fetch_ticker(symbol)))

    async def order_book(self, symbol: Symbol, *, limit: int | None) -> BookSnapshot:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        self._require(self.capabilities.order_book, "order book")
        await self._load_markets()
        return book_of(symbol, await self._call(self._client.fetch_order_book(symbol, limit)), limit)

    async def server_time(self) -> int:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        self._require(self.capabilities.server_time, "clock")
        found = await self._call(self._client.fetch_time())
        if not isinstance(found, int):
            raise UnreadableAnswerError(f"{self.name}: {type(found).__name__} is no time")
        return found * MILLISECOND

    async def balance(self) -> list[Balance]:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        self._require(self.capabilities.balance, "balance")
        missing = [name for name in self.capabilities.credentials if getattr(self._settings, name, None) is None]
        if missing:
            raise ConfigurationError(
                f"{self.name} needs the credentials {', '.join(missing)}",
                hint=f"set 'exchanges.{self.name}' in the settings",
            )
        await self._load_markets()
        found = await self._call(self._client.fetch_balance())
        totals = found.get("total") or {}
        free, used = found.get("free") or {}, found.get("used") or {}
        return [
            Balance(currency, number(free.get(currency)), number(used.get(currency)), number(totals[currency]))
            for currency in sorted(totals)
        ]

    def watch(self, channel: StreamChannel, symbols: Sequence[Symbol], timeframe: Timeframe | None) -> Connect:
        """See :class:`~tapeline.streams.venue_client.VenueClient`.

        Each session has a client, and so a socket, of its own: one that is ended takes no other stream with it, and
        no cache of the last one is told again.
        """
        self._require(self.capabilities.streams(channel), f"stream of {channel}")
        if channel == "bars" and timeframe is None:
            raise ConfigurationError("a stream of bars needs a timeframe")
        wanted = list(dict.fromkeys(symbols))

        def connect() -> AbstractAsyncContextManager[Batches]:
            return self._session(channel, wanted, timeframe)

        return connect

    async def close(self) -> None:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        await self._client.close()

    @asynccontextmanager
    async def _session(
        self, channel: StreamChannel, symbols: list[Symbol], timeframe: Timeframe | None
    ) -> AsyncIterator[Batches]:
        await self._load_markets()
        client = self._new_client()
        self._share_bucket(client)
        client.set_markets_from_exchange(self._client)
        client.ssl_context = self._client.ssl_context
        # ccxt hands over what came since the last call, but never more than its cache holds: the rest is lost unsaid.
        client.options["tradesLimit"] = CACHED_TRADES
        arrivals: asyncio.Queue[list[Record] | Exception] = asyncio.Queue(_MAXIMUM_ARRIVALS)
        tasks = [asyncio.create_task(self._pump(client, channel, each, timeframe, arrivals)) for each in symbols]
        try:
            yield self._arrivals(arrivals)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if client.session is not None:
                # At once: a venue that has fallen silent would not answer a close frame either.
                await client.session.connector.close()
            await client.close()

    async def _pump(
        self,
        client: Any,
        channel: StreamChannel,
        symbol: Symbol,
        timeframe: Timeframe | None,
        arrivals: asyncio.Queue[list[Record] | Exception],
    ) -> None:
        """Watch one instrument and hand on what comes, then the error that ended it."""
        try:
            while True:
                await arrivals.put(await self._watched(client, channel, symbol, timeframe))
        except Exception as error:  # noqa: BLE001 - whatever ends it is named by the taxonomy where it is read
            await arrivals.put(error)

    async def _watched(
        self, client: Any, channel: StreamChannel, symbol: Symbol, timeframe: Timeframe | None
    ) -> list[Record]:
        if channel == "trades":
            rows = await client.watch_trades(symbol)
            if len(rows) >= CACHED_TRADES:
                raise VenueUnavailableError(f"{self.name}: {len(rows)} trades of {symbol} at once; some may be lost")
            return [trade_of(row) for row in rows]
        if channel == "book":
            return [book_of(symbol, await client.watch_order_book(symbol), None)]
        if channel == "bars":
            assert timeframe is not None  # noqa: S101 - watch() has refused it
            rows = await client.watch_ohlcv(symbol, timeframe.exchange_name)
            now = client.milliseconds() * MILLISECOND
            return [candle_of(symbol, row, timeframe, now) for row in rows]
        if client.has.get("watchBidsAsks") is True:
            return [quote_of(symbol, (await client.watch_bids_asks([symbol]))[symbol])]
        return [quote_of(symbol, await client.watch_ticker(symbol))]

    async def _arrivals(self, arrivals: asyncio.Queue[list[Record] | Exception]) -> Batches:
        while True:
            found = await arrivals.get()
            if isinstance(found, Exception):
                raise self._error(found) from None
            yield found

    async def _load_markets(self) -> dict[str, Any]:
        async with self._loading:
            if not self._client.markets:
                await self._call(self._client.load_markets())
        markets: dict[str, Any] = self._client.markets
        return markets

    async def _call(self, answer: Awaitable[Result]) -> Result:
        try:
            return await answer
        except Exception as error:  # noqa: BLE001 - every exception of a library below gets its class here
            # Without the cause: its text has what the message was freed of.
            raise self._error(error) from None

    def _error(self, error: Exception) -> Exception:
        status, wait = getattr(error, "status_of_answer", None), getattr(error, "retry_after_of_answer", None)
        # A venue may answer with what it was sent: the signature of that request is as good as a key for a while.
        secrets = (*self._secrets, *getattr(error, "sent_secrets", ()))
        return exchange_error(error, self.name, status=status, retry_after=wait, secrets=secrets)

    def _require(self, offered: bool, what: str) -> None:
        if not offered:
            raise NotOfferedError(f"{self.name} offers no {what}", hint="'tapeline exchanges' lists what each offers")

    def _new_client(self) -> Any:
        client = self._kind({"enableRateLimit": True, "timeout": int(self._network.timeout_seconds * 1000)})
        client.timeout_on_exit = 0
        refine(client)
        # ccxt's own logger writes each request's headers, keys among them, at the level DEBUG.
        client.logger = logging.Logger(f"ccxt.{self.name}", level=logging.CRITICAL + 1)
        for ours, theirs in _SETTINGS:
            secret = getattr(self._settings, ours)
            if secret is not None:
                setattr(client, theirs, secret.get_secret_value())
        if self._settings.account is not None:
            client.uid = self._settings.account.get_secret_value()
        if self._settings.sandbox:
            try:
                client.set_sandbox_mode(True)
            except Exception as error:
                raise NotOfferedError(f"{self.name} has no test environment", hint="set sandbox = false") from error
        if self._configure is not None:
            self._configure(client)
        return client

    def _share_bucket(self, client: Any) -> None:
        bucket, name = self.bucket, self.name
        handle_errors, handle_status = client.handle_errors, client.handle_http_status_code

        async def throttle(cost: float | None = None) -> None:
            await bucket.acquire(1.0 if cost is None else float(cost))

        def errors(code: int, reason: str, url: str, method: str, headers: Any, body: Any, *rest: Any) -> Any:
            wait = retry_after_of(headers)
            client.sent_secrets = _signatures(rest[1] if len(rest) > 1 else None)
            client.retry_after_of_answer = wait
            if code in THROTTLED_STATUS:
                bucket.pause(min(PAUSE_WITHOUT_WORD if wait is None else wait, LONGEST_PAUSE))
            with _marked(code, wait, client.sent_secrets):
                if code == 200 and isinstance(body, str) and not body.startswith(("{", "[", '"')):
                    start = body.strip()[:80]
                    what = "a web page" if start.startswith("<") else "nothing" if not start else "no JSON"
                    raise UnreadableAnswerError(f"{name}: {url.partition('?')[0]} answered with {what}: {start!r}")
                return handle_errors(code, reason, url, method, headers, body, *rest)

        def status(code: int, reason: str, url: str, method: str, body: Any) -> Any:
            with _marked(code, client.retry_after_of_answer, client.sent_secrets):
                return handle_status(code, reason, url, method, body)

        client.throttle, client.handle_errors, client.handle_http_status_code = throttle, errors, status


class _marked:  # noqa: N801 - reads as a verb
    """Notes on an exception the status of the answer that it was raised for; ccxt's async side keeps no response."""

    def __init__(self, status: int, retry_after: float | None, secrets: tuple[str, ...]) -> None:
        self._noted = {"status_of_answer": status, "retry_after_of_answer": retry_after, "sent_secrets": secrets}

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: Any, _trace: Any) -> None:
        if error is not None:
            vars(error).update(self._noted)


def _signatures(headers: Any) -> tuple[str, ...]:
    return tuple(str(value) for name, value in (headers or {}).items() if _SIGNED.search(name))
