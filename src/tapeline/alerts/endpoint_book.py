"""Endpoints as they are kept: looked up, shown without their secrets, and checked before they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tapeline.alerts.delivery.channel import Channel
from tapeline.alerts.delivery.endpoint_secrets import valid_secrets
from tapeline.alerts.delivery.messengers import MessengerChannel
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.webhook import WebhookChannel
from tapeline.alerts.endpoint_settings import masked_address
from tapeline.alerts.store.store import Endpoint, UnknownRecordError
from tapeline.core.errors import ConfigurationError, TemporaryError

if TYPE_CHECKING:
    from tapeline.alerts.endpoint_health import EndpointHealth
    from tapeline.alerts.store.sql_store import SqlStore


class AddressedChannel(Channel, Protocol):
    """A channel that can say whether an address is one of its own."""

    def parse(self, address: str) -> object:
        """Refuse an address that may not be delivered to, by the check that stands before each try too."""
        ...


class EndpointBook:
    """What there is to say of endpoints, whatever their kind.

    Parameters
    ----------
    store, vault:
        Where endpoints are kept, and what seals their addresses and secrets.
    channels:
        By kind.
    clock:
        Nanoseconds since 1970.
    """

    def __init__(
        self,
        store: SqlStore,
        vault: SecretVault,
        channels: Mapping[str, AddressedChannel],
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store, self._vault, self._channels, self._clock = store, vault, dict(channels), clock

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of endpoints that there may be."""
        return tuple(sorted(self._channels))

    @property
    def channels(self) -> tuple[AddressedChannel, ...]:
        """What it sends through."""
        return tuple(self._channels.values())

    def known(self, id: str) -> Endpoint:
        """One endpoint.

        Raises
        ------
        UnknownRecordError
            There is none.
        """
        endpoint = self._store.endpoint(id)
        if endpoint is None:
            raise UnknownRecordError(f"there is no endpoint {id!r}")
        return endpoint

    def check_name(self, owner: str, name: str, kind: str) -> None:
        """Refuse a name under which an endpoint would not be told: a channel is of one kind, and the settings' alone.

        Raises
        ------
        ConfigurationError
            The owner has another kind of endpoint under it, or the settings have a channel of this name.
        """
        for one in self._store.endpoints(owner=owner):
            if one.settings.get("name") != name:
                continue
            if is_operators(one):
                raise ConfigurationError(f"the settings have a channel {name!r}", hint="take another name")
            if one.channel != kind:
                raise ConfigurationError(f"the channel {name!r} is one of {one.channel}", hint="take another name")

    def shown(self, endpoint: Endpoint) -> str | None:
        """Enough of an address to recognise it, without what is secret in it; None where it cannot be decrypted."""
        try:
            return masked_address(endpoint.channel, self._vault.open_text(endpoint.address, endpoint.id))
        except UnreadableSecretError:
            return None

    def problem(self, endpoint: Endpoint) -> str:
        """Why it cannot work as it is kept; empty where it can."""
        try:
            self._vault.open_text(endpoint.address, endpoint.id)
        except UnreadableSecretError:
            return "the address cannot be decrypted: give it again"
        if not all(self._readable(one, endpoint.id) for one in valid_secrets(endpoint, self._clock())):
            return "a secret cannot be decrypted: rotate it"
        return "" if endpoint.channel in self._channels else f"there is no channel {endpoint.channel} here"

    def health(self, endpoint: Endpoint, *, limit: int = 20) -> EndpointHealth:
        """How it does; see :func:`~tapeline.alerts.endpoint_health.endpoint_health`."""
        from tapeline.alerts.endpoint_health import endpoint_health

        return endpoint_health(self._store.database, endpoint, limit=limit)

    def _check(self, kind: str, address: str, *, operator: bool) -> None:
        channel: Any = self._channels.get(kind)
        if channel is None:
            raise ConfigurationError(f"there is no channel {kind!r} here", hint=f"there are {', '.join(self.kinds)}")
        try:
            if operator and isinstance(channel, MessengerChannel):
                channel.parse(address, own_server=True)
            else:
                channel.parse(address)
        except TemporaryError as error:
            # At a try it is a reason to try again; here a person waits, who has perhaps mistyped it.
            raise ConfigurationError(error.message, hint="try again once the name resolves") from None

    def _signs(self, kind: str) -> bool:
        return isinstance(self._channels.get(kind), WebhookChannel)

    def _readable(self, sealed: bytes, id: str) -> bool:
        try:
            self._vault.open(sealed, id)
        except UnreadableSecretError:
            return False
        return True


def is_operators(endpoint: Endpoint) -> bool:
    """Whether the settings have it: only its address may name a server of one's own."""
    return endpoint.settings.get("operator") is True
