"""Questions to the store as statements: filters, pages by key, and what a channel may take next."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from tapeline.alerts.store.configuration_tables import reference
from tapeline.alerts.store.metadata import acknowledgement, delivery, firing, silence
from tapeline.alerts.store.store import LARGEST_PAGE, FiringQuery
from tapeline.core.errors import DataError

_LARGEST: Final = 2**63 - 1
# Written out, not bound: the index of dead letters is for exactly this condition.
DEAD: Final[ColumnElement[str]] = literal_column("'dead'")


def page_size(limit: int) -> int:
    """A limit as it is used.

    Raises
    ------
    DataError
        It is not between 1 and ``LARGEST_PAGE``.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise DataError(f"limit = {limit} is not between 1 and {LARGEST_PAGE}")
    return limit


def still_holds(now: int) -> ColumnElement[bool]:
    """Of a silence, that it has not ended; one that was ended before it began ends as it begins."""
    return (silence.c.ends_at > now) & (silence.c.ends_at > silence.c.begins_at)


def still_held(now: int) -> ColumnElement[bool]:
    """Of a symbol's reference, that its holder has not let go and his time is not over."""
    return (reference.c.held_until == 0) | (reference.c.held_until > now)


def cursor_of(time: int, number: int) -> str:
    """The place in an answer after the row of this time and number, as text that says nothing to its holder.

    Examples
    --------
    >>> place_of(cursor_of(1_700_000_000_000_000_000, 42))
    (1700000000000000000, 42)
    """
    return base64.urlsafe_b64encode(f"{time}.{number}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[int, int]:
    """The time and number of a cursor.

    Raises
    ------
    DataError
        It is none that :func:`cursor_of` made.
    """
    try:
        if len(cursor) > 64:
            raise ValueError(cursor)
        time, number = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode().split(".")
        place = int(time), int(number)
        if cursor_of(*place) != cursor or not all(-_LARGEST <= part <= _LARGEST for part in place):
            raise ValueError(cursor)
    except (ValueError, binascii.Error):
        raise DataError(f"cursor {cursor[:80]!r} is not one of ours", hint="begin without a cursor") from None
    return place


_ASKED: Final[Mapping[str, Callable[[Any], ColumnElement[bool]]]] = {
    "rule": lambda value: firing.c.rule == value,
    "symbol": lambda value: firing.c.symbol == value,
    "owner": lambda value: firing.c.owner == value,
    "since": lambda value: firing.c.ts >= value,
    "until": lambda value: firing.c.ts < value,
}
"""What a query may ask of a firing beside its kinds: the condition on a value, or on a parameter in its place."""


def _asked(query: FiringQuery) -> dict[str, Any]:
    return {name: value for name in _ASKED if (value := getattr(query, name)) is not None}


def matching(query: FiringQuery | None) -> list[ColumnElement[bool]]:
    """What a query asks of a firing."""
    query = query or FiringQuery()
    conditions = [_ASKED[name](value) for name, value in _asked(query).items()]
    if query.kinds:
        conditions.append(firing.c.kind.in_(query.kinds))
    return conditions


_ACKNOWLEDGED: Final = (acknowledgement.c.acknowledged_by, acknowledgement.c.acknowledged_at)


def firings(*columns: ColumnElement[Any]) -> Select[Any]:
    """Firings beside who acknowledged them: these columns, or all."""
    return select(*(columns or (*firing.columns, *_ACKNOWLEDGED))).select_from(
        firing.outerjoin(acknowledgement, acknowledgement.c.firing == firing.c.id)
    )


FIRING: Final = firings().where(firing.c.id == bindparam("id"))


def firing_page(
    query: FiringQuery | None, cursor: str | None, limit: int, *, oldest_first: bool, columns: tuple[Any, ...] = ()
) -> tuple[Select[Any], dict[str, Any]]:
    """One page by time, as a statement and its values: it goes on from a row, so that new rows shift nothing."""
    query = query or FiringQuery()
    values = _asked(query)
    asked = tuple(values)
    values |= {f"kind_{n}": kind for n, kind in enumerate(query.kinds)} | {"most": limit}
    if cursor is not None:
        values["place_ts"], values["place_number"] = place_of(cursor)
    return _firing_page(asked, len(query.kinds), cursor is not None, oldest_first, columns), values


# To put a statement together costs ten times what SQLite takes to answer it: each form is made once.
@lru_cache(maxsize=256)
def _firing_page(
    asked: tuple[str, ...], kinds: int, placed: bool, oldest_first: bool, columns: tuple[Any, ...]
) -> Select[Any]:
    key = tuple_(firing.c.ts, firing.c.number)
    statement = (
        firings(*columns)
        .where(*(_ASKED[name](bindparam(name)) for name in asked))
        .limit(bindparam("most", type_=Integer))
    )
    if kinds:
        statement = statement.where(firing.c.kind.in_([bindparam(f"kind_{n}") for n in range(kinds)]))
    if placed:
        place = tuple_(bindparam("place_ts", type_=BigInteger), bindparam("place_number", type_=BigInteger))
        statement = statement.where(key > place if oldest_first else key < place)
    if oldest_first:
        return statement.order_by(firing.c.ts, firing.c.number)
    return statement.order_by(firing.c.ts.desc(), firing.c.number.desc())


def dead_page(channel: str | None, endpoint: str | None, cursor: str | None, limit: int) -> Select[Any]:
    """One page of dead letters, the newest first."""
    key = tuple_(delivery.c.finished_at, delivery.c.number)
    statement = select(delivery).where(*dead(channel, endpoint)).limit(limit)
    if cursor is not None:
        statement = statement.where(key < tuple_(*place_of(cursor)))
    return statement.order_by(delivery.c.finished_at.desc(), delivery.c.number.desc())


def dead(channel: str | None, endpoint: str | None) -> list[ColumnElement[bool]]:
    """Dead letters of a channel and an endpoint, where they are given."""
    conditions = [delivery.c.state == DEAD]
    if channel is not None:
        conditions.append(delivery.c.channel == channel)
    if endpoint is not None:
        conditions.append(delivery.c.endpoint == endpoint)
    return conditions


def unfinished(now: int) -> ColumnElement[bool]:
    """Rows that nobody holds at ``now``."""
    return and_(
        delivery.c.finished_at.is_(None),
        or_(delivery.c.state != "inflight", delivery.c.lease_until <= now),
    )


def outdated(now: int) -> ColumnElement[bool]:
    """Rows that nobody holds and that are past their expiry."""
    return and_(unfinished(now), delivery.c.expires_at > 0, delivery.c.expires_at <= now)


def heads(channel: str) -> Select[Any]:
    """The id of the first unfinished row of each order of a channel.

    A row never becomes unfinished again (one taken back from the dead letters gets a new number), so a row that was
    seen as the first of its order stays it until it is finished, however many claim at the same time. The orders are
    walked through one after the other in the index: what waits behind the first rows, which is all where an endpoint
    is down, is never looked at.
    """

    def waiting(alias: str) -> tuple[FromClause, tuple[ColumnElement[bool], ...]]:
        table = delivery.alias(alias)
        return table, (table.c.channel == channel, table.c.finished_at.is_(None))

    first, of_first = waiting("first")
    start = select(func.min(first.c.order_key)).where(*of_first, first.c.order_key > "").scalar_subquery()
    orders = select(start.label("order_key")).cte("orders", recursive=True)
    following, of_following = waiting("following")
    step = select(func.min(following.c.order_key)).where(*of_following, following.c.order_key > orders.c.order_key)
    orders = orders.union_all(select(step.scalar_subquery()).where(orders.c.order_key.is_not(None)))
    head, of_head = waiting("head")
    lowest = select(head.c.id).where(*of_head, head.c.order_key == orders.c.order_key).order_by(head.c.number).limit(1)
    return select(lowest.scalar_subquery().label("id")).where(orders.c.order_key.is_not(None))


def due(endpoint: str | None, now: int, limit: int) -> Select[Any]:
    """Rows that are due and held by nobody, the oldest first; which of them may go is for the caller to add."""
    where = [unfinished(now), delivery.c.not_before <= now]
    if endpoint is not None:
        where.append(delivery.c.endpoint == endpoint)
    statement = select(delivery).where(*where).order_by(delivery.c.number).limit(limit)
    return statement.with_for_update(skip_locked=True, of=delivery)
