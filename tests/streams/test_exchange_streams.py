"""Streams through ccxt against scripted sessions: dropped, stalled, refused, opened again, nothing told twice."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tapeline.core.errors import ProviderError
from tapeline.core.exchange_errors import NotOfferedError
from tapeline.streams.alerts import FeedAlert, FeedLostError
from tapeline.streams.dialects.base import nanoseconds
from tapeline.streams.exchange_manager import ExchangeManager
from tapeline.streams.messages import BookSnapshot, Candle, Quote, Trade
from tapeline.streams.recording import read_recording
from tapeline.streams.supervised_stream import StreamOptions
from tapeline.streams.timing import Backoff
from tests.streams.loopback import Reply, Venue, drop, heard, until
from tests.streams.venues import moved_to, recorded, settings_with

pytestmark = pytest.mark.network_shape

FAST = StreamOptions(stale_after=0.6, watch_every=0.02, healthy_after=60, backoff=Backoff(first=0.005, cap=0.02))


@dataclass(frozen=True)
class Script:
    """A venue's trades as it sends them, made of what was recorded."""

    exchange: str
    market: tuple[str, str, str]
    messages: tuple[str, ...]
    ids: tuple[str, ...]
    answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
    channel: str = ""


def coinbase(folder: Path) -> Script:
    """A recorded session, message by message."""
    session = read_recording(folder / "api/ws_recordings/COINBASE.ws.28.0")
    wanted = (b'"type":"match"', b'"SKL-USD"')
    found = [item.payload.decode() for item in session if all(part in item.payload for part in wanted)]
    ids = tuple(str(json.loads(raw)["trade_id"]) for raw in found)
    return Script("coinbaseexchange", ("spot", "SKL-USD", "SKL/USD"), tuple(found), ids, channel="matches")


def binance(folder: Path) -> Script:
    """A recorded session, freed of the envelope that combined streams have."""
    session = read_recording(folder / "data/binance_ws_l2_2024/spot/btcusdt_20240808.gz")
    trades = (json.loads(item.payload)["data"] for item in session if b"btcusdt@trade" in item.payload)
    found = list(itertools.islice(trades, 40))
    return Script(
        "binance", ("spot", "BTCUSDT", "BTC/USDT"), tuple(json.dumps(each) for each in found),
        tuple(str(each["t"]) for each in found), lambda asked: {"result": None, "id": asked["id"]}, "trade",
    )  # fmt: skip


def kraken(folder: Path) -> Script:
    """One recorded message, numbered on."""
    first = recorded(folder / "api/kraken/nautilus/ws_trade_update.json")
    rows = [first["data"][0] | {"trade_id": 10_218_208 + i} for i in range(12)]
    return Script(
        "kraken", ("spot", "XXBTZUSD", "BTC/USD"), tuple(json.dumps(first | {"data": [row]}) for row in rows),
        tuple(str(row["trade_id"]) for row in rows),
        lambda asked: {
            "method": "subscribe", "success": True, "req_id": asked["req_id"],
            "result": {"channel": "trade", "symbol": "BTC/USD", "snapshot": True},
        },
        "trade",
    )  # fmt: skip


def bybit(folder: Path) -> Script:
    """One recorded message, numbered on."""
    first = recorded(folder / "api/bybit/nautilus/ws_public_trade.json") | {"topic": "publicTrade.BTCUSDT"}
    rows = [first["data"][0] | {"i": f"9dc75fca-4bdd-4773-9f78-6f5d7ab2a{i:03}"} for i in range(12)]
    return Script(
        "bybit", ("swap", "BTCUSDT", "BTC/USDT:USDT"), tuple(json.dumps(first | {"data": [row]}) for row in rows),
        tuple(row["i"] for row in rows),
        lambda asked: {"success": True, "ret_msg": "", "op": "subscribe", "req_id": asked.get("req_id")},
        "publicTrade",
    )  # fmt: skip


def okx(folder: Path) -> Script:
    """One recorded message, numbered on."""
    first = recorded(folder / "api/okx/nautilus/ws_trades.json")
    rows = [first["data"][0] | {"tradeId": str(130_639_474 + i)} for i in range(12)]
    return Script(
        "okx", ("spot", "BTC-USD", "BTC/USD"), tuple(json.dumps(first | {"data": [row]}) for row in rows),
        tuple(row["tradeId"] for row in rows),
        lambda asked: {"event": "subscribe", "arg": asked["args"][0], "connId": "a"}, "trades",
    )  # fmt: skip


