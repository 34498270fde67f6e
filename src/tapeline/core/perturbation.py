"""Other futures: the same history followed by something else, to see whether the past of a computation cares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.timeframe import Timeframe

Future = Callable[[pd.DataFrame, int, Timeframe], pd.DataFrame]


def times_thousand(bars: pd.DataFrame, cut: int, _timeframe: Timeframe) -> pd.DataFrame:
    """Every number from row ``cut`` on, times 1000: moves means, extremes and everything that normalises by them.

    Examples
    --------
    >>> times_thousand(pd.DataFrame({"close": [1.0, 2.0]}), 1, Timeframe.parse("H1"))["close"].tolist()
    [1.0, 2000.0]
    """
    return _with_numbers(bars, cut, lambda values: values * 1000.0)


def mirrored(bars: pd.DataFrame, cut: int, _timeframe: Timeframe) -> pd.DataFrame:
    """Prices from row ``cut`` on turned upside down about the last known close, so that every rise is a fall.

    The lows become the highs: the bars stay consistent, so that a function which checks them still runs.
    """
    pivot = float(bars["close"].iloc[cut - 1])
    result = _with_numbers(bars, cut, lambda values: values)
    for source, target in (("open", "open"), ("high", "low"), ("low", "high"), ("close", "close")):
        values = bars[target].to_numpy(dtype=np.float64, copy=True)
        values[cut:] = pivot * pivot / bars[source].to_numpy(dtype=np.float64)[cut:]
        result[target] = values
    others = [name for name in _numbers(bars) if name not in ("open", "high", "low", "close")]
    for name in others:
        values = bars[name].to_numpy(dtype=np.float64, copy=True)
        values[cut:] = -values[cut:]
        result[name] = values
    return result


def shuffled(bars: pd.DataFrame, cut: int, _timeframe: Timeframe) -> pd.DataFrame:
    """The rows from ``cut`` on in another order, under their old times."""
    order = cut + np.random.default_rng(cut).permutation(len(bars) - cut)
    # A permutation may leave the next bar in place, which is the one most likely to leak.
    if order.size > 1 and order[0] == cut:
        order[[0, -1]] = order[[-1, 0]]
    rows = np.concatenate((np.arange(cut), order))
    result = bars.copy()
    for name in _numbers(bars):
        result[name] = bars[name].to_numpy()[rows]
    return result


def missing(bars: pd.DataFrame, cut: int, _timeframe: Timeframe) -> pd.DataFrame:
    """NaN in every number from row ``cut`` on."""
    return _with_numbers(bars, cut, lambda values: np.full_like(values, np.nan))


def other_times(bars: pd.DataFrame, cut: int, timeframe: Timeframe) -> pd.DataFrame:
    """The rows from ``cut`` on at other times, seven bars apart and after a pause, with prices doubled."""
    result = _with_numbers(bars, cut, lambda values: values * 2.0)
    old = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    new = old.copy()
    steps = np.arange(1, len(bars) - cut + 1)
    new[cut:] = old[cut - 1] + (40 + 7 * steps) * timeframe.nanoseconds
    moved = new - old
    for name in bars.columns:
        if isinstance(bars[name].dtype, pd.DatetimeTZDtype):
            stamps = pd.DatetimeIndex(bars[name]).as_unit("ns").asi8 + moved
            result[name] = pd.to_datetime(stamps, unit="ns", utc=True)
    return result.set_axis(pd.DatetimeIndex(pd.to_datetime(new, unit="ns", utc=True), name=bars.index.name), axis=0)


FUTURES: Final[Mapping[str, Future]] = {
    "times 1000": times_thousand,
    "mirrored": mirrored,
    "shuffled": shuffled,
    "missing": missing,
    "at other times": other_times,
}
"""What the history may be followed by, by name."""


def _numbers(bars: pd.DataFrame) -> list[str]:
    return [str(name) for name in bars.columns if pd.api.types.is_numeric_dtype(bars[name].dtype)]


def _with_numbers(bars: pd.DataFrame, cut: int, change: Callable[[np.ndarray], np.ndarray]) -> pd.DataFrame:
    result = bars.copy()
    for name in _numbers(bars):
        values = bars[name].to_numpy(dtype=np.float64, copy=True)
        values[cut:] = change(values[cut:])
        result[name] = values
    return result
