"""Who calls: what a route demands of him, as a dependency.

caller: Annotated[Principal, Depends(require("user", "rules:write"))]
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from tapeline.alerts.access.principal import NotAuthenticatedError, NotPermittedError, Principal, Role
from tapeline.alerts.client_address import counted_as
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


@dataclass(frozen=True, slots=True)
class Trace:
    """By what a request is found again in the audit log: where it came from, and its id."""

    address: str
    request_id: str

    @property
    def said(self) -> dict[str, str]:
        """As ``AuditLog.entry`` takes it: ``audit.entry(caller, action, kind, id, **trace.said)``."""
        return {"address": self.address, "request_id": self.request_id}


async def trace_of(request: Request) -> Trace:
    """The dependency: a request's trace."""
    state = request.scope.get("state", {})
    return Trace(str(state.get("address", "")), str(state.get("request_id", "")))


Traced = Annotated[Trace, Depends(trace_of)]
"""As a route's parameter: ``trace: Traced``."""


def owner_of(caller: Principal, asked: str | None) -> str | None:
    """Whose records a list is of: the caller's own, or for an administrator whose he asks for (None: everybody's)."""
    if asked is None or caller.role != "admin":
        if asked not in (None, caller.owner):
            raise ProblemError(403, "not-permitted", "only an administrator asks for others' records")
        return caller.owner
    return None if asked == "*" else asked


def counted_for(principal: Principal | None, address: str) -> str:
    """Under what requests are counted: a user's name wherever he comes from, an address where nobody is known.

    Examples
    --------
    >>> counted_for(Principal("ann", "user"), "198.51.100.4"), counted_for(None, "198.51.100.4")
    ('user:ann', 'address:198.51.100.4')
    """
    return f"address:{counted_as(address)}" if principal is None else f"user:{principal.owner}"


def limited(name: str, rate: Rate, cost: int = 1) -> Callable[..., None]:
    """A dependency that lets a caller do something costly only so often, beside the limit of all his requests."""

    def within(request: Request, context: Context) -> None:
        state = request.scope["state"]
        found = state["principal"]
        who = counted_for(found if isinstance(found, Principal) else None, state["address"])
        verdict = context.limiter.take(f"{name}:{who}", rate, cost)
        if not verdict.allowed:
            raise ProblemError(
                429,
                "too-many-requests",
                f"more than {rate.limit} of these in {rate.seconds:g} s",
                headers=retry_after(verdict.retry_after),
            )

    return within


__all__ = ["Trace", "Traced", "limited", "owner_of", "require", "trace_of"]
