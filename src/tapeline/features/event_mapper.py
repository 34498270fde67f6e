"""Events mapped to the bars they touch, from the instant at which each was known."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import Floats
from tapeline.features.event_calendar import touching

RELATIONS: Final = ("before", "at", "after")
EVENT_COLUMNS: Final = (
    "event_next_minutes",
    "event_next_importance",
    "event_last_minutes",
    "event_last_importance",
    "event_last_surprise",
    "event_count",
)
"""The columns of :func:`event_columns`, in order."""

_MINUTE: Final = 60e9
_NEVER: Final = np.iinfo(np.int64).max


def map_events(
    bars: pd.DataFrame,
    calendar: pd.DataFrame,
    symbol: str,
    timeframe: Timeframe,
    *,
    before: timedelta = timedelta(hours=4),
    after: timedelta = timedelta(hours=4),
    sectors: Collection[str] = (),
    minimum_importance: int = 1,
) -> pd.DataFrame:
    """The bars that each event touches, each with what was known of it at that bar's close.

    An event stands at its publication, and until that is known at its scheduled time. It touches a bar whose close
    lies from ``before`` ahead of it to ``after`` behind it, provided that a statement about it was known at that
    close. So a scheduled release touches the bars ahead of it without its figure; unscheduled news touches nothing
    before it came out; a revision shows from its own publication on; an event that was moved stands where the newest
    statement known puts it; one that was cancelled touches no bar from then on.

    Parameters
    ----------
    bars:
        Anything on the index of open times.
    calendar:
        Statements, as :func:`tapeline.features.event_calendar.parse_calendar` returns them.
    symbol:
        Whose bars these are: EURUSD is touched by events of EUR and of USD.
    before, after:
        How far ahead of an event its schedule counts, and for how long the event does; not negative.
    sectors:
        Sectors that the symbol belongs to.
    minimum_importance:
        1 to 3.

    Returns
    -------
    One row a bar and event, by bar, then event: ``ts`` (the bar's open), ``id``, ``kind``, ``relation`` (``before``:
    not yet due at the close; ``at``: within this bar; ``after``), ``minutes`` (from the event to the bar's close,
    negative ahead of it), ``importance``, ``status``, ``event_at``, ``known_at`` (of the statement used), ``actual``,
    ``forecast``, ``previous``, ``surprise`` (actual less forecast).

    Raises
    ------
    ConfigurationError
        A negative window, or an importance beyond 1 to 3.

    Examples
    --------
    >>> from tapeline.features.event_calendar import parse_calendar
    >>> out = pd.Timestamp("2017-03-15 10:00", tz="UTC")
    >>> calendar = parse_calendar(pd.DataFrame({
    ...     "id": "rate", "known_at": [out - pd.Timedelta(days=9), out], "scheduled_at": out,
    ...     "published_at": pd.DatetimeIndex([pd.NaT, out]), "status": ["scheduled", "released"],
    ...     "kind": "rate decision", "touches": [["currency:USD"]] * 2, "importance": 3, "actual": [None, 1.0],
    ...     "source": "fed"}))
    >>> ts = pd.date_range("2017-03-15 08:00", periods=3, freq="h", tz="UTC", name="ts")
    >>> mapped = map_events(pd.DataFrame(index=ts), calendar, "EURUSD", Timeframe.parse("H1"))
    >>> mapped[["relation", "minutes", "actual"]].values.tolist()
    [['before', -60.0, nan], ['before', 0.0, 1.0], ['at', 60.0, 1.0]]
    """
    if before < timedelta(0) or after < timedelta(0):
        raise ConfigurationError(f"before = {before} and after = {after} must not be negative")
    if minimum_importance not in (1, 2, 3):
        raise ConfigurationError(f"minimum_importance = {minimum_importance} must be 1, 2 or 3")
    index = pd.DatetimeIndex(bars.index)
    statements = touching(calendar, symbol, sectors)
    statements = statements[statements["importance"] >= minimum_importance].reset_index(drop=True)
    closes = timeframe.closes(index).as_unit("ns").asi8
    # A statement counts from its own known_at until the next statement about the same event is known.
    known = _nanoseconds(statements["known_at"])
    following = _nanoseconds(statements.groupby("id", sort=False)["known_at"].shift(-1))
    event_at = statements["published_at"].fillna(statements["scheduled_at"])
    event = _nanoseconds(event_at)
    counts = (statements["status"] != "cancelled").to_numpy() & (event != _NEVER)
    event = np.where(counts, event, 0)
    first = np.searchsorted(closes, np.maximum(known, event - pd.Timedelta(before).value), side="left")
    end = np.minimum(
        np.searchsorted(closes, following, side="left"),
        np.searchsorted(closes, event + pd.Timedelta(after).value, side="right"),
    )
    rows = np.where(counts, np.maximum(end - first, 0), 0)
    statement = np.repeat(np.arange(len(statements)), rows)
    bar = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows) + np.repeat(first, rows)
    order = np.lexsort((statement, bar))
    statement, bar = statement[order], bar[order]
    away = closes[bar] - event[statement]
    relation = np.searchsorted([0, timeframe.nanoseconds], away).astype(np.int64)
    taken = statements.iloc[statement].reset_index(drop=True)
    return pd.DataFrame(
        {
            "ts": index[bar],
            "id": taken["id"],
            "kind": taken["kind"],
            "relation": pd.Categorical(np.asarray(RELATIONS, dtype=object)[relation], categories=list(RELATIONS)),
            "minutes": away / _MINUTE,
            "importance": taken["importance"].to_numpy(dtype=np.int8),
            "status": taken["status"],
            "event_at": event_at.iloc[statement].reset_index(drop=True),
            "known_at": taken["known_at"],
            "actual": taken["actual"],
            "forecast": taken["forecast"],
            "previous": taken["previous"],
            "surprise": taken["actual"] - taken["forecast"],
        }
    )


def event_columns(bars: pd.DataFrame, mapped: pd.DataFrame) -> pd.DataFrame:
    """The mapped events as one row a bar: the next one, the last one, and how many touch it.

    Returns
    -------
    On the bars' index, float64: ``event_next_minutes`` until the nearest event ahead and its importance;
    ``event_last_minutes`` since the newest one behind, its importance, and its surprise (actual less forecast, as
    known at that close); NaN where no event touches the bar on that side. ``event_count``: how many touch it, 0 where
    none does. Of two events at one instant the more important counts.

    Examples
    --------
    >>> ts = pd.date_range("2017-03-15 08:00", periods=2, freq="h", tz="UTC", name="ts")
    >>> mapped = pd.DataFrame({"ts": ts[:1], "minutes": [-30.0], "importance": [3], "surprise": [np.nan]})
    >>> event_columns(pd.DataFrame(index=ts), mapped)[["event_next_minutes", "event_count"]].values.tolist()
    [[30.0, 1.0], [nan, 0.0]]
    """
    index = pd.DatetimeIndex(bars.index)
    row = index.get_indexer(pd.DatetimeIndex(mapped["ts"])) if len(mapped) else np.empty(0, dtype=np.intp)
    minutes = mapped["minutes"].to_numpy(dtype=np.float64)
    importance = mapped["importance"].to_numpy(dtype=np.float64)
    surprise = mapped["surprise"].to_numpy(dtype=np.float64)
    result = {name: np.full(len(index), np.nan) for name in EVENT_COLUMNS[:-1]}
    # Written from the farthest to the nearest, so that the nearest stands.
    order = np.lexsort((importance, -np.abs(minutes)))
    ahead, behind = order[minutes[order] <= 0], order[minutes[order] > 0]
    _write(result["event_next_minutes"], row[ahead], -minutes[ahead])
    _write(result["event_next_importance"], row[ahead], importance[ahead])
    _write(result["event_last_minutes"], row[behind], minutes[behind])
    _write(result["event_last_importance"], row[behind], importance[behind])
    _write(result["event_last_surprise"], row[behind], surprise[behind])
    result["event_count"] = np.bincount(row, minlength=len(index)).astype(np.float64)
    return pd.DataFrame(result, index=bars.index)


def _write(target: Floats, rows: np.ndarray, values: Floats) -> None:
    target[rows] = values


def _nanoseconds(column: pd.Series) -> np.ndarray:
    stamps = pd.DatetimeIndex(column).as_unit("ns")
    return np.where(stamps.isna(), _NEVER, stamps.asi8)
