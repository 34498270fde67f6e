"""What engines say of themselves through the database, for the gateway and whoever else watches them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, insert, select, update

from tapeline.alerts.store.database import Database
from tapeline.alerts.store.engine_tables import engine
from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND

BEAT_SECONDS: Final = 2.0
"""Between two reports of an engine."""
ALIVE_SECONDS: Final = 10.0
"""After which an engine that was not heard of no longer counts as alive: five beats."""
LARGEST_STATUS: Final = 1 << 20
_ENGINES: Final = select(engine.c.instance, engine.c.started_at, engine.c.beat_at, engine.c.status).order_by(
    engine.c.instance
)
_INSTANCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class EngineReport:
    """The newest beat of one engine.

    Parameters
    ----------
    instance:
        The engine's name.
    started_at, beat_at:
        Nanoseconds since 1970, by the engine's clock.
    status:
        As ``PerformanceMonitor.status`` gives it, whole numbers, texts and numbers as JSON keeps them.
    age:
        Seconds since the beat, by the reader's clock.
    """

    instance: str
    started_at: int
    beat_at: int
    status: Mapping[str, Any]
    age: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it was heard of lately, and says that it is alive."""
        return self.age <= ALIVE_SECONDS and self.status.get("health", {}).get("ok", True) is True

    @property
    def ready(self) -> bool:
        """Whether it is alive and says that it can be relied on; ``reasons`` say why not."""
        return self.alive and self.status.get("readiness", {}).get("ok") is True

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not alive or not ready; empty where it is."""
        told = [f"no beat for {self.age:.0f} s"] if self.age > ALIVE_SECONDS else []
        for part in ("health", "readiness"):
            told += [str(one) for one in self.status.get(part, {}).get("reasons", ())]
        return tuple(dict.fromkeys(told))


def write_engine(database: Database, report: EngineReport) -> None:
    """Write the newest beat of an engine.

    Raises
    ------
    ConfigurationError
        The instance is not a name, or the status is longer than ``LARGEST_STATUS``.
    TemporaryError
        The database refuses for now.
    """
    if not _INSTANCE.fullmatch(report.instance):
        raise ConfigurationError(
            f"{report.instance[:80]!r} is not the name of an engine", hint="letters, digits and _.-, 64 at most"
        )
    text = json.dumps(report.status, separators=(",", ":"), allow_nan=False)
    if len(text) > LARGEST_STATUS:
        raise ConfigurationError(f"the status of {report.instance} has {len(text)} letters, over {LARGEST_STATUS}")
    values = {"started_at": report.started_at, "beat_at": report.beat_at, "status": text}

    def work(db: Any) -> None:
        # One process an instance: nobody else writes its row between the two statements.
        if not db.execute(update(engine).where(engine.c.instance == report.instance).values(values)).rowcount:
            db.execute(insert(engine).values(instance=report.instance, **values))

    database.write(work)


def read_engines(database: Database, now: int) -> tuple[EngineReport, ...]:
    """The newest beat of every engine, by name; those that ended stay until :func:`forget_engines`.

    Parameters
    ----------
    now:
        Nanoseconds since 1970: what ``age`` counts from.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tapeline.alerts.store.opening import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(Path(folder) / "alerts.db")
    ...     write_engine(store.database, EngineReport("one", 0, 10**9, {"readiness": {"ok": True}}))
    ...     found = read_engines(store.database, 3 * 10**9)
    ...     store.close()
    >>> [(one.instance, one.age, one.ready) for one in found]
    [('one', 2.0, True)]
    """
    return tuple(
        EngineReport(instance, started_at, beat_at, _status(status), max(now - beat_at, 0) / SECOND)
        for instance, started_at, beat_at, status in database.rows(_ENGINES, {})
    )


def forget_engines(database: Database, before: int) -> int:
    """Remove engines whose last beat was before an instant; how many."""
    return database.write(lambda db: db.execute(delete(engine).where(engine.c.beat_at < before)).rowcount)


def _status(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    # A row that somebody damaged must not take the others with it.
    return found if isinstance(found, dict) else {"readiness": {"ok": False, "reasons": ["its status is damaged"]}}
