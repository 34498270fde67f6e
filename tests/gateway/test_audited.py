"""Every operation that changes something tells the audit log: found in the code, so that the next one cannot forget."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any, Final

from tapeline.gateway.app import route_paths

UNTOLD: Final = {
    # They change nothing.
    "POST /v1/rules/validate",
    "POST /v1/rules/preview",
    "POST /v1/configuration/plan",
    # What programs say to each other is kept in tables of its own, with who said it; it is no act of a person.
    "POST /v1/inbound/tradingview/{token}",
    "POST /v1/inbound/freqtrade/{token}",
    "PUT /v1/signals/{bot}/{id}/acknowledgement",
}
_TELLING: Final = {"audit", "login", "refresh", "logout", "change_password"}
"""The log itself, and what of access control tells by itself."""


def tells(function: Callable[..., Any], seen: frozenset[Any] = frozenset()) -> bool:
    """Whether a route, or a function of the gateway that it calls, speaks to the audit log."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if names & _TELLING:
        return True
    module = sys.modules[function.__module__]
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = (getattr(module, name, None) for name in sorted(called))
    others = [one for one in found if inspect.isfunction(one) and one.__module__.startswith("tapeline.gateway")]
    return any(tells(one, seen | {function}) for one in others if one not in seen | {function})


def test_every_change_is_told() -> None:
    changing = {
        f"{method} {path}": route.endpoint
        for path, route in route_paths()
        for method in sorted(route.methods - {"GET", "HEAD", "OPTIONS"})
    }
    assert len(changing) > 20
    silent = {name for name, endpoint in changing.items() if not tells(endpoint)}
    assert sorted(silent - UNTOLD) == [], "wrap the write in context.access.audit.entry(...)"
    assert sorted(UNTOLD - set(changing)) == []
