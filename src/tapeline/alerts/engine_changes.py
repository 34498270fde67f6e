"""What changes while an engine runs: read beside it, made ready, and handed over in pieces between two batches."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from tapeline.alerts.bots.signal import CHANNEL as BOT
from tapeline.alerts.pipeline import AlertPipeline
from tapeline.alerts.records import Silence
from tapeline.alerts.routing import Route
from tapeline.alerts.rule import Rule
from tapeline.alerts.rule_source import RuleSource
from tapeline.alerts.rules_in_force import Change, Prepared
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.metadata import counter, endpoint
from tapeline.alerts.store.people_tables import user
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import Endpoint, Store
from tapeline.alerts.symbol_manager import SymbolManager
from tapeline.alerts.symbol_references import Reference
from tapeline.alerts.symbol_subscriptions import Subscriptions
from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.nanoseconds import SECOND

_log = logging.getLogger(__name__)
RULES_A_PIECE: Final = 8
"""Rules that change between two batches: each costs a tenth of a millisecond for each set of rules it changes."""
SYMBOLS_A_PIECE: Final = 50
"""Symbols that come between two batches, and that the rules of a piece name together."""
Moved = Callable[[tuple[str, ...], tuple[str, ...]], None]
Suspended = Callable[[str, bool], None]
"""Told of an owner, and whether his rules are suspended or resumed."""


@dataclass(frozen=True)
class ChangeOptions:
    """How changes are taken.

    Parameters
    ----------
    grace:
        Seconds for which a symbol that nobody needs is still followed.
    """

    grace: float = 60.0


class EngineChanges:
    """Looks at files and database, and gives a pipeline what changed.

    :meth:`look` is called by one thread, :meth:`apply` by the kernel's: what takes time (reading, compiling) is done by
    the first, so that a tick waits for one piece of a change at most.

    Parameters
    ----------
    store:
        With rules, silences, endpoints and symbols; where it is not in SQL, rules, silences and endpoints only.
    rules:
        A file or folder, or rules.
    symbols:
        That are followed whether anybody needs them or not.
    routes:
        Of the settings; they go before those of the database.
    follow:
        Called in the kernel's thread with the symbols that came and those that went.
    trace:
        Called, by who looks, for each owner whose account was disabled or enabled while the engine runs.
    clock:
        Nanoseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        rules: Path | Sequence[Rule] = (),
        symbols: Iterable[str] = (),
        routes: Mapping[tuple[str, str], Route] | None = None,
        *,
        follow: Moved = lambda coming, going: None,
        trace: Suspended = lambda owner, suspended: None,
        options: ChangeOptions | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store, self.options = store, options or ChangeOptions()
        self.silences: dict[str, Silence] = {}
        self.routes: Mapping[tuple[str, str], Route] = dict(routes or {})
        self.suspended: frozenset[str] = frozenset()
        """Owners whose accounts are disabled: their rules stay in force, nothing of them is told or sent."""
        self.slowest = 0.0
        """The longest that a piece has held the kernel's thread up, in seconds."""
        self._own_routes = dict(self.routes)
        self._always = frozenset(symbols)
        self._database = store.database if isinstance(store, SqlStore) else None
        self._manager = SymbolManager(self._database, clock=clock) if self._database is not None else None
        self._universe: frozenset[str] = frozenset()
        self._references: tuple[Reference, ...] = ()
        self._numbers: tuple[int, ...] = ()
        self._source = RuleSource(rules, store, knows=self._knows)
        self._followed = Subscriptions(grace=int(self.options.grace * SECOND))
        self._waiting: deque[Change] = deque()
        self._begun = Change()
        self._endpoints: tuple[int, ...] | None = None
        self._follow, self._clock, self._trace = follow, clock, trace
        self._looking = threading.Lock()

    @property
    def problems(self) -> dict[str, str]:
        """What is not in force, and why."""
        return dict(self._source.problems)

    @property
    def waiting(self) -> int:
        """Pieces that were not handed over yet."""
        return len(self._waiting)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that are to be in force."""
        return self._source.rules

    @property
    def followed(self) -> tuple[str, ...]:
        """The symbols that are to be followed."""
        return tuple(self._followed.followed)

    def pass_over(self) -> bool:
        """Let all pieces count as handed over, for who takes rules and symbols as a whole; whether there were any."""
        waiting = bool(self._waiting)
        self._waiting.clear()
        return waiting

    def symbols(self) -> tuple[str, ...]:
        """All symbols to begin with; reads everything for the first time.

        Raises
        ------
        ConfigurationError
            The rules of the files cannot be read.
        """
        self._read_symbols()
        self._begun = self._source.begin()
        self._read_rest()
        self.suspended = self._disabled()
        coming, _ = self._followed.update(self._needed(), self._clock())
        return coming

    def begin(self, pipeline: AlertPipeline) -> None:
        """Let a pipeline that has recovered have the rules as they are now."""
        wanted, force = set(self._followed.followed), pipeline.in_force
        meant = {rule.id: rule for rule in self._source.rules}
        removed = tuple(rule.id for rule in force.rules if rule.id not in meant)
        change, self._begun = Change(self._begun.rules, removed), Change()
        pipeline.change(force.suspension(self.suspended))
        force.adopt(meant)
        standing = tuple(one for one in pipeline.in_force.symbols if one not in wanted)
        try:
            pipeline.change(change)
        except ConfigurationError:
            # One that cannot be taken must not keep the others out.
            for piece in _singly(change):
                self._take(pipeline, piece)
        if standing:
            pipeline.change(Change(dropped=standing))

    def look(self) -> None:
        """Read what changed and make it ready. What the database cannot give now, a later look finds."""
        with self._looking:
            try:
                self._look()
            except TapelineError as error:
                _log.warning("changes are not seen for now: %s", error)
            except Exception:  # noqa: BLE001 - whoever looks must look again, whatever it was
                _log.exception("changes are not seen for now")

    def apply(self, pipeline: AlertPipeline) -> bool:
        """Let a pipeline have the next piece of what changed; whether there was one."""
        if not self._waiting:
            return False
        piece = self._waiting.popleft()
        begun = time.perf_counter()
        try:
            pipeline.change(piece)
        except ConfigurationError as error:
            if len(piece.rules) > 1:
                self._waiting.extendleft(reversed(_singly(piece)))
            else:
                self._refused(piece, error)
        # A rule may name again what was to go.
        gone = tuple(one for one in piece.dropped if one not in pipeline.in_force.symbols)
        if piece.symbols or gone:
            self._follow(piece.symbols, gone)
        self.slowest = max(self.slowest, time.perf_counter() - begun)
        return True

    def _look(self) -> None:
        seen = self._seen()
        other_symbols = self._numbers != seen
        if other_symbols:
            before = self._universe
            self._read_symbols()
            again = tuple(self._source.problems) if self._universe != before else ()
        else:
            again = ()
        self._read_rest()
        disabled = self._disabled()
        # Last, and with nothing behind it that could fail: what is given here is not given again.
        change = self._source.changes(again=again)
        if other_symbols:
            # Only now: what a read that failed has not seen is read again.
            self._numbers = seen
        coming, going = self._followed.update(self._needed(), self._clock())
        before, self.suspended = self.suspended, disabled
        if before != disabled:
            # First: who was disabled is told of nothing that other changes bring.
            went, came = tuple(sorted(disabled - before)), tuple(sorted(before - disabled))
            self._waiting.append(Change(suspended=went, resumed=came))
            for owner in (*went, *came):
                _log.warning("the rules of %s are %s", owner, "suspended" if owner in disabled else "resumed")
                self._trace(owner, owner in disabled)
        self._waiting.extend(_pieces(change, coming, going))

    def _disabled(self) -> frozenset[str]:
        if self._database is None:
            return frozenset()
        statement = select(user.c.name).where(user.c.enabled.is_(False))
        return frozenset(self._database.read(lambda db: db.execute(statement).scalars().all()))

    def _needed(self) -> set[str]:
        now = self._clock()
        held = {one.symbol for one in self._references if not one.held_until or one.held_until > now}
        return {*self._always, *self._source.references, *held}

    def _knows(self, symbol: str) -> bool:
        # Where nobody keeps a universe, any symbol is as good as another.
        return not self._universe or symbol in self._universe or symbol in self._always

    def _seen(self) -> tuple[int, ...]:
        """What rises with each change of rules, symbols and references."""
        return () if self._database is None else (_last_change(self._database),)

    def _read_symbols(self) -> None:
        if self._manager is not None:
            self._universe = self._manager.universe()
            self._references = self._manager.held()

    def _read_rest(self) -> None:
        self.silences = {one.id: one for one in self.store.silences(at=self._clock())}
        if self._database is not None:
            statement = select(func.count(), func.max(endpoint.c.changed_at)).select_from(endpoint)
            stamp = tuple(self._database.read(lambda db: db.execute(statement).one()))
            if stamp == self._endpoints:
                return
            self._endpoints = stamp
        self.routes = {**routes_of(self.store.endpoints()), **self._own_routes}

    def _take(self, pipeline: AlertPipeline, piece: Change) -> None:
        try:
            pipeline.change(piece)
        except ConfigurationError as error:
            self._refused(piece, error)

    def _refused(self, piece: Change, error: ConfigurationError) -> None:
        for rule, _ in piece.rules:
            self._source.problems[rule.id] = error.message
        _log.error("a change is not in force: %s", error)


def refusal(endpoint: Endpoint, suspended: Collection[str]) -> str:
    """Why nothing is sent to an endpoint now: its owner's account is disabled; "" where it is not.

    Examples
    --------
    >>> refusal(Endpoint("e1", "ann", "webhook", ""), {"ann"})
    'the account of ann is disabled'
    """
    return f"the account of {endpoint.owner} is disabled" if endpoint.owner in suspended else ""


def is_untouched(store: SqlStore) -> bool:
    """Whether nobody has ever kept a rule or a symbol in a database."""
    return _last_change(store.database) == 0


def routes_of(endpoints: Iterable[Endpoint]) -> dict[tuple[str, str], Route]:
    """The channels that owners have made for themselves: endpoints that share ``settings["name"]`` are one.

    A name stands for one kind of channel; an endpoint of another kind under the same name is left out.

    Examples
    --------
    >>> some = [Endpoint(id, "ann", "webhook", "", settings={"name": "bots"}) for id in ("e1", "e2")]
    >>> routes_of(some)
    {('ann', 'bots'): Route(name='bots', kind='webhook', endpoints=('e1', 'e2'), lifetime=0)}
    """
    found: dict[tuple[str, str], Route] = {}
    for one in endpoints:
        name = one.settings.get("name")
        if not isinstance(name, str) or not name:
            continue
        before = found.get((one.owner, name))
        if before is not None and before.kind != one.channel:
            _log.warning("endpoint %s is left out: the channel %s of %s is %s", one.id, name, one.owner, before.kind)
            continue
        lasting = one.settings.get("ttl" if one.channel == BOT else "lifetime_seconds", 0)
        lifetime = int(lasting * SECOND) if isinstance(lasting, int | float) and lasting > 0 else 0
        ids = (*(before.endpoints if before is not None else ()), one.id)
        found[one.owner, name] = Route(name, one.channel, ids, lifetime)
    return found


def _last_change(database: Database) -> int:
    statement = select(counter.c.value).where(counter.c.name == "rule")
    return int(database.read(lambda db: db.execute(statement).scalar()) or 0)


def _pieces(change: Change, coming: Sequence[str], going: Sequence[str]) -> list[Change]:
    """A change in pieces: symbols before the rules that name them, rules before the symbols that go."""
    pieces = [Change(symbols=tuple(coming[at : at + SYMBOLS_A_PIECE])) for at in range(0, len(coming), SYMBOLS_A_PIECE)]
    some: list[Prepared] = []
    named = 0
    for one in change.rules:
        named += len(one.rule.symbols)
        if some and (len(some) >= RULES_A_PIECE or named > SYMBOLS_A_PIECE):
            pieces.append(Change(tuple(some)))
            some, named = [], len(one.rule.symbols)
        some.append(one)
    if some:
        pieces.append(Change(tuple(some)))
    gone, steps = change.removed, range(0, len(change.removed), RULES_A_PIECE)
    pieces.extend(Change(removed=gone[at : at + RULES_A_PIECE]) for at in steps)
    steps = range(0, len(going), SYMBOLS_A_PIECE)
    pieces.extend(Change(dropped=tuple(going[at : at + SYMBOLS_A_PIECE])) for at in steps)
    return pieces


def _singly(change: Change) -> list[Change]:
    rules = [Change((one,)) for one in change.rules]
    rest = change._replace(rules=())
    return [rest, *rules] if any(rest) else rules
