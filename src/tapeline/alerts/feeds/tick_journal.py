"""The tick journal: batches on disk between two snapshots of the kernel, and back in their order after a crash.

Batches are gathered and made durable together, as one checksummed frame of a segment
(:mod:`tapeline.streams.segments`). A frame that a crash cut short is cut off when the journal is opened: nobody was
told that it is durable, and the sources give its records again from the positions before it.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.processor import Taken
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.streams.messages import msgspec
from tapeline.streams.segments import SegmentWriter, first_number, read_frames, recover, sync_folder

_COLUMNS: Final = (("symbols", "<i4"), ("times", "<i8"), ("prices", "<f8"), ("sizes", "<f8"), ("records", "u1"))
_MORE: Final = (("sequences", "<i8"), ("late", "u1"))
_HEAD: Final = struct.Struct("<QII")
"""Of a batch: its position, its records, the length of its feeds' positions."""
_LENGTH: Final = struct.Struct("<I")
_ROW_BYTES: Final = sum(np.dtype(kind).itemsize for _, kind in (*_COLUMNS, *_MORE))
_POSITIONS: Final = msgspec.msgpack.Decoder(dict[str, int])
_NAMES: Final = msgspec.msgpack.Decoder(list[str])


class Replayed(NamedTuple):
    """A batch from the journal, with its position."""

    position: int
    batch: Batch
    taken: Taken


@dataclass(frozen=True)
class JournalOptions:
    """When batches become durable.

    Parameters
    ----------
    delay:
        Seconds that a batch waits for others, at most, before :meth:`TickJournal.append` makes them durable.
    group_bytes:
        Bytes waiting at which it does so at once.
    segment_bytes:
        Size from which a new segment is begun.
    """

    delay: float = 0.005
    group_bytes: int = 1 << 20
    segment_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if self.delay < 0 or self.group_bytes < 1 or self.segment_bytes < 1:
            raise ConfigurationError(
                f"delay = {self.delay} must not be negative; group_bytes = {self.group_bytes} and segment_bytes = "
                f"{self.segment_bytes} must be positive"
            )


class _Part(NamedTuple):
    """One segment in use: its file, and the last position in it."""

    path: Path
    last: int


