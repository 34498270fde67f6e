"""A scripted exchange on the loopback interface: Binance's combined streams and REST history, with faults on command.

It keeps the truth: every trade it has ever made, in order, whatever it sent.
"""

from __future__ import annotations

import asyncio
import http
import json
import random
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

BAD_MESSAGES = (b"{", b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","s":"../x"}}', b"\xff\xfe", b"[" * 3_000)


class FakeExchange:
    """One venue. ``made`` is the truth: by symbol, the trades as dictionaries in the venue's spelling."""

    def __init__(self, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT"), *, first_id: int = 1_000) -> None:
        self.made: dict[str, list[dict]] = {symbol: [] for symbol in symbols}
        self.skew_ms = 0
        self.rest_faults: list[Callable[[], tuple[int, bytes, dict[str, str]]]] = []
        self.rest_requests: list[tuple[str, dict[str, str]]] = []
        self.refuse_connections = 0
        self.subscribe_messages: list[tuple[float, dict]] = []
        self.sessions: dict[ServerConnection, set[str]] = {}
        self.opened = 0
        self.port = 0
        self._next = dict.fromkeys(symbols, first_id)
        self._changed = asyncio.Event()
        self._held: list[tuple[str, dict]] = []

    @asynccontextmanager
    async def serving(self):
        async with serve(
            self._session,
            "127.0.0.1",
            0,
            process_request=self._http,
            ping_interval=None,
            compression=None,
            close_timeout=0.1,
        ) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self
            for session in list(self.sessions):
                session.transport.abort()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stream"

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ids(self, symbol: str) -> list[int]:
        return [trade["a"] for trade in self.made[symbol]]

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for something to become true of the sessions."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def subscribed(self, after: int = 0) -> None:
        """Wait for a session, opened after so many, that has all it asked for."""
        await self.until(lambda: self.opened > after and any(self.sessions.values()))

    # What it can do, and do wrong.

    def make(self, symbol: str) -> dict:
        """A trade happens; nobody is told."""
        number = self._next[symbol]
        self._next[symbol] += 1
        stamp = 1_700_000_000_000 + number * 7 + self.skew_ms
        trade = {"a": number, "p": f"{100 + number % 17}.5", "q": "0.25", "T": stamp, "m": number % 3 == 0}
        self.made[symbol].append(trade)
        return trade

    def skip_ids(self, symbol: str, count: int) -> None:
        """Ids that will never exist."""
        self._next[symbol] += count

    async def tell(self, symbol: str, trade: dict) -> None:
        stream = f"{symbol.lower()}@aggTrade"
        await self.send(stream, {"e": "aggTrade", "E": trade["T"], "s": symbol, "f": 1, "l": 1, "M": True, **trade})

    async def send(self, stream: str, data: object) -> None:
        raw = json.dumps({"stream": stream, "data": data}, separators=(",", ":"))
        await self.send_raw(raw, lambda streams: stream in streams)

    async def send_raw(self, raw: str | bytes, where: Callable[[set[str]], bool] = bool) -> None:
        for session, streams in list(self.sessions.items()):
            if where(streams):
                with suppress(ConnectionClosed):
                    await session.send(raw, text=True)

    async def trade(self, symbol: str) -> None:
        await self.tell(symbol, self.make(symbol))

    async def duplicate(self, symbol: str) -> None:
        trade = self.make(symbol)
        await self.tell(symbol, trade)
        await self.tell(symbol, trade)

    async def repeat_old(self, symbol: str) -> None:
        for trade in self.made[symbol][-5:]:
            await self.tell(symbol, trade)

    async def reorder(self, symbol: str) -> None:
        trades = [self.make(symbol) for _ in range(4)]
        for trade in reversed(trades):
            await self.tell(symbol, trade)

    async def drop(self, symbol: str) -> None:
        for _ in range(3):
            self.make(symbol)

    async def bad_message(self, raw: bytes) -> None:
        await self.send_raw(raw)

    def reset(self) -> None:
        """Connections vanish without a close frame: 1006."""
        for session in list(self.sessions):
            session.transport.abort()

    async def close(self) -> None:
        for session in list(self.sessions):
            await session.close(1001, "going away")

    def freeze(self) -> None:
        """The connections look open, but nothing is read or answered any more: half-open. New ones are sound."""
        for session in list(self.sessions):
            session.transport.pause_reading()
            self.sessions[session] = set()

    def stall(self) -> None:
        """Pings are answered, data no longer sent. New connections are sound."""
        for session in self.sessions:
            self.sessions[session] = set()

    async def _session(self, session: ServerConnection) -> None:
        self.sessions[session] = set()
        self.opened += 1
        try:
            async for raw in session:
                message = json.loads(raw)
                self.subscribe_messages.append((time.monotonic(), message))
                if any(name.startswith("refuse") for name in message["params"]):
                    await session.send(json.dumps({"error": {"code": 2, "msg": "no"}, "id": message["id"]}))
                    continue
                if message["method"] == "SUBSCRIBE":
                    self.sessions[session] |= set(message["params"])
                else:
                    self.sessions[session] -= set(message["params"])
                await session.send(json.dumps({"result": None, "id": message["id"]}))
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self.sessions.pop(session, None)
            self._changed.set()

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        if parts.path == "/stream":
            if self.refuse_connections:
                self.refuse_connections -= 1
                return _answer(503, b"later", {})
            return None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.rest_requests.append((parts.path, query))
        if self.rest_faults:
            return _answer(*self.rest_faults.pop(0)())
        if parts.path == "/api/v3/exchangeInfo":
            body = {"symbols": [{"symbol": symbol, "status": "TRADING"} for symbol in self.made]}
            return _answer(200, json.dumps(body).encode(), {})
        if parts.path != "/api/v3/aggTrades" or query.get("symbol") not in self.made:
            return _answer(400, b'{"code":-1121,"msg":"Invalid symbol."}', {})
        first, limit = int(query["fromId"]), min(int(query["limit"]), 1_000)
        rows = [trade for trade in self.made[query["symbol"]] if trade["a"] >= first][:limit]
        return _answer(200, json.dumps(rows).encode(), {})


REST_FAULTS: tuple[Callable[[], tuple[int, bytes, dict[str, str]]], ...] = (
    lambda: (500, b"oops", {}),
    lambda: (429, b"", {"Retry-After": "0"}),
    lambda: (200, b"<html>", {}),
    lambda: (200, b"[]", {}),
)


async def play(exchange: FakeExchange, generator: random.Random, actions: int) -> list[str]:
    """A random script; what it did. Where it breaks the connections, trades go on until there is a new session."""
    done = []
    faults = ("drop", "duplicate", "repeat_old", "reorder", "skip", "bad", "rest", "reset", "close", "freeze", "stall")
    weights = (4, 3, 3, 4, 2, 2, 2, 1, 1, 0.5, 0.5)
    for _ in range(actions):
        symbol = generator.choice(list(exchange.made))
        action = generator.choices(("trade", *faults), (12, *weights))[0]
        done.append(action)
        if action in ("trade", "duplicate", "repeat_old", "reorder", "drop"):
            await getattr(exchange, action)(symbol)
        elif action == "skip":
            exchange.skip_ids(symbol, generator.randint(1, 5))
        elif action == "bad":
            await exchange.bad_message(generator.choice(BAD_MESSAGES))
        elif action == "rest":
            exchange.rest_faults.append(generator.choice(REST_FAULTS))
        else:
            opened = exchange.opened
            exchange.refuse_connections = generator.randint(0, 1)
            result = getattr(exchange, action)()
            if result is not None:
                await result
            for _ in range(generator.randint(0, 8)):
                await exchange.trade(generator.choice(list(exchange.made)))
            await exchange.subscribed(after=opened)
        if generator.random() < 0.2:
            await asyncio.sleep(0)
    return done


def _answer(status: int, body: bytes, headers: dict[str, str]) -> Response:
    fields = Headers({"Content-Length": str(len(body)), "Connection": "close", **headers})
    return Response(status, http.HTTPStatus(status).phrase, fields, body)
