"""Access control over an empty store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from tapeline.alerts.access.access_control import AccessControl
from tapeline.alerts.store.store import Store
from tests.alerts.access.support import PASSWORD, Clock, make_access


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(store: Store, clock: Clock) -> AccessControl:
    """On each database."""
    return make_access(store.database, clock)


@pytest.fixture
def people(access: AccessControl) -> AccessControl:
    """With ann, a user, and root, an administrator."""
    access.users.add("root", role="admin", password=PASSWORD)
    access.users.add("ann", password=PASSWORD, email="ann@example.com")
    return access
