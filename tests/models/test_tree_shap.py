"""SHAP values of trees against the definition over all subsets, the shap package, and what must add up."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from tapeline.core.errors import DataError
from tapeline.models.estimator import build_estimator
from tapeline.models.fast_booster import FastBooster
from tapeline.models.model_file import write_model
from tapeline.models.tree_shap import tree_shap_values
from tapeline.models.tree_walk import Trees
from tapeline.models.xgboost_file import read_xgboost

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.standard_normal((500, 4)).astype(np.float32)
Y = (GENERATOR.uniform(size=500) < 1 / (1 + np.exp(-(2.0 * ROWS[:, 0] * ROWS[:, 1] + ROWS[:, 2])))).astype(int)
HOLES = ROWS.copy()
HOLES[::7, 1] = np.nan


def lightgbm_trees() -> Trees:
    parameters = {"num_leaves": 12, "min_child_samples": 10, "n_estimators": 8, "colsample_bytree": 1.0}
    trees = FastBooster(build_estimator("lightgbm", parameters=parameters).fit(HOLES, Y)[-1].booster_).trees
    assert trees is not None
    return trees


def by_definition(trees: Trees, row: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Shapley values: the mean gain of a feature over all subsets of the others, absent ones from the background."""
    count = row.size

    def worth(present: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(present)] = row[list(present)]
        return float(trees.sums(mixed).mean())

    values = np.zeros(count)
    for feature in range(count):
        others = [one for one in range(count) if one != feature]
        for size in range(count):
            share = factorial(size) * factorial(count - size - 1) / factorial(count)
            for subset in combinations(others, size):
                values[feature] += share * (worth((*subset, feature)) - worth(subset))
    return values


def test_the_values_are_shapleys_by_definition_missing_values_included() -> None:
    trees, background = lightgbm_trees(), HOLES[100:120]
    values, expected = tree_shap_values(trees, HOLES[:12], background)
    for row, found in zip(HOLES[:12], values, strict=True):
        np.testing.assert_allclose(found, by_definition(trees, row, background), atol=1e-12)
    assert expected == pytest.approx(trees.sums(background).mean())
    np.testing.assert_allclose(values.sum(axis=1) + expected, trees.sums(HOLES[:12]), atol=1e-12)


def test_xgboosts_values_are_those_of_the_shap_package() -> None:
    import shap

    model = build_estimator("xgboost", parameters={"n_estimators": 12, "colsample_bytree": 1.0}).fit(ROWS, Y)
    trees = read_xgboost(write_model(model, 4)[1].content).trees
    values, expected = tree_shap_values(trees, ROWS[:50], ROWS[100:160])
    explainer = shap.TreeExplainer(model[-1], data=ROWS[100:160], feature_perturbation="interventional")
    np.testing.assert_allclose(values, explainer.shap_values(ROWS[:50], check_additivity=False), atol=1e-5)
    assert np.abs(values).max() > 0.05
    np.testing.assert_allclose(values.sum(axis=1) + expected, trees.sums(ROWS[:50]), atol=1e-9)


def test_rows_that_do_not_fit_are_refused() -> None:
    trees = lightgbm_trees()
    with pytest.raises(DataError, match="rows of 4 columns"):
        tree_shap_values(trees, ROWS[:, :3], ROWS)
    with pytest.raises(DataError, match="no background row"):
        tree_shap_values(trees, ROWS, ROWS[:0])
