"""From rows on their own clock (trades, quotes, depth) to one row a bar, in any portions, with the same bits.

A bar holds the rows with ``ts <= row < ts + timeframe`` on the grid of the time bars, of which only those received by
its close count: what came later was not known then, and is left out and counted. The rows of the forming bar are kept
until it is complete, so that every bar is computed from all of its rows at once, however they came.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.candles.records import Integers
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.pit import asof_join
from tapeline.core.timeframe import Timeframe

Rows = dict[str, NDArray[Any]]
"""Arrays of one length; ``ts`` is among them, in nanoseconds."""


class FlowBars(ABC):
    """Rows in, one row a complete bar out; a subclass says what is read and what is computed.

    Parameters
    ----------
    timeframe:
        Of the bars.

    Attributes
    ----------
    late:
        How many rows were left out so far because they were received after the close of their bar.
    """

    def __init__(self, timeframe: Timeframe | str) -> None:
        self.timeframe = Timeframe.parse(timeframe)
        grid = TimeCandles(self.timeframe)
        self._length, self._offset = grid.length, grid.offset
        self.late = 0
        self._parts: list[Rows] = []
        self._newest: int | None = None
        self._closed: int | None = None

    @abstractmethod
    def _read(self, frame: pd.DataFrame) -> Rows:
        """Check a frame once and take it apart."""

    @abstractmethod
    def _bars(self, rows: Rows, starts: Integers) -> dict[str, NDArray[Any]]:
        """The columns of the bars that begin at the rows ``starts[:-1]``; ``starts[-1]`` is the number of rows.

        There may be no bar. Must not fail after it has changed what it carries from bar to bar.
        """

    def update(self, frame: pd.DataFrame, *, now: pd.Timestamp | None = None) -> pd.DataFrame:
        """Add rows and return the bars that are complete with them, perhaps none.

        Parameters
        ----------
        frame:
            The next rows on ``ts``, none earlier than those before. With a column ``known_at``, a row received after
            the close of its bar is left out; without one, rows count as received at ``ts``.
        now:
            What the clock says. A bar is complete once a row or the clock has reached its end.

        Returns
        -------
        One row a bar that has rows, on ``ts`` (its open), with ``known_at`` (its close) first.

        Raises
        ------
        SchemaError, DataError
            The frame is not what it must be, or goes back behind earlier rows. A refused frame changes nothing.
        """
        rows = self._read(frame)
        known = known_instants(frame)
        left_out = 0
        reached = self._newest
        if rows["ts"].size:
            # A late row, too, says that its own time has passed.
            reached = int(rows["ts"][-1]) if reached is None else max(reached, int(rows["ts"][-1]))
            if known is not None:
                timely = received_in_time(rows["ts"], known, self._length, self._offset)
                left_out = int(timely.size - np.count_nonzero(timely))
                if left_out:
                    rows = {name: values[timely] for name, values in rows.items()}
            self._refuse_earlier(rows["ts"])
        clock = _instant(now)
        times = [instant for instant in (reached, clock) if instant is not None]
        closed = self._closed
        if times:
            border = (max(times) - self._offset) // self._length * self._length + self._offset
            closed = border if closed is None else max(closed, border)
        parts = [*self._parts, rows] if rows["ts"].size else self._parts
        done = {name: values[:0] for name, values in rows.items()}
        if parts and closed is not None and parts[0]["ts"][0] < closed:
            whole = parts[0] if len(parts) == 1 else {n: np.concatenate([p[n] for p in parts]) for n in rows}
            split = int(np.searchsorted(whole["ts"], closed))
            done = {name: values[:split] for name, values in whole.items()}
            # A copy, so that the forming bar's rows do not keep all the others in memory.
            rest = {name: values[split:].copy() for name, values in whole.items()}
            parts = [rest] if rest["ts"].size else []
        found = self._finished(done)
        self._parts, self._newest, self._closed = parts, reached, closed
        self.late += left_out
        return found

    def _finished(self, rows: Rows) -> pd.DataFrame:
        starts = bar_starts(rows["ts"], self._length, self._offset)
        opens = (rows["ts"][starts[:-1]] - self._offset) // self._length * self._length + self._offset
        ts = pd.DatetimeIndex(opens.view("M8[ns]"), name="ts").tz_localize("UTC")
        frame = pd.DataFrame(self._bars(rows, starts), index=ts)
        frame.insert(0, "known_at", ts + pd.Timedelta(self._length, unit="ns"))
        return frame

    def _refuse_earlier(self, stamps: Integers) -> None:
        bounds = [instant for instant in (self._newest, self._closed) if instant is not None]
        if stamps.size and bounds and stamps[0] < max(bounds):
            first, last = np.array([stamps[0], max(bounds)]).view("M8[ns]")
            raise DataError(
                f"{type(self).__name__}: a row of {first}Z comes after {last}Z was reached",
                hint="sort by ts; rows that arrive after the close of their bar need known_at",
            )


def join_flow(bars: pd.DataFrame, timeframe: Timeframe, flow: pd.DataFrame, *, prefix: str) -> pd.DataFrame:
    """Add to each bar the columns of its own flow row, as the features that read ``<prefix><column>`` need them.

    Parameters
    ----------
    bars:
        On ``ts``; a bar whose ``volume`` is 0 and that has no flow row gets 0 in the columns that count or add up.
    flow:
        What a :class:`FlowBars` of the same timeframe gave.
    prefix:
        ``flow_`` for trades, ``quote_`` for quotes, ``book_`` for depth.

    Returns
    -------
    A new frame; NaN where nothing was received in the bar. A bar never gets another bar's flow.

    Raises
    ------
    DataError
        A flow row is known at another instant than a bar's close: it is of another timeframe.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 11)
    >>> flow = pd.DataFrame({"known_at": bars["close_ts"].iloc[1:], "bought": [5.0]}, index=bars.index[1:])
    >>> join_flow(bars, Timeframe.parse("H1"), flow, prefix="flow_")["flow_bought"].tolist()
    [nan, 5.0]
    """
    if "known_at" not in flow.columns:
        raise SchemaError("join_flow: the flow lacks the column 'known_at'")
    known = pd.DatetimeIndex(flow["known_at"])
    wrong = np.asarray(known != timeframe.closes(pd.DatetimeIndex(flow.index)))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"join_flow: the flow of {flow.index[row]} is known at {known[row]}, no close of a {timeframe} bar",
            hint="build the flow at the bars' timeframe",
        )
    joined = asof_join(
        bars,
        flow.drop(columns="known_at"),
        at=timeframe.closes(pd.DatetimeIndex(bars.index)),
        known_at=known,
        prefix=prefix,
        tolerance=timedelta(0),
    )
    if "volume" in bars.columns:
        quiet = (bars["volume"] == 0.0).to_numpy()
        for name in ADDITIVE:
            column = f"{prefix}{name}"
            if column in joined.columns:
                joined[column] = joined[column].mask(quiet & joined[column].isna().to_numpy(), 0.0)
    return joined


ADDITIVE = (
    *("trade_count", "buy_count", "sell_count", "uptick_count", "downtick_count"),
    *("traded", "bought", "sold", "delta", "large", "signed_root_value"),
)


@njit(cache=True, nogil=True)
def bar_starts(stamps: Integers, length: int, offset: int) -> Integers:
    """The first row of each bar of the grid, and the number of rows last.

    Examples
    --------
    >>> bar_starts(np.array([0, 5, 10, 31]), 10, 0)
    array([0, 2, 3, 4])
    """
    if stamps.size == 0:
        return np.zeros(1, dtype=np.int64)
    count = 1
    end = (stamps[0] - offset) // length * length + offset + length
    for i in range(stamps.size):
        if stamps[i] >= end:
            count += 1
            end = (stamps[i] - offset) // length * length + offset + length
    starts = np.empty(count + 1, dtype=np.int64)
    starts[0] = 0
    starts[count] = stamps.size
    end = (stamps[0] - offset) // length * length + offset + length
    k = 1
    for i in range(stamps.size):
        if stamps[i] >= end:
            starts[k] = i
            k += 1
            end = (stamps[i] - offset) // length * length + offset + length
    return starts


@njit(cache=True, nogil=True)
def received_in_time(stamps: Integers, known: Integers, length: int, offset: int) -> NDArray[np.bool_]:
    """True of each row that was received by the close of its bar; the rows are sorted.

    Examples
    --------
    >>> received_in_time(np.array([5, 9]), np.array([10, 11]), 10, 0)
    array([ True, False])
    """
    timely = np.empty(stamps.size, dtype=np.bool_)
    end = np.int64(0)
    for i in range(stamps.size):
        if i == 0 or stamps[i] >= end:
            end = (stamps[i] - offset) // length * length + offset + length
        timely[i] = known[i] <= end
    return timely


def instants_of(frame: pd.DataFrame, kind: str) -> Integers:
    """The index in nanoseconds; SchemaError where it holds no UTC instants, DataError where it decreases."""
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise SchemaError(f"{kind}: the index holds {index.dtype}, expected UTC instants")
    if index.hasnans:
        raise DataError(f"{kind}: ts is missing at row {int(index.isna().argmax())}")
    if not index.is_monotonic_increasing:
        row = int((np.diff(index.as_unit("ns").asi8) < 0).argmax()) + 1
        raise DataError(f"{kind}: ts decreases at row {row}: {index[row]}", hint="sort by ts")
    return index.as_unit("ns").asi8


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written: to numba a type of its own, so that every caller shares one compilation."""
    view = values.view()
    view.flags.writeable = False
    return view


def known_instants(frame: pd.DataFrame) -> Integers | None:
    """The column ``known_at`` in nanoseconds, None without one; SchemaError or DataError where it is no instant."""
    if "known_at" not in frame.columns:
        return None
    column = frame["known_at"]
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        raise SchemaError(f"known_at holds {column.dtype}, expected UTC instants")
    known = pd.DatetimeIndex(column)
    if known.hasnans:
        raise DataError(f"known_at is missing at row {int(known.isna().argmax())}")
    return known.as_unit("ns").asi8


def _instant(now: pd.Timestamp | None) -> int | None:
    if now is None:
        return None
    if not isinstance(now, pd.Timestamp) or now is pd.NaT or now.tz is None:
        raise ConfigurationError(f"now = {now!r} is refused", hint="pass an instant with a time zone")
    return int(now.as_unit("ns").value)
