"""Future returns by another measure, over a benchmark or in volatility, and over many horizons at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Tolerance, label
from tapeline.labels.frames import Horizon, Window
from tapeline.labels.future_return import future_return
from tapeline.labels.volatility import MEMORY, VolatilityKind, causal_volatility


@label(
    lookback=0,
    requires=("close_ts", "{column}"),
    reference="Campbell, Lo and MacKinlay, The Econometrics of Financial Markets (1997), section 4.3",
)
def excess_return(bars: pd.DataFrame, horizon: Horizon = 24, column: str = "sp500_close") -> pd.DataFrame:
    """Log return from the next open to the close ``horizon`` bars on, less that of a benchmark over the same bars.

    The benchmark's return runs between what was known of it at the labelled bar's close and at the last bar's. A bar
    at whose ends the benchmark is unknown has no label.

    Returns
    -------
    A frame on ``ts``: ``value`` the excess log return, ``t_end``, ``outcome`` the instrument's own simple return.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 1.0, "close": [1.0, 1.0, 2.0], "index_close": [1.0, 1.0, 2.0],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> excess_return(bars, horizon=2, column="index_close")["value"].tolist()
    [0.0]
    """
    own = future_return(bars, horizon, "log")
    benchmark = bars[column].to_numpy(dtype=np.float64)
    logs = np.log(np.where(benchmark > 0.0, benchmark, np.nan))
    theirs = logs[horizon:] - logs[: max(logs.size - horizon, 0)]
    return own.assign(value=own["value"] - theirs[: len(own)]).dropna(subset=["value"])


@label(
    lookback=lambda volatility_window: MEMORY * volatility_window,
    requires=("close_ts",),
    reference="Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012), section 2",
    tolerance=Tolerance(relative=1e-6, absolute=1e-9),
)
def scaled_return(
    bars: pd.DataFrame,
    horizon: Horizon = 24,
    volatility: VolatilityKind = "ewm",
    volatility_window: Window = 24,
) -> pd.DataFrame:
    """Log return to ``horizon`` bars on, in standard deviations of a random walk over as many bars.

    The volatility is the one known at the labelled bar's close; where it is zero or unknown there is no label.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> price = np.exp([0.0, 0.1, 0.2, 0.3, 0.4])
    >>> bars = pd.DataFrame({"open": np.r_[1.0, price[:-1]], "high": price, "low": price, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> scaled_return(bars, horizon=1, volatility_window=2)["value"].round(4).tolist()
    [1.0, 1.0]
    """
    own = future_return(bars, horizon, "log")
    high, low, close = (
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("high", "low", "close")
    )
    width = causal_volatility(high, low, close, kind=volatility, window=volatility_window)[: len(own)]
    known = width > 0.0
    return own.assign(value=own["value"] / np.where(known, width, np.nan) / np.sqrt(horizon))[known]


def future_returns(
    bars: pd.DataFrame, horizons: Iterable[int], kind: Literal["simple", "log"] = "simple"
) -> pd.DataFrame:
    """The returns to many horizons side by side, each with the time at which it is known.

    Returns
    -------
    A frame on the bars' ``ts``: ``return_<h>`` and ``t_end_<h>`` by horizon; NaN and NaT where it is not known yet.

    Raises
    ------
    ConfigurationError
        A horizon is below 1 or given twice.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 2.0, 4.0], "close": [1.0, 3.0, 5.0], "close_ts": ts + pd.Timedelta("1h")},
    ...     index=ts)
    >>> future_returns(bars, (1, 2))[["return_1", "return_2"]].values.tolist()
    [[0.5, 1.5], [0.25, nan], [nan, nan]]
    """
    chosen = list(horizons)
    if len(set(chosen)) < len(chosen) or any(horizon < 1 for horizon in chosen):
        raise ConfigurationError(f"horizons = {chosen}: each must be 1 or more, and named once")
    parts = {}
    for horizon in chosen:
        labels = future_return(bars, horizon, kind).reindex(bars.index)
        parts[f"return_{horizon}"], parts[f"t_end_{horizon}"] = labels["value"], labels["t_end"]
    return pd.DataFrame(parts, index=bars.index)
