"""The rate that all who ask one venue share, on a clock that the test turns."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.token_bucket import TokenBucket


class Turned:
    """A clock on which sleeping is all that takes time."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


@given(
    rate=st.floats(0.1, 100),
    capacity=st.floats(1, 20),
    costs=st.lists(st.floats(0, 10), min_size=1, max_size=40),
    rests=st.lists(st.floats(0, 3), min_size=40, max_size=40),
)
def test_no_window_lets_more_pass_than_the_rate_and_the_burst(rate, capacity, costs, rests) -> None:
    clock = Turned()
    bucket = TokenBucket(rate, capacity=capacity, monotonic=clock.read)
    passed = []
    for cost, rest in zip(costs, rests, strict=False):
        clock.now += rest
        bucket.wait(cost, sleep=clock.sleep)
        passed.append((clock.now, cost))
    for i, (first, _) in enumerate(passed):
        spent = 0.0
        for at, cost in passed[i:]:
            spent += cost
            # What passes within a window is at most what the window refills and the burst that stood at its start.
            assert spent <= capacity + max(passed[i][1] - capacity, 0) + (at - first) * rate + 1e-6 * (1 + spent)


def test_the_first_pass_at_once_and_then_at_the_rate() -> None:
    clock = Turned()
    bucket = TokenBucket(2.0, monotonic=clock.read)
    for _ in range(5):
        bucket.wait(sleep=clock.sleep)
    assert clock.slept == pytest.approx([0.5] * 4)
    clock.now += 100
    assert [bucket.reserve() for _ in range(3)] == pytest.approx([0.0, 0.5, 1.0])


def test_callers_share_one_order_whatever_they_are() -> None:
    clock = Turned()
    bucket = TokenBucket(1.0, monotonic=clock.read)

    async def run() -> None:
        await bucket.acquire(sleep=clock.asleep)
        bucket.wait(sleep=clock.sleep)
        await bucket.acquire(2.0, sleep=clock.asleep)

    asyncio.run(run())
    assert clock.slept == pytest.approx([1.0, 2.0])
    assert bucket.passed == 3


def test_a_pause_holds_those_who_come_and_those_who_already_wait() -> None:
    clock = Turned()
    bucket = TokenBucket(1.0, monotonic=clock.read)
    bucket.reserve()

    def sleep_then_throttled(seconds: float) -> None:
        if not clock.slept:
            bucket.pause(30.0)  # the answer of another caller arrives while this one sleeps
        clock.sleep(seconds)

    bucket.wait(sleep=sleep_then_throttled)
    assert clock.now == pytest.approx(1_030.0)
    assert bucket.paused() == 0.0
    assert bucket.pauses == 1


def test_a_pause_holds_tasks_that_already_wait() -> None:
    clock = Turned()
    bucket = TokenBucket(1.0, monotonic=clock.read)
    bucket.reserve()

    async def sleep(seconds: float) -> None:
        if not clock.slept:
            bucket.pause(30.0)
        clock.sleep(seconds)

    asyncio.run(bucket.acquire(sleep=sleep))
    assert clock.now == pytest.approx(1_030.0)


def test_after_a_pause_there_is_no_burst_and_a_shorter_one_does_not_shorten_it() -> None:
    clock = Turned()
    bucket = TokenBucket(10.0, capacity=5.0, monotonic=clock.read)
    bucket.pause(20.0)
    bucket.pause(1.0)
    assert [bucket.reserve() for _ in range(2)] == pytest.approx([20.1, 20.2])


def test_threads_take_turns() -> None:
    bucket = TokenBucket(1_000.0, monotonic=lambda: 5.0)
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.extend(bucket.reserve() for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == pytest.approx([i / 1_000 for i in range(800)])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_bounds(bad: float) -> None:
    with pytest.raises(ConfigurationError, match="rate"):
        TokenBucket(bad)
    with pytest.raises(ConfigurationError, match="capacity"):
        TokenBucket(1.0, capacity=bad)
    if bad:
        with pytest.raises(ConfigurationError, match="cost"):
            TokenBucket(1.0).reserve(bad)
        with pytest.raises(ConfigurationError, match="pause"):
            TokenBucket(1.0).pause(bad)
