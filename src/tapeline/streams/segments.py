"""Journal segments: files of checksummed frames, appended to, forced to disk, and read back after a crash.

``<first frame's number, 20 digits>.segment`` holds a header and frames; a frame is what one commit made durable:

    magic (4) | body length (4) | CRC-32 of number and body (4) | number (8) | body

Frames are numbered without a gap, across segments too. A frame is written only after the one before it was durable,
so a broken frame with a sound one behind it is damage to durable data, and a broken end is a commit that a crash cut
short and nobody was told of.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from tapeline.core.errors import DataError

SUFFIX: Final = ".segment"
MAXIMUM_BODY: Final = 1 << 28
_FILE_MAGIC: Final = b"TLS1"
_FRAME_MAGIC: Final = b"TLf1"
_FILE_HEADER: Final = struct.Struct("<4sIQ")
_FRAME_HEADER: Final = struct.Struct("<4sIIQ")
_NUMBER: Final = struct.Struct("<Q")
POSITION_FILE: Final = "drained"
_POSITION: Final = struct.Struct("<QI")


class Frame(NamedTuple):
    """One durable commit: its number, its body and where in its file it ends."""

    number: int
    body: bytes
    end: int


@dataclass(frozen=True)
class Segment:
    """One segment as recovery found it: the numbers of its sound frames and the bytes they take."""

    path: Path
    first: int
    last: int
    size: int
    torn_bytes: int

    @property
    def is_empty(self) -> bool:
        """True where it holds no sound frame."""
        return self.last < self.first


class SegmentWriter:
    """Appends frames to one segment; each is durable when ``commit`` returns.

    After an error the file is of no further use: what the system has of an unsynchronised write is unknown, and a
    second fsync may report success for pages that were dropped at the first (Rebello et al., USENIX ATC 2020). The
    journal then commits the same frame to a new segment.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.path = folder / f"{first:020d}{SUFFIX}"
        self.size = 0
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self.path, flags, 0o666)
        self._empty = True
        try:
            number = _NUMBER.pack(first)
            self._write([_FILE_HEADER.pack(_FILE_MAGIC, zlib.crc32(number), first)])
            os.fsync(self._descriptor)
            sync_folder(folder)
        except BaseException:
            self.abandon()
            raise

    def commit(self, number: int, parts: list[bytes]) -> int:
        """Write one frame and force it to disk; returns the bytes written. OSError where that failed."""
        length = sum(map(len, parts))
        crc = zlib.crc32(_NUMBER.pack(number))
        for part in parts:
            crc = zlib.crc32(part, crc)
        before = self.size
        self._write([_FRAME_HEADER.pack(_FRAME_MAGIC, length, crc, number), *parts])
        sync(self._descriptor)
        self._empty = False
        return self.size - before

    def abandon(self, durable: int = 0) -> None:
        """Close after an error and cut off, if the disk lets us, what is behind the ``durable`` bytes."""
        try:
            if self._empty:
                self.path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._descriptor, durable)
        except OSError:
            pass  # recovery passes over what stands there: the next segment begins with the same number
        self.close()

    def close(self) -> None:
        """Close the file; everything committed is durable already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, parts: list[bytes]) -> None:
        raw = memoryview(b"".join(parts))
        while raw:
            written = os.write(self._descriptor, raw)
            self.size += written
            raw = raw[written:]


def read_frames(path: Path, *, after: int = 0, offset: int = 0) -> Iterator[Frame]:
    """The sound frames of a segment numbered above ``after``, up to the first that is not sound.

    ``offset`` is where frame ``after`` ends, if that is known: what lies before it is then not read again.
    """
    with path.open("rb") as file:
        header = file.read(_FILE_HEADER.size)
        if len(header) < _FILE_HEADER.size:
            return
        magic, crc, expected = _FILE_HEADER.unpack(header)
        if magic != _FILE_MAGIC or zlib.crc32(_NUMBER.pack(expected)) != crc:
            return
        if offset:
            file.seek(offset)
            expected = after + 1
        while True:
            frame = _read_frame(file, expected, wanted=expected > after)
            if frame is None:
                return
            if frame.number > after:
                yield frame
            expected += 1


def size_of(frame: Frame) -> int:
    """The bytes that a frame takes in its segment."""
    return _FRAME_HEADER.size + len(frame.body)


def recover(folder: Path, drained: int) -> list[Segment]:
    """The segments of a folder, oldest first, after the torn end of the last one was cut off.

    Parameters
    ----------
    drained:
        The number of the last frame that the lake holds; frames up to it need not be there.

    Raises
    ------
    DataError
        A durable frame is damaged or missing. Nothing was changed.
    """
    paths = sorted(folder.glob(f"[0-9]*{SUFFIX}"))
    found = [_inspect(path) for path in paths]
    followed = list(zip(found, [*found[1:], None][: len(found)], strict=True))
    for segment, following in followed:
        if following is not None and segment.last < following.first - 1 and drained < following.first - 1:
            raise _damage(segment.path, segment.last + 1)
        if following is None and _sound_frame_behind(segment) and drained <= segment.last:
            raise _damage(segment.path, segment.last + 1)
    if found and found[0].first > drained + 1:
        raise _damage(folder, drained + 1)
    kept = []
    for segment, following in followed:
        if segment.is_empty:
            segment.path.unlink()
            continue
        if following is None and segment.torn_bytes:
            with segment.path.open("r+b") as file:
                file.truncate(segment.size)
                os.fsync(file.fileno())
        kept.append(segment)
    sync_folder(folder)
    return kept


def first_number(folder: Path) -> int:
    """The number with which the oldest segment begins; 1 where there is none."""
    names = sorted(path.name for path in folder.glob(f"[0-9]*{SUFFIX}"))
    return int(names[0].removesuffix(SUFFIX)) if names else 1


def read_position(folder: Path) -> int:
    """The number of the last frame that the lake holds, as ``write_position`` left it."""
    path = folder / POSITION_FILE
    try:
        number, crc = _POSITION.unpack(path.read_bytes())
    except FileNotFoundError:
        return first_number(folder) - 1
    except struct.error:
        number, crc = 0, 1
    if zlib.crc32(_NUMBER.pack(number)) != crc:
        raise DataError(f"{path} is damaged", hint="remove it: rows that the lake has already are passed over there")
    return int(number)


def write_position(folder: Path, number: int) -> None:
    """Remember the number of the last frame that the lake holds; atomic and durable on return."""
    temporary = folder / f".{POSITION_FILE}"
    with temporary.open("wb") as file:
        file.write(_POSITION.pack(number, zlib.crc32(_NUMBER.pack(number))))
        file.flush()
        sync(file.fileno())
    temporary.replace(folder / POSITION_FILE)
    sync_folder(folder)


def sync(descriptor: int) -> None:
    """Force a file's bytes and its length to disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a no-operation where the system cannot open folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_frame(file: BinaryIO, expected: int, *, wanted: bool = True) -> Frame | None:
    header = file.read(_FRAME_HEADER.size)
    if len(header) < _FRAME_HEADER.size:
        return None
    magic, length, crc, number = _FRAME_HEADER.unpack(header)
    if magic != _FRAME_MAGIC or number != expected or length > MAXIMUM_BODY:
        return None
    body = file.read(length)
    if len(body) < length or zlib.crc32(body, zlib.crc32(_NUMBER.pack(number))) != crc:
        return None
    return Frame(number, body if wanted else b"", file.tell())


