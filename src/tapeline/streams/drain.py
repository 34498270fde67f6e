"""The drain: moves what a journal holds into the lake, each row with the effect of exactly once.

A frame is forgotten by the journal only after every row of it is in the lake. A crash in between repeats the write,
and the lake, which knows its rows by their keys, changes nothing the second time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.schemas import TableSpec
from tapeline.core.symbol import Symbol
from tapeline.streams.journal import Journal
from tapeline.streams.journal_entries import Entry, decode
from tapeline.streams.row_layouts import LAYOUTS, Rows, to_arrow
from tapeline.streams.segments import Frame

WriteRows: TypeAlias = Callable[[TableSpec, pa.Table, Symbol], object]
"""Upserts rows by the table's key and returns once they are durable, as ``Lake.write`` does for one series."""

_ARRIVAL: Final = ("known_at",)
_RETRY_SECONDS: Final = (0.1, 10.0)


@dataclass(frozen=True)
class DrainCounters:
    """What a drain has moved. ``failure`` is the error that it retries at present, None where all goes well."""

    rows: int
    writes: int
    failures: int
    failure: str | None


class Drain:
    """Writes a journal's backlog to the lake, in a thread of its own or step by step.

    Parameters
    ----------
    journal:
        Where the rows come from.
    write:
        Where they go: a function of table, Arrow rows and symbol.
    rows:
        The backlog is written once it has so many rows; one write takes about as many.
    seconds:
        It is written after so long in any case. The lake rewrites a day's file with each write, so a few large
        writes cost less than many small ones.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tapeline.core.schemas import RAW_TICKS
    >>> from tapeline.streams.row_layouts import make_rows
    >>> with Journal(Path(tempfile.mkdtemp())) as journal:
    ...     rows = make_rows(RAW_TICKS, ts=[1, 1], sequence=[0, 1], bid=1.1, ask=1.2, known_at=5)
    ...     journal.wait(journal.append(RAW_TICKS, Symbol.parse("EURUSD"), rows, source="demo"))
    ...     drain = Drain(journal, lambda spec, table, symbol: print(spec.path, symbol, table.num_rows))
    ...     drain.drain_once()
    raw/ticks EURUSD 2
    2
    """

    def __init__(self, journal: Journal, write: WriteRows, *, rows: int = 200_000, seconds: float = 5.0) -> None:
        if rows < 1 or not 0 < seconds < float("inf"):
            raise ConfigurationError(f"rows {rows} and seconds {seconds} must be positive and finite")
        self.journal, self.write, self.rows, self.seconds = journal, write, rows, seconds
        self._counted = DrainCounters(0, 0, 0, None)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Drain:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Drain in a thread until ``stop``; errors are counted, shown in ``counters`` and tried again."""
        if self._thread is not None:
            raise ConfigurationError("the drain runs already")
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the write in progress, write what is left in one more try, and stop.

        What cannot be written stays in the journal for the next start.
        """
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None

    def counters(self) -> DrainCounters:
        """What was moved since it was made."""
        return self._counted

    def drain_once(self) -> int:
        """Write about ``rows`` rows of the backlog; returns how many it wrote, 0 where there was nothing.

        Whatever ``write`` raises passes through, and the journal keeps the rows.
        """
        frames: list[Frame] = self.journal.read(rows=self.rows)
        writes = 0
        for (path, symbol), entries in _by_series(frames).items():
            spec = LAYOUTS[path][0]
            rows = np.concatenate([entry.rows for entry in entries])
            counts = [len(entry.rows) for entry in entries]
            sources = np.repeat(np.array([entry.source for entry in entries], dtype=object), counts)
            origins = np.repeat(np.array([entry.ts_origin for entry in entries], dtype=object), counts)
            for part in _without_repeats(spec, rows):
                self.write(spec, to_arrow(spec, rows[part], sources[part], origins[part]), symbol)
                writes += 1
        self.journal.mark_drained(frames)
        moved = sum(len(entry.rows) for frame in frames for entry in decode(frame.body))
        counted = self._counted
        self._counted = DrainCounters(counted.rows + moved, counted.writes + writes, counted.failures, None)
        return moved

    def _run(self) -> None:
        pause = _RETRY_SECONDS[0]
        while True:
            stopping = self._stopping.is_set()
            try:
                if not stopping:
                    self._wait()
                while self.drain_once() and (stopping or self.journal.counters().backlog_rows >= self.rows):
                    pass
                pause = _RETRY_SECONDS[0]
            except (TapelineError, OSError, pa.ArrowException) as error:
                counted = self._counted
                self._counted = DrainCounters(counted.rows, counted.writes, counted.failures + 1, str(error))
                if not stopping:
                    self._stopping.wait(pause)
                pause = min(2 * pause, _RETRY_SECONDS[1])
            if stopping:
                return

    def _wait(self) -> None:
        # In short turns, so that stopping does not wait for a quiet feed.
        turn = min(self.seconds, 0.25)
        waited = 0.0
        while waited < self.seconds and not self._stopping.is_set():
            if self.journal.wait_for_backlog(self.rows, timeout=turn) >= self.rows:
                return
            if self.journal.closing:
                self._stopping.wait(turn)
            waited += turn


def _by_series(frames: list[Frame]) -> dict[tuple[str, Symbol], list[Entry]]:
    found: dict[tuple[str, Symbol], list[Entry]] = {}
    for frame in frames:
        for entry in decode(frame.body):
            found.setdefault((entry.spec.path, entry.symbol), []).append(entry)
    return found


def _without_repeats(spec: TableSpec, rows: Rows) -> list[npt.NDArray[np.intp]]:
    """The positions of the rows to write, in batches none of which holds a key twice.

    A producer that was not told of a success may send rows again: a repetition with the same values is left out. The
    same key with other values is a correction, written after what it corrects.
    """
    every = np.arange(len(rows))
    if spec.key == ("ts", "sequence"):
        step_ts, step_number = np.diff(rows["ts"]), np.diff(rows["sequence"])
        if ((step_ts > 0) | ((step_ts == 0) & (step_number > 0))).all():
            return [every]
    _, group = np.unique(rows[list(spec.key)], return_inverse=True)
    order = np.argsort(group, kind="stable")
    values = [name for name in rows.dtype.names or () if name not in (*spec.key, *_ARRIVAL)]
    ordered, groups = rows[order], group[order]
    again = np.r_[False, groups[1:] == groups[:-1]]
    same = again.copy()
    for name in values:
        column = ordered[name]
        equal = column[1:] == column[:-1]
        if column.dtype.kind == "f":
            equal |= np.isnan(column[1:]) & np.isnan(column[:-1])
        same[1:] &= equal
    kept, groups = order[~same], groups[~same]
    starts = np.r_[True, groups[1:] != groups[:-1]]
    position = np.arange(kept.size)
    turn = position - np.maximum.accumulate(np.where(starts, position, 0))
    return [np.sort(kept[turn == number]) for number in range(int(turn.max()) + 1)]
