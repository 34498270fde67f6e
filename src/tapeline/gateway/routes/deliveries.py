"""Deliveries, and dead letters: what was given up, and taken back."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field, model_validator

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.store.caller_queries import CallerQueries
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, owner_of, require
from tapeline.gateway.context import Context
from tapeline.gateway.delivery_bodies import (
    DeadLetterBody,
    DeliveryBody,
    DeliveryWithAttempts,
    State,
    dead_letter_body,
    delivery_body,
    delivery_with_attempts,
)
from tapeline.gateway.instants import GivenInstant, nanoseconds_of
from tapeline.gateway.pages import Cursor, Limit, Page
from tapeline.gateway.problems import blamed_on, not_found

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "deliveries:read"))]
Writer = Annotated[Principal, Depends(require("user", "deliveries:write"))]
MOST_IDS: Final = 500
DeliveryId = Annotated[str, Field(min_length=1, max_length=200)]


class Redrive(Body):
    """Which dead letters go out again: those named, or all that died in a time, of an endpoint where it is named."""

    model_config = ConfigDict(json_schema_extra={"example": {"ids": ["evt_22A0E7FY5DB3RK3CXWVF4FDVB6/desk"]}})

    ids: tuple[DeliveryId, ...] = Field((), max_length=MOST_IDS)
    endpoint: str | None = Field(None, min_length=1, max_length=128)
    since: GivenInstant | None = None
    until: GivenInstant | None = None

    @model_validator(mode="after")
    def _something(self) -> Redrive:
        if not self.ids and self.endpoint is None and self.since is None and self.until is None:
            raise ValueError("name ids, an endpoint or a time")
        return self


class Redriven(Body):
    """What was taken back."""

    model_config = ConfigDict(json_schema_extra={"example": {"redriven": 1}})

    redriven: int = Field(description="at most 1,000 at once: ask again while there are more")


@router.get("/deliveries", summary="The caller's deliveries", response_model=Page[DeliveryBody])
def list_deliveries(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: State | None = None,
    channel: Annotated[str | None, Query(max_length=64, description="the kind, such as webhook")] = None,
    owner: Annotated[str | None, Query(max_length=64, description="whose; for administrators")] = None,
) -> Response:
    """By the time of their firings' events, the newest first."""
    queries = CallerQueries(context.store.database)
    with blamed_on("cursor", place="query"):
        page = queries.deliveries(owner_of(caller, owner), state=state, channel=channel, cursor=cursor, limit=limit)
    return answered(Page.model_construct(items=[delivery_body(one) for one in page.items], cursor=page.cursor))


@router.get("/dead-letters", summary="What was given up", response_model=Page[DeadLetterBody])
def list_dead_letters(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    endpoint: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """The newest first: a user's own; an operator sees everybody's."""
    queries = CallerQueries(context.store.database)
    with blamed_on("cursor", place="query"):
        page = queries.dead_letters(_whose(caller), endpoint=endpoint, cursor=cursor, limit=limit)
    return answered(Page.model_construct(items=[dead_letter_body(one) for one in page.items], cursor=page.cursor))


@router.post("/dead-letters/redrive", summary="Send dead letters again", response_model=Redriven)
def redrive(body: Redrive, context: Context, caller: Writer, trace: Traced) -> Response:
    """They keep their ids and bodies, and their schedule begins anew. What is not the caller's is passed over."""
    ids = CallerQueries(context.store.database).dead_ids(
        _whose(caller),
        body.ids,
        endpoint=body.endpoint,
        since=None if body.since is None else nanoseconds_of(body.since),
        until=None if body.until is None else nanoseconds_of(body.until),
    )
    count = 0
    if ids:
        said = {"ids": ids}
        with context.access.audit.entry(caller, "delivery.redrive", "delivery", after=said, **trace.said):
            count = context.store.redrive(ids, now=context.clock())
    return answered(Redriven(redriven=count))


# Last: the id of a delivery holds a slash, so this address takes all that is below.
@router.get(
    "/deliveries/{id:path}",
    summary="One delivery with every attempt at it",
    response_model=DeliveryWithAttempts,
    responses=problems(404),
)
def get_delivery(
    id: Annotated[str, Path(max_length=200, examples=["evt_22A0E7FY5DB3RK3CXWVF4FDVB6/desk"])],
    context: Context,
    caller: Reader,
) -> Response:
    """As it stands."""
    found = CallerQueries(context.store.database).delivery(None if caller.role == "admin" else caller.owner, id)
    if found is None:
        raise not_found("delivery")
    return answered(delivery_with_attempts(*found))


def _whose(caller: Principal) -> str | None:
    return None if caller.has("operator") else caller.owner
