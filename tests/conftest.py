"""Fixtures that every room's tests share, and how the tests are dealt out to processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

# Libraries read these when they are loaded. Several test processes share the cores: a thread that spins while it waits
# for another only takes a core from the others, which costs fits of LightGBM a third of their time.
for _name, _value in {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}.items():
    os.environ.setdefault(_name, _value)

import pandas as pd  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.support import make_bars  # noqa: E402

TOGETHER: Final = ("tests/flows/",)
"""Folders whose files one process runs, because they share a server that takes half a minute to start."""
FIRST: Final = ("tests/flows/", "tests/e2e/")
"""What takes longest for one process begins first, so that the others are not idle at the end."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders of :data:`FIRST` come first; all else keeps its order."""
    items.sort(key=lambda item: next((n for n, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``: a file to one process, and the folders of :data:`TOGETHER` to one as well."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFolderOrFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((name for name in TOGETHER if nodeid.startswith(name)), super()._split_scope(nodeid))

    return ByFolderOrFile(config, log)
