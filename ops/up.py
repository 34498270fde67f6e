"""Start Tapeline's services on this machine, print their links, and stop them all on Ctrl-C.

The Prefect server with its UI, a process work pool with one worker, every deployment of ``prefect.yaml`` with its
schedules, the automations that watch over them, the MLflow UI and the exporter of the metrics. Each service runs in a
process group of its own, so that Ctrl-C reaches this supervisor first and the services are stopped in order: the worker
before the server it talks to.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
POOL: Final = "local-process"
LOG_TAIL_LINES: Final = 15


class StopRequest(Exception):  # noqa: N818 - a request, not an error
    """The user or the system asked for an orderly end."""


class Service:
    """A child process in its own process group with its output in a log file."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=dict(environment), stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def require_alive(self) -> None:
        """Raise RuntimeError with the end of the log where the service has ended by itself."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise RuntimeError(f"{self.name} ended with status {self.process.returncode}; {self.log} ends:\n{tail}")

    def stop(self, *, patience: float = 15.0) -> None:
        """Ask the whole group to end, wait, then kill what is left."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait()
        self._signal(signal.SIGKILL)  # grandchildren of a leader that ended first

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


def main() -> int:
    """Parse the ports, run the services until Ctrl-C, and return the exit status."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--prefect-port", type=int, default=4200)
    ask.add_argument("--mlflow-port", type=int, default=5000)
    ask.add_argument("--metrics-port", type=int, default=9464)
    arguments = ask.parse_args()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StopRequest

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        run(arguments.prefect_port, arguments.mlflow_port, arguments.metrics_port)
    except StopRequest:
        say("stopped.")
        return 0
    except RuntimeError as error:
        say(f"error: {error}")
        return 1
    return 0


def run(prefect_port: int, mlflow_port: int, metrics_port: int) -> None:
    """Start everything, print the links, then watch until a signal or until a service ends."""
    server_url = f"http://127.0.0.1:{prefect_port}"
    mlflow_url = f"http://127.0.0.1:{mlflow_port}"
    metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
    for port in (prefect_port, mlflow_port, metrics_port):
        if answers(f"http://127.0.0.1:{port}"):
            raise RuntimeError(f"port {port} is taken already; stop what runs there or pass another --…-port")
    project = Path(os.environ.get("TAPELINE_ROOT", ROOT)).resolve()
    home = Path(os.environ.get("PREFECT_HOME", project / ".prefect")).resolve()
    logs, tracking = home / "logs", project / "mlruns"
    for folder in (logs, tracking):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "TAPELINE_ROOT": str(project),
        # The deployments' runs work in the folder of the flows, whatever project they fill.
        "TAPELINE_FLOWS": str(ROOT),
        "TAPELINE_EXPECTATIONS": os.environ.get("TAPELINE_EXPECTATIONS", str(ROOT / "expectations")),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{server_url}/api",
        # Without this the pages look for the server on port 4200, whatever port it really has.
        "PREFECT_SERVER_UI_API_URL": f"{server_url}/api",
        "PREFECT_UI_URL": server_url,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # The shortest that Prefect allows: a run that was killed is noticed by its silence.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # Only the pages are wanted; MLflow's job workers would take two gigabytes of memory.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    store = f"sqlite:///{tracking / 'mlflow.db'}"
    with ExitStack() as services:
        say("starting the Prefect server and the MLflow UI ...")
        server = services.enter_context(
            Service(
                "prefect-server",
                [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)],
                environment,
                logs,
            )
        )
        mlflow = services.enter_context(
            Service(
                "mlflow",
                [
                    str(BIN / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(mlflow_port),
                    "--backend-store-uri", store, "--artifacts-destination", str(tracking / "artifacts"),
                ],
                environment,
                logs,
            )
        )  # fmt: skip
        metrics = services.enter_context(
            Service(
                "metrics",
                [str(BIN / "tapeline"), "metrics", "serve", "--port", str(metrics_port)],
                environment,
                logs,
            )
        )
        wait_until_ready(f"{server_url}/api/health", server)
        say("registering the work pool and the deployments of prefect.yaml ...")
        prefect(environment, "work-pool", "create", POOL, "--type", "process", "--overwrite")
        prefect(environment, "--no-prompt", "deploy", "--all")
        worker = services.enter_context(
            Service("prefect-worker", [str(BIN / "prefect"), "worker", "start", "--pool", POOL], environment, logs)
        )
        # A process beside the worker: it must be able to say that the worker is gone.
        alerts = services.enter_context(
            Service("alerts", [sys.executable, "-m", "flows.automations"], environment, logs)
        )
        wait_until_ready(f"{mlflow_url}/health", mlflow)
        wait_until_ready(metrics_url, metrics)
        say(
            f"\n  Prefect UI    {server_url}\n  Deployments   {server_url}/deployments\n  MLflow UI     {mlflow_url}\n"
            f"  Metrics       {metrics_url}\n"
            f"  Logs          {logs}\n\n"
            "  Run one by hand, from another terminal in this folder:\n"
            f"    export PREFECT_API_URL={server_url}/api\n"
            "    .venv/bin/prefect deployment run 'pipeline/daily' -p symbols='[\"EURUSD\"]'\n\n"
            "  Ctrl-C stops everything.\n"
        )
        while True:
            for service in (server, mlflow, worker, metrics, alerts):
                service.require_alive()
            time.sleep(1.0)


def prefect(environment: Mapping[str, str], *arguments: str) -> None:
    """Run one Prefect command; RuntimeError with its output where it fails."""
    done = subprocess.run(
        [str(BIN / "prefect"), *arguments], cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"prefect {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def wait_until_ready(url: str, service: Service, *, patience: float = 180.0) -> None:
    """Return when the address answers 200; RuntimeError where the service ends or stays silent."""
    deadline = time.monotonic() + patience
    while not answers(url):
        service.require_alive()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{service.name} did not answer at {url} within {patience:.0f} s; see {service.log}")
        time.sleep(0.25)


def answers(url: str) -> bool:
    """True where something answers at this address without an error status."""
    try:
        with urllib.request.urlopen(url, timeout=2.0) as response:  # noqa: S310 - always http on the loopback interface
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def say(text: str) -> None:
    """Print at once, also through a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
