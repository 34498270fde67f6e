"""The whole chain on real bars: what goes in comes out or is accounted for, twice the same, and never in-sample."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, QualityError, TapelineError, TemporaryError, VersionMismatchError
from tapeline.core.schemas import AUDIT, CLEAN_BARS, QUARANTINE, RAW_BARS, SCORES, features_spec, labels_spec
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.features.feature_set import load_feature_set
from tapeline.labels.label_set import load_label_set
from tapeline.lake.lake import Lake
from tapeline.lake.trace import trace
from tests.flows.artifacts import Shown, artifacts_shown
from tests.monitoring.fake_services import fake_services

pytestmark = pytest.mark.prefect

REPOSITORY = Path(__file__).parents[2]
EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
MODEL = "direction-H1-EURUSD"


@pytest.fixture(scope="module")
def project(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder of its own with a short training, for all tests of this module in order."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPELINE_ROOT", str(root))
        patch.setenv("TAPELINE_EXPECTATIONS", str(REPOSITORY / "expectations"))
        patch.setenv("TAPELINE_TRAINING__TRIALS", "2")
        patch.setenv("TAPELINE_TRAINING__FOLDS", "3")
        patch.setenv("TAPELINE_CARD__REFITS", "false")
        patch.delenv("TAPELINE_SETTINGS", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        yield root


@pytest.fixture(scope="module")
def first(project: Path):
    """The sample up to December 2017 through the whole chain, and what the run shows on its page."""
    from flows.pipeline import pipeline

    with artifacts_shown("pipeline") as shown:
        summary = pipeline(end="2017-12-01")
    return summary, shown


@pytest.fixture(scope="module")
def first_run(first):
    return first[0]


@pytest.fixture
def lake(project: Path) -> Lake:
    return Lake(load_settings().lake_path)


def hashes(root: Path) -> dict[str, str]:
    """The content of every Parquet file of the lake."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.parquet")
    }


def test_every_row_is_accounted_for_from_stage_to_stage(first_run):
    stages = first_run.stage_table.set_index("stage")
    assert list(stages.index) == ["ingest", "validate", "clean", "features", "charts", "labels", "score"]
    for stage in ("ingest", "validate"):
        assert stages.loc[stage, "rows_in"] == stages.loc[stage, "rows_out"] + stages.loc[stage, "quarantined"]
    assert stages.loc["ingest", "rows_out"] == stages.loc["validate", "rows_in"]
    assert stages.loc["validate", "rows_out"] == stages.loc["clean", "rows_in"] == stages.loc["clean", "rows_out"]
    assert stages.loc["features", "rows_out"] == stages.loc["clean", "rows_out"]


def test_every_zone_was_judged_and_the_model_cites_the_verdicts(first_run, lake):
    assert [verdict.suite for verdict in first_run.verdicts] == [
        "raw_bars", "clean_bars", "features", "events", "labels", "scores",
    ]  # fmt: skip
    assert all(verdict.passed for verdict in first_run.verdicts)
    recorded = set(lake.read(AUDIT, EURUSD, H1)["id"])
    assert {verdict.id for verdict in first_run.verdicts} <= recorded
    assert first_run.result.verdict_ids == tuple(verdict.id for verdict in first_run.verdicts[:-1])


def test_the_first_valid_model_is_the_champion_with_all_versions(first_run):
    result = first_run.result
    assert result.name == MODEL
    assert result.versions.feature_set == load_feature_set().version
    assert result.versions.label == load_label_set().version
    assert "champion" in result.aliases
    assert {"auc", "log_loss"} <= set(result.metrics["metric"])
    assert (result.metrics.dropna()["low"] <= result.metrics.dropna()["high"]).all()


def test_no_bar_is_scored_that_the_model_was_trained_on(first_run, lake):
    scores = lake.read(SCORES, EURUSD, H1)
    assert len(scores)
    trained_until = first_run.result.holdout["t0"].min()
    assert (scores["known_at"] >= trained_until).all()
    assert scores["probability"].between(0, 1).all()
    assert set(scores["feature_set_version"]) == {load_feature_set().version}


