"""Trading bots: registered, changed, their secrets rotated."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.bots.bot_endpoints import BotEndpoints
from tapeline.alerts.bots.bot_settings import BotSettings, read_settings
from tapeline.alerts.bots.signal import CHANNEL
from tapeline.alerts.delivery.secret_vault import UnreadableSecretError
from tapeline.alerts.delivery.signing import PREFIX
from tapeline.alerts.store.store import Endpoint
from tapeline.core.errors import ConfigurationError
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import ProblemError, blamed_on
from tapeline.gateway.routes.signals import BotId, own_bot

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "endpoints:read"))]
Writer = Annotated[Principal, Depends(require("user", "endpoints:write"))]
_Url = Annotated[str, Field(max_length=2_000)]
_Credential = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Credentials = Annotated[dict[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], _Credential], Field(max_length=5)]
_SETTINGS: Final[dict[str, Any]] = {
    "name": "desk",
    "dialect": "freqtrade",
    "ttl": 5.0,
    "symbols": {"BTCUSDT": "BTC/USDT"},
}
_BOT: Final[dict[str, Any]] = {
    "id": "ann.desk",
    "owner": "ann",
    "settings": _SETTINGS,
    "host": "bot.example.org",
    "enabled": True,
    "created_at": "2026-01-01T00:00:00.000000000Z",
    "changed_at": "2026-01-01T00:00:00.000000000Z",
}


class NewBot(Body):
    """A bot to be registered."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "settings": _SETTINGS,
                "url": "https://bot.example.org/",
                "credentials": {"username": "tapeline", "password": "..."},
            }
        }
    )

    settings: BotSettings
    url: _Url = Field("", description="where it is; empty for one that asks for its signals")
    credentials: _Credentials = Field({}, description="user and password, email_token, or secret; by its dialect")


class ChangedBot(Body):
    """What is to be changed about a bot; what is absent stays."""

    model_config = ConfigDict(json_schema_extra={"example": {"settings": _SETTINGS | {"ttl": 2.0}, "enabled": True}})

    settings: BotSettings | None = None
    url: _Url | None = None
    credentials: _Credentials | None = None
    enabled: bool | None = None


class BotBody(Body):
    """A bot; its secrets are never told."""

    model_config = ConfigDict(json_schema_extra={"example": _BOT})

    id: str
    owner: str
    settings: BotSettings
    host: str | None = Field(None, description="where it is; its path may be a secret")
    enabled: bool
    reason: str | None = Field(None, description="why it was switched off")
    failures: int = 0
    created_at: Instant
    changed_at: Instant


class BotWithSecret(BotBody):
    """A bot, and the secret that signs its signals: shown this once."""

    model_config = ConfigDict(json_schema_extra={"example": _BOT | {"secret": f"{PREFIX}..."}})

    secret: str | None = Field(None, description="of a generic bot")


