"""A running engine: rules of files and database, channels of users, symbols that come and go; no tick is missed."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tapeline.alerts.engine_changes import ChangeOptions, EngineChanges, routes_of
from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.feeds.tick_journal import TickJournal
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.rule_epochs import RuleEpochs
from tapeline.alerts.rule_source import RuleSource
from tapeline.alerts.rules_in_force import Change
from tapeline.alerts.service import AlertEngine, EngineOptions
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import Endpoint, Store
from tapeline.alerts.symbol_manager import Instrument, SymbolManager
from tapeline.alerts.symbol_subscriptions import Subscriptions
from tapeline.core.errors import ConfigurationError, TemporaryError

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
OPTIONS = EngineOptions(look=0.01, snapshot=3_600.0, journal=0.01, changes=ChangeOptions(grace=0.0))


def make_rule(id: str, condition: str = "close > 100", symbols: tuple[str, ...] = ("BTCUSDT",), **more: object) -> Rule:
    return Rule(id=id, owner="me", condition=condition, symbols=symbols, **more)


class Followed:
    """A source whose symbols may change: it notes who is subscribed, as the venue's limits would see it."""

    name = "tape"

    def __init__(self, manager: DataManager) -> None:
        self.symbols = set(manager.names("tape"))
        self.asked: list[tuple[str, ...]] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        await self.stopping.wait()

    def stop(self) -> None:
        self.stopping.set()

    async def subscribe(self, symbols: Iterable[str]) -> None:
        some = tuple(symbols)
        assert not self.symbols & set(some)
        self.asked.append(("+", *some))
        self.symbols |= set(some)

    async def unsubscribe(self, symbols: Iterable[str]) -> None:
        some = tuple(symbols)
        assert self.symbols >= set(some)
        self.asked.append(("-", *some))
        self.symbols -= set(some)


@asynccontextmanager
async def engine_on(folder: Path, symbols: Iterable[str] = ("BTCUSDT",), **more: object) -> AsyncIterator[AlertEngine]:
    store = open_store(folder / "alerts.db")
    names = {symbol: [SourceName("tape", symbol, 3_600)] for symbol in symbols}
    made: list[Followed] = []

    def sources(manager: DataManager, _: Mapping[str, int]) -> list[Followed]:
        made.append(Followed(manager))
        return made

    engine = AlertEngine(
        store,
        folder / "engine",
        names,
        sources=sources,
        names_of=lambda symbol: [SourceName("tape", symbol, 3_600)],
        **{"options": OPTIONS, **more},
    )
    await engine.start()
    engine.followed = made[0]
    try:
        yield engine
        assert engine.status()["problem"] == ""
    finally:
        await engine.stop()
        store.close()


