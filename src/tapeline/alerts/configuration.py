"""Configurations: what an owner has set, compared with a document, changed to it in one transaction, and set back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from tapeline.alerts.configuration_document import (
    AliasEntry,
    ConfigurationFaultError,
    Document,
    EndpointEntry,
    Fault,
    SilenceEntry,
    check_document,
)
from tapeline.alerts.configuration_plan import Plan, plan_of
from tapeline.alerts.records import Silence
from tapeline.alerts.rule import Rule
from tapeline.alerts.store import metadata as tables
from tapeline.alerts.store import rows
from tapeline.alerts.store.configuration_tables import alias, configuration, symbol
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import Endpoint, RevisionConflictError, StoredRule, UnknownRecordError
from tapeline.core.versions import digest

_SLICE: Final = 500
LONGEST_COMMENT: Final = 500
AS_FOUND: Final = "as it stood"


class ConfigurationConflictError(RevisionConflictError):
    """Somebody else changed it meanwhile: the version, or what stands, is another than the caller has read."""


@dataclass(frozen=True, slots=True)
class ConfigurationVersion:
    """One version of a named configuration; ``at`` in nanoseconds."""

    owner: str
    name: str
    version: int
    at: int
    by: str
    comment: str
    digest: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a document did; ``version`` is the one that stands now."""

    version: ConfigurationVersion
    plan: Plan


