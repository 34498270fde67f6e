"""All that happened at levels, one bar at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapeline.charts import level_kernels as kernels
from tapeline.charts.levels import LevelLog, LevelStream, log_of_lines


class LevelHistory(LevelStream):
    """What :func:`tapeline.charts.levels.find_levels` says of the bars so far, one bar at a time.

    Examples
    --------
    >>> history = LevelHistory(reach=1, touches=2, window=2)
    >>> bars = [(10, 8, 9), (11, 9, 10), (10, 8.5, 9.5), (9, 7, 7.5), (9, 7.5, 8.5), (10.8, 9, 10), (9.5, 8, 8.2)]
    >>> [len(history.push(*bar)) for bar in bars][-2:], history.since(0).known.tolist()
    ([0, 1], [6])
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._max_age = int(self._rules[3])

    def push(self, high: float, low: float, close: float) -> list[Any]:
        """Take the next closed bar; the lines of the log that it wrote or whose findings it ended."""
        if self._counts[kernels.LOGGED] + kernels.LOG_MARGIN > self._log.shape[0]:
            self._log = np.concatenate((self._log, np.empty_like(self._log)))
            self._prices = np.concatenate((self._prices, np.empty_like(self._prices)))
        now = self.bars
        self._take(high, low, close)
        # What was known longer ago than a candidate lives has ended.
        recent = self._log[self._begin(now - self._max_age - 1) : self._counts[kernels.LOGGED]]
        return list(np.flatnonzero((recent[:, 4] == now) | (recent[:, 5] == now)))

    def since(self, first: int) -> LevelLog:
        """What became known at or after this bar of levels that began then, its rows counted from it."""
        begin, end = self._begin(first), self._counts[kernels.LOGGED]
        lines, prices = self._log[begin:end], self._prices[begin:end]
        chosen = lines[:, 2] >= first
        return log_of_lines(lines[chosen], prices[chosen], first)

    def _begin(self, row: int) -> int:
        return int(np.searchsorted(self._log[: self._counts[kernels.LOGGED], 4], row))
