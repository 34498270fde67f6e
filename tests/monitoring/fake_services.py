"""A local HTTP server that speaks Telegram's Bot API and Slack's incoming webhooks, faults included.

It holds requests to the services' own rules (entities that parse, lengths, required fields), so that a message the
real service would refuse is refused here.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

TELEGRAM_TAGS = {"b", "i", "u", "s", "a", "code", "pre"}
BOT_TOKEN = "123456789:AAExampleExampleExampleExampleExample"
SLACK_TOKENS = "T0000EXAM/B0000EXAM/exampleexampleexample123"


@dataclass(frozen=True)
class Reply:
    """A scripted answer."""

    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    fault: Literal["", "hang", "drip", "drop"] = ""


@dataclass(frozen=True)
class Request:
    path: str
    json: Any
    headers: dict[str, str]


@dataclass
class FakeServices:
    """What was asked, and what shall be answered: per kind of service a queue of replies, then the regular answer."""

    base: str = ""
    requests: list[Request] = field(default_factory=list)
    script: dict[str, deque[Reply]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, Reply] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)

    def telegram_url(self, chat: str = "-1001", extra: str = "") -> str:
        return f"tgram://{BOT_TOKEN}/{chat}?api={self.base}{extra}"

    def slack_url(self) -> str:
        return f"slack://{SLACK_TOKENS}?api={self.base}"

    def json_url(self) -> str:
        return f"{self.base.replace('http', 'json', 1)}/hook/some-long-secret-path"

    def to(self, kind: str) -> list[Request]:
        return [request for request in self.requests if kind_of(request.path) == kind]

    def texts(self, kind: str = "telegram") -> list[str]:
        key = {"telegram": "text", "slack": "text", "other": "message"}[kind]
        return [request.json[key] for request in self.to(kind)]


def kind_of(path: str) -> str:
    if path.startswith("/bot"):
        return "telegram"
    return "slack" if path.startswith("/services/") else "other"


def throttled_telegram(wait: int) -> Reply:
    body = {
        "ok": False,
        "error_code": 429,
        "description": f"Too Many Requests: retry after {wait}",
        "parameters": {"retry_after": wait},
    }
    return Reply(429, json.dumps(body))


def refused_telegram(status: int, description: str, **parameters: int) -> Reply:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        body["parameters"] = parameters
    return Reply(status, json.dumps(body))


class _Entities(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TELEGRAM_TAGS:
            raise ValueError(f"Unsupported start tag '{tag}'")
        self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise ValueError(f"Unexpected end tag '{tag}'")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise ValueError("Unsupported comment")

    handle_decl = handle_pi = unknown_decl = handle_comment


def parse_telegram_html(text: str) -> tuple[str, list[str]]:
    """The visible text and the links of a message in Telegram's HTML mode; ValueError where it does not parse."""
    parser = _Entities()
    parser.feed(text)
    parser.close()
    if parser.open:
        raise ValueError("Can't find end tag")
    return parser.text, parser.links


def answer_telegram(fields: dict[str, Any]) -> Reply:
    if not fields.get("chat_id"):
        return refused_telegram(400, "Bad Request: chat_id is empty")
    if fields.get("parse_mode") != "HTML":
        return refused_telegram(400, "Bad Request: unsupported parse_mode")
    try:
        text, _ = parse_telegram_html(fields.get("text", ""))
    except ValueError as error:
        return refused_telegram(400, f"Bad Request: can't parse entities: {error}")
    if not text.strip():
        return refused_telegram(400, "Bad Request: message text is empty")
    if len(text.encode("utf-16-le")) // 2 > 4096:
        return refused_telegram(400, "Bad Request: message is too long")
    return Reply(200, json.dumps({"ok": True, "result": {"message_id": 7, "text": text}}))


def answer_slack(fields: dict[str, Any]) -> Reply:
    if not fields.get("text"):
        return Reply(400, "no_text")
    limits = {"header": 150, "section": 3000}
    for block in fields.get("blocks", []):
        texts = block["elements"] if block["type"] == "context" else [block["text"]]
        if len(texts) > 10:
            return Reply(400, "invalid_blocks")
        for text in texts:
            if not 0 < len(text["text"].encode("utf-16-le")) // 2 <= limits.get(block["type"], 3000):
                return Reply(400, "invalid_blocks")
    return Reply(200, "ok")


@contextmanager
def fake_services() -> Iterator[FakeServices]:
    """The server, on an ephemeral port of the loopback interface."""
    services = FakeServices()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                fields = json.loads(raw)
            except ValueError:
                fields = raw.decode("utf-8", "replace")
            kind = kind_of(self.path)
            with lock:
                services.requests.append(Request(self.path, fields, dict(self.headers)))
                scripted = services.script[kind]
                reply = scripted.popleft() if scripted else services.always.get(kind)
            if reply is None:
                regular = {"telegram": answer_telegram, "slack": answer_slack, "other": lambda _: Reply(200, "{}")}
                reply = regular[kind](fields)
            if reply.fault == "hang":
                services.released.wait(30)
                return
            if reply.fault == "drop":
                self.connection.close()
                return
            if reply.fault == "drip":
                self._drip()
                return
            body = reply.body.encode()
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not services.released.wait(0.05):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, ValueError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    services.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield services
    finally:
        services.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
