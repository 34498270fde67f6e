"""What one owner may see of what all owners share: rules, firings, silences, deliveries and dead letters, in pages.

Each question takes the owner into the statement itself, so that another's row is not found and then held back but never
read. ``owner`` None is everybody: for administrators.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, exists, or_, select, tuple_

from tapeline.alerts.records import Attempt, DeadLetter, Delivery, Silence
from tapeline.alerts.store import queries, rows
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import acknowledgement, delivery, firing, rule, silence
from tapeline.alerts.store.metadata import attempt as tried
from tapeline.alerts.store.store import LARGEST_PAGE, FiringQuery, Page
from tapeline.core.errors import DataError


class RuleText(NamedTuple):
    """A rule as it stands, its body as it is kept: the JSON of a :class:`~tapeline.alerts.rule.Rule`."""

    id: str
    body: str
    revision: int
    changed_at: int
    changed_by: str


class FiringLine(NamedTuple):
    """A firing as it is kept: ``labels`` and ``sides`` are JSON, a price that is not known is None.

    From ``sequence`` on stands what explains it, which is read for single firings only.
    """

    id: str
    number: int
    rule: str
    rule_version: str
    owner: str
    symbol: str
    kind: str
    priority: str
    ts: int
    detected_at: int
    price: float | None
    late: bool
    lateness: int
    labels: str
    acknowledged_by: str | None
    acknowledged_at: int | None
    sequence: int = -1
    bar: int | None = None
    at_close: bool = False
    sides: str = "[]"


_RULE: Final = tuple(rule.c[name] for name in RuleText._fields)
_EXPLAINED: Final = tuple((firing if name in firing.c else acknowledgement).c[name] for name in FiringLine._fields)
_LINE: Final = _EXPLAINED[: -len(FiringLine._field_defaults)]
_FIRING: Final = queries.firings(*_EXPLAINED).where(firing.c.id == bindparam("id"))


class CallerQueries:
    """Questions to the database, each of one owner.

    Parameters
    ----------
    database:
        Of the alert system.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def rules(
        self, owner: str | None, *, after: str = "", limit: int = 100, enabled: bool | None = None
    ) -> tuple[RuleText, ...]:
        """Rules whose id comes after ``after``, by id; one more than ``limit`` where there are more."""
        values = {"after": after, "most": queries.page_size(limit) + 1, "owner": owner, "enabled": enabled}
        found = self._database.rows(_rules(owner is not None, enabled is not None), values)
        return tuple(map(RuleText._make, found))

    def rule(self, owner: str | None, id: str) -> RuleText | None:
        """One rule as it stands."""
        found = self._database.rows(_rule(owner is not None), {"id": id, "owner": owner})
        return RuleText._make(found[0]) if found else None

    def firings(
        self,
        query: FiringQuery,
        *,
        cursor: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
        explained: bool = False,
    ) -> Page[FiringLine]:
        """Firings by the time of their event; the owner, where it is of one, stands in the query."""
        size, columns = queries.page_size(limit), _EXPLAINED if explained else _LINE
        # One more than asked for tells whether there is a next page without counting.
        page = queries.firing_page(query, cursor, size + 1, oldest_first=oldest_first, columns=columns)
        found = self._database.rows(*page)
        items = tuple(FiringLine(*row) for row in found[:size])
        return Page(items, queries.cursor_of(items[-1].ts, items[-1].number) if len(found) > size else None)

    def firing(self, owner: str | None, id: str) -> FiringLine | None:
        """One firing with what explains it."""
        # By the id alone: with the owner in the statement SQLite would look through all that is his.
        found = self._database.rows(_FIRING, {"id": id})
        line = FiringLine._make(found[0]) if found else None
        return line if line is not None and owner in (None, line.owner) else None

    def silence(self, owner: str | None, id: str) -> Silence | None:
        """One silence."""
        statement = select(silence).where(silence.c.id == id, *_of(silence.c.owner, owner))
        found = self._database.read(lambda db: db.execute(statement).mappings().first())
        return None if found is None else rows.silence_of(found)

    def silences(
        self, owner: str | None, *, at: int | None = None, after: str = "", limit: int = 100
    ) -> tuple[Silence, ...]:
        """Silences whose id comes after ``after``, by id; with ``at`` those that have not ended by then."""
        statement = select(silence).where(silence.c.id > after, *_of(silence.c.owner, owner))
        if at is not None:
            statement = statement.where(queries.still_holds(at))
        statement = statement.order_by(silence.c.id).limit(queries.page_size(limit) + 1)
        return self._database.read(lambda db: tuple(map(rows.silence_of, db.execute(statement).mappings())))

    def delivery(self, owner: str | None, id: str) -> tuple[Delivery, tuple[Attempt, ...]] | None:
        """One delivery with every attempt at it; of somebody it is his whose firing it tells."""
        statement = select(delivery).where(delivery.c.id == id, *_told_to(owner))
        attempts = select(tried).where(tried.c.delivery == id).order_by(tried.c.number)

        def work(db: Any) -> tuple[Delivery, tuple[Attempt, ...]] | None:
            row = db.execute(statement).mappings().first()
            if row is None:
                return None
            return rows.delivery_of(row), tuple(map(rows.attempt_of, db.execute(attempts).mappings()))

        return self._database.read(work)

    def deliveries(
        self,
        owner: str | None,
        *,
        state: str | None = None,
        channel: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Delivery]:
        """Deliveries by the time of their firings' events, the newest first."""
        size = queries.page_size(limit)
        # From the owner's firings to their deliveries: what it costs depends on what he has, not on what all have.
        statement = select(delivery, firing.c.ts, firing.c.number.label("firing_number")).join(
            firing, firing.c.id == delivery.c.firing
        )
        conditions = list(_of(firing.c.owner, owner))
        if state is not None:
            conditions.append(delivery.c.state == state)
        if channel is not None:
            conditions.append(delivery.c.channel == channel)
        if cursor is not None:
            ts, number, id = _place(cursor)
            event = tuple_(firing.c.ts, firing.c.number)
            here = and_(firing.c.ts == ts, firing.c.number == number, delivery.c.id > id)
            conditions += [event <= tuple_(ts, number), or_(event < tuple_(ts, number), here)]
        order = firing.c.ts.desc(), firing.c.number.desc(), delivery.c.id
        found = self._database.read(
            lambda db: db.execute(statement.where(*conditions).order_by(*order).limit(size + 1)).mappings().all()
        )
        last = found[size - 1] if len(found) > size else None
        place = None if last is None else _cursor(last["ts"], last["firing_number"], last["id"])
        return Page(tuple(map(rows.delivery_of, found[:size])), place)

    def dead_letters(
        self, owner: str | None, *, endpoint: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[DeadLetter]:
        """What was given up, the newest first."""
        size = queries.page_size(limit)
        statement = queries.dead_page(None, endpoint, cursor, size + 1).where(*_told_to(owner))
        found = self._database.read(lambda db: db.execute(statement).mappings().all())
        last = found[size - 1] if len(found) > size else None
        place = None if last is None else queries.cursor_of(last["finished_at"], last["number"])
        return Page(tuple(map(rows.dead_letter_of, found[:size])), place)

    def dead_ids(
        self,
        owner: str | None,
        ids: Sequence[str] = (),
        *,
        endpoint: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> tuple[str, ...]:
        """The ids of dead letters, by id or by the time they died in; the oldest ``LARGEST_PAGE`` of them."""
        conditions = [*queries.dead(None, endpoint), *_told_to(owner)]
        if ids:
            conditions.append(delivery.c.id.in_(ids))
        if since is not None:
            conditions.append(delivery.c.finished_at >= since)
        if until is not None:
            conditions.append(delivery.c.finished_at < until)
        statement: Select[Any] = (
            select(delivery.c.id).where(*conditions).order_by(delivery.c.finished_at, delivery.c.number)
        )
        return self._database.read(lambda db: tuple(db.execute(statement.limit(LARGEST_PAGE)).scalars()))


@lru_cache
def _rule(owned: bool) -> Select[Any]:
    statement = select(*_RULE).where(rule.c.id == bindparam("id"))
    return statement.where(rule.c.owner == bindparam("owner")) if owned else statement


@lru_cache
def _rules(owned: bool, enabled: bool) -> Select[Any]:
    statement = select(*_RULE).where(rule.c.id > bindparam("after")).order_by(rule.c.id)
    if owned:
        statement = statement.where(rule.c.owner == bindparam("owner"))
    if enabled:
        statement = statement.where(rule.c.enabled == bindparam("enabled"))
    return statement.limit(bindparam("most", type_=Integer))


def _of(column: Any, owner: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if owner is None else (column == owner,)


def _told_to(owner: str | None) -> tuple[ColumnElement[bool], ...]:
    if owner is None:
        return ()
    return (exists().where(and_(firing.c.id == delivery.c.firing, firing.c.owner == owner)),)


def _cursor(ts: int, number: int, id: str) -> str:
    return f"{queries.cursor_of(ts, number)}.{base64.urlsafe_b64encode(id.encode()).decode().rstrip('=')}"


def _place(cursor: str) -> tuple[int, int, str]:
    front, _, back = cursor.partition(".")
    ts, number = queries.place_of(front)
    try:
        id = base64.b64decode(back + "=" * (-len(back) % 4), b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        id = ""
    if not id or not id.isprintable() or _cursor(ts, number, id) != cursor:
        raise DataError("the cursor is not one of ours", hint="begin without a cursor")
    return ts, number, id
