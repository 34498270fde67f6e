"""The whole of training on data whose truth is known: it finds what is there, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.settings import Settings
from tapeline.evaluation.metrics import auc
from tapeline.evaluation.result import TrainingResult, Versions
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.registry import Registry
from tapeline.models.training import Fitted, fit_model, train
from tests.models.synthetic import VERSIONS, auc_standard_error, bayes_auc, make_dataset, make_parts, make_settings

Trained = tuple[Settings, TrainingResult]


def fit(dataset: Dataset, root: Path, **training: object) -> Fitted:
    settings = make_settings(root, **training)
    return fit_model(dataset, settings=settings, name="m", versions=VERSIONS, study="m-study")


def run(dataset: Dataset, settings: Settings, **change: object) -> TrainingResult:
    given: dict[str, object] = {"settings": settings, "name": "direction-H1", "versions": VERSIONS}
    return train(dataset, **{**given, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_is_noise_through_the_whole_of_training(settings: Settings, seed: int) -> None:
    result = run(make_dataset(3000, columns=20, seed=seed), settings)
    holdout = result.holdout
    error = auc_standard_error(holdout["y"].to_numpy())
    assert abs(auc(holdout["y"], holdout["raw"]) - 0.5) < 3 * error
    table = result.metrics.set_index("metric")
    assert table.loc["auc", "low"] <= 0.5 <= table.loc["auc", "high"]
    assert table.loc["log_loss", "value"] > table.loc["log_loss", "majority"] - 0.004
    assert result.sharpe["deflated"].iloc[0] < 0.5
    assert "no skill over the base rate shown" in result.reason or "significantly worse" in result.reason


@pytest.mark.parametrize("horizon", [1, 12])
def test_out_of_fold_noise_is_noise_even_with_overlapping_labels_and_two_symbols(tmp_path: Path, horizon: int) -> None:
    # With horizon 12 the outcome of neighbours is one and the same random walk: a fold that leaks would see it.
    generator = np.random.default_rng(4)
    parts = {}
    for number, symbol in enumerate(("EURUSD", "AAPL")):
        features, labels = make_parts(1500, columns=6, horizon=horizon, seed=number)
        steps = np.cumsum(generator.standard_normal(1500 + horizon))
        ahead = steps[horizon:] - steps[:-horizon]
        features["f0"] = np.sin(np.arange(1500) / 40).astype(np.float32)  # where in time a row stands
        features["f1"] = np.cos(np.arange(1500) / 40).astype(np.float32)
        parts[symbol] = (features, labels.assign(value=np.sign(ahead), weight=1 / horizon))
    dataset = assemble(parts)
    fitted = fit(dataset, tmp_path)
    # Overlap divides the number of independent rows by the horizon, and both symbols count.
    error = auc_standard_error(dataset.y) * np.sqrt(horizon)
    assert abs(auc(dataset.y, fitted.out_of_fold) - 0.5) < 3 * error


def test_a_planted_signal_is_recovered_near_its_bayes_auc(trained: Trained) -> None:
    _, result = trained
    holdout = result.holdout
    best = bayes_auc(0.6)
    reached = auc(holdout["y"], holdout["probability"])
    assert best - 3 * auc_standard_error(holdout["y"].to_numpy()) < reached
    assert reached < best + 3 * auc_standard_error(holdout["y"].to_numpy())
    assert result.importance["feature"].iloc[0] == "f0"
    assert result.importance["share"].iloc[0] > 0.5
    assert "with skill shown" in result.reason
    table = result.metrics.set_index("metric")
    assert table.loc["auc", "low"] > 0.6
    assert table.loc["log_loss", "high"] < table.loc["log_loss", "majority"]
    assert table.loc["percentile_of_random_entries", "value"] > 99
    assert table.loc["total_return", "value"] > table.loc["total_return", "random"]


def test_a_permuted_target_teaches_nothing(tmp_path: Path) -> None:
    dataset = make_dataset(2400, signal=0.6)
    shuffled = replace(dataset, y=np.random.default_rng(0).permutation(dataset.y))
    fitted = fit(shuffled, tmp_path)
    assert abs(auc(shuffled.y, fitted.out_of_fold) - 0.5) < 3 * auc_standard_error(shuffled.y)


def test_same_seed_and_data_give_the_same_trees_and_scores(trained: Trained, tmp_path: Path, database: Path) -> None:
    from tests.models.conftest import prepare

    _, first = trained
    again = run(make_dataset(2400, signal=0.6), prepare(database, tmp_path), label={"h": 1})
    assert again.booster_sha256 == first.booster_sha256
    pd.testing.assert_frame_equal(again.holdout, first.holdout)
    pd.testing.assert_frame_equal(again.metrics, first.metrics)


def test_the_holdout_is_never_touched_before_the_one_look(tmp_path: Path) -> None:
    """Change all of the holdout: the model must not change by one bit."""
    from tapeline.models.validation import time_holdout

    dataset = make_dataset(1500, signal=0.4, horizon=5)
    development, holdout = time_holdout(dataset.t0, dataset.t_end, 0.2)
    garbled = replace(dataset, X=dataset.X.copy(), y=dataset.y.copy())
    crossing = np.setdiff1d(np.arange(len(dataset)), development)
    garbled.X[crossing] = 7.0
    garbled.y[crossing] = 1
    first = fit(dataset.take(development), tmp_path / "a")
    second = fit(garbled.take(development), tmp_path / "b")
    assert first.booster_text == second.booster_text
    assert first.model.bundle.trained_until < dataset.t0[holdout].min()
    assert len(crossing) > len(holdout)  # some rows were purged at the border


def test_the_result_tells_what_became_of_every_row(trained: Trained) -> None:
    _, result = trained
    assert sum(result.rows.values()) == int(result.dropped["rows_out"].sum()) == 2400
    assert len(result.holdout) == result.rows["holdout"]
    assert result.verdict_ids == ("verdict-1",)
    assert (result.promoted, result.model_version, result.aliases) == (True, "1", ("champion",))
    assert len(result.trials) == result.trials_total == 3
    assert result.holdout_looks == 1
    assert result.sharpe["trials"].iloc[0] == 4
    assert len(result.trades) == int(result.cost_ladder["trades"].iloc[0])
    assert result.equity["fees and spread"].iloc[-1] == pytest.approx(result.trades["net"].sum())


def test_the_choice_among_trials_is_judged_and_can_be_judged_again(trained: Trained) -> None:
    from tapeline.models.overfitting import effective_trials, probability_of_overfitting
    from tapeline.models.tracking import PARENT_TAG, open_tracking

    settings, result = trained
    found = result.overfitting.iloc[0]
    complete = int((result.trials["state"] == "complete").sum())
    assert (found["trials"], found["trials_with_returns"]) == (4, complete)
    assert 1 <= found["effective_trials"] <= found["trials"]
    assert result.sharpe["effective_trials"].iloc[0] == found["effective_trials"]
    assert result.sharpe["deflated"].iloc[0] <= result.sharpe["deflated_effective"].iloc[0]
    client = open_tracking(settings).client
    metrics = client.get_run(result.run_id).data.metrics
    assert metrics["overfitting_pbo"] == found["pbo"]
    assert 0 <= metrics["overfitting_pbo"] <= 1
    assert metrics["sharpe_deflated"] == result.sharpe["deflated"].iloc[0]
    returns = pd.read_parquet(client.download_artifacts(result.run_id, "trial_returns.parquet"))
    assert list(returns.columns) == [
        f"trial_{number}" for number in result.trials["number"][result.trials["state"] == "complete"]
    ]
    again = probability_of_overfitting(returns.to_numpy())
    assert (again.probability, again.periods) == (found["pbo"], found["days"])
    assert effective_trials(returns.to_numpy()) + 4 - complete == pytest.approx(found["effective_trials"])
    below = client.search_runs(["1"], filter_string=f"tags.`{PARENT_TAG}` = '{result.run_id}'")
    assert len(below) == len(result.trials) == 3
    best = min(below, key=lambda run: run.data.metrics["log_loss"])
    assert best.data.metrics["log_loss"] == result.trials["log_loss"].min()


@pytest.mark.parametrize("family", ["logistic", "random_forest"])
def test_any_family_goes_through_training_and_is_saved_as_what_it_is(tmp_path: Path, family: str) -> None:
    from tapeline.models.bundle import load_model, save_model

    dataset = make_dataset(900, signal=0.6, columns=4)
    fitted = fit(dataset, tmp_path, family=family, trials=1)
    assert fitted.tuning.family == family
    assert fitted.model.bundle.model_format != "lightgbm"
    assert auc(dataset.y, fitted.out_of_fold) > 0.65
    digest = save_model(tmp_path, fitted.model.bundle, fitted.files)
    loaded = load_model(tmp_path, bundle_sha256=digest)
    np.testing.assert_array_equal(loaded.probability(dataset.X), fitted.model.probability(dataset.X))
    assert fit(dataset, tmp_path / "again", family=family, trials=1).files.content == fitted.files.content


def test_retraining_the_same_changes_nothing_and_a_worse_model_only_challenges(settings: Settings) -> None:
    dataset = make_dataset(2000, signal=0.6)
    first = run(dataset, settings)
    again = run(dataset, settings)
    assert (again.model_version, again.promoted, again.aliases) == ("1", True, ("champion",))
    assert again.trials_total == first.trials_total == 3
    registry = Registry.open(settings)
    # A model that learnt a shuffled target, judged on the same true holdout.
    worse = replace(dataset, y=dataset.y.copy())
    early = np.arange(len(dataset)) < 1500
    worse.y[early] = np.random.default_rng(1).permutation(worse.y[early])
    second = run(worse, settings, versions=Versions("test@1", "next_bar@1", "d2"))
    assert not second.promoted
    assert second.aliases == ("challenger",)
    assert "of champion 1 on the same" in second.reason
    assert second.trials_total == 6
    assert second.holdout_looks == 2
    assert registry.find("direction-H1").version == "1"  # type: ignore[union-attr]


def test_a_better_model_replaces_the_champion(settings: Settings) -> None:
    dataset = make_dataset(2000, signal=0.6)
    blind = replace(dataset, X=dataset.X.copy())
    blind.X[:, 0] = np.random.default_rng(0).permutation(blind.X[:, 0])  # the one column that tells something
    first = run(blind, settings)
    assert first.promoted
    better = run(dataset, settings, versions=Versions("test@1", "next_bar@1", "d2"))
    assert better.promoted
    assert better.aliases == ("champion",)
    assert "better than the champion" in better.reason


def test_too_little_data_is_a_clear_error(settings: Settings) -> None:
    with pytest.raises(DataError):
        run(make_dataset(6), settings)
    rising = make_dataset(400)
    with pytest.raises(DataError, match="same label"):
        run(replace(rising, y=np.ones_like(rising.y)), settings)


def test_progress_is_told_line_by_line(settings: Settings) -> None:
    lines: list[str] = []
    run(make_dataset(600), settings, progress=lines.append)
    assert lines[0].startswith("train: 480 rows to develop on, 120 held out")
    assert any(line.startswith("tune: trial 3 of 3, fold 1 of 3") for line in lines)
    assert lines[-1].startswith("train: version 1, champion")
