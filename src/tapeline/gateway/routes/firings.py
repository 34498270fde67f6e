"""Firings: looked for, explained, taken notice of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field
from starlette.responses import StreamingResponse

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.store.caller_queries import CallerQueries, FiringLine
from tapeline.alerts.store.store import FiringQuery
from tapeline.gateway.answers import Body, answered, answered_page, answered_plain, problems
from tapeline.gateway.callers import Traced, owner_of, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.delivery_bodies import DeliveryWithAttempts, delivery_with_attempts
from tapeline.gateway.instants import GivenInstant, Instant, instant, instant_or_none, nanoseconds_of
from tapeline.gateway.pages import Cursor, Limit, Page
from tapeline.gateway.problems import blamed_on, not_found

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "firings:read"))]
Writer = Annotated[Principal, Depends(require("user", "firings:write"))]
FiringId = Annotated[str, Path(min_length=1, max_length=64, examples=["evt_22A0E7FY5DB3RK3CXWVF4FDVB6"])]
NDJSON: Final = "application/x-ndjson"
MOST_EXPORTED: Final = 100_000
EXPORT_PAGE: Final = 500
_LINES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One firing a line",
        "content": {NDJSON: {"schema": {"type": "string"}, "example": '{"id":"evt_22A0E7FY5DB3RK3CXWVF4FDVB6"}'}},
    }
}
_labels: Final = msgspec.json.Decoder(dict[str, str]).decode
_sides: Final = msgspec.json.Decoder(list[tuple[str, float | str, float | str, bool | None]]).decode
Kind = Literal["firing", "resolved", "no_data", "escalation"]
_EXAMPLE: dict[str, Any] = {
    "id": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6",
    "number": 17,
    "rule": "btc-60k",
    "rule_version": "5f2c9a",
    "owner": "ann",
    "symbol": "BTCUSDT",
    "kind": "firing",
    "priority": "high",
    "ts": "2026-01-01T00:00:00.123456789Z",
    "detected_at": "2026-01-01T00:00:00.124100000Z",
    "price": 60001.5,
    "late": False,
    "lateness_seconds": 0.0,
    "labels": {"desk": "majors"},
    "acknowledged_by": None,
    "acknowledged_at": None,
}


class FiringBody(Body):
    """A firing."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: str = Field(description="constant: every delivery of it carries it")
    number: int = Field(description="rises in the order in which firings became visible")
    rule: str
    rule_version: str = Field(description="the hash of what decided when it fires")
    owner: str
    symbol: str
    kind: Kind
    priority: str
    ts: Instant = Field(description="when it happened, by the venue's clock")
    detected_at: Instant = Field(description="when it was found, by ours")
    price: float | None = Field(description="the newest trade; null where there is none")
    late: bool = Field(description="whether it was found by going over a gap afterwards")
    lateness_seconds: float
    labels: dict[str, str]
    acknowledged_by: str | None
    acknowledged_at: Instant | None


class ConditionBody(Body):
    """One condition of the rule as it stood."""

    text: str
    left: float | None
    right: float | None
    held: bool | None = Field(description="null: not known")


class ExplainedFiring(FiringBody):
    """A firing with what explains it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_EXAMPLE,
                "sequence": 4711,
                "bar": "2026-01-01T00:00:00.000000000Z",
                "bar_state": "forming",
                "conditions": [{"text": "crosses_up(close, 60000)", "left": 60001.5, "right": 60000.0, "held": True}],
            }
        }
    )

    sequence: int = Field(description="the feed's number of the tick; -1 where it has none")
    bar: Instant | None = Field(description="the open of the bar in which it happened")
    bar_state: Literal["forming", "closed"]
    conditions: list[ConditionBody]


class Notice(Body):
    """What somebody says who takes notice."""

    model_config = ConfigDict(json_schema_extra={"example": {"comment": "looking into it"}})

    comment: str = Field("", max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")


class Deliveries(Body):
    """What became of telling a firing, each delivery with every attempt."""

    items: list[DeliveryWithAttempts]


@router.get("/firings", summary="The caller's firings", response_model=Page[FiringBody])
def list_firings(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    rule: Annotated[str | None, Query(max_length=64)] = None,
    symbol: Annotated[str | None, Query(max_length=64)] = None,
    kind: Annotated[list[Kind], Query(max_length=4, description="of these kinds only")] = [],  # noqa: B006
    since: Annotated[GivenInstant | None, Query(description="not before this")] = None,
    until: Annotated[GivenInstant | None, Query(description="before this")] = None,
    oldest_first: bool = False,
    owner: Annotated[str | None, Query(max_length=64, description="whose; for administrators")] = None,
) -> Response:
    """By the time of their events, the newest first; the pages stay true while more are written."""
    query = FiringQuery(
        rule=rule,
        symbol=symbol,
        owner=owner_of(caller, owner),
        kinds=tuple(kind),
        since=None if since is None else nanoseconds_of(since),
        until=None if until is None else nanoseconds_of(until),
    )
    with blamed_on("cursor", place="query"):
        page = CallerQueries(context.store.database).firings(
            query, cursor=cursor, limit=limit, oldest_first=oldest_first
        )
    return answered_page(map(_told, page.items), page.cursor)


@router.get("/firings/export", summary="Firings as lines of JSON", response_class=StreamingResponse, responses=_LINES)
def export_firings(
    context: Context,
    caller: Reader,
    since: Annotated[GivenInstant, Query(description="not before this")],
    until: Annotated[GivenInstant | None, Query(description="before this")] = None,
) -> StreamingResponse:
    """The caller's own, the oldest first, each with what explains it; at most 100,000."""
    query = FiringQuery(
        owner=caller.owner, since=nanoseconds_of(since), until=None if until is None else nanoseconds_of(until)
    )
    return StreamingResponse(_exported(context, query), media_type=NDJSON)