def test_the_model_card_is_written_and_shown(first):
    summary, shown = first
    card = Path(summary.result.card)
    assert "Where it is good and where not" in card.read_text(encoding="utf-8")
    (link,) = shown.of("markdown", "model-card-direction-h1-eurusd")
    assert card.as_uri() in link
    (short,) = shown.of("markdown", "model-card-summary-direction-h1-eurusd")
    assert short.startswith(f"**{MODEL}**, version 1: ")


def test_the_report_is_there(first_run):
    text = first_run.report.read_text()
    assert "EURUSD" in text
    assert text.count("<img") + text.count("<svg") >= 4
    assert "http://" not in text.replace("http://www.w3.org", "")


def assert_each_stage_is_shown(shown: Shown, summary, stages: list[str]) -> None:
    """Each stage has a table with the very numbers of the summary, and a bar that ended at 100 %."""
    told = summary.stage_table.set_index("stage")
    for stage in stages:
        (rows,) = shown.of("table", f"stage-{stage}")
        for row in rows:
            expected = told.loc[row["stage"]]
            assert (row["series"], row["rows in"], row["rows out"], row["quarantined"]) == (
                "EURUSD H1", expected["rows_in"], expected["rows_out"], expected["quarantined"],
            )  # fmt: skip
            assert row["version"] == expected["version"]
        assert shown.of("progress", f"progress-{stage}") == [100.0], stage


def test_each_stage_of_the_chain_shows_a_table_and_a_bar_and_the_run_its_metrics(first):
    summary, shown = first
    assert_each_stage_is_shown(shown, summary, ["ingest", "clean", "features", "charts", "labels", "score"])
    (cleaned,) = shown.of("table", "stage-clean")
    assert [row["stage"] for row in cleaned] == ["validate", "clean"]
    (stages,) = shown.of("table", "stages")
    assert [row["stage"] for row in stages] == list(summary.stage_table["stage"])
    (metrics,) = shown.of("markdown", "metrics")
    for name in set(summary.result.metrics["metric"]):
        assert f"| {name} |" in metrics
    assert "gaps-eurusd-h1" in shown.keys("table")


def test_a_score_leads_back_to_the_features_the_bars_and_the_package_they_came_in(first_run, lake):
    scores = lake.read(SCORES, EURUSD, H1)
    steps = {step.table: step for step in trace(lake, SCORES, EURUSD, H1, scores.index[-1])}
    features = features_spec(load_feature_set().version, load_feature_set().columns).path
    assert set(steps) == {"scores/scores", features, "clean/bars", "raw/bars"}
    score = steps["scores/scores"]
    assert [change.lineage.stage for change in score.changes] == ["score"]
    result = first_run.result
    assert f"{result.name}/{result.model_version}" in score.provenance
    (origin,) = steps["raw/bars"].origins
    assert origin.source_id == str(lake.read(RAW_BARS, EURUSD, H1, columns=["source"])["source"].iloc[-1])
    assert any("gym" in text for text in steps["raw/bars"].provenance), "the package that carries the file"
    assert origin.brought_by


def test_the_same_run_again_leaves_the_same_bytes(first_run, lake):
    from flows.pipeline import pipeline

    before = hashes(lake.root)
    again = pipeline(end="2017-12-01")
    assert hashes(lake.root) == before
    assert again.result.booster_sha256 == first_run.result.booster_sha256
    assert again.result.model_version == first_run.result.model_version, "the same trees are the same version"


