"""Configurations: all that an owner has set, as one document with versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.configuration import AlertConfigManager, Applied, ConfigurationVersion
from tapeline.alerts.configuration_document import ConfigurationFaultError, Document, check_document
from tapeline.alerts.configuration_plan import Plan
from tapeline.alerts.rule import Name
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.etags import IfMatch, etag_of
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import ProblemError, not_found, wrong_field

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "configuration:read"))]
Writer = Annotated[Principal, Depends(require("user", "configuration:write"))]
ConfigurationName = Annotated[Name, Path(examples=["main"])]
Entry = dict[str, Any]
_EXAMPLE: Final[dict[str, Any]] = {
    "rules": [{"id": "btc-60k", "condition": "crosses_up(close, 60000)", "symbols": ["BTCUSDT"], "channels": ["desk"]}],
    "silences": [],
    "endpoints": [],
    "aliases": [],
}
_VERSION: Final[dict[str, Any]] = {
    "name": "main",
    "version": 3,
    "at": "2026-01-01T00:00:00Z",
    "by": "ann",
    "comment": "for the holidays",
    "digest": "9b1d4a7c0f3e2a56",
}
_CHANGE: Final[dict[str, Any]] = {
    "kind": "rule",
    "id": "btc-60k",
    "action": "change",
    "fields": [{"field": "priority", "before": None, "after": "high"}],
}


class ConfigurationBody(Body):
    """A configuration; a section that is left out is not spoken of and stays as it is."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    rules: list[Entry] | None = Field(None, max_length=1_000, description="as /v1/rules has them, without owner")
    silences: list[Entry] | None = Field(None, max_length=200)
    endpoints: list[Entry] | None = Field(None, max_length=50, description="without address and secrets")
    aliases: list[Entry] | None = Field(None, max_length=1_000, description="source, name there, symbol")


