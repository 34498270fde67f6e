"""Who is alive and who owns which shard: leases in PostgreSQL, by the database's clock, each ownership with its epoch.

An engine that stops renewing is taken for dead after its lease. Its shards' epochs are raised when others take them,
and every transaction that writes for a shard reads the epoch first (:mod:`tapeline.alerts.scale.fenced_store`): an
engine that was paused and comes back may believe what it likes, but it cannot write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, delete, exists, insert, literal_column, select, update

from tapeline.alerts.store.database import Database
from tapeline.alerts.store.shard_tables import instance, shard
from tapeline.core.errors import ConfigurationError, DataError

FEED: Final = -1
"""The publisher of ticks holds its lease as one more shard; its epoch is the term of what it publishes."""
NOBODY: Final = ""
FORGOTTEN_AFTER: Final = 20
"""Leases after which the row of a dead engine is removed."""
_NOW: Final = literal_column("(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint", BigInteger)


class FencedOutError(DataError):
    """Another engine owns the shard since: nothing of the transaction was written, nor ever will be."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """A shard that was taken, and the epoch since which it is ours."""

    shard: int
    epoch: int


class Owner(NamedTuple):
    """Who has a shard (empty: nobody), and since which epoch."""

    name: str
    epoch: int


class View(NamedTuple):
    """What a look found: the living instances that take shards, by name, and every shard's owner."""

    engines: tuple[str, ...]
    owners: Mapping[int, Owner]


class ShardLeases:
    """One instance's way to the leases.

    Parameters
    ----------
    database:
        A PostgreSQL database: its clock is the only one that counts, and its row locks keep a takeover and a commit
        apart.
    name:
        This instance's, which no other process has at the same time.
    shards:
        Into how many parts symbols are divided; fixed once used.
    lease_seconds:
        After which this instance, silent, is taken for dead.
    engine:
        Whether it takes shards; else it only publishes ticks.

    Raises
    ------
    ConfigurationError
        The database is not PostgreSQL, or was divided into another number of shards before.
    """

    def __init__(
        self, database: Database, name: str, *, shards: int, lease_seconds: float, engine: bool = True
    ) -> None:
        self._database, self.name, self.shards, self.lease_seconds = database, name, shards, lease_seconds
        self._engine = engine
        self._lease = int(lease_seconds * 1e9)
        database.write(self._prepare)

    def look(self) -> View:
        """Say that we live, and see who else does and who owns what: one transaction."""
        return self._database.write(self._look)

    def take(self, number: int) -> Ownership | None:
        """Take a shard that nobody living has; None where somebody does."""
        living = exists().where(instance.c.name == shard.c.owner, instance.c.renewed_at + instance.c.lease > _NOW)
        # Our own of an earlier epoch is free as well: who asks for it has dropped it.
        free = (shard.c.owner == self.name) | ~living
        statement = (
            update(shard)
            .where(shard.c.shard == number, free)
            .values(owner=self.name, epoch=shard.c.epoch + 1, since=_NOW)
            .returning(shard.c.epoch)
        )
        epoch = self._database.write(lambda db: db.execute(statement).scalar())
        return None if epoch is None else Ownership(number, int(epoch))

    def hand_over(self, owned: Ownership) -> bool:
        """Let go of a shard whose state is kept: another may take it at once. False where it was not ours any more."""
        mine = shard.c.shard == owned.shard, shard.c.owner == self.name, shard.c.epoch == owned.epoch
        statement = update(shard).where(*mine).values(owner=NOBODY, since=_NOW)
        return self._database.write(lambda db: db.execute(statement).rowcount) == 1

    def holds(self, owned: Ownership) -> bool:
        """Whether a shard is still ours."""
        statement = select(shard.c.epoch).where(shard.c.shard == owned.shard, shard.c.owner == self.name)
        return bool(self._database.read(lambda db: db.execute(statement).scalar()) == owned.epoch)

    def leave(self) -> None:
        """Be no more: what is still ours may be taken at once."""
        self._database.write(lambda db: db.execute(delete(instance).where(instance.c.name == self.name)).rowcount)

    def _look(self, db: Connection) -> View:
        renewal = update(instance).where(instance.c.name == self.name).values(renewed_at=_NOW, lease=self._lease)
        if not db.execute(renewal).rowcount:
            db.execute(insert(instance).values(name=self.name, renewed_at=_NOW, lease=self._lease, engine=self._engine))
            forgotten = instance.c.renewed_at + FORGOTTEN_AFTER * instance.c.lease < _NOW
            db.execute(delete(instance).where(forgotten))
        living = select(instance.c.name).where(instance.c.engine, instance.c.renewed_at + instance.c.lease > _NOW)
        owners = db.execute(select(shard.c.shard, shard.c.owner, shard.c.epoch))
        return View(
            tuple(sorted(db.execute(living).scalars())), {row.shard: Owner(row.owner, row.epoch) for row in owners}
        )

    def _prepare(self, db: Connection) -> None:
        if db.dialect.name != "postgresql":
            raise ConfigurationError(
                "several engines need one PostgreSQL, and this is another database",
                hint="[alerts] store = 'postgresql://user:password@host/database'",
            )
        from sqlalchemy.dialects.postgresql import insert as insert_new

        rows: list[dict[str, Any]] = [
            {"shard": number, "owner": NOBODY, "epoch": 0, "since": 0} for number in (FEED, *range(self.shards))
        ]
        found = set(db.execute(select(shard.c.shard)).scalars())
        if found and found != {row["shard"] for row in rows}:
            raise ConfigurationError(
                f"[alerts.scale] shards = {self.shards}, and this database has {len(found) - 1}",
                hint="the number is fixed once used: its snapshots and streams follow from it",
            )
        if not found:
            db.execute(insert_new(shard).on_conflict_do_nothing(), rows)


def verify(db: Connection, owned: tuple[tuple[int, int], ...]) -> None:
    """Make sure, until the transaction ends, that shards are owned since these epochs.

    The rows are locked against a takeover: it waits for this transaction, or this one for it and then sees its epoch.

    Parameters
    ----------
    owned:
        Shard and epoch of each.

    Raises
    ------
    FencedOutError
        One is not.
    """
    numbers = sorted({number for number, _ in owned})
    statement = (
        select(shard.c.shard, shard.c.owner, shard.c.epoch)
        .where(shard.c.shard.in_(numbers))
        .order_by(shard.c.shard)
        .with_for_update(read=True)
    )
    found = {row.shard: row for row in db.execute(statement)}
    for number, epoch in owned:
        row = found.get(number)
        if row is None or row.epoch != epoch or row.owner == NOBODY:
            now = f"{row.owner or 'nobody'} owns it since epoch {row.epoch}" if row is not None else "it is not there"
            raise FencedOutError(
                f"shard {number} is not ours since epoch {epoch} any more: {now}; nothing was written",
                hint="it was taken over while this engine did not answer; its new owner finds the same again",
            )
