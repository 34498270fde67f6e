"""What a client of the stream wants: its filters, the messages that set and change them, and who wants a firing."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar, get_args

from tapeline.alerts.firing import Firing, FiringKind
from tapeline.alerts.rule import PRIORITIES
from tapeline.alerts.store.store import FiringQuery
from tapeline.core.errors import ConfigurationError

MOST_NAMES: Final = 1_000
LONGEST_NAME: Final = 256
EVERYTHING: Final = "*"
_KINDS: Final = frozenset(get_args(FiringKind))
_PARTS: Final = ("symbols", "rules", "kinds")
_RANK: Final[dict[str, int]] = {priority: rank for rank, priority in enumerate(PRIORITIES)}

Names = frozenset[str] | None
"""None lets everything pass; an empty set nothing."""
Client = TypeVar("Client", bound=Hashable)


@dataclass(frozen=True)
class Filters:
    """Which firings a client gets: those that pass every part.

    Parameters
    ----------
    owner:
        Whose firings; None: everybody's.
    symbols, rules, kinds:
        Names, of which one must be the firing's; None lets everything pass, an empty set nothing.
    priority:
        The lowest priority that passes.

    Examples
    --------
    >>> firing = Firing("ab" * 32, "btc-60k", "v1", "me", "BTCUSDT", "firing", 0, 0, 1.0)
    >>> Filters(symbols=frozenset({"BTCUSDT"})).want(firing), Filters(priority="high").want(firing)
    (True, False)
    """

    owner: str | None = None
    symbols: Names = None
    rules: Names = None
    kinds: Names = None
    priority: str = "low"

    def want(self, firing: Firing) -> bool:
        """Whether a firing passes."""
        return (
            (self.owner is None or firing.owner == self.owner)
            and (self.symbols is None or firing.symbol in self.symbols)
            and (self.rules is None or firing.rule in self.rules)
            and (self.kinds is None or firing.kind in self.kinds)
            # A priority that is not known is that of a newer version: rather told than lost.
            and _RANK.get(firing.priority, len(_RANK)) >= _RANK[self.priority]
        )

    @property
    def query(self) -> FiringQuery:
        """What the store can narrow of it; :meth:`want` decides the rest."""
        kinds: Any = tuple(sorted(self.kinds)) if self.kinds else ()
        return FiringQuery(rule=_only(self.rules), symbol=_only(self.symbols), owner=self.owner, kinds=kinds)

    def shown(self) -> dict[str, Any]:
        """As it is told to the client."""
        parts = {part: None if (names := getattr(self, part)) is None else sorted(names) for part in _PARTS}
        return {**parts, "priority": self.priority}


@dataclass(frozen=True)
class Hello:
    """What a client asks for in its first message.

    ``resume`` is the cursor of the last firing that it took (None: from now on; ``"0"``: all that is kept).
    """

    resume: int | None
    filters: Filters


def read_hello(text: str | bytes, owner: str | None = None) -> Hello:
    """Read ``{"resume": "17", "symbols": [...], "rules": [...], "kinds": [...], "priority": "high", "owner": "..."}``.

    Every part may be left out; an empty list lets everything pass.

    Parameters
    ----------
    owner:
        The only one whose firings this client may see; None: he may see everybody's.

    Raises
    ------
    ConfigurationError
        It has another form, or asks for another owner's firings.

    Examples
    --------
    >>> read_hello('{"resume": "17", "symbols": ["BTCUSDT"]}').filters.symbols
    frozenset({'BTCUSDT'})
    """
    fields = _object(text)
    if fields is None or not set(fields) <= {"resume", "priority", "owner", *_PARTS}:
        raise ConfigurationError("the first message is not of the form {'resume', 'symbols', 'rules', 'kinds', ...}")
    resume = fields.get("resume")
    if resume is not None:
        if not (isinstance(resume, str) and resume.isascii() and resume.isdecimal() and len(resume) <= 18):
            raise ConfigurationError("resume is not a cursor of this stream")
        resume = int(resume)
    names = {part: _names(part, fields.get(part) or []) or None for part in _PARTS}
    asked = fields.get("owner")
    if not (asked is None or isinstance(asked, str)) or (owner is not None and asked not in (None, owner)):
        raise ConfigurationError("owner is not one whose firings this client may see")
    priority = _priority(fields.get("priority") or "low")
    return Hello(resume, Filters(owner or asked, **_everything(names), priority=priority))


def read_change(text: str | bytes, standing: Filters) -> Filters:
    """The filters after a later message: ``{"type": "subscribe", "symbols": [...]}`` or ``unsubscribe``.

    ``subscribe`` adds names; a part that let everything pass is narrowed to them, and ``["*"]`` opens it again. It
    may set ``priority``. ``unsubscribe`` takes names away; without its last name a part lets nothing pass.

    Raises
    ------
    ConfigurationError
        It has another form, would make the filter too long, or takes names out of a part that lets everything pass.

    Examples
    --------
    >>> wide = Filters(symbols=frozenset({"A"}))
    >>> read_change('{"type": "subscribe", "symbols": ["B"], "priority": "high"}', wide).shown()["symbols"]
    ['A', 'B']
    >>> read_change('{"type": "unsubscribe", "symbols": ["A"]}', wide).symbols
    frozenset()
    """
    fields = _object(text)
    kind = fields.pop("type", None) if fields is not None else None
    if fields is None or kind not in ("subscribe", "unsubscribe") or not set(fields) <= {*_PARTS, "priority"}:
        raise ConfigurationError("a message is not of the form {'type': 'subscribe' or 'unsubscribe', ...}")
    changed: dict[str, Any] = {}
    for part in _PARTS:
        if part in fields:
            held, given = getattr(standing, part), _names(part, fields[part])
            if kind == "subscribe":
                changed[part] = None if EVERYTHING in given else (held or frozenset()) | given
            elif held is None:
                raise ConfigurationError(f"{part} lets everything pass: subscribe to names before taking some away")
            else:
                changed[part] = held - given
            if changed[part] is not None and len(changed[part]) > MOST_NAMES:
                raise ConfigurationError(f"{part} would have more than {MOST_NAMES} names")
    if "priority" in fields:
        if kind == "unsubscribe":
            raise ConfigurationError("priority is set by subscribe")
        changed["priority"] = _priority(fields["priority"])
    return replace(standing, **changed)


class FilterIndex(Generic[Client]):
    """Clients by what they want: a firing is asked of those alone that its owner, symbol or rule may concern.

    Clients with equal filters stand together, and each such group stands under its symbols, or else its rules, or else
    under its owner. So a firing costs a few looks into a dictionary and the groups it finds there, however many
    clients wait for other symbols.

    Examples
    --------
    >>> index = FilterIndex()
    >>> index.add("one", Filters(symbols=frozenset({"A", "B"})))
    >>> index.add("two", Filters(symbols=frozenset({"C"})))
    >>> firing = Firing("ab" * 32, "r", "v1", "me", "A", "firing", 0, 0, 1.0)
    >>> [index.waiting(filters) for filters in index.matching(firing)]
    [('one',)]
    """

    def __init__(self) -> None:
        self._groups: dict[Filters, dict[Client, None]] = {}
        self._places: dict[tuple[str | None, str, str], dict[Filters, None]] = {}

    def add(self, client: Client, filters: Filters) -> None:
        """Let a client wait for what passes these filters; it must not wait already."""
        group = self._groups.get(filters)
        if group is None:
            group = self._groups[filters] = {}
            for place in _places(filters):
                self._places.setdefault(place, {})[filters] = None
        group[client] = None

    def remove(self, client: Client, filters: Filters) -> None:
        """Let it no longer wait; nothing happens where it did not."""
        group = self._groups.get(filters)
        if group is None or client not in group:
            return
        del group[client]
        if not group:
            del self._groups[filters]
            for place in _places(filters):
                del self._places[place][filters]
                if not self._places[place]:
                    del self._places[place]

    def matching(self, firing: Firing) -> Iterator[Filters]:
        """The filters that want a firing."""
        for owner in (firing.owner, None):
            for part, name in (("symbol", firing.symbol), ("rule", firing.rule), ("", "")):
                for filters in self._places.get((owner, part, name), ()):
                    if filters.want(firing):
                        yield filters

    def waiting(self, filters: Filters) -> tuple[Client, ...]:
        """The clients with these filters."""
        return tuple(self._groups.get(filters, ()))

    def clients(self) -> tuple[Client, ...]:
        """All of them."""
        return tuple(client for group in self._groups.values() for client in group)

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._groups)


def _places(filters: Filters) -> list[tuple[str | None, str, str]]:
    if filters.symbols is not None:
        return [(filters.owner, "symbol", name) for name in filters.symbols]
    if filters.rules is not None:
        return [(filters.owner, "rule", name) for name in filters.rules]
    return [(filters.owner, "", "")]


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _names(part: str, given: object) -> frozenset[str]:
    if not isinstance(given, list) or len(given) > MOST_NAMES or not all(_is_name(each) for each in given):
        raise ConfigurationError(f"{part} is not a list of at most {MOST_NAMES} names")
    names = frozenset(given)
    if part == "kinds" and not names <= _KINDS | {EVERYTHING}:
        raise ConfigurationError(f"kinds are {', '.join(sorted(_KINDS))}")
    return names


def _is_name(each: object) -> bool:
    return isinstance(each, str) and 0 < len(each) <= LONGEST_NAME


def _everything(names: dict[str, Names]) -> dict[str, Names]:
    return {part: None if given is not None and EVERYTHING in given else given for part, given in names.items()}


def _priority(given: object) -> str:
    if given not in PRIORITIES:
        raise ConfigurationError(f"priority is one of {', '.join(PRIORITIES)}")
    return str(given)


def _only(names: Names) -> str | None:
    return next(iter(names)) if names is not None and len(names) == 1 else None
