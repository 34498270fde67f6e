"""Who may listen to the stream of firings: people and programs that access control knows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tapeline.alerts.access.access_control import AccessControl
from tapeline.alerts.access.principal import NotAuthenticatedError, Principal
from tapeline.alerts.websocket_access import Access, Gate, Offer

SCOPE: Final = "firings:read"


class StreamGate:
    """Admits by ticket, access token or API key: everybody to his own firings, an administrator to all.

    Who came with an access token is asked to come again when it expires; who came with a ticket stays as long as his
    login stands.

    Parameters
    ----------
    access:
        Knows them.
    also:
        Admits who is none of them, such as a program that knows the service's own token.
    """

    def __init__(self, access: AccessControl, also: Gate | None = None) -> None:
        self._access, self._also = access, also

    def admit(self, offer: Offer) -> Access | None:
        """What he who offers this may see; None refuses him."""
        known = self._also.admit(offer) if self._also is not None else None
        if known is not None:
            return known
        try:
            if offer.ticket is not None:
                principal, until = self._access.redeem(offer.ticket), 0
            else:
                principal, until = self._access.authenticate(offer.bearer), self._access.ends_at(offer.bearer or "")
        except NotAuthenticatedError:
            return None
        if not principal.may(SCOPE):
            return None
        return Access(_sees(principal), principal.owner, until, principal.credential)

    def revoked(self, accesses: Collection[Access]) -> Collection[Access]:
        """Those whose login ended, whose key was revoked, who were disabled, or who are administrators no more."""
        theirs = [one for one in accesses if one.token.startswith(("session:", "key:"))]
        others = [one for one in accesses if one not in theirs]
        gone = [] if self._also is None else list(self._also.revoked(others))
        return [*gone, *(one for one in theirs if not self._stands(one))]

    def _stands(self, one: Access) -> bool:
        try:
            now = self._access.still(Principal(one.user, "viewer", None, one.token))
        except NotAuthenticatedError:
            return False
        return _sees(now) == one.owner


def _sees(principal: Principal) -> str | None:
    return None if principal.role == "admin" else principal.owner
