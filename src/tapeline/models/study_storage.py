"""Where a study's trials are kept: a journal file that survives a kill at any instant, or a database by its URL."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tapeline.core.errors import ConfigurationError

if TYPE_CHECKING:
    import optuna

_SINGLE_WRITER: Final = "sqlite"


def check_storage(url: str | None, processes: int) -> None:
    """Refuse a database that several processes would block each other in.

    Raises
    ------
    ConfigurationError
        SQLite and more than one process: a writer locks the whole file, and the others fail with 'database is locked'.

    Examples
    --------
    >>> check_storage(None, 4)
    >>> check_storage("sqlite:///study.db", 1)
    """
    if url and processes > 1 and url.casefold().startswith(_SINGLE_WRITER):
        raise ConfigurationError(
            f"training.storage is SQLite and training.processes = {processes}: it takes one writer at a time",
            hint="leave training.storage empty for the journal file, name a PostgreSQL or MySQL database, "
            "or use 1 process",
        )


def open_study(name: str, *, journal: Path, url: str | None, pruner: Any = None) -> optuna.Study:
    """Open a study that minimises, or make it.

    Parameters
    ----------
    name:
        The study's name.
    journal:
        The journal file, used where ``url`` is None.
    url:
        A database as SQLAlchemy reads it (``postgresql+psycopg://...``); it may hold a password, so no message
        repeats it.

    Raises
    ------
    ConfigurationError
        The database cannot be reached, or its driver is not installed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _journal(journal) if url is None else _database(url)
    return optuna.create_study(
        storage=storage, study_name=name, direction="minimize", pruner=pruner, load_if_exists=True
    )


def _journal(path: Path) -> Any:
    from filelock import FileLock
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # The kernel takes this lock back when its holder is killed, so that nobody waits for the dead.
    lock = FileLock(f"{path}.writing")

    class Backend(JournalFileBackend):
        """Optuna's journal file, but that a dead writer's half line is dropped, and only what must last is forced."""

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
            with lock:
                # Whoever holds the lock is the only writer.
                drop_half_line(path)
                with path.open("ab") as file:
                    file.write(lines.encode())
                    file.flush()
                    # A kill loses nothing that was written. A power cut may lose what was not forced to the disk; a
                    # trial's end, and so all before it, is, while forcing every parameter of it takes ten times longer.
                    if any("state" in log for log in logs):
                        os.fsync(file.fileno())

    return JournalStorage(Backend(str(path)))


def _database(url: str) -> Any:
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    scheme = url.partition(":")[0]  # the rest of the address may hold a password
    try:
        return RDBStorage(url)
    except ImportError as error:
        raise ConfigurationError(
            f"the database of training.storage ({scheme}) needs a driver that is not installed: {error.name}",
            hint="install it, or leave training.storage empty for the journal file",
        ) from error
    except (SQLAlchemyError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"the database of training.storage ({scheme}) cannot be opened: {type(error).__name__}",
            hint="look at the address, the password and the rights of its user",
        ) from None


def drop_half_line(path: Path) -> None:
    r"""Cut a line without an end off a journal; the caller must be its only writer.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "study.journal"
    >>> _ = path.write_bytes(b'{"op_code":0}' + b"\n" + b'{"op_co')
    >>> drop_half_line(path)
    >>> path.read_bytes()
    b'{"op_code":0}\n'
    """
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
