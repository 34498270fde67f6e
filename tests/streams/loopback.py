"""A venue on the loopback interface: HTTP answers and WebSocket sessions, scripted by a test, in the test's loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Reply:
    """One HTTP answer."""

    body: Any = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        body = self.body if isinstance(self.body, bytes | str) else json.dumps(self.body)
        body = body.encode() if isinstance(body, str) else body
        return web.Response(body=body, status=self.status, headers={"Content-Type": "application/json", **self.headers})


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    raw_query: str
    headers: dict[str, str]
    body: str


class Venue:
    """Answers requests with ``answer`` and serves sessions with ``session``; keeps what it was asked."""

    def __init__(
        self,
        answer: Callable[[Asked], Reply | None] | None = None,
        session: Callable[[web.WebSocketResponse, int], Awaitable[None]] | None = None,
        raw: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None,
    ) -> None:
        self.answer, self.session, self.raw = answer, session, raw
        self.asked: list[Asked] = []
        self.sessions = 0
        self.port = 0

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self, port: int = 0):
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse(compress=False)
            await socket.prepare(request)
            self.sessions += 1
            await self.session(socket, self.sessions)
            return socket
        asked = Asked(
            request.method, request.path, dict(request.query), request.rel_url.raw_query_string,
            dict(request.headers), await request.text(),
        )  # fmt: skip
        self.asked.append(asked)
        if self.raw is not None and (found := await self.raw(request)) is not None:
            return found
        reply = self.answer(asked)
        assert reply is not None, asked
        return reply.response()


def drop(socket: web.WebSocketResponse) -> None:
    """End a session without a close frame: 1006 at the other side."""
    socket._req.transport.abort()


async def heard(socket: web.WebSocketResponse) -> dict[str, Any]:
    """The next JSON message that is no ping."""
    while True:
        message = await socket.receive()
        if message.type.name != "TEXT":
            raise ConnectionError(message.type.name)
        found = json.loads(message.data)
        if found.get("op") != "ping" and found.get("method") != "ping":
            return found


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
