"""How long the stages of an alert take: histograms that cost a few numbers and give quantiles."""

from __future__ import annotations

import math
import threading
from typing import Final

import numpy as np

STAGES: Final = ("receive", "evaluate", "durable", "sent")
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
    """

    def __init__(self) -> None:
        self._counts = {stage: np.zeros(_BUCKETS, np.int64) for stage in STAGES}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Count one."""
        place = int(math.log10(max(seconds, _LEAST) / _LEAST) * _PER_DECADE)
        with self._lock:
            self._counts[stage][min(place, _BUCKETS - 1)] += 1

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
