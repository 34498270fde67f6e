"""A temporary Prefect server for one command, where none runs: the same database, no UI, gone with its parent.

Prefect can start such a server by itself, but only once a flow begins; started here first, it migrates and boots while
the command still imports what it needs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

START_SECONDS: Final = 180.0
"""The first start in an empty home migrates the database, which takes a slow machine a minute."""


class TemporaryServer:
    """A server process that lives as long as this object is open."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Its own group: Ctrl-C must reach the flow first, which still has a state to report to this server.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: stdout is a pipe
        port = self._process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the temporary Prefect server ended with status {self._process.wait()}")
        self.url = f"http://127.0.0.1:{int(port)}/api"

    def wait_until_ready(self) -> None:
        """Return when the server answers; RuntimeError where it ends or stays silent."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5.0):  # noqa: S310 - http on loopback
                    return
            except (urllib.error.URLError, OSError):
                if self._process.poll() is not None:
                    raise RuntimeError(
                        f"the temporary Prefect server ended with status {self._process.returncode}"
                    ) from None
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"the temporary Prefect server did not answer in {START_SECONDS:.0f} s"
                    ) from None
            time.sleep(0.05)

    def close(self) -> None:
        """End the server: it stops when its input closes, and is killed if it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def temporary_server() -> Iterator[TemporaryServer]:
    """Start a server at once and end it with the block; call ``wait_until_ready`` before the first flow run."""
    server = TemporaryServer()
    try:
        yield server
    finally:
        if "prefect" in sys.modules:
            deliver_what_waits()
        server.close()


def deliver_what_waits(*, seconds: float = 10.0) -> None:
    """Hand the logs and events of finished runs to the server while it is there.

    Prefect does so when Python exits, which is after this server's end: it would then try for a minute, in vain.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=seconds, at_exit=False)


def serve() -> None:
    """Be the server: bind a free port, tell it on standard output, serve until standard input closes."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    os.environ.pop("PREFECT_API_URL", None)
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(
        uvicorn.Config(create_app(ephemeral=True), log_level="error", lifespan="on", timeout_graceful_shutdown=3)
    )

    def stop_with_parent() -> None:
        # The end of the pipe says that the parent closed it or died, however it died.
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    serve()
