"""The challenger scores in the champion's shadow: the same bars, a table of its own, and nobody is alerted by it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import lightgbm
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tapeline.core.errors import DataError, MissingExtraError
from tapeline.core.schemas import SCORES, SHADOW_SCORES, features_spec, labels_spec
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.result import Versions
from tapeline.lake.lake import Lake, Lineage
from tapeline.models import scoring
from tapeline.models.bundle import Bundle, Model, sha256
from tapeline.models.calibration import Calibration
from tapeline.models.scoring import Scorer
from tasks import score as module
from tasks.job import plan_jobs
from tasks.score import alert_on_scores, score_bars, shadow_evidence_of

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
LINEAGE = Lineage("run", "test")
SPEC = features_spec("small@0123456789abcdef", ["one", "two"])
LABELS = "direction@0123456789abcdef"
ROWS, TRAINED = 400, 100
HOUR = pd.Timedelta(hours=1)
NAME = "direction-H1-EURUSD"


def make_scorer(version: str, column: int, *, trained: int = TRAINED, feature_set: str = SPEC.name) -> Scorer:
    """A model that learnt to go by one column."""
    generator = np.random.default_rng(column)
    x = generator.standard_normal((500, 2)).astype(np.float32)
    parameters = {"objective": "binary", "num_leaves": 4, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, x[:, column] > 0), 10)
    bundle = Bundle(
        name=NAME,
        columns=("one", "two"),
        kept=(0, 1),
        calibration=Calibration("platt"),
        threshold=0.5,
        versions=Versions(feature_set=feature_set, label=LABELS, data="d"),
        trained_until=HOURS[trained],
        booster_sha256=sha256(booster.model_to_string().encode()),
    )
    return Scorer(NAME, version, Model(bundle, booster))


NOW = pd.Timestamp("2017-02-01", tz="UTC")
HOURS = pd.date_range(end=NOW - HOUR, periods=ROWS, freq="h", tz="UTC", name="ts", unit="ns")


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """Features of which ``two`` tells the label; the champion goes by ``one``, the challenger by ``two``."""
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("TAPELINE_SCORING__CONFIDENCE_THRESHOLD", "0.5")
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    lake = Lake(load_settings().lake_path)
    feature_set = SimpleNamespace(columns=("one", "two"), version=SPEC.name)
    monkeypatch.setattr(module, "feature_table", lambda _: (feature_set, SPEC))
    values = np.random.default_rng(7).standard_normal((ROWS, 2)).astype(np.float32)
    features = pd.DataFrame(values, index=HOURS, columns=["one", "two"]).assign(known_at=HOURS + HOUR)
    came = np.where(values[:, 1] > 0, 1.0, -1.0)
    came[::7] *= -1
    labels = pd.DataFrame({"value": came, "t_end": HOURS + 2 * HOUR, "outcome": came / 100, "weight": 1.0}, index=HOURS)
    lake.write(SPEC, features, EURUSD, H1, lineage=LINEAGE)
    lake.write(labels_spec(LABELS), labels, EURUSD, H1, lineage=LINEAGE)
    monkeypatch.setattr(scoring, "load_scorer", lambda settings, name: make_scorer("1", 0))
    monkeypatch.setattr(scoring, "load_challenger", lambda settings, name: make_scorer("2", 1, trained=TRAINED + 50))
    return lake


def job(start=None):
    made = plan_jobs("run", "", ["EURUSD"], "H1", None, None)[0]
    return made if start is None else made.since(start)


def test_both_score_the_same_bars_each_in_its_table_and_only_those_they_were_not_trained_on(lake) -> None:
    result = score_bars.fn(job(), NAME, now=NOW)
    said, would = lake.read(SCORES, EURUSD, H1), lake.read(SHADOW_SCORES, EURUSD, H1)
    assert (set(said["model_version"]), set(would["model_version"])) == ({"1"}, {"2"})
    assert list(said.index) == list(HOURS[TRAINED:]), "known after the training's end"
    assert list(would.index) == list(HOURS[TRAINED + 50 :])
    assert (result.rows_out, result.version) == (len(said), "1")
    assert f"challenger 2 scored {len(would)} beside" in result.notes
    expected = make_scorer("2", 1).score(lake.read(SPEC, EURUSD, H1)).loc[would.index, "probability"]
    np.testing.assert_array_equal(would["probability"], expected)

    later = score_bars.fn(job(), NAME, now=NOW + HOUR)
    assert "challenger 2 scored 0 beside" in later.notes
    assert set(lake.read(SHADOW_SCORES, EURUSD, H1)["scored_at"]) == {NOW}, "what was said first stands"


def test_only_the_champion_alerts(lake) -> None:
    score_bars.fn(job(), NAME, now=NOW)
    told = []
    sent = alert_on_scores(SimpleNamespace(notify=told.append), NAME, [job()], now=NOW)
    assert sent == len(told) == 4
    assert {alert.key.rpartition("/")[2] for alert in told} == {"1"}


def refuses(error: Exception):
    def load(settings, name):
        raise error

    return load


@pytest.mark.parametrize(
    ("challenger", "note"),
    [
        (lambda settings, name: None, None),
        (refuses(DataError("booster.txt has SHA-256 12")), "was not scored: booster.txt has SHA-256 12"),
        (refuses(MissingExtraError("xgboost", "xgboost")), "'xgboost' is not installed"),
        (lambda settings, name: make_scorer("2", 1, feature_set="small@other"), "trained on features small@other"),
    ],
)
def test_a_challenger_that_cannot_score_hinders_nothing(lake, monkeypatch, challenger, note) -> None:
    monkeypatch.setattr(scoring, "load_challenger", challenger)
    result = score_bars.fn(job(), NAME, now=NOW)
    assert len(lake.read(SCORES, EURUSD, H1)) == ROWS - TRAINED
    assert lake.read(SHADOW_SCORES, EURUSD, H1).empty
    assert len(result.notes) == (1 if note is None else 2)
    assert note is None or note in result.notes[-1]


def test_rows_scored_too_late_are_no_evidence_unless_asked_for(lake) -> None:
    score_bars.fn(job(), NAME, now=NOW)
    live = shadow_evidence_of(NAME, [job()])
    assert (live.difference.rows, live.late) == (1, ROWS - TRAINED - 51), "of the newest bar the outcome is not known"
    assert "too few rows" in live.decision.reason
    whole = shadow_evidence_of(NAME, [job()], live_only=False)
    assert (whole.champion, whole.challenger, whole.difference.rows) == ("1", "2", ROWS - TRAINED - 50)
    assert whole.decision.promote
    assert whole.difference.candidate < whole.difference.incumbent


def test_the_command_line_says_what_the_evidence_says_and_what_to_do(lake) -> None:
    from tapeline.cli import application

    score_bars.fn(job(), NAME, now=NOW)
    runner = CliRunner()
    said = runner.invoke(application, ["models", "compare"])
    assert said.exit_code == 0, said.output
    assert "keep the champion: too few rows" in " ".join(said.output.split())
    late = runner.invoke(application, ["models", "compare", "--late"])
    assert f"tapeline models promote {NAME} 2" in " ".join(late.output.split())


def test_without_a_challenger_or_with_one_of_other_labels_there_is_nothing_to_compare(lake, monkeypatch) -> None:
    other = make_scorer("2", 1)
    versions = Versions(feature_set=SPEC.name, label="other@1", data="d")
    other = replace(other, model=Model(replace(other.model.bundle, versions=versions), other.model.booster))
    monkeypatch.setattr(scoring, "load_challenger", lambda settings, name: other)
    with pytest.raises(DataError, match="the challenger on other@1"):
        shadow_evidence_of(NAME, [job()])
    monkeypatch.setattr(scoring, "load_challenger", lambda settings, name: None)
    with pytest.raises(DataError, match="has no challenger"):
        shadow_evidence_of(NAME, [job()])
