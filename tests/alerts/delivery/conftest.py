"""What the tests of delivery share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Store
from tests.alerts.delivery.support import FakeClock, Receiver, receiver


@pytest.fixture(scope="session")
def delivery_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database for all: tests use channels and endpoints of their own names."""
    store = open_store(tmp_path_factory.mktemp("delivery") / "alerts.db")
    yield store
    store.close()


@pytest.fixture
def hooks() -> Iterator[Receiver]:
    with receiver() as state:
        yield state


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def vault() -> SecretVault:
    return SecretVault([new_key()])
