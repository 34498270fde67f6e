"""The store in one SQLite file: for development, and for one engine on one machine.

Every write goes through one connection in one thread, because SQLite has one writer and a second would only wait for
the lock. A commit is on the disk when it returns (write-ahead log, ``synchronous=FULL``: it outlives a power cut).
Readers have connections of their own, see a consistent state and hold nobody up.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import QueuePool

from tapeline.alerts.store.bulk import NEW, REPLACED, sqlite_statement
from tapeline.alerts.store.database import LOCK_SECONDS, Answer, Database, Values, own_errors
from tapeline.alerts.store.schema import ensure_schema
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import TemporaryError

READERS: Final = 4
_COUNT: Final = {"preserve_rowcount": True}


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
        dialect = sqlite.dialect(paramstyle="qmark")
        self._statements = {table: sqlite_statement(table, dialect) for table in (*NEW, *REPLACED)}
        with own_errors(self._where):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._writer = _engine(path, lock_seconds, writes=True)
        self._reader = _engine(path, lock_seconds, writes=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alert-store-writer")
        try:
            self.write(ensure_schema)
        except BaseException:
            self.close()
            raise

    def _transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` in the writer's thread under the write lock; returns once it is on the disk."""
        self._refuse_closed()
        return self._thread.submit(self._written, work).result()

    def read(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` on one consistent state."""
        self._refuse_closed()
        with own_errors(self._where), self._reader.begin() as connection:
            return work(connection)

    def insert_new(self, connection: Connection, table: Table, rows: Values) -> int:
        """Insert the rows whose key is not there yet; how many."""
        if not rows:
            return 0
        return connection.exec_driver_sql(self._statements[table], list(rows), execution_options=_COUNT).rowcount

    def put(self, connection: Connection, table: Table, rows: Values) -> None:
        """Insert rows or replace those of the same key."""
        if rows:
            connection.exec_driver_sql(self._statements[table], list(rows))

    def close(self) -> None:
        """Close every connection, after what is being written."""
        self._closed = True
        self._thread.shutdown(wait=True)
        self._reader.dispose()
        self._writer.dispose()

    def _written(self, work: Callable[[Connection], Answer]) -> Answer:
        try:
            with own_errors(self._where), self._writer.begin() as connection:
                return work(connection)
        except TemporaryError:
            # After a failed write a connection may be left with a lock or a half-open log: the next one begins anew.
            self._writer.dispose()
            raise

    def _refuse_closed(self) -> None:
        if self._closed:
            raise TemporaryError(f"the alert store {self._where} is closed")


def _engine(path: Path, lock_seconds: float, *, writes: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=lock_seconds, isolation_level=None, check_same_thread=False)
        try:
            # Another process may be switching at this moment; busy_timeout does not cover that switch.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if not writes:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
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
