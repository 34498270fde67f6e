"""Future volatility: how much price will have moved up to the horizon, as a number and in buckets."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.registry import label
from tapeline.labels.barrier_unit import price_arrays
from tapeline.labels.binning import BinKind, Binner, bin_labels
from tapeline.labels.frames import Horizon, labels_frame

FOUR_LOG_TWO: Final = 4.0 * np.log(2.0)


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Andersen and Bollerslev, International Economic Review 39 (1998); Parkinson, J. of Business 53 (1980)",
)
def future_volatility(
    bars: pd.DataFrame, horizon: Horizon = 24, kind: Literal["realised", "parkinson"] = "realised"
) -> pd.DataFrame:
    """Realised volatility a bar over the ``horizon`` bars after the labelled one, as a share of price.

    Parameters
    ----------
    kind:
        ``realised``: root of the mean squared log return from close to close. ``parkinson``: root of the mean squared
        log range over 4 log 2.

    Returns
    -------
    A frame on ``ts``: ``value`` the volatility a bar; ``t_end`` the close of the last bar; ``outcome`` the simple
    return from the next open to that close.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> price = np.exp([0.0, 0.03, -0.01])
    >>> bars = pd.DataFrame({"open": price, "high": price, "low": price, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> future_volatility(bars, horizon=2)["value"].round(4).tolist()
    [0.0354]
    """
    opened, high, low, close = price_arrays(bars)
    rows = close.size
    decided = np.full(rows, -1, dtype=np.int64)
    value, outcome = np.full(rows, np.nan), np.full(rows, np.nan)
    if rows > horizon:
        squared = np.diff(np.log(close)) ** 2 if kind == "realised" else np.log(high[1:] / low[1:]) ** 2 / FOUR_LOG_TWO
        # Window by window: a cumulative sum would let a wild bar blur all that follow.
        windows = np.lib.stride_tricks.sliding_window_view(squared, horizon)
        ahead = rows - horizon
        value[:ahead] = np.sqrt(windows.mean(axis=1))
        outcome[:ahead] = close[horizon:] / opened[1 : ahead + 1] - 1.0
        decided[:ahead] = np.where(np.isnan(value[:ahead]), -1, np.arange(horizon, rows))
    return labels_frame(bars, decided, value, outcome)


def volatility_buckets(
    bars: pd.DataFrame,
    train_end: pd.Timestamp,
    *,
    horizon: int = 24,
    volatility: Literal["realised", "parkinson"] = "realised",
    buckets: int = 3,
    kind: BinKind = "quantile",
) -> tuple[pd.DataFrame, Binner]:
    """:func:`future_volatility` in buckets, whose edges come from labels that were known by ``train_end``.

    Returns
    -------
    The labels with ``value`` the bucket, 0 the calmest, and ``volatility`` the number; and the fitted edges, to keep
    with the model.

    Raises
    ------
    ConfigurationError, DataError
        As :func:`tapeline.labels.binning.bin_labels`; ``mdlp`` is refused, because there are no classes yet.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> price = np.exp([0.0, 0.01, 0.04, 0.06, 0.50])
    >>> bars = pd.DataFrame({"open": price, "high": price, "low": price, "close": price,
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> labels, edges = volatility_buckets(bars, ts[4], horizon=1, buckets=2)
    >>> labels["value"].tolist(), edges.trained_on
    ([0.0, 1.0, 1.0, 1.0], 3)
    """
    binned, binner = bin_labels(future_volatility(bars, horizon, volatility), train_end, kind, bins=buckets)
    named = binned.rename(columns={"value": "volatility", "bin": "value"})
    return named[["value", "t_end", "outcome", "volatility"]], binner
