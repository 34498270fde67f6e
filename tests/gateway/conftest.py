"""The API over a temporary database, and people who ask it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tapeline.alerts.access.access_control import AccessControl, AccessSettings
from tapeline.alerts.access.principal import NotAuthenticatedError, Principal, Role
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.store.sqlite import open_sqlite
from tapeline.core.settings import Settings
from tapeline.gateway.app import create_app
from tapeline.gateway.context import GatewayContext

NOW = 1_767_225_600_000_000_000
AsUser = Callable[..., TestClient]


class KnownPeople(AccessControl):
    """Access control with tokens that tests hand out; audit log and quotas are the real ones."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.tokens: dict[str, Principal] = {}

    def authenticate(self, bearer: str | None) -> Principal:
        if bearer not in self.tokens:
            raise NotAuthenticatedError("the token is not known")
        return self.tokens[bearer]


@contextmanager
def open_context(folder: Path, **changes: Any) -> Iterator[GatewayContext]:
    """What the API works with: a store of its own in SQLite."""
    store = open_sqlite(folder / "alerts.db")
    given: dict[str, Any] = {
        "store": store,
        "access": KnownPeople(store.database, AccessSettings((secrets.token_hex(32),)), clock=lambda: NOW),
        "settings": Settings(root=folder),
        "limiter": LocalLimiter(),
        "vault": SecretVault([new_key()]),
        "clock": lambda: NOW,
    }
    try:
        yield GatewayContext(**given | changes)
    finally:
        store.close()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a row: to copy it costs a tenth of making its tables anew."""
    path = tmp_path_factory.mktemp("gateway") / "alerts.db"
    open_sqlite(path).close()
    return path


@pytest.fixture
def context(tmp_path: Path, empty_database: Path) -> Iterator[GatewayContext]:
    """What the API works with: a store of its own in SQLite."""
    shutil.copy(empty_database, tmp_path / "alerts.db")
    with open_context(tmp_path) as opened:
        yield opened


@pytest.fixture
def app(context: GatewayContext) -> Any:
    return create_app(context)


@pytest.fixture
def client(app: Any) -> Iterator[TestClient]:
    """Somebody whom nobody knows."""
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def as_user(app: Any, context: GatewayContext, client: TestClient) -> AsUser:
    """``as_user("ann")``, ``as_user("bob", "admin", scopes={"rules:read"})``: a client that sends his token."""

    def known(name: str, role: Role = "user", scopes: set[str] | None = None) -> TestClient:
        token = f"token-of-{name}-{role}-{'+'.join(sorted(scopes or ()))}"
        limits = frozenset(scopes) if scopes is not None else None
        context.access.tokens[token] = Principal(name, role, limits, credential=f"test:{name}")
        made = TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {token}"})
        # One event loop for all of them, not a new one for each request.
        made.portal = client.portal
        return made

    return known
