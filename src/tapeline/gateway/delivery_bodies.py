"""Deliveries, attempts and dead letters as answers tell them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from tapeline.alerts.records import Attempt, DeadLetter, Delivery
from tapeline.gateway.answers import Body
from tapeline.gateway.instants import Instant, instant, instant_or_none

State = Literal["waiting", "inflight", "sent", "dead", "expired", "held"]
_DELIVERY: Final[dict[str, Any]] = {
    "id": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6/desk",
    "firing": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6",
    "channel": "webhook",
    "endpoint": "ann.desk",
    "state": "sent",
    "priority": "high",
    "created_at": "2026-01-01T00:00:00.130000000Z",
    "not_before": None,
    "expires_at": None,
    "attempts": 1,
}
_ATTEMPT: Final[dict[str, Any]] = {
    "number": 1,
    "started_at": "2026-01-01T00:00:00.140000000Z",
    "ended_at": "2026-01-01T00:00:00.310000000Z",
    "outcome": "sent",
    "status": 204,
    "detail": "",
    "retry_at": None,
}


class DeliveryBody(Body):
    """One firing for one endpoint."""

    model_config = ConfigDict(json_schema_extra={"example": _DELIVERY})

    id: str
    firing: str = Field(description="of a digest its first")
    channel: str = Field(description="the kind: webhook, telegram, ...")
    endpoint: str
    state: State
    priority: str
    created_at: Instant
    not_before: Instant | None = Field(description="held until then")
    expires_at: Instant | None = Field(description="worthless after it; null: never")
    attempts: int


class AttemptBody(Body):
    """One try to deliver."""

    model_config = ConfigDict(json_schema_extra={"example": _ATTEMPT})

    number: int
    started_at: Instant
    ended_at: Instant | None
    outcome: Literal["begun", "sent", "retry", "refused", "gone", "throttled"]
    status: int = Field(description="of the answer; 0 where there was none")
    detail: str = Field(description="the beginning of the answer, or why there was none")
    retry_at: Instant | None = Field(description="when it is tried again; null: never")


class DeliveryWithAttempts(DeliveryBody):
    """A delivery with every try."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {**_DELIVERY, "body": '{"type":"alert.firing","id":"evt_22A0"}', "tried": [_ATTEMPT]}
        }
    )

    body: str = Field(description="what is sent: the same on every try")
    tried: list[AttemptBody]


class DeadLetterBody(DeliveryBody):
    """A delivery that was given up."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_DELIVERY,
                "state": "dead",
                "attempts": 10,
                "died_at": "2026-01-04T03:00:00.000000000Z",
                "outcome": "retry",
                "status": 503,
                "detail": "try again later",
            }
        }
    )

    died_at: Instant
    outcome: str = Field(description="how the last try ended")
    status: int
    detail: str


def delivery_body(one: Delivery) -> DeliveryBody:
    """A delivery."""
    return DeliveryBody.model_construct(**_plain(one))


def delivery_with_attempts(one: Delivery, attempts: Iterable[Attempt]) -> DeliveryWithAttempts:
    """A delivery with its attempts."""
    return DeliveryWithAttempts.model_construct(
        **_plain(one), body=one.body, tried=[_attempt(attempt) for attempt in attempts]
    )


def dead_letter_body(one: DeadLetter) -> DeadLetterBody:
    """A dead letter."""
    return DeadLetterBody.model_construct(
        **_plain(one.delivery),
        died_at=instant(one.died_at),
        outcome=one.outcome,
        status=one.status,
        detail=one.detail,
    )


def _plain(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "firing": one.firing,
        "channel": one.channel,
        "endpoint": one.endpoint,
        "state": one.state,
        "priority": one.priority,
        "created_at": instant(one.created_at),
        "not_before": instant_or_none(one.not_before),
        "expires_at": instant_or_none(one.expires_at),
        "attempts": one.attempts,
    }


def _attempt(one: Attempt) -> AttemptBody:
    return AttemptBody.model_construct(
        number=one.number,
        started_at=instant(one.started_at),
        ended_at=instant_or_none(one.ended_at),
        outcome=one.outcome,
        status=one.status,
        detail=one.detail,
        retry_at=instant_or_none(one.retry_at),
    )
