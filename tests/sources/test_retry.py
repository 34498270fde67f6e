from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ProviderError, TemporaryError
from tapeline.core.settings import NetworkSettings
from tapeline.sources.base import Failed, Throttled
from tapeline.sources.retry import Retry


def scripted(*outcomes):
    """A call that raises or returns in turn; counts its calls."""
    queue = list(outcomes)
    calls = []

    def work():
        calls.append(1)
        step = queue.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    return work, calls


def classify(error: Exception):
    if isinstance(error, TimeoutError):
        return Failed(TemporaryError("slow"))
    return Throttled(error.args[0], "busy") if isinstance(error, BlockingIOError) else Failed(ProviderError("no"))


def policy(tries: int = 4, **options):
    waits: list[float] = []
    return Retry(tries, 1.0, cap=10.0, sleep=waits.append, uniform=lambda: 1.0, **options), waits


def test_it_tries_until_it_heals():
    retry, waits = policy()
    work, calls = scripted(TimeoutError(), TimeoutError(), "bars")
    assert retry.run(work, classify) == "bars"
    assert (len(calls), waits) == (3, [1.0, 2.0])


def test_it_gives_up_after_the_last_try_without_waiting_again():
    retry, waits = policy(tries=3)
    work, calls = scripted(*[TimeoutError()] * 3)
    assert isinstance(retry.run(work, classify).error, TemporaryError)
    assert (len(calls), waits) == (3, [1.0, 2.0])


def test_what_time_does_not_heal_is_not_tried_again():
    retry, waits = policy()
    work, calls = scripted(KeyError("x"))
    assert isinstance(retry.run(work, classify).error, ProviderError)
    assert (len(calls), waits) == (1, [])


def test_the_servers_wish_is_kept_unless_it_is_too_long():
    retry, waits = policy()
    work, _ = scripted(BlockingIOError(5.0), "bars")
    assert retry.run(work, classify) == "bars"
    assert waits == [5.0]
    work, calls = scripted(BlockingIOError(11.0), "bars")
    assert retry.run(work, classify) == Throttled(11.0, "busy")
    assert len(calls) == 1


@given(st.integers(1, 60), st.floats(0, 0.999))
def test_waits_lie_between_half_and_all_of_a_capped_ceiling(attempt, share):
    delay = Retry(5, 1.0, cap=30.0, uniform=lambda: share).delay(attempt)
    ceiling = min(30.0, 2.0 ** (attempt - 1))
    assert ceiling / 2 <= delay <= ceiling


def test_settings_make_the_policy():
    retry = Retry.of(NetworkSettings(maximum_tries=7, backoff_seconds=2.5))
    assert (retry.tries, retry.first) == (7, 2.5)


def test_an_interrupt_is_not_swallowed():
    retry, _ = policy()

    def work():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry.run(work, classify)
