"""Manifests: which run made each content of a partition, from which inputs.

``<root>/_manifests/<zone>/<table>/symbol=/timeframe=/<label>.jsonl``, one JSON line a change, oldest first. A line is
appended before the data file is replaced, so lineage is never lost; a line whose content never reached the data file
(the writer died in between) is no part of the history, and the next writer cuts it off. Appending keeps a partition
that a live feed extends every minute from rewriting its whole history each time.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tapeline.core.errors import ConfigurationError
from tapeline.lake.partition import Place, make_folder

MANIFEST_FOLDER: Final = "_manifests"


@dataclass(frozen=True)
class Lineage:
    """What made some rows: the run, the stage, and the versions it read (``raw/bars:EURUSD:H1@<version>``)."""

    run_id: str
    stage: str
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = isinstance(self.inputs, tuple) and all(isinstance(text, str) for text in self.inputs)
        if not (texts and isinstance(self.run_id, str) and isinstance(self.stage, str)):
            raise ConfigurationError(
                f"a lineage takes two texts and a tuple of texts, was {self.run_id!r}, {self.stage!r}, {self.inputs!r}"
            )


_TAIL_BYTES: Final = 65_536
UNKNOWN: Final = Lineage("unknown", "unknown")
"""The lineage of a file whose manifest was lost: what ``Lake.recover`` writes."""


@dataclass(frozen=True)
class Change:
    """One change of one partition: the content hash and the rows it then had, and what made it.

    ``batches`` are the data versions of the rows that it brought, by which a row finds the run that brought it.
    """

    period: str
    content: str
    rows: int
    lineage: Lineage
    batches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The manifest of one partition."""

    root: Path
    place: Place
    label: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.root.joinpath(MANIFEST_FOLDER, *self.place.parts, f"{self.label}.jsonl")

    def history(self, content: str | None) -> list[Change]:
        """The changes that led to the content that the data file has now, oldest first.

        Empty where no line names that content: the manifest is lost or belongs to another file.
        """
        return self._parse(content)[0]

    def append(self, change: Change, held: str | None, held_rows: int = 0) -> None:
        """Append a change behind the line of the content that the data file holds now.

        Its bytes are durable on return; the name of a new manifest is once the caller has synchronised its folder.

        ``held`` is that content, None where there is no file yet. Lines behind it never reached the data file and are
        cut off. Call it with the lock of the series held.
        """
        make_folder(self.root, (MANIFEST_FOLDER, *self.place.parts))
        lines = [change]
        size = self._size_if_last(held)
        if size is None:
            changes, size = self._parse(held)
            if held is not None and not changes:
                lines.insert(0, Change(self.label, held, held_rows, UNKNOWN))
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(size)
            file.seek(size)
            file.write(b"".join(_encode(line) for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def rebuild(self, held: str, rows: int) -> bool:
        """Make the manifest end at the content that the file holds; True where something had to be changed."""
        if self._size_if_last(held) is not None:
            return False
        changes, size = self._parse(held)
        if changes:
            os.truncate(self.path, size)
        else:
            # Behind whatever stands there: an append behind 'nothing' would cut the history off.
            lines = self._all()
            self.append(Change(self.label, held, rows, UNKNOWN), lines[-1][0].content if lines else None)
        return True

    def _all(self) -> list[tuple[Change, int]]:
        """Every readable line with the position of its end; a torn or damaged line is passed over."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        position = 0
        found = []
        for line in raw.splitlines(keepends=True):
            position += len(line)
            change = _decode(line, self.label)
            if change is not None:
                found.append((change, position))
        return found

    def _parse(self, held: str | None) -> tuple[list[Change], int]:
        """The changes up to the last one that names the held content, and the bytes they take.

        Where none names it: no change, and the bytes of everything readable (of nothing where nothing is held).
        """
        lines = self._all()
        for count in range(len(lines), 0, -1):
            if lines[count - 1][0].content == held:
                return [change for change, _ in lines[:count]], lines[count - 1][1]
        return [], lines[-1][1] if lines and held is not None else 0

    def _size_if_last(self, held: str | None) -> int | None:
        """The manifest's size where its last line names the held content, found without reading the rest."""
        if held is None:
            return None
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                tail = file.read()
        except FileNotFoundError:
            return None
        last = _decode(tail[:-1].rpartition(b"\n")[2] + tail[-1:], self.label)
        return size if last is not None and last.content == held else None


def _encode(change: Change) -> bytes:
    values = {"content": change.content, "rows": change.rows, **asdict(change.lineage)}
    if change.batches:
        values["batches"] = change.batches
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes, label: str) -> Change | None:
    if not line.endswith(b"\n"):
        return None
    try:
        values = json.loads(line)
        lineage = Lineage(values["run_id"], values["stage"], tuple(values["inputs"]))
        return Change(label, values["content"], values["rows"], lineage, tuple(values.get("batches", ())))
    except (ValueError, KeyError, TypeError, ConfigurationError):
        return None
