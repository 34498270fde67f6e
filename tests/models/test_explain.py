"""SHAP values are those of the shap package, and they add up."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.core.errors import DataError
from tapeline.models.estimator import build_estimator
from tapeline.models.explain import importance_table, shap_values


def test_the_values_equal_those_of_the_shap_package_and_add_up_to_the_raw_score() -> None:
    import shap

    generator = np.random.default_rng(0)
    x = generator.standard_normal((400, 6)).astype(np.float32)
    y = (x[:, 2] - 0.5 * x[:, 4] + generator.standard_normal(400) > 0).astype(int)
    booster = build_estimator("lightgbm", parameters={"colsample_bytree": 1.0}).fit(x, y)[-1].booster_
    values, expected = shap_values(booster, x)
    peer = shap.TreeExplainer(booster).shap_values(x)
    np.testing.assert_allclose(values, peer[1] if isinstance(peer, list) else peer, atol=1e-9)
    np.testing.assert_allclose(values.sum(axis=1) + expected, booster.predict(x, raw_score=True), atol=1e-9)
    table = importance_table(values, list("abcdef"))
    assert table["feature"].tolist()[:2] == ["c", "e"]
    assert table["share"].sum() == pytest.approx(1)


def test_rows_of_another_width_are_refused() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((200, 3)).astype(np.float32)
    booster = build_estimator("lightgbm").fit(x, (x[:, 0] > 0).astype(int))[-1].booster_
    with pytest.raises(DataError, match="3 features"):
        shap_values(booster, x[:, :2])
    with pytest.raises(DataError, match="3 SHAP columns for 2"):
        importance_table(np.zeros((1, 3)), ["a", "b"])


def test_trees_that_split_on_nothing_give_zero_importance() -> None:
    assert importance_table(np.zeros((4, 2)), ["a", "b"])["share"].tolist() == [0.0, 0.0]
