"""The buffer and the journal: acknowledged ticks a second, recovery, and the memory of 10,000 symbols.

The peer of the journal is SQLite in WAL mode with ``synchronous=FULL``, which makes the same promise.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness import report
from tapeline.core.schemas import RAW_TICKS
from tapeline.core.symbol import Symbol
from tapeline.streams.buffer import TickBuffer
from tapeline.streams.journal import Journal
from tapeline.streams.row_layouts import make_rows

EURUSD = Symbol.parse("EURUSD")
RECOVERED = 1_000_000
SYMBOLS = 10_000


def ticks(first: int, count: int) -> np.ndarray:
    number = np.arange(first, first + count)
    return make_rows(RAW_TICKS, ts=number, bid=number.astype(float), ask=1.0, known_at=number)


def singles(journal: Journal, count: int) -> float:
    """Seconds to append ticks one by one, as a feed does, until the last is acknowledged."""
    rows = ticks(0, count)
    parts = [rows[number : number + 1] for number in range(count)]
    started = time.perf_counter()
    for part in parts:
        ticket = journal.append(RAW_TICKS, EURUSD, part, source="bench")
    journal.wait(ticket)
    return time.perf_counter() - started


def batches(journal: Journal, count: int, size: int) -> float:
    rows = ticks(0, size)
    started = time.perf_counter()
    for _ in range(count // size):
        ticket = journal.append(RAW_TICKS, EURUSD, rows, source="bench")
    journal.wait(ticket)
    return time.perf_counter() - started


def round_trips(journal: Journal, threads: int, each: int) -> list[float]:
    """Seconds from append to acknowledgement of single ticks, of several threads at once."""
    found: list[float] = []

    def feed() -> None:
        row = ticks(0, 1)
        for _ in range(each):
            started = time.perf_counter()
            journal.wait(journal.append(RAW_TICKS, EURUSD, row, source="bench"))
            found.append(time.perf_counter() - started)

    workers = [threading.Thread(target=feed) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


def sqlite_batches(folder: Path, count: int, size: int) -> float:
    connection = sqlite3.connect(folder / "peer.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE ticks (symbol, ts, sequence, bid, ask, last, volume, flags, known_at)")
    rows = [("EURUSD", *row) for row in ticks(0, size).tolist()]
    started = time.perf_counter()
    for _ in range(count // size):
        connection.executemany("INSERT INTO ticks VALUES (?,?,?,?,?,?,?,?,?)", rows)
        connection.commit()
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tapeline-bench-"))
    try:
        with Journal(folder / "journal", queue_bytes=16 << 20) as journal:
            singles(journal, 2_000)
            rate = 100_000 / singles(journal, 100_000)
            bulk = RECOVERED / batches(journal, RECOVERED, 500)
            latency = np.percentile(np.array(round_trips(journal, 4, 250)) * 1e3, [50, 99])
            backlog = journal.counters().backlog_rows
        peer = 200_000 / sqlite_batches(folder, 200_000, 500)
        report("one by one, acknowledged", rate, "ticks/s", target=">= 20,000", holds=rate >= 20_000)
        report(
            "500 a batch, acknowledged",
            bulk,
            "ticks/s",
            peer="sqlite WAL, a commit each 500",
            peer_value=peer,
            target="faster than the peer",
            holds=bulk > peer,
        )
        report("append to acknowledged, 4 threads, p99", latency[1], "ms", target="< 50", holds=bool(latency[1] < 50))
        started = time.perf_counter()
        with Journal(folder / "journal") as journal:
            seconds = time.perf_counter() - started
            found = journal.counters().recovered_rows
        per_million = seconds / found * 1e6
        report("recover 1M ticks", per_million, "s", target="< 5", holds=found == backlog and per_million < 5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    memory()


def memory() -> None:
    """Each in a process of its own: memory that one buffer frees would hide what the next one takes."""
    kinds = (
        ("10,000 symbols, 50 ticks each", SYMBOLS, [50], None, 300),
        ("10,000 symbols, 5,000 ticks each, 256 MiB allowed", SYMBOLS, [1_000] * 5, 256 << 20, 300),
        ("1,000 full rings of 5,000", 1_000, [5_000], None, 310),
    )
    context = multiprocessing.get_context("spawn")
    for name, symbols, rounds, allowed, target in kinds:
        with context.Pool(1) as pool:
            used = pool.apply(resident, (symbols, rounds, allowed))
        report(name, used, "MiB", target=f"< {target}", holds=used < target)


def resident(symbols: int, rounds: list[int], allowed: int | None) -> float:
    """How many MiB the process grows by when a buffer takes so many ticks a symbol, round after round."""
    names = [Symbol.parse(f"S{number}") for number in range(symbols)]
    rows = ticks(0, max(rounds))
    process = psutil.Process()
    before = process.memory_info().rss
    buffer = TickBuffer(maximum_bytes=allowed)
    for count in rounds:
        for name in names:
            buffer.extend(name, rows[:count])
    return (process.memory_info().rss - before) / 2**20


if __name__ == "__main__":
    main()
