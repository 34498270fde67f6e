"""What stands of an owner's configuration in the database: what contradicts it, and how single entries are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from tapeline.alerts.configuration_document import AliasEntry, Document, EndpointEntry, Fault, SilenceEntry
from tapeline.alerts.records import Silence
from tapeline.alerts.store import metadata as tables
from tapeline.alerts.store import rows
from tapeline.alerts.store.configuration_tables import alias, symbol
from tapeline.alerts.store.store import Endpoint, StoredRule

_SLICE: Final = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """What an owner has set, as rows and as a document."""

    owner: str
    rules: Mapping[str, StoredRule]
    silences: Mapping[str, Silence]
    endpoints: Mapping[str, Endpoint]
    document: Document


def parts_of(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Ids in parts that one statement may name."""
    return (ids[at : at + _SLICE] for at in range(0, len(ids), _SLICE))


def aliases_of(db: Connection, symbols: Iterable[str]) -> list[Any]:
    """The names of symbols at sources."""
    return [
        row
        for part in parts_of(sorted(symbols))
        for row in db.execute(select(alias).where(alias.c.symbol.in_(part)).order_by(alias.c.source, alias.c.name))
    ]


def taken_ids(db: Connection, standing: Standing, document: Document) -> list[Fault]:
    """Ids that are, or were, another's: its history and its firings are under it."""
    faults: list[Fault] = []
    fresh = [id for id in document.rules or {} if id not in standing.rules]
    for part in parts_of(fresh):
        revision = tables.rule_revision
        found = db.execute(select(revision.c.id, revision.c.body).where(revision.c.id.in_(part)))
        others = {row.id for row in found if json.loads(row.body)["owner"] != standing.owner}
        faults.extend(Fault(0, f"rules: {id}", "the id is taken") for id in sorted(others))
    for part in parts_of([id for id in document.silences or {} if id not in standing.silences]):
        statement = select(tables.silence.c.id, tables.silence.c.owner).where(tables.silence.c.id.in_(part))
        for row in db.execute(statement):
            why = "the id is taken" if row.owner != standing.owner else "it has ended; a new one needs a new id"
            faults.append(Fault(0, f"silences: {row.id}", why))
    return faults


def endpoint_faults(standing: Standing, document: Document) -> list[Fault]:
    """Endpoints that are not there, or are of another channel."""
    faults = []
    for id, one in (document.endpoints or {}).items():
        held = standing.endpoints.get(id)
        if held is None:
            faults.append(Fault(0, f"endpoints: {id}", "it is not there: register it first, with its address"))
        elif held.channel != one.channel:
            faults.append(Fault(0, f"endpoints: {id}", f"it is of the channel {held.channel}"))
    return faults


def alias_faults(db: Connection, document: Document) -> tuple[dict[str, AliasEntry], list[Fault]]:
    """The aliases of a document that stand already, and what is wrong with the others."""
    wanted = document.aliases or {}
    faults: list[Fault] = []
    known = {one.symbol for one in wanted.values()}
    there: set[str] = set()
    for part in parts_of(sorted(known)):
        names = select(symbol.c.symbol).where(symbol.c.symbol.in_(part), symbol.c.status != "removed")
        there.update(db.execute(names).scalars())
    by_name: dict[str, AliasEntry] = {}
    by_symbol: dict[tuple[str, str], str] = {}
    if wanted:
        for row in db.execute(select(alias).where(alias.c.source.in_({one.source for one in wanted.values()}))):
            by_name[f"{row.source}:{row.name}"] = AliasEntry(source=row.source, name=row.name, symbol=row.symbol)
            by_symbol[row.source, row.symbol] = row.name
    for id, one in wanted.items():
        held, name = by_name.get(id), by_symbol.get((one.source, one.symbol), one.name)
        if one.symbol not in there:
            faults.append(Fault(0, f"aliases: {id}", f"there is no symbol {one.symbol}"))
        elif held is not None and held.symbol != one.symbol:
            faults.append(Fault(0, f"aliases: {id}", f"it is {held.symbol} already"))
        elif name != one.name:
            faults.append(Fault(0, f"aliases: {id}", f"{one.symbol} is called {name} there already"))
    return {id: by_name[id] for id in wanted if id in by_name}, faults


def write_silence(db: Connection, standing: Standing, entry: SilenceEntry | None, id: str, by: str, now: int) -> None:
    """Write a silence; without an entry it ends."""
    if entry is None:
        mine = tables.silence.c.id == id
        if standing.silences[id].begins_at >= now:
            # It never held.
            db.execute(delete(tables.silence).where(mine))
        else:
            db.execute(update(tables.silence).where(mine).values(ends_at=now))
        return
    before = standing.silences.get(id)
    made = entry.silence(standing.owner, before.created_by if before is not None else by)
    db.execute(delete(tables.silence).where(tables.silence.c.id == id))
    db.execute(insert(tables.silence).values(**rows.silence_values(made)))


def write_endpoint(db: Connection, held: Endpoint, entry: EndpointEntry, now: int) -> None:
    """Write what a document may say of an endpoint; everything else about it stays."""
    others = {name: value for name, value in held.settings.items() if name not in EndpointEntry.model_fields}
    settings = {**others, **entry.settings(), "revision": held.revision + 1}
    made = replace(held, settings=settings, enabled=entry.enabled, changed_at=max(now, held.changed_at + 1))
    if entry.enabled != held.enabled:
        made = replace(made, reason="" if entry.enabled else "configuration", failures=0, failing_since=0)
    values = rows.endpoint_values(made)
    db.execute(update(tables.endpoint).where(tables.endpoint.c.id == held.id).values(**values))