SCRIPTS = (coinbase, binance, kraken, bybit, okx)


def venue_of(script: Script, sessions: Callable[[Any, int], Any]) -> tuple[Venue, list[str]]:
    """A venue whose sessions begin with a subscription, and what was subscribed."""
    subscribed: list[str] = []

    async def session(socket: Any, _: int) -> None:
        asked = await heard(socket)
        subscribed.append(json.dumps(asked))
        number = len(subscribed)  # a session that a busy machine cut off before it asked for anything is none
        answer = script.answer(asked)
        if answer is not None:
            await socket.send_json(answer)
        await sessions(socket, number)

    return Venue(lambda _: Reply({}), session), subscribed


def options_of(script: Script, venue: Venue) -> Callable[[Any], None]:
    return moved_to(venue, script.market)


def manager_of(script: Script, venue: Venue) -> ExchangeManager:
    return ExchangeManager(settings_with(), configure=options_of(script, venue))


@pytest.mark.parametrize("make", SCRIPTS, ids=lambda make: make.__name__)
def test_a_dropped_and_a_stalled_stream_come_back_without_a_doubled_trade(make, test_data) -> None:
    script = make(test_data)
    a, b, c = script.messages[:4], script.messages[4:8], script.messages[8:]
    assert c
    hold = asyncio.Event()

    async def sessions(socket: Any, number: int) -> None:
        if number == 1:
            for raw in a:
                await socket.send_str(raw)
            await asyncio.sleep(0.05)  # a drop loses what the other side has not read yet
            drop(socket)
        elif number == 2:
            for raw in (*a[-2:], *b):  # as venues begin a subscription with the latest trades
                await socket.send_str(raw)
            await hold.wait()
        else:
            for raw in (*a, *b, *c):
                await socket.send_str(raw)
            await hold.wait()

    venue, subscribed = venue_of(script, sessions)

    async def run() -> tuple[list[Any], list[FeedAlert], list[str], Any]:
        got: list[Any] = []
        alerts: list[FeedAlert] = []
        broken: list[str] = []
        async with venue.serving():
            configure = options_of(script, venue)
            async with ExchangeManager(settings_with(), on_alert=alerts.append, configure=configure) as manager:
                stream = manager.stream(
                    script.exchange, "trades", [script.market[2]], lambda record, at: got.append((record, at)),
                    on_break=broken.append, options=FAST,
                )  # fmt: skip
                running = asyncio.create_task(stream.run())
                await until(lambda: len(got) >= len(script.ids) or running.done())
                stream.stop()
                await running
                hold.set()
                return got, alerts, broken, stream.counters

    got, alerts, broken, counters = asyncio.run(asyncio.wait_for(run(), 30))
    assert [record.id for record, _ in got] == list(script.ids)
    assert all(isinstance(record, Trade) and record.symbol == script.market[2] for record, _ in got)
    assert len(subscribed) >= 3
    assert all(script.channel in each for each in subscribed)
    kinds = [alert.kind for alert in alerts]
    assert kinds[-2:] == ["stale", "recovered"]
    assert set(kinds) == {"stale", "recovered"}
    assert "no data for 0.6 s" in broken[-1]
    assert counters.opened == 3
    assert len(broken) == 2
    assert counters.doubled >= 4


def test_recorded_trades_of_coinbase_keep_time_price_size_and_side(test_data) -> None:
    script = coinbase(test_data)
    done = asyncio.Event()

    async def sessions(socket: Any, number: int) -> None:
        for raw in script.messages:
            await socket.send_str(raw)
        await done.wait()

    venue, _ = venue_of(script, sessions)

    async def run() -> list[Trade]:
        got: list[Trade] = []
        async with venue.serving(), manager_of(script, venue) as manager:
            stream = manager.stream(
                script.exchange, "trades", ["SKL/USD"], lambda record, at: got.append(record), options=FAST
            )
            running = asyncio.create_task(stream.run())
            await until(lambda: len(got) >= 52)
            stream.stop()
            await running
            done.set()
        return got

    got = asyncio.run(asyncio.wait_for(run(), 30))
    for record, raw in zip(got, map(json.loads, script.messages), strict=True):
        assert (record.price, record.size) == (float(raw["price"]), float(raw["size"]))
        # Coinbase names the maker's side; whoever took liquidity stood on the other one.
        assert record.side == (1 if raw["side"] == "sell" else -1)
        moment = nanoseconds(datetime.fromisoformat(raw["time"]))
        assert record.ts == moment // 1_000_000 * 1_000_000


