"""The service: rules that change while it runs, what it is told from outside, what it does where something fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Escalation, Rule
from tapeline.alerts.service import AlertEngine, EngineOptions, ExternalEvent
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Store
from tapeline.core.errors import ConfigurationError, DataError, ProviderError
from tests.alerts.crash_support import BEGIN, SECOND

OPTIONS = EngineOptions(look=0.02, snapshot=0.05, journal=0.01, pause=0.01)


def make_rule(id: str, condition: str, **more: object) -> Rule:
    return Rule(id=id, owner="me", condition=condition, symbols=("BTCUSDT",), **more)


def trades(*prices: float, since: int = 1) -> list[Tick]:
    return [
        Tick("BTCUSDT", BEGIN + (since + number) * SECOND, price, 1.0, since + number)
        for number, price in enumerate(prices)
    ]


@asynccontextmanager
async def engine_on(folder: Path, rules: Path | list[Rule], **more: object) -> AsyncIterator[tuple[AlertEngine, Store]]:
    store = open_store(folder / "alerts.db")
    names = {"BTCUSDT": [SourceName("tape", "BTCUSDT", stale_after=3_600)]}
    engine = AlertEngine(store, folder / "engine", names, rules=rules, options=OPTIONS, **more)
    await engine.start()
    try:
        yield engine, store
    finally:
        await engine.stop()
        store.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def fired(store: Store) -> list[tuple[str, str, float]]:
    found = store.firings_after(0, limit=1_000)
    return [(one.firing.rule, one.firing.kind, (one.firing.ts - BEGIN) / SECOND) for one in found]


def test_rules_change_between_two_batches_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    head = "owner: me\nsymbols: [BTCUSDT]\n"
    file.write_text(f"id: one\ncondition: close > 100\n{head}")

    async def story() -> None:
        async with engine_on(tmp_path, file) as (engine, store):
            manager = engine.manager
            assert manager is not None
            manager.take("tape", trades(99.0, 101.0))
            await until(lambda: fired(store) == [("one", "firing", 2.0)])
            file.write_text("id: [")
            await asyncio.sleep(0.1)
            assert engine.status()["rules"] == 1
            file.write_text(
                "- id: one\n  condition: close > 100\n  owner: me\n  symbols: [BTCUSDT]\n"
                "- id: two\n  condition: close > 102\n  owner: me\n  symbols: [BTCUSDT]\n"
            )
            await until(lambda: engine.status()["rules"] == 2)
            manager.take("tape", trades(103.0, since=3))
            # What stays knows what it knew: it is still true and fires no second time.
            await until(lambda: fired(store) == [("one", "firing", 2.0), ("two", "firing", 3.0)])

    asyncio.run(story())


def test_who_acknowledges_in_the_store_stops_the_escalation(tmp_path: Path) -> None:
    rule = make_rule("r", "close > 100", escalation=(Escalation(after=timedelta(seconds=10), channels=("boss",)),))

    async def story() -> None:
        async with engine_on(tmp_path, [rule]) as (engine, store):
            assert engine.manager is not None
            engine.manager.take("tape", trades(99.0, 101.0))
            await until(lambda: store.count_firings() == 1)
            (one,) = store.firings_after(0)
            store.acknowledge(one.firing.id, by="ann", at=1)
            await until(lambda: any(state.acknowledged_by == "ann" for state in store.states()))
            engine.manager.take("tape", trades(101.0, since=60))
            await until(lambda: engine.manager.batcher.depth == 0)
        assert fired(open_store(tmp_path / "alerts.db")) == [("r", "firing", 2.0)]

    asyncio.run(story())


def test_events_from_outside_take_the_way_of_ticks(tmp_path: Path) -> None:
    rule = make_rule("r", 'pattern("double_top", "1h")')

    async def story() -> None:
        async with engine_on(tmp_path, [rule]) as (engine, store):
            engine.publish([ExternalEvent("BTCUSDT", "pattern:double_top:1h", BEGIN)])
            await until(lambda: fired(store) == [("r", "firing", 0.0)])
            with pytest.raises(DataError, match="ETHUSDT"):
                engine.publish([ExternalEvent("ETHUSDT", "pattern:double_top:1h", BEGIN)])

    asyncio.run(story())


def test_a_source_that_fails_is_run_again(tmp_path: Path) -> None:
    runs: list[int] = []

    class Failing:
        async def run(self) -> None:
            runs.append(1)
            if len(runs) < 3:
                raise ProviderError("the venue hung up")

        def stop(self) -> None:
            """Nothing to stop."""

    def sources(manager: DataManager, positions: Mapping[str, int]) -> Iterable[Failing]:
        return [Failing()]

    async def story() -> None:
        async with engine_on(tmp_path, [], sources=sources):
            await until(lambda: len(runs) == 3)

    asyncio.run(story())


def test_a_recovery_begins_at_the_newest_snapshot_that_is_whole_and_asks_for_what_is_behind_it(tmp_path: Path) -> None:
    rule = make_rule("r", "close > 100", frequency="once_per_bar")
    asked: list[dict[str, int]] = []

    async def story() -> None:
        for count, since in ((1, 1), (2, 70)):
            async with engine_on(tmp_path, [rule]) as (engine, store):
                assert engine.manager is not None
                engine.manager.take("tape", trades(99.0, 101.0, since=since))
                while store.count_firings() < count:
                    await asyncio.sleep(0.005)
        newest = sorted((tmp_path / "engine" / "snapshots").glob("processor-*.json"))[-1]
        newest.write_text(newest.read_text()[:-3])
        async with engine_on(tmp_path, [rule], sources=lambda _, kept: asked.append(dict(kept)) or []) as (
            engine,
            store,
        ):
            assert engine.status()["replayed"] > 0
            assert asked == [{"tape:BTCUSDT": 71}]
            assert fired(store) == [("r", "firing", 2.0), ("r", "firing", 71.0)]

    asyncio.run(story())


def test_a_snapshot_waits_for_the_store(tmp_path: Path) -> None:
    store = open_store(tmp_path / "alerts.db")
    router = Router({("me", "hook"): Route("hook", "webhook", ("one",))}, lambda *_: "")
    pipeline = AlertPipeline(store, router, tmp_path / "engine", ["BTCUSDT"])
    try:
        pipeline.set_rules([make_rule("r", "close > 100", channels=("hook",))])
        from tapeline.alerts.feeds.batcher import Batcher

        batcher = Batcher(pipeline.evaluator.symbols)
        batcher.take_all(trades(99.0, 101.0), "tape")
        found = batcher.flush(0, force=True)
        assert found is not None
        pipeline.take(*found)
        assert pipeline.snapshot()
        # Whoever finds the snapshot finds the firing.
        assert store.count_firings() == 1
        assert not pipeline.snapshot()
        with pytest.raises(ConfigurationError, match="not collected"):
            pipeline.set_rules([Rule(id="x", owner="me", condition="close > 1", symbols=("ETHUSDT",))])
    finally:
        pipeline.close()
        store.close()
