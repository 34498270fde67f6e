"""A series book in a process of its own: detectors cost no tick the engine's thread."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol

from tapeline.alerts.series_book import SeriesBook
from tapeline.core.errors import TemporaryError

PATIENCE: Final = 120.0
"""Seconds after which detectors that do not answer count as lost."""


class Book(Protocol):
    """A series book wherever it is: what is asked for is done in the order of asking."""

    def ask(self, what: str, *given: Any) -> Future[Any]:
        """Call a method of the book; done with what it gave."""
        ...

    def close(self) -> None:
        """Nothing more is asked."""
        ...


class OwnBook:
    """A book in this process: each question is answered before it returns.

    Examples
    --------
    >>> OwnBook().ask("state").result()
    []
    """

    def __init__(self) -> None:
        self._book = SeriesBook()

    def ask(self, what: str, *given: Any) -> Future[Any]:
        """See :class:`Book`."""
        done: Future[Any] = Future()
        done.set_result(getattr(self._book, what)(*given))
        return done

    def close(self) -> None:
        """Nothing."""


class SeriesWorker:
    """A book in another process. Asking waits for nothing: a thread sends, another takes the answers in their order.

    Where the process ends or fails, every answer that is not there fails with it: nobody goes on without his detectors
    and does not know it.
    """

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        # Begun anew, not forked, since this process has threads; and without what its main module would do.
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        self._lock = threading.Lock()
        self._asked: deque[Future[Any]] = deque()
        self._questions: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._problem: str = ""
        self._threads = [
            threading.Thread(target=work, name=f"tapeline-alert-detectors-{name}", daemon=True)
            for name, work in (("asks", self._send), ("hears", self._hear))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, what: str, *given: Any) -> Future[Any]:
        """See :class:`Book`.

        Raises
        ------
        TemporaryError
            By what is given: the process has ended, or an answer before this one failed.
        """
        done: Future[Any] = Future()
        with self._lock:
            if self._problem:
                done.set_exception(TemporaryError(self._problem))
                return done
            self._asked.append(done)
            self._questions.put((what, given))
        return done

    def close(self) -> None:
        """End the process; what was asked before is still answered."""
        self._questions.put(None)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(10.0)
        self._pipe.close()

    def _send(self) -> None:
        while True:
            question = self._questions.get()
            try:
                self._pipe.send(question)
            except OSError as error:
                self._failed(str(error))
                return
            if question is None:
                return

    def _hear(self) -> None:
        try:
            while True:
                is_good, answer = self._pipe.recv()
                if not is_good:
                    self._failed(str(answer))
                    return
                self._asked.popleft().set_result(answer)
        except (EOFError, OSError):
            self._failed("their process has ended")

    def _failed(self, why: str) -> None:
        with self._lock:
            self._problem = self._problem or f"the detectors of patterns are lost: {why}"
            while self._asked:
                self._asked.popleft().set_exception(TemporaryError(self._problem))


def _serve(pipe: Connection) -> None:
    """The other process: answers until it is told to end, or whoever asks is gone."""
    # Ctrl-C reaches the whole group; who asks decides when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    book = SeriesBook()
    while True:
        try:
            question = pipe.recv()
        except (EOFError, OSError):
            return
        if question is None:
            return
        what, given = question
        try:
            answer = True, getattr(book, what)(*given)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asks must not wait for it
            answer = False, f"{type(error).__name__}: {error}"
        try:
            pipe.send(answer)
        except OSError:
            return


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
