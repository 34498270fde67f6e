"""An array that grows at its end by a quarter at most, and knows how much of it is no longer used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Pool:
    """Rows of one dtype; what was taken once keeps its place until someone moves it.

    Examples
    --------
    >>> pool = Pool(np.dtype("f8"))
    >>> pool.append(np.ones(3)), pool.append(np.zeros(2)), pool.used
    (0, 3, 5)
    """

    def __init__(self, dtype: np.dtype[Any], width: int = 0) -> None:
        self.array: NDArray[Any] = np.zeros((0, width) if width else 0, dtype)
        self.used = self.dead = 0

    def append(self, values: NDArray[Any]) -> int:
        """Put rows at the end; where they begin."""
        begin = self.reserve(len(values))
        self.array[begin : begin + len(values)] = values
        return begin

    def reserve(self, rows: int) -> int:
        """Room at the end, not yet written; where it begins."""
        begin, end = self.used, self.used + rows
        if end > len(self.array):
            # A quarter more, so that growing costs little; exactly what is asked where that is more.
            room = max(end, len(self.array) + len(self.array) // 4 if begin else end)
            larger = np.zeros((room, *self.array.shape[1:]), self.array.dtype)
            larger[:begin] = self.array[:begin]
            self.array = larger
        self.used = end
        return begin

    def replace(self, values: NDArray[Any]) -> None:
        """Have exactly these rows."""
        self.array, self.used, self.dead = values, len(values), 0
