"""API keys: for programs; shown once, kept as a digest, limited by scopes and by time."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from tapeline.alerts.access.quotas import QuotaGuard
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.people_tables import api_key
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.core.errors import DataError

PREFIX: Final = "tlk_"
RESOURCES: Final = (
    *("rules", "symbols", "silences", "firings", "deliveries", "endpoints", "signals", "inbound", "configuration"),
    *("health", "audit"),
)
SCOPES: Final = tuple(f"{resource}:{verb}" for resource in RESOURCES for verb in ("read", "write"))
"""What a key can be given. Users, passwords and keys are not among them: those need a person who logged in."""
_LETTERS: Final = string.ascii_letters + string.digits
_SHAPE: Final = re.compile(r"tlk_([A-Za-z0-9]{12})_([A-Za-z0-9]{43})")
_LABEL: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,100}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept; times are nanoseconds since 1970 UTC.

    Parameters
    ----------
    id:
        What stands behind ``tlk_`` in the key: enough to know it again, and no part of the secret.
    owner, name:
        Whose it is, and what he calls it.
    scopes:
        What it is limited to.
    expires_at, last_used_at, revoked_at:
        Until when it is good (None: for ever); about when it was last used (0: never); since when it is revoked.
    """

    id: str
    owner: str
    name: str
    scopes: frozenset[str]
    created_at: int
    expires_at: int | None
    last_used_at: int
    revoked_at: int | None

    def alive(self, now: int) -> bool:
        """Whether it is good."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class ApiKeys:
    """Keeps API keys.

    Parameters
    ----------
    database:
        Open, with the newest schema.
    quotas:
        Hold users to how many they may have.
    clock:
        Nanoseconds since 1970 UTC.
    changed:
        Called after a key was revoked.
    """

    def __init__(
        self,
        database: Database,
        quotas: QuotaGuard,
        clock: Callable[[], int],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._database, self._quotas, self._clock, self._changed = database, quotas, clock, changed

    def create(
        self, owner: str, name: str, scopes: Iterable[str], *, expires_at: int | None = None
    ) -> tuple[ApiKey, str]:
        """A new key, and its text, which is never shown again.

        Raises
        ------
        DataError
            The name or a scope is not one, there is no scope, or the key would have expired already.
        QuotaExceededError
            The owner has as many as he may.
        """
        if not _LABEL.fullmatch(name):
            raise DataError("an API key's name has 1 to 100 characters on one line")
        given = frozenset(scopes)
        unknown = sorted(given - set(SCOPES))
        if unknown or not given:
            said = f"there is no scope {unknown[0][:40]!r}" if unknown else "an API key needs at least one scope"
            raise DataError(said, hint=f"there are {', '.join(SCOPES)}")
        now = self._clock()
        if expires_at is not None and expires_at <= now:
            raise DataError("the API key would have expired already")
        id, secret = (_random(length) for length in (12, 43))
        text = f"{PREFIX}{id}_{secret}"
        key = ApiKey(id, owner, name, given, now, expires_at, 0, None)
        values = {
            "id": id,
            "owner": owner,
            "name": name,
            "digest": _digest(text),
            "scopes": json.dumps(sorted(given)),
            "created_at": now,
            "expires_at": expires_at,
            "last_used_at": 0,
            "revoked_at": None,
        }

        def work(connection: Connection) -> ApiKey:
            connection.execute(insert(api_key).values(values))
            return key

        with self._quotas.within(owner, "api_keys"):
            return self._database.write(work), text

    def get(self, owner: str, id: str) -> ApiKey:
        """One key of a user.

        Raises
        ------
        UnknownRecordError
            He has none of this id.
        """
        statement = select(api_key).where(api_key.c.id == id, api_key.c.owner == owner)
        row = self._database.read(lambda db: db.execute(statement).first())
        if row is None:
            raise UnknownRecordError("there is no API key of this id")
        return _key_of(row)

    def all(self, owner: str) -> tuple[ApiKey, ...]:
        """The keys of a user that are not revoked, by the time they were made."""
        where = api_key.c.owner == owner, api_key.c.revoked_at.is_(None)
        statement = select(api_key).where(*where).order_by(api_key.c.created_at, api_key.c.id)
        return self._database.read(lambda db: tuple(map(_key_of, db.execute(statement))))

    def revoke(self, owner: str, id: str) -> ApiKey:
        """Revoke a key; it is refused at once.

        Raises
        ------
        UnknownRecordError
            He has none of this id that is not revoked.
        """

        def work(connection: Connection) -> ApiKey:
            where = api_key.c.id == id, api_key.c.owner == owner, api_key.c.revoked_at.is_(None)
            changed = update(api_key).where(*where).values(revoked_at=self._clock()).returning(*api_key.columns)
            row = connection.execute(changed).first()
            if row is None:
                raise UnknownRecordError("there is no API key of this id")
            return _key_of(row)

        try:
            return self._database.write(work)
        finally:
            self._changed()

    def used(self, id: str, now: int) -> None:
        """Keep when a key was last used."""
        statement = update(api_key).where(api_key.c.id == id).values(last_used_at=now)
        self._database.write(lambda db: db.execute(statement))

    def find(self, text: str) -> ApiKey | None:
        """The key whose text this is, good or not; None where there is none."""
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            return None
        row = self._database.read(lambda db: db.execute(select(api_key).where(api_key.c.id == shape[1])).first())
        # The secret has 256 bits: a plain digest is as good as a slow one, and costs a microsecond.
        if row is None or not hmac.compare_digest(row.digest, _digest(text)):
            return None
        return _key_of(row)


def _key_of(row: Any) -> ApiKey:
    scopes = frozenset(json.loads(row.scopes))
    return ApiKey(
        *(row.id, row.owner, row.name, scopes, row.created_at, row.expires_at, row.last_used_at, row.revoked_at)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
