"""The outermost layer of a request: its id, headers that protect the reader of the answer, the log, the last catch."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.gateway.problems import problem_of, problem_response
from tapeline.gateway.request_metrics import RequestMetrics

_log = logging.getLogger(__name__)
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_DATA_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
API: Final = ("/v1", "/healthz", "/readyz", "/metrics")


class Envelope:
    """Gives each request an id, times and logs it, and lets no error out as anything but a problem.

    Parameters
    ----------
    app:
        What answers.
    page_policy:
        The content security policy of what is not the API: the page.
    metrics:
        What counts requests (:class:`~tapeline.gateway.request_metrics.RequestMetrics`), or None.
    """

    def __init__(self, app: ASGIApp, *, page_policy: str, metrics: RequestMetrics | None = None) -> None:
        self._app, self._metrics = app, metrics
        self._data = (*_ALWAYS, (b"content-security-policy", _DATA_POLICY), (b"cache-control", b"no-store"))
        self._page = (*_ALWAYS, (b"content-security-policy", page_policy.encode()), (b"cache-control", b"no-cache"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection; what is not HTTP passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        request_id = state["request_id"] = "req_" + secrets.token_hex(12)
        headers = self._data if scope["path"].startswith(API) else self._page
        begun, status, size = time.perf_counter(), 0, 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *state.get("headers", ()),
                    *(pair for pair in headers if pair[0] not in given),
                    (b"x-request-id", request_id.encode()),
                ]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the last catch
            _log.error("%s failed", scope["method"], exc_info=error, extra={"request_id": request_id})
            if not status:
                await problem_response(problem_of(error), request_id)(scope, receive, sending)
        finally:
            self._told(scope, state, status, size, time.perf_counter() - begun)

    def _told(self, scope: Scope, state: Mapping[str, Any], status: int, size: int, seconds: float) -> None:
        # The template, never the path as it was sent: a stranger would otherwise make series and log lines at will.
        path = scope["app"].state.paths.get(scope.get("endpoint"), "other")
        if self._metrics is not None:
            self._metrics.observe(path, scope["method"], status, seconds)
        if not _log.isEnabledFor(logging.INFO):
            return
        principal = state.get("principal")
        said = {"request_id": state["request_id"], "microseconds": round(seconds * 1e6), "bytes": size}
        if address := state.get("address"):
            said["address"] = address
        if owner := getattr(principal, "owner", ""):
            said |= {"owner": owner, "credential": getattr(principal, "credential", "")}
        method = scope["method"] if scope["method"].isalpha() else "?"
        _log.info("%s %s %d", method, path, status, extra=said)
