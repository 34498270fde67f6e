"""Time and pace of live feeds: clocks that tests inject, back-off with a cap and jitter, a limit on sent messages."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tapeline.core.errors import ConfigurationError


@dataclass(frozen=True)
class Timing:
    """Where a feed takes its time from.

    Parameters
    ----------
    monotonic:
        Seconds that never jump: every watchdog reads this one, so that a step of the system clock trips none.
    wall:
        Nanoseconds since the epoch, UTC: only for ``known_at`` and alerts.
    sleep:
        Waits.
    random:
        Uniform in [0, 1): the jitter.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], int] = time.time_ns
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with a cap and jitter.

    The delay before attempt n is uniform in the upper half of ``first * 2**(n - 1)``, at most ``cap``: many clients
    that lost one server do not come back in the same instant, and none comes back at once.

    Examples
    --------
    >>> backoff = Backoff(first=1.0, cap=10.0)
    >>> [backoff.delay(attempt, random=lambda: 0.0) for attempt in (1, 2, 3, 4, 5, 2_000)]
    [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    """

    first: float = 1.0
    cap: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.cap < float("inf"):
            raise ConfigurationError(f"first = {self.first} must be above 0 and at most cap = {self.cap}")

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait before this attempt, from 1."""
        # 2**60 is beyond any cap; without the bound a long outage would overflow the float.
        highest = min(self.cap, self.first * 2.0 ** min(attempt - 1, 60))
        return highest * (0.5 + 0.5 * random())


class RateLimiter:
    """At most ``count`` passes in any ``seconds``: a sliding window, as venues count.

    Examples
    --------
    >>> limiter = RateLimiter(2, 1.0, Timing(monotonic=lambda: 5.0))
    >>> limiter.wait(), limiter.wait(), limiter.wait()
    (0.0, 0.0, 1.0)
    """

    def __init__(self, count: int, seconds: float, timing: Timing) -> None:
        if count < 1 or not seconds > 0:
            raise ConfigurationError(f"a limit of {count} in {seconds} s lets nothing pass")
        self._seconds = seconds
        self._timing = timing
        self._passes: deque[float] = deque(maxlen=count)

    def wait(self) -> float:
        """Take the next pass and return the seconds until it is due."""
        now = self._timing.monotonic()
        full = len(self._passes) == self._passes.maxlen
        due = max(now, self._passes[0] + self._seconds) if full else now
        self._passes.append(due)
        return due - now

    async def acquire(self) -> None:
        """Wait for the next pass."""
        seconds = self.wait()
        if seconds > 0:
            await self._timing.sleep(seconds)
