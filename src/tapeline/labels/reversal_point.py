"""Reversal points: the turning points of price, known only once price has turned. Labels, not features.

A causal feature of swings may say "a peak was confirmed n bars ago"; these labels say "this bar was a peak", which
nobody knew at that bar. They stand apart so that no feature set can name them.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.registry import Tolerance, label
from tapeline.labels.barrier_unit import BarrierUnit, price_arrays, unit_lookback, unit_width
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame

PercentStep = Annotated[float, Field(gt=0, le=100)]


@label(
    lookback=lambda unit, horizon, volatility_window: max(horizon, unit_lookback(unit, volatility_window)),
    requires=("close_ts",),
    reference="Kaufman, Trading Systems and Methods, 6th ed. (2019): swing charts",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def zigzag_reversal(
    bars: pd.DataFrame,
    size: Multiple = 3.0,
    unit: BarrierUnit = "atr",
    horizon: Horizon = 120,
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """Turning points of the zigzag over highs and lows: -1 a peak, 1 a trough, 0 neither.

    A bar is a peak where price, before it goes above the bar's high, lies a step below it, on either side of the bar
    in time: a factor of 1 + step, so that rises and falls count alike. Where the steps are equal at all bars and the
    horizon is long enough these are the points of the classical zigzag; of equal highs the first counts.

    Parameters
    ----------
    size, unit:
        The step: ``size`` percent where ``unit`` is ``fixed``, else units of ``unit`` known at the bar.
    horizon:
        How many bars to look back and ahead. A leg that is longer counts as no turning point.

    Returns
    -------
    A frame on ``ts``: ``value``; ``ambiguous`` 1 where one bar, on either side, both goes beyond the point and lies a
    step away from it, so that the order inside it would decide, or where the bar is a peak and a trough at once
    (``value`` is 0 then); ``leg`` the log move of the leg that ended at the point, NaN elsewhere; ``t_end`` the close
    of the bar that confirmed or refuted the point, which is the bar's own where the past refutes it; ``outcome`` the
    simple return from the next open to that close, 0 where it is the bar's own.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> price = np.array([100.0, 102.0, 104.0, 102.0, 100.0])
    >>> bars = pd.DataFrame({"open": price, "high": price, "low": price, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> found = zigzag_reversal(bars, size=3.0, unit="fixed", horizon=10)
    >>> found["value"].tolist(), found["t_end"].iloc[2]
    ([0.0, 0.0, -1.0, 0.0], Timestamp('2017-01-02 05:00:00+0000', tz='UTC'))
    """
    opened, high, low, close = price_arrays(bars)
    return _points(bars, opened, high, low, close, size * unit_width(bars, unit, volatility_window), horizon)


@label(
    lookback=lambda horizon: horizon,
    requires=("close_ts",),
    reference="Glattfelder, Dupuis and Olsen, Quantitative Finance 11 (2011): directional change and overshoot",
)
def directional_reversal(bars: pd.DataFrame, size: PercentStep = 0.3, horizon: Horizon = 240) -> pd.DataFrame:
    """Turning points of the closes by directional changes of ``size`` percent: -1 a peak, 1 a trough, 0 neither.

    A close is such a point where a directional change of ``size`` percent, a factor of 1 + size / 100, started from it
    and one of the other direction led to it. Closes have one order, so nothing is ambiguous.

    Returns
    -------
    As :func:`zigzag_reversal`, with ``overshoot`` for ``ambiguous``: at a point, by what factor less one the leg that
    ended there went on after its own change was confirmed (negative is impossible); NaN elsewhere.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=6, freq="1h", tz="UTC", name="ts")
    >>> price = np.array([100.0, 98.0, 101.0, 104.0, 102.0, 100.0])
    >>> bars = pd.DataFrame({"open": price, "high": price, "low": price, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> directional_reversal(bars, size=2.0, horizon=9)[["value", "overshoot"]].round(4).iloc[:4].values.tolist()
    [[0.0, nan], [1.0, 0.0004], [0.0, nan], [-1.0, 0.0404]]
    """
    opened, _, _, close = price_arrays(bars)
    found = _points(bars, opened, close, close, close, np.full(close.size, size / 100.0), horizon)
    overshoot = np.expm1(found["leg"].abs()) + 1.0
    return found.drop(columns="ambiguous").assign(overshoot=overshoot / (1.0 + size / 100.0) - 1.0)


def _points(
    bars: pd.DataFrame,
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    step: NDArray[np.float64],
    horizon: int,
) -> pd.DataFrame:
    decided, values = _turns(opened, high, low, close, step, horizon)
    known = decided >= 0
    return labels_frame(bars, decided, values[0], values[1]).assign(ambiguous=values[2][known], leg=values[3][known])


@njit(cache=True, nogil=True)
def _scan(
    far: NDArray[np.float64],
    near: NDArray[np.float64],
    point: float,
    step: float,
    first: int,
    last: int,
    forward: bool,
) -> tuple[int, float, int]:
    """Walk from ``first`` to ``last``: is ``near`` a step away before ``far`` is beyond the point? In logs, for a peak.

    1 yes, -1 no, 2 both in one bar, 0 neither came; the price that was a step away; the row at which it was decided.
    """
    towards = 1 if forward else -1
    j = first
    while (j <= last) if forward else (j >= last):
        # Of equal extremes the first in time is the point.
        beyond = far[j] > point if forward else far[j] >= point
        away = near[j] <= point - step
        if beyond and away:
            return 2, near[j], j
        if away:
            return 1, near[j], j
        if beyond:
            return -1, near[j], j
        j += towards
    return 0, np.nan, last


@njit(cache=True, nogil=True)
def _turns(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    steps: NDArray[np.float64],
    horizon: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values: peak or trough, outcome, ambiguous, the leg before."""
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    values = np.full((4, rows), np.nan)
    logs = np.log(high), np.log(low), -np.log(high), -np.log(low)
    for t in range(rows):
        if not steps[t] > 0.0:
            continue
        step = np.log1p(steps[t])
        end, side, doubt, leg, open_question = t, 0.0, 0.0, np.nan, False
        for sign in (-1.0, 1.0):
            far, near = (logs[0], logs[1]) if sign < 0 else (logs[3], logs[2])
            back, _, row = _scan(far, near, far[t], step, t - 1, max(t - horizon, 0), False)
            if back == -1 or back == 0:
                continue
            ahead, _, known = _scan(far, near, far[t], step, t + 1, min(t + horizon, rows - 1), True)
            if ahead == 0 and t + horizon > rows - 1:
                open_question = True
                break
            end = max(end, known)
            if ahead == -1 or ahead == 0:
                continue
            if back == 2 or ahead == 2 or side != 0.0:
                doubt = 1.0
            side = sign
            # The leg began at its farthest price since the last change against it.
            lowest = near[row]
            j = row
            while j >= max(t - horizon, 0) and far[j] < min(lowest + step, far[t]):
                lowest = min(lowest, near[j])
                j -= 1
            leg = -sign * (far[t] - lowest)
        if open_question:
            continue
        decided[t], values[0, t] = end, 0.0 if doubt > 0.0 else side
        values[1, t] = close[end] / opened[t + 1] - 1.0 if end > t else 0.0
        values[2, t], values[3, t] = doubt, leg if doubt == 0.0 else np.nan
    return decided, values
