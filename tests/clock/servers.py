"""Time servers on the loopback interface whose clock, delays and faults are scripted. Nothing sleeps.

The local clock and the servers' clock are one simulated world: a delay moves the simulated time, not the real one.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

from tapeline.clock.probes import Stopwatch, to_ntp

SECOND = 1_000_000_000
MILLISECOND = 1_000_000


@dataclass
class World:
    """True time, the local clock's error, the server clock's error, and the way of the next messages.

    ``delays`` are (there, work, back) in ns; the last one stays.
    """

    true: int = 1_753_877_100 * SECOND + 123_456_789
    local_error: int = 0
    server_error: int = 0
    delays: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 0, 0)])
    monotonic: int = 5 * SECOND
    back: int = 0

    def pass_time(self, nanoseconds: int) -> None:
        self.true += nanoseconds
        self.monotonic += nanoseconds

    def local(self) -> int:
        return self.true + self.local_error

    def server(self) -> int:
        return self.true + self.server_error

    @property
    def offset(self) -> int:
        """What a perfect measurement would find."""
        return self.server_error - self.local_error

    def arrive(self) -> int:
        there, _, _ = self.delays[0]
        self.pass_time(there)
        return self.server()

    def answer(self) -> int:
        _, work, back = self.delays.pop(0) if len(self.delays) > 1 else self.delays[0]
        self.pass_time(work)
        self.back = back
        return self.server()

    def stopwatch(self) -> Stopwatch:
        def monotonic() -> int:
            # Read when a round trip begins and when its answer is here: the way back lies before the second reading.
            self.pass_time(self.back)
            self.back = 0
            return self.monotonic

        return Stopwatch(wall=self.local, monotonic=monotonic)


@contextmanager
def ntp_server(world: World, *, change: dict[int, bytes] | None = None, cut: int | None = None) -> Iterator[int]:
    """An NTP server; ``change`` overwrites bytes of its answer, ``cut`` shortens it. Gives its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("127.0.0.1", 0))
        channel.settimeout(5)

        def serve() -> None:
            while True:
                try:
                    request, peer = channel.recvfrom(256)
                except OSError:
                    return
                if len(request) < 48:
                    return
                arrived = to_ntp(world.arrive())
                answered = to_ntp(world.answer())
                head = struct.pack("!BBbbII4s", 0x24, 2, 3, -20, 0, 0, b"\x7f\0\0\1")
                packet = bytearray(
                    head + struct.pack("!Q", arrived) + request[40:48] + struct.pack("!QQ", arrived, answered)
                )
                for position, content in (change or {}).items():
                    packet[position : position + len(content)] = content
                channel.sendto(bytes(packet[:cut]), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = channel.getsockname()[1]
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as farewell:
                farewell.sendto(b"", ("127.0.0.1", port))
            thread.join(5)


@contextmanager
def http_server(
    world: World, *, status: int = 200, body: bytes | None = None, date: str | None = None
) -> Iterator[str]:
    """A web server that tells the time in ``Date`` and, in milliseconds, as Binance does. Gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._send(b"")

        def do_GET(self) -> None:
            self._send(None)

        def _send(self, content: bytes | None) -> None:
            world.arrive()
            told = world.answer()
            if content is None:
                content = b'{"serverTime":%d}' % (told // MILLISECOND) if body is None else body
            self.send_response_only(status)
            text = formatdate(told // SECOND, usegmt=True) if date is None else date
            if text:
                self.send_header("Date", text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v3/time?x=1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
