"""The notifier: says each thing once, not too often, to every channel, and loses nothing silently."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tapeline.core.settings import NotificationRoute, Settings
from tapeline.monitoring.channels import Channel, Delivery, Outcome, open_channels
from tapeline.monitoring.notification import Notification, Severity, digest_of, utc_text
from tapeline.monitoring.outbox import Claim, Incident, Outbox, Pending
from tapeline.monitoring.redaction import Redactor

STATE_FILE: Final = "notifications.sqlite"
LONGEST_WAIT_SECONDS: Final = 5.0
"""The longest wait that a 429 may ask for and be granted on the spot; a longer one defers the message."""
MAXIMUM_SENDS: Final = 20
"""Messages sent to one channel in one call; the rest waits for the next, so that a backlog never holds up a run."""
DELAYED_AFTER_SECONDS: Final = 60.0

_log: Final = logging.getLogger(__name__)


class Notifier:
    """Sends notifications to every channel of the settings.

    A notification first goes into the outbox of each channel, in a SQLite file that all processes share, and then from
    there to the service; what could not be sent stays, and goes out with the next call after the channel's pause.

    - *Deduplicated*: an equal key within ``notifications.deduplicate_seconds`` is counted, not sent; the next message
      of that key says how many there were. A notification marked ``once`` is never sent again.
    - *Routed*: a channel that ``notifications.routes`` names takes only what one of its routes takes.
    - *Rate-limited*: at most ``notifications.maximum_per_hour`` messages a channel within any 60 minutes, over all
      processes. What exceeds it is held and sent as one digest when the limit allows.
    - *Never in the way*: no method raises, whatever a channel, the disk or a lock does; the reason is logged and
      returned. Where the state file cannot be used, messages are sent without deduplication, except those marked
      ``once``, which are not sent.

    Delivery is at least once: an answer that is lost on its way makes a second message.

    Parameters
    ----------
    settings:
        ``settings.notifications`` says where to and how often; ``settings.state_path`` holds the state file.
    state_path:
        Another state file than ``<settings.state_path>/notifications.sqlite``.
    clock, sleep:
        Wall time in POSIX seconds, and how to wait; tests replace both.
    channels:
        Further channels beside those of the settings, such as Prefect's notification blocks.
    lock_seconds:
        How long to wait for another process's lock on the state file.

    Examples
    --------
    >>> from tapeline.core.settings import NotificationSettings, Settings
    >>> from tapeline.monitoring.notification import Severity
    >>> quiet = Settings(notifications=NotificationSettings(urls=()))
    >>> Notifier(quiet).notify(Notification("ingest failed", "no rows", Severity.ERROR, key="ingest"))
    []
    """

    def __init__(
        self,
        settings: Settings,
        state_path: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        channels: Iterable[Channel] = (),
        lock_seconds: float = 5.0,
    ) -> None:
        self._rules = settings.notifications
        self._redact = Redactor.of(settings)
        self._clock = clock
        self._sleep = sleep
        urls = [url.get_secret_value() for url in self._rules.urls]
        opened, self._problems = open_channels(urls, self._rules.timeout_seconds)
        self._channels = {channel.name: channel for channel in (*opened, *channels)}
        self._outbox = Outbox(
            state_path or settings.state_path / STATE_FILE,
            clock,
            lock_seconds=lock_seconds,
            # Two tries, the wait between them, and a margin for the lock.
            lease_seconds=2 * self._rules.timeout_seconds + LONGEST_WAIT_SECONDS + 2 * lock_seconds + 30,
        )
        self._spoken: dict[str, float] = {}

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels in use, by their names, which hold no secret."""
        return tuple(self._channels)

    def notify(self, notification: Notification) -> list[Delivery]:
        """Send a notification, and with it whatever still waits; one delivery a channel says what became of it.

        An address of the settings that could not be used is among them as ``refused``. Without any address the list
        is empty. Never raises.
        """
        try:
            deliveries = self._notify(notification) if self._channels else []
        except Exception as error:  # noqa: BLE001 - an alert must never fail the run that it reports
            deliveries = [Delivery("notifier", "failed", self._reason(error))]
        for delivery in (*self._problems, *deliveries):
            if delivery.outcome not in ("sent", "duplicate"):
                _log.warning("notification not sent: %s %s: %s", delivery.channel, delivery.outcome, delivery.detail)
        return [*deliveries, *self._problems]

    def flush(self) -> list[Delivery]:
        """Send what waits and may go by now; one delivery an attempt. Never raises."""
        deliveries: list[Delivery] = []
        try:
            for name in self._channels:
                deliveries += [delivery for _, delivery in self._drain(name)]
        except Exception as error:  # noqa: BLE001 - as in notify
            deliveries.append(Delivery("notifier", "failed", self._reason(error)))
            _log.warning("waiting notifications not sent: %s", deliveries[-1].detail)
        return deliveries

    def pending(self) -> Pending:
        """What waits, was held back, dropped or only counted. Never raises; ``problem`` says why it has no counts."""
        try:
            return self._outbox.pending()
        except (sqlite3.Error, OSError) as error:
            return Pending({}, {}, {}, problem=self._reason(error))

    def mark_told(self, key: str) -> None:
        """Remember a ``once`` key as told without sending anything: somebody else has told it. Never raises."""
        try:
            told = Notification("told", "", Severity.INFO, key=key, once=True)
            self._outbox.accept(told, (), self._rules.deduplicate_seconds)
        except (sqlite3.Error, OSError) as error:
            _log.warning("what was told could not be remembered: %s", self._reason(error))

    def failed(self, subject: str, reason: str) -> Incident | None:
        """Remember that ``subject`` (a flow, a feed) failed; None where it could not be remembered. Never raises."""
        try:
            return self._outbox.open_incident(subject, self._redact(reason))
        except (sqlite3.Error, OSError) as error:
            _log.warning("failure of %s not remembered: %s", subject, self._reason(error))
            return None

    def recovered(self, subject: str) -> Incident | None:
        """The failure from which ``subject`` has now recovered, told once; None where there was none. Never raises."""
        try:
            return self._outbox.close_incident(subject)
        except (sqlite3.Error, OSError) as error:
            _log.warning("recovery of %s not remembered: %s", subject, self._reason(error))
            return None

    def _notify(self, notification: Notification) -> list[Delivery]:
        chosen = [name for name in self._channels if takes(self._rules.routes, name, notification)]
        if not chosen:
            return []
        try:
            accepted = self._outbox.accept(notification, chosen, self._rules.deduplicate_seconds)
        except (sqlite3.Error, OSError) as error:
            return self._send_without_state(notification, chosen, self._reason(error))
        deliveries = []
        for name in chosen:
            try:
                done = dict(self._drain(name))
                if not accepted.rows:
                    text = "sent before" if notification.once else f"repeat {accepted.repeats} within the window"
                    deliveries.append(Delivery(name, "duplicate", text))
                else:
                    row = accepted.rows[name]
                    deliveries.append(done.get(row) or self._fate(name, row))
            except (sqlite3.Error, OSError) as error:
                # It stands in the outbox, or has been sent and not been crossed out: either way it is not lost.
                deliveries.append(Delivery(name, "failed", f"the state file: {self._reason(error)}"))
        return deliveries

    def _drain(self, name: str) -> list[tuple[int, Delivery]]:
        done: list[tuple[int, Delivery]] = []
        patience = LONGEST_WAIT_SECONDS
        started, budget = self._clock(), 3 * self._rules.timeout_seconds
        for _ in range(MAXIMUM_SENDS):
            claim = self._outbox.claim(name, self._rules.maximum_per_hour)
            if claim is None:
                break
            message = self._message(claim)
            delivery = self._send(name, message)
            wait = delivery.retry_after
            if delivery.outcome == "throttled" and wait is not None and wait <= patience:
                patience -= wait
                self._sleep(wait)
                delivery = self._send(name, message)
            done += [(waiting.row, delivery) for waiting in claim.messages]
            try:
                self._outbox.settle(claim, delivery)
            except (sqlite3.Error, OSError) as error:
                # The lease runs out by itself and the message goes out again: twice is better than never.
                _log.warning("the outcome of a notification could not be written down: %s", self._reason(error))
                break
            if delivery.outcome in ("failed", "throttled") or self._clock() - started > budget:
                break
        return done

    def _message(self, claim: Claim) -> Notification:
        first = claim.messages[0]
        if len(claim.messages) > 1:
            message = digest_of([m.notification for m in claim.messages], _instant(first.created_at))
        else:
            message = first.notification
            if self._clock() - first.created_at >= DELAYED_AFTER_SECONDS:
                message = message.with_notes(f"delayed: this is of {utc_text(_instant(first.created_at))}")
        if claim.dropped:
            message = message.with_notes(
                f"{claim.dropped} older notifications could not be sent in time and were dropped"
            )
        return message

    def _send(self, name: str, notification: Notification) -> Delivery:
        try:
            return self._channels[name].send(notification)
        except Exception as error:  # noqa: BLE001 - a channel from outside may raise anything
            return Delivery(name, "failed", self._reason(error))

    def _fate(self, name: str, row: int) -> Delivery:
        fate = self._outbox.fate(row)
        if fate.gone:
            return Delivery(name, "sent", "by another process")
        if fate.in_flight:
            return Delivery(name, "throttled", "another process is sending it")
        if fate.held:
            return Delivery(name, "throttled", f"{fate.reason}; it is kept for the digest")
        pause = fate.paused_until - self._clock()
        if pause > 0:
            outcome: Outcome = "failed" if fate.dead else "throttled"
            return Delivery(name, outcome, f"kept until the channel's pause ends: {fate.reason}", pause)
        if fate.attempts:
            return Delivery(name, "failed", f"kept: {fate.reason}")
        return Delivery(name, "throttled", "kept: older messages go first")

    def _send_without_state(self, notification: Notification, chosen: list[str], reason: str) -> list[Delivery]:
        now = self._clock()
        if notification.once:
            text = f"not sent, as it could not be told whether it was sent before: {reason}"
            return [Delivery(name, "failed", text) for name in chosen]
        spoken = self._spoken.get(notification.key)
        if spoken is not None and 0 <= now - spoken < self._rules.deduplicate_seconds:
            return [Delivery(name, "duplicate", f"this process has sent it; {reason}") for name in chosen]
        self._spoken[notification.key] = now
        _log.warning("the state file of the notifications cannot be used, sending without it: %s", reason)
        sent = [self._send(name, notification) for name in chosen]
        return [
            Delivery(d.channel, d.outcome, f"{d.detail} (without the state file: {reason})", d.retry_after)
            for d in sent
        ]

    def _reason(self, error: BaseException) -> str:
        return self._redact(f"{type(error).__name__}: {error}")


def takes(routes: Iterable[NotificationRoute], channel: str, notification: Notification) -> bool:
    """Whether a channel takes a notification: any of the routes that name it does, or no route names it.

    Examples
    --------
    >>> routes = [NotificationRoute(channel="telegram-*", minimum_severity="error", error_types=("Provider*",))]
    >>> note = Notification("late", "", Severity.CRITICAL, key="late", error_type="DataError")
    >>> takes(routes, "telegram-1a2b", note), takes(routes, "slack-1a2b", note)
    (False, True)
    """
    own = [route for route in routes if fnmatchcase(channel, route.channel)]
    return not own or any(
        notification.severity.rank >= Severity(route.minimum_severity).rank
        and (
            not route.error_types
            or any(fnmatchcase(notification.error_type or "", pattern) for pattern in route.error_types)
        )
        for route in own
    )


def _instant(posix_seconds: float) -> datetime:
    return datetime.fromtimestamp(posix_seconds, UTC)
