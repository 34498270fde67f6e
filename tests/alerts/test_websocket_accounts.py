"""The stream with real accounts: tokens, keys and tickets let in, and stop letting in."""

from __future__ import annotations

import asyncio

import pytest

from tapeline.alerts.records import Commit
from tapeline.alerts.stream_settings import make_gate, make_own_stream, page_origins, stream_url
from tapeline.alerts.websocket_access import AccountGate, Offer, TokenGate
from tapeline.core.settings import AlertGatewaySettings, AlertSettings, Settings
from tests.alerts.access.support import KEY, PASSWORD, Clock, make_access
from tests.alerts.delivery.support import firing
from tests.alerts.test_websocket_server import TOKEN, client, closed, cursors, refused, serving, take

pytestmark = pytest.mark.network_shape


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(store, clock: Clock):
    access = make_access(store.database, clock)
    access.users.add("root", role="admin", password=PASSWORD)
    for name in ("ann", "bob"):
        access.users.add(name, password=PASSWORD)
    return access


def test_each_sees_his_own_by_token_by_key_and_by_ticket_until_it_ends(store, people, clock: Clock) -> None:
    tokens = {name: people.login(name, PASSWORD) for name in ("ann", "bob", "root")}
    ann = people.authenticate(tokens["ann"].access)
    ticket = {"subprotocols": ["tapeline.v1", "ticket." + people.tickets.give(ann)]}
    key, text = people.keys.create("bob", "screen", ["firings:read"], expires_at=None)
    _, blind = people.keys.create("bob", "bot", ["rules:read"], expires_at=None)

    async def work() -> None:
        gate = AccountGate(people, TokenGate(TOKEN))
        async with serving(store, gate=gate, check_seconds=0.02) as server:
            await refused(server, 401, token=blind)
            await refused(server, 401, token=tokens["ann"].refresh)
            await refused(server, 401)
            async with (
                client(server, {}, **ticket) as page,
                client(server, {}, tokens["ann"].access) as program,
                client(server, {}, text) as screen,
                client(server, {}, tokens["root"].access) as root,
                client(server, {}, TOKEN) as operator,
            ):
                for one in (page, program, screen, root, operator):
                    await take(one, 1)
                await refused(server, 401, **ticket)  # it was good once
                for number, owner in enumerate(("ann", "bob", "ann")):
                    store.commit(Commit(firings=(firing(number, owner=owner),)))
                server.wake()
                mine = cursors(await take(page, 2))
                assert cursors(await take(program, 2)) == mine
                (his,) = await take(screen, 1)
                assert his["event"]["data"]["owner"] == "bob"
                assert len(cursors(await take(root, 3)) + cursors(await take(operator, 3))) == 6
                async with client(server, {"resume": "0", "owner": "ann"}, text) as curious:
                    assert (await closed(curious))[0] == 1008
                # The login ends, and with it everything that came of it; the key is revoked; nobody else is touched.
                people.logout(ann)
                people.keys.revoke("bob", key.id)
                clock.move(2)
                for one in (page, program, screen):
                    assert await closed(one) == (3000, "the token is no longer valid")
                clock.move(901)  # an access token lives for 15 minutes, its login longer
                assert (await closed(root))[0] == 3000
                store.commit(Commit(firings=(firing(9, owner="ann"),)))
                server.wake()
                assert len(cursors(await take(operator, 1))) == 1
            assert server.metrics()["expired"] == 4

    asyncio.run(work())


def test_a_role_that_is_taken_away_ends_what_it_opened(people, clock: Clock) -> None:
    gate = AccountGate(people)
    access = gate.admit(Offer(bearer=people.login("root", PASSWORD).access))
    assert (access.owner, list(gate.revoked([access]))) == (None, [])
    people.users.add("second", role="admin", password=PASSWORD)
    people.users.change("root", role="user")
    clock.move(2)
    assert list(gate.revoked([access])) == [access]


def test_the_stream_of_the_api_asks_the_store_for_what_another_process_wrote(store, people, tmp_path) -> None:
    gateway = AlertGatewaySettings(stream_port=0, signing_keys=(KEY,))
    settings = Settings(root=tmp_path, alerts=AlertSettings(gateway=gateway))
    token = people.login("ann", PASSWORD).access

    async def work() -> None:
        server = make_own_stream(settings, store, people)
        await server.start()
        try:
            async with client(server, {}, token) as one:
                await take(one, 1)
                await asyncio.to_thread(store.commit, Commit(firings=(firing(1, owner="ann"),)))
                (told,) = await take(one, 1)  # nobody woke it
                assert told["event"]["data"]["owner"] == "ann"
            async with client(server, {}, token, origin=page_origins(settings.alerts)[0]) as page:
                await take(page, 1)
            await refused(server, 403, token=token, origin="https://evil.example.org")
        finally:
            await server.stop()

    asyncio.run(work())
    assert make_own_stream(Settings(root=tmp_path), store, people) is None
    assert isinstance(make_gate(settings.alerts, store), AccountGate)
    assert make_gate(AlertSettings(), store) is None
    assert isinstance(make_gate(AlertSettings(stream_token=TOKEN), store), TokenGate)
    behind = AlertSettings(gateway=AlertGatewaySettings(stream_url="wss://desk.example.org/stream"))
    assert [stream_url(each) for each in (AlertSettings(), behind)] == [
        "ws://127.0.0.1:8790/",
        "wss://desk.example.org/stream",
    ]
    assert page_origins(behind) == ("http://127.0.0.1:8791", "http://localhost:8791")
