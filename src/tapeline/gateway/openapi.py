"""The API's description: who may call what, which problems each operation has, an example of each, and what we send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from tapeline.gateway.answers import problems
from tapeline.gateway.callers import DEMAND
from tapeline.gateway.problems import MEDIA_TYPE, Problem

RoutePath = tuple[str, APIRoute]
_METHODS: Final = ("get", "put", "post", "delete", "patch")
_DESCRIPTION: Final = """\
Rules over live ticks, what fired, and who was told.

Every request carries `Authorization: Bearer` with an access token or an API key, where it is not said to be public.
Errors are problem details (RFC 9457). Long answers come in pages: `cursor` of one page asks for the next. A change of a
rule names what was read with `If-Match`. A POST with an `Idempotency-Key` may be sent again: it is done once, and
answered alike for a day. `RateLimit` says how much is left.
"""
_KEY_PARAMETER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "a text of the caller's, such as a UUID: under it the request is done once, for a day",
    "schema": {"type": "string", "minLength": 8, "maxLength": 128, "pattern": "^[!#-~]{8,128}$"},
}


def describe(app: FastAPI, routes: Iterable[RoutePath]) -> dict[str, Any]:
    """The OpenAPI document of an application.

    Parameters
    ----------
    routes:
        Each of its routes with its whole path.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        webhooks=app.webhooks.routes,
        separate_input_output_schemas=False,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _schema_of_problem(schemas)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "an access token or an API key"}
    }
    demands = {(path, method): demand for path, method, demand in _demands(routes)}
    for path, method, operation in operations(document):
        _complete(operation, method, demands.get((path, method)))
        _give_examples(operation, schemas)
    for item in document.get("webhooks", {}).values():
        for operation in item.values():
            operation["responses"].pop("422", None)
            _give_examples(operation, schemas)
    return document


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each operation of a document."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def flat_dependants(dependant: Dependant) -> Iterator[Dependant]:
    """What a route depends on, itself first."""
    yield dependant
    for one in dependant.dependencies:
        yield from flat_dependants(one)


def _schema_of_problem(schemas: dict[str, Any]) -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    return schema


def _demands(routes: Iterable[RoutePath]) -> Iterator[tuple[str, str, tuple[str, str | None]]]:
    """Path, method and what is demanded of the caller, of each route that demands somebody."""
    for path, route in routes:
        for part in flat_dependants(route.dependant):
            demand = getattr(part.call, DEMAND, None)
            if demand is not None:
                for method in route.methods or ():
                    yield path, method.lower(), demand


def _complete(operation: dict[str, Any], method: str, demand: tuple[str, str | None] | None) -> None:
    statuses = {405, 414, 429, 431, 500, 503}
    if demand is not None:
        role, scope = demand
        operation["security"] = [{"bearer": []}]
        operation["x-role"] = role
        statuses |= {401, 403}
        if scope is not None:
            operation["x-scope"] = scope
    if operation.get("parameters") or "requestBody" in operation:
        statuses.add(422)
    if method not in ("get", "delete"):
        statuses |= {400, 413, 415}
    if method == "post" and demand is not None:
        operation.setdefault("parameters", []).append(deepcopy(_KEY_PARAMETER))
        statuses |= {409, 422}
    given = operation["responses"]
    # FastAPI's own description of a wrong request, which is never sent here.
    if "HTTPValidationError" in str(given.get("422", "")):
        del given["422"]
    for status, said in problems(*sorted(statuses)).items():
        given.setdefault(str(status), said)
    for status, answer in given.items():
        if int(status) >= 400 and "content" not in answer:
            answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        answer.setdefault("headers", {})["X-Request-Id"] = {
            "description": "by which the log knows the request",
            "schema": {"type": "string"},
        }


def _give_examples(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in bodies:
        for media in body.get("content", {}).values():
            if "example" not in media and "examples" not in media:
                found = example_of(media.get("schema", {}), schemas)
                if found is not None:
                    media["example"] = found


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """The example that a schema gives, by itself or by what it consists of; None where it gives none."""
    if "example" in schema:
        return schema["example"]
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas.get(schema["$ref"].rpartition("/")[2], {}), schemas)
    if schema.get("type") == "array":
        item = example_of(schema.get("items", {}), schemas)
        return None if item is None else [item]
    named = schema.get("properties", {})
    if "items" in named and set(named) <= {"items", "cursor"}:
        items = example_of(named["items"], schemas)
        return None if items is None else {"items": items} | ({"cursor": None} if "cursor" in named else {})
    return None
