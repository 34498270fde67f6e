"""Stages are reused only where input, code and output are what they were; sources are asked in turns."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.core.schemas import CLEAN_BARS, RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.lake.lake import Lake
from tapeline.lake.trace import trace
from tests.lake.support import EURUSD, H1, LINEAGE, raw
from tests.support import make_bars

pytestmark = pytest.mark.prefect

BARS = raw(make_bars(700)).assign(repaired=False, outlier=False)


@pytest.fixture
def lake(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake in a project folder of its own."""
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    return Lake(load_settings().lake_path)


def state_of(stage: str) -> str:
    """Run one stage in a flow of its own and give the name of the state in which its task ended."""
    from prefect import flow

    from tasks.features import build_features
    from tasks.job import Job
    from tasks.labels import build_labels

    work = {"features": build_features, "labels": build_labels}[stage]

    @flow(name="one-stage", persist_result=False)
    def one_stage() -> str:
        state = work(Job(f"run-{time.monotonic_ns()}", "sample", EURUSD, H1), return_state=True)
        state.result()
        return str(state.name)

    return one_stage()


@pytest.mark.parametrize("stage", ["features", "labels"])
def test_a_stage_is_reused_until_something_that_decides_its_outcome_differs(lake: Lake, stage: str, monkeypatch):
    import tasks.reuse

    lake.write(CLEAN_BARS, BARS, EURUSD, H1, lineage=LINEAGE)
    assert state_of(stage) == "Completed"
    assert state_of(stage) == "Cached", "nothing changed"

    output = next((lake.root / stage).iterdir())
    version = {path: path.read_bytes() for path in output.rglob("*.parquet")}
    for _ in range(2):  # the second loss must be seen as the first one was
        shutil.rmtree(output)
        assert state_of(stage) == "Completed", "the output was deleted"
        assert {path: path.read_bytes() for path in output.rglob("*.parquet")} == version
    assert state_of(stage) == "Cached"

    lake.write(
        CLEAN_BARS, BARS.iloc[[9]].assign(close=1.2), EURUSD, H1, lineage=LINEAGE, arrived_at=BARS["known_at"].max()
    )
    assert state_of(stage) == "Completed", "an input has another version"
    assert state_of(stage) == "Cached"

    monkeypatch.setattr(tasks.reuse, "code_digest", lambda module: "another")
    assert state_of(stage) == "Completed", "the code has another version"
    assert state_of(stage) == "Cached"

    shutil.rmtree(load_settings().state_path / "reuse")
    assert state_of(stage) == "Completed", "what was remembered is lost"


def test_two_runs_never_ask_one_source_at_once(lake: Lake):
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from prefect.task_runners import ThreadPoolTaskRunner

    from tasks.venue_turn import limit_name, venue_turn

    @task
    def ask(number: int) -> tuple[float, float]:
        with venue_turn("ccxt:kraken"):
            began = time.monotonic()
            time.sleep(0.3)
            return began, time.monotonic()

    @flow(name="asking", task_runner=ThreadPoolTaskRunner(max_workers=3), persist_result=False)
    def asking() -> list[tuple[float, float]]:
        return sorted(future.result() for future in ask.map([1, 2, 3]))

    turns = asking()
    assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(turns))
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(str(limit_name("ccxt:kraken"))).limit == 1


def test_the_rebuild_flow_takes_raw_bars_to_labels_without_a_source(lake: Lake, monkeypatch):
    from flows.rebuild import rebuild

    monkeypatch.setenv("TAPELINE_EXPECTATIONS", str(Path(__file__).parents[2] / "expectations"))
    lake.write(RAW_BARS, BARS.drop(columns=["repaired", "outlier"]), EURUSD, H1, lineage=LINEAGE)
    summary = rebuild(source="no-such-source", symbols=["EURUSD", "GBPUSD"])
    assert list(summary.stage_table["stage"]) == ["validate", "clean", "features", "charts", "labels"]
    assert set(summary.stage_table["symbol"]) == {"EURUSD"}, "the raw zone holds nothing of the other"
    made = {s.spec.zone: s.spec for s in lake.series() if s.symbol == EURUSD and s.timeframe == H1}
    assert set(made) >= {"raw", "clean", "features", "labels"}
    for zone in ("features", "labels"):
        steps = trace(lake, made[zone], EURUSD, H1, BARS.index[500])
        assert [step.table for step in steps] == [made[zone].path, "clean/bars", "raw/bars"]
        (row,) = steps[-1].origins
        assert (row.source_id, row.brought_by) == ("test", (LINEAGE,)), "a row leads to the file that brought it"
        assert steps[1].origins[0].data_version == row.data_version, "and the clean row says which it was"
