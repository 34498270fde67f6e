"""The sanitizer: checked raw bars in, clean bars out, and a report of everything that was changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.cleaning.absent_bars import fill_bars
from tapeline.cleaning.isolation import isolation_flags
from tapeline.cleaning.outliers import hampel_flags
from tapeline.cleaning.policy import DEFAULT, CleaningPolicy
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import CLEAN_BARS
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import ALL, Reason, check_bars, split, times

_COLUMNS: Final = tuple(CLEAN_BARS.schema.names[1:])
_REPORT: Final = ("change", "rows", "example", "reason")

REASONS: Final = {
    "renamed_columns": "one table has one spelling of its columns",
    "changed_types": "numbers are float64 and times UTC nanoseconds in every clean table",
    "sorted_rows": "a bar stands after every earlier one",
    "left_out_columns": "clean bars do not have these columns",
    "assumed_arrival": "the source does not say when a bar was known: its close stands in, marked as an estimate",
    "widened_high": "the high missed the open or close by less than rounding",
    "widened_low": "the low missed the open or close by less than rounding",
    "missing_volume_to_zero": "the source gave no volume",
    "filled_absent_bars": "the bars were due by the calendar and absent; the policy repeats the close before",
    "flagged_outlier": "the bar lies far outside what the bars before it did; its values are untouched",
    "dropped_exact_duplicates": "the row equals an earlier one in every column",
    "resolved_conflicting_rows": "several rows have one time; the policy's rule chose",
    "refused_rows": "the rows fail the check: they belong in quarantine",
    "read_times": "times came as numbers, as text or with a zone",
}
"""Why each change of a report is made."""


@dataclass(frozen=True)
class Sanitized:
    """Clean bars and what was done to get them.

    Parameters
    ----------
    bars:
        The columns of :data:`tapeline.core.schemas.CLEAN_BARS`, indexed by ``ts``, sorted and unique.
    report:
        One row a kind of change: ``change`` its name, ``rows`` how many rows it touched, ``example`` the first of them
        in words, ``reason`` why it is made. No row where nothing was changed.
    """

    bars: pd.DataFrame
    report: pd.DataFrame


def sanitize(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    *,
    history: pd.DataFrame | None = None,
    reasons: Reason = ALL,
    policy: CleaningPolicy = DEFAULT,
    calendar: MarketCalendar | None = None,
) -> Sanitized:
    """Turn bars that passed the check into clean ones.

    What is repaired is only what has one right answer: names, types and order; a high or low that misses the open or
    the close by less than :data:`tapeline.quality.checks.ROUNDING`; a missing volume, which becomes 0. Rows whose
    numbers were changed are marked ``repaired``. Unusual bars are marked ``outlier`` and otherwise left alone. No bar
    is removed, none is put in unless the policy says so, and ``known_at`` stays as it is. Doing it twice changes
    nothing more.

    Parameters
    ----------
    bars:
        Bars that :func:`tapeline.quality.checks.check_bars` passed. ``close_ts`` is computed where it is absent;
        without ``known_at`` a bar counts as known at its close, marked as an estimate; a column that clean bars do not
        have is left out. The report tells each of these.
    timeframe:
        The bars' timeframe.
    history:
        Clean bars from before these, at least ``policy.lookback(timeframe)`` of them where there are that many: with
        them a run over new bars alone gives the same as a run over everything.
    reasons:
        What the bars were checked for.
    policy:
        What else may be done: fill absent bars, and who flags outliers. The default fills nothing.
    calendar:
        Which bars were due, for a policy that fills.

    Raises
    ------
    DataError
        A row does not pass the check: it belongs in quarantine, and cleaning repairs no such row.
    SchemaError
        A column is missing, or the times are not time-zone-aware.
    ConfigurationError
        The policy fills absent bars and no calendar says which were due.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02 09:00", "2017-01-02 10:00"], tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"Open": 1.0, "High": 1.2, "Low": 0.9, "Close": [1.1, 1.2000001], "Volume": 5.0}, index=ts)
    >>> clean = sanitize(bars, "H1")
    >>> clean.bars["high"].tolist(), clean.bars["repaired"].tolist()
    ([1.2, 1.2000001], [False, True])
    >>> clean.report.set_index("change")["rows"].to_dict()
    {'renamed_columns': 2, 'changed_types': 2, 'assumed_arrival': 2, 'widened_high': 1}
    """
    timeframe = Timeframe.parse(timeframe)
    log = ChangeLog()
    bars = bars.pipe(standard_names, log).pipe(_order, timeframe, reasons, log).pipe(_select, log)
    bars = bars.pipe(_arrive, timeframe, log).pipe(_repair, log).pipe(_fill, timeframe, calendar, policy, history, log)
    bars = bars.pipe(_flag, policy, history, log)
    return Sanitized(bars[[name for name in _COLUMNS if name in bars.columns]], log.to_frame())


class ChangeLog:
    """Collects the changes of one run."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, int, str]] = []

    def add(self, change: str, rows: int, example: str) -> None:
        """Record a change; one of no rows is none."""
        if rows:
            self._rows.append((change, rows, example))

    def add_rows(self, change: str, where: np.ndarray, describe: Callable[[int], str]) -> None:
        """Record the rows of a mask; the first becomes the example."""
        if where.any():
            self.add(change, int(np.count_nonzero(where)), describe(int(where.argmax())))

    def to_frame(self) -> pd.DataFrame:
        """The report: one row a kind of change."""
        change, rows, example = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        columns = (
            pd.array(change, dtype="str"),
            np.array(rows, dtype=np.int64),
            pd.array(example, dtype="str"),
            pd.array([REASONS[name] for name in change], dtype="str"),
        )
        return pd.DataFrame(dict(zip(_REPORT, columns, strict=True)))


