"""A request finds the same route by the beginning of its path as by going through all of them."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from tapeline.gateway.app import route_paths
from tapeline.gateway.route_table import RouteTable, head_of


def made(table: bool) -> FastAPI:
    app, router = FastAPI(redirect_slashes=False), APIRouter()
    for method, path in (
        *(("GET", "/things"), ("GET", "/things/{id}"), ("PUT", "/things/{id}"), ("GET", "/things/special")),
        *(("GET", "/things/{id}/parts"), ("GET", "/deep/{id:path}"), ("GET", "/deep/er"), ("POST", "/things/special")),
    ):

        def answer(path: str = f"{method} {path}") -> PlainTextResponse:
            return PlainTextResponse(path)

        router.add_api_route(path, answer, methods=[method], include_in_schema=False)
    app.include_router(router, prefix="/v1")
    if table:
        found = RouteTable(app.router.middleware_stack)
        found.add(app.router.routes[-1:], [f"/v1{one.path_format}" for one in router.routes])
        app.router.middleware_stack = found
    return app


def test_it_chooses_as_the_router_does() -> None:
    with TestClient(made(table=True)) as by_table, TestClient(made(table=False)) as by_router:
        for path in (
            *("/v1/things", "/v1/things/", "/v1/things/7", "/v1/things/special", "/v1/things/7/parts", "/v1"),
            *("/v1/deep/a/b/c", "/v1/deep/er", "/v1/deep/", "/v1/deep", "/v1/none", "/", "//v1/things", "/v1/things//"),
        ):
            for method in ("GET", "PUT", "POST", "HEAD", "OPTIONS"):
                one, other = (client.request(method, path) for client in (by_table, by_router))
                assert (one.status_code, one.text, one.headers.get("allow")) == (
                    *(other.status_code, other.text, other.headers.get("allow")),
                ), (method, path)


def test_every_route_of_the_api_is_found_without_the_router(app) -> None:
    table = app.router.middleware_stack
    assert isinstance(table, RouteTable)
    for path, route in route_paths():
        heads = [entry for entry in table._of(head_of(path)) if entry.route is route]
        assert heads, path
        assert "{" not in "".join(head_of(path)), path


def test_a_connection_that_is_no_request_goes_to_the_router() -> None:
    seen = []

    async def router(scope, receive, send) -> None:
        seen.append(scope["type"])

    asyncio.run(RouteTable(router)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
