"""Logging in and out, tokens, the caller's password and logins, and tickets for the stream."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.access_control import Tokens
from tapeline.alerts.access.principal import Principal
from tapeline.alerts.access.tickets import SECONDS
from tapeline.alerts.stream_settings import stream_url
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, require
from tapeline.gateway.context import Context
from tapeline.gateway.in_person import in_person
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.pages import Page
from tapeline.gateway.problems import ProblemError, blamed_on

router = APIRouter()
Known = Annotated[Principal, Depends(require())]
Person = Annotated[Principal, Depends(in_person())]
Password = Annotated[str, Field(min_length=1, max_length=512, json_schema_extra={"format": "password"})]
SessionId = Annotated[str, Path(min_length=1, max_length=64, examples=["b1hT7nXw2kQ9sLzV4mYcRg"])]
_TOKEN: Final = "eyJhbGciOiJIUzI1NiIs..."  # noqa: S105 - an example
_PASSWORD: Final = "four kinds of weather"  # noqa: S105 - an example


class Login(Body):
    """Who logs in."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "ann", "password": _PASSWORD}})

    name: str = Field(min_length=1, max_length=64)
    password: Password = Field(repr=False)


class RefreshToken(Body):
    """A refresh token."""

    model_config = ConfigDict(json_schema_extra={"example": {"refresh_token": _TOKEN}})

    refresh_token: str = Field(min_length=1, max_length=2_048, repr=False)


class TokenPair(Body):
    """An access token for requests, and a refresh token for the next pair. A refresh token is good once."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "access_token": _TOKEN,
                "token_type": "Bearer",
                "expires_in": 900,
                "refresh_token": _TOKEN,
                "refresh_expires_in": 1_209_600,
            }
        }
    )

    access_token: str
    token_type: str
    expires_in: int = Field(description="seconds")
    refresh_token: str
    refresh_expires_in: int = Field(description="seconds")


class Me(Body):
    """Who the caller is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "ann",
                "email": "ann@example.com",
                "role": "user",
                "scopes": None,
                "quotas": {"rules": 500, "endpoints": 50, "api_keys": 20, "symbols": 1_000, "silences": 200},
            }
        }
    )

    name: str
    email: str
    role: str
    scopes: list[str] | None = Field(description="what an API key is limited to; null for a person who logged in")
    quotas: dict[str, int]


class NewPassword(Body):
    """The old password and the new one."""

    model_config = ConfigDict(json_schema_extra={"example": {"current": _PASSWORD, "new": "one more kind of weather"}})

    current: Password = Field(repr=False)
    new: Password = Field(repr=False)


class Logout(Body):
    """Nothing needs to be said."""

    model_config = ConfigDict(json_schema_extra={"example": {}})

    everywhere: bool = Field(False, description="whether all of the caller's logins end")


class Ticket(Body):
    """A word for one WebSocket connection."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"ticket": "tlt_Zb3qX0...", "expires_in": 30, "url": "wss://desk.example.org/stream"}
        }
    )

    ticket: str
    url: str = Field(description="where the stream is")
    expires_in: int = Field(description="seconds")


class Session(Body):
    """A login that has not ended."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "b1hT7nXw2kQ9sLzV4mYcRg",
                "begun_at": "2026-01-01T00:00:00.000000000Z",
                "refreshed_at": "2026-01-01T00:15:00.000000000Z",
                "expires_at": "2026-01-15T00:15:00.000000000Z",
                "address": "198.51.100.4",
                "current": True,
            }
        }
    )

    id: str
    begun_at: Instant
    refreshed_at: Instant
    expires_at: Instant
    address: str
    current: bool = Field(description="whether this request came with it")


@router.post("/auth/token", summary="Log in", response_model=TokenPair, responses=problems(401))
def log_in(body: Login, context: Context, trace: Traced) -> Response:
    """With name and password. Wrong, unknown and disabled are told alike; who fails often must wait (`Retry-After`)."""
    return _pair(context, context.access.login(body.name, body.password, **trace.said))


