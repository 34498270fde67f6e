"""The webhook channel: each delivery is one signed POST to its endpoint, checked again where it goes."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.pinned_http import post
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.signing import new_secret, secret_bytes, sign
from tapeline.alerts.delivery.ssrf import Resolve, TargetRules, check_target, resolve_host
from tapeline.alerts.records import Delivery
from tapeline.alerts.store.store import Endpoint, Store, UnknownRecordError
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.monitoring.channels import within
from tapeline.monitoring.redaction import Redactor, secret_parts

TIMEOUT: Final = 15.0
MOST_SECRETS: Final = 3
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
        name: str = "webhook",
    ) -> None:
        self.name = name
        self._vault = vault
        self._rules = rules or TargetRules()
        self._resolve = resolve
        self._timeout = timeout
        self._context = context

    def admit(self, endpoint: Endpoint | None) -> float:
        """0: a receiver says with 429 how fast it takes them."""
        return 0.0

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """Sign and post one delivery; ``webhook-id`` is the firing's id on every try."""
        if endpoint is None:
            return Answer("refused", detail="the delivery names no endpoint")
        (delivery,) = deliveries
        try:
            url = self._vault.open_text(endpoint.address, endpoint.id)
            secrets = [self._vault.open(each, endpoint.id) for each in endpoint.secrets]
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
            target = within(self._timeout, lambda: check_target(url, self._rules, self._resolve))
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
        except TimeoutError:
            return Answer("retry", detail="the host did not resolve in time")
        detail = f"HTTP {answer.status}: {redact(answer.excerpt)}".rstrip(": ")
        if 200 <= answer.status < 300:
            return Answer("sent", answer.status, detail)
        if answer.status == 410:
            return Answer("gone", 410, detail, disable="it answered 410 Gone")
        asked = answer.retry_after if answer.status in (429, 503) else None
        return Answer("retry", answer.status, detail, asked)

    def __repr__(self) -> str:
        return f"WebhookChannel({self.name})"


class WebhookEndpoints:
    """Registers, changes and rotates endpoints of a webhook channel; checks each address as delivery will.

    Parameters
    ----------
    store, vault:
        Where endpoints are kept, and what encrypts their addresses and secrets.
    rules, resolve:
        The same as the channel's.
    """

    def __init__(
        self,
        store: Store,
        vault: SecretVault,
        *,
        rules: TargetRules | None = None,
        resolve: Resolve = resolve_host,
        channel: str = "webhook",
    ) -> None:
        self._store, self._vault, self._channel = store, vault, channel
        self._rules, self._resolve = rules or TargetRules(), resolve

    def create(self, id: str, owner: str, url: str, *, now: int, secret: str | None = None) -> tuple[Endpoint, str]:
        """A new endpoint and its secret, which is shown this once and never again.

        Raises
        ------
        ConfigurationError
            There is one of this id, the address may not be delivered to, or the secret has another form.
        """
        if self._store.endpoint(id) is not None:
            raise ConfigurationError(f"the endpoint {id!r} exists already", hint="change it, or choose another id")
        check_target(url, self._rules, self._resolve)
        secret = secret or new_secret()
        secret_bytes(secret)
        endpoint = Endpoint(
            id=id,
            owner=owner,
            channel=self._channel,
            address=self._vault.seal_text(url, id),
            secrets=(self._vault.seal(secret, id),),
            created_at=now,
            changed_at=now,
        )
        self._store.save_endpoint(endpoint)
        return endpoint, secret

    def change_url(self, id: str, url: str, *, now: int) -> Endpoint:
        """Another address for an endpoint, checked as a new one is."""
        endpoint = self._known(id)
        check_target(url, self._rules, self._resolve)
        return self._save(replace(endpoint, address=self._vault.seal_text(url, id), changed_at=now))

    def rotate_secret(self, id: str, *, now: int, secret: str | None = None) -> tuple[Endpoint, str]:
        """A new secret beside the old: each request carries a signature by both until :meth:`retire_secrets`."""
        endpoint = self._known(id)
        secret = secret or new_secret()
        secret_bytes(secret)
        # An unreadable old secret is left out: it is what a rotation repairs.
        kept = tuple(each for each in endpoint.secrets if self._readable(each, id))[: MOST_SECRETS - 1]
        return self._save(replace(endpoint, secrets=(self._vault.seal(secret, id), *kept), changed_at=now)), secret

    def retire_secrets(self, id: str, *, now: int) -> Endpoint:
        """End a rotation: only the newest secret stays."""
        endpoint = self._known(id)
        return self._save(replace(endpoint, secrets=endpoint.secrets[:1], changed_at=now))

    def enable(self, id: str, *, now: int) -> Endpoint:
        """Switch an endpoint on again, its count of failures begun anew; its address is checked once more."""
        endpoint = self._known(id)
        check_target(self._vault.open_text(endpoint.address, id), self._rules, self._resolve)
        return self._save(replace(endpoint, enabled=True, reason="", failures=0, failing_since=0, changed_at=now))

    def _known(self, id: str) -> Endpoint:
        endpoint = self._store.endpoint(id)
        if endpoint is None or endpoint.channel != self._channel:
            raise UnknownRecordError(f"there is no endpoint {id!r} of the channel {self._channel}")
        return endpoint

    def _save(self, endpoint: Endpoint) -> Endpoint:
        self._store.save_endpoint(endpoint)
        return endpoint

    def _readable(self, sealed: bytes, id: str) -> bool:
        try:
            self._vault.open(sealed, id)
        except UnreadableSecretError:
            return False
        return True
