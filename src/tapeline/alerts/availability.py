"""How available an alert service was: what was due, held against what arrived and when.

Both sides come from outside the service: what was due from the tape and the meaning of the rule, what arrived from the
receiver. What the service says of itself does not count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.core.nanoseconds import SECOND


class Arrival(NamedTuple):
    """One message at the receiver: of which firing, when (nanoseconds), under which id, and what its body hashes to."""

    due: str
    at: int
    id: str
    body: str


@dataclass(frozen=True)
class Availability:
    """What became of everything that was due.

    Parameters
    ----------
    due:
        How many firings were due.
    lost:
        Keys of those that never arrived.
    undue:
        Keys of those that arrived and were not due.
    doubled:
        Keys that arrived under more than one id, or under one id with more than one body: a receiver that goes by
        the id acts on them twice.
    repeated:
        How many messages were a repeat, under the same id and with the same body.
    lateness:
        Seconds from being due to the first arrival, of those that arrived, in the order in which they were due.
    """

    due: int
    lost: tuple[str, ...]
    undue: tuple[str, ...]
    doubled: tuple[str, ...]
    repeated: int
    lateness: NDArray[np.float64]

    def on_time(self, bound: float) -> float:
        """The share of all that was due which arrived within ``bound`` seconds; 1 where nothing was due."""
        return float((self.lateness <= bound).sum()) / self.due if self.due else 1.0

    def quantile(self, share: float) -> float:
        """Seconds within which this share of what arrived did; NaN where nothing did."""
        return float(np.quantile(self.lateness, share)) if self.lateness.size else float("nan")


def availability(due: Mapping[str, int], arrivals: Iterable[Arrival]) -> Availability:
    """Hold what arrived against what was due.

    Parameters
    ----------
    due:
        By key, when each firing was due, in nanoseconds.
    arrivals:
        In any order.

    Examples
    --------
    >>> due = {"a": 0, "b": 1_000_000_000, "c": 2_000_000_000}
    >>> arrivals = [Arrival("a", 50_000_000, "1", "x"), Arrival("b", 3_000_000_000, "2", "y")]
    >>> found = availability(due, [*arrivals, Arrival("a", 60_000_000, "1", "x")])
    >>> found.lost, found.doubled, found.repeated, found.lateness.tolist()
    (('c',), (), 1, [0.05, 2.0])
    >>> round(found.on_time(1.0), 3)
    0.333
    """
    first: dict[str, int] = {}
    seen: dict[str, set[tuple[str, str]]] = {}
    repeated = 0
    for one in arrivals:
        first[one.due] = min(one.at, first.get(one.due, one.at))
        known = seen.setdefault(one.due, set())
        repeated += (one.id, one.body) in known
        known.add((one.id, one.body))
    late = [(ts, (first[key] - ts) / SECOND) for key, ts in due.items() if key in first]
    late.sort()
    return Availability(
        len(due),
        tuple(key for key in due if key not in first),
        tuple(key for key in first if key not in due),
        tuple(key for key, some in seen.items() if len(some) > 1),
        repeated,
        np.array([seconds for _, seconds in late], np.float64),
    )


def recovery_times(
    due: Mapping[str, int], arrivals: Iterable[Arrival], faults: Sequence[int], *, bound: float
) -> NDArray[np.float64]:
    """Seconds from each fault until the service was as before: until what is due from then on arrives in time.

    That is the time from the fault to the last instant at which something was due that arrived later than ``bound``
    seconds (or never), before the next fault; 0 where all was in time.

    Parameters
    ----------
    faults:
        When each was, in nanoseconds, in ascending order.

    Raises
    ------
    DataError
        The faults do not ascend.

    Examples
    --------
    >>> second = 1_000_000_000
    >>> due = {str(n): n * second for n in range(6)}
    >>> arrivals = [Arrival(str(n), n * second + (4 - n) * second * (2 <= n < 4), str(n), "") for n in range(6)]
    >>> recovery_times(due, arrivals, [2 * second], bound=0.5).tolist()
    [1.0]
    """
    if any(later <= before for before, later in itertools.pairwise(faults)):
        raise DataError("the instants of the faults must ascend")
    first: dict[str, int] = {}
    for one in arrivals:
        first[one.due] = min(one.at, first.get(one.due, one.at))
    allowed = bound * SECOND
    late = np.sort(np.array([ts for key, ts in due.items() if key not in first or first[key] - ts > allowed], np.int64))
    ends = [*faults[1:], np.iinfo(np.int64).max]
    found = []
    for begin, end in zip(faults, ends, strict=True):
        mine = late[(late >= begin) & (late < end)]
        found.append((int(mine[-1]) - begin) / SECOND if mine.size else 0.0)
    return np.array(found, np.float64)