@router.get("/bots", summary="The caller's bots", response_model=Page[BotBody])
def list_bots(context: Context, caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """By id."""
    after = key_of(cursor)
    found = [one for one in context.store.endpoints(owner=caller.owner, channel=CHANNEL) if one.id > after]
    items = [bot_body(context, one) for one in found[:limit]]
    more = len(found) > limit
    return answered(Page.model_construct(items=items, cursor=cursor_after(items[-1].id) if more else None))


@router.post(
    "/bots", summary="Register a bot", status_code=201, response_model=BotWithSecret, responses=problems(403, 409)
)
def create_bot(body: NewBot, context: Context, caller: Writer, trace: Traced) -> Response:
    """Its address is checked, its secret shown this once. Rules name it among their channels."""
    id = f"{caller.owner}.{body.settings.name}"
    if context.store.endpoint(id) is not None:
        raise ProblemError(409, "id-taken", "there is an endpoint of this name already")
    audited = context.access.audit.entry(
        caller, "bot.create", "bot", id, after=body.settings.model_dump(mode="json"), **trace.said
    )
    with blamed_on("/url"), context.access.quotas.within(caller.owner, "endpoints"), audited:
        endpoint, secret = bot_endpoints(context).create(
            id, caller.owner, body.settings, now=context.clock(), url=body.url, credentials=body.credentials
        )
    return answered(_with_secret(context, endpoint, secret), 201, location=f"/v1/bots/{id}")


@router.get("/bots/{bot}", summary="One bot", response_model=BotBody, responses=problems(404))
def get_bot(bot: BotId, context: Context, caller: Reader) -> Response:
    """As it stands."""
    return answered(bot_body(context, own_bot(context, caller, bot)))


@router.patch("/bots/{bot}", summary="Change a bot", response_model=BotBody, responses=problems(404))
def change_bot(bot: BotId, body: ChangedBot, context: Context, caller: Writer, trace: Traced) -> Response:
    """Settings are replaced as a whole, and cannot give it another name; its address is checked anew."""
    endpoint = own_bot(context, caller, bot)
    standing = read_settings(endpoint.settings)
    if body.settings is not None and body.settings.name != standing.name:
        raise ProblemError(422, "invalid", "a bot keeps its name", hint="register another one")
    audited = context.access.audit.entry(
        caller,
        "bot.change",
        "bot",
        bot,
        before=standing.model_dump(mode="json"),
        after=(body.settings or standing).model_dump(mode="json") | {"enabled": body.enabled},
        **trace.said,
    )
    endpoints = bot_endpoints(context)
    with blamed_on("/url"), audited:
        if body.settings is not None or body.url is not None or body.credentials is not None:
            endpoint = endpoints.change(
                bot, now=context.clock(), settings=body.settings, url=body.url, credentials=body.credentials
            )
        if body.enabled is not None and body.enabled != endpoint.enabled:
            endpoint = endpoints.switch(bot, body.enabled, now=context.clock())
    return answered(bot_body(context, endpoint))


@router.post(
    "/bots/{bot}/secrets", summary="A new secret beside the old", response_model=BotWithSecret, responses=problems(404)
)
def rotate_secret(bot: BotId, context: Context, caller: Writer, trace: Traced) -> Response:
    """Signals carry a signature by each until the old one is retired. The new one is shown this once."""
    own_bot(context, caller, bot)
    with blamed_on("/dialect"), context.access.audit.entry(caller, "bot.rotate", "bot", bot, **trace.said):
        endpoint, secret = bot_endpoints(context).rotate(bot, now=context.clock())
    return answered(_with_secret(context, endpoint, secret))


@router.delete("/bots/{bot}/secrets", summary="Retire old secrets", response_model=BotBody, responses=problems(404))
def retire_secrets(bot: BotId, context: Context, caller: Writer, trace: Traced) -> Response:
    """Only the newest secret stays."""
    own_bot(context, caller, bot)
    with context.access.audit.entry(caller, "bot.retire", "bot", bot, **trace.said):
        endpoint = bot_endpoints(context).retire_secrets(bot, now=context.clock())
    return answered(bot_body(context, endpoint))


@router.delete("/bots/{bot}", summary="Remove a bot", status_code=204, responses=problems(404))
def delete_bot(bot: BotId, context: Context, caller: Writer, trace: Traced) -> Response:
    """What waits for it becomes a dead letter; its signals so far stay for a month."""
    own_bot(context, caller, bot)
    with context.access.audit.entry(caller, "bot.delete", "bot", bot, **trace.said):
        context.store.delete_endpoint(bot)
    return Response(status_code=204)


def bot_endpoints(context: GatewayContext) -> BotEndpoints:
    """The bots over the gateway's database."""
    return context.part(_endpoints)


def bot_body(context: GatewayContext, endpoint: Endpoint) -> BotBody:
    """A bot as it is answered."""
    return BotBody(**_fields(context, endpoint))


def _with_secret(context: GatewayContext, endpoint: Endpoint, secret: str) -> BotWithSecret:
    return BotWithSecret(**_fields(context, endpoint), secret=secret or None)


def _fields(context: GatewayContext, endpoint: Endpoint) -> dict[str, Any]:
    try:
        settings = read_settings(endpoint.settings)
    except ConfigurationError:
        settings = BotSettings(name="unreadable", dialect="pull")
    try:
        host = urlsplit(context.vault.open_text(endpoint.address, endpoint.id)).netloc or None
    except (UnreadableSecretError, ValueError):
        host = None
    return {
        "id": endpoint.id,
        "owner": endpoint.owner,
        "settings": settings,
        "host": host,
        "enabled": endpoint.enabled,
        "reason": endpoint.reason or None,
        "failures": endpoint.failures,
        "created_at": instant(endpoint.created_at),
        "changed_at": instant(endpoint.changed_at),
    }


def _endpoints(context: GatewayContext) -> BotEndpoints:
    return BotEndpoints(context.store, context.vault, rules=context.target)
