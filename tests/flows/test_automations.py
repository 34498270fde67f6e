"""Automations against a real server: what a run cannot tell of itself is told, once, with a link."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.monitoring.fake_services import FakeServices, fake_services, parse_telegram_html

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
SILENT_SECONDS = "30"
"""Longer than a run that tells takes on a machine that is busy: it has a heartbeat as well, at its start."""
PATIENCE = 240.0
"""Longer than any step takes; what is waited for ends the wait."""


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def environment(prefect_server: str, services: FakeServices, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")}
    return kept | {
        "TAPELINE_ROOT": str(tmp_path),
        "TAPELINE_NOTIFICATIONS__URLS": f'["{services.telegram_url()}"]',
        "PREFECT_API_URL": prefect_server,
        "PREFECT_UI_URL": "http://127.0.0.1:4200",
        "PYTHONPATH": str(REPOSITORY),
    }


def wait_for(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def heartbeats(server: str, run_id: str) -> int:
    """How many heartbeats of a run the server has stored."""
    query = {
        "filter": {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run_id}"]},
        }
    }
    request = urllib.request.Request(
        f"{server}/events/filter", data=json.dumps(query).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(json.load(answer)["total"])


def test_a_run_by_hand_that_is_killed_is_told_within_the_window_and_ends_as_crashed(
    prefect_server: str, services: FakeServices, environment: dict[str, str], tmp_path: Path
):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    from flows.automations import PREFIX, SILENT, register

    log = (tmp_path / "automations.log").open("w")
    teller = subprocess.Popen(
        [sys.executable, "-m", "flows.automations", "--silent-after", SILENT_SECONDS],
        cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:

        async def names() -> list[str]:
            async with get_client() as client:
                return [one.name for one in await client.read_automations()]

        wait_for(lambda: f"{PREFIX}a run has gone silent" in asyncio.run(names()), PATIENCE, log.name)
        script = tmp_path / "victim.py"
        script.write_text(
            textwrap.dedent(
                """
                import pathlib, time
                from prefect import flow
                from prefect.runtime import flow_run

                @flow(name="victim")
                def victim():
                    pathlib.Path("id").write_text(flow_run.id)
                    time.sleep(600)

                victim()
                """
            )
        )
        victim = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=environment)
        wait_for((tmp_path / "id").exists, PATIENCE, "the victim did not start")
        wait_for((tmp_path / "id").read_text, PATIENCE, "the victim did not say which run it is")
        run_id = (tmp_path / "id").read_text()
        wait_for(lambda: heartbeats(prefect_server, run_id), PATIENCE, "no heartbeat reached the server")
        victim.send_signal(signal.SIGKILL)
        victim.wait(60)
        wait_for(lambda: services.texts(), PATIENCE, (tmp_path / "automations.log").read_text())
        text, links = parse_telegram_html(services.texts()[0])
        assert "flow victim crashed" in text
        assert SILENT in text
        assert f"http://127.0.0.1:4200/runs/flow-run/{run_id}" in links

        async def state() -> str:
            async with get_client() as client:
                return (await client.read_flow_run(run_id)).state_name

        assert asyncio.run(state()) == "Crashed"

        # What else the automations watch, by the events that the server would send.
        pool = f"prefect.work-pool.{uuid4()}"
        for _ in range(2):
            emit_event("prefect.work-pool.not-ready", resource={"prefect.resource.id": pool})
        emit_event("prefect.flow-run.Late", resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"})
        emit_event("prefect.flow-run.Crashed", resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"})
        EventsWorker.drain_all(timeout=PATIENCE, at_exit=False)

        def ended() -> bool:
            return asyncio.run(told_runs()) >= 5

        async def told_runs() -> int:
            async with get_client() as client:
                runs = await client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["tell"])))
                return sum(run.state_name == "Completed" for run in runs)

        wait_for(ended, PATIENCE, "an event was not told")
        titles = sorted(parse_telegram_html(text)[0].splitlines()[0] for text in services.texts())
        assert len(titles) == 3, "a second event of the same trouble is counted, not sent"
        assert any("is not ready" in title for title in titles)
        assert any("flow victim is late" in title for title in titles)
    finally:
        teller.terminate()
        try:
            teller.wait(30)
        except subprocess.TimeoutExpired:
            teller.kill()
        log.close()
        # Its short silence would mark the runs of other tests on this server as crashed.
        asyncio.run(register([]))
