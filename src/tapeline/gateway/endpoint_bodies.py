"""Endpoints and their health as requests and answers have them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import ConfigDict, Field

from tapeline.alerts.delivery.endpoint_secrets import old_secrets, valid_secrets
from tapeline.alerts.endpoint_health import EndpointHealth
from tapeline.alerts.endpoint_settings import LONGEST_LIFETIME, MOST_PER_MINUTE
from tapeline.alerts.records import Attempt
from tapeline.alerts.store.store import Endpoint
from tapeline.alerts.webhook_manager import LONGEST_GRACE, TestResult, WebhookManager
from tapeline.gateway.answers import Body
from tapeline.gateway.instants import Instant, instant, instant_or_none

Kind = Literal["webhook", "telegram", "slack", "discord", "email", "sms"]
KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
"""Of all endpoints those that are told here; bots have routes of their own."""
Address = Annotated[str, Field(min_length=3, max_length=2_000, pattern=r"^[^\x00-\x1f\x7f]+$")]
ChannelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$", examples=["desk"])]
PerMinute = Annotated[int, Field(ge=0, le=MOST_PER_MINUTE, description="messages it takes a minute; 0: no limit")]
Lifetime = Annotated[
    float, Field(ge=0, le=LONGEST_LIFETIME, description="after which a delivery is worthless; 0: never")
]
_NEW: Final[dict[str, Any]] = {
    "kind": "webhook",
    "name": "desk",
    "address": "https://desk.example.org/hooks/7f3a",
    "per_minute": 120,
}
_KEPT: Final[dict[str, Any]] = {
    "id": "ep_0J5QGZ3T9W1K7M8N2P4R6S",
    "owner": "ann",
    "kind": "webhook",
    "name": "desk",
    "address": "https://desk.example.org/...",
    "enabled": True,
    "reason": "",
    "problem": "",
    "failures": 0,
    "failing_since": None,
    "per_minute": 120,
    "lifetime_seconds": 0.0,
    "secrets": 1,
    "rotation_ends_at": None,
    "from_settings": False,
    "revision": 0,
    "created_at": "2026-01-01T00:00:00.000000000Z",
    "changed_at": "2026-01-01T00:00:00.000000000Z",
}
_SECRET: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # noqa: S105 - an example for the documentation
_TRY: Final[dict[str, Any]] = {
    "delivery": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6.5c1f",
    "number": 1,
    "started_at": "2026-01-01T00:00:00.140000000Z",
    "ended_at": "2026-01-01T00:00:00.310000000Z",
    "outcome": "sent",
    "status": 204,
    "detail": "HTTP 204",
}


class NewEndpoint(Body):
    """An endpoint as it is registered."""

    model_config = ConfigDict(json_schema_extra={"example": _NEW})

    kind: Kind
    name: ChannelName = Field(description="what rules call it; several may share one name")
    address: Address = Field(
        description="a URL; tgram://<token>/<chat>; an incoming webhook of Slack or Discord; a mail address; a number"
    )
    per_minute: PerMinute = 0
    lifetime_seconds: Lifetime = 0.0


class EndpointChange(Body):
    """What is to be other; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"example": {"per_minute": 30}})

    name: ChannelName | None = None
    address: Address | None = None
    per_minute: PerMinute | None = None
    lifetime_seconds: Lifetime | None = None


class Rotation(Body):
    """How a secret is rotated."""

    model_config = ConfigDict(json_schema_extra={"example": {"grace_seconds": 3600}})

    grace_seconds: float | None = Field(
        None, ge=0, le=LONGEST_GRACE, description="for how long the old secret signs too; the settings' where absent"
    )


class EndpointBody(Body):
    """An endpoint; its address without what is secret in it."""

    model_config = ConfigDict(json_schema_extra={"example": _KEPT})

    id: str
    owner: str
    kind: str
    name: str
    address: str | None = Field(description="enough to recognise it; null where it cannot be decrypted")
    enabled: bool
    reason: str = Field(description="why it is switched off")
    problem: str = Field(description="why it cannot work as it is kept, and what helps")
    failures: int = Field(description="failed attempts in a row")
    failing_since: Instant | None
    per_minute: int
    lifetime_seconds: float
    secrets: int = Field(description="secrets that requests are signed with now")
    rotation_ends_at: Instant | None = Field(description="when the newest secret will sign alone")
    from_settings: bool = Field(description="whether the settings have it: there it is changed")
    revision: int
    created_at: Instant
    changed_at: Instant


