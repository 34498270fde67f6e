"""People and clocks for tests of access."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tapeline.alerts.access.access_control import AccessControl, AccessSettings
from tapeline.alerts.access.passwords import HashCosts
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.database import Database

KEY = "XW3rJv0m9SxqPz7Yd2uKf8LhT5nBcE1oGiA4wQyVtRs="
OLDER = "pL8vN2cZ6bQ9tHs4KyE7jRmW1xDfU3gAoB5iTqYVnSk="
OTHER = "u7Gd4ZkP1sVwY9eLmQ3xT8hJfR2bCnK6oAiX5tBqNyM="
CHEAP = HashCosts(memory=64, passes=1, lanes=1)
PASSWORD = "four kinds of weather"
SECOND = 1_000_000_000


on_sqlite = pytest.mark.parametrize("_shared", ["sqlite"], indirect=True)
"""For what is decided before a database is asked: once is enough."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: int = 1_790_000_000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def seconds(self) -> float:
        return self.now / SECOND

    def move(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def make_access(
    database: Database, clock: Callable[[], int], *, keys: tuple[str, ...] = (KEY,), standing_seconds: float = 1.0
) -> AccessControl:
    """Access control with passwords that cost nothing."""
    settings = AccessSettings(keys, standing_seconds=standing_seconds, costs=CHEAP)
    return AccessControl(database, settings, clock=clock, timer=lambda: clock() / SECOND)


def make_rule(id: str, owner: str = "ann") -> Rule:
    return Rule(id=id, owner=owner, condition="close > 1", symbols=("BTCUSDT",))
