"""The book of signals: each bot's signals in their order, and what became of them.

A signal begins as a row of the outbox, written in one transaction with its firing. Here it gets its place: the outbox's
rows become visible in the order of their numbers, so going over them once gives every bot a sequence without gaps,
whichever process does it. From the book signals are pushed, asked for and acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tapeline.alerts.bots.acknowledgement import LONGEST_NOTE, Acknowledgement, SignalState
from tapeline.alerts.bots.bot_settings import BotSettings, read_settings
from tapeline.alerts.bots.signal import CHANNEL, Signal, complete, read_signal
from tapeline.alerts.store import rows
from tapeline.alerts.store.bot_tables import signal, signal_counter
from tapeline.alerts.store.companions import alone
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import delivery, endpoint
from tapeline.alerts.store.queries import page_size
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.nanoseconds import SECOND

_BATCH: Final = 500
_OUTBOX: Final = "outbox"
_AFTER: Final[dict[SignalState, tuple[SignalState, ...]]] = {
    "open": ("accepted", "executed", "rejected"),
    "accepted": ("executed", "rejected"),
    "executed": (),
    "rejected": (),
}
_log: Final = logging.getLogger(__name__)


class AcknowledgementConflictError(DataError):
    """A signal was acknowledged otherwise before, and that cannot follow."""


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal and what became of it.

    Parameters
    ----------
    body:
        The signal's JSON: the same on every try.
    sent_at:
        When it left, in nanoseconds, for a bot that does not recognise a repeat; 0: not yet, or it does.
    state, state_at:
        ``open`` until the bot says ``accepted``, ``executed`` or ``rejected``.
    fill_price, fill_quantity, note:
        What the bot said.
    due_at, told_at:
        By when it is to be acknowledged (0: never), and when its owner was told that it was not (0: he was not).
    """

    bot: str
    sequence: int
    id: str
    delivery: str
    owner: str
    symbol: str
    body: str
    created_at: int
    expires_at: int
    sent_at: int = 0
    state: SignalState = "open"
    state_at: int = 0
    fill_price: float | None = None
    fill_quantity: float | None = None
    note: str = ""
    due_at: int = 0
    told_at: int = 0

    @property
    def signal(self) -> Signal:
        """The signal itself."""
        return read_signal(self.body)


