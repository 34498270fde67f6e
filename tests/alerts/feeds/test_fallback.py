"""When the history is asked, how often, and when a stream has its symbol back: by clocks that are moved by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tapeline.alerts.feeds.fallback import Fallback, FallbackOptions
from tapeline.core.errors import ConfigurationError
from tapeline.streams.timing import Timing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fallback(clock) -> Fallback:
    options = FallbackOptions(stale_after=5.0, poll_every=1.0, poll_most=8.0)
    return Fallback(["A", "B"], options=options, timing=Timing(monotonic=clock))


def test_only_a_silent_symbol_is_asked_for(clock, fallback):
    clock.now = 4.0
    fallback.heard("A", 1)
    clock.now = 6.0
    assert fallback.due() == ["B"]
    assert fallback.active == ["B"]
    assert fallback.counters.taken_over == 1


def test_quiet_symbols_are_asked_ever_less_often_and_busy_ones_at_once(clock, fallback):
    clock.now = 6.0
    asked = []
    while clock.now < 60.0:
        if "A" in fallback.due():
            asked.append(clock.now)
            fallback.polled("A", found=0, more=False)
            fallback.polled("B", found=0, more=False)
        clock.now += 0.5
    assert [later - earlier for earlier, later in pairwise(asked)][:5] == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert fallback.polled("A", found=3, more=True)
    assert "A" in fallback.due()
    assert not fallback.polled("A", found=3, more=False)
    assert "A" not in fallback.due()
    clock.now += 1.0
    assert "A" in fallback.due()
    assert fallback.counters.missed == 1


def test_it_hands_back_when_a_trade_of_the_stream_is_in_order(clock, fallback):
    clock.now = 6.0
    fallback.due()
    fallback.polled("A", found=2, more=False)
    assert not fallback.released("A", 12)
    fallback.heard("A", 20)
    assert [fallback.released("A", number) for number in (13, 19, 20)] == [False, False, True]
    assert not fallback.is_active("A")
    assert (fallback.counters.handed_back, fallback.active) == (1, ["B"])


def test_a_history_that_fails_is_asked_later(clock, fallback):
    clock.now = 6.0
    fallback.due()
    fallback.failed("A", wait=3.0)
    clock.now = 8.0
    assert fallback.due() == ["B"]
    clock.now = 9.0
    assert "A" in fallback.due()


def test_symbols_come_and_go(clock, fallback):
    fallback.forget(["A"])
    fallback.heard("A", 1)
    fallback.polled("A", found=1, more=False)
    fallback.failed("A")
    clock.now = 3.0
    fallback.watch(["C"])
    clock.now = 6.0
    assert fallback.due() == ["B"]
    with pytest.raises(ConfigurationError, match="poll_every = 9"):
        FallbackOptions(poll_every=9.0, poll_most=8.0)
