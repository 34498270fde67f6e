"""What the next owner of a shard goes on from, where every engine can reach it: snapshots and rules in the database.

A snapshot is the two parts of :class:`~tapeline.alerts.engine_snapshots.EngineSnapshots`, compressed. Each write makes
sure of the epoch in its own transaction: an engine that was paused replaces nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from tapeline.alerts.engine.evaluator import Evaluator, Still
from tapeline.alerts.engine_memory import Epochs, Journal, Snapshots
from tapeline.alerts.engine_snapshots import KEPT, Recovered
from tapeline.alerts.rule_epochs import Epoch
from tapeline.alerts.scale.shard_leases import Ownership, verify
from tapeline.alerts.snapshot import load_snapshot, save_snapshot
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.shard_tables import shard_rules, shard_snapshot
from tapeline.core.errors import DataError, TemporaryError

_log = logging.getLogger(__name__)
_LEVEL: Final = 1
"""Of compression: higher levels take much longer for little."""
_PAUSE: Final = 0.5
"""Seconds after which a database that did not answer is asked again."""


class Capture(NamedTuple):
    """A state as it was at a position, not yet compressed."""

    owned: Ownership
    position: int
    feeds: str
    kernel: bytes
    processor: bytes


class SnapshotWriter:
    """A thread that compresses and writes snapshots, so that the kernel does not wait for it.

    Of a shard's snapshots that wait only the newest is written.

    Parameters
    ----------
    on_durable:
        Called in the thread with the shard, the snapshot's position and the one before which nothing is needed.
    """

    def __init__(self, database: Database, on_durable: Callable[[Ownership, int, int], None]) -> None:
        self._database, self._on_durable = database, on_durable
        self._waiting: dict[Ownership, Capture] = {}
        self._failed: dict[Ownership, BaseException] = {}
        self._before: dict[Ownership, int] = {}
        self._writing: Ownership | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tapeline-shard-snapshots", daemon=True)
        self._thread.start()

    def submit(self, capture: Capture) -> int:
        """Take a snapshot to write; the position before which nothing is needed so far.

        Raises
        ------
        FencedOutError
            The one before it was refused: the shard is not ours any more.
        """
        with self._changed:
            if capture.owned in self._failed:
                raise self._failed.pop(capture.owned)
            self._waiting[capture.owned] = capture
            self._changed.notify_all()
            return self._before.get(capture.owned, 0)

    def wait(self, owned: Ownership, timeout: float) -> None:
        """Wait until what was taken of a shard is written.

        Raises
        ------
        FencedOutError, TimeoutError
            It was refused; it takes longer.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: owned not in self._waiting and self._writing != owned, timeout)
            if owned in self._failed:
                raise self._failed.pop(owned)
        if not done:
            raise TimeoutError(f"the snapshot of shard {owned.shard} was not written in {timeout} s")

    def forget(self, owned: Ownership) -> None:
        """Write nothing more of a shard that is not ours any more."""
        with self._changed:
            for known in (self._waiting, self._failed, self._before):
                known.pop(owned, None)

    def close(self) -> None:
        """End the thread; what waits is not written: the stream has it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                owned = next(iter(self._waiting))
                capture, self._writing = self._waiting.pop(owned), owned
            try:
                before = write_snapshot(self._database, capture)
                self._before[owned] = before
                self._on_durable(owned, capture.position, before)
            except TemporaryError as error:
                _log.warning("the snapshot of shard %d waits: %s", owned.shard, error)
                with self._changed:
                    self._waiting.setdefault(owned, capture)
                    self._changed.wait_for(lambda: self._closed, _PAUSE)
            except Exception as error:  # noqa: BLE001 - who waits for it must hear of it
                with self._changed:
                    self._failed[owned] = error
            finally:
                with self._changed:
                    self._writing = None
                    self._changed.notify_all()


class ShardSnapshots:
    """The newest snapshots of a shard.

    Parameters
    ----------
    owned:
        Who writes, since which epoch.
    writer:
        What writes them.
    """

    def __init__(self, database: Database, owned: Ownership, writer: SnapshotWriter) -> None:
        self._database, self._owned, self._writer = database, owned, writer

    def save(
        self, evaluator: Evaluator | Still, processor: Mapping[str, Any], position: int, feeds: Mapping[str, int]
    ) -> int:
        """Let a snapshot be written; the position before which nothing is needed any more, as far as that is durable.

        Raises
        ------
        FencedOutError
            The one before it was refused: the shard is not ours any more.
        """
        with tempfile.TemporaryDirectory(prefix="tapeline-shard-", dir=_scratch()) as folder:
            path = Path(folder) / "kernel"
            save_snapshot(evaluator, path, feeds)
            kernel = path.read_bytes()
        known = json.dumps(processor, separators=(",", ":")).encode()
        plain = json.dumps(dict(feeds), separators=(",", ":"))
        return self._writer.submit(Capture(self._owned, position, plain, kernel, known))

    def load(self) -> Recovered | None:
        """The newest snapshot that is whole; None where there is none."""
        mine = shard_snapshot.c.shard == self._owned.shard
        statement = select(shard_snapshot).where(mine).order_by(shard_snapshot.c.position.desc())
        for row in self._database.read(lambda db: db.execute(statement).all()):
            try:
                return _recovered(row)
            except (DataError, ValueError, zlib.error) as error:
                _log.warning("a snapshot of shard %d is passed over: %s", self._owned.shard, error)
        return None


def write_snapshot(database: Database, capture: Capture) -> int:
    """Write a snapshot; the position before which nothing is needed any more.

    Raises
    ------
    FencedOutError
        The shard is not ours any more; nothing was written.
    """
    kernel, known = zlib.compress(capture.kernel, _LEVEL), zlib.compress(capture.processor, _LEVEL)
    owned, place = capture.owned, shard_snapshot.c.position
    mine = shard_snapshot.c.shard == owned.shard

    def work(db: Connection) -> int:
        verify(db, ((owned.shard, owned.epoch),))
        db.execute(delete(shard_snapshot).where(mine, place == capture.position))
        db.execute(
            insert(shard_snapshot).values(
                shard=owned.shard,
                position=capture.position,
                epoch=owned.epoch,
                feeds=capture.feeds,
                kernel=kernel,
                processor=known,
                digest=_digest(kernel, known),
            )
        )
        kept = db.execute(select(place).where(mine).order_by(place.desc()).limit(KEPT)).scalars().all()
        db.execute(delete(shard_snapshot).where(mine, place < kept[-1]))
        return int(kept[-1])

    return database.write(work)


class ShardRules:
    """Which rules held in a shard from which batch on; see :class:`tapeline.alerts.rule_epochs.RuleEpochs`."""

    def __init__(self, database: Database, owned: Ownership) -> None:
        self._database, self._owned = database, owned
        self._mine = shard_rules.c.shard == owned.shard

    def begin(self, base: Epoch) -> None:
        """Make durable all that stands; changes follow it.

        Raises
        ------
        FencedOutError
            The shard is not ours any more.
        """
        self._write(base)

    def append(self, epoch: Epoch) -> None:
        """Make a change durable: it holds for the batches after its position.

        Raises
        ------
        FencedOutError
            The shard is not ours any more.
        """
        self._write(epoch)

    def read(self) -> list[Epoch]:
        """Bases and changes in their order.

        Raises
        ------
        DataError
            One cannot be read.
        """
        # A base has the number of the last change that is in it, and stands behind it.
        statement = select(shard_rules).where(self._mine).order_by(shard_rules.c.number, shard_rules.c.base)
        rows = self._database.read(lambda db: db.execute(statement).all())
        try:
            return [
                Epoch(int(row.number), int(row.position), zlib.decompress(row.body).decode(), bool(row.base))
                for row in rows
            ]
        except (ValueError, zlib.error) as error:
            raise DataError(f"the rules of shard {self._owned.shard} cannot be read: {error}") from None

    def remove(self, before: int) -> None:
        """Remove what no recovery from a snapshot at a position, or a later one, needs."""
        number, base = shard_rules.c.number, shard_rules.c.base
        older = select(func.max(number)).where(self._mine, base, shard_rules.c.position < before).scalar_subquery()
        gone = delete(shard_rules).where(self._mine, (number < older) | ((number == older) & ~base))
        self._database.write(lambda db: db.execute(gone).rowcount)

    def _write(self, epoch: Epoch) -> None:
        body = zlib.compress(epoch.text.encode(), _LEVEL)
        place = self._mine, shard_rules.c.number == epoch.number, shard_rules.c.base == epoch.base
        values = {"shard": self._owned.shard, "number": epoch.number, "base": epoch.base, "position": epoch.position}

        def work(db: Connection) -> None:
            verify(db, ((self._owned.shard, self._owned.epoch),))
            db.execute(delete(shard_rules).where(*place))
            db.execute(insert(shard_rules).values(**values, body=body))

        self._database.write(work)


class ShardMemory:
    """Snapshots, rules and stream of one shard.

    Parameters
    ----------
    journal:
        The shard's stream.
    """

    def __init__(self, database: Database, owned: Ownership, journal: Journal, writer: SnapshotWriter) -> None:
        self.snapshots: Snapshots = ShardSnapshots(database, owned, writer)
        self.epochs: Epochs = ShardRules(database, owned)
        self._journal = journal

    def journal(self, names: Sequence[str], after: int) -> Journal:
        """The stream."""
        return self._journal


class Covered(dict[int, tuple[int, dict[str, int]]]):
    """By shard, how far its older snapshot reaches, and how far its feeds are there: what need not be had again."""


def covered(database: Database) -> Covered:
    """How far the snapshots of all shards reach; of two of a shard the older, in case the newer is damaged."""
    statement = select(shard_snapshot.c.shard, shard_snapshot.c.position, shard_snapshot.c.feeds)
    rows = database.read(lambda db: db.execute(statement.order_by(shard_snapshot.c.position)).all())
    found = Covered()
    for row in rows:
        found.setdefault(row.shard, (int(row.position), json.loads(row.feeds)))
    return found


def _recovered(row: Any) -> Recovered:
    if _digest(row.kernel, row.processor) != row.digest:
        raise DataError(f"the snapshot at {row.position} is damaged: its checksum does not match")
    with tempfile.TemporaryDirectory(prefix="tapeline-shard-", dir=_scratch()) as folder:
        path = Path(folder) / "kernel"
        path.write_bytes(zlib.decompress(row.kernel))
        evaluator, feeds = load_snapshot(path)
    return Recovered(evaluator, json.loads(zlib.decompress(row.processor)), int(row.position), feeds)


def _scratch() -> str | None:
    """Memory where the system has such a folder: what lies there is read again at once and need not reach a disk."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder with a name of its own is made in it, ours alone
    return str(shared) if os.access(shared, os.W_OK) else None


def _digest(*parts: bytes) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)
    return hashed.hexdigest()
