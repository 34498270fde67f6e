"""OANDA, a broker: its v20 REST interface and its pricing stream behind the interface of every venue.

Paths, fields and limits: OANDA v20 REST documentation, "Instrument Endpoints" (candles), "Account Endpoints", "Pricing
Endpoints" (prices and their stream), "Best Practices" and "Troubleshooting" (answers by HTTP status).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Final, TypeVar

import pandas as pd

from tapeline.core.errors import ConfigurationError, TapelineError, ThrottledError
from tapeline.core.exchange_errors import (
    THROTTLED_STATUS,
    AccessDeniedError,
    CredentialsError,
    NotOfferedError,
    RequestRefusedError,
    UnknownSymbolError,
    UnreadableAnswerError,
    VenueUnavailableError,
    exchange_error,
    redact,
    retry_after_of,
)
from tapeline.core.settings import ExchangeSettings, NetworkSettings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.token_bucket import TokenBucket
from tapeline.streams.capabilities import OANDA, OANDA_PAGE, OANDA_TIMEFRAMES, StreamChannel, capabilities
from tapeline.streams.dialects.base import KEPT_BYTES, Number, Price, Text, decoder, symbol_of
from tapeline.streams.dialects.oanda import ClientPrice, Oanda, book_of, instant_of, quote_of
from tapeline.streams.http_client import checked_address
from tapeline.streams.messages import BookSnapshot, Quarantined, Record, Ticker, Trade, msgspec
from tapeline.streams.venue_client import BAR_COLUMNS, Balance, Batches, Connect, Market, closed_bars

LIVE: Final = ("https://api-fxtrade.oanda.com", "https://stream-fxtrade.oanda.com")
PRACTICE: Final = ("https://api-fxpractice.oanda.com", "https://stream-fxpractice.oanda.com")
MAXIMUM_BYTES: Final = 32 * 1024 * 1024
MAXIMUM_LINE: Final = 64 * 1024
PAUSE_WITHOUT_WORD: Final = 5.0
LONGEST_PAUSE: Final = 3_600.0
_SIDE_COLUMNS: Final = tuple(f"{side}_{name}" for side in ("bid", "ask") for name in BAR_COLUMNS[:4])

Answer = TypeVar("Answer")


class OandaClient:
    """OANDA through a token and an account.

    ``bars`` are mid prices in the common columns and bid and ask bars in ``bid_open`` to ``ask_close``; their volume
    counts price changes. Days begin at midnight UTC, weeks on Monday, as everywhere here. Of the pricing stream OANDA
    sends at most four prices a second and instrument.

    Parameters
    ----------
    settings:
        ``token`` and ``account``; with ``sandbox`` the practice environment.
    addresses:
        REST and stream, ``https://`` (``http://`` on the loopback interface only); OANDA's own where absent.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        network: NetworkSettings,
        *,
        bucket: TokenBucket | None = None,
        addresses: tuple[str, str] | None = None,
    ) -> None:
        rest, stream = addresses or (PRACTICE if settings.sandbox else LIVE)
        self.name = OANDA
        self.capabilities = capabilities(OANDA)
        self.bucket = bucket or TokenBucket(self.capabilities.requests_per_second)
        self._rest, self._stream = checked_address(rest), checked_address(stream)
        self._settings, self._timeout = settings, network.timeout_seconds
        self._secrets = settings.secrets()
        self._session: Any = None

    def __repr__(self) -> str:
        return f"OandaClient({self._rest!r})"

    async def markets(self) -> list[Market]:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        answer = await self._get(_INSTRUMENTS, f"/v3/accounts/{self._account()}/instruments")
        found = []
        for each in answer.instruments:
            base, _, quote = each.name.partition("_")
            found.append(Market(symbol_of(each.name), each.name, base, quote, active=True))
        return sorted(found, key=lambda market: market.symbol)

    async def bars(
        self, symbol: Symbol, timeframe: Timeframe, *, start: int | None, limit: int | None, now: int
    ) -> pd.DataFrame:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        granularity = OANDA_TIMEFRAMES.get(timeframe.exchange_name)
        if granularity is None:
            raise NotOfferedError(
                f"oanda serves no {timeframe} bars", hint=f"it has {', '.join(self.capabilities.timeframes)}"
            )
        if limit is not None and not 1 <= limit <= OANDA_PAGE:
            raise ConfigurationError(f"limit = {limit} must be 1 to {OANDA_PAGE}")
        query = {
            "price": "MBA", "granularity": granularity, "count": str(limit or 500), "dailyAlignment": "0",
            "alignmentTimezone": "UTC", "weeklyAlignment": "Monday",
        }  # fmt: skip
        if start is not None:
            query["from"] = f"{start // 1_000_000_000}.{start % 1_000_000_000:09d}"
        answer = await self._get(_CANDLES, f"/v3/instruments/{_path(symbol)}/candles", query)
        # The flag is the venue's word; the clock is ours, so that a flag that comes early changes nothing.
        rows = [row for candle in answer.candles if (row := candle.row()) is not None]
        return closed_bars(rows, timeframe, now, more=_SIDE_COLUMNS)

    async def trades(self, symbol: Symbol, *, start: int | None, limit: int | None) -> list[Trade]:
        """OANDA is the other side of every trade and publishes none."""
        raise NotOfferedError(f"oanda publishes no trades of {symbol}", hint="its quotes can be streamed")

    async def ticker(self, symbol: Symbol) -> Ticker:
        """Bid and ask with their mid as ``last``; the rolling values are NaN: OANDA has none."""
        quote = quote_of(symbol, await self._price(symbol))
        nan = math.nan
        return Ticker(symbol, quote.ts, (quote.bid + quote.ask) / 2, quote.bid, quote.ask, nan, nan, nan, nan)

    async def order_book(self, symbol: Symbol, *, limit: int | None) -> BookSnapshot:
        """The buckets at which OANDA deals, by size: its own, not a market's book."""
        book = book_of(symbol, await self._price(symbol))
        return msgspec.structs.replace(book, bids=book.bids[:limit], asks=book.asks[:limit], depth=limit)

    async def server_time(self) -> int:
        """OANDA has no endpoint for its clock."""
        raise NotOfferedError("oanda offers no clock", hint="its prices and heartbeats carry its time")

    async def balance(self) -> list[Balance]:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        account = (await self._get(_SUMMARY, f"/v3/accounts/{self._account()}/summary")).account
        return [Balance(account.currency, account.marginAvailable, account.marginUsed, account.balance)]

    def watch(self, channel: StreamChannel, symbols: Sequence[Symbol], timeframe: Timeframe | None) -> Connect:
        """See :class:`~tapeline.streams.venue_client.VenueClient`. A heartbeat comes every five seconds."""
        if channel != "quotes":
            raise NotOfferedError(f"oanda streams no {channel}", hint="it streams quotes")
        path = f"/v3/accounts/{self._account()}/pricing/stream"
        query = {"instruments": ",".join(dict.fromkeys(_path(symbol) for symbol in symbols)), "snapshot": "true"}

        def connect() -> AbstractAsyncContextManager[Batches]:
            return self._pricing(path, query)

        return connect

    async def close(self) -> None:
        """See :class:`~tapeline.streams.venue_client.VenueClient`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _pricing(self, path: str, query: dict[str, str]) -> AsyncIterator[Batches]:
        import aiohttp

        # No limit on the whole, and none between two lines: the supervisor's watchdog decides what silence means.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout)
        await self.bucket.acquire()
        async with AsyncExitStack() as opened:
            try:
                session = await opened.enter_async_context(self._new_session(timeout))
                request = session.get(self._stream + path, params=query, headers=self._headers())
                answer = await opened.enter_async_context(request)
                if answer.status != 200:
                    raise self._refusal("pricing stream", answer.status, answer.headers, await _body(answer))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._lost("pricing stream", error) from None
            yield self._lines(answer.content)

    async def _lines(self, content: Any) -> Batches:
        import aiohttp

        dialect = Oanda()
        rest = b""
        try:
            async for part in content.iter_any():
                *lines, rest = (rest + part).split(b"\n")
                records: list[Record] = [record for line in lines if line.strip() for record in dialect.parse(line)]
                if len(rest) > MAXIMUM_LINE:
                    records.append(_too_long(rest))
                    rest = b""
                if records:
                    yield records
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost("pricing stream", error) from None

    async def _price(self, symbol: Symbol) -> ClientPrice:
        path = f"/v3/accounts/{self._account()}/pricing"
        answer = await self._get(_PRICES, path, {"instruments": _path(symbol)})
        for price in answer.prices:
            if price.instrument == symbol:
                return price
        raise UnreadableAnswerError(f"oanda: the answer holds no price of {symbol}")

    async def _get(
        self, kind: msgspec.json.Decoder[Answer], path: str, query: Mapping[str, str] | None = None
    ) -> Answer:
        import aiohttp

        what = path.rpartition("/")[2]
        await self.bucket.acquire()
        if self._session is None:
            self._session = self._new_session(aiohttp.ClientTimeout(total=self._timeout))
        try:
            async with self._session.get(self._rest + path, params=query or {}, headers=self._headers()) as answer:
                body = await _body(answer)
                if answer.status != 200:
                    raise self._refusal(what, answer.status, answer.headers, body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(what, error) from None
        try:
            return kind.decode(body)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            start = redact(body[:80].decode(errors="replace"), self._secrets)
            raise UnreadableAnswerError(f"oanda: {what}: {error}; the answer begins {start!r}") from None

    def _new_session(self, timeout: Any) -> Any:
        import aiohttp

        return aiohttp.ClientSession(timeout=timeout, trust_env=False, read_bufsize=MAXIMUM_LINE)

    def _headers(self) -> dict[str, str]:
        token = self._settings.token
        if token is None:
            raise ConfigurationError("oanda needs a token", hint="set 'exchanges.oanda.token' in the settings")
        return {
            "Authorization": f"Bearer {token.get_secret_value()}",
            "Accept-Datetime-Format": "RFC3339",
            "Content-Type": "application/json",
        }

    def _account(self) -> str:
        account = self._settings.account
        if account is None:
            raise ConfigurationError("oanda needs an account", hint="set 'exchanges.oanda.account' in the settings")
        text = account.get_secret_value()
        if not (text.isascii() and text.replace("-", "").isalnum()):
            raise ConfigurationError(
                "the account of oanda may hold letters, digits and - only", hint="as 101-004-1234567-001"
            )
        return text

    def _refusal(self, what: str, status: int, headers: Mapping[str, str], body: bytes) -> TapelineError:
        """What an answer that is not 200 means."""
        try:
            detail = _REFUSED.decode(body).errorMessage
        except (msgspec.MsgspecError, RecursionError):
            detail = body[:80].decode(errors="replace")
        message = f"oanda: {what}: status {status}: {redact(detail, self._secrets)}"
        if status in THROTTLED_STATUS:
            wait = retry_after_of(headers)
            self.bucket.pause(min(PAUSE_WITHOUT_WORD if wait is None else wait, LONGEST_PAUSE))
            return ThrottledError(message, retry_after=wait)
        if status == 401:
            return CredentialsError(message, hint="check 'exchanges.oanda' in the settings: token, account, sandbox")
        if status == 403:
            return AccessDeniedError(message, hint="the token may not use this account")
        if status >= 500 or status == 408:
            return VenueUnavailableError(message, hint="the network or the broker; try again")
        if status == 400 and "instrument" in detail.lower():
            return UnknownSymbolError(message, hint="'markets' lists the instruments of the account, such as EUR_USD")
        return RequestRefusedError(message)

    def _lost(self, what: str, error: Exception) -> TapelineError:
        # aiohttp's texts hold the address, and the address the account.
        return exchange_error(VenueUnavailableError(f"oanda: {what}: {type(error).__name__}"), OANDA)


class _Refused(msgspec.Struct):
    errorMessage: str = ""  # noqa: N815 - the venue's spelling


class _Ohlc(msgspec.Struct):
    o: Price
    h: Price
    l: Price  # noqa: E741 - the venue's spelling
    c: Price


class _Candle(msgspec.Struct):
    time: Text
    complete: bool
    volume: Number
    mid: _Ohlc
    bid: _Ohlc
    ask: _Ohlc

    def row(self) -> tuple[float, ...] | None:
        """Time (ns), mid OHLC, volume, bid and ask OHLC; None while the candle forms."""
        if not self.complete:
            return None
        mid, bid, ask = self.mid, self.bid, self.ask
        sides = (bid.o, bid.h, bid.l, bid.c, ask.o, ask.h, ask.l, ask.c)
        return (instant_of(self.time), mid.o, mid.h, mid.l, mid.c, self.volume, *sides)


class _Candles(msgspec.Struct):
    candles: Annotated[list[_Candle], msgspec.Meta(max_length=OANDA_PAGE)]


class _Instrument(msgspec.Struct):
    name: Text


class _Instruments(msgspec.Struct):
    instruments: list[_Instrument]


class _Prices(msgspec.Struct):
    prices: list[ClientPrice]


class _Account(msgspec.Struct):
    currency: Text
    balance: Number
    marginUsed: Number = 0.0  # noqa: N815 - the venue's spelling
    marginAvailable: Number = 0.0  # noqa: N815


class _Summary(msgspec.Struct):
    account: _Account


_REFUSED = decoder(_Refused)
_CANDLES = decoder(_Candles)
_INSTRUMENTS = decoder(_Instruments)
_PRICES = decoder(_Prices)
_SUMMARY = decoder(_Summary)


def _path(symbol: Symbol) -> str:
    if not symbol.replace("_", "").isalnum():
        raise UnknownSymbolError(f"oanda: {str(symbol)!r} is no instrument of OANDA", hint="such as EUR_USD")
    return str(symbol)


async def _body(answer: Any) -> bytes:
    body = bytearray()
    async for part in answer.content.iter_chunked(65_536):
        body += part
        if len(body) > MAXIMUM_BYTES:
            raise UnreadableAnswerError(f"oanda: the answer is longer than {MAXIMUM_BYTES} bytes")
    return bytes(body)


def _too_long(rest: bytes) -> Quarantined:
    return Quarantined(OANDA, f"a line of more than {MAXIMUM_LINE} bytes", rest[:KEPT_BYTES], len(rest))
