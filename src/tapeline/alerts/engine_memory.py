"""What a pipeline must find again after a crash, and where it keeps it: files in a folder, or what several share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from tapeline.alerts.engine.evaluator import Batch, Evaluator, Still
from tapeline.alerts.engine_snapshots import EngineSnapshots, Recovered
from tapeline.alerts.feeds.tick_journal import JournalOptions, Replayed, TickJournal
from tapeline.alerts.passage import Taken
from tapeline.alerts.records import Commit
from tapeline.alerts.rule_epochs import Epoch, RuleEpochs
from tapeline.alerts.store.group_commit import GroupCounts


class Snapshots(Protocol):
    """The newest states; see :class:`tapeline.alerts.engine_snapshots.EngineSnapshots`."""

    def save(
        self, evaluator: Evaluator | Still, processor: Mapping[str, Any], position: int, feeds: Mapping[str, int]
    ) -> int:
        """Keep a state; the position before which nothing is needed any more."""
        ...

    def load(self) -> Recovered | None:
        """The newest state that is whole."""
        ...


class Epochs(Protocol):
    """Which rules held from which batch on; see :class:`tapeline.alerts.rule_epochs.RuleEpochs`."""

    def begin(self, base: Epoch) -> None:
        """Make durable all that stands; changes follow it."""
        ...

    def append(self, epoch: Epoch) -> None:
        """Make a change durable: it holds for the batches after its position."""
        ...

    def read(self) -> list[Epoch]:
        """Bases and changes in their order."""
        ...

    def remove(self, before: int) -> None:
        """Remove what no replay after a position needs."""
        ...


class Journal(Protocol):
    """Batches by position; see :class:`tapeline.alerts.feeds.tick_journal.TickJournal`."""

    @property
    def position(self) -> int:
        """The last batch's."""
        ...

    def append(self, batch: Batch, taken: Taken) -> int:
        """Take a batch and give it its position."""
        ...

    def commit(self) -> int:
        """Make what waits durable; the last durable position."""
        ...

    def replay(self, after: int, numbers: Mapping[str, int] | None = None) -> Iterator[Replayed]:
        """The batches behind a position."""
        ...

    def remove(self, before: int) -> int:
        """Remove what a durable snapshot holds; how many parts that were."""
        ...

    def close(self) -> None:
        """Make what waits durable and close."""
        ...


class Commits(Protocol):
    """The way into the store; see :class:`tapeline.alerts.store.group_commit.GroupCommit`."""

    def submit(self, commit: Commit) -> Future[frozenset[str]]:
        """Hand over a commit: the ids of the firings that were new, once they are on the disk."""
        ...

    def counts(self) -> GroupCounts:
        """What was done, and what waits."""
        ...

    def close(self, *, timeout: float | None = None) -> None:
        """Write what waits."""
        ...


class EngineMemory(Protocol):
    """Where a pipeline keeps what it must find again."""

    @property
    def snapshots(self) -> Snapshots:
        """Of kernel and processor."""
        ...

    @property
    def epochs(self) -> Epochs:
        """Of rules."""
        ...

    def journal(self, names: Sequence[str], after: int) -> Journal:
        """The batches, whose symbols have these names, for a state at this position."""
        ...


class FolderMemory:
    """Files in a folder of one engine.

    Parameters
    ----------
    folder:
        Made where it is not there.
    options:
        When the journal makes batches durable.
    """

    def __init__(self, folder: Path, options: JournalOptions | None = None) -> None:
        self.folder, self._options = folder, options
        self.snapshots: Snapshots = EngineSnapshots(folder / "snapshots")
        self.epochs: Epochs = RuleEpochs(folder / "rules")

    def journal(self, names: Sequence[str], after: int) -> Journal:
        """The journal of the folder."""
        return TickJournal(self.folder / "journal", names, after=after, options=self._options)
