"""Rows whose time is over are removed on the way, a few at a time, by whoever writes to their table anyway."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Connection, Table, delete, select

AT_ONCE: Final = 100


def forget_before(connection: Connection, table: Table, until: Column[int], instant: int) -> int:
    """Remove rows that ended before an instant, at most :data:`AT_ONCE`; how many.

    Those that somebody else holds are left for the next time: nobody waits here for anybody, so that it cannot be a
    part of a deadlock. For that it must be the last thing in a transaction that waits at all.
    """
    key: Column[Any] = next(iter(table.primary_key.columns))
    old = select(key).where(until < instant).order_by(until).limit(AT_ONCE).with_for_update(skip_locked=True)
    return connection.execute(delete(table).where(key.in_(old))).rowcount
