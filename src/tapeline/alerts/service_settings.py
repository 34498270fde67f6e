"""The alert engine as the settings have it: database, channels, feeds, stream."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tapeline.alerts.access.audit import AuditLog
from tapeline.alerts.bots.configured import DeskUpkeep, bot_channel, bot_settings
from tapeline.alerts.bots.desk import BotDesk
from tapeline.alerts.bots.inbound_feed import InboundFeed
from tapeline.alerts.bots.signal import CHANNEL as BOT
from tapeline.alerts.catalogue import NAME_OF
from tapeline.alerts.channel_settings import (
    EndpointUpkeep,
    endpoint_id,
    keep_endpoint,
    make_manager,
    make_notices,
    make_vault,
)
from tapeline.alerts.delivery.channel import Channel
from tapeline.alerts.engine_changes import Suspended, is_untouched
from tapeline.alerts.feed_settings import NamesWithPolled, news_sources, polled_sources
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source import Source
from tapeline.alerts.routing import Route
from tapeline.alerts.rule_files import load_rules
from tapeline.alerts.series import History
from tapeline.alerts.service import AlertEngine
from tapeline.alerts.source_aliases import SourceAliases
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.stream_settings import make_stream
from tapeline.alerts.symbol_manager import SymbolManager
from tapeline.alerts.webhook_manager import WebhookManager
from tapeline.alerts.websocket_server import WebSocketServer
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.nanoseconds import SECOND
from tapeline.core.settings import AlertChannelSettings, AlertSettings, Settings

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.alerts.store.sql_store import SqlStore

_log = logging.getLogger(__name__)


def alert_folder(settings: Settings) -> Path:
    """Where the engine keeps its own state."""
    return settings.alerts.folder or settings.state_path / "alerts"


def rules_path(settings: Settings) -> Path:
    """The file or folder with the rules."""
    return settings.root / settings.alerts.rules


def alert_secrets(settings: Settings) -> list[str]:
    """All that a log must never show."""
    alerts = settings.alerts
    found = [
        *alerts.keys,
        alerts.news.key,
        alerts.news.x_token,
        alerts.alpha_vantage.key,
        alerts.stream_token,
        *alerts.gateway.signing_keys,
    ]
    found += [*alerts.gateway.inbound_tokens.values(), alerts.scale.redis]
    for one in alerts.channels.values():
        found += (one.address, one.gateway, one.secret, *one.credentials.values())
    if alerts.store is not None and "@" in alerts.store.get_secret_value():  # else it is a path, without a password
        found.append(alerts.store)
    return [one.get_secret_value() for one in found if one is not None]


def open_alert_store(settings: Settings) -> SqlStore:
    """The database of the settings; a SQLite file in the engine's folder where they name none."""
    given = settings.alerts.store
    if given is not None:
        return open_store(given.get_secret_value())
    folder = alert_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    return open_store(folder / "alerts.db")


def make_engine(settings: Settings, store: SqlStore) -> tuple[AlertEngine, WebSocketServer]:
    """The engine with Binance as its first feed and those of the settings behind it, its channels and its stream.

    Raises
    ------
    ConfigurationError
        There are no rules, no symbols, or a channel without a key to keep its secrets with.
    """
    alerts, path = settings.alerts, rules_path(settings)
    if path == settings.root / "rules" and not path.exists():
        # Nobody named it: the rules are in the database, or a folder will be made.
        path.mkdir(parents=True)
    if not load_rules(path) and not alerts.symbols and is_untouched(store):
        raise ConfigurationError("no rule names a symbol", hint="name symbols in [alerts] symbols or in a rule")
    names_of = symbol_sources(settings, store)
    channels, endpoints = make_channels(settings, store)
    server = make_stream(settings, store)
    engine = AlertEngine(
        store,
        alert_folder(settings),
        {symbol: names_of(symbol) for symbol in alerts.symbols},
        rules=path,
        names_of=names_of,
        sources=lambda manager, positions: [
            *binance_source(settings, manager, positions),
            *polled_sources(settings, manager),
            *news_sources(settings, manager),
            *([EndpointUpkeep(endpoints)] if endpoints is not None else []),
            DeskUpkeep(lambda: BotDesk(store, engine.router, wake=engine.wake)),
            InboundFeed(store, manager, positions),
        ],
        routes=channel_routes(alerts),
        channels=channels,
        notice=make_notices(settings, store),
        server=server,
        instance=alerts.scale.instance,
        history=lake_history(settings),
        trace=suspension_trace(settings, store),
    )
    return engine, server


