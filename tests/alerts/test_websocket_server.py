"""The stream of firings: resumed without loss, filtered, and never held up by a slow client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
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
from tapeline.alerts.websocket_server import COUNTED, WebSocketServer
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
        self.held = threading.Event()
        self.held.set()
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
        if query is not None:
            self.held.wait(20)
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


async def refused(server, status: int, **options) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with client(server, {}, **options):
            pass
    assert caught.value.response.status_code == status


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


@pytest.mark.parametrize("offer", ["header", "subprotocol", "ticket"])
def test_each_way_to_say_who_one_is_and_no_answer_or_log_repeats_it(offer: str, caplog) -> None:
    caplog.set_level(logging.DEBUG)

    async def work() -> None:
        gate = Register(**{TOKEN: Access("me", "me", token=TOKEN)})
        gate.tickets["t" * 40] = Access("me", "me")
        async with serving(MemoryStore(2), gate=gate) as server:
            options = {
                "header": {"token": TOKEN},
                "subprotocol": {"subprotocols": ["tapeline.v1", f"bearer.{TOKEN}"]},
                "ticket": {"subprotocols": ["tapeline.v1", "ticket." + "t" * 40]},
            }[offer]
            async with client(server, {"resume": "0"}, **options) as one:
                assert cursors(await take(one, 3)) == [1, 2]
                assert one.subprotocol == (None if offer == "header" else "tapeline.v1")
                assert TOKEN not in str(one.response.headers)
                assert "t" * 40 not in str(one.response.headers)
            if offer == "ticket":  # it was good for one connection
                await refused(server, 401, **options)

    asyncio.run(work())
    # The client's own logger writes its request down; ours must not.
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith("websockets.client")]
    assert not [each for each in ours if TOKEN in each or "t" * 40 in each]


def test_an_address_with_a_token_in_it_and_two_credentials_at_once_are_refused() -> None:
    async def work() -> None:
        gate = Register(**{TOKEN: Access("me", "me")})
        async with serving(MemoryStore(), gate=gate) as server:
            await refused(server, 400, path=f"/?token={TOKEN}")
            await refused(server, 400, path="/stream?resume=0", token=TOKEN)
            await refused(server, 401, token=TOKEN, subprotocols=["tapeline.v1", f"bearer.{TOKEN}"])
            await refused(server, 401, subprotocols=["tapeline.v1", "ticket.unknown"])
            gate.down = True
            await refused(server, 503, token=TOKEN)  # nobody is let in unseen
            assert server.metrics()["refused"] == 5

    asyncio.run(work())


def test_connections_are_limited_by_user_by_address_and_in_time() -> None:
    async def work() -> None:
        gate = Register(ann=Access("ann", "ann"), bob=Access("bob", "bob"))
        now = [0.0]
        options = {"of_user": 2, "of_address": 3, "connects": Rate(1.0, burst=7), "monotonic": lambda: now[0]}
        async with serving(MemoryStore(), gate=gate, **options) as server:
            async with client(server, {}, "ann") as one, client(server, {}, "ann") as two:
                await take(one, 1)
                await take(two, 1)
                await refused(server, 429, token="ann")
                async with client(server, {}, "bob") as three:
                    await take(three, 1)
                    await refused(server, 429, token="bob")
                    assert server.connected == 3
            while server.connected:
                await asyncio.sleep(0.01)
            async with client(server, {}, "ann") as again:  # whoever left makes room
                await take(again, 1)
            async with client(server, {}, "ann") as last:
                await take(last, 1)
            await refused(server, 429, token="ann")  # the eighth handshake of this second
            now[0] = 1.5
            async with client(server, {}, "ann") as later:
                await take(later, 1)

    asyncio.run(work())


def test_limits_count_the_address_that_our_own_proxy_names_and_nobody_else_s_word() -> None:
    async def work() -> None:
        for proxies, expected in (((), 429), (("127.0.0.0/8",), 101)):
            options = {"of_address": 1, "proxies": proxies}
            async with serving(MemoryStore(), **options) as server, client(server, {}) as one:
                await take(one, 1)
                said = {"additional_headers": {"X-Forwarded-For": "198.51.100.7"}}
                url = f"ws://127.0.0.1:{server.port}"
                if expected == 429:
                    with pytest.raises(InvalidStatus):
                        await connect(url, proxy=None, **said)
                else:
                    await (await connect(url, proxy=None, **said)).close()

    asyncio.run(work())


def test_addresses_of_one_network_of_ipv6_count_as_one() -> None:
    async def work() -> None:
        options = {"of_address": 1, "proxies": ("127.0.0.0/8",)}
        async with serving(MemoryStore(), **options) as server:
            url = f"ws://127.0.0.1:{server.port}"
            said = [
                {"additional_headers": {"X-Forwarded-For": f"2001:db8:0:{net}::{n}"}}
                for net, n in ((0, 1), (0, 2), (1, 1))
            ]
            async with connect(url, proxy=None, **said[0]):
                with pytest.raises(InvalidStatus):
                    await connect(url, proxy=None, **said[1])
                await (await connect(url, proxy=None, **said[2])).close()

    asyncio.run(work())


@pytest.mark.parametrize("flood", ["many", "large", "strange", "binary"])
def test_a_client_that_says_too_much_or_nonsense_is_closed(flood: str) -> None:
    async def work() -> None:
        async with (
            serving(MemoryStore(), messages=Rate(0.001, burst=5), size=2_000) as server,
            client(server, {}) as chatty,
        ):
            await take(chatty, 1)
            change = json.dumps({"type": "subscribe", "symbols": ["S1"]})
            if flood == "many":
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(100):
                        await chatty.send(change)
            else:
                await chatty.send({"large": "x" * 3_000, "strange": '{"type": "drop"}', "binary": b"\xff\x00"}[flood])
            frames, code, reason = await drained(chatty)
            assert code == (1009 if flood == "large" else 1008)
            if flood == "many":
                assert len(frames) <= 6
                assert reason == "too many messages"

    asyncio.run(work())


def test_a_client_that_never_says_what_it_wants_is_closed() -> None:
    async def work() -> None:
        async with serving(MemoryStore(), hello=0.1) as server, client(server) as silent:
            assert await closed(silent) == (1008, "no first message came")

    asyncio.run(work())


def test_a_token_that_expires_or_is_revoked_ends_the_connection_and_nothing_else_does() -> None:
    async def work() -> None:
        instant = [1_000]
        gate = Register(
            short=Access("me", "me", expires_at=2_000),
            taken=Access("me", "me", token="taken"),
            long=Access("me", "me", token="long"),
        )
        store = MemoryStore()
        async with serving(store, gate=gate, clock=lambda: instant[0], check_seconds=0.02) as server:
            async with (
                client(server, {}, "short") as short,
                client(server, {}, "taken") as taken,
                client(server, {}, "long") as long,
            ):
                for one in (short, taken, long):
                    await take(one, 1)
                instant[0] = 2_000
                assert await closed(short) == (3000, "the token has expired")
                gate.down = True
                await asyncio.sleep(0.06)  # the database is away: nobody is thrown out for that
                gate.down = False
                del gate.known["taken"]
                assert await closed(taken) == (3000, "the token is no longer valid")
                store.add(1)
                server.wake()
                assert cursors(await take(long, 1)) == [1]
            assert server.metrics()["expired"] == 2

    asyncio.run(work())


def test_filters_change_while_connected_and_never_reach_beyond_the_owner() -> None:
    async def work() -> None:
        store = MemoryStore()
        gate = Register(me=Access("me", "me"))

        async def told(*symbols: str, **changes) -> None:
            for symbol in symbols:
                store.add(1, symbol=symbol, **changes)
            server.wake()

        async def says(**message) -> dict:
            await one.send(json.dumps(message))
            return (await take(one, 1))[0]

        async with serving(store, gate=gate) as server, client(server, {"symbols": ["A"]}, "me") as one:
            await take(one, 1)
            await told("A", "B")
            assert cursors(await take(one, 1)) == [1]
            answer = await says(type="subscribe", symbols=["B"])
            assert (answer["type"], answer["symbols"], answer["rules"]) == ("subscribed", ["A", "B"], None)
            await told("A", "B", "C")
            await told("A", "B", owner="you")
            assert cursors(await take(one, 2)) == [3, 4]
            assert (await says(type="unsubscribe", symbols=["A", "B"]))["symbols"] == []
            await told("A", "B")
            assert (await says(type="subscribe", symbols=["*"], priority="high", kinds=["firing"]))["symbols"] is None
            begun = len(store.items)
            await told("A")
            await told("B", priority="critical")
            await told("C", priority="high", kind="resolved")
            await told("D", priority="high", owner="you")
            assert cursors(await take(one, 1)) == [begun + 2]
            await one.send(json.dumps({"type": "subscribe", "owner": "you"}))
            assert (await closed(one))[0] == 1008

    asyncio.run(work())


def test_filters_that_change_during_a_long_catching_up_hold_from_the_cursor_that_is_told() -> None:
    async def work() -> None:
        store = MemoryStore(3_000)
        async with serving(store) as server:
            store.held.clear()  # a page of the old filters has been read and is on its way
            async with client(server, {"resume": "0", "symbols": ["S0"]}) as late:
                frames = await take(late, 1)
                await late.send(json.dumps({"type": "subscribe", "symbols": ["S1"]}))
                frames += await take(late, 1)
                store.held.set()
                assert (frames[-1]["type"], frames[-1]["cursor"]) == ("subscribed", "0")
                frames += await take(late, 2_000)
                store.add(1, symbol="S1")
                server.wake()
                frames += await take(late, 1)
            assert cursors(frames) == [each for each in range(1, 3_001) if each % 3 < 2] + [3_001]

    asyncio.run(work())


def test_a_client_that_gets_nothing_is_told_the_cursor_and_resumes_behind_what_it_did_not_want() -> None:
    async def work() -> None:
        store = MemoryStore()
        async with serving(store, tell_seconds=0.05, check_seconds=0.02) as server:
            async with client(server, {"symbols": ["rare"]}) as one:
                await take(one, 1)
                store.add(7)
                server.wake()
                (told,) = await take(one, 1)
                assert told == {"type": "cursor", "cursor": "7"}
            store.add(1, symbol="rare")
            async with client(server, {"resume": "7", "symbols": ["rare"]}) as again:
                assert cursors(await take(again, 2)) == [8]

    asyncio.run(work())


def test_a_firing_is_written_once_whoever_gets_it_and_not_at_all_for_nobody(monkeypatch) -> None:
    from tapeline.alerts import websocket_server
    from tapeline.alerts.websocket_client import firing_frame

    made = []
    monkeypatch.setattr(websocket_server, "firing_frame", lambda stored: made.append(1) or firing_frame(stored))

    async def work() -> None:
        store = MemoryStore()
        async with serving(store) as server, contextlib.AsyncExitStack() as open_clients:
            wants = [{}, {}, {"symbols": ["S1"]}, {"rules": ["btc-60k"]}, {"symbols": ["other"]}]
            clients = [await open_clients.enter_async_context(client(server, want)) for want in wants]
            for one in clients:
                await take(one, 1)
            assert server.metrics()["groups"] == 4
            store.add(1, symbol="S1")
            store.add(1, symbol="S9", rule="x", owner="you")
            server.wake()
            for one, count in zip(clients, (2, 2, 1, 1), strict=False):
                assert len(cursors(await take(one, count))) == count
            assert len(made) == 2
            metrics = server.metrics()
            assert (metrics["sent"], metrics["clients"], metrics["slow"]) == (5 + 6, 5, 0)

    asyncio.run(work())


def test_what_the_stream_counts_is_what_an_engine_reports() -> None:
    from tapeline.alerts.engine_metrics import COUNTERS, GAUGES

    names = WebSocketServer(MemoryStore()).metrics().keys()
    assert names >= COUNTED
    assert {f"stream_{name}" for name in COUNTED} <= COUNTERS.keys()
    assert {f"stream_{name}" for name in names - COUNTED} <= GAUGES.keys()


def test_the_same_event_has_the_same_id_whenever_it_is_asked_for() -> None:
    async def work() -> None:
        store = MemoryStore(3)
        async with serving(store) as server:
            seen = []
            for _ in range(2):
                async with client(server, {"resume": "0"}) as one:
                    seen.append([frame["event"] for frame in (await take(one, 4))[1:]])
            assert seen[0] == seen[1]
            assert [each["id"] for each in seen[0]] == [firing(n, symbol=f"S{n % 3}").id for n in (1, 2, 3)]

    asyncio.run(work())
