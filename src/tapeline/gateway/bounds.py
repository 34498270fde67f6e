"""What a request may be: length of its address and headers, size and form of its body. Nothing is read beyond."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.gateway.json_body import strict_json
from tapeline.gateway.problems import ProblemError, problem_response

LARGEST_BODY: Final = 1 << 20
LARGEST_INBOUND: Final = 8 << 10
LONGEST_TARGET: Final = 4_096
MOST_HEADERS: Final = 64
LARGEST_HEADERS: Final = 16 << 10
BODY_SECONDS: Final = 15
_INBOUND: Final = "/v1/inbound"


class Bounds:
    """Refuses what is too large or ill-formed before any route sees it, and hands the body on whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection; what is not HTTP passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            body = None
            if scope["method"] not in ("GET", "HEAD", "OPTIONS") or b"content-length" in headers:
                body = await _body(scope, receive, headers)
        except ProblemError as error:
            await problem_response(error, scope["state"]["request_id"])(scope, receive, send)
            return
        if body is None:
            await self._app(scope, receive, send)
            return
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
        raise ProblemError(414, "uri-too-long", f"the address is longer than {LONGEST_TARGET} bytes")
    headers = scope["headers"]
    if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADERS:
        raise ProblemError(431, "headers-too-large", f"more than {MOST_HEADERS} headers or {LARGEST_HEADERS} bytes")
    return dict(headers)


async def _body(scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        # A kilobyte that unpacks into a gigabyte costs its sender nothing.
        raise ProblemError(
            415, "unsupported-encoding", "compressed bodies are not taken", headers={"Accept-Encoding": "identity"}
        )
    largest = LARGEST_INBOUND if scope["path"].startswith(_INBOUND) else LARGEST_BODY
    told = headers.get(b"content-length", b"0")
    if told.isdigit() and int(told[:12]) > largest:
        raise _too_large(largest)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(receive, largest)
    except TimeoutError:
        raise ProblemError(
            408, "too-slow", f"the body took longer than {BODY_SECONDS} s", headers={"Connection": "close"}
        ) from None
    if body is None:
        return None
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if body and (kind == b"application/json" or kind.endswith(b"+json")):
        strict_json(body)
    return body


async def _read(receive: Receive, largest: int) -> bytes | None:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > largest:
            raise _too_large(largest)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(largest: int) -> ProblemError:
    return ProblemError(413, "too-large", f"the body is larger than {largest} bytes", headers={"Connection": "close"})
