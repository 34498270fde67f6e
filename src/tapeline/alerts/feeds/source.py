"""A source, and running it again where it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from tapeline.core.errors import TapelineError

_log = logging.getLogger(__name__)
LONGEST_PAUSE: Final = 60.0
"""Seconds between two runs of a source that fails again and again."""


class Source(Protocol):
    """What gives records to the data manager."""

    async def run(self) -> None:
        """Give records until :meth:`stop`."""
        ...

    def stop(self) -> None:
        """Let ``run`` return."""
        ...


async def run_source(source: Source, pause: float, is_over: Callable[[], bool] = lambda: False) -> None:
    """Run a source to its end, again where it fails: a feed that gives up silently would lose alerts.

    Parameters
    ----------
    pause:
        Seconds before it is run again, doubled with each failure within a minute.
    is_over:
        Whether a source that failed is not to be run again.

    Examples
    --------
    >>> class Flaky:
    ...     runs = 0
    ...     async def run(self):
    ...         self.runs += 1
    ...         if self.runs < 3:
    ...             raise TapelineError("not yet")
    ...     def stop(self): ...
    >>> flaky = Flaky()
    >>> asyncio.run(run_source(flaky, 0.0)), flaky.runs
    (None, 3)
    """
    wait = pause
    while not is_over():
        begun = time.monotonic()
        try:
            await source.run()
        except Exception as error:  # noqa: BLE001 - whatever it is: symbols that nobody follows are alerts lost
            known = isinstance(error, TapelineError)
            _log.error("a source failed and is run again: %s", error, exc_info=None if known else error)
            wait = min(2 * wait, LONGEST_PAUSE) if time.monotonic() - begun < LONGEST_PAUSE else pause
            await asyncio.sleep(wait)
        else:
            return