class ShownEndpoint(EndpointBody):
    """An endpoint with a new secret, shown this once."""

    model_config = ConfigDict(json_schema_extra={"example": {**_KEPT, "secret": _SECRET}})

    secret: str | None = Field(description="what requests are signed with; null where the kind signs nothing")


class TestBody(Body):
    """What became of a test event."""

    __test__ = False
    model_config = ConfigDict(
        json_schema_extra={"example": {"outcome": "sent", "status": 204, "detail": "HTTP 204", "seconds": 0.17}}
    )

    outcome: str
    status: int = Field(description="of the answer; 0 where there was none")
    detail: str
    seconds: float


class TriedBody(Body):
    """One attempt at one of its deliveries."""

    model_config = ConfigDict(json_schema_extra={"example": _TRY})

    delivery: str
    number: int
    started_at: Instant
    ended_at: Instant | None
    outcome: str
    status: int
    detail: str


class HealthBody(Body):
    """How an endpoint does, by its newest 500 deliveries."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "state": "healthy",
                "reason": "",
                "last_success_at": "2026-01-01T00:00:00.310000000Z",
                "failures": 0,
                "failing_since": None,
                "attempts": 40,
                "successes": 39,
                "latency_seconds": 0.12,
                "latency_p95_seconds": 0.31,
                "deliveries": {"sent": 39, "waiting": 1},
                "recent": [_TRY],
            }
        }
    )

    state: Literal["untried", "healthy", "failing", "switched_off"]
    reason: str
    last_success_at: Instant | None
    failures: int
    failing_since: Instant | None
    attempts: int
    successes: int
    latency_seconds: float | None = Field(description="the median of what answers took")
    latency_p95_seconds: float | None
    deliveries: dict[str, int] = Field(description="by state")
    recent: list[TriedBody] = Field(description="the newest first")


def fields_of(manager: WebhookManager, one: Endpoint, now: int) -> dict[str, Any]:
    """An endpoint as it is told."""
    ends = [end for _, end in old_secrets(one) if end is not None and now < end]
    return {
        "id": one.id,
        "owner": one.owner,
        "kind": one.channel,
        "name": str(one.settings.get("name") or one.id),
        "address": manager.shown(one),
        "enabled": one.enabled,
        "reason": one.reason,
        "problem": manager.problem(one),
        "failures": one.failures,
        "failing_since": instant_or_none(one.failing_since),
        "per_minute": int(one.settings.get("per_minute") or 0),
        "lifetime_seconds": float(one.settings.get("lifetime_seconds") or 0.0),
        "secrets": len(valid_secrets(one, now)),
        "rotation_ends_at": instant_or_none(max(ends, default=0)),
        "from_settings": one.settings.get("operator") is True,
        "revision": one.revision,
        "created_at": instant(one.created_at),
        "changed_at": instant(one.changed_at),
    }


def health_body(found: EndpointHealth) -> HealthBody:
    """A health as it is told."""
    return HealthBody.model_construct(
        state=found.state,
        reason=found.reason,
        last_success_at=instant_or_none(found.last_success_at),
        failures=found.failures,
        failing_since=instant_or_none(found.failing_since),
        attempts=found.attempts,
        successes=found.successes,
        latency_seconds=_number(found.latency),
        latency_p95_seconds=_number(found.latency_p95),
        deliveries=found.deliveries,
        recent=[tried_body(one) for one in found.recent],
    )


def tried_body(one: Attempt) -> TriedBody:
    """An attempt as it is told."""
    return TriedBody.model_construct(
        delivery=one.delivery,
        number=one.number,
        started_at=instant(one.started_at),
        ended_at=instant_or_none(one.ended_at),
        outcome=one.outcome,
        status=one.status,
        detail=one.detail,
    )


def result_body(found: TestResult) -> TestBody:
    """A test's result as it is told."""
    return TestBody.model_construct(
        outcome=found.outcome, status=found.status, detail=found.detail, seconds=round(found.seconds, 3)
    )


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
