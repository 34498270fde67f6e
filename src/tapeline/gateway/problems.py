"""Errors as the API tells them: problem details, one class of ours to one status, and nothing of the inside.

References
----------
RFC 9457, Problem Details for HTTP APIs (2023); RFC 6901, JavaScript Object Notation (JSON) Pointer (2013).
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tapeline.alerts.access.principal import NotAuthenticatedError, NotPermittedError
from tapeline.alerts.access.quotas import QuotaExceededError
from tapeline.alerts.store.store import RevisionConflictError, UnknownRecordError
from tapeline.core.errors import (
    ConfigurationError,
    DataError,
    ProviderError,
    TapelineError,
    TemporaryError,
    ThrottledError,
)
from tapeline.core.rule_expression import RuleExpressionError

MEDIA_TYPE: Final = "application/problem+json"
LONGEST_DETAIL: Final = 300
MOST_ERRORS: Final = 50
_log = logging.getLogger(__name__)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Fault(NamedTuple):
    """Where a request is wrong; ``position`` and ``length`` (characters) within a text that is read, -1 of no text."""

    place: str
    pointer: str
    detail: str
    position: int = -1
    length: int = 0


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(extra="forbid")

    place: str = Field(description="body, query, path or header", examples=["body"])
    pointer: str = Field(description="a JSON pointer into the body, or the parameter's name", examples=["/condition"])
    detail: str = Field(examples=["unknown name 'rsii'"])
    position: int | None = Field(None, description="of a condition: the first character at fault, from 0")
    length: int | None = Field(None, description="of a condition: how many characters are at fault")


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "/problems/not-found",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no rule of this id",
                "instance": "urn:request:01J0000000000000000000000",
            }
        },
    )

    type: str = Field(description="which kind of problem: stable, for programs")
    title: str = Field(description="the same in words")
    status: int
    detail: str | None = Field(None, description="what it was this time")
    instance: str | None = Field(None, description="the request's id, by which the log knows it")
    hint: str | None = Field(None, description="what can be done about it")
    errors: list[FieldError] | None = Field(None, description="where the request is wrong")


class ProblemError(TapelineError):
    """An answer that is a problem.

    Parameters
    ----------
    status, kind:
        The HTTP status, and the last part of the problem's type.
    detail, hint:
        In words.
    errors:
        Where the request is wrong: faults, or (place, pointer, detail).
    headers:
        Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        hint: str | None = None,
        errors: Sequence[Fault | tuple[str, str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, hint=hint)
        self.status, self.kind, self.headers = status, kind, dict(headers or {})
        self.errors = tuple(Fault(*one) for one in errors)


def not_found(what: str) -> ProblemError:
    """What is not there, and what is not the caller's: the two are told alike."""
    return ProblemError(404, "not-found", f"there is no {what} of this id")


def wrong_field(pointer: str, detail: str, *, place: str = "body", hint: str | None = None) -> ProblemError:
    """One field of the request is wrong."""
    return ProblemError(422, "invalid", "the request is not valid", hint=hint, errors=[(place, pointer, detail)])


@contextmanager
def blamed_on(pointer: str, *, place: str = "body") -> Iterator[None]:
    """What our own code refuses within this block, it refuses because of this field of the request."""
    try:
        yield
    except ValidationError as error:
        found = [
            (place, pointer + "".join(f"/{part}" for part in one["loc"]), one["msg"].removeprefix("Value error, "))
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise ProblemError(422, "invalid", "the request is not valid", errors=found) from None
    except (UnknownRecordError, RevisionConflictError):
        raise
    except RuleExpressionError as error:
        raise _wrong_condition(error, place, pointer) from None
    except (ConfigurationError, DataError) as error:
        if error.__cause__ is not None:
            raise
        raise wrong_field(pointer, error.message, place=place, hint=error.hint) from None


def plain_text(text: str) -> str:
    r"""Text of ours that may quote what was sent: without control characters, and not longer than an answer bears.

    Examples
    --------
    >>> plain_text("no rule 'a\r\nSet-Cookie: b'")
    "no rule 'a??Set-Cookie: b'"
    """
    clean = _UNPRINTABLE.sub("?", text)
    return clean if len(clean) <= LONGEST_DETAIL else clean[: LONGEST_DETAIL - 3] + "..."


def problem_body(error: ProblemError, request_id: str) -> bytes:
    """The answer's bytes."""
    title = _title(error.status)
    body: dict[str, Any] = {
        "type": f"/problems/{error.kind}",
        "title": title,
        "status": error.status,
        "detail": plain_text(error.message),
        "instance": f"urn:request:{request_id}",
    }
    if error.hint:
        body["hint"] = plain_text(error.hint)
    if error.errors:
        body["errors"] = [_told(one) for one in error.errors[:MOST_ERRORS]]
    text = json.dumps(body, ensure_ascii=True, separators=(",", ":"))
    # A browser that is made to take it for a page finds no mark-up in it.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def problem_response(error: ProblemError, request_id: str) -> Response:
    """The answer."""
    return Response(problem_body(error, request_id), error.status, headers=error.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> ProblemError:
    """Any error as the caller may see it; what he cannot help is told without its reason.

    Examples
    --------
    >>> problem_of(UnknownRecordError("there is no silence 'x'")).status, problem_of(KeyError("inside")).message
    (404, 'the request failed')
    """
    found = _known(error)
    return found if found is not None else ProblemError(500, "internal", "the request failed")


def _known(error: Exception) -> ProblemError | None:
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            return ProblemError(422, "invalid", "the request is not valid", errors=list(_places(error)))
        case HTTPException():
            return _of_http(error)
        case NotAuthenticatedError():
            return ProblemError(
                401, "not-authenticated", error.message, hint=error.hint, headers={"WWW-Authenticate": "Bearer"}
            )
        case QuotaExceededError():
            return ProblemError(403, "quota-exceeded", error.message, hint=error.hint)
        case NotPermittedError():
            return ProblemError(403, "not-permitted", error.message, hint=error.hint)
        case UnknownRecordError():
            return ProblemError(404, "not-found", error.message)
        case RevisionConflictError():
            return ProblemError(412, "changed-meanwhile", error.message, hint=error.hint)
        case RuleExpressionError():
            return _wrong_condition(error, "body", "/condition")
        case ThrottledError():
            return ProblemError(429, "too-many-requests", error.message, headers=retry_after(error.retry_after or 1.0))
        case TemporaryError():
            # Its message names the database, and a driver's words are not for strangers.
            return ProblemError(
                503, "unavailable", "the service cannot answer at the moment", headers={"Retry-After": "1"}
            )
        case ProviderError():
            return ProblemError(502, "bad-gateway", "another service gave an answer that cannot be used")
        case DataError():
            message = "a value cannot be stored" if error.__cause__ is not None else error.message
            return ProblemError(422, "invalid", message, hint=error.hint)
    return None


def retry_after(seconds: float) -> dict[str, str]:
    """The header, in whole seconds, never too early."""
    return {"Retry-After": str(min(86_400, max(1, math.ceil(seconds))))}


def add_handlers(app: FastAPI) -> None:
    """Let an application tell its errors so."""

    async def answer(request: Request, error: Exception) -> Response:
        found = _known(error)
        if found is None or found.status >= 500:
            _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(problem_of(error), request.scope.get("state", {}).get("request_id", ""))

    for kind in (TapelineError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def _wrong_condition(error: RuleExpressionError, place: str, pointer: str) -> ProblemError:
    told = f"{error.reason} (character {error.position})"
    fault = Fault(place, pointer, told, error.position, error.length)
    return ProblemError(422, "invalid", "the request is not valid", hint=error.hint, errors=[fault])


def _told(fault: Fault) -> dict[str, Any]:
    where = {"position": fault.position, "length": fault.length} if fault.position >= 0 else {}
    return {
        "place": fault.place,
        "pointer": plain_text(fault.pointer),
        "detail": plain_text(fault.detail),
        **where,
    }


def _of_http(error: HTTPException) -> ProblemError:
    kind = _title(error.status_code).lower().replace(" ", "-")
    detail = {404: "there is nothing at this address", 405: "the method is not allowed here"}.get(
        error.status_code, str(error.detail)
    )
    return ProblemError(error.status_code, kind, detail, headers=error.headers)


def _places(error: RequestValidationError) -> Iterator[tuple[str, str, str]]:
    for one in error.errors():
        place, *parts = one["loc"] or ("body",)
        if one["type"] == "json_invalid":
            yield "body", "", "the body is not JSON"
        elif place == "body":
            path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
            yield "body", path, one["msg"].removeprefix("Value error, ")
        else:
            yield str(place), ".".join(str(part) for part in parts), one["msg"].removeprefix("Value error, ")


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
