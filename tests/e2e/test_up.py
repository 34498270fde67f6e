"""`make up` as a user sees it: links that answer, ad-hoc runs by Prefect's command line, a clean end on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tapeline.core.schemas import SCORES
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake

pytestmark = [pytest.mark.prefect, pytest.mark.network_shape, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[2]
FEATURES = 'name = "few"\n' + "".join(f'[[feature]]\ncomponent = "{c}"\n' for c in ("rsi", "log_return", "macd"))
"""A small set: here the services are tested; the tests of the flows compute the whole one."""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, each another."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Up:
    process: subprocess.Popen[str]
    environment: dict[str, str]
    project: Path
    server: str
    tracking: str
    metrics: str
    output: list[str]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All services on free ports in a project folder of their own."""
    project = tmp_path_factory.mktemp("up")
    server, tracking, metrics = free_ports(3)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TAPELINE_"))}
    (project / "few.toml").write_text(FEATURES)
    environment |= {
        "TAPELINE_ROOT": str(project),
        "TAPELINE_FEATURE_SET": str(project / "few.toml"),
        "TAPELINE_CHARTS__DETECTORS": '{"break_of_structure": {}, "liquidity_sweep": {}}',
        "TAPELINE_TRAINING__TRIALS": "1",
        "TAPELINE_TRAINING__FOLDS": "3",
        "TAPELINE_CARD__REFITS": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "ops/up.py", "--prefect-port", str(server), "--mlflow-port", str(tracking),
         "--metrics-port", str(metrics)],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    output: list[str] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            output.append(line)
            if "Ctrl-C" in line:
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        assert ready.wait(300), "".join(output)
        assert process.poll() is None, "".join(output)
        yield Up(
            process,
            environment,
            project,
            f"http://127.0.0.1:{server}",
            f"http://127.0.0.1:{tracking}",
            f"http://127.0.0.1:{metrics}/metrics",
            output,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def asked(up: Up, what: str, query: dict[str, Any], action: str = "filter") -> Any:
    """What the server's API answers to a question about its objects, or to an action on one."""
    request = urllib.request.Request(
        f"{up.server}/api/{what}/{action}",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_printed_links_answer(up: Up):
    text = "".join(up.output)
    for link in (up.server, up.tracking, up.metrics):
        assert link in text
        with urllib.request.urlopen(link, timeout=20) as page:
            assert page.status == 200


def test_the_queries_behind_the_tracking_pages_answer(up: Up):
    """The pages of a run are drawn from GraphQL answers, which a wrong graphene turns into errors."""
    query = urllib.request.Request(
        f"{up.tracking}/graphql", data=b'{"query": "{ __typename }"}', headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(query, timeout=30) as answer:
        assert b"__typename" in answer.read()


def test_an_ad_hoc_run_from_prefects_own_command_line(up: Up):
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "prefect"), "deployment", "run", "pipeline/daily",
            "-p", 'symbols=["EURUSD"]', "--watch", "--watch-timeout", "400",
        ],
        cwd=REPOSITORY, env={**up.environment, "PREFECT_API_URL": f"{up.server}/api"},
        capture_output=True, text=True, timeout=420, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    scores = Lake(up.project / "data").read(SCORES, Symbol.parse("EURUSD"), Timeframe.parse("H1"))
    assert len(scores) > 1000
    assert (up.project / "data" / "_reports" / "direction-H1-EURUSD.html").exists()


def test_a_scrape_tells_of_that_run(up: Up):
    with urllib.request.urlopen(up.metrics, timeout=20) as page:
        found = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.read().decode())
            for sample in family.samples
        }

    def value(name: str, **labels: str) -> float:
        return found[name, *sorted(labels.items())]

    for stage in ("ingest", "clean", "features", "labels", "train", "score"):
        assert value("tapeline_stage_runs_total", flow="pipeline", stage=stage, outcome="finished") >= 1
    assert value("tapeline_flow_runs_total", flow="pipeline", state="Completed") == 1
    assert value("tapeline_stage_rows_total", flow="pipeline", stage="ingest", direction="in") > 5_000
    age = value("tapeline_freshness_seconds", symbol="EURUSD", timeframe="H1", table="raw/bars")
    assert age > 365 * 86_400, "the sample is of 2017"
    assert value("tapeline_exporter_problems", part="lake") == value("tapeline_exporter_problems", part="store") == 0


def test_the_automations_are_registered(up: Up):
    names = {one["name"] for one in asked(up, "automations", {}) if one["enabled"]}
    assert {"tapeline: a run has gone silent", "tapeline: score/hourly is overdue"} <= names


def test_new_bars_start_the_rebuild(up: Up):
    """The event of a backfill reaches the automation that `make up` registered, with the run's own parameters."""
    (backfill,) = asked(up, "deployments", {"deployments": {"name": {"any_": ["backfill"]}}})
    parameters = {"start": "2025-01-01", "end": "2025-08-01", "symbols": ["AAPL"]}
    asked(up, f"deployments/{backfill['id']}", {"parameters": parameters}, "create_flow_run")
    deadline = time.monotonic() + 240
    while True:
        found = asked(up, "flow_runs", {"flows": {"name": {"any_": ["rebuild"]}}})
        runs = [run for run in found if run["parameters"]["symbols"] == ["AAPL"]]
        if runs and runs[0]["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
            break
        assert time.monotonic() < deadline, f"no rebuild within four minutes: {runs}"
        time.sleep(1.0)
    assert runs[0]["state_type"] == "COMPLETED", runs[0]["state"]
    assert {name: runs[0]["parameters"][name] for name in ("source", "timeframe")} == {
        "source": "sample",
        "timeframe": "H1",
    }
    apple, hourly = Symbol.parse("AAPL"), Timeframe.parse("H1")
    zones = {s.spec.zone for s in Lake(up.project / "data").series() if (s.symbol, s.timeframe) == (apple, hourly)}
    assert {"raw", "clean", "features", "labels"} <= zones


def test_ctrl_c_stops_every_service(up: Up):
    family = psutil.Process(up.process.pid).children(recursive=True)
    assert len(family) >= 3
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(90) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
