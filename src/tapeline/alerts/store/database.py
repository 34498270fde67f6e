"""One database as the store sees it: read and write transactions, bulk statements, errors in our own words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeVar

import sqlalchemy.exc
from sqlalchemy import Connection, Select, Table, bindparam, update

from tapeline.alerts.store.companions import companions_of, together
from tapeline.alerts.store.metadata import counter
from tapeline.core.errors import ConfigurationError, DataError, TapelineError, TemporaryError

Answer = TypeVar("Answer")
Values = Sequence[tuple[Any, ...]]
Counter = Literal["commit", "rule", "acknowledgement"]
LOCK_SECONDS: Final = 5.0
"""How long to wait for another process's lock."""
TAKE: Final = (
    update(counter)
    .where(counter.c.name == bindparam("which"))
    .values(value=counter.c.value + bindparam("count"))
    .returning(counter.c.value)
)
"""Reserves numbers: ``count`` of the counter ``which``; gives the last of them."""


class Database(ABC):
    """Transactions on one database; SQLite and PostgreSQL differ in what is abstract here, and in nothing else."""

    def write(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` in one transaction and return its answer once it is on the disk.

        What accompanies the caller's writes (see :mod:`tapeline.alerts.store.companions`: the audit log, quotas) takes
        part in the same transaction.
        """
        companions = companions_of(self)
        if not companions:
            return self._transact(work)
        answer = self._transact(together(companions, work))
        for one in companions:
            one.stands()
        return answer

    @abstractmethod
    def _transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """:meth:`write`, without companions."""

    @abstractmethod
    def read(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run ``work`` on one consistent state; it must not write."""

    def rows(self, statement: Select[Any], values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """The rows of one statement in the order of its columns: for what is asked again and again.

        Parameters
        ----------
        statement:
            Made once and kept, with a named parameter for each value: what it is in the database's words is kept by
            the statement itself.
        values:
            Of its parameters. Truth comes back as the database's driver has it, as a number or not.
        """
        return self.read(lambda db: db.execute(statement, dict(values)).all())

    @abstractmethod
    def insert_new(self, connection: Connection, table: Table, rows: Values) -> int:
        """Insert rows, in the order of the table's columns, whose key is not there yet; how many."""

    @abstractmethod
    def put(self, connection: Connection, table: Table, rows: Values) -> None:
        """Insert rows or replace those of the same key, by the table's own condition (see :mod:`.bulk`)."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""

    def take_numbers(self, connection: Connection, name: Counter, count: int) -> int:
        """Reserve ``count`` numbers; the last one before them. Holds back other writers until the transaction ends."""
        taken: int = connection.execute(TAKE, {"which": name, "count": count}).scalar_one()
        return taken - count


@contextmanager
def own_errors(where: str) -> Iterator[None]:
    """Turn a driver's errors into ours: what may pass, what never will, and what a person must change.

    Parameters
    ----------
    where:
        The database as messages name it: a path, or an address without its password.
    """
    try:
        yield
    except TapelineError:
        raise
    except sqlalchemy.exc.DBAPIError as error:
        raise _own(error, where) from error
    except (sqlalchemy.exc.TimeoutError, OSError) as error:
        raise TemporaryError(f"the alert store {where} does not answer: {error}") from error
    except (OverflowError, UnicodeError) as error:
        raise DataError(
            f"a value cannot be stored: {error}", hint="whole numbers have 64 bits, text is Unicode"
        ) from error


def _own(error: sqlalchemy.exc.DBAPIError, where: str) -> TapelineError:
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    kind = type(error)
    if kind in (sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError):
        return DataError(f"the alert store {where} refuses a value: {reason}")
    if kind in (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.NotSupportedError):
        return ConfigurationError(
            f"the alert store {where} refuses a statement: {reason}",
            hint="its user needs the rights to create and write the tables alert_*",
        )
    if kind is sqlalchemy.exc.DatabaseError:
        return ConfigurationError(
            f"the alert store {where} cannot be read: {reason}", hint="restore it from a backup, or name another"
        )
    return TemporaryError(f"the alert store {where} failed: {reason}")


def columns_of(rows: Values, names: Sequence[str]) -> Mapping[str, list[Any]]:
    """Rows turned into one list a column."""
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
