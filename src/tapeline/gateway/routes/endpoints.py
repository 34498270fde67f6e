"""Endpoints: where a user's alerts are sent, one row a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.channel_settings import make_manager
from tapeline.alerts.limits.limiter import Rate
from tapeline.alerts.store.store import Endpoint
from tapeline.alerts.webhook_manager import Registered, WebhookManager
from tapeline.gateway.answers import answered, problems
from tapeline.gateway.callers import Trace, Traced, limited, owner_of, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.endpoint_bodies import (
    KINDS,
    EndpointBody,
    EndpointChange,
    HealthBody,
    Kind,
    NewEndpoint,
    Rotation,
    ShownEndpoint,
    TestBody,
    fields_of,
    health_body,
    result_body,
)
from tapeline.gateway.etags import IfMatch, IfNoneMatch, etag_of, is_known, matched_revision
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import ProblemError, blamed_on, not_found, wrong_field
from tapeline.gateway.rule_bodies import new_id

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "endpoints:read"))]
Writer = Annotated[Principal, Depends(require("user", "endpoints:write"))]
EndpointId = Annotated[str, Path(min_length=1, max_length=130, examples=["ep_0J5QGZ3T9W1K7M8N2P4R6S"])]
TESTS = Rate(20, 60.0)
"""Test events of one user, whatever endpoints he has."""


@dataclass(frozen=True, slots=True)
class Meant:
    """The endpoint that a request means to change, as it stands: the caller's, and at the revision that he names."""

    context: GatewayContext
    caller: Principal
    trace: Trace
    endpoint: Endpoint
    revision: int

    @property
    def manager(self) -> WebhookManager:
        """The manager of all endpoints."""
        return self.context.part(manager_of)


def _meant(id: EndpointId, context: Context, caller: Writer, trace: Traced, if_match: IfMatch = None) -> Meant:
    found = _standing(context, caller, id)
    return Meant(context, caller, trace, found, matched_revision(if_match, standing=found.revision, required=False))


Named = Annotated[Meant, Depends(_meant)]


def manager_of(context: GatewayContext) -> WebhookManager:
    """The manager of all endpoints over a context; made once: ``context.part(manager_of)``."""
    return make_manager(context.settings, context.store, context.vault, limiter=context.limiter, clock=context.clock)


@router.get("/endpoints", summary="The caller's endpoints", response_model=Page[EndpointBody])
def list_endpoints(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    kind: Kind | None = None,
    owner: Annotated[str | None, Query(max_length=64, description="whose; for administrators")] = None,
) -> Response:
    """By id. An address is told as far as it takes to recognise it."""
    after = key_of(cursor)
    found = context.store.endpoints(owner=owner_of(caller, owner), channel=kind)
    left = [one for one in found if one.id > after and one.channel in KINDS]
    items = [_body(context, one) for one in left[:limit]]
    more = len(left) > limit
    return answered(Page.model_construct(items=items, cursor=cursor_after(items[-1].id) if more else None))


@router.post(
    "/endpoints",
    summary="A new endpoint",
    status_code=201,
    response_model=ShownEndpoint,
    responses=problems(403, 409),
)
def create_endpoint(body: NewEndpoint, context: Context, caller: Writer, trace: Traced) -> Response:
    """Where it leads is checked now and at each delivery. The answer shows a webhook's secret, this once."""
    manager, access, id = context.part(manager_of), context.access, new_id("ep")
    if body.kind not in manager.kinds:
        raise wrong_field("/kind", f"there is no gateway for {body.kind} here", hint="an operator can set one")
    with blamed_on("/name"):
        manager.check_name(caller.owner, body.name, body.kind)
    after = {"kind": body.kind, "name": body.name, "per_minute": body.per_minute}
    audited = access.audit.entry(caller, "endpoint.create", "endpoint", id, after=after, **trace.said)
    with blamed_on("/address"), access.quotas.within(caller.owner, "endpoints"), audited:
        made = manager.register(
            caller.owner,
            body.kind,
            body.address,
            name=body.name,
            id=id,
            per_minute=body.per_minute or None,
            lifetime=body.lifetime_seconds,
        )
    return _shown(context, made, 201)


@router.get("/endpoints/{id}", summary="One endpoint", response_model=EndpointBody, responses=problems(404))
def get_endpoint(id: EndpointId, context: Context, caller: Reader, if_none_match: IfNoneMatch = None) -> Response:
    """As it stands. Its ETag is what a change must name."""
    one = _standing(context, caller, id)
    if is_known(if_none_match, one.revision):
        return Response(status_code=304, headers={"ETag": etag_of(one.revision)})
    return answered(_body(context, one), etag=etag_of(one.revision))


@router.patch(
    "/endpoints/{id}", summary="Change an endpoint", response_model=EndpointBody, responses=problems(404, 409, 412, 428)
)
def change_endpoint(
    id: EndpointId, body: EndpointChange, context: Context, caller: Writer, trace: Traced, if_match: IfMatch = None
) -> Response:
    """With If-Match only. A new address is checked as a new endpoint's is."""
    before = _own(_standing(context, caller, id))
    revision = matched_revision(if_match, standing=before.revision)
    manager = context.part(manager_of)
    said = body.model_dump(exclude_none=True, exclude={"address"})
    said |= {"address": "changed"} if body.address is not None else {}

    def change() -> Endpoint:
        with blamed_on("/address" if body.address is not None else "/name"):
            return manager.change(
                id,
                revision=revision,
                address=body.address,
                name=body.name,
                per_minute=body.per_minute,
                lifetime=body.lifetime_seconds,
            )

    return _changed(Meant(context, caller, trace, before, revision), "endpoint.change", said, change)