class SignalBook:
    """Signals by bot.

    Parameters
    ----------
    database:
        The alert store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def number(self) -> int:
        """Give the outbox's new signals their places; how many there were. Safe from any process at any time."""
        count = 0
        if self._database.read(_waiting):
            # Who asks for signals is no part of who made them: his audit entry does not go along.
            with alone():
                looked = _BATCH
                while looked == _BATCH:
                    looked, placed = self._database.write(_number)
                    count += placed
        return count

    def place_all(self, db: Connection) -> int:
        """:meth:`number`, in a transaction that the caller has; it may hold signals of its own."""
        count, looked = 0, _BATCH
        while looked == _BATCH:
            looked, placed = _number(db)
            count += placed
        return count

    def of_delivery(self, id: str) -> StoredSignal | None:
        """The signal of a row of the outbox; None where it has no place yet, or its body is no signal."""
        return self._one(signal.c.delivery == id)

    def signal(self, bot: str, id: str, *, owner: str | None = None) -> StoredSignal | None:
        """One signal of a bot by its id; of its owner alone, where he is named."""
        return self._one(signal.c.bot == bot, signal.c.id == id, *_of(owner))

    def after(self, bot: str, sequence: int, *, limit: int = 100, owner: str | None = None) -> tuple[StoredSignal, ...]:
        """A bot's signals behind a place, in their order, also those that have expired.

        With ``owner``, none of another who had a bot of this id before.
        """
        where = signal.c.bot == bot, signal.c.sequence > sequence, *_of(owner)
        statement = select(signal).where(*where).order_by(signal.c.sequence)
        bounded = statement.limit(page_size(limit))
        return self._database.read(lambda db: tuple(map(_stored, db.execute(bounded).mappings())))

    def taken(self) -> int:
        """How far the outbox has been gone over: it rises whenever a bot has new signals."""
        statement = select(signal_counter.c.value).where(signal_counter.c.name == _OUTBOX)
        return self._database.read(lambda db: db.execute(statement).scalar() or 0)

    def begin(self, delivery: str, *, at: int) -> bool:
        """Write down that a signal leaves now; False where it left before, which may have been acted on."""
        statement = update(signal).where(signal.c.delivery == delivery, signal.c.sent_at == 0).values(sent_at=at)
        return self._database.write(lambda db: db.execute(statement).rowcount) > 0

    def take_back(self, delivery: str) -> None:
        """What :meth:`begin` wrote did not happen: nothing left."""
        statement = update(signal).where(signal.c.delivery == delivery).values(sent_at=0)
        self._database.write(lambda db: db.execute(statement))

    def acknowledge(
        self, bot: str, id: str, said: Acknowledgement, *, at: int, owner: str | None = None
    ) -> StoredSignal:
        """Write down what the bot says of a signal. The same again changes nothing.

        Raises
        ------
        UnknownRecordError
            The bot has no such signal.
        AcknowledgementConflictError
            It was rejected or executed before.
        """

        def work(db: Connection) -> StoredSignal:
            where = signal.c.bot == bot, signal.c.id == id, *_of(owner)
            row = db.execute(select(signal).where(*where).with_for_update()).mappings().first()
            if row is None:
                raise UnknownRecordError(f"the bot {bot!r} has no signal {id!r}")
            found = _stored(row)
            changed: dict[str, Any] = {}
            if said.state != found.state:
                if said.state not in _AFTER[found.state]:
                    raise AcknowledgementConflictError(
                        f"the signal {id} was {found.state} before and cannot be {said.state} now"
                    )
                changed = {
                    "state": said.state,
                    "state_at": at,
                    "fill_price": said.fill_price,
                    "fill_quantity": said.fill_quantity,
                    "note": rows.plain(said.note[:LONGEST_NOTE]),
                }
            if changed:
                db.execute(update(signal).where(*where).values(**changed))
            return _stored({**row, **changed})

        return self._database.write(work)

    def unacknowledged(self, *, now: int, limit: int = 100) -> tuple[StoredSignal, ...]:
        """Signals that are due, that no bot has acknowledged, and whose owners were not told yet."""
        statement = (
            select(signal)
            .where(signal.c.state == "open", signal.c.told_at == 0, signal.c.due_at > 0, signal.c.due_at <= now)
            .order_by(signal.c.due_at)
            .limit(page_size(limit))
        )
        return self._database.read(lambda db: tuple(map(_stored, db.execute(statement).mappings())))

    def told(self, found: Sequence[StoredSignal], *, at: int) -> Callable[[Connection], None]:
        """What writes down, in a transaction of the caller's, that the owners were told."""

        def work(db: Connection) -> None:
            for one in found:
                mine = signal.c.bot == one.bot, signal.c.sequence == one.sequence
                db.execute(update(signal).where(*mine).values(told_at=at))

        return work

    def remove_before(self, before: int) -> int:
        """Remove signals that were made before an instant (nanoseconds); how many. Their sequence goes on."""
        statement = delete(signal).where(signal.c.created_at < before)
        return self._database.write(lambda db: db.execute(statement).rowcount)

    def _one(self, *where: Any) -> StoredSignal | None:
        row = self._database.read(lambda db: db.execute(select(signal).where(*where)).mappings().first())
        return None if row is None else _stored(row)


def _of(owner: str | None) -> tuple[Any, ...]:
    return () if owner is None else (signal.c.owner == owner,)


