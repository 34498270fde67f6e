"""A SQLite store for each test, made once and copied: building the schema costs more than most tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.sqlite import open_sqlite


@pytest.fixture(scope="session")
def _empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "alerts.db"
    open_sqlite(path).close()
    return path


@pytest.fixture
def own_store(_empty_file: Path, tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store in a file of the test's own."""
    shutil.copy(_empty_file, tmp_path / "alerts.db")
    store = open_sqlite(tmp_path / "alerts.db")
    yield store
    store.close()
