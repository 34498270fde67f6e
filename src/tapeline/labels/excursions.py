"""Excursions: how far price goes against a position and for it before the horizon, and when."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.registry import label
from tapeline.labels.frames import Horizon, labels_frame

Side = Literal["long", "short"]


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Sweeney, Maximum Adverse Excursion (1997)",
)
def adverse_excursion(bars: pd.DataFrame, horizon: Horizon = 24, side: Side = "long") -> pd.DataFrame:
    """The worst that a position opened at the next open sees up to the horizon, and its deepest drawdown.

    Returns
    -------
    A frame on ``ts``: ``value`` the maximum adverse excursion, the largest loss on the entry price that any bar's
    extreme would have shown, 0 or more; ``bars`` after how many bars it was reached (1 is the entry bar, 0 never);
    ``drawdown`` the largest fall from the best close since the entry (the entry included) to a later bar's worst
    price, as a share of that best; ``drawdown_bars`` the bar in which that fall ended; ``t_end`` the close of the last
    bar; ``outcome`` the simple return of the position there.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": [101.0, 106.0, 103.0], "low": [99.0, 98.0, 95.0],
    ...     "close": [100.0, 104.0, 101.0], "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> adverse_excursion(bars, horizon=2)[["value", "bars", "drawdown"]].round(4).values.tolist()
    [[0.05, 2.0, 0.0865]]
    """
    found = _measured(bars, horizon, side)
    frame = labels_frame(bars, found.decided, found.worst, found.outcome)
    known = found.decided >= 0
    return frame.assign(
        bars=found.worst_bars[known], drawdown=found.drawdown[known], drawdown_bars=found.drawdown_bars[known]
    )


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Sweeney, Maximum Adverse Excursion (1997); Faith, Way of the Turtle (2007), chapter 5: the edge ratio",
)
def favourable_excursion(bars: pd.DataFrame, horizon: Horizon = 24, side: Side = "long") -> pd.DataFrame:
    """The best that a position opened at the next open sees up to the horizon.

    Returns
    -------
    A frame on ``ts``: ``value`` the maximum favourable excursion, the largest gain on the entry price that any bar's
    extreme would have shown, 0 or more; ``bars`` after how many bars it was reached (1 is the entry bar, 0 never);
    ``edge`` it over the maximum adverse excursion, NaN where there is none; ``t_end``; ``outcome`` the simple return of
    the position at the horizon. For the edge ratio of many labels divide the mean of the one by the mean of the other:
    :func:`edge_ratio`.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": [101.0, 106.0, 103.0], "low": [99.0, 98.0, 95.0],
    ...     "close": [100.0, 104.0, 101.0], "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> favourable_excursion(bars, horizon=2)[["value", "bars", "edge"]].round(4).values.tolist()
    [[0.06, 1.0, 1.2]]
    """
    found = _measured(bars, horizon, side)
    frame = labels_frame(bars, found.decided, found.best, found.outcome)
    known = found.decided >= 0
    against = found.worst[known]
    edge = np.full(against.size, np.nan)
    np.divide(found.best[known], against, out=edge, where=against > 0.0)
    return frame.assign(bars=found.best_bars[known], edge=edge)


def edge_ratio(favourable: pd.DataFrame, adverse: pd.DataFrame) -> float:
    """Mean favourable over mean adverse excursion of the same bars; above 1, price tends to go the position's way.

    NaN where there is no bar with both, or no adverse excursion at all.

    Examples
    --------
    >>> edge_ratio(pd.DataFrame({"value": [0.02, 0.04]}), pd.DataFrame({"value": [0.01, 0.02]}))
    2.0
    """
    shared = favourable.index.intersection(adverse.index)
    against = float(adverse.loc[shared, "value"].mean())
    return float(favourable.loc[shared, "value"].mean()) / against if against > 0.0 else float("nan")


class _Measured:
    """What the kernel found, by bar."""

    def __init__(self, decided: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        self.decided = decided
        self.worst, self.worst_bars, self.best, self.best_bars, self.drawdown, self.drawdown_bars, self.outcome = values


def _measured(bars: pd.DataFrame, horizon: int, side: Side) -> _Measured:
    opened, high, low, close = (
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("open", "high", "low", "close")
    )
    return _Measured(*_excursions(opened, high, low, close, horizon, 1.0 if side == "long" else -1.0))


@njit(cache=True)
def _excursions(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    horizon: int,
    side: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    values = np.full((7, rows), np.nan)
    for t in range(rows - horizon):
        entry = opened[t + 1]
        worst, worst_bars, best, best_bars, drawdown, drawdown_bars = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        top = entry
        for j in range(t + 1, t + horizon + 1):
            good, bad = (high[j], low[j]) if side > 0 else (low[j], high[j])
            gain, loss = side * (good / entry - 1.0), side * (1.0 - bad / entry)
            if loss > worst:
                worst, worst_bars = loss, float(j - t)
            if gain > best:
                best, best_bars = gain, float(j - t)
            # Against the best close before this bar: which extreme inside a bar came first is unknown.
            fall = side * (top - bad) / top
            if fall > drawdown:
                drawdown, drawdown_bars = fall, float(j - t)
            if side * (close[j] - top) > 0.0:
                top = close[j]
        decided[t] = t + horizon
        values[0, t], values[1, t], values[2, t], values[3, t] = worst, worst_bars, best, best_bars
        values[4, t], values[5, t] = drawdown, drawdown_bars
        values[6, t] = side * (close[t + horizon] / entry - 1.0)
    return decided, values
