"""The stream of firings: a WebSocket server whose clients go on from where they were, and never wait for each other."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tapeline.alerts.delivery.messages import event
from tapeline.alerts.store.store import FiringQuery, Store, StoredFiring
from tapeline.core.errors import ConfigurationError, MissingExtraError, TapelineError

if TYPE_CHECKING:
    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request, Response

SHORTEST_TOKEN: Final = 32
LARGEST_HELLO: Final = 64 * 1024
MOST_NAMES: Final = 1_000
PAGE: Final = 500
HELLO_SECONDS: Final = 10.0

POLICY: Final = 1008
"""Close code of a client that says what it may not."""
FAILED: Final = 1011
"""Close code where the firings cannot be read; the client resumes later."""
TOO_SLOW: Final = 1013
"""Close code ("try again later") of a client that is too slow, or one too many; it resumes from its last cursor."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """What a client may see: the firings of one owner, or of all where it is None."""

    owner: str | None = None


Authorise = Callable[[str | None], Access | None]
"""Takes the bearer token of a request (None where it has none); None refuses it."""


def static_token(token: str) -> Authorise:
    """Admit who knows one token, compared in constant time.

    Raises
    ------
    ConfigurationError
        It has less than 32 characters.

    Examples
    --------
    >>> admit = static_token("0123456789abcdef0123456789abcdef")
    >>> admit("0123456789abcdef0123456789abcdef"), admit("wrong"), admit(None)
    (Access(owner=None), None, None)
    """
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(f"the token of the stream has less than {SHORTEST_TOKEN} characters")
    expected = token.encode()

    def admit(offered: str | None) -> Access | None:
        return Access() if hmac.compare_digest((offered or "").encode("utf-8", "replace"), expected) else None

    return admit


@dataclass(frozen=True)
class Hello:
    """What a client asks for in its first message.

    ``resume`` is the cursor of the last firing that it took (None: from now on; ``"0"``: all that is kept); empty
    filters let everything pass.
    """

    resume: int | None
    symbols: frozenset[str]
    rules: frozenset[str]
    owner: str | None

    def wants(self, stored: StoredFiring) -> bool:
        """Whether a firing passes the filters."""
        firing = stored.firing
        return (
            (not self.symbols or firing.symbol in self.symbols)
            and (not self.rules or firing.rule in self.rules)
            and (self.owner is None or firing.owner == self.owner)
        )


def read_hello(text: str | bytes, access: Access) -> Hello:
    """Read ``{"resume": "17", "symbols": [...], "rules": [...], "owner": "..."}``; every part may be left out.

    Raises
    ------
    ConfigurationError
        It has another form, or asks for another owner's firings.

    Examples
    --------
    >>> read_hello('{"resume": "17"}', Access()).resume
    17
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not set(fields) <= {"resume", "symbols", "rules", "owner"}:
        raise ConfigurationError("the first message is not of the form {'resume', 'symbols', 'rules', 'owner'}")
    resume = fields.get("resume")
    if resume is not None:
        if not (isinstance(resume, str) and resume.isascii() and resume.isdecimal() and len(resume) <= 18):
            raise ConfigurationError("resume is not a cursor of this stream")
        resume = int(resume)
    names = {}
    for part in ("symbols", "rules"):
        given = fields.get(part) or []
        if not (isinstance(given, list) and len(given) <= MOST_NAMES and all(isinstance(each, str) for each in given)):
            raise ConfigurationError(f"{part} is not a list of at most {MOST_NAMES} names")
        names[part] = frozenset(given)
    owner = fields.get("owner")
    if not (owner is None or isinstance(owner, str)) or (
        access.owner is not None and owner not in (None, access.owner)
    ):
        raise ConfigurationError("owner is not one whose firings this client may see")
    return Hello(resume, names["symbols"], names["rules"], access.owner or owner)


