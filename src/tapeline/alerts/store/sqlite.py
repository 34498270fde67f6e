"""The store in one SQLite file: for development, and for one engine on one machine.

Every write goes through one connection, one after the other, because SQLite has one writer and a second would only
wait for the lock. A commit is on the disk when it returns (write-ahead log, ``synchronous=FULL``: it outlives a power
cut). Readers have connections of their own, see a consistent state and hold nobody up.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import sqlalchemy.exc
from sqlalchemy import Connection, Engine, Select, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import QueuePool

from tapeline.alerts.store.bulk import NEW, REPLACED, sqlite_statements
from tapeline.alerts.store.checkpoints import Checkpoints, checkpoint
from tapeline.alerts.store.database import LOCK_SECONDS, TAKE, Answer, Counter, Database, Values, own_errors
from tapeline.alerts.store.schema import ensure_schema
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import TemporaryError

READERS: Final = 4
_DIALECT: Final = sqlite.dialect(paramstyle="qmark")


class SqliteDatabase(Database):
    """One file.

    Parameters
    ----------
    path:
        The file; it and its folder are made where they are absent, readable by their owner only.
    lock_seconds:
        How long to wait for another process that writes.

    Raises
    ------
    TemporaryError, ConfigurationError
        The file cannot be opened; its schema is newer than this version.
    """

    def __init__(self, path: Path, *, lock_seconds: float = LOCK_SECONDS) -> None:
        self._where = str(path)
        self._closed = False
        self._statements = {table: sqlite_statements(table, _DIALECT) for table in (*NEW, *REPLACED)}
        self._take = str(TAKE.compile(dialect=_DIALECT))
        with own_errors(self._where):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._writer = _engine(path, lock_seconds, writes=True)
        self._reader = _engine(path, lock_seconds, writes=False)
        # In the caller's thread: a thread of its own would cost two changes of thread a transaction.
        self._writing = threading.Lock()
        self._checkpoints = Checkpoints(lambda: _connect(path, lock_seconds, writes=True), self._finish)
        try:
            self.write(ensure_schema)
        except BaseException:
            self.close()
            raise

    def _transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` under the write lock; returns once it is on the disk."""
        with self._writing:
            self._refuse_closed()
            return self._written(work)

    def read(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` on one consistent state."""
        self._refuse_closed()
        with own_errors(self._where), self._reader.begin() as connection:
            return work(connection)

    def rows(self, statement: Select[Any], values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """The rows of one statement; without a transaction, for a statement alone sees one consistent state."""
        self._refuse_closed()
        text, parameters = _in_words(statement)
        given = [values.get(name, own) for name, own in parameters]
        with own_errors(self._where), _as_sqlalchemy(text):
            lent = self._reader.raw_connection()
            try:
                found: list[tuple[Any, ...]] = lent.driver_connection.execute(text, given).fetchall()  # type: ignore[union-attr]
            finally:
                lent.close()
        return found

    def insert_new(self, connection: Connection, table: Table, rows: Values) -> int:
        """Insert the rows whose key is not there yet; how many."""
        return self._run(connection, table, rows)

    def put(self, connection: Connection, table: Table, rows: Values) -> None:
        """Insert rows or replace those of the same key."""
        self._run(connection, table, rows)

    def take_numbers(self, connection: Connection, name: Counter, count: int) -> int:
        """Reserve ``count`` numbers; the last one before them."""
        with _as_sqlalchemy(self._take):
            ((taken,),) = _driver(connection).execute(self._take, (count, name)).fetchall()
        return int(taken) - count

    def close(self) -> None:
        """Close every connection, after what is being written."""
        with self._writing:
            self._closed = True
        self._checkpoints.close()
        self._reader.dispose()
        self._writer.dispose()

    def _written(self, work: Callable[[Connection], Answer]) -> Answer:
        try:
            with own_errors(self._where), self._writer.begin() as connection:
                answer = work(connection)
        except TemporaryError:
            # After a failed write a connection may be left with a lock or a half-open log: the next one begins anew.
            self._writer.dispose()
            raise
        self._checkpoints.note()
        return answer

    def _run(self, connection: Connection, table: Table, rows: Values) -> int:
        """Insert rows in as few statements as there are; how many the database took."""
        driver, at, taken = _driver(connection), 0, 0
        with _as_sqlalchemy(table.name):
            for size, text in self._statements[table].items():
                while len(rows) - at >= size:
                    taken += driver.execute(text, [*chain.from_iterable(rows[at : at + size])]).rowcount
                    at += size
        return taken

    def _finish(self) -> None:
        """Bring back the rest of the log, so that it begins anew with the next transaction."""
        with self._writing, suppress(sqlalchemy.exc.SQLAlchemyError, sqlite3.Error):
            if not self._closed:
                lent = self._writer.raw_connection()
                try:
                    checkpoint(lent.driver_connection)  # type: ignore[arg-type]
                finally:
                    lent.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise TemporaryError(f"the alert store {self._where} is closed")


def _connect(path: Path, lock_seconds: float, *, writes: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=lock_seconds, isolation_level=None, check_same_thread=False)
    try:
        # Another process may be switching at this moment; busy_timeout does not cover that switch.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        if not writes:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


@lru_cache(maxsize=512)
def _in_words(statement: Select[Any]) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """A statement as SQLite reads it, and its parameters in their order: the name, and its value where it has one."""
    compiled = statement.compile(dialect=_DIALECT)
    own = compiled.construct_params(_check=False)
    return str(compiled), tuple((name, own[name]) for name in compiled.positiontup or ())


def _driver(connection: Connection) -> sqlite3.Connection:
    """What carries the load goes to the driver directly: SQLAlchemy's way to it costs more than the statement."""
    return connection.connection.driver_connection  # type: ignore[return-value]


@contextmanager
def _as_sqlalchemy(what: str) -> Iterator[None]:
    """Raise a driver's errors as SQLAlchemy does, which is what is caught above."""
    try:
        yield
    except sqlite3.Error as error:
        raise sqlalchemy.exc.DBAPIError.instance(what, None, error, sqlite3.Error) from error


def _engine(path: Path, lock_seconds: float, *, writes: bool) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(path, lock_seconds, writes=writes),
        poolclass=QueuePool,
        pool_size=1 if writes else READERS,
        max_overflow=0,
        pool_timeout=lock_seconds,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def open_sqlite(path: Path, **options: Any) -> SqlStore:
    """The store in a file; options as in :class:`SqliteDatabase`."""
    return SqlStore(SqliteDatabase(path, **options))
