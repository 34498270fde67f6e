"""Point-in-time joins: the only place in Tapeline where one series may be read beside another.

A bar stamped ``ts`` (its open) is used at its close. A value joins it only if that value was known by then. Every
merge of another timeframe, instrument, release or event goes through ``asof_join``; nothing else may call
``pandas.merge_asof``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.timeframe import Timeframe


def asof_join(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    at: pd.DatetimeIndex,
    known_at: pd.DatetimeIndex,
    prefix: str = "",
    lag: timedelta = timedelta(0),
    tolerance: timedelta | None = None,
    age: bool = False,
    by: tuple[np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Add to each row of ``left`` the newest row of ``right`` that was known when the left row is used.

    Parameters
    ----------
    left, right:
        Any frames; ``right``'s columns are added to ``left``'s under ``prefix``.
    at:
        For each left row the instant at which it is used: for bars their close, ``timeframe.closes(bars.index)``.
        Must not decrease.
    known_at:
        For each right row the instant from which it could be read: a bar's close, a release's publication time.
        A right row is eligible where ``known_at + lag <= at``. Need not be sorted: of two eligible rows the one known
        later wins, and of two known at the same instant the one that stands later in ``right``.
    lag:
        A publication or transport delay to add to every ``known_at``; must not be negative.
    tolerance:
        The greatest age at which a value may still be used; older ones become missing.
    age:
        Also add ``<prefix>age``: seconds between ``known_at + lag`` and ``at``, NaN where nothing was known.
    by:
        The group of each left and of each right row, whole numbers: a row meets only rows of its own group. The left
        groups, and ``at`` within each, must not decrease.

    Returns
    -------
    A new frame with ``left``'s index and rows, in order. Numeric columns without an eligible row are NaN.

    Raises
    ------
    DataError
        Lengths differ, ``at`` decreases, an instant is missing or without a time zone, ``lag`` is negative, or a
        column would be overwritten.

    Examples
    --------
    >>> hours = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"close": [1.0, 2.0, 3.0]}, index=hours)
    >>> news = pd.DataFrame({"surprise": [0.5]})
    >>> known = pd.DatetimeIndex(["2017-01-02 02:00"], tz="UTC")
    >>> asof_join(bars, news, at=Timeframe.parse("H1").closes(bars.index), known_at=known)["surprise"].tolist()
    [nan, 0.5, 0.5]
    """
    stamps = _instants(at, "at", len(left))
    known = _instants(known_at, "known_at", len(right))
    groups = (np.zeros(len(left), dtype=np.int64), np.zeros(len(right), dtype=np.int64)) if by is None else by
    step = np.diff(groups[0])
    if (step < 0).any() or (np.diff(stamps)[step == 0] < 0).any():
        raise DataError("asof_join: 'at' decreases", hint="sort the left frame by time first")
    if lag < timedelta(0):
        raise DataError(f"asof_join: lag {lag} is negative, which would read the future", hint="use a lag of 0 or more")
    names = [f"{prefix}{column}" for column in right.columns]
    if age:
        names.append(f"{prefix}age")
    clash = [name for name in names if name in left.columns]
    if clash:
        raise DataError(f"asof_join: columns {clash} exist on the left already", hint="pass another prefix")

    known = known + pd.Timedelta(lag).value
    if by is None:
        order = np.argsort(known, kind="stable")
        position = np.searchsorted(known[order], stamps, side="right") - 1
        found = position >= 0
    else:
        # Group and time as one number: the place of the time among all times fits beside the group.
        times = np.unique(np.concatenate((known, stamps)))
        keys = [
            group * times.size + np.searchsorted(times, at) for group, at in zip(groups, (stamps, known), strict=True)
        ]
        order = np.argsort(keys[1], kind="stable")
        position = np.searchsorted(keys[1][order], keys[0], side="right") - 1
        found = position >= 0
        if len(right):
            found &= groups[1][order[np.maximum(position, 0)]] == groups[0]
    ages = np.full(stamps.size, np.nan)
    if len(right):
        row = order[np.maximum(position, 0)]
        ages[found] = (stamps[found] - known[row[found]]) / 1e9
        if tolerance is not None:
            found &= ages <= pd.Timedelta(tolerance).total_seconds()
            ages[~found] = np.nan
    else:
        row = np.zeros(stamps.size, dtype=np.intp)
    take = np.where(found, row, -1)
    added: dict[str, Any] = {f"{prefix}{name}": _take(right[name], take) for name in right.columns}
    if age:
        added[f"{prefix}age"] = ages
    return pd.concat([left, pd.DataFrame(added, index=left.index)], axis=1) if added else left.copy()


def join_timeframe(
    bars: pd.DataFrame,
    timeframe: Timeframe,
    other: pd.DataFrame,
    other_timeframe: Timeframe,
    *,
    prefix: str = "",
    tolerance: timedelta | None = None,
    age: bool = False,
) -> pd.DataFrame:
    """Join bars (or features) of another timeframe, each visible only from its own close.

    ``bars`` and ``other`` are indexed by open time; ``other`` may be of a longer or a shorter timeframe or of another
    instrument. A frame that carries ``known_at`` is held back until then where that is later than the close;
    ``tolerance`` and ``age`` are those of :func:`asof_join`.
    """
    closes = other_timeframe.closes(pd.DatetimeIndex(other.index))
    if "known_at" in other.columns:
        known = pd.DatetimeIndex(
            np.maximum(closes.as_unit("ns").asi8, pd.DatetimeIndex(other["known_at"]).as_unit("ns").asi8)
        )
        closes = known.tz_localize("UTC")
        other = other.drop(columns="known_at")
    at = timeframe.closes(pd.DatetimeIndex(bars.index))
    return asof_join(bars, other, at=at, known_at=closes, prefix=prefix, tolerance=tolerance, age=age)


def _instants(index: pd.DatetimeIndex, name: str, length: int) -> np.ndarray:
    if len(index) != length:
        raise DataError(f"asof_join: '{name}' has {len(index)} instants for {length} rows")
    if not isinstance(index, pd.DatetimeIndex) or (index.tz is None and length):
        raise DataError(f"asof_join: '{name}' must be a time-zone-aware DatetimeIndex, was {type(index).__name__}")
    if index.hasnans:
        raise DataError(f"asof_join: '{name}' has missing instants", hint="quarantine rows without a time first")
    return index.as_unit("ns").asi8


def _take(column: pd.Series, rows: np.ndarray) -> Any:
    # reindex promotes integers and booleans exactly as far as a missing value needs, for every dtype.
    return column.reset_index(drop=True).reindex(rows).array