def standard_names(bars: pd.DataFrame, log: ChangeLog) -> pd.DataFrame:
    """Bring column names to ours; only a frame that needs it pays for pyjanitor."""
    if all(name in _COLUMNS or name == "ts" for name in bars.columns):
        return bars
    import janitor

    renamed = janitor.clean_names(bars, strip_underscores="both", remove_special=True)
    if not renamed.columns.is_unique:
        raise DataError(f"the columns {list(bars.columns)} are not unique once their names are cleaned")
    changed = [f"{old} -> {new}" for old, new in zip(bars.columns, renamed.columns, strict=True) if old != new]
    log.add("renamed_columns", len(bars) if changed else 0, ", ".join(changed))
    return renamed


def _order(bars: pd.DataFrame, timeframe: Timeframe, reasons: Reason, log: ChangeLog) -> pd.DataFrame:
    """Refuse what was not checked; sort, and give times and numbers their types."""
    checked = check_bars(bars, timeframe, reasons=reasons)
    if not checked.passed.all():
        raise DataError(
            f"{np.count_nonzero(checked.mask)} of {len(bars)} bars do not pass the check: {checked.counts()}",
            hint="split them off to quarantine first",
        )
    held = times(bars)
    good, _ = split(bars, checked)
    before = bars.dtypes.astype(str)
    after = good.dtypes.astype(str)
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in good.columns if before[name] != after[name]]
    if held.dtype != good.index.dtype:
        changed.insert(0, f"ts: {held.dtype} -> {good.index.dtype}")
    log.add("changed_types", len(bars) if changed else 0, ", ".join(changed))
    if checked.n_unsorted:
        first = int(np.argmax(np.diff(held.asi8) < 0)) + 1
        log.add("sorted_rows", checked.n_unsorted, f"{held[first]} stood after a later bar")
    return good


def _select(bars: pd.DataFrame, log: ChangeLog) -> pd.DataFrame:
    unknown = [name for name in bars.columns if name not in _COLUMNS]
    log.add("left_out_columns", len(bars) if unknown else 0, ", ".join(map(str, unknown)))
    return bars.drop(columns=unknown)


