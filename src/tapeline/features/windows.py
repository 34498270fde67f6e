"""Sliding windows over bars as strided views: every window there is, none of them copied, none across a gap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar

Stamps = NDArray[np.int64]


@dataclass(frozen=True)
class WindowView:
    """All windows of one table, as a view of it.

    Parameters
    ----------
    view:
        ``(rows - window + 1, window, channels)``, read-only, of the table's own memory. Window ``i`` holds the rows
        ``i`` to ``i + window - 1``; those that cross a gap are in the view and not in ``starts``.
    starts:
        The windows that may be used: those that cross no gap (and hold no NaN, where asked for).
    ts:
        Open time of each row of the table.
    """

    view: NDArray[Any]
    starts: NDArray[np.int64]
    ts: pd.DatetimeIndex

    def __len__(self) -> int:
        return self.starts.size

    @property
    def window(self) -> int:
        """Rows a window."""
        return self.view.shape[1]

    @property
    def first_ts(self) -> pd.DatetimeIndex:
        """Open time of each usable window's first row."""
        return self.ts[self.starts]

    @property
    def last_ts(self) -> pd.DatetimeIndex:
        """Open time of each usable window's last row: the window is known at that bar's close."""
        return self.ts[self.starts + self.window - 1]

    def take(self, windows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """A copy of the given usable windows, ``(k, window, channels)``: what a mini-batch needs, no more."""
        return self.view[self.starts[windows]]

    def runs(self) -> Iterator[tuple[pd.DatetimeIndex, NDArray[Any]]]:
        """The usable windows run by run, each run a view ``(k, window, channels)``, with the last open times."""
        if not self.starts.size:
            return
        breaks = np.flatnonzero(np.diff(self.starts) != 1) + 1
        for run in np.split(self.starts, breaks):
            first, end = int(run[0]), int(run[-1]) + 1
            yield self.ts[first + self.window - 1 : end + self.window - 1], self.view[first:end]


def slice_windows(
    table: pd.DataFrame | NDArray[Any],
    window: int,
    *,
    timeframe: Timeframe,
    ts: pd.DatetimeIndex | None = None,
    columns: Sequence[str] | None = None,
    calendar: MarketCalendar | None = None,
    complete: bool = False,
) -> WindowView:
    """Every window of ``window`` adjacent bars.

    Parameters
    ----------
    table:
        A frame on sorted, unique open times, or an array ``(rows, channels)`` with ``ts``. The view shares the memory
        of an array, and of a frame whose columns lie in one block of one type; any other frame is first laid out once
        as one table, never window by window.
    columns:
        The frame's columns to look at; all of them where None.
    calendar:
        Without one, any pause between two bars is a gap. With one, only a pause in which a bar was due is: a window
        may reach over a weekend but not over an hour that is missing.
    complete:
        Leave out windows that hold a NaN.

    Raises
    ------
    ConfigurationError
        A window below 1, or an array without times.
    DataError
        Times that do not rise or do not belong to the rows, or a column that holds no numbers.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(1, 2, 3, 4, 5).drop(index="2017-01-02 02:00")
    >>> close = bars[["close"]]
    >>> windows = slice_windows(close, 2, timeframe=Timeframe.parse("H1"))
    >>> windows.take(slice(None))[:, :, 0].tolist(), windows.last_ts.hour.tolist()
    ([[1.0, 2.0], [4.0, 5.0]], [1, 4])
    >>> np.shares_memory(windows.view, close.to_numpy(copy=False))
    True
    """
    if window < 1:
        raise ConfigurationError(f"window = {window} is below 1")
    if isinstance(table, pd.DataFrame):
        chosen = table if columns is None else table[list(columns)]
        wrong = [str(name) for name, kind in chosen.dtypes.items() if kind.kind not in "fiub"]
        if wrong:
            raise DataError(f"the columns {wrong[:5]} hold no numbers", hint="name the columns to look at")
        values, index = chosen.to_numpy(copy=False), pd.DatetimeIndex(table.index)
    else:
        if ts is None:
            raise ConfigurationError("an array of rows needs the open times 'ts' of its rows")
        values, index = table, ts
    if values.ndim != 2 or len(values) != len(index):
        raise DataError(f"values of shape {values.shape} and {len(index)} times do not belong together")
    stamps = index.as_unit("ns").asi8
    if (np.diff(stamps) <= 0).any():
        raise DataError("the open times do not rise", hint="sort them and read one revision of each bar")
    starts = unbroken_starts(gap_before(stamps, timeframe, calendar), window)
    if complete and starts.size:
        bad = np.concatenate(([0], np.cumsum(np.isnan(values).any(axis=1))))
        starts = starts[bad[starts + window] == bad[starts]]
    if len(values) < window:
        return WindowView(np.empty((0, window, values.shape[1]), dtype=values.dtype), starts, index)
    view = np.lib.stride_tricks.sliding_window_view(values, window, axis=0).transpose(0, 2, 1)
    return WindowView(view, starts, index)


def gap_before(stamps: Stamps, timeframe: Timeframe, calendar: MarketCalendar | None = None) -> NDArray[np.bool_]:
    """True at each bar before which there is a gap; False at the first one.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-06 21:00", "2017-01-08 22:00", "2017-01-09 00:00"], tz="UTC").as_unit("ns")
    >>> gap_before(ts.asi8, Timeframe.parse("H1")).tolist()
    [False, True, True]
    >>> gap_before(ts.asi8, Timeframe.parse("H1"), MarketCalendar.parse("24x5")).tolist()
    [False, False, True]
    """
    result = np.zeros(stamps.size, dtype=np.bool_)
    closes = timeframe.closes(pd.DatetimeIndex(stamps, tz="UTC")).as_unit("ns").asi8
    result[1:] = stamps[1:] != closes[:-1]
    if calendar is not None:
        rows = np.flatnonzero(result)
        if rows.size:
            result[rows] = calendar.due_bars(closes[rows - 1], stamps[rows], timeframe) > 0
    return result


def unbroken_starts(breaks: NDArray[np.bool_], window: int) -> NDArray[np.int64]:
    """The rows from which ``window`` rows follow without a break: ``breaks[i]`` says that row ``i`` begins anew.

    Examples
    --------
    >>> unbroken_starts(np.array([False, False, True, False, False]), 2).tolist()
    [0, 2, 3]
    """
    if breaks.size < window:
        return np.empty(0, dtype=np.int64)
    crossed = np.cumsum(breaks)
    return np.flatnonzero(crossed[window - 1 :] == crossed[: breaks.size - window + 1]).astype(np.int64)
