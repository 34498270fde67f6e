"""A store that writes for a shard only while the shard is ours, which it makes sure of inside each transaction."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from sqlalchemy import Connection

from tapeline.alerts.records import Commit
from tapeline.alerts.scale.shard_leases import Ownership, verify
from tapeline.alerts.store.group_commit import GroupCommit, GroupCounts
from tapeline.alerts.store.sql_store import SqlStore


@dataclass(frozen=True, slots=True)
class FencedCommit(Commit):
    """A commit that holds only while ``shard`` is owned since ``epoch``."""

    shard: int = 0
    epoch: int = 0


class FencedStore(SqlStore):
    """A store over the same database whose commits name their shard and epoch.

    A group of commits is one transaction: where one of them is refused, none is written, and
    :class:`~tapeline.alerts.store.group_commit.GroupCommit` then writes each by itself.
    """

    def commit_all(self, commits: Sequence[Commit]) -> tuple[frozenset[str], ...]:
        """Write several commits in one transaction.

        Raises
        ------
        FencedOutError
            A shard was taken over; nothing was written.
        TypeError
            A commit names no shard.
        """
        owned = []
        for one in commits:
            if not isinstance(one, FencedCommit):
                raise TypeError("a commit that names no shard is not written here")
            owned.append((one.shard, one.epoch))
        held = tuple(dict.fromkeys(owned))

        def work(db: Connection) -> tuple[frozenset[str], ...]:
            verify(db, held)
            return self._committed(db, commits)

        return self._database.write(work)

    def close(self) -> None:
        """Nothing: the database is shared."""


class ShardCommits:
    """One shard's way into a group of commits that an instance's shards share.

    One group an instance, not one a shard: commits of all engines wait for the same row (the numbers of firings), so
    the fewer transactions the better.

    Parameters
    ----------
    group:
        Over a :class:`FencedStore`; stays the caller's to close.
    owned:
        The shard, and since which epoch it is ours.
    """

    def __init__(self, group: GroupCommit, owned: Ownership) -> None:
        self._group, self._owned = group, owned

    def submit(self, commit: Commit) -> Future[frozenset[str]]:
        """Hand over a commit; its answer fails with ``FencedOutError`` where the shard is not ours any more."""
        return self._group.submit(
            FencedCommit(
                commit.firings,
                commit.states,
                commit.deliveries,
                commit.positions,
                self._owned.shard,
                self._owned.epoch,
            )
        )

    def counts(self) -> GroupCounts:
        """What the whole group has done."""
        return self._group.counts()

    def close(self, *, timeout: float | None = None) -> None:
        """Nothing: others use the group too."""
