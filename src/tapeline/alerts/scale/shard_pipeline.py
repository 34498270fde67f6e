"""One shard of an engine: its stream, its pipeline, its snapshots; taken over from one engine, handed on to another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.feeds.tick_journal import Replayed
from tapeline.alerts.passage import Taken
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.scale.assignment import shard_of
from tapeline.alerts.scale.fenced_store import FencedStore, ShardCommits
from tapeline.alerts.scale.packed_batch import PackedBatch, entry_id, joined, unpack
from tapeline.alerts.scale.shard_leases import Ownership
from tapeline.alerts.scale.shard_memory import ShardMemory, SnapshotWriter
from tapeline.alerts.scale.shard_records import ShardRecords
from tapeline.alerts.scale.tick_streams import Entry, StreamReader, following
from tapeline.alerts.series import History
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.core.errors import DataError, TemporaryError

_log = logging.getLogger(__name__)
PATIENCE: Final = 10.0
"""Seconds for which a takeover waits for entries that the owner before it had already, where Redis has lost them."""


class StreamJournal:
    """A stream as a pipeline's journal: what it is to take lies there already, and is only gone over again here."""

    def __init__(self, reader: StreamReader, shard: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.position = 0
        self.at_least = 0
        self.records: ShardRecords | None = None
        self.damaged = 0
        self._reader, self._shard, self._clock = reader, shard, clock
        self._unpacked: dict[int, PackedBatch] = {}

    def append(self, batch: Batch, taken: Taken) -> int:
        """The position of the entry that was read last."""
        return self.position

    def commit(self) -> int:
        """Nothing waits: the publisher has sent it."""
        return self.position

    def replay(self, after: int, numbers: Mapping[str, int] | None = None) -> Iterator[Replayed]:
        """What lies behind a position, to the end of the stream.

        Where the stream does not reach as far as the owner before this one was, it is waited for: Redis has lost it,
        and the publisher is about to send it again.
        """
        self.position, since = after, self._clock()
        while True:
            try:
                entries, gap = following(self.position, self.sound(self._reader.behind(self._shard, self.position)))
            except TemporaryError:
                entries, gap = [], False
            if entries:
                yield from self.replayed(entries)
                continue
            if (not gap and self.position >= self.at_least) or self._clock() - since > PATIENCE:
                return
            time.sleep(0.05)

    def sound(self, entries: Iterable[Entry]) -> list[Entry]:
        """Entries without those that are damaged, which are as good as missing: the publisher sends them again."""
        found = []
        self._unpacked = {}
        for one in entries:
            try:
                self._unpacked[one.position] = unpack(one.body)
            except DataError as error:
                self.damaged += 1
                _log.error("shard %d, %s: %s", one.shard, entry_id(one.position), error)
            else:
                found.append(one)
        return found

    def replayed(self, entries: Sequence[Entry]) -> Iterator[Replayed]:
        """Sound entries as batches, several as one; each with the position of its last entry."""
        records = self.records
        if records is None:
            raise RuntimeError("the journal is asked before its records are known")
        done = 0
        for count, packed in joined([self._unpacked[one.position] for one in entries]):
            done += count
            # Before it is taken: the pipeline asks for the position of what it takes.
            self.position = entries[done - 1].position
            yield Replayed(self.position, *records.take(packed))

    def remove(self, before: int) -> int:
        """Nothing: the owner trims the stream when the snapshot is durable."""
        return 0

    def close(self) -> None:
        """Nothing."""


class ShardPipeline:
    """A shard that this engine owns.

    One thread at a time uses it: the one that opens it, then the one that reads.

    Parameters
    ----------
    store:
        Of this database.
    owned:
        The shard, and since which epoch.
    reader:
        Of the streams.
    group:
        The instance's commits.
    snapshots:
        Writes the snapshots of all its shards.
    symbols:
        All of the deployment; those of the shard are taken.
    shards:
        How many shards there are.
    """

    def __init__(
        self,
        store: FencedStore,
        owned: Ownership,
        reader: StreamReader,
        group: GroupCommit,
        snapshots: SnapshotWriter,
        router: Router,
        symbols: Iterable[str],
        *,
        shards: int,
        history: History | None = None,
        clock: Callable[[], int] = time.time_ns,
        on_durable: Callable[[int], None] | None = None,
    ) -> None:
        self.owned, self.taken, self.generation = owned, 0, -1
        self._reader, self._shards, self._snapshots = reader, shards, snapshots
        self._journal = StreamJournal(reader, owned.shard)
        self.pipeline = AlertPipeline(
            store,
            router,
            ShardMemory(store.database, owned, self._journal, snapshots),
            self._own(symbols),
            clock=clock,
            on_durable=on_durable,
            history=history,
            group=ShardCommits(group, owned),
        )
        self._records = ShardRecords(self.pipeline.evaluator, self.pipeline.positions)
        self._journal.records = self._records

    @property
    def position(self) -> int:
        """The last entry that was taken."""
        return self._journal.position

    @property
    def problem(self) -> BaseException | None:
        """What a commit failed with; FencedOutError where the shard is another's by now."""
        return self.pipeline.problem

    def open(
        self, rules: Sequence[Rule], symbols: Iterable[str], generation: int, suspended: Iterable[str] = ()
    ) -> int:
        """Go over the stream behind the snapshot and take the rules of now; how many batches that were."""
        epochs = self.pipeline.epochs.read()
        self._journal.at_least = max((one.position for one in epochs), default=0)
        if not epochs:
            # Nobody had the shard before: the rules of now hold for all that was published meanwhile.
            self.set_rules(rules, symbols, generation, suspended)
        count = self.pipeline.recover()
        self.set_rules(rules, symbols, generation, suspended)
        return count

    def set_rules(
        self, rules: Sequence[Rule], symbols: Iterable[str], generation: int, suspended: Iterable[str] = ()
    ) -> bool:
        """Other rules, and suspended owners, from the next batch on: what of them concerns the shard."""
        mine = []
        for rule in rules:
            if rule.symbols == ("*",):
                mine.append(rule)
            elif own := self._own(rule.symbols):
                mine.append(rule if len(own) == len(rule.symbols) else rule.model_copy(update={"symbols": own}))
        watched = dict.fromkeys([*self._own(symbols), *(name for rule in mine for name in self._own(rule.symbols))])
        self._keep_positions()
        self.generation = generation
        force = self.pipeline.in_force
        owners = force.suspension(suspended)
        return self.pipeline.change(
            force.difference(mine)._replace(symbols=tuple(watched), suspended=owners.suspended, resumed=owners.resumed)
        )

    def take(self, entries: Sequence[Entry]) -> bool:
        """Take entries that were read; whether all before the newest of them are there.

        Raises
        ------
        TemporaryError
            Redis does not answer.
        """
        entries, gap = following(self.position, self._journal.sound(entries))
        while True:
            for replayed in self._journal.replayed(entries):
                self.pipeline.take(replayed.batch, replayed.taken)
                self.taken += replayed.batch.symbols.size
            if not gap:
                return True
            # Another read them, one that does not know yet that the shard is ours; or they are lost.
            entries, gap = following(
                self.position, self._journal.sound(self._reader.behind(self.owned.shard, self.position))
            )
            if not entries:
                return not gap

    def snapshot(self, timeout: float = 1.0) -> bool:
        """Begin to keep what stands now; whether there was anything new.

        Raises
        ------
        TimeoutError
            What was found is not on the disk in time.
        """
        self._keep_positions()
        return self.pipeline.snapshot(timeout)

    def keep(self, timeout: float) -> None:
        """Keep what stands now, before another goes on from it.

        Raises
        ------
        FencedOutError, TimeoutError, TemporaryError
            It was not kept.
        """
        self.snapshot(timeout)
        self._snapshots.wait(self.owned, timeout)

    def _keep_positions(self) -> None:
        self.pipeline.positions.update(self._records.positions())

    def _own(self, symbols: Iterable[str]) -> tuple[str, ...]:
        return tuple(one for one in symbols if one != "*" and shard_of(one, self._shards) == self.owned.shard)