def suspension_trace(settings: Settings, store: SqlStore) -> Suspended:
    """What writes into the audit log that an engine suspends or resumes an owner's rules; nothing without its key."""
    keys = tuple(key.get_secret_value() for key in settings.alerts.gateway.signing_keys)
    if not keys:
        return lambda owner, suspended: None
    audit = AuditLog(store.database, keys)

    def trace(owner: str, suspended: bool) -> None:
        try:
            audit.record("alert engine", "rules.suspend" if suspended else "rules.resume", "user", owner)
        except TapelineError as error:
            _log.error("the audit log does not have what became of the rules of %s: %s", owner, error)

    return trace


def symbol_sources(settings: Settings, store: SqlStore) -> NamesWithPolled:
    """The sources of a symbol, the best first, as the universe and the settings name it there."""
    symbols = SymbolManager(store.database, clock=time.time_ns)
    listed = SourceAliases(symbols, "binance", settings.stream.stale_seconds, possible=_is_listable)
    return NamesWithPolled(settings.alerts, listed, symbols.names)


def lake_history(settings: Settings, clock: Callable[[], int] = time.time_ns) -> History:
    """The lake's clean bars of the time that the bars asked for reach back; fewer where some are missing.

    Parameters
    ----------
    clock:
        Nanoseconds since 1970.
    """

    def history(symbol: str, timeframe: int, bars: int) -> pd.DataFrame | None:
        # A service whose rules ask for no history does without pandas and what reads Parquet: 70 MB.
        import pandas as pd

        from tapeline.core.schemas import CLEAN_BARS
        from tapeline.core.symbol import Symbol
        from tapeline.core.timeframe import Timeframe
        from tapeline.lake.lake import Lake

        lake = Lake(settings.lake_path)
        try:
            step = Timeframe.parse(NAME_OF[timeframe])
            # Older bars would have left every window by now.
            since = pd.Timestamp(clock() - (bars + 1) * timeframe, tz="UTC")
            return lake.read(CLEAN_BARS, Symbol.parse(symbol), step, start=since)
        except TapelineError as error:
            _log.info("no history of %s: %s", symbol, error)
            return None

    return history


def binance_source(settings: Settings, manager: DataManager, positions: Mapping[str, int]) -> list[Source]:
    """Binance's trades of the symbols that the manager watches of it, with its history to fill gaps from."""
    from tapeline.alerts.feeds.binance import BinanceSource
    from tapeline.streams.binance import BinanceHistory
    from tapeline.streams.connection import ConnectionOptions
    from tapeline.streams.http_client import RequestsClient

    client = RequestsClient(settings.stream.binance_rest, timeout=settings.network.timeout_seconds)
    watched = ConnectionOptions(
        stale_after=settings.stream.stale_seconds, maximum_attempts=settings.stream.maximum_attempts
    )
    names = manager.names("binance")
    last = {name: positions[key] for name, symbol in names.items() if (key := f"binance:{symbol}") in positions}
    return [
        BinanceSource(
            manager,
            names,
            history=BinanceHistory(client),
            last_ids=last,
            url=settings.stream.binance_stream,
            connection=watched,
        )
    ]


def _is_listable(name: str) -> bool:
    from tapeline.streams.binance import stream_names

    try:
        return bool(stream_names([name], ["aggTrade"]))
    except ConfigurationError:
        return False


def make_channels(settings: Settings, store: SqlStore) -> tuple[list[Channel], WebhookManager | None]:
    """The channels, and the manager of their endpoints; those of the settings go sealed into the database.

    Without a key to seal them with there are none, and the settings may name none.
    """
    alerts = settings.alerts
    if not alerts.channels and not alerts.keys:
        return [], None
    vault = make_vault(alerts)
    manager = make_manager(settings, store, vault)
    for name, one in alerts.channels.items():
        if one.kind != BOT:
            keep_endpoint(manager, store, vault, name, one)
    return [*manager.channels, bot_channel(alerts, store, vault)], manager


def channel_routes(alerts: AlertSettings) -> dict[tuple[str, str], Route]:
    """The channels of the settings, by owner and name."""
    return {
        (one.owner, name): Route(name, one.kind, (endpoint_id(name, one),), _lifetime(name, one))
        for name, one in alerts.channels.items()
    }


def _lifetime(name: str, one: AlertChannelSettings) -> int:
    return bot_settings(name, one).lifetime if one.kind == BOT else int(one.lifetime_seconds * SECOND)