def test_the_live_flow_goes_on_where_the_lake_ends_and_equals_a_computation_from_the_start(first_run, lake):
    from flows.score import score

    features = features_spec(load_feature_set().version, load_feature_set().columns)
    last, scored = lake.last(RAW_BARS, EURUSD, H1), len(lake.read(SCORES, EURUSD, H1))
    with artifacts_shown("score") as shown:
        summary = score()
    assert_each_stage_is_shown(shown, summary, ["ingest", "clean", "features", "score"])
    ingested = summary.stage_table.set_index("stage")
    fresh = lake.read(SCORES, EURUSD, H1, start=last + H1.duration)
    assert ingested.loc["ingest", "rows_in"] < 600, "only bars from the last stored one on are asked for"
    assert len(fresh) > 300
    assert len(lake.read(SCORES, EURUSD, H1)) == scored + len(fresh)
    assert summary.alerts == 0, "bars of 2017 are history, nobody is to be woken for them"

    # The tail's features are those of one computation over all history.
    from tapeline.features.engine import compute

    bars = lake.read(CLEAN_BARS, EURUSD, H1)
    whole = compute(load_feature_set(), bars, H1).loc[fresh.index]
    stored = lake.read(features, EURUSD, H1).loc[fresh.index]
    columns = list(load_feature_set().columns)
    np.testing.assert_allclose(stored[columns], whole[columns], rtol=2e-5, atol=2e-6)

    before = hashes(lake.root)
    score()
    assert hashes(lake.root) == before, "nothing new, nothing written"


