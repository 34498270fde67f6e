"""Alerts that come in: from TradingView, which can neither sign nor set headers, and freqtrade's word on its orders."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.bots.dialects.freqtrade import read_fill
from tapeline.alerts.bots.inbound_alert import LARGEST_BODY, read_alert
from tapeline.alerts.bots.inbound_queue import InboundQueue, InboundState, NotPermittedAlertError, QueuedAlert
from tapeline.alerts.bots.inbound_tokens import InboundSettings, InboundSource, InboundTokens, may_come_from
from tapeline.alerts.bots.signal import CHANNEL
from tapeline.alerts.limits.limiter import Rate
from tapeline.alerts.rule import Name
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.instants import Instant, instant, instant_or_none
from tapeline.gateway.json_body import strict_json
from tapeline.gateway.pages import Limit
from tapeline.gateway.problems import ProblemError, not_found, retry_after
from tapeline.gateway.routes.signals import acknowledged

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "inbound:read"))]
Writer = Annotated[Principal, Depends(require("user", "inbound:write"))]
Token = Annotated[str, Path(min_length=1, max_length=200, description="the secret of the source")]
SourceName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$", examples=["macd"])]
PER_SOURCE: Final = Rate(120, 60.0)
KINDS: Final = ("application/json", "text/plain")
_EXAMPLE: Final = {
    "strategy": "macd",
    "order_id": "Long",
    "time": "2026-01-01T00:00:00Z",
    "ticker": "BINANCE:BTCUSDT",
    "action": "buy",
    "position": "long",
    "contracts": "0.1",
    "price": "60001.5",
    "interval": "60",
}
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "object", "maxProperties": 20}, "example": _EXAMPLE} for kind in KINDS},
    }
}
_SETTINGS: Final[dict[str, Any]] = {
    "symbols": {"BINANCE:BTCUSDT": "BTCUSDT"},
    "sides": ["buy", "close"],
    "channels": ["desk"],
}
_SOURCE: Final[dict[str, Any]] = {
    "source": "macd",
    "owner": "ann",
    "settings": _SETTINGS,
    "created_at": "2026-01-01T00:00:00.000000000Z",
}
_RECEIVED: Final[dict[str, Any]] = {
    "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "source": "macd",
    "received_at": "2026-01-01T00:00:00.000000000Z",
    "address": "52.89.214.238",
    "body": "{}",
    "state": "taken",
    "firing": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6",
}
_TOKEN: Final[dict[str, Any]] = {"token": "tv_...", "path": "/v1/inbound/tradingview/tv_..."}


class TakenBody(Body):
    """The alert is on our disk."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "taken"}})

    status: Literal["taken", "known"] = Field(description="known: it came before, and is not taken again")


class NewSource(Body):
    """A source of alerts."""

    model_config = ConfigDict(json_schema_extra={"example": {"source": "macd", "settings": _SETTINGS}})

    source: Annotated[Name, Field(max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]
    settings: InboundSettings = InboundSettings()


class GivenSettings(InboundSettings):
    """What a source may say, and who is told."""

    model_config = ConfigDict(json_schema_extra={"example": _SETTINGS})


class SourceBody(Body):
    """A source of alerts; its token is never told again."""

    model_config = ConfigDict(json_schema_extra={"example": _SOURCE})

    source: str
    owner: str
    settings: InboundSettings
    created_at: Instant


class SourceWithToken(SourceBody):
    """A source, and its token: shown this once."""

    model_config = ConfigDict(json_schema_extra={"example": _SOURCE | _TOKEN})

    token: str
    path: str = Field(description="what TradingView is given, behind this server's address")


class Sources(Body):
    """Sources of alerts."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_SOURCE]}})

    items: list[SourceBody]


class ReceivedBody(Body):
    """An alert that came in, and what became of it."""

    model_config = ConfigDict(json_schema_extra={"example": _RECEIVED})

    id: str
    source: str
    received_at: Instant
    finished_at: Instant | None = None
    address: str
    body: str
    state: InboundState
    firing: str | None = None
    reason: str | None = None


class Received(Body):
    """Alerts that came in, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_RECEIVED]}})

    items: list[ReceivedBody]


