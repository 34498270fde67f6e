"""The stream of firings as the settings have it: in the engine's process, or in the API's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tapeline.alerts.websocket_access import AccountGate, Gate, TokenGate
from tapeline.alerts.websocket_server import WebSocketServer
from tapeline.core.settings import AlertSettings, Settings

if TYPE_CHECKING:
    from tapeline.alerts.access.access_control import AccessControl
    from tapeline.alerts.store.sql_store import SqlStore

POLL_SECONDS: Final = 0.03
"""How often the store is asked where another process writes it."""


def make_stream(settings: Settings, store: SqlStore) -> WebSocketServer:
    """The engine's stream: it is woken by each firing that was stored."""
    alerts = settings.alerts
    return WebSocketServer(
        store,
        host=alerts.stream_host,
        port=alerts.stream_port,
        gate=make_gate(alerts, store),
        origins=page_origins(alerts),
        proxies=alerts.gateway.trusted_proxies,
    )


def make_own_stream(
    settings: Settings, store: SqlStore, access: AccessControl, *, shared_port: bool = False
) -> WebSocketServer | None:
    """The API's own stream, which asks the store; None where the settings leave it to the engine."""
    gateway = settings.alerts.gateway
    if gateway.stream_port is None:
        return None
    return WebSocketServer(
        store,
        host=gateway.host,
        port=gateway.stream_port,
        gate=AccountGate(access, _token_gate(settings.alerts)),
        origins=page_origins(settings.alerts),
        proxies=gateway.trusted_proxies,
        poll_seconds=POLL_SECONDS,
        shared_port=shared_port,
    )


def make_gate(alerts: AlertSettings, store: SqlStore) -> Gate | None:
    """Who may connect to the engine's stream: users where there are keys for their tokens, and who has the token."""
    token = _token_gate(alerts)
    if not alerts.gateway.signing_keys:
        return token
    from tapeline.alerts.access.access_control import AccessControl, AccessSettings

    return AccountGate(AccessControl(store.database, AccessSettings.of(alerts.gateway)), token)


def stream_url(alerts: AlertSettings) -> str:
    """Where a page finds the stream.

    Examples
    --------
    >>> stream_url(AlertSettings())
    'ws://127.0.0.1:8790/'
    """
    gateway = alerts.gateway
    if gateway.stream_url is not None:
        return gateway.stream_url
    own = gateway.stream_port is not None
    host, port = (gateway.host, gateway.stream_port) if own else (alerts.stream_host, alerts.stream_port)
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}/"


def page_origins(alerts: AlertSettings) -> tuple[str, ...]:
    """The origins whose pages may connect: the API's own page, and those of the settings.

    Examples
    --------
    >>> page_origins(AlertSettings())
    ('http://127.0.0.1:8791', 'http://localhost:8791')
    """
    gateway = alerts.gateway
    hosts = ["127.0.0.1", "localhost"] if gateway.host in ("127.0.0.1", "localhost") else [gateway.host]
    return (*(f"http://{host}:{gateway.port}" for host in hosts), *gateway.origins)


def _token_gate(alerts: AlertSettings) -> TokenGate | None:
    return None if alerts.stream_token is None else TokenGate(alerts.stream_token.get_secret_value())
