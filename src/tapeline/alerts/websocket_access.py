"""Who may connect to the stream: what a handshake offers, what it is checked against, and how long that holds."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from tapeline.alerts.access.principal import NotAuthenticatedError, Principal
from tapeline.core.errors import ConfigurationError

if TYPE_CHECKING:
    from websockets.datastructures import Headers

    from tapeline.alerts.access.access_control import AccessControl

SHORTEST_TOKEN: Final = 32
SCOPE: Final = "firings:read"
"""What an API key must have been given."""
PROTOCOL: Final = "tapeline.v1"
"""The subprotocol of the stream; the only one that is ever answered, so that no token stands in a response."""
_BEARER: Final = "bearer."
_TICKET: Final = "ticket."


@dataclass(frozen=True)
class Access:
    """What a client may see, and until when.

    Parameters
    ----------
    owner:
        Whose firings; None: everybody's.
    user:
        Who he is, for limits; empty where he is not told apart.
    expires_at:
        Nanoseconds since 1970; 0: it does not expire.
    token, principal:
        What he came with, where it can be asked again whether that is still valid.
    """

    owner: str | None = None
    user: str = ""
    expires_at: int = 0
    token: str = field(default="", repr=False)
    principal: Principal | None = None


@dataclass(frozen=True)
class Offer:
    """The one credential of a handshake: a bearer token, a ticket that is valid once, or nothing."""

    bearer: str | None = field(default=None, repr=False)
    ticket: str | None = field(default=None, repr=False)


class Gate(Protocol):
    """Decides who may connect. Both methods may block: they are called in a thread."""

    def admit(self, offer: Offer) -> Access | None:
        """What he who offers this may see; None refuses him."""
        ...

    def revoked(self, accesses: Collection[Access]) -> Collection[Access]:
        """Those that are no longer valid."""
        ...


class OpenGate:
    """Admits everybody to everything: for a loopback address."""

    def admit(self, offer: Offer) -> Access | None:
        """Everything."""
        return Access()

    def revoked(self, accesses: Collection[Access]) -> Collection[Access]:
        """None."""
        return ()


class TokenGate:
    """Admits who knows one token, compared in constant time.

    Raises
    ------
    ConfigurationError
        It has less than 32 characters.

    Examples
    --------
    >>> gate = TokenGate("0123456789abcdef0123456789abcdef")
    >>> gate.admit(Offer("0123456789abcdef0123456789abcdef")), gate.admit(Offer("wrong")), gate.admit(Offer())
    (Access(owner=None, user='', expires_at=0, principal=None), None, None)
    """

    def __init__(self, token: str) -> None:
        if len(token) < SHORTEST_TOKEN:
            raise ConfigurationError(f"the token of the stream has less than {SHORTEST_TOKEN} characters")
        self._expected = token.encode()

    def admit(self, offer: Offer) -> Access | None:
        """Everything, for who knows it."""
        known = hmac.compare_digest((offer.bearer or "").encode("utf-8", "replace"), self._expected)
        return Access() if known else None

    def revoked(self, accesses: Collection[Access]) -> Collection[Access]:
        """None: it is valid as long as the server runs."""
        return ()


class AccountGate:
    """Admits users by an access token, an API key or a ticket; each sees his own firings, an administrator all.

    Parameters
    ----------
    access:
        Who is known. A login that ended, a key that was revoked and a role that changed end the connection.
    operator:
        What else may be admitted, such as a :class:`TokenGate` of the settings.
    """

    def __init__(self, access: AccessControl, operator: Gate | None = None) -> None:
        self._access, self._operator = access, operator

    def admit(self, offer: Offer) -> Access | None:
        """What he may see."""
        known = self._operator.admit(offer) if self._operator is not None else None
        if known is not None:
            return known
        try:
            if offer.ticket is not None:
                return _access_of(self._access.redeem(offer.ticket), "")
            return _access_of(self._access.authenticate(offer.bearer), offer.bearer or "")
        except NotAuthenticatedError:
            return None

    def revoked(self, accesses: Collection[Access]) -> Collection[Access]:
        """Those whose token has expired, whose login ended, or who may see something else by now."""
        return [one for one in accesses if one.principal is not None and self._now(one) != one]

    def _now(self, access: Access) -> Access | None:
        assert access.principal is not None  # noqa: S101 - asked by its only caller
        try:
            # A token is read again, for it expires before the login does that it came from.
            found = self._access.authenticate(access.token) if access.token else self._access.still(access.principal)
        except NotAuthenticatedError:
            return None
        return _access_of(found, access.token)


def _access_of(principal: Principal, token: str) -> Access | None:
    if not principal.may(SCOPE):
        return None
    owner = None if principal.role == "admin" else principal.owner
    return Access(owner, principal.owner, token=token, principal=principal)


def read_offer(headers: Headers) -> Offer | None:
    """The credential of a handshake; None where there are several, which nobody sends who means well.

    A program says ``Authorization: Bearer <token>``. A page cannot set headers: it offers the subprotocols
    ``tapeline.v1`` and ``ticket.<ticket>`` or ``bearer.<token>``.

    Examples
    --------
    >>> from websockets.datastructures import Headers
    >>> read_offer(Headers({"Sec-WebSocket-Protocol": "tapeline.v1, ticket.abc"})).ticket
    'abc'
    """
    bearers, tickets = [], []
    for line in headers.get_all("Authorization"):
        scheme, _, token = line.partition(" ")
        bearers.append(token.strip() if scheme.lower() == "bearer" else "")
    for name in offered_protocols(headers):
        if name.startswith(_BEARER):
            bearers.append(name.removeprefix(_BEARER))
        elif name.startswith(_TICKET):
            tickets.append(name.removeprefix(_TICKET))
    if len(bearers) + len(tickets) > 1:
        return None
    return Offer(bearers[0] if bearers else None, tickets[0] if tickets else None)


def offered_protocols(headers: Headers) -> list[str]:
    """The subprotocols that a handshake offers."""
    lines = headers.get_all("Sec-WebSocket-Protocol")
    return [name.strip() for line in lines for name in line.split(",")]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
