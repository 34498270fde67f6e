"""When a delivery is tried again: a fixed schedule, spread by a jitter that follows from the delivery's id."""

from __future__ import annotations

import hashlib
from typing import Final

from tapeline.core.nanoseconds import SECOND

SCHEDULE: Final[tuple[int, ...]] = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds before each try since the one before it: at once, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""
JITTER: Final = 0.2
LONGEST_WAIT: Final = 3_600
"""Seconds to which a ``Retry-After`` is honoured where the schedule itself would not wait longer."""
FAILING_FOR: Final = 5 * 86_400 * SECOND
"""Nanoseconds of nothing but failures after which an endpoint is switched off."""


def delay(delivery: str, tries: int, *, retry_after: float | None = None) -> int | None:
    """Nanoseconds to wait after ``tries`` failed tries; None where it is given up.

    Parameters
    ----------
    delivery:
        The delivery's id, from which the jitter of a fifth either way follows: the same id waits equally long in
        every process, and many that failed together do not come back together.
    tries:
        How many tries failed, at least 1.
    retry_after:
        Seconds that the receiver asked for; never shorter than the schedule, and at most an hour or twice the
        schedule, whichever is longer.

    Examples
    --------
    >>> [round(delay("d", tries) / SECOND) for tries in (1, 2, 3)]
    [5, 303, 1599]
    >>> delay("d", 1, retry_after=60.0) / SECOND, delay("d", 1, retry_after=1e9) / SECOND
    (60.0, 3600.0)
    >>> delay("d", 10) is None
    True
    """
    if tries >= len(SCHEDULE):
        return None
    seed = int.from_bytes(hashlib.sha256(f"{delivery}/{tries}".encode()).digest()[:8], "big") / 2**64
    wait = SCHEDULE[tries] * (1 - JITTER + 2 * JITTER * seed)
    if retry_after is not None:
        wait = min(max(wait, retry_after), max(LONGEST_WAIT, 2 * wait))
    return int(wait * SECOND)


def throttled_delay(retry_after: float | None) -> int:
    """Nanoseconds to wait after a rate limit was hit: what was asked for, from 1 s to an hour; 5 s where nothing was.

    Examples
    --------
    >>> throttled_delay(17.5) / SECOND, throttled_delay(None) / SECOND, throttled_delay(1e9) / SECOND
    (17.5, 5.0, 3600.0)
    """
    return int(min(max(5.0 if retry_after is None else retry_after, 1.0), float(LONGEST_WAIT)) * SECOND)
