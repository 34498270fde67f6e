"""Records and what the kernel says of them, written by hand, for the tests of the processor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapeline.alerts.engine import indicators, table
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Fired
from tapeline.alerts.passage import Taken
from tapeline.alerts.processor import AlertProcessor
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Rule

SECOND = 1_000_000_000
CLOSE = (indicators.CLOSE, 60 * SECOND)
TRUTHS = {None: table.UNKNOWN, False: table.FALSE, True: table.TRUE}


class Record(NamedTuple):
    """A trade of a symbol at a second; ``said`` is what the kernel says of rules at it: (rule, truth)."""

    second: float
    symbol: str = "A"
    said: tuple[tuple[str, bool | None], ...] = ()
    sequence: int = -1
    late: bool = False


def make_rule(**changes: Any) -> Rule:
    """A rule with what the test is about."""
    plain = {"id": "r", "owner": "me", "condition": "close > 1", "symbols": ("A",), "channels": ("hook",)} | changes
    return Rule(**plain)


def make_compiled(rule: Rule, *, crossing: bool = False) -> CompiledRule:
    """Its compiled form: one condition, which no kernel runs here."""
    from tapeline.alerts.engine.layout import Indicator

    reading = (Indicator(*CLOSE), 0)
    return CompiledRule(f"{rule.id}:{rule.version}", (Condition(reading, table.ABOVE, crossing=crossing, text="c"),))


class Desk:
    """A processor of some rules and symbols, fed with records in any cut."""

    def __init__(
        self, *rules: Rule, symbols: Sequence[str] = ("A", "B"), snapshot: Any = None, crossing: bool = False
    ) -> None:
        self.rules, self.symbols, self.crossing = rules, symbols, crossing
        routes = {("me", name): Route(name, "webhook", (f"{name}-1",)) for name in ("hook", "boss")}
        router = Router(routes, lambda firing, rule, route: f"{firing.kind} {firing.id}")
        self.places = [(symbol, rule) for rule in rules for symbol in symbols]
        self.processor = AlertProcessor(
            router, list(symbols), lambda n: make_compiled(self.places[n][1], crossing=crossing)
        )
        if snapshot is not None:
            self.processor.restore(snapshot)
        self.processor.set_rules([(rule, make_compiled(rule, crossing=crossing)) for rule in rules])
        for rule in rules:
            self.processor.watch_silence(rule, rule.symbols, 0)

    def take(self, records: Iterable[Record], positions: dict[str, int] | None = None) -> Commit:
        """Give it some records as one batch."""
        some = list(records)
        rows, sides = [], []
        for tick, record in enumerate(some):
            for name, truth in record.said:
                place = next(
                    n for n, (symbol, rule) in enumerate(self.places) if (symbol, rule.id) == (record.symbol, name)
                )
                ts = int(record.second * SECOND)
                number = self.symbols.index(record.symbol)
                rows.append((ts, 2.0, place, tick, len(sides), number, 1, TRUTHS[truth], 0))
                sides.append((2.0, 1.0, TRUTHS[truth]))
        fired = Fired(np.array(rows, table.FIRING), np.array(sides, table.SIDES))
        taken = Taken(
            np.array([self.symbols.index(one.symbol) for one in some], np.int32),
            np.array([int(one.second * SECOND) for one in some], np.int64),
            np.full(len(some), 2.0),
            np.array([one.sequence for one in some], np.int64),
            np.array([one.late for one in some], np.bool_),
            positions or {},
        )
        return self.processor.take(fired, taken, 10**18)

    def advance(self, second: float) -> Commit:
        """Let time pass."""
        return self.processor.advance(int(second * SECOND), 10**18)


def told(*commits: Commit) -> list[tuple[str, str, float]]:
    """What the commits tell: rule, kind and second."""
    return [(one.rule, one.kind, one.ts / SECOND) for commit in commits for one in commit.firings]
