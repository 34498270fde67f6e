"""One engine of several: takes the shards that are its own, evaluates them, and lets go of those that are not."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tapeline.alerts.delivery.channel import Channel
from tapeline.alerts.delivery.manager import NotificationManager
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.engine_changes import refusal
from tapeline.alerts.routing import Router
from tapeline.alerts.scale.assignment import owner_of
from tapeline.alerts.scale.fenced_store import FencedStore
from tapeline.alerts.scale.membership import Membership
from tapeline.alerts.scale.shard_leases import FEED, FencedOutError, Ownership, View
from tapeline.alerts.scale.shard_memory import SnapshotWriter
from tapeline.alerts.scale.shard_pipeline import ShardPipeline
from tapeline.alerts.scale.supply import Watch
from tapeline.alerts.scale.tick_streams import StreamReader
from tapeline.alerts.series import History
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError, TemporaryError
from tapeline.monitoring.notification import Notification

_log = logging.getLogger(__name__)
HUNG_SECONDS: Final = 30.0
"""After which a thread that reads and says nothing is taken for hung, and the lease is not renewed."""
_BLOCK: Final = 0.05
_COMPLAIN: Final = 0.5
"""Seconds between two complaints of one shard."""


@dataclass(frozen=True)
class ShardEngineOptions:
    """How often an engine does what it does beside its batches; all in seconds.

    Parameters
    ----------
    snapshot:
        Between two snapshots of a shard. What lies behind the last one a new owner goes over again.
    gather:
        For which the store's writer gathers commits.
    handing:
        How long a shard that is handed over may take to be kept; then its next owner goes over more of the stream.
    """

    snapshot: float = 15.0
    gather: float = 0.005
    handing: float = 5.0


class ShardEngine:
    """The shards of one instance, in one process.

    One thread opens shards that were taken over, one reads and evaluates, one writes snapshots, one says that the
    instance lives (:class:`~tapeline.alerts.scale.membership.Membership`), and one writes commits.

    Parameters
    ----------
    store:
        PostgreSQL; stays the caller's to close.
    reader:
        Of the streams, with a connection of its own.
    watch:
        Sees what is in force; stays the caller's to stop.
    channels, notice:
        How people are told; who is told of endpoints that were switched off.
    history:
        Closed bars of the past.
    """

    def __init__(
        self,
        store: SqlStore,
        reader: StreamReader,
        watch: Watch,
        *,
        shards: int,
        channels: Iterable[Channel] = (),
        notice: Callable[[Endpoint, Notification], object] | None = None,
        history: History | None = None,
        options: ShardEngineOptions | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.options = options or ShardEngineOptions()
        self.fenced_out = self.taken_over = self.handed_over = self.firings = 0
        self.problem: BaseException | None = None
        self._store = FencedStore(store.database)
        self._reader, self._watch, self._count = reader, watch, shards
        self._history, self._clock = history, clock
        self.router = Router({}, render)
        self._notifications = NotificationManager(
            store,
            list(channels),
            clock=clock,
            notice=notice,
            refused=lambda endpoint: refusal(endpoint, watch.found.suspended),
        )
        self._acknowledged = -1
        self._snapshots = SnapshotWriter(store.database, self._kept)
        self._group = GroupCommit(self._store, gather=self.options.gather, on_problem=self._told)
        self._membership: Membership | None = None
        self._lock = threading.Lock()
        self._wanted: frozenset[int] = frozenset(range(shards))
        self._held: dict[int, Ownership] = {}
        self._opening: queue.SimpleQueue[Ownership | None] = queue.SimpleQueue()
        self._opened: queue.SimpleQueue[ShardPipeline] = queue.SimpleQueue()
        self._durable: queue.SimpleQueue[tuple[Ownership, int, int]] = queue.SimpleQueue()
        self._shards: dict[int, ShardPipeline] = {}
        self._saved: dict[int, float] = {}
        self._complained: dict[int, float] = {}
        self._beat = time.monotonic()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def owned(self) -> tuple[int, ...]:
        """The shards that are evaluated here."""
        return tuple(sorted(self._shards))

    @property
    def healthy(self) -> bool:
        """Whether the work goes on: asked before the lease is renewed."""
        return self.problem is None and time.monotonic() - self._beat < HUNG_SECONDS

    def start(self, membership: Membership) -> None:
        """Begin to evaluate what :meth:`view` takes."""
        self._membership = membership
        self._follow_router()
        self._notifications.start()
        for name, work in (("tapeline-alert-shards", self._work), ("tapeline-alert-takeover", self._open)):
            thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Keep what stands, hand every shard over, and let what is being sent end. The membership is stopped first."""
        self._stopping.set()
        self._opening.put(None)
        for thread in self._threads:
            thread.join()
        self._group.close(timeout=5.0)
        self._snapshots.close()
        self._notifications.stop()

    def view(self, view: View) -> None:
        """Take the shards that are ours and free, and note those that are another's: called with each look."""
        membership = self._membership
        if membership is None or self._stopping.is_set():
            return
        name, alive = membership.leases.name, view.engines
        wanted = frozenset(number for number in range(self._count) if owner_of(number, alive) == name)
        self._wanted = wanted
        for number, owner in view.owners.items():
            if number == FEED:
                continue
            with self._lock:
                held = self._held.get(number)
            if held is not None or number not in wanted:
                continue
            if owner.name in alive and owner.name != name:
                continue
            owned = membership.leases.take(number)
            if owned is not None:
                with self._lock:
                    self._held[number] = owned
                self._opening.put(owned)

    def status(self) -> dict[str, Any]:
        """What there is to say of it now."""
        shards = list(self._shards.values())
        return {
            "state": "failed" if self.problem else "stopped" if self._stopping.is_set() else "running",
            "problem": str(self.problem or ""),
            "shards": [one.owned.shard for one in shards],
            "taken": sum(one.taken for one in shards),
            "rules": len(self._watch.found.rules),
            "firings": self.firings,
            "fenced_out": self.fenced_out,
            "taken_over": self.taken_over,
            "handed_over": self.handed_over,
            "store": self._group.counts(),
        }

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a process that cannot go on lets others take over
            _log.exception("the engine stops")
            self.problem = error

    # -- the thread that opens

    def _open(self) -> None:
        while (owned := self._opening.get()) is not None:
            begun = time.monotonic()
            try:
                shard = self._opened_from(owned)
            except FencedOutError:
                self._drop(owned)
                continue
            except (TemporaryError, TimeoutError) as error:
                _log.warning("shard %d is taken up again later: %s", owned.shard, error)
                self._drop(owned, fenced=False)
                continue
            self.taken_over += 1
            _log.info("shard %d is ours since epoch %d, in %.2f s", owned.shard, owned.epoch, time.monotonic() - begun)
            self._opened.put(shard)

    def _opened_from(self, owned: Ownership) -> ShardPipeline:
        now = self._watch.found
        shard = ShardPipeline(
            self._store,
            owned,
            self._reader,
            self._group,
            self._snapshots,
            self.router,
            now.symbols,
            shards=self._count,
            history=self._history,
            clock=self._clock,
            on_durable=self._told_of,
        )
        shard.open(now.rules, now.symbols, now.generation, now.suspended)
        return shard

    # -- the thread that evaluates

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._beat = time.monotonic()
            self._adopt()
            self._settle()
            try:
                self._read()
            except TemporaryError as error:
                _log.warning("ticks are not read for now: %s", error)
                self._stopping.wait(0.2)
            self._change()
            self._keep()
        self._adopt()
        for number in list(self._shards):
            self._hand_over(number)

    def _adopt(self) -> None:
        while True:
            try:
                shard = self._opened.get_nowait()
            except queue.Empty:
                return
            number = shard.owned.shard
            self._shards[number] = shard
            self._saved[number] = time.monotonic()
            self._reader.follow(number, shard.position)

    def _settle(self) -> None:
        """Let go of what is another's, hand over what should be, and acknowledge what is kept."""
        for number, shard in list(self._shards.items()):
            if shard.problem is not None:
                if not isinstance(shard.problem, FencedOutError):
                    raise shard.problem
                self._let_go(number)
            elif number not in self._wanted:
                self._hand_over(number)
        while True:
            try:
                owned, position, before = self._durable.get_nowait()
            except queue.Empty:
                return
            if owned.shard not in self._shards:
                continue
            try:
                self._reader.covered(owned.shard, position, before)
            except TemporaryError as error:
                _log.info("entries of shard %d are acknowledged later: %s", owned.shard, error)

    def _read(self) -> None:
        positions = {number: shard.position for number, shard in self._shards.items()}
        if not positions:
            self._stopping.wait(_BLOCK)
            return
        for number, entries in self._reader.read(_BLOCK, positions=positions).items():
            shard = self._shards[number]
            try:
                whole = shard.take(entries)
            except FencedOutError:
                self._let_go(number)
                continue
            if not whole and time.monotonic() - self._complained.get(number, 0.0) > _COMPLAIN:
                self._complained[number] = time.monotonic()
                _log.warning("shard %d misses entries behind %d: the publisher is told", number, shard.position)
                self._reader.complain(number, shard.position)

    def _change(self) -> None:
        """Take what has changed since: of each shard what concerns it."""
        now = self._watch.found
        self._follow_router()
        seen, self._acknowledged = now.seen != self._acknowledged, now.seen
        for number, shard in list(self._shards.items()):
            try:
                if seen:
                    shard.pipeline.read_acknowledgements()
                if shard.generation != now.generation:
                    shard.set_rules(now.rules, now.symbols, now.generation, now.suspended)
            except FencedOutError:
                self._let_go(number)
            except (TemporaryError, TimeoutError) as error:
                _log.warning("changes of shard %d are taken later: %s", number, error)
                shard.generation, self._acknowledged = -1, -1
            except ConfigurationError as error:
                # What stood goes on: a rule that cannot be taken must not take the others with it.
                _log.error("the rules of shard %d were not changed: %s", number, error)
                shard.generation = now.generation

    def _follow_router(self) -> None:
        now = self._watch.found
        self.router.silences, self.router.routes = dict(now.silences), now.routes

    def _keep(self) -> None:
        """Begin the snapshot of one shard that is due: never all at once."""
        now = time.monotonic()
        due = [number for number, since in self._saved.items() if now - since >= self.options.snapshot]
        if not due:
            return
        number = min(due, key=self._saved.__getitem__)
        self._saved[number] = now
        try:
            self._shards[number].snapshot()
        except FencedOutError:
            self._let_go(number)
        except (TemporaryError, TimeoutError) as error:
            _log.warning("shard %d is kept later: %s", number, error)

    def _hand_over(self, number: int) -> None:
        shard = self._shards[number]
        try:
            shard.keep(self.options.handing)
            if self._membership is not None and self._membership.leases.hand_over(shard.owned):
                self.handed_over += 1
        except FencedOutError:
            self.fenced_out += 1
        except (TemporaryError, TimeoutError) as error:
            # Its next owner goes over more of the stream, once our lease has run out or we have left.
            _log.warning("shard %d was not kept before it was handed over: %s", number, error)
        self._let_go(number, fenced=False)

    def _let_go(self, number: int, *, fenced: bool = True) -> None:
        shard = self._shards.pop(number)
        self._saved.pop(number, None)
        self._reader.leave(number)
        self._drop(shard.owned, fenced=fenced)

    def _drop(self, owned: Ownership, *, fenced: bool = True) -> None:
        self._snapshots.forget(owned)
        if fenced:
            self.fenced_out += 1
            _log.warning("shard %d is another engine's by now", owned.shard)
        with self._lock:
            if self._held.get(owned.shard) == owned:
                del self._held[owned.shard]

    # -- called from other threads

    def _kept(self, owned: Ownership, position: int, before: int) -> None:
        self._durable.put((owned, position, before))

    def _told_of(self, count: int) -> None:
        self.firings += count
        self._notifications.wake()

    def _told(self, error: TemporaryError) -> None:
        _log.warning("the alert store refuses for now: %s", error)
