"""Replay: the rows of an archive once more, in the order of their time, as fast as asked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import NAME, TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.archive import Archive, ArchivedFile, archived_span
from tapeline.lake.parquet import instants_of
from tapeline.lake.reader import Instant, span

_LATEST: Final = np.iinfo(np.int64).max


def replay(
    archive: Archive,
    spec: TableSpec,
    symbols: Sequence[Symbol],
    timeframe: Timeframe,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    speed: float | None = None,
    batch_rows: int = 65_536,
    batch_seconds: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[pa.Table]:
    """The archived rows of several symbols as one tape.

    Parameters
    ----------
    archive, spec, symbols, timeframe:
        What to replay.
    start, end:
        The half-open range of the order column; None leaves a side open.
    speed:
        1 in real time, 10 ten times as fast; None as fast as possible. Delays do not add up: a batch is due at its own
        distance from the first row.
    batch_rows, batch_seconds:
        A batch holds at most so many rows and, where a speed is given, at most so much time of the tape. It is given
        when its last row is due, so no row comes before its time.
    sleep, monotonic:
        Injected in tests.

    Yields
    ------
    Tables with a column ``symbol`` before the table's own, sorted by the order column; rows of one instant stand by
    symbol as asked, then as they were stored. All rows as they were stored, every revision among them, and each once.
    Of each symbol one file or two are in memory.

    Raises
    ------
    ConfigurationError
        A symbol twice, or a speed or a size that makes no sense.
    DataError
        A file of the range is missing, damaged, or was removed by retention: raised when it is its turn.
    """
    low, high = span(start, end)
    if speed is not None and not 0 < speed < float("inf"):
        raise ConfigurationError(f"speed = {speed} must be positive and finite", hint="None is as fast as possible")
    if batch_rows < 1 or not 0 < batch_seconds < float("inf"):
        raise ConfigurationError(f"batch_rows {batch_rows} and batch_seconds {batch_seconds} must be positive")
    if len(set(symbols)) != len(symbols):
        raise ConfigurationError(f"symbols {list(map(str, symbols))} name one twice")
    tapes = [_Tape(archive, spec, symbol, timeframe, low, high) for symbol in symbols]
    schema = pa.schema([pa.field("symbol", NAME, nullable=False), *spec.schema])
    stretch = None if speed is None else int(batch_seconds * 1e9)
    first: int | None = None
    started = 0.0
    for table in _merged(tapes, spec, schema):
        instants = instants_of(table, spec.order)
        for begin, stop in _batches(instants, batch_rows, stretch):
            if speed is not None:
                if first is None:
                    first, started = int(instants[begin]), monotonic()
                wait = started + (int(instants[stop - 1]) - first) / 1e9 / speed - monotonic()
                if wait > 0:
                    sleep(wait)
            yield table.slice(begin, stop - begin)


class _Tape:
    """The rows of one symbol, file by file. A file may hold several instants of the one before it at its border."""

    def __init__(
        self, archive: Archive, spec: TableSpec, symbol: Symbol, timeframe: Timeframe, low: int | None, high: int | None
    ) -> None:
        self.symbol = symbol
        self._archive, self._spec, self._timeframe = archive, spec, timeframe
        self._low = -_LATEST if low is None else low
        self._high = _LATEST if high is None else high
        self._files: deque[ArchivedFile] = deque()
        for file in archive.files(spec, symbol, timeframe):
            opens, closes = archived_span(file)
            if closes >= self._low and opens < self._high:
                self._files.append(file)
        self._held: pa.Table = spec.schema.empty_table()

    @property
    def next_file(self) -> int | None:
        """The first instant of the next file, None where all are read."""
        return archived_span(self._files[0])[0] if self._files else None

    def read_up_to(self, instant: int) -> None:
        """Read the files that begin at or before an instant."""
        while self._files and archived_span(self._files[0])[0] <= instant:
            table = self._archive.read(self._spec, self.symbol, self._timeframe, self._files.popleft())
            instants = instants_of(table, self._spec.order)
            begin, stop = np.searchsorted(instants, [self._low, self._high])
            self._held = pa.concat_tables([self._held, table.slice(begin, stop - begin)])

    def take_before(self, instant: int | None) -> pa.Table:
        """Hand out the rows before an instant, all where None."""
        if instant is None:
            taken, self._held = self._held, self._held.slice(0, 0)
            return taken
        cut = int(np.searchsorted(instants_of(self._held, self._spec.order), instant))
        taken, self._held = self._held.slice(0, cut), self._held.slice(cut)
        return taken


def _merged(tapes: list[_Tape], spec: TableSpec, schema: pa.Schema) -> Iterator[pa.Table]:
    while True:
        waiting = [tape.next_file for tape in tapes]
        ahead = [instant for instant in waiting if instant is not None]
        if ahead:
            nearest = min(ahead)
            for tape in tapes:
                tape.read_up_to(nearest)
        # Every row before the next unread file is here; those at its first instant may still have company.
        horizon = min((tape.next_file for tape in tapes if tape.next_file is not None), default=None)
        parts = []
        for tape in tapes:
            rows = tape.take_before(horizon)
            if rows.num_rows:
                names = pa.DictionaryArray.from_arrays(
                    pa.array(np.zeros(rows.num_rows, dtype=np.int32)), pa.array([str(tape.symbol)])
                )
                parts.append(rows.add_column(0, schema.field("symbol"), names))
        if parts:
            table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
            if len(parts) > 1:
                # Stable: rows of one instant keep the order of the symbols and, within one, that of the file.
                table = table.take(pa.array(np.argsort(instants_of(table, spec.order), kind="stable")))
            yield table.cast(schema)
        if horizon is None:
            return


def _batches(instants: np.ndarray, rows: int, stretch: int | None) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < instants.size:
        stop = min(begin + rows, instants.size)
        if stretch is not None:
            stop = min(stop, int(np.searchsorted(instants, instants[begin] + stretch)))
        yield begin, max(stop, begin + 1)
        begin = max(stop, begin + 1)
