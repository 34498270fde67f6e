from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from tapeline.alerts.delivery.secret_vault import new_key
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.limits.redis import RedisLimiter
from tapeline.alerts.limits.shared_file import SharedFileLimiter
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings
from tapeline.gateway.answers import answered
from tapeline.gateway.deprecation import deprecated
from tapeline.gateway.envelope import Envelope
from tapeline.gateway.pages import Page
from tapeline.gateway.serving import gateway_application, lake_bars, make_limiter, serve_gateway, server_options


def configured(folder, **alerts):
    good = {"keys": [new_key()], "gateway": {"signing_keys": [new_key()]}}
    return Settings(root=folder, alerts=good | alerts)


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ({"keys": []}, "keys is empty"),
        ({"gateway": {}}, "no key to sign"),
        ({"gateway": {"signing_keys": ["super-secret-super-secret-super-secret"]}}, "well-known example"),
        ({"gateway": {"signing_keys": [new_key()], "trusted_proxies": ["0.0.0.0/0"]}}, "every address"),
    ],
)
def test_it_does_not_start_where_it_could_not_be_safe(tmp_path, alerts, words) -> None:
    with pytest.raises(ConfigurationError, match=words):
        serve_gateway(configured(tmp_path, **alerts), port=0, tell=lambda _: None)


def test_workers_share_their_limits_in_a_file_and_machines_in_redis(tmp_path) -> None:
    alone, several = make_limiter(configured(tmp_path), 1), make_limiter(configured(tmp_path), 2)
    far = make_limiter(configured(tmp_path, scale={"redis": "redis://127.0.0.1:1/0"}), 1)
    assert [type(one) for one in (alone, several, far)] == [LocalLimiter, SharedFileLimiter, RedisLimiter]
    for one in (alone, several, far):
        one.close()


def test_a_real_server_answers_and_finishes_what_is_under_way(tmp_path) -> None:
    """Told to end while a request runs, it answers that one and takes no other."""
    import uvicorn

    app, opened = gateway_application(configured(tmp_path))
    begun, go_on = asyncio.Event(), asyncio.Event()
    router = APIRouter()

    @router.get("/slow")
    async def slow():
        begun.set()
        await go_on.wait()
        return answered(Page[int](items=[1]))

    app.router.routes[:0] = router.routes

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    async def run() -> tuple[bytes, bool]:
        server = uvicorn.Server(uvicorn.Config(app, **server_options("127.0.0.1", 0)))
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        asked = asyncio.create_task(ask(port))
        await begun.wait()
        server.should_exit = True
        go_on.set()
        answer = await asked
        await serving
        with pytest.raises(ConnectionRefusedError):
            await ask(port)
        return answer, serving.done()

    with opened:
        answer, ended = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'{"items":[1],"cursor":null}' in answer
    # It does not say by what it is made.
    assert b"server:" not in answer.lower()
    assert ended


def test_the_newest_bars_are_what_a_preview_reads(tmp_path, monkeypatch) -> None:
    """However long ago they are, and over weekends."""
    from tapeline.lake.lake import Lake
    from tests.support import make_bars

    bars, frame = lake_bars(configured(tmp_path)), make_bars(300)
    assert bars("EURUSD", "1h", 10) is None
    assert bars("../etc", "1h", 10) is None
    monkeypatch.setattr(Lake, "last", lambda *_: frame.index[-1])
    monkeypatch.setattr(Lake, "read", lambda *_, start: frame[frame.index >= start])
    assert bars("EURUSD", "1h", 100).index.equals(frame.index[-100:])


def test_what_will_go_is_told_in_time() -> None:
    app = FastAPI()
    gone = deprecated(datetime(2027, 1, 1, tzinfo=UTC), successor="/v2/rules")

    @app.get("/v1/old", dependencies=[Depends(gone)], deprecated=True)
    def old():
        return answered(Page[int](items=[]))

    app.state.paths = {}
    app.add_middleware(Envelope, page_policy="default-src 'none'")
    answer = TestClient(app).get("/v1/old")
    assert (answer.headers["deprecation"], answer.headers["link"]) == (
        "@1798761600",
        '</v2/rules>; rel="successor-version"',
    )
    assert app.openapi()["paths"]["/v1/old"]["get"]["deprecated"]
