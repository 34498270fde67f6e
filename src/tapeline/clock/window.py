"""Quantiles of the latest values of a stream, kept sorted as values come and go."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from tapeline.core.errors import ConfigurationError


class QuantileWindow:
    """The latest ``size`` values in order, so that any quantile is one look-up.

    Examples
    --------
    >>> window = QuantileWindow(3)
    >>> for value in (5, 1, 9, 7):
    ...     window.add(value)
    >>> window.quantile(0.5), len(window)
    (7, 3)
    """

    __slots__ = ("_latest", "_size", "_sorted")

    def __init__(self, size: int) -> None:
        if not 1 <= size <= 100_000:
            raise ConfigurationError(f"window = {size} must be from 1 to 100,000")
        self._size = size
        self._latest: deque[int] = deque()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, value: int) -> None:
        """Take a value; the oldest goes where there are more than ``size``."""
        self._latest.append(value)
        insort(self._sorted, value)
        if len(self._latest) > self._size:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def quantile(self, share: float) -> int:
        """The value at this share of the order, the lower one where two are equally near; of at least one value."""
        if not self._sorted:
            raise ConfigurationError("a quantile of no values")
        if not 0 <= share <= 1:
            raise ConfigurationError(f"share = {share} must be from 0 to 1")
        return self._sorted[int(share * (len(self._sorted) - 1))]
