"""Ensembles named in the settings: tuned, calibrated, registered and served like any family, on purged inner folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings, TrainingSettings
from tapeline.evaluation.metrics import auc
from tapeline.models import ensemble
from tapeline.models.ensemble_family import MEMBERS
from tapeline.models.estimator import build_estimator
from tapeline.models.scoring import load_scorer
from tapeline.models.search import plan_of
from tapeline.models.training import fit_model, train
from tapeline.models.trial import FoldModels
from tapeline.models.validation import PurgedKFold
from tapeline.models.zoo import ensembles, families, family
from tests.models.conftest import prepare
from tests.models.synthetic import VERSIONS, auc_standard_error, bayes_auc, make_dataset, make_settings

KINDS = tuple(one.name for one in ensembles())


def test_stacking_is_trained_registered_and_served_as_it_was_fitted(database: Path, tmp_path: Path) -> None:
    made = prepare(database, tmp_path)
    training = {**made.training.model_dump(), "family": "stacking", "trials": 1}
    # Without the card, which would fit the ensemble on seven more pasts.
    settings = Settings(root=made.root, training=training, card=made.card.model_dump())
    dataset = make_dataset(900, signal=0.8, columns=4)
    result = train(dataset, settings=settings, name="direction-H1", versions=VERSIONS)
    assert (result.family, result.promoted) == ("stacking", True)
    assert result.parameters == dict(family("stacking").defaults)
    reached = auc(result.holdout["y"], result.holdout["probability"])
    assert abs(reached - bayes_auc(0.8)) < 3 * auc_standard_error(result.holdout["y"].to_numpy())
    assert result.importance["feature"].iloc[0] == "f0"
    scorer = load_scorer(settings, "direction-H1")
    assert scorer.model.bundle.model_format == "composite"
    held = np.isin(dataset.ts, pd.DatetimeIndex(result.holdout["ts"]))
    np.testing.assert_array_equal(scorer.probability(dataset.X[held]), result.holdout["probability"])
    # One row, as a live bar comes, is scored as among others.
    assert scorer.probability(dataset.X[held][:1])[0] == result.holdout["probability"].iloc[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_file_says_what_the_fitted_ensemble_says(kind: str, tmp_path: Path) -> None:
    dataset = make_dataset(400, signal=0.8, columns=3)
    settings = make_settings(tmp_path, family=kind, trials=1)
    small = {**family(kind).defaults, "lightgbm__n_estimators": 20, "extra_trees__n_estimators": 50}
    plan = plan_of([kind], trials=1, seed=7, first=[(kind, small)])
    fitted = fit_model(dataset, settings=settings, name="m", versions=VERSIONS, study="m-study", plan=plan)
    assert fitted.tuning.parameters == small
    estimator = build_estimator(
        kind, seed=7, parameters={**fitted.tuning.parameters, **({"folds": 3} if kind != "voting" else {})}
    ).fit(dataset.X, dataset.y, dataset.weight, t0=dataset.t0, t_end=dataset.t_end)
    assert list(estimator[-1].members_) == list(MEMBERS)
    said = fitted.model.raw_probability(dataset.X)
    np.testing.assert_allclose(said, estimator.predict_proba(dataset.X)[:, 1], rtol=0, atol=2e-6)
    assert auc(dataset.y, fitted.out_of_fold) > 0.65


@pytest.mark.parametrize("kind", ["stacking", "weighted"])
def test_what_an_ensemble_learns_of_its_members_it_learns_on_purged_folds_as_the_settings_say(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every fit: the rows of the combination's folds share no label interval, and their number is the settings'."""
    dataset = make_dataset(300, columns=3, horizon=6)
    dataset.X[:, 0] = np.arange(300)  # every row says which one it is
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    original = ensemble.out_of_fold

    def watched(members: Any, X: Any, y: Any, folds: Any, **given: Any) -> Any:  # noqa: N803
        rows = np.asarray(X)[:, 0].astype(int)
        seen.extend((rows[train_rows], rows[test]) for train_rows, test in folds)
        return original(members, X, y, folds, **given)

    monkeypatch.setattr(ensemble, "out_of_fold", watched)
    training = TrainingSettings(family=kind, folds=4, embargo=0.02, threads=1)
    folds = list(PurgedKFold(dataset.t0, dataset.t_end, folds=4, embargo=0.02).split(dataset.X))
    models = FoldModels(dataset, folds, training)
    said = models.predict(kind, {"lightgbm__n_estimators": 5, "extra_trees__n_estimators": 5}, 1)
    assert ((said > 0) & (said < 1)).all()
    assert len(seen) == 4
    outer_train, outer_test = folds[1]
    start, end = dataset.t0.asi8, dataset.t_end.asi8
    for rows, tested in seen:
        assert np.isin(np.concatenate((rows, tested)), outer_train).all()
        assert not np.isin(outer_test, rows).any()
        meets = (start[rows][:, None] <= end[tested]) & (end[rows][:, None] >= start[tested])
        assert not meets.any()
        after = start[rows][start[rows] > end[tested].max()]
        wait = 0.02 * (start[outer_train].max() - start[outer_train].min())
        assert not after.size or after.min() - end[tested].max() > wait


def test_every_ensemble_has_a_space_that_holds_its_defaults_and_a_grid() -> None:
    import optuna

    for one in ensembles():
        trial = optuna.trial.FixedTrial(dict(one.defaults))
        assert one.space(trial) == dict(one.defaults)
        assert set(one.grid) <= set(one.defaults)
    assert not {one.name for one in families()} & set(KINDS)


def test_parameters_reach_the_member_that_they_name_and_wrong_ones_are_refused() -> None:
    built = build_estimator("voting", seed=5, threads=2, parameters={"logistic__C": 9.0, "lightgbm__num_leaves": 3})
    members = dict(built[-1].members)
    assert members["logistic"][-1].C == 9.0
    lightgbm = members["lightgbm"][-1].get_params()
    assert (lightgbm["num_leaves"], lightgbm["random_state"], lightgbm["n_jobs"]) == (3, 5, 2)
    with pytest.raises(ConfigurationError, match="not free"):
        build_estimator("voting", parameters={"lightgbm__n_jobs": 3})
    with pytest.raises(ConfigurationError, match="does not take"):
        build_estimator("stacking", parameters={"ridge__C": 3})
    with pytest.raises(ConfigurationError, match="label intervals"):
        build_estimator("stacking").fit(np.zeros((4, 2)) + np.arange(4)[:, None], [0, 1, 0, 1])
