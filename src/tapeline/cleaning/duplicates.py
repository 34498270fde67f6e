"""Duplicates: rows that say the same twice, or say two things under one key, resolved by a stated rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.schemas import PRICES

DuplicateRule = Literal["first", "last", "best_source", "aggregate"]
RULES: Final[tuple[DuplicateRule, ...]] = ("first", "last", "best_source", "aggregate")

_SUMMED: Final = ("volume", "tick_count", "quote_volume", "taker_buy_volume", "buy_volume")


@dataclass(frozen=True)
class Deduplicated:
    """Rows with one each key, and what was taken away.

    Parameters
    ----------
    frame:
        The rows that stand, in the order in which they came.
    removed:
        The rows that do not, as they came, in that order. With the rule ``aggregate`` they live on in a joined row.
    counts:
        ``exact`` rows equal to an earlier one in every column; ``conflicting`` further rows of a key that has
        several; ``keys`` how many keys had conflicting rows; ``without_key`` rows whose key is missing, which are all
        kept.
    rows, exact:
        The places of the removed rows among the given ones, and which of them were exact repetitions.
    """

    frame: pd.DataFrame
    removed: pd.DataFrame
    counts: dict[str, int]
    rows: np.ndarray
    exact: np.ndarray


def remove_duplicates(
    frame: pd.DataFrame,
    key: Sequence[str] = ("ts",),
    *,
    rule: DuplicateRule = "first",
    sources: Sequence[str] = (),
    source_column: str = "source",
) -> Deduplicated:
    """Keep one row a key.

    A row that equals an earlier one in every column is removed first, whatever the rule: it says nothing new. Of what
    is left under one key the rule decides. Two missing values count as equal; a missing key is equal to none.

    Parameters
    ----------
    frame:
        Any rows; the time may be the index ``ts`` or a column.
    key:
        What identifies a row: ``("ts",)`` for bars, ``("id",)`` for trades. Many trades share their time.
    rule:
        ``first`` or ``last`` as the rows stand. ``best_source``: the row of the source that stands first in
        ``sources``; sources not listed come after those; of one source, the first row. ``aggregate``: one bar of all,
        see Notes.
    sources, source_column:
        The order of trust for ``best_source``, best first, and the column that names the source.

    Returns
    -------
    Deduplicated

    Raises
    ------
    ConfigurationError
        An unknown rule, no key, or ``best_source`` without ``sources``.
    SchemaError
        A column of the key, the source column or, for ``aggregate``, a price is not there.

    Notes
    -----
    ``aggregate`` joins the rows of a key as parts of one bar, in the order in which they stand: the first open, the
    highest high, the lowest low, the last close, the sums of ``volume``, ``tick_count``, ``quote_volume``,
    ``taker_buy_volume`` and ``buy_volume`` (a missing part counts 0, all missing stays missing), the latest
    ``known_at``, the last of everything else. It is right for parts, such as what a feed wrote before and after a
    restart; for two versions of the same bar it would count volume twice, and another rule is right.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02 09:00"] * 3, tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 1.0, 3.0], "high": [2.0, 2.0, 4.0], "low": [1.0, 1.0, 2.0],
    ...                      "close": [2.0, 2.0, 3.0], "volume": [5.0, 5.0, 7.0]}, index=ts)
    >>> done = remove_duplicates(bars, rule="aggregate")
    >>> done.frame.iloc[0].tolist(), done.counts
    ([1.0, 4.0, 1.0, 3.0, 12.0], {'exact': 1, 'conflicting': 1, 'keys': 1, 'without_key': 0})
    """
    _check(frame, key, rule, sources, source_column)
    columns = {name: _column(frame, name) for name in key}
    missing = np.logical_or.reduce([column.isna().to_numpy() for column in columns.values()])
    counts = {"exact": 0, "conflicting": 0, "keys": 0, "without_key": int(missing.sum())}
    if _is_increasing(columns, missing):
        return _nothing(frame, counts)
    keys = pd.DataFrame({name: _plain(column) for name, column in columns.items()})
    tied = keys.duplicated(keep=False).to_numpy() & ~missing
    rows = np.flatnonzero(tied)
    if not rows.size:
        return _nothing(frame, counts)

    group = keys.iloc[rows].groupby(list(key), sort=False).ngroup().to_numpy()
    held = frame.iloc[rows]
    exact = held.reset_index(drop=True).assign(_group=group).duplicated().to_numpy()
    counts["exact"] = int(exact.sum())
    rows, group, held = rows[~exact], group[~exact], held[~exact]
    sizes = np.bincount(group)
    counts["conflicting"] = int(len(rows) - np.count_nonzero(sizes))
    counts["keys"] = int(np.count_nonzero(sizes > 1))

    removed = np.zeros(len(frame), dtype=bool)
    repeated = np.flatnonzero(tied)[exact]
    removed[repeated] = True
    kept = _kept(held, group, rule, sources, source_column)
    removed[rows[~kept]] = True
    out = frame[~removed]
    if rule == "aggregate" and counts["keys"]:
        out = _write_joined(out, frame, rows, group, kept, removed)
    gone = np.flatnonzero(removed)
    return Deduplicated(out, frame[removed], counts, gone, np.isin(gone, repeated))


def _nothing(frame: pd.DataFrame, counts: dict[str, int]) -> Deduplicated:
    return Deduplicated(frame, frame.iloc[:0], counts, np.empty(0, dtype=np.intp), np.empty(0, dtype=bool))


def _check(frame: pd.DataFrame, key: Sequence[str], rule: str, sources: Sequence[str], source_column: str) -> None:
    if rule not in RULES:
        raise ConfigurationError(f"duplicate rule {rule!r} is unknown", hint=f"use one of {', '.join(RULES)}")
    if isinstance(key, str) or not len(key):
        raise ConfigurationError(f"key {key!r} names no columns", hint="for instance ('ts',)")
    if rule == "best_source" and not len(sources):
        raise ConfigurationError("the rule best_source has no sources to rank", hint="name them, best first")
    needed = [*key, *((source_column,) if rule == "best_source" else ()), *(PRICES if rule == "aggregate" else ())]
    absent = [name for name in needed if name not in frame.columns and name != frame.index.name]
    if absent:
        raise SchemaError(f"the rows lack the columns {absent}")


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame.columns else frame.index.to_series()


def _plain(column: pd.Series) -> np.ndarray:
    """Instants as integers: objects would be hashed one by one."""
    return pd.DatetimeIndex(column).asi8 if column.dtype.kind == "M" else column.to_numpy()


def _is_increasing(columns: dict[str, pd.Series], missing: np.ndarray) -> bool:
    """True where one time column increases strictly: the usual case, and then there is nothing to look for."""
    if len(columns) != 1 or missing.any():
        return False
    column = next(iter(columns.values()))
    if column.dtype.kind not in "iufM":
        return False
    return bool((np.diff(_plain(column)) > 0).all())


def _kept(held: pd.DataFrame, group: np.ndarray, rule: str, sources: Sequence[str], source_column: str) -> np.ndarray:
    """One True a group."""
    place = np.arange(len(held), dtype=np.int64)
    if rule == "last":
        place = -place
    elif rule == "best_source":
        trust = {name: rank for rank, name in enumerate(sources)}
        rank = held[source_column].astype(object).map(lambda name: trust.get(name, len(trust))).to_numpy(dtype=np.int64)
        place = place + rank * max(len(held), 1)
    best = pd.Series(place).groupby(group).transform("min").to_numpy()
    return np.asarray(place == best)


def _write_joined(
    out: pd.DataFrame,
    frame: pd.DataFrame,
    rows: np.ndarray,
    group: np.ndarray,
    kept: np.ndarray,
    removed: np.ndarray,
) -> pd.DataFrame:
    several = np.bincount(group)[group] > 1
    held, group = frame.iloc[rows[several]], group[several]
    how: dict[str, str | Callable[[pd.Series], Any]] = {}
    for name in held.columns:
        if name == "open":
            how[name] = "first"
        elif name == "high" or name == "known_at":
            how[name] = "max"
        elif name == "low":
            how[name] = "min"
        elif name not in _SUMMED:
            how[name] = _last
    joined = held.reset_index(drop=True).groupby(group, sort=False).agg(how) if how else pd.DataFrame()
    for name in _SUMMED:
        if name in held.columns:
            joined[name] = held[name].reset_index(drop=True).groupby(group, sort=False).sum(min_count=1)
    target = (np.cumsum(~removed) - 1)[rows[kept & several]]
    order = group[kept[several]]
    out = out.copy()
    for name in held.columns:
        place: Any = out.columns.get_loc(name)
        values = joined.loc[order, name]
        if isinstance(out[name].dtype, pd.CategoricalDtype):
            values = values.astype(out[name].dtype)
        out.iloc[target, place] = values.to_numpy() if values.dtype.kind != "M" else values.array
    return out


def _last(values: pd.Series) -> Any:
    return values.iloc[-1]
