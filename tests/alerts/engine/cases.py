"""Random symbols, rules and records, and both engines run over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeline.alerts.engine import indicators as k
from tapeline.alerts.engine import table as t
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.kernel import CLOCK, EVENT, GAP, TRADE, VALUE
from tapeline.alerts.engine.layout import Indicator
from tests.alerts.oracle import Oracle

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
FRAMES = (MINUTE, 5 * MINUTE, 1440 * MINUTE)
BEGIN = 1_700_000_000 * SECOND // (1440 * MINUTE) * (1440 * MINUTE) + 17 * SECOND
OUTSIDE = Indicator(k.EXTERNAL, key="sentiment:level")


@dataclass
class Case:
    rules: list[CompiledRule]
    records: list[tuple[int, int, float, float]]
    # Before the record of this number, these rules come and those ids go.
    changes: dict[int, tuple[list[CompiledRule], list[str]]]


def make_case(seed: int, rows: int = 160) -> Case:
    rng = np.random.default_rng(seed)
    rules = [make_rule(rng, f"r{number}") for number in range(int(rng.integers(2, 9)))]
    if rng.random() < 0.5:
        rules.append(CompiledRule("outside", (Condition((OUTSIDE, 0), t.ABOVE, threshold=0.5, crossing=True),)))
    changes: dict[int, tuple[list[CompiledRule], list[str]]] = {}
    for number in range(int(rng.integers(0, 3))):
        # What joins reads what is there already, so it knows as much as if it had been there from the beginning.
        other = rules[int(rng.integers(len(rules)))]
        conditions = tuple(
            Condition(one.left, one.comparison, one.right, one.threshold + 0.3, one.crossing)
            for one in other.conditions
        )
        joining = CompiledRule(f"j{number}", conditions, other.program, bar=60, close_of=other.close_of)
        changes[int(rng.integers(1, rows))] = ([joining], [rules[int(rng.integers(len(rules)))].id])
    return Case(rules, make_records(rng, rows, any(rule.id == "outside" for rule in rules)), changes)


def make_records(rng: np.random.Generator, rows: int, outside: bool) -> list[tuple[int, int, float, float]]:
    records: list[tuple[int, int, float, float]] = []
    ts, price = BEGIN, 100.0
    for _ in range(rows):
        ts += int(rng.choice([0, 1, 7, 23, 61, 400, 90_000], p=[0.1, 0.2, 0.3, 0.2, 0.15, 0.045, 0.005]) * SECOND)
        kind = float(rng.random())
        if kind < 0.03:
            records.append((CLOCK, ts, 0.0, 0.0))
        elif kind < 0.05:
            records.append((GAP, ts, 0.0, 0.0))
        elif kind < 0.08 and outside:
            records.append((VALUE if rng.random() < 0.6 else EVENT, ts, float(rng.choice([0.2, 0.9, math.nan])), 0.0))
        elif kind < 0.11:
            records.append((TRADE, ts - int(rng.integers(1, 200)) * SECOND, price + rng.normal(), 1.0))
        elif kind < 0.13:
            records.append((TRADE, ts, float(rng.choice([math.nan, -1.0, 0.0, math.inf])), 1.0))
        elif kind < 0.14:
            records.append((TRADE, ts, price, float(rng.choice([math.nan, -1.0, math.inf]))))
        else:
            step = rng.random()
            # Unchanged, on the levels of the rules themselves, or anywhere.
            price = price if step < 0.2 else float(rng.integers(97, 104)) if step < 0.4 else price + rng.normal() * 0.8
            price = min(max(price, 90.0), 110.0)
            records.append((TRADE, ts, price, float(rng.exponential())))
    return records


def make_rule(rng: np.random.Generator, id: str) -> CompiledRule:
    count = int(rng.choice([1, 1, 2, 3]))
    duration = int(rng.choice(FRAMES[:2]))
    conditions = tuple(make_condition(rng) for _ in range(count))
    program: tuple[int, ...] = ()
    if count == 2:
        program = ((0, 1, t.AND), (0, 1, t.OR), (0, 1, t.NOT, t.AND), (0, t.NOT, 1, t.OR))[int(rng.integers(4))]
    elif count == 3:
        program = ((0, 1, t.AND, 2, t.OR), (0, 1, 2, t.OR, t.AND), (0, 1, t.OR, t.NOT, 2, t.AND))[int(rng.integers(3))]
    frequency = int(rng.integers(4))
    at_close = frequency == t.ONCE_PER_BAR_CLOSE or rng.random() < 0.15
    return CompiledRule(
        id,
        conditions,
        program,
        frequency,
        int(rng.choice([0, 0, 20_000, 150_000])),
        duration // SECOND,
        duration if at_close else 0,
        watched=bool(rng.random() < 0.15),
    )


def make_condition(rng: np.random.Generator) -> Condition:
    duration = int(rng.choice(FRAMES, p=[0.6, 0.3, 0.1]))
    shut = bool(rng.random() < 0.25)
    close = (Indicator(k.CLOSE, duration, closed=shut), 0)
    comparison, crossing = int(rng.integers(4)), bool(rng.random() < 0.4)
    hysteresis = float(rng.choice([0.0, 0.0, 0.75]))
    n = int(rng.integers(1, 6))

    def over(indicator: Indicator, output: int, level: float) -> Condition:
        return Condition((indicator, output), comparison, None, level, crossing, hysteresis)

    held = {"left": close, "factor": 100.2, "n": int(rng.integers(2))}
    makers: list[Any] = [
        lambda: Condition(close, int(rng.integers(6)), None, float(rng.integers(98, 103)), crossing, hysteresis),
        lambda: Condition(close, comparison, (Indicator(k.SMA, duration, n + 1, closed=shut), 0), 0.0, crossing),
        lambda: Condition(close, comparison, (Indicator(k.EMA, duration, n + 1), 0), 0.0, crossing, hysteresis),
        lambda: over(Indicator(k.RSI, duration, n, closed=shut), 0, 44.4),
        lambda: Condition(
            (Indicator(k.MACD, duration, n, n + 3, 2, closed=shut), 0), comparison,
            (Indicator(k.MACD, duration, n, n + 3, 2, closed=shut), 1), 0.0, crossing,
        ),
        lambda: Condition(close, comparison, (Indicator(k.BOLLINGER, duration, n + 2, factor=1.1), 1), 0.0, crossing),
        lambda: over(Indicator(k.ATR, duration, n), 0, 0.917),
        lambda: over(Indicator(k.VOLUME_RATIO, duration, n, closed=shut), 0, 1.317),
        lambda: over(Indicator(k.VOLUME_SCORE, duration, n + 2), 0, 0.413),
        lambda: over(Indicator(k.CHANGE, duration, n), 0, 0.00137),
        lambda: Condition(close, comparison, (Indicator(k.HIGHEST, duration, n), 0), 0.0, crossing),
        lambda: Condition(close, comparison, (Indicator(k.LOWEST, duration, n, closed=shut), 0), 0.0, crossing),
        lambda: over(Indicator(k.STREAK, FRAMES[int(rng.integers(2))], **held), 0, 1.5),
        lambda: over(Indicator(k.SINCE, **held), 0, 90.5 * SECOND),
        lambda: over(Indicator(k.SUBTRACT, left=(Indicator(k.HIGH, duration), 0), right=close), 0, 0.613),
        lambda: over(Indicator(k.DIVIDE, left=close, factor=50.0), 0, 2.003),
        lambda: over(Indicator(k.TRAILING_HIGH, left=close, key=str(n)), 0, 101.317),
        lambda: over(Indicator(k.VOLUME, duration), 0, 3.317),
        lambda: over(Indicator(k.VOLUME_NORM, 5 * MINUTE, 1), 0, 1.117),
    ]  # fmt: skip
    made: Condition = makers[int(rng.integers(len(makers)))]()
    return made


def run_oracle(case: Case) -> Oracle:
    oracle = Oracle()
    for rule in case.rules:
        oracle.add(rule)
    for number, (kind, ts, price, size) in enumerate(case.records):
        for id in case.changes.get(number, ([], []))[1]:
            oracle.remove(id)
        for rule in case.changes.get(number, ([], []))[0]:
            oracle.add(rule)
        if kind in (VALUE, EVENT) and OUTSIDE not in oracle.external:
            continue
        oracle.take(number, kind, ts, price, size, OUTSIDE)
    return oracle


def run_kernel(case: Case, splits: set[int], neighbours: int = 0) -> tuple[list[tuple[Any, ...]], Evaluator]:
    """``splits``: where batches end; ``neighbours``: other symbols beside it, which are told nothing."""
    names = ["S", *(f"N{number}" for number in range(neighbours))]
    engine = Evaluator(names)
    engine.add_all([(rule, names) for rule in case.rules])
    found: list[tuple[Any, ...]] = []
    at = 0
    for end in sorted(splits | set(case.changes) | {len(case.records)}):
        fired = engine.process(as_batch(engine, case.records[at:end]))
        for one in fired.firings:
            sides = fired.sides[one["sides"] : one["sides"] + one["count"]]
            truth = {t.UNKNOWN: None, t.FALSE: False, t.TRUE: True}
            found.append(
                (
                    engine.rule(int(one["rule"])).id, at + int(one["tick"]), int(one["ts"]), float(one["price"]),
                    truth[int(one["truth"])], int(one["at_close"]),
                    tuple((float(each["left"]), float(each["right"]), truth[int(each["truth"])]) for each in sides),
                )
            )  # fmt: skip
        at = end
        if end in case.changes:
            joining, leaving = case.changes[end]
            for id in leaving:
                engine.remove(id, ["S"])
            for rule in joining:
                engine.add(rule, ["S"])
    return found, engine


def as_batch(engine: Evaluator, records: list[tuple[int, int, float, float]]) -> Batch:
    place = engine.place("S", OUTSIDE) if any(kind in (VALUE, EVENT) for kind, *_ in records) else 0
    return Batch(
        np.zeros(len(records), np.int32),
        np.array([ts for _, ts, _, _ in records], np.int64),
        np.array([price for _, _, price, _ in records]),
        np.array([float(place) if kind in (VALUE, EVENT) else size for kind, _, _, size in records]),
        np.array([kind for kind, *_ in records], np.uint8),
    )
