"""Several processes on one study: they share its storage, its rows and its budget, and one may be killed."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from tapeline.core import errors
from tapeline.core.errors import TapelineError, TemporaryError
from tapeline.models.tuning_worker import owner_name

_LAST_BYTES: Final = 2000


class TuningPool:
    """Runs a study's trials in worker processes until each ended of itself.

    A worker that dies (killed, or out of memory) loses its trial, which counts as failed; another worker is started
    and repeats it. As many may die as there are processes; then the search stops and can be resumed.

    Parameters
    ----------
    job:
        What :mod:`tapeline.models.tuning_worker` reads.
    processes:
        How many workers.
    progress:
        Called with each line of progress; the worker holds still until it returns.
    on_finished:
        Called with the slot of each finished trial.
    on_death:
        Called with the owner's name of a worker that died, to end its trials.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        processes: int,
        *,
        progress: Callable[[str], None],
        on_finished: Callable[[int], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._job = job
        self._processes = processes
        self._progress = progress
        self._on_finished = on_finished
        self._on_death = on_death
        self._lines: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def run(self) -> None:
        """Start the workers and serve them.

        Raises
        ------
        TemporaryError
            More workers died than there are processes; the finished trials are kept.
        TapelineError
            A trial failed in a way that it would fail again.
        """
        try:
            for _ in range(self._processes):
                self._workers.append(_Worker(self._job, self._lines))
            self._serve()
        finally:
            for worker in self._workers:
                worker.stop()

    def _serve(self) -> None:
        alive, deaths = self._processes, 0
        while alive:
            worker, line = self._lines.get()
            if line is not None:
                self._hear(worker, json.loads(line))
                continue
            alive -= 1
            status = worker.process.wait()
            if status == 0:
                continue
            self._on_death(owner_name(self._job["session"], worker.process.pid))
            deaths += 1
            if deaths > self._processes:
                raise TemporaryError(
                    f"{deaths} tuning processes died, the last with status {status}",
                    hint=worker.last_words() or "run it again: the finished trials are kept",
                )
            self._workers.append(_Worker(self._job, self._lines))
            alive += 1

    def _hear(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        if "error" in message:
            raise _error(**message["error"])
        if "progress" in message:
            self._progress(str(message["progress"]))
        else:
            self._on_finished(int(message["finished"]))
        worker.answer()


class _Worker:
    """One process, the thread that reads it, and the file it complains to."""

    def __init__(self, job: Mapping[str, Any], lines: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        # A file, not a pipe: a worker that writes much must never wait for a reader.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tapeline.models.tuning_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        # Through the pipe, not the command line or a file: the storage's address may hold a password.
        self._write(json.dumps(job))
        threading.Thread(target=self._forward, args=(self.process.stdout, lines), daemon=True).start()

    def answer(self) -> None:
        """Let the worker go on."""
        self._write("")

    def stop(self) -> None:
        """End it, whatever it does; a trial that it was running is closed by the next run."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self._errors.close()

    def last_words(self) -> str | None:
        """The end of what it complained about."""
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - _LAST_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its last words: {lines[-1]}" if lines else None

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it died; its reader tells
            if self.process.stdin is not None:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()

    def _forward(self, stream: IO[str], lines: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        with stream:
            for line in stream:
                # A last line without an end is what a killed worker left.
                if line.endswith("\n"):
                    lines.put((self, line))
        lines.put((self, None))


def _error(**described: Any) -> TapelineError:
    kind = getattr(errors, str(described["class"]), TapelineError)
    if not (isinstance(kind, type) and issubclass(kind, TapelineError)):
        kind = TapelineError
    # Some classes make their message of other arguments; it is made already.
    error = kind.__new__(kind)
    TapelineError.__init__(error, str(described["message"]), hint=described["hint"])
    return error