class AlertConfigManager:
    """Named, versioned configurations of owners.

    A configuration is all that an owner has set: his rules, his silences, the names and limits of his endpoints, and
    the aliases of the symbols that his rules name. Applying a document is one transaction; a running engine takes it
    within its next look, between two batches. Each version holds all that stood after it; where something was changed
    beside the configurations, that is kept as a version of its own before the next one, so that one can go back to it.

    Parameters
    ----------
    store:
        The alert system's database.
    clock:
        Nanoseconds since 1970.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tapeline.alerts.store.sqlite import open_sqlite
    >>> entry = {"id": "r", "condition": "close > 1", "symbols": ["A"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_sqlite(Path(folder) / "alerts.db")
    ...     configurations = AlertConfigManager(store, clock=lambda: 0)
    ...     made = configurations.apply("ann", "main", check_document({"rules": [entry]}, "ann"), by="ann")
    ...     print(made.plan.text().splitlines()[1], made.version.version)
    ...     print(bool(configurations.plan("ann", configurations.export("ann"))))
    ...     store.close()
    + rule r 2
    False
    """

    def __init__(self, store: SqlStore, *, clock: Callable[[], int]) -> None:
        self._store, self._database, self._clock = store, store.database, clock

    def export(self, owner: str) -> Document:
        """What stands: rules, silences that have not ended, endpoints without address and secrets, aliases."""
        return self._database.read(lambda db: self._standing(db, owner).document)

    def plan(self, owner: str, document: Document, *, remove: bool = True) -> Plan:
        """What applying a document would change.

        Raises
        ------
        ConfigurationFaultError
            It contradicts what stands: an id is another owner's, an endpoint is not there, a name is another symbol's.
        """
        return self._database.read(lambda db: self._planned(db, self._standing(db, owner), document, remove))

    def apply(
        self,
        owner: str,
        name: str,
        document: Document,
        *,
        by: str,
        comment: str = "",
        expected: int | None = None,
        base: str | None = None,
        remove: bool = True,
        may_name: bool = True,
    ) -> Applied:
        """Let a document stand: all of it or nothing, and a new version of the configuration.

        Where nothing changes there is no new version.

        Parameters
        ----------
        expected:
            The version that the caller has read (0: there is none yet); None: whichever stands.
        base:
            Of the plan that the caller has seen; None: whatever stands.
        remove:
            Whether rules and silences go that the document does not name.
        may_name:
            Whether the caller may give symbols names at sources, which are everybody's.

        Raises
        ------
        ConfigurationConflictError
            Another version, or another state, stands.
        ConfigurationFaultError
            See :meth:`plan`.
        """

        def work(db: Connection) -> Applied:
            # The numbers first: they hold back every other change of rules until this one stands.
            self._database.take_numbers(db, "rule", 0)
            newest = self._newest(db, owner, name)
            found = newest.version if newest is not None else 0
            if expected is not None and expected != found:
                raise ConfigurationConflictError(
                    f"the configuration {name} of {owner} is at version {found}, not {expected}",
                    hint="look at what changed, then apply again",
                )
            standing = self._standing(db, owner)
            plan = self._planned(db, standing, document, remove, may_name)
            if base is not None and base != plan.base:
                raise ConfigurationConflictError(
                    f"what {owner} has set was changed since the plan was made", hint="make the plan again"
                )
            if newest is not None and not plan and newest.digest == plan.base:
                return Applied(newest, plan)
            if plan and (newest is None or newest.digest != plan.base):
                newest = self._keep(db, owner, name, newest, standing.document, by, AS_FOUND)
            self._change(db, standing, document, plan, by)
            after = self._standing(db, owner).document
            return Applied(self._keep(db, owner, name, newest, after, by, comment[:LONGEST_COMMENT]), plan)

        return self._database.write(work)

    def rollback(self, owner: str, name: str, version: int, *, by: str, expected: int | None = None) -> Applied:
        """Let stand again what stood at a version, as a new version.

        Endpoints that were removed since stay removed: their addresses and secrets are in no configuration. Silences
        that have ended since stay ended.

        Raises
        ------
        UnknownRecordError
            There is no such version.
        ConfigurationConflictError
            Another version than the expected one stands.
        """
        document = self.document(owner, name, version)
        standing = self.export(owner)
        there = standing.endpoints or {}
        endpoints = {id: one for id, one in (document.endpoints or {}).items() if id in there}
        over = self._over(owner)
        silences = {id: one for id, one in (document.silences or {}).items() if id not in over}
        document = replace(document, endpoints=endpoints, silences=silences)
        return self.apply(owner, name, document, by=by, comment=f"back to version {version}", expected=expected)

    def versions(
        self, owner: str, name: str, *, before: int | None = None, limit: int = 100
    ) -> tuple[ConfigurationVersion, ...]:
        """The versions of a configuration, the newest first."""
        statement = _VERSIONS.where(configuration.c.owner == owner, configuration.c.name == name)
        if before is not None:
            statement = statement.where(configuration.c.version < before)
        statement = statement.order_by(configuration.c.version.desc()).limit(max(1, min(limit, 1_000)))
        return self._database.read(lambda db: tuple(ConfigurationVersion(*row) for row in db.execute(statement)))

    def names(self, owner: str) -> tuple[str, ...]:
        """The names of an owner's configurations."""
        statement = select(configuration.c.name).where(configuration.c.owner == owner).distinct()
        return self._database.read(lambda db: tuple(sorted(db.execute(statement).scalars())))

    def document(self, owner: str, name: str, version: int) -> Document:
        """What stood at a version.

        Raises
        ------
        UnknownRecordError
            There is no such version.
        """
        mine = configuration.c.owner == owner, configuration.c.name == name, configuration.c.version == version
        statement = select(configuration.c.body).where(*mine)
        body = self._database.read(lambda db: db.execute(statement).scalar())
        if body is None:
            raise UnknownRecordError(f"there is no version {version} of the configuration {name!r:.80}")
        return check_document(json.loads(body), owner)

    def _over(self, owner: str) -> frozenset[str]:
        """The silences of an owner that have ended."""
        mine = tables.silence.c.owner == owner, ~_holds(self._clock())
        statement = select(tables.silence.c.id).where(*mine)
        return self._database.read(lambda db: frozenset(db.execute(statement).scalars()))

    def _standing(self, db: Connection, owner: str) -> _Standing:
        ruled = db.execute(select(tables.rule).where(tables.rule.c.owner == owner)).mappings().all()
        rules = {row["id"]: rows.rule_of({**row, "deleted": False}) for row in ruled}
        silenced = select(tables.silence).where(tables.silence.c.owner == owner, _holds(self._clock()))
        silences = {row["id"]: rows.silence_of(row) for row in db.execute(silenced).mappings()}
        ended = select(tables.endpoint).where(tables.endpoint.c.owner == owner)
        endpoints = {row["id"]: rows.endpoint_of(row) for row in db.execute(ended).mappings()}
        # What the operator has set in the settings is his.
        mine = {id: one for id, one in endpoints.items() if one.settings.get("operator") is not True}
        symbols = {name for one in rules.values() for name in one.rule.symbols}
        aliases = {f"{row.source}:{row.name}": row for row in _aliases(db, symbols)}
        return _Standing(
            owner,
            rules,
            silences,
            mine,
            Document(
                rules={id: one.rule for id, one in rules.items()},
                silences={id: SilenceEntry.of(one) for id, one in silences.items()},
                endpoints={id: EndpointEntry.of(one) for id, one in mine.items()},
                aliases={
                    id: AliasEntry(source=row.source, name=row.name, symbol=row.symbol) for id, row in aliases.items()
                },
            ),
        )

    def _planned(
        self, db: Connection, standing: _Standing, document: Document, remove: bool, may_name: bool = True
    ) -> Plan:
        faults = [*_taken_ids(db, standing, document), *_endpoint_faults(standing, document)]
        named, more = _alias_faults(db, document)
        faults += more
        if faults:
            raise ConfigurationFaultError(faults)
        # Aliases are everybody's: those that stand are known to the plan whether the owner's rules name them or not.
        known = replace(standing.document, aliases={**(standing.document.aliases or {}), **named})
        plan = plan_of(known, document, remove=remove)
        if not may_name and any(one.section == "aliases" for one in plan.changes):
            raise ConfigurationFaultError(
                Fault(0, f"aliases: {one.id}", "only an administrator gives symbols names at sources")
                for one in plan.changes
                if one.section == "aliases"
            )
        return replace(plan, base=_digest(standing.document))

    def _change(self, db: Connection, standing: _Standing, document: Document, plan: Plan, by: str) -> None:
        now = self._clock()
        wanted = {
            section: getattr(document, section) or {} for section in ("rules", "silences", "endpoints", "aliases")
        }
        changed: list[Rule] = []
        removed: list[StoredRule] = []
        for one in plan.changes:
            if one.section == "rules":
                if one.action == "remove":
                    removed.append(standing.rules[one.id])
                else:
                    changed.append(wanted["rules"][one.id])
            elif one.section == "silences":
                _write_silence(db, standing, wanted["silences"].get(one.id), one.id, by, now)
            elif one.section == "endpoints":
                _write_endpoint(db, standing.endpoints[one.id], wanted["endpoints"][one.id], now)
            else:
                db.execute(insert(alias).values(**wanted["aliases"][one.id].model_dump()))
        self._write_rules(db, changed, removed, by, now)
        if plan:
            # An engine that looks for changes of symbols and endpoints sees by it that there are some.
            self._database.take_numbers(db, "rule", 1)

    def _write_rules(
        self, db: Connection, changed: Sequence[Rule], removed: Sequence[StoredRule], by: str, now: int
    ) -> None:
        """Write rules with their revisions: a few statements, however many there are."""
        every = [*((rule, False) for rule in changed), *((one.rule, True) for one in removed)]
        if not every:
            return
        number = self._database.take_numbers(db, "rule", len(every))
        ids = [rule.id for rule, _ in every]
        last: dict[str, int] = {}
        for part in _parts(ids):
            revision = tables.rule_revision
            statement = select(revision.c.id, func.max(revision.c.revision)).where(revision.c.id.in_(part))
            last.update(dict(db.execute(statement.group_by(revision.c.id)).all()))
            db.execute(delete(tables.rule).where(tables.rule.c.id.in_(part)))
        for part in _parts([one.rule.id for one in removed]):
            db.execute(delete(tables.rule_state).where(tables.rule_state.c.rule.in_(part)))
        revisions, standing = [], []
        for place, (rule, deleted) in enumerate(every, 1):
            values = {"id": rule.id, "revision": last.get(rule.id, 0) + 1, "number": number + place, "changed_at": now}
            values |= {"changed_by": rows.plain(by), "body": rows.rule_text(rule)}
            revisions.append({**values, "deleted": deleted})
            if not deleted:
                standing.append({**values, "owner": rule.owner, "enabled": rule.enabled})
        db.execute(insert(tables.rule_revision), revisions)
        if standing:
            db.execute(insert(tables.rule), standing)

    def _newest(self, db: Connection, owner: str, name: str) -> ConfigurationVersion | None:
        statement = _VERSIONS.where(configuration.c.owner == owner, configuration.c.name == name)
        row = db.execute(statement.order_by(configuration.c.version.desc()).limit(1)).first()
        return None if row is None else ConfigurationVersion(*row)

    def _keep(
        self,
        db: Connection,
        owner: str,
        name: str,
        before: ConfigurationVersion | None,
        document: Document,
        by: str,
        comment: str,
    ) -> ConfigurationVersion:
        version = before.version + 1 if before is not None else 1
        made = ConfigurationVersion(owner, name, version, self._clock(), rows.plain(by), comment, _digest(document))
        db.execute(
            insert(configuration).values(
                owner=owner,
                name=name,
                version=version,
                created_at=made.at,
                created_by=made.by,
                comment=made.comment,
                digest=made.digest,
                body=json.dumps(document.plain(), ensure_ascii=False, separators=(",", ":")),
            )
        )
        return made


