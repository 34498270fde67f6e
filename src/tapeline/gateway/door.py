"""The door: who comes in, from where, and how often. Each request is looked at once, before any route.

References
----------
IETF draft-ietf-httpapi-ratelimit-headers-10 (2025), RateLimit header fields for HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.alerts.access.principal import NotAuthenticatedError, Principal
from tapeline.alerts.client_address import Network, client_address, counted_as
from tapeline.alerts.limits.limiter import Rate, Verdict
from tapeline.core.errors import TapelineError
from tapeline.gateway.callers import counted_for
from tapeline.gateway.context import GatewayContext
from tapeline.gateway.problems import ProblemError, problem_of, problem_response, retry_after

_PROBES: Final = ("/healthz", "/readyz")
_LONGEST: Final = 8_192


@dataclass(frozen=True, slots=True)
class Entry:
    """Who asks (or why nobody is known), from where, and whether within his limit."""

    principal: Principal | Exception | None
    address: str
    verdict: Verdict


class Door:
    """Authenticates and counts; a route asks for the principal with :func:`tapeline.gateway.callers.require`.

    Parameters
    ----------
    app:
        What answers.
    context:
        Where people and limits are.
    proxies:
        Networks whose ``X-Forwarded-For`` is believed.
    """

    def __init__(self, app: ASGIApp, context: GatewayContext, proxies: Sequence[Network]) -> None:
        self._app, self._context, self._proxies = app, context, proxies
        gateway = context.settings.alerts.gateway
        self._rate = Rate(gateway.requests_per_minute, 60.0)
        # Whoever sends nothing but wrong tokens is held back sooner than a user who works.
        self._refused = Rate(min(60, gateway.requests_per_minute), 60.0)
        self._policy = f'"requests";q={self._rate.limit};w=60'.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection; what is not HTTP passes."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        try:
            # Most who come are remembered; what need not wait is done here, for another thread costs two changes.
            entry = self._known(scope)
            if entry is None:
                entry = await run_in_threadpool(self._enter, scope)
        except TapelineError as error:
            await problem_response(problem_of(error), state["request_id"])(scope, receive, send)
            return
        state["principal"], state["address"] = entry.principal, entry.address
        verdict = entry.verdict
        told = f'"requests";r={verdict.remaining};t={round(verdict.reset_after)}'.encode()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"ratelimit-policy", self._policy), (b"ratelimit", told)]
            await send(message)

        if not verdict.allowed:
            refusal = ProblemError(
                429,
                "too-many-requests",
                f"more than {self._rate.limit} requests a minute",
                headers=retry_after(verdict.retry_after),
            )
            await problem_response(refusal, state["request_id"])(scope, receive, sending)
            return
        await self._app(scope, receive, sending)

    def _known(self, scope: Scope) -> Entry | None:
        """The entry of somebody who is remembered; None where the database or another process must be asked."""
        if self._context.limiter.waits:
            return None
        bearer = _bearer(scope)
        principal = self._context.access.remembered(bearer) if bearer else None
        if principal is None:
            return None
        address = self._address(scope)
        return Entry(principal, address, self._context.limiter.take(counted_for(principal, address), self._rate))

    def _enter(self, scope: Scope) -> Entry:
        address = self._address(scope)
        bearer = _bearer(scope)
        principal: Principal | Exception | None = None
        limiter = self._context.limiter
        if bearer is not None:
            try:
                principal = self._context.access.authenticate(bearer)
            except NotAuthenticatedError as error:
                # Public routes answer all the same; the others tell it.
                principal = error
        if isinstance(principal, Exception):
            return Entry(principal, address, limiter.take(f"refused:{counted_as(address)}", self._refused))
        return Entry(principal, address, limiter.take(counted_for(principal, address), self._rate))

    def _address(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return client_address(peer, forwarded, self._proxies)


def _bearer(scope: Scope) -> str | None:
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if not found:
        return None
    scheme, _, token = found[0].decode("latin-1").partition(" ")
    if len(found) > 1 or scheme.lower() != "bearer" or len(token) > _LONGEST:
        return ""
    return token.strip()
