"""The row check: which bars may go on, which may not, and why, one verdict a row.

It is the hot path of validation, the same in the batch and on the live tail. Great Expectations judges whole batches
(:mod:`tapeline.quality.gate`); this module judges rows. Nothing is dropped: what fails goes to quarantine with its
reasons (:mod:`tapeline.quality.quarantine`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.schemas import OHLCV, PRICES
from tapeline.core.timeframe import Timeframe


class Reason(enum.IntFlag):
    """Why a bar is refused; reasons combine. :data:`SENTENCES` says each in words."""

    MISSING_TIME = enum.auto()
    DUPLICATE_TIME = enum.auto()
    CONFLICTING_TIME = enum.auto()
    OFF_GRID = enum.auto()
    FUTURE = enum.auto()
    UNFINISHED = enum.auto()
    WRONG_CLOSE_TIME = enum.auto()
    KNOWN_BEFORE_CLOSE = enum.auto()
    NOT_FINITE = enum.auto()
    NOT_POSITIVE = enum.auto()
    HIGH_BELOW_LOW = enum.auto()
    OPEN_OUTSIDE = enum.auto()
    CLOSE_OUTSIDE = enum.auto()
    NEGATIVE_VOLUME = enum.auto()
    NEGATIVE_SPREAD = enum.auto()
    LATE = enum.auto()

    @property
    def code(self) -> str:
        """The reason's name as data carries it, such as ``high_below_low``."""
        return str(self.name).lower()


ALL: Final = Reason((1 << len(Reason)) - 1)
"""Every reason."""

STRUCTURAL: Final = (
    Reason.MISSING_TIME
    | Reason.DUPLICATE_TIME
    | Reason.CONFLICTING_TIME
    | Reason.OFF_GRID
    | Reason.FUTURE
    | Reason.UNFINISHED
    | Reason.WRONG_CLOSE_TIME
    | Reason.KNOWN_BEFORE_CLOSE
    | Reason.LATE
)
"""The reasons that concern a bar's time: such a row has no place in a series and never enters the raw lake."""

VALUES: Final = ALL & ~STRUCTURAL
"""The reasons that concern a bar's numbers: such a row stays in the raw lake and does not reach the clean one."""

SENTENCES: Final[Mapping[Reason, str]] = {
    Reason.MISSING_TIME: "the row has no time, or one outside the years 1678 to 2261",
    Reason.DUPLICATE_TIME: "the same bar, equal in every value, is already in the batch",
    Reason.CONFLICTING_TIME: "another bar of the same time, with other values, was kept",
    Reason.OFF_GRID: "the open time does not lie on the grid of the timeframe",
    Reason.FUTURE: "the bar opens later than the clock says it is",
    Reason.UNFINISHED: "the bar was not complete yet: it closes later than the clock says it is",
    Reason.WRONG_CLOSE_TIME: "the close time is not the open time plus the timeframe",
    Reason.KNOWN_BEFORE_CLOSE: "the bar is stamped as known before it was complete",
    Reason.NOT_FINITE: "a price is missing, infinite or not a number, or the volume is infinite or not a number",
    Reason.NOT_POSITIVE: "a price is zero or negative",
    Reason.HIGH_BELOW_LOW: "the high lies below the low",
    Reason.OPEN_OUTSIDE: "the open lies outside low to high",
    Reason.CLOSE_OUTSIDE: "the close lies outside low to high",
    Reason.NEGATIVE_VOLUME: "the volume is negative",
    Reason.NEGATIVE_SPREAD: "the spread is negative: the ask lies below the bid",
    Reason.LATE: "the row came too late for a feed to tell whether its time is taken; a batch can",
}
"""Each reason as a sentence. A sentence depends on the row alone, so that the same bad row always reads the same."""

ROUNDING: Final = 1e-6
"""The share of a price that still counts as rounding.

Adjusted and single-precision prices disagree with themselves by up to 6e-8 of the price; the smallest tick that is
quoted in practice is near 1e-5 of it. A high that lies this little below the open or the close is left to cleaning,
which repairs it; a greater disagreement is refused.
"""

