"""Sampled SHAP values against the closed form of a linear model, and against what must add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.models.calibration import log_odds, sigmoid
from tapeline.models.explain import linear_shap_values
from tapeline.models.sampled_shap import contributions, explain_model, sampled_shap_values

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.standard_normal((40, 5)).astype(np.float32)
SLOPE = np.array([0.8, -0.4, 0.0, 0.2, 0.1])


def linear(rows: np.ndarray) -> np.ndarray:
    return sigmoid(rows.astype(np.float64) @ SLOPE)


def tangled(rows: np.ndarray) -> np.ndarray:
    return sigmoid(rows[:, 0].astype(np.float64) * rows[:, 1] + np.abs(rows[:, 2]))


def test_a_linear_models_values_are_slope_times_distance_from_the_background() -> None:
    centre = np.zeros((1, 5), dtype=np.float32)
    np.testing.assert_allclose(sampled_shap_values(linear, ROWS, background=centre), ROWS * SLOPE, atol=1e-6)


def test_a_rows_values_add_up_to_its_log_odds_less_the_backgrounds() -> None:
    base = ROWS[:1]
    values = sampled_shap_values(tangled, ROWS, background=base, pairs=2)
    expected = log_odds(tangled(ROWS)) - log_odds(tangled(base))
    np.testing.assert_allclose(values.sum(axis=1), expected, atol=1e-9)
    assert np.abs(values[:, 3:]).max() == 0.0  # what the model does not read has no share


def test_two_features_that_only_work_together_share_their_product() -> None:
    # Shapley values of x0 * x1 from a background of zeros: half of the product each (2 orders, each the whole once).
    base = np.zeros((1, 5), dtype=np.float32)
    values = sampled_shap_values(lambda rows: sigmoid(rows[:, 0].astype(float) * rows[:, 1]), ROWS, background=base)
    half = ROWS[:, 0].astype(float) * ROWS[:, 1] / 2
    np.testing.assert_allclose(values[:, 0], half, atol=1e-6)
    np.testing.assert_allclose(values[:, 1], half, atol=1e-6)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be explained"):
        sampled_shap_values(linear, ROWS, background=ROWS[:, :3])
    with pytest.raises(DataError, match="cannot be explained"):
        sampled_shap_values(linear, ROWS, background=ROWS[:0])


@pytest.fixture(scope="module", params=["lightgbm", "xgboost", "logistic", "ridge", "random_forest"])
def of_family(request):
    """A saved and read model of a family, its raw scores' rows, and whether its values are exact."""
    from tapeline.models.bundle import Bundle, make_model
    from tapeline.models.calibration import Calibration
    from tapeline.models.estimator import build_estimator
    from tapeline.models.model_file import write_model
    from tests.models.synthetic import VERSIONS

    rows = GENERATOR.standard_normal((600, 6)).astype(np.float32)
    y = (GENERATOR.uniform(size=600) < sigmoid(1.5 * rows[:, 4].astype(float) - rows[:, 1])).astype(int)
    rows[:40, 2] = np.nan
    rows[:, 0] = 1.0  # a column that does not vary is not kept
    smaller = {"n_estimators": 10} if request.param == "random_forest" else None
    estimator = build_estimator(request.param, parameters=smaller).fit(rows, y)
    preparation, files = write_model(estimator, 6)
    bundle = Bundle(
        name="m",
        columns=tuple("abcdef"),
        kept=preparation.kept,
        calibration=Calibration("platt"),
        threshold=0.5,
        versions=VERSIONS,
        trained_until=pd.Timestamp("2017-01-01", tz="UTC"),
        booster_sha256=files.sha256,
        scaling=preparation.scaling,
        model_format=files.format,
        fill=preparation.fill,
    )
    return request.param, make_model(bundle, files), rows


def test_values_of_every_family_add_up_to_the_raw_score(of_family) -> None:
    family, model, rows = of_family
    found = explain_model(model, rows)
    exact = family != "random_forest"
    assert found.method.startswith("exact" if exact else "sampled")
    explained = rows if exact else rows[-100:]
    assert found.shares.shape == (len(explained), 5)
    raw = model.raw_probability(explained)
    score = np.log(raw / (1 - raw))
    np.testing.assert_allclose(found.shares.sum(axis=1) + found.expected, score, atol=2e-5)
    mean = dict(zip("bcdef", np.abs(found.shares).mean(axis=0), strict=True))
    assert set(sorted(mean, key=mean.get)[-2:]) == {"b", "e"}
    np.testing.assert_array_equal(contributions(model, rows), found.shares)


def test_exact_values_of_a_line_are_those_that_sampling_approaches(of_family) -> None:
    family, model, rows = of_family
    if family not in ("logistic", "ridge"):
        pytest.skip("not a line")
    exact = explain_model(model, rows).shares
    sampled = sampled_shap_values(model.raw_probability, rows[-40:], background=rows, pairs=40)[:, 1:]
    # By one walk a line's value is off by its background row, so by 40 of them a root of 40 less.
    error = exact.std(axis=0) / np.sqrt(40)
    assert (np.abs(exact[-40:] - sampled) < 4.5 * error + 1e-6).all()


def test_a_line_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="line over 2 columns"):
        linear_shap_values([1.0, 2.0], 0.0, ROWS, ROWS)
