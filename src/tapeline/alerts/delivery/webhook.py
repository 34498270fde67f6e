"""The webhook channel: each delivery is one signed POST to its endpoint, checked again where it goes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.endpoint_secrets import valid_secrets
from tapeline.alerts.delivery.limits import Limiter, endpoint_keys
from tapeline.alerts.delivery.pinned_http import post
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.signing import sign
from tapeline.alerts.delivery.ssrf import Resolve, Target, TargetRules, check_target, resolve_host
from tapeline.alerts.records import Delivery
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.monitoring.channels import within
from tapeline.monitoring.redaction import Redactor, secret_parts

TIMEOUT: Final = 15.0
LARGEST_BODY: Final = 256 * 1024


class WebhookChannel:
    """Signed webhooks.

    A status of 2xx is success; everything else is a failure that is tried again, a redirect too. 410 switches the
    endpoint off. A secret that cannot be decrypted switches it off as well: no later try could succeed.

    Parameters
    ----------
    vault:
        Decrypts addresses and secrets.
    rules, resolve:
        Where it may go, see :func:`tapeline.alerts.delivery.ssrf.check_target`.
    timeout:
        Seconds for one try, name and TLS included.
    context:
        Which certificates are trusted; those of the system by default.
    name:
        What deliveries call it.
    """

    digests = False

    def __init__(
        self,
        vault: SecretVault,
        *,
        rules: TargetRules | None = None,
        resolve: Resolve = resolve_host,
        timeout: float = TIMEOUT,
        context: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        name: str = "webhook",
    ) -> None:
        self.name = name
        self._vault = vault
        self._rules = rules or TargetRules()
        self._resolve = resolve
        self._timeout = timeout
        self._context = context
        self._limiter = Limiter(monotonic)

    def admit(self, endpoint: Endpoint | None) -> float:
        """What its owner set; beyond that a receiver says with 429 how fast it takes them."""
        return self._limiter.admit(endpoint_keys(endpoint))

    def parse(self, address: str) -> Target:
        """Check where an address leads: the one check, for whoever registers it and for each try.

        Raises
        ------
        ConfigurationError, TemporaryError
            See :func:`~tapeline.alerts.delivery.ssrf.check_target`.
        """
        try:
            return within(self._timeout, lambda: check_target(address, self._rules, self._resolve))
        except TimeoutError:
            raise TemporaryError("the host did not resolve in time") from None

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """Sign and post one delivery; ``webhook-id`` is the firing's id on every try."""
        if endpoint is None:
            return Answer("refused", detail="the delivery names no endpoint")
        (delivery,) = deliveries
        try:
            url = self._vault.open_text(endpoint.address, endpoint.id)
            secrets = [self._vault.open(each, endpoint.id) for each in valid_secrets(endpoint, now)]
            headers = sign(secrets, delivery.firing, now // 1_000_000_000, delivery.body.encode())
        except UnreadableSecretError as error:
            return Answer("refused", detail=error.message, disable=error.message)
        except ConfigurationError as error:
            return Answer("refused", detail=error.message, disable=error.message)
        except DataError as error:
            return Answer("refused", detail=error.message)
        if len(delivery.body.encode()) > LARGEST_BODY:
            return Answer("refused", detail=f"the body is larger than {LARGEST_BODY} bytes")
        redact = Redactor([*secret_parts(url), *secrets])
        try:
            target = self.parse(url)
            answer = post(
                target,
                delivery.body.encode(),
                {"Content-Type": "application/json", **headers},
                timeout=self._timeout,
                context=self._context,
            )
        except ConfigurationError as error:
            # A name may lead elsewhere for an hour and come back; the schedule decides how long that is hoped for.
            return Answer("retry", detail=redact(error.message))
        except TemporaryError as error:
            return Answer("retry", detail=redact(error.message))
        detail = f"HTTP {answer.status}: {redact(answer.excerpt)}".rstrip(": ")
        if 200 <= answer.status < 300:
            return Answer("sent", answer.status, detail)
        if answer.status == 410:
            return Answer("gone", 410, detail, disable="it answered 410 Gone")
        asked = answer.retry_after if answer.status in (429, 503) else None
        return Answer("retry", answer.status, detail, asked)

    def __repr__(self) -> str:
        return f"WebhookChannel({self.name})"
