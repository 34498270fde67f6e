"""The lifecycle's tasks on a small lake: a challenger better live is promoted, a worse one not; alarms stand."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from tapeline.core.schemas import DRIFT, PERFORMANCE, SCORES, SHADOW_SCORES, labels_spec
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.models import registry, scoring, tracking, training_scores
from tapeline.models.performance import JUDGED_COLUMNS
from tasks.job import plan_jobs
from tasks.performance import check_model, track_model
from tasks.retrain import promote_live, standing_alarms

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
NAME, LABELS = "direction-H1-EURUSD", "direction@0123456789abcdef"
ROWS = 700
HOUR = pd.Timedelta(hours=1)
TS = pd.date_range("2017-02-01", periods=ROWS, freq="1h", tz="UTC", name="ts").as_unit("ns")
UP = np.random.default_rng(0).random(ROWS) < 0.5
LINEAGE = Lineage("run", "test")


class FakeRegistry:
    """Two versions and their aliases."""

    def __init__(self) -> None:
        self.aliases = {"champion": "1", "challenger": "2"}
        self.lock = nullcontext()

    def find(self, name: str, alias: str = "champion") -> SimpleNamespace | None:
        version = self.aliases.get(alias)
        return None if version is None else SimpleNamespace(name=name, version=version, run_id=f"run-{version}")

    def versions(self, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name, version=v, run_id=f"run-{v}", aliases=("x",)) for v in ("1", "2")]

    def promote(self, name: str, version: str) -> None:
        self.aliases = {"champion": version}


def said(version: str, right: np.ndarray, confidence: float = 0.6) -> pd.DataFrame:
    """Scores that lean to what comes where ``right``, and to the other side elsewhere; written at once."""
    lean = np.where(right == UP, confidence, 1 - confidence)
    probability = np.where(right, np.where(UP, confidence, 1 - confidence), np.where(UP, 1 - confidence, confidence))
    return pd.DataFrame(
        {
            "known_at": TS + HOUR, "probability": probability, "side": np.sign(probability - 0.5).astype(np.int8),
            "confidence": np.maximum(lean, 1 - lean), "model": NAME, "model_version": version,
            "feature_set_version": "f@1", "label_version": LABELS, "data_version": "d", "scored_at": TS + HOUR,
        },
        index=TS,
    )  # fmt: skip


def right(share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(ROWS) < share


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    lake, fake = Lake(load_settings().lake_path), FakeRegistry()
    labels = pd.DataFrame(
        {"value": np.where(UP, 1.0, -1.0), "t_end": TS + 2 * HOUR, "outcome": 0.0, "weight": 1.0}, index=TS
    )
    lake.write(labels_spec(LABELS), labels, EURUSD, H1, lineage=LINEAGE)
    monkeypatch.setattr(registry.Registry, "open", classmethod(lambda cls, settings, tracking=None: fake))
    bundle = SimpleNamespace(versions=SimpleNamespace(label=LABELS))

    def scorer(version: str) -> SimpleNamespace:
        return SimpleNamespace(version=version, model=SimpleNamespace(bundle=bundle))

    monkeypatch.setattr(scoring, "load_scorer", lambda settings, name: scorer("1"))
    monkeypatch.setattr(scoring, "load_challenger", lambda settings, name: scorer("2"))
    monkeypatch.setattr(tracking, "open_tracking", lambda settings: None)
    monkeypatch.setattr(training_scores, "read_training_scores", lambda store, one: learnt(one))
    with disable_run_logger():
        yield SimpleNamespace(lake=lake, registry=fake)


def learnt(one: SimpleNamespace) -> pd.DataFrame:
    """What the training said out of sample: right six times of ten, as it claims."""
    at = pd.date_range("2016-10-01", periods=1500, freq="1h", tz="UTC").as_unit("ns")
    generator = np.random.default_rng(9)
    up = generator.random(1500) < 0.5
    probability = np.where(up == (generator.random(1500) < 0.6), 0.6, 0.4)
    return pd.DataFrame(
        {
            "ts": at, "symbol": "EURUSD", "known_at": at + HOUR, "t_end": at + 2 * HOUR, "y": up.astype(int),
            "probability": probability, "model": one.name, "model_version": one.version, "origin": "out_of_fold",
        }
    )[list(JUDGED_COLUMNS)]  # fmt: skip


def job():
    return plan_jobs("run", "", ["EURUSD"], "H1", None, None)[0]


@pytest.mark.parametrize(
    ("champion", "challenger", "rows", "dry_run", "promoted", "told"),
    [
        (0.55, 0.70, ROWS, False, True, "better live"),
        (0.70, 0.55, ROWS, False, False, "99% of resamples are needed"),
        (0.60, 0.60, ROWS, False, False, "99% of resamples are needed"),
        (0.55, 0.70, 240, False, False, "250 live rows are needed"),
        (0.55, 0.70, ROWS, True, False, "better live"),
    ],
)
def test_only_a_challenger_that_is_better_live_is_promoted(
    world, champion, challenger, rows, dry_run, promoted, told
) -> None:
    world.lake.write(SCORES, said("1", right(champion, 1)), EURUSD, H1, lineage=LINEAGE)
    world.lake.write(SHADOW_SCORES, said("2", right(challenger, 2)).iloc[:rows], EURUSD, H1, lineage=LINEAGE)
    outcome = promote_live.fn(NAME, [job()], dry_run=dry_run)
    assert outcome is not None
    assert (outcome.promoted, outcome.version) == (promoted, "2")
    assert told in outcome.reason
    assert world.registry.aliases["champion"] == ("2" if promoted else "1")


def test_nothing_is_promoted_without_a_challenger_or_by_the_settings(world, monkeypatch) -> None:
    world.lake.write(SCORES, said("1", right(0.5, 1)), EURUSD, H1, lineage=LINEAGE)
    assert promote_live.fn(NAME, [job()]) is None, "nothing was scored in the shadow"
    world.lake.write(SHADOW_SCORES, said("2", right(0.8, 2)), EURUSD, H1, lineage=LINEAGE)
    monkeypatch.setenv("TAPELINE_LIFECYCLE__PROMOTE_LIVE", "false")
    outcome = promote_live.fn(NAME, [job()])
    assert outcome is not None
    assert not outcome.promoted
    world.registry.aliases.pop("challenger")
    assert promote_live.fn(NAME, [job()]) is None


def test_a_champion_that_fell_is_told_and_its_alarm_stands_from_check_to_check(world) -> None:
    world.lake.write(SCORES, said("1", right(0.4, 1)), EURUSD, H1, lineage=LINEAGE)
    for now in (TS[500], TS[524]):
        found = check_model.fn(job(), NAME, now=now)
    assert any(alarm.startswith("performance: log_loss") for alarm in found.alarms)
    version = world.lake.version(DRIFT, EURUSD, H1)
    again = check_model.fn(job(), NAME, now=TS[524])
    assert again == found
    assert world.lake.version(DRIFT, EURUSD, H1) == version, "same rows, same bytes"
    standing = {
        alarm.kind: alarm for alarm in standing_alarms(world.lake, job(), "f@1", NAME, "1") if not alarm.sequential
    }
    assert standing["performance"].checks == 2
    assert standing["performance"].since == TS[500]
    assert "log_loss" in standing["performance"].text
    assert not list(standing_alarms(world.lake, job(), "f@1", NAME, "2")), "another champion has its own record"


def test_a_champion_as_good_as_its_training_is_left_alone(world) -> None:
    world.lake.write(SCORES, said("1", right(0.6, 5)), EURUSD, H1, lineage=LINEAGE)
    found = check_model.fn(job(), NAME, now=TS[-1])
    assert found.alarms == ()
    assert found.rows > 600
    assert not list(standing_alarms(world.lake, job(), "f@1", NAME, "1"))


def test_what_cannot_be_judged_is_noted(world, monkeypatch) -> None:
    nothing = check_model.fn(job(), NAME)
    assert (nothing.rows, nothing.alarms) == (0, ()), "nothing was scored"
    monkeypatch.setattr(training_scores, "read_training_scores", lambda store, one: None)
    assert "kept no scores of its training" in check_model.fn(job(), NAME).note
    world.registry.aliases.clear()
    assert check_model.fn(job(), NAME).note == "no champion scores yet"


def test_the_tracker_stores_champion_shadow_and_training_once(world) -> None:
    world.lake.write(SCORES, said("1", right(0.6, 1)), EURUSD, H1, lineage=LINEAGE)
    world.lake.write(SHADOW_SCORES, said("2", right(0.7, 2)), EURUSD, H1, lineage=LINEAGE)
    tracked = track_model.fn(NAME, [job()], now=TS[-1])
    table = tracked.table[(tracked.table["period"] == "whole") & (tracked.table["metric"] == "accuracy")]
    found = table.set_index(["model_version", "origin"])["value"]
    assert set(found.index) == {
        (v, o) for v, o in (("1", "live"), ("2", "shadow"), ("1", "out_of_fold"), ("2", "out_of_fold"))
    }
    assert found["1", "live"] == pytest.approx(0.6, abs=0.06)
    assert found["2", "shadow"] == pytest.approx(0.7, abs=0.06)
    version = world.lake.version(PERFORMANCE, EURUSD, H1)
    stored = world.lake.read(PERFORMANCE, EURUSD, H1)
    assert len(stored) == len(tracked.table)
    track_model.fn(NAME, [job()], now=TS[-1])
    assert world.lake.version(PERFORMANCE, EURUSD, H1) == version
    assert tracked.page is not None
    assert tracked.page.stat().st_size > 5_000


def test_the_commands_find_the_series_of_a_model_and_say_what_was_found(world, monkeypatch) -> None:
    import flows.lifecycle
    import tapeline.cli
    from tapeline.cli import application
    from tapeline.models.retraining import RetrainDecision

    runner = CliRunner()
    none = runner.invoke(application, ["models", "performance", NAME])
    assert "has scored nothing" in str(none.exception)
    world.lake.write(SCORES, said("1", right(0.6, 1)), EURUSD, H1, lineage=LINEAGE)
    shown = runner.invoke(application, ["models", "performance", NAME, "--metric", "accuracy"])
    assert shown.exit_code == 0, shown.output
    assert "out_of_fold" in shown.output
    assert "live" in shown.output
    assert "metric 'sharpe' is unknown" in str(
        runner.invoke(application, ["models", "performance", NAME, "--metric", "sharpe"]).exception
    )

    asked: list[dict[str, object]] = []

    def run(**given: object) -> SimpleNamespace:
        asked.append(given)
        return SimpleNamespace(decision=RetrainDecision(False, ()), alarms=("the loss rose",), live=None, result=None)

    monkeypatch.setattr(flows.lifecycle, "lifecycle", run)
    monkeypatch.setattr(tapeline.cli, "orchestration", nullcontext)
    told = runner.invoke(application, ["models", "retrain", NAME, "--dry-run"])
    assert f"{NAME}: no training: nothing speaks for it" in told.output
    assert "drift: the loss rose" in told.output
    runner.invoke(application, ["models", "retrain", NAME])
    runner.invoke(application, ["models", "retrain", NAME, "--if-needed", "--symbols", "GBPUSD"])
    assert [(one["symbols"], one["manual"], one["dry_run"]) for one in asked] == [
        (["EURUSD"], False, True),
        (["EURUSD"], True, False),
        (["GBPUSD"], False, False),
    ]
