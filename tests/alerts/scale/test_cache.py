"""The cache: shared by processes, gone with its Redis, and never an answer of another version."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.records import Commit
from tapeline.alerts.scale.cache import LARGEST, MOST, Cache
from tapeline.alerts.scale.cached_queries import CachedQueries
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.store.metadata import firing
from tapeline.alerts.store.store import ChannelCount, FiringQuery
from tapeline.core.settings import AlertScaleSettings, AlertSettings, Settings
from tapeline.gateway.context import GatewayContext
from tapeline.gateway.shared_answers import SharedAnswers
from tests.alerts.scale.support import until
from tests.alerts.store.samples import make_firing


def never() -> int:
    raise AssertionError("it was asked")


@pytest.fixture
def client(redis_server):
    made = redis_connection(redis_server.address, retries=0)
    yield made
    made.close()


def test_what_one_process_asked_another_finds_until_its_time_is_over(client) -> None:
    now = [0.0]
    first, second = (Cache(client, seconds=30.0, clock=lambda: now[0]) for _ in range(2))
    assert first.get("g", "a", 1, lambda: [1, "x"]) == [1, "x"]
    assert second.get("g", "a", 1, never) == [1, "x"]
    assert second.get("g", "a", 1, never) == [1, "x"]
    assert (second.counters.far, second.counters.near) == (1, 1)
    assert second.get("g", "a", 2, lambda: 2) == 2
    assert second.get("h", "a", 1, lambda: 3) == 3
    assert all(0 < client.pttl(key) <= 30_000 for key in client.keys("tapeline:cache:*"))
    now[0] = 31.0
    client.flushall()
    assert first.get("g", "a", 1, lambda: 4) == 4


def test_what_one_forgets_all_that_listen_forget(client) -> None:
    first, second = Cache(client, seconds=3_600.0), Cache(client, seconds=3_600.0)
    second.listen()
    for cache in (first, second):
        cache.get("g", "a", 1, lambda: 1)
        cache.get("other", "a", 1, lambda: 1)
    first.forget("g")
    until(lambda: second.counters.forgotten == 1)
    assert second.get("g", "a", 1, lambda: 2) == 2
    assert second.get("other", "a", 1, never) == 1
    second.close()


def test_without_redis_it_asks_and_does_not_wait_for_it_again(redis_server, client) -> None:
    now = [0.0]
    cache = Cache(client, seconds=5.0, clock=lambda: now[0])
    redis_server.kill()
    assert cache.get("g", "a", 1, lambda: 1) == 1
    assert cache.get("g", "b", 1, lambda: 2) == 2
    cache.forget("g")
    assert cache.counters.failed == 1
    redis_server.start()
    now[0] = 2.0
    assert cache.get("g", "c", 1, lambda: 3) == 3
    assert len(client.keys("tapeline:cache:*")) == 1


def test_it_holds_no_more_than_it_may(client) -> None:
    cache = Cache(None, seconds=60.0)
    for number in range(MOST + 1):
        cache.get("g", str(number), 1, lambda: 0)
    assert cache.get("g", str(MOST), 1, never) == 0
    assert cache.get("g", "0", 1, lambda: 7) == 7
    far = Cache(client)
    far.get("g", "large", 1, lambda: "x" * LARGEST)
    assert client.keys("tapeline:cache:*") == []
    client.set(far._key("g", "broken", 1), b"{")
    assert far.get("g", "broken", 1, lambda: 8) == 8


def test_a_count_of_firings_is_never_older_than_the_newest_commit(store, client, monkeypatch) -> None:
    asked: list[FiringQuery | None] = []
    real = store.count_firings
    monkeypatch.setattr(store, "count_firings", lambda query=None: asked.append(query) or real(query))
    queries = [CachedQueries(store, Cache(client, seconds=60.0)) for _ in range(2)]
    of_rule = FiringQuery(rule=make_firing(1).rule)
    store.commit(Commit((make_firing(1),)))
    assert [one.count_firings(of_rule) for one in queries] == [1, 1]
    assert len(asked) == 1
    store.commit(Commit((make_firing(2),)))
    assert [one.count_firings(of_rule) for one in queries] == [2, 2]
    assert queries[0].count_firings(FiringQuery(rule="other")) == 0
    assert len(asked) == 3
    store.database.write(lambda db: db.execute(delete(firing)).rowcount)
    assert queries[0].count_firings(of_rule) == 2
    queries[0].cleaned_up()
    assert queries[0].count_firings(of_rule) == 0


def test_counts_of_deliveries_are_shared_between_two_workers_of_the_api(store, redis_server, monkeypatch) -> None:
    settings = Settings(alerts=AlertSettings(scale=AlertScaleSettings(redis=redis_server.address)))
    workers = [
        GatewayContext(store=store, access=None, settings=settings, limiter=LocalLimiter(), vault=None)
        for _ in range(2)
    ]
    counts = (ChannelCount("webhook", "sent", 3, 1),)
    asked: list[int] = []
    monkeypatch.setattr(store, "delivery_counts", lambda: asked.append(1) or counts)
    assert [one.part(SharedAnswers).delivery_counts() for one in workers] == [counts, counts]
    assert len(asked) == 1
    for one in workers:
        one.close()
    alone = GatewayContext(store=store, access=None, settings=Settings(), limiter=LocalLimiter(), vault=None)
    assert [alone.part(SharedAnswers).delivery_counts() for _ in range(2)] == [counts, counts]
    assert len(asked) == 3