@dataclass(frozen=True, slots=True)
class _Standing:
    owner: str
    rules: Mapping[str, StoredRule]
    silences: Mapping[str, Silence]
    endpoints: Mapping[str, Endpoint]
    document: Document


_VERSIONS: Final = select(
    configuration.c.owner,
    configuration.c.name,
    configuration.c.version,
    configuration.c.created_at,
    configuration.c.created_by,
    configuration.c.comment,
    configuration.c.digest,
)


def _holds(now: int) -> ColumnElement[bool]:
    """A silence that has not ended; one that was ended before it began ends as it begins."""
    return (tables.silence.c.ends_at > now) & (tables.silence.c.ends_at > tables.silence.c.begins_at)


def _digest(document: Document) -> str:
    return str(digest(document.plain()))


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + _SLICE] for at in range(0, len(ids), _SLICE))


def _aliases(db: Connection, symbols: Iterable[str]) -> list[Any]:
    return [
        row
        for part in _parts(sorted(symbols))
        for row in db.execute(select(alias).where(alias.c.symbol.in_(part)).order_by(alias.c.source, alias.c.name))
    ]


def _taken_ids(db: Connection, standing: _Standing, document: Document) -> list[Fault]:
    """Ids that are, or were, another's: its history and its firings are under it."""
    faults: list[Fault] = []
    fresh = [id for id in document.rules or {} if id not in standing.rules]
    for part in _parts(fresh):
        revision = tables.rule_revision
        found = db.execute(select(revision.c.id, revision.c.body).where(revision.c.id.in_(part)))
        others = {row.id for row in found if json.loads(row.body)["owner"] != standing.owner}
        faults.extend(Fault(0, f"rules: {id}", "the id is taken") for id in sorted(others))
    for part in _parts([id for id in document.silences or {} if id not in standing.silences]):
        statement = select(tables.silence.c.id, tables.silence.c.owner).where(tables.silence.c.id.in_(part))
        for row in db.execute(statement):
            why = "the id is taken" if row.owner != standing.owner else "it has ended; a new one needs a new id"
            faults.append(Fault(0, f"silences: {row.id}", why))
    return faults


