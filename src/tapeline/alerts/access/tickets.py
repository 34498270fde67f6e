"""Tickets: a word good for one WebSocket connection within seconds, because browsers cannot send a header there."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert

from tapeline.alerts.access.forgetting import forget_before
from tapeline.alerts.access.principal import Principal
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.people_tables import ticket
from tapeline.core.nanoseconds import SECOND

PREFIX: Final = "tlt_"
SECONDS: Final = 30.0
_SHAPE: Final = re.compile(r"tlt_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Whose ticket it was, and by what credential he got it."""

    owner: str
    credential: str
    scopes: frozenset[str] | None


class Tickets:
    """Gives and takes tickets.

    Parameters
    ----------
    database:
        Open, with the newest schema: the process that gives one and the one that takes it share it.
    clock:
        Nanoseconds since 1970 UTC.
    """

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database, self._clock = database, clock

    def give(self, principal: Principal) -> str:
        """A ticket for somebody who is known; kept as a digest only."""
        text = PREFIX + secrets.token_urlsafe(32)
        now = self._clock()
        scopes = None if principal.scopes is None else sorted(principal.scopes)
        values = {
            "digest": _digest(text),
            "owner": principal.owner,
            "credential": principal.credential,
            "scopes": json.dumps(scopes),
            "expires_at": now + int(SECONDS * SECOND),
        }

        def work(connection: Connection) -> None:
            connection.execute(insert(ticket).values(values))
            forget_before(connection, ticket, ticket.c.expires_at, now)

        self._database.write(work)
        return text

    def take(self, text: str) -> Redeemed | None:
        """What a ticket was good for, once; None where it is none, is used or has expired."""
        if not _SHAPE.fullmatch(text):
            return None
        taken = delete(ticket).where(ticket.c.digest == _digest(text)).returning(*ticket.columns)
        row = self._database.write(lambda db: db.execute(taken).first())
        if row is None or row.expires_at <= self._clock():
            return None
        scopes = json.loads(row.scopes)
        return Redeemed(row.owner, row.credential, None if scopes is None else frozenset(scopes))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
