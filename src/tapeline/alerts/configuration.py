"""Configurations: what an owner has set, compared with a document, changed to it in one transaction, and set back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

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
from tapeline.alerts.configuration_state import (
    Standing,
    alias_faults,
    aliases_of,
    endpoint_faults,
    parts_of,
    taken_ids,
    write_endpoint,
    write_silence,
)
from tapeline.alerts.rule import Rule
from tapeline.alerts.store import metadata as tables
from tapeline.alerts.store import rows
from tapeline.alerts.store.configuration_tables import alias, configuration
from tapeline.alerts.store.queries import still_holds
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import RevisionConflictError, StoredRule, UnknownRecordError
from tapeline.core.versions import digest

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
        mine = tables.silence.c.owner == owner, ~still_holds(self._clock())
        statement = select(tables.silence.c.id).where(*mine)
        return self._database.read(lambda db: frozenset(db.execute(statement).scalars()))

    def _standing(self, db: Connection, owner: str) -> Standing:
        ruled = db.execute(select(tables.rule).where(tables.rule.c.owner == owner)).mappings().all()
        rules = {row["id"]: rows.rule_of({**row, "deleted": False}) for row in ruled}
        silenced = select(tables.silence).where(tables.silence.c.owner == owner, still_holds(self._clock()))
        silences = {row["id"]: rows.silence_of(row) for row in db.execute(silenced).mappings()}
        ended = select(tables.endpoint).where(tables.endpoint.c.owner == owner)
        endpoints = {row["id"]: rows.endpoint_of(row) for row in db.execute(ended).mappings()}
        # What the operator has set in the settings is his.
        mine = {id: one for id, one in endpoints.items() if one.settings.get("operator") is not True}
        symbols = {name for one in rules.values() for name in one.rule.symbols}
        aliases = {f"{row.source}:{row.name}": row for row in aliases_of(db, symbols)}
        return Standing(
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
        self, db: Connection, standing: Standing, document: Document, remove: bool, may_name: bool = True
    ) -> Plan:
        faults = [*taken_ids(db, standing, document), *endpoint_faults(standing, document)]
        named, more = alias_faults(db, document)
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

    def _change(self, db: Connection, standing: Standing, document: Document, plan: Plan, by: str) -> None:
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
                write_silence(db, standing, wanted["silences"].get(one.id), one.id, by, now)
            elif one.section == "endpoints":
                write_endpoint(db, standing.endpoints[one.id], wanted["endpoints"][one.id], now)
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
        for part in parts_of(ids):
            revision = tables.rule_revision
            statement = select(revision.c.id, func.max(revision.c.revision)).where(revision.c.id.in_(part))
            last.update(dict(db.execute(statement.group_by(revision.c.id)).all()))
            db.execute(delete(tables.rule).where(tables.rule.c.id.in_(part)))
        for part in parts_of([one.rule.id for one in removed]):
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


_VERSIONS: Final = select(
    configuration.c.owner,
    configuration.c.name,
    configuration.c.version,
    configuration.c.created_at,
    configuration.c.created_by,
    configuration.c.comment,
    configuration.c.digest,
)


def _digest(document: Document) -> str:
    return str(digest(document.plain()))
