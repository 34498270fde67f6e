"""The thread by which an engine reports itself in the database, so that nothing of it holds the kernel up."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tapeline.alerts.engine_reports import BEAT_SECONDS, EngineReport, forget_engines, write_engine
from tapeline.alerts.store.database import Database
from tapeline.core.nanoseconds import SECOND
from tapeline.core.versions import digest

_log = logging.getLogger(__name__)
_REMEMBERED: Final = 7 * 86_400 * SECOND
"""For how long an engine that is gone is still reported."""


class EngineBeats:
    """Reports an engine again and again, and a last time when it ends.

    Parameters
    ----------
    status:
        What there is to report, as ``PerformanceMonitor.status`` gives it.
    clock:
        Nanoseconds since 1970.
    """

    def __init__(
        self, database: Database, instance: str, status: Callable[[], dict[str, Any]], clock: Callable[[], int]
    ) -> None:
        self._database, self._instance, self._status, self._clock = database, instance, status, clock
        self._started_at = clock()
        self._has_forgotten = False

    def run(self, stopping: threading.Event, every: float = BEAT_SECONDS) -> None:
        """Report every so many seconds, until told to stop."""
        while not stopping.wait(every):
            self.report()
        self.report()

    def report(self) -> None:
        """Report once; where the database refuses, that is said in the log."""
        now = self._clock()
        try:
            if not self._has_forgotten:
                forget_engines(self._database, now - _REMEMBERED)
                self._has_forgotten = True
            write_engine(self._database, EngineReport(self._instance, self._started_at, now, self._status()))
        except Exception as error:  # noqa: BLE001 - whatever it is: alerts do not depend on their report
            _log.info("the engine cannot report itself for now: %s", error)


def instance_of(folder: Path) -> str:
    """A name for the engine of a folder: the machine's, and what tells its folders apart.

    Examples
    --------
    >>> instance_of(Path("a")) == instance_of(Path("a")) != instance_of(Path("b"))
    True
    """
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).lstrip("_.-")[:40] or "engine"
    return f"{host}-{digest(str(folder.resolve()))[:6]}"
