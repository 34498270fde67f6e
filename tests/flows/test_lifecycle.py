"""The lifecycle flow on the packaged sample: it trains where there is reason to, never twice on the same data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tapeline.core.schemas import DRIFT, PERFORMANCE, SCORES, SHADOW_SCORES
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tests.flows.artifacts import artifacts_shown

pytestmark = pytest.mark.prefect
EURUSD, H1, NAME = Symbol.parse("EURUSD"), Timeframe.parse("H1"), "direction-H1-EURUSD"
REPOSITORY = Path(__file__).parents[2]
FEW = 'name = "few"\n' + "".join(f'[[feature]]\ncomponent = "{c}"\n' for c in ("rsi", "log_return", "macd"))


def bring(end: str) -> None:
    """The sample's bars up to an instant, cleaned."""
    from tapeline.sources.base import open_source
    from tasks.backfill import load_history
    from tasks.clean import clean_bars
    from tasks.job import Job, open_lake

    settings, lake = open_lake()
    job = Job("run", "sample", EURUSD, H1, pd.Timestamp("2017-01-02", tz="UTC"), pd.Timestamp(end, tz="UTC"))
    load_history(job, open_source("sample", settings), settings, lake, now=pd.Timestamp("2020-01-01", tz="UTC"))
    clean_bars.fn(job)


@pytest.fixture(scope="module")
def project(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("lifecycle")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TAPELINE_SETTINGS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        (root / "few.toml").write_text(FEW)
        for name, value in {
            "ROOT": str(root),
            "EXPECTATIONS": str(REPOSITORY / "expectations"),
            "FEATURE_SET": str(root / "few.toml"),
            "TRAINING__TRIALS": "1",
            "TRAINING__FOLDS": "3",
            "TRAINING__HOLDOUT": "0.3",
            "CARD__WRITE": "false",
            "LIFECYCLE__MINIMUM_NEW_ROWS": "100",
        }.items():
            patch.setenv(f"TAPELINE_{name}", value)
        patch.chdir(root)
        bring("2017-03-20")
        yield root


def test_a_model_is_trained_once_for_its_data_tracked_and_followed_by_a_challenger(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.lifecycle as module
    from flows.lifecycle import lifecycle
    from tapeline.models.registry import Registry
    from tasks.features import build_features
    from tasks.job import open_lake, plan_jobs
    from tasks.labels import build_labels
    from tasks.retrain import champion_reads

    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(module, "tell", lambda title, body, **named: told.append((title, named)))
    (job,) = plan_jobs("run", "", ["EURUSD"], "H1", None, None)
    for stage in (build_features, build_labels):
        stage.fn(job)

    dry = lifecycle(dry_run=True)
    assert dry.decision.retrain
    assert dry.decision.causes == ("first",)
    assert dry.result is None
    assert [title for title, _ in told] == [f"{NAME} wants to be trained again"]
    told.clear()

    first = lifecycle()
    assert first.result is not None
    assert first.result.promoted, first.result.reason
    assert f"{NAME}: version 1 is the champion" in [title for title, _ in told]

    with artifacts_shown("lifecycle") as shown:
        again = lifecycle(manual=True)
    assert again.result is None
    assert again.decision.waits == ("version 1 was trained on these very data",)
    origins = set(again.tracked.table["origin"])
    assert {"holdout", "out_of_fold"} <= origins
    assert "live" not in origins, "bars of 2017 were scored after their outcomes were known"
    tables = shown.keys("table")
    assert {"lifecycle", "performance-direction-h1-eurusd"} <= tables
    assert again.tracked.page is not None
    assert again.tracked.page.read_bytes().startswith(b"\x89PNG")
    settings, lake = open_lake()
    holdout = lake.read(PERFORMANCE, EURUSD, H1)
    recorded = first.result.metrics.set_index("metric")["value"]
    stored = holdout[(holdout["period"] == "whole") & (holdout["origin"] == "holdout")].set_index("metric")["value"]
    assert stored["log_loss"] == pytest.approx(recorded["log_loss"])
    assert stored["auc"] == pytest.approx(recorded["auc"])

    bring("2017-05-01")
    second = lifecycle(manual=True)
    assert second.result is not None
    registry = Registry.open(settings)
    champion = registry.find(NAME)
    assert champion is not None
    assert (champion.version == "2") == second.result.promoted
    said, would = lake.read(SCORES, EURUSD, H1), lake.read(SHADOW_SCORES, EURUSD, H1)
    assert champion.version in set(said["model_version"])
    assert champion_reads(NAME)
    if not second.result.promoted:
        assert set(would["model_version"]) == {"2"}

    after = lifecycle(dry_run=True)
    assert after.result is None
    assert not after.decision.retrain
    assert "backtest" in set(after.tracked.table["origin"])
    (judged,) = after.model_drift
    assert judged.version == champion.version
    if champion.version == "1":
        assert judged.rows > 100, "what it scored of outcomes after its training"
        assert {"score", "calibration", "performance"} <= set(lake.read(DRIFT, EURUSD, H1)["kind"])

    # Other features: the champion refuses them, nothing can drift, and a person or the calendar trains anew.
    (project / "few.toml").write_text(FEW.replace("macd", "aroon"))
    other = lifecycle(manual=True, dry_run=True)
    assert other.decision.causes == ("manual",)
    assert other.drift == []
    assert not champion_reads(NAME)
