"""The desk of bots in the engine: signals get their places, alerts that came in are taken, owners are told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from tapeline.alerts.bots.bot_settings import read_settings
from tapeline.alerts.bots.inbound_alert import RULE, VERSION, InboundAlert, read_alert
from tapeline.alerts.bots.inbound_queue import Ended, InboundQueue, QueuedAlert, check_alert
from tapeline.alerts.bots.inbound_tokens import InboundSettings, InboundSource
from tapeline.alerts.bots.signal import CHANNEL
from tapeline.alerts.bots.signal_book import SignalBook, StoredSignal
from tapeline.alerts.firing import Firing, dedupe_key
from tapeline.alerts.records import Commit, Delivery
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.companions import together_with
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.monitoring.notification import clean_text, shorten

EVERY: Final = 0.1
KEPT: Final = 30 * 86_400 * 1_000_000_000
"""Nanoseconds for which signals and alerts that came in are kept."""
_SWEEP: Final = 3_600.0
_LABEL: Final = 100
_log: Final = logging.getLogger(__name__)


class BotDesk:
    """What must happen for bots beside sending; one engine does it, and a second would do no harm.

    What it makes of an alert or of a missing acknowledgement is a firing under an id that follows from it, written
    together with the row that says so: made by two processes it is the same firing, which changes nothing.

    Parameters
    ----------
    store:
        The alert store.
    router:
        Who is told: the engine's own.
    wake:
        Called when something is to be delivered.
    clock:
        Nanoseconds since 1970.
    every:
        Seconds between two looks.
    """

    def __init__(
        self,
        store: SqlStore,
        router: Router,
        *,
        wake: Callable[[], object] = lambda: None,
        clock: Callable[[], int] = time.time_ns,
        every: float = EVERY,
    ) -> None:
        self._store, self._router, self._wake, self._clock, self._every = store, router, wake, clock, every
        self.book, self.queue = SignalBook(store.database), InboundQueue(store.database)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="tapeline-bots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End what is under way and stop."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(30.0)
            self._thread = None

    def step(self) -> int:
        """One look, in the caller's thread; how much there was to do."""
        count = self.take_alerts()
        if count:
            self._wake()
        return count + self.book.number() + self.tell_unacknowledged()

    def take_alerts(self) -> int:
        """Make firings of the alerts that wait; how many there were.

        All of them, that they were taken, and the places of their signals are one transaction.
        """
        waiting = self.queue.waiting()
        if waiting:
            try:
                self._take(waiting)
            except DataError:
                # One of them cannot be stored, and that is not to hold up the others.
                for queued in waiting:
                    try:
                        self._take([queued])
                    except DataError as error:
                        refused = Ended(queued.id, "refused", reason=error.message)
                        self._store.database.write(self.queue.finish(refused, at=self._clock()))
        return len(waiting)

    def _take(self, waiting: Sequence[QueuedAlert]) -> None:
        commits, ended = [], []
        for queued in waiting:
            try:
                firing, rule = inbound_firing(queued)
            except DataError as error:
                ended.append(Ended(queued.id, "refused", reason=error.message))
                continue
            settings = InboundSettings.model_validate_json(queued.settings)
            channels = settings.channels if settings.channels is not None else self._channels(queued.owner)
            commits.append(Commit((firing,), deliveries=self._router.deliveries(firing, rule, channels)))
            ended.append(Ended(queued.id, "taken", firing=firing.id))
        self._commit(commits, self.queue.finish(*ended, at=self._clock()))

    def _commit(self, commits: Sequence[Commit], finish: Callable[[Connection], None]) -> None:
        """Write firings with what they answer and the places of their signals: one flush of the disk for all."""
        database = self._store.database
        with together_with(database, finish), together_with(database, self.book.place_all):
            self._store.commit_all(commits)

    def tell_unacknowledged(self) -> int:
        """Tell owners, once, of signals that no bot acknowledged in time; how many there were."""
        now = self._clock()
        due = self.book.unacknowledged(now=now)
        if due:
            missing = [self._missing(found, now) for found in due]
            commits = [Commit((firing,), deliveries=deliveries) for firing, deliveries in missing]
            self._commit(commits, self.book.told(due, at=now))
            for found in due:
                _log.warning("the bot %s did not acknowledge the signal %s", found.bot, found.id)
            self._wake()
        return len(due)

    def sweep(self) -> int:
        """Forget what is older than a month; how many rows."""
        before = self._clock() - KEPT
        return self.book.remove_before(before) + self.queue.remove_before(before)

    def _run(self) -> None:
        swept = float("-inf")
        while not self._stopping.is_set():
            try:
                if time.monotonic() - swept > _SWEEP:
                    self.sweep()
                    swept = time.monotonic()
                busy = self.step()
            except TapelineError as error:
                _log.warning("the desk of bots is held up: %s", error)
                busy = 0
            if not busy:
                self._stopping.wait(self._every)

    def _missing(self, found: StoredSignal, now: int) -> tuple[Firing, tuple[Delivery, ...]]:
        signal = found.signal
        endpoint = self._store.endpoint(found.bot)
        name, notify = found.bot, tuple[str, ...]()
        if endpoint is not None:
            try:
                settings = read_settings(endpoint.settings)
                name, notify = settings.name, settings.notify
            except ConfigurationError:
                pass
        action = " ".join(part for part in (signal.action, signal.side) if part)
        rule = Rule(
            id=f"bot:{name}"[:64],
            owner=found.owner or "nobody",
            name=shorten(f"the bot {name} did not acknowledge: {action}", 200),
            condition="unacknowledged",
            symbols=(found.symbol,),
            channels=self._people(found.owner, notify),
            priority="high",
        )
        firing = Firing(
            dedupe_key=dedupe_key(f"bot:{found.bot}", found.id, found.symbol, "no_data", found.due_at),
            rule=rule.id,
            rule_version="1",
            owner=rule.owner,
            symbol=found.symbol,
            kind="firing",
            ts=found.due_at,
            detected_at=now,
            price=signal.price if signal.price is not None else float("nan"),
            priority=rule.priority,
            labels={"bot": found.bot[:_LABEL], "signal": found.id[:_LABEL], "rule": signal.rule},
        )
        return firing, self._router.deliveries(firing, rule)

    def _channels(self, owner: str) -> tuple[str, ...]:
        return tuple(sorted(name for who, name in self._router.routes if who == owner))

    def _people(self, owner: str, names: tuple[str, ...]) -> tuple[str, ...]:
        # A bot is not told that a bot is silent.
        routes = self._router.routes
        return tuple(name for name in names if (owner, name) in routes and routes[(owner, name)].kind != CHANNEL)