@router.post(
    "/inbound/tradingview/{token}",
    summary="An alert of TradingView",
    status_code=202,
    response_model=TakenBody,
    responses=problems(403, 404, 413, 415, 422, 429),
    openapi_extra=_BODY,
)
async def tradingview(token: Token, request: Request, context: Context) -> Response:
    """It is written down before it is answered, and becomes a firing afterwards. The same alert again is not taken."""
    body = await request.body()
    kind = request.headers.get("content-type", "text/plain")
    address = str(request.scope["state"].get("address", ""))
    new = await run_in_threadpool(_take, context, token, body, kind, address)
    return answered(TakenBody(status="taken" if new else "known"), 202)


@router.post(
    "/inbound/freqtrade/{token}",
    summary="What freqtrade says of an order",
    response_model=TakenBody,
    responses=problems(403, 404, 409, 413, 415, 422, 429),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "maxProperties": 40},
                    "example": {"type": "entry_fill", "enter_tag": "evt_1", "trade_id": "7", "open_rate": "100.5"},
                }
            },
        }
    },
)
async def freqtrade(
    token: Token,
    request: Request,
    context: Context,
    bot: Annotated[str, Query(min_length=1, max_length=200, description="the bot's id")],
) -> Response:
    """Its webhook, in the form ``json``: a filled entry is its signal executed, a cancelled one its signal rejected."""
    body = await request.body()
    kind = request.headers.get("content-type", "")
    address = str(request.scope["state"].get("address", ""))
    new = await run_in_threadpool(_fill, context, token, body, kind, address, bot)
    return answered(TakenBody(status="taken" if new else "known"))


@router.get("/sources", summary="Sources of alerts that come in", response_model=Sources)
def list_sources(context: Context, caller: Reader) -> Response:
    """Those of the caller, by name."""
    found = inbound_tokens(context).sources(caller.owner)
    return answered(Sources(items=[_source_body(one) for one in found]))


@router.post(
    "/sources",
    summary="A source of alerts",
    status_code=201,
    response_model=SourceWithToken,
    responses=problems(403, 409),
)
def create_source(body: NewSource, context: Context, caller: Writer, trace: Traced) -> Response:
    """Its token is 256 random bits and shown this once; what it may say is bounded by its settings."""
    tokens = inbound_tokens(context)
    if body.source in {one.source for one in tokens.sources(caller.owner)}:
        raise ProblemError(409, "id-taken", "there is a source of this name already", hint="rotate its token")
    audit = context.access.audit.entry(
        caller, "source.create", "source", body.source, after=body.settings.model_dump(mode="json"), **trace.said
    )
    now = context.clock()
    with audit:
        token = tokens.create(caller.owner, body.source, body.settings, now=now)
    made = InboundSource(caller.owner, body.source, body.settings, now)
    return answered(_with_token(made, token), 201, location=f"/v1/sources/{body.source}")


@router.put("/sources/{source}", summary="What a source may say", response_model=SourceBody, responses=problems(404))
def change_source(source: SourceName, body: GivenSettings, context: Context, caller: Writer, trace: Traced) -> Response:
    """For whichever of its tokens is used."""
    audit = context.access.audit.entry(
        caller, "source.change", "source", source, after=body.model_dump(mode="json"), **trace.said
    )
    with audit:
        wanted = InboundSettings.model_validate(body.model_dump())
        return answered(_source_body(inbound_tokens(context).change(caller.owner, source, wanted)))


@router.post(
    "/sources/{source}/token", summary="Another token", response_model=SourceWithToken, responses=problems(404)
)
def rotate_token(
    source: SourceName,
    context: Context,
    caller: Writer,
    trace: Traced,
    grace: Annotated[int, Query(ge=0, le=30 * 86_400, description="seconds for which the old one is taken")] = 86_400,
) -> Response:
    """The old token is taken for a while yet, so that nothing is lost until TradingView has the new one."""
    tokens = inbound_tokens(context)
    with context.access.audit.entry(caller, "source.rotate", "source", source, **trace.said):
        token = tokens.rotate(caller.owner, source, now=context.clock(), grace=grace)
    found = next(one for one in tokens.sources(caller.owner) if one.source == source)
    return answered(_with_token(found, token))


