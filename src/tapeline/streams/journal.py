"""The journal: rows from a feed made durable in groups, held on disk until the lake has them.

``append`` puts rows into a bounded queue; one thread writes all that is queued as one frame and forces it to disk;
from then on they are acknowledged. A slow or full disk fills the queue, a slow lake the backlog on disk; where either
is full, ``append`` waits or refuses. Memory does not grow, and nothing that was acknowledged is ever dropped.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final, Literal

import filelock

from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.schemas import TableSpec, TimeOrigin
from tapeline.core.symbol import Symbol
from tapeline.streams import segments
from tapeline.streams.backlog import Backlog
from tapeline.streams.journal_counters import JournalCounters, Tally
from tapeline.streams.journal_entries import count_rows, decode, encode
from tapeline.streams.row_layouts import Rows
from tapeline.streams.segments import Frame, Segment, SegmentWriter

WhenFull = Literal["block", "refuse"]

_RETRY_SECONDS: Final = (0.05, 2.0)
"""How long the writer waits after the first error of the disk and, doubling, at most."""


class Journal:
    """A write-ahead journal of one folder; one process at a time holds it. Safe to use from several threads.

    Parameters
    ----------
    folder:
        Where the segments lie; created if absent. Opening it recovers what an earlier process left.
    queue_bytes:
        The most that waits in memory to become durable.
    backlog_bytes:
        The most that waits on disk for the lake.
    segment_bytes:
        A segment that has reached this size is followed by a new one, and removed once the lake has all of it.
    commit_seconds:
        How long the first row of a group waits for others before the group is forced to disk.
    when_full:
        At a bound, 'block' waits up to ``block_seconds``, 'refuse' does not wait; both then raise TemporaryError.

    Raises
    ------
    DataError
        A durable frame is damaged.
    TemporaryError
        Another process holds the folder.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.core.schemas import RAW_TICKS
    >>> from tapeline.streams.row_layouts import make_rows
    >>> with Journal(Path(tempfile.mkdtemp())) as journal:
    ...     rows = make_rows(RAW_TICKS, ts=[1, 2], bid=1.1, ask=1.2, known_at=5)
    ...     journal.wait(journal.append(RAW_TICKS, Symbol.parse("EURUSD"), rows, source="demo"))
    ...     journal.counters().backlog_rows
    2
    """

    def __init__(
        self,
        folder: Path,
        *,
        queue_bytes: int = 8 << 20,
        backlog_bytes: int = 1 << 30,
        segment_bytes: int = 64 << 20,
        commit_seconds: float = 0.002,
        when_full: WhenFull = "block",
        block_seconds: float = 30.0,
    ) -> None:
        _check_bounds(queue_bytes, backlog_bytes, segment_bytes, commit_seconds, when_full, block_seconds)
        self.folder = Path(folder)
        self.queue_bytes, self.backlog_bytes, self.segment_bytes = queue_bytes, backlog_bytes, segment_bytes
        self.commit_seconds, self.block_seconds, self.when_full = commit_seconds, block_seconds, when_full
        self._guard = threading.Lock()
        self._work = threading.Condition(self._guard)
        self._progress = threading.Condition(self._guard)
        self._queue: list[bytes] = []
        self._queued_bytes = self._queued_rows = 0
        self._ticket = self._durable_ticket = 0
        self._tally = Tally()
        self._failure: BaseException | None = None
        self._closing = self._closed = False
        self._writer: SegmentWriter | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = filelock.FileLock(self.folder / ".lock", timeout=0, thread_local=False)
        try:
            self._lock_file.acquire()
        except filelock.Timeout as error:
            raise TemporaryError(
                f"another process holds the journal {self.folder}", hint="one process writes a journal; stop the other"
            ) from error
        try:
            self._recover()
        except BaseException:
            self._lock_file.release()
            raise
        self._thread = threading.Thread(target=self._run, name=f"journal {self.folder.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(
        self, spec: TableSpec, symbol: Symbol, rows: Rows, *, source: str, ts_origin: TimeOrigin | None = None
    ) -> int:
        """Queue rows; returns a ticket for ``wait``. The rows are acknowledged only once they are durable.

        ``source`` names the feed and ``ts_origin`` whose clock stamped ``ts``, None where the feed does not say.

        Raises
        ------
        TemporaryError
            There is no room: the disk or the lake is behind. None of the rows was taken.
        ConfigurationError
            The rows have another layout than the table's, or are more than the queue can ever hold.
        """
        entry = encode(spec, symbol, rows, source, ts_origin)
        with self._guard:
            self._admit(len(entry), len(rows))
            self._queue.append(entry)
            self._queued_bytes += len(entry)
            self._queued_rows += len(rows)
            self._tally.appended += len(rows)
            self._ticket += 1
            if len(self._queue) == 1 or self._queued_bytes * 2 >= self.queue_bytes:
                self._work.notify()
            return self._ticket

    def wait(self, ticket: int, *, timeout: float | None = None) -> None:
        """Return once the rows of a ticket, and all before them, are durable.

        Raises
        ------
        TemporaryError
            They are not within ``timeout`` (``block_seconds`` where None). They stay queued and may still become so.
        """
        seconds = self.block_seconds if timeout is None else timeout
        with self._guard:
            if not self._progress.wait_for(lambda: self._durable_ticket >= ticket or self._closed, seconds) or (
                self._durable_ticket < ticket
            ):
                raise TemporaryError(
                    f"the journal {self.folder} could not make rows durable within {seconds:g} s{self._because()}",
                    hint="they are not acknowledged; check the disk",
                ) from self._failure

    @property
    def durable(self) -> int:
        """The highest ticket whose rows are durable."""
        with self._guard:
            return self._durable_ticket

    @property
    def closing(self) -> bool:
        """True once it no longer takes rows."""
        with self._guard:
            return self._closing

    def counters(self) -> JournalCounters:
        """Depth, spill and lag at this instant."""
        with self._guard:
            tally = self._tally
            return JournalCounters(
                queued_rows=self._queued_rows,
                queued_bytes=self._queued_bytes,
                backlog_rows=self._backlog.rows,
                backlog_bytes=self._backlog.size,
                lag_seconds=self._backlog.lag_seconds,
                appended_rows=tally.appended,
                durable_rows=tally.durable,
                drained_rows=tally.drained,
                recovered_rows=tally.recovered,
                refused_rows=tally.refused,
                blocked_seconds=tally.blocked,
                commits=tally.commits,
                failures=tally.failures,
                torn_bytes=tally.torn_bytes,
            )

    def wait_for_backlog(self, rows: int, *, timeout: float) -> int:
        """Return the rows that wait for the lake, once they are ``rows`` or more, on closing, or after ``timeout``."""
        with self._guard:
            self._progress.wait_for(lambda: self._backlog.rows >= rows or self._closing, timeout)
            return self._backlog.rows

    def read(self, *, rows: int) -> list[Frame]:
        """The oldest frames that the lake does not have: until they hold ``rows`` rows or none is left.

        Raises DataError where a durable frame cannot be read back.
        """
        with self._guard:
            stretches, after, offset = self._backlog.stretches(), self._backlog.drained, self._backlog.offset
        found: list[Frame] = []
        taken = 0
        for path, last in stretches:
            for frame in segments.read_frames(path, after=after, offset=offset):
                if taken >= rows or frame.number > last:
                    break
                found.append(frame)
                after = frame.number
                taken += sum(len(entry.rows) for entry in decode(frame.body))
            if taken >= rows:
                break
            if after != last:
                raise DataError(
                    f"{path}: frame {after + 1} of the journal cannot be read back", hint="check the disk it lies on"
                )
            offset = 0
        return found

    def mark_drained(self, frames: list[Frame]) -> None:
        """Say that the lake holds frames that ``read`` gave; durable on return, then whole segments are removed."""
        if not frames:
            return
        segments.write_position(self.folder, frames[-1].number)
        counted = [
            (frame, sum(len(entry.rows) for entry in decode(frame.body)), segments.size_of(frame)) for frame in frames
        ]
        with self._guard:
            emptied = self._backlog.remove(counted)
            self._tally.drained += sum(rows for _, rows, _ in counted)
            if self._writer is not None:
                emptied.discard(self._writer.path)
            self._progress.notify_all()
        for path in emptied:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Make everything queued durable and release the folder.

        TemporaryError where the disk does not take it within ``block_seconds``: those rows were never acknowledged.
        """
        with self._guard:
            self._closing = True
            self._work.notify_all()
            self._progress.notify_all()
        self._thread.join(self.block_seconds)
        with self._guard:
            left, self._closed = self._queued_rows, True
            self._work.notify_all()
            self._progress.notify_all()
        self._thread.join(self.block_seconds)
        if self._writer is not None:
            self._writer.close()
        self._lock_file.release()
        if left:
            raise TemporaryError(
                f"the journal {self.folder} closed with {left} rows that are not durable{self._because()}",
                hint="they were never acknowledged: send them again once the disk takes them",
            ) from self._failure

    def _recover(self) -> None:
        drained = segments.read_position(self.folder)
        found = segments.recover(self.folder, drained)
        self._backlog = Backlog(drained)
        last = drained
        for segment, following in zip(found, [*found[1:], None][: len(found)], strict=True):
            last = max(last, self._take(segment, None if following is None else following.first))
            if not self._backlog.holds(segment.path):
                segment.path.unlink(missing_ok=True)
        self._next = last + 1
        self._tally.recovered = self._backlog.rows
        self._tally.torn_bytes = found[-1].torn_bytes if found else 0

    def _take(self, segment: Segment, stop: int | None) -> int:
        last = segment.first - 1
        for frame in segments.read_frames(segment.path):
            if stop is not None and frame.number >= stop:
                break  # the disk failed here, and the frame was committed again to the next segment
            last = frame.number
            if frame.number > self._backlog.drained:
                rows, size = sum(len(entry.rows) for entry in decode(frame.body)), segments.size_of(frame)
                self._backlog.add(segment.path, frame.number, rows, size, offset=frame.end - size)
        return last

    def _admit(self, size: int, rows: int) -> None:
        if size > min(self.queue_bytes, self.backlog_bytes):
            raise ConfigurationError(
                f"{rows} rows take {size:,} bytes, more than the journal's queue or backlog can ever hold",
                hint="append them in smaller batches, or raise queue_bytes",
            )
        if self._has_room(size):
            return
        if self.when_full == "block":
            started = time.monotonic()
            self._progress.wait_for(lambda: self._has_room(size) or self._closing, self.block_seconds)
            self._tally.blocked += time.monotonic() - started
        if self._closing:
            raise ConfigurationError(f"the journal {self.folder} is closed")
        if not self._has_room(size):
            self._tally.refused += rows
            slow = "the disk" if self._queued_bytes + size > self.queue_bytes else "the lake"
            raise TemporaryError(
                f"the journal {self.folder} has no room: {self._queued_bytes:,} of {self.queue_bytes:,} bytes queued, "
                f"{self._backlog.size:,} of {self.backlog_bytes:,} waiting for the lake{self._because()}",
                hint=f"{slow} is slower than the feed, or full; these rows were not taken",
            ) from self._failure

    def _has_room(self, size: int) -> bool:
        queued = self._queued_bytes + size
        return not self._closing and queued <= self.queue_bytes and self._backlog.size + queued <= self.backlog_bytes

    def _because(self) -> str:
        return f": {self._failure}" if self._failure is not None else ""

    def _run(self) -> None:
        try:
            self._commit_groups()
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it and none wait in vain
            with self._guard:
                self._failure = error
                self._closing = self._closed = True
                self._progress.notify_all()

    def _commit_groups(self) -> None:
        pause = _RETRY_SECONDS[0]
        while True:
            with self._guard:
                self._work.wait_for(lambda: bool(self._queue) or self._closing)
                if not self._queue:
                    break
                self._work.wait_for(
                    lambda: self._queued_bytes * 2 >= self.queue_bytes or self._closing, self.commit_seconds
                )
                batch, self._queue = self._queue, []
            while (error := self._commit(batch)) is not None:
                with self._guard:
                    self._failure = error
                    self._tally.failures += 1
                    if self._work.wait_for(lambda: self._closed, pause):
                        return
                pause = min(2 * pause, _RETRY_SECONDS[1])
            pause = _RETRY_SECONDS[0]

    def _commit(self, batch: list[bytes]) -> BaseException | None:
        """Make a batch durable as one frame; the error where the disk refused it."""
        number, writer, full = self._next, self._writer, None
        durable = writer.size if writer is not None else 0
        try:
            if writer is not None and writer.size >= self.segment_bytes:
                full = writer.path
                writer.close()
                writer = None
            if writer is None:
                writer = SegmentWriter(self.folder, number)
            begin = writer.size
            size = writer.commit(number, batch)
        except OSError as error:
            if writer is not None:
                writer.abandon(durable)
            with self._guard:
                self._writer = None
            return error
        rows = sum(map(count_rows, batch))
        with self._guard:
            self._writer = writer
            self._next += 1
            self._backlog.add(writer.path, number, rows, size, offset=begin)
            self._queued_bytes -= sum(map(len, batch))
            self._queued_rows -= rows
            self._tally.durable += rows
            self._tally.commits += 1
            self._durable_ticket += len(batch)
            self._failure = None
            spent = full is not None and not self._backlog.holds(full)
            self._progress.notify_all()
        if spent and full is not None:
            full.unlink(missing_ok=True)
        return None


def _check_bounds(
    queue: int, backlog: int, segment: int, commit_seconds: float, when_full: str, block_seconds: float
) -> None:
    if not 4096 <= queue <= segments.MAXIMUM_BODY or backlog < queue or segment < 4096:
        raise ConfigurationError(
            f"queue_bytes {queue:,}, backlog_bytes {backlog:,}, segment_bytes {segment:,} are out of bounds",
            hint=f"queue 4,096 to {segments.MAXIMUM_BODY:,}, backlog not below the queue, segment 4,096 or more",
        )
    if not (0 <= commit_seconds <= 1 and 0 < block_seconds < float("inf")):
        raise ConfigurationError(
            f"commit_seconds {commit_seconds}, block_seconds {block_seconds}: 0 to 1 and above 0 are allowed"
        )
    if when_full not in ("block", "refuse"):
        raise ConfigurationError(f"when_full {when_full!r} is unknown", hint="use 'block' or 'refuse'")
