"""A shared bar close of many symbols with pattern rules: for how long it holds the engine's thread, and so every tick.

The peer, in the same run, runs its detectors in the engine's thread, as few detectors do; both must fire the same. CPU
seconds of the engine's thread decide; what the detectors need beside it must fit into their delay, which is wall time
and stands beside with the load. ``python -m benchmarks.bench_alert_patterns 10000`` takes other numbers of symbols.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness import Figure, report
from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.engine.kernel import CLOCK, TRADE
from tapeline.alerts.passage import Taken
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.opening import open_store

MINUTE, BEGIN, MINUTES = 60_000_000_000, 28_333_440 * 60_000_000_000, 8
CONDITIONS = ('pattern("fair_value_gap", "1m")', 'pattern("level_break", "up", "1m")', 'pattern("double_top", "1m")')


class Measured(NamedTuple):
    """The longest hold at a close (CPU seconds), the longest wait for detectors (wall), their delay, what fired."""

    hold: float
    wait: float
    delay: float
    fired: frozenset[str]


def measure(folder: Path, count: int, *, apart: bool) -> Measured:
    """Some minutes of trades of all symbols, each minute closed by one clock."""
    store = open_store(folder / f"{apart}.db")
    names = [f"S{number:05d}USDT" for number in range(count)]
    pipeline = AlertPipeline(store, Router({}, lambda *_: ""), folder / f"{apart}", names, detectors_apart=apart)
    pipeline.recover()
    pipeline.set_rules(
        [
            Rule(id=f"r{number}", owner="me", condition=text, symbols=("*",), timeframe="1m")
            for number, text in enumerate(CONDITIONS)
        ]
    )
    pipeline.series.still()()  # until the detectors have begun

    def take(symbols: np.ndarray, ts: int, prices: np.ndarray, record: int) -> tuple[float, float]:
        size = symbols.size
        times, codes = np.full(size, ts), np.full(size, record, np.uint8)
        batch = Batch(symbols.astype(np.int32), times, prices, np.ones(size), codes)
        taken = Taken(*batch[:3], np.full(size, -1), np.zeros(size, np.bool_), {}, batch.records)
        begun, at = time.thread_time(), time.perf_counter()
        pipeline.take(batch, taken)
        return time.thread_time() - begun, time.perf_counter() - at

    random, everyone, clock = np.random.default_rng(1), np.arange(count), np.array([-1])
    prices, hold, wait = np.full(count, 100.0), 0.0, 0.0
    for minute in range(MINUTES):
        opened = BEGIN + minute * MINUTE
        for step in range(4):
            prices = prices * np.exp(random.normal(0, 0.003, count))
            take(everyone, opened + step * 1_000_000_000, prices, TRADE)
        hold = max(hold, take(clock, opened + MINUTE, np.zeros(1), CLOCK)[0])
        # As long as the event time that passes, as it is live.
        begun = time.perf_counter()
        pipeline.series.still()()
        wait = max(wait, time.perf_counter() - begun)
        take(clock, opened + MINUTE + pipeline.series.delay, np.zeros(1), CLOCK)
    delay = pipeline.series.delay / 1e9
    pipeline.close()
    fired: set[str] = set()
    number = 0
    while page := store.firings_after(number, limit=1_000):
        fired |= {one.firing.id for one in page}
        number = page[-1].number
    store.close()
    return Measured(hold, wait, delay, frozenset(fired))


def run(count: int = 1_000) -> list[Figure]:
    """Measure both ways and demand the same firings."""
    with tempfile.TemporaryDirectory() as name:
        own, apart = (measure(Path(name), count, apart=apart) for apart in (False, True))
    assert own.fired == apart.fired
    assert apart.fired
    load = f"load {os.getloadavg()[0]:.1f}"
    return [
        report(
            f"{count:,} symbols, {len(CONDITIONS)} kinds of patterns: a shared close holds the engine's thread",
            apart.hold,
            "CPU s",
            target="<= a tenth of peer",
            holds=apart.hold <= own.hold / 10,
            peer="detectors in it",
            peer_value=own.hold,
        ),
        report(
            f"{count:,} symbols: the detectors need beside it ({load})",
            apart.wait,
            "s",
            target=f"< {apart.delay:g}",
            holds=apart.wait < apart.delay,
        ),
    ]


if __name__ == "__main__":
    every = [figure for count in map(int, sys.argv[1:] or ["1000"]) for figure in run(count)]
    sys.exit(not all(figure.holds for figure in every))
