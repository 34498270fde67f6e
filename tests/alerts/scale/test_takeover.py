"""Several engines over real servers: one killed, one stopped at its commit and continued: all that one alone finds."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tapeline.alerts.scale.assignment import shards_of
from tapeline.alerts.store.sql_store import SqlStore
from tests.alerts.scale.conftest import RedisServer
from tests.alerts.scale.support import (
    LEASE,
    SHARDS,
    Engine,
    EngineProcess,
    Feed,
    Found,
    Gate,
    processes,
    serve_feed,
    stored,
    tape,
    undisturbed,
    until,
)

TRADES = int(os.environ.get("TAPELINE_SCALE_TRADES", "1500"))
NAMES = ("ann", "cat", "dan")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What one engine without shards finds."""
    return undisturbed(tmp_path_factory.mktemp("alone"), tape(TRADES))


def test_two_engines_find_what_one_finds_and_hand_shards_over_when_one_joins_and_leaves(
    shared_address: str,
    shared_store: SqlStore,
    redis_server: RedisServer,
    tmp_path: Path,
    expected: Found,
    stack: ExitStack,
) -> None:
    first = Engine(shared_address, redis_server.address, NAMES[0], lease=30.0)
    stack.callback(first.stop)
    feed = Feed(shared_address, redis_server.address, "feed", tmp_path, tape(TRADES), gate=Gate(TRADES // 3))
    stack.callback(feed.stop)
    until(lambda: len(stored(shared_store)) > len(expected) // 5)
    second = Engine(shared_address, redis_server.address, NAMES[1], lease=30.0)
    theirs = shards_of(NAMES[1], NAMES[:2], SHARDS)
    # Far less than the lease: what changes hands is handed over, not taken when a lease has run out.
    assert until(lambda: second.engine.owned == theirs) < 30
    assert first.engine.handed_over == len(theirs) > 0
    feed.gate.trades = 2 * TRADES // 3
    until(lambda: len(stored(shared_store)) > len(expected) // 2)
    second.stop()
    assert until(lambda: len(first.engine.owned) == SHARDS) < 30
    feed.gate.trades = TRADES
    until(lambda: len(stored(shared_store)) >= len(expected))
    assert stored(shared_store) == expected
    assert first.engine.fenced_out == second.engine.fenced_out == 0


def test_one_killed_and_one_stopped_at_its_commit_nothing_is_lost_and_nothing_is_doubled(
    shared_address: str,
    shared_store: SqlStore,
    redis_server: RedisServer,
    tmp_path: Path,
    expected: Found,
    stack: ExitStack,
) -> None:
    engines = [EngineProcess(shared_address, redis_server.address, name) for name in NAMES]
    for one in engines:
        stack.callback(one.end)

    def have(*which: EngineProcess) -> bool:
        for one in which:
            one.look()
        return {number for one in which for number in one.shards} == set(range(SHARDS))

    until(lambda: have(*engines))
    feed = Feed(shared_address, redis_server.address, "feed", tmp_path, tape(TRADES), gate=Gate(TRADES // 4))
    stack.callback(feed.stop)
    # By how many shards each has while all live: the one with most is killed, the one with fewest is left.
    lasting, stopped, killed = sorted(engines, key=lambda one: len(shards_of(one.name, NAMES, SHARDS)))
    until(lambda: len(stored(shared_store)) > len(expected) // 8)
    feed.gate.trades = TRADES // 2
    killed.send(signal.SIGKILL)
    begun = time.monotonic()
    until(lambda: have(lasting, stopped))
    took = time.monotonic() - begun
    sys.stdout.write(f"killed: taken over after {took:.2f} s with a lease of {LEASE} s\n")
    assert took < 10
    stopped.told.send("stop at commit")
    feed.gate.trades = 3 * TRADES // 4
    until(lambda: (stopped.look(), stopped.stopping)[1])
    held = dict(stopped.shards)
    begun = time.monotonic()
    until(lambda: have(lasting))
    sys.stdout.write(f"stopped: taken over after {time.monotonic() - begun:.2f} s\n")
    assert all(lasting.shards[number] > epoch for number, epoch in held.items())
    stopped.send(signal.SIGCONT)
    until(lambda: (stopped.look(), stopped.refused)[1] > 0)
    feed.gate.trades = TRADES
    until(lambda: len(stored(shared_store)) >= len(expected))
    assert stored(shared_store) == expected


def test_redis_and_the_feed_lost_at_once_the_sources_give_it_again(
    shared_address: str,
    shared_store: SqlStore,
    redis_server: RedisServer,
    tmp_path: Path,
    expected: Found,
    stack: ExitStack,
) -> None:
    engine = Engine(shared_address, redis_server.address, "ann")
    stack.callback(engine.stop)
    context = processes()
    first = context.Process(
        target=serve_feed,
        args=(shared_address, redis_server.address, "one", tmp_path, TRADES, TRADES // 2, LEASE),
        daemon=True,
    )
    first.start()
    stack.callback(first.kill)
    until(lambda: len(stored(shared_store)) > len(expected) // 5)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    redis_server.kill()
    redis_server.start()
    second = Feed(shared_address, redis_server.address, "two", tmp_path, tape(TRADES))
    stack.callback(second.stop)
    until(lambda: len(stored(shared_store)) >= len(expected))
    assert stored(shared_store) == expected
