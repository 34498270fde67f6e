"""What people set: rules with every revision, silences, endpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection, Select, delete, func, insert, literal, select, update

from tapeline.alerts.records import Silence
from tapeline.alerts.rule import Rule
from tapeline.alerts.store import metadata as tables
from tapeline.alerts.store import queries, rows
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.store import Endpoint, RevisionConflictError, StoredRule, UnknownRecordError
from tapeline.core.errors import DataError

_standing = tables.rule
_revisions = tables.rule_revision
_CURRENT = select(_standing, literal(False).label("deleted"))


class RuleBook:
    """The part of the store that keeps what people set; see the protocol for each method."""

    _database: Database

    def rules(self, *, owner: str | None = None, enabled: bool | None = None) -> tuple[StoredRule, ...]:
        """The rules as they stand, by id."""
        statement = _CURRENT.order_by(_standing.c.id)
        if owner is not None:
            statement = statement.where(_standing.c.owner == owner)
        if enabled is not None:
            statement = statement.where(_standing.c.enabled == enabled)
        return self._rules(statement)

    def rule(self, id: str) -> StoredRule | None:
        """One rule as it stands."""
        found = self._rules(_CURRENT.where(_standing.c.id == id))
        return found[0] if found else None

    def rule_history(self, id: str) -> tuple[StoredRule, ...]:
        """Every revision of a rule, the oldest first."""
        return self._rules(select(_revisions).where(_revisions.c.id == id).order_by(_revisions.c.revision))

    def rule_changes(self, after: int, *, limit: int = 1_000) -> tuple[StoredRule, ...]:
        """Changes of rules after a number, in order."""
        statement = select(_revisions).where(_revisions.c.number > after).order_by(_revisions.c.number)
        return self._rules(statement.limit(queries.page_size(limit)))

    def save_rule(self, rule: Rule, *, by: str, at: int, revision: int | None = None) -> StoredRule:
        """Keep a rule, new or changed."""
        return self._change(rule.id, lambda _: rule, by=by, at=at, revision=revision)

    def enable_rule(self, id: str, enabled: bool, *, by: str, at: int) -> StoredRule:
        """Switch a rule on or off."""

        def switched(standing: Rule | None) -> Rule:
            return _known(standing, id).model_copy(update={"enabled": enabled})

        return self._change(id, switched, by=by, at=at, revision=None)

    def delete_rule(self, id: str, *, by: str, at: int, revision: int | None = None) -> StoredRule:
        """Remove a rule and its states; its history stays."""
        return self._change(id, lambda standing: _known(standing, id), by=by, at=at, revision=revision, deleted=True)

    def _rules(self, statement: Select[tuple[object, ...]]) -> tuple[StoredRule, ...]:
        return self._database.read(
            lambda db: tuple(rows.rule_of(row) for row in db.execute(statement).mappings().all())
        )

    def _change(
        self,
        id: str,
        change: Callable[[Rule | None], Rule],
        *,
        by: str,
        at: int,
        revision: int | None,
        deleted: bool = False,
    ) -> StoredRule:
        def work(db: Connection) -> StoredRule:
            # The number first: it holds back every other change of a rule until this one stands.
            number = self._database.take_numbers(db, "rule", 1) + 1
            row = db.execute(_CURRENT.where(_standing.c.id == id)).mappings().first()
            standing = None if row is None else rows.rule_of(row)
            newest = standing.revision if standing else 0
            if revision is not None and revision != newest:
                raise RevisionConflictError(
                    f"rule {id!r} is at revision {newest}, not {revision}", hint="read it again and repeat the change"
                )
            rule = change(standing.rule if standing else None)
            if standing and not deleted and rule == standing.rule:
                return standing
            last = db.execute(select(func.max(_revisions.c.revision)).where(_revisions.c.id == id)).scalar() or 0
            changed = StoredRule(rule, last + 1, number, at, by, deleted)
            values = {"id": id, "revision": changed.revision, "number": number, "changed_at": at}
            values |= {"changed_by": rows.plain(by), "body": rows.rule_text(rule)}
            db.execute(insert(_revisions).values(**values, deleted=deleted))
            db.execute(delete(_standing).where(_standing.c.id == id))
            if deleted:
                db.execute(delete(tables.rule_state).where(tables.rule_state.c.rule == id))
            else:
                db.execute(insert(_standing).values(**values, owner=rule.owner, enabled=rule.enabled))
            return changed

        return self._database.write(work)

    def save_silence(self, silence: Silence) -> None:
        """Keep a silence; one of the same id is replaced."""
        if silence.ends_at < silence.begins_at:
            raise DataError(f"silence {silence.id!r} ends at {silence.ends_at}, before it begins")
        values = rows.silence_values(silence)

        def work(db: Connection) -> None:
            self._database.take_numbers(db, "rule", 0)
            db.execute(delete(tables.silence).where(tables.silence.c.id == silence.id))
            db.execute(insert(tables.silence).values(**values))

        self._database.write(work)

    def end_silence(self, id: str, *, at: int) -> Silence:
        """Let a silence end."""

        def work(db: Connection) -> Silence:
            row = (
                db.execute(select(tables.silence).where(tables.silence.c.id == id).with_for_update()).mappings().first()
            )
            if row is None:
                raise UnknownRecordError(f"there is no silence {id!r}")
            standing = rows.silence_of(row)
            # One that has not begun ends as it begins: it never holds.
            ended = replace(standing, ends_at=min(standing.ends_at, max(at, standing.begins_at)))
            db.execute(update(tables.silence).where(tables.silence.c.id == id).values(ends_at=ended.ends_at))
            return ended

        return self._database.write(work)

    def silences(self, *, at: int | None = None, owner: str | None = None) -> tuple[Silence, ...]:
        """Silences by begin; with ``at`` those that have not ended by then."""
        statement = select(tables.silence).order_by(tables.silence.c.begins_at, tables.silence.c.id)
        if at is not None:
            statement = statement.where(tables.silence.c.ends_at > at)
        if owner is not None:
            statement = statement.where(tables.silence.c.owner == owner)
        return self._database.read(
            lambda db: tuple(rows.silence_of(row) for row in db.execute(statement).mappings().all())
        )

    def save_endpoint(self, endpoint: Endpoint) -> None:
        """Keep an endpoint; one of the same id is replaced, its ``created_at`` stays."""
        values = rows.endpoint_values(endpoint)
        table = tables.endpoint

        def work(db: Connection) -> None:
            self._database.take_numbers(db, "rule", 0)
            made = db.execute(select(table.c.created_at).where(table.c.id == endpoint.id)).scalar()
            if made is None:
                db.execute(insert(table).values(**values))
            else:
                db.execute(update(table).where(table.c.id == endpoint.id).values(**{**values, "created_at": made}))

        self._database.write(work)

    def endpoint(self, id: str) -> Endpoint | None:
        """One endpoint."""
        found = self._endpoints(select(tables.endpoint).where(tables.endpoint.c.id == id))
        return found[0] if found else None

    def endpoints(self, *, owner: str | None = None, channel: str | None = None) -> tuple[Endpoint, ...]:
        """Endpoints by id."""
        table = tables.endpoint
        statement = select(table).order_by(table.c.id)
        if owner is not None:
            statement = statement.where(table.c.owner == owner)
        if channel is not None:
            statement = statement.where(table.c.channel == channel)
        return self._endpoints(statement)

    def change_endpoint(self, id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Change an endpoint as it stands; as it then stands."""
        table = tables.endpoint

        def work(db: Connection) -> Endpoint:
            row = db.execute(select(table).where(table.c.id == id).with_for_update()).mappings().first()
            if row is None:
                raise UnknownRecordError(f"there is no endpoint {id!r}")
            standing = rows.endpoint_of(row)
            changed = change(standing)
            if changed is not standing:
                db.execute(update(table).where(table.c.id == id).values(**rows.endpoint_values(changed)))
            return changed

        return self._database.write(work)

    def endpoint_answered(self, id: str, *, ok: bool, at: int) -> Endpoint | None:
        """Count an attempt's outcome towards an endpoint's health; the endpoint as it then stands."""
        table = tables.endpoint

        def work(db: Connection) -> Endpoint | None:
            row = db.execute(select(table).where(table.c.id == id).with_for_update()).mappings().first()
            if row is None:
                return None
            standing = rows.endpoint_of(row)
            failures = 0 if ok else standing.failures + 1
            since = 0 if ok else standing.failing_since or at
            db.execute(update(table).where(table.c.id == id).values(failures=failures, failing_since=since))
            return replace(standing, failures=failures, failing_since=since)

        return self._database.write(work)

    def delete_endpoint(self, id: str) -> bool:
        """Remove an endpoint; False where there was none."""
        statement = delete(tables.endpoint).where(tables.endpoint.c.id == id)
        return self._database.write(lambda db: db.execute(statement).rowcount) > 0

    def _endpoints(self, statement: Select[tuple[object, ...]]) -> tuple[Endpoint, ...]:
        return self._database.read(
            lambda db: tuple(rows.endpoint_of(row) for row in db.execute(statement).mappings().all())
        )


def _known(rule: Rule | None, id: str) -> Rule:
    if rule is None:
        raise UnknownRecordError(f"there is no rule {id!r}")
    return rule
