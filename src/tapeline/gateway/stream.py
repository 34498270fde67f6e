"""The stream of firings in the API's own process, where the settings ask for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tapeline.alerts.stream_settings import make_own_stream, stream_url
from tapeline.core.settings import AlertSettings

if TYPE_CHECKING:
    from tapeline.alerts.websocket_server import WebSocketServer
    from tapeline.gateway.context import GatewayContext

WORKERS_VARIABLE: Final = "TAPELINE_GATEWAY_WORKERS"
"""Set where several workers answer: each then has clients of its own on the one port."""


@asynccontextmanager
async def streaming(context: GatewayContext) -> AsyncIterator[WebSocketServer | None]:
    """Stream firings while the block runs; clients are then told that the service restarts, and resume."""
    shared = WORKERS_VARIABLE in os.environ
    server = make_own_stream(context.settings, context.store, context.access, shared_port=shared)
    if server is None:
        yield None
        return
    await server.start()
    try:
        yield server
    finally:
        await server.stop(restarts=True)


def stream_origins(alerts: AlertSettings) -> str:
    """What a page's content security policy must let it connect to, beside its own origin.

    Examples
    --------
    >>> stream_origins(AlertSettings())
    'ws://127.0.0.1:8790 wss://127.0.0.1:8790'
    """
    found = urlsplit(stream_url(alerts))
    return f"ws://{found.netloc} wss://{found.netloc}"
