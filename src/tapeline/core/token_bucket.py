"""A token bucket: how fast one venue may be asked, shared by everything in the process that asks it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable

from tapeline.core.errors import ConfigurationError


class TokenBucket:
    """Lets ``rate`` units of cost pass in a second, and ``capacity`` of them at once after a rest.

    Callers reserve in the order in which they come, from any thread or task; a reservation may take the bucket below
    zero, and the caller then waits until it is even again. :meth:`pause` shuts the bucket for all of them, also for
    those that already wait: what a venue asks for with HTTP 429 and ``Retry-After``.

    Parameters
    ----------
    rate:
        Units a second.
    capacity:
        Units that may pass at once.
    monotonic:
        Seconds that never jump; injected in tests.

    Raises
    ------
    ConfigurationError
        A rate or a capacity that is not finite and positive.

    Examples
    --------
    >>> bucket = TokenBucket(rate=10.0, capacity=2.0, monotonic=lambda: 100.0)
    >>> [bucket.reserve() for _ in range(4)]
    [0.0, 0.0, 0.1, 0.2]
    >>> bucket.pause(30.0)
    >>> bucket.paused()
    30.0

    References
    ----------
    J. Turner, New directions in communications (or which way to the information age?), IEEE Communications Magazine
    24 (1986), 8-15: the leaky bucket as a meter.
    """

    def __init__(self, rate: float, *, capacity: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        for name, value in (("rate", rate), ("capacity", capacity)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} = {value} of a token bucket must be finite and above 0")
        self.rate, self.capacity = rate, capacity
        self.passed = 0
        self.pauses = 0
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._tokens = capacity
        self._filled_at = monotonic()
        self._shut_until = -math.inf

    def reserve(self, cost: float = 1.0) -> float:
        """Take ``cost`` units and return the seconds to wait before they may be used.

        Raises
        ------
        ConfigurationError
            A negative cost, or one that is no number.
        """
        if not (math.isfinite(cost) and cost >= 0):
            raise ConfigurationError(f"cost = {cost} of a request must be finite and at least 0")
        with self._lock:
            now = self._monotonic()
            rested = max(0.0, now - self._filled_at)
            self._tokens = min(self.capacity, self._tokens + rested * self.rate)
            self._filled_at = max(self._filled_at, now)
            self._tokens -= cost
            self.passed += 1
            # While the bucket is shut it is not filled either: ``_filled_at`` then lies ahead.
            return (self._filled_at - now) + max(0.0, -self._tokens / self.rate)

    def pause(self, seconds: float) -> None:
        """Let nothing pass for so long, and no burst after it; a shorter pause does not shorten a longer one."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigurationError(f"a pause of {seconds} s must be finite and at least 0")
        with self._lock:
            until = self._monotonic() + seconds
            self.pauses += 1
            if until > self._shut_until:
                self._shut_until = until
                self._filled_at = max(self._filled_at, until)
                self._tokens = min(self._tokens, 0.0)

    def paused(self) -> float:
        """Seconds until the bucket opens again; 0 where it is open."""
        with self._lock:
            return max(0.0, self._shut_until - self._monotonic())

    async def acquire(self, cost: float = 1.0, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Wait until ``cost`` units may be used."""
        seconds = self.reserve(cost)
        # A pause may have come while this one waited.
        while seconds > 0:
            await sleep(seconds)
            seconds = self.paused()

    def wait(self, cost: float = 1.0, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Block until ``cost`` units may be used: :meth:`acquire` for threads."""
        seconds = self.reserve(cost)
        while seconds > 0:
            sleep(seconds)
            seconds = self.paused()
