"""The audit log: who did what to what, in the same transaction as what was done, in a chain that shows tampering."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from tapeline.alerts.access.audit_chain import GENESIS, AuditRow, Head, HeadSigner, Verification, row_hash, verify_chain
from tapeline.alerts.access.audit_text import AuditText
from tapeline.alerts.access.principal import Principal
from tapeline.alerts.store.companions import accompanied, alone
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.people_tables import audit, audit_head
from tapeline.core.errors import DataError

LARGEST_PAGE: Final = 1_000
_HEAD: Final = "head"


@dataclass(slots=True)
class Entry:
    """What the row of a block will say; it may be set until the row is written.

    Parameters
    ----------
    before, after:
        What was there and what is: a mapping, a dataclass, a model, or a function of the write's answer. Values under
        names such as ``password``, ``token`` or ``secret`` are masked.
    id:
        Of the record; a function of the write's answer where the write makes it.
    written:
        Whether the row is on the disk.
    """

    log: AuditLog
    actor: str
    credential: str
    action: str
    kind: str
    id: str | Callable[[Any], str] = ""
    before: Any = None
    after: Any = None
    address: str = ""
    request_id: str = ""
    written: bool = False
    last: bool = True

    def begin(self, connection: Connection) -> None:
        """Nothing: the row comes last, so that the head is locked only for an instant."""

    def end(self, connection: Connection, answer: Any) -> None:
        """Append the row, unless an earlier write of the block carried it."""
        if not self.written:
            self.log.append(connection, self, answer)

    def stands(self) -> None:
        """The row is on the disk."""
        self.written = True


class AuditLog:
    """An append-only log in the alert system's database.

    Each row carries the hash of the one before; the newest number and hash stand in a head that is signed by a key
    outside the database. Writers take their turn at the head's row, so there is one chain however many there are. The
    database itself refuses to change or remove a row.

    Parameters
    ----------
    database:
        Open, with the newest schema.
    keys:
        ``[alerts.gateway] signing_keys``, the newest first. Without one the log can be read but not written.
    clock:
        Nanoseconds since 1970 UTC.
    """

    def __init__(self, database: Database, keys: Sequence[str] = (), clock: Callable[[], int] = time.time_ns) -> None:
        self._database, self._clock = database, clock
        self._signer = HeadSigner(keys)
        self._text = AuditText(keys)

    @contextmanager
    def entry(
        self,
        principal: Principal | str,
        action: str,
        kind: str,
        id: str | Callable[[Any], str] = "",
        before: Any = None,
        after: Any = None,
        address: str = "",
        request_id: str = "",
    ) -> Iterator[Entry]:
        """Tell of what the block writes: the first write to the database in it carries the row.

        Where that write fails nothing is told, as nothing was done. A block that writes nothing (something was done
        that the database does not keep) gets its row in a transaction of its own when it ends; one that raises before
        it wrote gets none. Only the first write is told of, so a block is about one change, and writes that come with
        it are done before or behind it.

        Parameters
        ----------
        principal:
            Who does it; a text for what the service does by itself.
        action, kind, id:
            What is done (``rule.create``), to which kind of record, and which.
        before, after, address, request_id:
            As in :class:`Entry`.
        """
        actor, credential = _who(principal)
        entry = Entry(self, actor, credential, action, kind, id, before, after, address, request_id)
        with accompanied(self._database, entry):
            yield entry
        if not entry.written:
            self._write_alone(entry)

    def record(self, principal: Principal | str, action: str, kind: str, id: str = "", **said: Any) -> None:
        """Tell of something that no write goes with, such as a refused login; ``said`` as in :meth:`entry`."""
        with self.entry(principal, action, kind, id, **said):
            pass

    def accept(self, principal: Principal | str, reason: str) -> AuditRow:
        """Go on from a head that carried no signature of ours, where a person knows why: a key was lost, say.

        The doubt is lifted from the head and stands in the row that this writes instead; what else is wrong with the
        chain stays wrong.
        """

        def work(connection: Connection) -> AuditRow:
            doubt = self._locked_head(connection).doubt
            actor, credential = _who(principal)
            told = {"doubted_row": doubt, "reason": reason}
            entry = Entry(self, actor, credential, "audit.accept", "audit", after=told)
            return self.append(connection, entry, None, doubt=0)

        with alone():
            return self._database.write(work)

    def _write_alone(self, entry: Entry) -> None:
        with alone():
            self._database.write(lambda connection: self.append(connection, entry, None))
        entry.written = True

    def append(self, connection: Connection, entry: Entry, answer: Any, *, doubt: int | None = None) -> AuditRow:
        """Write an entry's row in a transaction that is under way.

        ``doubt``, where it is given, becomes the head's in place of what is found.
        """
        standing = self._locked_head(connection)
        trusted = standing.number == 0 or self._signer.holds(standing)
        number = standing.number + 1
        row = AuditRow(
            number,
            self._clock(),
            self._text.line(entry.actor),
            self._text.line(entry.credential),
            self._text.line(entry.action),
            self._text.line(entry.kind),
            self._text.line(entry.id(answer) if callable(entry.id) else entry.id),
            self._text.json(entry.before(answer) if callable(entry.before) else entry.before),
            self._text.json(entry.after(answer) if callable(entry.after) else entry.after),
            self._text.line(entry.address),
            self._text.line(entry.request_id),
            previous_hash=standing.hash,
            hash="",
        )
        row = replace(row, hash=row_hash(row))
        if doubt is None:
            doubt = standing.doubt or (0 if trusted else number)
        self._put(connection, row, self._signer.signed(number, row.hash, doubt))
        return row

    def _put(self, connection: Connection, row: AuditRow, head: Head) -> None:
        connection.execute(insert(audit).values(asdict(row)))
        connection.execute(update(audit_head).where(audit_head.c.name == _HEAD).values(asdict(head)))

    def _locked_head(self, connection: Connection) -> Head:
        statement = select(audit_head).where(audit_head.c.name == _HEAD).with_for_update()
        row = connection.execute(statement).first()
        if row is None:
            # Two first writers: the second waits here for the first and then finds its head.
            values = {"name": _HEAD, "number": 0, "hash": GENESIS, "doubt": 0, "signature": ""}
            connection.execute(_insert_new(connection, values))
            row = connection.execute(statement).one()
        if row.number == 0:
            # Where rows are there already, their head was taken away: go on behind them, and say so.
            newest = connection.execute(select(audit).order_by(audit.c.number.desc()).limit(1)).first()
            return Head(newest.number, newest.hash) if newest else Head(0, GENESIS)
        return Head(row.number, row.hash, row.doubt, row.signature)

    def rows(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        kind: str | None = None,
        id: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> tuple[AuditRow, ...]:
        """Rows, the newest first.

        Parameters
        ----------
        actor, action, kind, id:
            Only his, only this action, only of this kind, only of this record.
        before:
            Only rows with a smaller number: the cursor of the next page.
        limit:
            At most so many, up to :data:`LARGEST_PAGE`.
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise DataError(f"limit = {limit} must be from 1 to {LARGEST_PAGE}")
        statement = select(audit).order_by(audit.c.number.desc()).limit(limit)
        wanted = {audit.c.actor: actor, audit.c.action: action, audit.c.kind: kind, audit.c.record: id}
        for column, value in wanted.items():
            if value is not None:
                statement = statement.where(column == value)
        if before is not None:
            statement = statement.where(audit.c.number < before)
        return self._database.read(lambda db: tuple(AuditRow(*row) for row in db.execute(statement)))

    def head(self) -> Head:
        """The end of the chain as it stands: note number and hash elsewhere to give them to :meth:`verify` later."""
        return self._database.read(_standing_head) or Head(0, GENESIS)

    def verify(self, known: Head | None = None) -> Verification:
        """Read the whole log and say what is wrong with it; see :func:`~.audit_chain.verify_chain`."""

        def work(connection: Connection) -> Verification:
            if connection.dialect.name == "postgresql":
                # By default each statement would see what was appended meanwhile, and the head would not fit the rows.
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return verify_chain(_all_rows(connection), _standing_head(connection), self._signer, known)

        return self._database.read(work)


def _who(principal: Principal | str) -> tuple[str, str]:
    return (principal, "") if isinstance(principal, str) else (principal.owner, principal.credential)


def _standing_head(connection: Connection) -> Head | None:
    row = connection.execute(select(audit_head).where(audit_head.c.name == _HEAD)).first()
    return None if row is None else Head(row.number, row.hash, row.doubt, row.signature)


def _all_rows(connection: Connection) -> Iterator[AuditRow]:
    number: int | None = None
    while True:
        statement = select(audit).order_by(audit.c.number).limit(LARGEST_PAGE)
        page = connection.execute(statement if number is None else statement.where(audit.c.number > number)).all()
        yield from (AuditRow(*row) for row in page)
        if len(page) < LARGEST_PAGE:
            return
        number = page[-1].number


def _insert_new(connection: Connection, values: Mapping[str, Any]) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(audit_head).values(values).on_conflict_do_nothing()
