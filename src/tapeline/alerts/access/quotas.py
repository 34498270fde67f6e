"""How much of each thing a user may have, held inside the transaction that makes one more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select

from tapeline.alerts.store.companions import accompanied
from tapeline.alerts.store.configuration_tables import reference
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import endpoint, rule, silence
from tapeline.alerts.store.people_tables import api_key, user
from tapeline.alerts.store.queries import still_held, still_holds
from tapeline.core.errors import DataError, TapelineError

Counted = Callable[[str, int], "Select[int]"]
"""An owner's name and the time (nanoseconds) -> the statement that counts what he has then."""
LARGEST: Final = 1_000_000
QUOTAS: Final[Mapping[str, int]] = {"rules": 500, "endpoints": 50, "api_keys": 20, "symbols": 1_000, "silences": 200}
"""What a user may have where an administrator gave him no other number."""


class QuotaExceededError(TapelineError):
    """One more would be more than the user may have."""


def _count(where: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).where(where)


COUNTED: Final[Mapping[str, Counted]] = {
    "rules": lambda owner, now: _count(rule.c.owner == owner),
    "endpoints": lambda owner, now: _count(endpoint.c.owner == owner),
    "silences": lambda owner, now: _count((silence.c.owner == owner) & still_holds(now)),
    "symbols": lambda owner, now: _count((reference.c.owner == owner) & still_held(now)),
    "api_keys": lambda owner, now: _count((api_key.c.owner == owner) & api_key.c.revoked_at.is_(None)),
}
"""How each is counted. What has ended takes no room: it stays readable, and there is no way to remove it."""


@dataclass(slots=True)
class _Check:
    owner: str
    name: str
    now: int
    last: bool = False
    found: int = 0

    def begin(self, connection: Connection) -> None:
        # The user's row is the turn that parallel requests of his wait for; SQLite has one writer anyway.
        statement = select(user.c.quotas).where(user.c.name == self.owner).with_for_update()
        connection.execute(statement).first()
        self.found = self._count(connection)

    def end(self, connection: Connection, answer: Any) -> None:
        now = self._count(connection)
        if now <= self.found:
            return
        row = connection.execute(select(user.c.quotas).where(user.c.name == self.owner)).first()
        limit = limit_of(self.name, row.quotas if row else "{}")
        if now > limit:
            raise QuotaExceededError(
                f"{self.owner!r} may have {limit} {self.name.replace('_', ' ')}",
                hint="remove what is no longer needed, or ask an administrator for more",
            )

    def stands(self) -> None:
        """Nothing is kept."""

    def _count(self, connection: Connection) -> int:
        return int(connection.execute(COUNTED[self.name](self.owner, self.now)).scalar_one())


class QuotaGuard:
    """Holds users to their quotas.

    Parameters
    ----------
    database:
        Where users and what they have are kept.
    clock:
        Nanoseconds since 1970: by it silences and watched symbols have ended.
    """

    def __init__(self, database: Database, clock: Callable[[], int] = time.time_ns) -> None:
        self._database, self._clock = database, clock

    @contextmanager
    def within(self, owner: str, name: str) -> Iterator[None]:
        """While the block runs, a write after which ``owner`` has more than he may is taken back.

        The count is taken in the write's own transaction, in which the user's row is held: of a hundred requests at
        once exactly as many succeed as there is room for. What he has too much already (a quota was lowered) he keeps
        and may change.

        Parameters
        ----------
        owner:
            Whose it will be.
        name:
            One of :data:`QUOTAS`.

        Raises
        ------
        QuotaExceededError
            From the write.
        """
        if name not in QUOTAS:
            raise DataError(f"there is no quota {name!r}", hint=f"there are {', '.join(QUOTAS)}")
        # One time for both counts: what ends between them must not make room for one more.
        with accompanied(self._database, _Check(owner, name, self._clock())):
            yield


def limit_of(name: str, text: str) -> int:
    """A quota from what is kept of a user's own, or the default."""
    return int(json.loads(text).get(name, QUOTAS[name]))


def quotas_text(quotas: Mapping[str, int]) -> str:
    """A user's own quotas as they are kept.

    Raises
    ------
    DataError
        A name is unknown or a number out of bounds.
    """
    for name, limit in quotas.items():
        if name not in QUOTAS:
            raise DataError(f"there is no quota {name!r}", hint=f"there are {', '.join(QUOTAS)}")
        if isinstance(limit, bool) or not 0 <= limit <= LARGEST:
            raise DataError(f"quota {name} = {limit} must be from 0 to {LARGEST}")
    return json.dumps(dict(sorted(quotas.items())))
