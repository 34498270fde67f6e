"""How long the stages of an alert take: histograms that cost a few numbers and give quantiles."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from typing import Any, Final

import numpy as np

STAGES: Final = ("receive", "queue", "evaluate", "durable", "processing", "sent")
"""``receive``: from the venue's time of a trade to its arrival, which is the network and the difference of two clocks.
``queue``: from there until its batch is taken. ``evaluate``: kernel and processor. ``durable``: from there to the disk.
``processing``: the three before it, of batches that fired: all that is ours. ``sent``: from the firing to a channel's
yes.
"""
BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds in seconds of the buckets that are reported; one without a bound follows."""
_LEAST: Final = 1e-6
_PER_DECADE: Final = 40
_BUCKETS: Final = 8 * _PER_DECADE


class StageLatency:
    """Seconds by stage in buckets of 6 per cent, from a microsecond to 100 s. Any thread may add.

    Examples
    --------
    >>> latency = StageLatency()
    >>> for milliseconds in range(1, 101):
    ...     latency.add("durable", milliseconds / 1_000)
    >>> 0.047 < latency.quantile("durable", 0.5) < 0.054, latency.count("durable")
    (True, 100)
    >>> latency.histogram("durable")["counts"][BOUNDS.index(0.05)]
    25
    """

    def __init__(self) -> None:
        self._counts = {stage: np.zeros(_BUCKETS, np.int64) for stage in STAGES}
        self._bounded = {stage: [0] * (len(BOUNDS) + 1) for stage in STAGES}
        self._sums = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Count one; what a clock that is ahead makes negative counts as nothing."""
        seconds = max(seconds, 0.0)
        place = int(math.log10(max(seconds, _LEAST) / _LEAST) * _PER_DECADE)
        bounded = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._counts[stage][min(place, _BUCKETS - 1)] += 1
            self._bounded[stage][bounded] += 1
            self._sums[stage] += seconds

    def count(self, stage: str) -> int:
        """How many there were."""
        return int(self._counts[stage].sum())

    def quantile(self, stage: str, share: float) -> float:
        """The upper edge of the bucket that holds the quantile, in seconds; NaN where there was none."""
        with self._lock:
            reached = np.cumsum(self._counts[stage])
        if not reached[-1]:
            return math.nan
        place = int(np.searchsorted(reached, math.ceil(share * int(reached[-1]))))
        return float(_LEAST * 10 ** ((place + 1) / _PER_DECADE))

    def histogram(self, stage: str) -> dict[str, Any]:
        """``counts`` between the ``BOUNDS`` (each its own, not cumulated; the last is above all) and ``sum``."""
        with self._lock:
            return {"counts": list(self._bounded[stage]), "sum": self._sums[stage]}
