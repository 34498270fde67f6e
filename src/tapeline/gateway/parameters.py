"""Parameters that a route does not know: a filter that is misspelt must not answer with everything."""

from __future__ import annotations

from difflib import get_close_matches

from fastapi import Request
from fastapi.routing import APIRoute

from tapeline.gateway.openapi import flat_dependants
from tapeline.gateway.problems import ProblemError


def parameter_names(route: APIRoute) -> frozenset[str]:
    """The query parameters that a route knows."""
    return frozenset(one.alias for part in flat_dependants(route.dependant) for one in part.query_params)


async def known_parameters(request: Request) -> None:
    """The dependency of every route: refuse a query parameter that it does not know.

    Raises
    ------
    ProblemError
        422 with the parameter's name, and the one that was perhaps meant.
    """
    if not request.scope["query_string"]:
        return
    known: frozenset[str] = request.app.state.parameters.get(request.scope.get("endpoint"), frozenset())
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        near = get_close_matches(unknown[0][:64], known, n=1)
        raise ProblemError(
            422,
            "invalid",
            "the request is not valid",
            hint=f"did you mean {near[0]!r}?" if near else None,
            errors=[("query", name, "there is no such parameter") for name in unknown],
        )
