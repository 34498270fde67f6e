"""What applying a configuration would change, field by field, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tapeline.alerts.configuration_document import SECTIONS, Document

Action = Literal["add", "change", "remove"]
REMOVED: Final = ("rules", "silences")
"""Sections whose entries go where a document does not name them. An endpoint has secrets that no document brings back,
and an alias is everybody's: those stay."""
_SIGNS: Final[Mapping[str, str]] = {"add": "+", "change": "~", "remove": "-"}
_KINDS: Final[Mapping[str, str]] = {
    "rules": "rule",
    "silences": "silence",
    "endpoints": "endpoint",
    "aliases": "alias",
}
_ABSENT: Final = "(default)"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field; None where it is, or was, as the defaults are."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One entry of a section that is added, changed or removed; ``fields`` of one that is changed."""

    section: str
    id: str
    action: Action
    fields: tuple[FieldChange, ...] = ()

    def plain(self) -> dict[str, Any]:
        """It as JSON keeps it."""
        fields = [{"field": one.field, "before": one.before, "after": one.after} for one in self.fields]
        return {"kind": _KINDS[self.section], "id": self.id, "action": self.action, "fields": fields}

    def text(self) -> str:
        """It as a person reads it."""
        lines = [f"{_SIGNS[self.action]} {_KINDS[self.section]} {self.id}"]
        for one in self.fields:
            before, after = (_ABSENT if value is None else _shown(value) for value in (one.before, one.after))
            lines.append(
                f"    {one.field}: {before} -> {after}" if self.action == "change" else f"    {one.field}: {after}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that applying would change; ``base`` is the digest of what it starts from."""

    changes: tuple[ItemChange, ...]
    base: str = ""

    def __bool__(self) -> bool:
        return bool(self.changes)

    def count(self, action: Action) -> int:
        """How many entries are added, changed or removed."""
        return sum(one.action == action for one in self.changes)

    def text(self) -> str:
        """It as a person reads it."""
        head = f"{self.count('add')} to add, {self.count('change')} to change, {self.count('remove')} to remove"
        return "\n".join([head, *(one.text() for one in self.changes)])

    def plain(self) -> dict[str, Any]:
        """It as JSON keeps it."""
        return {"base": self.base, "changes": [one.plain() for one in self.changes]}


def plan_of(standing: Document, wanted: Document, *, remove: bool = True) -> Plan:
    """What must change for the wanted document to stand.

    Parameters
    ----------
    remove:
        Whether rules and silences go that the document does not name.

    Examples
    --------
    >>> from tapeline.alerts.rule import Rule
    >>> old = Rule(id="r", owner="ann", condition="close > 1", symbols=("A",))
    >>> new = old.model_copy(update={"condition": "close > 2", "priority": "high"})
    >>> print(plan_of(Document(rules={"r": old}), Document(rules={"r": new})).text())
    0 to add, 1 to change, 0 to remove
    ~ rule r
        condition: "close > 1" -> "close > 2"
        priority: (default) -> "high"
    """
    changes: list[ItemChange] = []
    before, after = standing.plain(), wanted.plain()
    for section in SECTIONS:
        if section not in after:
            continue
        key = _id_of(section)
        old = {key(entry): entry for entry in before.get(section, ())}
        new = {key(entry): entry for entry in after[section]}
        for id in sorted(old.keys() | new.keys()):
            if id not in new:
                if remove and section in REMOVED:
                    changes.append(ItemChange(section, id, "remove"))
            elif id not in old:
                fields = tuple(FieldChange(name, None, value) for name, value in new[id].items() if name != "id")
                changes.append(ItemChange(section, id, "add", fields))
            elif old[id] != new[id]:
                fields = tuple(
                    FieldChange(name, old[id].get(name), new[id].get(name))
                    for name in dict.fromkeys((*old[id], *new[id]))
                    if old[id].get(name) != new[id].get(name)
                )
                changes.append(ItemChange(section, id, "change", fields))
    return Plan(tuple(changes))


def _id_of(section: str) -> Callable[[Mapping[str, Any]], str]:
    if section == "aliases":
        return lambda entry: f"{entry['source']}:{entry['name']}"
    return lambda entry: str(entry["id"])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:197] + "..."
