"""The bound is a promise: whatever the delays, the true offset lies within it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.clock.offset import (
    OffsetFilter,
    OffsetSample,
    agreeing_interval,
    four_stamp_sample,
    one_stamp_sample,
)
from tapeline.clock.time_sync import SlewedClock, TimeSync
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError

SECOND = 1_000_000_000
_DELAYS = st.tuples(st.integers(0, SECOND), st.integers(0, SECOND), st.integers(0, SECOND))


@settings(max_examples=200, deadline=None)
@given(offset=st.integers(-(10**12), 10**12), ways=st.lists(_DELAYS, min_size=1, max_size=12))
def test_the_true_offset_is_within_every_bound(offset: int, ways: list[tuple[int, int, int]]) -> None:
    local, four, one = 10**18, OffsetFilter(), OffsetFilter()
    for there, work, back in ways:
        arrived = local + there + offset
        received = local + there + work + back
        sample = four_stamp_sample(local, arrived, arrived + work, received)
        assert abs(sample.offset - offset) <= sample.error
        told = (arrived + work) // 1_000_000 * 1_000_000
        coarse = one_stamp_sample(local, received, told, resolution=1_000_000)
        assert abs(coarse.offset - offset) <= coarse.error
        for estimate, single in ((four.add(sample), sample), (one.add(coarse), coarse)):
            assert abs(estimate.offset - offset) <= estimate.error
            assert estimate.agreeing == estimate.samples
            # More samples never make it worse than the newest alone, but for the drift allowed between clocks.
            assert estimate.error <= 2 * single.error + 1
        local = received + SECOND


def test_one_liar_among_honest_samples_is_outvoted() -> None:
    offsets = OffsetFilter()
    for number in range(8):
        estimate = offsets.add(OffsetSample(100 + number % 3, 10, 20, number))
    before = estimate
    assert offsets.add(OffsetSample(9_999_999, 5, 10, 9)) == before
    assert abs(offsets.add(OffsetSample(101, 10, 20, 10)).offset - before.offset) <= 1
    assert offsets.steps == 0


def test_slow_drift_is_followed_because_old_samples_lose_weight() -> None:
    offsets = OffsetFilter(window=8)
    for number in range(200):
        at = number * 16 * SECOND
        drifted = at // 100_000  # 10 ppm
        estimate = offsets.add(OffsetSample(drifted, 200_000, 400_000, at))
        assert abs(estimate.offset - drifted) <= estimate.error
    assert offsets.steps == 0
    assert estimate.offset > 0


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(8, 12), (11, 13), (14, 15)], (11, 12, 2)),
        ([(8, 9), (8, 12), (10, 12)], (8, 9, 2)),
        ([(1, 5)], (1, 5, 1)),
        ([(1, 5), (5, 9)], (5, 5, 2)),
        ([(1, 2), (3, 4)], (1, 2, 1)),
    ],
)
def test_marzullo(intervals: list[tuple[int, int]], expected: tuple[int, int, int]) -> None:
    assert agreeing_interval(intervals) == expected


def test_impossible_round_trips_are_refused() -> None:
    for stamps in ((10, 0, 0, 5), (0, 5, 4, 10), (0, 0, 100, 10)):
        with pytest.raises(DataError, match="impossible"):
            four_stamp_sample(*stamps)
    with pytest.raises(DataError, match="impossible"):
        one_stamp_sample(10, 5, 0, resolution=1)
    with pytest.raises(ConfigurationError, match="resolution"):
        one_stamp_sample(1, 5, 0, resolution=-1)
    with pytest.raises(DataError):
        agreeing_interval([])
    for bad in ({"window": 0}, {"confirm": 1}):
        with pytest.raises(ConfigurationError):
            OffsetFilter(**bad)


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 10 * SECOND), st.none() | st.integers(-5 * SECOND, 5 * SECOND)), max_size=40
    ),
    rate=st.sampled_from([0.0005, 0.01, 0.9]),
)
def test_a_slewed_clock_never_goes_back_and_never_hurries(steps: list[tuple[int, int | None]], rate: float) -> None:
    now = [7 * SECOND]
    clock = SlewedClock(start=10**18, maximum_rate=rate, monotonic=lambda: now[0])
    shown = clock.now()
    assert shown == 10**18
    for passed, correction in steps:
        if correction is not None:
            clock.correct(correction)
        now[0] += passed
        later = clock.now()
        assert later >= shown
        assert abs(later - shown - passed) <= passed * rate + 1
        shown = later


def test_a_slewed_clock_arrives_and_then_keeps_time() -> None:
    now = [0]
    clock = SlewedClock(start=0, maximum_rate=0.001, monotonic=lambda: now[0])
    clock.correct(-1_000_000)
    now[0] = SECOND // 2
    assert clock.now() == SECOND // 2 - 500_000
    assert clock.remaining == -500_000
    now[0] = 10 * SECOND
    assert (clock.now(), clock.remaining) == (10 * SECOND - 1_000_000, 0)
    now[0] = 9 * SECOND  # a monotonic clock that is not
    assert clock.now() == 10 * SECOND - 1_000_000


def test_readings_in_quick_succession_do_not_stall_the_correction() -> None:
    now = [0]
    clock = SlewedClock(start=0, maximum_rate=0.0005, monotonic=lambda: now[0])
    clock.correct(1_000)
    for now[0] in range(0, 2_100_000, 700):
        clock.now()
    assert clock.remaining == 0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_rates_out_of_bounds_are_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="maximum_rate"):
        SlewedClock(start=0, maximum_rate=rate)


class _Broken:
    def measure(self) -> OffsetSample:
        raise TemporaryError("no answer")


class _Working:
    def measure(self) -> OffsetSample:
        return OffsetSample(5, 1, 2, 0)


def test_one_dead_reference_does_not_silence_the_others() -> None:
    sync = TimeSync({"dead": _Broken(), "alive": _Working()})
    failed = sync.measure()
    assert list(failed) == ["dead"]
    assert sync.estimate("alive").offset == 5
    table = sync.table()
    assert table.loc["dead", "failures"] == 1
    assert table.loc["dead"].isna()["offset_ms"]
    with pytest.raises(TemporaryError, match="not answered"):
        sync.between("alive", "dead")
    with pytest.raises(ConfigurationError, match="unknown"):
        sync.estimate("nobody")
    with pytest.raises(ConfigurationError, match="no reference"):
        TimeSync({})
