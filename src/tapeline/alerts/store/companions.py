"""What goes along with a write in its own transaction: the row of the audit log, the check of a quota."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tapeline.alerts.store.database import Database

Answer = TypeVar("Answer")


class Companion(Protocol):
    """Something that takes part in the writes of a block of code."""

    last: bool
    """Whether it ends after the others: what every writer locks must be locked last, and for as short as can be."""

    def begin(self, connection: Connection) -> None:
        """Called in the transaction before the work."""

    def end(self, connection: Connection, answer: Any) -> None:
        """Called in the transaction after the work; an error takes everything back."""

    def stands(self) -> None:
        """Called when the transaction is on the disk."""


_along: Final[ContextVar[tuple[tuple[object, Companion], ...]]] = ContextVar("alert_store_companions", default=())


@contextmanager
def accompanied(database: Database, companion: Companion) -> Iterator[None]:
    """While the block runs, ``companion`` takes part in every write to ``database`` by this thread or task."""
    token = _along.set((*_along.get(), (database, companion)))
    try:
        yield
    finally:
        _along.reset(token)


@contextmanager
def together_with(database: Database, work: Callable[[Connection], object]) -> Iterator[None]:
    """While the block runs, every write to ``database`` does ``work`` as well, after its own: one flush for both."""
    with accompanied(database, _Further(work)):
        yield


@contextmanager
def alone() -> Iterator[None]:
    """While the block runs, nothing takes part: for what an accompanied block writes beside its own matter."""
    token = _along.set(())
    try:
        yield
    finally:
        _along.reset(token)


@dataclass(slots=True)
class _Further:
    """Further statements of a transaction."""

    work: Callable[[Connection], object]
    last: bool = False

    def begin(self, connection: Connection) -> None:
        """Nothing: it comes after."""

    def end(self, connection: Connection, answer: Any) -> None:
        self.work(connection)

    def stands(self) -> None:
        """Nothing is kept."""


def companions_of(database: Database) -> tuple[Companion, ...]:
    """Who takes part in the next write to a database, those that end last at the end."""
    along = _along.get()
    if not along:
        return ()
    return tuple(sorted((one for where, one in along if where is database), key=lambda one: one.last))


def together(companions: tuple[Companion, ...], work: Callable[[Connection], Answer]) -> Callable[[Connection], Answer]:
    """The work with its companions around it."""

    def both(connection: Connection) -> Answer:
        for one in companions:
            one.begin(connection)
        answer = work(connection)
        for one in companions:
            one.end(connection, answer)
        return answer

    return both
