"""Which rules and symbols held from which batch on: what a replay of the journal must know besides the batches.

Changes are appended, each with its number and the batch behind which it holds; now and then all that stands is written
anew as the base of a new file, so that a change costs what changed.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from tapeline.core.errors import DataError
from tapeline.streams.segments import sync, sync_folder

_PREFIX: Final = "epochs-"
_ENDING: Final = ".jsonl"
_CHECK: Final = 8


class Epoch(NamedTuple):
    """A change, or with ``base`` all that stood.

    ``number`` counts changes from 1; a base has the number of the last change in it. ``position`` is that of the last
    batch before it. ``text`` is JSON.
    """

    number: int
    position: int
    text: str
    base: bool = False

    @property
    def body(self) -> Any:
        """What the text says."""
        return json.loads(self.text)


class RuleEpochs:
    """Files ``epochs-<number>.jsonl``: a line with a base, then a line for each change behind it.

    A line begins with its checksum. The last one may be torn by a crash: nothing of it was in force, and it is cut off.

    Parameters
    ----------
    folder:
        Where they lie; made where it is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     epochs = RuleEpochs(Path(folder))
    ...     epochs.begin(Epoch(0, 0, "{}", base=True))
    ...     epochs.append(Epoch(1, 7, '{"removed": ["r"]}'))
    ...     [(one.number, one.position, one.body) for one in RuleEpochs(Path(folder)).read()]
    [(0, 0, {}), (1, 7, {'removed': ['r']})]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = 0
        self._descriptor = -1
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, base: Epoch) -> None:
        """Write down durably all that stands; changes follow it. What was written before stays for older snapshots."""
        self.close()
        path = self.folder / f"{_PREFIX}{base.number:020d}{_ENDING}"
        beside = path.with_suffix(".tmp")
        with beside.open("wb") as file:
            file.write(_line(base))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(self.folder)
        self._open(path)
        self.written = 0

    def append(self, epoch: Epoch) -> None:
        """Write down a change durably.

        Raises
        ------
        OSError
            The disk refused; nothing of it stands.
        DataError
            There is no base yet.
        """
        if self._descriptor < 0:
            paths = self._paths()
            if not paths:
                raise DataError(f"{self.folder}: there is no base for a change of the rules")
            _cut(paths[-1])
            self._open(paths[-1])
        line = _line(epoch)
        size = os.fstat(self._descriptor).st_size
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._descriptor, left) :]
            sync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
        self.written += len(line)

    def read(self) -> list[Epoch]:
        """Everything that is there, in order: bases and changes.

        Raises
        ------
        DataError
            A line that is not the last is damaged.
        """
        return [epoch for path in self._paths() for epoch in _read(path)]

    def remove(self, before: int) -> None:
        """Remove what no recovery from a snapshot at a position, or a later one, needs."""
        paths = self._paths()
        for path, following in itertools.pairwise(paths):
            # A base at the position itself may hold what came behind the snapshot there.
            if _read(following, 1)[0].position >= before:
                return
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; everything appended is durable already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*{_ENDING}"))


def _line(epoch: Epoch) -> bytes:
    head = json.dumps([epoch.number, epoch.position, epoch.base], separators=(",", ":"))
    body = f"{head}\t{epoch.text}\n".encode()
    return f"{zlib.crc32(body):08x}".encode() + body


def _read(path: Path, most: int = 1 << 62) -> list[Epoch]:
    found: list[Epoch] = []
    with path.open("rb") as file:
        for raw in file:
            body = raw[_CHECK:]
            if not raw.endswith(b"\n") or f"{zlib.crc32(body):08x}".encode() != raw[:_CHECK]:
                if file.read(1):
                    raise DataError(f"{path}: a change of the rules behind {len(found)} others is damaged")
                break
            head, _, text = body.decode().rstrip("\n").partition("\t")
            number, position, base = json.loads(head)
            found.append(Epoch(number, position, text, base))
            if len(found) >= most:
                break
    if not found:
        raise DataError(f"{path}: what stood cannot be read")
    return found


def _cut(path: Path) -> None:
    """Cut off a last line that a crash has torn."""
    size = sum(len(_line(epoch)) for epoch in _read(path))
    if size < path.stat().st_size:
        os.truncate(path, size)
