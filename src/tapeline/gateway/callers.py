"""Who calls: what a route demands of him, as a dependency.

caller: Annotated[Principal, Depends(require("user", "rules:write"))]
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request

from tapeline.alerts.access.principal import NotAuthenticatedError, NotPermittedError, Principal, Role
from tapeline.alerts.limits.limiter import Rate
from tapeline.gateway.context import Context
from tapeline.gateway.problems import ProblemError, retry_after

Caller = Callable[[Request], Awaitable[Principal]]
DEMAND: Final = "demand"


def require(role: Role = "viewer", scope: str | None = None) -> Caller:
    """A dependency that gives the caller, and refuses whoever may not do this.

    Parameters
    ----------
    role:
        What he must at least be.
    scope:
        What his API key, where he comes with one, must have been given.

    Raises
    ------
    NotAuthenticatedError, NotPermittedError
        In the dependency: nobody is known by what he sent (401), or he may not (403).
    """

    async def permitted(request: Request) -> Principal:
        found = request.scope.get("state", {}).get("principal")
        if isinstance(found, Exception):
            raise found
        if not isinstance(found, Principal):
            raise NotAuthenticatedError("this needs a token or an API key", hint="Authorization: Bearer ...")
        if not found.has(role):
            raise NotPermittedError(f"this needs the role {role!r}")
        if scope is not None and not found.may(scope):
            raise NotPermittedError(f"this API key was not given the scope {scope!r}")
        return found

    setattr(permitted, DEMAND, (role, scope))
    return permitted


async def address_of(request: Request) -> str:
    """The dependency: the caller's address, as far as proxies are trusted."""
    return str(request.scope.get("state", {}).get("address", ""))


async def request_id_of(request: Request) -> str:
    """The dependency: the request's id, for the log and the audit log."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def limited(name: str, rate: Rate, cost: int = 1) -> Callable[..., None]:
    """A dependency that lets a caller do something costly only so often, beside the limit of all his requests."""

    def within(request: Request, context: Context) -> None:
        found = request.scope.get("state", {}).get("principal")
        who = f"user:{found.owner}" if isinstance(found, Principal) else f"address:{request.scope['state']['address']}"
        verdict = context.limiter.take(f"{name}:{who}", rate, cost)
        if not verdict.allowed:
            raise ProblemError(
                429,
                "too-many-requests",
                f"more than {rate.limit} of these in {rate.seconds:g} s",
                headers=retry_after(verdict.retry_after),
            )

    return within


__all__ = ["address_of", "limited", "request_id_of", "require"]
