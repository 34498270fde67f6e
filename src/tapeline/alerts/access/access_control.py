"""Everything about people in one place: who asks, logging in and out, users, keys, quotas, and the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tapeline.alerts.access.audit import AuditLog
from tapeline.alerts.access.principal import NotAuthenticatedError, Principal
from tapeline.alerts.access.quotas import QuotaGuard
from tapeline.alerts.access.signing_keys import checked_keys
from tapeline.alerts.store.database import Database
from tapeline.core.settings import AlertGatewaySettings


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """How people are known.

    Parameters
    ----------
    signing_keys:
        What tokens and the audit log's head are signed with, the newest first.
    access_seconds, refresh_seconds:
        How long an access token is valid, and how long a login lasts without being used.
    """

    signing_keys: tuple[str, ...]
    access_seconds: float = 900.0
    refresh_seconds: float = 1_209_600.0

    @classmethod
    def of(cls, settings: AlertGatewaySettings) -> AccessSettings:
        """From the settings of the gateway."""
        keys = tuple(key.get_secret_value() for key in settings.signing_keys)
        return cls(keys, settings.access_seconds, settings.refresh_seconds)


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

    Raises
    ------
    ConfigurationError
        A signing key is missing or could be guessed.
    """

    def __init__(
        self, database: Database, settings: AccessSettings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        checked_keys(settings.signing_keys)
        self.audit = AuditLog(database, settings.signing_keys, clock)
        self.quotas = QuotaGuard(database)

    def authenticate(self, bearer: str | None) -> Principal:
        """Who comes with a token or an API key.

        Raises
        ------
        NotAuthenticatedError
            Nobody is known by it, or it is no longer valid; the message does not say which.
        """
        raise NotAuthenticatedError("this needs a token or an API key")
