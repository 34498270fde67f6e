"""The audit log, for operators: what was done, and whether the log is whole."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.audit_chain import AuditRow, Head
from tapeline.alerts.access.principal import Principal
from tapeline.alerts.limits.limiter import Rate
from tapeline.gateway.answers import Body, answered
from tapeline.gateway.callers import limited, require
from tapeline.gateway.context import Context
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import wrong_field

router = APIRouter()
Operator = Annotated[Principal, Depends(require("operator", "audit:read"))]
Filter = Annotated[str | None, Query(min_length=1, max_length=200)]
_HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class AuditBody(Body):
    """Something that was done."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 7,
                "at": "2026-01-01T00:00:00.000000000Z",
                "actor": "ann",
                "credential": "session:b1hT7nXw2kQ9sLzV4mYcRg",
                "action": "rule.create",
                "kind": "rule",
                "id": "btc-60k",
                "before": None,
                "after": {"id": "btc-60k", "enabled": True},
                "address": "198.51.100.4",
                "request_id": "req_0J5QGZ3T9W1K7M8N2P4R6S",
                "previous_hash": _HASH,
                "hash": _HASH,
            }
        }
    )

    number: int
    at: Instant
    actor: str
    credential: str
    action: str
    kind: str
    id: str
    before: Any
    after: Any
    address: str
    request_id: str
    previous_hash: str
    hash: str


class HeadBody(Body):
    """The end of the log: noted elsewhere, it shows later whether the log was set back."""

    model_config = ConfigDict(json_schema_extra={"example": {"number": 7, "hash": _HASH}})

    number: int = Field(ge=0, le=2**62)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


class Verify(Body):
    """What to compare the log with."""

    model_config = ConfigDict(json_schema_extra={"example": {"head": {"number": 7, "hash": _HASH}}})

    head: HeadBody | None = Field(None, description="a head that was noted earlier")


class FindingBody(Body):
    """One thing that is wrong."""

    number: int = Field(description="of the row", examples=[3])
    problem: str = Field(examples=["was changed: its hash is another"])


class VerificationBody(Body):
    """What was found."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"intact": True, "rows": 7, "head": {"number": 7, "hash": _HASH}, "findings": []}}
    )

    intact: bool
    rows: int
    head: HeadBody
    findings: list[FindingBody] = Field(description="the first hundred")


@router.get("/audit", summary="What was done", response_model=Page[AuditBody])
def list_audit(
    context: Context,
    caller: Operator,
    limit: Limit = 50,
    cursor: Cursor = None,
    actor: Filter = None,
    action: Filter = None,
    kind: Filter = None,
    id: Filter = None,
) -> Response:
    """The newest first."""
    after = key_of(cursor)
    if after and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise wrong_field("cursor", "it is not one of ours", place="query", hint="begin without a cursor")
    found = context.access.audit.rows(
        actor=actor, action=action, kind=kind, id=id, before=int(after) if after else None, limit=limit + 1
    )
    items = [_body(one) for one in found[:limit]]
    more = len(found) > limit
    return answered(Page.model_construct(items=items, cursor=cursor_after(str(items[-1].number)) if more else None))


@router.get("/audit/head", summary="The end of the audit log", response_model=HeadBody)
def audit_head(context: Context, caller: Operator) -> Response:
    """Number and hash of the newest row."""
    return answered(_head(context.access.audit.head()))


@router.post(
    "/audit/verify",
    summary="Is the audit log whole",
    response_model=VerificationBody,
    dependencies=[Depends(limited("audit-verify", Rate(6, 60.0)))],
)
def verify_audit(body: Verify, context: Context, caller: Operator) -> Response:
    """Reads all of it: rows that were changed, removed, put in another order or cut off at the end."""
    known = None if body.head is None else Head(body.head.number, body.head.hash)
    found = context.access.audit.verify(known)
    return answered(
        VerificationBody.model_construct(
            intact=found.intact,
            rows=found.rows,
            head=_head(found.head),
            findings=[FindingBody.model_construct(number=one.number, problem=one.problem) for one in found.findings],
        )
    )


def _head(head: Head) -> HeadBody:
    return HeadBody.model_construct(number=head.number, hash=head.hash)


def _body(row: AuditRow) -> AuditBody:
    return AuditBody.model_construct(
        number=row.number,
        at=instant(row.at),
        actor=row.actor,
        credential=row.credential,
        action=row.action,
        kind=row.kind,
        id=row.record,
        before=_value(row.before),
        after=_value(row.after),
        address=row.address,
        request_id=row.request_id,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # Somebody changed it: that is told by the verification, and here it is shown as it stands.
        return text
