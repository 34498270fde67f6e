"""SQLite's write-ahead log brought back into the file beside the writer, not by it.

Left to itself SQLite does this in the commit that makes the log a thousand pages long: two flushes of the disk and the
writing of every changed page, while whoever committed waits. At a thousand firings a second that is several times a
second. Here a thread does it through a connection of its own, which holds no writer up; the log begins anew only at an
instant at which all of it has been brought back, so once it is long the writer is asked to bring back the little that
came meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

_log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 2.0
"""Between two looks, where there was a commit."""
LONGEST_PAGES: Final = 16_384
"""Pages of 4 KiB in the log from which the writer helps."""


class Checkpoints:
    """The thread; it begins with the first commit.

    Parameters
    ----------
    connect:
        Opens a connection.
    finish:
        Called where the log is long: lets the writer bring back the rest between two of its transactions.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], finish: Callable[[], None], every: float = EVERY_SECONDS
    ) -> None:
        self.done = 0
        self._connect, self._finish, self._every = connect, finish, every
        self._dirty, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def note(self) -> None:
        """There was a commit."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="alert-store-checkpoints", daemon=True)
            self._thread.start()
        self._dirty.set()

    def close(self) -> None:
        """End the thread; the last connection that closes brings back what is left."""
        self._ended.set()
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._dirty.wait()
            if self._ended.is_set():
                return
            self._dirty.clear()
            try:
                connection = self._connect()
                try:
                    pages = checkpoint(connection)
                finally:
                    connection.close()
                self.done += 1
                if pages >= LONGEST_PAGES:
                    self._finish()
            except sqlite3.Error as error:
                # Nothing is lost by it: the log only grows.
                _log.info("the log of the alert store is not brought back for now: %s", error)


def checkpoint(connection: sqlite3.Connection) -> int:
    """Bring back what can be without waiting for anybody; how many pages the log has."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(int(pages), 0)
