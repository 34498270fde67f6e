"""The alert engine as the settings have it: database, channels, feeds, stream."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tapeline.alerts.delivery.channel import Channel
from tapeline.alerts.delivery.gateways import GatewayChannel
from tapeline.alerts.delivery.messengers import MessengerChannel
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.delivery.webhook import WebhookChannel, WebhookEndpoints
from tapeline.alerts.delivery.websocket import FiringServer, static_token
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.routing import Route
from tapeline.alerts.rule_files import load_rules
from tapeline.alerts.service import AlertEngine, Source
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Endpoint, Store
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import AlertChannelSettings, AlertSettings, Settings

_NANOSECONDS = 1_000_000_000


def alert_folder(settings: Settings) -> Path:
    """Where the engine keeps its own state."""
    return settings.alerts.folder or settings.state_path / "alerts"


def rules_path(settings: Settings) -> Path:
    """The file or folder with the rules."""
    return settings.root / settings.alerts.rules


def open_alert_store(settings: Settings) -> Store:
    """The database of the settings; a SQLite file in the engine's folder where they name none."""
    given = settings.alerts.store
    if given is not None:
        return open_store(given.get_secret_value())
    folder = alert_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    return open_store(folder / "alerts.db")


def make_engine(settings: Settings, store: Store) -> tuple[AlertEngine, FiringServer]:
    """The engine with Binance as its feed, its channels and its stream.

    Raises
    ------
    ConfigurationError
        There are no rules, no symbols, or a channel without a key to keep its secrets with.
    """
    alerts, path = settings.alerts, rules_path(settings)
    named = {symbol for rule in load_rules(path) for symbol in rule.symbols if symbol != "*"}
    symbols = sorted(named | set(alerts.symbols))
    if not symbols:
        raise ConfigurationError("no rule names a symbol", hint="name symbols in [alerts] symbols or in a rule")
    token = alerts.stream_token
    server = FiringServer(
        store,
        host=alerts.stream_host,
        port=alerts.stream_port,
        authorise=static_token(token.get_secret_value()) if token is not None else None,
    )
    engine = AlertEngine(
        store,
        alert_folder(settings),
        {symbol: [SourceName("binance", symbol, settings.stream.stale_seconds)] for symbol in symbols},
        rules=path,
        sources=lambda manager, positions: binance_source(settings, manager, symbols, positions),
        routes=_routes(alerts),
        channels=make_channels(alerts, store),
        server=server,
    )
    return engine, server


def binance_source(
    settings: Settings, manager: DataManager, symbols: Iterable[str], positions: Mapping[str, int]
) -> list[Source]:
    """Binance's trades, with its history to fill gaps from and to fall back on."""
    from tapeline.alerts.feeds.binance import BinanceSource
    from tapeline.streams.binance import BinanceHistory
    from tapeline.streams.connection import ConnectionOptions
    from tapeline.streams.http_client import RequestsClient

    client = RequestsClient(settings.stream.binance_rest, timeout=settings.network.timeout_seconds)
    watched = ConnectionOptions(
        stale_after=settings.stream.stale_seconds, maximum_attempts=settings.stream.maximum_attempts
    )
    last = {name.partition(":")[2]: number for name, number in positions.items() if name.startswith("binance:")}
    return [
        BinanceSource(
            manager,
            symbols,
            history=BinanceHistory(client),
            last_ids=last,
            url=settings.stream.binance_stream,
            connection=watched,
        )
    ]


def make_channels(alerts: AlertSettings, store: Store) -> list[Channel]:
    """The channels of the settings; their addresses and secrets go sealed into the database."""
    if not alerts.channels:
        return []
    if not alerts.keys:
        raise ConfigurationError(
            "[alerts] keys is empty: nothing to seal the channels' secrets with",
            hint="tapeline alerts key makes one; set it as TAPELINE_ALERTS__KEYS='[\"...\"]'",
        )
    vault = SecretVault([key.get_secret_value() for key in alerts.keys])
    target = TargetRules(http=alerts.plain_http, ports=alerts.permitted_ports, networks=alerts.permitted_networks)
    made: dict[str, Channel] = {}
    for name, one in alerts.channels.items():
        if one.kind == "webhook":
            made.setdefault("webhook", WebhookChannel(vault, rules=target))
        elif one.kind == "email" or one.kind == "sms":
            if one.gateway is None:
                raise ConfigurationError(f"the channel {name} has no gateway", hint="mailtos://...&to={to}")
            made.setdefault(one.kind, GatewayChannel(one.kind, one.gateway.get_secret_value(), vault=vault))
        else:
            made.setdefault(one.kind, MessengerChannel(one.kind, vault=vault, own_servers=True))
        _keep_endpoint(store, vault, target, name, one)
    return [*made.values()]


def _routes(alerts: AlertSettings) -> dict[tuple[str, str], Route]:
    return {
        (one.owner, name): Route(name, one.kind, (_id(name, one),), int(one.lifetime_seconds * _NANOSECONDS))
        for name, one in alerts.channels.items()
    }


def _keep_endpoint(store: Store, vault: SecretVault, target: TargetRules, name: str, one: AlertChannelSettings) -> None:
    """Let the database have the endpoint as the settings have it; one that failed stays switched off until changed."""
    id, address, now = _id(name, one), one.address.get_secret_value(), time.time_ns()
    held: Endpoint | None = store.endpoint(id)
    known = None
    if held is not None:
        with suppress(UnreadableSecretError):
            known = vault.open_text(held.address, id)
    if one.kind == "webhook":
        endpoints: Any = WebhookEndpoints(store, vault, rules=target)
        secret = one.secret.get_secret_value() if one.secret is not None else None
        if held is None:
            endpoints.create(id, one.owner, address, now=now, secret=secret)
        elif known != address:
            endpoints.change_url(id, address, now=now)
    elif held is None or known != address:
        sealed = vault.seal_text(address, id)
        fresh = Endpoint(id, one.owner, one.kind, sealed, created_at=now, changed_at=now)
        store.save_endpoint(fresh if held is None else replace(fresh, created_at=held.created_at))


def _id(name: str, one: AlertChannelSettings) -> str:
    return f"{one.owner}.{name}"