@router.post("/auth/refresh", summary="The next pair of tokens", response_model=TokenPair, responses=problems(401))
def refresh(body: RefreshToken, context: Context, trace: Traced) -> Response:
    """The refresh token is used up. If it comes again later than some seconds, the whole login ends: it was copied."""
    return _pair(context, context.access.refresh(body.refresh_token, **trace.said))


@router.post("/auth/logout", summary="Log out", status_code=204)
def log_out(body: Logout, context: Context, caller: Person, trace: Traced) -> Response:
    """The login's tokens are refused from this moment on."""
    if body.everywhere:
        with context.access.audit.entry(caller, "logout.everywhere", "session", **trace.said):
            context.access.end_sessions(caller.owner)
    else:
        context.access.logout(caller, **trace.said)
    return Response(status_code=204)


@router.get("/auth/me", summary="Who the caller is", response_model=Me)
def who_am_i(context: Context, caller: Known) -> Response:
    """Name, role, what an API key is limited to, and how much of each thing he may have."""
    found = context.access.users.get(caller.owner)
    if found is None:
        raise ProblemError(401, "not-authenticated", "there is no such user any more")
    scopes = None if caller.scopes is None else sorted(caller.scopes)
    quotas = dict(found.quotas)
    return answered(
        Me.model_construct(name=found.name, email=found.email, role=caller.role, scopes=scopes, quotas=quotas)
    )


@router.put("/auth/password", summary="Change the caller's password", status_code=204)
def change_password(body: NewPassword, context: Context, caller: Person, trace: Traced) -> Response:
    """His other logins end. A wrong current password counts as a failed login."""
    with blamed_on("/new"):
        context.access.change_password(caller, body.current, body.new, **trace.said)
    return Response(status_code=204)


@router.post("/auth/ticket", summary="A ticket for the stream", status_code=201, response_model=Ticket)
def give_ticket(context: Context, caller: Known, trace: Traced) -> Response:
    """Good for one connection within seconds; a page offers it as the subprotocol `ticket.<ticket>`."""
    with context.access.audit.entry(caller, "ticket.give", "ticket", **trace.said):
        ticket = context.access.tickets.give(caller)
    url = stream_url(context.settings.alerts)
    return answered(Ticket.model_construct(ticket=ticket, url=url, expires_in=int(SECONDS)), 201)


@router.get("/auth/sessions", summary="The caller's logins", response_model=Page[Session])
def list_sessions(context: Context, caller: Person) -> Response:
    """Those that have not ended, the newest first; at most 200."""
    items = [
        Session.model_construct(
            id=one.id,
            begun_at=instant(one.created_at),
            refreshed_at=instant(one.rotated_at),
            expires_at=instant(one.expires_at),
            address=one.address,
            current=caller.credential == f"session:{one.id}",
        )
        for one in context.access.sessions(caller.owner)[:200]
    ]
    return answered(Page.model_construct(items=items, cursor=None))


@router.delete("/auth/sessions/{id}", summary="End a login", status_code=204, responses=problems(404))
def end_session(id: SessionId, context: Context, caller: Person, trace: Traced) -> Response:
    """One of the caller's own."""
    with context.access.audit.entry(caller, "session.end", "session", id, **trace.said):
        context.access.end_session(caller.owner, id)
    return Response(status_code=204)


def _pair(context: Any, tokens: Tokens) -> Response:
    now = context.clock() // 1_000_000_000
    return answered(
        TokenPair.model_construct(
            access_token=tokens.access,
            token_type="Bearer",  # noqa: S106 - a kind, no secret
            expires_in=max(0, tokens.access_until - now),
            refresh_token=tokens.refresh,
            refresh_expires_in=max(0, tokens.refresh_until - now),
        )
    )
