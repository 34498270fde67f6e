"""What is lost on the way comes again: Redis emptied or killed in mid-stream, a feed that is paused and replaced."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import update

from tapeline.alerts.scale.packed_batch import term_and_number
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.scale.tick_streams import StreamWriter, stream_key
from tapeline.alerts.store.shard_tables import instance
from tapeline.alerts.store.sql_store import SqlStore
from tests.alerts.scale.conftest import RedisServer
from tests.alerts.scale.support import (
    SHARDS,
    Engine,
    Feed,
    Found,
    Gate,
    stored,
    tape,
    undisturbed,
    until,
)

TRADES = 900


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What one engine without shards finds."""
    return undisturbed(tmp_path_factory.mktemp("alone"), tape(TRADES))


@pytest.mark.parametrize("loss", ["emptied", "killed", "one stream", "a hole"])
def test_losing_redis_loses_no_alert(
    loss: str,
    shared_address: str,
    shared_store: SqlStore,
    redis_server: RedisServer,
    tmp_path: Path,
    expected: Found,
    stack: ExitStack,
) -> None:
    engine = Engine(shared_address, redis_server.address, "ann")
    stack.callback(engine.stop)
    feed = Feed(shared_address, redis_server.address, "feed", tmp_path, tape(TRADES), gate=Gate(TRADES // 3))
    stack.callback(feed.stop)
    until(lambda: len(stored(shared_store)) > len(expected) // 5)
    client = redis_connection(redis_server.address)
    stack.callback(client.close)
    if loss == "a hole":
        # All that was given is sent: then the next entry's number is used up, and it is never in its stream.
        writer = StreamWriter(client)

        def tops() -> list[int]:
            return [term_and_number(writer.top(shard) or 0)[1] for shard in range(SHARDS)]

        until(lambda: feed.publisher.manager.counters.given == TRADES // 3)
        until(lambda: sum(tops()) == feed.publisher.counters.entries and not feed.publisher.manager.batcher.depth)
        for shard, number in enumerate(tops()):
            client.xadd(stream_key(shard), {"b": b""}, f"1-{number + 1}")
            client.xdel(stream_key(shard), f"1-{number + 1}")
    elif loss == "killed":
        redis_server.kill()
        feed.gate.trades = 2 * TRADES // 3
        until(lambda: feed.publisher.counters.losses > 0)
        redis_server.start()
    else:
        if loss == "emptied":
            client.flushall()
        else:
            client.delete(stream_key(0), stream_key(3))
        feed.gate.trades = 2 * TRADES // 3
        until(lambda: feed.publisher.counters.losses > 0)
    feed.gate.trades = TRADES
    until(lambda: len(stored(shared_store)) >= len(expected))
    assert stored(shared_store) == expected
    assert feed.failed is None
    assert feed.publisher.counters.terms == (2 if loss == "a hole" else 1)


def test_a_feed_that_was_paused_and_replaced_is_refused_by_redis_itself(
    shared_address: str,
    shared_store: SqlStore,
    redis_server: RedisServer,
    tmp_path: Path,
    expected: Found,
    stack: ExitStack,
) -> None:
    engine = Engine(shared_address, redis_server.address, "ann")
    stack.callback(engine.stop)
    first = Feed(shared_address, redis_server.address, "one", tmp_path, tape(TRADES), gate=Gate(TRADES // 3))
    stack.callback(first.stop)
    until(lambda: first.publisher.counters.records >= TRADES // 3)
    # It neither renews nor looks any more, as one that is stopped; but it still has ticks to send.
    first.membership._stopping.set()
    first.membership._thread.join()
    shared_store.database.write(
        lambda db: db.execute(update(instance).where(instance.c.name == "one").values(renewed_at=0)).rowcount
    )
    second = Feed(shared_address, redis_server.address, "two", tmp_path, tape(TRADES), gate=Gate(2 * TRADES // 3))
    stack.callback(second.stop)
    until(lambda: second.publisher.counters.records > 0)
    first.gate.trades = TRADES
    until(lambda: first.publisher.counters.losses > 0 and not first.publisher.speaking)
    second.gate.trades = TRADES
    until(lambda: len(stored(shared_store)) >= len(expected))
    assert stored(shared_store) == expected
    client = redis_connection(redis_server.address)
    stack.callback(client.close)
    terms = {id.split(b"-")[0] for shard in range(SHARDS) for id, _ in client.xrange(stream_key(shard))}
    assert terms <= {b"1", b"2"}
    # The second began from the snapshots: what the first had sent since came twice and was taken once.
    assert sum(shard._records.duplicates for shard in engine.engine._shards.values()) > 0
