"""The queue of alerts that came in: written before they are answered, so that none is lost; each only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tapeline.alerts.bots.inbound_alert import InboundAlert, alert_id
from tapeline.alerts.bots.inbound_tokens import InboundSource
from tapeline.alerts.rule import SymbolName
from tapeline.alerts.store import rows
from tapeline.alerts.store.bot_tables import inbound
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.queries import page_size
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.nanoseconds import SECOND
from tapeline.core.symbol import Symbol

InboundState = Literal["waiting", "taken", "refused"]


@dataclass(frozen=True, slots=True)
class QueuedAlert:
    """An alert in the queue.

    Parameters
    ----------
    id:
        What it is recognised by.
    received_at, sent_at:
        When it came, and its own time; nanoseconds.
    address:
        Where it came from.
    body, settings:
        As it came, and what its token could say at that time.
    state, finished_at, firing, reason:
        ``waiting``; ``taken``, with the firing that it became; ``refused``, and why.
    """

    id: str
    owner: str
    source: str
    received_at: int
    sent_at: int
    address: str
    body: str
    settings: str
    state: InboundState = "waiting"
    finished_at: int = 0
    firing: str = ""
    reason: str = ""


class Ended(NamedTuple):
    """What became of an alert: ``taken``, with its firing, or ``refused``, and why."""

    id: str
    state: InboundState
    firing: str = ""
    reason: str = ""


class NotPermittedAlertError(DataError):
    """The token may not say this: another symbol, side or size, or it is too old."""


class InboundQueue:
    """Alerts that came in, and what became of them.

    Parameters
    ----------
    database:
        The alert store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, source: InboundSource, alert: InboundAlert, body: bytes, *, address: str, now: int) -> bool:
        """Write an alert down; False where it came before. On the disk when it returns.

        Raises
        ------
        NotPermittedAlertError
            Its source may not say this, or it is not fresh.
        """
        check_alert(source, alert, now)
        values = {
            "id": alert_id(source.owner, source.source, alert, body),
            "owner": source.owner,
            "source": source.source,
            "received_at": now,
            "sent_at": alert.ts,
            "address": rows.plain(address[:100]),
            "body": rows.plain(body.decode("utf-8")),
            "settings": source.settings.model_dump_json(),
            "state": "waiting",
            "finished_at": 0,
            "firing": "",
            "reason": "",
        }

        def work(db: Connection) -> bool:
            dialect: Any = postgresql if db.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(inbound).values(**values).on_conflict_do_nothing().returning(inbound.c.id)
            return db.execute(statement).first() is not None

        return self._database.write(work)

    def waiting(self, *, limit: int = 100) -> tuple[QueuedAlert, ...]:
        """What nobody has taken yet, the oldest first."""
        statement = (
            select(inbound)
            .where(inbound.c.state == "waiting")
            .order_by(inbound.c.received_at, inbound.c.id)
            .limit(page_size(limit))
        )
        return self._database.read(lambda db: tuple(map(_queued, db.execute(statement).mappings())))

    def finish(self, *ended: Ended, at: int) -> Callable[[Connection], None]:
        """What writes down, in a transaction of the caller's, what became of alerts; of each once."""

        def work(db: Connection) -> None:
            for one in ended:
                mine = inbound.c.id == one.id, inbound.c.state == "waiting"
                values = {"firing": one.firing, "reason": rows.plain(one.reason[:500])}
                db.execute(update(inbound).where(*mine).values(state=one.state, finished_at=at, **values))

        return work

    def recent(self, owner: str, *, limit: int = 50) -> tuple[QueuedAlert, ...]:
        """An owner's newest alerts."""
        statement = (
            select(inbound)
            .where(inbound.c.owner == owner)
            .order_by(inbound.c.received_at.desc(), inbound.c.id)
            .limit(page_size(limit))
        )
        return self._database.read(lambda db: tuple(map(_queued, db.execute(statement).mappings())))

    def remove_before(self, before: int) -> int:
        """Forget alerts that came before an instant and are done with; how many.

        None that is younger than ``fresh_seconds`` may be forgotten: it could come again.
        """
        statement = delete(inbound).where(inbound.c.received_at < before, inbound.c.state != "waiting")
        return self._database.write(lambda db: db.execute(statement).rowcount)


def check_alert(source: InboundSource, alert: InboundAlert, now: int) -> SymbolName:
    """What an alert is about, by our name, where its source may say it.

    Raises
    ------
    NotPermittedAlertError
        It may not, or the alert is not fresh.
    """
    settings = source.settings
    if abs(now - alert.ts) > settings.fresh_seconds * SECOND:
        raise NotPermittedAlertError(f"its time is more than {settings.fresh_seconds:g} s from ours")
    if settings.sides and (alert.said is None or alert.said not in settings.sides):
        raise NotPermittedAlertError("this token may not say this side")
    if settings.most_contracts is not None and (alert.contracts or 0.0) > settings.most_contracts:
        raise NotPermittedAlertError(f"this token may not say more than {settings.most_contracts:g} contracts")
    bare = alert.ticker.rpartition(":")[2]
    if settings.symbols:
        found = settings.symbols.get(alert.ticker) or settings.symbols.get(bare)
        if found is None:
            raise NotPermittedAlertError("this token may not speak of this symbol")
        return found
    try:
        return str(Symbol.parse(bare))
    except ConfigurationError as error:
        raise NotPermittedAlertError(error.message) from None


def _queued(row: Any) -> QueuedAlert:
    return QueuedAlert(**{field.name: row[field.name] for field in fields(QueuedAlert)})
