"""The selection flow on the packaged sample: what it keeps, shows and logs, and that a second run keeps the same."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, labels_spec
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.features.feature_set import load_feature_set
from tapeline.labels.label_set import load_label_set
from tests.flows.artifacts import artifacts_shown

pytestmark = pytest.mark.prefect
EURUSD, H1, NAME = Symbol.parse("EURUSD"), Timeframe.parse("H1"), "direction-H1-EURUSD"
FEW = 'name = "few"\n' + "".join(f'[[feature]]\ncomponent = "{c}"\n' for c in ("rsi", "log_return", "macd", "aroon"))


@pytest.fixture
def project(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample's bars of four months, cleaned, with labels in which the return before decides mostly."""
    from tapeline.features.engine import compute
    from tapeline.sources.base import open_source
    from tasks.backfill import load_history
    from tasks.clean import clean_bars
    from tasks.job import Job, open_lake

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_TRAINING__FOLDS", "3")
    monkeypatch.setenv("TAPELINE_CARD__WRITE", "false")
    for name in ("TAPELINE_SETTINGS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.toml").write_text(FEW)
    settings, lake = open_lake()
    start, end = pd.Timestamp("2017-01-02", tz="UTC"), pd.Timestamp("2017-05-01", tz="UTC")
    job = Job("run", "sample", EURUSD, H1, start, end)
    load_history(job, open_source("sample", settings), settings, lake, now=pd.Timestamp("2020-01-01", tz="UTC"))
    clean_bars.fn(job)
    bars = lake.read(CLEAN_BARS, EURUSD, H1)
    features = compute(load_feature_set(tmp_path / "few.toml"), bars, H1)
    noise = np.random.default_rng(0).standard_normal(len(bars)) * features["log_return_1"].std()
    known = pd.DatetimeIndex(features["known_at"])
    labels = pd.DataFrame(
        {
            "value": np.sign(features["log_return_1"].fillna(0.0) + noise).to_numpy(),
            "t_end": known + pd.Timedelta("59min"),
            "outcome": 0.0,
            "weight": 1.0,
        },
        index=bars.index,
    )
    lake.write(labels_spec(load_label_set().version), labels, EURUSD, H1, lineage=job.lineage("labels"))
    return tmp_path


def test_the_flow_keeps_shows_and_logs_what_it_selected(project: Path, capsys) -> None:
    from flows.feature_selection import select
    from tapeline.models.selection_store import SelectionStore
    from tapeline.models.tracking import open_tracking

    settings = load_settings()
    with artifacts_shown("select") as shown:
        report = select(feature_set=str(project / "few.toml"), end="2017-05-01")
    assert report.name == NAME
    assert "log_return_1" in report.columns
    assert len(report.columns) <= 2
    store = SelectionStore(settings, NAME)
    challenger = store.folder / "challenger.toml"
    assert load_feature_set(challenger).columns == report.columns
    provenance = tomllib.loads(challenger.read_text())["provenance"]
    assert provenance["label"] == load_label_set().version
    assert provenance["selector"] == report.selector
    assert bool(report.champion) == report.promoted
    tracking = open_tracking(settings)
    (run,) = tracking.client.search_runs(
        [tracking.experiment_id], filter_string="tags.`tapeline.selection` = '" + NAME + "'"
    )
    assert run.data.metrics["columns"] == len(report.columns)
    assert {one.path for one in tracking.client.list_artifacts(run.info.run_id)} >= {"challenger.toml", "contest.csv"}
    (contest,) = shown.of("table", "selection-contest")
    # What was scored out of sample to select counts against whatever is trained under the name later.
    from tapeline.models.ledger import read_ledger

    assert read_ledger(tracking, NAME).fits == len(contest) + 2
    assert {row["selector"] for row in contest} >= {"all columns", "mrmr", "boruta_shap"}
    assert "log_return_1" in str(shown.of("markdown", "stage-select"))
    assert report.reason[:30] in capsys.readouterr().out
    assert store.history()["columns"].tolist() == [list(report.columns)]


def test_importance_is_tracked_and_a_change_is_told(project: Path, monkeypatch) -> None:
    from tapeline.models.dataset import Dataset
    from tapeline.models.importance import ImportanceTracker, Snapshot
    from tapeline.models.tracking import open_tracking
    from tapeline.models.training import Versions, train
    from tasks import select as stage
    from tasks.job import plan_jobs

    monkeypatch.setenv("TAPELINE_FEATURE_SET", str(project / "few.toml"))
    monkeypatch.setenv("TAPELINE_TRAINING__TRIALS", "1")
    settings = load_settings()
    jobs = plan_jobs("run", "sample", ["EURUSD"], "H1", None, "2017-05-01")
    sent = []

    class Heard:
        def notify(self, note):
            sent.append(note)

    chosen = load_feature_set(settings.feature_set)
    dataset: Dataset
    dataset, data = stage.labelled_rows(chosen, jobs)
    early = dataset.take(np.arange(1200))
    train(early, settings=settings, name=NAME, versions=Versions(chosen.version, "l", data))
    # A tracker that remembers the planted column as the last of all.
    order = [*(name for name in chosen.columns if name != "log_return_1"), "log_return_1"]
    table = pd.DataFrame({"feature": order, "rank": range(1, len(order) + 1), "shap_share": 0.1, "permutation": 0.0})
    tracker = ImportanceTracker(open_tracking(settings), NAME)
    tracker.record(Snapshot(NAME, "1", pd.Timestamp("2017-03-01", tz="UTC"), True, table))
    snapshot = stage.track_importance(NAME, jobs, Heard())
    assert snapshot.out_of_sample
    assert snapshot.table["feature"].iloc[0] == "log_return_1"
    (note,) = sent
    assert f"log_return_1: rank {len(order)} -> 1" in note.body
    assert stage.track_importance(NAME, jobs, Heard()).as_of == snapshot.as_of
    assert len(tracker.history()) == 2
    assert len(sent) == 1, "the same snapshot is told once"
    assert stage.track_importance("direction-H1-NONE", jobs, Heard()) is None


def test_symbols_without_bars_or_labels_are_named(project: Path, monkeypatch) -> None:
    from tasks import select as stage
    from tasks.job import plan_jobs

    few = load_feature_set(project / "few.toml")
    with pytest.raises(DataError, match="no clean bars of GBPUSD H1"):
        stage.labelled_rows(few, plan_jobs("run", "sample", ["GBPUSD"], "H1", None, None))
    other = replace(load_label_set(), name="other")
    monkeypatch.setattr(stage, "load_label_set", lambda: other)
    with pytest.raises(DataError, match="no labels of EURUSD H1"):
        stage.labelled_rows(few, plan_jobs("run", "sample", ["EURUSD"], "H1", None, None))


def test_the_deployment_is_weekly_and_its_entry_point_loads(project: Path) -> None:
    from prefect.flows import load_flow_from_entrypoint

    root = Path(__file__).parents[2]
    (one,) = [d for d in yaml.safe_load((root / "prefect.yaml").read_text())["deployments"] if d["name"] == "select"]
    assert one["schedules"][0]["cron"].split()[-1] == "6"
    assert one["concurrency_limit"]["limit"] == 1
    loaded = load_flow_from_entrypoint(f"{root / 'flows/feature_selection.py'}:select")
    assert set(one["parameters"]) <= set(loaded.parameters.properties)
    assert loaded.on_failure_hooks
