"""An owner is told by another of his channels that an endpoint of his was switched off."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Final

from tapeline.alerts.delivery.messages import service_event
from tapeline.alerts.records import Commit, Delivery
from tapeline.alerts.store.store import Endpoint, Store
from tapeline.monitoring.notification import Notification

PEOPLE_FIRST: Final = ("telegram", "discord", "slack", "email", "sms", "webhook")
"""In which order another channel is looked for: people read of it sooner than programs do."""
LATEST: Final = 86_400 * 1_000_000_000
"""Nanoseconds after which what was not told is no longer news."""
BY_OWNER: Final = "switched off by its owner"

_log = logging.getLogger(__name__)


class EndpointNotices:
    """Puts a notice into the outbox, for another endpoint of the same owner.

    One switching off is told once: the notice's id follows from the endpoint and the instant, and the outbox keeps an
    id once, whoever writes it. It cannot go in circles: an endpoint that is switched off is never told through, and
    each notice that fails can at most switch off one more.

    Parameters
    ----------
    store:
        The outbox and the endpoints.
    operator:
        Told where the owner has no other endpoint; for instance ``Notifier(settings).notify``.
    """

    def __init__(self, store: Store, *, operator: Callable[[Notification], object] | None = None) -> None:
        self._store, self._operator = store, operator

    def __call__(self, endpoint: Endpoint, notification: Notification) -> None:
        """Tell that an endpoint was switched off."""
        if self.tell(endpoint) is not None:
            return
        if self._operator is None:
            _log.warning("%s has no other endpoint by which to tell that %s is off", endpoint.owner, endpoint.id)
        else:
            self._operator(notification)

    def tell(self, endpoint: Endpoint) -> Delivery | None:
        """Put the notice into the outbox; None where the owner has no other endpoint to be told through."""
        other = self._other(endpoint)
        if other is None:
            return None
        name = str(endpoint.settings.get("name") or endpoint.id)
        id, at = _notice_id(endpoint), _switched_off_at(endpoint)
        body = service_event(
            "endpoint.disabled",
            id,
            at=at,
            owner=endpoint.owner,
            title=f"{endpoint.channel} {name} was switched off",
            text=f"{endpoint.reason}\nWhat is for it is kept and can be sent again once it is switched on.",
            endpoint=endpoint.id,
            channel=endpoint.channel,
            reason=endpoint.reason,
            priority="high",
        )
        notice = Delivery(
            id=id,
            firing=id,
            channel=other.channel,
            endpoint=other.id,
            body=body,
            created_at=at,
            expires_at=at + LATEST,
            priority="high",
        )
        self._store.commit(Commit(deliveries=(notice,)))
        return notice

    def catch_up(self, *, now: int) -> int:
        """Tell what a crash between the switching off and its notice left untold; how many notices that were."""
        count = 0
        for endpoint in self._store.endpoints():
            recent = now - LATEST < _switched_off_at(endpoint)
            if endpoint.enabled or not recent or endpoint.reason == BY_OWNER:
                continue
            if self._store.delivery(_notice_id(endpoint)) is None:
                count += self.tell(endpoint) is not None
        return count

    def _other(self, endpoint: Endpoint) -> Endpoint | None:
        candidates = [
            one
            for one in self._store.endpoints(owner=endpoint.owner)
            if one.id != endpoint.id and one.enabled and one.channel in PEOPLE_FIRST
        ]
        # One that fails itself is the last resort.
        return min(
            candidates, key=lambda one: (one.failures > 0, PEOPLE_FIRST.index(one.channel), one.id), default=None
        )


def _switched_off_at(endpoint: Endpoint) -> int:
    return int(endpoint.settings.get("switched_off_at", 0))


def _notice_id(endpoint: Endpoint) -> str:
    return "ntc_" + hashlib.sha256(f"{endpoint.id}/{_switched_off_at(endpoint)}".encode()).hexdigest()[:26]
