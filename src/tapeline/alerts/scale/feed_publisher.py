"""The publisher of ticks: sources to batches to one stream a shard. One speaks, others stand by.

Who holds the lease has a term. A term begins with an entry in each stream, from which on Redis refuses entries of the
terms before; its sources are asked for all that is behind the shards' snapshots, so that nothing depends on how far
the publisher before it came. Owners pass over what they have had.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from tapeline.alerts.feeds.batcher import Batcher, BatcherOptions, Rows
from tapeline.alerts.feeds.data_manager import DataManager, ManagerOptions
from tapeline.alerts.feeds.source import Source, run_source
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.feeds.symbol_changes import follow_symbols
from tapeline.alerts.scale.assignment import shard_of
from tapeline.alerts.scale.event_queue import SOURCE as EVENTS
from tapeline.alerts.scale.event_queue import EventReader
from tapeline.alerts.scale.membership import Membership
from tapeline.alerts.scale.packed_batch import beginning, pack_by_shard, position_of, term_and_number
from tapeline.alerts.scale.shard_leases import FEED, Ownership
from tapeline.alerts.scale.shard_memory import covered
from tapeline.alerts.scale.spill import Spill
from tapeline.alerts.scale.tick_streams import Entry, StreamWriter
from tapeline.alerts.store.database import Database
from tapeline.core.errors import DataError, TapelineError, TemporaryError
from tapeline.core.nanoseconds import SECOND

_log = logging.getLogger(__name__)
_PAGE: Final = 512
_SETTLED: Final = 2.0
"""Seconds after which every owner has seen that a term has begun."""


class TermOverError(TapelineError):
    """Another publisher speaks."""


@dataclass(frozen=True)
class PublisherOptions:
    """How it publishes.

    Parameters
    ----------
    upkeep:
        Seconds between two looks at the lease, the streams' lengths and what owners miss.
    tidy:
        Seconds between two looks at what snapshots hold.
    most_entries:
        Entries waiting in one stream at which it publishes no more until an owner has taken some: sources then wait,
        and nothing is dropped.
    follow:
        Seconds between two looks for symbols that came or went.
    pause:
        Seconds before a source that failed is run again, and before Redis is tried again.
    spill_bytes:
        Of what was sent and is not covered, on disk.
    """

    upkeep: float = 0.25
    tidy: float = 2.0
    most_entries: int = 500_000
    pause: float = 0.25
    follow: float = 1.0
    spill_bytes: int = 4 << 30
    # Longer than where engine and feed are one process: an entry costs more than a batch.
    batcher: BatcherOptions = field(default_factory=lambda: BatcherOptions(window=5_000_000))
    manager: ManagerOptions = field(default_factory=ManagerOptions)


@dataclass
class PublisherCounters:
    """What it did. ``sent_again``: entries that Redis had lost."""

    terms: int = 0
    entries: int = 0
    records: int = 0
    bytes: int = 0
    sent_again: int = 0
    losses: int = 0
    waits: int = 0


class FeedPublisher:
    """One process that may speak.

    Parameters
    ----------
    database, membership, writer:
        Of the shards' snapshots, of this process, of the streams.
    folder:
        For the spill.
    symbols:
        Gives those that are to be followed now.
    names_of:
        The sources of a symbol, the best first.
    sources:
        Makes the sources: called with the data manager and, by ``source:symbol``, the last number that snapshots hold.
    events:
        The queue of what others have to say of a symbol; none where absent.
    """

    def __init__(
        self,
        database: Database,
        membership: Membership,
        writer: StreamWriter,
        folder: Path,
        symbols: Callable[[], Sequence[str]],
        names_of: Callable[[str], Sequence[SourceName]],
        sources: Callable[[DataManager, Mapping[str, int]], Iterable[Source]],
        *,
        events: EventReader | None = None,
        options: PublisherOptions | None = None,
    ) -> None:
        self.options, self.counters = options or PublisherOptions(), PublisherCounters()
        self.speaking = False
        self.manager: DataManager | None = None
        self._database, self._membership, self._writer = database, membership, writer
        self._folder, self._symbols, self._names_of = folder, symbols, names_of
        self._make_sources, self._events = sources, events
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Stand by, speak, stand by again, until :meth:`stop`."""
        leases = self._membership.leases
        while not self._stopping.is_set():
            owned = None
            try:
                owned = await asyncio.to_thread(leases.take, FEED)
                if owned is not None:
                    await self._speak(owned)
            except TemporaryError as error:
                _log.warning("the feed waits: %s", error)
            finally:
                self.speaking = False
            if owned is not None and self._stopping.is_set():
                await asyncio.to_thread(_hand_over, self._membership, owned)
                return
            await self._pause(self.options.pause)

    def stop(self) -> None:
        """Let ``run`` end, after what the sources gave is sent."""
        self._stopping.set()

    def status(self) -> dict[str, Any]:
        """What there is to say of it now."""
        feeds = self.manager.metrics() if self.manager is not None else {}
        return {"speaking": self.speaking, **asdict(self.counters), "feeds": feeds}

    async def _speak(self, owned: Ownership) -> None:
        kept = await asyncio.to_thread(covered, self._database)
        positions = {name: at for _, feeds in kept.values() for name, at in feeds.items() if not name.startswith("@")}
        symbols = tuple(self._symbols())
        named = await asyncio.to_thread(lambda: {symbol: tuple(self._names_of(symbol)) for symbol in symbols})
        reached = {shard: position for shard, (position, _) in kept.items()}
        term = _Term(self, owned.epoch, reached, positions, named)
        self.manager, self.speaking = term.manager, True
        self.counters.terms += 1
        _log.info("the feed is ours: term %d", owned.epoch)
        sources = list(self._make_sources(term.manager, positions))
        thread = asyncio.create_task(asyncio.to_thread(term.run))
        stopped = asyncio.create_task(self._stopping.wait())
        tasks = [asyncio.create_task(run_source(one, self.options.pause)) for one in sources]
        tasks.append(asyncio.create_task(term.manager.run()))
        following = asyncio.create_task(self._follow(term, sources))
        try:
            await asyncio.wait({thread, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for source in sources:
                source.stop()
            term.manager.stop()
            _, late = await asyncio.wait(tasks, timeout=10.0 if self._stopping.is_set() else 1.0)
            for task in (*late, stopped, following):
                task.cancel()
            await asyncio.gather(*tasks, stopped, following, return_exceptions=True)
            term.stopping.set()
            try:
                await thread
            except TermOverError as error:
                _log.warning("%s", error)
            finally:
                term.manager.batcher.close()

    async def _follow(self, term: _Term, sources: Sequence[Source]) -> None:
        """Let the term follow symbols as they come and go."""
        while True:
            await asyncio.sleep(self.options.follow)
            now = tuple(self._symbols())
            coming = [one for one in now if one not in term.watched]
            going = [one for one in term.watched if one not in set(now)]
            if coming or going:
                term.join(coming)
                await follow_symbols(term.manager, sources, coming, going, self._names_of)
                term.watched = dict.fromkeys(now)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


class _Term:
    """One term of a publisher: the thread that sends."""

    def __init__(
        self,
        publisher: FeedPublisher,
        term: int,
        kept: Mapping[int, int],
        positions: Mapping[str, int],
        symbols: Mapping[str, Sequence[SourceName]],
    ) -> None:
        self.stopping = threading.Event()
        self._publisher, self._term, self._kept = publisher, term, dict(kept)
        self._writer, self._options = publisher._writer, publisher.options
        self._shards = publisher._membership.leases.shards
        self.watched: dict[str, None] = dict.fromkeys(symbols)
        self._names: list[str] = []
        self._shard_of = np.zeros(0, np.int32)
        self._symbols: dict[str, int] = {}
        self.join(symbols)
        batcher = Batcher(self._symbols, options=self._options.batcher)
        self.manager = DataManager(batcher, positions=dict(positions), options=self._options.manager)
        for symbol, named in symbols.items():
            # One without a source is only fed from outside.
            if named:
                self.manager.watch(symbol, named)
        self._spill = Spill(publisher._folder, most_bytes=self._options.spill_bytes)
        self._numbers = dict.fromkeys(range(self._shards), 0)
        self._behind = False
        self._full = False
        self._tried = self._looked = self._tidied = 0.0
        self._begun = time.monotonic()

    def join(self, symbols: Iterable[str]) -> None:
        """Let symbols have numbers; one that had its own keeps it."""
        fresh = [one for one in symbols if one not in self._symbols]
        self._names += fresh
        self._shard_of = np.array([shard_of(one, self._shards) for one in self._names], np.int32)
        # The last: who takes a record of it finds all else there.
        self._symbols.update({name: number for number, name in enumerate(self._names)})

    def run(self) -> None:
        """Send until the term is over.

        Raises
        ------
        TermOverError
            Another publisher speaks, or what Redis lost can only be had from the sources again.
        """
        batcher = self.manager.batcher
        events = self._publisher._events
        try:
            begin = [Entry(shard, position_of(self._term, 0), beginning()) for shard in range(self._shards)]
            self._spill.append(begin)
            self._behind = True
            if events is not None:
                events.start(self.manager)
            ended = None
            while True:
                stopping = self.stopping.is_set()
                self._upkeep()
                if self._behind:
                    self._catch_up()
                if self._full and not stopping:
                    time.sleep(self._options.pause)
                    continue
                batcher.wait(0.05)
                rows = batcher.flush_rows(time.monotonic_ns(), force=stopping)
                if rows is not None:
                    self._send(rows)
                elif stopping:
                    # What Redis does not take now, the next term has from the sources.
                    ended = ended or time.monotonic()
                    if not self._behind or time.monotonic() - ended > 2.0:
                        return
                    time.sleep(0.05)
                elif batcher.depth:
                    time.sleep(batcher.options.window / SECOND)
        finally:
            if events is not None:
                events.stop()
            self._spill.close()
            batcher.close()

    def _send(self, rows: Rows) -> None:
        counters, entries = self._publisher.counters, []
        for shard, body in pack_by_shard(rows, self._names, self._shard_of, self._shards).items():
            self._numbers[shard] += 1
            entries.append(Entry(shard, position_of(self._term, self._numbers[shard]), body))
            counters.bytes += len(body)
        counters.entries += len(entries)
        counters.records += rows.rows.size
        self._spill.append(entries)
        if not self._behind:
            try:
                sent = self._writer.send(entries)
            except TemporaryError as error:
                _log.warning("ticks wait for Redis: %s", error)
                self._lost()
            else:
                if sent.missing or sent.refused:
                    self._lost()
        events = self._publisher._events
        if events is not None and EVENTS in rows.sources:
            mine = rows.rows["source"] == rows.sources.index(EVENTS)
            events.told(rows.rows["sequence"][mine].tolist(), sent=not self._behind)

    def _lost(self) -> None:
        self._behind = True
        self._tried = 0.0
        self._publisher.counters.losses += 1

    def _catch_up(self) -> None:
        """Send again what Redis does not have."""
        if time.monotonic() - self._tried < self._options.pause:
            return
        self._tried = time.monotonic()
        first = position_of(self._term, 0)
        try:
            positions: dict[int, int] = {}
            for shard in range(self._shards):
                top = self._writer.top(shard)
                if top is not None and term_and_number(top)[0] > self._term:
                    raise TermOverError(f"term {self._term} of the feed is over: {term_and_number(top)[0]} speaks")
                # Where the stream is gone, all that no snapshot holds; else what follows its end.
                positions[shard] = max(self._kept.get(shard, 0) if top is None else top, first - 1)
            page: list[Entry] = []
            for one in self._spill.behind(positions):
                page.append(one)
                if len(page) == _PAGE:
                    self._again(page)
                    page = []
            self._again(page)
        except TemporaryError as error:
            _log.info("Redis is tried again: %s", error)
        except DataError as error:
            raise TermOverError(f"a new term begins: {error}") from error
        else:
            self._behind = False
            if self._publisher._events is not None:
                self._publisher._events.settled()

    def _again(self, page: list[Entry]) -> None:
        if page:
            self._writer.send(page, create=True)
            self._publisher.counters.sent_again += len(page)

    def _upkeep(self) -> None:
        now = time.monotonic()
        if now - self._looked < self._options.upkeep:
            return
        self._looked = now
        owner = self._publisher._membership.view.owners.get(FEED)
        if owner is not None and owner.epoch > self._term:
            raise TermOverError(f"term {self._term} of the feed is over: {owner.name} has the lease")
        if self._behind:
            return
        try:
            waiting = max(self._writer.lengths(range(self._shards)), default=0)
            if waiting >= self._options.most_entries and not self._full:
                self._publisher.counters.waits += 1
                _log.error("%d entries wait in a stream and no engine takes them: the feed waits", waiting)
            self._full = waiting >= self._options.most_entries
            complaints = self._writer.complaints()
            # Of an earlier term: what is missing came with the beginning of this one, unless that is missing too.
            mine = any(term_and_number(position)[0] == self._term for position in complaints.values())
            if complaints and (mine or now - self._begun > _SETTLED):
                # There is a hole in a stream, and ids only rise: the same again, in a term of its own.
                raise TermOverError(f"a new term begins: owners of shards {sorted(complaints)} miss entries")
            if now - self._tidied >= self._options.tidy:
                self._tidied = now
                found = covered(self._publisher._database)
                self._kept = {shard: position for shard, (position, _) in found.items()}
                self._spill.remove(self._kept)
        except TemporaryError as error:
            _log.warning("the streams are not looked at for now: %s", error)
            self._lost()


def _hand_over(membership: Membership, owned: Ownership) -> None:
    try:
        membership.leases.hand_over(owned)
    except TemporaryError as error:
        _log.warning("the feed's lease runs out by itself: %s", error)
