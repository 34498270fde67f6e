"""Telegram, Slack and Discord as channels: one endpoint is one chat, one webhook."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.discord import API, DiscordAddress, parse_discord, send_discord
from tapeline.alerts.delivery.limits import (
    DISCORD_WEBHOOK,
    SLACK_WEBHOOK,
    TELEGRAM_BOT,
    TELEGRAM_CHAT,
    TELEGRAM_GROUP,
    Limiter,
    Rate,
    endpoint_keys,
)
from tapeline.alerts.delivery.messages import digest, notification_of
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.records import Delivery, Outcome
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.addresses import SLACK_API, TELEGRAM_API, SlackAddress, TelegramAddress, parse_address
from tapeline.monitoring.channels import Channel, SlackChannel, TelegramChannel
from tapeline.monitoring.channels import Delivery as Sent
from tapeline.monitoring.notification import Notification

Messenger = Literal["telegram", "slack", "discord"]
Keys = list[tuple[str, Rate]]

_SLACK_APIS: Final = (SLACK_API, "https://hooks.slack-gov.com")
_OUTCOMES: Final[dict[str, Outcome]] = {"sent": "sent", "throttled": "throttled", "refused": "refused"}
_DISCORD: Final = (
    "discord",
    Rate(45.0, burst=5),
)  # 50 a second over all: discord.com/developers/docs/topics/rate-limits


class MessengerChannel:
    """Sends to the chats of one messenger, within its limits; several waiting deliveries become one digest.

    Parameters
    ----------
    kind:
        Which messenger.
    vault:
        Decrypts the endpoints' addresses; None where they are not encrypted.
    address:
        Where deliveries without an endpoint go; None: they are refused.
    own_servers:
        Whether ``address`` and endpoints of the settings (``operator`` in theirs) may name a server of one's own
        (``api=``). A user's may never: with it he could have this machine connect to any other.
    api, rules:
        Discord's base address and where it may lead; for a server of one's own.
    """

    digests = True

    def __init__(
        self,
        kind: Messenger,
        *,
        vault: SecretVault | None = None,
        address: str | None = None,
        own_servers: bool = False,
        timeout: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
        name: str | None = None,
        api: str = API,
        rules: TargetRules | None = None,
    ) -> None:
        self.name = name or kind
        self._kind, self._vault, self._own_servers, self._timeout = kind, vault, own_servers, timeout
        self._limiter = Limiter(monotonic)
        self._discord: dict[str, Any] = {"api": api, "rules": rules}
        self._default = None if address is None else self.parse(address, own_server=own_servers)

    def parse(self, address: str, *, own_server: bool = False) -> TelegramAddress | SlackAddress | DiscordAddress:
        """Read the address of one chat, as it is checked when an endpoint is created.

        Raises
        ------
        ConfigurationError
            It is of another messenger, of several chats, or names a server of one's own where none is permitted.
        """
        if self._kind == "discord":
            return parse_discord(address)
        found = parse_address(address)
        wanted = TelegramAddress if self._kind == "telegram" else SlackAddress
        if len(found) != 1 or not isinstance(found[0], wanted):
            raise ConfigurationError(f"an address of {self._kind} must be of one {self._kind} chat")
        only = found[0]
        if not own_server and only.api not in (TELEGRAM_API, *_SLACK_APIS):
            raise ConfigurationError(f"an address of {self._kind} names a server of its own, which is not permitted")
        return only

    def admit(self, endpoint: Endpoint | None) -> float:
        """See :class:`tapeline.alerts.delivery.channel.Channel`."""
        try:
            return self._limiter.admit([*self._keys(self._address(endpoint)), *endpoint_keys(endpoint)])
        except ConfigurationError:
            return 0.0  # send() says what is wrong with it

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """One message of one delivery, or a digest of several."""
        try:
            address = self._address(endpoint)
        except UnreadableSecretError as error:
            return Answer("refused", detail=error.message, disable=error.message)
        except ConfigurationError as error:
            return Answer("refused", detail=str(error))
        notification = message_of(deliveries)
        if isinstance(address, DiscordAddress):
            answer, rest, everywhere = send_discord(address, notification, timeout=self._timeout, **self._discord)
            if rest:
                self._limiter.pause([_DISCORD] if everywhere else self._keys(address)[:1], rest)
            return answer
        channel: Channel
        if isinstance(address, TelegramAddress):
            channel = TelegramChannel(address, self._timeout)
        else:
            channel = SlackChannel(address, self._timeout)
        answer = answer_of(channel.send(notification))
        if answer.outcome == "throttled":
            self._limiter.pause(self._keys(address)[:1], answer.retry_after or 0.0)
        return answer

    def _address(self, endpoint: Endpoint | None) -> TelegramAddress | SlackAddress | DiscordAddress:
        if endpoint is None:
            if self._default is None:
                raise ConfigurationError("the delivery names no endpoint, and the channel has no address of its own")
            return self._default
        text = endpoint.address if self._vault is None else self._vault.open_text(endpoint.address, endpoint.id)
        return self.parse(text, own_server=self._own_servers and endpoint.settings.get("operator") is True)

    def _keys(self, address: TelegramAddress | SlackAddress | DiscordAddress) -> Keys:
        """The buckets that a message must pass, its own first."""
        if isinstance(address, TelegramAddress):
            bot = address.token.partition(":")[0]
            chat = f"telegram/{bot}/{address.chat_id}"
            keys = [(chat, TELEGRAM_CHAT), (f"telegram/{bot}", TELEGRAM_BOT)]
            # A group has a negative id; a channel, whose id is a name, is held to the same.
            group = not address.chat_id.lstrip().isdecimal()
            return [*keys, (f"{chat}/group", TELEGRAM_GROUP)] if group else keys
        if isinstance(address, SlackAddress):
            return [(address.name, SLACK_WEBHOOK)]
        return [(f"discord/{address.id}", DISCORD_WEBHOOK), _DISCORD]

    def __repr__(self) -> str:
        return f"MessengerChannel({self._kind})"


def message_of(deliveries: Sequence[Delivery]) -> Notification:
    """The message of one delivery, or the digest of several."""
    if len(deliveries) == 1:
        return notification_of(deliveries[0].body)
    return digest([each.body for each in deliveries])


def answer_of(sent: Sent) -> Answer:
    """What a channel of :mod:`tapeline.monitoring` answered, as an outcome of ours."""
    return Answer(_OUTCOMES.get(sent.outcome, "retry"), detail=sent.detail, retry_after=sent.retry_after)
