"""OANDA's documented answers from a scripted server: candles, prices, the pricing stream, refusals and secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from aiohttp import web

from tapeline.core.errors import ConfigurationError, TapelineError, ThrottledError
from tapeline.core.exchange_errors import (
    AccessDeniedError,
    CredentialsError,
    NotOfferedError,
    RequestRefusedError,
    UnknownSymbolError,
    UnreadableAnswerError,
    VenueUnavailableError,
)
from tapeline.core.settings import ExchangeSettings, NetworkSettings, Settings
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert
from tapeline.streams.dialects.oanda import Oanda, instant_of
from tapeline.streams.exchange_manager import ExchangeManager
from tapeline.streams.messages import Heartbeat, Notice, Quarantined, Quote
from tapeline.streams.oanda import LIVE, PRACTICE, OandaClient
from tapeline.streams.supervised_stream import StreamOptions
from tapeline.streams.timing import Backoff, Timing
from tests.streams.loopback import Asked, Reply, Venue, until

pytestmark = pytest.mark.network_shape

TOKEN, ACCOUNT = "0123456789abcdef-fedcba9876543210", "101-004-1234567-001"
FAST = StreamOptions(stale_after=0.3, watch_every=0.02, backoff=Backoff(first=0.005, cap=0.02))


def settings(**network: Any) -> Settings:
    network = {"timeout_seconds": 5, "maximum_tries": 2, "backoff_seconds": 0} | network
    return Settings(exchanges={"oanda": {"token": TOKEN, "account": ACCOUNT, "sandbox": True}}, network=network)


def asked_of(answer: Callable[[Asked], Reply], ask: Any, *, wall: int | None = None) -> tuple[Any, Venue]:
    venue = Venue(answer)

    async def run() -> Any:
        timing = Timing() if wall is None else Timing(wall=lambda: wall)
        async with venue.serving():
            addresses = (venue.http, venue.http)
            async with ExchangeManager(settings(), timing=timing, oanda_addresses=addresses) as manager:
                return await ask(manager)

    return asyncio.run(asyncio.wait_for(run(), 20)), venue


def candle(time: str, mid: float, *, complete: bool = True, volume: int = 57) -> dict[str, Any]:
    def side(shift: float) -> dict[str, str]:
        levels = (mid, mid + 0.002, mid - 0.002, mid + 0.001)
        return {name: f"{level + shift:.5f}" for name, level in zip("ohlc", levels, strict=True)}

    sides = {"mid": side(0), "bid": side(-0.0001), "ask": side(0.0001)}
    return {"complete": complete, "volume": volume, "time": time, **sides}


def price(instrument: str = "EUR_USD", second: int = 43, bid: str = "1.08900", **more: Any) -> dict[str, Any]:
    return {
        "type": "PRICE", "time": f"2016-10-27T08:38:{second:02}.094548890Z", "instrument": instrument,
        "bids": [{"price": bid, "liquidity": 1_000_000}, {"price": "1.08890", "liquidity": 5_000_000}],
        "asks": [{"price": "1.08920", "liquidity": 1_000_000}], "closeoutBid": "1.08890", "closeoutAsk": "1.08920",
        "status": "tradeable", "tradeable": True,
    } | more  # fmt: skip


HEARTBEAT = {"type": "HEARTBEAT", "time": "2016-10-27T08:38:45.664613867Z"}
CANDLES = {
    "instrument": "EUR_USD",
    "granularity": "M1",
    "candles": [
        candle("2016-10-17T15:00:00.000000000Z", 1.10),
        candle("2016-10-17T15:01:00.000000000Z", 1.11),
        candle("2016-10-17T15:04:00.000000000Z", 1.12),
        candle("2016-10-17T15:05:00.000000000Z", 1.13, complete=False),
    ],
}


def bars(manager: ExchangeManager) -> Any:
    return manager.bars("oanda", "EUR_USD", "M1", start=pd.Timestamp("2016-10-17 15:00", tz="UTC"), limit=4)


def test_candles_come_as_mid_bid_and_ask_and_the_one_that_forms_is_left_out() -> None:
    found, venue = asked_of(lambda asked: Reply(CANDLES), bars)
    assert [str(stamp) for stamp in found.index] == [f"2016-10-17 15:0{i}:00+00:00" for i in (0, 1, 4)]
    assert found["open"].tolist() == [1.10, 1.11, 1.12]
    assert found["volume"].tolist() == [57.0] * 3
    assert (found["ask_close"] - found["bid_close"]).tolist() == pytest.approx([0.0002] * 3)
    assert found["bid_high"].iloc[0] == 1.1019
    asked = venue.asked[0]
    assert asked.path == "/v3/instruments/EUR_USD/candles"
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["Accept-Datetime-Format"] == "RFC3339"
    assert asked.query == {
        "price": "MBA", "granularity": "M1", "count": "4", "from": "1476716400.000000000", "dailyAlignment": "0",
        "alignmentTimezone": "UTC", "weeklyAlignment": "Monday",
    }  # fmt: skip


def test_a_flag_that_comes_early_is_not_believed_against_the_clock() -> None:
    wall = pd.Timestamp("2016-10-17 15:04:59", tz="UTC").value
    found, _ = asked_of(lambda asked: Reply(CANDLES), bars, wall=wall)
    assert len(found) == 2
    found, _ = asked_of(lambda asked: Reply(CANDLES), bars, wall=wall + 10**9)
    assert len(found) == 3


def test_instruments_balance_ticker_and_book() -> None:
    def answer(asked: Asked) -> Reply:
        kind = asked.path.rpartition("/")[2]
        assert asked.path.startswith(f"/v3/accounts/{ACCOUNT}/")
        if kind == "instruments":
            names = [{"name": name, "type": "CURRENCY", "displayName": name} for name in ("USD_JPY", "EUR_USD")]
            return Reply({"instruments": names, "lastTransactionID": "1"})
        if kind == "summary":
            account = {
                "id": ACCOUNT, "currency": "EUR", "balance": "1000.50", "marginUsed": "100.25",
                "marginAvailable": "900.25", "NAV": "1000.50",
            }  # fmt: skip
            return Reply({"account": account, "lastTransactionID": "1"})
        assert asked.query == {"instruments": "EUR_USD"}
        return Reply({"time": "2016-10-27T08:38:43Z", "prices": [price()]})

    async def ask(manager: ExchangeManager) -> tuple[Any, ...]:
        return (
            await manager.markets("oanda"),
            await manager.balance("oanda"),
            await manager.ticker("oanda", "EUR_USD"),
            await manager.order_book("oanda", "EUR_USD", limit=1),
        )

    (markets, balances, ticker, book), _ = asked_of(answer, ask)
    assert [(market.symbol, market.base, market.quote) for market in markets] == [
        ("EUR_USD", "EUR", "USD"),
        ("USD_JPY", "USD", "JPY"),
    ]
    assert [(each.currency, each.free, each.used, each.total) for each in balances] == [("EUR", 900.25, 100.25, 1000.5)]
    assert (ticker.bid, ticker.ask, ticker.last) == (1.089, 1.0892, pytest.approx(1.0891))
    assert math.isnan(ticker.volume)
    assert (book.bids, book.asks) == ([(1.089, 1_000_000.0)], [(1.0892, 1_000_000.0)])
    assert book.ts == 1_477_557_523_094_548_890


REFUSALS = [
    (401, {"errorMessage": "Insufficient authorization to perform request."}, CredentialsError),
    (403, {"errorMessage": "Forbidden"}, AccessDeniedError),
    (400, {"errorMessage": "Invalid value specified for 'instrument'"}, UnknownSymbolError),
    (400, {"errorMessage": "Maximum value for 'count' exceeded"}, RequestRefusedError),
    (404, {"errorMessage": "The specified account does not exist"}, RequestRefusedError),
    (429, {"errorMessage": "Too many requests"}, ThrottledError),
    (500, "<html>oops</html>", VenueUnavailableError),
    (503, {"errorMessage": "Service unavailable"}, VenueUnavailableError),
    (200, "<html>Sign in</html>", UnreadableAnswerError),
    (200, {"candles": [{"time": "now"}]}, UnreadableAnswerError),
    (200, "", UnreadableAnswerError),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_documented_refusals_become_their_class(status: int, body: Any, kind: type[TapelineError]) -> None:
    async def ask(manager: ExchangeManager) -> TapelineError:
        with pytest.raises(TapelineError) as caught:
            await bars(manager)
        return caught.value

    found, venue = asked_of(lambda asked: Reply(body, status, {"Retry-After": "0"}), ask)
    assert type(found) is kind, found
    # What time may heal was asked twice, what it may not once.
    assert len(venue.asked) == (2 if kind in (ThrottledError, VenueUnavailableError) else 1)


def test_a_429_shuts_the_bucket_for_as_long_as_asked() -> None:
    async def ask(manager: ExchangeManager) -> float:
        with pytest.raises(ThrottledError) as caught:
            await bars(manager)
        assert caught.value.retry_after == 600.0
        return manager.bucket("oanda").paused()

    paused, venue = asked_of(lambda asked: Reply({}, 429, {"Retry-After": "600"}), ask)
    assert 590 < paused <= 600
    assert len(venue.asked) == 1


def test_token_and_account_are_in_no_log_no_repr_and_no_error(caplog) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = [repr(settings()), str(settings().model_dump())]

    async def ask(manager: ExchangeManager) -> None:
        said.append(repr(manager) + repr(manager.open("oanda")) + repr(manager.open("oanda").bucket))
        for call in (bars(manager), manager.balance("oanda"), manager.ticker("oanda", "EUR_USD")):
            try:
                await call
            except TapelineError as error:
                logging.getLogger("tapeline").exception("failed")
                said.append(f"{error} {error!r} {error.args}")

    bodies = iter([(401, f"bad {TOKEN} of {ACCOUNT}"), (404, json.dumps({"errorMessage": f"no {ACCOUNT}"}))])
    asked_of(lambda asked: (lambda found: Reply(found[1], found[0]))(next(bodies, (200, f"{TOKEN}"))), ask)
    asked_of(lambda asked: Reply({}, 503), ask)
    assert len(said) > 6
    for secret in (TOKEN, ACCOUNT):
        assert all(secret not in each for each in said)
        assert secret not in caplog.text


def test_a_server_that_is_gone_is_unavailable_and_the_account_is_not_told() -> None:
    async def run() -> None:
        addresses = ("http://127.0.0.1:9", "http://127.0.0.1:9")
        async with ExchangeManager(settings(), oanda_addresses=addresses) as manager:
            with pytest.raises(VenueUnavailableError) as caught:
                await manager.balance("oanda")
            assert ACCOUNT not in str(caught.value)

    asyncio.run(run())


def test_practice_and_live_have_their_own_hosts() -> None:
    network = NetworkSettings()
    assert OandaClient(ExchangeSettings(), network)._rest == LIVE[0] == "https://api-fxtrade.oanda.com"
    assert OandaClient(ExchangeSettings(sandbox=True), network)._stream == PRACTICE[1]
    with pytest.raises(ConfigurationError, match="https"):
        OandaClient(ExchangeSettings(), network, addresses=("http://example.org", "https://example.org"))


def test_what_is_missing_or_not_offered_is_said_before_asking() -> None:
    async def run() -> None:
        async with ExchangeManager(Settings()) as manager:
            with pytest.raises(ConfigurationError, match="needs a token"):
                await bars(manager)
            with pytest.raises(ConfigurationError, match="needs an account"):
                await manager.balance("oanda")
        async with ExchangeManager(settings()) as manager:
            for call in (manager.trades("oanda", "EUR_USD"), manager.server_time("oanda")):
                with pytest.raises(NotOfferedError):
                    await call
            with pytest.raises(UnknownSymbolError, match="no instrument"):
                await manager.bars("oanda", "EUR/USD", "M1")
            with pytest.raises(ConfigurationError, match="limit = 5001"):
                await manager.bars("oanda", "EUR_USD", "M1", limit=5001)
        hostile = Settings(exchanges={"oanda": {"token": TOKEN, "account": "../x"}})
        async with ExchangeManager(hostile) as manager:
            with pytest.raises(ConfigurationError, match="letters, digits"):
                await manager.balance("oanda")

    asyncio.run(run())


def streamed(
    sessions: Callable[[Callable[[bytes], Any], int], Any], enough: Callable[[list[Any]], bool], **more: Any
) -> tuple[list[Any], list[FeedAlert], list[str], Venue, Any]:
    """What a quote stream brings from scripted sessions."""
    got: list[Any] = []
    alerts: list[FeedAlert] = []
    broken: list[str] = []

    async def raw(request: web.Request) -> web.StreamResponse:
        venue.sessions += 1
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.enable_chunked_encoding()
        found = await sessions_of(response, request, venue.sessions)
        return found or response

    async def sessions_of(response: web.StreamResponse, request: web.Request, number: int) -> Any:
        async def write(data: bytes) -> None:
            if not response.prepared:
                await response.prepare(request)
            await response.write(data)

        result = await sessions(write, number)
        if result == "drop":
            request.transport.abort()
            return None
        return result

    venue = Venue(raw=raw)

    async def run() -> Any:
        async with venue.serving():
            addresses = (venue.http, venue.http)
            async with ExchangeManager(settings(), on_alert=alerts.append, oanda_addresses=addresses) as manager:
                stream = manager.stream(
                    "oanda", "quotes", ["EUR_USD", "USD_JPY"], lambda record, at: got.append(record),
                    on_break=broken.append, options=more.get("options", FAST),
                )  # fmt: skip
                running = asyncio.create_task(stream.run())
                await until(lambda: enough(got) or running.done())
                stream.stop()
                await running
                return stream.counters

    counters = asyncio.run(asyncio.wait_for(run(), 20))
    return got, alerts, broken, venue, counters


def line(found: Any) -> bytes:
    return json.dumps(found).encode() + b"\n"


def test_prices_come_as_quotes_whatever_the_chunks_are() -> None:
    async def sessions(write: Any, number: int) -> None:
        data = (
            line(price(second=1)) + line(HEARTBEAT) + line(price("USD_JPY", second=2)) + b"\n" + line(price(second=3))
        )
        for i in range(0, len(data), 37):
            await write(data[i : i + 37])
        await asyncio.sleep(1)

    got, alerts, broken, venue, _ = streamed(sessions, lambda got: len(got) == 3)
    assert all(isinstance(record, Quote) for record in got)
    assert [record.symbol for record in got] == ["EUR_USD", "USD_JPY", "EUR_USD"]
    assert (got[0].bid, got[0].bid_size, got[0].ask) == (1.089, 1_000_000.0, 1.0892)
    assert got[0].ts == 1_477_557_481_094_548_890
    asked = venue.asked[0]
    assert asked.path == f"/v3/accounts/{ACCOUNT}/pricing/stream"
    assert asked.query["instruments"] == "EUR_USD,USD_JPY"
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert (alerts, broken) == ([], [])


def test_malformed_lines_are_quarantined_and_the_stream_goes_on() -> None:
    bad = [
        b"{\n",
        b"\xff\xfe\n",
        b'{"type":"PRICE"}\n',
        line(price(bid="-1")),
        line(price("../etc")),
        b"[" * 9_000 + b"\n",
    ]

    async def sessions(write: Any, number: int) -> None:
        for each in bad:
            await write(each)
        await write(b"x" * 200_000)  # no end of the line in sight
        await write(b"\n" + line(price()))
        await asyncio.sleep(1)

    got, alerts, _, venue, _ = streamed(sessions, lambda got: any(isinstance(each, Quote) for each in got))
    refused = [record for record in got if isinstance(record, Quarantined)]
    assert len(refused) >= len(bad) + 1
    assert any("more than 65536 bytes" in record.reason for record in refused)
    assert all(len(record.raw) <= 4_096 for record in refused)
    assert isinstance(got[-1], Quote)
    assert venue.sessions == 1
    assert alerts == []


def test_heartbeats_keep_a_quiet_stream_and_their_absence_ends_it() -> None:
    async def sessions(write: Any, number: int) -> None:
        if number == 1:
            for _ in range(6):  # twice as long as silence may last
                await write(line(HEARTBEAT))
                await asyncio.sleep(0.1)
            await write(line(price(second=1)))
            await asyncio.sleep(5)  # neither price nor heartbeat: half-open
        await write(line(price(second=2)))
        await asyncio.sleep(5)

    got, alerts, broken, venue, counters = streamed(sessions, lambda got: len(got) == 2)
    assert [record.ts % 60_000_000_000 // 10**9 for record in got] == [1, 2]
    assert [alert.kind for alert in alerts] == ["stale", "recovered"]
    assert venue.sessions == 2
    assert len(broken) == 1
    assert counters.stale == 1


def test_a_dropped_connection_a_throttled_one_and_one_that_the_server_ended_come_back() -> None:
    async def sessions(write: Any, number: int) -> Any:
        if number == 1:
            await write(line(price(second=1)))
            await asyncio.sleep(0.02)
            return "drop"
        if number == 2:
            return web.json_response({"errorMessage": "Too many"}, status=429, headers={"Retry-After": "0"})
        if number == 3:
            await write(line(price(second=2)))
            return None  # a clean end of the body
        await write(line(price(second=3)))
        return await asyncio.sleep(5)

    got, _, broken, venue, counters = streamed(sessions, lambda got: len(got) == 3)
    assert [record.ts % 60_000_000_000 // 10**9 for record in got] == [1, 2, 3]
    assert venue.sessions == 4
    assert len(broken) == 2
    assert counters.failed == 1


def test_a_wrong_token_ends_the_stream_at_once() -> None:
    async def sessions(write: Any, number: int) -> Any:
        return web.json_response({"errorMessage": "Insufficient authorization"}, status=401)

    with pytest.raises(CredentialsError, match="status 401"):
        streamed(sessions, lambda got: False)


def test_a_closed_market_is_a_notice_and_no_quote() -> None:
    shut = Oanda().parse(line(price(tradeable=False)))
    assert shut == [Notice("closed", "EUR_USD")]
    assert Oanda().parse(line(HEARTBEAT)) == [Heartbeat(1_477_557_525_664_613_867)]
    one_sided = Oanda().parse(line(price(asks=[])))[0]
    assert math.isnan(one_sided.ask)
    assert Oanda().parse(line({"type": "TRANSACTION", "time": "x"}))[0].unknown


@pytest.mark.parametrize("text", ["2016-10-27", "2016-13-27T08:38:43Z", "now", "", "2016-10-27T08:38:43.1234567890Z"])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        instant_of(text)


def test_symbols_keep_the_brokers_spelling() -> None:
    assert Oanda().parse(line(price()))[0].symbol == Symbol.parse("EUR_USD")