QUARTER_HOUR: Final = 900_000_000_000
"""Fifteen minutes, ns: every market's session opens at a multiple of it, in UTC.

Bars are counted from the open of a session: hours of New York's shares open at 13:30 UTC, those of Mumbai's at 03:45,
and the days of a broker that follows the New York close at 21:00 or 22:00. The grid of a timeframe is therefore its
greatest common divisor with a quarter of an hour.
"""

COMPARED: Final = (*OHLCV, "spread", "tick_count")
_SLOTS_A_ROW: Final = 8
_EARLIEST: Final = pd.Timestamp.min.value
_LATEST: Final = pd.Timestamp.max.value - Timeframe.parse("W1").nanoseconds  # so that a close can be computed


@dataclass(frozen=True)
class Checked:
    """The verdict on each row of a batch, in the batch's own order.

    Parameters
    ----------
    mask:
        One ``uint32`` a row: the :class:`Reason` flags that it was refused for, 0 where it passed.
    n_unsorted:
        How many rows stood after a later one; :func:`split` puts them in order. Not a reason to refuse a row.
    """

    mask: np.ndarray
    n_unsorted: int

    @property
    def passed(self) -> np.ndarray:
        """True for each row without a reason against it."""
        return self.mask == 0

    def counts(self) -> dict[str, int]:
        """How many rows each reason was found in; reasons that were not found are left out."""
        found = {reason.code: int(np.count_nonzero(self.mask & np.uint32(reason))) for reason in Reason}
        return {code: count for code, count in found.items() if count}

    def reasons(self, row: int) -> list[str]:
        """The reasons against one row, each as ``code: sentence``; empty where it passed."""
        return describe(int(self.mask[row]))


def describe(mask: int) -> list[str]:
    """The reasons in a mask, each as ``code: sentence``.

    Examples
    --------
    >>> describe(Reason.HIGH_BELOW_LOW)
    ['high_below_low: the high lies below the low']
    """
    return [f"{reason.code}: {SENTENCES[reason]}" for reason in Reason if mask & reason]


def check_bars(
    bars: pd.DataFrame, timeframe: Timeframe | str, *, now: pd.Timestamp | None = None, reasons: Reason = ALL
) -> Checked:
    """Judge every row of a batch of bars.

    A row gets the reasons that are true of it, with two exceptions that keep the cause apart from its consequences.
    A row without a usable time gets no other reason about its time. The order of open, high, low and close is judged
    only where the four are finite (and positive, where that is asked), and open and close only where the high is not
    below the low.

    Of several rows with one time, one is kept: the first that has no fault of its own, else the first. The others are
    ``DUPLICATE_TIME`` where all their market values equal those of the kept row, else ``CONFLICTING_TIME``.

    Parameters
    ----------
    bars:
        Columns ``open high low close volume``, optionally ``spread``, ``tick_count``, ``close_ts``, ``known_at``; the
        open time as a time-zone-aware index or as column ``ts``. Order, duplicates and missing times are allowed.
        Text that reads as a number counts as that number. A missing volume is allowed: not every market reports one.
    timeframe:
        Whose grid the open times must lie on: the multiples, in UTC, of its greatest common divisor with
        :data:`QUARTER_HOUR`.
    now:
        The clock, for ``FUTURE`` and ``UNFINISHED``; neither is judged without it.
    reasons:
        What to look for. For an instrument whose price may be negative (a calendar spread, electricity) pass
        ``ALL & ~Reason.NOT_POSITIVE``.

    Raises
    ------
    SchemaError
        A column is missing, or the times are not time-zone-aware.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02 09:00", "2017-01-02 10:20"], tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 1.0, "high": [1.2, 0.8], "low": 0.9, "close": 1.1, "volume": 5.0}, index=ts)
    >>> checked = check_bars(bars, "H1")
    >>> checked.counts()
    {'off_grid': 1, 'high_below_low': 1}
    >>> checked.passed.tolist()
    [True, False]
    """
    timeframe = Timeframe.parse(timeframe)
    columns = columns_of(bars)
    stamps, usable = stamps_of(times(bars))
    mask = np.zeros(len(bars), dtype=np.uint32)
    # The order in time is looked at before anything else: most batches are sorted and unique, and that is cheap to see.
    n_unsorted, tied = _order(stamps, usable, timeframe.nanoseconds)

    _mark(mask, Reason.MISSING_TIME & reasons, ~usable)
    _mark_times(mask, bars, stamps, usable, timeframe, now, reasons)
    _mark_values(mask, columns, reasons)
    if tied.size and reasons & (Reason.DUPLICATE_TIME | Reason.CONFLICTING_TIME):
        _mark_ties(mask, columns, stamps, tied, reasons)
    return Checked(mask, n_unsorted)


