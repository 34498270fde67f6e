"""The door of the stream: which handshakes come through, and how many connections there may be."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from tapeline.alerts.client_address import client_address, counted_as, trusted_networks
from tapeline.alerts.delivery.limits import Limiter, Rate
from tapeline.alerts.websocket_access import PROTOCOL, Access, Gate, read_offer

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

CONNECTS: Final = Rate(20.0, burst=200)
MESSAGES: Final = Rate(2.0, burst=20)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamLimits:
    """What clients may take of the server.

    Parameters
    ----------
    clients, of_user, of_address:
        Connections at once: of all, of one user, of one address.
    connects:
        Handshakes of one address.
    messages, size:
        What a connected client may say: how often, and bytes of one message.
    queue:
        Firings that may wait for one client.
    hello:
        Seconds for the handshake, and for the first message.
    """

    clients: int = 5_000
    of_user: int = 50
    of_address: int = 500
    connects: Rate = CONNECTS
    messages: Rate = MESSAGES
    size: int = 64 * 1024
    queue: int = 1_000
    hello: float = 10.0


class Door:
    """Looks at each handshake, and keeps count of who is in.

    Parameters
    ----------
    gate, origins, proxies, limits:
        As :class:`~tapeline.alerts.websocket_server.WebSocketServer` takes them.
    monotonic:
        Seconds that never jump.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        origins: Sequence[str] = (),
        proxies: Sequence[str] = (),
        limits: StreamLimits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate, self._limits = gate, limits
        self._origins, self._proxies = frozenset(origins), trusted_networks(proxies)
        self._connects = Limiter(monotonic)
        self._admitted: WeakKeyDictionary[ServerConnection, tuple[Access, str]] = WeakKeyDictionary()
        self._users: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self.refused = 0

    @property
    def inside(self) -> int:
        """Connections that came through and have not ended."""
        return self._addresses.total()

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Look at a handshake: None lets it through, the answer refuses it."""

        def refused(status: int, reason: str) -> Response:
            self.refused += 1
            response = connection.respond(status, f"{reason}\n")
            if status in (429, 503):
                response.headers["Retry-After"] = "5"
            return response

        headers = request.headers
        address = client_address(connection.remote_address[0], headers.get_all("X-Forwarded-For"), self._proxies)
        # Of IPv6 one customer has a whole network, and could come from another address each time.
        address = counted_as(address)
        if self._connects.admit([(address, self._limits.connects)]) > 0:
            return refused(429, "too many connections from this address")
        if any(origin not in self._origins for origin in headers.get_all("Origin")):
            return refused(403, "this page may not connect")
        if "?" in request.path:
            return refused(400, "an address is written into logs: send what you have to say in headers and messages")
        full = self.full(Access(), address)
        if full:
            return refused(*full)
        offer = read_offer(headers)
        try:
            access = None if offer is None else await asyncio.to_thread(self._gate.admit, offer)
        except Exception as error:  # noqa: BLE001 - a lost database, for instance: nobody is let in unseen
            _log.warning("a client cannot be let in now: %s", type(error).__name__)
            return refused(503, "try again later")
        if access is None:
            response = refused(401, "a token or a ticket is needed")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        full = self.full(access, address)
        if full:
            return refused(*full)
        self._admitted[connection] = access, address
        return None

    def admitted(self, connection: ServerConnection) -> tuple[Access, str]:
        """What was found of a connection that came through, and its address."""
        return self._admitted.pop(connection)

    def full(self, access: Access, address: str) -> tuple[int, str] | None:
        """The status and reason with which one more must be refused."""
        if self.inside >= self._limits.clients:
            return 503, "too many clients"
        if access.user and self._users[access.user] >= self._limits.of_user:
            return 429, "too many connections of this user"
        if self._addresses[address] >= self._limits.of_address:
            return 429, "too many connections from this address"
        return None

    @contextmanager
    def passed(self, access: Access, address: str) -> Iterator[None]:
        """While the block runs, the connection counts."""
        counted = ((self._users, access.user), (self._addresses, address))
        for count, key in counted:
            count[key] += 1
        try:
            yield
        finally:
            for count, key in counted:
                count[key] -= 1
                if not count[key]:
                    del count[key]


def choose_protocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The subprotocol that is answered: ours where it was offered, never one with a token in it."""
    return next((each for each in offered if each == PROTOCOL), None)
