"""Execution delay: the label that a signal has when its order is executed later than at the next open."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import label
from tapeline.labels.frames import Horizon
from tapeline.labels.future_return import future_return

Delay = Annotated[int, Field(ge=0, le=100_000)]
Minutes = Annotated[int, Field(ge=0, le=10_000_000)]


def delayed_labels(
    labels: pd.DataFrame, bars: pd.DataFrame, *, by_bars: int = 0, by_time: timedelta = timedelta(0)
) -> pd.DataFrame:
    """Give each bar the label of the position that its signal opens once the delay is over.

    Without a delay a signal known at the close of a bar enters at the next open. With one it enters at the first open
    that is ``by_bars`` bars after that one and at least ``by_time`` after the bar's close; its label is then the one of
    the bar before that open, outcome and ``t_end`` included. Bars count trading time, ``by_time`` counts the clock:
    over a weekend the two differ, and a delay in minutes may find that Monday's first open is the next one anyway.

    Parameters
    ----------
    labels:
        Any labels whose position enters at the open after their bar, on ``ts`` of the bars.
    bars:
        All bars with ``close_ts``, sorted by time.

    Returns
    -------
    The labels' columns on the bars whose delayed label is known, with ``entry_ts``, the open at which it enters.

    Raises
    ------
    ConfigurationError
        A delay is negative.
    DataError
        A label's time is none of the bars', or the bars are not sorted.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 2.0, 4.0, 8.0, 8.0], "close": [2.0, 4.0, 8.0, 8.0, 8.0],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> labels = future_return(bars, 1)
    >>> labels["value"].tolist(), delayed_labels(labels, bars, by_bars=2)["value"].tolist()
    ([1.0, 1.0, 0.0, 0.0], [0.0, 0.0])
    """
    if by_bars < 0 or by_time < timedelta(0):
        raise ConfigurationError(f"a delay of {by_bars} bars and {by_time} is negative", hint="use 0 or more")
    if not (bars.index.is_monotonic_increasing and bars.index.is_unique):
        raise DataError("bars are not sorted by time or repeat one", hint="read them from the clean zone")
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    rows = np.arange(len(bars))
    entry = np.maximum(
        np.searchsorted(opens, closes + pd.Timedelta(by_time).value, side="left"), rows + 1 + by_bars
    ).astype(np.int64)
    place = bars.index.get_indexer(labels.index)
    if (place < 0).any():
        raise DataError(f"the label of {labels.index[place < 0][0]} is on none of the bars")
    at = np.full(len(bars) + 1, -1, dtype=np.int64)
    at[place] = np.arange(len(labels))
    source = _source(at, entry, len(bars))
    known = source >= 0
    taken = labels.iloc[source[known]]
    taken = taken.set_axis(bars.index[known], axis=0)
    return taken.assign(entry_ts=bars.index[entry[known]])


def _source(at: NDArray[np.int64], entry: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """For each bar the row of the label that enters at its entry bar; -1 where there is none."""
    return np.where(entry < rows, at[np.minimum(entry, rows) - 1], -1)


@label(
    lookback=0,
    requires=("close_ts",),
    reference="Perold, Journal of Portfolio Management 14 (1988): the delay cost of implementation shortfall",
)
def delayed_return(bars: pd.DataFrame, horizon: Horizon = 24, delay: Delay = 1, minutes: Minutes = 0) -> pd.DataFrame:
    """Simple return over ``horizon`` bars of a position that is opened ``delay`` bars late, or ``minutes`` late.

    As :func:`tapeline.labels.future_return.future_return`, through :func:`delayed_labels`; where both delays are
    given, the later entry counts.

    Returns
    -------
    A frame on ``ts``: ``value``, ``t_end``, ``outcome``, ``entry_ts`` the open at which the position is opened.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 2.0, 4.0, 8.0], "close": [2.0, 4.0, 8.0, 8.0],
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> delayed_return(bars, horizon=1, delay=1)["value"].tolist()
    [1.0, 0.0]
    """
    return delayed_labels(future_return(bars, horizon), bars, by_bars=delay, by_time=timedelta(minutes=minutes))
