"""The stream of firings to many WebSocket clients: latency, CPU a frame, memory a client.

Server and clients are processes of their own. Ours reads firings from SQLite as they are committed, knows each client's
filters, and keeps a bounded queue for each; the peer is what a plain program does with the same library: a set of
connections and ``websockets.broadcast``, without filters, cursors, queues or a store. Both send the same texts, and
every active client must have got every one of them, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import cpu_seconds, report

ACTIVE, IDLE, RATE, SECONDS, TURNS = 500, 2_000, 20, 3.0, 3
BURST, BURSTS = 50, 4


# -- the servers


class Plain:
    """The peer: one set, one broadcast."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()

    async def start(self) -> int:
        """Listen; the port."""
        from websockets.asyncio.server import serve

        self.server = await serve(self.session, "127.0.0.1", 0, compression=None, ping_interval=20, close_timeout=1)
        return int(next(iter(self.server.sockets)).getsockname()[1])

    async def session(self, connection: Any) -> None:
        """One client."""
        hello = json.loads(await connection.recv())
        await connection.send('{"type":"ready","cursor":"0"}')
        if not hello["symbols"]:
            self.connections.add(connection)
        await connection.wait_closed()

    def tell(self, firings: list[Any], first: int) -> None:
        """Send firings to all."""
        from websockets.asyncio.server import broadcast

        from tapeline.alerts.store.store import StoredFiring
        from tapeline.alerts.websocket_client import firing_frame

        for number, firing in enumerate(firings, first):
            broadcast(self.connections, firing_frame(StoredFiring(number, firing)).payload, text=True)


class Ours:
    """The server under measurement, over a real store."""

    async def start(self) -> int:
        """Listen; the port."""
        from tapeline.alerts.delivery.limits import Rate
        from tapeline.alerts.store.opening import open_store
        from tapeline.alerts.websocket_door import StreamLimits
        from tapeline.alerts.websocket_server import WebSocketServer

        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(Path(self.folder.name) / "alerts.db")
        limits = StreamLimits(clients=10_000, of_address=10_000, connects=Rate(1e6, burst=10**6))
        self.server = WebSocketServer(self.store, limits=limits)
        await self.server.start()
        return self.server.port

    def tell(self, firings: list[Any], first: int) -> None:
        """Store firings; the server finds them there."""
        from tapeline.alerts.records import Commit

        self.store.commit(Commit(firings=tuple(firings)))
        self.server.wake()


def made(number: int) -> Any:
    """A firing of this instant, so that who receives it can say how old it is."""
    from tapeline.alerts.firing import Firing, Side, dedupe_key

    now = time.time_ns()
    return Firing(
        dedupe_key("btc-60k", "v1", "BTCUSDT", "firing", number),
        *("btc-60k", "v1", "ann", "BTCUSDT", "firing", number, now, 60_000.5),
        sides=(Side("crosses_up(close, 60000)", 60_000.5, 60_000.0, True),),
    )


async def serve_kind(kind: str) -> None:
    """A server process: obeys lines on its standard input and answers each with a line of JSON."""
    server: Any = Ours() if kind == "ours" else Plain()
    answer: dict[str, Any] = {"port": await server.start()}
    number, loop = 0, asyncio.get_running_loop()
    while True:
        print(json.dumps(answer), flush=True)
        line = (await loop.run_in_executor(None, sys.stdin.readline)).split()
        if not line:
            return
        begun, thread, count, burst, pause = (
            time.process_time(),
            time.thread_time(),
            int(line[0]),
            int(line[1]),
            float(line[2]),
        )
        due = time.monotonic()
        for _ in range(count):
            firings = [made(number + place) for place in range(1, burst + 1)]
            # The engine commits in a thread of its own; the plain program writes where it stands.
            if kind == "ours":
                await asyncio.to_thread(server.tell, firings, number + 1)
            else:
                server.tell(firings, number + 1)
            number += burst
            due += pause
            await asyncio.sleep(max(due - time.monotonic(), 0))
        await asyncio.sleep(1.0)
        answer = {"cpu": time.process_time() - begun, "sending": time.thread_time() - thread, "rss": _resident()}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- the clients


