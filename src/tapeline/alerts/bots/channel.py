"""The channel of bots: a signal goes out while it is worth something, in its bot's order, and is never doubled."""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tapeline.alerts.bots.bot_http import BotHttp
from tapeline.alerts.bots.bot_settings import Dialect, read_settings
from tapeline.alerts.bots.dialects.dialect import Bot, BotDialect, Reply
from tapeline.alerts.bots.dialects.freqtrade import FreqtradeDialect
from tapeline.alerts.bots.dialects.generic import GenericDialect
from tapeline.alerts.bots.dialects.hummingbot import HummingbotDialect
from tapeline.alerts.bots.dialects.pull import PullDialect
from tapeline.alerts.bots.dialects.threecommas import ThreeCommasDialect
from tapeline.alerts.bots.signal import CHANNEL
from tapeline.alerts.bots.signal_book import AcknowledgementConflictError, SignalBook, StoredSignal
from tapeline.alerts.delivery.channel import Answer
from tapeline.alerts.delivery.pinned_http import UnansweredError
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError
from tapeline.alerts.delivery.ssrf import Resolve, TargetRules, resolve_host
from tapeline.alerts.records import Delivery, Outcome
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tapeline.core.nanoseconds import SECOND
from tapeline.monitoring.redaction import Redactor, secret_parts

