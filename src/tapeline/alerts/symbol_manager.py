"""Symbols: which there are, and what each source calls them; who needs them stands in :mod:`.symbol_references`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, insert, select, update

from tapeline.alerts.exchange_listings import Listing
from tapeline.alerts.store.configuration_tables import alias, reference, symbol
from tapeline.alerts.store.store import Page, UnknownRecordError
from tapeline.alerts.symbol_references import SymbolConflictError, SymbolReferences, held_now, noticed
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol

MOST_SYMBOLS: Final = 100_000
_SLICE: Final = 500
Status = Literal["trading", "halted", "removed"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol of the universe.

    Parameters
    ----------
    symbol:
        As rules name it.
    base, quote:
        What is traded for what; empty where it is not known.
    asset_class:
        Such as ``crypto``, ``equity``, ``fx``.
    status:
        ``trading``, ``halted``, or ``removed``: rules can name it no more.
    """

    symbol: str
    base: str = ""
    quote: str = ""
    asset_class: str = "crypto"
    status: Status = "trading"

    def __post_init__(self) -> None:
        Symbol.parse(self.symbol)
        for name in (self.base, self.quote):
            if name:
                Symbol.parse(name)
        if not self.asset_class.isidentifier() or len(self.asset_class) > 32:
            raise ConfigurationError(f"asset_class = {self.asset_class!r:.40} is no name", hint="crypto, equity, fx")
        if self.status not in ("trading", "halted", "removed"):
            raise ConfigurationError(f"status = {self.status!r:.40} is none", hint="trading, halted or removed")


