"""The caller's API keys."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.api_keys import SCOPES, ApiKey
from tapeline.alerts.access.principal import Principal
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced
from tapeline.gateway.context import Context
from tapeline.gateway.in_person import in_person
from tapeline.gateway.instants import GivenInstant, Instant, instant, instant_or_none, nanoseconds_of
from tapeline.gateway.pages import Page
from tapeline.gateway.problems import blamed_on

router = APIRouter()
Person = Annotated[Principal, Depends(in_person("user"))]
KeyId = Annotated[str, Path(min_length=1, max_length=64, examples=["4fKq9ZtLw2Xc"])]
Scope = Literal[SCOPES]  # type: ignore[valid-type]
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "freqtrade",
    "scopes": ["firings:read", "signals:read"],
    "expires_at": "2027-01-01T00:00:00Z",
}
_KEPT: Final[dict[str, Any]] = {
    **_EXAMPLE,
    "id": "4fKq9ZtLw2Xc",
    "prefix": "tlk_4fKq9ZtLw2Xc",
    "created_at": "2026-01-01T00:00:00.000000000Z",
    "last_used_at": None,
}


class NewKey(Body):
    """A key as it is asked for."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES), description="what it may do, at most")
    expires_at: GivenInstant | None = Field(None, description="for ever where absent")


class KeyBody(Body):
    """A key as it is kept."""

    model_config = ConfigDict(json_schema_extra={"example": _KEPT})

    id: str
    name: str
    prefix: str = Field(description="how the key begins; the rest is kept nowhere")
    scopes: list[str]
    created_at: Instant
    expires_at: Instant | None
    last_used_at: Instant | None = Field(description="to about a minute")


class ShownKey(KeyBody):
    """A new key, shown this once."""

    model_config = ConfigDict(json_schema_extra={"example": {**_KEPT, "key": "tlk_4fKq9ZtLw2Xc_Qh3m..."}})

    key: str = Field(description="what the program sends as `Authorization: Bearer`")


@router.get("/keys", summary="The caller's API keys", response_model=Page[KeyBody])
def list_keys(context: Context, caller: Person) -> Response:
    """Those that are not revoked, the oldest first; at most 200."""
    items = [KeyBody.model_construct(**fields_of(one)) for one in context.access.keys.all(caller.owner)[:200]]
    return answered(Page.model_construct(items=items, cursor=None))


@router.post("/keys", summary="A new API key", status_code=201, response_model=ShownKey)
def create_key(body: NewKey, context: Context, caller: Person, trace: Traced) -> Response:
    """The answer shows it, and nothing ever does again. It may never do more than its owner."""
    access = context.access
    expires = None if body.expires_at is None else nanoseconds_of(body.expires_at)
    told = access.audit.entry(caller, "key.create", "api_key", lambda key: key.id, after=lambda key: key, **trace.said)
    with blamed_on("/expires_at"), told:
        key, text = access.keys.create(caller.owner, body.name, body.scopes, expires_at=expires)
    return answered(ShownKey.model_construct(**fields_of(key), key=text), 201, location=f"/v1/keys/{key.id}")


@router.get("/keys/{id}", summary="One API key", response_model=KeyBody, responses=problems(404))
def get_key(id: KeyId, context: Context, caller: Person) -> Response:
    """What is kept of it; never the key itself."""
    return answered(KeyBody.model_construct(**fields_of(context.access.keys.get(caller.owner, id))))


@router.delete("/keys/{id}", summary="Revoke an API key", status_code=204, responses=problems(404))
def revoke_key(id: KeyId, context: Context, caller: Person, trace: Traced) -> Response:
    """It is refused from this moment on."""
    with context.access.audit.entry(caller, "key.revoke", "api_key", id, before=lambda key: key, **trace.said):
        context.access.keys.revoke(caller.owner, id)
    return Response(status_code=204)


def fields_of(key: ApiKey) -> dict[str, Any]:
    """A key's fields as the API tells them."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": f"tlk_{key.id}",
        "scopes": sorted(key.scopes),
        "created_at": instant(key.created_at),
        "expires_at": instant_or_none(key.expires_at),
        "last_used_at": instant_or_none(key.last_used_at),
    }
