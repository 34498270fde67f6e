"""Judging in another process, so that a flow pays neither the start nor the memory of Great Expectations."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from tapeline.core import errors
from tapeline.core.errors import TapelineError, TemporaryError
from tapeline.quality.gate import Verdict

TIMEOUT_SECONDS: Final = 300.0
"""How long one job may take, the start of the worker included."""

_STDERR_LINES: Final = 5
_STDERR_BYTES: Final = 8192


@dataclass(frozen=True)
class GateRequest:
    """One batch to judge: its files (Parquet or Arrow IPC, in time order), the suite and the batch's version."""

    paths: tuple[Path, ...]
    suite: str
    data_version: str

    def to_json(self) -> dict[str, Any]:
        """The request as the worker reads it."""
        paths = [str(Path(path).absolute()) for path in self.paths]
        return {"paths": paths, "suite": self.suite, "data_version": self.data_version}


class GateProcess:
    """A worker that judges batches, one after the other, while the caller works on.

    Use it as a context manager around a whole run: it starts at once and imports Great Expectations while the first
    stages still work. It may be called from several threads. A worker that died or was stopped is started anew by the
    next call.

    Parameters
    ----------
    expectations:
        The folder of the Great Expectations project.
    timeout_seconds:
        How long one call may take before the worker is stopped.
    """

    def __init__(self, expectations: Path, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._expectations = Path(expectations).absolute()
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> GateProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the worker if none runs; returns at once."""
        with self._lock:
            self._start()

    def judge(self, requests: Iterable[GateRequest]) -> list[Verdict]:
        """Judge batches; the verdicts come in the order of the requests.

        Raises
        ------
        ConfigurationError, DataError
            As :func:`tapeline.quality.gate.judge` raises them, or a file is missing or unreadable.
        TemporaryError
            The worker died, with the last lines that it wrote, or did not answer in time and was stopped.
        """
        job = {"expectations": str(self._expectations), "requests": [request.to_json() for request in requests]}
        if not job["requests"]:
            return []
        with self._lock:
            self._start()
            found = json.loads(self._exchange(json.dumps(job)))
        if "error" in found:
            raise _error(**found["error"])
        return [Verdict(**{**verdict, "failures": tuple(verdict["failures"])}) for verdict in found["verdicts"]]

    def close(self) -> None:
        """End the worker at once: between two calls it holds nothing, and may still be importing for seconds."""
        with self._lock:
            process = self._process
            if process is not None:
                try:
                    process.terminate()
                    process.wait(timeout=5)
                except (OSError, subprocess.TimeoutExpired):
                    process.kill()
            self._discard()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._discard()
        # A file, not a pipe: a worker that writes much must never wait for a reader.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tapeline.quality.gate_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "GX_ANALYTICS_ENABLED": "false"},
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_forward, args=(self._process.stdout, self._answers), daemon=True).start()

    def _exchange(self, line: str) -> str:
        process = self._process
        if process is None or process.stdin is None:
            raise TemporaryError("the validation worker did not start")
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            found = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            process.kill()
            last = self._last_lines()
            self._discard()
            raise TemporaryError(f"the validation worker gave no answer in {self._timeout:g} s", hint=last) from None
        except OSError:  # it died before it read the job
            found = None
        except BaseException:  # interrupted: the answer still to come must not be taken for that of the next job
            process.kill()
            self._discard()
            raise
        if found is None:
            status = process.wait()
            last = self._last_lines()
            self._discard()
            raise TemporaryError(f"the validation worker ended with status {status}", hint=last)
        return found

    def _last_lines(self) -> str | None:
        if self._errors is None:
            return None
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - _STDERR_BYTES, 0))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return "its last words: " + " / ".join(lines[-_STDERR_LINES:]) if lines else None

    def _discard(self) -> None:
        if self._process is not None:
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):  # what was still buffered for a dead worker
                    self._process.stdin.close()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def judge_in_subprocess(
    requests: Iterable[GateRequest], *, expectations: Path, timeout_seconds: float = TIMEOUT_SECONDS
) -> list[Verdict]:
    """Judge batches in a worker of their own, which ends afterwards; see :class:`GateProcess`."""
    with GateProcess(expectations, timeout_seconds=timeout_seconds) as gate:
        return gate.judge(requests)


def _forward(stream: IO[str], answers: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            answers.put(line)
    answers.put(None)


def _error(**described: Any) -> TapelineError:
    kind = getattr(errors, str(described["class"]), TapelineError)
    if not (isinstance(kind, type) and issubclass(kind, TapelineError)):
        kind = TapelineError
    return kind(described["message"], hint=described["hint"])
