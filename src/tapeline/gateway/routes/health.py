"""Whether it is alive, whether it can work, and how much it does."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.principal import NotAuthenticatedError, NotPermittedError, Principal
from tapeline.alerts.engine_metrics import render_metrics
from tapeline.alerts.engine_reports import EngineReport, read_engines
from tapeline.core.errors import TapelineError
from tapeline.gateway.answers import API_VERSION, Body, answered, problems
from tapeline.gateway.callers import require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.shared_answers import SharedAnswers

if TYPE_CHECKING:
    from prometheus_client import Metric

root = APIRouter()
router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "health:read"))]
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Prometheus's text format",
        "content": {"text/plain": {"example": "tapeline_gateway_ready 1.0"}},
    }
}
_READY_EXAMPLE: Final[dict[str, Any]] = {"ready": True, "database": "ok", "engine": "ok"}


class Alive(Body):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"] = "ok"


class Ready(Body):
    """Whether alerts are looked after: the database answers, and an engine was heard of lately."""

    model_config = ConfigDict(json_schema_extra={"example": _READY_EXAMPLE})

    ready: bool
    database: Literal["ok", "away"]
    engine: Literal["ok", "not ready", "silent", "none", "unknown"]


class EngineBody(Body):
    """One engine."""

    instance: str
    state: Literal["ok", "not ready", "silent"]
    started_at: Instant
    beat_at: Instant
    reasons: list[str] = Field(description="why it is not ready")
    status: dict[str, Any] = Field(description="what it says of itself")


class ChannelState(Body):
    """How many deliveries of a kind of channel stand in a state."""

    channel: str
    state: str
    count: int
    oldest: Instant


class Status(Body):
    """How the whole stands."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_READY_EXAMPLE,
                "version": "1.0.0",
                "engines": [
                    {
                        "instance": "one",
                        "state": "ok",
                        "started_at": "2026-01-01T00:00:00.000000000Z",
                        "beat_at": "2026-01-01T09:00:00.000000000Z",
                        "reasons": [],
                        "status": {"rules": 12},
                    }
                ],
                "deliveries": [
                    {"channel": "webhook", "state": "sent", "count": 17, "oldest": "2026-01-01T00:00:00.000000000Z"}
                ],
            }
        }
    )

    ready: bool
    database: Literal["ok", "away"]
    engine: Literal["ok", "not ready", "silent", "none", "unknown"]
    version: str = Field(description="of the API")
    engines: list[EngineBody] = Field(description="for operators; empty for others")
    deliveries: list[ChannelState] = Field(description="for operators; empty for others")


@root.get("/healthz", summary="Whether the process answers", response_model=Alive)
async def alive() -> Response:
    """Always ``ok`` while the process runs; whether it can work is told by ``/readyz``."""
    return answered(Alive())


@root.get(
    "/readyz",
    summary="Whether alerts are looked after",
    response_model=Ready,
    responses={503: {"description": "They are not", "model": Ready}},
)
def ready(context: Context) -> Response:
    """503 where the database is away, or no engine that is ready was heard of within ten seconds."""
    found, _ = _standing(context)
    return answered(found, 200 if found.ready else 503)


@root.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={**_TEXT, **problems(401, 403)},
)
def metrics(context: Context, request: Request) -> Response:
    """For operators, for API keys with ``health:read`` of one, and without either for this machine itself."""
    _may_scrape(request)
    found, engines = _standing(context)
    own = request.app.state.metrics.exposition() + _of_database(context, found, engines)
    return Response(own + render_metrics(engines), media_type=EXPOSITION)


@router.get("/status", summary="How the whole stands", response_model=Status)
def status(context: Context, caller: Reader) -> Response:
    """Everybody sees whether alerts are looked after; operators also see engines and deliveries."""
    found, engines = _standing(context)
    counts = context.part(SharedAnswers).delivery_counts() if caller.has("operator") and found.database == "ok" else ()
    return answered(
        Status(
            **found.model_dump(),
            version=API_VERSION,
            engines=[_engine(one) for one in engines] if caller.has("operator") else [],
            deliveries=[
                ChannelState(channel=one.channel, state=one.state, count=one.count, oldest=instant(one.oldest))
                for one in counts
            ],
        )
    )


def _standing(context: GatewayContext) -> tuple[Ready, tuple[EngineReport, ...]]:
    try:
        engines = read_engines(context.store.database, context.clock())
    except TapelineError:
        return Ready(ready=False, database="away", engine="unknown"), ()
    if not engines:
        return Ready(ready=False, database="ok", engine="none"), ()
    states = {_state(one) for one in engines}
    best = next(one for one in ("ok", "not ready", "silent") if one in states)
    return Ready(ready=best == "ok", database="ok", engine=best), engines


def _state(one: EngineReport) -> Literal["ok", "not ready", "silent"]:
    if one.ready:
        return "ok"
    return "not ready" if one.alive else "silent"


def _engine(one: EngineReport) -> EngineBody:
    return EngineBody(
        instance=one.instance,
        state=_state(one),
        started_at=instant(one.started_at),
        beat_at=instant(one.beat_at),
        reasons=list(one.reasons),
        status=dict(one.status),
    )


def _may_scrape(request: Request) -> None:
    found = request.scope["state"].get("principal")
    if isinstance(found, Principal):
        if not found.has("operator") or not found.may("health:read"):
            raise NotPermittedError("this needs the role 'operator' and, of a key, the scope 'health:read'")
        return
    if isinstance(found, Exception):
        raise found
    # A proxy on this machine makes strangers look local: whoever was forwarded is not.
    forwarded = any(name in request.headers for name in ("x-forwarded-for", "forwarded", "x-real-ip", "via"))
    try:
        local = ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        local = False
    if forwarded or not local:
        raise NotAuthenticatedError("this needs a token or an API key", hint="Authorization: Bearer ...")


def _of_database(context: GatewayContext, found: Ready, engines: tuple[EngineReport, ...]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily

    class Standing:
        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("tapeline_gateway_ready", "Whether alerts are looked after", float(found.ready))
            beats = GaugeMetricFamily(
                "tapeline_gateway_engine_beat_age_seconds", "Since an engine was heard of", labels=["instance"]
            )
            for one in engines:
                beats.add_metric([one.instance], one.age)
            yield beats
            told = GaugeMetricFamily(
                "tapeline_gateway_deliveries", "Deliveries by channel and state", labels=["channel", "state"]
            )
            if found.database == "ok":
                for count in context.part(SharedAnswers).delivery_counts():
                    told.add_metric([count.channel, count.state], count.count)
            yield told

    registry = CollectorRegistry()
    registry.register(Standing())
    return generate_latest(registry)
