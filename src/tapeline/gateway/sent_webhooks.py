"""What the service sends to webhooks, as part of the API's description: nothing here is ever called."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field

_EVENT: Final[dict[str, Any]] = {
    "type": "alert.firing",
    "id": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6",
    "timestamp": "2026-01-01T00:00:00.123Z",
    "data": {
        "rule": "btc-60k",
        "rule_version": "bf838cdcbcc7da6e",
        "name": "Above 60k",
        "owner": "ann",
        "symbol": "BTCUSDT",
        "kind": "firing",
        "priority": "high",
        "price": 60001.5,
        "ts": 1767225600123456789,
        "detected_at": 1767225600124100000,
        "late": False,
        "lateness_ms": 0.0,
        "labels": {"desk": "majors"},
        "title": "BTCUSDT: Above 60k",
        "text": "at 60001.5, 2026-01-01T00:00:00.123Z",
        "explanation": {"conditions": [{"text": "close > 60000", "left": 60001.5, "right": 60000.0, "held": True}]},
    },
}


class SentEvent(BaseModel):
    """A firing as it is sent: the same bytes on every try."""

    model_config = ConfigDict(json_schema_extra={"example": _EVENT})

    type: Literal["alert.firing", "alert.resolved", "alert.no_data", "alert.escalation"]
    id: str = Field(description="the firing's: the same on every try, so that a repeat is known")
    timestamp: str = Field(json_schema_extra={"format": "date-time"})
    data: dict[str, Any]


def sent_webhooks(router: APIRouter) -> None:
    """Add what is sent to the webhooks of an application."""

    def told(
        body: SentEvent,
        webhook_id: Annotated[str, Header(description="the firing's id")],
        webhook_timestamp: Annotated[int, Header(description="seconds since 1970: refuse what is 5 minutes old")],
        webhook_signature: Annotated[
            str, Header(description="v1,<base64>: HMAC-SHA256 of id.timestamp.body, one for each valid secret")
        ],
    ) -> None:
        """Signed as Standard Webhooks has it. Any 2xx within 15 s takes it; everything else is tried again."""

    for kind, words in (
        ("firing", "A rule fired"),
        ("resolved", "What fired no longer holds"),
        ("no_data", "A symbol went silent"),
        ("escalation", "Nobody took notice in time"),
    ):
        router.post(f"alert.{kind}", summary=words, status_code=204)(told)
