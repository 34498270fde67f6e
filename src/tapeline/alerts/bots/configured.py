"""Bots as the settings have them, and the desk beside the engine's sources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tapeline.alerts.bots.bot_endpoints import BotEndpoints, plain_settings
from tapeline.alerts.bots.bot_settings import BotSettings, read_settings
from tapeline.alerts.bots.channel import BotChannel, open_bot
from tapeline.alerts.bots.desk import BotDesk
from tapeline.alerts.bots.dialects.dialect import Bot
from tapeline.alerts.bots.signal import CHANNEL
from tapeline.alerts.bots.signal_book import SignalBook
from tapeline.alerts.channel_settings import endpoint_id, target_rules
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import AlertChannelSettings, AlertSettings


def bot_channel(alerts: AlertSettings, store: SqlStore, vault: SecretVault) -> BotChannel:
    """The channel of all bots; those of the settings go sealed into the database."""
    endpoints = BotEndpoints(store, vault, rules=target_rules(alerts))
    for name, one in alerts.channels.items():
        if one.kind == CHANNEL:
            keep_bot(endpoints, store, vault, name, one, now=time.time_ns())
    return BotChannel(SignalBook(store.database), vault, rules=target_rules(alerts))


def bot_settings(name: str, one: AlertChannelSettings) -> BotSettings:
    """The settings of a bot that stands in the settings file under a name.

    Raises
    ------
    ConfigurationError
        They are not a bot's.
    """
    try:
        return read_settings({**one.bot, "name": name})
    except ConfigurationError as error:
        raise ConfigurationError(f"[alerts.channels.{name}] {error.message}") from None


def keep_bot(
    endpoints: BotEndpoints, store: SqlStore, vault: SecretVault, name: str, one: AlertChannelSettings, *, now: int
) -> Endpoint:
    """Let the database have a bot as the settings have it; one that was switched off stays so until it is changed."""
    id, wanted, url = endpoint_id(name, one), bot_settings(name, one), one.address.get_secret_value()
    credentials = {key: value.get_secret_value() for key, value in one.credentials.items()}
    secret = one.secret.get_secret_value() if one.secret is not None else None
    held = store.endpoint(id)
    if held is not None and (held.channel != CHANNEL or not _stands(held, vault, wanted, url, credentials, secret)):
        # Its own secret is the settings': there is nothing to lose in making it anew.
        store.delete_endpoint(id)
        held = None
    if held is not None:
        return held
    return endpoints.create(id, one.owner, wanted, now=now, url=url, credentials=credentials, secret=secret)[0]


def _stands(
    held: Endpoint, vault: SecretVault, wanted: BotSettings, url: str, credentials: dict[str, str], secret: str | None
) -> bool:
    try:
        known: Bot = open_bot(held, vault)
        place = vault.open_text(held.address, held.id)
    except (UnreadableSecretError, ConfigurationError):
        return False
    same = dict(held.settings) == plain_settings(wanted) and place == url and dict(known.credentials) == credentials
    return same and (secret is None or known.secrets[:1] == (secret,))


class DeskUpkeep:
    """The desk as something that runs beside the engine's sources.

    Parameters
    ----------
    make:
        Makes the desk when it is to run.
    """

    def __init__(self, make: Callable[[], BotDesk]) -> None:
        self._make = make
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until :meth:`stop`."""
        desk = self._make()
        desk.start()
        try:
            await self._stopping.wait()
        finally:
            await asyncio.to_thread(desk.stop)

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopping.set()
