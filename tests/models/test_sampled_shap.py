"""Sampled SHAP values against the closed form of a linear model, and against what must add up."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.core.errors import DataError
from tapeline.models.calibration import log_odds, sigmoid
from tapeline.models.sampled_shap import sampled_shap_values

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
