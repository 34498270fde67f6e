"""Opening a store by its address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tapeline.core.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from tapeline.alerts.store.sql_store import SqlStore


def open_store(address: str | Path) -> SqlStore:
    """Open the store, bringing its schema to the newest.

    Parameters
    ----------
    address:
        ``postgresql://user:password@host/database``, ``sqlite:///folder/alerts.db``, or the path of a file.

    Raises
    ------
    ConfigurationError
        The address is of another kind, or the schema is newer than this version.
    MissingExtraError
        A package of the extra ``alerts`` (PostgreSQL: ``postgres``) is not installed.
    TemporaryError
        The database does not answer, or another process holds its lock.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(Path(folder) / "alerts.db")
    ...     store.positions()
    ...     store.close()
    {}
    """
    scheme, separator, rest = str(address).partition("://")
    try:
        if not separator:
            from tapeline.alerts.store.sqlite import open_sqlite

            return open_sqlite(Path(address))
        if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
            from tapeline.alerts.store.sqlite import open_sqlite

            return open_sqlite(Path(rest[1:]))
        if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
            from tapeline.alerts.store.postgres import open_postgres

            return open_postgres(f"postgresql://{rest}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "sqlalchemy", "alerts") from error
    raise ConfigurationError(
        f"the address {scheme!r}:// is not one of a store",
        hint="sqlite:///folder/alerts.db or postgresql://user:password@host/database",
    )
