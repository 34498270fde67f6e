"""Endpoints as people manage them: registered, changed, rotated, switched on and off, tested, and looked after."""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tapeline.alerts.delivery.endpoint_secrets import only_newest, only_valid, rotated, valid_secrets
from tapeline.alerts.delivery.manager import switched_off
from tapeline.alerts.delivery.messages import service_event
from tapeline.alerts.delivery.secret_vault import SecretVault
from tapeline.alerts.delivery.signing import new_secret, secret_bytes
from tapeline.alerts.endpoint_book import AddressedChannel, EndpointBook, is_operators
from tapeline.alerts.endpoint_notices import BY_OWNER, EndpointNotices
from tapeline.alerts.endpoint_settings import checked_settings
from tapeline.alerts.limits.limiter import Limiter, Rate
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.records import Delivery, Outcome
from tapeline.alerts.store.store import Endpoint, RevisionConflictError, UnknownRecordError
from tapeline.core.errors import ConfigurationError, DataError, ThrottledError
from tapeline.core.nanoseconds import SECOND

if TYPE_CHECKING:
    from tapeline.alerts.store.sql_store import SqlStore

GRACE_SECONDS: Final = 86_400.0
LONGEST_GRACE: Final = 30 * 86_400.0
TESTS: Final = Rate(6, 60.0, burst=2)
"""How often one endpoint may be tested."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An endpoint and its new secret, which is shown this once and never again; None where its kind signs nothing."""

    endpoint: Endpoint
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of a test event: how it ended, the HTTP status (0: none), why in one line, and seconds it took."""

    __test__ = False

    outcome: Outcome
    status: int
    detail: str
    seconds: float


class WebhookManager(EndpointBook):
    """Endpoints of every kind that a user may have: webhooks, chats, mail, text messages.

    Addresses and secrets are sealed before they are kept. Where an address leads is asked by the channel itself, when
    it is registered, changed, switched on and tested, and again at each try: one function for all of them. Each method
    that changes something is one transaction, so that a quota and a row of the audit log can go with it.

    Parameters
    ----------
    store, vault:
        Where endpoints are kept, and what seals their addresses and secrets.
    channels:
        By kind.
    grace:
        Seconds for which requests carry signatures by the old secret too, after a rotation.
    notices:
        Tells of what was switched off; see :meth:`upkeep`.
    limiter:
        Counts test events.
    clock:
        Nanoseconds since 1970.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.alerts.delivery.messengers import MessengerChannel
    >>> from tapeline.alerts.delivery.secret_vault import new_key
    >>> from tapeline.alerts.store.opening import open_store
    >>> folder = tempfile.TemporaryDirectory()
    >>> store, vault = open_store(folder.name + "/alerts.db"), SecretVault([new_key()])
    >>> manager = WebhookManager(store, vault, {"telegram": MessengerChannel("telegram", vault=vault)})
    >>> made = manager.register("ann", "telegram", "tgram://123456:abcdefghijkl/77", name="phone")
    >>> manager.shown(made.endpoint)
    'chat 77'
    >>> manager.register("ann", "telegram", "tgram://123456:abcdefghijkl/77?api=http://127.0.0.1:8081", name="phone")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: an address of telegram names a server of its own, which is not permitted
    >>> store.close(); folder.cleanup()
    """

    def __init__(
        self,
        store: SqlStore,
        vault: SecretVault,
        channels: Mapping[str, AddressedChannel],
        *,
        grace: float = GRACE_SECONDS,
        notices: EndpointNotices | None = None,
        limiter: Limiter | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(store, vault, channels, clock=clock)
        self._grace = grace
        self._notices = notices or EndpointNotices(store)
        self._limiter = limiter or LocalLimiter()

    # -- what changes

    def register(
        self,
        owner: str,
        kind: str,
        address: str,
        *,
        name: str,
        id: str | None = None,
        secret: str | None = None,
        per_minute: int | None = None,
        lifetime: float = 0.0,
        operator: bool = False,
    ) -> Registered:
        """A new endpoint, and its secret where requests to it are signed.

        Parameters
        ----------
        kind, address:
            Which channel, and where it sends to.
        name:
            What rules call it; several endpoints of an owner may share one, and each of them is told.
        id:
            A random one where it is absent.
        secret:
            The one to sign with; a random one where it is absent.
        per_minute:
            Messages that it takes a minute; what is more waits.
        lifetime:
            Seconds after which a delivery is worthless; 0: never.
        operator:
            Whether it is one of the settings, whose address may name a server of one's own.

        Raises
        ------
        ConfigurationError
            There is one of this id, there is no such kind, the address may not be delivered to, or its name does not
            resolve now.
        """
        id = id or "ep_" + randomness.token_hex(12)
        self._check(kind, address, operator=operator)
        settings = checked_settings(name=name, per_minute=per_minute, lifetime=lifetime)
        if operator:
            settings["operator"] = True
        else:
            self.check_name(owner, name, kind)
        if not self._signs(kind) and secret is not None:
            raise ConfigurationError(f"an endpoint of {kind} has no secret", hint="only webhooks are signed")
        if self._signs(kind):
            secret = secret or new_secret()
            secret_bytes(secret)
        if self._store.endpoint(id) is not None:
            raise ConfigurationError(f"the endpoint {id!r} exists already", hint="change it, or choose another id")
        now = self._clock()
        endpoint = Endpoint(
            id=id,
            owner=owner,
            channel=kind,
            address=self._vault.seal_text(address, id),
            secrets=(self._vault.seal(secret, id),) if secret is not None else (),
            settings=settings,
            created_at=now,
            changed_at=now,
        )
        self._store.save_endpoint(endpoint)
        return Registered(endpoint, secret)

    def change(
        self,
        id: str,
        *,
        revision: int | None = None,
        address: str | None = None,
        name: str | None = None,
        per_minute: int | None = None,
        lifetime: float | None = None,
    ) -> Endpoint:
        """Change what is given; ``per_minute`` 0 takes the limit away.

        Raises
        ------
        RevisionConflictError
            Another revision than ``revision`` stands.
        ConfigurationError
            The new address may not be delivered to.
        """
        standing = self.known(id)
        if name is not None and name != standing.settings.get("name"):
            self.check_name(standing.owner, name, standing.channel)
        if address is not None:
            self._check(standing.channel, address, operator=is_operators(standing))
        new = checked_settings(name=name, per_minute=per_minute, lifetime=lifetime)
        sealed = None if address is None else self._vault.seal_text(address, id)

        def changed(endpoint: Endpoint) -> Endpoint:
            return replace(endpoint, address=sealed or endpoint.address, settings={**endpoint.settings, **new})

        return self._changed(id, revision, changed)

    def adopt(self, id: str, *, address: str, name: str, lifetime: float, enable: bool) -> Endpoint:
        """Let an endpoint be as the settings have it, and switch it on where ``enable``."""
        self._check(self.known(id).channel, address, operator=True)
        new = {**checked_settings(name=name, lifetime=lifetime), "operator": True}
        sealed = self._vault.seal_text(address, id)

        def changed(endpoint: Endpoint) -> Endpoint:
            kept = replace(endpoint, address=sealed, settings={**endpoint.settings, **new})
            return replace(kept, enabled=True, reason="", failures=0, failing_since=0) if enable else kept

        return self._changed(id, None, changed)

    def rotate(
        self, id: str, *, revision: int | None = None, secret: str | None = None, grace: float | None = None
    ) -> Registered:
        """A new secret; requests carry signatures by the old one too until the grace has passed.

        Parameters
        ----------
        grace:
            Seconds; 0 where the old secret is known to others.
        """
        if not self._signs(self.known(id).channel):
            raise ConfigurationError("only webhooks have a secret", hint="change the address instead")
        grace = self._grace if grace is None else grace
        if not 0 <= grace <= LONGEST_GRACE:
            raise DataError(f"a grace of {grace:g} s is not between 0 and {LONGEST_GRACE:g}")
        secret = secret or new_secret()
        secret_bytes(secret)
        sealed = self._vault.seal(secret, id)

        def changed(endpoint: Endpoint) -> Endpoint:
            now = self._clock()
            until = now + int(grace * SECOND)
            return rotated(endpoint, sealed, now=now, until=until, readable=lambda one: self._readable(one, id))

        return Registered(self._changed(id, revision, changed), secret)

    def retire(self, id: str, *, revision: int | None = None) -> Endpoint:
        """End a rotation: only the newest secret stays."""
        return self._changed(id, revision, only_newest)

    def enable(self, id: str, *, revision: int | None = None) -> Endpoint:
        """Switch an endpoint on, its count of failures begun anew; where it leads is asked once more.

        Raises
        ------
        UnreadableSecretError
            Its address or its secret cannot be decrypted: change or rotate it first.
        """
        standing = self.known(id)
        self._check(standing.channel, self._vault.open_text(standing.address, id), operator=is_operators(standing))
        for secret in standing.secrets[:1]:
            self._vault.open(secret, id)

        def changed(endpoint: Endpoint) -> Endpoint:
            if endpoint.address != standing.address:
                raise RevisionConflictError(f"the address of {id!r} was changed meanwhile")
            return replace(endpoint, enabled=True, reason="", failures=0, failing_since=0)

        return self._changed(id, revision, changed)

    def disable(self, id: str, *, revision: int | None = None, reason: str = BY_OWNER) -> Endpoint:
        """Switch an endpoint off; what is for it becomes dead letters."""

        def changed(endpoint: Endpoint) -> Endpoint:
            _match(endpoint, revision)
            return switched_off(endpoint, reason, self._clock()) if endpoint.enabled else endpoint

        return self._store.change_endpoint(id, changed)

    def remove(self, id: str) -> None:
        """Remove an endpoint; what is for it becomes dead letters.

        Raises
        ------
        UnknownRecordError
            There is none.
        """
        if not self._store.delete_endpoint(id):
            raise UnknownRecordError(f"there is no endpoint {id!r}")

    # -- what is tried

    def test(self, id: str) -> TestResult:
        """Send a test event now, the way every delivery goes; its health is not touched by what becomes of it.

        Raises
        ------
        ThrottledError
            It was tested a moment ago.
        """
        endpoint = self.known(id)
        channel = self._channels.get(endpoint.channel)
        if channel is None:
            raise ConfigurationError(f"there is no channel {endpoint.channel} here")
        verdict = self._limiter.take(f"endpoint-test:{id}", TESTS)
        if not verdict.allowed:
            raise ThrottledError("it was tested a moment ago", retry_after=verdict.retry_after)
        now = self._clock()
        event = "test_" + randomness.token_hex(13)
        text = "If you read this, alerts reach you here."
        body = service_event("test", event, at=now, owner=endpoint.owner, title="A test of this channel", text=text)
        wait = channel.admit(endpoint)
        if wait > 0:
            raise ThrottledError("its own limit leaves no room for a test now", retry_after=wait)
        begun = time.monotonic()
        delivery = Delivery(event, event, endpoint.channel, endpoint.id, body, now)
        answer = channel.send([delivery], endpoint, now=now)
        return TestResult(answer.outcome, answer.status, answer.detail, time.monotonic() - begun)

    # -- what is done without anybody asking

    def upkeep(self) -> tuple[int, int]:
        """End rotations whose grace has passed, and tell what was switched off and not told.

        Returns
        -------
        tuple of int
            Endpoints whose old secrets were taken away, and notices that a crash had left out.
        """
        now, retired = self._clock(), 0
        for endpoint in self._store.endpoints():
            if valid_secrets(endpoint, now) != endpoint.secrets:
                # No revision of its own: what its owner has read of it stays true.
                self._store.change_endpoint(endpoint.id, lambda one: only_valid(one, now))
                retired += 1
        return retired, self._notices.catch_up(now=now)

    def _changed(self, id: str, revision: int | None, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        def changed(endpoint: Endpoint) -> Endpoint:
            _match(endpoint, revision)
            new = change(endpoint)
            settings = {**new.settings, "revision": endpoint.revision + 1}
            # Never the instant of the change before, however coarse the clock.
            return replace(new, settings=settings, changed_at=max(self._clock(), endpoint.changed_at + 1))

        return self._store.change_endpoint(id, changed)

    def __repr__(self) -> str:
        return f"WebhookManager({', '.join(self.kinds)})"


def _match(endpoint: Endpoint, revision: int | None) -> None:
    if revision is not None and endpoint.revision != revision:
        raise RevisionConflictError(f"the endpoint {endpoint.id!r} is at revision {endpoint.revision}")
