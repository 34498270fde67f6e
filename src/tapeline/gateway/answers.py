"""Answers of routes: models written as JSON in the route's own thread, without being read and checked a second time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

API_VERSION: Final = "1.0.0"
JSON: Final = "application/json"
_DESCRIPTIONS: Final[Mapping[int, str]] = {
    400: "The body cannot be read",
    401: "Nobody is known by what was sent",
    403: "The caller may not do this",
    404: "There is none of this id, or it is not the caller's",
    405: "The method is not allowed here",
    409: "It contradicts what is there",
    412: "Somebody else changed it meanwhile",
    413: "The body is too large",
    415: "The body is of a kind that is not taken",
    422: "A field or a parameter is wrong",
    428: "The header If-Match is missing",
    429: "Too many requests",
    500: "The request failed",
    503: "The service cannot answer at the moment",
}


class Body(BaseModel):
    """What a request or an answer holds: nothing beside its fields, no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def answered(model: BaseModel, status: int = 200, *, etag: str | None = None, location: str | None = None) -> Response:
    """A model as an answer. The route names it as its ``response_model``, which then only documents it."""
    headers = {}
    if etag is not None:
        headers["ETag"] = etag
    if location is not None:
        headers["Location"] = location
    return Response(model.__pydantic_serializer__.to_json(model), status, headers=headers, media_type=JSON)


def answered_page(items: Iterable[Mapping[str, Any] | bytes], cursor: str | None) -> Response:
    """A page of items that are plain values, or JSON already: a list is most of what an API writes.

    Models are for single records: to make and to write one costs some ten times what its plain values cost.
    """
    plain = [msgspec.Raw(one) if isinstance(one, bytes) else one for one in items]
    return Response(msgspec.json.encode({"items": plain, "cursor": cursor}), media_type=JSON)


def answered_plain(values: Mapping[str, Any]) -> Response:
    """Plain values as an answer."""
    return answered_json(msgspec.json.encode(values))


def answered_json(content: bytes, *, etag: str | None = None) -> Response:
    """What is JSON already, as an answer."""
    return Response(content, headers={} if etag is None else {"ETag": etag}, media_type=JSON)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of a route for its documentation: ``responses=problems(404, 412)``."""
    return {
        status: {
            "description": _DESCRIPTIONS.get(status, "Problem"),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
