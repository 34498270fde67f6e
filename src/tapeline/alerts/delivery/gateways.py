"""E-mail and text messages: the operator's gateway and a user's address at it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal
from urllib.parse import quote

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.dialects import sms_notification
from tapeline.alerts.delivery.limits import Limiter, Rate, endpoint_keys
from tapeline.alerts.delivery.messages import header_line
from tapeline.alerts.delivery.messengers import answer_of, message_of
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.records import Delivery
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.monitoring.addresses import AppriseAddress, parse_address
from tapeline.monitoring.channels import AppriseChannel

Gateway = Literal["email", "sms"]
GATEWAY: Final = Rate(1.0, burst=10)
RECIPIENT: Final = Rate(1 / 15, burst=4)
_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}")
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")


class GatewayChannel:
    """E-mail or text messages through a gateway of the operator; an endpoint's address is the recipient alone.

    A user never names the server that we connect to: the gateway is a setting, and he gives an e-mail address or a
    telephone number.

    Parameters
    ----------
    kind:
        ``email``, or ``sms``, which is cut to ``parts`` text messages.
    gateway:
        An apprise address with ``{to}`` where the recipient goes, such as
        ``mailtos://user:password@smtp.example.org?from=alerts@example.org&to={to}`` or
        ``twilio://<sid>:<token>@<from>/{to}``.
    recipient:
        Who gets deliveries without an endpoint; None: they are refused.
    gateway_rate, recipient_rate:
        How fast it may send, over all and to one recipient.

    Raises
    ------
    ConfigurationError
        The gateway has no ``{to}``, or apprise does not know it.
    """

    digests = True

    def __init__(
        self,
        kind: Gateway,
        gateway: str,
        *,
        vault: SecretVault | None = None,
        recipient: str | None = None,
        parts: int = 1,
        timeout: float = 15.0,
        gateway_rate: Rate = GATEWAY,
        recipient_rate: Rate = RECIPIENT,
        monotonic: Callable[[], float] = time.monotonic,
        name: str | None = None,
    ) -> None:
        if gateway.count("{to}") != 1:
            raise ConfigurationError(f"the gateway of {kind} must hold {{to}} once", hint="...&to={to}")
        self.name = name or kind
        self._kind, self._gateway, self._vault, self._parts, self._timeout = kind, gateway, vault, parts, timeout
        self._rates = (gateway_rate, recipient_rate)
        self._limiter = Limiter(monotonic)
        self._default = None if recipient is None else self.parse(recipient)
        self._open("nobody@example.org" if kind == "email" else "+15005550006")

    def parse(self, recipient: str) -> str:
        """Check a recipient: an e-mail address, or a telephone number such as +4930123456.

        Raises
        ------
        ConfigurationError
            It is none.
        """
        pattern = _MAIL if self._kind == "email" else _PHONE
        if not pattern.fullmatch(recipient) or ".." in recipient:
            what = "an e-mail address" if self._kind == "email" else "a telephone number such as +4930123456"
            raise ConfigurationError(f"a recipient is not {what}")
        return recipient

    def admit(self, endpoint: Endpoint | None) -> float:
        """See :class:`tapeline.alerts.delivery.channel.Channel`."""
        try:
            recipient = self._recipient(endpoint)
        except ConfigurationError:
            return 0.0  # send() says what is wrong with it
        keys = [("gateway", self._rates[0]), (f"to/{recipient}", self._rates[1]), *endpoint_keys(endpoint)]
        return self._limiter.admit(keys)

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """One message of one delivery, or a digest of several."""
        notification = message_of(deliveries)
        try:
            header_line(notification.title)
            channel = self._open(self._recipient(endpoint))
        except UnreadableSecretError as error:
            return Answer("refused", detail=error.message, disable=error.message)
        except (ConfigurationError, DataError) as error:
            return Answer("refused", detail=str(error))
        if self._kind == "sms":
            notification = sms_notification(notification, self._parts)
        return answer_of(channel.send(notification))

    def _recipient(self, endpoint: Endpoint | None) -> str:
        if endpoint is None:
            if self._default is None:
                raise ConfigurationError("the delivery names no endpoint, and the channel has no recipient of its own")
            return self._default
        text = endpoint.address if self._vault is None else self._vault.open_text(endpoint.address, endpoint.id)
        return self.parse(text)

    def _open(self, recipient: str) -> AppriseChannel:
        (address,) = parse_address(self._gateway.replace("{to}", quote(recipient, safe="@+")))
        if not isinstance(address, AppriseAddress):
            raise ConfigurationError(f"the gateway of {self._kind} is a messenger", hint="use MessengerChannel")
        return AppriseChannel(address, self._timeout)

    def __repr__(self) -> str:
        return f"GatewayChannel({self._kind})"
