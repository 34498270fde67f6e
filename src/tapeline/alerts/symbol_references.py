"""Who needs a symbol: watch lists, and clients for a time.

Nothing is counted up or down: who needs a symbol stands in the database (watch lists, clients) or in the rules, and the
count is taken of what stands. So a crash at any instant leaves no count that is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, insert, select, update

from tapeline.alerts.store.configuration_tables import reference, symbol
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.queries import still_held
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.core.errors import DataError
from tapeline.core.symbol import Symbol

MOST_HELD: Final = 10_000
"""Symbols that one holder may hold."""
LONGEST_LEASE: Final = 86_400 * 1_000_000_000
_SLICE: Final = 500
Kind = Literal["watchlist", "client"]


class SymbolConflictError(DataError):
    """A name at a source is another symbol's already, or a symbol has another name there, or it is still needed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """That a watch list or a client holds a symbol; ``held_until`` 0: until it lets go (nanoseconds)."""

    kind: Kind
    holder: str
    symbol: str
    owner: str
    held_until: int = 0


class SymbolReferences:
    """Watch lists and clients, and the symbols that they hold.

    Parameters
    ----------
    database:
        Of the store (``store.database``).
    clock:
        Nanoseconds since 1970.
    """

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        self._database, self._clock = database, clock

    def hold(
        self, kind: Kind, holder: str, owner: str, symbols: Iterable[str], *, until: int = 0, only: bool = True
    ) -> None:
        """Let a watch list or a client hold symbols.

        Parameters
        ----------
        until:
            Nanoseconds; 0: until :meth:`let_go`. A client says it again before it ends.
        only:
            These and no others; else these as well.

        Raises
        ------
        UnknownRecordError
            A symbol is not of the universe.
        SymbolConflictError
            The holder is another owner's.
        DataError
            It would hold more than ``MOST_HELD``, or a client would hold them for longer than ``LONGEST_LEASE``.
        """
        wanted = {str(Symbol.parse(one)) for one in symbols}
        if kind == "client" and not 0 < until - self._clock() <= LONGEST_LEASE:
            raise DataError(
                "a client holds symbols for a time, a day at most", hint="until = now + 60 s, again and again"
            )

        def work(db: Connection) -> None:
            noticed(self._database, db)
            mine = reference.c.kind == kind, reference.c.holder == holder
            standing = db.execute(select(reference).where(*mine)).all()
            if any(row.owner != owner for row in standing):
                raise SymbolConflictError(f"the {kind} {holder!r:.80} is another owner's")
            held = {row.symbol for row in standing}
            missing = wanted - held - _known(db, wanted - held)
            if missing:
                raise UnknownRecordError(f"there is no symbol {', '.join(sorted(missing)[:5])}")
            if len(wanted | (set() if only else held)) > MOST_HELD:
                raise DataError(f"the {kind} {holder!r:.80} would hold more than {MOST_HELD} symbols")
            if only and held - wanted:
                gone = sorted(held - wanted)
                for at in range(0, len(gone), _SLICE):
                    db.execute(delete(reference).where(*mine, reference.c.symbol.in_(gone[at : at + _SLICE])))
            if held & wanted and any(row.held_until != until for row in standing):
                db.execute(update(reference).where(*mine).values(held_until=until))
            fresh = [
                {"kind": kind, "holder": holder, "symbol": one, "owner": owner, "held_until": until}
                for one in sorted(wanted - held)
            ]
            if fresh:
                db.execute(insert(reference), fresh)

        self._database.write(work)

    def let_go(self, kind: Kind, holder: str, owner: str) -> int:
        """Let go of all that a holder holds; how many symbols that were."""

        def work(db: Connection) -> int:
            noticed(self._database, db)
            mine = reference.c.kind == kind, reference.c.holder == holder, reference.c.owner == owner
            return db.execute(delete(reference).where(*mine)).rowcount

        return self._database.write(work)

    def held(self, *, owner: str | None = None, kind: Kind | None = None) -> tuple[Reference, ...]:
        """The references that hold now."""
        statement = held_now(self._clock()).order_by(reference.c.kind, reference.c.holder, reference.c.symbol)
        if owner is not None:
            statement = statement.where(reference.c.owner == owner)
        if kind is not None:
            statement = statement.where(reference.c.kind == kind)
        return self._database.read(
            lambda db: tuple(
                Reference(row.kind, row.holder, row.symbol, row.owner, row.held_until) for row in db.execute(statement)
            )
        )

    def counts(self) -> Counter[str]:
        """How many watch lists and clients hold each symbol, counted now."""
        return Counter(one.symbol for one in self.held())

    def remove_ended(self) -> int:
        """Remove the references of clients whose time is over; how many."""
        over = reference.c.held_until != 0, reference.c.held_until <= self._clock()
        return self._database.write(lambda db: db.execute(delete(reference).where(*over)).rowcount)


def held_now(now: int) -> Any:
    """The references that hold at a time, as a statement."""
    return select(reference).where(still_held(now))


def noticed(database: Database, db: Connection) -> None:
    """Let running engines see that there are changes, and hold back every other writer until the transaction ends."""
    # One number of the rules: whoever looks for changes asks for numbers behind the one he knows.
    database.take_numbers(db, "rule", 1)


def _known(db: Connection, names: Collection[str]) -> set[str]:
    found: set[str] = set()
    wanted = sorted(names)
    for at in range(0, len(wanted), _SLICE):
        part = symbol.c.symbol.in_(wanted[at : at + _SLICE]), symbol.c.status != "removed"
        found.update(db.execute(select(symbol.c.symbol).where(*part)).scalars())
    return found