def _inspect(path: Path) -> Segment:
    named = int(path.name.removesuffix(SUFFIX))
    last, size = named - 1, 0
    for frame in read_frames(path):
        if last < named and frame.number != named:
            break  # the header says another number than the name: nothing in it can be placed
        last, size = frame.number, frame.end
    return Segment(path, named, last, size, path.stat().st_size - size)


def _sound_frame_behind(segment: Segment) -> bool:
    """True where a whole frame with a later number stands behind the sound part."""
    with segment.path.open("rb") as file:
        file.seek(max(segment.size, 1))
        rest = file.read()
    position = rest.find(_FRAME_MAGIC)
    while position >= 0:
        header = rest[position : position + _FRAME_HEADER.size]
        if len(header) == _FRAME_HEADER.size:
            _, length, crc, number = _FRAME_HEADER.unpack(header)
            start = position + _FRAME_HEADER.size
            body = rest[start : start + length]
            if len(body) == length and zlib.crc32(body, zlib.crc32(_NUMBER.pack(number))) == crc:
                return True
        position = rest.find(_FRAME_MAGIC, position + 1)
    return False


def _damage(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}: frame {number} of the journal is damaged or missing, and later ones are there",
        hint="these ticks were acknowledged: restore the file from a copy, or move the folder away to go on without",
    )
