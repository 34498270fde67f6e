"""Everything about people in one place: who asks, logging in and out, users, keys, quotas, and the audit log."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select, update

from tapeline.alerts.access.api_keys import PREFIX, ApiKey, ApiKeys
from tapeline.alerts.access.audit import AuditLog
from tapeline.alerts.access.login_limits import LoginLimits
from tapeline.alerts.access.passwords import RECOMMENDED, HashCosts, Passwords
from tapeline.alerts.access.principal import NotAuthenticatedError, NotPermittedError, Principal, Role
from tapeline.alerts.access.quotas import QuotaGuard
from tapeline.alerts.access.standing import Standing
from tapeline.alerts.access.tickets import Tickets
from tapeline.alerts.access.token_families import (
    Family,
    begin_family,
    families_of,
    revoke_families,
    revoke_family,
    rotate_family,
)
from tapeline.alerts.access.tokens import Claims, TokenSigner
from tapeline.alerts.access.user_manager import UserManager
from tapeline.alerts.store.companions import alone
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.people_tables import token_family, user
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.core.errors import TemporaryError
from tapeline.core.nanoseconds import SECOND
from tapeline.core.settings import AlertGatewaySettings

STRANGER: Final = "(unknown)"
"""The actor of what nobody known did; no user can have this name."""
USED_SECONDS: Final = 60
"""How exact the time of a key's last use is: a write for every request would cost more than the request."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """How people are known.

    Parameters
    ----------
    signing_keys:
        What tokens and the audit log's head are signed with, the newest first.
    access_seconds, refresh_seconds:
        How long an access token is valid, and how long a login lasts without being used.
    standing_seconds:
        For how long at most another process's change (a user disabled, a login ended) is not seen here.
    costs:
        Of hashing a password.
    """

    signing_keys: tuple[str, ...] = field(repr=False)
    access_seconds: float = 900.0
    refresh_seconds: float = 1_209_600.0
    standing_seconds: float = 1.0
    costs: HashCosts = RECOMMENDED

    @classmethod
    def of(cls, settings: AlertGatewaySettings) -> AccessSettings:
        """From the settings of the gateway."""
        keys = tuple(key.get_secret_value() for key in settings.signing_keys)
        return cls(keys, settings.access_seconds, settings.refresh_seconds)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives: an access token for requests, and a refresh token for the next pair.

    Parameters
    ----------
    access_until, refresh_until:
        Seconds since 1970 UTC at which they end.
    """

    access: str
    refresh: str
    access_until: int
    refresh_until: int
    owner: str

    def __repr__(self) -> str:
        return f"Tokens(of {self.owner})"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a login or a key: whose, his role, and until when."""

    principal: Principal
    until: int


class AccessControl:
    """Who may do what, over the alert system's database.

    Parameters
    ----------
    database:
        ``store.database``: the same object as the store writes to, so that the audit log's row goes with its writes.
    settings:
        How people are known.
    clock:
        Nanoseconds since 1970 UTC.
    timer:
        Seconds of a clock that is never set back.

    Attributes
    ----------
    users, keys, quotas, audit, tickets:
        Users, API keys, what a user may have, the audit log, and tickets for WebSocket connections.

    Raises
    ------
    ConfigurationError
        A signing key is missing or could be guessed.
    MissingExtraError
        A package of the extra ``gateway`` is not installed.
    """

    def __init__(
        self,
        database: Database,
        settings: AccessSettings,
        *,
        clock: Callable[[], int] = time.time_ns,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._settings, self._clock = database, settings, clock
        self._signer = TokenSigner(settings.signing_keys, clock)
        self._passwords = Passwords(settings.costs)
        self._limits = LoginLimits(database, clock)
        self._standing: Standing[_Known] = Standing(settings.standing_seconds, timer)
        self.audit = AuditLog(database, settings.signing_keys, clock)
        self.quotas = QuotaGuard(database, clock)
        self.users = UserManager(database, self._passwords, clock, self._standing.forget)
        self.keys = ApiKeys(database, self.quotas, clock, self._standing.forget)
        self.tickets = Tickets(database, clock)

    def authenticate(self, bearer: str | None) -> Principal:
        """Who comes with an access token or an API key.

        Parameters
        ----------
        bearer:
            The token or key, without the word before it.

        Raises
        ------
        NotAuthenticatedError
            Nobody is known by it, or it is no longer valid; the message does not say which.
        TemporaryError
            The database does not answer.
        """
        if not bearer:
            raise NotAuthenticatedError("this needs a token or an API key", hint="Authorization: Bearer ...")
        if bearer.startswith(PREFIX):
            known = self._standing.of(_key_name(bearer), lambda: self._key_standing(bearer))
            if known is None or known.until <= self._clock():
                raise NotAuthenticatedError("the API key is not valid")
            return known.principal
        claims = self._signer.read(bearer, "access")
        return self._of_family(claims.family, claims.owner)

    def remembered(self, bearer: str) -> Principal | None:
        """Who comes with it, where that is known without asking the database; else :meth:`authenticate` tells.

        For a server that has one thread for all its connections: it asks here first, and only where nobody is
        remembered does it leave the question to another thread.
        """
        try:
            if bearer.startswith(PREFIX):
                known = self._standing.known(_key_name(bearer))
            else:
                claims = self._signer.read(bearer, "access")
                known = self._standing.known(f"session:{claims.family}")
                if known is not None and known.principal.owner != claims.owner:
                    return None
        except NotAuthenticatedError:
            return None
        return known.principal if known is not None and known.until > self._clock() else None

    def still(self, principal: Principal) -> Principal:
        """The same person as he stands now: for connections that last longer than a request.

        Raises
        ------
        NotAuthenticatedError
            His login ended, his key was revoked, or he was disabled.
        """
        kind, _, id = principal.credential.partition(":")
        if kind == "session":
            return self._of_family(id, principal.owner)
        known = self._standing.of(f"still:{id}", lambda: self._key_by_id(principal.owner, id))
        if kind != "key" or known is None or known.until <= self._clock():
            raise NotAuthenticatedError("the credential is no longer valid")
        return known.principal

    def login(self, name: str, password: str, *, address: str = "", request_id: str = "") -> Tokens:
        """Log in with a password.

        Parameters
        ----------
        name, password:
            As they were typed; the name in any case.
        address, request_id:
            Where he comes from, and the request's id: for limits and for the audit log.

        Raises
        ------
        NotAuthenticatedError
            Wrong, unknown, disabled or without a password: all told alike, and after the same work.
        ThrottledError
            Too many failed from there or for this account, or too many log in at this moment.
        """
        failures = self._limits.begin(name, address)
        row = self.users.find(name)
        usable = row is not None and row.enabled and row.removed_at is None
        if not self._passwords.match(row.password if usable and row is not None else "", password) or row is None:
            actor = STRANGER if row is None else row.name
            told = {"failures": failures}
            self.audit.record(actor, "login.refuse", "user", actor, after=told, address=address, request_id=request_id)
            raise NotAuthenticatedError("the name or the password is wrong")
        outdated = self._passwords.outdated(row.password)
        renewed = self._passwords.hashed(password) if outdated else row.password

        def work(connection: Connection) -> Family:
            self._limits.succeeded(connection, name, address)
            # Disabled, removed or given another password while the hash was computed.
            where = user.c.name == row.name, user.c.enabled.is_(True), user.c.password == row.password
            if not connection.execute(update(user).where(*where).values(password=renewed)).rowcount:
                raise NotAuthenticatedError("the name or the password is wrong")
            return begin_family(connection, row.name, address, self._clock(), self._settings.refresh_seconds)

        said = {"address": address, "request_id": request_id}
        with self.audit.entry(row.name, "login", "session", lambda family: family.id, **said):
            return self._tokens(self._database.write(work))

    def refresh(self, token: str, *, address: str = "", request_id: str = "") -> Tokens:
        """The next pair of tokens for a refresh token, which is used up by it.

        Where a token that was used up comes again, somebody has a copy: every token of the login ends, and the audit
        log tells it. A refresh that goes as it should is not told there; the login that it continues is.

        Raises
        ------
        NotAuthenticatedError
            The token is not valid, is used up, or its login ended.
        """
        claims = self._signer.read(token, "refresh")
        now = self._clock()

        def work(connection: Connection) -> Any:
            row = connection.execute(select(user.c.enabled).where(user.c.name == claims.owner)).first()
            if row is None or not row.enabled:
                return "ended", None
            return rotate_family(connection, claims.family, claims.id, now, self._settings.refresh_seconds)

        outcome, family = self._database.write(work)
        if outcome == "reused":
            told = {"revoked": "a refresh token that was used up came again"}
            said = {"address": address, "request_id": request_id}
            with self.audit.entry(claims.owner, "session.reuse", "session", claims.family, after=told, **said):
                self._write(lambda db: revoke_family(db, claims.family, "refresh token reused", now))
        if family is None or outcome in ("reused", "ended") or family.owner != claims.owner:
            raise NotAuthenticatedError("the refresh token is not valid")
        return self._tokens(family)

    def logout(self, principal: Principal, *, address: str = "", request_id: str = "") -> bool:
        """End the login that somebody came with; its tokens die at once. False for a key, which has none."""
        kind, _, id = principal.credential.partition(":")
        if kind != "session":
            return False
        said = {"address": address, "request_id": request_id}
        with self.audit.entry(principal, "logout", "session", id, **said):
            return bool(self._write(lambda db: revoke_family(db, id, "logged out", self._clock())))

    def end_sessions(self, owner: str, *, reason: str = "logged out everywhere") -> int:
        """End every login of a user; how many."""
        return int(self._write(lambda db: revoke_families(db, owner, reason, self._clock())))

    def change_password(
        self, principal: Principal, current: str, new: str, *, address: str = "", request_id: str = ""
    ) -> None:
        """Take a new password from somebody who knows the old one; his other logins end.

        Guesses count as failed logins do: who stole a token must not try passwords with it.

        Raises
        ------
        NotPermittedError
            The old one is wrong, or he came with an API key.
        ThrottledError
            Too many were wrong.
        DataError
            The new one is too weak.
        """
        kind, _, family = principal.credential.partition(":")
        if kind != "session":
            raise NotPermittedError("a password is changed by somebody who logged in with it")
        failures = self._limits.begin(principal.owner, address)
        said = {"address": address, "request_id": request_id}
        try:
            self.users.check_password(principal.owner, current)
        except NotAuthenticatedError:
            told = {"failures": failures}
            self.audit.record(principal, "password.refuse", "user", principal.owner, after=told, **said)
            raise NotPermittedError("the current password is wrong") from None
        with alone():
            self._database.write(lambda db: self._limits.succeeded(db, principal.owner, address))
        with self.audit.entry(principal, "password.change", "user", principal.owner, **said):
            self.users.set_password(principal.owner, new, keep_family=family)

    def sessions(self, owner: str) -> tuple[Family, ...]:
        """The logins of a user that have not ended, the newest first."""
        return self._database.read(lambda db: families_of(db, owner, self._clock()))

    def end_session(self, owner: str, id: str) -> None:
        """End one login of a user.

        Raises
        ------
        UnknownRecordError
            He has none of this id.
        """

        def work(connection: Connection) -> None:
            mine = select(token_family.c.id).where(token_family.c.id == id, token_family.c.owner == owner)
            if connection.execute(mine).first() is None or not revoke_family(connection, id, "ended", self._clock()):
                raise UnknownRecordError("there is no session of this id")

        self._write(work)

    def redeem(self, ticket: str) -> Principal:
        """Who comes with a ticket of :attr:`tickets`; it is used up.

        Raises
        ------
        NotAuthenticatedError
            It is none, is used or has expired, or his login ended since.
        """
        found = self.tickets.take(ticket)
        if found is None:
            raise NotAuthenticatedError("the ticket is not valid")
        return self.still(Principal(found.owner, "viewer", found.scopes, found.credential))

    def _of_family(self, family: str, owner: str) -> Principal:
        known = self._standing.of(f"session:{family}", lambda: self._family_standing(family))
        if known is None or known.until <= self._clock() or known.principal.owner != owner:
            raise NotAuthenticatedError("the access token is not valid")
        return known.principal

    def _family_standing(self, id: str) -> _Known | None:
        joined = token_family.join(user, user.c.name == token_family.c.owner)
        columns = token_family.c.owner, token_family.c.expires_at, user.c.role
        statement = (
            select(*columns)
            .select_from(joined)
            .where(token_family.c.id == id, token_family.c.revoked_at.is_(None), user.c.enabled.is_(True))
        )
        row = self._database.read(lambda db: db.execute(statement).first())
        if row is None:
            return None
        # The last access token of a login outlives its refresh token by as much as it is valid.
        until = row.expires_at + int(self._settings.access_seconds * SECOND)
        return _Known(Principal(row.owner, row.role, None, f"session:{id}"), until)

    def _key_standing(self, text: str) -> _Known | None:
        key = self.keys.find(text)
        found = None if key is None else self._known_key(key)
        if key is not None and found is not None:
            now = self._clock()
            if now - key.last_used_at >= USED_SECONDS * SECOND:
                # Who cannot be told that his key was used is let in all the same.
                with suppress(TemporaryError), alone():
                    self.keys.used(key.id, now)
        return found

    def _key_by_id(self, owner: str, id: str) -> _Known | None:
        try:
            return self._known_key(self.keys.get(owner, id))
        except UnknownRecordError:
            return None

    def _known_key(self, key: ApiKey) -> _Known | None:
        now = self._clock()
        statement = select(user.c.role).where(user.c.name == key.owner, user.c.enabled.is_(True))
        role: Role | None = self._database.read(lambda db: db.execute(statement).scalar())
        if role is None or not key.alive(now):
            return None
        until = key.expires_at if key.expires_at is not None else 2**63 - 1
        return _Known(Principal(key.owner, role, key.scopes, f"key:{key.id}"), until)

    def _tokens(self, family: Family) -> Tokens:
        now = self._clock() // SECOND
        # The refresh token is made from what is kept and nothing else: given again within the grace it is the same.
        made, ends = family.rotated_at // SECOND, family.expires_at // SECOND
        access_until = now + int(self._settings.access_seconds)
        access = Claims(family.owner, family.id, secrets.token_urlsafe(12), now, access_until)
        refresh = Claims(family.owner, family.id, family.current, made, ends)
        return Tokens(
            self._signer.signed("access", access),
            self._signer.signed("refresh", refresh),
            access_until,
            ends,
            family.owner,
        )

    def _write(self, work: Callable[[Connection], Any]) -> Any:
        try:
            return self._database.write(work)
        finally:
            self._standing.forget()


def _key_name(bearer: str) -> str:
    # By its digest: the key itself would stand in memory for longer than it must.
    return f"key:{hashlib.sha256(bearer.encode('utf-8', 'replace')).hexdigest()}"
