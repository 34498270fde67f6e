"""The stream of firings: resumed without loss, filtered, and never held up by a slow client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tapeline.alerts.delivery.limits import Rate
from tapeline.alerts.firing import Side
from tapeline.alerts.records import Commit
from tapeline.alerts.store.store import StoredFiring
from tapeline.alerts.websocket_access import Access, Offer, TokenGate
from tapeline.alerts.websocket_door import StreamLimits
from tapeline.alerts.websocket_server import WebSocketServer
from tapeline.core.errors import ConfigurationError, TemporaryError
from tests.alerts.delivery.support import firing

pytestmark = pytest.mark.network_shape

TOKEN = "0123456789abcdef0123456789abcdef"


class MemoryStore:
    """The two reads that the stream makes, of firings in memory."""

    def __init__(self, count: int = 0, **changes) -> None:
        self.changes = changes
        self.items: list[StoredFiring] = []
        self.down = False
        self.add(count)

    def add(self, count: int, **changes) -> None:
        for _ in range(count):
            number = len(self.items) + 1
            values = {"symbol": f"S{number % 3}", **self.changes, **changes}
            self.items.append(StoredFiring(number, firing(number, **values)))

    def last_number(self) -> int:
        return len(self.items)

    def firings_after(self, number: int, *, query=None, limit: int = 100):
        if self.down:
            raise TemporaryError("the database is away")
        chosen = [
            each
            for each in self.items[number:]
            if query is None
            or (query.symbol in (None, each.firing.symbol) and query.owner in (None, each.firing.owner))
        ]
        return tuple(chosen[:limit])


class Register:
    """A gate over a dictionary: tokens are valid until taken out, tickets are valid once."""

    def __init__(self, **known: Access) -> None:
        self.known = known
        self.tickets: dict[str, Access] = {}
        self.down = False

    def admit(self, offer: Offer) -> Access | None:
        if self.down:
            raise TemporaryError("the database is away")
        if offer.ticket is not None:
            return self.tickets.pop(offer.ticket, None)
        return self.known.get(offer.bearer or "")

    def revoked(self, accesses):
        if self.down:
            raise TemporaryError("the database is away")
        return [each for each in accesses if each not in self.known.values()]


@asynccontextmanager
async def serving(store, **options):
    limits = StreamLimits(**{key: options.pop(key) for key in list(options) if key in StreamLimits.__annotations__})
    server = WebSocketServer(store, **{"poll_seconds": 0.02, "close_seconds": 0.5, "limits": limits, **options})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client(server, hello: dict | str | None = None, token: str | None = None, *, path: str = "", **options):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(
        f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers, proxy=None, close_timeout=0.5, **options
    ) as connection:
        if hello is not None:
            await connection.send(hello if isinstance(hello, str) else json.dumps(hello))
        yield connection


async def take(connection, count: int) -> list[dict]:
    async with asyncio.timeout(20):
        return [json.loads(await connection.recv()) for _ in range(count)]


async def drained(connection) -> tuple[list[dict], int | None, str | None]:
    """Everything that still comes, and the code and reason with which it ends."""
    async with asyncio.timeout(20):
        frames = [json.loads(text) async for text in _until_closed(connection)]
    return frames, connection.close_code, connection.close_reason


async def _until_closed(connection):
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await connection.recv()


async def closed(connection) -> tuple[int, str]:
    _, code, reason = await drained(connection)
    return code, reason


def cursors(frames) -> list[int]:
    return [int(frame["cursor"]) for frame in frames if frame["type"] == "firing"]


def test_a_client_gets_what_is_stored_and_resumes_without_loss_or_repeat(store) -> None:
    async def work() -> None:
        async with serving(store) as server:
            async with client(server, {}) as first:
                (ready,) = await take(first, 1)
                assert ready["type"] == "ready"
                begun = int(ready["cursor"])
                store.commit(Commit(firings=tuple(firing(n, rule="streamed") for n in range(5))))
                server.wake()
                frames = await take(first, 3)
                assert frames[0]["event"]["id"] == firing(0, rule="streamed").id
                assert "explanation" in frames[0]["event"]["data"]
            # What was stored while nobody listened comes first, then what is stored now.
            store.commit(Commit(firings=tuple(firing(n, rule="streamed") for n in range(5, 9))))
            async with client(server, {"resume": frames[-1]["cursor"]}) as second:
                more = await take(second, 1 + 6)
                store.commit(Commit(firings=(firing(9, rule="streamed"),)))
                server.wake()
                more += await take(second, 1)
            assert cursors(frames + more) == sorted(set(cursors(frames + more)))
            assert cursors(frames)[0] > begun
            ids = [each["event"]["id"] for each in frames + more if each["type"] == "firing"]
            assert ids == [firing(n, rule="streamed").id for n in range(10)]

    asyncio.run(work())


def test_a_long_absence_is_caught_up_while_more_is_written() -> None:
    async def work() -> None:
        store = MemoryStore(1_800)
        async with serving(store, queue=50) as server, client(server, {"resume": "0"}) as late:
            frames = await take(late, 1)
            for _ in range(40):
                frames += await take(late, 45)
                store.add(5)
                server.wake()
            frames += await take(late, 2_001 - len(frames))
            assert cursors(frames) == list(range(1, 2_001))
            assert server.metrics()["slow"] == 0

    asyncio.run(work())


def test_a_client_gets_only_what_it_asked_for_and_may_see() -> None:
    async def work() -> None:
        store = MemoryStore(9)
        store.add(3, owner="you", symbol="S1")

        async with serving(store, gate=Register(mine=Access("me"), all=Access())) as server:
            async with client(server, {"resume": "0", "symbols": ["S1"]}, "mine") as one:
                assert cursors(await take(one, 4)) == [1, 4, 7]
                store.add(1, owner="you", symbol="S1")
                store.add(1, symbol="S1")
                assert cursors(await take(one, 1)) == [14]
            async with client(server, {"resume": "0", "symbols": ["S0", "S2"], "rules": ["btc-60k"]}, "all") as two:
                assert cursors(await take(two, 7)) == [2, 3, 5, 6, 8, 9]
            async with client(server, {"resume": "9", "owner": "you"}, "all") as three:
                assert cursors(await take(three, 5)) == [10, 11, 12, 13]
            async with client(server, {"owner": "you"}, "mine") as four:
                assert (await closed(four))[0] == 1008

    asyncio.run(work())


def test_a_slow_client_is_closed_with_a_code_holds_up_nobody_and_resumes_where_it_was() -> None:
    async def work() -> None:
        store = MemoryStore(sides=tuple(Side("x" * 2_000, 1.0, 2.0, True) for _ in range(10)))
        async with serving(store, queue=20, close_seconds=10) as server:
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.connect(("127.0.0.1", server.port))
            slow = await connect("ws://x", sock=narrow, max_queue=1, proxy=None, close_timeout=0.5)
            await slow.send("{}")
            async with client(server, {}) as quick:
                taken = cursors(await take(quick, 1) + await take(slow, 1))
                total = 0
                while server.metrics()["slow"] == 0 and total < 4_000:
                    store.add(10)
                    total += 10
                    server.wake()
                    taken += cursors(await take(quick, 10))
                assert taken == list(range(1, total + 1))  # the quick one missed nothing and waited for nobody
            assert server.metrics()["slow"] == 1
            before, code, reason = await drained(slow)
            assert (code, reason[:8]) == (1013, "too slow")
            assert cursors(before) == list(range(1, len(before) + 1))
            assert len(before) < total
            async with client(server, {"resume": str(len(before))}) as again:
                rest = await take(again, 1 + total - len(before))
            assert cursors(before + rest) == list(range(1, total + 1))

    asyncio.run(work())


def test_only_who_knows_the_token_connects_and_no_strange_page() -> None:
    async def refused(server, status: int, **options) -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with client(server, {}, **options):
                pass
        assert caught.value.response.status_code == status

    async def work() -> None:
        store = MemoryStore(1)
        async with serving(store, gate=TokenGate(TOKEN), origins=["https://desk.example.org"]) as server:
            await refused(server, 401)
            await refused(server, 401, token=TOKEN[:-1])
            await refused(server, 401, token=TOKEN + "x")
            await refused(server, 403, token=TOKEN, origin="https://evil.example.org")
            async with client(server, {}, TOKEN, origin="https://desk.example.org") as allowed:
                assert (await take(allowed, 1))[0]["type"] == "ready"
        async with serving(store, clients=1) as server:
            await refused(server, 403, origin="http://127.0.0.1:8000")
            async with client(server, {}) as one:
                await take(one, 1)
                await refused(server, 503)
                assert server.connected == 1

    asyncio.run(work())


def test_without_a_token_only_the_loopback_is_served() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.com"):
        with pytest.raises(ConfigurationError, match="without asking for a token"):
            WebSocketServer(MemoryStore(), host=host)
        WebSocketServer(MemoryStore(), host=host, gate=TokenGate(TOKEN))
    with pytest.raises(ConfigurationError):
        TokenGate("short")


@pytest.mark.parametrize(
    "hello",
    [
        *("", "[]", "null", '{"resume": 5}', '{"resume": "-1"}', '{"resume": "\\u0665"}', '{"resume": "99"}'),
        *('{"evil": 1}', '{"symbols": "S1"}', '{"symbols": [1]}', '{"owner": 5}', "[" * 10_000, "x" * 70_000),
        '{"resume": "' + "9" * 40 + '"}',
    ],
)
def test_a_first_message_of_another_form_ends_the_connection(hello: str) -> None:
    async def work() -> None:
        async with serving(MemoryStore(3)) as server, client(server, hello) as connection:
            code, reason = await closed(connection)
            assert code in (1008, 1009)
            assert len(reason) <= 120

    asyncio.run(work())


@pytest.mark.parametrize("restarts", [False, True])
def test_stop_says_goodbye(restarts: bool) -> None:
    async def work() -> None:
        async with serving(MemoryStore()) as server, client(server, {}) as left:
            await take(left, 1)
            await server.stop(restarts=restarts)
            assert (await closed(left))[0] == (1012 if restarts else 1001)

    asyncio.run(work())


def test_a_database_that_fails_ends_no_stream() -> None:
    async def work() -> None:
        store = MemoryStore(4)
        async with serving(store) as server, client(server, {}) as listening:
            await take(listening, 1)
            store.down = True
            store.add(2)
            async with client(server, {"resume": "0"}) as catching_up:
                assert (await closed(catching_up))[0] == 1011
            store.down = False
            assert cursors(await take(listening, 2)) == [5, 6]

    asyncio.run(work())
