"""Silences: for a time firings that match are kept and not told."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field, model_validator

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.records import Silence
from tapeline.alerts.rule import Name
from tapeline.alerts.store.caller_queries import CallerQueries
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, owner_of, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.instants import GivenInstant, Instant, instant, nanoseconds_of
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import not_found, wrong_field
from tapeline.gateway.rule_bodies import new_id

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "silences:read"))]
Writer = Annotated[Principal, Depends(require("user", "silences:write"))]
SilenceId = Annotated[str, Path(min_length=1, max_length=64, examples=["sil_0J5QGZ3T9W1K7M8N2P4R6S"])]
Pattern = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
_EXAMPLE: Final[dict[str, Any]] = {
    "matchers": {"rule": "btc-*", "priority": "normal"},
    "begins_at": "2026-01-01T00:00:00Z",
    "ends_at": "2026-01-01T06:00:00Z",
    "comment": "exchange maintenance",
}


class NewSilence(Body):
    """A silence as it is sent."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    matchers: dict[Name, Pattern] = Field(
        min_length=1,
        max_length=10,
        description="names and patterns (* and ?) of rule, symbol, owner, priority or a label; all must match",
    )
    begins_at: GivenInstant | None = Field(None, description="now where absent")
    ends_at: GivenInstant
    comment: str = Field("", max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")

    @model_validator(mode="after")
    def _in_order(self) -> NewSilence:
        if self.begins_at is not None and self.begins_at >= self.ends_at:
            raise ValueError("ends_at is not after begins_at")
        return self


class SilenceBody(Body):
    """A silence."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {**_EXAMPLE, "id": "sil_0J5QGZ3T9W1K7M8N2P4R6S", "owner": "ann", "created_by": "ann"}
        }
    )

    id: str
    owner: str
    matchers: dict[str, str]
    begins_at: Instant
    ends_at: Instant
    comment: str
    created_by: str


@router.get("/silences", summary="The caller's silences", response_model=Page[SilenceBody])
def list_silences(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    ended: Annotated[bool, Query(description="whether those that have ended are told too")] = False,
    owner: Annotated[str | None, Query(max_length=64, description="whose; for administrators")] = None,
) -> Response:
    """By id; those that have not ended yet."""
    at = None if ended else context.clock()
    queries = CallerQueries(context.store.database)
    found = queries.silences(owner_of(caller, owner), at=at, after=key_of(cursor), limit=limit)
    items = [_body(one) for one in found[:limit]]
    more = len(found) > limit
    return answered(Page.model_construct(items=items, cursor=cursor_after(items[-1].id) if more else None))


@router.post("/silences", summary="A new silence", status_code=201, response_model=SilenceBody)
def create_silence(body: NewSilence, context: Context, caller: Writer, trace: Traced) -> Response:
    """It holds for the caller's own firings, by the time of their events."""
    now = context.clock()
    begins = now if body.begins_at is None else nanoseconds_of(body.begins_at)
    ends = nanoseconds_of(body.ends_at)
    if ends <= max(begins, now):
        raise wrong_field("/ends_at", "it has ended already")
    made = Silence(new_id("sil"), caller.owner, body.matchers, begins, ends, body.comment, caller.owner)
    audited = context.access.audit.entry(caller, "silence.create", "silence", made.id, after=made, **trace.said)
    with context.access.quotas.within(caller.owner, "silences"), audited:
        context.store.save_silence(made)
    return answered(_body(made), 201, location=f"/v1/silences/{made.id}")


@router.get("/silences/{id}", summary="One silence", response_model=SilenceBody, responses=problems(404))
def get_silence(id: SilenceId, context: Context, caller: Reader) -> Response:
    """As it stands, ended or not."""
    return answered(_body(_standing(context, caller, id)))


@router.delete("/silences/{id}", summary="End a silence", response_model=SilenceBody, responses=problems(404))
def end_silence(id: SilenceId, context: Context, caller: Writer, trace: Traced) -> Response:
    """From now on it holds nothing back; it stays readable. One that has ended is left as it is."""
    before, now = _standing(context, caller, id), context.clock()
    if before.ends_at <= now:
        return answered(_body(before))
    after = replace(before, ends_at=max(now, before.begins_at))
    audit = context.access.audit
    with audit.entry(caller, "silence.end", "silence", id, before=before, after=after, **trace.said):
        ended = context.store.end_silence(id, at=now)
    return answered(_body(ended))


def _standing(context: GatewayContext, caller: Principal, id: str) -> Silence:
    found = CallerQueries(context.store.database).silence(None if caller.role == "admin" else caller.owner, id)
    if found is None:
        raise not_found("silence")
    return found


def _body(one: Silence) -> SilenceBody:
    return SilenceBody.model_construct(
        id=one.id,
        owner=one.owner,
        matchers=dict(one.matchers),
        begins_at=instant(one.begins_at),
        ends_at=instant(one.ends_at),
        comment=one.comment,
        created_by=one.created_by,
    )
