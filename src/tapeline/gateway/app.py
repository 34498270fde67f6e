"""The application: every router of :mod:`tapeline.gateway.routes`, in the layers that every request passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from tapeline.alerts.client_address import trusted_networks
from tapeline.gateway import routes
from tapeline.gateway.answers import API_VERSION
from tapeline.gateway.bounds import Bounds
from tapeline.gateway.context import GatewayContext
from tapeline.gateway.door import Door
from tapeline.gateway.envelope import Envelope
from tapeline.gateway.openapi import describe
from tapeline.gateway.parameters import known_parameters, parameter_names
from tapeline.gateway.problems import add_handlers
from tapeline.gateway.repeats import RepeatedRequests, Repeats
from tapeline.gateway.request_metrics import RequestMetrics
from tapeline.gateway.route_table import RouteTable
from tapeline.gateway.sent_webhooks import sent_webhooks
from tapeline.gateway.stream import stream_origins, streaming

PREFIX: Final = "/v1"
PAGE: Final = Path(__file__).parent / "page"
THREADS: Final = 16
"""Requests whose work blocks at the same time; the others wait for their turn."""
_EXPOSED: Final = ("ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id", "Deprecation")
_ACCEPTED: Final = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match")


def create_app(context: GatewayContext) -> FastAPI:
    """The API over one context.

    Each module of :mod:`tapeline.gateway.routes` is mounted: its ``router`` below ``/v1``, its ``root`` (where it has
    one) at the top. A new part of the API is one file.

    Parameters
    ----------
    context:
        What routes work with; it is not closed here.
    """
    app = FastAPI(
        title="Tapeline alerts",
        version=API_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        lifespan=_lifespan,
        # The page is at the top, and a slash too many is an address that is not there, not another request.
        redirect_slashes=False,
    )
    app.state.context, app.state.metrics = context, RequestMetrics()
    add_handlers(app)
    table = RouteTable(app.router.middleware_stack)
    for tag, prefix, router in routers():
        before = len(app.router.routes)
        app.include_router(router, prefix=prefix, tags=[tag], dependencies=[Depends(known_parameters)])
        table.add(app.router.routes[before:], [prefix + one.path_format for one in _api_routes(router)])
    app.router.middleware_stack = table
    paths = list(route_paths())
    app.state.paths = {route.endpoint: path for path, route in paths}
    app.state.parameters = {route.endpoint: parameter_names(route) for _, route in paths}
    sent_webhooks(app.webhooks)
    description = cache(partial(describe, app, paths))
    app.openapi = description  # type: ignore[method-assign]
    app.router.routes.extend(page_routes())
    gateway = context.settings.alerts.gateway
    # The last that is added is the first that is passed.
    repeats = Repeats(context.store.database, context.vault, context.clock)
    app.add_middleware(RepeatedRequests, repeats=repeats, database=context.store.database)
    app.add_middleware(Bounds)
    app.add_middleware(Door, context=context, proxies=trusted_networks(gateway.trusted_proxies))
    if gateway.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=gateway.origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_ACCEPTED,
            expose_headers=_EXPOSED,
            max_age=600,
        )
    app.add_middleware(Envelope, page_policy=_page_policy(context), metrics=app.state.metrics)
    return app


def routers() -> Iterator[tuple[str, str, APIRouter]]:
    """Every router with its tag and the beginning of its paths, by the names of their modules."""
    for _, name, _ in sorted(iter_modules(routes.__path__), key=lambda one: one[1]):
        module = import_module(f"{routes.__name__}.{name}")
        for attribute, prefix in (("router", PREFIX), ("root", "")):
            if isinstance(router := getattr(module, attribute, None), APIRouter):
                yield name, prefix, router


def route_paths() -> Iterator[tuple[str, APIRoute]]:
    """Every route with its whole path."""
    for _, prefix, router in routers():
        for route in _api_routes(router):
            yield prefix + route.path_format, route


def _api_routes(router: APIRouter) -> Iterator[APIRoute]:
    return (route for route in router.routes if isinstance(route, APIRoute))


def page_routes(folder: Path = PAGE) -> Iterator[Route]:
    """One route a file of the page, and its index at the top.

    No folder is mounted there: it would take every address and method that no other route wants, and answer in its own
    words. And there is no path to leave a folder by.
    """
    files = StaticFiles(directory=folder, check_dir=False)

    def route(path: str, name: str) -> Route:
        async def answer(request: Request) -> Response:
            return await files.get_response(name, request.scope)

        return Route(path, answer, methods=["GET"], include_in_schema=False)

    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(folder).as_posix()
            yield route(f"/{name}", name)
            if name == "index.html":
                yield route("/", name)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    import anyio.to_thread

    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    async with streaming(app.state.context) as stream:
        app.state.stream = stream
        yield


def _page_policy(context: GatewayContext) -> str:
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self' {stream_origins(context.settings.alerts)}; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


__all__ = ["create_app", "page_routes", "route_paths", "routers"]
