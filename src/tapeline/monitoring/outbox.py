"""The notifier's memory in one SQLite file: what was said, what still waits, and how much a channel may bear.

Several processes may use one file at once. Each operation is one ``BEGIN IMMEDIATE`` transaction on a connection of
its own; a message is claimed under a lease before it is sent, so that two processes never send the same one, and a
process that dies in between only delays it. Everything here may raise ``sqlite3.Error`` or ``OSError``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.channels import MAXIMUM_RETRY_AFTER, Delivery
from tapeline.monitoring.database import transaction
from tapeline.monitoring.notification import Notification

HOUR: Final = 3_600.0
MAXIMUM_AGE: Final = 86_400.0
"""Seconds after which a message that could not be sent is dropped, and counted."""
MAXIMUM_WAITING: Final = 1_000
"""Messages that may wait on one channel; beyond it the oldest are dropped, and counted."""
ALERT_MEMORY: Final = 30 * 86_400.0
"""Seconds for which a deduplication key is remembered beyond its window; keys marked ``once`` are kept for ever."""
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 900.0
THROTTLED_PAUSE: Final = 60.0
REFUSED_PAUSE: Final = HOUR
CLOCK_SLACK: Final = 60.0
"""Seconds by which a clock may be set back, or differ between machines, without voiding what was written before."""
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE alert (key TEXT PRIMARY KEY, once INTEGER NOT NULL, accepted_at REAL NOT NULL,"
    " repeats INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, notification TEXT NOT NULL,"
    " created_at REAL NOT NULL, not_before REAL NOT NULL DEFAULT 0, lease_until REAL NOT NULL DEFAULT 0,"
    " attempts INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '')",
    "CREATE INDEX outbox_channel ON outbox (channel, id)",
    "CREATE TABLE sent (id INTEGER PRIMARY KEY, channel TEXT NOT NULL, at REAL NOT NULL)",
    "CREATE INDEX sent_channel ON sent (channel, at)",
    "CREATE TABLE channel (name TEXT PRIMARY KEY, paused_until REAL NOT NULL DEFAULT 0,"
    " failures INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '')",
    "CREATE TABLE incident (subject TEXT PRIMARY KEY, since REAL NOT NULL, failures INTEGER NOT NULL,"
    " reason TEXT NOT NULL)",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)


@dataclass(frozen=True)
class Accepted:
    """What became of a notification at the door.

    ``rows`` is the outbox row of each channel; empty where it is a repeat. ``repeats`` counts how often its key came
    since it was last accepted.
    """

    rows: Mapping[str, int]
    repeats: int


@dataclass(frozen=True)
class Waiting:
    """One outbox row."""

    row: int
    notification: Notification
    created_at: float
    attempts: int


@dataclass(frozen=True)
class Claim:
    """Rows of one channel that this process may send now: one as itself, several as one digest."""

    channel: str
    messages: tuple[Waiting, ...]
    reservation: int
    dropped: int


@dataclass(frozen=True)
class Fate:
    """Where an outbox row stands.

    ``gone`` means sent: a row leaves the outbox by no other way while it is young. ``dead`` means that the channel's
    last try failed, ``attempts`` how often this row was tried.
    """

    gone: bool
    held: bool = False
    in_flight: bool = False
    paused_until: float = 0.0
    dead: bool = False
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Incident:
    """A subject that failed and has not been seen well since: from when (POSIX seconds), how often, and why last."""

    subject: str
    since: float
    failures: int
    reason: str


@dataclass(frozen=True)
class Pending:
    """What has not been said, or not as often as it happened.

    Parameters
    ----------
    waiting:
        Messages in the outbox, by channel.
    held:
        Those of them that the hourly limit holds for a digest, by channel.
    dropped:
        Messages given up since that channel's last message: too old, or too many waited.
    repeats:
        Notifications counted instead of sent since their key was last sent; for keys that may be sent again.
    oldest_seconds:
        The age of the oldest waiting message; 0 where none waits.
    reasons:
        Why the newest waiting message of a channel was not sent.
    problem:
        Why the counts could not be read; empty where they could.
    """

    waiting: Mapping[str, int]
    held: Mapping[str, int]
    dropped: Mapping[str, int]
    repeats: int = 0
    oldest_seconds: float = 0.0
    reasons: Mapping[str, str] | None = None
    problem: str = ""


class Outbox:
    """The state file.

    Parameters
    ----------
    path:
        The SQLite file; it and its folder are made where they are absent, readable by the owner only.
    clock:
        POSIX seconds. Wall time, because several processes and restarts share it; a clock that was set back makes
        pauses and leases from the future void instead of endless.
    lock_seconds:
        How long to wait for another process's transaction.
    lease_seconds:
        How long a claimed message belongs to the process that claimed it.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float], *, lock_seconds: float = 5.0, lease_seconds: float = 120.0
    ) -> None:
        self.path = path
        self._clock = clock
        self._lock_seconds = lock_seconds
        self._lease_seconds = lease_seconds

    def accept(self, notification: Notification, channels: Iterable[str], window_seconds: float) -> Accepted:
        """Put a notification into the outbox of each channel, unless its key was accepted within the window."""
        with self._transaction() as (db, now):
            self._prune(db, now)
            db.execute("DELETE FROM alert WHERE NOT once AND accepted_at < ?", (now - window_seconds - ALERT_MEMORY,))
            known = db.execute(
                "SELECT accepted_at, repeats, once FROM alert WHERE key = ?", (notification.key,)
            ).fetchone()
            if known and (notification.once or known[2] or -CLOCK_SLACK <= now - known[0] < window_seconds):
                db.execute("UPDATE alert SET repeats = repeats + 1 WHERE key = ?", (notification.key,))
                return Accepted({}, known[1] + 1)
            repeats = known[1] if known else 0
            if repeats:
                notification = notification.with_notes(f"{repeats} more of the same since the last message")
            db.execute(
                "INSERT INTO alert (key, once, accepted_at) VALUES (?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET accepted_at = excluded.accepted_at, repeats = 0",
                (notification.key, notification.once, now),
            )
            return Accepted({name: self._insert(db, name, notification, now) for name in channels}, repeats)

    def claim(self, channel: str, maximum_per_hour: int) -> Claim | None:
        """Lease what ``channel`` may send next, and reserve its place in the hourly limit; None where nothing may go.

        While the messages that wait fit into what is left of the hour, they go one by one, the oldest first. Where
        they do not fit, all but the newest go as one digest; where nothing is left, all are held for it.
        """
        with self._transaction() as (db, now):
            self._prune(db, now)
            paused_until, dropped = db.execute(
                "SELECT coalesce(max(paused_until), 0), coalesce(max(dropped), 0) FROM channel WHERE name = ?",
                (channel,),
            ).fetchone()
            if now < paused_until <= now + MAXIMUM_RETRY_AFTER + CLOCK_SLACK:
                return None
            rows = db.execute(
                "SELECT id, held, notification, created_at, attempts FROM outbox WHERE channel = ?"
                " AND NOT (not_before > ? AND not_before <= ?) AND NOT (lease_until > ? AND lease_until <= ?)"
                " ORDER BY id",
                (channel, now, now + REFUSED_PAUSE + CLOCK_SLACK, now, now + self._lease_seconds + CLOCK_SLACK),
            ).fetchall()
            sent = db.execute("SELECT count(*) FROM sent WHERE channel = ?", (channel,)).fetchone()[0]
            left = maximum_per_hour - sent
            known = self._readable(db, channel, {r[0]: r[2] for r in rows})
            rows = [r for r in rows if r[0] in known]
            if not rows:
                return None
            held, fresh = [r for r in rows if r[1]], [r for r in rows if not r[1]]
            if left <= 0:
                reason = f"the limit of {maximum_per_hour} messages an hour is reached"
                db.executemany("UPDATE outbox SET held = 1, reason = ? WHERE id = ?", [(reason, r[0]) for r in fresh])
                return None
            excess = max(len(fresh) - (left - 1), 0)
            chosen = sorted(held + fresh[:excess]) if held or len(fresh) > left else fresh[:1]
            db.executemany(
                "UPDATE outbox SET lease_until = ? WHERE id = ?", [(now + self._lease_seconds, r[0]) for r in chosen]
            )
            reservation = db.execute("INSERT INTO sent (channel, at) VALUES (?, ?)", (channel, now)).lastrowid or 0
        return Claim(channel, tuple(Waiting(r[0], known[r[0]], r[3], r[4]) for r in chosen), reservation, dropped)

    def settle(self, claim: Claim, delivery: Delivery) -> None:
        """Write down what became of a claim: remove what was sent; else give it back and pause what must pause."""
        rows = [(m.row,) for m in claim.messages]
        with self._transaction() as (db, now):
            db.execute("INSERT INTO channel (name) VALUES (?) ON CONFLICT DO NOTHING", (claim.channel,))
            if delivery.outcome == "sent":
                db.executemany("DELETE FROM outbox WHERE id = ?", rows)
                db.execute(
                    "UPDATE channel SET paused_until = 0, failures = 0, reason = '', dropped = max(dropped - ?, 0)"
                    " WHERE name = ?",
                    (claim.dropped, claim.channel),
                )
                return
            db.execute("DELETE FROM sent WHERE id = ?", (claim.reservation,))
            not_before = now + REFUSED_PAUSE if delivery.outcome == "refused" else 0.0
            db.executemany(
                "UPDATE outbox SET lease_until = 0, not_before = ?, attempts = attempts + 1, reason = ? WHERE id = ?",
                [(not_before, delivery.detail, row) for (row,) in rows],
            )
            if delivery.outcome == "refused":
                return
            failures = db.execute("SELECT failures FROM channel WHERE name = ?", (claim.channel,)).fetchone()[0]
            if delivery.outcome == "throttled":
                pause = THROTTLED_PAUSE if delivery.retry_after is None else delivery.retry_after
            else:
                pause = min(FIRST_PAUSE * 2.0 ** min(failures, 10), LONGEST_PAUSE)
                pause, failures = max(pause, delivery.retry_after or 0.0), failures + 1
            db.execute(
                "UPDATE channel SET paused_until = ?, failures = ?, reason = ? WHERE name = ?",
                (now + min(pause, MAXIMUM_RETRY_AFTER), failures, delivery.detail, claim.channel),
            )

    def fate(self, row: int) -> Fate:
        """Where an outbox row stands now."""
        with self._transaction() as (db, now):
            found = db.execute(
                "SELECT o.held, o.lease_until, o.attempts, o.reason, c.paused_until, c.failures, c.reason"
                " FROM outbox o LEFT JOIN channel c ON c.name = o.channel WHERE o.id = ?",
                (row,),
            ).fetchone()
        if found is None:
            return Fate(gone=True)
        held, lease_until, attempts, reason, paused_until, failures, channel_reason = found
        return Fate(
            gone=False,
            held=bool(held),
            in_flight=lease_until > now,
            paused_until=paused_until or 0.0,
            dead=bool(failures),
            attempts=attempts,
            reason=reason or channel_reason or "",
        )

    def pending(self) -> Pending:
        """The counts of what waits, was held, dropped or only counted."""
        with self._transaction() as (db, now):
            rows = db.execute(
                "SELECT channel, count(*), sum(held), min(created_at) FROM outbox GROUP BY channel"
            ).fetchall()
            reasons = dict(db.execute("SELECT channel, reason FROM outbox WHERE reason != '' ORDER BY id").fetchall())
            dropped = dict(db.execute("SELECT name, dropped FROM channel WHERE dropped > 0").fetchall())
            repeats = db.execute("SELECT coalesce(sum(repeats), 0) FROM alert WHERE NOT once").fetchone()[0]
        return Pending(
            waiting={r[0]: r[1] for r in rows},
            held={r[0]: r[2] for r in rows if r[2]},
            dropped=dropped,
            repeats=repeats,
            oldest_seconds=max((max(now - r[3], 0.0) for r in rows), default=0.0),
            reasons=reasons,
        )

    def open_incident(self, subject: str, reason: str) -> Incident:
        """Remember that ``subject`` failed; a further failure only raises the count."""
        with self._transaction() as (db, now):
            found = db.execute(
                "INSERT INTO incident (subject, since, failures, reason) VALUES (?, ?, 1, ?)"
                " ON CONFLICT (subject) DO UPDATE SET failures = failures + 1, reason = excluded.reason"
                " RETURNING subject, since, failures, reason",
                (subject, now, reason),
            ).fetchone()
        return Incident(*found)

    def close_incident(self, subject: str) -> Incident | None:
        """Forget the failure of ``subject`` and return it; None where it had not failed. One process gets it."""
        with self._transaction() as (db, _):
            found = db.execute(
                "DELETE FROM incident WHERE subject = ? RETURNING subject, since, failures, reason", (subject,)
            ).fetchone()
        return Incident(*found) if found else None

    def _insert(self, db: sqlite3.Connection, channel: str, notification: Notification, now: float) -> int:
        row = db.execute(
            "INSERT INTO outbox (channel, notification, created_at) VALUES (?, ?, ?)",
            (channel, notification.to_json(), now),
        ).lastrowid
        surplus = db.execute(
            "DELETE FROM outbox WHERE channel = ? AND id <= (SELECT id FROM outbox WHERE channel = ?"
            " ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (channel, channel, MAXIMUM_WAITING),
        ).rowcount
        self._count_dropped(db, channel, surplus)
        return row or 0

    def _readable(self, db: sqlite3.Connection, channel: str, texts: Mapping[int, str]) -> dict[int, Notification]:
        # A row that another version or a damaged disk left unreadable must not stand in the way of all others.
        known: dict[int, Notification] = {}
        for row, text in texts.items():
            try:
                known[row] = Notification.from_json(text)
            except (ValueError, KeyError, TypeError, AttributeError, ConfigurationError):
                db.execute("DELETE FROM outbox WHERE id = ?", (row,))
        self._count_dropped(db, channel, len(texts) - len(known))
        return known

    def _prune(self, db: sqlite3.Connection, now: float) -> None:
        aged = "created_at < ? AND NOT (lease_until > ? AND lease_until <= ?)"
        bounds = (now - MAXIMUM_AGE, now, now + self._lease_seconds + CLOCK_SLACK)
        for channel, count in db.execute(
            f"SELECT channel, count(*) FROM outbox WHERE {aged} GROUP BY channel",  # noqa: S608 - a constant
            bounds,
        ).fetchall():
            self._count_dropped(db, channel, count)
        db.execute(f"DELETE FROM outbox WHERE {aged}", bounds)  # noqa: S608 - a constant
        # A record from the future is left by a clock that was set back; it must not count against the limit for ever.
        db.execute("DELETE FROM sent WHERE at <= ? OR at > ?", (now - HOUR, now + CLOCK_SLACK))

    @staticmethod
    def _count_dropped(db: sqlite3.Connection, channel: str, count: int) -> None:
        if count > 0:
            db.execute(
                "INSERT INTO channel (name, dropped) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET dropped = dropped + excluded.dropped",
                (channel, count),
            )

    @contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, float]]:
        with transaction(
            self.path, _SCHEMA, version=_SCHEMA_VERSION, lock_seconds=self._lock_seconds, synchronous="FULL"
        ) as db:
            # Read under the lock: taken before it, another process's newer lease would seem to lie in the future.
            yield db, self._clock()
