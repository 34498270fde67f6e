"""A limiter for several workers of one machine: a SQLite file of its own.

The counts are worth nothing after a restart, so the file is written without waiting for the disk
(``synchronous=OFF``): a request costs a lock and a page in memory. It must not be the alert system's database, which
waits for the disk at each commit.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tapeline.alerts.limits.limiter import Rate, Verdict, checked_key, judged
from tapeline.core.errors import TemporaryError

LOCK_SECONDS: Final = 2.0
SWEEP_EVERY: Final = 10_000
"""After so many counted requests what no longer counts is removed."""


class SharedFileLimiter:
    """Counts in a file.

    Parameters
    ----------
    path:
        The file; it is made where it is absent, readable by its owner only. Every worker names the same.
    clock:
        Nanoseconds of a clock that the workers share: the wall clock. Injected in tests.

    Raises
    ------
    TemporaryError
        The file cannot be opened, or stays locked for ``LOCK_SECONDS``.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> first, second = (SharedFileLimiter(Path(folder.name) / "limits.db", clock=lambda: 1) for _ in range(2))
    >>> [one.take("ann", Rate(2, 60.0)).allowed for one in (first, second, first)]
    [True, True, False]
    >>> first.close(), second.close(), folder.cleanup()
    (None, None, None)
    """

    waits: Final = True

    def __init__(self, path: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._since_sweep = 0
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS arrival (key TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise TemporaryError(f"the file of rate limits {path} cannot be opened: {error}") from error

    def take(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Count ``cost`` requests of a key, or refuse them all."""
        key = checked_key(key).encode("utf-8", "replace").decode()
        with self._lock:
            if self._closed:
                raise TemporaryError(f"the file of rate limits {self._path} is closed")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    verdict = self._taken(key, rate, cost)
                finally:
                    self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise TemporaryError(f"the file of rate limits {self._path} failed: {error}") from error
            return verdict

    def _taken(self, key: str, rate: Rate, cost: int) -> Verdict:
        now = self._clock()
        found = self._connection.execute("SELECT at FROM arrival WHERE key = ?", (key,)).fetchone()
        arrival, verdict = judged(found[0] if found else 0, now, rate, cost)
        if arrival is not None:
            self._connection.execute("INSERT OR REPLACE INTO arrival VALUES (?, ?)", (key, arrival))
            self._since_sweep += 1
        if self._since_sweep >= SWEEP_EVERY:
            self._since_sweep = 0
            self._connection.execute("DELETE FROM arrival WHERE at <= ?", (now,))
        return verdict

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._closed = True
            self._connection.close()
