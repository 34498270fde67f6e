"""LIME finds what was planted, says how well it fits, and explains any classifier."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.calibration import sigmoid
from tapeline.models.estimator import build_estimator, probability_up
from tapeline.models.lime import explain_row, quantile_parts

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.standard_normal((2000, 5)).astype(np.float32)
NAMES = ["a", "b", "c", "d", "e"]
SLOPE = np.array([0.8, -0.5, 0.3, -0.15, 0.0])


def planted(rows: np.ndarray) -> np.ndarray:
    return sigmoid(0.4 * rows.astype(np.float64) @ SLOPE)


@pytest.mark.parametrize("perturbation", ["gaussian", "quantile"])
def test_a_planted_linear_models_signs_and_ranks_come_back(perturbation) -> None:
    # In the highest quartile of every column each condition pulls the way its coefficient does.
    high = np.full(5, 1.6, dtype=np.float32)
    found = explain_row(planted, high, ROWS, NAMES, perturbation=perturbation, samples=5000)
    assert found.weights["feature"].tolist() == NAMES
    weight = found.weights["weight"].to_numpy()
    assert np.sign(weight[:4]).tolist() == [1, -1, 1, -1]
    assert abs(weight[4]) < 4 * found.weights["error"][4] + 1e-3
    # Whether a value lies in the same quartile tells half of what the value itself does.
    assert found.r_squared > (0.95 if perturbation == "gaussian" else 0.5)
    assert found.probability == pytest.approx(planted(high[None])[0])
    low = explain_row(planted, -high, ROWS, NAMES, perturbation=perturbation, samples=5000)
    turned = low.weights.set_index("feature")["weight"][["a", "b", "c"]].to_numpy()
    assert np.sign(turned).tolist() == ([1, -1, 1] if perturbation == "gaussian" else [-1, 1, -1])


def test_the_gaussian_slopes_are_those_of_the_model_where_it_is_nearly_straight() -> None:
    found = explain_row(planted, np.zeros(5), ROWS, NAMES, perturbation="gaussian", width=1.0, samples=20_000)
    weight = found.weights.set_index("feature")["weight"][NAMES].to_numpy()
    expected = 0.25 * 0.4 * SLOPE * ROWS.std(axis=0)  # the slope of the sigmoid at 0 is a quarter
    np.testing.assert_allclose(weight, expected, atol=0.002)
    assert found.local_probability == pytest.approx(0.5, abs=0.005)


def test_the_fit_is_scikit_learns_weighted_ridge() -> None:
    seen = []

    def remember(rows: np.ndarray) -> np.ndarray:
        seen.append(rows.copy())
        return planted(rows)

    found = explain_row(remember, ROWS[7], ROWS, NAMES, samples=800, seed=3)
    (drawn,) = seen
    read = np.empty(drawn.shape)
    for column in range(5):
        borders = np.quantile(ROWS[:, column].astype(np.float64), [0.25, 0.5, 0.75]).astype(np.float32)
        part = np.searchsorted(borders, drawn[:, column])
        read[:, column] = part == part[0]
    near = np.exp(-(1 - read).sum(axis=1) / (2 * 0.75**2 * 5))
    peer = Ridge(alpha=1.0).fit(read, planted(drawn), sample_weight=near)
    told = found.weights.set_index("feature")["weight"][NAMES].to_numpy()
    np.testing.assert_allclose(told, peer.coef_, atol=1e-10)
    assert found.intercept == pytest.approx(peer.intercept_)
    assert found.r_squared == pytest.approx(peer.score(read, planted(drawn), sample_weight=near))
    assert found.local_probability == pytest.approx(peer.predict(np.ones((1, 5)))[0])


def test_the_stated_error_is_what_another_seed_changes() -> None:
    weights = np.array(
        [
            explain_row(planted, ROWS[3], ROWS, NAMES, samples=400, seed=seed).weights.set_index("feature")["weight"][
                NAMES
            ]
            for seed in range(60)
        ]
    )
    one = explain_row(planted, ROWS[3], ROWS, NAMES, samples=400).weights.set_index("feature")["error"][NAMES]
    ratio = one.to_numpy() / weights.std(axis=0)
    assert ((ratio > 0.6) & (ratio < 1.6)).all(), ratio


def test_a_model_that_no_line_describes_is_said_to_be_so() -> None:
    def tangled(rows: np.ndarray) -> np.ndarray:
        return 0.5 + 0.4 * np.sign(rows[:, 0] * rows[:, 1] * rows[:, 2]).astype(np.float64)

    assert explain_row(tangled, ROWS[0], ROWS, NAMES, perturbation="gaussian").r_squared < 0.1
    flat = explain_row(lambda rows: np.full(len(rows), 0.3), ROWS[0], ROWS, NAMES)
    assert (flat.r_squared, flat.weights["weight"].abs().max()) == (0.0, pytest.approx(0.0, abs=1e-12))


@pytest.mark.parametrize("family", ["lightgbm", "random_forest", "logistic"])
def test_any_family_is_explained_through_its_probabilities(family) -> None:
    y = (GENERATOR.uniform(size=len(ROWS)) < sigmoid(2 * ROWS[:, 1].astype(float))).astype(int)
    model = build_estimator(family, parameters={"n_estimators": 20} if family == "random_forest" else None)
    model.fit(ROWS, y)
    found = explain_row(lambda rows: probability_up(model, rows), [0, 1.5, 0, 0, 0], ROWS, NAMES, samples=1000)
    assert found.weights["feature"][0] == "b"
    assert found.weights["weight"][0] > 5 * found.weights["error"][0]


def test_missing_values_are_a_part_of_their_own_and_same_seed_same_bits() -> None:
    rows = ROWS.copy()
    rows[:300, 2] = np.nan

    def missing(x: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x[:, 2]), 0.9, 0.4)

    hole = ROWS[5].copy()
    hole[2] = np.nan
    found = explain_row(missing, hole, rows, NAMES)
    assert found.weights["condition"][0] == "c is missing"
    assert found.weights["weight"][0] == pytest.approx(0.5, abs=0.02)
    again = explain_row(missing, hole, rows, NAMES)
    assert found.weights.equals(again.weights)
    assert not found.weights.equals(explain_row(missing, hole, rows, NAMES, seed=1).weights)
    still = explain_row(missing, hole, rows, NAMES, perturbation="gaussian")
    assert still.weights["weight"].abs().max() < 1e-12


def test_conditions_read_as_what_is_true_of_the_row() -> None:
    rows = np.arange(1, 9, dtype=np.float32)[:, None]
    for value, condition in ((1, "x <= 2.75"), (4, "2.75 < x <= 4.5"), (9, "x > 6.25")):
        assert explain_row(lambda r: np.full(len(r), 0.5), [value], rows, ["x"]).weights["condition"][0] == condition
    same = np.ones((9, 1), dtype=np.float32)
    assert explain_row(lambda r: np.full(len(r), 0.5), [1.0], same, ["x"]).weights["condition"][0] == "x is not missing"
    assert quantile_parts([np.nan, np.nan]).size == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="do not belong together"):
        explain_row(planted, ROWS[0], ROWS[:, :4], NAMES)
    with pytest.raises(DataError, match="not a probability"):
        explain_row(lambda rows: np.full(len(rows), 2.0), ROWS[0], ROWS, NAMES)
    for wrong in ({"samples": 10}, {"parts": 1}, {"width": 0.0}, {"perturbation": "dream"}):
        with pytest.raises(ConfigurationError):
            explain_row(planted, ROWS[0], ROWS, NAMES, **wrong)
