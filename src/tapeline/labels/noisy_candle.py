"""Noisy candles: bars after which price does not move enough to pay a trade, or moves both ways."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.registry import Tolerance, label
from tapeline.labels.barrier_unit import BarrierUnit, price_arrays, unit_lookback, unit_width
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame

Percent = Annotated[float, Field(ge=0, le=100)]

CLEAN, UNDER_COST, WHIPSAW, BOTH_IN_ONE_BAR = 0.0, 1.0, 2.0, 3.0
REASONS: Final = {0.0: "clean", 1.0: "range under cost", 2.0: "whipsaw", 3.0: "both sides in one bar"}
"""What each ``reason`` means."""


@label(
    lookback=unit_lookback,
    requires=("close_ts",),
    reference="Kaufman, Trading Systems and Methods, 6th ed. (2019): noise; Lopez de Prado (2018), 3.4",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def noisy_candle(
    bars: pd.DataFrame,
    horizon: Horizon = 24,
    cost: Percent = 0.02,
    size: Multiple = 1.0,
    unit: BarrierUnit = "atr",
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """Whether the label of a bar would be noise: 1 where price stays within the cost, or swings past both sides.

    Parameters
    ----------
    horizon:
        The bars after the labelled one that are looked at.
    cost:
        What a round trip costs, in percent of the next open. Where highest high less lowest low of these bars stays
        under it, no trade could have paid.
    size, unit:
        How far price goes both ways from the next open in a whipsaw: percent where ``unit`` is ``fixed``, else units
        of ``unit`` known at the labelled bar.

    Returns
    -------
    A frame on ``ts``: ``value`` 1 for noise, else 0; ``reason`` 0 clean, 1 range under the cost, 2 whipsaw, 3 one bar
    reached both sides, so that nobody knows which came first; ``range`` the highest high less the lowest low up to
    ``t_end``, as a share of the next open; ``t_end`` the close of the bar that completed a whipsaw, else of the last
    one; ``outcome`` the simple return from the next open to that close.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> high, low = [100.0, 102.0, 100.001, 100.001], [100.0, 100.0, 98.0, 100.0]
    >>> bars = pd.DataFrame({"open": 100.0, "high": high, "low": low, "close": 100.0,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> noisy_candle(bars, horizon=1, unit="fixed")["reason"].tolist()
    [0.0, 0.0, 1.0]
    >>> noisy_candle(bars, horizon=2, unit="fixed")["reason"].tolist()
    [2.0, 0.0]
    """
    width = unit_width(bars, unit, volatility_window)
    decided, reason, reach, outcome = _judge(*price_arrays(bars), width, horizon, cost / 100.0, size)
    known = decided >= 0
    return labels_frame(bars, decided, (reason > 0.0).astype(np.float64), outcome).assign(
        reason=reason[known], range=reach[known]
    )


def mark_noisy(labels: pd.DataFrame, noisy: pd.DataFrame) -> pd.DataFrame:
    """Other labels with a column ``noisy`` beside them: 1 where :func:`noisy_candle` says so.

    Both must be known before a row may be used or left out, so ``t_end`` becomes the later of the two; bars that
    either lacks are absent.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"], tz="UTC", name="ts")
    >>> early, late = ts + pd.Timedelta("1h"), ts + pd.Timedelta("2h")
    >>> marked = mark_noisy(pd.DataFrame({"value": 1.0, "t_end": early}, index=ts),
    ...     pd.DataFrame({"value": 1.0, "t_end": late}, index=ts))
    >>> marked["noisy"].tolist(), marked["t_end"].iloc[0] == late[0]
    ([1.0], True)
    """
    shared = labels.index.intersection(noisy.index)
    kept, other = labels.loc[shared], noisy.loc[shared]
    return kept.assign(noisy=other["value"], t_end=kept["t_end"].where(kept["t_end"] >= other["t_end"], other["t_end"]))


@njit(cache=True, nogil=True)
def _judge(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    width: NDArray[np.float64],
    horizon: int,
    cost: float,
    size: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    reason, reach, outcome = np.full(rows, np.nan), np.full(rows, np.nan), np.full(rows, np.nan)
    for t in range(rows - 1):
        if not width[t] > 0.0:
            continue
        entry = opened[t + 1]
        top, bottom = entry * (1.0 + size * width[t]), entry * (1.0 - size * width[t])
        highest, lowest = entry, entry
        for j in range(t + 1, min(t + horizon, rows - 1) + 1):
            before = highest >= top or lowest <= bottom
            highest, lowest = max(highest, high[j]), min(lowest, low[j])
            if highest >= top and lowest <= bottom:
                found = 2.0 if before else 3.0
            elif j == t + horizon:
                found = 1.0 if (highest - lowest) / entry < cost else 0.0
            else:
                continue
            decided[t], reason[t] = j, found
            reach[t], outcome[t] = (highest - lowest) / entry, close[j] / entry - 1.0
            break
    return decided, reason, reach, outcome
