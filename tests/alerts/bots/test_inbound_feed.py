"""Alerts that come in as conditions of rules: whose they are, each once, and a replay that says what was said live."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tapeline.alerts.bots.desk import BotDesk
from tapeline.alerts.bots.inbound_alert import read_alert
from tapeline.alerts.bots.inbound_feed import RESUMED, InboundFeed
from tapeline.alerts.bots.inbound_queue import InboundQueue
from tapeline.alerts.bots.inbound_tokens import InboundSettings, InboundSource
from tapeline.alerts.conditions import compile_rule, external_keys
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.engine.table import COMPARISONS
from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.service import AlertEngine, EngineOptions
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.sqlite import open_sqlite
from tapeline.core.errors import ConfigurationError
from tests.alerts.bots.support import SECOND, START
from tests.streams.loopback import until

BUY = 'inbound("macd", "buy") and close > 100'


def make_rule(id: str, condition: str, owner: str = "ann") -> Rule:
    return Rule(id=id, owner=owner, condition=condition, symbols=("BTCUSDT",))


def come_in(store: SqlStore, number: int, *, owner: str = "ann", source: str = "macd", action: str = "buy") -> None:
    """An alert comes in so many seconds after the start, and the desk takes it."""
    at = START + number * SECOND
    sent = datetime.fromtimestamp(at / SECOND, UTC).isoformat()
    said = {"strategy": "s", "time": sent, "ticker": "BTCUSDT", "action": action, "order_id": str(number)}
    body = json.dumps(said).encode()
    found = InboundSource(owner, source, InboundSettings())
    assert InboundQueue(store.database).put(found, read_alert(body), body, address="", now=at)
    assert BotDesk(store, Router({}, render), clock=lambda: at).take_alerts() == 1


class TestLanguage:
    def test_whose_a_source_is_follows_from_whose_the_rule_is(self) -> None:
        assert external_keys(make_rule("r", BUY)) == {"inbound:ann/macd"}
        assert external_keys(make_rule("r", 'inbound("macd")', "bob")) == {"inbound:bob/macd"}

    @pytest.mark.parametrize(
        ("written", "mark", "value"),
        [("", ">=", -1.0), (', "buy"', "==", 1.0), (', "sell"', "==", -1.0), (', "close"', "==", 2.0)],
    )
    def test_sides(self, written: str, mark: str, value: float) -> None:
        (one,) = compile_rule(make_rule("r", f'inbound("macd"{written})')).conditions
        assert (COMPARISONS[one.comparison], one.threshold) == (mark, value)

    @pytest.mark.parametrize(
        ("condition", "words"),
        [
            ("inbound", "needs source"),
            ('inbound("../bob/macd")', "is no name"),
            ('inbound("macd", "steal")', "side = 'steal' is unknown"),
            ('inbound("macd") for 2 bars', "it lasts no time"),
        ],
    )
    def test_what_is_wrong_is_said(self, condition: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            compile_rule(make_rule("r", condition))


def test_rules_see_their_owners_alerts_once_and_a_replay_says_the_same(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "alerts.db")
    rules = [
        make_rule("buy", BUY),
        make_rule("any", 'inbound("macd")'),
        make_rule("others", 'inbound("macd")', "bob"),
        make_rule("other-source", 'inbound("rsi")'),
        # Named as the desk names an alert's rule: what it fires is no alert that came in.
        make_rule("tradingview:macd", 'inbound("macd")'),
    ]
    come_in(store, -RESUMED // SECOND)  # the engine did not run, and now it is too late

    def engine(now: int) -> AlertEngine:
        return AlertEngine(
            store,
            tmp_path / "engine",
            {"BTCUSDT": [SourceName("tape", "BTCUSDT", stale_after=3_600)]},
            rules=rules,
            sources=lambda manager, positions: [
                InboundFeed(store, manager, positions, clock=lambda: START + now * SECOND, every=0.01)
            ],
            options=EngineOptions(look=0.02, snapshot=3_600, journal=0.01),
        )

    def fired(of: SqlStore = store) -> list[tuple[str, int]]:
        every = [one.firing for one in of.firings_after(0, limit=1_000)]
        return sorted((one.rule, (one.ts - START) // SECOND) for one in every if one.rule_version != "1")

    async def first() -> None:
        running = engine(1)
        await running.start()
        assert running.manager is not None
        running.manager.take("tape", [Tick("BTCUSDT", START + SECOND, 99.0, 1.0, 1)])
        come_in(store, 2)
        await until(lambda: len(fired()) == 2, 60.0)
        running.manager.take("tape", [Tick("BTCUSDT", START + 3 * SECOND, 101.0, 1.0, 2)])
        await until(lambda: running.manager.batcher.depth == 0, 60.0)
        come_in(store, 4)
        come_in(store, 5, action="sell")
        come_in(store, 6, owner="bob", action="close")
        come_in(store, 7, source="rsi")
        await until(lambda: len(fired()) == 9, 60.0)
        assert running.pipeline is not None
        running.pipeline.journal.commit()
        shutil.copytree(tmp_path / "engine", tmp_path / "copy")
        await running.stop()

    async def second() -> None:
        running = engine(20)
        await running.start()
        come_in(store, 21)
        await until(lambda: len(fired()) == 12, 60.0)
        assert running.manager is not None
        assert running.manager.counters.values == 1  # what was journaled is not given again
        await running.stop()

    asyncio.run(first())
    live = [("any", 2), ("any", 4), ("any", 5), ("buy", 4), ("other-source", 7), ("others", 6)]
    live += [("tradingview:macd", at) for at in (2, 4, 5)]
    assert fired() == sorted(live)
    asyncio.run(second())
    assert fired() == sorted([*live, ("any", 21), ("buy", 21), ("tradingview:macd", 21)])
    # What the journal holds says the same without the store that brought it.
    empty = open_sqlite(tmp_path / "empty.db")
    pipeline = AlertPipeline(empty, Router({}, render), tmp_path / "copy", ["BTCUSDT"])
    assert pipeline.recover() > 0
    pipeline.close()
    assert fired(empty) == sorted(live)
    empty.close()
    store.close()
