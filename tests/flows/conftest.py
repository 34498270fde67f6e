"""One temporary Prefect server for all tests of flows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.quality.gate_process import GateProcess


@pytest.fixture(scope="session")
def validation_workers() -> Iterator[dict[Path, GateProcess]]:
    """The workers of Great Expectations that the flows of this process share, by the project each judges with."""
    kept: dict[Path, GateProcess] = {}
    yield kept
    for one in kept.values():
        one.close()


@pytest.fixture(scope="module", autouse=True)
def one_validation_worker(validation_workers: dict[Path, GateProcess]) -> Iterator[None]:
    """Flows enter the worker that is already there; after the module all is as before, for the tests of other rooms.

    A flow starts its own, which is four seconds of a core each time; what it judges and answers is the same.
    """

    def enter(self: GateProcess) -> GateProcess:
        one = validation_workers.setdefault(self._expectations, self)
        one.start()
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GateProcess, "__enter__", enter)
        patch.setattr(GateProcess, "__exit__", lambda *_: None)
        yield


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
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            PREFECT_HOME,
            temporary_settings,
        )
        from prefect.testing.utilities import prefect_test_harness

        with (
            temporary_settings({PREFECT_HOME: home}),
            prefect_test_harness(server_startup_timeout=180),
            # A run waits at its end for the thread of its heartbeat, up to a second. Nothing here watches the runs of
            # this process; those of processes that a test starts have their heartbeat.
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        ):
            address = PREFECT_API_URL.value()
            assert address is not None
            patch.setenv("PREFECT_API_URL", address)
            yield address
