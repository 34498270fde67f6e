"""Risk and reward: what a position with a stop and a target makes, in units of what it risks."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.registry import Tolerance, label
from tapeline.labels.frames import Horizon, Multiple, Window, labels_frame
from tapeline.labels.volatility import MEMORY, causal_volatility

MINUTE_NANOSECONDS = 60_000_000_000
Minutes = Annotated[int, Field(ge=0, le=10_000_000)]


@label(
    lookback=lambda unit, volatility_window: 0 if unit == "fixed" else MEMORY * volatility_window,
    requires=("close_ts",),
    reference="Lopez de Prado, Advances in Financial Machine Learning (2018), section 3.4; Tharp (1998): R multiples",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def risk_reward(
    bars: pd.DataFrame,
    side: Literal["long", "short"] = "long",
    stop: Multiple = 1.0,
    target: Multiple = 2.0,
    unit: Literal["fixed", "atr", "volatility"] = "atr",
    horizon: Horizon = 24,
    minutes: Minutes = 0,
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """First touch of a stop, a target or a time limit, for a position opened at the next bar's open.

    Inside one bar the order of its prices is unknown, so the worse is taken: a bar that holds both barriers was
    stopped. A bar that opens beyond a barrier is left at its open.

    Parameters
    ----------
    side:
        ``long`` or ``short``.
    stop, target:
        Distances from the entry: in percent of it where ``unit`` is ``fixed``, else in units of ``unit``.
    unit:
        ``atr``: Wilder's average true range. ``volatility``: the root of the exponentially weighted mean squared log
        return. Both as known at the labelled bar's close.
    horizon:
        The time limit in bars after the labelled one.
    minutes:
        Where above 0, a time limit in minutes after the labelled bar's close as well: the position is left at the
        close of the last bar that ends by then (of the entry bar at the earliest). The earlier limit counts.

    Returns
    -------
    A frame on ``ts``: ``value`` 1 (target), -1 (stop), 0 (time); ``t_end`` the close of the deciding bar; ``outcome``
    the position's simple return on the entry price; ``multiple`` that return over the risk (the stop's distance), the
    R multiple: -1 at the stop, ``target / stop`` at the target, beyond either where a bar opened there. A bar is
    absent while undecided, and where its volatility is zero or unknown.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 100.0, "high": [101.0, 101.0, 103.0], "low": 99.5, "close": 100.0,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> found = risk_reward(bars, stop=1.0, target=2.0, unit="fixed", horizon=2)
    >>> found[["value", "multiple"]].round(6).values.tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    opened, high, low, close = (
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("open", "high", "low", "close")
    )
    if unit == "fixed":
        width = np.full(close.size, 0.01)
    else:
        kind: Literal["atr", "ewm"] = "atr" if unit == "atr" else "ewm"
        width = causal_volatility(high, low, close, kind=kind, window=volatility_window)
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    limit = minutes * MINUTE_NANOSECONDS
    decided, value, outcome, multiple = _decide(
        opened, high, low, close, closes, width, horizon, limit, stop, target, 1.0 if side == "long" else -1.0
    )
    return labels_frame(bars, decided, value, outcome).assign(multiple=multiple[decided >= 0])


@njit(cache=True)
def _decide(
    opened: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    closes: NDArray[np.int64],
    width: NDArray[np.float64],
    horizon: int,
    limit: int,
    stop: float,
    target: float,
    side: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    value, outcome, multiple = np.full(rows, np.nan), np.full(rows, np.nan), np.full(rows, np.nan)
    for t in range(rows - 1):
        if not width[t] > 0.0:
            continue
        entry = opened[t + 1]
        risk = stop * width[t]
        bad = entry * (1.0 - side * risk)
        good = entry * (1.0 + side * target * width[t])
        for j in range(t + 1, min(t + horizon, rows - 1) + 1):
            # Distances along the side of the position, so that long and short read alike.
            best, worst = (high[j], low[j]) if side > 0 else (low[j], high[j])
            # The next bar's close lies beyond the limit: this one is the last that may be held.
            late = limit > 0 and j + 1 < rows and closes[j + 1] > closes[t] + limit
            # A bar that closes at the limit or beyond it is the last whatever comes after.
            late = late or (limit > 0 and closes[j] >= closes[t] + limit)
            if side * (opened[j] - bad) <= 0.0:
                touched, price, row = -1.0, opened[j], j
            elif side * (opened[j] - good) >= 0.0:
                touched, price, row = 1.0, opened[j], j
            elif side * (worst - bad) <= 0.0:
                touched, price, row = -1.0, bad, j
            elif side * (best - good) >= 0.0:
                touched, price, row = 1.0, good, j
            elif j == t + horizon or late:
                touched, price, row = 0.0, close[j], j
            else:
                continue
            # That no other bar ends within the limit is known when the next one has closed, beyond the limit.
            if touched == 0.0 and j != t + horizon and closes[j] < closes[t] + limit:
                row = j + 1
            decided[t], value[t], outcome[t] = row, touched, side * (price / entry - 1.0)
            multiple[t] = outcome[t] / risk
            break
    return decided, value, outcome, multiple
