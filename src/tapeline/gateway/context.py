"""What the API works with, made once at its start and handed to every route."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Request

from tapeline.alerts.delivery.secret_vault import SecretVault
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.limits.limiter import Limiter
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.alerts.access.access_control import AccessControl

Part = TypeVar("Part")
BarsOf = Callable[[str, str, int], "pd.DataFrame | None"]
"""(symbol, timeframe such as ``1h``, how many) -> the newest closed clean bars there are, or None."""


@dataclass(frozen=True, eq=False)
class GatewayContext:
    """What routes use.

    Parameters
    ----------
    store:
        The alert system's database; ``store.database`` is where rooms keep tables of their own.
    access:
        Who asks, and what he may do.
    settings:
        All settings; the gateway's are ``settings.alerts.gateway``.
    limiter:
        Counts requests; shared with the other workers where there are several.
    vault:
        Seals what must not be readable in the database.
    target:
        Where webhooks may go.
    bars:
        Stored bars for previews; without it there are none.
    clock:
        Nanoseconds since 1970.
    """

    store: SqlStore
    access: AccessControl
    settings: Settings
    limiter: Limiter
    vault: SecretVault
    target: TargetRules = field(default_factory=TargetRules)
    bars: BarsOf | None = None
    clock: Callable[[], int] = time.time_ns
    _parts: dict[Any, Any] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    def part(self, make: Callable[[GatewayContext], Part]) -> Part:
        """What a room adds to the context: made by ``make`` when it is first asked for, and then always the same."""
        with self._lock:
            if make not in self._parts:
                self._parts[make] = make(self)
            part: Part = self._parts[make]
            return part

    def close(self) -> None:
        """Close the limiter and what rooms have added; the store stays its owner's."""
        with self._lock:
            for one in self._parts.values():
                close = getattr(one, "close", None)
                if callable(close):
                    close()
            self._parts.clear()
        self.limiter.close()


async def context_of(request: Request) -> GatewayContext:
    """The dependency: the context of the application that answers."""
    context: GatewayContext = request.app.state.context
    return context


Context = Annotated[GatewayContext, Depends(context_of)]
"""As a route's parameter: ``def list_rules(context: Context, ...)``."""
