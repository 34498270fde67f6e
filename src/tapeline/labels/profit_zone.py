"""Profit zones: whether price reaches a band of profit within the horizon, when it enters it and how it leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Tolerance, label
from tapeline.labels.barrier_unit import BarrierUnit, Side, price_arrays, unit_lookback, unit_width
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame


@label(
    lookback=unit_lookback,
    requires=("close_ts",),
    reference="Kaufman, Trading Systems and Methods, 6th ed. (2019): profit targets",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def profit_zone(
    bars: pd.DataFrame,
    side: Side = "long",
    near: Multiple = 1.0,
    far: Multiple = 2.0,
    unit: BarrierUnit = "atr",
    horizon: Horizon = 24,
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """Whether a position opened at the next open sees price in its profit zone up to the horizon, and what then.

    The zone lies between ``near`` and ``far`` units on the profitable side of the entry. A bar whose extreme reaches
    the near edge enters it. Price leaves it beyond the far edge when a bar's extreme reaches that, and backwards when
    a bar closes short of the near edge; the close is the last price of a bar, so the order of the two is never in
    doubt. Only the first visit counts.

    Parameters
    ----------
    near, far:
        The edges, in percent of the entry where ``unit`` is ``fixed``, else in units of ``unit``.
    unit, volatility_window:
        As for :func:`tapeline.labels.risk_reward.risk_reward`.

    Returns
    -------
    A frame on ``ts``: ``value`` 1 where the zone was entered, else 0; ``entered_bars`` the bars from the labelled one
    to the entry, ``left_bars`` those to the exit (NaN where neither came); ``left`` 1 beyond the far edge, -1
    backwards, 0 still inside at the horizon, NaN never entered; ``t_end`` the close of the bar of the exit, or of the
    last one; ``outcome`` the position's simple return at the exit (the far edge, the open where a bar opened beyond
    it, the close backwards) or at the last close. A bar is absent while that is not known.

    Raises
    ------
    ConfigurationError
        ``far`` is not beyond ``near``.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": [100.0, 101.5, 102.5, 100.0], "low": 99.0,
    ...     "close": [100.0, 101.2, 101.0, 100.0], "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> profit_zone(bars, unit="fixed", horizon=3)[["value", "entered_bars", "left_bars", "left"]].values.tolist()
    [[1.0, 1.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    if not far > near:
        raise ConfigurationError(f"profit_zone: far = {far} is not beyond near = {near}")
    width = unit_width(bars, unit, volatility_window)
    decided, values = _visits(*price_arrays(bars), width, horizon, near, far, 1.0 if side == "long" else -1.0)
    known = decided >= 0
    return labels_frame(bars, decided, values[0], values[1]).assign(
        entered_bars=values[2][known], left_bars=values[3][known], left=values[4][known]
    )


def profit_zones(
    bars: pd.DataFrame,
    edges: Sequence[float] = (1.0, 2.0, 3.0),
    *,
    side: Side = "long",
    unit: BarrierUnit = "atr",
    horizon: int = 24,
    volatility_window: int = 24,
) -> pd.DataFrame:
    """The zones between neighbouring edges side by side, zone 1 the nearest.

    Returns
    -------
    A frame on the bars' ``ts``: ``entered_<k>``, ``left_<k>``, ``entered_bars_<k>`` and ``t_end_<k>`` by zone, as in
    :func:`profit_zone`; NaN and NaT where it is not known yet.

    Raises
    ------
    ConfigurationError
        Fewer than two edges, or they do not rise.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": [100.0, 102.5, 100.0], "low": 99.0, "close": 100.0,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> profit_zones(bars, (1, 2, 3), unit="fixed", horizon=2)[["entered_1", "left_1", "entered_2"]].values[0].tolist()
    [1.0, 1.0, 1.0]
    """
    if len(edges) < 2 or any(b <= a for a, b in pairwise(edges)):
        raise ConfigurationError(f"profit_zones: edges = {list(edges)} must be two or more, and rise")
    parts = {}
    for number, (near, far) in enumerate(pairwise(edges), start=1):
        found = profit_zone(bars, side, near, far, unit, horizon, volatility_window).reindex(bars.index)
        parts[f"entered_{number}"], parts[f"left_{number}"] = found["value"], found["left"]
        parts[f"entered_bars_{number}"], parts[f"t_end_{number}"] = found["entered_bars"], found["t_end"]
    return pd.DataFrame(parts, index=bars.index)


@njit(cache=True, nogil=True)
def _visits(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    width: NDArray[np.float64],
    horizon: int,
    near: float,
    far: float,
    side: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values: entered, outcome, bars to the entry, bars to the exit, how it left."""
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    values = np.full((5, rows), np.nan)
    for t in range(rows - 1):
        if not width[t] > 0.0:
            continue
        entry = opened[t + 1]
        edge, beyond = entry * (1.0 + side * near * width[t]), entry * (1.0 + side * far * width[t])
        inside, last = 0.0, t + horizon
        for j in range(t + 1, min(last, rows - 1) + 1):
            best = high[j] if side > 0 else low[j]
            if inside == 0.0 and side * (best - edge) >= 0.0:
                inside, values[2, t] = 1.0, float(j - t)
            left, price = np.nan, close[j]
            if inside > 0.0:
                if side * (opened[j] - beyond) >= 0.0:
                    left, price = 1.0, opened[j]
                elif side * (best - beyond) >= 0.0:
                    left, price = 1.0, beyond
                elif side * (close[j] - edge) < 0.0:
                    left = -1.0
            if not np.isnan(left):
                values[3, t] = float(j - t)
            elif j == last:
                left = 0.0 if inside > 0.0 else np.nan
            else:
                continue
            decided[t], values[0, t], values[1, t] = j, inside, side * (price / entry - 1.0)
            values[4, t] = left
            break
    return decided, values