def _endpoint_faults(standing: _Standing, document: Document) -> list[Fault]:
    faults = []
    for id, one in (document.endpoints or {}).items():
        held = standing.endpoints.get(id)
        if held is None:
            faults.append(Fault(0, f"endpoints: {id}", "it is not there: register it first, with its address"))
        elif held.channel != one.channel:
            faults.append(Fault(0, f"endpoints: {id}", f"it is of the channel {held.channel}"))
    return faults


def _alias_faults(db: Connection, document: Document) -> tuple[dict[str, AliasEntry], list[Fault]]:
    """The aliases of a document that stand already, and what is wrong with the others."""
    wanted = document.aliases or {}
    faults: list[Fault] = []
    known = {one.symbol for one in wanted.values()}
    there: set[str] = set()
    for part in _parts(sorted(known)):
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


def _write_silence(db: Connection, standing: _Standing, entry: SilenceEntry | None, id: str, by: str, now: int) -> None:
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


def _write_endpoint(db: Connection, held: Endpoint, entry: EndpointEntry, now: int) -> None:
    others = {name: value for name, value in held.settings.items() if name not in EndpointEntry.model_fields}
    settings = {**others, **entry.settings(), "revision": held.revision + 1}
    made = replace(held, settings=settings, enabled=entry.enabled, changed_at=max(now, held.changed_at + 1))
    if entry.enabled != held.enabled:
        made = replace(made, reason="" if entry.enabled else "configuration", failures=0, failing_since=0)
    values = rows.endpoint_values(made)
    db.execute(update(tables.endpoint).where(tables.endpoint.c.id == held.id).values(**values))
