"""How often somebody may try a password: counted before the password is looked at, and shared by every worker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select, update

from tapeline.alerts.access.forgetting import forget_before
from tapeline.alerts.client_address import counted_as
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.people_tables import login_attempt
from tapeline.core.errors import ThrottledError
from tapeline.core.nanoseconds import SECOND

_FORGET: Final = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many failures are free; then each doubles a pause that begins at one second.

    Examples
    --------
    >>> [Allowance(3, 60.0).pause(failures) for failures in (3, 4, 5, 6, 100)]
    [0.0, 1.0, 2.0, 4.0, 60.0]
    """

    free: int
    longest: float

    def pause(self, failures: int) -> float:
        """Seconds that are waited for after so many failures."""
        over = failures - self.free
        return 0.0 if over <= 0 else min(self.longest, 2.0 ** min(over - 1, 30))


ALLOWANCES: Final[Mapping[str, Allowance]] = {
    # Somebody who tries passwords of one account from one place.
    "pair": Allowance(5, 900.0),
    # Somebody who tries many accounts from one place; offices share an address, so it has more.
    "address": Allowance(30, 900.0),
    # Many places at one account. The pause is short: a stranger must not keep a user out for long.
    "account": Allowance(50, 30.0),
}


class LoginLimits:
    """Counts attempts by account and address, by address, and by account.

    Parameters
    ----------
    database:
        Where the counts are kept.
    clock:
        Nanoseconds since 1970 UTC.
    """

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database, self._clock = database, clock

    def begin(self, name: str, address: str) -> int:
        """Count an attempt as failed before it is looked at, so that a thousand at once are not a thousand guesses.

        Returns
        -------
        int
            How many of this account from this address have failed, this one included.

        Raises
        ------
        ThrottledError
            The account, the address or both must wait; nothing was counted.
        """
        keys = _keys(name, address)

        def work(connection: Connection) -> int:
            now = self._clock()
            # In one order, so that two attempts never wait for each other.
            rows = {key: _locked(connection, key) for key in sorted(keys)}
            counts = {key: row.failures if row.forgotten_at >= now else 0 for key, row in rows.items()}
            until = max(row.blocked_until for row in rows.values())
            if until > now:
                raise ThrottledError("too many failed logins", retry_after=(until - now) / SECOND)
            for key in rows:
                failures = counts[key] + 1
                pause = int(ALLOWANCES[keys[key]].pause(failures) * SECOND)
                values = {"failures": failures, "blocked_until": now + pause if pause else 0}
                _set(connection, key, {**values, "forgotten_at": now + _FORGET})
            forget_before(connection, login_attempt, login_attempt.c.forgotten_at, now)
            return 1 + next(counts[key] for key, kind in keys.items() if kind == "pair")

        return self._database.write(work)

    def succeeded(self, connection: Connection, name: str, address: str) -> None:
        """Forget the failures of the account; of the address only this attempt, for it may belong to others too."""
        for key, kind in sorted(_keys(name, address).items()):
            row = _locked(connection, key)
            failures = max(0, row.failures - 1) if kind == "address" else 0
            _set(connection, key, {"failures": failures, "blocked_until": 0, "forgotten_at": row.forgotten_at})


def _keys(name: str, address: str) -> dict[str, str]:
    place = counted_as(address)
    account = name.casefold()
    texts = {"pair": f"{account}\0{place}", "address": place, "account": account}
    # A digest is as long for every name; what somebody typed (a password, in the wrong field) is not kept.
    return {
        f"{kind}:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}": kind for kind, text in texts.items()
    }


def _locked(connection: Connection, key: str) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    fresh = {"key": key, "failures": 0, "blocked_until": 0, "forgotten_at": 2**63 - 1}
    connection.execute(dialect.insert(login_attempt).values(fresh).on_conflict_do_nothing())
    return connection.execute(select(login_attempt).where(login_attempt.c.key == key).with_for_update()).one()


def _set(connection: Connection, key: str, values: Mapping[str, int]) -> None:
    connection.execute(update(login_attempt).where(login_attempt.c.key == key).values(values))
