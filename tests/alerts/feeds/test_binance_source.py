"""Binance to batches against the scripted exchange: every trade once and in order, or a gap that is said."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tapeline.alerts.engine.kernel import CLOCK, GAP, TRADE
from tapeline.alerts.feeds.batcher import Batcher, BatcherOptions
from tapeline.alerts.feeds.binance import BinanceSource
from tapeline.alerts.feeds.data_manager import DataManager, SourceName
from tapeline.alerts.feeds.fallback import FallbackOptions
from tapeline.streams.alerts import FeedLostError
from tapeline.streams.binance import BinanceHistory
from tapeline.streams.http_client import RequestsClient
from tests.streams.fake_exchange import FakeExchange, play
from tests.streams.live_support import FAST, QUICK

pytestmark = pytest.mark.network_shape
NAMES = ["BTCUSDT", "ETHUSDT"]
SILENT = FallbackOptions(stale_after=0.03, poll_every=0.01, poll_most=0.05)
NEVER = FallbackOptions(stale_after=3_600.0)


class Consumer:
    """Flushes the batcher as the engine would, and keeps the records."""

    def __init__(self, options: BatcherOptions | None = None) -> None:
        self.batcher = Batcher({name: number for number, name in enumerate(NAMES)}, options=options)
        self.alerts: list = []
        self.manager = DataManager(self.batcher, on_alert=self.alerts.append)
        for name in NAMES:
            self.manager.watch(name, [SourceName("binance", name)])
        self.records: list[tuple] = []
        self.positions: dict[str, int] = {}

    def drain(self) -> None:
        while (found := self.batcher.flush(0, force=True)) is not None:
            batch, taken = found
            late = taken.late.tolist()
            self.records += zip(*(one.tolist() for one in batch), taken.sequences.tolist(), late, strict=True)
            self.positions |= taken.positions

    def ids(self, symbol: str) -> list[int]:
        number = NAMES.index(symbol)
        return [row[5] for row in self.records if row[0] == number and row[4] == TRADE]

    async def until(self, condition, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                self.drain()
                if condition():
                    return
                await asyncio.sleep(0.001)


@asynccontextmanager
async def live(exchange: FakeExchange, consumer: Consumer, **options):
    history = BinanceHistory(RequestsClient(exchange.rest), weight_per_minute=6_000_000)
    options = {"history": history, "connection": FAST, "collector": QUICK, "fallback": NEVER, **options}
    source = BinanceSource(
        consumer.manager, NAMES, url=exchange.url, on_alert=consumer.alerts.append, check_every=0.005, **options
    )
    opened = exchange.opened
    running = asyncio.create_task(source.run())
    try:
        await exchange.subscribed(after=opened)
        for symbol in NAMES:
            await exchange.trade(symbol)
        await consumer.until(lambda: all(consumer.ids(symbol) for symbol in NAMES))
        yield source
    finally:
        source.stop()
        while not running.done():
            consumer.drain()
            await asyncio.sleep(0.001)
        await running
        consumer.drain()


async def finish(exchange: FakeExchange, consumer: Consumer) -> None:
    for symbol in NAMES:
        await exchange.trade(symbol)
    await consumer.until(lambda: all(consumer.ids(one)[-1:] == exchange.ids(one)[-1:] for one in NAMES))


@pytest.mark.parametrize("seed", range(4))
def test_every_trade_reaches_the_evaluator_once_and_in_order_whatever_the_exchange_does(seed):
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer()
            async with live(exchange, consumer, fallback=SILENT) as source:
                done = await play(exchange, random.Random(seed), 40)
                exchange.rest_faults.clear()
                await finish(exchange, consumer)
            assert {"drop", "reorder"} & set(done)
            for symbol in NAMES:
                assert consumer.ids(symbol) == exchange.ids(symbol)
                assert consumer.positions[f"binance:{symbol}"] == exchange.ids(symbol)[-1]
            assert not any(row[4] == GAP for row in consumer.records)
            assert consumer.manager.counters.given == sum(map(len, exchange.made.values()))
            assert any(row[6] for row in consumer.records)
            assert not source.collector.unfilled

    asyncio.run(run())


def test_the_history_takes_over_from_a_silent_stream_and_hands_back():
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer()
            quiet = replace(FAST, stale_after=3_600.0)
            async with live(exchange, consumer, connection=quiet, fallback=SILENT) as source:
                (session,) = exchange.sessions
                streams = exchange.sessions[session]
                exchange.stall()
                missed = [exchange.make("BTCUSDT")["a"] for _ in range(5)]
                await consumer.until(lambda: consumer.ids("BTCUSDT")[-1] == missed[-1])
                assert source.fallback.is_active("BTCUSDT")
                assert source.fallback.counters.missed == 1
                late = {row[5]: row[6] for row in consumer.records if row[0] == 0}
                assert all(late[number] for number in missed)
                exchange.sessions[session] = streams
                more = [exchange.make("BTCUSDT") for _ in range(3)]
                await exchange.tell("BTCUSDT", more[0])
                await exchange.tell("BTCUSDT", more[2])
                await consumer.until(lambda: consumer.ids("BTCUSDT")[-1] == more[2]["a"])
                assert source.fallback.counters.handed_back >= 1
                await finish(exchange, consumer)
            assert consumer.ids("BTCUSDT") == exchange.ids("BTCUSDT")
            assert any(alert.kind == "stale" and "asked instead" in alert.detail for alert in consumer.alerts)

    asyncio.run(run())


def test_what_the_history_cannot_give_is_a_gap_in_its_place():
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer()
            async with live(exchange, consumer, history=None, collector=replace(QUICK, patience=1)):
                await exchange.drop("BTCUSDT")
                await exchange.trade("BTCUSDT")
                last = exchange.ids("BTCUSDT")[-1]
                await consumer.until(lambda: consumer.ids("BTCUSDT")[-1] == last)
            codes = [(row[4], row[5]) for row in consumer.records if row[0] == 0 and row[4] != CLOCK]
            assert codes == [(TRADE, 1_000), (GAP, -1), (TRADE, 1_004)]
            assert consumer.manager.counters.gaps == 1
            assert any("trades 1001 to 1003 are lost" in alert.detail for alert in consumer.alerts)

    asyncio.run(run())


def test_after_a_downtime_of_several_pages_all_that_was_missed_is_asked_for_and_is_late():
    async def run():
        async with FakeExchange().serving() as exchange:
            before = exchange.make("BTCUSDT")["a"]
            missed = [exchange.make("BTCUSDT")["a"] for _ in range(2_345)]
            consumer = Consumer()
            async with live(exchange, consumer, last_ids={"BTCUSDT": before}):
                await consumer.until(lambda: consumer.ids("BTCUSDT")[-1] > missed[-1])
            assert consumer.ids("BTCUSDT") == [*missed, missed[-1] + 1]
            late = {row[5]: row[6] for row in consumer.records if row[0] == 0 and row[4] == TRADE}
            # The first pages, whatever the stream brought meanwhile, were not heard when they were traded.
            assert all(late[number] for number in missed)
            assert not any(row[4] == GAP for row in consumer.records)

    asyncio.run(run())


def test_a_full_batcher_makes_the_source_wait_and_nothing_is_dropped():
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer(BatcherOptions(most=8, capacity=8))
            async with live(exchange, consumer, collector=replace(QUICK, high_water=16)) as source:
                for _ in range(60):
                    await exchange.trade("ETHUSDT")
                async with asyncio.timeout(20):
                    while consumer.batcher.counters.waits == 0 or source.collector.gate.is_set():
                        await asyncio.sleep(0.001)
                assert consumer.batcher.depth <= 8
                await finish(exchange, consumer)
            assert consumer.ids("ETHUSDT") == exchange.ids("ETHUSDT")

    asyncio.run(run())


def test_a_clock_far_ahead_of_ours_is_refused_and_said():
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer()
            async with live(exchange, consumer):
                exchange.skew_ms = int(time.time() * 1_000) - 1_700_000_000_000 + 600_000
                await exchange.trade("BTCUSDT")
                exchange.skew_ms = 0
                await finish(exchange, consumer)
            assert consumer.ids("BTCUSDT") == [1_000, 1_002]
            assert dict(consumer.manager.reasons) == {"a time far ahead of our clock": 1}
            assert [row[4] for row in consumer.records if row[0] == 0 and row[4] != CLOCK] == [TRADE, GAP, TRADE]

    asyncio.run(run())


def test_no_bar_closes_before_the_trades_that_a_broken_connection_missed():
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer(BatcherOptions(lateness=0.0, hold_most=1e6))
            async with live(exchange, consumer, collector=replace(QUICK, concurrency=1)) as source:
                opened, exchange.refuse_connections = exchange.opened, 10_000
                exchange.reset()
                await consumer.until(lambda: source.breaks == 1)
                missed = [exchange.make("ETHUSDT") for _ in range(3)]
                exchange.skew_ms = 100_000
                # Filled first, since its symbol traded first: its time is far beyond that of the others.
                exchange.make("BTCUSDT")
                exchange.refuse_connections = 0
                await exchange.subscribed(after=opened)
                await consumer.until(lambda: consumer.ids("ETHUSDT")[-1:] == [missed[-1]["a"]])
                # Then time goes on for all.
                await consumer.until(lambda: any(row[4] == CLOCK and row[0] == 1 for row in consumer.records))
                await finish(exchange, consumer)
            for number, name in enumerate(NAMES):
                reached = 0
                for symbol, ts, _, _, code, _, _ in consumer.records:
                    if code == CLOCK and symbol in (-1, number):
                        reached = ts
                    elif symbol == number:
                        assert ts >= reached
                assert consumer.ids(name) == exchange.ids(name)

    asyncio.run(run())


def test_a_source_that_gave_up_and_is_run_again_misses_nothing():
    async def run():
        async with FakeExchange().serving() as exchange:
            consumer = Consumer()
            source = BinanceSource(
                consumer.manager,
                NAMES,
                history=BinanceHistory(RequestsClient(exchange.rest), weight_per_minute=6_000_000),
                url=exchange.url,
                connection=replace(FAST, maximum_attempts=2),
                collector=QUICK,
                fallback=NEVER,
                check_every=0.005,
            )

            async def ended(running: asyncio.Task) -> None:
                async with asyncio.timeout(20):
                    while not running.done():
                        consumer.drain()
                        await asyncio.sleep(0.001)
                await running

            running = asyncio.create_task(source.run())
            await exchange.subscribed()
            await finish(exchange, consumer)
            exchange.refuse_connections = 1_000
            exchange.reset()
            with pytest.raises(FeedLostError):
                await ended(running)
            for symbol in (*NAMES, *NAMES):
                exchange.make(symbol)
            exchange.refuse_connections, opened = 0, exchange.opened
            running = asyncio.create_task(source.run())
            await exchange.subscribed(after=opened)
            await finish(exchange, consumer)
            source.stop()
            await ended(running)
            assert [consumer.ids(symbol) for symbol in NAMES] == [exchange.ids(symbol) for symbol in NAMES]

    asyncio.run(run())
