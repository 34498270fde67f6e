"""A configuration as a document: what an owner has set, in one order and without a secret; what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.alerts.catalogue import Catalogue, catalogue
from tapeline.alerts.plain_text import PlainTextError, read_plain, write_plain
from tapeline.alerts.records import Silence
from tapeline.alerts.rule import Line, Name, Rule, SymbolName
from tapeline.alerts.rule_files import read_entry, rule_to_plain
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND

SECTIONS: Final = ("rules", "silences", "endpoints", "aliases")
MOST: Final[Mapping[str, int]] = {"rules": 100_000, "silences": 10_000, "endpoints": 1_000, "aliases": 100_000}
Place = tuple[str | int, ...]


class Fault(NamedTuple):
    """One thing that is wrong: the line (0 where there is none), the place such as ``rules[2].cooldown``, and what."""

    line: int
    place: str
    reason: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.place + ': ' if self.place else ''}{self.reason}"


class ConfigurationFaultError(ConfigurationError):
    """A document that cannot be applied; ``faults`` are all of them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        shown = [str(one) for one in self.faults[:20]]
        if len(self.faults) > 20:
            shown.append(f"and {len(self.faults) - 20} more")
        super().__init__("\n".join(shown))


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SilenceEntry(_Entry):
    """A silence; times to the nanosecond."""

    id: Name
    matchers: dict[Name, Line] = Field(min_length=1, max_length=10)
    begins_at: str
    ends_at: str
    comment: str = Field("", max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")

    @model_validator(mode="after")
    def _in_order(self) -> SilenceEntry:
        if instant_of(self.begins_at) > instant_of(self.ends_at):
            raise ValueError("ends_at is before begins_at")
        return self

    def silence(self, owner: str, by: str) -> Silence:
        """The silence of an owner."""
        begins, ends = instant_of(self.begins_at), instant_of(self.ends_at)
        return Silence(self.id, owner, dict(self.matchers), begins, ends, self.comment, by)

    @classmethod
    def of(cls, one: Silence) -> SilenceEntry:
        """A silence that stands."""
        return cls(
            id=one.id,
            matchers=dict(sorted(one.matchers.items())),
            begins_at=instant_text(one.begins_at),
            ends_at=instant_text(one.ends_at),
            comment=one.comment,
        )


class EndpointEntry(_Entry):
    """What of an endpoint may be shown and set: never its address, never its secrets."""

    id: Name
    channel: Name
    name: Name | None = None
    enabled: bool = True
    per_minute: float | None = Field(None, gt=0, le=100_000)
    lifetime_seconds: float | None = Field(None, ge=0, le=30 * 86_400)

    @classmethod
    def of(cls, one: Endpoint) -> EndpointEntry:
        """An endpoint that stands."""
        settings = {name: one.settings.get(name) for name in ("name", "per_minute", "lifetime_seconds")}
        return cls(id=one.id, channel=one.channel, enabled=one.enabled, **settings)

    def settings(self) -> dict[str, Any]:
        """What of it stands in the endpoint's settings."""
        return self.model_dump(include={"name", "per_minute", "lifetime_seconds"}, exclude_none=True)


class AliasEntry(_Entry):
    """What a source calls a symbol."""

    source: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    name: SymbolName
    symbol: SymbolName

    @property
    def id(self) -> str:
        """What it is told apart by."""
        return f"{self.source}:{self.name}"


_ENTRIES: Final[Mapping[str, type[_Entry]]] = {
    "silences": SilenceEntry,
    "endpoints": EndpointEntry,
    "aliases": AliasEntry,
}


@dataclass(frozen=True)
class Document:
    """What an owner has set, by id. A section that is None is not spoken of: it stays as it is."""

    rules: Mapping[str, Rule] | None = None
    silences: Mapping[str, SilenceEntry] | None = None
    endpoints: Mapping[str, EndpointEntry] | None = None
    aliases: Mapping[str, AliasEntry] | None = None

    def plain(self) -> dict[str, list[dict[str, Any]]]:
        """It as YAML and JSON hold it: sections and entries in one order, what is as the defaults are left out."""
        found: dict[str, list[dict[str, Any]]] = {}
        if self.rules is not None:
            found["rules"] = [_rule_entry(rule) for _, rule in sorted(self.rules.items())]
        for name in SECTIONS[1:]:
            section: Mapping[str, BaseModel] | None = getattr(self, name)
            if section is not None:
                found[name] = [one.model_dump(mode="json", exclude_defaults=True) for _, one in sorted(section.items())]
        return found

    def text(self, *, as_json: bool = False) -> str:
        """It as text, the same for the same.

        Examples
        --------
        >>> rule = Rule(id="r", owner="ann", condition="close > 1", symbols=("A",))
        >>> print(Document(rules={"r": rule}, silences={}).text(), end="")
        rules:
        - id: r
          condition: close > 1
          symbols:
          - A
        silences: []
        """
        if as_json:
            return json.dumps(self.plain(), indent=2, ensure_ascii=False) + "\n"
        return write_plain(self.plain())


def read_document(text: str, owner: str, *, is_json: bool = False) -> Document:
    """The document of a text.

    Raises
    ------
    ConfigurationFaultError
        With all that is wrong, each with its line and place.
    """
    try:
        plain, lines = read_plain(text, is_json=is_json)
    except PlainTextError as error:
        raise ConfigurationFaultError([Fault(error.line, "", error.reason)]) from None
    return check_document(plain, owner, lines)


def check_document(plain: Any, owner: str, lines: Mapping[Place, int] | None = None) -> Document:
    """The document of plain values.

    Parameters
    ----------
    owner:
        Whose it is: its rules become his, whatever they say of an owner.
    lines:
        On which line each part stands.

    Raises
    ------
    ConfigurationFaultError
        With all that is wrong.

    Examples
    --------
    >>> check_document({"rules": [{"id": "r", "condition": "close > 1"}], "sirens": []}, "ann")
    Traceback (most recent call last):
    tapeline.alerts.configuration_document.ConfigurationFaultError: sirens: there is no such section
    rules[0].symbols: Field required
    """
    return _Checker(owner, lines or {}).document(plain)


class _Checker:
    def __init__(self, owner: str, lines: Mapping[Place, int]) -> None:
        self.owner, self.lines = owner, lines
        self.faults: list[Fault] = []

    def document(self, plain: Any) -> Document:
        if not isinstance(plain, Mapping):
            self.fault((), f"a configuration is a mapping with some of {', '.join(SECTIONS)}")
            raise ConfigurationFaultError(self.faults)
        for name in plain:
            if name not in SECTIONS:
                self.fault((name,), "there is no such section")
        sections: dict[str, dict[str, Any] | None] = {}
        known = catalogue()
        for name in SECTIONS:
            entries = plain.get(name)
            if name not in plain:
                sections[name] = None
                continue
            if not isinstance(entries, list) or len(entries) > MOST[name]:
                self.fault((name,), f"it must be a list of {MOST[name]} entries at most")
                continue
            sections[name] = self.section(name, entries, known)
        if self.faults:
            raise ConfigurationFaultError(self.faults)
        return Document(**sections)

    def section(self, name: str, entries: list[Any], known: Catalogue) -> dict[str, Any]:
        found: dict[str, Any] = {}
        symbols: set[tuple[str, str]] = set()
        for number, entry in enumerate(entries):
            place: Place = (name, number)
            one = self.rule(place, entry, known) if name == "rules" else self.entry(place, name, entry)
            if one is None:
                continue
            if one.id in found:
                self.fault((*place, "id" if name != "aliases" else "name"), f"{one.id} stands twice")
            elif isinstance(one, AliasEntry) and (one.source, one.symbol) in symbols:
                self.fault((*place, "symbol"), f"{one.symbol} has two names at {one.source}")
            else:
                found[one.id] = one
                if isinstance(one, AliasEntry):
                    symbols.add((one.source, one.symbol))
        return found

    def rule(self, place: Place, entry: Any, known: Catalogue) -> Rule | None:
        if isinstance(entry, Mapping):
            given = entry.get("owner", self.owner)
            if given != self.owner:
                self.fault((*place, "owner"), f"it is a configuration of {self.owner}")
            entry = {**entry, "owner": self.owner}
        made = read_entry(entry, known)
        if isinstance(made, Rule):
            return made
        for where, reason in made:
            self.fault((*place, *where), str(reason))
        return None

    def entry(self, place: Place, name: str, entry: Any) -> Any:
        try:
            return _ENTRIES[name].model_validate(entry)
        except ValidationError as error:
            for one in error.errors():
                self.fault((*place, *one["loc"]), one["msg"].removeprefix("Value error, "))
        except ConfigurationError as error:
            self.fault(place, error.message)
        return None

    def fault(self, place: Place, reason: str) -> None:
        at = place
        while at and at not in self.lines:
            at = at[:-1]
        self.faults.append(Fault(self.lines.get(at, 0), place_text(place), reason))


def place_text(place: Place) -> str:
    """A place as people read it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def instant_text(nanoseconds: int) -> str:
    """An instant as text, to the nanosecond.

    Examples
    --------
    >>> instant_text(1_767_225_600_000_000_001), instant_of("2026-01-01T00:00:00Z")
    ('2026-01-01T00:00:00.000000001Z', 1767225600000000000)
    """
    seconds, rest = divmod(nanoseconds, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"


def instant_of(text: str) -> int:
    """The nanoseconds of an instant.

    Raises
    ------
    ValueError
        It is none, or it lies in no year from 1970 to 2199.
    """
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if len(text) > 40 or not text.endswith("Z") or (fraction and not (fraction.isascii() and fraction.isdigit())):
        raise ValueError(f"{text!r:.50} is no instant; write 2026-01-01T00:00:00Z")
    try:
        moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r:.50} is no instant; write 2026-01-01T00:00:00Z") from None
    if not 1970 <= moment.year < 2200 or len(fraction) > 9:
        raise ValueError(f"{text!r:.50} is no instant from 1970 to 2199")
    return int(moment.timestamp()) * SECOND + int(fraction.ljust(9, "0") if fraction else 0)


def _rule_entry(rule: Rule) -> dict[str, Any]:
    plain = rule_to_plain(rule)
    del plain["owner"]
    if "labels" in plain:
        plain["labels"] = dict(sorted(plain["labels"].items()))
    return plain
