"""Routes by the beginning of their paths: a request is held against the few that could be meant, not against all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

_PARTS: Final = 2
Head = tuple[str, ...]


class _Entry(NamedTuple):
    methods: frozenset[str]
    matches: Callable[[Scope], tuple[Match, Scope]]
    app: ASGIApp
    route: BaseRoute


class RouteTable:
    """Stands before an application's router and finds what it would have found.

    A route that answers a path has the same first two parts (``v1``, ``rules``), so the first of these, in the order of
    the router, that takes path and method is the router's choice. Whatever no route takes (another method, an address
    that is not there, the page) goes to the router, which says so in its own words.

    Parameters
    ----------
    router:
        What is asked where nothing is found.

    Examples
    --------
    >>> head_of("/v1/rules/{id}/history"), head_of("/healthz")
    (('v1', 'rules'), ('healthz',))
    """

    def __init__(self, router: ASGIApp) -> None:
        self._router = router
        self._routes: dict[Head, list[BaseRoute]] = {}
        self._entries: dict[Head, tuple[_Entry, ...]] = {}

    def add(self, routes: Sequence[BaseRoute], paths: Iterable[str]) -> None:
        """Take routes of the router, in its order, with the templates of the paths that they answer."""
        for head in {head_of(path) for path in paths}:
            self._routes.setdefault(head, []).extend(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "http" and not scope.get("root_path"):
            for entry in self._of(head_of(scope["path"])):
                if scope["method"] in entry.methods:
                    match, found = entry.matches(scope)
                    if match is Match.FULL:
                        scope.update(found)
                        scope["route"] = entry.route
                        await entry.app(scope, receive, send)
                        return
        await self._router(scope, receive, send)

    def _of(self, head: Head) -> tuple[_Entry, ...]:
        found = self._entries.get(head)
        if found is None:
            if head not in self._routes:
                return ()
            # Only now: what a route depends on takes a while to work out, and few ask for everything.
            found = self._entries[head] = tuple(
                _Entry(frozenset(one.methods or ()), one.matches, one.app, one.original_route)
                for one in iter_route_contexts(self._routes[head])
                if head_of(one.path_format or "") == head
            )
        return found


def head_of(path: str) -> Head:
    """The first two parts of a path."""
    return tuple(path.split("/", _PARTS + 1)[1 : _PARTS + 1])


__all__ = ["RouteTable", "head_of"]
