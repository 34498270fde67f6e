"""The connection, the spill, the queue of events: each by itself, against a real server where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.alerts.external import External
from tapeline.alerts.feeds.batcher import Batcher
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.scale.event_queue import GROUP, EventQueue, EventReader, queue_key
from tapeline.alerts.scale.redis_connection import own_redis_errors, redis_connection
from tapeline.alerts.scale.spill import Spill
from tapeline.alerts.scale.tick_streams import Entry
from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError, TemporaryError


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://localhost", "not one of Redis"),
        ("redis://", "names no host"),
        ("unix://", "names no socket"),
        ("redis://localhost:99999", "cannot be read"),
        ("redis://me:secret@10.0.0.1/0", "a password and no TLS"),
        ("rediss://:secret@example.org/0?ssl_cert_reqs=none", "turns ssl_cert_reqs off"),
        ("rediss://:secret@example.org/0?ssl_check_hostname=false", "turns ssl_check_hostname off"),
    ],
)
def test_an_address_that_is_none_or_not_safe_is_refused_without_repeating_its_password(address: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as refusal:
        redis_connection(address)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "address", ["rediss://me:secret@example.org:6380/1", "redis://:secret@127.0.0.1/0", "redis://queue.internal:6379"]
)
def test_what_is_safe_is_taken_with_time_limits(address: str) -> None:
    options = redis_connection(address, answer_seconds=1.5).connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (1.5, 2.0)
    assert redis_connection("redis://me:secret@10.0.0.1/0", plain_network=True) is not None


def test_a_server_that_is_away_is_a_temporary_error_and_a_missing_package_names_its_extra(
    tmp_path, monkeypatch
) -> None:
    client = redis_connection(f"unix://{tmp_path / 'none.sock'}", retries=0)
    with pytest.raises(TemporaryError), own_redis_errors():
        client.ping()
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"tapeline\[redis\]"):
        redis_connection("redis://localhost")


def test_the_spill_gives_again_what_is_not_covered_and_says_what_is_gone(tmp_path: Path) -> None:
    spill = Spill(tmp_path, part_bytes=100, most_bytes=400)
    entries = [Entry(shard, position, bytes([position]) * 20) for position in range(1, 7) for shard in (0, 1)]
    for one in entries[:8]:
        spill.append([one])
    assert list(spill.behind({0: 2, 1: 0})) == [one for one in entries[:8] if one.shard == 1 or one.position > 2]
    assert spill.remove({0: 1, 1: 1}) == 0
    assert spill.remove({0: 3, 1: 3}) == 2
    assert list(spill.behind({0: 3})) == [entries[6]]
    for one in entries[8:]:
        spill.append([one])
    big = Entry(0, 100, b"x" * 400)
    spill.append([big])
    spill.append([Entry(0, 101, b"y")])
    with pytest.raises(DataError, match="gone"):
        list(spill.behind({0: 0}))
    spill.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def client(redis_server):
    made = redis_connection(redis_server.address, retries=0)
    yield made
    made.close()


def manager_of(batcher: Batcher) -> DataManager:
    manager = DataManager(batcher)
    manager.watch("A", [SourceName("venue", "A")])
    return manager


def test_what_a_dead_feed_took_and_did_not_pass_on_the_next_one_claims_in_its_order(client) -> None:
    queue = EventQueue(client)
    events = [External(number, "A", "news:level", float(number)) for number in range(1, 5)]
    dead, next_one = EventReader(client, "dead"), EventReader(client, "next")
    lost = Batcher({"A": 0}, clock=lambda: 0)
    dead.read(manager_of(lost))
    queue.publish(events[:3])
    assert dead.read(manager_of(lost)) == 3
    # It passed the first on and acknowledged it; of the others nobody knows.
    first = int(lost.flush_rows(0, force=True).rows["sequence"][0])
    dead.told([first], sent=True)
    queue.publish(events[3:])
    taken = Batcher({"A": 0}, clock=lambda: 0)
    assert next_one.read(manager_of(taken), idle=0) == 3
    rows = taken.flush_rows(0, force=True)
    assert rows.rows["price"].tolist() == [2.0, 3.0, 4.0]
    assert (rows.rows["sequence"] > first).all()
    assert sorted(rows.rows["sequence"].tolist()) == rows.rows["sequence"].tolist()
    assert next_one.claimed == 2
    next_one.told(rows.rows["sequence"].tolist(), sent=False)
    assert client.xpending(queue_key(), GROUP)["pending"] == 3
    next_one.settled()
    assert client.xpending(queue_key(), GROUP)["pending"] == 0
    assert client.xlen(queue_key()) == 0


def test_events_that_nobody_can_use_are_refused_and_too_many_are_not_taken(client) -> None:
    queue = EventQueue(client, most=3)
    with pytest.raises(DataError, match="no event"):
        queue.publish([External(1, "A", "k", float("inf"))])
    with pytest.raises(DataError, match="no event"):
        queue.publish([External(1, "A", "k" * 300, 1.0)])
    reader, batcher = EventReader(client, "one"), Batcher({"A": 0}, clock=lambda: 0)
    manager = manager_of(batcher)
    reader.read(manager)
    queue.publish([External(1, "UNKNOWN", "k", 1.0), External(2, "A", "k", 1.0)])
    client.xadd(queue_key(), {"symbol": "A"})
    with pytest.raises(TemporaryError, match="3 events wait"):
        queue.publish([External(3, "A", "k", 1.0)])
    assert reader.read(manager) == 3
    assert (reader.refused, reader.taken, batcher.depth) == (2, 1, 1)
    assert client.xlen(queue_key()) == 1
