"""One supervised run of a live feed: from the socket through validator and journal into the lake, until it is stopped.

Nothing here knows Prefect: the task wraps it, tests and benchmarks run it alone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from tapeline.core.errors import ProviderError, TapelineError, TemporaryError
from tapeline.core.schemas import QUARANTINE, RAW_DEPTH, TableSpec
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.bar_sink import BarSink, BarTally
from tapeline.quality.calendars import MarketCalendar, choose_calendar
from tapeline.quality.feed_sink import STAGE, FeedSink
from tapeline.quality.quarantine_spill import QuarantineSpill
from tapeline.streams.alerts import FeedAlert, FeedLostError
from tapeline.streams.drain import Drain
from tapeline.streams.journal import Journal
from tapeline.streams.timing import Backoff, Timing
from tasks.live_alerts import AlertRelay, Notify
from tasks.live_venue import TICK, LiveVenue, OpenVenue, StreamRequest, SymbolFeed, last_bar, open_venue, stored_ids

RESTARTS: Final = 5
"""Failures in a row of a venue, beyond its own reconnections, after which the feed is lost."""
HEALTHY_SECONDS: Final = 60.0
"""A venue that ran so long begins anew to count its failures."""
DEPTH_ROWS: Final = 200_000
"""Samples that are written at once even before their time."""
DRAIN_ROWS: Final = 200_000
_log: Final = logging.getLogger(__name__)


@dataclass
class StreamStatus:
    """What a run has done so far.

    ``symbols`` holds one row an instrument: ``symbol``, ``trades``, ``quotes``, ``bars``, ``depth_rows``,
    ``quarantined``, ``gaps_filled`` and ``gaps_unfilled`` (trades), ``missing_bars`` (by the calendar), ``duplicates``,
    ``lag_ms`` (newest row, venue to us), ``spread_bps``.
    """

    feed: str
    elapsed: float
    maximum_seconds: float | None
    connected: bool = False
    messages: int = 0
    reconnects: int = 0
    gaps: int = 0
    restarts: int = 0
    unreadable: int = 0
    backlog_rows: int = 0
    drained_rows: int = 0
    store_failures: int = 0
    drift_seconds: float | None = None
    alerts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    symbols: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Trades, quotes and bars that passed."""
        return sum(row["trades"] + row["quotes"] + row["bars"] for row in self.symbols)

    @property
    def quarantined(self) -> int:
        """Rows and messages that were refused and kept with their reasons."""
        return sum(row["quarantined"] for row in self.symbols) + self.unreadable


Report = Callable[[StreamStatus], None]


