"""One temporary Prefect server for all tests of flows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_validation_worker() -> Iterator[None]:
    """One worker of Great Expectations for all flows that run in this process, by the project it judges with.

    A flow starts its own, which is four seconds of a core each time; what it judges and answers is the same.
    """
    from tapeline.quality.gate_process import GateProcess

    kept: dict[Path, GateProcess] = {}

    def enter(self: GateProcess) -> GateProcess:
        one = kept.setdefault(self._expectations, self)
        one.start()
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GateProcess, "__enter__", enter)
        patch.setattr(GateProcess, "__exit__", lambda *_: None)
        yield
    for one in kept.values():
        one.close()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a temporary Prefect server, with a home and a database of its own.

    It takes about 10 to 35 s to start, so that every test of flows shares it; mark such a test ``prefect``. The
    environment points at it as well, for processes that a test starts.
    """
    home: Path = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_LOGGING_LEVEL", "WARNING")
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.delenv("PREFECT_UI_URL", raising=False)
        # Imported here, after the environment is set, and only by tests that ask for a server.
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        with temporary_settings({PREFECT_HOME: home}), prefect_test_harness(server_startup_timeout=180):
            address = PREFECT_API_URL.value()
            assert address is not None
            patch.setenv("PREFECT_API_URL", address)
            yield address
