"""A server on the loopback interface that answers as told, and a clock that stands still."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd

from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import BarRequest, Clock


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def clock_at(text: str) -> Clock:
    return lambda: at(text)


def request_for(symbol: str, timeframe: str, start: str | None = None, end: str | None = None) -> BarRequest:
    return BarRequest(
        Symbol.parse(symbol), Timeframe.parse(timeframe), at(start) if start else None, at(end) if end else None
    )


@dataclass
class Reply:
    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    hold: threading.Event | None = None

    def payload(self) -> bytes:
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


Answer = Callable[[str, dict[str, str]], Reply]


@dataclass
class Served:
    url: str
    calls: list[tuple[str, dict[str, str]]]


@contextmanager
def http_server(answer: Answer) -> Iterator[Served]:
    """Serve ``answer(path, query)`` on 127.0.0.1; ``hold`` keeps a reply back until the event is set."""
    calls: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            calls.append((parts.path, query))
            reply = answer(parts.path, query)
            if reply.hold is not None:
                reply.hold.wait(10)
                return
            body = reply.payload()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{server.server_address[1]}", calls)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
