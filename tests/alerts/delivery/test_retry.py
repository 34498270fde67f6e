"""The schedule of tries, its jitter, and what a receiver may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.alerts.delivery.retry import LONGEST_WAIT, SCHEDULE, SECOND, delay, throttled_delay


@given(st.text(max_size=30), st.integers(1, 9), st.none() | st.floats(0, 1e6))
def test_a_wait_lies_within_a_fifth_of_the_schedule_or_is_what_was_asked_for(id, tries, asked) -> None:
    wait = delay(id, tries, retry_after=asked)
    assert wait == delay(id, tries, retry_after=asked)
    low, high = 0.8 * SCHEDULE[tries] * SECOND, 1.2 * SCHEDULE[tries] * SECOND
    plain = delay(id, tries)
    assert low - 1 <= plain <= high
    if asked is None or asked * SECOND <= plain:
        assert wait == plain
    else:
        assert plain <= wait <= max(LONGEST_WAIT * SECOND, 2 * plain) + 1
        assert wait <= asked * SECOND + 1


def test_deliveries_that_failed_together_come_back_apart_and_ten_tries_are_the_most() -> None:
    waits = [delay(str(number), 2) / SECOND for number in range(500)]
    assert min(waits) < 250 < 290 < sum(waits) / 500 < 310 < 350 < max(waits)
    assert [delay("x", tries) is None for tries in (9, 10, 11)] == [False, True, True]
    assert SCHEDULE == (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)


@pytest.mark.parametrize(("asked", "seconds"), [(None, 5), (0.2, 1), (7.25, 7.25), (1e9, 3600)])
def test_a_limit_is_honoured_within_an_hour(asked, seconds) -> None:
    assert throttled_delay(asked) == seconds * SECOND
