"""Nothing is lost or doubled: the whole live path against the scripted exchange."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tapeline.clock.drift import DriftMonitor
from tapeline.streams.alerts import FeedLostError
from tapeline.streams.binance import BinanceHistory
from tapeline.streams.collector import TickCollector
from tapeline.streams.feed import LiveFeed
from tapeline.streams.http_client import RequestsClient
from tapeline.streams.manager import FeedManager
from tapeline.streams.messages import Trade
from tests.streams.fake_exchange import FakeExchange, play
from tests.streams.live_support import FAST, QUICK, MemorySink
from tests.streams.sessions import SESSIONS

pytestmark = pytest.mark.network_shape


@asynccontextmanager
async def live(exchange: FakeExchange, sink: MemorySink, alerts: list, **options):
    """A manager that runs against the exchange, subscribed, and is stopped at the end."""
    options = {"connection": FAST, "collector": QUICK, "statuses_every": None, **options}
    history = options.pop("history", BinanceHistory(RequestsClient(exchange.rest), weight_per_minute=6_000_000))
    manager = FeedManager(
        list(exchange.made), ["aggTrade"], sink, history=history, url=exchange.url, on_alert=alerts.append, **options
    )
    opened = exchange.opened
    running = asyncio.create_task(manager.run())
    try:
        await exchange.subscribed(after=opened)
        yield manager
    finally:
        manager.stop()
        await running


async def finish(exchange: FakeExchange, sink: MemorySink) -> None:
    """A last trade of each instrument, received; then the sink must have all before it."""
    for symbol in exchange.made:
        await exchange.trade(symbol)
    await sink.until(lambda: all(sink.ids(symbol)[-1:] == exchange.ids(symbol)[-1:] for symbol in exchange.made))


@pytest.mark.parametrize("seed", range(16))
def test_nothing_is_lost_or_doubled_whatever_the_exchange_does(seed):
    async def run():
        async with FakeExchange().serving() as exchange:
            sink, alerts = MemorySink(), []
            async with live(exchange, sink, alerts) as manager:
                for symbol in exchange.made:
                    await exchange.trade(symbol)
                await sink.until(lambda: len(sink.rows) == 2)
                done = await play(exchange, random.Random(seed), 60)
                exchange.rest_faults.clear()
                await finish(exchange, sink)
            assert {"drop", "reorder"} & set(done)
            for symbol in exchange.made:
                assert sink.ids(symbol) == exchange.ids(symbol)
            prices = {trade["a"]: float(trade["p"]) for trade in exchange.made["BTCUSDT"]}
            assert all(
                row.record.price == prices[int(row.record.id)] for row in sink.rows if row.record.symbol == "BTCUSDT"
            )
            counters = manager.collector.counters()
            assert counters.released == len(sink.rows) == manager.collector.stored
            assert not manager.collector.unfilled
            if "drop" in done:
                assert counters.filled > 0
                assert any(row.late for row in sink.rows)

    asyncio.run(run())


def test_a_stop_and_a_start_continue_behind_the_last_stored_trade():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            sink = MemorySink()
            async with live(exchange, sink, []) as manager:
                for _ in range(5):
                    await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 5)
            last = dict(manager.collector.acknowledged)
            assert last == {"BTCUSDT": exchange.ids("BTCUSDT")[-1]}
            for _ in range(2_500):  # three pages
                exchange.make("BTCUSDT")
            async with live(exchange, sink, [], last_ids=last):
                # No trade is streamed: what was missed is asked for at the start.
                await sink.until(lambda: len(sink.rows) == 2_505)
                await finish(exchange, sink)
            assert sink.ids("BTCUSDT") == exchange.ids("BTCUSDT")
            assert [row.late for row in sink.rows] == [False] * 5 + [True] * 2_500 + [False]

    asyncio.run(run())


def test_a_stall_is_alerted_and_the_feed_recovers_without_loss():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            sink, alerts = MemorySink(), []
            async with live(exchange, sink, alerts) as manager:
                await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 1)
                opened = exchange.opened
                exchange.stall()
                for _ in range(5):
                    await exchange.trade("BTCUSDT")
                await exchange.subscribed(after=opened)
                await sink.until(lambda: len(sink.rows) == 6)
                await finish(exchange, sink)
            assert sink.ids("BTCUSDT") == exchange.ids("BTCUSDT")
            assert [alert.kind for alert in alerts[:2]] == ["stale", "recovered"]
            assert manager.metrics()["connections"]["binance-0"]["stale"] >= 1
            assert manager.breaks >= 1

    asyncio.run(run())


def test_a_half_open_connection_is_found_by_its_missing_pong():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            sink, alerts = MemorySink(), []
            async with live(exchange, sink, alerts, connection=replace(FAST, stale_after=None)) as manager:
                opened = exchange.opened
                counters = manager.streams.shards[0].connection.counters
                await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 1)
                exchange.freeze()
                exchange.make("BTCUSDT")
                await exchange.subscribed(after=opened)
                await finish(exchange, sink)
            assert sink.ids("BTCUSDT") == exchange.ids("BTCUSDT")
            assert (counters.half_open, counters.stale) == (1, 0)
            assert alerts[0].kind == "half_open"

    asyncio.run(run())


def test_an_idle_but_sound_connection_is_left_alone():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            sink, alerts = MemorySink(), []
            options = replace(FAST, stale_after=None, ping_every=0.02, watch_every=0.005, pong_timeout=5)
            async with live(exchange, sink, alerts, connection=options) as manager:
                counters = manager.streams.shards[0].connection.counters
                async with asyncio.timeout(10):
                    while counters.pongs < 5:
                        await asyncio.sleep(0.005)
            assert (exchange.opened, alerts) == (1, [])

    asyncio.run(run())


def test_a_planned_renewal_overlaps_and_loses_nothing_without_asking_the_history():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            sink, most = MemorySink(), 0
            options = replace(FAST, life=0.3, overlap=0.1, stale_after=None, pong_timeout=5)
            async with live(exchange, sink, [], connection=options) as manager:
                counters = manager.streams.shards[0].connection.counters
                await exchange.trade("BTCUSDT")
                async with asyncio.timeout(20):
                    while counters.renewed < 3:
                        await exchange.trade("BTCUSDT")
                        most = max(most, len(exchange.sessions))
                        await asyncio.sleep(0.002)
                await finish(exchange, sink)
                total = manager.collector.counters()
            assert sink.ids("BTCUSDT") == exchange.ids("BTCUSDT")
            assert most == 2
            assert total.duplicates > 0  # both sessions carried the overlap
            assert (total.gaps, total.filled, manager.breaks) == (0, 0, 0)

    asyncio.run(run())


def test_a_server_that_is_gone_is_given_up_with_an_alert():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            alerts, sink = [], MemorySink()
            exchange.refuse_connections = 100
            manager = FeedManager(
                ["BTCUSDT"], ["aggTrade"], sink, history=None, url=exchange.url, on_alert=alerts.append,
                connection=replace(FAST, maximum_attempts=3),
            )  # fmt: skip
            with pytest.raises(FeedLostError, match="gave up"):
                await manager.run()
            assert [alert.kind for alert in alerts] == ["gave_up"]
            assert "503" in alerts[0].detail
            assert exchange.refuse_connections == 96  # the first attempt and three more

    asyncio.run(run())


def test_a_gap_that_cannot_be_filled_is_named_and_the_feed_goes_on():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            alerts, sink = [], MemorySink()
            async with live(exchange, sink, alerts, history=None) as manager:
                await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 1)
                await exchange.drop("BTCUSDT")
                await finish(exchange, sink)
            assert manager.collector.unfilled == [("BTCUSDT", (1_001, 1_003))]
            assert [alert.kind for alert in alerts] == ["gap_unfilled"]
            assert sink.ids("BTCUSDT") == [1_000, 1_004]

    asyncio.run(run())


def test_a_sink_that_fails_is_offered_the_same_rows_and_the_reader_waits():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            alerts, depths, sink = [], [], MemorySink()
            async with live(exchange, sink, alerts, collector=replace(QUICK, high_water=10)) as manager:
                await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 1)
                sink.fail = 8
                manager.feed.trade = lambda trade: depths.append(manager.collector.depth)
                for _ in range(2_000):
                    await exchange.trade("BTCUSDT")
                await finish(exchange, sink)
            assert max(depths) == 10
            assert manager.collector.gate.is_set()
            assert sink.ids("BTCUSDT") == exchange.ids("BTCUSDT")
            assert manager.collector.sink_failures == 8
            assert [alert.kind for alert in alerts if alert.feed == "binance-collector"] == ["sink", "recovered"]

    asyncio.run(run())


def test_a_venue_clock_that_is_off_raises_one_drift_alert():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            alerts, sink = [], MemorySink()
            async with live(exchange, sink, alerts, drift=DriftMonitor(warm_up=5)):
                for _ in range(12):  # its trades are stamped 2023
                    await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 12)
            assert [alert.kind for alert in alerts] == ["drift"]

    asyncio.run(run())


def test_bars_after_a_loss_are_those_of_all_trades():
    async def run():
        async with FakeExchange(("BTCUSDT",)).serving() as exchange:
            sink, feed = MemorySink(), LiveFeed(timeframes=["S1"])
            reader = feed.subscribe(topics=["bar"], policy="disconnect")
            async with live(exchange, sink, [], feed=feed):
                await exchange.trade("BTCUSDT")
                await sink.until(lambda: len(sink.rows) == 1)
                for _ in range(400):
                    await exchange.drop("BTCUSDT")
                    await exchange.reorder("BTCUSDT")
                await finish(exchange, sink)
            made = exchange.made["BTCUSDT"]
            expected: dict[int, list[float]] = {}
            for trade in made:
                expected.setdefault(trade["T"] // 1000, []).append(float(trade["p"]))
            bars = []
            while (bar := reader.take()) is not None:
                bars.append(bar)
            assert len(bars) == len(expected) - 1 > 10
            for bar in bars:
                prices = expected[bar.ts // 1_000_000_000]
                assert (bar.open, bar.high, bar.low, bar.close) == (prices[0], max(prices), min(prices), prices[-1])
                assert bar.volume == 0.25 * len(prices)

    asyncio.run(run())


def test_recorded_trades_that_are_dropped_swapped_and_repeated_come_out_as_recorded(test_data):
    recorded = [
        item.record for item in SESSIONS["binance spot 2024"].records(test_data) if isinstance(item.record, Trade)
    ]
    recorded = recorded[:3_000]
    by_id = {int(trade.id): trade for trade in recorded}

    class Recorded:
        async def trades_from(self, symbol, first):
            return [by_id[number] for number in sorted(by_id) if number >= first][:1_000]

    async def run():
        sink, generator = MemorySink(), random.Random(5)
        collector = TickCollector(sink, Recorded(), options=QUICK)
        storing = asyncio.create_task(collector.run())
        stream = [recorded[0], *(trade for trade in recorded[1:-1] if generator.random() > 0.1), recorded[-1]]
        for _ in range(300):
            at = generator.randrange(1, len(stream) - 2)
            stream[at], stream[at + 1] = stream[at + 1], stream[at]
        for number, trade in enumerate(stream):
            collector.take(trade, number)
            if generator.random() < 0.1:
                collector.take(trade, number)
        await sink.until(lambda: len(sink.rows) == 3_000)
        await collector.stop()
        await storing
        assert [row.record for row in sink.rows] == recorded
        assert collector.counters().filled == 3_000 - len(stream)

    asyncio.run(run())