class _Client:
    """One connection: its filters, how far it was given firings, and what waits to be sent to it."""

    def __init__(self, connection: ServerConnection, hello: Hello, size: int) -> None:
        self.connection = connection
        self.hello = hello
        self.position = hello.resume or 0
        self.waiting: asyncio.Queue[str] = asyncio.Queue(size)
        self.task: asyncio.Task[None] | None = None

    def offer(self, number: int, stored: StoredFiring, frame: str) -> bool:
        """Put a frame into its queue, unless it does not want it; False where the queue is full."""
        if self.hello.wants(stored):
            if self.waiting.full():
                return False
            self.waiting.put_nowait(frame)
        self.position = number
        return True


class FiringServer:
    """Streams firings out of the store to WebSocket clients.

    A client connects (``Authorization: Bearer <token>``), says what it wants (see :func:`read_hello`), is answered
    ``{"type": "ready", "cursor": "17"}`` and gets each firing as ``{"type": "firing", "cursor": "18", "event": ...}``
    in the order in which they were stored. Whoever was away sends the last cursor that it took and misses nothing.
    Each client has a queue of its own; one whose queue is full is closed with 1013 and resumes.

    Parameters
    ----------
    store:
        Where firings are read from: what was not stored is not streamed.
    host, port:
        Where to listen; port 0 takes a free one, see :attr:`port`.
    authorise:
        Who may connect; :func:`static_token` or one's own. Without it only loopback addresses are served.
    origins:
        Web pages (``https://desk.example.org``) that may connect; by default no page may, so that one that an
        operator looks at cannot read the stream of his machine.
    queue:
        Firings that may wait for one client.
    clients:
        Connections at once.
    poll_seconds:
        How often the store is asked where nobody calls :meth:`wake`.
    ping_seconds:
        How often a client is asked whether it lives; one that does not answer for as long is closed.

    Raises
    ------
    ConfigurationError
        ``host`` is not a loopback address and nobody is asked for a token.
    """

    def __init__(
        self,
        store: Store,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        authorise: Authorise | None = None,
        origins: Sequence[str] = (),
        queue: int = 1_000,
        clients: int = 1_000,
        poll_seconds: float = 0.2,
        ping_seconds: float = 20.0,
        close_seconds: float = 5.0,
    ) -> None:
        if authorise is None and not _is_loopback(host):
            raise ConfigurationError(
                f"the stream would listen on {host} without asking for a token",
                hint="set a token of 32 characters, or listen on 127.0.0.1",
            )
        self._store, self._host, self._asked_port, self._authorise = store, host, port, authorise
        self._origins = list(origins)
        self._queue, self._most, self._poll = queue, clients, poll_seconds
        self._ping, self._close = ping_seconds, close_seconds
        self._clients: set[_Client] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._connected = 0
        self._position = 0
        self._server: Server | None = None
        self._pump: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.slow = 0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise ConfigurationError("the stream does not listen yet")
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def connected(self) -> int:
        """Clients that are connected now."""
        return self._connected

    async def start(self) -> None:
        """Listen and begin to stream."""
        try:
            from websockets.asyncio.server import serve
        except ImportError:
            raise MissingExtraError("websockets", "alerts") from None
        self._loop = asyncio.get_running_loop()
        self._position = await asyncio.to_thread(self._store.last_number)
        self._server = await serve(
            self._session,
            self._host,
            self._asked_port,
            process_request=self._admit,
            max_size=LARGEST_HELLO,
            max_queue=4,
            ping_interval=self._ping,
            ping_timeout=self._ping,
            close_timeout=self._close,
            open_timeout=HELLO_SECONDS,
            server_header=None,
            compression=None,
        )
        self._pump = asyncio.create_task(self._stream())

    async def stop(self) -> None:
        """Close every client with 1001 and stop listening."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._server is not None:
            self._server.close(code=1001)
            await self._server.wait_closed()

    def wake(self) -> None:
        """Look into the store now: a firing was written. May be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.set)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        origins = request.headers.get_all("Origin")
        if any(origin not in self._origins for origin in origins):
            return connection.respond(403, "this page may not connect\n")
        if self._connected >= self._most:
            return connection.respond(503, "too many clients\n")
        if self._authorise is None:
            connection.access = Access()  # type: ignore[attr-defined]
            return None
        offered = request.headers.get_all("Authorization")
        scheme, _, token = offered[0].partition(" ") if len(offered) == 1 else ("", "", "")
        access = self._authorise(token.strip() if scheme.lower() == "bearer" else None)
        if access is None:
            return connection.respond(401, "a bearer token is needed\n")
        connection.access = access  # type: ignore[attr-defined]
        return None

    async def _session(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        if self._connected >= self._most:  # many may have been admitted at the same time
            await connection.close(TOO_SLOW, "too many clients")
            return
        self._connected += 1
        client: _Client | None = None
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                first = await connection.recv()
            client = _Client(connection, read_hello(first, connection.access), self._queue)  # type: ignore[attr-defined]
            if client.hello.resume is None:
                client.position = self._position
            elif client.position > await asyncio.to_thread(self._store.last_number):
                raise ConfigurationError("resume lies ahead of this stream")
            await connection.send(json.dumps({"type": "ready", "cursor": str(client.position)}))
            client.task = asyncio.create_task(self._give(client))
            await connection.recv()
            await connection.close(POLICY, "only the first message is read")
        except ConnectionClosed:
            pass
        except TimeoutError:
            await connection.close(POLICY, "no first message came")
        except TapelineError as error:
            await connection.close(POLICY, error.message[:120])
        finally:
            self._connected -= 1
            if client is not None:
                self._clients.discard(client)
                if client.task is not None:
                    client.task.cancel()
                    await asyncio.gather(client.task, return_exceptions=True)

    async def _give(self, client: _Client) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._feed(client)
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - a lost database: the client comes back and resumes
            _log.warning("firings for a client cannot be read: %s", type(error).__name__)
            await client.connection.close(FAILED, "the firings cannot be read now")

    async def _feed(self, client: _Client) -> None:
        """Give a client what it missed, page by page, then what comes."""
        query = _query(client.hello)
        while client.position < self._position:
            # What is beyond is streamed: read up to here, and no await stands between this test and the joining.
            until = self._position
            found = await asyncio.to_thread(self._store.firings_after, client.position, query=query, limit=PAGE)
            for stored in found:
                if stored.number <= until:
                    if client.hello.wants(stored):
                        await client.connection.send(_frame(stored))
                    client.position = stored.number
            if len(found) < PAGE:
                client.position = max(client.position, until)
        self._clients.add(client)
        while True:
            await client.connection.send(await client.waiting.get())

    async def _stream(self) -> None:
        # Clients send between two pages; half a queue at a time, a burst alone fills none of them.
        page = max(min(PAGE, self._queue // 2), 1)
        while True:
            self._bell.clear()
            try:
                found = await asyncio.to_thread(self._store.firings_after, self._position, limit=page)
            except Exception as error:  # noqa: BLE001 - a lost database must not end the stream for ever
                _log.warning("firings cannot be read: %s", type(error).__name__)
                found = ()
            for stored in found:
                self._position = stored.number
                frame = _frame(stored)
                for client in [each for each in self._clients if each.position < stored.number]:
                    if not client.offer(stored.number, stored, frame):
                        self._drop(client)
            if len(found) < page:
                try:
                    async with asyncio.timeout(self._poll):
                        await self._bell.wait()
                except TimeoutError:
                    pass

    def _drop(self, client: _Client) -> None:
        """Close a client that is too slow, without waiting for it."""
        self.slow += 1
        self._clients.discard(client)
        if client.task is not None:
            client.task.cancel()
        closing = asyncio.create_task(client.connection.close(TOO_SLOW, "too slow: resume from the last cursor"))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def __repr__(self) -> str:
        return f"FiringServer({self._host}, {self._connected} clients)"


def _query(hello: Hello) -> FiringQuery:
    return FiringQuery(rule=_only(hello.rules), symbol=_only(hello.symbols), owner=hello.owner)


def _only(names: frozenset[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _frame(stored: StoredFiring) -> str:
    fields: dict[str, Any] = {"type": "firing", "cursor": str(stored.number), "event": event(stored.firing)}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
