"""Time bars: one bar an interval of the UTC grid, complete when the clock has passed its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
from numba import njit

from tapeline.candles.candle_type import CandleType, Kernel, Push, require
from tapeline.candles.forming import (
    CLOSED_UNTIL,
    FAMILY_FLOATS,
    FAMILY_INTEGERS,
    NEVER,
    OPTION,
    OUT_EXTRA,
    emit,
    grown,
    loaded,
    nothing,
    one_row,
    refuses,
    started,
    store,
    views_at,
)
from tapeline.candles.records import Floats, Integers, Records
from tapeline.core.errors import DataError
from tapeline.core.timeframe import Timeframe

EmptyPolicy = Literal["skip", "flag", "previous_close"]

MAXIMUM_FILL: Final = 5_000_000
"""Empty bars that one call may add: a single wrong time stamp must not fill the memory."""

_LENGTH, _OFFSET = OPTION, OPTION + 1
_END: Final = FAMILY_INTEGERS
_FILLED_TO: Final = FAMILY_INTEGERS + 1
_LAST_CLOSE: Final = FAMILY_FLOATS
_FOUR_DAYS: Final = 345_600_000_000_000


@dataclass(frozen=True)
class TimeCandles(CandleType):
    """Bars of equal length on the UTC grid (weeks begin on Monday 00:00).

    A bar holds the ticks with ``ts <= tick < ts + timeframe``. It is complete at the first record that begins at its
    end or later, at a finer bar that closes exactly at its end, or when a clock says so.

    Parameters
    ----------
    timeframe:
        A name such as ``M1`` or a :class:`~tapeline.core.timeframe.Timeframe`.
    empty:
        What becomes of an interval without a tick between two that have one, or before the clock. ``skip``: no bar.
        ``flag``: a bar with NaN prices, volume 0 and ``filled`` true. ``previous_close``: the same with all four
        prices at the close before. The column ``filled`` is there unless intervals are skipped.

    Raises
    ------
    ConfigurationError
        The timeframe or the policy is unknown.
    """

    timeframe: Timeframe | str
    empty: EmptyPolicy = "skip"
    extra: ClassVar[str | None] = "filled"

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeframe", Timeframe.parse(self.timeframe))
        known = ("skip", "flag", "previous_close")
        require(self.empty in known, self, "empty", self.empty, f"one of {', '.join(known)}")

    @property
    def length(self) -> int:
        """The timeframe in nanoseconds."""
        return Timeframe.parse(self.timeframe).nanoseconds

    @property
    def offset(self) -> int:
        """The grid's distance from the epoch in nanoseconds: Monday for weeks."""
        return _FOUR_DAYS if Timeframe.parse(self.timeframe).name[0] == "W" else 0

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return time_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_time

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write length and grid."""
        integers[_LENGTH], integers[_OFFSET] = self.length, self.offset
        integers[_FILLED_TO] = NEVER

    def check(self, records: Records, from_bars: bool) -> None:
        """Refuse finer bars that reach over the end of a bar of this timeframe: they cannot be divided."""
        if not from_bars:
            return
        ends = (records.ts - self.offset) // self.length * self.length + self.offset + self.length
        across = records.known > ends
        if across.any():
            row = int(across.argmax())
            first, last = np.array([records.ts[row], records.known[row]]).view("M8[ns]")
            raise DataError(
                f"bars: row {row} lasts from {first} to {last} (UTC), across the border of two {self.timeframe} bars",
                hint="resample bars whose timeframe divides the wanted one, or build from ticks",
            )


@njit(cache=True)
def time_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Time bars of the records from ``start`` on; see :data:`~tapeline.candles.candle_type.Kernel`."""
    length, offset = integers[_LENGTH], integers[_OFFSET]
    end = integers[_END]
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    i, k = start, 0
    # A finer bar can finish two bars at once: the one before it and, by its own close, its own.
    while i < rows and k + 1 < capacity:
        if bar.rows > 0 and records.ts[i] >= end:
            emit(bar, bar.ts, end, 0.0, out_floats, out_integers, k)
            k += 1
            bar = nothing()
        if bar.rows == 0:
            opened = (records.ts[i] - offset) // length * length + offset
            end = opened + length
            bar = started(records, i, opened)
        bar = grown(bar, records, i, 1.0)
        if records.known[i] >= end:
            emit(bar, bar.ts, end, 0.0, out_floats, out_integers, k)
            k += 1
            bar = nothing()
            integers[CLOSED_UNTIL] = end
        i += 1
    store(bar, floats, integers)
    integers[_END] = end
    return i, k, 2


