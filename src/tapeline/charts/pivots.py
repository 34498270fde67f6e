"""Pivots: the alternating swings that patterns are drawn through, and every run of so many of them in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.swings import Swings, Unit, find_swings

PIVOT_MEMORY: Final = 2_000
"""Bars after which a zigzag no longer depends on where the history began, as its own lookback declares."""


@dataclass(frozen=True)
class PivotRuns:
    """Every run of ``points`` consecutive pivots: arrays of shape (runs, points), in the order of confirmation.

    Parameters
    ----------
    row, price:
        The bars of the extremes and their prices.
    confirmed:
        The row at whose close each pivot was confirmed. A run was known at ``known``, that of its last pivot.
    side:
        1 where the last pivot is a high, -1 where it is a low: shape (runs,). Sides alternate.
    """

    row: Rows
    price: Floats
    confirmed: Rows
    side: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def known(self) -> Rows:
        """The row at whose close each run was known."""
        return self.confirmed[:, -1]

    @property
    def legs(self) -> Floats:
        """The signed moves from pivot to pivot: shape (runs, points - 1)."""
        return np.diff(self.price, axis=1)

    def take(self, chosen: NDArray[np.bool_] | Rows) -> PivotRuns:
        """Some of the runs."""
        return PivotRuns(self.row[chosen], self.price[chosen], self.confirmed[chosen], self.side[chosen])


def find_pivots(bars: pd.DataFrame | BarArrays, size: float = 3.0, unit: Unit = "atr", window: int = 14) -> Swings:
    """The zigzag's swings: highs and lows in turn, none of them ever moved."""
    return BarArrays.of(bars).once(find_swings, "zigzag", size=size, unit=unit, window=window)


def pivot_runs(pivots: Swings, points: int) -> PivotRuns:
    """Every run of so many consecutive pivots, as views on the pivots.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> pivots = find_pivots(example_bars(10, 14, 18, 15, 12, 16), size=20.0, unit="percent")
    >>> runs = pivot_runs(pivots, 2)
    >>> runs.price.tolist(), runs.known.tolist(), runs.side.tolist()
    ([[9.0, 19.0], [19.0, 11.0]], [3, 5], [1, -1])
    """
    if len(pivots) < points:
        none = np.empty((0, points))
        return PivotRuns(none.astype(np.int64), none, none.astype(np.int64), np.empty(0, np.int8))
    return PivotRuns(
        row=np.lib.stride_tricks.sliding_window_view(pivots.row, points),
        price=np.lib.stride_tricks.sliding_window_view(pivots.price, points),
        confirmed=np.lib.stride_tricks.sliding_window_view(pivots.confirmed, points),
        side=pivots.side[points - 1 :],
    )