@router.delete("/sources/{source}", summary="Remove a source", status_code=204, responses=problems(404))
def delete_source(source: SourceName, context: Context, caller: Writer, trace: Traced) -> Response:
    """Its tokens are worth nothing any more."""
    tokens = inbound_tokens(context)
    if not any(one.source == source for one in tokens.sources(caller.owner)):
        raise not_found("source")
    with context.access.audit.entry(caller, "source.delete", "source", source, **trace.said):
        tokens.delete(caller.owner, source)
    return Response(status_code=204)


@router.get("/sources/received", summary="Alerts that came in", response_model=Received)
def list_received(context: Context, caller: Reader, limit: Limit = 50) -> Response:
    """The caller's newest, and what became of each."""
    found = context.part(_queue).recent(caller.owner, limit=limit)
    return answered(Received(items=[_received(one) for one in found]))


def inbound_tokens(context: GatewayContext) -> InboundTokens:
    """The tokens of the settings and of the database."""
    return context.part(_tokens)


def _take(context: GatewayContext, token: str, body: bytes, kind: str, address: str) -> bool:
    source = _admitted(context, token, kind, address, KINDS)
    if len(body) > LARGEST_BODY:
        raise ProblemError(413, "too-large", f"the body is larger than {LARGEST_BODY} bytes")
    alert = read_alert(body)
    try:
        return context.part(_queue).put(source, alert, body, address=address, now=context.clock())
    except NotPermittedAlertError as error:
        raise ProblemError(403, "not-permitted", error.message) from None


def _fill(context: GatewayContext, token: str, body: bytes, kind: str, address: str, bot: str) -> bool:
    source = _admitted(context, token, kind, address, KINDS[:1], networks=())
    endpoint = context.store.endpoint(bot)
    if endpoint is None or endpoint.channel != CHANNEL or endpoint.owner != source.owner:
        raise not_found("bot")
    message = strict_json(body, deepest=4)
    found = read_fill(message) if isinstance(message, dict) else None
    if found is None:
        return False
    acknowledged(context, endpoint, *found)
    return True


def _admitted(
    context: GatewayContext,
    token: str,
    kind: str,
    address: str,
    kinds: tuple[str, ...],
    networks: tuple[str, ...] | None = None,
) -> InboundSource:
    """The source of a token, where it may come in from there and now."""
    gateway = context.settings.alerts.gateway
    if not may_come_from(address, gateway.inbound_networks if networks is None else networks):
        raise ProblemError(403, "not-permitted", "alerts do not come in from this address")
    if kind.partition(";")[0].strip().lower() not in kinds:
        raise ProblemError(415, "unsupported-media-type", f"a body is {' or '.join(kinds)}")
    source = inbound_tokens(context).find(token, now=context.clock())
    if source is None:
        raise not_found("source")
    verdict = context.limiter.take(f"inbound:{source.owner}:{source.source}", PER_SOURCE)
    if not verdict.allowed:
        raise ProblemError(
            429,
            "too-many-requests",
            f"more than {PER_SOURCE.limit} alerts a minute",
            headers=retry_after(verdict.retry_after),
        )
    return source


def _with_token(source: InboundSource, token: str) -> SourceWithToken:
    return SourceWithToken(**_source_body(source).model_dump(), token=token, path=f"/v1/inbound/tradingview/{token}")


def _source_body(source: InboundSource) -> SourceBody:
    return SourceBody(
        source=source.source,
        owner=source.owner,
        settings=source.settings,
        created_at=instant(source.created_at),
    )


def _received(found: QueuedAlert) -> ReceivedBody:
    return ReceivedBody(
        id=found.id,
        source=found.source,
        received_at=instant(found.received_at),
        finished_at=instant_or_none(found.finished_at),
        address=found.address,
        body=found.body,
        state=found.state,
        firing=found.firing or None,
        reason=found.reason or None,
    )


def _tokens(context: GatewayContext) -> InboundTokens:
    configured = context.settings.alerts.gateway.inbound_tokens
    return InboundTokens(
        context.store.database, {owner: token.get_secret_value() for owner, token in configured.items()}
    )


def _queue(context: GatewayContext) -> InboundQueue:
    return InboundQueue(context.store.database)
