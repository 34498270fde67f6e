"""One supervised WebSocket connection: watched, reconnected with back-off, renewed with overlap before its end.

A session is one socket. While a session is renewed there are two: what the new one receives is kept until the old one
has ended, then handed on after it. Both carry the messages of the overlap, and whoever reads ids drops the second copy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tapeline.core.errors import ConfigurationError, MissingExtraError
from tapeline.streams.alerts import FeedAlert, FeedLostError, Kind, OnAlert, ignore
from tapeline.streams.timing import Backoff, Timing

MAXIMUM_BYTES: Final = 16 * 1024 * 1024
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ConnectionOptions:
    """How a connection is watched. All times are seconds on the monotonic clock.

    Parameters
    ----------
    open_timeout:
        For connecting.
    subscribe_timeout:
        For ``on_open``: at five messages a second, 1,024 streams are subscribed in about two seconds.
    stale_after:
        A session without data for so long is ended, even if it answers pings; None where the streams may be silent.
    ping_every, pong_timeout:
        A session that answers a ping with neither a pong nor data within ``pong_timeout`` is half-open and ended.
    watch_every:
        How often the watchdog looks.
    life, overlap:
        A session is renewed after ``life`` (Binance ends each after 24 hours); its successor runs beside it for
        ``overlap`` before it is closed.
    healthy_after:
        A session that lived so long resets the count of attempts; one that dies sooner does not, so that a server that
        accepts and hangs up is not hammered.
    maximum_attempts:
        Failures in a row after which the feed gives up with an alert; None to try for ever.
    maximum_held:
        Messages of a successor kept during the overlap; the oldest go, and then ids show a gap.
    """

    open_timeout: float = 10.0
    subscribe_timeout: float = 30.0
    stale_after: float | None = 60.0
    ping_every: float = 20.0
    pong_timeout: float = 10.0
    watch_every: float = 1.0
    life: float = 23.5 * 3600
    overlap: float = 10.0
    healthy_after: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)
    maximum_attempts: int | None = None
    maximum_held: int = 200_000
    close_timeout: float = 5.0
    maximum_bytes: int = MAXIMUM_BYTES

    def __post_init__(self) -> None:
        names = ("open_timeout", "ping_every", "pong_timeout", "watch_every", "life", "close_timeout", "maximum_bytes")
        for name in names:
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} = {getattr(self, name)} must be positive")
        if self.stale_after is not None and not self.stale_after > 0:
            raise ConfigurationError(f"stale_after = {self.stale_after} must be positive or None")
        if not 0 <= self.overlap < self.life:
            raise ConfigurationError(f"overlap = {self.overlap} must be at least 0 and below life = {self.life}")


@dataclass
class ConnectionCounters:
    """What happened to a connection so far, for metrics. ``closes`` counts sessions by close code; 1006 is a drop."""

    opened: int = 0
    failed: int = 0
    renewed: int = 0
    messages: int = 0
    bytes: int = 0
    stale: int = 0
    half_open: int = 0
    pongs: int = 0
    closes: dict[int, int] = field(default_factory=dict)
    last_message_at: float | None = None


class Session:
    """One open socket. ``number`` counts the sessions of a connection from 1."""

    def __init__(self, connection: Connection, socket: Any, number: int) -> None:
        self.number = number
        self.subscribed = False
        self._connection = connection
        self._socket = socket
        options = connection.options
        self._held: deque[tuple[bytes, int]] | None = deque(maxlen=options.maximum_held)
        self._last_data = connection.timing.monotonic()
        self.ended: asyncio.Task[Kind | None] = asyncio.create_task(self._run())

    async def send(self, text: str) -> None:
        """Send a text message; ConnectionError where the session has ended."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            raise ConnectionError(f"session {self.number} has ended: {error}") from error

    def promote(self) -> None:
        """Hand on what was kept, then everything as it comes."""
        held, self._held = self._held, None
        for raw, received in held or ():
            self._connection.on_message(raw, received)

    async def close(self) -> None:
        """End the session; what was still on its way is read first."""
        closing = asyncio.create_task(self._socket.close())
        await asyncio.wait({closing}, timeout=self._connection.options.close_timeout)
        self._socket.transport.abort()
        await asyncio.wait({self.ended, closing})

    async def _run(self) -> Kind | None:
        """Read until the session ends; the alert that ended it, None where the other side did."""
        reader = asyncio.create_task(self._read())
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({reader, watch}, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()  # what on_message raises is a fault of ours and must be seen
            return None if reader.done() else watch.result()
        finally:
            reader.cancel()
            watch.cancel()
            self._socket.transport.abort()
            await asyncio.wait({reader, watch})
            await self._socket.wait_closed()
            closes = self._connection.counters.closes
            code = self._socket.close_code or 1006
            closes[code] = closes.get(code, 0) + 1

    async def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        connection, receive = self._connection, self._socket.recv
        counters, gate = connection.counters, connection.gate
        monotonic, wall = connection.timing.monotonic, connection.timing.wall
        while True:
            try:
                raw = await receive(decode=False)
            except ConnectionClosed:
                return
            self._last_data = monotonic()
            counters.last_message_at = self._last_data
            counters.messages += 1
            counters.bytes += len(raw)
            if connection.on_control is not None and connection.on_control(raw, self):
                continue
            if self._held is not None:
                self._held.append((raw, wall()))
            else:
                connection.heard()
                connection.on_message(raw, wall())
            if gate is not None and not gate.is_set():
                await gate.wait()

    async def _watch(self) -> Kind | None:
        from websockets.exceptions import ConnectionClosed

        connection, options, timing = self._connection, self._connection.options, self._connection.timing
        pinged = timing.monotonic()
        pong: Any = None
        while True:
            await timing.sleep(options.watch_every)
            now = timing.monotonic()
            if connection.gate is not None and not connection.gate.is_set():
                # We do not read, so that silence says nothing about the venue.
                self._last_data = pinged = now
                continue
            if options.stale_after is not None and now - self._last_data > options.stale_after:
                connection.counters.stale += 1
                return "stale"
            if pong is not None and pong.done():
                connection.counters.pongs += 1
                pong = None
            if pong is not None:
                if now - max(pinged, self._last_data) > options.pong_timeout:
                    connection.counters.half_open += 1
                    return "half_open"
            elif now - pinged >= options.ping_every:
                pinged = now
                try:
                    pong = await self._socket.ping()
                except ConnectionClosed:
                    return None


class Connection:
    """A connection that is kept up until it is stopped.

    Parameters
    ----------
    name:
        What alerts call it.
    url:
        ``wss://``; ``ws://`` on the loopback interface only.
    on_message:
        Takes each message and when it was received (ns, our clock). Must not block; what it raises ends ``run``.
    on_open:
        Awaited when a session is open, as for subscribing; where it raises ConnectionError or TimeoutError, the attempt
        failed.
    on_break:
        Called with the reason when no session is left: what came meanwhile is lost to the stream.
    on_control:
        Sees each message first, also of a session whose messages are kept; returns True for one that was for it alone.
    gate:
        While it is cleared nothing is read: the venue's TCP connection bears the pressure, not our memory.

    Examples
    --------
    >>> Connection("prices", "ws://example.org/stream", print)
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: 'ws://example.org/stream' is not a wss:// address
    """

    def __init__(
        self,
        name: str,
        url: str,
        on_message: Callable[[bytes, int], None],
        *,
        on_open: Callable[[Session], Awaitable[None]] | None = None,
        on_break: Callable[[str], None] | None = None,
        on_control: Callable[[bytes, Session], bool] | None = None,
        on_alert: OnAlert = ignore,
        gate: asyncio.Event | None = None,
        options: ConnectionOptions | None = None,
        timing: Timing | None = None,
    ) -> None:
        parts = urlsplit(url)
        local = parts.scheme == "ws" and parts.hostname in _LOOPBACK
        if not parts.hostname or not (parts.scheme == "wss" or local):
            raise ConfigurationError(f"{url!r} is not a wss:// address")
        self.name, self.url = name, url
        self.on_message, self.on_open, self.on_break, self.on_control = on_message, on_open, on_break, on_control
        self.on_alert, self.gate = on_alert, gate
        self.options = options or ConnectionOptions()
        self.timing = timing or Timing()
        self.counters = ConnectionCounters()
        self.sessions: list[Session] = []
        self._stopping = asyncio.Event()
        self._alerted = False

    @property
    def connected(self) -> bool:
        """True while a session is open."""
        return any(not session.ended.done() for session in self.sessions)

    def stop(self) -> None:
        """End the connection; ``run`` returns soon after."""
        self._stopping.set()

    def heard(self) -> None:
        """Note that data comes; after an alert say so."""
        if self._alerted:
            self._alerted = False
            self.alert("recovered", "data again")

    def alert(self, kind: Kind, detail: str) -> None:
        """Raise an alert in the name of this connection."""
        if kind != "recovered":
            self._alerted = True
        self.on_alert(FeedAlert(self.name, kind, detail, self.timing.wall()))

    async def run(self) -> None:
        """Keep the connection up until ``stop``.

        Raises
        ------
        FeedLostError
            ``maximum_attempts`` failed in a row; the alert ``gave_up`` was raised.
        """
        attempt = 0
        stop = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                started = self.timing.monotonic()
                reason = await self._attempt(stop)
                if self._stopping.is_set():
                    return
                lived = self.timing.monotonic() - started
                attempt = 1 if lived >= self.options.healthy_after else attempt + 1
                if self.options.maximum_attempts is not None and attempt > self.options.maximum_attempts:
                    detail = f"gave up after {self.options.maximum_attempts} failures in a row, the last one: {reason}"
                    self.alert("gave_up", detail)
                    raise FeedLostError(f"{self.name}: {detail}")
                pause = self.timing.sleep(self.options.backoff.delay(attempt, self.timing.random))
                waiting = asyncio.ensure_future(pause)
                await asyncio.wait({waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        finally:
            stop.cancel()

    async def _attempt(self, stop: asyncio.Task[Any]) -> str:
        """Open a session and serve it and its successors; why the last one ended."""
        opening = asyncio.create_task(self._open())
        await asyncio.wait({opening, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            await asyncio.wait({opening})
            return "stopped"
        try:
            session = opening.result()
        except (OSError, TimeoutError, _Refused) as error:
            self.counters.failed += 1
            return f"{type(error).__name__}: {error}"
        try:
            reason = await self._serve(session, stop)
        finally:
            await asyncio.gather(*(each.close() for each in self.sessions), return_exceptions=True)
            self.sessions.clear()
        if self.on_break is not None and not stop.done():
            self.on_break(reason)
        return reason

    async def _open(self) -> Session:
        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import InvalidHandshake, InvalidURI
        except ImportError as error:
            raise MissingExtraError("websockets", "streams") from error
        options = self.options
        try:
            # The library's keep-alive reads the loop's clock; ours reads the injected one, so its own is off.
            socket = await connect(
                self.url,
                open_timeout=options.open_timeout,
                close_timeout=options.close_timeout,
                ping_interval=None,
                max_size=options.maximum_bytes,
                max_queue=(4096, 1024),
                compression=None,
                proxy=None,
            )
        except (InvalidHandshake, InvalidURI) as error:
            raise _Refused(str(error)) from error
        self.counters.opened += 1
        session = Session(self, socket, self.counters.opened)
        self.sessions.append(session)
        if self.on_open is not None:
            try:
                await asyncio.wait_for(self.on_open(session), options.subscribe_timeout)
            except BaseException:
                await session.close()
                self.sessions.remove(session)
                raise
        return session

    async def _serve(self, session: Session, stop: asyncio.Task[Any]) -> str:
        while True:
            session.promote()
            renewal = asyncio.create_task(self._renew())
            try:
                await asyncio.wait({session.ended, renewal, stop}, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    return "stopped"
                successor = renewal.result() if renewal.done() else self._ready(session)
            finally:
                if not renewal.done():
                    renewal.cancel()
                    await asyncio.wait({renewal})
            if not session.ended.done():
                await session.close()
            kind = session.ended.result()
            self.sessions.remove(session)
            if kind is not None:
                self.alert(kind, "no data" if kind == "stale" else "no answer to a ping")
            if successor is None:
                return kind or "closed by the other side"
            self.counters.renewed += 1
            session = successor

    def _ready(self, session: Session) -> Session | None:
        """The successor that already runs beside a session that ended before its renewal was complete."""
        return next((each for each in self.sessions if each is not session and each.subscribed), None)

    async def _renew(self) -> Session:
        """Wait for a session's end of life and open its successor, however often that takes."""
        options, timing = self.options, self.timing
        await timing.sleep(options.life - options.overlap)
        attempt = 0
        while True:
            attempt += 1
            with suppress(OSError, TimeoutError, _Refused):
                successor = await self._open()
                break
            self.counters.failed += 1
            await timing.sleep(options.backoff.delay(attempt, timing.random))
        successor.subscribed = True
        await timing.sleep(options.overlap)
        return successor


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    """The server answered, but not with a WebSocket."""
