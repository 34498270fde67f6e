"""Binance while it runs: symbols are subscribed and let go on connections that stand, from the first to the last."""

from __future__ import annotations

import asyncio

import pytest

from tapeline.alerts.feeds.batcher import Batcher
from tapeline.alerts.feeds.binance import BinanceSource
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.fallback import FallbackOptions
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.feeds.symbol_changes import follow_symbols
from tapeline.streams.binance import BinanceHistory, BinanceStreams, stream_names
from tapeline.streams.http_client import RequestsClient
from tests.streams.fake_exchange import FakeExchange
from tests.streams.live_support import FAST, QUICK

pytestmark = pytest.mark.network_shape
OURS = {"BTCUSD": "BTCUSDT", "ETHUSD": "ETHUSDT"}


def names_of(symbol: str) -> list[SourceName]:
    return [SourceName("binance", OURS[symbol])] if symbol in OURS else []


def test_from_no_symbol_to_two_to_none_and_back_without_what_was_traded_meanwhile() -> None:
    async def run() -> None:
        async with FakeExchange().serving() as exchange:
            batcher = Batcher({name: number for number, name in enumerate(OURS)})
            manager = DataManager(batcher)
            history = BinanceHistory(RequestsClient(exchange.rest), weight_per_minute=6_000_000)
            source = BinanceSource(
                manager, [], history=history, url=exchange.url, connection=FAST, collector=QUICK,
                fallback=FallbackOptions(stale_after=3_600.0), check_every=0.005,
            )  # fmt: skip
            running = asyncio.create_task(source.run())
            given: list[tuple[str, int]] = []

            async def until(holds) -> None:
                async with asyncio.timeout(20):
                    while not holds():
                        while (found := batcher.flush(0, force=True)) is not None:
                            _, taken = found
                            sequences = taken.sequences.tolist()
                            rows = zip(taken.symbols.tolist(), sequences, strict=True)
                            given.extend((list(OURS)[row], sequence) for row, sequence in rows if sequence >= 0)
                        await asyncio.sleep(0.001)

            # Nothing to follow is no reason to end, and a symbol that is no source's is only watched.
            await follow_symbols(manager, [source, object()], ["BTCUSD", "ODD"], [], names_of)
            await until(lambda: exchange.sessions)
            await exchange.subscribed(after=0)
            await exchange.trade("BTCUSDT")
            await until(lambda: [one for one, _ in given] == ["BTCUSD"])
            (session,) = exchange.sessions
            await follow_symbols(manager, [source], ["ETHUSD"], [], names_of)
            # The same connection takes the second one.
            assert list(exchange.sessions) == [session]
            assert sorted(exchange.sessions[session]) == stream_names(sorted(OURS.values()), ["aggTrade"])
            await exchange.trade("ETHUSDT")
            await until(lambda: [one for one, _ in given] == ["BTCUSD", "ETHUSD"])
            await follow_symbols(manager, [source], [], ["BTCUSD"], names_of)
            assert sorted(exchange.sessions[session]) == ["ethusdt@aggTrade"]
            await follow_symbols(manager, [source], [], ["ETHUSD"], names_of)
            # A connection without a stream would be silent for ever: it is ended.
            await until(lambda: not exchange.sessions)
            assert source.streams.shards == []
            assert not running.done()
            for _ in range(5):
                await exchange.trade("BTCUSDT")
            begun = exchange.opened
            await follow_symbols(manager, [source], ["BTCUSD"], [], names_of)
            await exchange.subscribed(after=begun)
            await exchange.trade("BTCUSDT")
            await until(lambda: len(given) >= 3)
            await asyncio.sleep(0.02)
            await until(lambda: True)
            # What was traded while nobody needed it is not asked for.
            assert given[2:] == [("BTCUSD", exchange.ids("BTCUSDT")[-1])]
            source.stop()
            await running

    asyncio.run(run())


def test_no_connection_has_more_streams_than_the_venue_permits() -> None:
    async def run() -> None:
        streams = BinanceStreams([], print)
        names = stream_names([f"S{number}USDT" for number in range(2_500)], ["aggTrade"])
        for at in range(0, 2_500, 500):
            await streams.subscribe(names[at : at + 500])
        assert [len(shard.wanted) for shard in streams.shards] == [1_024, 1_024, 452]
        await streams.unsubscribe(names[:1_024])
        await streams.unsubscribe(names[1_100:1_200])
        assert [len(shard.wanted) for shard in streams.shards] == [924, 452]
        # Room that others left is used before a further connection is opened.
        await streams.subscribe(names[:600])
        assert [len(shard.wanted) for shard in streams.shards] == [1_024, 952]
        assert len({shard.connection.name for shard in streams.shards}) == 2

    asyncio.run(run())
