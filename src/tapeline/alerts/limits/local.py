"""A limiter in the process: one dictionary under a lock."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tapeline.alerts.limits.limiter import Rate, Verdict, checked_key, judged

MOST_KEYS: Final = 100_000


class LocalLimiter:
    """For one worker alone: several workers would each allow the whole limit.

    Parameters
    ----------
    clock:
        Nanoseconds; injected in tests.
    most_keys:
        How many keys are remembered; beyond it the one that was not asked for the longest is forgotten.

    Examples
    --------
    >>> limiter = LocalLimiter(clock=lambda: 0)
    >>> [limiter.take("ann", Rate(2, 60.0)).allowed for _ in range(3)]
    [True, True, False]
    """

    waits: Final = False

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns, *, most_keys: int = MOST_KEYS) -> None:
        self._clock, self._most = clock, most_keys
        self._arrivals: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Count ``cost`` requests of a key, or refuse them all."""
        key = checked_key(key)
        with self._lock:
            arrival, verdict = judged(self._arrivals.get(key, 0), self._clock(), rate, cost)
            if arrival is not None:
                self._arrivals[key] = arrival
            if key in self._arrivals:
                self._arrivals.move_to_end(key)
            while len(self._arrivals) > self._most:
                self._arrivals.popitem(last=False)
            return verdict

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._arrivals.clear()
