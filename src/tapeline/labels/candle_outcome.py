"""The outcome of the next candle, seen from the labelled one: continuation, reversal, inside or rejection."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.registry import label
from tapeline.labels.barrier_unit import price_arrays
from tapeline.labels.frames import labels_frame

CONTINUATION, REVERSAL, INSIDE, REJECTION = 1.0, -1.0, 0.0, 2.0
OUTCOMES: Final = {1.0: "continuation", -1.0: "reversal", 0.0: "inside", 2.0: "rejection"}
"""What each ``value`` means."""


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001)",
)
def candle_outcome(bars: pd.DataFrame) -> pd.DataFrame:
    """What the next candle makes of the labelled one, by where it closes and what it touched before.

    It *continues* where it closes beyond the labelled candle's range on the side of that one's body, and *reverses*
    where it closes beyond it on the other side. Where it closes within the range it was *inside* if it never left it,
    and a *rejection* if it did. A labelled candle without a body has no side, hence no label.

    Returns
    -------
    A frame on ``ts``: ``value`` 1 continuation, -1 reversal, 0 inside, 2 rejection; ``rejected`` the side of a
    rejection, 1 above, -1 below, 0 both in the one candle, whose order is unknown; NaN for the others; ``t_end`` the
    next candle's close; ``outcome`` the simple return from its open to its close.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 2.0, 3.0, 2.5, 2.4], "high": [2.0, 3.0, 3.0, 2.9, 2.6],
    ...     "low": [1.0, 2.0, 1.5, 2.2, 1.0], "close": [2.0, 3.0, 1.8, 2.4, 2.3],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> [OUTCOMES[value] for value in candle_outcome(bars)["value"]]
    ['continuation', 'reversal', 'inside', 'rejection']
    """
    opened, high, low, close = price_arrays(bars)
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    value, outcome, rejected = np.full(rows, np.nan), np.full(rows, np.nan), np.full(rows, np.nan)
    if rows > 1:
        side = np.sign(close[:-1] - opened[:-1])
        above, below = high[1:] > high[:-1], low[1:] < low[:-1]
        beyond = np.where(close[1:] > high[:-1], 1.0, np.where(close[1:] < low[:-1], -1.0, 0.0))
        left = (beyond == 0.0) & (above | below)
        value[:-1] = np.where(beyond != 0.0, beyond * side, np.where(left, REJECTION, INSIDE))
        rejected[:-1] = np.where(left, above.astype(np.float64) - below, np.nan)
        outcome[:-1] = close[1:] / opened[1:] - 1.0
        decided[:-1] = np.where(np.abs(side) == 1.0, np.arange(1, rows), -1)
    return labels_frame(bars, decided, value, outcome).assign(rejected=rejected[decided >= 0])
