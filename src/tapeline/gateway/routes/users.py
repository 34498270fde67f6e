"""Users, for administrators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.principal import Principal, Role
from tapeline.alerts.access.quotas import LARGEST, QUOTAS
from tapeline.alerts.access.user_manager import LastAdministratorError, NameTakenError, User
from tapeline.alerts.rule import Name
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.etags import IfMatch, IfNoneMatch, etag_of, is_known, matched_revision
from tapeline.gateway.in_person import in_person
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import ProblemError, blamed_on, not_found
from tapeline.gateway.routes.auth import Password
from tapeline.gateway.routes.keys import KeyBody, KeyId, fields_of

router = APIRouter()
Administrator = Annotated[Principal, Depends(in_person("admin"))]
UserName = Annotated[str, Path(min_length=1, max_length=64, examples=["ann"])]
Quota = Annotated[int, Field(ge=0, le=LARGEST)]
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "ann",
    "email": "ann@example.com",
    "role": "user",
    "quotas": {"rules": 50},
}


class Quotas(Body):
    """How much of each thing a user may have; what is left out is as the default is."""

    rules: Quota | None = None
    endpoints: Quota | None = None
    api_keys: Quota | None = None
    symbols: Quota | None = None
    silences: Quota | None = None

    def given(self) -> dict[str, int]:
        """Those that are set."""
        return {name: value for name in QUOTAS if (value := getattr(self, name)) is not None}


class NewUser(Body):
    """A user as he is made."""

    model_config = ConfigDict(json_schema_extra={"example": {**_EXAMPLE, "password": "four kinds of weather"}})

    name: Name = Field(description="unique, whatever its case, and never changed")
    email: str = Field("", max_length=320)
    role: Role = "user"
    password: Password | None = Field(None, repr=False, description="without one he is known by an API key only")
    quotas: Quotas = Quotas()


class UserChange(Body):
    """What is to be another; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"example": {"role": "operator", "enabled": True}})

    email: str | None = Field(None, max_length=320)
    role: Role | None = None
    enabled: bool | None = Field(None, description="false: he is out at once, and his keys are refused")
    quotas: Quotas | None = Field(None, description="all of his own quotas")


class GivenPassword(Body):
    """A password that an administrator gives."""

    model_config = ConfigDict(json_schema_extra={"example": {"password": "one more kind of weather"}})

    password: Password = Field(repr=False)


