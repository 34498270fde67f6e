"""Journal counters: what a journal says of its depth, its spill and its lag."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JournalCounters:
    """Depth, spill and lag of a journal.

    Parameters
    ----------
    queued_rows, queued_bytes:
        Not yet durable, in memory.
    backlog_rows, backlog_bytes:
        Durable on disk, not yet in the lake: the spill.
    lag_seconds:
        The age of the oldest durable row that the lake does not have, to one second; 0 where it has all. After a
        restart it counts from the restart.
    appended_rows, durable_rows, drained_rows:
        Since the journal was opened; ``recovered_rows`` is what it found on disk then.
    refused_rows:
        Rows that ``append`` did not take because a bound was reached.
    blocked_seconds:
        How long all calls of ``append`` together waited for room.
    commits, failures:
        Frames made durable, and errors of the disk.
    torn_bytes:
        The end of an unfinished, hence unacknowledged, commit that was cut off when the journal was opened.
    """

    queued_rows: int
    queued_bytes: int
    backlog_rows: int
    backlog_bytes: int
    lag_seconds: float
    appended_rows: int
    durable_rows: int
    drained_rows: int
    recovered_rows: int
    refused_rows: int
    blocked_seconds: float
    commits: int
    failures: int
    torn_bytes: int


@dataclass
class Tally:
    """The running numbers behind the counters."""

    appended: int = 0
    durable: int = 0
    drained: int = 0
    recovered: int = 0
    refused: int = 0
    blocked: float = 0.0
    commits: int = 0
    failures: int = 0
    torn_bytes: int = 0
