"""Registering bots: their address is checked as delivery will, their secrets are sealed and shown once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tapeline.alerts.bots.bot_settings import BotSettings, read_settings
from tapeline.alerts.bots.channel import bot_dialects, open_bot
from tapeline.alerts.bots.dialects.dialect import Bot
from tapeline.alerts.bots.signal import CHANNEL
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.signing import new_secret, secret_bytes
from tapeline.alerts.delivery.ssrf import Resolve, TargetRules, check_target, resolve_host
from tapeline.alerts.store.store import Endpoint, Store, UnknownRecordError
from tapeline.core.errors import ConfigurationError

MOST_SECRETS: Final = 3


class BotEndpoints:
    """The bots of users: endpoints of the channel ``bot``.

    Parameters
    ----------
    store, vault:
        Where they are kept, and what encrypts their addresses and secrets.
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
    ) -> None:
        self._store, self._vault = store, vault
        self._rules, self._resolve = rules or TargetRules(), resolve
        self._dialects = bot_dialects()

    def create(
        self,
        id: str,
        owner: str,
        settings: BotSettings,
        *,
        now: int,
        url: str = "",
        credentials: Mapping[str, str] | None = None,
        secret: str | None = None,
    ) -> tuple[Endpoint, str]:
        """A new bot, and the secret that signs its signals, which is shown this once; empty where none does.

        Raises
        ------
        ConfigurationError
            There is one of this id, the address may not be sent to, or its dialect lacks something.
        """
        if self._store.endpoint(id) is not None:
            raise ConfigurationError(f"the endpoint {id!r} exists already", hint="change it, or choose another id")
        shown = (secret or new_secret()) if settings.dialect == "generic" else ""
        sealed = self._checked(id, settings, url, credentials or {}, shown)
        endpoint = Endpoint(
            id=id,
            owner=owner,
            channel=CHANNEL,
            address=self._vault.seal_text(url, id),
            secrets=sealed,
            settings=plain_settings(settings),
            created_at=now,
            changed_at=now,
        )
        self._store.save_endpoint(endpoint)
        return endpoint, shown

    def change(
        self,
        id: str,
        *,
        now: int,
        settings: BotSettings | None = None,
        url: str | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> Endpoint:
        """Other settings, another address or other credentials; what is absent stays. All of it is checked anew."""
        endpoint = self.known(id)
        wanted = settings or read_settings(endpoint.settings)
        old = open_bot(endpoint, self._vault) if credentials is None or wanted.dialect == "generic" else None
        place = self._vault.open_text(endpoint.address, id) if url is None else url
        if wanted.dialect == "generic" and (old is None or not old.secrets):
            raise ConfigurationError("a bot that is not generic cannot become one", hint="register a new bot")
        held = credentials if credentials is not None else (old.credentials if old is not None else {})
        sealed = self._checked(id, wanted, place, held, old.secrets[0] if old is not None and old.secrets else "")
        return self._save(
            replace(
                endpoint,
                settings=plain_settings(wanted),
                address=self._vault.seal_text(place, id),
                secrets=endpoint.secrets if wanted.dialect == "generic" else sealed,
                changed_at=now,
            )
        )

    def rotate(self, id: str, *, now: int) -> tuple[Endpoint, str]:
        """A new secret beside the old of a generic bot: each signal carries a signature by both."""
        endpoint = self.known(id)
        if read_settings(endpoint.settings).dialect != "generic":
            raise ConfigurationError("only a generic bot has a secret of ours", hint="change its credentials")
        secret = new_secret()
        kept = tuple(each for each in endpoint.secrets if self._readable(each, id))[: MOST_SECRETS - 1]
        return self._save(replace(endpoint, secrets=(self._vault.seal(secret, id), *kept), changed_at=now)), secret

    def retire_secrets(self, id: str, *, now: int) -> Endpoint:
        """End a rotation: only the newest secret stays."""
        endpoint = self.known(id)
        return self._save(replace(endpoint, secrets=endpoint.secrets[:1], changed_at=now))

    def switch(self, id: str, enabled: bool, *, now: int) -> Endpoint:
        """Switch a bot off, or on again with its address checked once more."""
        endpoint = self.known(id)
        if not enabled:
            return self._save(replace(endpoint, enabled=False, reason="its owner switched it off", changed_at=now))
        url = self._vault.open_text(endpoint.address, id)
        if read_settings(endpoint.settings).dialect != "pull":
            check_target(url, self._rules, self._resolve)
        return self._save(replace(endpoint, enabled=True, reason="", failures=0, failing_since=0, changed_at=now))

    def known(self, id: str) -> Endpoint:
        """A bot's endpoint.

        Raises
        ------
        UnknownRecordError
            There is no bot of this id.
        """
        endpoint = self._store.endpoint(id)
        if endpoint is None or endpoint.channel != CHANNEL:
            raise UnknownRecordError(f"there is no bot {id!r}")
        return endpoint

    def _checked(
        self, id: str, settings: BotSettings, url: str, credentials: Mapping[str, str], secret: str
    ) -> tuple[bytes, ...]:
        if settings.dialect == "pull":
            if url or credentials:
                raise ConfigurationError("a bot that asks for its signals has no address and no credentials")
            return ()
        target = check_target(url, self._rules, self._resolve)
        if "?" in target.path and settings.dialect in ("freqtrade", "hummingbot"):
            raise ConfigurationError("the address of a bot's API holds a question mark", hint="https://host/")
        if settings.dialect == "generic":
            secret_bytes(secret)
            self._dialects["generic"].check(Bot(id, settings, (secret,)))
            return (self._vault.seal(secret, id),)
        self._dialects[settings.dialect].check(Bot(id, settings, credentials=credentials))
        return (self._vault.seal(json.dumps(dict(credentials)), id),)

    def _save(self, endpoint: Endpoint) -> Endpoint:
        self._store.save_endpoint(endpoint)
        return endpoint

    def _readable(self, sealed: bytes, id: str) -> bool:
        try:
            self._vault.open(sealed, id)
        except UnreadableSecretError:
            return False
        return True


def plain_settings(settings: BotSettings) -> dict[str, Any]:
    """Settings as an endpoint keeps them: JSON, without what is at its default."""
    return settings.model_dump(mode="json", exclude_defaults=True) | {"name": settings.name}