def split(bars: pd.DataFrame, checked: Checked) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part a batch into what passed and what did not.

    Returns
    -------
    The good rows, indexed and sorted by ``ts`` (UTC, ns) with float64 numbers, and the bad rows as they came, in the
    order in which they came. Together they are as many as the batch.

    Raises
    ------
    ConfigurationError
        The verdict is of a batch of another length.
    """
    if len(checked.mask) != len(bars):
        raise ConfigurationError(f"the verdict is on {len(checked.mask)} rows, the batch has {len(bars)}")
    passed = checked.passed
    good, bad = bars[passed], bars[~passed]
    stamps, usable = stamps_of(times(good))
    if not usable.all():  # only where MISSING_TIME was not among the reasons asked for
        raise ConfigurationError("rows without a time cannot be sorted", hint="let the check look for MISSING_TIME")
    index = pd.DatetimeIndex(stamps.view("M8[ns]"), name="ts").tz_localize("UTC")
    numbers = {name: numbers_of(good[name]) for name in OHLCV if good[name].dtype != np.float64}
    good = good.drop(columns="ts", errors="ignore").assign(**numbers).set_axis(index, axis=0)
    if checked.n_unsorted:
        good = good.iloc[np.argsort(stamps, kind="stable")]
    return good, bad


def times(bars: pd.DataFrame, name: str = "ts") -> pd.DatetimeIndex:
    """The instants in a column, or in the index where there is no such column; SchemaError where they are none."""
    held = pd.Index(bars[name]) if name in bars.columns else bars.index
    if isinstance(held, pd.DatetimeIndex) and held.tz is not None:
        return held
    if len(held) == 0 or held.isna().all():
        return pd.DatetimeIndex([pd.NaT] * len(held), tz="UTC", name=name)
    what = f"{held.dtype} without a time zone" if isinstance(held, pd.DatetimeIndex) else str(held.dtype)
    raise SchemaError(f"the times '{name}' are {what}, expected UTC instants", hint="pd.to_datetime(..., utc=True)")


def columns_of(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    """The market values of bars as float64 arrays, by name; SchemaError where one is missing or holds no numbers."""
    absent = [name for name in OHLCV if name not in bars.columns]
    if absent:
        raise SchemaError(f"the bars lack the columns {absent}", hint="a source names them open high low close volume")
    if not bars.columns.is_unique:
        twice = sorted(set(bars.columns[bars.columns.duplicated()]))
        raise SchemaError(f"the bars have the columns {twice} twice", hint="rename or drop one of each")
    columns = {name: numbers_of(bars[name]) for name in COMPARED if name in bars.columns}
    if columns["volume"].size and bars["volume"].dtype == object:
        # A text that is no number became NaN here, which for a volume would read as 'not reported'.
        columns["volume"] = np.where(
            np.isnan(columns["volume"]) & bars["volume"].notna().to_numpy(), np.inf, columns["volume"]
        )
    return columns


def numbers_of(column: pd.Series) -> np.ndarray:
    """A column as float64; a text that is no number becomes NaN."""
    if column.dtype == np.float64:
        return np.ascontiguousarray(column.to_numpy())
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if column.dtype.kind in "Mm":
        raise SchemaError(f"column '{column.name}' holds {column.dtype}, expected numbers")
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def stamps_of(index: pd.DatetimeIndex) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds since the epoch, 0 where a row has no usable time, and whether it has one."""
    try:
        stamps = index.as_unit("ns").asi8
    except pd.errors.OutOfBoundsDatetime:  # a coarser unit can hold the year 9999, which nanoseconds cannot
        inside = (index >= pd.Timestamp.min.tz_localize("UTC")) & (index <= pd.Timestamp.max.tz_localize("UTC"))
        stamps = pd.DatetimeIndex(index.to_series().where(inside)).as_unit("ns").asi8
    usable = (stamps >= _EARLIEST) & (stamps <= _LATEST)
    return (stamps if usable.all() else np.where(usable, stamps, 0)), usable


