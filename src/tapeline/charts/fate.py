"""What became of a finding that names a target and a stop: which of the two came first, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.event_kernels import EMPTY

TARGET: Final = 1
STOP: Final = -1
EXPIRED: Final = 0
PENDING: Final = 2
"""The bars end before anything was decided."""


@dataclass(frozen=True)
class Fate:
    """How findings ended: arrays of one length.

    Parameters
    ----------
    row:
        The bar at whose close it was decided, -1 while it is pending.
    outcome:
        ``TARGET`` (1), ``STOP`` (-1), ``EXPIRED`` (0: neither within ``max_age`` bars) or ``PENDING`` (2).
    """

    row: Rows
    outcome: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.row)


@njit(cache=True, nogil=True)
def _fates(
    high: Any, low: Any, known: Any, direction: Any, target: Any, stop: Any, max_age: Any, row: Any, outcome: Any
) -> None:
    rows = high.size
    for i in range(known.size):
        row[i], outcome[i] = EMPTY, PENDING
        last = known[i] + max_age
        for t in range(known[i] + 1, min(rows, last + 1)):
            against = low[t] <= stop[i] if direction[i] > 0 else high[t] >= stop[i]
            along = high[t] >= target[i] if direction[i] > 0 else low[t] <= target[i]
            if against or along:
                # A bar that holds both prices does not say which came first: the worse one is taken.
                row[i], outcome[i] = t, STOP if against else TARGET
                break
        if row[i] == EMPTY and last < rows:
            row[i], outcome[i] = last, EXPIRED


def fates(
    bars: pd.DataFrame | BarArrays, known: Rows, direction: NDArray[np.int8], target: Floats, stop: Floats, max_age: int
) -> Fate:
    """Whether the target or the stop of each finding was traded first after it was known.

    Parameters
    ----------
    known:
        The row at whose close each was known; it counts from the next bar on.
    direction:
        1: the target lies above and the stop below; -1: the other way round.
    target, stop:
        Prices; one that is NaN is never reached.
    max_age:
        Bars after ``known`` at which a finding expires.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 11, 12, 13, 9)
    >>> one = np.array([0, 0, 0])
    >>> found = fates(bars, one, np.ones(3, np.int8), np.array([13.5, 99.0, 99.0]), np.array([8.5, 8.5, 1.0]), 4)
    >>> found.row.tolist(), found.outcome.tolist()
    ([3, 4, 4], [1, -1, 0])
    """
    arrays = BarArrays.of(bars)
    row, outcome = np.empty(known.size, np.int64), np.empty(known.size, np.int8)
    _fates(arrays.high, arrays.low, np.ascontiguousarray(known), direction, target, stop, max_age, row, outcome)
    return Fate(row, outcome)
