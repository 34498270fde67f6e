"""The small SQLite files that processes of one machine share: private, made on first use, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal


@contextmanager
def transaction(
    path: Path,
    schema: Sequence[str],
    *,
    version: int,
    lock_seconds: float,
    synchronous: Literal["NORMAL", "FULL"],
) -> Iterator[sqlite3.Connection]:
    """One transaction that holds the write lock from its start: committed on leaving, rolled back on an error.

    Parameters
    ----------
    path:
        The file; made for its owner alone where it is absent, because messages may quote errors and parameters.
    schema, version:
        The statements that bring an older file to ``version``, its ``user_version``, which the last of them sets.
    lock_seconds:
        How long to wait for another process.
    synchronous:
        ``FULL`` outlives a power cut; ``NORMAL`` may lose the newest transactions and spares each a flush of the disk.

    Raises
    ------
    sqlite3.Error, OSError
        The file is locked for longer, no database, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(path, timeout=lock_seconds, isolation_level=None)) as db:
        with suppress(sqlite3.OperationalError):
            # Another process may be switching at this moment; the rollback journal is as safe, only slower.
            db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("BEGIN IMMEDIATE")
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] < version:
                for statement in schema:
                    db.execute(statement)
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
