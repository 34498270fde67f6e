"""A clock that tests turn, a receiver of webhooks that fails as scripted, and deliveries to send."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from tapeline.alerts.delivery.messages import event_body
from tapeline.alerts.firing import Firing, dedupe_key
from tapeline.alerts.records import Commit, Delivery

SECOND = 1_000_000_000
START = 1_780_000_000 * SECOND


class FakeClock:
    """Nanoseconds that pass only when a test lets them."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return (self.now - START) / SECOND

    def pass_(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    fault: Literal["", "drop", "hang", "drip"] = ""


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and what is answered: by ``script`` while it lasts, then ``otherwise``."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    script: list[Reply] = field(default_factory=list)
    otherwise: Reply = field(default_factory=Reply)
    released: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def receiver(tls: Callable[[ThreadingHTTPServer], None] | None = None) -> Iterator[Receiver]:
    """A receiver on an ephemeral port of the loopback interface."""
    state = Receiver()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                state.got.append(Got(self.path, dict(self.headers), body))
                reply = state.script.pop(0) if state.script else state.otherwise
            state.entered.set()
            if reply.fault == "drop":
                self.close_connection = True
                return
            if reply.fault == "hang":
                state.released.wait(30)
                self.close_connection = True
                return
            if reply.fault == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not state.released.wait(0.05):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                return
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body.encode())))
            self.end_headers()
            self.wfile.write(reply.body.encode())

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, ValueError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        tls(server)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def firing(number: int = 0, **changes) -> Firing:
    values = {
        "dedupe_key": dedupe_key(changes.get("rule", "btc-60k"), "v1", "BTCUSDT", "firing", START, number),
        "rule": "btc-60k",
        "rule_version": "v1",
        "owner": "me",
        "symbol": "BTCUSDT",
        "kind": "firing",
        "ts": START + number * SECOND,
        "detected_at": START + number * SECOND,
        "price": 60_000.0 + number,
    }
    return Firing(**{**values, **changes})


def put(store, channel: str, endpoint: str, numbers, **changes) -> list[Delivery]:
    """Deliveries of so many firings, written into the outbox."""
    made = []
    for number in numbers:
        one = firing(number, priority=changes.get("priority", "normal"))
        values = {"id": f"{one.id}.{channel}.{endpoint}", "firing": one.id, "channel": channel, "endpoint": endpoint}
        values |= {"body": event_body(one), "created_at": one.detected_at}
        made.append(Delivery(**{**values, **changes}))
    store.commit(Commit(deliveries=tuple(made)))
    return made
