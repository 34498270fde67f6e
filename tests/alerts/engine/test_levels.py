"""Levels by the thousand tell, in the same order, what they would tell if each were asked at each tick."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.engine import evaluator as module
from tapeline.alerts.engine import indicators as k
from tapeline.alerts.engine import table as t
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.kernel import CLOCK, EVENT, GAP, TRADE, VALUE
from tapeline.alerts.engine.layout import Indicator
from tapeline.alerts.engine.levels import is_level
from tests.alerts.engine.cases import BEGIN, FRAMES, MINUTE, OUTSIDE, SECOND, make_records, make_rule
from tests.alerts.oracle import Oracle

NAMES = ("S", "T")
ROWS = 60
OUTSIDE_RULE = CompiledRule("outside", (Condition((OUTSIDE, 0), t.ABOVE, threshold=0.5, crossing=True),))
Step = Callable[[Evaluator], Evaluator]


def level(
    rng: np.random.Generator, id: str, *, frames: tuple[int, ...] = FRAMES[:2], watched: float = 0.15
) -> CompiledRule:  # fmt: skip
    close = (Indicator(k.CLOSE, frames[int(rng.integers(len(frames)))]), 0)
    # On prices that come, and between them.
    threshold = float(rng.integers(390, 416)) / 4 if rng.random() < 0.8 else float(rng.normal(100, 3))
    crossing = bool(rng.random() < 0.5)
    frequency = (t.EVERY_TIME, t.EVERY_TIME, t.EVERY_TIME, t.ONCE, t.ONCE_PER_BAR)[int(rng.integers(5))]
    return CompiledRule(
        id,
        (Condition(close, int(rng.integers(6)), None, threshold, crossing),),
        frequency=frequency,
        cooldown=(0, 0, 20_000)[int(rng.integers(3))],
        bar=(60, 300)[int(rng.integers(2))],
        watched=bool(rng.random() < watched),
    )


def script(seed: int) -> list[Batch | Step]:
    """Batches, and what happens between them."""
    rng = np.random.default_rng(seed)
    many = (3, 30, 300)[int(rng.integers(3))]
    begin = [level(rng, f"l{number}") for number in range(many)]
    begin += [make_rule(rng, f"r{number}") for number in range(int(rng.integers(0, 4)))]
    begin = [begin[at] for at in rng.permutation(len(begin))] + [OUTSIDE_RULE]
    first = [(rule, NAMES if rule is OUTSIDE_RULE or rng.random() < 0.7 else NAMES[:1]) for rule in begin]
    steps: list[Batch | Step] = [_changing([], first)]
    known = [rule for rule in begin if rule is not OUTSIDE_RULE]
    records = [make_records(rng, ROWS, True), make_records(rng, ROWS, True)]
    at = 0
    while at < ROWS:
        end = min(ROWS, at + int(rng.integers(1, 25)))
        steps.append(_batch(rng, [some[at:end] for some in records]))
        at = end
        turn = rng.random()
        if turn < 0.5:
            steps.append(_some_change(rng, known, at))
        elif turn < 0.65:
            steps.append(_restored)
        elif turn < 0.7:
            steps.append(_compacted)
        elif turn < 0.75:
            steps.append(_reset(first))
    return steps


def _some_change(rng: np.random.Generator, known: list[CompiledRule], at: int) -> Step:
    """Some rules go, others come; some are edited, some go and come back as they were, some become another kind."""
    share = (0.02, 0.3)[int(rng.integers(2))]
    gone = [rule for rule in known if rng.random() < share]
    fresh: list[CompiledRule] = []
    for number, rule in enumerate(gone):
        turn = rng.random()
        if turn < 0.3:
            fresh.append(level(rng, rule.id, frames=FRAMES))
        elif turn < 0.4:
            fresh.append(make_rule(rng, rule.id))
        elif turn < 0.6:
            fresh.append(rule)
        elif turn < 0.9:
            fresh.append(level(rng, f"a{at}-{number}"))
    # One that is there already is left as it is, whatever it says.
    fresh += [level(rng, rule.id) for rule in known if rng.random() < 0.02]
    fresh += [level(rng, f"b{at}-{number}") for number in range(int(rng.integers(0, 20)))]
    known.extend(fresh)
    return _changing([(rule.id, NAMES) for rule in gone], [(rule, NAMES[: int(rng.integers(1, 3))]) for rule in fresh])


def _changing(gone: list[Any], fresh: list[Any]) -> Step:
    def change(engine: Evaluator) -> Evaluator:
        engine.change(gone, fresh)
        return engine

    return change


def _restored(engine: Evaluator) -> Evaluator:
    kept = engine.still().kept
    return Evaluator.restored(engine.names, kept.rules, kept.sets, kept.arrays, kept.levels)


def _compacted(engine: Evaluator) -> Evaluator:
    engine.compact()
    return engine


def _reset(first: list[Any]) -> Step:
    def reset(engine: Evaluator) -> Evaluator:
        engine.reset(["T"])
        engine.change([], [(rule, ["T"]) for rule, _ in first])
        return engine

    return reset


def _batch(rng: np.random.Generator, records: list[list[tuple[int, int, float, float]]]) -> Batch:
    """The records of both symbols, one after the other by turns; a clock is of both now and then."""
    turns = rng.permutation([number for number, some in enumerate(records) for _ in some]).tolist()
    waiting = [iter(some) for some in records]
    rows = [(number, *next(waiting[number])) for number in turns]
    both = [len(records) > 1 and kind == CLOCK and rng.random() < 0.5 for _, kind, *_ in rows]
    return Batch(
        np.array([-1 if every else row[0] for row, every in zip(rows, both, strict=True)], np.int32),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows]),
        np.array([row[4] for row in rows]),
        np.array([row[1] for row in rows], np.uint8),
    )


def told(steps: list[Batch | Step]) -> tuple[list[tuple[Any, ...]], dict[str, list[str]]]:
    """All that fired, in its order, and the rules in the end."""
    engine = Evaluator(NAMES)
    found: list[tuple[Any, ...]] = []
    for step in steps:
        if not isinstance(step, Batch):
            engine = step(engine)
            continue
        sizes = step.sizes.copy()
        for row in np.flatnonzero((step.records == VALUE) | (step.records == EVENT)):
            sizes[row] = engine.place(NAMES[step.symbols[row]], OUTSIDE)
        fired = engine.process(step._replace(sizes=sizes))
        plain = fired.firings[["ts", "tick", "symbol", "truth", "at_close"]].tolist()
        # Bytes: not a number is what it is here, too.
        prices, sides = fired.firings["price"].copy().view(np.int64).tolist(), fired.sides
        places = fired.firings[["rule", "sides", "count"]].tolist()
        for one, price, (number, begin, count) in zip(plain, prices, places, strict=True):
            found.append((*engine.owner(number), one, price, sides[begin : begin + count].tobytes()))
    return found, {name: [rule.id for rule in engine.rules(name)] for name in NAMES}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_levels_tell_what_they_would_tell_among_the_other_rules(seed: int) -> None:
    steps = script(seed)
    mine = told(steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_level", lambda rule: False)
        theirs = told(steps)
    assert mine == theirs


def test_the_scripts_fire_and_hold_levels_of_all_kinds() -> None:
    found = [one for seed in range(6) for one in told(script(seed))[0]]
    of_levels = [rule for _, rule, *_ in found if is_level(rule)]
    assert 500 < len(of_levels) < len(found)
    assert {rule.frequency for rule in of_levels} == {t.EVERY_TIME, t.ONCE, t.ONCE_PER_BAR}
    assert {rule.conditions[0].comparison for rule in of_levels} == set(range(6))
    assert {rule.watched for rule in of_levels} == {False, True}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**9))
def test_levels_tell_what_the_readable_engine_tells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = [level(rng, f"l{number}") for number in range(100)]
    joining = [level(rng, f"j{number}") for number in range(5)]
    records = make_records(rng, 60, False)
    engine, oracle = Evaluator(["S"]), Oracle()
    engine.add_all([(rule, ["S"]) for rule in rules])
    for rule in rules:
        oracle.add(rule)
    found = []
    for begin, end in ((0, 30), (30, 60)):
        part = _batch(rng, [records[begin:end]])
        found += [
            (engine.rule(int(one["rule"])).id, begin + int(one["tick"]), int(one["ts"]), int(one["truth"]))
            for one in engine.process(part).firings
        ]
        for number, (kind, ts, price, size) in enumerate(records[begin:end], begin):
            oracle.take(number, kind, ts, price, size)
        if begin == 0:
            engine.change([(rule.id, ["S"]) for rule in rules[:5]], [(rule, ["S"]) for rule in joining])
            for rule in rules[:5]:
                oracle.remove(rule.id)
            for rule in joining:
                oracle.add(rule)
    truth = {None: t.UNKNOWN, False: t.FALSE, True: t.TRUE}
    assert found == [(one.rule, one.record, one.ts, truth[one.truth]) for one in oracle.fired]


def up(id: str, threshold: float, *, crossing: bool = True, duration: int = MINUTE) -> CompiledRule:
    close = (Indicator(k.CLOSE, duration), 0)
    return CompiledRule(id, (Condition(close, t.ABOVE, threshold=threshold, crossing=crossing),))


def trades(engine: Evaluator, *prices: float, begin: int = 0) -> list[str]:
    """The rules that these prices, a second apart, let fire."""
    times = BEGIN + (begin + np.arange(len(prices))) * SECOND
    fired = engine.process(engine.trades("S", times, np.array(prices), np.ones(len(prices)))).firings
    return [engine.rule(int(one["rule"])).id for one in fired]


def test_thousands_in_one_jump_and_in_any_order_of_joining() -> None:
    rng = np.random.default_rng(2)
    thresholds = rng.permutation(np.arange(1, 6_001)) / 10
    engine = Evaluator(["S"])
    engine.add_all([(up(f"{number}", one), ["S"]) for number, one in enumerate(thresholds.tolist())])
    assert trades(engine, 0.05) == []
    assert trades(engine, 1_000.0, begin=1) == [str(number) for number in range(6_000)]
    gone = rng.permutation(6_000)[:5_900].tolist()
    engine.change([(str(number), ["S"]) for number in gone], [])
    left = sorted(set(range(6_000)) - set(gone))
    assert trades(engine, 0.05, 1_000.0, begin=2) == [str(number) for number in left]
    for number in gone[:300]:
        engine.add(up(f"{number}", float(thresholds[number])), ["S"])
    expected = [str(number) for number in left + gone[:300]]
    assert trades(engine, 0.05, 1_000.0, begin=4) == expected
    assert [rule.id for rule in engine.rules("S")] == expected


def test_a_million_prices_between_two_levels_ask_nothing() -> None:
    engine = Evaluator(["S"])
    engine.add_all([(up(f"{number}", float(number)), ["S"]) for number in range(1, 200)])
    trades(engine, 50.5)
    near = engine._levels.tables().near[0]
    assert near.tolist() == [50.0, 51.0]
    engine._levels.tables().levels["truth"] = t.UNKNOWN
    trades(engine, 50.6, 50.9, 50.1, begin=1)
    assert (engine._levels.tables().levels["truth"] == t.UNKNOWN).all(), "none was asked"


@pytest.mark.parametrize("beside", [(), (up("far", 500.0, duration=5 * MINUTE),)])
def test_a_trade_at_the_same_price_is_asked_after_a_gap_and_after_a_change(beside: tuple[CompiledRule, ...]) -> None:
    engine = Evaluator(["S"])
    engine.add_all([(rule, ["S"]) for rule in (up("a", 100.0), *beside)])
    assert trades(engine, 99.0) == []
    gap = Batch(
        np.zeros(1, np.int32), np.array([BEGIN + SECOND]), np.zeros(1), np.zeros(1), np.array([GAP], np.uint8)
    )  # fmt: skip
    engine.process(gap)
    assert trades(engine, 99.0, 101.0, begin=2) == ["a"], "the trade after the gap told on which side it is"
    engine.add(up("b", 100.0, crossing=False), ["S"])
    assert trades(engine, 101.0, begin=4) == ["b"]
    engine.process(gap._replace(times=gap.times + 5 * SECOND))
    assert trades(engine, 99.0, begin=7) == [], "from unknown nothing crosses"


def test_what_is_no_level() -> None:
    close = Indicator(k.CLOSE, MINUTE)
    plain = Condition((close, 0), t.ABOVE, threshold=100.0)
    assert is_level(CompiledRule("r", (plain,)))
    for other in (
        CompiledRule("r", (plain, plain), (0, 1, t.AND)),
        CompiledRule("r", (plain,), (0, t.NOT)),
        CompiledRule("r", (plain,), close_of=MINUTE),
        CompiledRule("r", (plain,), frequency=t.ONCE_PER_BAR),
        CompiledRule("r", (Condition((close, 0), t.ABOVE, hysteresis=1.0),)),
        CompiledRule("r", (Condition((close, 0), t.ABOVE, threshold=math.nan),)),
        CompiledRule("r", (Condition((close, 0), t.ABOVE, (Indicator(k.OPEN, MINUTE), 0)),)),
        CompiledRule("r", (Condition((close._replace(closed=True), 0), t.ABOVE),)),
        CompiledRule("r", (Condition((Indicator(k.HIGH, MINUTE), 0), t.ABOVE),)),
    ):
        assert not is_level(other), other


def test_bars_of_the_past_are_known_to_levels() -> None:
    engine = Evaluator(["S"])
    engine.add_all([(up("a", 100.0, crossing=False), ["S"]), (OUTSIDE_RULE, ["S"])])
    bars = {
        "ts": [BEGIN // MINUTE * MINUTE - MINUTE],
        **{name: [101.0] for name in ("open", "high", "low", "close", "volume")},
    }
    engine.load("S", MINUTE, bars)
    value = Batch(
        np.zeros(1, np.int32), np.array([BEGIN]), np.zeros(1), np.array([float(engine.place("S", OUTSIDE))]),
        np.array([VALUE], np.uint8),
    )  # fmt: skip
    assert [engine.rule(int(one["rule"])).id for one in engine.process(value).firings] == ["a"]


def test_a_slot_that_was_left_is_taken_again_and_names_nobody_meanwhile() -> None:
    engine = Evaluator(["S"])
    engine.add(up("a", 100.0), ["S"])
    engine.remove("a", ["S"])
    with pytest.raises(module.DataError, match="no longer"):
        engine.owner(-1)
    engine.add(up("b", 100.0), ["S"])
    assert engine.owner(-1)[1].id == "b"
    assert TRADE == 0