def _waiting(db: Connection) -> bool:
    taken = select(signal_counter.c.value).where(signal_counter.c.name == _OUTBOX)
    behind = db.execute(taken).scalar() or 0
    statement = select(delivery.c.number).where(delivery.c.channel == CHANNEL, delivery.c.number > behind).limit(1)
    return db.execute(statement).first() is not None


def _number(db: Connection) -> tuple[int, int]:
    """Go over a batch of the outbox: how many rows there were, and how many of them got a place."""
    behind = _counter(db, _OUTBOX)
    statement = (
        select(delivery)
        .where(delivery.c.channel == CHANNEL, delivery.c.number > behind)
        .order_by(delivery.c.number)
        .limit(_BATCH)
    )
    found = db.execute(statement).mappings().all()
    if not found:
        return 0, 0
    # A dead letter that was taken back has a new number; its signal keeps its place.
    ids = [row["id"] for row in found]
    placed = set(db.execute(select(signal.c.delivery).where(signal.c.delivery.in_(ids))).scalars())
    bots = {row["endpoint"] for row in found}
    owners = {
        row.id: (row.owner, _settings(rows.endpoint_of(row._mapping).settings))
        for row in db.execute(select(endpoint).where(endpoint.c.id.in_(sorted(bots))))
    }
    last = {bot: _counter(db, f"bot:{bot}") for bot in sorted(bots)}
    values = []
    for row in found:
        bot = row["endpoint"]
        owner, settings = owners.get(bot, ("", None))
        if row["id"] in placed:
            continue
        made = _placed(row, owner, settings, last[bot] + 1)
        if made is not None:
            last[bot] += 1
            values.append(made)
    if values:
        db.execute(insert(signal), values)
    for name, value in [(_OUTBOX, found[-1]["number"]), *((f"bot:{bot}", last[bot]) for bot in sorted(bots))]:
        db.execute(update(signal_counter).where(signal_counter.c.name == name).values(value=value))
    return len(found), len(values)


def _placed(row: RowMapping, owner: str, settings: BotSettings | None, sequence: int) -> dict[str, Any] | None:
    try:
        draft = complete(row["body"], bot=row["endpoint"], sequence=sequence, pair="-")
    except DataError as error:
        _log.warning("the delivery %s is no signal: %s", row["id"], error.message)
        return None
    pair = settings.pair(draft.symbol) if settings is not None else draft.symbol
    full = draft.model_copy(update={"pair": pair or draft.symbol})
    within = settings.acknowledge_within if settings is not None else 0.0
    awaited = within and full.action != "hold"
    return {
        "bot": full.bot,
        "sequence": sequence,
        "id": full.id,
        "delivery": row["id"],
        "owner": owner,
        "symbol": full.symbol,
        "body": full.text(),
        "created_at": full.created_at,
        "expires_at": full.expires_at,
        "sent_at": 0,
        "state": "open" if pair is not None else "rejected",
        "state_at": 0 if pair is not None else full.created_at,
        "fill_price": None,
        "fill_quantity": None,
        "note": "" if pair is not None else f"the bot does not trade {full.symbol}",
        "due_at": full.created_at + int(within * SECOND) if awaited else 0,
        "told_at": 0,
    }


def _counter(db: Connection, name: str) -> int:
    """A counter's value, its row locked until the transaction ends."""
    locked = update(signal_counter).where(signal_counter.c.name == name).values(value=signal_counter.c.value)
    found = db.execute(locked.returning(signal_counter.c.value)).scalar()
    if found is None:
        dialect: Any = postgresql if db.dialect.name == "postgresql" else sqlite
        db.execute(dialect.insert(signal_counter).values(name=name, value=0).on_conflict_do_nothing())
        found = db.execute(locked.returning(signal_counter.c.value)).scalar_one()
    return int(found)


def _settings(settings: Any) -> BotSettings | None:
    try:
        return read_settings(settings)
    except ConfigurationError:
        return None


def _stored(row: Any) -> StoredSignal:
    return StoredSignal(**{field.name: row[field.name] for field in fields(StoredSignal)})
