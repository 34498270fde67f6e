"""The stream of firings: a WebSocket server whose clients go on from where they were, and never wait for each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tapeline.alerts.store.store import Store, StoredFiring
from tapeline.alerts.websocket_access import Access, Gate, OpenGate, is_loopback
from tapeline.alerts.websocket_client import Frame, StreamClient, firing_frame, text_frame
from tapeline.alerts.websocket_door import Door, StreamLimits, choose_protocol
from tapeline.alerts.websocket_filters import FilterIndex, Filters, read_change, read_hello
from tapeline.core.errors import ConfigurationError, MissingExtraError, TapelineError
from tapeline.core.token_bucket import TokenBucket

if TYPE_CHECKING:
    from websockets.asyncio.server import Server, ServerConnection

PAGE: Final = 500
AT_ONCE: Final = 256
"""Clients that are given a page before others of the process have their turn."""
CATCHING_UP: Final = 4
"""Clients that read what they missed from the store at the same time."""

GOING_AWAY, RESTARTING = 1001, 1012
POLICY: Final = 1008
"""Close code of a client that says what it may not, or more than it may."""
FAILED: Final = 1011
"""Close code where the firings cannot be read; the client resumes later."""
TOO_SLOW: Final = 1013
"""Close code ("try again later") of a client that is too slow, or one too many; it resumes from its last cursor."""
UNAUTHORIZED: Final = 3000
"""Close code of a client whose token has expired or was revoked; it comes back with a new one."""

COUNTED: Final = frozenset({"sent", "dropped", "slow", "refused", "expired", "broken"})
"""Of :meth:`WebSocketServer.metrics` those that only grow."""

_log = logging.getLogger(__name__)


class WebSocketServer:
    """Streams firings out of the store to WebSocket clients, each its own.

    A client connects with a credential (see :func:`~tapeline.alerts.websocket_access.read_offer`), says what it wants
    (:func:`~tapeline.alerts.websocket_filters.read_hello`), is answered ``{"type": "ready", "cursor": "17"}`` and gets
    each firing as ``{"type": "firing", "cursor": "18", "event": ...}`` in the order in which they were stored. Whoever
    was away sends the last cursor that it took and misses nothing. What it wants may be changed while it is connected.

    A firing is made into a frame once, whoever gets it; clients with equal filters share what is written. Who is too
    slow gets a queue of his own, and once that is full he is closed with 1013 and resumes: nothing is left out.

    Parameters
    ----------
    store:
        Where firings are read from: what was not stored is not streamed.
    host, port:
        Where to listen; port 0 takes a free one, see :attr:`port`.
    gate:
        Who may connect. Without it only loopback addresses are served.
    origins:
        Web pages (``https://desk.example.org``) that may connect; by default no page may, so that one that an
        operator looks at cannot read the stream of his machine.
    proxies:
        Networks whose ``X-Forwarded-For`` is believed.
    limits:
        What clients may take.
    poll_seconds:
        How often the store is asked where nobody calls :meth:`wake`: where another process writes, 0.03 or so.
    ping_seconds:
        How often a client is asked whether it lives; one that does not answer for as long is closed.
    check_seconds:
        How often it is asked whether credentials are still valid.
    tell_seconds:
        How often a client that got nothing is told the newest cursor, so that it has less to go over when it resumes.
    shared_port:
        Whether several processes may listen on the port, each with its own clients.
    clock, monotonic:
        Nanoseconds since 1970, and seconds that never jump.

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
        gate: Gate | None = None,
        origins: Sequence[str] = (),
        proxies: Sequence[str] = (),
        limits: StreamLimits | None = None,
        poll_seconds: float = 0.2,
        ping_seconds: float = 20.0,
        check_seconds: float = 10.0,
        tell_seconds: float = 15.0,
        close_seconds: float = 5.0,
        shared_port: bool = False,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if gate is None and not is_loopback(host):
            raise ConfigurationError(
                f"the stream would listen on {host} without asking for a token",
                hint="set a token of 32 characters, or listen on 127.0.0.1",
            )
        self._store, self._host, self._asked_port, self._gate = store, host, port, gate or OpenGate()
        self._limits = limits or StreamLimits()
        self._door = Door(self._gate, origins=origins, proxies=proxies, limits=self._limits, monotonic=monotonic)
        self._poll, self._ping, self._close = poll_seconds, ping_seconds, close_seconds
        self._check, self._tell = check_seconds, tell_seconds
        self._shared_port = shared_port
        self._clock, self._monotonic = clock, monotonic
        self._clients: set[StreamClient] = set()
        self._index: FilterIndex[StreamClient] = FilterIndex()
        self._position = 0
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._bell = asyncio.Event()
        self._reading = asyncio.Semaphore(CATCHING_UP)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counts: Counter[str] = Counter()
        self._most_waiting = 0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise ConfigurationError("the stream does not listen yet")
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def connected(self) -> int:
        """Clients that are connected now."""
        return self._door.inside

    def metrics(self) -> dict[str, float]:
        """Numbers for a dashboard.

        ``clients``, ``groups`` of equal filters, ``waiting`` firings and ``waiting_most`` of one client so far;
        and counted since the start: ``sent`` firings, ``dropped`` firings that waited for clients that were ``slow``,
        ``refused`` handshakes, ``expired`` credentials, ``broken`` rules of the protocol.
        """
        clients = list(self._clients)
        most = max((client.most for client in clients), default=0)
        return {
            "clients": self.connected,
            "groups": len(self._index),
            "waiting": sum(client.waiting for client in clients),
            "waiting_most": max(most, self._most_waiting),
            "sent": self._counts["sent"] + sum(client.sent for client in clients),
            "refused": self._door.refused,
            **{name: self._counts[name] for name in ("dropped", "slow", "expired", "broken")},
        }

    async def start(self) -> None:
        """Listen and begin to stream."""
        try:
            from websockets.asyncio.server import serve
        except ImportError:
            raise MissingExtraError("websockets", "alerts") from None
        self._loop = asyncio.get_running_loop()
        self._position = await asyncio.to_thread(self._store.last_number)
        quiet = logging.getLogger(f"{__name__}.connections")
        # It writes headers down, and tokens with them; and a traceback for each stranger's broken handshake.
        quiet.setLevel(logging.CRITICAL)
        self._server = await serve(
            self._session,
            self._host,
            self._asked_port,
            process_request=self._door.admit,
            select_subprotocol=choose_protocol,
            max_size=self._limits.size,
            max_queue=4,
            ping_interval=self._ping,
            ping_timeout=self._ping,
            close_timeout=self._close,
            open_timeout=self._limits.hello,
            server_header=None,
            compression=None,
            logger=quiet,
            reuse_port=self._shared_port or None,
        )
        for work in (self._stream(), self._watch()):
            self._keep(asyncio.create_task(work))

    async def stop(self, *, restarts: bool = False) -> None:
        """Close every client and stop listening.

        Parameters
        ----------
        restarts:
            Whether it will be back in a moment: clients are then told 1012 instead of 1001.
        """
        if self._server is not None:
            self._server.close(code=RESTARTING if restarts else GOING_AWAY)
            await self._server.wait_closed()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Look into the store now: a firing was written. May be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.set)

    # -- who comes in

    async def _session(self, connection: ServerConnection) -> None:
        access, address = self._door.admitted(connection)
        full = self._door.full(access, address)  # many may have been admitted at the same time
        if full:
            await connection.close(TOO_SLOW, full[1])
            return
        with self._door.passed(access, address):
            await self._serve(connection, access)

    async def _serve(self, connection: ServerConnection, access: Access) -> None:
        from websockets.exceptions import ConnectionClosed

        client: StreamClient | None = None
        try:
            async with asyncio.timeout(self._limits.hello):
                hello = read_hello(await connection.recv(), access.owner)
            position = self._position if hello.resume is None else hello.resume
            if position > self._position and position > await asyncio.to_thread(self._store.last_number):
                raise ConfigurationError("resume lies ahead of this stream")
            client = StreamClient(connection, access, hello.filters, position, self._limits.queue)
            self._clients.add(client)
            await client.send(text_frame(position, {"type": "ready", "cursor": str(position)}))
            await self._converse(client)
        except ConnectionClosed:
            pass
        except TimeoutError:
            self._counts["broken"] += 1
            await connection.close(POLICY, "no first message came")
        except TapelineError as error:
            self._counts["broken"] += 1
            await connection.close(POLICY, _reason(error.message))
        except Exception as error:  # noqa: BLE001 - a lost database: the client comes back and resumes
            _log.warning("a client cannot be served: %s", type(error).__name__)
            await connection.close(FAILED, "the firings cannot be read now")
        finally:
            if client is not None:
                self._let_go(client)

    async def _converse(self, client: StreamClient) -> None:
        """Let it catch up, and hear how it changes its filters, until it goes."""
        catching_up = self._keep(asyncio.create_task(self._catch_up(client)))
        said: TokenBucket | None = None
        try:
            while True:
                message = await client.connection.recv()
                if said is None:
                    rate = self._limits.messages
                    said = TokenBucket(rate.per_second, capacity=rate.burst, monotonic=self._monotonic)
                if said.reserve() > 0:
                    raise ConfigurationError("too many messages")
                changed = read_change(message, client.filters)
                self._index.remove(client, client.filters)
                client.filters = changed
                if catching_up.done():
                    self._index.add(client, changed)
                # What comes after this cursor passes the new filters.
                cursor = self._position if catching_up.done() else client.position
                told = {"type": "subscribed", "cursor": str(cursor), **changed.shown()}
                await client.send(text_frame(client.told, told))
        finally:
            catching_up.cancel()

    async def _catch_up(self, client: StreamClient) -> None:
        """Give a client what it missed, page by page, and then let it join those that are given what comes."""
        from websockets.exceptions import ConnectionClosed

        try:
            while client.position < self._position:
                # What is beyond is streamed: read up to here, and no await stands between this test and the joining.
                until, filters = self._position, client.filters
                async with self._reading:
                    found = await asyncio.to_thread(
                        self._store.firings_after, client.position, query=filters.query, limit=PAGE
                    )
                for stored in found:
                    if client.filters is not filters:
                        break  # what the store left out of this page may be wanted now
                    if stored.number <= until:
                        client.position = stored.number
                        if filters.want(stored.firing):
                            await client.send(firing_frame(stored))
                else:
                    if len(found) < PAGE and client.filters is filters:
                        client.position = max(client.position, until)
            self._index.add(client, client.filters)
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - a lost database: the client comes back and resumes
            _log.warning("firings for a client cannot be read: %s", type(error).__name__)
            await client.connection.close(FAILED, "the firings cannot be read now")

    # -- what goes out

    async def _stream(self) -> None:
        # Clients are written to between two pages; half a queue at a time, a burst alone fills none of them.
        page = max(min(PAGE, self._limits.queue // 2), 1)
        while True:
            self._bell.clear()
            try:
                found = await asyncio.to_thread(self._store.firings_after, self._position, limit=page)
            except Exception as error:  # noqa: BLE001 - a lost database must not end the stream for ever
                _log.warning("firings cannot be read: %s", type(error).__name__)
                found = ()
            if found:
                await self._give(found)
            if len(found) < page:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._bell.wait()

    async def _give(self, found: Sequence[StoredFiring]) -> None:
        wanted: dict[Filters, list[Frame]] = {}
        for stored in found:
            frame: Frame | None = None
            for filters in self._index.matching(stored.firing):
                if frame is None:
                    frame = firing_frame(stored)
                wanted.setdefault(filters, []).append(frame)
        # Chosen before anybody else has a turn: who joins from here on reads this page from the store.
        chosen = [
            (client, frames, wire)
            for filters, frames in wanted.items()
            for wire in [b"".join(frame.wire for frame in frames)]
            for client in self._index.waiting(filters)
        ]
        self._position = found[-1].number
        for place, (client, frames, wire) in enumerate(chosen, 1):
            if not client.offer(frames, wire):
                self._drop(client)
            if place % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _drop(self, client: StreamClient) -> None:
        """Close a client that is too slow, without waiting for it."""
        self._counts["slow"] += 1
        self._index.remove(client, client.filters)
        self._counts["dropped"] += client.forsake()
        self._end(client, TOO_SLOW, "too slow: resume from the last cursor")

    # -- whose time is over

    async def _watch(self) -> None:
        """End what is no longer permitted, and tell who got nothing how far the stream is."""
        now = self._monotonic()
        check, tell = now + self._check, now + self._tell
        while True:
            await asyncio.sleep(min(1.0, self._check))
            instant, now = self._clock(), self._monotonic()
            for client in [each for each in self._clients if 0 < each.access.expires_at <= instant]:
                self._expire(client, "the token has expired")
            if now >= check:
                check = now + self._check
                await self._ask_again()
            if now >= tell:
                tell = now + self._tell
                self._tell_cursor()

    async def _ask_again(self) -> None:
        standing = list({client.access for client in self._clients})
        try:
            revoked = frozenset(await asyncio.to_thread(self._gate.revoked, standing)) if standing else frozenset()
        except TapelineError as error:
            # Whoever is in stays in while the database is away; his token still expires.
            _log.warning("credentials of clients cannot be checked: %s", type(error).__name__)
            return
        for client in [each for each in self._clients if each.access in revoked]:
            self._expire(client, "the token is no longer valid")

    def _tell_cursor(self) -> None:
        frame = text_frame(self._position, {"type": "cursor", "cursor": str(self._position)})
        for client in self._index.clients():
            if client.told < self._position and not client.waiting and not client.offer([frame], frame.wire):
                self._drop(client)

    def _expire(self, client: StreamClient, reason: str) -> None:
        self._counts["expired"] += 1
        self._let_go(client)
        self._end(client, UNAUTHORIZED, reason)

    def _let_go(self, client: StreamClient) -> None:
        self._index.remove(client, client.filters)
        if client in self._clients:
            self._clients.discard(client)
            client.forsake()
            self._counts["sent"] += client.sent
            self._most_waiting = max(self._most_waiting, client.most)

    def _end(self, client: StreamClient, code: int, reason: str) -> None:
        self._keep(asyncio.create_task(client.connection.close(code, reason)))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __repr__(self) -> str:
        return f"WebSocketServer({self._host}, {self.connected} clients)"


def _reason(text: str) -> str:
    # RFC 6455, 5.5: a control frame carries at most 125 bytes, two of which are the code.
    return text.encode()[:120].decode("utf-8", "ignore")
