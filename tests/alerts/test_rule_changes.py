"""Rules and symbols that change while batches run: what a change costs others (nothing), and the same after a crash."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tapeline.alerts.engine import rule_sets
from tapeline.alerts.feeds.batcher import Batcher, Tick
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.processor import AlertProcessor
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.rule_epochs import Epoch, RuleEpochs
from tapeline.alerts.rules_in_force import ALL, Change, RulesInForce, prepare
from tapeline.alerts.series import SeriesFeeds
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Store
from tapeline.core.errors import ConfigurationError, DataError

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def make_rule(id: str, condition: str = "close > 100", symbols: Sequence[str] = ("BTCUSDT",), **more: object) -> Rule:
    return Rule(id=id, owner="me", condition=condition, symbols=tuple(symbols), **more)


def change(*rules: Rule, **more: object) -> Change:
    return Change(tuple(map(prepare, rules)), **more)


def opened(folder: Path, store: Store, symbols: Sequence[str] = SYMBOLS, **more: object) -> AlertPipeline:
    return AlertPipeline(store, Router({}, lambda *_: ""), folder, symbols, clock=lambda: 7, **more)


def in_force(symbols: Sequence[str] = SYMBOLS) -> RulesInForce:
    from tapeline.alerts.engine.evaluator import Evaluator

    evaluator = Evaluator()
    processor = AlertProcessor(Router({}, lambda *_: ""), evaluator.names, evaluator.rule)
    return RulesInForce(evaluator, processor, SeriesFeeds(evaluator), symbols)


def standing(force: RulesInForce) -> dict[str, set[str]]:
    """By symbol the compiled rules that the kernel has."""
    evaluator = force._evaluator
    return {symbol: {one.id for one in evaluator.rules(symbol)} for symbol in evaluator.names}


@pytest.mark.parametrize("seed", range(3))
def test_after_any_changes_what_stands_is_what_the_last_of_them_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tables are written anew all the time, in the middle of a change too.
    monkeypatch.setattr(rule_sets, "_ROOM", 4)
    chance, force = random.Random(seed), in_force()
    wanted: dict[str, Rule] = {}
    symbols = dict.fromkeys(SYMBOLS)
    conditions = (
        "close > 100",
        "rsi(14) < 30",
        'pattern("double_top", "1h")',
        "sma(5) > sma(9)",
        "crosses_up(close, 7)",
    )
    for number in range(40):
        fresh = (f"S{number}",) if chance.random() < 0.2 else ()
        symbols.update(dict.fromkeys(fresh))
        some = [
            make_rule(
                f"r{chance.randrange(8)}",
                chance.choice(conditions),
                ALL if chance.random() < 0.3 else chance.sample(sorted(symbols), 2),
                enabled=chance.random() < 0.9,
                inhibited_by=(f"r{chance.randrange(8)}",) if chance.random() < 0.3 else (),
            )
            for _ in range(chance.randrange(3))
        ]
        gone = tuple(chance.sample([f"r{one}" for one in range(8)], chance.randrange(2)))
        named = {one for rule in wanted.values() for one in rule.symbols}
        dropped = tuple(chance.sample(sorted(symbols), 1)) if chance.random() < 0.2 else ()
        force.apply(change(*{one.id: one for one in some}.values(), removed=gone, symbols=fresh, dropped=dropped))
        for id in gone:
            if id not in {one.id for one in some}:
                wanted.pop(id, None)
        for rule in some:
            wanted.pop(rule.id, None)
            if rule.enabled:
                wanted[rule.id] = rule
        named = {one for rule in wanted.values() if rule.symbols != ALL for one in rule.symbols}
        symbols = {one: None for one in symbols if one not in dropped or one in named}
        assert list(force.symbols) == list(symbols)
    other = in_force(tuple(symbols))
    other.apply(change(*wanted.values()))
    assert {one.id: one for one in force.rules} == wanted
    assert {one: rules for one, rules in standing(force).items() if rules} == {
        one: rules for one, rules in standing(other).items() if rules
    }
    # Counts are what a recount gives.
    assert force.references == other.references
    assert +force._inhibiting == +other._inhibiting
    assert force._series.wanted == other._series.wanted
    assert force._processor.rules == other._processor.rules
    watched = {one.compiled.id: one.compiled.watched for one in force._standing.values()}
    assert watched == {one.compiled.id: one.compiled.watched for one in other._standing.values()}


def test_a_change_that_is_refused_changes_nothing() -> None:
    force = in_force()
    force.apply(change(make_rule("a"), make_rule("b", "close > 5", ALL)))
    before = standing(force)
    huge = [make_rule(f"h{days}", f'volume_norm({days}, "1m") > 1', ["ETHUSDT"]) for days in range(240, 247)]
    with pytest.raises(ConfigurationError, match="numbers"):
        force.apply(change(make_rule("a", "close > 7"), *huge, removed=("b",)))
    with pytest.raises(ConfigurationError, match="XRPUSDT is not collected"):
        force.apply(change(make_rule("c", symbols=["XRPUSDT"]), removed=("b",)))
    assert standing(force) == before
    assert [one.id for one in force.rules] == ["a", "b"]


def test_an_edited_rule_leaves_its_indicators_until_they_are_more_than_what_is_read() -> None:
    force = in_force()
    for length in range(2, 102):
        force.apply(change(make_rule("a", f"rsi({length}) < 30")))
    evaluator = force._evaluator
    wanted = evaluator._sets.wanted(int(evaluator._rows[0, 2]))
    assert 1 <= len(wanted) <= rule_sets._SPARE + 2


def test_a_rule_that_comes_back_minds_silence_again() -> None:
    force = in_force()
    quiet = make_rule("q", "close > 1000", no_data="nodata")
    force._processor.watermark = BEGIN
    force.apply(change(quiet))
    assert len(force._processor._timers) == 1
    force.apply(Change(removed=("q",)))
    assert force._processor._timers == []
    force.apply(change(quiet))
    assert len(force._processor._timers) == 1
    # A symbol that it no longer watches is not minded any more.
    force.apply(change(quiet.model_copy(update={"symbols": ("ETHUSDT",)})))
    assert [key for _, key, _ in force._processor._timers] == [("q", "ETHUSDT")]


def ticks(count: int, seed: int = 5) -> list[Tick]:
    chance = np.random.default_rng(seed)
    prices = 100 + 4 * np.sin(np.arange(count) / 9) + chance.normal(0, 0.8, count)
    which = chance.choice(4, count)
    names = (*SYMBOLS, "NEWUSDT")
    return [
        Tick(names[one], BEGIN + at * SECOND, round(float(price), 2), 1.0, at + 1)
        for at, (one, price) in enumerate(zip(which.tolist(), prices.tolist(), strict=True))
    ]


Step = Callable[[AlertPipeline], object]


def story() -> list[Step]:
    """Batches, and between them changes of rules and symbols, snapshots, flushes."""
    steps: list[Step] = []
    tape, known = ticks(400), set(SYMBOLS)

    def batch(some: list[Tick]) -> Step:
        def run(pipeline: AlertPipeline) -> object:
            batcher = Batcher(pipeline.evaluator.symbols)
            batcher.take_all([one for one in some if one.symbol in pipeline.in_force.symbols], "tape")
            found = batcher.flush(0, force=True)
            return found and pipeline.take(*found)

        return run

    chance = random.Random(11)
    for number, at in enumerate(range(0, len(tape), 8)):
        steps.append(batch(tape[at : at + 8]))
        rules = [
            make_rule(
                f"r{chance.randrange(5)}", f"close > {chance.randrange(95, 105)}", chance.choice([ALL, SYMBOLS[:2]])
            ),
            make_rule("wait", f"close > {chance.randrange(97, 103)}", ALL, pending=1, notify_resolved=True),
            make_rule("mean", f"close > sma({chance.randrange(3, 6)})", ALL, frequency="once_per_bar"),
        ]
        picked = change(chance.choice(rules), removed=("mean",) if number % 9 == 5 else ())
        steps.append(lambda pipeline, picked=picked: pipeline.change(picked))
        if number == 12:
            known.add("NEWUSDT")
            steps.append(lambda pipeline: pipeline.change(Change(symbols=("NEWUSDT",))))
        if number == 30:
            steps.append(lambda pipeline: pipeline.change(Change(dropped=("NEWUSDT",))))
        if number == 36:
            steps.append(lambda pipeline: pipeline.change(Change(symbols=("NEWUSDT",))))
        if number % 10 == 7:
            steps.append(lambda pipeline: pipeline.snapshot())
    return steps


def found(store: Store) -> dict[str, tuple[object, ...]]:
    every = store.firings_after(0, limit=1_000)
    assert len(every) < 1_000
    return {one.firing.id: (one.firing.rule, one.firing.symbol, one.firing.kind, one.firing.ts) for one in every}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    folder = tmp_path_factory.mktemp("quiet")
    store = open_store(folder / "alerts.db")
    pipeline = opened(folder / "engine", store)
    pipeline.recover()
    for step in story():
        step(pipeline)
    pipeline.close()
    firings = found(store)
    store.close()
    assert {symbol for _, symbol, *_ in firings.values()} == {*SYMBOLS, "NEWUSDT"}
    assert {kind for *_, kind, _ in firings.values()} == {"firing", "resolved"}
    return firings


@pytest.mark.parametrize("seed", range(4))
def test_crashes_among_changes_of_rules_and_symbols_lose_and_double_nothing(
    seed: int, undisturbed: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    chance, steps = random.Random(seed), story()
    store = open_store(tmp_path / "alerts.db")
    folder = tmp_path / "engine0"
    pipeline = opened(folder, store)
    pipeline.recover()
    done = 0
    for crash, until in enumerate([*sorted(chance.sample(range(1, len(steps)), 3)), len(steps)]):
        for step in steps[done:until]:
            step(pipeline)
        done = until
        if until == len(steps):
            break
        # What the disk has at this instant: what is not flushed yet the feed gives again.
        if chance.random() < 0.7:
            pipeline.journal.commit()
        kept, position = tmp_path / f"engine{crash + 1}", pipeline.journal.durable
        shutil.copytree(folder, kept)
        lost = pipeline.journal.position - position
        if pipeline._last is not None:
            pipeline._last.result(10)
        pipeline, folder = opened(kept, store), kept
        pipeline.recover()
        assert pipeline.journal.position == position
        # Changes are flushed with all batches before them: only the batches behind the last one can be lost.
        back = done
        while lost:
            back -= 1
            before = pipeline.journal.position
            steps[back](pipeline)
            lost -= pipeline.journal.position - before
    pipeline.close()
    assert found(store) == undisturbed
    store.close()


def test_history_that_a_change_was_given_is_part_of_it(tmp_path: Path) -> None:
    import pandas as pd

    store = open_store(tmp_path / "alerts.db")
    minute = 60 * SECOND
    asked: list[tuple[str, int]] = []

    def history(symbol: str, timeframe: int, bars: int) -> pd.DataFrame:
        asked.append((symbol, timeframe))
        begin = BEGIN // minute * minute - 5 * minute
        index = pd.DatetimeIndex(np.arange(5) * minute + begin, tz="UTC", name="ts")
        return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 100.0), index=index)

    pipeline = opened(tmp_path / "engine", store, history=history)
    pipeline.recover()
    pipeline.change(change(make_rule("mean", "close > sma(5)")))
    tick = Batcher(pipeline.evaluator.symbols)
    tick.take("BTCUSDT", BEGIN, 101.0, 1.0, 1, "tape")
    pipeline.take(*tick.flush(0, force=True))
    pipeline.journal.commit()
    assert asked == [("BTCUSDT", minute)]
    assert not list((tmp_path / "engine" / "snapshots").iterdir())
    pipeline.group.close(timeout=10)
    again = opened(tmp_path / "engine", open_store(tmp_path / "other.db"), history=lambda *_: None)
    assert again.recover() == 1
    again.close()
    # The mean of five bars is known at the first tick only where history was there.
    assert len(found(again.store)) == len(found(store)) == 1


def test_an_epoch_that_a_crash_tore_is_cut_off_and_damage_within_is_told(tmp_path: Path) -> None:
    epochs = RuleEpochs(tmp_path)
    epochs.begin(Epoch(0, 0, "{}", base=True))
    for number in (1, 2, 3):
        epochs.append(Epoch(number, 10 * number, f'{{"n": {number}}}'))
    epochs.close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    again = RuleEpochs(tmp_path)
    assert [one.number for one in again.read()] == [0, 1, 2]
    again.append(Epoch(3, 30, '{"n": 4}'))
    assert [one.body for one in again.read()][-1] == {"n": 4}
    again.close()
    path.write_bytes(whole.replace(b'{"n": 2}', b'{"n": 5}'))
    with pytest.raises(DataError, match="damaged"):
        RuleEpochs(tmp_path).read()


def test_what_no_snapshot_needs_is_removed(tmp_path: Path) -> None:
    epochs = RuleEpochs(tmp_path)
    for number, position in ((0, 0), (4, 40), (8, 80)):
        epochs.begin(Epoch(number, position, "{}", base=True))
        epochs.append(Epoch(number + 1, position + 1, "{}"))
    # A base at the snapshot's own position may know more than the snapshot does.
    for before, left in ((40, 3), (41, 2), (80, 2), (90, 1)):
        epochs.remove(before)
        assert len(list(tmp_path.iterdir())) == left
    epochs.close()