@pytest.mark.parametrize("cache", [10_000, 50])
def test_a_burst_arrives_whole_or_is_said_to_be_broken(cache: int, test_data, monkeypatch) -> None:
    monkeypatch.setattr("tapeline.streams.ccxt_client.CACHED_TRADES", cache)
    script, hold, count = binance(test_data), asyncio.Event(), 3_000
    first = json.loads(script.messages[0])
    burst = [json.dumps(first | {"t": first["t"] + i}) for i in range(count)]

    async def sessions(socket: Any, number: int) -> None:
        for raw in burst:
            await socket.send_str(raw)
        await hold.wait()

    venue, _ = venue_of(script, sessions)

    async def run() -> tuple[list[Any], list[str]]:
        got: list[Any] = []
        broken: list[str] = []
        async with venue.serving(), manager_of(script, venue) as manager:
            stream = manager.stream(
                "binance", "trades", ["BTC/USDT"], lambda record, at: got.append(record), on_break=broken.append,
                options=StreamOptions(),
            )  # fmt: skip
            running = asyncio.create_task(stream.run())
            await until(lambda: len(got) == count or stream.counters.failed + len(broken) > 0)
            stream.stop()
            await running
            hold.set()
            return got, broken + ["failed"] * stream.counters.failed

    got, broken = asyncio.run(asyncio.wait_for(run(), 30))
    if cache > count:
        assert [int(record.id) - first["t"] for record in got] == list(range(count))
        assert broken == []
    else:
        assert broken


def test_a_stream_that_gives_up_raises_an_alert_and_an_error(test_data) -> None:
    script = kraken(test_data)

    async def sessions(socket: Any, number: int) -> None:
        drop(socket)

    venue, _ = venue_of(script, sessions)
    alerts: list[FeedAlert] = []

    async def run() -> None:
        async with (
            venue.serving(),
            ExchangeManager(settings_with(), on_alert=alerts.append, configure=options_of(script, venue)) as manager,
        ):
            options = StreamOptions(maximum_attempts=2, watch_every=0.02, backoff=Backoff(first=0.001, cap=0.002))
            stream = manager.stream("kraken", "trades", ["BTC/USD"], lambda record, at: None, options=options)
            with pytest.raises(FeedLostError, match="kraken-trades: gave up after 2 failures"):
                await stream.run()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert [alert.kind for alert in alerts] == ["gave_up"]
    assert venue.sessions == 3


def test_a_venue_that_is_down_and_comes_back(test_data) -> None:
    script = kraken(test_data)
    hold = asyncio.Event()

    async def sessions(socket: Any, number: int) -> None:
        for raw in script.messages:
            await socket.send_str(raw)
        await hold.wait()

    venue, _ = venue_of(script, sessions)

    async def run() -> None:
        got: list[Any] = []
        async with venue.serving():
            port = venue.port
        # Nobody listens there now.
        async with ExchangeManager(settings_with(), configure=options_of(script, venue)) as manager:
            stream = manager.stream(
                "kraken", "trades", ["BTC/USD"], lambda record, at: got.append(record), options=FAST
            )
            running = asyncio.create_task(stream.run())
            await until(lambda: stream.counters.failed >= 2)
            assert got == []
            async with venue.serving(port):
                await until(lambda: len(got) == len(script.ids))
                stream.stop()
                await running
                hold.set()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_refused_subscription_ends_the_stream_with_an_alert(test_data) -> None:
    refusal = recorded(test_data / "api/bybit/nautilus/ws_subscription_failure.json")

    async def session(socket: Any, number: int) -> None:
        await heard(socket)
        await socket.send_json(refusal)
        await socket.receive()

    venue = Venue(lambda _: Reply({}), session)
    alerts: list[FeedAlert] = []

    async def run() -> None:
        configure = options_of(bybit(test_data), venue)
        manager = ExchangeManager(settings_with(), on_alert=alerts.append, configure=configure)
        async with venue.serving(), manager:
            stream = manager.stream("bybit", "trades", ["BTC/USDT:USDT"], lambda record, at: None, options=FAST)
            with pytest.raises(ProviderError, match="Invalid topic"):
                await stream.run()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert [alert.kind for alert in alerts] == ["refused"]
    assert venue.sessions == 1


