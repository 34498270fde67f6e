"""The store in PostgreSQL: for production, several engines and delivery workers on one database.

Firings are partitioned by a hash of their symbol. Rows go in as one array a column, so that a thousand firings are one
statement. ``synchronous_commit`` is on: a commit is on the server's disk when it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import URL, Connection, Table, create_engine, make_url

from tapeline.alerts.store.bulk import NEW, REPLACED, postgresql_statement
from tapeline.alerts.store.database import LOCK_SECONDS, Answer, Database, Values, columns_of, own_errors
from tapeline.alerts.store.schema import ensure_schema
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import ConfigurationError, MissingExtraError

CONNECTIONS: Final = 8
STATEMENT_SECONDS: Final = 60
IDLE_SECONDS: Final = 5
"""After which a transaction whose client says nothing is ended: a process that was stopped must not hold locks."""
_COUNT: Final = {"preserve_rowcount": True}


class PostgresDatabase(Database):
    """One database of a PostgreSQL server, through psycopg 3.

    Parameters
    ----------
    url:
        ``postgresql://user:password@host/database``; the user needs the right to create tables at the first opening.
    connections:
        How many are held open at most; a call waits ``LOCK_SECONDS`` for a free one.

    Raises
    ------
    MissingExtraError, TemporaryError, ConfigurationError
        psycopg is not installed; the server does not answer; its schema is newer than this version.
    """

    def __init__(self, url: str | URL, *, connections: int = CONNECTIONS) -> None:
        address = make_url(url).set(drivername="postgresql+psycopg")
        if not address.database:
            raise ConfigurationError(f"{address!r} names no database", hint="postgresql://user:password@host/database")
        self._where = f"{address.host or address.query.get('host', 'localhost')}/{address.database}"
        try:
            self._engine = create_engine(
                address,
                pool_size=connections,
                max_overflow=0,
                pool_timeout=LOCK_SECONDS,
                pool_pre_ping=True,
                isolation_level="READ COMMITTED",
                connect_args={
                    "connect_timeout": int(LOCK_SECONDS),
                    "application_name": "tapeline alerts",
                    "options": f"-c synchronous_commit=on -c statement_timeout={STATEMENT_SECONDS}s"
                    f" -c idle_in_transaction_session_timeout={IDLE_SECONDS}s -c timezone=UTC",
                },
            )
        except ImportError as error:
            raise MissingExtraError("psycopg", "postgres") from error
        dialect = self._engine.dialect
        self._statements = {table: postgresql_statement(table, dialect) for table in (*NEW, *REPLACED)}
        try:
            self.write(ensure_schema)
        except BaseException:
            self.close()
            raise

    def _transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` in one transaction; returns once the server has it on its disk."""
        with own_errors(self._where), self._engine.begin() as connection:
            return work(connection)

    def read(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` in one transaction."""
        return self._transact(work)

    def insert_new(self, connection: Connection, table: Table, rows: Values) -> int:
        """Insert the rows whose key is not there yet; how many."""
        if not rows:
            return 0
        arrays = columns_of(rows, table.columns.keys())
        return connection.exec_driver_sql(self._statements[table], arrays, execution_options=_COUNT).rowcount

    def put(self, connection: Connection, table: Table, rows: Values) -> None:
        """Insert rows or replace those of the same key."""
        if rows:
            connection.exec_driver_sql(self._statements[table], columns_of(rows, table.columns.keys()))

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()


def open_postgres(url: str | URL, **options: Any) -> SqlStore:
    """The store in a PostgreSQL database; options as in :class:`PostgresDatabase`."""
    return SqlStore(PostgresDatabase(url, **options))
