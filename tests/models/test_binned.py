"""Bins made once: the same trees as bins made anew of the same rows, and nearly the same as those of fewer rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapeline.core.settings import TrainingSettings
from tapeline.evaluation.metrics import log_loss
from tapeline.models.binned import BinnedDataset, training_parameters
from tapeline.models.dataset import Dataset
from tapeline.models.estimator import build_estimator
from tapeline.models.trial import FoldModels
from tapeline.models.validation import PurgedKFold
from tests.models.synthetic import make_dataset

PARAMETERS = {"n_estimators": 20, "num_leaves": 5}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    made = make_dataset(2000, signal=0.5, columns=6)
    made.X[np.random.default_rng(0).random(made.X.shape) < 0.05] = np.nan
    return replace(made, weight=np.random.default_rng(1).uniform(0.2, 1.0, len(made)))


def models(dataset: Dataset, **training: object) -> FoldModels:
    folds = list(PurgedKFold(dataset.t0, dataset.t_end, folds=3).split(dataset.X))
    return FoldModels(dataset, folds, TrainingSettings(threads=1, folds=3, **training))  # type: ignore[arg-type]


def test_on_all_rows_the_trees_are_the_classifiers_to_the_bit(dataset: Dataset) -> None:
    estimator = build_estimator("lightgbm", seed=7, parameters=PARAMETERS)
    binned = BinnedDataset(dataset.X, dataset.y, dataset.weight, estimator[-1])
    booster = binned.fit(np.arange(len(dataset)), estimator[-1])
    estimator.fit(dataset.X, dataset.y, dataset.weight)
    np.testing.assert_array_equal(booster.predict(dataset.X), estimator.predict_proba(dataset.X)[:, 1])


def test_a_subset_has_its_own_rows_labels_and_weights_only(dataset: Dataset) -> None:
    model = build_estimator("lightgbm", seed=7, parameters=PARAMETERS)[-1]
    rows = np.arange(0, 1200)
    first = BinnedDataset(dataset.X, dataset.y, dataset.weight, model)
    subset = first.subset(rows)
    np.testing.assert_array_equal(subset.get_label(), dataset.y[rows])
    np.testing.assert_allclose(subset.get_weight(), dataset.weight[rows], rtol=1e-6)
    # Labels of rows outside the subset change nothing: bins see no label.
    flipped = dataset.y.copy()
    flipped[1200:] = 1 - flipped[1200:]
    second = BinnedDataset(dataset.X, flipped, dataset.weight, model)
    assert first.fit(rows, model).model_to_string() == second.fit(rows, model).model_to_string()


def test_rows_of_weight_0_are_absent_to_the_bit(dataset: Dataset) -> None:
    weight = dataset.weight.copy()
    weight[::3] = 0.0
    estimator = build_estimator("lightgbm", seed=7, parameters=PARAMETERS)
    binned = BinnedDataset(dataset.X, dataset.y, weight, estimator[-1])
    rows = np.arange(0, 1500)
    booster = BinnedDataset(dataset.X[weight > 0], dataset.y[weight > 0], weight[weight > 0], estimator[-1]).fit(
        np.arange(int((weight[:1500] > 0).sum())), estimator[-1]
    )
    assert binned.fit(rows, estimator[-1]).model_to_string() == booster.model_to_string()
    whole = binned.fit(np.arange(len(dataset)), estimator[-1])
    estimator.fit(dataset.X, dataset.y, weight)
    np.testing.assert_array_equal(whole.predict(dataset.X), estimator.predict_proba(dataset.X)[:, 1])


def test_a_column_that_only_small_leaves_can_split_is_kept(dataset: Dataset) -> None:
    # LightGBM drops a column at binning where no split of it leaves 20 rows a side, its default; a trial may allow 5.
    rare = np.zeros(len(dataset), dtype=np.float32)
    chosen = np.flatnonzero(dataset.y == 1)[:18]
    rare[chosen] = 1.0
    X = np.column_stack([dataset.X[:, 3], rare])  # noqa: N806 - scikit-learn's name
    small = {**PARAMETERS, "min_child_samples": 5, "colsample_bytree": 1.0, "subsample": 1.0, "reg_lambda": 0.0}
    estimator = build_estimator("lightgbm", seed=7, parameters=small)
    large = build_estimator("lightgbm", seed=7, parameters={**PARAMETERS, "min_child_samples": 600})[-1]
    binned = BinnedDataset(X, dataset.y, dataset.weight, large)
    rows = np.arange(len(dataset))
    binned.fit(rows, large)  # a trial with large leaves changes nothing for the next
    booster = binned.fit(rows, estimator[-1])
    estimator.fit(X, dataset.y, dataset.weight)
    assert booster.feature_importance()[-1] > 0
    np.testing.assert_array_equal(booster.predict(X), estimator.predict_proba(X)[:, 1])


def test_the_loss_is_near_that_of_bins_made_of_training_rows_only(dataset: Dataset) -> None:
    reused, strict = models(dataset), models(dataset, strict_bins=True)
    losses = []
    for each in (reused, strict):
        predicted = each.out_of_fold("lightgbm", PARAMETERS)
        np.testing.assert_array_equal(predicted, each.out_of_fold("lightgbm", PARAMETERS))  # to the bit
        losses.append(log_loss(dataset.y, predicted, dataset.weight))
    assert losses[0] == pytest.approx(losses[1], abs=0.002)
    assert losses[0] < np.log(2) - 0.02
    assert reused._binned is not None
    assert strict._binned is None


def test_a_scaler_is_fitted_in_the_fold_so_its_columns_are_binned_there(dataset: Dataset) -> None:
    scaled = models(dataset, scaling="rank_gauss")
    predicted = scaled.predict("lightgbm", PARAMETERS, 0)
    assert scaled._binned is None
    assert np.isfinite(predicted).all()


def test_parameters_reach_lightgbm_under_names_it_knows() -> None:
    given = build_estimator("lightgbm", seed=3, threads=2, parameters={"reg_lambda": 5.0})[-1].get_params()
    chosen = training_parameters(given)
    assert chosen["objective"] == "binary"
    assert chosen["reg_lambda"] == 5.0
    assert "n_estimators" not in chosen
    assert all(value is not None for value in chosen.values())