def test_a_book_is_taken_anew_after_a_drop(test_data) -> None:
    folder = test_data / "api/kraken/nautilus"
    snapshot, update = recorded(folder / "ws_book_snapshot.json"), recorded(folder / "ws_book_update.json")
    hold = asyncio.Event()
    script = kraken(test_data)

    async def sessions(socket: Any, number: int) -> None:
        await socket.send_json(snapshot)
        if number == 1:
            await asyncio.sleep(0.05)
            await socket.send_json(update)
            await asyncio.sleep(0.05)
            drop(socket)
        await hold.wait()

    venue, _ = venue_of(script, sessions)

    async def run() -> list[BookSnapshot]:
        got: list[Any] = []
        async with venue.serving(), manager_of(script, venue) as manager:
            stream = manager.stream("kraken", "book", ["BTC/USD"], lambda record, at: got.append(record), options=FAST)
            running = asyncio.create_task(stream.run())
            await until(lambda: len(got) >= 3)
            stream.stop()
            await running
            hold.set()
        return got

    got = asyncio.run(asyncio.wait_for(run(), 30))
    # The recorded update raised the best bid's size; the second session knows nothing of it.
    assert [book.bids[0] for book in got] == [(105944.2, 0.136), (105944.2, 0.25), (105944.2, 0.136)]
    assert all(book.bids[0][0] < book.asks[0][0] for book in got)


def test_quotes_and_bars_become_records(test_data) -> None:
    folder = test_data / "api/kraken/nautilus"
    bar, ticker = recorded(folder / "ws_ohlc_update.json"), recorded(folder / "ws_ticker_snapshot.json")
    script, hold = kraken(test_data), asyncio.Event()

    async def session(socket: Any, number: int) -> None:
        asked = await heard(socket)
        await socket.send_json(bar if asked["params"]["channel"] == "ohlc" else ticker)
        await hold.wait()

    venue = Venue(lambda _: Reply({}), session)

    async def run() -> list[Any]:
        got: list[Any] = []
        async with venue.serving(), manager_of(script, venue) as manager:
            streams = [
                manager.stream(
                    "kraken", channel, ["BTC/USD"], lambda record, at: got.append(record), timeframe="M1", options=FAST
                )
                for channel in ("quotes", "bars")
            ]
            tasks = [asyncio.create_task(stream.run()) for stream in streams]
            await until(lambda: {type(record) for record in got} == {Quote, Candle})
            for stream in streams:
                stream.stop()
            await asyncio.gather(*tasks)
            hold.set()
        return got

    got = asyncio.run(asyncio.wait_for(run(), 30))
    quote = next(record for record in got if isinstance(record, Quote))
    assert (quote.bid, quote.ask) == (ticker["data"][0]["bid"], ticker["data"][0]["ask"])
    candle = next(record for record in got if isinstance(record, Candle))
    assert (candle.open, candle.close) == (bar["data"][0]["open"], bar["data"][0]["close"])
    assert candle.closed  # by the clock: the recording is old


def test_native_streams_of_binance_run_under_the_manager() -> None:
    from tests.streams.fake_exchange import FakeExchange

    async def run() -> None:
        got: list[Any] = []
        async with FakeExchange(("BTCUSDT",)).serving() as exchange, ExchangeManager(settings_with()) as manager:
            streams = manager.binance_streams(
                ["BTCUSDT"], ["aggTrade"], lambda record, at: got.append(record), url=exchange.url
            )
            running = asyncio.create_task(streams.run())
            await exchange.subscribed()
            await exchange.trade("BTCUSDT")
            await until(lambda: any(isinstance(record, Trade) for record in got))
            streams.stop()
            await running
            assert str(exchange.ids("BTCUSDT")[0]) in [record.id for record in got if isinstance(record, Trade)]

    asyncio.run(asyncio.wait_for(run(), 20))


def test_what_cannot_be_streamed_is_refused() -> None:
    async def run() -> None:
        async with ExchangeManager(settings_with()) as manager:
            with pytest.raises(NotOfferedError, match="oanda streams no trades"):
                manager.stream("oanda", "trades", ["EUR_USD"], print)

    asyncio.run(run())
