"""The way of a batch: journal, kernel, processor, store; and the same way again after a crash."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import numpy as np

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine_memory import Commits, EngineMemory, FolderMemory
from tapeline.alerts.feeds.tick_journal import JournalOptions
from tapeline.alerts.latency import StageLatency
from tapeline.alerts.processor import AlertProcessor, Taken
from tapeline.alerts.records import Commit
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.series import History, SeriesFeeds
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.alerts.store.store import Store
from tapeline.core.errors import ConfigurationError

_log = logging.getLogger(__name__)
_PAGE: Final = 1_000
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
    ) -> None:
        self.store = store
        kept = FolderMemory(memory, journal) if isinstance(memory, Path) else memory
        self.snapshots = kept.snapshots
        found = self.snapshots.load()
        self.evaluator = found.evaluator if found is not None else Evaluator()
        self.evaluator.add_symbols(symbols)
        self.processor = AlertProcessor(router, self.evaluator.names, self.evaluator.rule)
        self.latency = StageLatency()
        self.positions: dict[str, int] = dict(found.feeds) if found is not None else {}
        self._position = self._saved = found.position if found is not None else 0
        if found is not None:
            self.processor.restore(found.processor)
        plain = found.processor.get("series") if found is not None else None
        self.series = SeriesFeeds(self.evaluator, history, plain)
        self._last: Future[frozenset[str]] | None = None
        self.replayed = self.firings = 0
        self.problem: BaseException | None = None
        self._clock, self._on_durable = clock, on_durable
        self._watching: dict[str, tuple[Rule, CompiledRule, tuple[str, ...]]] = {}
        self._last_acknowledgement = 0
        self.epochs = kept.epochs
        self.journal = kept.journal(self.evaluator.names, self._saved)
        self.group: Commits = group or GroupCommit(store, gather=gather, on_problem=self._told)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return tuple(rule for rule, _, _ in self._watching.values())

    def recover(self) -> int:
        """Go over the journal behind the snapshot again: what was found and never stored is stored now.

        What is found again is the same by its id and changes nothing. How many batches there were.
        """
        epochs = self.epochs.read(self._position)
        if epochs and epochs[0][0] <= self._position:
            self._apply(epochs.pop(0)[1])
        self.read_acknowledgements()
        for replayed in self.journal.replay(self._position, self.evaluator.symbols):
            while epochs and epochs[0][0] < replayed.position:
                self._apply(epochs.pop(0)[1])
            self._take(replayed.batch, replayed.taken)
            self._position = replayed.position
            self.replayed += 1
        for _, rules in epochs:
            self._apply(rules)
        # The kernel compiles where no cache of it is there: now, not at the first tick.
        self.evaluator.process(_NO_RECORDS)
        return self.replayed

    def set_rules(self, rules: Sequence[Rule]) -> bool:
        """Other rules from the next batch on; whether anything changed.

        Raises
        ------
        ConfigurationError
            A rule does not compile or names a symbol that is not known; nothing is changed then.
        """
        wanted = [rule for rule in rules if rule.enabled]
        if [rule.model_dump() for rule in wanted] == [rule.model_dump() for rule in self.rules]:
            return False
        self._compiled(wanted)
        self.journal.commit()
        self.epochs.write(self.journal.position, wanted)
        self._apply(wanted)
        # What history there is now a later recovery may not find again: what was made of it is kept at once.
        self._save()
        return True

    def take(self, batch: Batch, taken: Taken) -> Future[frozenset[str]]:
        """Take a batch; done when what it brought is on the disk."""
        self._position = self.journal.append(batch, taken)
        return self._take(batch, taken)

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
        if self._position == self._saved:
            return False
        self._save(timeout)
        return True

    def _save(self, timeout: float = 30.0) -> None:
        if self._last is not None:
            self._last.result(timeout)
        self.journal.commit()
        known = {**self.processor.snapshot(), "series": self.series.state()}
        before = self.snapshots.save(self.evaluator, known, self._position, self.positions)
        self._saved = self._position
        self.journal.remove(before)
        self.epochs.remove(before)

    def close(self) -> None:
        """Write what waits and end the store's thread; the store stays the caller's to close."""
        self.journal.close()
        self.group.close(timeout=30.0)

    def _take(self, batch: Batch, taken: Taken) -> Future[frozenset[str]]:
        if not self.processor.watermark and taken.times.size:
            # Nobody was silent before there was a first record.
            self._watch_silence(int(taken.times[0]))
        begun = time.perf_counter()
        batch, taken = self.series.take(batch, taken)
        fired = self.evaluator.process(batch)
        commit = self.processor.take(fired, taken._replace(records=batch.records), self._clock())
        self.latency.add("evaluate", time.perf_counter() - begun)
        for feed, position in taken.positions.items():
            self.positions[feed] = max(position, self.positions.get(feed, -1))
        return self._submit(commit)

    def _submit(self, commit: Commit) -> Future[frozenset[str]]:
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
                return
            self.latency.add("durable", time.perf_counter() - begun)
            new = len(answer.result())
            self.firings += new
            if new and self._on_durable is not None:
                self._on_durable(new)

        done.add_done_callback(durable)
        return done

    def _compiled(self, rules: Sequence[Rule]) -> dict[str, tuple[Rule, CompiledRule, tuple[str, ...]]]:
        inhibitors = {name for rule in rules for name in rule.inhibited_by}
        found = {}
        for rule in rules:
            symbols = tuple(self.evaluator.names) if rule.symbols == ("*",) else rule.symbols
            unknown = [one for one in symbols if one not in self.evaluator.symbols]
            if unknown:
                raise ConfigurationError(
                    f"rule {rule.id}: {', '.join(unknown[:5])} is not collected", hint="name it in [alerts] symbols"
                )
            compiled = compile_rule(rule, watched=rule.watched or rule.id in inhibitors)
            found[rule.id] = (rule, compiled, symbols)
        return found

    def _apply(self, rules: Sequence[Rule]) -> None:
        wanted = self._compiled(rules)
        if not self._watching:
            self._drop_unknown(wanted)
        for id, (_, compiled, symbols) in self._watching.items():
            standing = wanted.get(id)
            if standing is None or standing[1] != compiled:
                self.evaluator.remove(compiled.id, symbols)
            elif gone := set(symbols) - set(standing[2]):
                self.evaluator.remove(compiled.id, gone)
        self.evaluator.add_all((compiled, symbols) for _, compiled, symbols in wanted.values())
        self._watching = wanted
        self.series.set_rules((compiled, symbols) for _, compiled, symbols in wanted.values())
        self.processor.set_rules([(rule, compiled) for rule, compiled, _ in wanted.values()])
        if self.processor.watermark:
            self._watch_silence(self.processor.watermark)

    def _drop_unknown(self, wanted: dict[str, tuple[Rule, CompiledRule, tuple[str, ...]]]) -> None:
        """Take away what a snapshot held of rules that were replaced at its very batch."""
        standing: dict[str, list[str]] = {}
        for symbol in self.evaluator.names:
            for compiled in self.evaluator.rules(symbol):
                standing.setdefault(compiled.id, []).append(symbol)
        known = {compiled.id: set(symbols) for _, compiled, symbols in wanted.values()}
        for id, symbols in standing.items():
            if gone := [symbol for symbol in symbols if symbol not in known.get(id, ())]:
                self.evaluator.remove(id, gone)

    def _watch_silence(self, ts: int) -> None:
        for rule, _, symbols in self._watching.values():
            self.processor.watch_silence(rule, symbols, ts)

    def _told(self, error: Any) -> None:
        _log.warning("the alert store refuses for now: %s", error)
