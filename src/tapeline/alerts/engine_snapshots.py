"""Snapshots of kernel and processor at one batch, on disk: where a recovery begins."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tapeline.alerts.engine.evaluator import Evaluator, Still
from tapeline.alerts.json_parts import json_parts
from tapeline.alerts.snapshot import load_snapshot, save_snapshot
from tapeline.core.errors import DataError
from tapeline.streams.segments import sync_folder

_log = logging.getLogger(__name__)
KEPT: Final = 2
"""Snapshots kept: one that a disk has damaged must not be the only one."""


class Recovered(NamedTuple):
    """A snapshot: kernel, the processor's memory, the journal's position and the feeds'."""

    evaluator: Evaluator
    processor: Mapping[str, Any]
    position: int
    feeds: dict[str, int]


class EngineSnapshots:
    """The newest snapshots in a folder.

    A snapshot is two files, the processor's written last with a checksum: without it there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(
        self, evaluator: Evaluator | Still, processor: Mapping[str, Any], position: int, feeds: Mapping[str, int]
    ) -> int:
        """Write a snapshot; the position before which nothing is needed any more. In any thread, one at a time."""
        save_snapshot(evaluator, self._kernel(position), feeds)
        text, hashed = list(json_parts(processor)), hashlib.sha256()
        for part in text:
            hashed.update(part)
        path = self._processor(position)
        beside = path.with_suffix(".tmp")
        with beside.open("wb") as file:
            file.write(hashed.hexdigest().encode() + b"\n")
            file.writelines(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(self.folder)
        positions = self._positions()
        for old in positions[:-KEPT]:
            self._processor(old).unlink(missing_ok=True)
            self._kernel(old).unlink(missing_ok=True)
        return positions[-KEPT:][0]

    def load(self) -> Recovered | None:
        """The newest snapshot that is whole; None where there is none."""
        for position in reversed(self._positions()):
            try:
                evaluator, feeds = load_snapshot(self._kernel(position))
                digest, _, text = self._processor(position).read_text(encoding="utf-8").partition("\n")
                if hashlib.sha256(text.encode()).hexdigest() != digest:
                    raise DataError(f"{self._processor(position)} is torn or was altered")
                return Recovered(evaluator, json.loads(text), position, feeds)
            except (DataError, OSError, ValueError) as error:
                _log.warning("a snapshot is passed over: %s", error)
        return None

    def _positions(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("processor-")) for path in self.folder.glob("processor-*.json"))

    def _kernel(self, position: int) -> Path:
        return self.folder / f"kernel-{position:020d}.bin"

    def _processor(self, position: int) -> Path:
        return self.folder / f"processor-{position:020d}.json"
