"""A disabled account: nothing of its rules is told or sent, their states go on, and what still holds is told after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from tapeline.alerts.access.audit import AuditLog
from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.engine_changes import EngineChanges, refusal
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.processor import Taken
from tapeline.alerts.records import Delivery
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Escalation, Rule
from tapeline.alerts.rules_in_force import Change
from tapeline.alerts.service_settings import suspension_trace
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Endpoint
from tapeline.core.settings import Settings
from tests.alerts.access.support import KEY, make_access
from tests.alerts.processor_support import SECOND, Desk, Record, make_rule, told

RULES = [
    Rule(
        id="ann-level", owner="ann", condition="close > 100", symbols=("A",), notify_resolved=True, channels=("hook",)
    ),
    Rule(id="ann-edge", owner="ann", condition="crosses_up(close, 100)", symbols=("A",), channels=("hook",)),
    Rule(id="bob-edge", owner="bob", condition="crosses_up(close, 100)", symbols=("A",), channels=("hook",)),
]
PRICES = (99.0, 101.0, 99.0, 101.0, 101.0, 99.0, 101.0)


def opened(folder: Path, name: str) -> AlertPipeline:
    store = open_store(folder / f"{name}.db")
    routes = {(owner, "hook"): Route("hook", "webhook", (f"{owner}-1",)) for owner in ("ann", "bob")}
    pipeline = AlertPipeline(store, Router(routes, lambda *_: "body"), folder / "engine", ["A"])
    pipeline.recover()
    return pipeline


def take(pipeline: AlertPipeline, second: int) -> None:
    batch = pipeline.evaluator.trades("A", [second * SECOND], [PRICES[second - 1]], [1.0])
    taken = Taken(*batch[:3], np.array([second]), np.zeros(1, np.bool_), {"tape:A": second}, batch.records)
    pipeline.take(batch, taken)


def stored(pipeline: AlertPipeline) -> list[tuple[int, str, str, int]]:
    """Second, rule, kind and deliveries of all firings."""
    pipeline.close()
    store = pipeline.store
    found = [one.firing for one in store.firings_after(0)]
    rows = sorted((one.ts // SECOND, one.rule, one.kind, len(store.deliveries(one.id))) for one in found)
    store.close()
    return rows


def test_nothing_is_told_while_suspended_and_what_still_holds_is_told_after_a_crash_in_between_too(
    tmp_path: Path,
) -> None:
    expected = [
        (2, "ann-edge", "firing", 1),
        (2, "ann-level", "firing", 1),
        (2, "bob-edge", "firing", 1),
        (4, "bob-edge", "firing", 1),
        # She is back before the fifth trade: the level of the fourth holds and is told, its crossing is over.
        (4, "ann-level", "firing", 1),
        (6, "ann-level", "resolved", 1),
        (7, "ann-edge", "firing", 1),
        (7, "ann-level", "firing", 1),
        (7, "bob-edge", "firing", 1),
    ]
    for crash in (None, 4):
        folder = tmp_path / str(crash)
        folder.mkdir()
        pipeline = opened(folder, "one")
        pipeline.set_rules(RULES)
        for second in range(1, 8):
            if second == 3:
                assert pipeline.snapshot()
                assert pipeline.change(Change(suspended=("ann",)))
                assert not pipeline.change(Change(suspended=("ann",)))
            if second == 5:
                assert pipeline.change(pipeline.in_force.suspension(()))
            take(pipeline, second)
            if second == crash:
                # Nothing is closed: what counts is on the disk.
                pipeline.journal.commit()
                pipeline.close()
                pipeline.store.close()
                pipeline = opened(folder, "one")
                assert tuple(pipeline.in_force.suspended) == ("ann",)
        assert stored(pipeline) == sorted(expected)


def test_escalations_rest_and_a_snapshot_knows_who_waits_to_be_told() -> None:
    rule = make_rule(escalation=(Escalation(after=timedelta(seconds=10), channels=("boss",)),))
    desk = Desk(rule)
    desk.processor.suspend(["me"])
    desk.take([Record(1, said=(("r", True),)), Record(20)])
    again = Desk(rule, snapshot=json.loads(json.dumps(desk.processor.snapshot())))
    again.processor.suspend([], resumed=["me"])
    found = again.take([Record(21), Record(32)])
    assert told(found) == [("r", "firing", 20), ("r", "escalation", 30)]
    assert desk.processor.counts["of a suspended owner"] == 1


class Kept:
    """A channel that takes everything."""

    name, digests = "webhook", False

    def __init__(self) -> None:
        self.sent: list[str] = []

    def admit(self, endpoint: Endpoint | None) -> float:
        return 0.0

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        self.sent += [one.id for one in deliveries]
        return Answer("sent", 200)


def test_an_account_that_is_disabled_is_seen_refused_written_down_and_comes_back(tmp_path: Path) -> None:
    clock = lambda: 1_790_000_000 * SECOND  # noqa: E731
    pipeline = opened(tmp_path, "one")
    store = pipeline.store
    users = make_access(store.database, clock).users
    users.add("root", role="admin")
    users.add("ann")
    for owner in ("ann", "bob"):
        store.save_endpoint(Endpoint(f"{owner}-1", owner, "webhook", "sealed", settings={"name": "hook"}))
    settings = Settings(root=tmp_path, alerts={"gateway": {"signing_keys": [KEY]}})
    changes = EngineChanges(store, RULES, ("A",), trace=suspension_trace(settings, store), clock=clock)
    assert changes.symbols() == ("A",)
    changes.begin(pipeline)
    take(pipeline, 1)
    take(pipeline, 2)
    # What had been found is in the outbox when she is disabled.
    pipeline.group.close(timeout=30.0)
    users.change("ann", enabled=False)
    changes.look()
    assert changes.suspended == {"ann"}
    assert changes.apply(pipeline)
    assert tuple(pipeline.in_force.suspended) == ("ann",)
    channel = Kept()
    manager = NotificationManager(
        store, [channel], clock=clock, refused=lambda endpoint: refusal(endpoint, changes.suspended)
    )
    assert manager.step("webhook") == 3
    assert len(channel.sent) == 1
    letters = store.dead_letters().items
    assert {(one.delivery.endpoint, one.detail) for one in letters} == {("ann-1", "the account of ann is disabled")}
    users.change("ann", enabled=True)
    changes.look()
    assert changes.apply(pipeline)
    assert not changes.apply(pipeline)
    assert not pipeline.in_force.suspended
    assert store.redrive(channel="webhook", now=clock()) == 2
    assert manager.step("webhook") == 2
    assert len(channel.sent) == 3
    rows = AuditLog(store.database, [KEY]).rows()
    traced = [(one.actor, one.action, one.record) for one in rows if one.action.startswith("rules.")]
    assert sorted(traced) == [("alert engine", "rules.resume", "ann"), ("alert engine", "rules.suspend", "ann")]
    pipeline.close()
    store.close()