def _arrive(bars: pd.DataFrame, timeframe: Timeframe, log: ChangeLog) -> pd.DataFrame:
    """Give every row the columns that say when it was known and whence it came; what is there is not touched."""
    closes = timeframe.closes(pd.DatetimeIndex(bars.index))
    assumed: dict[str, Any] = {
        "close_ts": closes,
        "known_at": closes,
        # Whoever gives known_at without saying how sure it is, is not believed to be sure.
        "known_at_is_estimate": True,
        "source": "unknown",
        "revision": np.int32(0),
    }
    absent = {name: value for name, value in assumed.items() if name not in bars.columns}
    log.add("assumed_arrival", len(bars) if absent else 0, ", ".join(absent))
    return bars.assign(**absent)


def _repair(bars: pd.DataFrame, log: ChangeLog) -> pd.DataFrame:
    opened, high, low, close, volume = (bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    raised, lowered, absent = high < top, low > bottom, np.isnan(volume)
    ts = bars.index
    # The check let these rows through, so that the correction is smaller than any price step.
    log.add_rows("widened_high", raised, lambda i: f"{ts[i]}: high {high[i]!r} -> {top[i]!r}")
    log.add_rows("widened_low", lowered, lambda i: f"{ts[i]}: low {low[i]!r} -> {bottom[i]!r}")
    log.add_rows("missing_volume_to_zero", absent, lambda i: f"{ts[i]}: volume nan -> 0.0")
    earlier = bars["repaired"].to_numpy(dtype=bool) if "repaired" in bars.columns else False
    return bars.assign(
        high=np.maximum(high, top),
        low=np.minimum(low, bottom),
        volume=np.where(absent, 0.0, volume),
        repaired=raised | lowered | absent | earlier,
    )


def _fill(
    bars: pd.DataFrame,
    timeframe: Timeframe,
    calendar: MarketCalendar | None,
    policy: CleaningPolicy,
    history: pd.DataFrame | None,
    log: ChangeLog,
) -> pd.DataFrame:
    if policy.missing.method != "forward" or not len(bars):
        return bars
    if calendar is None:
        raise ConfigurationError("the policy fills absent bars, and no calendar says which were due")
    done = fill_bars(bars, timeframe, calendar, policy.missing, history=history)
    put = done.bars["filled"].to_numpy(dtype=bool)
    if done.filled:
        log.add("filled_absent_bars", done.filled, f"{done.bars.index[int(put.argmax())]}: {done.due} bars were due")
    if not put.any() and "filled" not in bars.columns:
        return bars
    # Null and not false for the bars that were served: they read as they did before anything was ever filled.
    flags = np.full(len(put), None, dtype=object)
    flags[put] = True
    return done.bars.assign(filled=flags)


def _flag(bars: pd.DataFrame, policy: CleaningPolicy, history: pd.DataFrame | None, log: ChangeLog) -> pd.DataFrame:
    served = ~_was_filled(bars)
    judged = bars.loc[served, ["high", "low", "close"]]
    if history is not None and len(history) and len(bars):
        past = history[(history.index < bars.index[0]) & ~_was_filled(history)]
        judged = pd.concat([past[judged.columns], judged])
    found = np.zeros(len(judged), dtype=bool)
    if policy.outliers in ("hampel", "both"):
        found |= hampel_flags(judged)
    if policy.outliers in ("isolation_forest", "both"):
        found |= isolation_flags(judged)
    flags = np.zeros(len(bars), dtype=bool)
    # A bar that was put in is no observation: it is not judged, and no other is held against it.
    flags[served] = found[len(judged) - int(served.sum()) :]
    known = bars["outlier"].to_numpy(dtype=bool) if "outlier" in bars.columns else np.zeros(len(bars), dtype=bool)
    ts, high, low = bars.index, bars["high"].to_numpy(), bars["low"].to_numpy()
    log.add_rows("flagged_outlier", flags & ~known, lambda i: f"{ts[i]}: low {low[i]:.6g}, high {high[i]:.6g}")
    return bars.assign(outlier=flags)


def _was_filled(bars: pd.DataFrame) -> np.ndarray:
    if "filled" not in bars.columns:
        return np.zeros(len(bars), dtype=bool)
    return np.asarray(bars["filled"].astype("boolean").fillna(False).to_numpy(dtype=bool))
