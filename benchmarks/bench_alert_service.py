"""The alert service from a socket to the disk: latency at a rate of ticks and firings, and memory at many symbols.

A process of its own sends trades over a loopback socket, each with the time at which it left; the engine takes them
through data manager, batcher, journal, kernel, processor and SQLite (synchronous=FULL). The latency of a firing is the
time from its trade's leaving to the return of the transaction that holds it. Load and CPU pressure stand beside it:
on a machine whose processors others use as well, the upper quantiles are waits for a processor, and how long the
service's threads waited for one is printed. The peer is the disk: a flush of a small file, alone, right afterwards.
``--real-time`` asks for the scheduler's real-time class (as root), which shows the service as on processors of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.latency import STAGES
from tapeline.alerts.records import Commit
from tapeline.alerts.rule import Rule
from tapeline.alerts.service import AlertEngine, EngineOptions
from tapeline.alerts.store.opening import open_store

RATE, SYMBOLS, ONE_IN, SECONDS = 10_000, 10_000, 10, 15
ROW = np.dtype([("symbol", "<i4"), ("sequence", "<i8"), ("ts", "<i8"), ("price", "<f8")])
SEND_EVERY = 0.001
MOST = 4_000_000
WARM = 3.0
"""Seconds that are left out of the measurement at the beginning."""


def send(port: int, rate: int, symbols: int, seconds: float) -> None:
    """Send trades at a rate: of each symbol in turn, every ``ONE_IN``-th of which lies above the rule's level."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        begun, sent, total = time.perf_counter(), 0, int(rate * seconds)
        while sent < total:
            due = min(int((time.perf_counter() - begun) * rate), total)
            if due > sent:
                numbers = np.arange(sent, due)
                rows = np.zeros(due - sent, ROW)
                rows["symbol"], rounds = numbers % symbols, numbers // symbols
                rows["sequence"] = rounds + 1
                rows["price"] = np.where((rounds + rows["symbol"]) % ONE_IN == 0, 101.0, 99.0)
                rows["ts"] = time.time_ns() + np.arange(due - sent)
                connection.sendall(rows.tobytes())
                sent = due
            time.sleep(SEND_EVERY)


