"""Time to a target: how many bars and minutes a position waits for it, with what ended the wait otherwise."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from tapeline.core.errors import DataError
from tapeline.core.registry import Tolerance, label
from tapeline.labels.barrier_unit import BarrierUnit, Side, price_arrays, unit_lookback, unit_width
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame

OptionalMultiple = Annotated[float, Field(ge=0, le=1000)]
"""A distance in units of volatility, 0 for none."""

TARGET, STOP, CENSORED, BOTH = 1.0, -1.0, 0.0, 2.0


@label(
    lookback=unit_lookback,
    requires=("close_ts",),
    reference="Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd ed. (2002), chapters 1, 8",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def time_to_target(
    bars: pd.DataFrame,
    side: Side = "long",
    target: Multiple = 1.0,
    stop: OptionalMultiple = 0.0,
    unit: BarrierUnit = "atr",
    horizon: Horizon = 24,
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """Bars from the labelled one until a position opened at the next open reaches its target.

    Parameters
    ----------
    target, stop:
        Distances from the entry, in percent of it where ``unit`` is ``fixed``, else in units of ``unit``. A stop of 0
        is none.
    horizon:
        After so many bars the wait is censored: all that is known is that it is longer.

    Returns
    -------
    A frame on ``ts``: ``value`` the bars waited (1 is the entry bar); ``minutes`` the same from the labelled bar's
    close to the deciding bar's; ``event`` 1 the target was reached, 0 censored at the horizon, -1 the stop came
    first (a competing risk), 2 one bar held both, whose order is unknown; ``t_end`` the close of the deciding bar;
    ``outcome`` the position's simple return there, at the stop where one bar held both. A bar is absent while
    undecided, and where its volatility is zero or unknown.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": [100.0, 100.0, 102.0, 100.0], "low": 99.0, "close": 100.0,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> time_to_target(bars, unit="fixed", horizon=2)[["value", "minutes", "event"]].values.tolist()
    [[2.0, 120.0, 1.0], [1.0, 60.0, 1.0]]
    """
    return _waits(bars, side, target, stop, unit, horizon, volatility_window, to_the_end=False)


def survival_table(
    bars: pd.DataFrame,
    *,
    side: Side = "long",
    target: float = 1.0,
    stop: float = 0.0,
    unit: BarrierUnit = "atr",
    horizon: int = 24,
    volatility_window: int = 24,
) -> pd.DataFrame:
    """:func:`time_to_target` with the waits that the last bar cuts off, censored there: what survival models take.

    Such a row is true when the last bar closes and is another row after the next, so it is for estimation as of that
    close and no label. ``t_end`` is the last close for these rows.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": 100.5, "low": 99.5, "close": 100.0,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> survival_table(bars, unit="fixed", horizon=9)[["value", "event"]].values.tolist()
    [[2.0, 0.0], [1.0, 0.0]]
    """
    return _waits(bars, side, target, stop, unit, horizon, volatility_window, to_the_end=True)


def survival_curve(durations: ArrayLike, events: ArrayLike) -> pd.DataFrame:
    """Kaplan-Meier estimate of the chance that the target is still waited for after each duration.

    Every ``event`` other than 1 counts as censored at its duration. With a stop that answers: how long would the wait
    be if waits that ended at the stop had gone on like the others, which is an assumption.

    Returns
    -------
    By ``duration`` at which a target was reached: ``at_risk`` the waits that lasted as long, ``reached`` those that
    ended there at the target, ``survival`` the estimate, ``error`` its standard error (Greenwood).

    Raises
    ------
    DataError
        The two differ in length, or a duration is not positive and finite.

    References
    ----------
    Kaplan and Meier, Journal of the American Statistical Association 53 (1958).

    Examples
    --------
    >>> survival_curve([1, 2, 2, 4], [1, 1, 0, 1])["survival"].tolist()
    [0.75, 0.5, 0.0]
    """
    waited, event = np.asarray(durations, dtype=np.float64), np.asarray(events, dtype=np.float64)
    if waited.shape != event.shape or waited.ndim != 1:
        raise DataError(f"{waited.size} durations for {event.size} events")
    if not (np.isfinite(waited).all() and (waited > 0).all()):
        raise DataError("a duration is not positive and finite", hint="leave out rows without one")
    reached_at = np.sort(waited[event == TARGET])
    times, reached = np.unique(reached_at, return_counts=True)
    at_risk = waited.size - np.searchsorted(np.sort(waited), times, side="left")
    survival = np.cumprod(1.0 - reached / at_risk)
    left = (at_risk - reached).astype(np.float64)
    # Where all reach the target, Greenwood's sum is unbounded and the estimate 0: its error is not defined.
    terms = np.full(times.size, np.nan)
    np.divide(reached, at_risk * left, out=terms, where=left > 0)
    return pd.DataFrame(
        {"at_risk": at_risk, "reached": reached, "survival": survival, "error": survival * np.sqrt(np.cumsum(terms))},
        index=pd.Index(times, name="duration"),
    )


def _waits(
    bars: pd.DataFrame,
    side: Side,
    target: float,
    stop: float,
    unit: BarrierUnit,
    horizon: int,
    volatility_window: int,
    *,
    to_the_end: bool,
) -> pd.DataFrame:
    width = unit_width(bars, unit, volatility_window)
    decided, event, outcome = _first_event(
        *price_arrays(bars), width, horizon, target, stop, 1.0 if side == "long" else -1.0, to_the_end
    )
    known = np.flatnonzero(decided >= 0)
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    waited = (decided - np.arange(decided.size)).astype(np.float64)
    return labels_frame(bars, decided, waited, outcome).assign(
        minutes=(closes[decided[known]] - closes[known]) / 60e9, event=event[known]
    )


@njit(cache=True, nogil=True)
def _first_event(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    width: NDArray[np.float64],
    horizon: int,
    target: float,
    stop: float,
    side: float,
    to_the_end: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    event, outcome = np.full(rows, np.nan), np.full(rows, np.nan)
    for t in range(rows - 1):
        if not width[t] > 0.0:
            continue
        entry = opened[t + 1]
        good = entry * (1.0 + side * target * width[t])
        bad = entry * (1.0 - side * stop * width[t]) if stop > 0.0 else -side * np.inf
        last = min(t + horizon, rows - 1)
        for j in range(t + 1, last + 1):
            best, worst = (high[j], low[j]) if side > 0 else (low[j], high[j])
            won, lost = side * (best - good) >= 0.0, side * (worst - bad) <= 0.0
            if side * (opened[j] - good) >= 0.0:
                came, price = 1.0, opened[j]
            elif side * (opened[j] - bad) <= 0.0:
                came, price = -1.0, opened[j]
            elif won and lost:
                came, price = 2.0, bad
            elif won:
                came, price = 1.0, good
            elif lost:
                came, price = -1.0, bad
            elif j == t + horizon or (to_the_end and j == last):
                came, price = 0.0, close[j]
            else:
                continue
            decided[t], event[t], outcome[t] = j, came, side * (price / entry - 1.0)
            break
    return decided, event, outcome
