"""The backlog: what a journal holds on disk for the lake, summed by segment so that it stays small in memory.

Not safe to share between threads by itself: the journal guards it.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tapeline.streams.segments import Frame

_MARK_SECONDS: Final = 1.0
"""The age of the oldest row is known to this precision; a mark a frame would grow with the backlog."""


@dataclass
class _Stretch:
    """The part of one segment that the lake does not have: its last frame, and how many rows and bytes."""

    path: Path
    last: int
    rows: int = 0
    size: int = 0


class Backlog:
    """Durable frames above ``drained``, oldest first.

    Parameters
    ----------
    drained:
        The number of the last frame that the lake holds.
    """

    def __init__(self, drained: int) -> None:
        self.drained = drained
        self.rows = 0
        self.size = 0
        self.offset = 0
        self._stretches: deque[_Stretch] = deque()
        self._marks: deque[tuple[int, float]] = deque()

    def add(self, path: Path, number: int, rows: int, size: int, *, offset: int) -> None:
        """Count a frame that has become durable; ``offset`` is where it begins in its segment."""
        if not self._stretches:
            self.offset = offset
        if not self._stretches or self._stretches[-1].path != path:
            self._stretches.append(_Stretch(path, number))
        stretch = self._stretches[-1]
        stretch.last = number
        stretch.rows += rows
        stretch.size += size
        self.rows += rows
        self.size += size
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][1] >= _MARK_SECONDS:
            self._marks.append((number, now))

    def remove(self, frames: list[tuple[Frame, int, int]]) -> set[Path]:
        """Forget frames, given with their rows and bytes, from the oldest on; returns the segments that became empty.

        The order must be that of ``add``.
        """
        emptied: set[Path] = set()
        for frame, rows, size in frames:
            stretch = self._stretches[0]
            stretch.rows -= rows
            stretch.size -= size
            self.rows -= rows
            self.size -= size
            self.drained, self.offset = frame.number, frame.end
            if frame.number == stretch.last:
                self._stretches.popleft()
                self.offset = 0
                emptied.add(stretch.path)
        while len(self._marks) > 1 and self._marks[1][0] <= self.drained + 1:
            self._marks.popleft()
        if not self._stretches:
            self._marks.clear()
        return emptied

    def stretches(self) -> list[tuple[Path, int]]:
        """The segments that hold frames for the lake, each with its last durable frame."""
        return [(stretch.path, stretch.last) for stretch in self._stretches]

    def holds(self, path: Path) -> bool:
        """True where a segment has frames that the lake does not have."""
        return any(stretch.path == path for stretch in self._stretches)

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest frame, to one second; 0 without any."""
        return time.monotonic() - self._marks[0][1] if self._marks else 0.0
