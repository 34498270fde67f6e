"""Bringing a database to the newest schema, once, whoever opens it first."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text

from tapeline.alerts.store.metadata import REVISION_TABLE, SCHEMA_REVISION
from tapeline.core.errors import ConfigurationError, MissingExtraError

_LOCK = 0x7461_7065_616C_7274
"""The advisory lock that a PostgreSQL migration holds; a number of ours."""


def ensure_schema(connection: Connection) -> None:
    """Run the migrations that are missing; does nothing where the schema is the newest.

    Parameters
    ----------
    connection:
        In a transaction that already holds SQLite's write lock; in PostgreSQL a lock is taken here. A second process
        waits for it and then finds nothing to do.

    Raises
    ------
    ConfigurationError
        The schema is newer than this version knows.
    """
    # Alembic costs a third of a second to import, and nearly every opening finds the schema as it should be.
    if revision(connection) == SCHEMA_REVISION:
        return
    if connection.dialect.name == "postgresql":
        # Importing Alembic takes a while, and a loaded machine longer: this transaction may be silent.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = revision(connection)
    if found != SCHEMA_REVISION:
        _upgrade(connection, found)


def revision(connection: Connection) -> str | None:
    """The migration that the database is at; None where it has none of our tables."""
    if not inspect(connection).has_table(REVISION_TABLE):
        return None
    table = Table(REVISION_TABLE, MetaData(), Column("version_num", String))
    return connection.execute(select(table.c.version_num)).scalar()


def _upgrade(connection: Connection, found: str | None) -> None:
    try:
        from alembic.config import Config
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory
    except ImportError as error:
        raise MissingExtraError("alembic", "alerts") from error

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    if found is not None and found not in {step.revision for step in script.walk_revisions()}:
        raise ConfigurationError(
            f"the alert store's schema is at revision {found!r}, newer than the {SCHEMA_REVISION!r} of this version",
            hint="upgrade tapeline on this machine, or open another database",
        )
    # Without an env.py: the caller's connection and transaction are all the environment there is. A step that
    # committed by itself would let a second process in half-way.
    with EnvironmentContext(config, script, fn=lambda at, _: script._upgrade_revs("head", at)) as environment:
        environment.configure(connection=connection, version_table=REVISION_TABLE, transactional_ddl=False)
        environment.run_migrations()