class NewConfiguration(Body):
    """A configuration that is to stand."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"document": _EXAMPLE, "comment": "for the holidays", "remove": True}}
    )

    document: ConfigurationBody
    comment: str = Field("", max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")
    remove: bool = Field(True, description="whether rules and silences go that it does not name")
    base: str | None = Field(None, max_length=64, description="of the plan that was seen; 412 where it is another now")


class FieldBody(Body):
    """One field that changes; null is as the default is."""

    field: str
    before: Any
    after: Any


class ChangeBody(Body):
    """One entry that is added, changed or removed."""

    kind: Literal["rule", "silence", "endpoint", "alias"]
    id: str
    action: Literal["add", "change", "remove"]
    fields: list[FieldBody]


class PlanBody(Body):
    """What would change."""

    model_config = ConfigDict(json_schema_extra={"example": {"base": "9b1d4a7c0f3e2a56", "changes": [_CHANGE]}})

    base: str
    changes: list[ChangeBody]


class VersionBody(Body):
    """A version of a configuration."""

    model_config = ConfigDict(json_schema_extra={"example": _VERSION})

    name: str
    version: int
    at: Instant
    by: str
    comment: str
    digest: str


class AppliedBody(Body):
    """What was done, and the version that stands now."""

    model_config = ConfigDict(json_schema_extra={"example": {"version": _VERSION, "changes": [_CHANGE]}})

    version: VersionBody
    changes: list[ChangeBody]


class Rollback(Body):
    """To which version."""

    model_config = ConfigDict(json_schema_extra={"example": {"version": 2}})

    version: int = Field(ge=1, le=1 << 53)


@router.get("/configuration", summary="What the caller has set", response_model=ConfigurationBody)
def export_configuration(
    context: Context,
    caller: Reader,
    format: Annotated[Literal["json", "yaml"], Query(description="as JSON or as YAML")] = "json",
) -> Response:
    """As it stands now, the same bytes for the same; no address and no secret is in it."""
    document = _manager(context).export(caller.owner)
    if format == "yaml":
        return Response(document.text(), media_type="application/yaml")
    return Response(document.text(as_json=True), media_type="application/json")


@router.post("/configuration/plan", summary="What applying a document would change", response_model=PlanBody)
def plan_configuration(body: NewConfiguration, context: Context, caller: Reader) -> Response:
    """Nothing is changed. Every fault of the document is told with its place."""
    with _told():
        plan = _manager(context).plan(caller.owner, _document(body.document, caller.owner), remove=body.remove)
    return answered(PlanBody.model_construct(base=plan.base, changes=_changes(plan)))


@router.put(
    "/configuration/{name}",
    summary="Let a document stand",
    response_model=AppliedBody,
    responses=problems(403, 412),
)
def apply_configuration(
    name: ConfigurationName,
    body: NewConfiguration,
    context: Context,
    caller: Writer,
    trace: Traced,
    if_match: IfMatch = None,
) -> Response:
    """All of it in one transaction or nothing. With If-Match only where that version stands (``"r0"``: none yet)."""
    manager, owner = _manager(context), caller.owner
    said = {"name": name, "comment": body.comment, "remove": body.remove}
    audited = context.access.audit.entry(caller, "configuration.apply", "configuration", name, after=said, **trace.said)
    quotas = context.access.quotas
    with _told():
        document = _document(body.document, owner)
        with quotas.within(owner, "rules"), quotas.within(owner, "silences"), audited:
            applied = manager.apply(
                owner,
                name,
                document,
                by=owner,
                comment=body.comment,
                expected=_expected(if_match),
                base=body.base,
                remove=body.remove,
                may_name=caller.has("admin"),
            )
    return _applied(applied)


@router.get(
    "/configuration/{name}/versions",
    summary="The versions of a configuration",
    response_model=Page[VersionBody],
    responses=problems(404),
)
def list_versions(
    name: ConfigurationName, context: Context, caller: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """The newest first."""
    after = key_of(cursor)
    if after and not (after.isascii() and after.isdigit() and len(after) < 16):
        raise wrong_field("cursor", "it is not one of ours", place="query", hint="begin without a cursor")
    manager = _manager(context)
    found = manager.versions(caller.owner, name, before=int(after) if after else None, limit=limit + 1)
    if not found and not after:
        raise not_found("configuration")
    items = [_version(one) for one in found[:limit]]
    more = len(found) > limit
    return answered(Page.model_construct(items=items, cursor=cursor_after(str(items[-1].version)) if more else None))


@router.get(
    "/configuration/{name}/versions/{version}",
    summary="What stood at a version",
    response_model=ConfigurationBody,
    responses=problems(404),
)
def get_version(
    name: ConfigurationName, version: Annotated[int, Path(ge=1, le=1 << 53)], context: Context, caller: Reader
) -> Response:
    """The whole document."""
    document = _manager(context).document(caller.owner, name, version)
    return Response(document.text(as_json=True), media_type="application/json")


@router.post(
    "/configuration/{name}/rollback",
    summary="Go back to a version",
    response_model=AppliedBody,
    responses=problems(403, 404, 412),
)
def roll_back(
    name: ConfigurationName,
    body: Rollback,
    context: Context,
    caller: Writer,
    trace: Traced,
    if_match: IfMatch = None,
) -> Response:
    """What stood at it stands again, as a new version."""
    manager, owner = _manager(context), caller.owner
    audit, quotas = context.access.audit, context.access.quotas
    said = {"name": name, "version": body.version}
    audited = audit.entry(caller, "configuration.rollback", "configuration", name, after=said, **trace.said)
    with _told(), quotas.within(owner, "rules"), quotas.within(owner, "silences"), audited:
        applied = manager.rollback(owner, name, body.version, by=owner, expected=_expected(if_match))
    return _applied(applied)


def _manager(context: GatewayContext) -> AlertConfigManager:
    return context.part(_make)


def _make(context: GatewayContext) -> AlertConfigManager:
    return AlertConfigManager(context.store, clock=context.clock)


def _document(body: ConfigurationBody, owner: str) -> Document:
    return check_document(body.model_dump(exclude_none=True), owner)


def _expected(if_match: str | None) -> int | None:
    """The version that the caller has read."""
    if if_match is None or if_match.strip() == "*":
        return None
    tag = if_match.strip()
    if not (tag.startswith('"r') and tag.endswith('"') and tag[2:-1].isascii() and tag[2:-1].isdigit()):
        raise ProblemError(412, "changed-meanwhile", "If-Match names no version", hint='such as "r3"')
    return int(tag[2:-1])


@contextmanager
def _told() -> Iterator[None]:
    """Each fault of a document at its place."""
    try:
        yield
    except ConfigurationFaultError as error:
        found = [("body", f"/document/{one.place}", one.reason) for one in error.faults]
        raise ProblemError(422, "invalid", "the configuration is not valid", errors=found) from None
    except UnknownRecordError:
        raise not_found("version") from None


def _applied(applied: Applied) -> Response:
    body = AppliedBody.model_construct(version=_version(applied.version), changes=_changes(applied.plan))
    return answered(body, etag=etag_of(applied.version.version))


def _changes(plan: Plan) -> list[ChangeBody]:
    return [ChangeBody.model_validate(one.plain()) for one in plan.changes]


def _version(one: ConfigurationVersion) -> VersionBody:
    return VersionBody.model_construct(
        name=one.name, version=one.version, at=instant(one.at), by=one.by, comment=one.comment, digest=one.digest
    )
