"""A stream kept up: watched on the monotonic clock, opened again with back-off, without a trade told twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, TapelineError, TemporaryError, ThrottledError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, FeedLostError, Kind, OnAlert, ignore
from tapeline.streams.messages import Heartbeat, Record, Trade
from tapeline.streams.timing import Backoff, Timing
from tapeline.streams.venue_client import Connect

MAXIMUM_IDS: Final = 20_000
"""Trade ids remembered an instrument: more than any venue repeats after a new subscription."""


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is watched; seconds on the monotonic clock.

    Parameters
    ----------
    stale_after:
        A session silent for so long, also from its start, is ended and opened again; heartbeats are no silence. None
        where a quiet market is normal and the venue sends no heartbeat: then only the socket's own pings tell.
    watch_every:
        How often the watchdog looks.
    healthy_after:
        A session that lived so long resets the count of attempts.
    maximum_attempts:
        Failures in a row after which the stream gives up with an alert; None to try for ever.
    """

    stale_after: float | None = 60.0
    watch_every: float = 1.0
    healthy_after: float = 60.0
    maximum_attempts: int | None = None
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        if not self.watch_every > 0:
            raise ConfigurationError(f"watch_every = {self.watch_every} must be positive")
        if self.stale_after is not None and not self.stale_after > 0:
            raise ConfigurationError(f"stale_after = {self.stale_after} must be positive or None")


@dataclass
class StreamCounters:
    """What happened to a stream so far, for metrics."""

    opened: int = 0
    failed: int = 0
    stale: int = 0
    records: int = 0
    doubled: int = 0
    last_record_at: float | None = None


class RecentIds:
    """The latest trade ids of each instrument: says which trade was told before.

    Examples
    --------
    >>> seen = RecentIds(maximum=2)
    >>> symbol = Symbol.parse("BTC/USD")
    >>> [seen.is_new(Trade(symbol, 1, 5.0, 1.0, 1, number)) for number in ("7", "8", "7", "9", "7", "")]
    [True, True, False, True, True, True]
    """

    def __init__(self, *, maximum: int = MAXIMUM_IDS) -> None:
        self._maximum = maximum
        self._seen: defaultdict[Symbol, OrderedDict[str, None]] = defaultdict(OrderedDict)

    def is_new(self, trade: Trade) -> bool:
        """Note a trade; False where it was noted before. One without an id cannot be told from another."""
        if not trade.id:
            return True
        seen = self._seen[trade.symbol]
        if trade.id in seen:
            return False
        seen[trade.id] = None
        if len(seen) > self._maximum:
            seen.popitem(last=False)
        return True


class SupervisedStream:
    """One stream that is kept up until it is stopped.

    Parameters
    ----------
    name:
        What alerts call it.
    connect:
        Opens a session with everything subscribed.
    on_record:
        Takes each record and when it arrived (ns, our clock). Must not block; what it raises ends ``run``.
    on_break:
        Called with the reason when a session that had brought data was lost: what came meanwhile is missing.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        on_record: Callable[[Record, int], None],
        *,
        on_break: Callable[[str], None] | None = None,
        on_alert: OnAlert = ignore,
        options: StreamOptions | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.name, self.on_record, self.on_break, self.on_alert = name, on_record, on_break, on_alert
        self.options, self.timing = options or StreamOptions(), timing or Timing()
        self.counters = StreamCounters()
        self.connected = False
        self._connect = connect
        self._ids = RecentIds()
        self._stopping = asyncio.Event()
        self._alerted = False
        self._heard_at = 0.0

    def stop(self) -> None:
        """End the stream; ``run`` returns soon after."""
        self._stopping.set()

    async def run(self) -> None:
        """Keep the stream up until ``stop``.

        Raises
        ------
        FeedLostError
            ``maximum_attempts`` failed in a row, after the alert ``gave_up``.
        TapelineError
            The venue refused in a way that time does not heal, such as a wrong key; after the alert ``refused``.
        """
        attempt = 0
        stop = asyncio.create_task(self._stopping.wait())
        try:
            while not stop.done():
                started = self.timing.monotonic()
                error = await self._session(stop)
                if error is None:
                    return
                if not isinstance(error, TemporaryError):
                    self._alert("refused", str(error))
                    raise error
                lived = self.timing.monotonic() - started
                attempt = 1 if lived >= self.options.healthy_after else attempt + 1
                if self.options.maximum_attempts is not None and attempt > self.options.maximum_attempts:
                    detail = f"gave up after {self.options.maximum_attempts} failures in a row, the last one: {error}"
                    self._alert("gave_up", detail)
                    raise FeedLostError(f"{self.name}: {detail}")
                delay = self.options.backoff.delay(attempt, self.timing.random)
                if isinstance(error, ThrottledError):
                    delay = max(delay, error.retry_after or 0.0)
                pause = asyncio.ensure_future(self.timing.sleep(delay))
                await asyncio.wait({pause, stop}, return_when=asyncio.FIRST_COMPLETED)
                await _cancel(pause)
        finally:
            await _cancel(stop)

    async def _session(self, stop: asyncio.Task[Any]) -> TapelineError | None:
        """Serve one session; why it ended, None where it was stopped."""
        reading = asyncio.create_task(self._read())
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({reading, watching, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return None
            error: TapelineError = TemporaryError(f"{self.name}: no data for {self.options.stale_after} s")
            if reading.done():
                reading.result()
                error = TemporaryError(f"{self.name}: the venue ended the stream")
            else:
                self.counters.stale += 1
                self._alert("stale", str(error))
        except TapelineError as failure:
            if not self.connected:
                self.counters.failed += 1
            error = failure
        finally:
            await _cancel(reading, watching)
            was_connected, self.connected = self.connected, False
        if was_connected and self.on_break is not None:
            self.on_break(str(error))
        return error

    async def _read(self) -> None:
        timing, counters = self.timing, self.counters
        self._heard_at = timing.monotonic()
        async with self._connect() as batches:
            async for batch in batches:
                if not self.connected:
                    self.connected = True
                    counters.opened += 1
                self._heard_at = counters.last_record_at = timing.monotonic()
                if self._alerted:
                    self._alert("recovered", "data again")
                received = timing.wall()
                for record in batch:
                    if isinstance(record, Trade) and not self._ids.is_new(record):
                        counters.doubled += 1
                    elif not isinstance(record, Heartbeat):
                        counters.records += 1
                        self.on_record(record, received)

    async def _watch(self) -> None:
        """Return once the session has been silent for too long."""
        while True:
            await self.timing.sleep(self.options.watch_every)
            limit = self.options.stale_after
            if limit is not None and self.timing.monotonic() - self._heard_at > limit:
                return

    def _alert(self, kind: Kind, detail: str) -> None:
        self._alerted = kind != "recovered"
        self.on_alert(FeedAlert(self.name, kind, detail, self.timing.wall()))


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: nothing is left to be said when the task is collected
