"""Soak: a feed through ring buffer, journal and drain into a lake, for a while, with a flat memory.

``make soak`` runs it for TAPELINE_SOAK_SECONDS (60). It fails where the resident memory rises, where a queue passes
its bound, or where the lake in the end does not hold every tick once. The target asks Arrow and the C library to give
freed memory back (ARROW_DEFAULT_MEMORY_POOL=system, MALLOC_ARENA_MAX=2): their caches, which rise for minutes before
they level off, would hide a leak as small as the one it looks for.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from tapeline.core.schemas import RAW_TICKS
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake import Lake, Lineage
from tapeline.lake.parquet import read_footer
from tapeline.lake.partition import partitions
from tapeline.streams.buffer import TickBuffer
from tapeline.streams.drain import Drain
from tapeline.streams.journal import Journal
from tapeline.streams.row_layouts import make_rows

TICK = Timeframe.parse("tick")
START = 1_735_689_600_000_000_000
DAY = 86_400_000_000_000
BATCH = 50
TICKS_A_DAY = 20_000
"""The tape's days are short: a day's file, which each write rewrites, must be as large at the end as at the start."""

ALLOWED_RISE = 0.02
"""Of the memory at the end of the warm-up, over the rest of the run; noise of the allocator stays below it."""

SYMBOLS = [Symbol.parse(f"PAIR{number}") for number in range(4)]


def soak(seconds: float, folder: Path, *, sample_seconds: float = 0.25) -> dict[str, float | bool]:
    """Feed ticks for a while and measure; see the module."""
    lake, lineage = Lake(folder / "lake"), Lineage("soak", "stream", ("journal",))
    buffer = TickBuffer(5_000, maximum_symbols=10, maximum_bytes=4 << 20)
    process = psutil.Process()
    sent = dict.fromkeys(SYMBOLS, 0)
    samples: list[tuple[float, float]] = []
    deepest = 0
    started = time.monotonic()
    with Journal(folder / "journal", segment_bytes=4 << 20, backlog_bytes=32 << 20) as journal:
        drain = Drain(
            journal,
            lambda spec, table, symbol: lake.write(spec, table, symbol, TICK, lineage=lineage),
            rows=20_000,
            seconds=1.0,
        )
        with drain:
            while (now := time.monotonic() - started) < seconds:
                for symbol in SYMBOLS:
                    number = np.arange(sent[symbol], sent[symbol] + BATCH)
                    ts = START + number // TICKS_A_DAY * DAY + number % TICKS_A_DAY * 1_000_000
                    rows = make_rows(RAW_TICKS, ts=ts, bid=number.astype(float), ask=1.0, known_at=ts)
                    buffer.extend(symbol, rows)
                    ticket = journal.append(RAW_TICKS, symbol, rows, source="soak")
                    sent[symbol] += BATCH
                journal.wait(ticket)
                counted = journal.counters()
                deepest = max(deepest, counted.queued_bytes + counted.backlog_bytes)
                if not samples or now - samples[-1][0] >= sample_seconds:
                    samples.append((now, process.memory_info().rss / 2**20))
        counted, drained = journal.counters(), drain.counters()
    stored = {symbol: _rows(lake, symbol) for symbol in SYMBOLS}
    return {
        "seconds": round(samples[-1][0], 1),
        "ticks": sum(sent.values()),
        "ticks_per_second": round(sum(sent.values()) / samples[-1][0]),
        "nothing_lost_nothing_doubled": stored == sent,
        "deepest_mib": round(deepest / 2**20, 1),
        "bound_held": deepest <= journal.queue_bytes + journal.backlog_bytes,
        "failures": counted.failures + drained.failures,
        **slope(samples),
    }


def slope(samples: list[tuple[float, float]]) -> dict[str, float | bool]:
    """The least-squares rise of the memory after a third of the run, and whether it counts as flat."""
    points = np.array(samples[len(samples) // 3 :])
    per_second, _ = np.polyfit(points[:, 0], points[:, 1], 1)
    rise = per_second * (points[-1, 0] - points[0, 0])
    return {
        "memory_mib": round(float(points[0, 1]), 1),
        "rise_mib": round(float(rise), 2),
        "flat": bool(rise <= max(ALLOWED_RISE * points[0, 1], 4.0)),
    }


def _rows(lake: Lake, symbol: Symbol) -> int:
    """The rows of a series, each key once, from its footers; a doubled tick would have raised a revision."""
    footers = [read_footer(item.path) for item in partitions(lake.path_of(RAW_TICKS, symbol, TICK))]
    return sum(footer.rows + footer.superseded for footer in footers)


def main() -> int:
    """Run the soak, print its figures, and return 1 where it failed."""
    seconds = float(os.environ.get("TAPELINE_SOAK_SECONDS", "60"))
    folder = Path(tempfile.mkdtemp(prefix="tapeline-soak-"))
    try:
        found = soak(seconds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    json.dump(found, sys.stdout)
    sys.stdout.write("\n")
    good = all(found[name] for name in ("flat", "bound_held", "nothing_lost_nothing_doubled")) and not found["failures"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
