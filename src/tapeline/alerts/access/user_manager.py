"""Users: names that never change, roles, quotas, passwords; every change in one transaction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, func, insert, select, update

from tapeline.alerts.access.passwords import Passwords, check_new_password
from tapeline.alerts.access.principal import ROLES, NotAuthenticatedError, Role
from tapeline.alerts.access.quotas import QUOTAS, quotas_text
from tapeline.alerts.access.token_families import revoke_families
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.people_tables import api_key, user
from tapeline.alerts.store.store import RevisionConflictError, UnknownRecordError
from tapeline.core.errors import DataError, TapelineError

Answer = TypeVar("Answer")
LARGEST_PAGE: Final = 500
_TURN: Final = 0x7461_7065_7573_6572
"""The advisory lock of PostgreSQL that a change of users holds; SQLite has one writer anyway."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_EMAIL: Final = re.compile(r"[^\s@<>\"'(),:;\\\x00-\x1f\x7f]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


class NameTakenError(TapelineError):
    """There is, or was, a user of this name, or of one that differs only in case."""


class LastAdministratorError(TapelineError):
    """After this nobody could manage users any more."""


@dataclass(frozen=True, slots=True)
class User:
    """A person, or a program that acts like one.

    Parameters
    ----------
    name:
        Unique and never changed; what he owns carries it.
    email, role, enabled:
        Where he is reached, what he may do, and whether he may come in at all.
    quotas:
        How much of each thing he may have; ``own_quotas`` are those that an administrator gave him.
    has_password:
        Whether he can log in with one.
    revision:
        Counts his changes.
    created_at, changed_at:
        Nanoseconds since 1970 UTC.
    """

    name: str
    email: str
    role: Role
    enabled: bool
    quotas: Mapping[str, int]
    own_quotas: Mapping[str, int]
    has_password: bool
    revision: int
    created_at: int
    changed_at: int


class UserManager:
    """Keeps users.

    Parameters
    ----------
    database:
        Open, with the newest schema.
    passwords:
        Hashes them.
    clock:
        Nanoseconds since 1970 UTC.
    changed:
        Called after each change that may end somebody's rights.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        clock: Callable[[], int],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._database, self._passwords, self._clock, self._changed = database, passwords, clock, changed

    def add(
        self,
        name: str,
        *,
        role: Role = "user",
        email: str = "",
        password: str | None = None,
        quotas: Mapping[str, int] | None = None,
    ) -> User:
        """Add a user; without a password he can be known by an API key only.

        Raises
        ------
        DataError
            The name, the address, the role, a quota or the password is not one.
        NameTakenError
            There is one of this name already, in whatever case, or there was.
        """
        if not _NAME.fullmatch(name):
            raise DataError(
                f"{name[:64]!r} is no name of a user",
                hint="letters, digits and _ . : -, at most 64, beginning with a letter or digit",
            )
        hashed = self._hashed(name, password) if password is not None else ""
        now = self._clock()
        values = {
            "name": name,
            "folded": name.casefold(),
            "email": _email(email),
            "role": _role(role),
            "enabled": True,
            "password": hashed,
            "password_changed_at": now if hashed else 0,
            "quotas": quotas_text(quotas or {}),
            "revision": 1,
            "created_at": now,
            "changed_at": now,
        }

        def work(connection: Connection) -> User:
            if connection.execute(_taken(name)).first() is not None:
                raise NameTakenError(f"the name {name!r} is taken", hint="names differ in more than their case")
            connection.execute(insert(user).values(values))
            return _user_of(connection.execute(select(user).where(user.c.name == name)).one())

        try:
            return self._database.write(work)
        except DataError:
            # In PostgreSQL two may have looked at once, and the index let one of them in.
            if self.find(name) is not None:
                raise NameTakenError(f"the name {name!r} is taken") from None
            raise

    def get(self, name: str) -> User | None:
        """One user, or None; a removed one is none."""
        row = self._database.read(lambda db: db.execute(_standing(name)).first())
        return None if row is None else _user_of(row)

    def all(self, *, after: str = "", limit: int = LARGEST_PAGE) -> tuple[User, ...]:
        """Users by name, those behind ``after``."""
        if not 1 <= limit <= LARGEST_PAGE:
            raise DataError(f"limit = {limit} must be from 1 to {LARGEST_PAGE}")
        statement = select(user).where(user.c.removed_at.is_(None), user.c.name > after).order_by(user.c.name)
        return self._database.read(lambda db: tuple(map(_user_of, db.execute(statement.limit(limit)))))

    def change(
        self,
        name: str,
        *,
        email: str | None = None,
        role: Role | None = None,
        enabled: bool | None = None,
        quotas: Mapping[str, int] | None = None,
        revision: int | None = None,
    ) -> User:
        """Change what is given. Who is disabled is out at once: his tokens end, his keys are refused.

        Parameters
        ----------
        quotas:
            All that he has of his own; what is not in it goes back to the default.
        revision:
            The one that was read; None takes whatever stands.

        Raises
        ------
        UnknownRecordError, RevisionConflictError
            There is no such user; he was changed meanwhile.
        LastAdministratorError
            Nobody enabled would have the role ``admin``.
        DataError
            A value is not permitted.
        """
        values: dict[str, Any] = {}
        if email is not None:
            values["email"] = _email(email)
        if role is not None:
            values["role"] = _role(role)
        if enabled is not None:
            values["enabled"] = enabled
        if quotas is not None:
            values["quotas"] = quotas_text(quotas)

        def work(connection: Connection) -> User:
            row = _locked(connection, name)
            if revision is not None and row.revision != revision:
                raise RevisionConflictError(
                    f"user {name!r} is at revision {row.revision}, not {revision}",
                    hint="read him again and repeat the change",
                )
            if all(getattr(row, column) == value for column, value in values.items()):
                return _user_of(row)
            self._write(connection, row, values)
            if enabled is False:
                revoke_families(connection, name, "disabled", self._clock())
            _keep_an_administrator(connection, row)
            return _user_of(connection.execute(_standing(name)).one())

        return self._announced(work)

    def set_password(self, name: str, password: str, *, keep_family: str = "") -> User:
        """Give a user another password; every login of his ends, but ``keep_family``.

        Raises
        ------
        UnknownRecordError, DataError
            There is no such user; the password is too weak.
        """
        hashed = self._hashed(name, password)

        def work(connection: Connection) -> User:
            row, now = _locked(connection, name), self._clock()
            self._write(connection, row, {"password": hashed, "password_changed_at": now})
            revoke_families(connection, name, "password changed", now, but=keep_family)
            return _user_of(connection.execute(_standing(name)).one())

        return self._announced(work)

    def find(self, name: str) -> Any:
        """The row of the user whose name this is in any case, disabled and removed ones too; None for a stranger."""
        if not _NAME.fullmatch(name):
            return None
        return self._database.read(lambda db: db.execute(_taken(name)).first())

    def check_password(self, name: str, password: str) -> None:
        """Ask for the password of somebody who is in already.

        Raises
        ------
        NotAuthenticatedError
            It is another.
        """
        row = self._database.read(lambda db: db.execute(_standing(name)).first())
        if not self._passwords.match(row.password if row is not None else "", password):
            raise NotAuthenticatedError("the password is wrong")

    def remove(self, name: str) -> User:
        """Remove a user: his address, password, logins and keys are gone, and his name stays taken for ever.

        What he owned keeps his name; somebody else of the same name would otherwise inherit it.

        Raises
        ------
        UnknownRecordError, LastAdministratorError
            There is no such user; he is the last administrator.
        """

        def work(connection: Connection) -> User:
            row, now = _locked(connection, name), self._clock()
            gone = {"email": "", "password": "", "enabled": False, "role": "viewer", "quotas": "{}", "removed_at": now}
            self._write(connection, row, gone)
            revoke_families(connection, name, "removed", now)
            open_keys = api_key.c.owner == name, api_key.c.revoked_at.is_(None)
            connection.execute(update(api_key).where(*open_keys).values(revoked_at=now))
            _keep_an_administrator(connection, row)
            return _user_of(row)

        return self._announced(work)

    def _hashed(self, name: str, password: str) -> str:
        check_new_password(password, name)
        return self._passwords.hashed(password)

    def _write(self, connection: Connection, row: Any, values: Mapping[str, Any]) -> None:
        told = {"revision": row.revision + 1, "changed_at": self._clock()}
        connection.execute(update(user).where(user.c.name == row.name).values({**values, **told}))

    def _announced(self, work: Callable[[Connection], Answer]) -> Answer:
        try:
            return self._database.write(work)
        finally:
            # Also where the answer was lost on its way: the change may stand.
            self._changed()


def _taken(name: str) -> Any:
    return select(user).where(user.c.folded == name.casefold())


def _standing(name: str) -> Any:
    return select(user).where(user.c.name == name, user.c.removed_at.is_(None))


def _locked(connection: Connection, name: str) -> Any:
    # One change of users at a time, all over: two administrators who demote each other at once would otherwise both
    # find one left. Locking the administrators' rows would not do, for which these are is what changes.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_TURN)))
    row = connection.execute(_standing(name).with_for_update()).first()
    if row is None:
        raise UnknownRecordError(f"there is no user {name!r}")
    return row


def _keep_an_administrator(connection: Connection, before: Any) -> None:
    if before.role != "admin" or not before.enabled:
        return
    where = user.c.role == "admin", user.c.enabled.is_(True), user.c.removed_at.is_(None)
    if not connection.execute(select(func.count()).select_from(user).where(*where)).scalar_one():
        raise LastAdministratorError(
            "there would be no administrator left", hint="give another user the role admin first"
        )


def _user_of(row: Any) -> User:
    own: dict[str, int] = json.loads(row.quotas)
    return User(
        *(row.name, row.email, row.role, row.enabled),
        {**QUOTAS, **own},
        own,
        bool(row.password),
        *(row.revision, row.created_at, row.changed_at),
    )


def _email(text: str) -> str:
    if text and not _EMAIL.fullmatch(text):
        raise DataError("the e-mail address is none", hint="name@example.com")
    return text


def _role(role: str) -> str:
    if role not in ROLES:
        raise DataError(f"there is no role {role[:40]!r}", hint=f"there are {', '.join(ROLES)}")
    return role
