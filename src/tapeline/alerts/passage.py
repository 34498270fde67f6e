"""A batch as the processor passes through it: what had been heard of whom when a timer came due."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine.kernel import EVENT, TRADE, VALUE

NEVER: Final = 2**62
Key = tuple[str, str]
"""A rule's id and a symbol."""


class Taken(NamedTuple):
    """What the processor needs of a batch beside what fired, by record; see ``evaluator.Batch``.

    ``sequences`` are the feed's numbers (-1: none), ``late`` marks records found by going over a gap, ``positions``
    says how far each feed is taken with this batch. ``records`` are the kernel's codes; trades where absent.
    """

    symbols: NDArray[np.int32]
    times: NDArray[np.int64]
    prices: NDArray[np.float64]
    sequences: NDArray[np.int64]
    late: NDArray[np.bool_]
    positions: Mapping[str, int]
    records: NDArray[np.uint8] | None = None


class Passage:
    """Where the processor stands in a batch.

    A timer runs before the first record that is later than it, and after a record of its own time: so the same
    records cut into other batches meet the timers at the same places.

    Attributes
    ----------
    newest:
        The newest time at each record: time as far as it has passed.
    at:
        The record that is being taken; all before it are.
    back:
        Silent symbols that speak in this batch: the first record at which they do, and the rule.
    """

    def __init__(self, taken: Taken, watermark: int, detected_at: int) -> None:
        self.taken, self.watermark, self.detected_at = taken, watermark, detected_at
        self.newest = np.maximum.accumulate(np.maximum(taken.times, watermark))
        self.at = 0
        self.back: list[tuple[int, Key]] = []

    @cached_property
    def _spoken(self) -> NDArray[np.int32]:
        """Whose voice each record is, -1 where it is nobody's; only asked where a rule minds silence."""
        records = self.taken.records
        if records is None:
            return self.taken.symbols
        return np.where((records == TRADE) | (records == VALUE) | (records == EVENT), self.taken.symbols, -1)

    @property
    def size(self) -> int:
        """Records in the batch."""
        return int(self.newest.size)

    @property
    def late(self) -> bool:
        """Whether the record that is being taken was found by going over a gap."""
        return bool(self.taken.late[min(self.at, self.size - 1)]) if self.size else False

    def time(self, record: int) -> int:
        """How far time has passed after so many records."""
        return int(self.newest[record - 1]) if record else self.watermark

    def passed(self, due: int) -> int:
        """How many records have been taken when a timer of that time runs."""
        if due <= self.watermark:
            return self.at
        first = int(np.searchsorted(self.newest, due))
        own = first < self.size and int(self.newest[first]) == due
        return max(first + own, self.at)

    def heard(self, symbol: int, before: int) -> int:
        """When a symbol was last heard in the records before one; -1: not at all."""
        found = np.flatnonzero(self._spoken[:before] == symbol)
        return int(self.newest[found[-1]]) if found.size else -1

    def expect(self, key: Key, symbol: int, since: int) -> None:
        """Note where a silent symbol speaks again, at or after a record."""
        found = np.flatnonzero(self._spoken[since:] == symbol)
        if found.size:
            heapq.heappush(self.back, (since + int(found[0]), key))

    def voices(self) -> dict[int, int]:
        """When each symbol of the batch was last heard."""
        numbers, last = np.unique(self._spoken[::-1], return_index=True)
        times = self.newest[self.size - 1 - last]
        return {int(one): int(ts) for one, ts in zip(numbers, times, strict=True) if one >= 0}
