"""The way of a batch: journal, kernel, processor, store; and the same way again after a crash."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.background_snapshots import BackgroundSnapshots, Moment
from tapeline.alerts.bar_series import Given
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine_memory import Commits, EngineMemory, FolderMemory
from tapeline.alerts.feeds.joining import joined
from tapeline.alerts.feeds.tick_journal import JournalOptions
from tapeline.alerts.latency import StageLatency
from tapeline.alerts.processor import AlertProcessor, Taken
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.rule_epochs import Epoch
from tapeline.alerts.rules_in_force import Change, RulesInForce, prepare
from tapeline.alerts.series import History, SeriesFeeds
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.alerts.store.store import Store
from tapeline.core.errors import DataError

_log = logging.getLogger(__name__)
_PAGE: Final = 1_000
_MOST_GIVEN: Final = 20_000
"""Bars of history that a change may carry: a megabyte."""
_NO_RECORDS: Final = Batch(
    np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.uint8)
)


class AlertPipeline:
    """Evaluator, processor, journal and store as one; one thread uses it.

    A batch is durable in the journal, or will be found again through the feeds' positions, before anything of it is
    told: positions come from the journal, never from the store, so that a firing whose batch was lost is found again
    under the same id, which the store has already.

    Parameters
    ----------
    store, router:
        Where firings go and who is told.
    memory:
        What keeps journal, snapshots and rules; or the folder of them.
    symbols:
        All that there may be rules for.
    clock:
        Nanoseconds since 1970: when something was found; decides nothing.
    on_durable:
        Called, in the store's thread, when new firings are on the disk.
    history:
        Bars of the past to begin indicators and detectors with.
    group:
        The way into the store, where several pipelines share one; else it has its own.
    detectors_apart:
        Whether detectors of patterns have a process of their own where they are many.

    Attributes
    ----------
    on_stored:
        Called, in the store's thread, with the number of a batch's firings and the seconds since its first record
        came; they are infinite where the store has refused them for good.
    """

    def __init__(
        self,
        store: Store,
        router: Router,
        memory: Path | EngineMemory,
        symbols: Iterable[str],
        *,
        clock: Callable[[], int] = time.time_ns,
        on_durable: Callable[[int], None] | None = None,
        journal: JournalOptions | None = None,
        gather: float = 0.005,
        history: History | None = None,
        group: Commits | None = None,
        detectors_apart: bool = False,
    ) -> None:
        self.store = store
        kept = FolderMemory(memory, journal) if isinstance(memory, Path) else memory
        self.snapshots = kept.snapshots
        found = self.snapshots.load()
        self.evaluator = found.evaluator if found is not None else Evaluator()
        symbols = tuple(dict.fromkeys(symbols))
        self.processor = AlertProcessor(router, self.evaluator.names, self.evaluator.rule)
        self.latency = StageLatency()
        self.positions: dict[str, int] = dict(found.feeds) if found is not None else {}
        self._position = self._saved = found.position if found is not None else 0
        if found is not None:
            self.processor.restore(found.processor)
        plain = found.processor.get("series") if found is not None else None
        self.series = SeriesFeeds(self.evaluator, history, plain, apart=detectors_apart)
        self._last: Future[frozenset[str]] | None = None
        self.replayed = self.firings = 0
        self.problem: BaseException | None = None
        self._clock, self._on_durable = clock, on_durable
        self.on_stored: Callable[[int, float], None] = lambda firings, seconds: None
        self.in_force = RulesInForce(self.evaluator, self.processor, self.series, symbols)
        self._epoch = int(found.processor.get("epoch", 0)) if found is not None else 0
        self._based = False
        self._last_acknowledgement = 0
        self.epochs = kept.epochs
        self.journal = kept.journal(self.evaluator.names, self._saved)
        self._writer = BackgroundSnapshots(self.snapshots, self.journal)
        self.group: Commits = group or GroupCommit(store, gather=gather, on_problem=self._told)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return self.in_force.rules

    def recover(self) -> int:
        """Go over the journal behind the snapshot again: what was found and never stored is stored now.

        What is found again is the same by its id and changes nothing. How many batches there were.
        """
        symbols = tuple(self.in_force.symbols)
        behind = self._standing(self.epochs.read())
        self.read_acknowledgements()
        stops = [epoch.position for epoch in behind]
        for replayed in joined(self.journal.replay(self._position, self.evaluator.symbols), stops):
            while behind and behind[0].position < replayed.position:
                self._again(behind.pop(0))
            self._take(replayed.batch, replayed.taken)
            self.replayed += replayed.position - self._position
            self._position = replayed.position
        for epoch in behind:
            self._again(epoch)
        if self._based:
            # All that stands, written once: the changes of the last run need not be gone over again.
            self._write_base()
        self.change(Change(symbols=symbols))
        # The kernel compiles where no cache of it is there: now, not at the first tick.
        self.evaluator.process(_NO_RECORDS)
        return self.replayed

    def set_rules(self, rules: Sequence[Rule]) -> bool:
        """These rules and no others from the next batch on; whether anything changed.

        Raises
        ------
        ConfigurationError
            A rule does not compile or names a symbol that is not known; nothing is changed then.
        """
        return self.change(self.in_force.difference(rules))

    def change(self, change: Change) -> bool:
        """Let a change be in force from the next batch on; whether anything changed.

        It costs what the change names and two flushes of the disk, however many other rules there are.

        Raises
        ------
        ConfigurationError
            A rule names a symbol that is not watched, or a symbol's rules need too much room; nothing is changed then.
        """
        needed = self.in_force.needed(change)
        if needed is None:
            return False
        if not self._based:
            self._write_base()
        # A position that is written down must be that of a batch which a recovery finds.
        self.journal.commit()
        self.series.begin_change()
        try:
            self.in_force.apply(needed)
        finally:
            given = self.series.end_change()
        # What history gave now it may not give a recovery: it is part of the change, or of a snapshot where it is much.
        much = sum(len(one.bars) for one in given) > _MOST_GIVEN
        self._epoch += 1
        plain = needed.plain() | {"history": None if much else [one.plain() for one in given]}
        self.epochs.append(Epoch(self._epoch, self.journal.position, _text(plain)))
        if much:
            self._save()
        return True

    def take(self, batch: Batch, taken: Taken, waited: float = 0.0) -> Future[frozenset[str]]:
        """Take a batch; done when what it brought is on the disk.

        Parameters
        ----------
        waited:
            Seconds since its first record came: part of the time that ``on_stored`` is told.
        """
        arrived = time.perf_counter() - waited
        self._position = self.journal.append(batch, taken)
        return self._take(batch, taken, arrived)

    def read_acknowledgements(self) -> int:
        """Let the processor know who has seen what since the last call; how many there were."""
        count = 0
        while some := self.store.acknowledgements(self._last_acknowledgement, limit=_PAGE):
            for one in some:
                commit = self.processor.acknowledge(one.firing, one.rule, one.symbol, one.by, one.at)
                if commit.states:
                    self._submit(commit)
                self._last_acknowledgement = one.number
                count += 1
        return count

    def snapshot(self, timeout: float = 30.0) -> bool:
        """Keep what stands now, so that a recovery begins here; whether there was anything new to keep.

        Waits until all that was found up to here is on the disk: a snapshot that knows of a firing which the store
        does not have would lose it.
        """
        self._end_snapshot(wait=True)
        if self._position == self._saved:
            return False
        self._save(timeout)
        return True

    def begin_snapshot(self) -> bool:
        """As :meth:`snapshot`, waiting for nothing but the copying of arrays; whether one was begun.

        Where there was something to keep and none was begun, ask again soon: memory for the copy is being made.
        """
        self._end_snapshot()
        if self._writer.is_busy or self._position == self._saved:
            return False
        room = self._writer.room(self.evaluator.state())
        if room is None:
            return False
        self._writer.begin(self._moment(room))
        return True

    def _save(self, timeout: float = 30.0) -> None:
        self._end_snapshot(wait=True)
        self._writer.begin(self._moment(), timeout)
        self._end_snapshot(wait=True, must=True)

    def _moment(self, room: Mapping[str, NDArray[Any]] | None = None) -> Moment:
        known, series, epoch = self.processor.still(), self.series.still(), self._epoch
        return Moment(
            self.evaluator.still(room),
            lambda: {**known(), "series": series(), "epoch": epoch},
            self._position,
            dict(self.positions),
            self._last,
        )

    def _end_snapshot(self, *, wait: bool = False, must: bool = False) -> None:
        ended = self._writer.end(wait=wait, must=must)
        if ended is not None:
            self._saved, before = ended
            self.epochs.remove(before)

    def close(self) -> None:
        """Write what waits and end the threads; the store stays the caller's to close."""
        self._writer.close()
        self.series.close()
        self.journal.close()
        self.group.close(timeout=30.0)

    def _take(self, batch: Batch, taken: Taken, arrived: float | None = None) -> Future[frozenset[str]]:
        if not self.processor.watermark and taken.times.size:
            # Nobody was silent before there was a first record.
            self.in_force.watch_silence(int(taken.times[0]))
        begun = time.perf_counter()
        batch, taken = self.series.take(batch, taken)
        fired = self.evaluator.process(batch)
        commit = self.processor.take(fired, taken._replace(records=batch.records), self._clock())
        self.latency.add("evaluate", time.perf_counter() - begun)
        for feed, position in taken.positions.items():
            self.positions[feed] = max(position, self.positions.get(feed, -1))
        return self._submit(commit, arrived)

    def _submit(self, commit: Commit, arrived: float | None = None) -> Future[frozenset[str]]:
        done: Future[frozenset[str]] = Future()
        if not (commit.firings or commit.states or commit.deliveries):
            done.set_result(frozenset())
            return done
        begun = time.perf_counter()
        done = self._last = self.group.submit(commit)

        def durable(answer: Future[frozenset[str]]) -> None:
            error = answer.exception()
            if error is not None:
                self.problem = error
                _log.error("a commit of %d firings failed: %s", len(commit.firings), error)
                if arrived is not None and commit.firings:
                    self.on_stored(len(commit.firings), math.inf)
                return
            ended = time.perf_counter()
            self.latency.add("durable", ended - begun)
            if arrived is not None and commit.firings:
                self.on_stored(len(commit.firings), ended - arrived)
            new = len(answer.result())
            self.firings += new
            if new and self._on_durable is not None:
                self._on_durable(new)

        done.add_done_callback(durable)
        return done

    def _standing(self, epochs: Sequence[Epoch]) -> list[Epoch]:
        """Have in force what the snapshot knew; the changes behind it.

        Raises
        ------
        DataError
            What stood at the snapshot is not there.
        """
        bases = [at for at, one in enumerate(epochs) if one.base and one.number <= self._epoch]
        if not epochs:
            self.in_force.restore((), self.in_force.symbols)
            return []
        if not bases:
            raise DataError(f"the rules that stood at change {self._epoch} are not there", hint="begin a new folder")
        self._based = True
        body = epochs[bases[-1]].body
        rules = {one["id"]: one for one in body["rules"]}
        symbols = dict.fromkeys(body["symbols"])
        suspended = dict.fromkeys(body.get("suspended", ()))
        behind: list[Epoch] = []
        for epoch in epochs[bases[-1] + 1 :]:
            if epoch.base:
                continue
            if epoch.number > self._epoch:
                behind.append(epoch)
                continue
            plain = epoch.body
            for id in plain["removed"]:
                rules.pop(id, None)
            for one in plain["rules"]:
                rules.pop(one["id"], None)
                if one["enabled"]:
                    rules[one["id"]] = one
            symbols = {one: None for one in (*symbols, *plain["symbols"]) if one not in plain["dropped"]}
            resumed = plain.get("resumed", ())
            suspended = {one: None for one in (*suspended, *plain.get("suspended", ())) if one not in resumed}
        # The journal names symbols before the change with which they came.
        coming = [one for epoch in behind for one in epoch.body["symbols"]]
        self.in_force.restore([prepare(Rule.model_validate(one)) for one in rules.values()], symbols, suspended)
        self.evaluator.add_symbols(coming)
        return behind

    def _again(self, epoch: Epoch) -> None:
        """Go over a change again, with the history that it had."""
        plain = epoch.body
        given = plain["history"]
        self.series.begin_change(None if given is None else map(Given.of_plain, given))
        self.in_force.apply(Change.of_plain(plain))
        self.series.end_change()
        self._epoch = epoch.number

    def _write_base(self) -> None:
        """Write down all that stands, for changes to follow."""
        self.epochs.begin(Epoch(self._epoch, self.journal.position, _text(self.in_force.plain()), base=True))
        self._based = True

    def _told(self, error: Any) -> None:
        _log.warning("the alert store refuses for now: %s", error)


def _text(plain: Any) -> str:
    return json.dumps(plain, separators=(",", ":"))