def _order(stamps: np.ndarray, usable: np.ndarray, step: int) -> tuple[int, np.ndarray]:
    """How many rows stand after a later one, and the rows that share their time, by time and then as they came."""
    rows = None if usable.all() else np.flatnonzero(usable)
    stamps = stamps if rows is None else stamps[rows]
    ahead = np.diff(stamps)
    if (ahead > 0).all():
        return 0, np.empty(0, dtype=np.intp)
    n_unsorted = 0
    if (ahead < 0).any():
        n_unsorted = int(np.count_nonzero(stamps[1:] < np.maximum.accumulate(stamps)[:-1]))
    suspects = _crowded(stamps, step)
    if not suspects.size:
        return n_unsorted, np.empty(0, dtype=np.intp)
    order = suspects[np.argsort(stamps[suspects])]  # not stable, which is several times faster; see to ties below
    equal = np.diff(stamps[order]) == 0
    tied = order[np.r_[equal, False] | np.r_[False, equal]]
    tied = tied[np.lexsort((tied, stamps[tied]))]
    return n_unsorted, tied if rows is None else rows[tied]


def _crowded(stamps: np.ndarray, step: int) -> np.ndarray:
    """Rows that may share their time: those that are not alone in their slot of the grid.

    Counting the slots is linear and spares the sort of the many rows that are alone; where the batch is too sparse
    for a table of slots, every row is a suspect.
    """
    first, last = int(stamps.min()), int(stamps.max())  # Python's integers: their difference may exceed 64 bits
    if (last - first) // step > _SLOTS_A_ROW * stamps.size + 1024:
        return np.arange(stamps.size)
    slots = (stamps - first) // step
    return np.flatnonzero((np.bincount(slots) > 1)[slots])


def _mark(mask: np.ndarray, reason: int, where: np.ndarray) -> None:
    if reason and where.any():
        mask[where] |= np.uint32(reason)


def _mark_times(
    mask: np.ndarray,
    bars: pd.DataFrame,
    stamps: np.ndarray,
    usable: np.ndarray,
    timeframe: Timeframe,
    now: pd.Timestamp | None,
    reasons: Reason,
) -> None:
    step = math.gcd(timeframe.nanoseconds, QUARTER_HOUR)
    past_grid = stamps - stamps // step * step
    _mark(mask, Reason.OFF_GRID & reasons, usable & (past_grid != 0))
    closes = stamps + timeframe.nanoseconds
    if now is not None:
        if now.tz is None:
            raise ConfigurationError(f"now ({now}) has no time zone", hint="pass pd.Timestamp.now('UTC')")
        clock = now.as_unit("ns").value
    if now is not None and closes.size and closes.max() > clock:
        future = usable & (stamps > clock)
        _mark(mask, Reason.FUTURE & reasons, future)
        _mark(mask, Reason.UNFINISHED & reasons, usable & ~future & (closes > clock))
    for name, reason in (("close_ts", Reason.WRONG_CLOSE_TIME), ("known_at", Reason.KNOWN_BEFORE_CLOSE)):
        if name in bars.columns and reason & reasons:
            given, present = stamps_of(times(bars, name))
            wrong = given != closes if name == "close_ts" else given < closes
            _mark(mask, reason, usable & (wrong | ~present))