@router.delete("/endpoints/{id}", summary="Remove an endpoint", status_code=204, responses=problems(404, 409, 412))
def delete_endpoint(
    id: EndpointId, context: Context, caller: Writer, trace: Traced, if_match: IfMatch = None
) -> Response:
    """What waits for it becomes dead letters."""
    before = _own(_standing(context, caller, id))
    matched_revision(if_match, standing=before.revision, required=False)
    told = _told(before)
    with context.access.audit.entry(caller, "endpoint.delete", "endpoint", id, before=told, **trace.said):
        context.part(manager_of).remove(id)
    return Response(status_code=204)


@router.post(
    "/endpoints/{id}/rotate", summary="A new secret", response_model=ShownEndpoint, responses=problems(404, 409, 412)
)
def rotate_secret(body: Rotation, meant: Named) -> Response:
    """Requests are signed by the old one too until the grace has passed. The answer shows the new one, this once."""
    said, id = {"grace_seconds": body.grace_seconds}, meant.endpoint.id
    told, audit = _told(meant.endpoint), meant.context.access.audit
    with (
        blamed_on("/grace_seconds"),
        audit.entry(meant.caller, "endpoint.rotate", "endpoint", id, before=told, after=said, **meant.trace.said),
    ):
        made = meant.manager.rotate(id, revision=meant.revision, grace=body.grace_seconds)
    return _shown(meant.context, made, 200)


@router.post(
    "/endpoints/{id}/retire", summary="End a rotation now", response_model=EndpointBody, responses=problems(404, 412)
)
def retire_secrets(meant: Named) -> Response:
    """From now on the newest secret signs alone."""
    return _changed(
        meant, "endpoint.retire", {}, lambda: meant.manager.retire(meant.endpoint.id, revision=meant.revision)
    )


@router.post(
    "/endpoints/{id}/enable", summary="Switch it on", response_model=EndpointBody, responses=problems(404, 412)
)
def enable_endpoint(meant: Named) -> Response:
    """Where it leads is checked again, and its failures are counted anew. Dead letters are sent again on request."""

    def enable() -> Endpoint:
        with blamed_on("/address"):
            return meant.manager.enable(meant.endpoint.id, revision=meant.revision)

    return _changed(meant, "endpoint.enable", {"enabled": True}, enable)


@router.post(
    "/endpoints/{id}/disable", summary="Switch it off", response_model=EndpointBody, responses=problems(404, 412)
)
def disable_endpoint(meant: Named) -> Response:
    """What is for it becomes dead letters, until it is switched on."""
    return _changed(
        meant,
        "endpoint.disable",
        {"enabled": False},
        lambda: meant.manager.disable(meant.endpoint.id, revision=meant.revision),
    )


@router.post(
    "/endpoints/{id}/test",
    summary="Send a test event",
    response_model=TestBody,
    responses=problems(404),
    dependencies=[Depends(limited("endpoint-test", TESTS))],
)
def test_endpoint(id: EndpointId, context: Context, caller: Writer, trace: Traced) -> Response:
    """Now, once, by the way that every alert goes, and answered with what became of it."""
    _standing(context, caller, id)
    with (
        context.access.audit.entry(caller, "endpoint.test", "endpoint", id, **trace.said) as entry,
        blamed_on("/address"),
    ):
        found = context.part(manager_of).test(id)
        entry.after = {"outcome": found.outcome, "status": found.status}
    return answered(result_body(found))


@router.get(
    "/endpoints/{id}/health", summary="How an endpoint does", response_model=HealthBody, responses=problems(404)
)
def endpoint_health(
    id: EndpointId,
    context: Context,
    caller: Reader,
    attempts: Annotated[int, Query(ge=1, le=100, description="how many attempts are told")] = 20,
) -> Response:
    """Its last success, failures in a row, how long answers take, and the newest attempts."""
    one = _standing(context, caller, id)
    return answered(health_body(context.part(manager_of).health(one, limit=attempts)))


def _standing(context: GatewayContext, caller: Principal, id: str) -> Endpoint:
    found = context.store.endpoint(id)
    if found is None or found.channel not in KINDS or not caller.sees(found.owner):
        raise not_found("endpoint")
    return found


def _own(endpoint: Endpoint) -> Endpoint:
    if endpoint.settings.get("operator") is True:
        raise ProblemError(409, "in-settings", "the settings have this endpoint", hint="change it there")
    return endpoint


def _changed(meant: Meant, action: str, said: dict[str, Any], change: Callable[[], Endpoint]) -> Response:
    """Change an endpoint, with its entry in the audit log, and answer it as it stands then."""
    audit, told = meant.context.access.audit, _told(meant.endpoint)
    with audit.entry(meant.caller, action, "endpoint", meant.endpoint.id, before=told, after=said, **meant.trace.said):
        after = change()
    return answered(_body(meant.context, after), etag=etag_of(after.revision))


def _told(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint for the audit log: nothing of its address or its secrets."""
    known = {"kind": endpoint.channel, "enabled": endpoint.enabled, "reason": endpoint.reason}
    return known | {name: endpoint.settings.get(name) for name in ("name", "per_minute", "lifetime_seconds")}


def _body(context: GatewayContext, one: Endpoint) -> EndpointBody:
    return EndpointBody.model_construct(**fields_of(context.part(manager_of), one, context.clock()))


def _shown(context: GatewayContext, made: Registered, status: int) -> Response:
    fields = fields_of(context.part(manager_of), made.endpoint, context.clock())
    revision, location = made.endpoint.revision, f"/v1/endpoints/{made.endpoint.id}"
    body = ShownEndpoint.model_construct(**fields, secret=made.secret)
    return answered(body, status, etag=etag_of(revision), location=location if status == 201 else None)
