"""Calibration: closer to what happens, never out of order, and the same after a trip through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.evaluation.metrics import expected_calibration_error, log_loss
from tapeline.models.calibration import Calibration, fit_calibration, pool_adjacent_violators

BOTH = pytest.mark.parametrize("rows", [800, 4000], ids=["platt", "isotonic"])


def miscalibrated(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are far too sure of themselves, and what happened."""
    generator = np.random.default_rng(seed)
    truth = generator.uniform(0.3, 0.7, rows)
    odds = np.log(truth / (1 - truth))
    return 1 / (1 + np.exp(-(4 * odds + 0.5))), (generator.uniform(size=rows) < truth).astype(int)


@BOTH
def test_a_planted_miscalibration_is_repaired_on_fresh_rows(rows: int) -> None:
    calibration = fit_calibration(*miscalibrated(rows, seed=1))
    assert calibration.kind == ("isotonic" if rows > 1000 else "platt")
    score, target = miscalibrated(20_000, seed=2)
    before, after = (
        expected_calibration_error(target, score),
        expected_calibration_error(target, calibration.apply(score)),
    )
    assert before > 0.15
    assert after < 0.035
    assert log_loss(target, calibration.apply(score)) < log_loss(target, score) - 0.05


@BOTH
def test_weights_count(rows: int) -> None:
    score, target = miscalibrated(rows, seed=3)
    heavy = fit_calibration(score, target, np.where(target == 1, 5.0, 1.0))
    assert heavy.apply(score).mean() > fit_calibration(score, target).apply(score).mean() + 0.2


@BOTH
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.sampled_from([1, 2, 5, 100_000]))
def test_order_is_kept_and_probabilities_are_probabilities(rows: int, seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    score = np.round(generator.uniform(size=rows) * levels) / levels
    target = generator.integers(0, 2, rows)
    calibration = fit_calibration(score, target)
    grid = calibration.apply(np.linspace(0, 1, 101))
    assert (np.diff(grid) >= 0).all()
    assert ((grid > 0) & (grid < 1)).all()
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    np.testing.assert_array_equal(again.apply(score), calibration.apply(score))


def test_the_order_of_the_rows_does_not_matter() -> None:
    score, target = miscalibrated(3000, seed=4)
    score = np.round(score, 2)  # many ties
    order = np.random.default_rng(0).permutation(3000)
    np.testing.assert_allclose(fit_calibration(score, target).y, fit_calibration(score[order], target[order]).y)


def test_scores_that_are_wrong_way_round_are_flattened_not_reversed() -> None:
    score, target = miscalibrated(800, seed=5)
    calibration = fit_calibration(1 - score, target)
    assert calibration.a == 0
    np.testing.assert_allclose(calibration.apply(score), target.mean(), atol=0.01)


def test_pool_adjacent_violators_agrees_with_scikit_learn() -> None:
    from sklearn.isotonic import isotonic_regression

    generator = np.random.default_rng(0)
    for size in (1, 2, 5, 60):
        value, weight = generator.standard_normal(size), generator.uniform(0.1, 3, size)
        np.testing.assert_allclose(
            pool_adjacent_violators(value, weight), isotonic_regression(value, sample_weight=weight), atol=1e-12
        )


def test_platt_agrees_with_a_logistic_regression_on_many_rows() -> None:
    from sklearn.linear_model import LogisticRegression

    score, target = miscalibrated(1000, seed=6)
    odds = np.log(score / (1 - score))[:, None]
    peer = LogisticRegression(C=1e6).fit(odds, target)
    mine = fit_calibration(score, target)
    assert mine.kind == "platt"
    assert mine.a == pytest.approx(float(peer.coef_[0, 0]), rel=0.02)  # his smoothed targets pull it in a little
    assert mine.b == pytest.approx(float(peer.intercept_[0]), abs=0.01)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"kind": "spline"},
        {"kind": "platt", "a": -1.0, "b": 0.0},
        {"kind": "platt", "a": float("nan"), "b": 0.0},
        {"kind": "isotonic", "x": [0.2, 0.1], "y": [0.1, 0.2]},
        {"kind": "isotonic", "x": [0.1, 0.2], "y": [0.2, 0.1]},
        {"kind": "isotonic", "x": [0.1], "y": [1.5]},
        {"kind": "isotonic", "x": [], "y": []},
        {"kind": "isotonic", "x": "ab", "y": [1]},
    ],
)
def test_a_forged_calibration_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(DataError):
        Calibration.from_json(content)


def test_what_is_no_score_is_refused() -> None:
    with pytest.raises(DataError, match=r"not in \[0, 1\]"):
        fit_calibration([0.5, 1.5], [0, 1])
    with pytest.raises(DataError, match="make no calibration"):
        fit_calibration([], [])


def test_the_kind_may_be_chosen_by_hand() -> None:
    assert fit_calibration(*miscalibrated(4000, seed=1), kind="platt").kind == "platt"
    assert fit_calibration(*miscalibrated(200, seed=1), kind="isotonic").kind == "isotonic"
    with pytest.raises(DataError, match="49 rows are below the 50"):
        fit_calibration(*miscalibrated(49, seed=1), kind="isotonic")
