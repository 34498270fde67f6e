"""Recorded sessions, read and replayed through the real dialects with the times at which they were received.

Two formats, told apart line by line, plain or gzip-compressed:

- ``<receive time, ns> <message>``: one message a line, as hftbacktest's collector writes them;
- ``<receive time, s>: <message>`` for what was received, ``<url> <- <time>: <message>`` for what was sent,
  ``<url> -> <time>: <body>`` for a REST answer and ``<url> <-> <time>`` for a connection, as cryptofeed writes them.
"""

from __future__ import annotations

import gzip
import heapq
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.streams.dialects.base import MAXIMUM_BYTES, Dialect
from tapeline.streams.messages import Record

Direction = Literal["received", "sent", "answered", "connected"]

_NANOSECONDS: Final = re.compile(rb"(\d{16,19}) ")
_SECONDS: Final = re.compile(rb"(\d{9,10}(?:\.\d+)?): ?")
_OTHER: Final = re.compile(rb"(\S+://\S+) (<->|<-|->) (\d{9,10}(?:\.\d+)?)(?:: ?|$)")
_DIRECTIONS: Final[dict[bytes, Direction]] = {b"<->": "connected", b"<-": "sent", b"->": "answered"}
_GZIP: Final = b"\x1f\x8b"


class Recorded(NamedTuple):
    """One recorded message. ``received`` is nanoseconds since the epoch on the RECORDER's clock."""

    received: int
    direction: Direction
    url: str
    payload: bytes


class Received(NamedTuple):
    """A record and when its message was received, in nanoseconds since the epoch."""

    received: int
    record: Record


def read_recording(path: Path, *, maximum_bytes: int = MAXIMUM_BYTES) -> Iterator[Recorded]:
    """The messages of one file in the order of its lines.

    Lines of neither format, such as cryptofeed's ``configuration:``, are skipped.

    Raises
    ------
    ConfigurationError
        There is no such file.
    DataError
        A line is longer than ``maximum_bytes``, or the compressed data is damaged or cut off: raised after the last
        message that could be read, and names its line.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no recording '{path}'")
    number = 0
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP
            plain.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=plain) if packed else plain  # type: ignore[assignment]
            while line := stream.readline(maximum_bytes + 1):
                number += 1
                if len(line) > maximum_bytes:
                    raise DataError(f"{path.name}: line {number} is longer than {maximum_bytes} bytes")
                found = _message(line.rstrip(b"\r\n"))
                if found is not None:
                    yield found
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is damaged after line {number}: {error}") from error


def merge(*recordings: Iterable[Recorded]) -> Iterator[Recorded]:
    """Several recordings as one, by receive time: a stream and the REST answers fetched beside it.

    Examples
    --------
    >>> one = [Recorded(1, "received", "", b"a"), Recorded(3, "received", "", b"c")]
    >>> [item.payload for item in merge(one, [Recorded(2, "answered", "", b"b")])]
    [b'a', b'b', b'c']
    """
    return heapq.merge(*recordings, key=lambda item: item.received)


def replay(
    recording: Iterable[Recorded],
    dialect: Dialect,
    *,
    speed: float | None = None,
    symbol_in_url: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Received]:
    """Parse a recording with the dialect that parses the live stream.

    Parameters
    ----------
    speed:
        1 replays at the recorded pace, 10 ten times as fast; None as fast as possible. Delays do not add up: each
        message is due at its own distance from the first one.
    symbol_in_url:
        The query parameter of REST answers that names the instrument (``symbol`` at Binance); answers are skipped
        where it is None or absent from the address.
    sleep, monotonic:
        Injected in tests.

    Yields
    ------
    Every record with the time at which its message was received. Nothing of the wall clock is in them: the same
    recording gives the same records.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ConfigurationError(f"speed = {speed} must be positive and finite", hint="None is as fast as possible")
    first: int | None = None
    started = 0.0
    for item in recording:
        if item.direction == "received":
            records = dialect.parse(item.payload)
        elif item.direction == "answered" and symbol_in_url is not None:
            records = _answered(item, dialect, symbol_in_url)
        else:
            continue
        if speed is not None:
            if first is None:
                first, started = item.received, monotonic()
            wait = started + (item.received - first) / 1e9 / speed - monotonic()
            if wait > 0:
                sleep(wait)
        for record in records:
            yield Received(item.received, record)


def _answered(item: Recorded, dialect: Dialect, parameter: str) -> list[Record]:
    found = re.search(rf"[?&]{re.escape(parameter)}=([^&]+)", item.url)
    reader = getattr(dialect, "parse_snapshot", None)
    if found is None or reader is None:
        return []
    records: list[Record] = reader(item.payload, found[1])
    return records


def _message(line: bytes) -> Recorded | None:
    found = _NANOSECONDS.match(line)
    if found:
        return Recorded(int(found[1]), "received", "", line[found.end() :])
    found = _SECONDS.match(line)
    if found:
        return Recorded(_instant(found[1]), "received", "", line[found.end() :])
    found = _OTHER.match(line)
    if found:
        url = found[1].decode("utf-8", "replace")
        return Recorded(_instant(found[3]), _DIRECTIONS[found[2]], url, line[found.end() :])
    return None


def _instant(seconds: bytes) -> int:
    try:
        return int(Decimal(seconds.decode()) * 1_000_000_000)
    except InvalidOperation as error:  # pragma: no cover - the pattern admits digits and one point only
        raise DataError(f"{seconds!r} is not a time in seconds") from error