def inbound_firing(queued: QueuedAlert) -> tuple[Firing, Rule]:
    """What an alert that came in means: a firing of a rule ``tradingview:<source>``, silenced and routed as any other.

    The same alert gives the same firing.

    Raises
    ------
    DataError
        It cannot be read any more.
    """
    alert: InboundAlert = read_alert(queued.body.encode())
    settings = InboundSettings.model_validate_json(queued.settings)
    source = InboundSource(queued.owner, queued.source, settings)
    symbol = check_alert(source, alert, queued.received_at)
    words = " ".join(clean_text(alert.message or f"{alert.strategy} {alert.action or ''}").split())
    labels = {"source": queued.source, "strategy": alert.strategy}
    for name, value in (("action", alert.action), ("position", alert.position), ("order", alert.order_id)):
        if value:
            labels[name] = value[:_LABEL]
    rule = Rule(
        id=f"{RULE}{queued.source}"[:64],
        owner=queued.owner,
        name=shorten(words, 200) or alert.strategy,
        condition="inbound",
        symbols=(symbol,),
        priority=settings.priority,
        labels=labels,
        signal=alert.intent,
    )
    firing = Firing(
        dedupe_key=dedupe_key(rule.id, queued.id, symbol, "firing", alert.ts),
        rule=rule.id,
        rule_version=VERSION,
        owner=queued.owner,
        symbol=symbol,
        kind="firing",
        ts=alert.ts,
        detected_at=queued.received_at,
        price=alert.price if alert.price is not None else float("nan"),
        priority=rule.priority,
        labels=labels,
    )
    return firing, rule