async def until(holds: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


def fired(store: Store) -> list[tuple[str, str, str, int]]:
    found: list[tuple[str, str, str, int]] = []
    number = 0
    while page := store.firings_after(number, limit=1_000):
        found += [(one.firing.rule, one.firing.rule_version, one.firing.symbol, one.firing.sequence) for one in page]
        number = page[-1].number
    return found


def test_two_hundred_changes_under_load_miss_no_tick_and_fire_what_held_at_each_position(tmp_path: Path) -> None:
    """The oracle knows nothing of the engine: it walks the journal with the rules that the changes say held there."""
    count = 4_000
    prices = [100 + (number * 7919 % 41) / 4 - 5 for number in range(count)]

    async def story() -> None:
        async with engine_on(tmp_path) as engine:
            store, manager = engine.store, engine.manager

            async def feed(begin: int, end: int) -> None:
                for first in range(begin, end, 20):
                    some = [
                        Tick("BTCUSDT", BEGIN + number * SECOND, prices[number], 1.0, number)
                        for number in range(first, first + 20)
                    ]
                    await asyncio.to_thread(manager.take, "tape", some)
                    await asyncio.sleep(0)

            async def change(begin: int, end: int) -> None:
                for number in range(begin, end):
                    rule = make_rule(f"r{number % 7}", f"close > {96 + number % 9}", enabled=number % 5 != 4)
                    await asyncio.to_thread(store.save_rule, rule, by="me", at=number)

            # Within a round changes and ticks race; its first ticks meet what the round before left in force.
            for part in range(20):
                begin = part * 200
                await feed(begin, begin + 20)
                await asyncio.gather(feed(begin + 20, begin + 200), change(part * 10, part * 10 + 10))
                last = max(rule.number for rule in store.rules())
                await until(lambda last=last: engine.changes._source._number == last and not engine.changes.waiting)
            await until(lambda: engine.manager.batcher.depth == 0)

    asyncio.run(story())
    journal = TickJournal(tmp_path / "engine" / "journal", ["BTCUSDT"])
    epochs = [one for one in RuleEpochs(tmp_path / "engine" / "rules").read() if not one.base]
    rules: dict[str, tuple[float, str]] = {}
    truths: dict[str, bool] = {}
    expected: Counter[tuple[str, str, str, int]] = Counter()
    seen: list[int] = []
    behind, held_at = list(epochs), []
    for replayed in journal.replay(0):
        while behind and behind[0].position < replayed.position:
            plain = behind.pop(0).body
            for id in plain["removed"]:
                rules.pop(id, None)
                truths.pop(id, None)
            for one in map(Rule.model_validate, plain["rules"]):
                if rules.get(one.id, (0, ""))[1] != one.version:
                    truths.pop(one.id, None)
                if one.enabled:
                    rules[one.id] = float(one.condition.split()[-1]), one.version
                else:
                    rules.pop(one.id, None)
        held_at.append(tuple(sorted(rules)))
        for sequence, price in zip(replayed.taken.sequences.tolist(), replayed.batch.prices.tolist(), strict=True):
            if sequence < 0:
                continue
            seen.append(sequence)
            for id, (level, version) in rules.items():
                holds = price > level
                if holds and not truths.get(id, False):
                    expected[id, version, "BTCUSDT", sequence] += 1
                truths[id] = holds
    assert seen == list(range(count))
    # The changes came among the ticks, not before or behind them.
    assert len(epochs) >= 20
    assert len(set(held_at)) >= 7
    assert Counter(fired(open_store(tmp_path / "alerts.db"))) == expected
    assert sum(expected.values()) > 300


def test_a_rule_that_is_saved_takes_effect_and_one_that_cannot_be_harms_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with engine_on(tmp_path) as engine:
            store = engine.store
            huge = [make_rule(f"h{days}", f'volume_norm({days}, "1m") > 1') for days in range(240, 248)]
            for rule in (*huge, make_rule("good")):
                store.save_rule(rule, by="me", at=1)
            await until(lambda: engine.pipeline.in_force.rule("good") and not engine.changes.waiting)
            problems = engine.status()["problems"]
            assert problems
            assert set(problems) < {rule.id for rule in huge}
            assert len(engine.pipeline.in_force) == 9 - len(problems)

    asyncio.run(story())


def test_symbols_join_and_leave_as_somebody_needs_them(tmp_path: Path) -> None:
    async def story() -> None:
        async with engine_on(tmp_path, rules=[make_rule("all", "close > 100", ("*",))]) as engine:
            store, manager, source = engine.store, engine.manager, engine.followed
            assert isinstance(store, SqlStore)
            symbols = SymbolManager(store.database, clock=lambda: BEGIN)
            symbols.add([Instrument("NEWUSDT"), Instrument("OTHERUSDT")], by="root")
            store.save_rule(make_rule("mine", "close > 50", ("NEWUSDT",)), by="me", at=1)
            await until(lambda: source.asked == [("+", "NEWUSDT")] and engine.pipeline.in_force.rule("mine"))
            assert manager.take("tape", [Tick("NEWUSDT", BEGIN, 60.0, 1.0, 1)]) == 1
            # The rule of all symbols takes one that joined later.
            manager.take("tape", [Tick("NEWUSDT", BEGIN + 1, 101.0, 1.0, 2)])
            await until(lambda: {(rule, number) for rule, _, _, number in fired(store)} == {("mine", 1), ("all", 2)})
            # A watch list holds it too: only when both are gone is it let go.
            symbols.hold("watchlist", "ann/w", "ann", ["NEWUSDT", "OTHERUSDT"])
            await until(lambda: "OTHERUSDT" in source.symbols)
            store.delete_rule("mine", by="me", at=2)
            await until(lambda: engine.pipeline.in_force.rule("mine") is None)
            assert "NEWUSDT" in source.symbols
            symbols.hold("watchlist", "ann/w", "ann", ["OTHERUSDT"])
            await until(lambda: source.symbols == {"BTCUSDT", "OTHERUSDT"})
            await until(lambda: list(engine.pipeline.in_force.symbols) == ["BTCUSDT", "OTHERUSDT"])
            await until(lambda: not manager.sources_of("NEWUSDT"))
            assert manager.take("tape", [Tick("NEWUSDT", BEGIN + 2, 99.0, 1.0, 3)]) == 0

        async with engine_on(tmp_path, rules=[make_rule("all", "close > 100", ("*",))]) as engine:
            # What stands is counted anew after a restart.
            assert engine.followed.symbols == {"BTCUSDT", "OTHERUSDT"}
            assert sorted(engine.pipeline.in_force.symbols) == ["BTCUSDT", "OTHERUSDT"]

    asyncio.run(story())


def test_a_symbol_that_flaps_is_subscribed_once() -> None:
    known = Subscriptions(grace=60)
    seen = [known.update({"A"} if at % 20 else set(), at) for at in range(1, 200)]
    assert [one for one in seen if any(one)] == [(("A",), ())]
    # Nobody needs it any more: once, after the grace.
    seen = [known.update(set(), at) for at in range(200, 400)]
    assert [at for at, one in enumerate(seen, 200) if any(one)] == [260]


def test_channels_of_users_are_routes_and_the_operators_go_first(tmp_path: Path) -> None:
    store = open_store(tmp_path / "alerts.db")
    own = {("ann", "desk"): Route("desk", "slack", ("ann.desk",))}
    changes = EngineChanges(store, (), (), own, clock=lambda: BEGIN)
    assert changes.symbols() == ()
    for id, name, kind in (
        ("e1", "bots", "webhook"),
        ("e2", "bots", "webhook"),
        ("e3", "bots", "slack"),
        ("e4", "desk", "webhook"),
    ):
        store.save_endpoint(
            Endpoint(id, "ann", kind, "sealed", settings={"name": name, "lifetime_seconds": 5}, changed_at=1)
        )
    store.save_endpoint(Endpoint("e5", "bob", "webhook", "sealed"))
    changes.look()
    assert changes.routes == {
        ("ann", "bots"): Route("bots", "webhook", ("e1", "e2"), 5 * SECOND),
        ("ann", "desk"): own["ann", "desk"],
    }
    store.delete_endpoint("e2")
    changes.look()
    assert changes.routes["ann", "bots"].endpoints == ("e1",)
    assert routes_of([Endpoint("e", "ann", "webhook", "", settings={"name": 7})]) == {}
    store.close()


HEAD = "owner: me\n  symbols: [BTCUSDT]\n"


def rule_text(id: str, level: int) -> str:
    return f"- id: {id}\n  condition: close > {level}\n  {HEAD}"


def test_files_and_database_are_one_source_and_the_files_win(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, store = tmp_path / "rules", open_store(tmp_path / "alerts.db")
    folder.mkdir()
    (folder / "a.yaml").write_text(rule_text("both", 1) + rule_text("file", 2))
    (folder / "b.yaml").write_text(rule_text("other", 3))
    store.save_rule(make_rule("both", "close > 10"), by="me", at=1)
    store.save_rule(make_rule("stored", "close > 20"), by="me", at=1)
    source = RuleSource(folder, store)

    def levels() -> dict[str, str]:
        return {rule.id: rule.condition for rule in source.rules}

    source.begin()
    assert levels() == {"both": "close > 1", "file": "close > 2", "other": "close > 3", "stored": "close > 20"}
    store.save_rule(make_rule("both", "close > 11"), by="me", at=2)
    assert source.changes() == source.changes() == Change()
    assert caplog.text.count("the file's is in force") == 1
    (folder / "a.yaml").write_text(rule_text("file", 5))
    change = source.changes()
    # Where the file lets go of an id, the database's rule of it is in force.
    assert {one.rule.id: one.rule.condition for one in change.rules} == {"both": "close > 11", "file": "close > 5"}
    (folder / "b.yaml").write_text("id: [")
    assert source.changes() == Change()
    assert "other" in levels()
    assert "rules" in source.problems
    (folder / "b.yaml").unlink()
    store.delete_rule("stored", by="me", at=3)
    assert source.changes().removed == ("other", "stored")
    assert source.problems == {}
    assert source.references == {"BTCUSDT": 2}
    store.close()


def test_a_rule_waits_for_its_symbol_and_a_bad_version_leaves_what_stood(tmp_path: Path) -> None:
    store = open_store(tmp_path / "alerts.db")
    assert isinstance(store, SqlStore)
    symbols = SymbolManager(store.database, clock=lambda: BEGIN)
    symbols.add([Instrument("BTCUSDT")], by="root")
    store.save_rule(make_rule("ready"), by="me", at=1)
    store.save_rule(make_rule("early", "close > 1", ("LATEUSDT",)), by="me", at=1)
    router = Router({}, lambda *_: "")
    changes = EngineChanges(store, clock=lambda: BEGIN)
    pipeline = AlertPipeline(store, router, tmp_path / "engine", changes.symbols())
    pipeline.recover()
    changes.begin(pipeline)

    def looked() -> set[str]:
        changes.look()
        while changes.apply(pipeline):
            pass
        return {rule.id for rule in pipeline.rules}

    assert looked() == {"ready"}
    assert changes.problems == {"early": "LATEUSDT is not known"}
    store.save_rule(make_rule("ready", "close > 1", ("BTCUSDT", "LATEUSDT")), by="me", at=2)
    assert looked() == {"ready"}
    assert pipeline.in_force.rule("ready").symbols == ("BTCUSDT",)
    symbols.add([Instrument("LATEUSDT")], by="root")
    assert looked() == {"ready", "early"}
    assert changes.problems == {}
    assert pipeline.in_force.rule("ready").symbols == ("BTCUSDT", "LATEUSDT")
    pipeline.close()
    store.close()


def test_a_large_change_comes_in_pieces_and_each_holds_the_kernel_up_for_little(tmp_path: Path) -> None:
    store = open_store(tmp_path / "alerts.db")
    rules = [make_rule(f"r{number}", f"close > {number}", (f"S{number}",)) for number in range(40)]
    changes = EngineChanges(store, clock=lambda: BEGIN)
    pipeline = AlertPipeline(store, Router({}, lambda *_: ""), tmp_path / "engine", changes.symbols())
    pipeline.recover()
    changes.begin(pipeline)
    for rule in rules:
        store.save_rule(rule, by="me", at=1)
    changes.look()
    steps = 0
    while changes.apply(pipeline):
        steps += 1
        # A rule is never there before its symbols.
        assert set(pipeline.in_force.references) <= set(pipeline.in_force.symbols)
    assert (len(pipeline.rules), steps) == (40, 6)
    pipeline.close()
    store.close()
    shutil.rmtree(tmp_path / "engine" / "snapshots")
    again = AlertPipeline(open_store(tmp_path / "alerts.db"), Router({}, lambda *_: ""), tmp_path / "engine", ())
    again.recover()
    assert {rule.id for rule in again.rules} == {rule.id for rule in rules}
    again.close()


def test_a_given_rule_that_does_not_compile_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError):
        RuleSource([make_rule("bad", "close >")]).begin()


def test_a_database_that_fails_in_the_middle_of_a_look_loses_no_change(tmp_path: Path, monkeypatch) -> None:
    store = open_store(tmp_path / "alerts.db")
    file = tmp_path / "rules.yaml"
    file.write_text(rule_text("file", 1))
    changes = EngineChanges(store, file, clock=lambda: BEGIN)
    pipeline = AlertPipeline(store, Router({}, lambda *_: ""), tmp_path / "engine", changes.symbols())
    pipeline.recover()
    changes.begin(pipeline)
    store.save_rule(make_rule("stored"), by="me", at=1)
    file.write_text(rule_text("file", 20))
    for broken in ("silences", "rule_changes"):
        with monkeypatch.context() as patched:
            patched.setattr(store, broken, lambda *_, **__: (_ for _ in ()).throw(TemporaryError("away")))
            changes.look()
        assert not changes.waiting
    changes.look()
    while changes.apply(pipeline):
        pass
    assert {rule.id: rule.condition for rule in pipeline.rules} == {"file": "close > 20", "stored": "close > 100"}
    pipeline.close()
    store.close()
