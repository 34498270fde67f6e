"""The notification manager: takes what waits in the outbox, sends it, and writes down how each try ended."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from tapeline.alerts.delivery.channel import Answer, Channel
from tapeline.alerts.delivery.grouping import Grouping, messages
from tapeline.alerts.delivery.retry import FAILING_FOR, SCHEDULE, delay, throttled_delay
from tapeline.alerts.records import Attempt, Delivery
from tapeline.alerts.rule import PRIORITIES
from tapeline.alerts.store.store import Claim, Endpoint, Store
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.nanoseconds import SECOND
from tapeline.monitoring.notification import Notification, Severity

BATCH: Final = 200
LEASE: Final = 120 * SECOND
"""Longer than any try: who holds a claim for so long without a word is dead, and another may send it."""
MARGIN: Final = 60 * SECOND
BUSY: Final = SECOND
"""How long what waits behind a try that is under way is left alone."""
LONGEST_REST: Final = 60 * SECOND
"""How long, after a failure, the same endpoint's other deliveries are spared at most."""
MOST_ENDPOINTS: Final = 20_000

_log = logging.getLogger(__name__)


class NotificationManager:
    """Delivers the outbox: one worker a channel, one try at a time an endpoint, several endpoints at once.

    A try is written down before the request leaves and settled after the answer. If the process dies between the two,
    the claim's lease runs out and the delivery goes out again, with the same id and the same body: at least once.

    Parameters
    ----------
    store:
        The outbox.
    channels:
        By whose names the deliveries are claimed.
    clock:
        Nanoseconds since 1970; injected in tests.
    notice:
        Told that an endpoint was switched off, once each time it is: for instance
        :class:`~tapeline.alerts.endpoint_notices.EndpointNotices`. What it raises is logged.
    grouping:
        When several deliveries become one message.
    batch, lease:
        How many deliveries are claimed at once, and for how many nanoseconds.
    threads:
        Endpoints of one channel that are sent to at the same time.
    refused:
        Says why nothing is sent to an endpoint now, such as that its owner's account is disabled; "" where it may be.
        What is due for it becomes a dead letter, which can be sent again.
    poll_seconds:
        How often the outbox is looked at where nobody calls :meth:`wake`.
    """

    def __init__(
        self,
        store: Store,
        channels: Iterable[Channel],
        *,
        clock: Callable[[], int] = time.time_ns,
        notice: Callable[[Endpoint, Notification], object] | None = None,
        refused: Callable[[Endpoint], str] = lambda endpoint: "",
        grouping: Grouping | None = None,
        batch: int = BATCH,
        lease: int = LEASE,
        threads: int = 8,
        poll_seconds: float = 0.5,
    ) -> None:
        if lease <= 0 or batch <= 0 or threads <= 0:
            raise ConfigurationError(f"batch = {batch}, lease = {lease} and threads = {threads} must be above 0")
        self._store, self._clock, self._notice, self._refused = store, clock, notice, refused
        self._channels = {channel.name: channel for channel in channels}
        self._grouping = grouping or Grouping()
        self._batch, self._lease, self._threads, self._poll = batch, lease, threads, poll_seconds
        self._told: OrderedDict[str, int] = OrderedDict()
        self._busy: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._bells = {name: threading.Event() for name in self._channels}
        self._workers: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to deliver, in threads of its own.

        Raises
        ------
        ConfigurationError
            It has begun already.
        """
        if self._workers:
            raise ConfigurationError("the notification manager was started before")
        self._stopping.clear()
        for name in self._channels:
            worker = threading.Thread(target=self._run, args=(name,), name=f"tapeline-deliver-{name}", daemon=True)
            self._workers.append(worker)
            worker.start()

    def wake(self) -> None:
        """Look into the outbox now: something was written."""
        for bell in self._bells.values():
            bell.set()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the tries that are under way end, give back what was claimed, and stop.

        Returns
        -------
        bool
            Whether all ended within ``timeout`` seconds. What did not goes out again when its lease has run out.
        """
        self._stopping.set()
        self.wake()
        until = time.monotonic() + timeout
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0.0))
        ended = not any(worker.is_alive() for worker in self._workers)
        if ended:
            self._workers = []
        return ended

    def step(self, channel: str) -> int:
        """One round of one channel, in the caller's thread; how many deliveries it claimed.

        Examples
        --------
        >>> import tempfile
        >>> from tapeline.alerts.store.opening import open_store
        >>> from tapeline.alerts.delivery.messengers import MessengerChannel
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = open_store(folder + "/alerts.db")
        ...     NotificationManager(store, [MessengerChannel("telegram")]).step("telegram")
        ...     store.close()
        0
        """
        return self._round(self._channels[channel], None)

    def _run(self, name: str) -> None:
        channel, bell = self._channels[name], self._bells[name]
        with ThreadPoolExecutor(self._threads, thread_name_prefix=f"tapeline-{name}") as pool:
            while not self._stopping.is_set():
                bell.clear()
                try:
                    claimed = self._round(channel, pool)
                except Exception as error:  # noqa: BLE001 - a lost database must not end the worker
                    _log.warning("deliveries of %s cannot be claimed: %s", name, _said(error))
                    claimed = 0
                if claimed < self._batch:
                    bell.wait(self._poll)

    def _round(self, channel: Channel, pool: Executor | None) -> int:
        now = self._clock()
        claims = self._store.claim(channel.name, limit=self._batch, lease=self._lease, now=now)
        lanes: dict[str, list[Claim]] = {}
        # The most urgent first; among equals the oldest, as they were claimed.
        for claim in sorted(claims, key=lambda each: _rank(each.delivery)):
            lanes.setdefault(claim.delivery.endpoint, []).append(claim)
        waiting: list[Claim] = []
        for endpoint, lane in lanes.items():
            key = (channel.name, endpoint)
            with self._lock:
                free = key not in self._busy
                if free:
                    self._busy.add(key)
            if not free:
                waiting += lane
            elif pool is None:
                self._lane(channel, endpoint, lane)
            else:
                pool.submit(self._lane, channel, endpoint, lane)
        if waiting:
            self._store.release(waiting, not_before=now + BUSY)
        return len(claims)

    def _lane(self, channel: Channel, id: str, claims: list[Claim]) -> None:
        try:
            self._deliver_all(channel, id, claims)
        except Exception as error:  # noqa: BLE001 - what is not settled goes out again when its lease has run out
            _log.warning("deliveries of %s to %s were left: %s", channel.name, id or "its own", _said(error))
        finally:
            with self._lock:
                self._busy.discard((channel.name, id))
            if any(claim.delivery.order for claim in claims):
                # What comes after it in its order could not be claimed before, and is not to wait for the next look.
                self._bells[channel.name].set()

    def _deliver_all(self, channel: Channel, id: str, claims: list[Claim]) -> None:
        endpoint = self._store.endpoint(id) if id else None
        problem = _unusable(channel, id, endpoint) or (self._refused(endpoint) if endpoint is not None else "")
        if problem:
            self._give_up(claims, problem)
            return
        if channel.digests:
            ready, later = messages(claims, self._grouping, self._told, self._clock())
            for until, held in later:
                self._store.release(held, not_before=until)
        else:
            ready = [[claim] for claim in claims]
        for position, message in enumerate(ready):
            rest = self._clock() if self._stopping.is_set() else self._deliver(channel, endpoint, message)
            if rest:
                # Also the message itself, where its place in the limits was not free; what was settled is no claim.
                self._store.release([c for each in ready[position:] for c in each], not_before=rest)
                return

    def _deliver(self, channel: Channel, endpoint: Endpoint | None, message: Sequence[Claim]) -> int:
        """Try one message; 0 to go on with the next, else until when this endpoint is to be left alone."""
        now = self._clock()
        worthless = [claim for claim in message if 0 < claim.delivery.expires_at <= now]
        if worthless:
            self._store.release(worthless)
            self._store.expire(now=now)
        live = [claim for claim in message if claim not in worthless]
        if live and min(claim.lease_until for claim in live) - now < min(MARGIN, self._lease // 2):
            live = list(self._store.extend(live, lease=self._lease, now=now))
        if not live:
            return 0
        wait = channel.admit(endpoint)
        if wait > 0:
            return now + int(wait * SECOND) + 1
        begun = {attempt.delivery: attempt for attempt in self._store.begin_attempts(live, now=now)}
        deliveries = [claim.delivery for claim in live if claim.delivery.id in begun]
        if not deliveries:
            return 0  # another process holds them by now
        answer = self._send(channel, deliveries, endpoint, now)
        ended = self._clock()
        settled = [self._settled(begun[each.id], each, answer, ended) for each in deliveries]
        self._store.settle(*settled)
        group = deliveries[0].group
        if group and answer.outcome == "sent" and channel.digests:
            self._remember(group, ended)
        if endpoint is not None and self._judge(endpoint, answer, ended):
            return ended  # the rest is given back; it is given up when the next round sees the endpoint switched off
        if answer.outcome in ("sent", "refused"):
            return 0
        return min(max(attempt.retry_at for attempt in settled) or ended, ended + LONGEST_REST)

    def _send(self, channel: Channel, deliveries: Sequence[Delivery], endpoint: Endpoint | None, now: int) -> Answer:
        try:
            return channel.send(deliveries, endpoint, now=now)
        except Exception as error:  # noqa: BLE001 - whatever a channel raises, the delivery keeps its attempt log
            _log.warning("the channel %s raised %s", channel.name, type(error).__name__)
            return Answer("retry", detail=f"the channel failed: {type(error).__name__}")

    def _settled(self, attempt: Attempt, delivery: Delivery, answer: Answer, ended: int) -> Attempt:
        return replace(
            attempt,
            ended_at=ended,
            outcome=answer.outcome,
            status=answer.status,
            detail=answer.detail,
            retry_at=self._retry_at(attempt, delivery, answer, ended),
        )

    def _retry_at(self, attempt: Attempt, delivery: Delivery, answer: Answer, ended: int) -> int:
        if answer.outcome in ("sent", "refused", "gone"):
            return 0
        known = self._store.attempts(delivery.id)[delivery.tried_before :]
        if answer.outcome == "throttled":
            # It was not the message's fault, so it counts no try; but what no one takes for days is given up as well.
            began = known[0].started_at if known else attempt.started_at
            return 0 if ended - began > sum(SCHEDULE) * SECOND else ended + throttled_delay(answer.retry_after)
        tries = sum(each.outcome != "throttled" for each in known) or 1
        wait = delay(delivery.id, tries, retry_after=answer.retry_after)
        return 0 if wait is None else ended + wait

    def _judge(self, endpoint: Endpoint, answer: Answer, at: int) -> bool:
        """Count the try towards the endpoint's health; whether that switched it off."""
        if answer.outcome == "throttled" or (answer.outcome == "sent" and not endpoint.failures):
            return False  # a healthy endpoint that took another one: nothing to write
        standing = self._store.endpoint_answered(endpoint.id, ok=answer.outcome == "sent", at=at)
        if standing is None or not standing.enabled:
            return True
        reason = answer.disable
        if not reason and standing.failing_since and at - standing.failing_since >= FAILING_FOR:
            reason = f"it failed {standing.failures} times in a row over 5 days; the last time: {answer.detail}"
        if reason:
            self._disable(standing, reason, at)
        return bool(reason)

    def _disable(self, endpoint: Endpoint, reason: str, at: int) -> None:
        found: list[Endpoint] = []

        def off(standing: Endpoint) -> Endpoint:
            # As it stands now: its owner may have changed it while it was tried, another worker switched it off.
            found[:] = [standing]
            return switched_off(standing, reason, at) if standing.enabled else standing

        endpoint = self._store.change_endpoint(endpoint.id, off)
        if not found[0].enabled:
            return
        _log.warning("the endpoint %s of %s was switched off: %s", endpoint.id, endpoint.channel, reason)
        if self._notice is None:
            return
        message = Notification(
            title=f"the endpoint {endpoint.id} of {endpoint.owner} was switched off",
            body=f"channel {endpoint.channel}: {reason}\nWhat is for it becomes a dead letter and can be sent again.",
            severity=Severity.ERROR,
            key=f"endpoint/{endpoint.id}/{at}",
            once=True,
        )
        try:
            self._notice(endpoint, message)
        except Exception as error:  # noqa: BLE001 - a notice that fails must not undo what it tells of
            _log.warning("the notice on the endpoint %s failed: %s", endpoint.id, _said(error))

    def _give_up(self, claims: Sequence[Claim], reason: str) -> None:
        now = self._clock()
        begun = self._store.begin_attempts(claims, now=now)
        self._store.settle(*(replace(each, ended_at=now, outcome="refused", detail=reason) for each in begun))

    def _remember(self, group: str, at: int) -> None:
        with self._lock:
            self._told[group] = at
            self._told.move_to_end(group)
            if len(self._told) > MOST_ENDPOINTS:
                self._told.popitem(last=False)

    def __repr__(self) -> str:
        return f"NotificationManager({', '.join(self._channels)})"


def _unusable(channel: Channel, id: str, endpoint: Endpoint | None) -> str:
    if not id:
        return ""
    if endpoint is None:
        return f"there is no endpoint {id!r}"
    if endpoint.channel != channel.name:
        return f"the endpoint {id!r} is one of the channel {endpoint.channel}"
    return "" if endpoint.enabled else f"the endpoint is switched off: {endpoint.reason}"


def switched_off(endpoint: Endpoint, reason: str, at: int) -> Endpoint:
    """An endpoint that is not delivered to any more, and why."""
    changed_at = max(at, endpoint.changed_at + 1)
    settings = {**endpoint.settings, "revision": endpoint.revision + 1, "switched_off_at": changed_at}
    return replace(endpoint, enabled=False, reason=reason, settings=settings, changed_at=changed_at)


def _rank(delivery: Delivery) -> int:
    known: Sequence[Any] = PRIORITIES
    return -known.index(delivery.priority) if delivery.priority in known else -1


def _said(error: Exception) -> str:
    # What another library raises may hold an address or a body; our own errors are written to be shown.
    return error.message if isinstance(error, TapelineError) else type(error).__name__
