"""The alert engine as a service: sources to batches to firings to deliveries; start, stop, recover."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tapeline.alerts.delivery.channel import Channel
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.engine.indicators import EXTERNAL
from tapeline.alerts.engine.layout import Indicator
from tapeline.alerts.engine_beats import EngineBeats, instance_of
from tapeline.alerts.engine_changes import EngineChanges, Suspended, refusal
from tapeline.alerts.engine_options import EngineOptions
from tapeline.alerts.engine_view import EngineView
from tapeline.alerts.feeds.batcher import Batcher
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source import Source, run_source
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.feeds.symbol_changes import follow_symbols
from tapeline.alerts.feeds.tick_journal import JournalOptions
from tapeline.alerts.folder_lock import FolderLock
from tapeline.alerts.performance_monitor import PerformanceMonitor, Standing, TimedChannel, travel
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.rehearsal import rehearse
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.series import History
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.store import Endpoint, Store
from tapeline.alerts.websocket_server import WebSocketServer
from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND
from tapeline.monitoring.notification import Notification

_log = logging.getLogger(__name__)
__all__ = ["AlertEngine", "EngineOptions", "ExternalEvent"]
# The journal is made durable by a thread of its own: a disk flush must not hold the kernel up.
_JOURNAL: Final = JournalOptions(delay=3_600.0, group_bytes=1 << 26)


class ExternalEvent(NamedTuple):
    """What somebody beside the feeds has to say of a symbol: a value of a series, or an event of this instant.

    ``key`` names the series, such as ``pattern:double_top:1h``; ``ts`` is when it became known, in nanoseconds.
    """

    symbol: str
    key: str
    ts: int
    value: float = 1.0
    lasting: bool = False


class AlertEngine:
    """The whole service in one process.

    Parameters
    ----------
    store:
        Stays the caller's to close.
    folder:
        Of the engine's own state; one engine at a time uses it, by a lock.
    symbols:
        Which symbols are watched, each with its sources, the best first.
    rules:
        A folder or file with rules, looked at again and again: a change takes effect between two batches. Or the rules
        themselves.
    sources:
        Makes the sources: called with the data manager and, by ``source:symbol``, the last number that was kept.
    routes, channels:
        Who is told and how; see ``Router`` and ``NotificationManager``.
    notice:
        Told of endpoints that were switched off.
    server:
        Streams firings to clients; none where absent.
    names_of:
        The sources of a symbol that joins while the engine runs; one without is fed from outside only.
    history:
        Closed bars of the past (symbol, timeframe in nanoseconds, how many): indicators and detectors begin with them,
        nothing fires of them.
    alone:
        Whether no other engine delivers from this database: then what a dead one had claimed goes out at once, not
        when its leases have run out.
    instance:
        The name under which it reports itself in the database; made of the machine and the folder where absent.
    trace:
        Told of owners whose accounts are disabled or enabled while it runs.
    clock:
        Nanoseconds since 1970.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.alerts.store.opening import open_store
    >>> async def moment(folder):
    ...     store = open_store(Path(folder) / "alerts.db")
    ...     rule = Rule(id="r", owner="me", condition="close > 100", symbols=("BTCUSDT",))
    ...     engine = AlertEngine(store, Path(folder), {"BTCUSDT": [SourceName("test", "BTCUSDT")]}, rules=[rule])
    ...     await engine.start()
    ...     await engine.stop()
    ...     store.close()
    ...     return engine.status()["rules"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(moment(folder))
    1
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        symbols: Mapping[str, Sequence[SourceName]],
        *,
        rules: Path | Sequence[Rule] = (),
        sources: Callable[[DataManager, Mapping[str, int]], Iterable[Source]] = lambda manager, positions: (),
        routes: Mapping[tuple[str, str], Route] | None = None,
        channels: Iterable[Channel] = (),
        notice: Callable[[Endpoint, Notification], object] | None = None,
        server: WebSocketServer | None = None,
        history: History | None = None,
        names_of: Callable[[str], Sequence[SourceName]] | None = None,
        alone: bool = True,
        instance: str | None = None,
        trace: Suspended = lambda owner, suspended: None,
        options: EngineOptions | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store, self.folder, self.options = store, folder, options or EngineOptions()
        self.monitor = PerformanceMonitor()
        self.instance = instance or instance_of(folder)
        self._symbols, self._make_sources = symbols, sources
        self._router = Router(routes or {}, render)
        self._clock, self._server, self._history, self._alone = clock, server, history, alone
        self._notifications = NotificationManager(
            store,
            [TimedChannel(one, self.monitor, clock) for one in channels],
            clock=clock,
            notice=notice,
            refused=lambda endpoint: refusal(endpoint, self.changes.suspended),
        )
        self.changes = EngineChanges(
            store,
            rules,
            symbols,
            routes,
            follow=self._moved,
            trace=trace,
            options=self.options.changes,
            clock=clock,
        )
        self._names_of = names_of or (lambda symbol: ())
        self._following: asyncio.Queue[tuple[tuple[str, ...], tuple[str, ...]]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sources: list[Source] = []
        self._failed: BaseException | None = None
        self._came_round = time.monotonic()
        self.pipeline: AlertPipeline | None = None
        self.manager: DataManager | None = None
        self.lock = FolderLock(folder)

    async def stand_by(self) -> None:
        """Make ready to take over, and wait until the engine that has the folder has ended, however it did.

        :meth:`start` then takes the time of reading what that one kept, without that of beginning a process.
        """
        await asyncio.to_thread(rehearse)
        await asyncio.to_thread(self.store.positions)
        await self.lock.wait()

    async def start(self) -> None:
        """Recover what was there, then begin.

        Raises
        ------
        ConfigurationError
            The rules are wrong, the engine was started before, or another one has its folder.
        DataError
            The journal is damaged.
        """
        if self.pipeline is not None:
            raise ConfigurationError("the alert engine was started before")
        self.lock.take_or_fail()
        try:
            pipeline = self.pipeline = await asyncio.to_thread(self._open)
        except BaseException:
            self.lock.give_back()
            raise
        evaluator = pipeline.evaluator

        def place(symbol: str, key: str) -> int:
            return evaluator.place(symbol, Indicator(EXTERNAL, key=key))

        batcher = Batcher(evaluator.symbols, place_of=place, options=self.options.batcher)
        self.manager = DataManager(batcher, positions=dict(pipeline.positions), options=self.options.manager)
        self._loop = asyncio.get_running_loop()
        for symbol in pipeline.in_force.symbols:
            if names := self._symbols.get(symbol) or self._names_of(symbol):
                self.manager.watch(symbol, names)
        self._notifications.start()
        if self._server is not None:
            await self._server.start()
        works: tuple[tuple[str, Callable[..., None], tuple[Any, ...]], ...] = (
            ("tapeline-alerts", self._work, (pipeline, batcher)),
            ("tapeline-alert-journal", self._flush, (pipeline,)),
            ("tapeline-alert-changes", self._look, ()),
        )
        database = getattr(self.store, "database", None)
        if isinstance(database, Database):
            beats = EngineBeats(database, self.instance, lambda: self.monitor.status(self.standing()), self._clock)
            works = (*works, ("tapeline-alert-beats", beats.run, (self._stopping, self.options.beat)))
        self._came_round = time.monotonic()
        for name, work, arguments in works:
            thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._sources = list(self._make_sources(self.manager, dict(pipeline.positions)))
        self._tasks = [
            asyncio.create_task(run_source(one, self.options.pause, self._stopping.is_set)) for one in self._sources
        ]
        self._tasks.append(asyncio.create_task(self.manager.run()))
        self._tasks.append(asyncio.create_task(self._follow(self.manager)))

    async def stop(self) -> None:
        """End the sources, take what they gave, store it, and let what is being sent end."""
        for source in self._sources:
            source.stop()
        if self.manager is not None:
            self.manager.stop()
        self._following.put_nowait(((), ()))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=10.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stopping.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if self.manager is not None:
            self.manager.batcher.close()
        if self.pipeline is not None:
            await asyncio.to_thread(self.pipeline.close)
        await asyncio.to_thread(self._notifications.stop)
        if self._server is not None:
            await self._server.stop()
        self.lock.give_back()

    async def wait(self) -> None:
        """Wait until the engine fails.

        Raises
        ------
        TapelineError
            What it failed with: a crash is better than alerts that nobody evaluates.
        """
        while self._failed is None and not self._stopping.is_set():
            await asyncio.sleep(0.2)
        if self._failed is not None:
            raise self._failed

    def publish(self, events: Iterable[ExternalEvent]) -> int:
        """Let events of flows, patterns or news take the way of a tick; how many there were. From any thread.

        Raises
        ------
        DataError
            A symbol is not watched.
        """
        if self.manager is None:
            raise ConfigurationError("the alert engine was not started")
        count = 0
        for one in events:
            self.manager.batcher.value(one.symbol, one.key, one.ts, one.value, event=not one.lasting)
            count += 1
        return count

    def status(self) -> dict[str, Any]:
        """What there is to say of it now: rules, firings, latencies in seconds, feeds, the store's queue."""
        return self._view().status()

    def standing(self) -> Standing:
        """What it finds when it looks at itself."""
        return self._view().standing()

    def _view(self) -> EngineView:
        is_over, stalled = self._stopping.is_set(), time.monotonic() - self._came_round
        return EngineView(
            self.pipeline, self.manager, self.monitor, self.changes, self._server, self._failed, is_over, stalled
        )

    def _open(self) -> AlertPipeline:
        pipeline = AlertPipeline(
            self.store,
            self._router,
            self.folder,
            self.changes.symbols(),
            clock=self._clock,
            on_durable=self._durable,
            journal=_JOURNAL,
            gather=self.options.gather,
            history=self._history,
            detectors_apart=True,
        )
        count = pipeline.recover()
        if count:
            _log.info("went over %d batches of the journal again", count)
        if self._alone and (count := self.store.release_all()):
            _log.info("%d deliveries that were under way go out again", count)
        self._router.silences, self._router.routes = self.changes.silences, self.changes.routes
        self.changes.begin(pipeline)
        # What was gone over again was not waited for: from here on time counts.
        pipeline.latency, pipeline.on_stored = self.monitor.latency, self.monitor.stored
        return pipeline

    @property
    def router(self) -> Router:
        """Who is told: routes and silences that are in force."""
        return self._router

    def wake(self) -> None:
        """Deliver and stream now: firings were written beside the engine's own."""
        self._durable(0)

    def _durable(self, _: int) -> None:
        self._notifications.wake()
        if self._server is not None:
            self._server.wake()

    def _work(self, pipeline: AlertPipeline, batcher: Batcher) -> None:
        """The thread that takes batches."""
        looked = saved = time.monotonic()
        flushed = time.monotonic_ns()
        try:
            while True:
                stopping = self._stopping.is_set()
                self._came_round = time.monotonic()
                batcher.wait(0.05)
                # The window bounds how many batches are made: what comes after a calm does not wait for company.
                calm = time.monotonic_ns() - flushed
                found = batcher.flush(time.monotonic_ns(), force=stopping or calm >= batcher.options.window)
                if found is not None:
                    flushed = time.monotonic_ns()
                    waited = batcher.waited
                    self.monitor.arrived(travel(found[1], waited, self._clock()), waited)
                    pipeline.take(*found, waited)
                elif stopping:
                    pipeline.snapshot()
                    return
                elif batcher.depth:
                    time.sleep((batcher.options.window - calm) / SECOND)
                if time.monotonic() - looked >= self.options.look:
                    looked = time.monotonic()
                    pipeline.read_acknowledgements()
                if self.changes.apply(pipeline):
                    _log.info("%d rules in force, %d changes wait", len(pipeline.in_force), self.changes.waiting)
                if time.monotonic() - saved >= self.options.snapshot and pipeline.begin_snapshot():
                    saved = time.monotonic()
        except Exception as error:  # noqa: BLE001 - whatever it is, the service must not go on without its kernel
            _log.exception("the alert engine stops")
            self._failed = error
            batcher.close()

    def _look(self) -> None:
        """The thread that reads what people change."""
        while not self._stopping.wait(self.options.look):
            self.changes.look()
            self._router.silences, self._router.routes = self.changes.silences, self.changes.routes

    def _moved(self, coming: tuple[str, ...], going: tuple[str, ...]) -> None:
        """Symbols came or went: the sources follow, from the event loop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._following.put_nowait, (coming, going))

    async def _follow(self, manager: DataManager) -> None:
        """Let the sources follow other symbols, one change after the other."""
        while True:
            coming, going = await self._following.get()
            if not (coming or going):
                return
            await follow_symbols(manager, self._sources, coming, going, self._names_of)

    def _flush(self, pipeline: AlertPipeline) -> None:
        """The thread that makes the journal durable."""
        while not self._stopping.wait(self.options.journal):
            try:
                pipeline.journal.commit()
            except OSError as error:
                _log.warning("the tick journal refuses for now: %s", error)
