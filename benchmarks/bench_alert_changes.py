"""What a change costs a running engine: one rule among many, and a thousand symbols that join ten thousand.

A piece of a change is taken between two batches: the time that it takes is how long a tick waits at most. The peer of
a rule's change, in the same run, is an engine that takes all rules anew; both must then have the same rules for each
symbol. CPU seconds decide; wall time, with two flushes of the disk in it, stands beside them with the load.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Figure, report
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine_changes import SYMBOLS_A_PIECE
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.processor import AlertProcessor
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.rules_in_force import Change, RulesInForce, prepare
from tapeline.alerts.series import SeriesFeeds
from tapeline.alerts.store.opening import open_store

CHANGES = 40
OF_ALL = (
    "crosses_up(close, 60000)", 'rsi(14, "1h") < 30', "close > sma(20)", 'macd("4h") > 0', "volume_ratio(20) > 3",
    'close > bollinger_upper(20, 2, "15m")', "change(5) > 0.02", 'close("1d") < open("1d")',
)  # fmt: skip
"""Conditions of the rules of ``*``."""


def make_rules(count: int, symbols: list[str]) -> list[Rule]:
    """Rules of one symbol each, of two kinds and many levels."""
    kinds = ("crosses_up(close, {})", 'rsi(14, "1h") < {}')
    return [
        Rule(
            id=f"r{number}",
            owner="me",
            condition=kinds[number % 2].format(10 + number % 80),
            symbols=(symbols[number % len(symbols)],),
        )
        for number in range(count)
    ]


def measured(pipeline: AlertPipeline, change: Change) -> tuple[float, float]:
    """CPU and wall seconds of a change, with what the kernel's next batch would wait for."""
    cpu, wall = time.process_time(), time.perf_counter()
    pipeline.change(change)
    pipeline.evaluator._bound()
    return time.process_time() - cpu, time.perf_counter() - wall


def anew(rules: list[Rule], symbols: list[str]) -> tuple[float, Evaluator]:
    """CPU seconds for which an engine takes all rules anew, and its kernel."""
    begun = time.process_time()
    evaluator = Evaluator()
    processor = AlertProcessor(Router({}, lambda *_: ""), evaluator.names, evaluator.rule)
    RulesInForce(evaluator, processor, SeriesFeeds(evaluator), symbols).apply(Change(tuple(map(prepare, rules))))
    return time.process_time() - begun, evaluator


def one_among(count: int, watched: int) -> Figure:
    """The change of one rule among so many."""
    symbols = [f"S{number:05d}USDT" for number in range(watched)]
    rules = make_rules(count, symbols)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "alerts.db")
        pipeline = AlertPipeline(store, Router({}, lambda *_: ""), Path(folder) / "engine", symbols)
        pipeline.recover()
        pipeline.set_rules(rules)
        times = []
        for number in range(CHANGES):
            at = number * 37 % count
            rules[at] = rules[at].model_copy(update={"condition": f"close > {number + 1000}"})
            times.append(measured(pipeline, Change((prepare(rules[at]),))))
        peer, other = anew(rules, symbols)
        for symbol in symbols:
            mine, theirs = pipeline.evaluator.rules(symbol), other.rules(symbol)
            assert {one.id for one in mine} == {one.id for one in theirs}, symbol
        pipeline.close()
        store.close()
    cpu, wall = (statistics.median(some) for some in zip(*times, strict=True))
    _told(f"  wall p50 {wall * 1e3:.2f} ms, longest {max(one for _, one in times) * 1e3:.2f} ms")
    return report(
        f"one rule changed among {count:,}", cpu * 1e3, "ms of CPU", peer="all rules taken anew", peer_value=peer * 1e3,
        target="below 5 ms", holds=cpu < 5e-3,
    )  # fmt: skip


def symbols_join(watched: int, joining: int) -> Figure:
    """Symbols that join a running engine, with the rules of all symbols for each of them."""
    symbols = [f"S{number:05d}USDT" for number in range(watched)]
    fresh = [f"N{number:05d}USDT" for number in range(joining)]
    rules = [
        Rule(id=f"all{number}", owner="me", condition=condition, symbols=("*",))
        for number, condition in enumerate(OF_ALL)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "alerts.db")
        pipeline = AlertPipeline(store, Router({}, lambda *_: ""), Path(folder) / "engine", symbols)
        pipeline.recover()
        pipeline.set_rules([*rules, *make_rules(watched, symbols)])
        steps = range(0, joining, SYMBOLS_A_PIECE)
        times = [measured(pipeline, Change(symbols=tuple(fresh[at : at + SYMBOLS_A_PIECE]))) for at in steps]
        for symbol in fresh:
            assert len(pipeline.evaluator.rules(symbol)) == len(rules), symbol
        pipeline.close()
        store.close()
    longest = max(cpu for cpu, _ in times)
    _told(
        f"  {len(times)} pieces, median {statistics.median(cpu for cpu, _ in times) * 1e3:.2f} ms of CPU, "
        f"wall p50 {statistics.median(wall for _, wall in times) * 1e3:.2f} ms, "
        f"longest {max(wall for _, wall in times) * 1e3:.2f} ms"
    )
    return report(
        f"{joining:,} symbols join {watched:,}: the longest piece", longest * 1e3, "ms of CPU", target="below 5 ms",
        holds=longest < 5e-3,
    )  # fmt: skip


def _told(text: str) -> None:
    sys.stderr.write(f"{text} (load {os.getloadavg()[0]:.1f})\n")


def main() -> int:
    """Measure; 0 where every target holds."""
    figures = [one_among(10_000, 1_000), one_among(100_000, 10_000), symbols_join(10_000, 1_000)]
    return 0 if all(one.holds for one in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