TIMEOUT: Final = 5.0
"""Seconds for one request; a signal that expires earlier has less."""
INSISTING: Final = 10.0
"""Seconds for which one signal is tried again and again before it goes back into the outbox."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
CREDENTIALS: Final = "credentials"
_log: Final = logging.getLogger(__name__)


def bot_dialects() -> dict[Dialect, BotDialect]:
    """One of each kind of bot that there is."""
    return {
        "generic": GenericDialect(),
        "pull": PullDialect(),
        "freqtrade": FreqtradeDialect(),
        "hummingbot": HummingbotDialect(),
        "threecommas": ThreeCommasDialect(),
    }


class BotChannel:
    """Signals to trading bots.

    A signal that has expired is not sent, whatever the reason for the delay: the outbox records it as expired. A try
    that failed before anything left is repeated within the signal's life. One that may have arrived is repeated only
    where the bot recognises the repeat, or can be asked first.

    Parameters
    ----------
    book:
        Places and states of signals.
    vault:
        Decrypts addresses, secrets and credentials.
    rules, resolve, context:
        Where it may go, and which certificates are trusted.
    dialects:
        By name; all that there are where absent.
    clock, sleep:
        Nanoseconds since 1970, and a pause in seconds; injected in tests.
    """

    name = CHANNEL
    digests = False

    def __init__(
        self,
        book: SignalBook,
        vault: SecretVault,
        *,
        rules: TargetRules | None = None,
        resolve: Resolve = resolve_host,
        context: ssl.SSLContext | None = None,
        dialects: Mapping[Dialect, BotDialect] | None = None,
        clock: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._book, self._vault = book, vault
        self._rules, self._resolve, self._context = rules or TargetRules(), resolve, context
        self._dialects = dict(dialects or bot_dialects())
        self._clock, self._sleep = clock, sleep

    def admit(self, endpoint: Endpoint | None) -> float:
        """0: a signal cannot wait for a place."""
        return 0.0

    def send(self, deliveries: Sequence[Delivery], endpoint: Endpoint | None, *, now: int) -> Answer:
        """Send one signal, again and again while it is valid and may be repeated."""
        (delivery,) = deliveries
        if endpoint is None:
            return Answer("refused", detail="the delivery names no bot")
        found = self._book.of_delivery(delivery.id)
        if found is None:
            self._book.number()
            found = self._book.of_delivery(delivery.id)
        if found is None:
            return Answer("refused", detail="its body is no signal")
        if found.state == "rejected":
            return Answer("refused", detail=found.note)
        if found.state != "open":
            return Answer("sent", detail=f"it was {found.state} before")
        try:
            bot = open_bot(endpoint, self._vault)
            signal = found.signal
        except UnreadableSecretError as error:
            return Answer("refused", detail=error.message, disable=error.message)
        except (ConfigurationError, DataError) as error:
            return Answer("refused", detail=error.message)
        dialect = self._dialects[bot.settings.dialect]
        if signal.action == "hold" and bot.settings.dialect not in ("generic", "pull"):
            return Answer("sent", detail="nothing to do: hold")
        # Taken back from the dead letters with another expiry: that makes the signal no younger.
        when_stale: Outcome = "retry" if 0 < delivery.expires_at <= found.expires_at else "refused"
        return self._insist(_Sending(found, bot, endpoint, dialect, repeat=delivery.attempts > 0), when_stale)

    def _insist(self, sending: _Sending, when_stale: Outcome) -> Answer:
        found, begun = sending.found, self._clock()
        until = min(found.expires_at, begun + int(INSISTING * SECOND))
        pause, tries, last = FIRST_PAUSE, 0, Reply("retry", detail="")
        while True:
            now = self._clock()
            if now >= found.expires_at:
                # A retry after the delivery's expiry is recorded as expired by the outbox.
                return Answer(when_stale, last.status, f"stale, not sent; {last.detail}".rstrip("; "))
            tries += 1
            last = self._once(sending, now)
            if last.outcome != "retry":
                break
            wait = max(pause, min(last.retry_after or 0.0, 60.0))
            if self._clock() + int(wait * SECOND) >= until:
                break
            self._sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        counted = f"{last.detail} ({tries} tries)" if tries > 1 else last.detail
        self._write_down(found, last)
        if last.outcome == "gone":
            return Answer("gone", last.status, counted, disable="it answered 410 Gone")
        return Answer(last.outcome, last.status, counted, last.retry_after)

    def _once(self, sending: _Sending, now: int) -> Reply:
        found, bot, endpoint, dialect = sending.found, sending.bot, sending.endpoint, sending.dialect
        # Who recognises a repeat may get one that was none; for the others it is written down before anything leaves.
        repeat = sending.repeat if dialect.recognises else not self._book.begin(found.delivery, at=now)
        redact = Redactor([*bot.secrets, *bot.credentials.values()])
        try:
            url = self._vault.open_text(endpoint.address, endpoint.id)
            redact = Redactor([*secret_parts(url), *bot.secrets, *bot.credentials.values()])
            http = BotHttp(
                url,
                rules=self._rules,
                resolve=self._resolve,
                context=self._context,
                left=lambda: min(TIMEOUT, (found.expires_at - self._clock()) / SECOND),
                redact=redact,
            )
            reply = dialect.send(found.signal, found.body.encode(), bot, http, now=now, repeat=repeat)
        except UnansweredError as error:
            sending.repeat = True
            if dialect.recognises:
                return Reply("retry", detail=redact(error.message))
            return Reply("refused", detail=f"{redact(error.message)}: it may have arrived and is not sent again")
        except (ConfigurationError, TemporaryError) as error:
            reply = Reply("retry", detail=redact(error.message))
            taken = False
        else:
            # With these it says itself that it did not take it.
            taken = reply.status not in (429, 503)
        if reply.outcome == "retry":
            sending.repeat |= taken
            if not taken and not dialect.recognises and not repeat:
                self._book.take_back(found.delivery)
        return reply

    def _write_down(self, found: StoredSignal, reply: Reply) -> None:
        if reply.acknowledgement is None:
            return
        try:
            self._book.acknowledge(found.bot, found.id, reply.acknowledgement, at=self._clock())
        except AcknowledgementConflictError as error:
            # The bot said otherwise by itself meanwhile, and it knows better than its first answer.
            _log.info("%s", error.message)

    def __repr__(self) -> str:
        return f"BotChannel({', '.join(self._dialects)})"


@dataclass
class _Sending:
    """One signal while it is sent: ``repeat`` says whether an earlier try may have been acted on."""

    found: StoredSignal
    bot: Bot
    endpoint: Endpoint
    dialect: BotDialect
    repeat: bool


def open_bot(endpoint: Endpoint, vault: SecretVault) -> Bot:
    """A bot as its endpoint keeps it, its secrets decrypted.

    Raises
    ------
    UnreadableSecretError, ConfigurationError
        A secret cannot be decrypted; the settings are not a bot's.
    """
    settings = read_settings(endpoint.settings)
    opened = [vault.open(each, endpoint.id) for each in endpoint.secrets]
    if settings.dialect == "generic":
        return Bot(endpoint.id, settings, tuple(opened))
    credentials = json.loads(opened[0]) if opened else {}
    return Bot(endpoint.id, settings, credentials=credentials)
