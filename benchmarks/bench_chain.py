"""What orchestration costs: the chain of a million bars through Prefect against the same library calls made plainly.

Both sides read the same Parquet file, write a lake of their own from nothing, and must leave the same rows in it. The
temporary Prefect server runs in another process and its start is not counted; an empty flow's own cost is reported.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.harness import report

ROWS = 1_000_000


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    folder = Path(tempfile.mkdtemp(prefix="tapeline-bench-"))
    try:
        return measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path) -> int:
    source = folder / "inbox"
    source.mkdir()
    minute_bars(ROWS).to_parquet(source / "RANDOM_M1.parquet")
    os.environ["TAPELINE_EXPECTATIONS"] = str(Path(__file__).parents[1] / "expectations")
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
    from flows.server import temporary_server

    with temporary_server() as server:
        os.environ["PREFECT_API_URL"] = server.url
        server.wait_until_ready()
        return compare(folder, source)


def compare(folder: Path, source: Path) -> int:
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from tasks.clean import clean_bars
    from tasks.features import build_features
    from tasks.ingest import ingest_bars
    from tasks.job import open_lake, plan_jobs
    from tasks.labels import build_labels

    work = (ingest_bars, clean_bars, build_features, build_labels)
    (job,) = plan_jobs("bench", f"files:{source}", ["RANDOM"], "M1", None, None)

    @task(cache_policy=NO_CACHE)
    def nothing(_: object) -> None:
        """The cost of a task that has nothing to do."""

    @flow
    def empty() -> None:
        for _ in work:
            nothing.map([job])[0].wait()

    @flow
    def chain() -> None:
        for stage in work:
            stage.map([job])[0].result()

    def plainly() -> None:
        for stage in work:
            stage.fn(job)

    os.environ["TAPELINE_ROOT"] = str(folder / "warm")
    (short,) = plan_jobs("bench", f"files:{source}", ["RANDOM"], "M1", None, "2015-02-01")
    for stage in work:  # imports, kernels and caches
        stage.fn(short)
    empty()
    plain, orchestrated, fixed = [], [], []
    # Alternating, because the machine's speed drifts; a run's two sides are close in time.
    for turn in range(2):
        plain.append(spent(plainly, folder / f"plain-{turn}"))
        orchestrated.append(spent(chain, folder / f"flow-{turn}"))
        fixed.append(spent(empty, folder / "nothing"))
    same_lake(folder / "plain-0", folder / "flow-0", open_lake)
    plain_seconds, flow_seconds, empty_seconds = min(plain), min(orchestrated), min(fixed)
    overhead = max(flow_seconds - empty_seconds, 0.0) / plain_seconds - 1.0
    figures = [
        report(
            "chain of 1 million bars through Prefect, beyond an empty flow",
            flow_seconds - empty_seconds,
            "CPU s",
            peer="the same stages called plainly",
            peer_value=plain_seconds,
            target="overhead under 5 %",
            holds=overhead < 0.05,
        ),
        report("an empty flow of four tasks", empty_seconds, "CPU s", target="reported", holds=True),
        report(
            "peak memory of the process",
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "MiB",
            target="reported: 1 million bars, not the demo",
            holds=True,
        ),
    ]
    return 0 if all(figure.holds for figure in figures) else 1


def spent(work: Callable[[], None], root: Path) -> float:
    """CPU seconds of this process for a run in a project folder of its own."""
    root.mkdir(exist_ok=True)
    os.environ["TAPELINE_ROOT"] = str(root)
    started = time.process_time()
    work()
    return time.process_time() - started


def same_lake(one: Path, other: Path, open_lake: Callable[[], tuple]) -> None:
    """Both sides must have left the same content in every table."""
    versions = []
    for root in (one, other):
        os.environ["TAPELINE_ROOT"] = str(root)
        _, lake = open_lake()
        versions.append(lake.status().set_index("table")["version"].to_dict())
    assert versions[0] == versions[1], versions
    assert {table.split("/")[0] for table in versions[0]} >= {"raw", "clean", "features", "labels"}


def minute_bars(rows: int) -> pd.DataFrame:
    """Random minute bars, weekdays only; a stand-in for size, not for a market."""
    generator = np.random.default_rng(1)
    ts = pd.date_range("2015-01-05", periods=int(rows * 1.45), freq="1min", tz="UTC", name="ts").as_unit("ns")
    ts = ts[ts.day_of_week < 5][:rows]
    close = 1.1 * np.exp(np.cumsum(generator.standard_t(4, rows) * 6e-5))
    opened = np.r_[close[0], close[:-1]]
    wick = np.abs(generator.normal(0, 5e-5, (2, rows)))
    return pd.DataFrame(
        {
            "ts": ts,
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wick[0]),
            "low": np.minimum(opened, close) * (1 - wick[1]),
            "close": close,
            "volume": generator.integers(1, 500, rows).astype(float),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
