"""The channels and the endpoints' manager as the settings have them, for the engine and for the API alike."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tapeline.alerts.delivery.gateways import GatewayChannel
from tapeline.alerts.delivery.messengers import MessengerChannel
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.delivery.webhook import WebhookChannel
from tapeline.alerts.endpoint_book import AddressedChannel
from tapeline.alerts.endpoint_notices import EndpointNotices
from tapeline.alerts.limits.limiter import Limiter
from tapeline.alerts.store.store import Store
from tapeline.alerts.webhook_manager import WebhookManager
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.settings import AlertChannelSettings, AlertSettings, Settings
from tapeline.monitoring.notification import Notification

if TYPE_CHECKING:
    from tapeline.alerts.store.sql_store import SqlStore

_log = logging.getLogger(__name__)


def make_vault(alerts: AlertSettings) -> SecretVault:
    """What seals addresses and secrets.

    Raises
    ------
    ConfigurationError
        The settings have no key.
    """
    if not alerts.keys:
        raise ConfigurationError(
            "[alerts] keys is empty: nothing to seal the channels' secrets with",
            hint="tapeline alerts key makes one; set it as TAPELINE_ALERTS__KEYS='[\"...\"]'",
        )
    return SecretVault([key.get_secret_value() for key in alerts.keys])


def target_rules(alerts: AlertSettings) -> TargetRules:
    """Where webhooks may go."""
    return TargetRules(http=alerts.plain_http, ports=alerts.permitted_ports, networks=alerts.permitted_networks)


def channels_of(alerts: AlertSettings, vault: SecretVault) -> dict[str, AddressedChannel]:
    """A channel of each kind that users may have: mail and text messages where the settings name a gateway.

    Raises
    ------
    ConfigurationError
        A channel of mail or text messages has no gateway.
    """
    made: dict[str, Any] = {"webhook": WebhookChannel(vault, rules=target_rules(alerts))}
    for kind in ("telegram", "slack", "discord"):
        made[kind] = MessengerChannel(kind, vault=vault, own_servers=True)
    for name, one in alerts.channels.items():
        if one.kind == "email" or one.kind == "sms":
            if one.gateway is None:
                raise ConfigurationError(f"the channel {name} has no gateway", hint="mailtos://...&to={to}")
            if one.kind not in made:
                made[one.kind] = GatewayChannel(one.kind, one.gateway.get_secret_value(), vault=vault)
    return made


def make_manager(
    settings: Settings,
    store: SqlStore,
    vault: SecretVault,
    *,
    limiter: Limiter | None = None,
    clock: Callable[[], int] = time.time_ns,
) -> WebhookManager:
    """The manager of all endpoints.

    Parameters
    ----------
    limiter:
        Counts test events.
    clock:
        Nanoseconds since 1970.
    """
    return WebhookManager(
        store,
        vault,
        channels_of(settings.alerts, vault),
        grace=settings.alerts.rotation_grace_seconds,
        notices=make_notices(settings, store),
        limiter=limiter,
        clock=clock,
    )


def make_notices(settings: Settings, store: Store) -> EndpointNotices:
    """What tells owners of endpoints that were switched off, and the operator where it cannot."""
    if not settings.notifications.urls:
        return EndpointNotices(store)

    def operator(notification: Notification) -> object:
        # Made when it is needed: it opens apprise, which takes a second.
        from tapeline.monitoring.notifier import Notifier

        return Notifier(settings).notify(notification)

    return EndpointNotices(store, operator=operator)


class EndpointUpkeep:
    """Ends rotations and tells what was left untold, again and again: runs beside the engine's sources.

    Parameters
    ----------
    seconds:
        Between two rounds.
    """

    def __init__(self, manager: WebhookManager, *, seconds: float = 60.0) -> None:
        self._manager, self._seconds = manager, seconds
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until :meth:`stop`."""
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(self._manager.upkeep)
            except TapelineError as error:
                _log.warning("endpoints cannot be looked after now: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopping.set()


def keep_endpoint(
    manager: WebhookManager, store: SqlStore, vault: SecretVault, name: str, one: AlertChannelSettings
) -> None:
    """Let the database have the endpoint as the settings have it; one that failed stays switched off until changed."""
    id, address = endpoint_id(name, one), one.address.get_secret_value()
    held = store.endpoint(id)
    lifetime = one.lifetime_seconds
    if held is None:
        secret = one.secret.get_secret_value() if one.secret is not None and one.kind == "webhook" else None
        manager.register(
            one.owner, one.kind, address, name=name, id=id, secret=secret, lifetime=lifetime, operator=True
        )
        return
    known = None
    try:
        known = vault.open_text(held.address, id)
    except UnreadableSecretError:
        _log.warning("the address of the endpoint %s could not be decrypted and is sealed anew", id)
    stands = held.settings.get("name") == name and held.settings.get("lifetime_seconds") == lifetime
    if known != address or not stands or held.settings.get("operator") is not True:
        manager.adopt(id, address=address, name=name, lifetime=lifetime, enable=known != address)


def endpoint_id(name: str, one: AlertChannelSettings) -> str:
    """The id of a channel of the settings."""
    return f"{one.owner}.{name}"
