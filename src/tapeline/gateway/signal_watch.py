"""Waiting for signals without a thread for each who waits: one looks, and wakes them all."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tapeline.core.errors import TapelineError
from tapeline.gateway.problems import ProblemError, retry_after

EVERY: Final = 0.05
MOST_WAITING: Final = 20
"""Requests of one caller that may wait at the same time."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiter:
    seen: int
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class SignalWatch:
    """Tells when a number has risen.

    Parameters
    ----------
    look:
        Gives the number; called in a thread of its own, and only while somebody waits.
    every:
        Seconds between two looks.
    """

    def __init__(self, look: Callable[[], int], *, every: float = EVERY) -> None:
        self._look, self._every = look, every
        self._waiting: set[_Waiter] = set()
        self._callers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    async def risen(self, seen: int, *, caller: str, timeout: float) -> bool:
        """Wait until the number is above ``seen``; False where it was not within ``timeout`` seconds.

        Raises
        ------
        ProblemError
            429: this caller waits in too many places.
        """
        waiter = _Waiter(seen, asyncio.get_running_loop())
        with self._lock:
            if self._callers[caller] >= MOST_WAITING:
                raise ProblemError(
                    429, "too-many-requests", f"more than {MOST_WAITING} requests wait", headers=retry_after(1.0)
                )
            self._callers[caller] += 1
            self._waiting.add(waiter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tapeline-signal-watch", daemon=True)
                self._thread.start()
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(waiter.woken.wait(), timeout)
            return waiter.woken.is_set()
        finally:
            with self._lock:
                self._waiting.discard(waiter)
                self._callers[caller] -= 1
                if not self._callers[caller]:
                    del self._callers[caller]

    def _run(self) -> None:
        while True:
            try:
                number = self._look()
            except TapelineError as error:
                _log.warning("signals cannot be looked for: %s", error)
                number = -1
            with self._lock:
                for one in [one for one in self._waiting if one.seen < number]:
                    self._waiting.discard(one)
                    with suppress(RuntimeError):  # its loop has ended
                        one.loop.call_soon_threadsafe(one.woken.set)
                if not self._waiting:
                    self._thread = None
                    return
            self._ended.wait(self._every)
