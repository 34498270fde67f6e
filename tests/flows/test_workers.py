"""The same work by threads and by a Dask cluster leaves the same bytes; who runs it is a setting."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.lake.lake import Lake

pytestmark = pytest.mark.prefect


def test_threads_unless_the_settings_name_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.workers import task_runner

    monkeypatch.chdir(tmp_path)
    assert isinstance(task_runner(), ThreadPoolTaskRunner)
    monkeypatch.setenv("TAPELINE_WORKERS__DASK", "tcp://127.0.0.1:8786")
    assert type(task_runner()).__name__ == "DaskTaskRunner"
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ConfigurationError, match=r"tapeline\[dask\]"):
        task_runner()
    # A setting that is wrong is told by the flow, not by the import of its module.
    monkeypatch.setenv("TAPELINE_WORKERS__DASK", "nowhere")
    assert isinstance(task_runner(), ThreadPoolTaskRunner)


def test_a_cluster_leaves_the_same_bytes(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    from prefect_dask import DaskTaskRunner

    from flows.pipeline import pipeline

    asked = {"symbols": ["EURUSD"], "start": "2017-03-01", "end": "2017-04-15", "train": False}
    left: dict[str, dict[str, str]] = {}
    monkeypatch.setenv("TAPELINE_EXPECTATIONS", str(Path(__file__).parents[2] / "expectations"))
    # Events are not among what is compared.
    monkeypatch.setenv("TAPELINE_CHARTS__DETECTORS", '{"break_of_structure": {}}')
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    for name in ("threads", "cluster"):
        root = tmp_path / name
        root.mkdir()
        monkeypatch.chdir(root)
        monkeypatch.setenv("TAPELINE_ROOT", str(root))
        # Nothing was trained, so that the run ends where it would score; what lies before that is compared.
        if name == "threads":
            with pytest.raises(TapelineError, match="no champion"):
                pipeline(**asked)
        else:
            with distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None, host="127.0.0.1"
            ) as cluster:
                runner = DaskTaskRunner(address=cluster.scheduler_address)
                with pytest.raises(TapelineError, match="no champion"):
                    pipeline.with_options(task_runner=runner)(**asked)
        lake = Lake(root / "data")
        left[name] = {
            f"{held.spec.path} {held.symbol} {held.timeframe}": lake.version(held.spec, held.symbol, held.timeframe)
            for held in lake.series()
            if held.spec.zone in ("raw", "clean", "features", "labels")
        }
    assert left["threads"] == left["cluster"]
    assert {key.split("/")[0] for key in left["cluster"]} == {"raw", "clean", "features", "labels"}
