"""Quarantine of a live feed: refused rows on disk at once, in the lake a little later.

The lake rewrites a file with each write, which a feed that refuses rows one by one cannot wait for. Here each refused
row is a line appended to a file; :meth:`QuarantineSpill.flush` moves the lines to the lake and only then forgets them.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.quality.quarantine import quarantine_rejected

WriteQuarantine: TypeAlias = Callable[[pd.DataFrame, Symbol], object]
"""Writes rows of the quarantine table of one symbol, durably and idempotently by ``id``, as ``Lake.write`` does."""

MAXIMUM_BYTES: Final = 256 << 20
_COLUMNS: Final = ("id", "stage", "source", "row_number", "reasons", "record")


class QuarantineSpill:
    """Refused rows between the feed and the lake; safe to use from several threads.

    What :meth:`add` has returned from outlives the process, with ``durable`` also the machine. A crash between the
    lake's write and the removal of a file repeats the write, which changes nothing.

    Parameters
    ----------
    folder:
        Where the files lie; created if absent. What an earlier process left is moved with the next ``flush``.
    maximum_bytes:
        The most that waits for the lake. Beyond it ``add`` refuses.

    Examples
    --------
    >>> import tempfile
    >>> spill = QuarantineSpill(Path(tempfile.mkdtemp()))
    >>> rejected = pd.DataFrame({"row_number": [0], "record": ["{"], "reasons": [["the message is cut off"]]})
    >>> spill.add(Symbol.parse("BTCUSDT"), quarantine_rejected(rejected, stage="stream", source="demo"))
    >>> spill.flush(lambda rows, symbol: print(symbol, rows["reasons"].tolist()))
    BTCUSDT [['unreadable: the message is cut off']]
    1
    """

    def __init__(self, folder: Path, *, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        if maximum_bytes < 1:
            raise ConfigurationError(f"maximum_bytes = {maximum_bytes} must be at least 1")
        self.folder, self.maximum_bytes = Path(folder), maximum_bytes
        self._guard, self._moving = threading.Lock(), threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        found = sorted(int(path.stem) for path in self.folder.glob("*.quarantine") if path.stem.isdecimal())
        self._next = found[-1] + 1 if found else 0
        self._size = sum(self._path(number).stat().st_size for number in found)
        self._file: int | None = None
        self.rows = 0

    def add(self, symbol: Symbol, rows: pd.DataFrame, *, durable: bool = False) -> None:
        """Keep rows of the quarantine table; with ``durable`` they are forced to disk before it returns.

        Raises
        ------
        OSError
            The disk refused, or ``maximum_bytes`` wait for the lake already: none of the rows was taken.
        """
        lines = []
        for ts, row in zip(pd.DatetimeIndex(rows.index).asi8.tolist(), rows.to_dict("records"), strict=True):
            values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
            values["reasons"] = list(values["reasons"])
            lines.append(json.dumps({"symbol": str(symbol), "ts": ts, **values}))
        if not lines:
            return
        # A line that a crash cut off must not swallow the first line behind it, hence the break in front.
        body = ("\n" + "\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
        with self._guard:
            if self._size + len(body) > self.maximum_bytes:
                raise OSError(f"{self._size:,} bytes of refused rows wait for the lake, at most {self.maximum_bytes:,}")
            if self._file is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                self._file = os.open(self._path(self._next), flags, 0o600)
            view = memoryview(body)
            while view:
                view = view[os.write(self._file, view) :]
            if durable:
                os.fsync(self._file)
            self._size += len(body)
            self.rows += len(lines)

    def add_message(
        self, symbol: Symbol, *, raw: bytes, length: int, reason: str, received: int, number: int, source: str
    ) -> None:
        """Keep a message that could not be read: its head as text, its length and when it was received (ns)."""
        record = json.dumps({"received": received, "length": length, "raw": raw.decode("utf-8", "backslashreplace")})
        rejected = pd.DataFrame({"row_number": [number], "record": [record], "reasons": [[reason]]})
        self.add(symbol, quarantine_rejected(rejected, stage="stream", source=source))

    @property
    def waiting_bytes(self) -> int:
        """What waits for the lake."""
        return self._size

    def flush(self, write: WriteQuarantine) -> int:
        """Move everything to the lake and give the number of rows; what ``write`` raises leaves the files in place."""
        with self._moving:
            with self._guard:
                if self._file is not None:
                    os.fsync(self._file)
                    os.close(self._file)
                    self._file = None
                    self._next += 1
                before = self._next
            moved = 0
            for path in sorted(self.folder.glob("*.quarantine"), key=lambda each: each.name):
                if not path.stem.isdecimal() or int(path.stem) >= before:
                    continue
                size, by_symbol = path.stat().st_size, _read(path)
                for symbol, frame in by_symbol.items():
                    write(frame, symbol)
                    moved += len(frame)
                path.unlink()
                with self._guard:
                    self._size -= size
            return moved

    def close(self) -> None:
        """Close the file; what it holds is moved by the next process."""
        with self._guard:
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
                self._file = None
                self._next += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.quarantine"


def _read(path: Path) -> dict[Symbol, pd.DataFrame]:
    """The rows of a file by symbol; a line that a crash cut off was never acknowledged and is left out."""
    rows: dict[Symbol, list[dict[str, Any]]] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            rows.setdefault(Symbol.parse(row["symbol"]), []).append(row)
        except (ValueError, TypeError, KeyError):
            continue
    found = {}
    for symbol, held in rows.items():
        index = pd.DatetimeIndex(pd.to_datetime([row["ts"] for row in held], unit="ns", utc=True), name="ts").as_unit(
            "ns"
        )
        frame = pd.DataFrame({name: [row[name] for row in held] for name in _COLUMNS}, index=index)
        found[symbol] = frame[~frame["id"].duplicated().to_numpy()].sort_index(kind="stable")
    return found