class TickJournal:
    """Appends batches, gives them back.

    Positions are numbers of batches from 1, without a gap. What ``append`` has numbered is durable once
    :attr:`durable` has reached it.

    Parameters
    ----------
    folder:
        Of this journal alone; made where it is not there.
    names:
        Symbols by the numbers in the batches (``Evaluator.names``): it may grow.
    after:
        The position of the newest snapshot: numbers go on behind it where the journal has fewer, as after its folder
        was lost.
    clock:
        Seconds, monotonic.

    Raises
    ------
    DataError
        A durable frame is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.alerts.feeds.batcher import Batcher
    >>> batcher = Batcher({"BTCUSDT": 0})
    >>> batcher.take("BTCUSDT", 5, 100.0, 0.5, 7, "binance")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = TickJournal(Path(folder), ["BTCUSDT"])
    ...     position = journal.append(*batcher.flush(0, force=True))
    ...     journal.close()
    ...     [(one.position, one.batch.prices.tolist()) for one in TickJournal(Path(folder), ["BTCUSDT"]).replay(0)]
    [(1, [100.0])]
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        after: int = 0,
        options: JournalOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.options = folder, options or JournalOptions()
        self.frames = self.bytes_written = 0
        self._names, self._clock = names, clock
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: list[bytes] = []
        self._waiting_bytes, self._waiting_since = 0, 0.0
        self._writer: SegmentWriter | None = None
        self._named = 0
        folder.mkdir(parents=True, exist_ok=True)
        found = recover(folder, first_number(folder) - 1)
        self._next_frame = found[-1].last + 1 if found else first_number(folder)
        self._parts: list[_Part] = []
        last = 0
        for segment in found:
            for frame in read_frames(segment.path):
                last = max((position for position, *_ in _batches(frame.body, segment.path)), default=last)
            self._parts.append(_Part(segment.path, last))
        self.position = self.durable = max(last, after)

    def append(self, batch: Batch, taken: Taken) -> int:
        """Take a batch and give it its position; it is durable later, or at once where the group is complete.

        Raises
        ------
        OSError
            The group could not be written. The batch has its position and waits with the others: ``commit`` again.
        """
        feeds = msgspec.msgpack.encode(dict(taken.positions))
        columns = [np.asarray(getattr(batch, name), kind) for name, kind in _COLUMNS]
        columns += [np.asarray(getattr(taken, name), kind) for name, kind in _MORE]
        with self._lock:
            self.position += 1
            head = _HEAD.pack(self.position, batch.symbols.size, len(feeds))
            body = b"".join([head, feeds, *(column.tobytes() for column in columns)])
            if not self._waiting:
                self._waiting_since = self._clock()
            self._waiting.append(body)
            self._waiting_bytes += len(body)
            position = self.position
            complete = self._waiting_bytes >= self.options.group_bytes
            complete = complete or self._clock() - self._waiting_since >= self.options.delay
        if complete:
            self.commit()
        return position

    def commit(self) -> int:
        """Make what waits durable, as one frame; the last durable position.

        Raises
        ------
        OSError
            The disk refused. What waits still waits, for a new segment.
        """
        with self._writing:
            with self._lock:
                some, self._waiting, self._waiting_bytes = self._waiting, [], 0
                position = self.position
            if not some:
                return self.durable
            try:
                self._write(some, position)
            except OSError:
                with self._lock:
                    self._waiting = some + self._waiting
                    self._waiting_bytes = sum(map(len, self._waiting))
                raise
            self.durable = position
            return position

    def replay(self, after: int, numbers: Mapping[str, int] | None = None) -> Iterator[Replayed]:
        """The durable batches behind a position, in their order.

        Parameters
        ----------
        after:
            The position up to which a snapshot has them; 0 for all.
        numbers:
            The symbols' numbers now (``Evaluator.symbols``); absent: those of ``names``. All are known there.

        Raises
        ------
        DataError
            Batches behind ``after`` have been removed already, or one names a symbol that is not known now.
        """
        present = {name: number for number, name in enumerate(self._names)} if numbers is None else numbers
        expected = after + 1
        for part in list(self._parts):
            if part.last <= after:
                continue
            mapping = np.zeros(0, np.int32)
            for frame in read_frames(part.path):
                mapping = np.concatenate([mapping, _numbers(frame.body, present)])
                for position, rows, feeds, columns in _batches(frame.body, part.path):
                    if position <= after:
                        continue
                    if position != expected:
                        raise DataError(f"{part.path}: batch {expected} is not there, {position} is")
                    expected += 1
                    yield _replayed(position, rows, feeds, columns, mapping)
        if expected <= self.durable:
            raise DataError(f"{self.folder}: batch {expected} is not there")

    def remove(self, before: int) -> int:
        """Remove the segments whose batches are all up to a position that a durable snapshot holds; how many."""
        with self._writing:
            gone = [part for part in self._parts if part.last <= before]
            if gone and gone[-1] is self._parts[-1]:
                # The numbers of frames and batches go on behind the newest segment: it stays.
                gone.pop()
            for part in gone:
                part.path.unlink(missing_ok=True)
            self._parts = self._parts[len(gone) :]
            if gone:
                sync_folder(self.folder)
            return len(gone)

    def close(self) -> None:
        """Make what waits durable and close the file."""
        self.commit()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, batches: list[bytes], position: int) -> None:
        if self._writer is not None and self._writer.size >= self.options.segment_bytes:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._writer, self._named = SegmentWriter(self.folder, self._next_frame), 0
        known = len(self._names)
        names = msgspec.msgpack.encode(list(self._names[self._named : known]))
        durable = self._writer.size
        try:
            written = self._writer.commit(self._next_frame, [_LENGTH.pack(len(names)), names, *batches])
        except OSError:
            self._writer.abandon(durable)
            self._writer = None
            raise
        self._named = known
        self._next_frame += 1
        self.frames += 1
        self.bytes_written += written
        if self._parts and self._parts[-1].path == self._writer.path:
            self._parts.pop()
        self._parts.append(_Part(self._writer.path, position))


def _numbers(body: bytes, present: Mapping[str, int]) -> NDArray[np.int32]:
    """The present numbers of the symbols that a frame introduces."""
    (length,) = _LENGTH.unpack_from(body)
    names = _NAMES.decode(body[_LENGTH.size : _LENGTH.size + length])
    try:
        return np.array([present[name] for name in names], np.int32)
    except KeyError as error:
        raise DataError(f"symbol {error} of the journal is not known here", hint="add_symbols first") from None


def _batches(body: bytes, path: Path) -> Iterator[tuple[int, int, bytes, bytes]]:
    """The batches of a frame: position, records, feeds' positions, columns."""
    (length,) = _LENGTH.unpack_from(body)
    at = _LENGTH.size + length
    while at < len(body):
        position, rows, feeds = _HEAD.unpack_from(body, at)
        begin = at + _HEAD.size
        end = begin + feeds + rows * _ROW_BYTES
        if end > len(body):
            raise SchemaError(f"{path}: batch {position} is longer than its frame")
        yield position, rows, body[begin : begin + feeds], body[begin + feeds : end]
        at = end


def _replayed(position: int, rows: int, feeds: bytes, columns: bytes, mapping: NDArray[np.int32]) -> Replayed:
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for name, kind in (*_COLUMNS, *_MORE):
        end = at + rows * np.dtype(kind).itemsize
        arrays[name] = np.frombuffer(columns[at:end], kind).astype(kind)
        at = end
    numbers = arrays["symbols"]
    if numbers.max(initial=-1) >= mapping.size:
        raise DataError(f"batch {position} of the journal has symbol {numbers.max()}, of {mapping.size} that it names")
    # The last place stands for -1, which is all symbols.
    symbols = np.append(mapping, np.int32(-1))[np.where(numbers < 0, mapping.size, numbers)]
    batch = Batch(symbols, arrays["times"], arrays["prices"], arrays["sizes"], arrays["records"])
    late, found = arrays["late"].astype(np.bool_), _POSITIONS.decode(feeds)
    taken = Taken(symbols, batch.times, batch.prices, arrays["sequences"], late, found, batch.records)
    return Replayed(position, batch, taken)
