"""One engine a folder: whoever holds the lock uses it, another one waits for it or is told."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from tapeline.core.errors import ConfigurationError

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)
FILE: Final = "engine.lock"
LOOK: Final = 0.01
"""Seconds between two looks of who waits: what a standby's takeover costs at most before it begins."""


class FolderLock:
    """The right to use an engine's folder, given back by the operating system when its holder dies, however it dies.

    The lock is advisory (``flock``) and holds on one machine: over a network file system it may not, and where the
    system has none (Windows) nothing keeps a second engine away. A process that hangs or is stopped still holds it.

    Parameters
    ----------
    folder:
        Made where it is absent.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first, second = FolderLock(Path(folder)), FolderLock(Path(folder))
    ...     before = first.take(), second.take(), first.holder() == os.getpid()
    ...     first.give_back()
    ...     before, second.take()
    ...     second.give_back()
    ((True, False, True), True)
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._file = -1

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._file >= 0

    def take(self) -> bool:
        """Take the lock if it is free; whether it is ours now."""
        if self.held:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if fcntl is None:
                _log.warning("nothing keeps a second engine away from %s: this system has no flock", self.path.parent)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        os.ftruncate(file, 0)
        os.write(file, b"%d\n" % os.getpid())
        return True

    def take_or_fail(self) -> None:
        """Take the lock now.

        Raises
        ------
        ConfigurationError
            Another engine has it.
        """
        if not self.take():
            raise ConfigurationError(
                f"the alert engine of process {self.holder() or '?'} uses {self.path.parent} already",
                hint="end it, name another [alerts] folder, or stand by for it: tapeline alerts serve --standby",
            )

    async def wait(self) -> None:
        """Take the lock once its holder has gone; may be cancelled."""
        while not self.take():
            await asyncio.sleep(LOOK)

    def holder(self) -> int:
        """The process that took it last; 0 where none says so."""
        try:
            return int(self.path.read_text(encoding="ascii").strip() or 0)
        except (OSError, ValueError):
            return 0

    def give_back(self) -> None:
        """Let another one have it."""
        if self.held:
            os.close(self._file)
            self._file = -1
