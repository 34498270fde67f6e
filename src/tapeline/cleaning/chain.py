"""The cleaning chain: any table of bars in, clean bars out, what was refused beside them, and a report of it all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.cleaning.duplicates import remove_duplicates
from tapeline.cleaning.policy import DEFAULT, CleaningPolicy
from tapeline.cleaning.sanitizer import ChangeLog, sanitize, standard_names
from tapeline.cleaning.timestamps import Ambiguous, EpochUnit, Nonexistent, normalize_timestamps
from tapeline.core.errors import SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import ALL, Reason, check_bars, describe

TIME_COLUMNS: Final = ("ts", "time", "timestamp", "datetime", "date", "open_time")
"""Under which names the open time is looked for, the first that is there, where the index holds no times."""

_REPEATED: Final = Reason.DUPLICATE_TIME | Reason.CONFLICTING_TIME


@dataclass(frozen=True)
class Cleaned:
    """The outcome of the chain; no row is lost.

    Parameters
    ----------
    bars:
        Clean bars, as :func:`tapeline.cleaning.sanitizer.sanitize` gives them.
    refused:
        The rows that are not among them, as they came, with ``reasons``: fit for quarantine.
    report:
        One row a change: ``change``, ``rows``, ``example``, ``reason``.
    """

    bars: pd.DataFrame
    refused: pd.DataFrame
    report: pd.DataFrame


def clean(
    table: pd.DataFrame,
    timeframe: Timeframe | str,
    policy: CleaningPolicy = DEFAULT,
    *,
    calendar: MarketCalendar | None = None,
    history: pd.DataFrame | None = None,
    now: pd.Timestamp | None = None,
    unit: EpochUnit | None = None,
    zone: str | None = None,
    ambiguous: Ambiguous = "reject",
    nonexistent: Nonexistent = "reject",
) -> Cleaned:
    """Clean a table of bars from anywhere.

    In this order: names; times of any spelling to UTC; rows that fail the check (no price, not positive, high below
    low, not finite, off the grid, unfinished) are set aside; several rows of one time by the policy's rule; then all
    that :func:`tapeline.cleaning.sanitizer.sanitize` does. Cleaning what it gives changes nothing.

    Parameters
    ----------
    table:
        Columns that read as ``open high low close volume`` in any spelling; the open time as an index with a time
        zone, or in a column of :data:`TIME_COLUMNS`.
    timeframe, policy, calendar, history:
        As for :func:`~tapeline.cleaning.sanitizer.sanitize`.
    now:
        The clock: bars that close later are refused. None judges neither.
    unit, zone, ambiguous, nonexistent:
        As for :func:`~tapeline.cleaning.timestamps.normalize_timestamps`. A time without an offset needs a zone.

    Raises
    ------
    SchemaError
        A column is missing, or no times are found.
    DataError, ConfigurationError
        The unit of the times cannot be told; times have no zone; the policy lacks a calendar.

    Examples
    --------
    >>> table = pd.DataFrame({"Time": [1483351200, 1483347600, 1483347600, 1483354800], "Open": 1.0, "High": 1.2,
    ...                       "Low": [0.9, 0.9, 0.9, 1.3], "Close": 1.1, "Volume": 5.0})
    >>> done = clean(table, "H1")
    >>> len(done.bars), done.refused["reasons"].tolist()
    (2, [['high_below_low: the high lies below the low'], ['duplicate_time: the same bar, equal in every value, is \
already in the batch']])
    """
    timeframe = Timeframe.parse(timeframe)
    log = ChangeLog()
    named = standard_names(table, log)
    timed, unread = _timed(named, log, unit, zone, ambiguous, nonexistent)
    refused = [table.iloc[unread.rows].assign(reasons=_objects(unread.reasons))] if len(unread.rows) else []
    checked = check_bars(timed, timeframe, now=now, reasons=ALL & ~_REPEATED)
    passed = np.flatnonzero(checked.passed)
    place, good = unread.kept, timed
    if len(passed) < len(timed):
        bad = np.flatnonzero(checked.mask)
        reasons = _words(checked.mask[bad])
        log.add("refused_rows", bad.size, f"{timed.index[bad[0]]}: {reasons[0][0]}")
        refused.append(table.iloc[place[bad]].assign(reasons=_objects(reasons)))
        place, good = place[passed], timed.iloc[passed]
    if checked.n_unsorted:
        order = np.argsort(pd.DatetimeIndex(good.index).asi8, kind="stable")
        log.add("sorted_rows", checked.n_unsorted, "rows stood after a later bar")
        place, good = place[order], good.iloc[order]
    done = remove_duplicates(good, rule=policy.duplicates, sources=policy.sources)
    if len(done.rows):
        log.add("dropped_exact_duplicates", done.counts["exact"], str(done.removed.index[0]))
        log.add("resolved_conflicting_rows", done.counts["conflicting"], f"{policy.duplicates} of each time stands")
        why = _words(np.where(done.exact, Reason.DUPLICATE_TIME, Reason.CONFLICTING_TIME))
        refused.append(table.iloc[place[done.rows]].assign(reasons=_objects(why)))
    cleaned = sanitize(done.frame, timeframe, history=history, policy=policy, calendar=calendar)
    report = pd.concat([log.to_frame(), cleaned.report], ignore_index=True)
    aside = pd.concat(refused) if refused else table.iloc[:0].assign(reasons=pd.Series(dtype=object))
    return Cleaned(cleaned.bars, aside, report)


def _words(masks: np.ndarray) -> list[list[str]]:
    """The reasons in each mask; many rows share few of them."""
    known = {int(mask): describe(int(mask)) for mask in np.unique(masks)}
    return [known[int(mask)] for mask in masks]


def _objects(reasons: list[list[str]]) -> np.ndarray:
    """Lists as the cells of one column."""
    return np.asarray(pd.Series(reasons, dtype=object))


@dataclass(frozen=True)
class _Unread:
    """The rows of a table whose time gives no instant, and those that are left."""

    rows: np.ndarray
    reasons: list[list[str]]
    kept: np.ndarray


def _timed(
    table: pd.DataFrame,
    log: ChangeLog,
    unit: EpochUnit | None,
    zone: str | None,
    ambiguous: Ambiguous,
    nonexistent: Nonexistent,
) -> tuple[pd.DataFrame, _Unread]:
    every = np.arange(len(table))
    name = next((column for column in TIME_COLUMNS if column in table.columns), None)
    held = table.index if isinstance(table.index, pd.DatetimeIndex) else None
    if held is not None and held.tz is not None and name != "ts" and not held.hasnans:
        return table.rename_axis("ts"), _Unread(every[:0], [], every)
    if held is None and name is None:
        raise SchemaError(f"no times among the columns {list(table.columns)}", hint=f"one of {', '.join(TIME_COLUMNS)}")
    values = held if held is not None and name is None else table[name]
    read = normalize_timestamps(
        values, unit=unit, zone=zone, ambiguous=ambiguous, nonexistent=nonexistent, errors="reject"
    )
    lost = read.rejected["row"].to_numpy()
    kept = np.setdiff1d(every, lost)
    log.add("read_times", len(table), str(pd.Series(values).iloc[0]) if len(table) else "")
    words = zip(read.rejected["value"], read.rejected["reason"], strict=True)
    reasons = [[f"missing_time: the time {value!r} {reason}"] for value, reason in words]
    if len(lost):
        log.add("refused_rows", len(lost), reasons[0][0])
    timed = table.drop(columns=[name] if name else []).iloc[kept].set_axis(read.index[kept].rename("ts"), axis=0)
    return timed, _Unread(lost, reasons, kept)
