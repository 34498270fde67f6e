"""Commits gathered for a few milliseconds and written as one: a disk flush costs as much for one as for hundreds.

An acknowledgement comes after the flush, never before. While the disk or the server fails, the group is tried again
and nothing is acknowledged; the queue fills, and whoever submits waits: that is the back-pressure.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tapeline.alerts.records import Commit
from tapeline.alerts.store.store import Store
from tapeline.core.errors import ConfigurationError, TemporaryError

GATHER_SECONDS: Final = 0.005
MOST_GATHERED: Final = 1_000
CAPACITY: Final = 10_000
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0


@dataclass(slots=True)
class _Waiting:
    commit: Commit
    arrived: float
    answer: Future[frozenset[str]] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """What a :class:`GroupCommit` has done: commits and groups written, tries that failed, and what waits now."""

    commits: int
    groups: int
    failures: int
    waiting: int
    problem: str


class GroupCommit:
    """A thread that writes what is submitted to it, in the order in which it came.

    Parameters
    ----------
    store:
        Where to; it stays the caller's to close.
    gather:
        Seconds that the first commit of a group waits for others.
    capacity:
        Commits that may wait; who submits one more waits himself.
    on_problem:
        Called in the thread with each error that is tried again, for the log and the metrics.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tapeline.alerts.store.opening import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(Path(folder) / "alerts.db")
    ...     with GroupCommit(store) as group:
    ...         done = [group.submit(Commit(positions={"trades": number})) for number in (1, 2, 3)]
    ...         answers = [one.result(timeout=10) for one in done]
    ...     store.positions()
    ...     store.close()
    {'trades': 3}
    """

    def __init__(
        self,
        store: Store,
        *,
        gather: float = GATHER_SECONDS,
        capacity: int = CAPACITY,
        on_problem: Callable[[TemporaryError], None] | None = None,
    ) -> None:
        if not 0 <= gather <= 1 or capacity < 1:
            raise ConfigurationError(f"gather = {gather} s is not within 0..1, or capacity = {capacity} is below 1")
        self._store = store
        self._gather = gather
        self._capacity = capacity
        self._on_problem = on_problem
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._lock = threading.Lock()
        # Three conditions, so that a submission wakes the thread only where it has something to do.
        self._arrived = threading.Condition(self._lock)
        self._enough = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._closed = False
        self._giving_up = threading.Event()
        self._commits = self._groups = self._failures = 0
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="alert-group-commit", daemon=True)
        self._thread.start()

    def __enter__(self) -> GroupCommit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, commit: Commit, *, timeout: float | None = None) -> Future[frozenset[str]]:
        """Hand over a commit.

        Parameters
        ----------
        timeout:
            Seconds to wait for a place in the queue; None: until there is one.

        Returns
        -------
        Future
            The ids of the firings that were new, once they are on the disk. Callbacks run in the writing thread and
            must be short.

        Raises
        ------
        TemporaryError
            There was no place in time, or it is closed.
        """
        with self._lock:
            self._room.wait_for(lambda: self._closed or len(self._waiting) < self._capacity, timeout)
            if self._closed:
                raise TemporaryError("the group commit is closed")
            if len(self._waiting) >= self._capacity:
                raise TemporaryError(
                    f"{self._capacity} commits wait for the alert store, and none was written in {timeout} s",
                    hint=self._problem or "its disk or server is slower than what is submitted",
                )
            waiting = _Waiting(commit, time.monotonic())
            self._waiting.append(waiting)
            self._size += _size(commit)
            if len(self._waiting) == 1:
                self._arrived.notify()
            if self._size >= MOST_GATHERED:
                self._enough.notify()
        return waiting.answer

    def counts(self) -> GroupCounts:
        """What it has done, and how many commits wait."""
        return GroupCounts(self._commits, self._groups, self._failures, len(self._waiting), self._problem)

    def close(self, *, timeout: float | None = None) -> None:
        """Write what waits and end the thread.

        Parameters
        ----------
        timeout:
            Seconds after which a store that still fails is given up; every commit that was not acknowledged then
            fails with ``TemporaryError``. None: never.
        """
        with self._lock:
            self._closed = True
            for condition in (self._arrived, self._enough, self._room):
                condition.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._giving_up.set()
            self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            self._write(group)

    def _take(self) -> list[_Waiting]:
        """The next group; empty where it is closed and nothing waits."""
        group: list[_Waiting] = []
        with self._lock:
            while not group:
                self._arrived.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                # What waited while the last group was written has waited long enough.
                left = self._waiting[0].arrived + self._gather - time.monotonic()
                self._enough.wait_for(lambda: self._closed or self._size >= MOST_GATHERED, max(left, 0.0))
                size = 0
                while self._waiting and size < MOST_GATHERED:
                    waiting = self._waiting.popleft()
                    size += _size(waiting.commit)
                    # One that was cancelled meanwhile is not written; from here on none can be.
                    if waiting.answer.set_running_or_notify_cancel():
                        group.append(waiting)
                self._size -= size
                self._room.notify_all()
        return group

    def _write(self, group: list[_Waiting]) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                answers = self._store.commit_all([waiting.commit for waiting in group])
            except TemporaryError as error:
                self._failures += 1
                self._problem = str(error)
                if self._giving_up.is_set():
                    _fail(group, error)
                    return
                self._tell(error)
                self._giving_up.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
                # One commit that can never be written must not take the others with it.
                if len(group) == 1:
                    _fail(group, error)
                    return
                for waiting in group:
                    self._write([waiting])
                return
            else:
                self._problem = ""
                self._groups += 1
                self._commits += len(group)
                for waiting, answer in zip(group, answers, strict=True):
                    waiting.answer.set_result(answer)
                return

    def _tell(self, error: TemporaryError) -> None:
        # What is told of a problem must not become one: the thread outlives it.
        if self._on_problem is not None:
            with suppress(Exception):
                self._on_problem(error)


def _size(commit: Commit) -> int:
    return 1 + len(commit.firings) + len(commit.deliveries)


def _fail(group: list[_Waiting], error: BaseException) -> None:
    for waiting in group:
        waiting.answer.set_exception(error)
