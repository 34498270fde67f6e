"""Leases and their epochs on a real PostgreSQL: who takes what when, and that who lost a shard writes nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from sqlalchemy import Connection, select, update

from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.records import Commit, RuleState
from tapeline.alerts.rule_epochs import Epoch
from tapeline.alerts.scale.fenced_store import FencedStore, ShardCommits
from tapeline.alerts.scale.shard_leases import FEED, FencedOutError, Ownership, ShardLeases, verify
from tapeline.alerts.scale.shard_memory import (
    Capture,
    ShardRules,
    ShardSnapshots,
    SnapshotWriter,
    covered,
    write_snapshot,
)
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.alerts.store.shard_tables import instance, shard_rules, shard_snapshot
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import ConfigurationError
from tests.alerts.store.samples import make_firing

LEASE = 600.0


def member(store: SqlStore, name: str, **more: object) -> ShardLeases:
    leases = ShardLeases(store.database, name, **{"shards": 3, "lease_seconds": LEASE, **more})
    leases.look()
    return leases


def expire(store: SqlStore, name: str) -> None:
    """Let a lease have run out."""
    statement = update(instance).where(instance.c.name == name).values(renewed_at=1)
    store.database.write(lambda db: db.execute(statement).rowcount)


def test_what_somebody_living_has_is_not_taken_and_what_a_dead_one_had_is_with_a_later_epoch(shared_store) -> None:
    ann, ben = member(shared_store, "ann"), member(shared_store, "ben")
    assert ben.look().engines == ("ann", "ben")
    first = ann.take(1)
    assert first == Ownership(1, 1)
    assert ben.take(1) is None
    assert ann.holds(first)
    expire(shared_store, "ann")
    assert ben.look().engines == ("ben",)
    second = ben.take(1)
    assert second == Ownership(1, 2)
    assert not ann.holds(first)
    assert not ann.hand_over(first)
    assert ann.look().owners[1] == ("ben", 2)
    # Handed over, it is free at once; and who leaves need not be waited for.
    assert ben.hand_over(second)
    assert ann.take(1) == Ownership(1, 3)
    ann.leave()
    assert ben.take(1) == Ownership(1, 4)


def test_a_process_that_only_feeds_takes_no_shards_and_its_term_rises(shared_store) -> None:
    feed, engine = member(shared_store, "feed", engine=False), member(shared_store, "engine")
    assert engine.look().engines == ("engine",)
    assert feed.take(FEED) == Ownership(FEED, 1)
    assert engine.take(FEED) is None
    feed.leave()
    assert engine.take(FEED) == Ownership(FEED, 2)


def test_the_number_of_shards_is_fixed_and_long_dead_members_are_forgotten(shared_store) -> None:
    member(shared_store, "ann")
    with pytest.raises(ConfigurationError, match="this database has 3"):
        member(shared_store, "ben", shards=4)
    expire(shared_store, "ann")
    member(shared_store, "cat")
    names = shared_store.database.read(lambda db: db.execute(select(instance.c.name)).scalars().all())
    assert names == ["cat"]


def test_the_commit_of_one_who_lost_the_shard_is_refused_whole_and_others_of_its_group_are_written(
    shared_store,
) -> None:
    ann, ben = member(shared_store, "ann"), member(shared_store, "ben")
    lost, kept = ann.take(0), ann.take(1)
    expire(shared_store, "ann")
    assert ben.take(0) == Ownership(0, 2)
    store = FencedStore(shared_store.database)
    states = tuple(RuleState("r", "v", f"S{number}", "firing", 1) for number in range(2))
    with GroupCommit(store, gather=0.2) as group:
        refused = ShardCommits(group, lost).submit(Commit((make_firing(1),), states[:1], (), {"feed": 7}))
        written = ShardCommits(group, kept).submit(Commit((make_firing(2),), states[1:], (), {"other": 8}))
        with pytest.raises(FencedOutError, match="ben owns it since epoch 2"):
            refused.result(20)
        assert written.result(20) == {make_firing(2).id}
    assert [one.firing.id for one in shared_store.firings_after(0)] == [make_firing(2).id]
    assert [one.symbol for one in shared_store.states()] == ["S1"]
    assert shared_store.positions() == {"other": 8}
    with pytest.raises(TypeError, match="names no shard"):
        store.commit(Commit())


def test_a_takeover_waits_for_the_commit_that_is_under_way(shared_store) -> None:
    ann, ben = member(shared_store, "ann"), member(shared_store, "ben")
    owned = ann.take(2)
    expire(shared_store, "ann")
    inside, go, order = threading.Event(), threading.Event(), []

    def commit(db: Connection) -> None:
        verify(db, ((owned.shard, owned.epoch),))
        inside.set()
        assert go.wait(20)
        order.append("committed")

    def take() -> None:
        assert ben.take(2) == Ownership(2, 2)
        order.append("taken")

    threads = [threading.Thread(target=shared_store.database.write, args=(commit,)), threading.Thread(target=take)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive()
    go.set()
    for thread in threads:
        thread.join(20)
    assert order == ["committed", "taken"]


def test_snapshots_and_rules_are_kept_compressed_and_only_by_who_owns_the_shard(shared_store) -> None:
    ann, ben = member(shared_store, "ann"), member(shared_store, "ben")
    owned, database = ann.take(0), shared_store.database
    durable: list[tuple[int, int]] = []
    writer = SnapshotWriter(database, lambda _, position, before: durable.append((position, before)))
    snapshots = ShardSnapshots(database, owned, writer)
    evaluator = Evaluator(["A"])
    for position in (5, 9, 12):
        evaluator.process(evaluator.trades("A", np.array([position]), np.array([2.0]), np.array([1.0])))
        snapshots.save(evaluator, {"watermark": position}, position, {"tape:A": position})
        writer.wait(owned, 20)
    assert durable == [(5, 5), (9, 5), (12, 9)]
    found = snapshots.load()
    assert (found.position, found.processor, found.feeds) == (12, {"watermark": 12}, {"tape:A": 12})
    assert found.evaluator.state().arrays.keys() == evaluator.state().arrays.keys()
    # Of two the older says what need not be had again: the newer may be damaged.
    assert covered(database) == {0: (9, {"tape:A": 9})}
    damage = update(shard_snapshot).where(shard_snapshot.c.position == 12).values(digest="")
    database.write(lambda db: db.execute(damage).rowcount)
    assert snapshots.load().position == 9
    rules = ShardRules(database, owned)
    for epoch in (
        Epoch(0, 0, "{}", True),
        Epoch(1, 4, '{"a":1}'),
        Epoch(1, 6, '{"b":1}', True),
        Epoch(2, 8, '{"c":1}'),
    ):
        (rules.begin if epoch.base else rules.append)(epoch)
    assert [(one.number, one.base, one.text) for one in rules.read()][1:3] == [
        (1, False, '{"a":1}'),
        (1, True, '{"b":1}'),
    ]
    rules.remove(6)
    assert len(rules.read()) == 4
    rules.remove(7)
    assert [(one.number, one.base) for one in rules.read()] == [(1, True), (2, False)]
    expire(shared_store, "ann")
    ben.take(0)
    with pytest.raises(FencedOutError):
        rules.append(Epoch(3, 9, "{}"))
    snapshots.save(evaluator, {}, 20, {})
    with pytest.raises(FencedOutError):
        writer.wait(owned, 20)
    with pytest.raises(FencedOutError):
        write_snapshot(database, Capture(owned, 21, "{}", b"", b""))
    writer.close()
    count = database.read(
        lambda db: len(db.execute(select(shard_rules)).all()) + len(db.execute(select(shard_snapshot)).all())
    )
    assert count == 4
