"""A program that is kept running beside the engine, and ends with it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

_log = logging.getLogger(__name__)
GATEWAY: Final = (sys.executable, "-c", "from tapeline.cli import main; main()", "alerts", "gateway")
"""What begins the API in a process of its own."""
_PARENT_DEATH: Final = 1  # PR_SET_PDEATHSIG of prctl(2)


async def keep_running(
    command: Sequence[str], *, pause: float = 1.0, longest: float = 60.0, grace: float = 20.0
) -> None:
    """Run a program, and again whenever it ends, until cancelled; then it is asked to end (SIGTERM) and waited for.

    Where this process dies without a word the program is ended by the operating system (Linux only).

    Parameters
    ----------
    pause, longest:
        Seconds before it is begun again: doubled, up to the longest, where it lived for less than a minute.
    grace:
        Seconds it has to end before it is killed.
    """
    wait = pause
    while True:
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(*command, preexec_fn=_end_with_parent())
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process, grace)
            raise
        wait = pause if time.monotonic() - begun > 60.0 else wait
        _log.error("%s ended with %d and is begun again in %.0f s", command[-1], code, wait)
        await asyncio.sleep(wait)
        wait = min(2 * wait, longest)


async def _end(process: asyncio.subprocess.Process, grace: float) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _end_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the program: ask the system to end it when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    # Looked up here: between fork and exec nothing may be loaded.
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PARENT_DEATH, int(signal.SIGTERM))

    return ask