@router.get("/firings/{id}", summary="One firing, explained", response_model=ExplainedFiring, responses=problems(404))
def get_firing(id: FiringId, context: Context, caller: Reader) -> Response:
    """With each condition of its rule as it stood."""
    return answered_plain(_explained(_standing(context, caller, id)))


@router.post(
    "/firings/{id}/acknowledgement",
    summary="Take notice of a firing",
    response_model=ExplainedFiring,
    responses=problems(404),
)
def acknowledge_firing(id: FiringId, body: Notice, context: Context, caller: Writer, trace: Traced) -> Response:
    """Its escalations end until the rule fires again. Who was first stays: a second one changes nothing."""
    stored = _standing(context, caller, id)
    if stored.acknowledged_by is None:
        said = {"comment": body.comment}
        with context.access.audit.entry(caller, "firing.acknowledge", "firing", id, after=said, **trace.said):
            context.store.acknowledge(id, by=caller.owner, at=context.clock(), comment=body.comment)
        stored = _standing(context, caller, id)
    return answered_plain(_explained(stored))


@router.get(
    "/firings/{id}/deliveries",
    summary="What became of telling a firing",
    response_model=Deliveries,
    responses=problems(404),
)
def firing_deliveries(id: FiringId, context: Context, caller: Reader) -> Response:
    """Each delivery with every attempt at it."""
    _standing(context, caller, id)
    found = [(one, context.store.attempts(one.id)) for one in context.store.deliveries(id)]
    return answered(Deliveries(items=[delivery_with_attempts(one, attempts) for one, attempts in found]))


def _standing(context: GatewayContext, caller: Principal, id: str) -> FiringLine:
    queries = CallerQueries(context.store.database)
    found = queries.firing(None if caller.role == "admin" else caller.owner, id)
    if found is None:
        raise not_found("firing")
    return found


def _told(line: FiringLine) -> dict[str, Any]:
    """A firing as a list tells it."""
    return {
        "id": line.id,
        "number": line.number,
        "rule": line.rule,
        "rule_version": line.rule_version,
        "owner": line.owner,
        "symbol": line.symbol,
        "kind": line.kind,
        "priority": line.priority,
        "ts": instant(line.ts),
        "detected_at": instant(line.detected_at),
        "price": _number(line.price),
        "late": bool(line.late),
        "lateness_seconds": line.lateness / 1e9,
        "labels": _labels(line.labels),
        "acknowledged_by": line.acknowledged_by,
        "acknowledged_at": instant_or_none(line.acknowledged_at),
    }


def _explained(line: FiringLine) -> dict[str, Any]:
    """A firing with what explains it."""
    return _told(line) | {
        "sequence": line.sequence,
        "bar": None if line.bar is None else instant(line.bar),
        "bar_state": "closed" if line.at_close else "forming",
        "conditions": [
            {"text": text, "left": _number(left), "right": _number(right), "held": held}
            for text, left, right, held in _sides(line.sides)
        ],
    }


def _number(value: float | str | None) -> float | None:
    # The store writes what no JSON number is as text.
    return value if isinstance(value, float) and value - value == 0 else None


def _exported(context: GatewayContext, query: FiringQuery) -> Iterator[bytes]:
    cursor: str | None = None
    left = MOST_EXPORTED
    while left > 0:
        page = CallerQueries(context.store.database).firings(
            query, cursor=cursor, limit=min(EXPORT_PAGE, left), oldest_first=True, explained=True
        )
        # A page at a time: what is not read is not held in memory.
        yield b"".join(msgspec.json.encode(_explained(one)) + b"\n" for one in page.items)
        left, cursor = left - len(page.items), page.cursor
        if cursor is None:
            return
