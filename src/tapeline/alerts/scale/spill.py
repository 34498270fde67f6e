"""What a publisher has sent in its term, in files: to be sent again where Redis lost it.

Nothing here must outlive the publisher: another term begins from what snapshots hold, and asks the sources again.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from tapeline.alerts.scale.tick_streams import Entry
from tapeline.core.errors import DataError

_HEAD: Final = struct.Struct("<IQI")
_SUFFIX: Final = ".entries"


class _Part:
    """One file: its size, and by shard the last position in it."""

    __slots__ = ("last", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self.last: dict[int, int] = {}


class Spill:
    """Entries in the order in which they were made.

    Parameters
    ----------
    folder:
        Of this publisher alone; what an earlier term left in it is removed.
    most_bytes:
        Beyond which the oldest file is given up: what is then asked for is said to be gone.
    part_bytes:
        Of one file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spill = Spill(Path(folder))
    ...     spill.append([Entry(0, 7, b"a"), Entry(1, 7, b"b"), Entry(0, 8, b"c")])
    ...     found = [(one.shard, one.body) for one in spill.behind({0: 7, 1: 6})]
    ...     spill.close()
    >>> found
    [(1, b'b'), (0, b'c')]
    """

    def __init__(self, folder: Path, *, most_bytes: int = 4 << 30, part_bytes: int = 32 << 20) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"*{_SUFFIX}"):
            old.unlink(missing_ok=True)
        self._folder, self._most, self._part = folder, most_bytes, part_bytes
        self._parts: deque[_Part] = deque()
        self._gone: dict[int, int] = {}
        self._file: BinaryIO | None = None
        self._made = 0

    @property
    def bytes_held(self) -> int:
        """The size of all files."""
        return sum(part.size for part in self._parts)

    def append(self, entries: Iterable[Entry]) -> None:
        """Take entries.

        Raises
        ------
        OSError
            The disk refuses.
        """
        if self._file is None or self._parts[-1].size >= self._part:
            self._begin()
        part, file = self._parts[-1], self._file
        if file is None:
            raise DataError("the spill was closed")
        for shard, position, body in entries:
            head = _HEAD.pack(shard, position, len(body))
            file.write(head)
            file.write(body)
            part.size += len(head) + len(body)
            part.last[shard] = position

    def behind(self, positions: Mapping[int, int]) -> Iterator[Entry]:
        """Entries of these shards behind these positions.

        Raises
        ------
        DataError
            Some were given up already.
        """
        for shard, position in positions.items():
            if self._gone.get(shard, -1) > position:
                raise DataError(f"entries of shard {shard} behind {position} are gone: the spill was full")
        if self._file is not None:
            self._file.flush()
        for part in list(self._parts):
            if any(part.last.get(shard, -1) > position for shard, position in positions.items()):
                yield from _read(part.path, positions)

    def remove(self, covered: Mapping[int, int]) -> int:
        """Remove files of which snapshots hold every entry; how many."""
        count = 0
        while len(self._parts) > 1:
            if any(last > covered.get(shard, -1) for shard, last in self._parts[0].last.items()):
                break
            self._parts.popleft().path.unlink(missing_ok=True)
            count += 1
        return count

    def close(self) -> None:
        """Remove everything."""
        if self._file is not None:
            self._file.close()
            self._file = None
        while self._parts:
            self._parts.popleft().path.unlink(missing_ok=True)

    def _begin(self) -> None:
        if self._file is not None:
            self._file.close()
        while self._parts and self.bytes_held >= self._most:
            part = self._parts.popleft()
            part.path.unlink(missing_ok=True)
            for shard, last in part.last.items():
                self._gone[shard] = max(last, self._gone.get(shard, -1))
        self._made += 1
        path = self._folder / f"{self._made:012d}{_SUFFIX}"
        self._file = path.open("wb")
        self._parts.append(_Part(path))


def _read(path: Path, positions: Mapping[int, int]) -> Iterator[Entry]:
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            shard, position, length = _HEAD.unpack(head)
            body = file.read(length)
            if position > positions.get(shard, position):
                yield Entry(shard, position, body)
