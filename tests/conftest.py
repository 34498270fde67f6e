"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings

from tests.support import make_bars

# The same cases in each run, so that a change alone decides whether the tests pass; `make explore` draws new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("TAPELINE_PROPERTIES", "repeatable"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of recorded market data and answers that TAPELINE_TEST_DATA names; the test skips without it."""
    folder = Path(os.environ.get("TAPELINE_TEST_DATA", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no recorded market data at {folder}; set TAPELINE_TEST_DATA")
    return folder


@pytest.fixture
def bars() -> pd.DataFrame:
    """600 random hourly bars."""
    return make_bars()