class UserBody(Body):
    """A user."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_EXAMPLE,
                "quotas": {"rules": 50, "endpoints": 50, "api_keys": 20, "symbols": 1_000, "silences": 200},
                "enabled": True,
                "has_password": True,
                "created_at": "2026-01-01T00:00:00.000000000Z",
                "changed_at": "2026-01-01T00:00:00.000000000Z",
            }
        }
    )

    name: str
    email: str
    role: str
    enabled: bool
    has_password: bool
    quotas: dict[str, int]
    created_at: Instant
    changed_at: Instant


@router.get("/users", summary="Users", response_model=Page[UserBody])
def list_users(context: Context, caller: Administrator, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """By name."""
    found = context.access.users.all(after=key_of(cursor), limit=limit + 1)
    items = [_body(one) for one in found[:limit]]
    more = len(found) > limit
    return answered(Page.model_construct(items=items, cursor=cursor_after(items[-1].name) if more else None))


@router.post("/users", summary="A new user", status_code=201, response_model=UserBody)
def create_user(body: NewUser, context: Context, caller: Administrator, trace: Traced) -> Response:
    """His name stays his, even after he was removed."""
    told = context.access.audit.entry(caller, "user.create", "user", body.name, after=lambda user: user, **trace.said)
    with _refusals(), told:
        made = context.access.users.add(
            body.name, role=body.role, email=body.email, password=body.password, quotas=body.quotas.given()
        )
    return answered(_body(made), 201, etag=etag_of(made.revision), location=f"/v1/users/{made.name}")


@router.get("/users/{name}", summary="One user", response_model=UserBody, responses=problems(404))
def get_user(name: UserName, context: Context, caller: Administrator, if_none_match: IfNoneMatch = None) -> Response:
    """As he stands."""
    found = _standing(context, name)
    if is_known(if_none_match, found.revision):
        return Response(status_code=304, headers={"ETag": etag_of(found.revision)})
    return answered(_body(found), etag=etag_of(found.revision))


@router.patch("/users/{name}", summary="Change a user", response_model=UserBody, responses=problems(404, 409, 412))
def change_user(
    name: UserName,
    body: UserChange,
    context: Context,
    caller: Administrator,
    trace: Traced,
    if_match: IfMatch = None,
) -> Response:
    """Role and quotas count from his next request on. The last administrator stays one."""
    before = _standing(context, name)
    revision = matched_revision(if_match, standing=before.revision, required=False)
    told = context.access.audit.entry(
        caller, "user.change", "user", name, before=before, after=lambda user: user, **trace.said
    )
    with _refusals(), told:
        changed = context.access.users.change(
            name,
            email=body.email,
            role=body.role,
            enabled=body.enabled,
            quotas=None if body.quotas is None else body.quotas.given(),
            revision=revision,
        )
    return answered(_body(changed), etag=etag_of(changed.revision))


@router.put("/users/{name}/password", summary="Give a user a password", status_code=204, responses=problems(404))
def give_password(
    name: UserName, body: GivenPassword, context: Context, caller: Administrator, trace: Traced
) -> Response:
    """All of his logins end."""
    with blamed_on("/password"), context.access.audit.entry(caller, "password.give", "user", name, **trace.said):
        context.access.users.set_password(name, body.password)
    return Response(status_code=204)


@router.delete("/users/{name}", summary="Remove a user", status_code=204, responses=problems(404, 409))
def remove_user(name: UserName, context: Context, caller: Administrator, trace: Traced) -> Response:
    """His address, password, logins and keys are gone; what he owned stays, and so does his name."""
    told = context.access.audit.entry(caller, "user.remove", "user", name, before=lambda user: user, **trace.said)
    with _refusals(), told:
        context.access.users.remove(name)
    return Response(status_code=204)


@router.delete("/users/{name}/sessions", summary="End a user's logins", status_code=204, responses=problems(404))
def end_sessions(name: UserName, context: Context, caller: Administrator, trace: Traced) -> Response:
    """All of them, at once."""
    _standing(context, name)
    with context.access.audit.entry(caller, "session.end-all", "user", name, **trace.said):
        context.access.end_sessions(name, reason="ended by an administrator")
    return Response(status_code=204)


@router.get("/users/{name}/keys", summary="A user's API keys", response_model=Page[KeyBody], responses=problems(404))
def list_user_keys(name: UserName, context: Context, caller: Administrator) -> Response:
    """What is kept of them; at most 200."""
    _standing(context, name)
    items = [KeyBody.model_construct(**fields_of(one)) for one in context.access.keys.all(name)[:200]]
    return answered(Page.model_construct(items=items, cursor=None))


@router.delete("/users/{name}/keys/{id}", summary="Revoke a user's API key", status_code=204, responses=problems(404))
def revoke_user_key(name: UserName, id: KeyId, context: Context, caller: Administrator, trace: Traced) -> Response:
    """It is refused from this moment on."""
    with context.access.audit.entry(caller, "key.revoke", "api_key", id, before=lambda key: key, **trace.said):
        context.access.keys.revoke(name, id)
    return Response(status_code=204)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        with blamed_on(""):
            yield
    except NameTakenError as error:
        raise ProblemError(409, "name-taken", error.message, hint=error.hint) from None
    except LastAdministratorError as error:
        raise ProblemError(409, "last-administrator", error.message, hint=error.hint) from None


def _standing(context: GatewayContext, name: str) -> User:
    found = context.access.users.get(name)
    if found is None:
        raise not_found("user")
    return found


def _body(one: User) -> UserBody:
    return UserBody.model_construct(
        name=one.name,
        email=one.email,
        role=one.role,
        enabled=one.enabled,
        has_password=one.has_password,
        quotas=dict(one.quotas),
        created_at=instant(one.created_at),
        changed_at=instant(one.changed_at),
    )