class SocketSource:
    """Reads trades from the socket into the data manager."""

    def __init__(self, manager: DataManager, listening: socket.socket, names: Sequence[str]) -> None:
        self.manager, self.listening, self.names = manager, listening, names
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Take what one sender sends, until it hangs up."""
        server = await asyncio.start_server(self._take, sock=self.listening)
        async with server:
            await self.ended.wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = b""
        while data := await reader.read(1 << 18):
            data = left + data
            whole = len(data) // ROW.itemsize * ROW.itemsize
            left = data[whole:]
            rows = np.frombuffer(data[:whole], ROW)
            columns = (rows[name].tolist() for name in ("symbol", "ts", "price", "sequence"))
            ticks = [
                Tick(self.names[symbol], ts, price, 1.0, sequence)
                for symbol, ts, price, sequence in zip(*columns, strict=True)
            ]
            self.manager.take("socket", ticks)
        writer.close()
        self.ended.set()

    def stop(self) -> None:
        """Take nothing more."""
        self.ended.set()


class Timed:
    """A store that notes, for each firing, when the transaction that holds it had returned."""

    def __init__(self, store: Any) -> None:
        self._store = store
        # Twelve bytes each: the measurement must not be what grows in a soak.
        self._times, self._milliseconds = np.zeros(MOST, np.int64), np.zeros(MOST, np.float32)
        self._count = 0

    def commit_all(self, commits: Sequence[Commit]) -> Any:
        """Hand over, and look at the clock."""
        answer = self._store.commit_all(commits)
        now = time.time_ns()
        for commit in commits:
            for one in commit.firings:
                self._times[self._count], self._milliseconds[self._count] = one.ts, (now - one.ts) / 1e6
                self._count += 1
        return answer

    def since(self, ts: int) -> Any:
        """Milliseconds of the firings after an instant."""
        return self._milliseconds[: self._count][self._times[: self._count] > ts]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def load(rate: int, symbols: int, seconds: float, folder: Path, every: Any = None) -> dict[str, Any]:
    """Run the service under load; milliseconds, megabytes and counts."""
    names = [f"S{number:05d}USDT" for number in range(symbols)]
    listening = socket.create_server(("127.0.0.1", 0))
    store = Timed(open_store(folder / "alerts.db"))
    rule = Rule(id="above", owner="me", condition="close > 100", symbols=("*",))
    source: list[SocketSource] = []

    def sources(manager: DataManager, positions: object) -> list[SocketSource]:
        source.append(SocketSource(manager, listening, names))
        return source

    engine = AlertEngine(
        store,
        folder / "engine",
        {name: [SourceName("socket", name, stale_after=3_600)] for name in names},
        rules=[rule],
        sources=sources,
        options=EngineOptions(),
    )
    await engine.start()
    process, begun = psutil.Process(), time.time_ns()
    cpu, waited = time.process_time(), run_delay()
    command = [sys.executable, __file__, "send", str(listening.getsockname()[1]), str(rate), str(symbols), str(seconds)]
    with subprocess.Popen(command):
        while not source[0].ended.is_set():
            await asyncio.sleep(0.5)
            if every is not None:
                every(process.memory_info().rss)
    cpu, rss, waited = time.process_time() - cpu, process.memory_info().rss, run_delay() - waited
    stages = {
        stage: [engine.monitor.latency.quantile(stage, share) * 1e3 for share in (0.5, 0.99)] for stage in STAGES[:-1]
    }
    await engine.stop()
    measured = store.since(begun + int(WARM * 1e9))
    counted, status = store.count_firings(), engine.status()
    store.close()
    if status["problem"]:
        raise SystemExit(status["problem"])
    expected = sum(1 for n in range(int(rate * seconds)) if (n // symbols + n % symbols) % ONE_IN == 0)
    if counted != expected:
        raise SystemExit(f"{counted} firings are stored, {expected} were due")
    return {
        "firings": counted,
        "p50": float(np.percentile(measured, 50)),
        "p99": float(np.percentile(measured, 99)),
        "cpu": cpu / seconds,
        "rss": rss / 1e6,
        "waited": waited / seconds,
        "stages": stages,
    }


def run_delay() -> float:
    """Seconds for which threads of this process could run and had no processor; 0 where the system does not say."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):
            total += int(path.read_text().split()[1])
    return total / 1e9


def flushes(folder: Path, count: int = 400) -> Any:
    """Milliseconds of flushes of 20 KB each, alone."""
    spent = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(20_000))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            spent.append((time.perf_counter() - begun) * 1e3)
            time.sleep(0.003)
    return np.array(spent)


def pressure() -> str:
    """The machine's load and CPU pressure."""
    path = Path("/proc/pressure/cpu")
    some = path.read_text().split()[1] if path.exists() else "no PSI"
    return f"load {os.getloadavg()[0]:.1f}, CPU pressure some {some} per cent"


def main() -> None:
    if "--real-time" in sys.argv:
        # Children and threads inherit it.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    before = pressure()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(load(RATE, SYMBOLS, SECONDS, Path(folder)))
        alone = flushes(Path(folder))
    # Only now: the harness brings pandas, which is not the service's.
    from benchmarks.harness import report

    told = f"{RATE} ticks/s, {RATE // ONE_IN} firings/s, {SYMBOLS} symbols, {SECONDS} s ({before}; then {pressure()})"
    if "--real-time" in sys.argv:
        told += ", real-time class"
    for share, level in (("p50", 50), ("p99", 99)):
        value, flush = found[share], float(np.percentile(alone, level))
        report(f"socket to durable {share}: {told}", value, "ms", target="< 25 ms", holds=value < 25,
               peer="one flush of the disk", peer_value=flush)  # fmt: skip
    for stage, (p50, p99) in found["stages"].items():
        report(f"{stage} p50, {told}", p50, "ms", target="-", holds=True)
        report(f"{stage} p99, {told}", p99, "ms", target="-", holds=True)
    report(f"waiting of its threads for a processor: {told}", found["waited"], "s/s", target="-", holds=True)
    report(f"CPU of the service: {told}", found["cpu"], "CPU s/s", target="< 1", holds=found["cpu"] < 1)
    report(f"memory of the service: {told}", found["rss"], "MB", target="< 300 MB", holds=found["rss"] < 300)


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
