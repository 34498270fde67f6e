"""What was due against what arrived: every way to fail is seen, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.availability import Arrival, availability, recovery_times
from tapeline.core.errors import DataError

SECOND = 1_000_000_000


def arrival(due: str, seconds: float, id: str = "", body: str = "b") -> Arrival:
    return Arrival(due, int(seconds * SECOND), id or due, body)


def test_each_failure_is_told_apart() -> None:
    due = {"in time": 0, "late": SECOND, "lost": 2 * SECOND, "two bodies": 3 * SECOND, "two ids": 4 * SECOND}
    arrivals = [
        arrival("two ids", 4.5, "x"),
        arrival("in time", 0.1),
        arrival("late", 7.0),
        arrival("late", 9.0),
        arrival("two bodies", 3.1),
        arrival("two bodies", 3.2, body="c"),
        arrival("two ids", 4.1, "y"),
        arrival("never due", 5.0),
    ]
    found = availability(due, arrivals)
    assert found.due == 5
    assert found.lost == ("lost",)
    assert found.undue == ("never due",)
    assert set(found.doubled) == {"two bodies", "two ids"}
    assert found.repeated == 1
    # The first arrival counts, in whatever order they are told.
    assert found.lateness.tolist() == pytest.approx([0.1, 6.0, 0.1, 0.1])
    assert found.on_time(0.2) == 3 / 5
    assert found.on_time(10.0) == 4 / 5
    assert found.quantile(1.0) == pytest.approx(6.0)
    nothing = availability({}, [])
    assert nothing.on_time(0.0) == 1.0
    assert np.isnan(nothing.quantile(0.5))


@settings(max_examples=60, deadline=None)
@given(
    due=st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True),
    down=st.tuples(st.integers(0, 60), st.integers(0, 20)),
    bound=st.sampled_from([0.5, 1.5]),
)
def test_a_service_that_is_down_for_a_while_is_late_for_just_that_long(due, down, bound) -> None:
    begin, length = down
    end = begin + length
    times = {str(ts): ts * SECOND for ts in due}
    # What falls into the outage comes at its end.
    arrivals = [arrival(str(ts), max(ts, end) if begin <= ts < end else ts) for ts in due]
    late = [ts for ts in due if begin <= ts < end and end - ts > bound]
    found = availability(times, arrivals)
    assert found.on_time(bound) == pytest.approx(1 - len(late) / len(due))
    (recovery,) = recovery_times(times, arrivals, [begin * SECOND], bound=bound)
    assert recovery == (max(late) - begin if late else 0)


def test_a_recovery_belongs_to_its_fault_and_what_never_comes_counts_as_late() -> None:
    due = {str(ts): ts * SECOND for ts in range(10)}
    arrivals = [arrival(str(ts), ts + 0.01) for ts in range(10) if ts not in (2, 3, 7)]
    times = recovery_times(due, arrivals, [int(1.5 * SECOND), 5 * SECOND, 9 * SECOND], bound=0.5)
    assert times.tolist() == [1.5, 2.0, 0.0]
    with pytest.raises(DataError, match="ascend"):
        recovery_times(due, arrivals, [2, 2], bound=0.5)