class Client(asyncio.Protocol):
    """A client that costs next to nothing: reads frames, notes how old each firing is and whether one is missing."""

    def __init__(self, hello: bytes, ages: list[int], ready: asyncio.Queue[int]) -> None:
        self.hello, self.ages, self.ready = hello, ages, ready
        self.buffer, self.upgraded, self.frames, self.cursor = b"", False, 0, 0

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        transport.write(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Take what came apart."""
        self.buffer += data
        if not self.upgraded:
            head, separator, rest = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self.upgraded, self.buffer = True, rest
            # A client masks what it says; a mask of zeros changes nothing (RFC 6455, 5.3).
            self.transport.write(bytes((0x81, 0x80 | len(self.hello), 0, 0, 0, 0)) + self.hello)
        now = time.time_ns()
        while len(self.buffer) >= 2:
            length, start = self.buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(self.buffer[2:4], "big"), 4
            if len(self.buffer) < start + length:
                return
            self._take(self.buffer[0] & 15, self.buffer[start : start + length], now)
            self.buffer = self.buffer[start + length :]

    def _take(self, code: int, payload: bytes, now: int) -> None:
        if code == 9:
            self.transport.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        elif payload.startswith(b'{"type":"firing"'):
            place = payload.index(b'"detected_at":') + 14
            self.ages.append(now - int(payload[place : payload.index(b",", place)]))
            self.frames += 1
            cursor = int(payload[27 : payload.index(b'"', 27)])
            assert cursor == self.cursor + 1 or self.frames == 1, (cursor, self.cursor)
            self.cursor = cursor
        elif payload.startswith(b'{"type":"ready"'):
            self.ready.put_nowait(1)


async def clients_of(port: int, active: int, idle: int) -> None:
    """A process of clients: says when all are ready, and at each line what they got since the last."""
    ages: list[int] = []
    ready: asyncio.Queue[int] = asyncio.Queue()
    loop, everyone = asyncio.get_running_loop(), []
    for place in range(active + idle):
        hello = b'{"symbols":[]}' if place < active else b'{"symbols":["S%d"]}' % place
        _, client = await loop.create_connection(lambda hello=hello: Client(hello, ages, ready), "127.0.0.1", port)
        everyone.append(client)
        await ready.get()
    while True:
        got = np.sort(np.array(ages or [0])) / 1e6
        answer = {
            "frames": len(ages),
            "even": len({one.frames for one in everyone[:active]}) == 1,
            "idle": sum(one.frames for one in everyone[active:]),
            "p50": float(got[len(got) // 2]),
            "p99": float(got[int(len(got) * 0.99)]),
        }
        print(json.dumps(answer), flush=True)
        ages.clear()
        if not await loop.run_in_executor(None, sys.stdin.readline):
            return


# -- the measurement


class Process:
    """One of our processes, and a line of JSON at a time with it."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "benchmarks.bench_websocket", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> dict[str, Any]:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "a process of the benchmark ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def say(self, *words: object) -> dict[str, Any]:
        """A line to it, and its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Pair:
    """A server and its clients."""

    def __init__(self, kind: str, active: int, idle: int) -> None:
        """Start both and wait until every client is connected."""
        self.kind, self.active, self.everyone = kind, active, active + idle
        self.server = Process("serve", kind)
        port = self.server.hear()["port"]
        self.before = self.server.say(0, 0, 0)["rss"]
        self.clients = Process("clients", port, active, idle)
        self.clients.hear()

    def step(self, times: int, burst: int, pause: float) -> dict[str, Any]:
        """So many times so many firings: what it cost, and how old they were when they came."""
        spent = self.server.say(times, burst, pause)
        got = self.clients.say("next")
        assert got["frames"] == self.active * times * burst, (self.kind, got)
        assert got["even"]
        assert got["idle"] == 0
        return {**got, **spent, "each": (spent["rss"] - self.before) / self.everyone}

    def end(self) -> None:
        """End both."""
        self.clients.end()
        self.server.end()


def in_turn(active: int, idle: int, *steps: tuple[int, int, float]) -> list[list[dict[str, Any]]]:
    """The same steps for ours and for the peer, one after the other, so that both meet the same load of the machine."""
    pairs = [Pair(kind, active, idle) for kind in ("ours", "peer")]
    found: list[list[dict[str, Any]]] = [[], []]
    for step in steps:
        for pair, results in zip(pairs, found, strict=True):
            results.append(pair.step(*step))
    for pair in pairs:
        pair.end()
    return found


def together(results: list[dict[str, Any]]) -> dict[str, float]:
    """Several steps as one: medians, for a machine with other work."""
    return {name: float(np.median([each[name] for each in results])) for name in results[0]}


def filters() -> tuple[float, float]:
    """CPU seconds to find who wants each of a thousand firings among 3,000 clients, by the index and by asking all."""
    from dataclasses import replace

    from tapeline.alerts.websocket_filters import FilterIndex, Filters

    index: FilterIndex[int] = FilterIndex()
    everyone = [Filters(f"u{n % 300}", frozenset({f"S{n % 500}", f"S{(n + 1) % 500}"})) for n in range(3_000)]
    for client, one in enumerate(everyone):
        index.add(client, one)
    firings = [replace(made(n), owner=f"u{n % 300}", symbol=f"S{n % 500}") for n in range(1_000)]

    def by_index() -> list[set[int]]:
        return [{each for one in index.matching(firing) for each in index.waiting(one)} for firing in firings]

    def by_asking() -> list[set[int]]:
        return [{each for each, one in enumerate(everyone) if one.want(firing)} for firing in firings]

    assert by_index() == by_asking()
    return cpu_seconds(by_index), cpu_seconds(by_asking, repeats=1, warm=False)


def main() -> int:
    """Measure, print, and say whether all targets hold."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))
    steady_step, burst_step = (int(SECONDS * RATE), 1, 1 / RATE), (BURSTS, BURST, 0.5)
    # The first step warms up: imports, statements of the store, the clients' code.
    steps = [(RATE, 1, 1 / RATE), *[steady_step] * TURNS, *[burst_step] * TURNS]
    ours, peers = in_turn(ACTIVE, 0, *steps)
    steady, peer_steady = (together(each[1 : 1 + TURNS]) for each in (ours, peers))
    bursts, peer_bursts = (together(each[1 + TURNS :]) for each in (ours, peers))
    crowd, peer_crowd = in_turn(ACTIVE, IDLE, *[(RATE * 2, 1, 1 / RATE)] * TURNS)
    crowded, peer_crowded = together(crowd), together(peer_crowd)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    holds = [steady["p99"] < 100.0]
    report(
        f"{ACTIVE} clients at {RATE} firings/s each: from the commit to the client, p99 ({load})",
        steady["p99"],
        "ms",
        target="below 100 ms",
        holds=holds[-1],
        peer="websockets.broadcast, without a store",
        peer_value=peer_steady["p99"],
    )
    report(
        "the same, p50",
        steady["p50"],
        "ms",
        target="told",
        holds=True,
        peer="websockets.broadcast, without a store",
        peer_value=peer_steady["p50"],
    )
    for name, mine, peer, target, most_ratio in (
        ("one at a time", steady, peer_steady, "at most the peer's, with filters and queues", 1.0),
        (f"{BURST} at once", bursts, peer_bursts, "at most a third of the peer's", 1 / 3),
    ):
        cost, peer_cost = (each["sending"] / each["frames"] * 1e6 for each in (mine, peer))
        holds.append(cost <= most_ratio * peer_cost)
        report(
            f"CPU of the sending thread a frame, firings {name}",
            cost,
            "us",
            target=target,
            holds=holds[-1],
            peer="websockets.broadcast",
            peer_value=peer_cost,
        )
    store = (steady["cpu"] - steady["sending"]) / (SECONDS * RATE) * 1e3
    report("beside it, to commit and read a firing", store, "ms", target="told", holds=True)
    holds.append(crowded["p99"] < 100.0)
    report(
        f"{ACTIVE} active among {IDLE} idle clients, p99 ({load})",
        crowded["p99"],
        "ms",
        target="below 100 ms",
        holds=holds[-1],
        peer="websockets.broadcast",
        peer_value=peer_crowded["p99"],
    )
    holds.append(crowded["each"] <= 1.25 * peer_crowded["each"])
    report(
        f"memory a client, of {ACTIVE + IDLE}",
        crowded["each"] / 1024,
        "KiB",
        target="at most a quarter more than a bare connection of the library",
        holds=holds[-1],
        peer="a bare connection",
        peer_value=peer_crowded["each"] / 1024,
    )
    found, asked = filters()
    holds.append(found <= asked / 50)
    report(
        "who of 3,000 clients with filters wants a firing",
        found * 1e3,
        "us",
        target="a fiftieth of asking each",
        holds=holds[-1],
        peer="asking each client's filter",
        peer_value=asked * 1e3,
    )
    return 0 if all(holds) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", nargs="?", choices=["serve", "clients"])
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    if given.role == "serve":
        asyncio.run(serve_kind(given.rest[0]))
    elif given.role == "clients":
        asyncio.run(clients_of(*map(int, given.rest)))
    else:
        raise SystemExit(main())
