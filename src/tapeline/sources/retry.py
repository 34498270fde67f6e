"""Trying again: capped exponential backoff with jitter, obedient to what the server asked for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tapeline.core.errors import TemporaryError
from tapeline.core.settings import NetworkSettings
from tapeline.sources.base import Failed, Throttled

Result = TypeVar("Result")


@dataclass(frozen=True)
class Retry:
    """A retry policy.

    Before try ``n + 1`` it waits a uniform random share of ``min(cap, first * 2**(n - 1))`` seconds, at least half
    of it, so that clients that failed together do not come back together ("equal jitter": M. Brooker, Exponential
    Backoff and Jitter, AWS Architecture Blog, 2015). A wait that the server asked for is kept where it is longer. If
    it is longer than ``cap`` the policy gives up at once and hands the outcome to the scheduler, which can wait
    without holding a worker.

    Parameters
    ----------
    tries:
        How often the call is made at most.
    first, cap:
        The first and the longest wait, in seconds.
    sleep, uniform:
        Injected in tests; ``uniform()`` is a random number in [0, 1).
    """

    tries: int
    first: float
    cap: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[], float] = random.random

    @classmethod
    def of(cls, network: NetworkSettings, sleep: Callable[[float], None] | None = None) -> Retry:
        """The policy that the network settings describe."""
        return cls(network.maximum_tries, network.backoff_seconds, sleep=sleep or time.sleep)

    def delay(self, attempt: int, asked: float | None = None) -> float:
        """Seconds to wait after try number ``attempt`` (from 1) has failed.

        Examples
        --------
        >>> policy = Retry(5, 1.0, cap=10.0, uniform=lambda: 1.0)
        >>> [policy.delay(n) for n in range(1, 6)]
        [1.0, 2.0, 4.0, 8.0, 10.0]
        """
        ceiling = min(self.cap, self.first * 2.0 ** (attempt - 1))
        return max(asked or 0.0, ceiling * (0.5 + 0.5 * self.uniform()))

    def run(
        self, work: Callable[[], Result], classify: Callable[[Exception], Throttled | Failed]
    ) -> Result | Throttled | Failed:
        """Call ``work``; what it raises is classified, and tried again only if time may heal it."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return work()
            except Exception as error:  # noqa: BLE001 - a library below may raise anything; classify names each case
                outcome = classify(error)
            asked = outcome.retry_after if isinstance(outcome, Throttled) else None
            heals = isinstance(outcome, Throttled) or isinstance(outcome.error, TemporaryError)
            if not heals or attempt >= self.tries or (asked or 0.0) > self.cap:
                return outcome
            self.sleep(self.delay(attempt, asked))