@njit(cache=True)
def push_time(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    if refuses(integers, ts, price, size, side, spread):
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    return time_kernel(records, floats, integers, out_floats, out_integers, 0)[1]


def close_by_clock(floats: Floats, integers: Integers, now: int) -> tuple[Floats, Integers]:
    """The forming bar as one output column where the clock has passed its end, else none; later ticks are refused."""
    bar = loaded(floats, integers)
    done = bool(bar.rows > 0 and integers[_END] <= now)
    out_floats, out_integers = np.empty((OUT_EXTRA + 1, 1)), np.empty((3, 1), dtype=np.int64)
    if done:
        emit(bar, bar.ts, integers[_END], 0.0, out_floats, out_integers, 0)
        store(nothing(), floats, integers)
    closed = (now - integers[_OFFSET]) // integers[_LENGTH] * integers[_LENGTH] + integers[_OFFSET]
    integers[CLOSED_UNTIL] = max(integers[CLOSED_UNTIL], closed)
    return out_floats[:, : int(done)], out_integers[:, : int(done)]


def fill_empty(
    bars: Floats, times: Integers, floats: Floats, integers: Integers, *, clock: int, policy: EmptyPolicy
) -> tuple[Floats, Integers]:
    """Add the empty intervals between finished bars, and after the last up to the forming bar or the clock.

    The state remembers up to where it has been done, so that chunks add the same bars as one batch.
    """
    length, offset = int(integers[_LENGTH]), int(integers[_OFFSET])
    previous = int(integers[_FILLED_TO])
    until = int(integers[1]) if integers[0] else (clock - offset) // length * length + offset
    opens = times[0]
    if previous == NEVER:
        if not opens.size:
            return bars, times
        previous = int(opens[0])
    # Each finished bar, preceded by as many empty ones as there are intervals since the end of the one before.
    ends = np.concatenate([[previous], opens + length])
    nexts = np.concatenate([opens, [max(until, int(ends[-1]))]])
    missing = (nexts - ends) // length
    if int(missing.sum()) > MAXIMUM_FILL:
        row = int(missing.argmax())
        first, last = np.array([ends[row], nexts[row]]).view("M8[ns]")
        raise DataError(
            f"filling would add {int(missing.sum())} empty bars, more than {MAXIMUM_FILL}; "
            f"the longest gap is from {first} to {last} (UTC)",
            hint="check the time stamps, or skip empty intervals",
        )
    integers[_FILLED_TO] = nexts[-1]
    closes = np.concatenate([[floats[_LAST_CLOSE]], bars[3]])
    floats[_LAST_CLOSE] = closes[-1]
    if not missing.any():
        return bars, times
    before = np.cumsum(missing)
    total = int(before[-1]) + opens.size
    filled, stamps = np.zeros((bars.shape[0], total)), np.zeros((times.shape[0], total), dtype=np.int64)
    at = before[:-1] + np.arange(opens.size)
    empty = np.ones(total, dtype=bool)
    empty[at] = False
    filled[:, at], stamps[:, at] = bars, times
    ordinal = np.arange(int(before[-1])) - np.repeat(before - missing, missing)
    stamps[0, empty] = np.repeat(ends, missing) + ordinal * length
    stamps[1, empty] = stamps[0, empty] + length
    filled[:4, empty] = np.repeat(closes, missing) if policy == "previous_close" else np.nan
    filled[8, empty] = np.nan
    filled[OUT_EXTRA, empty] = 1.0
    return filled, stamps