def _mark_values(mask: np.ndarray, columns: Mapping[str, np.ndarray], reasons: Reason) -> None:
    """Find the few rows that a strict look does not clear, and ask only those what is wrong with them."""
    opened, high, low, close = (columns[name] for name in PRICES)
    # In the order 0 < low <= open, close <= high < infinity nothing can be wrong, and no NaN stands the comparisons.
    cleared = low > 0
    for below, above in ((low, opened), (low, close), (opened, high), (close, high)):
        cleared &= below <= above
    cleared &= high < np.inf
    cleared &= ~((columns["volume"] < 0) | (columns["volume"] == np.inf))
    if "spread" in columns:
        cleared &= ~(columns["spread"] < 0)
    suspects = np.flatnonzero(~cleared)
    if suspects.size:
        found = np.zeros(suspects.size, dtype=np.uint32)
        _name_values(found, {name: values[suspects] for name, values in columns.items()}, reasons)
        mask[suspects] |= found


def _name_values(mask: np.ndarray, columns: Mapping[str, np.ndarray], reasons: Reason) -> None:
    opened, high, low, close = (columns[name] for name in PRICES)
    volume = columns["volume"]
    judged = np.isfinite(opened) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    _mark(mask, Reason.NOT_FINITE & reasons, ~judged | np.isinf(volume))
    if reasons & Reason.NOT_POSITIVE:
        smallest = np.minimum(np.minimum(opened, close), np.minimum(high, low))
        lacking = judged & ~(smallest > 0)
        _mark(mask, Reason.NOT_POSITIVE, lacking)
        judged &= ~lacking
    slack = np.abs(high) * ROUNDING
    # Comparisons with NaN are false, as wanted; infinities are kept out by 'judged'.
    with np.errstate(invalid="ignore", over="ignore"):
        crossed = judged & (high < low - slack)
        _mark(mask, Reason.HIGH_BELOW_LOW & reasons, crossed)
        if reasons & (Reason.OPEN_OUTSIDE | Reason.CLOSE_OUTSIDE):
            judged &= ~crossed
            top, bottom = high + slack, low - slack
            _mark(mask, Reason.OPEN_OUTSIDE & reasons, judged & ((opened > top) | (opened < bottom)))
            _mark(mask, Reason.CLOSE_OUTSIDE & reasons, judged & ((close > top) | (close < bottom)))
        _mark(mask, Reason.NEGATIVE_VOLUME & reasons, (volume < 0) & (volume > -np.inf))
        if "spread" in columns:
            _mark(mask, Reason.NEGATIVE_SPREAD & reasons, columns["spread"] < 0)


def _mark_ties(
    mask: np.ndarray, columns: Mapping[str, np.ndarray], stamps: np.ndarray, tied: np.ndarray, reasons: Reason
) -> None:
    """Keep one row of each time and mark the others; ``tied`` holds whole groups, each as it came."""
    # Values decide whom to keep even where only times are asked about, lest a broken bar oust the sound one.
    own = mask[tied].copy()
    _mark_values(own, {name: values[tied] for name, values in columns.items()}, VALUES)
    first = np.flatnonzero(np.r_[True, np.diff(stamps[tied]) != 0])
    group = np.cumsum(np.r_[True, np.diff(stamps[tied]) != 0]) - 1
    rank = np.arange(tied.size) + tied.size * (own != 0)
    keep = np.minimum.reduceat(rank, first) % tied.size
    kept = tied[keep][group]
    others = tied != kept
    tied, kept = tied[others], kept[others]
    same = np.ones(tied.size, dtype=bool)
    for values in columns.values():
        one, other = values[tied], values[kept]
        same &= (one == other) | (np.isnan(one) & np.isnan(other))
    mask[tied[same]] |= np.uint32(Reason.DUPLICATE_TIME & reasons)
    mask[tied[~same]] |= np.uint32(Reason.CONFLICTING_TIME & reasons)
