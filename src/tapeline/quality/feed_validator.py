"""The live feed's check: the verdict of the row check, given at once, row by row or chunk by chunk.

A batch can look at all rows before it decides which of two bars of one time stands; a feed cannot. Here the first row
of a time that passes is the one that stands, and what a row is told never changes afterwards. The whole feed at once
and any division of it into chunks give the same verdicts, because both run through the same state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar, missing_before
from tapeline.quality.checks import ALL, COMPARED, Checked, Reason, check_bars, columns_of, stamps_of, times
from tapeline.quality.feed_memory import DIFFERENT, EQUAL, TOO_OLD, FeedMemory
from tapeline.quality.tick_checks import CheckedTicks, TickFlag, check_ticks

MEMORY: Final = 1_024
"""How many rows a validator remembers unless told otherwise: less than 100 KB a symbol."""

_ANSWERS: Final = {
    EQUAL: Reason.DUPLICATE_TIME,
    DIFFERENT: Reason.CONFLICTING_TIME,
    TOO_OLD: Reason.LATE,
}
_TIES: Final = Reason.DUPLICATE_TIME | Reason.CONFLICTING_TIME | Reason.LATE

Duplicates = Literal["id", "equal", "none"]


@dataclass(frozen=True)
class FeedVerdict(Checked):
    """The verdict on each row of a chunk, in the order of arrival.

    Parameters
    ----------
    mask, n_unsorted:
        As in :class:`tapeline.quality.checks.Checked`; ``n_unsorted`` counts rows that stand after a later one that
        passed.
    missing:
        Bars: how many due bars are absent just before this one. Ticks: how many nanoseconds of trading lie between
        the newest tick before and this one. 0 for a row that was refused or is no newer than one before it.
    flags:
        Ticks: one :class:`tapeline.quality.tick_checks.TickFlag` mask a row. Bars: 0.
    """

    missing: np.ndarray
    flags: np.ndarray


class BarFeedValidator:
    """Judges the bars of one symbol as they arrive; its memory is bounded.

    The verdict on values and times is that of :func:`tapeline.quality.checks.check_bars`. Of several rows of one time
    the first that passes stands: a later one is ``DUPLICATE_TIME`` where its market values equal those, else
    ``CONFLICTING_TIME``. A row with a fault of its own takes no time's place. With all reasons asked for, exactly the
    rows pass that pass in ``check_bars``, as long as no row is ``LATE``: older than everything remembered.

    Parameters
    ----------
    timeframe:
        The bars' length.
    calendar:
        When bars are due, for ``missing``; None where continuity is not judged.
    reasons:
        What to look for.
    memory:
        How many bars that passed are remembered, the newest by time.

    Examples
    --------
    >>> validator = BarFeedValidator("H1", MarketCalendar.parse("24x5"))
    >>> def bar(text):
    ...     ts = pd.DatetimeIndex([text], tz="UTC", name="ts")
    ...     return pd.DataFrame({"open": [1.0], "high": 1.2, "low": 0.9, "close": 1.1, "volume": 5.0}, index=ts)
    >>> validator.feed(bar("2017-01-06 21:00")).passed.tolist()
    [True]
    >>> validator.feed(bar("2017-01-08 23:00")).missing.tolist()  # the market opened at 22:00
    [1]
    >>> validator.feed(bar("2017-01-08 23:00")).counts()
    {'duplicate_time': 1}
    """

    def __init__(
        self,
        timeframe: Timeframe | str,
        calendar: MarketCalendar | None = None,
        *,
        reasons: Reason = ALL,
        memory: int = MEMORY,
    ) -> None:
        self._timeframe = Timeframe.parse(timeframe)
        self._calendar = calendar
        self._reasons = reasons
        self._memory = FeedMemory(memory, len(COMPARED), unique_times=True)

    def feed(self, bars: pd.DataFrame, *, now: pd.Timestamp | None = None) -> FeedVerdict:
        """Judge the next bars; parameters and errors as in :func:`tapeline.quality.checks.check_bars`.

        A chunk whose columns are refused leaves the validator as it was.
        """
        own = check_bars(bars, self._timeframe, now=now, reasons=self._reasons & ~_TIES)
        columns = columns_of(bars)
        stamps, usable = stamps_of(times(bars))
        absent = np.full(len(bars), np.nan)
        values = np.column_stack([columns.get(name, absent) for name in COMPARED])
        fine = np.flatnonzero((own.mask == 0) & usable)
        newest = self._memory.newest
        found = self._memory.meet(stamps[fine], np.zeros(fine.size, dtype=np.int64), values[fine])
        return _settle(own.mask, stamps, fine, found, newest, self._reasons, self._missing)

    @property
    def memory_bytes(self) -> int:
        """What the remembered rows take; it never changes."""
        return self._memory.nbytes

    def _missing(self, kept: np.ndarray, newest: int | None) -> np.ndarray:
        if self._calendar is None:
            return np.zeros(len(kept), dtype=np.int64)
        return missing_before(kept, self._timeframe, self._calendar, newest=newest)


class TickFeedValidator:
    """Judges the ticks or trades of one symbol as they arrive; its memory is bounded.

    The verdict on values is that of :func:`tapeline.quality.tick_checks.check_ticks`. Many ticks may share a time, so
    that time alone makes no duplicate.

    Parameters
    ----------
    calendar:
        When the market trades, for the silence before each tick; None where it is not judged.
    duplicates:
        ``id``: a row whose time and ``id`` were seen is ``DUPLICATE_TIME`` where its values are equal too, else
        ``CONFLICTING_TIME``. ``equal``: a row equal in time and every value is ``DUPLICATE_TIME``. ``none``: not
        judged. None chooses: by ``id`` where there is such a column; else ``equal`` for each quote, as a repetition
        says nothing new, and ``none`` for each row with a trade's price, because two trades may well be alike.
    maximum_silence:
        Beyond this much trading time without a tick the next one is flagged ``AFTER_SILENCE``.
    memory:
        How many rows that passed and can be told apart are remembered, the newest by time. An older one is ``LATE``.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2014-05-01 00:00:01.787", "2014-05-01 00:00:01.813"], tz="UTC", name="ts")
    >>> ticks = pd.DataFrame({"bid": [1.38727, 1.38731], "ask": [1.38729, 1.38729]}, index=ts)
    >>> validator = TickFeedValidator()
    >>> verdict = validator.feed(ticks)
    >>> verdict.passed.tolist(), [TickFlag(int(flag)) for flag in verdict.flags]
    ([True, True], [<TickFlag: 0>, <TickFlag.CROSSED: 1>])
    >>> validator.feed(ticks.iloc[1:]).counts()
    {'duplicate_time': 1}
    """

    def __init__(
        self,
        calendar: MarketCalendar | None = None,
        *,
        duplicates: Duplicates | None = None,
        maximum_silence: pd.Timedelta = pd.Timedelta(minutes=5),  # noqa: B008 - a Timedelta is immutable
        memory: int = MEMORY,
    ) -> None:
        if duplicates not in ("id", "equal", "none", None):
            raise ConfigurationError(f"duplicates {duplicates!r} is unknown", hint="id, equal, none or None")
        self._calendar = calendar
        self._duplicates = duplicates
        self._maximum_silence = maximum_silence.value
        self._memory = FeedMemory(memory, 5, unique_times=False)

    def feed(self, ticks: pd.DataFrame, *, now: pd.Timestamp | None = None) -> FeedVerdict:
        """Judge the next ticks; a chunk whose columns are refused leaves the validator as it was.

        Raises
        ------
        SchemaError
            There is no price column, a column holds no numbers, or ``id`` is asked for and absent.
        """
        checked = check_ticks(ticks, now=now)
        return self.judge(checked, *self._keys(ticks, checked))

    def judge(self, checked: CheckedTicks, keys: np.ndarray, judged: np.ndarray) -> FeedVerdict:
        """Complete the verdict on rows that were checked by themselves, as with those of other symbols in one call.

        Parameters
        ----------
        checked:
            The rows of this symbol, in their order of arrival.
        keys, judged:
            One int64 a row that names it among those of its time, and whether it is held against the others at all.
        """
        fine = np.flatnonzero(checked.passed)
        asked = fine[judged[fine]]
        newest = self._memory.newest
        found = np.zeros(checked.mask.size, dtype=np.uint8)
        found[asked] = self._memory.meet(checked.stamps[asked], keys[asked], checked.numbers[asked])
        if fine.size:
            self._memory.advance(int(checked.stamps[fine].max()))
        verdict = _settle(checked.mask, checked.stamps, fine, found[fine], newest, ALL, self._silence)
        flags = checked.flags & ~np.uint32(TickFlag.OUT_OF_ORDER)
        flags[_behind(checked.stamps, verdict.passed, newest)] |= np.uint32(TickFlag.OUT_OF_ORDER)
        flags[verdict.missing > self._maximum_silence] |= np.uint32(TickFlag.AFTER_SILENCE)
        return replace(verdict, flags=flags)

    def _keys(self, ticks: pd.DataFrame, checked: CheckedTicks) -> tuple[np.ndarray, np.ndarray]:
        """What names each row among those of its time, and whether it is held against the others at all."""
        rows = len(ticks)
        if self._duplicates == "id" or (self._duplicates is None and "id" in ticks.columns):
            if "id" not in ticks.columns:
                raise SchemaError("duplicates are to be found by id, and the ticks have no column 'id'")
            texts = ticks["id"].astype(str).to_numpy(dtype=object)
            return pd.util.hash_array(texts, categorize=False).view(np.int64), np.ones(rows, dtype=bool)
        if self._duplicates == "none":
            return np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=bool)
        keys = pd.util.hash_pandas_object(pd.DataFrame(checked.numbers), index=False).to_numpy().view(np.int64)
        # Two trades may well be alike; two quotes that are alike say nothing new.
        return keys, np.ones(rows, dtype=bool) if self._duplicates == "equal" else ~checked.is_trade

    def _silence(self, kept: np.ndarray, newest: int | None) -> np.ndarray:
        if self._calendar is None or not len(kept):
            return np.zeros(len(kept), dtype=np.int64)
        before = np.maximum.accumulate(np.r_[kept[0] if newest is None else newest, kept])[:-1]
        ahead = np.flatnonzero(kept > before)
        out = np.zeros(len(kept), dtype=np.int64)
        out[ahead] = self._calendar.open_time(before[ahead], kept[ahead])
        return out


def check_bar_feed(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    calendar: MarketCalendar | None = None,
    *,
    now: pd.Timestamp | None = None,
    reasons: Reason = ALL,
    memory: int = MEMORY,
) -> FeedVerdict:
    """The verdict of a :class:`BarFeedValidator` on a whole feed at once, rows in their order of arrival."""
    return BarFeedValidator(timeframe, calendar, reasons=reasons, memory=memory).feed(bars, now=now)


def _settle(
    mask: np.ndarray,
    stamps: np.ndarray,
    fine: np.ndarray,
    found: np.ndarray,
    newest: int | None,
    reasons: Reason,
    continuity: Callable[[np.ndarray, int | None], np.ndarray],
) -> FeedVerdict:
    """Complete the verdict with what the memory found of the rows that are fine in themselves."""
    mask = mask.copy()
    for answer, reason in _ANSWERS.items():
        mask[fine[found == answer]] |= np.uint32(reason & reasons)
    kept = np.flatnonzero(mask == 0)
    kept = kept[np.isin(kept, fine, assume_unique=True)]
    missing = np.zeros(len(mask), dtype=np.int64)
    missing[kept] = continuity(stamps[kept], newest)
    unsorted = _behind(stamps, np.isin(np.arange(len(mask)), kept), newest)
    return FeedVerdict(
        mask, int(np.count_nonzero(unsorted)), missing=missing, flags=np.zeros(len(mask), dtype=np.uint32)
    )


def _behind(stamps: np.ndarray, kept: np.ndarray, newest: int | None) -> np.ndarray:
    """Which of the rows that passed are older than one that passed before."""
    out = np.zeros(stamps.size, dtype=bool)
    held = stamps[kept]
    if held.size:
        out[kept] = held < np.maximum.accumulate(np.r_[held[0] if newest is None else newest, held])[1:]
    return out
