"""Rules: written, changed, removed, and looked back upon."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.caller_queries import CallerQueries
from tapeline.alerts.store.store import RevisionConflictError, StoredRule
from tapeline.gateway.answers import Body, answered, answered_json, answered_page, problems
from tapeline.gateway.callers import Traced, owner_of, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.etags import IfMatch, IfNoneMatch, etag_of, is_known, matched_revision
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import ProblemError, not_found, wrong_field
from tapeline.gateway.rule_bodies import (
    NewRule,
    RuleBody,
    StoredRuleBody,
    kept_json,
    new_id,
    rule_of,
    stored_body,
    stored_json,
)

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "rules:read"))]
Writer = Annotated[Principal, Depends(require("user", "rules:write"))]
RuleId = Annotated[str, Path(min_length=1, max_length=64, examples=["btc-60k"])]


class Enabled(Body):
    """Whether a rule is asked."""

    model_config = ConfigDict(json_schema_extra={"example": {"enabled": False}})

    enabled: bool


@router.get("/rules", summary="The caller's rules", response_model=Page[StoredRuleBody])
def list_rules(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    enabled: bool | None = None,
    owner: Annotated[str | None, Query(max_length=64, description="whose; for administrators")] = None,
) -> Response:
    """By id. An administrator asks for another's with ``owner``, and for everybody's with ``owner=*``."""
    found = CallerQueries(context.store.database).rules(
        owner_of(caller, owner), after=key_of(cursor), limit=limit, enabled=enabled
    )
    more = len(found) > limit
    shown = found[:limit]
    return answered_page(map(kept_json, shown), cursor_after(shown[-1].id) if more else None)


@router.post(
    "/rules",
    summary="A new rule",
    status_code=201,
    response_model=StoredRuleBody,
    responses=problems(403, 409),
)
def create_rule(body: NewRule, context: Context, caller: Writer, trace: Traced) -> Response:
    """It is the caller's, whoever he is; it takes effect within about a second of the answer."""
    # An id that was somebody else's stays his: its history and its firings are under it.
    id: str = getattr(body, "id", None) or new_id("rul")
    rule = rule_of(body, id, caller.owner)
    taken = ProblemError(409, "id-taken", "the id is taken", hint="take another, or none")
    if getattr(body, "id", None) and any(one.rule.owner != caller.owner for one in context.store.rule_history(id)):
        raise taken
    audited = context.access.audit.entry(caller, "rule.create", "rule", id, after=rule, **trace.said)
    try:
        with context.access.quotas.within(caller.owner, "rules"), audited:
            stored = context.store.save_rule(rule, by=caller.owner, at=context.clock(), revision=0)
    except RevisionConflictError:
        raise taken from None
    return answered(stored_body(stored), 201, etag=etag_of(stored.revision), location=f"/v1/rules/{id}")


@router.get("/rules/{id}", summary="One rule", response_model=StoredRuleBody, responses=problems(404))
def get_rule(id: RuleId, context: Context, caller: Reader, if_none_match: IfNoneMatch = None) -> Response:
    """As it stands. Its ETag is what a change must name; with If-None-Match the answer is 304 where nothing changed."""
    found = CallerQueries(context.store.database).rule(None if caller.role == "admin" else caller.owner, id)
    if found is None:
        raise not_found("rule")
    etag = etag_of(found.revision)
    if is_known(if_none_match, found.revision):
        return Response(status_code=304, headers={"ETag": etag})
    return answered_json(kept_json(found), etag=etag)


@router.put("/rules/{id}", summary="Replace a rule", response_model=StoredRuleBody, responses=problems(404, 412, 428))
def replace_rule(
    id: RuleId, body: RuleBody, context: Context, caller: Writer, trace: Traced, if_match: IfMatch = None
) -> Response:
    """With If-Match only: nobody overwrites what he has not read. What is left out is as the defaults are."""
    stored = standing(context, caller, id)
    revision = matched_revision(if_match, standing=stored.revision)
    return _changed(context, caller, trace, stored, rule_of(body, id, stored.rule.owner), revision, "rule.change")


@router.patch(
    "/rules/{id}", summary="Switch a rule on or off", response_model=StoredRuleBody, responses=problems(404, 412)
)
def switch_rule(
    id: RuleId, body: Enabled, context: Context, caller: Writer, trace: Traced, if_match: IfMatch = None
) -> Response:
    """Everything else about it stays."""
    stored = standing(context, caller, id)
    revision = matched_revision(if_match, standing=stored.revision, required=False)
    rule = stored.rule.model_copy(update={"enabled": body.enabled})
    return _changed(context, caller, trace, stored, rule, revision, "rule.enable" if body.enabled else "rule.disable")


@router.delete("/rules/{id}", summary="Remove a rule", status_code=204, responses=problems(404, 412))
def delete_rule(id: RuleId, context: Context, caller: Writer, trace: Traced, if_match: IfMatch = None) -> Response:
    """Its history and its firings stay."""
    stored = standing(context, caller, id)
    revision = matched_revision(if_match, standing=stored.revision, required=False)
    with context.access.audit.entry(caller, "rule.delete", "rule", id, before=stored.rule, **trace.said):
        context.store.delete_rule(id, by=caller.owner, at=context.clock(), revision=revision)
    return Response(status_code=204)


@router.get(
    "/rules/{id}/history",
    summary="Every revision of a rule",
    response_model=Page[StoredRuleBody],
    responses=problems(404),
)
def rule_history(id: RuleId, context: Context, caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """The newest first; of a removed rule too."""
    after = key_of(cursor)
    if after and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise wrong_field("cursor", "it is not one of ours", place="query", hint="begin without a cursor")
    revisions = [one for one in reversed(context.store.rule_history(id)) if caller.sees(one.rule.owner)]
    if not revisions:
        raise not_found("rule")
    left = [one for one in revisions if not after or one.revision < int(after)]
    shown, more = left[:limit], len(left) > limit
    return answered_page(map(stored_json, shown), cursor_after(str(shown[-1].revision)) if more else None)


def standing(context: GatewayContext, caller: Principal, id: str) -> StoredRule:
    """A rule that the caller may see.

    Raises
    ------
    ProblemError
        404: there is none, or it is another's.
    """
    found = context.store.rule(id)
    if found is None or not caller.sees(found.rule.owner):
        raise not_found("rule")
    return found


def _changed(
    context: GatewayContext,
    caller: Principal,
    trace: Traced,
    stored: StoredRule,
    rule: Rule,
    revision: int,
    action: str,
) -> Response:
    if rule != stored.rule:
        audit = context.access.audit
        with audit.entry(caller, action, "rule", rule.id, before=stored.rule, after=rule, **trace.said):
            stored = context.store.save_rule(rule, by=caller.owner, at=context.clock(), revision=revision)
    return answered(stored_body(stored), etag=etag_of(stored.revision))