class SymbolManager(SymbolReferences):
    """The universe of symbols, their aliases and the references to them, in the alert system's database.

    Parameters
    ----------
    database:
        Of the store (``store.database``).
    clock:
        Nanoseconds since 1970.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.alerts.store.sqlite import open_sqlite
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_sqlite(Path(folder) / "alerts.db")
    ...     symbols = SymbolManager(store.database, clock=lambda: 0)
    ...     symbols.add([Instrument("BTCUSD", "BTC", "USD")], by="ann")
    ...     symbols.name("kraken", "XBT/USD", "BTCUSD")
    ...     symbols.hold("watchlist", "mine", "ann", ["BTCUSD"])
    ...     symbols.resolve("kraken", "XBT/USD"), dict(symbols.counts())
    ...     store.close()
    1
    ('BTCUSD', {'BTCUSD': 1})
    """

    # -- the universe

    def add(self, instruments: Iterable[Instrument], *, by: str) -> int:
        """Add instruments or change them, all or none; how many are new or were changed.

        Raises
        ------
        DataError
            There would be more than ``MOST_SYMBOLS``.
        """
        wanted = {one.symbol: one for one in instruments}

        def work(db: Connection) -> int:
            noticed(self._database, db)
            return self._added(db, wanted, by)

        return self._database.write(work)

    def put(self, one: Instrument, names: Mapping[str, str], *, by: str) -> None:
        """Add one instrument or change it, with its names at sources, in one transaction; see :meth:`name`."""

        def work(db: Connection) -> None:
            noticed(self._database, db)
            self._added(db, {one.symbol: one}, by)
            for source, name in names.items():
                self._named(db, _source(source), str(Symbol.parse(name)), one.symbol)

        self._database.write(work)

    def take_listings(self, source: str, listings: Iterable[Listing], *, by: str) -> int:
        """Take what a venue lists into the universe, with the venue's names; how many symbols are new or changed.

        What a symbol is traded for stays as the first source said; a symbol that the venue halts and another source
        names too stays as it is.
        """
        listed = list(listings)

        def work(db: Connection) -> int:
            noticed(self._database, db)
            standing = {one.symbol: one for one in _instruments(db)}
            named = dict(
                db.execute(select(alias.c.name, alias.c.symbol).where(alias.c.source == _source(source))).all()
            )
            elsewhere = set(db.execute(select(alias.c.symbol).where(alias.c.source != source)).scalars())
            fresh, changed, names, now = [], 0, [], self._clock()
            for one in listed:
                status: Status = "trading" if one.trading else "halted"
                before = standing.get(one.symbol)
                if before is None:
                    made = Instrument(one.symbol, one.base, one.quote, one.asset_class, status)
                    fresh.append(_symbol_row(made, by, now))
                elif before.status not in ("removed", status) and one.symbol not in elsewhere:
                    changed += 1
                    statement = update(symbol).where(symbol.c.symbol == one.symbol)
                    db.execute(statement.values(status=status, changed_by=by, changed_at=now))
                holder = named.get(one.name)
                if holder is None:
                    names.append({"source": source, "name": one.name, "symbol": one.symbol})
                elif holder != one.symbol:
                    raise SymbolConflictError(f"{one.name} of {source} is {holder} already, not {one.symbol}")
            if len(standing) + len(fresh) > MOST_SYMBOLS:
                raise DataError(f"there would be more than {MOST_SYMBOLS} symbols")
            if fresh:
                db.execute(insert(symbol), fresh)
            taken = set(named.values())
            for name in names:
                if name["symbol"] in taken:
                    raise SymbolConflictError(f"{name['symbol']} has another name at {source} already")
            if names:
                db.execute(insert(alias), names)
            return len(fresh) + changed

        return self._database.write(work)

    def remove(self, name: str, *, by: str) -> None:
        """Take a symbol out of the universe; its aliases go, what was recorded stays.

        Raises
        ------
        UnknownRecordError
            There is none of that name.
        SymbolConflictError
            A watch list or a client holds it.
        """

        def work(db: Connection) -> None:
            noticed(self._database, db)
            row = db.execute(select(symbol.c.status).where(symbol.c.symbol == name)).first()
            if row is None or row.status == "removed":
                raise UnknownRecordError(f"there is no symbol {name!r:.80}")
            if holder := db.execute(held_now(self._clock()).where(reference.c.symbol == name).limit(1)).first():
                raise SymbolConflictError(f"{name} is held by the {holder.kind} {holder.holder}")
            db.execute(delete(alias).where(alias.c.symbol == name))
            values = {"status": "removed", "changed_by": by, "changed_at": self._clock()}
            db.execute(update(symbol).where(symbol.c.symbol == name).values(**values))

        self._database.write(work)

    def instrument(self, name: str) -> Instrument | None:
        """One symbol; None where there is none or it was removed."""

        def work(db: Connection) -> Instrument | None:
            row = db.execute(select(symbol).where(symbol.c.symbol == name, symbol.c.status != "removed")).first()
            return None if row is None else _instrument(row)

        return self._database.read(work)

    def instruments(self, *, cursor: str = "", limit: int = 1_000, prefix: str = "") -> Page[Instrument]:
        """The universe by symbol; ``prefix``: those that begin so."""
        if not 1 <= limit <= 1_000:
            raise DataError(f"limit = {limit} must be from 1 to 1000")
        statement = select(symbol).where(symbol.c.status != "removed", symbol.c.symbol > cursor)
        if prefix:
            statement = statement.where(symbol.c.symbol.startswith(prefix, autoescape=True))
        statement = statement.order_by(symbol.c.symbol).limit(limit + 1)
        found = self._database.read(lambda db: [_instrument(row) for row in db.execute(statement)])
        return Page(tuple(found[:limit]), found[limit - 1].symbol if len(found) > limit else None)

    def universe(self) -> frozenset[str]:
        """Every symbol that rules may name."""
        statement = select(symbol.c.symbol).where(symbol.c.status != "removed")
        return self._database.read(lambda db: frozenset(db.execute(statement).scalars()))

    # -- names at sources

    def name(self, source: str, name: str, of: str) -> None:
        """Say what a source calls a symbol; the same again is no change.

        Raises
        ------
        ConfigurationError
            The name can be no instrument's, or the source's is none.
        UnknownRecordError
            There is no such symbol.
        SymbolConflictError
            The name is another symbol's at the source, or the symbol has another name there.
        """
        given, at = str(Symbol.parse(name)), _source(source)

        def work(db: Connection) -> None:
            noticed(self._database, db)
            self._named(db, at, given, of)

        self._database.write(work)

    def unname(self, source: str, name: str) -> bool:
        """Forget what a source calls a symbol; False where nothing is known."""

        def work(db: Connection) -> bool:
            noticed(self._database, db)
            return db.execute(delete(alias).where(alias.c.source == source, alias.c.name == name)).rowcount > 0

        return self._database.write(work)

    def resolve(self, source: str, name: str) -> str | None:
        """The symbol that a source calls so."""
        statement = select(alias.c.symbol).where(alias.c.source == source, alias.c.name == name)
        return self._database.read(lambda db: db.execute(statement).scalar())

    def names(self, symbols: Collection[str] | None = None) -> dict[str, dict[str, str]]:
        """By symbol and source what it is called there; of all symbols where none are given."""

        def work(db: Connection) -> dict[str, dict[str, str]]:
            found: dict[str, dict[str, str]] = {}
            wanted = sorted(symbols) if symbols is not None else None
            parts = [wanted[at : at + _SLICE] for at in range(0, len(wanted), _SLICE)] if wanted is not None else [None]
            for part in parts:
                statement = select(alias).order_by(alias.c.symbol, alias.c.source)
                if part is not None:
                    statement = statement.where(alias.c.symbol.in_(part))
                for row in db.execute(statement):
                    found.setdefault(row.symbol, {})[row.source] = row.name
            return found

        return self._database.read(work)

    def _added(self, db: Connection, wanted: Mapping[str, Instrument], by: str) -> int:
        standing = {one.symbol: one for one in _instruments(db)}
        if len(standing.keys() | wanted.keys()) > MOST_SYMBOLS:
            raise DataError(f"there would be more than {MOST_SYMBOLS} symbols")
        changed = [one for one in wanted.values() if standing.get(one.symbol) != one]
        now = self._clock()
        fresh = [_symbol_row(one, by, now) for one in changed if one.symbol not in standing]
        if fresh:
            db.execute(insert(symbol), fresh)
        for one in changed:
            if one.symbol in standing:
                row = _symbol_row(one, by, now)
                db.execute(update(symbol).where(symbol.c.symbol == one.symbol).values(**row))
        return len(changed)

    def _named(self, db: Connection, at: str, given: str, of: str) -> None:
        known = select(symbol.c.symbol).where(symbol.c.symbol == of, symbol.c.status != "removed")
        if db.execute(known).first() is None:
            raise UnknownRecordError(f"there is no symbol {of!r:.80}")
        statement = select(alias).where(alias.c.source == at)
        for row in db.execute(statement.where((alias.c.name == given) | (alias.c.symbol == of))):
            if row.name == given and row.symbol == of:
                return
            said = f"is {row.symbol} already" if row.name == given else f"is called {row.name} there already"
            raise SymbolConflictError(f"{given if row.name == given else of} of {at} {said}")
        db.execute(insert(alias).values(source=at, name=given, symbol=of))


def _source(name: str) -> str:
    if not name.replace("_", "").isalnum() or not name.isascii() or len(name) > 32:
        raise ConfigurationError(f"source {name!r:.40} is no name", hint="such as binance")
    return name


def _instruments(db: Connection) -> list[Instrument]:
    return [_instrument(row) for row in db.execute(select(symbol))]


def _instrument(row: Any) -> Instrument:
    return Instrument(row.symbol, row.base, row.quote, row.asset_class, row.status)


def _symbol_row(one: Instrument, by: str, now: int) -> Mapping[str, Any]:
    return {
        "symbol": one.symbol,
        "base": one.base,
        "quote": one.quote,
        "asset_class": one.asset_class,
        "status": one.status,
        "changed_by": by,
        "changed_at": now,
    }