class LiveRun:
    """Collects what a request names until :meth:`stop`, its time is over, or the feed is lost.

    At the start what an earlier run left in its journal is moved to the lake, and collecting goes on behind the last
    stored trade or tick. At the end, however it comes, what was collected is moved to the lake.

    Parameters
    ----------
    request, settings:
        What to collect, and where the lake, the journal and the venue are.
    notify:
        Takes the alerts, each as one notification.
    report:
        Called at the interval of the settings, and once at the end; an error of it ends nothing.
    venue:
        Opens the venue; another one can be plugged in here.
    """

    def __init__(
        self,
        request: StreamRequest,
        settings: Settings,
        *,
        notify: Notify = lambda notification: None,
        report: Report = lambda status: None,
        venue: OpenVenue = open_venue,
        timing: Timing | None = None,
    ) -> None:
        self.request, self.settings, self.timing = request, settings, timing or Timing()
        self.lake = Lake(settings.lake_path)
        self._report, self._open_venue = report, venue
        self._alerts = AlertRelay(notify)
        self._stop = asyncio.Event()
        self._depth_rows: dict[Symbol, int] = {}
        self._restarts = self._store_failures = 0
        # What a thread began before the run ended is over before the same is done for the last time.
        self._in_turn = threading.Lock()
        self._began = self.timing.monotonic()
        self._sink: FeedSink | None = None
        self._venue: LiveVenue | None = None
        self._drain: Drain | None = None

    @property
    def folder(self) -> Path:
        """Where the journal and the refused rows wait for the lake; one process at a time holds it."""
        return self.settings.state_path / "stream" / self.request.feed

    def stop(self) -> None:
        """End the run in good order; call it from the loop's thread."""
        self._stop.set()

    async def run(self) -> StreamStatus:
        """Run.

        Raises
        ------
        FeedLostError
            The venue gave up. What had been collected is in the lake.
        TemporaryError
            Another process streams this feed, or the lake cannot be written at the start.
        """
        self._began = self.timing.monotonic()
        with ExitStack() as held:
            journal = held.enter_context(await asyncio.to_thread(Journal, self.folder / "journal"))
            spill = QuarantineSpill(self.folder / "quarantine")
            held.callback(spill.close)
            seconds = self.settings.stream.drain_seconds
            drain = self._drain = Drain(journal, self._write, rows=DRAIN_ROWS, seconds=seconds)
            await asyncio.to_thread(_empty, drain)
            await asyncio.to_thread(spill.flush, self._write_quarantine)
            sink = self._sink = FeedSink(
                journal,
                spill,
                source=self.request.feed,
                calendar_of=self._calendar_of,
                last_ids=await asyncio.to_thread(stored_ids, self.lake, self.request),
                bars=BarSink(
                    source=self.request.feed,
                    calendar_of=self._calendar_of,
                    last_of=partial(last_bar, self.lake),
                ),
            )
            venue = self._venue = self._open_venue(
                self.request, self.settings, self.lake, sink, self._alerts.put, self.timing
            )
            held.callback(venue.close)
            await self._run(venue, drain, spill)
        return self.status()

    def status(self) -> StreamStatus:
        """What was done so far."""
        found = StreamStatus(
            feed=self.request.feed,
            elapsed=self.timing.monotonic() - self._began,
            maximum_seconds=self.request.maximum_seconds,
            restarts=self._restarts,
            store_failures=self._store_failures,
            alerts=dict(self._alerts.kinds),
        )
        if self._sink is None or self._venue is None or self._drain is None:
            return found
        told = self._venue.status()
        for name in ("connected", "messages", "reconnects", "gaps"):
            setattr(found, name, getattr(told, name))
        found.drift_seconds, found.unreadable = told.drift, self._sink.unreadable
        found.backlog_rows = self._drain.journal.counters().backlog_rows
        found.drained_rows = self._drain.counters().rows
        found.store_failures += self._drain.counters().failures
        for symbol in self.request.symbols:
            tally, feed = self._sink.tallies.get(symbol), told.symbols.get(symbol, SymbolFeed())
            bars = self._bar_tallies(symbol)
            for reasons in (tally.reasons if tally else {}, *(each.reasons for each in bars)):
                for code, count in reasons.items():
                    found.reasons[code] = found.reasons.get(code, 0) + count
            found.symbols.append(
                {
                    "symbol": str(symbol),
                    "trades": tally.trades if tally else 0,
                    "quotes": tally.ticks if tally else 0,
                    "bars": sum(each.bars for each in bars),
                    "depth_rows": self._depth_rows.get(symbol, 0),
                    "quarantined": (tally.quarantined if tally else 0) + sum(each.quarantined for each in bars),
                    "gaps_filled": feed.filled,
                    "gaps_unfilled": feed.unfilled,
                    "missing_bars": sum(each.missing for each in bars),
                    "duplicates": feed.duplicates,
                    "lag_ms": None if tally is None or tally.lag is None else tally.lag / 1e6,
                    "spread_bps": feed.spread_bps,
                }
            )
        return found

    def _bar_tallies(self, symbol: Symbol) -> list[BarTally]:
        bars = self._sink.bars if self._sink is not None else None
        # Copied at once: the thread that judges may add a series meanwhile.
        return [] if bars is None else [each for (name, _), each in list(bars.tallies.items()) if name == symbol]

    async def _run(self, venue: LiveVenue, drain: Drain, spill: QuarantineSpill) -> None:
        sending = asyncio.create_task(self._alerts.run())
        beside = [asyncio.create_task(each) for each in (self._store(venue, spill), self._tell(), self._tick(venue))]
        drain.start()
        try:
            await self._supervise(venue)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await asyncio.to_thread(drain.stop)
            if venue.keeper is not None:
                venue.keeper.take_rows()
            await asyncio.to_thread(self._store_once, venue, spill)
            self._tell_holes()
            await asyncio.to_thread(self._report_once, self.status())
            await self._alerts.close(sending)

    async def _supervise(self, venue: LiveVenue) -> None:
        backoff, attempt = Backoff(first=0.5, cap=30.0), 0
        while not self._stop.is_set():
            began = self.timing.monotonic()
            try:
                if await self._until_stopped(venue):
                    return
                raise TemporaryError(f"the feed {self.request.feed} ended by itself")
            except FeedLostError:
                raise
            except (TemporaryError, ProviderError, OSError) as error:
                if self.timing.monotonic() - began >= HEALTHY_SECONDS:
                    attempt = 0
                attempt += 1
                self._restarts += 1
                reason = f"{type(error).__name__}: {error}"
                if attempt > RESTARTS:
                    self._alert("gave_up", f"{attempt} failures in a row; the last: {reason}")
                    raise FeedLostError(
                        f"the feed {self.request.feed} failed {attempt} times in a row: {reason}",
                        hint="it is started again by its schedule; what was collected is in the lake",
                    ) from error
                _log.warning("the feed %s is started again after %s", self.request.feed, reason)
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.delay(attempt, self.timing.random)):
                        await self._stop.wait()

    async def _until_stopped(self, venue: LiveVenue) -> bool:
        """Run a venue until the run is over (True) or the venue ended by itself (False, or its error)."""
        running, stopping = asyncio.create_task(venue.run()), asyncio.create_task(self._stop.wait())
        limit = self.request.maximum_seconds
        left = None if limit is None else max(0.0, limit - (self.timing.monotonic() - self._began))
        try:
            await asyncio.wait({running, stopping}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not stopping.done():
                running.result()
                return False
            self._stop.set()
            venue.stop()
            await running
            return True
        finally:
            for task in (running, stopping):
                task.cancel()
            await asyncio.wait({running, stopping})

    async def _tick(self, venue: LiveVenue) -> None:
        """Sample the books that nothing changes; a second is enough, as each sample bears its own instant."""
        keeper = venue.keeper
        while keeper is not None:
            keeper.advance(self.timing.wall())
            await self.timing.sleep(min(1.0, keeper.options.interval / 1e9 if keeper.options else 1.0))

    async def _store(self, venue: LiveVenue, spill: QuarantineSpill) -> None:
        """Move samples and refused rows to the lake at the drain's pace, or earlier where there are many."""
        turn = min(self.settings.stream.drain_seconds, 1.0)
        waited = 0.0
        while True:
            await self.timing.sleep(turn)
            waited += turn
            many = venue.keeper is not None and venue.keeper.waiting_rows >= DEPTH_ROWS
            # Nothing but memory holds a bar until it is written.
            many = many or bool(self._sink and self._sink.bars and self._sink.bars.waiting)
            if waited >= self.settings.stream.drain_seconds or many:
                waited = 0.0
                if venue.keeper is not None:
                    venue.keeper.take_rows()
                await asyncio.to_thread(self._store_once, venue, spill)
                self._tell_holes()
                if self._drain is not None and (failure := self._drain.counters().failure) is not None:
                    self._alert("sink", f"the lake does not take the journal: {failure}")

    def _store_once(self, venue: LiveVenue, spill: QuarantineSpill) -> None:
        try:
            with self._in_turn:
                if venue.keeper is not None:
                    venue.keeper.write(self._write_depth)
                spill.flush(self._write_quarantine)
                if self._sink is not None and self._sink.bars is not None:
                    self._sink.bars.write(self._write_of)
        except (TapelineError, OSError, pa.ArrowException) as error:
            # Samples and bars stay in memory, refused rows on disk: all are tried again.
            self._store_failures += 1
            _log.warning("depth or quarantine not written: %s: %s", type(error).__name__, error)

    async def _tell(self) -> None:
        while True:
            await asyncio.to_thread(self._report_once, self.status())
            await self.timing.sleep(self.settings.stream.report_seconds)

    def _report_once(self, status: StreamStatus) -> None:
        try:
            with self._in_turn:
                self._report(status)
        except Exception as error:  # noqa: BLE001 - a server that is away must not end the feed
            _log.warning("the state of the feed could not be shown: %s: %s", type(error).__name__, error)

    def _tell_holes(self) -> None:
        for hole in self._sink.bars.holes() if self._sink is not None and self._sink.bars is not None else ():
            self._alert("gap_unfilled", f"{hole}; a backfill asks for them")

    def _write(self, spec: TableSpec, rows: pa.Table | pd.DataFrame, symbol: Symbol) -> None:
        self._write_of(spec, rows, symbol, TICK)

    def _write_of(self, spec: TableSpec, rows: pa.Table | pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> None:
        lineage = Lineage(self.request.run_id, STAGE, (self.request.feed,))
        self.lake.write(spec, rows, symbol, timeframe, lineage=lineage)

    def _write_quarantine(self, rows: pd.DataFrame, symbol: Symbol) -> None:
        self._write(QUARANTINE, rows, symbol)

    def _write_depth(self, rows: pd.DataFrame, symbol: Symbol) -> None:
        self._write(RAW_DEPTH, rows.assign(source=self.request.feed), symbol)
        self._depth_rows[symbol] = self._depth_rows.get(symbol, 0) + len(rows)

    def _calendar_of(self, symbol: Symbol) -> MarketCalendar:
        return choose_calendar(symbol, self.request.source, **self.settings.calendars.model_dump())

    def _alert(self, kind: Any, detail: str) -> None:
        self._alerts.put(FeedAlert(self.request.feed, kind, detail, self.timing.wall()))


def run_live(live: LiveRun) -> StreamStatus:
    """Run to the end in a loop of its own; SIGTERM and Ctrl-C end it in good order, a second Ctrl-C at once."""

    async def main() -> StreamStatus:
        with stopped_by_signals(live.stop):
            return await live.run()

    return asyncio.run(main())


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` in the loop at SIGTERM or SIGINT; outside of the main thread signals are left as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former: dict[signal.Signals, Any] = {}

    def restore(which: signal.Signals) -> None:
        if which in former:
            loop.remove_signal_handler(which)
            signal.signal(which, former.pop(which))

    def received(which: signal.Signals) -> None:
        _log.info("%s: the feed is stopped in good order", which.name)
        stop()
        if which is signal.SIGINT:
            restore(which)

    try:
        for which in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(which)
            with suppress(NotImplementedError):  # Windows has no such loop
                loop.add_signal_handler(which, partial(received, which))
                former[which] = before
        yield
    finally:
        for which in list(former):
            restore(which)


def _empty(drain: Drain) -> None:
    while drain.drain_once():
        pass