def test_the_research_example_runs_on_this_lake(first_run, lake):
    script = REPOSITORY / "docs" / "research" / "first_look.py"
    done = subprocess.run(
        [sys.executable, str(script), str(lake.root)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "hit_rate" in done.stdout


def test_a_champion_refuses_features_of_another_version(first_run, project, monkeypatch):
    from flows.score import score

    other = project / "other.toml"
    other.write_text('name = "other"\n[[feature]]\ncomponent = "rsi"\n')
    monkeypatch.setenv("TAPELINE_FEATURE_SET", str(other))
    with pytest.raises(VersionMismatchError, match="other@"):
        score()


def test_scoring_without_a_champion_says_what_to_do(project):
    from flows.score import score

    with pytest.raises(ConfigurationError, match="champion"):
        score(model="never-trained")


def test_a_first_model_that_is_refused_leaves_a_run_without_scores_and_without_a_failure(project, lake, monkeypatch):
    from flows.pipeline import pipeline
    from tapeline.models import promotion

    monkeypatch.setattr(promotion, "WORSE_SHARE", 1.1)
    monkeypatch.setattr(promotion, "MATERIAL", -1.0)
    summary = pipeline(start="2017-06-01", end="2017-10-01", model="refused-H1")
    assert not summary.result.promoted
    assert "base rate" in summary.result.reason
    assert "score" not in set(summary.stage_table["stage"])


def corrupt(bars: pd.DataFrame) -> pd.DataFrame:
    """Real bars with one fault of each kind, as a user's file might hold them."""
    bars = bars.reset_index().astype(object)
    bars.loc[10, "close"] = float("nan")
    bars.loc[11, "high"] = float("inf")
    bars.loc[12, "low"] = -1.0
    bars.loc[13, ["high", "low"]] = [1.0, 2.0]
    bars.loc[14, "open"] = "abc"
    bars.loc[15, "ts"] = "not a time"
    bars.loc[16, "ts"] = "2017-01-03 09:17:00+00:00"
    doubled = bars.loc[[20]].assign(close=9.99)
    bars = pd.concat([bars, bars.loc[[21]], doubled])
    return bars.iloc[::-1]


def test_a_bad_file_loses_nothing_and_says_why(project, lake):
    from flows.pipeline import pipeline

    source = lake.read(RAW_BARS, EURUSD, H1, end="2017-03-01", columns=["open", "high", "low", "close", "volume"])
    folder = project / "own"
    folder.mkdir()
    given = corrupt(source)
    given.to_csv(folder / "BROKEN_H1.csv", index=False)
    with pytest.raises(TapelineError):
        # Too little is left to train on what remains of one bad file with a gate this strict, or there is no champion;
        # the rows are what is looked at here.
        pipeline(source=f"files:{folder}", symbols=["BROKEN"], train=False)
    broken = Symbol.parse("BROKEN")
    clean = lake.read(CLEAN_BARS, broken, H1)
    refused = lake.read(QUARANTINE, broken, H1)
    assert len(clean) + len(refused) == len(given)
    assert len(refused) == 9
    reasons = " ".join(refused["reasons"].explode())
    for word in ("not_finite", "not_positive", "high_below_low", "unreadable", "off_grid", "duplicate", "conflicting"):
        assert word in reasons, word
    assert clean.index.is_monotonic_increasing
    assert clean.index.is_unique


def test_a_symbol_that_fails_stops_alone_and_the_run_ends_failed(project, lake):
    from flows.pipeline import pipeline

    source = lake.read(RAW_BARS, EURUSD, H1, end="2017-03-01", columns=["open", "high", "low", "close", "volume"])
    folder = project / "mixed"
    folder.mkdir()
    source.to_csv(folder / "GOOD_H1.csv")
    rubbish = source.assign(high=source["low"] * 0.5)
    rubbish.to_csv(folder / "RUBBISH_H1.csv")
    with pytest.raises(TapelineError) as failure:
        pipeline(source=f"files:{folder}", symbols=["RUBBISH", "GOOD"], train=False)
    assert "RUBBISH" in str(failure.value) or isinstance(failure.value, QualityError)
    assert len(lake.read(labels_spec(load_label_set().version), Symbol.parse("GOOD"), H1)) > 500
    assert lake.read(CLEAN_BARS, Symbol.parse("RUBBISH"), H1).empty


def test_a_source_that_is_down_ends_in_a_clear_error(project):
    from flows.pipeline import pipeline

    with pytest.raises(TapelineError, match="nowhere-at-all"):
        pipeline(source="files:./nowhere-at-all", symbols=["NOWHERE"], train=False)


class Hanging:
    """A source that never answers, as a connection that is neither served nor closed."""

    def fetch(self, request):
        while True:
            time.sleep(0.02)


@pytest.mark.network_shape
def test_a_stage_that_takes_longer_than_its_limit_ends_as_timed_out_and_is_told(project, lake, monkeypatch):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName

    import flows.pipeline
    import tasks.ingest

    monkeypatch.setattr(tasks.ingest, "open_source", lambda name, settings: Hanging())
    limited = tasks.ingest.ingest_bars.with_options(timeout_seconds=0.5, retries=0)
    assert tasks.ingest.ingest_bars.timeout_seconds, "the stage has a limit of its own"
    monkeypatch.setattr(flows.pipeline, "ingest_bars", limited)
    with fake_services() as services:
        monkeypatch.setenv("TAPELINE_NOTIFICATIONS__URLS", f'["{services.telegram_url()}"]')
        with pytest.raises(TemporaryError, match=r"limit of 0\.5 s"):
            flows.pipeline.pipeline(symbols=["LATE"], train=False)
        told = "\n".join(services.texts())
    assert "flow pipeline failed" in told
    assert "the stage 'ingest' of LATE H1 took longer than its limit of 0.5 s" in told
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(task_run_filter=TaskRunFilter(name=TaskRunFilterName(any_=["ingest LATE H1"])))
    assert [run.state_name for run in runs] == ["TimedOut"]
    assert lake.read(RAW_BARS, Symbol.parse("LATE"), H1).empty


def test_every_stage_has_a_limit():
    from tasks.backfill import backfill_bars
    from tasks.clean import clean_bars
    from tasks.features import build_features
    from tasks.ingest import ingest_bars
    from tasks.labels import build_labels
    from tasks.score import score_bars
    from tasks.train import train_model

    for stage in (backfill_bars, clean_bars, build_features, ingest_bars, build_labels, score_bars, train_model):
        assert stage.timeout_seconds, stage.name
        assert 60 <= stage.timeout_seconds <= 24 * 3600, stage.name
