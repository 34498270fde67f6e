"""The store over a database: one implementation of the protocol for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, select, update

from tapeline.alerts.firing import Firing
from tapeline.alerts.records import Commit, Delivery, RuleState
from tapeline.alerts.store import rows
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.firing_history import FiringHistory
from tapeline.alerts.store.metadata import acknowledgement, attempt, delivery, firing, position, rule_state
from tapeline.alerts.store.outbox import Outbox
from tapeline.alerts.store.queries import page_size
from tapeline.alerts.store.rule_book import RuleBook
from tapeline.alerts.store.store import LARGEST_PAGE, Removed

_SLICE: Final = 500


class SqlStore(FiringHistory, Outbox, RuleBook):
    """The alert system's database; every method is described at :class:`tapeline.alerts.store.store.Store`.

    Parameters
    ----------
    database:
        Open, its schema the newest.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """What it writes to: other rooms keep their tables in it too."""
        return self._database

    def commit(self, commit: Commit) -> frozenset[str]:
        """Write one commit; the ids of the firings that were new."""
        return self.commit_all((commit,))[0]

    def commit_all(self, commits: Sequence[Commit]) -> tuple[frozenset[str], ...]:
        """Write several commits in one transaction; the new ids of each."""
        return self._database.write(lambda db: self._committed(db, commits))

    def _committed(self, db: Connection, commits: Sequence[Commit]) -> tuple[frozenset[str], ...]:
        # Each id once: it is a hash put into letters, and asked for again it would be made again.
        ids = [[one.id for one in commit.firings] for commit in commits]
        firings: dict[str, Firing] = {}
        for commit, own in zip(commits, ids, strict=True):
            for id, one in zip(own, commit.firings, strict=True):
                firings.setdefault(id, one)
        most = len(firings) + sum(len(commit.deliveries) for commit in commits)
        base = self._database.take_numbers(db, "commit", most)
        new = self._insert_firings(
            db, [rows.firing_row(id, one, base + n) for n, (id, one) in enumerate(firings.items(), 1)], base
        )
        answers, deliveries = _first_told(commits, ids, new)
        base += len(firings)
        self._database.put(db, delivery, [rows.delivery_row(one, base + n) for n, one in enumerate(deliveries, 1)])
        states = {(one.rule, one.symbol): one for commit in commits for one in commit.states}
        self._database.put(db, rule_state, [rows.state_row(states[key]) for key in sorted(states)])
        positions: dict[str, int] = {}
        for commit in commits:
            for feed, place in commit.positions.items():
                positions[feed] = max(place, positions.get(feed, place))
        self._database.put(db, position, sorted(positions.items()))
        return answers

    def _insert_firings(self, db: Connection, values: Sequence[tuple[Any, ...]], base: int) -> frozenset[str]:
        inserted = self._database.insert_new(db, firing, values)
        if inserted == len(values):
            return frozenset(row[0] for row in values)
        # Some were there already: those that came in now carry the numbers just taken.
        statement = select(firing.c.id).where(firing.c.number > base, firing.c.number <= base + len(values))
        return frozenset(db.execute(statement).scalars())

    def states(self, rules: Iterable[str] | None = None) -> tuple[RuleState, ...]:
        """Every rule's state for every symbol, by rule and symbol."""
        statement = select(rule_state.c.body).order_by(rule_state.c.rule, rule_state.c.symbol)
        if rules is None:
            return self._database.read(lambda db: tuple(map(rows.state_of, db.execute(statement).mappings())))
        names = sorted(set(rules))

        def work(db: Connection) -> tuple[RuleState, ...]:
            found: list[RuleState] = []
            for begin in range(0, len(names), _SLICE):
                part = statement.where(rule_state.c.rule.in_(names[begin : begin + _SLICE]))
                found += map(rows.state_of, db.execute(part).mappings())
            return tuple(found)

        return self._database.read(work)

    def forget_states(self, rule: str) -> int:
        """Remove the states of a rule; how many there were."""
        statement = delete(rule_state).where(rule_state.c.rule == rule)
        return self._database.write(lambda db: db.execute(statement).rowcount)

    def positions(self) -> dict[str, int]:
        """How far each feed has been taken."""
        statement = select(position.c.feed, position.c.position).order_by(position.c.feed)
        return self._database.read(lambda db: {row.feed: row.position for row in db.execute(statement)})

    def rewind(self, feed: str, position: int) -> None:
        """Set a feed's position, backwards too."""

        def work(db: Connection) -> None:
            self._database.put(db, _positions, [(feed, position)])
            db.execute(update(_positions).where(_positions.c.feed == feed).values(position=position))

        self._database.write(work)

    def remove_before(self, before: int, *, limit: int = LARGEST_PAGE) -> Removed:
        """Remove finished deliveries and told firings from before an instant, at most ``limit`` of each."""
        size = page_size(limit)

        def work(db: Connection) -> Removed:
            old = delivery.c.finished_at.is_not(None), delivery.c.created_at < before
            ids = (
                db.execute(select(delivery.c.id).where(*old).order_by(delivery.c.created_at).limit(size))
                .scalars()
                .all()
            )
            attempts = db.execute(delete(attempt).where(attempt.c.delivery.in_(ids))).rowcount if ids else 0
            if ids:
                db.execute(delete(delivery).where(delivery.c.id.in_(ids)))
            told = ~exists().where(delivery.c.firing == firing.c.id)
            statement = select(firing.c.id).where(firing.c.ts < before, told).order_by(firing.c.ts).limit(size)
            gone = db.execute(statement).scalars().all()
            if gone:
                db.execute(delete(acknowledgement).where(acknowledgement.c.firing.in_(gone)))
                db.execute(delete(firing).where(firing.c.id.in_(gone)))
            return Removed(len(gone), len(ids), attempts)

        return self._database.write(work)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()


_positions: Final = position


def _first_told(
    commits: Sequence[Commit], ids: Sequence[Sequence[str]], new: frozenset[str]
) -> tuple[tuple[frozenset[str], ...], list[Delivery]]:
    """What each commit brought first, and the deliveries that are written: none of a firing that was there."""
    answers: list[frozenset[str]] = []
    told: set[str] = set()
    deliveries: dict[str, Delivery] = {}
    for commit, those in zip(commits, ids, strict=True):
        own = set(those)
        fresh = (own & new) - told
        told |= fresh
        answers.append(frozenset(fresh))
        for one in commit.deliveries:
            if one.firing in own and one.firing not in fresh:
                continue
            # As the database does it: a row stays as it came, unless it is still held.
            if one.id not in deliveries or deliveries[one.id].state == "held":
                deliveries[one.id] = one
    return tuple(answers), list(deliveries.values())
