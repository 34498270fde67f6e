"""Other futures: the same history followed by something else, to see whether the past of a computation cares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

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

    The lows become the highs: the bars stay consistent, so that a function which checks them still runs. Other
    numbers change their sign.
    """
    square = float(bars["close"].iloc[cut - 1]) ** 2
    other = {"open": "open", "high": "low", "low": "high", "close": "close"}
    numbers = _numbers(bars)
    changed = {}
    for name, values in numbers.items():
        future = square / numbers[other[name]][cut:] if name in other else -values[cut:]
        changed[name] = np.concatenate((values[:cut], future))
    return _rebuilt(bars, changed)


def shuffled(bars: pd.DataFrame, cut: int, _timeframe: Timeframe) -> pd.DataFrame:
    """The rows from ``cut`` on in another order, under their old times."""
    order = cut + np.random.default_rng(cut).permutation(len(bars) - cut)
    # A permutation may leave the next bar in place, which is the one most likely to leak.
    if order.size > 1 and order[0] == cut:
        order[[0, -1]] = order[[-1, 0]]
    rows = np.concatenate((np.arange(cut), order))
    return _rebuilt(bars, {name: values[rows] for name, values in _numbers(bars).items()})


def missing(bars: pd.DataFrame, cut: int, _timeframe: Timeframe) -> pd.DataFrame:
    """NaN in every number from row ``cut`` on."""
    return _with_numbers(bars, cut, lambda values: np.full_like(values, np.nan))


def other_times(bars: pd.DataFrame, cut: int, timeframe: Timeframe) -> pd.DataFrame:
    """The rows from ``cut`` on at other times, seven bars apart and after a pause, with prices doubled."""
    old = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    new = old.copy()
    new[cut:] = old[cut - 1] + (40 + 7 * np.arange(1, len(bars) - cut + 1)) * timeframe.nanoseconds
    changed: dict[str, Any] = {}
    for name, kind in bars.dtypes.items():
        if isinstance(kind, pd.DatetimeTZDtype):
            stamps = pd.DatetimeIndex(bars[name]).as_unit("ns").asi8 + new - old
            changed[str(name)] = pd.DatetimeIndex(stamps, tz="UTC")
    for name, values in _numbers(bars).items():
        changed[name] = np.concatenate((values[:cut], 2.0 * values[cut:]))
    return _rebuilt(bars, changed, index=pd.DatetimeIndex(new, tz="UTC", name=bars.index.name))


FUTURES: Final[Mapping[str, Future]] = {
    "times 1000": times_thousand,
    "mirrored": mirrored,
    "shuffled": shuffled,
    "missing": missing,
    "at other times": other_times,
}
"""What the history may be followed by, by name."""


def _numbers(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(name): bars[name].to_numpy(np.float64) for name, kind in bars.dtypes.items() if kind.kind in "iufb"}


def _with_numbers(bars: pd.DataFrame, cut: int, change: Callable[[np.ndarray], np.ndarray]) -> pd.DataFrame:
    numbers = _numbers(bars)
    return _rebuilt(bars, {name: np.concatenate((v[:cut], change(v[cut:]))) for name, v in numbers.items()})


def _rebuilt(bars: pd.DataFrame, changed: dict[str, Any], index: pd.Index | None = None) -> pd.DataFrame:
    # One construction instead of a copy and an assignment a column: the audit does this thousands of times.
    data = {name: changed[name] if name in changed else bars[name].array for name in bars.columns}
    return pd.DataFrame(data, index=bars.index if index is None else index)
