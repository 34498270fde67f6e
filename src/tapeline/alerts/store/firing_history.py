"""Firings as they are asked for afterwards: by id, in pages, in the order in which they became visible."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from tapeline.alerts.store import queries, rows
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import acknowledgement
from tapeline.alerts.store.metadata import firing as told
from tapeline.alerts.store.store import Acknowledgement, FiringQuery, Page, StoredFiring, UnknownRecordError


class FiringHistory:
    """The part of the store that reads firings and keeps acknowledgements; see the protocol for each method."""

    _database: Database

    def firing(self, id: str) -> StoredFiring | None:
        """One firing by its id."""
        found = self._database.rows(queries.FIRING, {"id": id})
        return rows.firing_of(found[0]) if found else None

    def firings(
        self,
        query: FiringQuery | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Page[StoredFiring]:
        """Firings by the time of their event, in pages."""
        size = queries.page_size(limit)
        # One more than asked for tells whether there is a next page without counting.
        found = self._database.rows(*queries.firing_page(query, cursor, size + 1, oldest_first=oldest_first))
        items = tuple(map(rows.firing_of, found[:size]))
        more = len(found) > size
        return Page(items, queries.cursor_of(items[-1].firing.ts, items[-1].number) if more else None)

    def firings_after(
        self, number: int, *, query: FiringQuery | None = None, limit: int = 100
    ) -> tuple[StoredFiring, ...]:
        """Firings in the order in which they became visible, after a number."""
        statement = (
            queries.firings()
            .where(told.c.number > number, *queries.matching(query))
            .order_by(told.c.number)
            .limit(queries.page_size(limit))
        )
        return self._database.read(lambda db: tuple(map(rows.firing_of, db.execute(statement))))

    def last_number(self) -> int:
        """The number of the newest firing."""
        statement = select(func.coalesce(func.max(told.c.number), 0))
        return int(self._database.read(lambda db: db.execute(statement).scalar_one()))

    def count_firings(self, query: FiringQuery | None = None) -> int:
        """How many firings match."""
        statement = select(func.count()).select_from(told).where(*queries.matching(query))
        return int(self._database.read(lambda db: db.execute(statement).scalar_one()))

    def acknowledge(self, firing: str, *, by: str, at: int, comment: str = "") -> bool:
        """Write down that somebody took notice."""

        def work(db: Connection) -> bool:
            number = self._database.take_numbers(db, "acknowledgement", 1) + 1
            found = db.execute(select(told.c.rule, told.c.symbol).where(told.c.id == firing)).first()
            if found is None:
                raise UnknownRecordError(f"there is no firing {firing!r}")
            # Nobody else writes one meanwhile: taking the number holds them back.
            if db.execute(select(acknowledgement.c.number).where(acknowledgement.c.firing == firing)).first():
                return False
            values = {"firing": firing, "number": number, "rule": found.rule, "symbol": found.symbol}
            said = {"acknowledged_by": by, "acknowledged_at": at, "comment": rows.plain(comment)}
            db.execute(insert(acknowledgement).values(**values, **said))
            return True

        return self._database.write(work)

    def acknowledgements(self, after: int = 0, *, limit: int = 1_000) -> tuple[Acknowledgement, ...]:
        """Acknowledgements after a number, in order."""
        statement = (
            select(acknowledgement)
            .where(acknowledgement.c.number > after)
            .order_by(acknowledgement.c.number)
            .limit(queries.page_size(limit))
        )
        return self._database.read(
            lambda db: tuple(rows.acknowledgement_of(row) for row in db.execute(statement).mappings().all())
        )
