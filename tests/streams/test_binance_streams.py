"""Sharding, subscriptions at the documented rate, refusals, and the REST history."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError
from tapeline.core.symbol import Symbol
from tapeline.streams.binance import BinanceHistory, BinanceStreams, checked_stream
from tapeline.streams.http_client import RequestsClient
from tapeline.streams.messages import Ticker
from tapeline.streams.timing import Timing
from tests.streams.fake_exchange import FakeExchange
from tests.streams.live_support import FAST

QUIET = replace(FAST, stale_after=None, pong_timeout=5)


def test_streams_are_spread_over_connections_of_1024():
    streams = BinanceStreams([f"s{number}usdt@aggTrade" for number in range(2_500)], print)
    assert [len(shard.wanted) for shard in streams.shards] == [1_024, 1_024, 452]
    assert len({stream for shard in streams.shards for stream in shard.wanted}) == 2_500
    with pytest.raises(ConfigurationError, match="1025"):
        BinanceStreams([], print, per_connection=1_025)


@pytest.mark.parametrize("name", ["btcusdt", "../x@trade", "BTCUSDT@trade", 'a"b@trade', "x" * 90 + "@trade", "", None])
def test_names_that_are_no_streams_are_refused(name):
    with pytest.raises(ConfigurationError):
        checked_stream(name)


@pytest.mark.parametrize("name", ["btcusdt@depth@100ms", "!miniTicker@arr", "btcusdt@kline_1m", "!ticker_1h@arr"])
def test_documented_names_are_accepted(name):
    assert checked_stream(name) == name


@pytest.mark.network_shape
def test_a_full_connection_subscribes_in_few_messages_at_the_documented_rate():
    async def run():
        async with FakeExchange().serving() as exchange:
            now, slept = [0.0], []

            async def sleep(seconds: float) -> None:
                if seconds in (FAST.watch_every, QUIET.life - QUIET.overlap):
                    await asyncio.Event().wait()
                slept.append(seconds)
                now[0] += seconds

            names = [f"s{number}usdt@aggTrade" for number in range(1_024)]
            timing = Timing(monotonic=lambda: now[0], sleep=sleep)
            streams = BinanceStreams(names, print, url=exchange.url, options=QUIET, timing=timing)
            running = asyncio.create_task(streams.run())
            await exchange.until(lambda: any(len(wanted) == 1_024 for wanted in exchange.sessions.values()))
            assert [len(message["params"]) for _, message in exchange.subscribe_messages] == [200] * 5 + [24]
            assert slept == [1.0]  # the fifth message waits for the second second
            streams.stop()
            await running

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.network_shape
def test_streams_come_and_go_while_running_and_stay_over_a_reset():
    async def run():
        async with FakeExchange().serving() as exchange:
            sent = []
            streams = BinanceStreams(
                ["btcusdt@aggTrade"], lambda record, received: None, url=exchange.url, options=QUIET,
                per_connection=2, on_alert=sent.append,
            )  # fmt: skip
            running = asyncio.create_task(streams.run())
            await exchange.subscribed()
            await streams.subscribe(["ethusdt@aggTrade", "btcusdt@aggTrade", "!miniTicker@arr"])
            await exchange.until(lambda: sum(map(len, exchange.sessions.values())) == 3)
            assert sorted(map(len, exchange.sessions.values())) == [1, 2]
            await streams.unsubscribe(["btcusdt@aggTrade", "never@trade"])
            await exchange.until(lambda: sum(map(len, exchange.sessions.values())) == 2)
            opened = exchange.opened
            exchange.reset()
            await exchange.until(
                lambda: (
                    exchange.opened == opened + 2
                    and sorted(name for names in exchange.sessions.values() for name in names)
                    == ["!miniTicker@arr", "ethusdt@aggTrade"]
                )
            )
            # More than the rate allows in a second would be needed for another message: the refusal comes on a new one.
            await streams.subscribe(["refuse@trade"])
            assert [alert.kind for alert in sent] == ["refused"]
            streams.stop()
            await running

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.network_shape
def test_array_streams_become_a_record_an_instrument():
    async def run():
        async with FakeExchange().serving() as exchange:
            got, both = [], asyncio.Event()

            def take(record, received):
                got.append(record)
                if len(got) == 2:
                    both.set()

            streams = BinanceStreams(["!miniTicker@arr"], take, url=exchange.url, options=QUIET)
            running = asyncio.create_task(streams.run())
            await exchange.subscribed()
            row = {"e": "24hrMiniTicker", "E": 1, "c": "2", "o": "1", "h": "3", "l": "1", "v": "9", "q": "18"}
            await exchange.send("!miniTicker@arr", [{**row, "s": "AUSDT"}, {**row, "s": "BUSDT"}])
            await both.wait()
            assert [(type(record), record.symbol, record.last) for record in got] == [
                (Ticker, "AUSDT", 2.0), (Ticker, "BUSDT", 2.0)
            ]  # fmt: skip
            streams.stop()
            await running

    asyncio.run(asyncio.wait_for(run(), 20))


class Canned:
    def __init__(self, body: object) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def get(self, path, parameters):
        self.asked.append((path, dict(parameters)))
        return self.body


def test_the_history_reads_both_kinds_of_trades():
    # The bodies of Binance's documentation of aggTrades and historicalTrades.
    aggregate = [{"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781, "T": 1498793709153,
                  "m": True, "M": True}]  # fmt: skip
    client = Canned(aggregate)
    (one,) = asyncio.run(BinanceHistory(client).trades_from(Symbol.parse("ETHBTC"), 26129))
    assert (one.id, one.price, one.side, one.ts) == ("26129", 0.01633102, -1, 1498793709153000000)
    assert client.asked == [("/api/v3/aggTrades", {"symbol": "ETHBTC", "fromId": "26129", "limit": "1000"})]
    plain = [{"id": 28457, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.000012",
              "time": 1499865549590, "isBuyerMaker": False, "isBestMatch": True}]  # fmt: skip
    (other,) = asyncio.run(BinanceHistory(Canned(plain), channel="trade").trades_from(Symbol.parse("ETHBTC"), 1))
    assert (other.id, other.size, other.side) == ("28457", 12.0, 1)
    for bad in (b"<html>", [{"a": 1}], {"code": -1121}, [{**aggregate[0], "p": "-1"}]):
        with pytest.raises(ProviderError):
            asyncio.run(BinanceHistory(Canned(bad)).trades_from(Symbol.parse("ETHBTC"), 1))


def test_statuses_are_the_venues_words_in_ours():
    words = ["TRADING", "HALT", "BREAK", "END_OF_DAY", "NEW_WORD"]
    body = {"symbols": [{"symbol": f"S{number}", "status": word} for number, word in enumerate(words)]}
    found = asyncio.run(BinanceHistory(Canned(body)).statuses())
    assert list(found.values()) == ["open", "halted", "closed", "closed", "closed"]


@pytest.mark.network_shape
def test_the_client_tells_what_may_be_tried_again():
    async def run():
        async with FakeExchange().serving() as exchange:
            client = RequestsClient(exchange.rest)
            symbol = Symbol.parse("BTCUSDT")
            exchange.rest_faults += [
                lambda: (500, b"", {}), lambda: (429, b"", {"Retry-After": "7"}), lambda: (302, b"", {"Location": "/"})
            ]  # fmt: skip
            with pytest.raises(TemporaryError, match="500"):
                await BinanceHistory(client).trades_from(symbol, 1)
            with pytest.raises(ThrottledError) as slow:
                await BinanceHistory(client).trades_from(symbol, 1)
            assert slow.value.retry_after == 7
            with pytest.raises(ProviderError, match="302"):
                await BinanceHistory(client).trades_from(symbol, 1)
            with pytest.raises(ProviderError, match="longer than 5 bytes"):
                await BinanceHistory(RequestsClient(exchange.rest, maximum_bytes=5)).statuses()
            assert await BinanceHistory(client).trades_from(symbol, 1) == []

    asyncio.run(asyncio.wait_for(run(), 20))
    for base in ("http://example.org", "ftp://127.0.0.1", "https://", "http://127.0.0.1.example.org"):
        with pytest.raises(ConfigurationError):
            RequestsClient(base)
