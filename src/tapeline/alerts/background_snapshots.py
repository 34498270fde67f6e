"""Snapshots written by a thread of their own: the kernel stands still only while its arrays are copied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tapeline.alerts.engine.evaluator import State, Still, room_for
from tapeline.alerts.engine_memory import Journal, Snapshots
from tapeline.core.errors import TemporaryError

_log = logging.getLogger(__name__)


class Moment(NamedTuple):
    """An engine as it was behind one batch.

    ``known`` makes what processor and series remember, as of then. ``last`` is done when the last commit up to there
    is on the disk: a snapshot that knows of a firing which the store does not have would lose it.
    """

    evaluator: Still
    known: Callable[[], Mapping[str, Any]]
    position: int
    feeds: Mapping[str, int]
    last: Future[frozenset[str]] | None


class BackgroundSnapshots:
    """Writes one moment at a time. It counts only once everything it knows of is durable: commits, journal, then it.

    One thread begins and ends them.
    """

    def __init__(self, snapshots: Snapshots, journal: Journal) -> None:
        self._snapshots, self._journal = snapshots, journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tapeline-alert-snapshots")
        self._under_way: tuple[int, Future[int]] | None = None
        self._room: Future[dict[str, NDArray[Any]]] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether one is being written."""
        return self._under_way is not None and not self._under_way[1].done()

    def room(self, state: State) -> Mapping[str, NDArray[Any]] | None:
        """Memory for a copy of a state; None while it is being made, in which case ask again."""
        if self._room is None:
            sizes = {name: (array.dtype, array.size) for name, array in state.arrays.items()}
            self._room = self._thread.submit(room_for, sizes)
        if not self._room.done():
            return None
        made, self._room = self._room.result(), None
        return made

    def begin(self, moment: Moment, timeout: float = 30.0) -> None:
        """Let a moment be written; the one before it has been ended.

        Parameters
        ----------
        timeout:
            Seconds to wait for its commits.
        """
        self._under_way = moment.position, self._thread.submit(self._write, moment, timeout)

    def end(self, *, wait: bool = False, must: bool = False) -> tuple[int, int] | None:
        """Of a snapshot that has been written its position, and the one before which nothing is needed; None if none.

        Parameters
        ----------
        wait:
            Whether to wait for one that is under way.
        must:
            Whether a disk or store that fails for now is raised; else it is said in the log, and there is no snapshot
            this time.

        Raises
        ------
        TapelineError
            It can never be written: a commit was refused for good, or another engine has taken over.
        """
        if self._under_way is None or not (wait or self._under_way[1].done()):
            return None
        (position, done), self._under_way = self._under_way, None
        try:
            return position, done.result()
        except (OSError, TemporaryError) as error:
            if must:
                raise
            _log.warning("there is no snapshot at batch %d: %s", position, error or type(error).__name__)
            return None

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown(wait=True)

    def _write(self, moment: Moment, timeout: float) -> int:
        if moment.last is not None:
            moment.last.result(timeout)
        self._journal.commit()
        before = self._snapshots.save(moment.evaluator, moment.known(), moment.position, moment.feeds)
        self._journal.remove(before)
        return before
