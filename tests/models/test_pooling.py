"""Pooling weights against slow algorithms and a peer, and the planted truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import log_loss
from tapeline.models.calibration import log_odds, sigmoid
from tapeline.models.pooling import Pool, fit_linear_pool, fit_logarithmic_pool


def case(seed: int, members: int = 3, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(0.05, 0.95, rows)
    y = (generator.uniform(size=rows) < truth).astype(float)
    noise = generator.normal(0, np.linspace(0.2, 2.0, members), (rows, members))
    return sigmoid(log_odds(truth)[:, None] + noise), y, generator.uniform(0.2, 1.0, rows)


def expectation_maximisation(p: np.ndarray, y: np.ndarray, w: np.ndarray, prior: np.ndarray, rows: float) -> np.ndarray:
    """Proportions of a mixture, the textbook way: share out each row, count, repeat."""
    share = np.full(p.shape[1], 1 / p.shape[1])
    likelihood = np.where(y[:, None] > 0.5, p, 1 - p)
    for _ in range(20_000):
        belongs = likelihood * share
        belongs /= belongs.sum(axis=1, keepdims=True)
        share = (w @ belongs + rows * prior) / (w.sum() + rows)
    return share


@pytest.mark.parametrize(("seed", "prior_rows"), [(0, 0.0), (1, 10.0), (2, 300.0)])
def test_linear_weights_are_those_of_expectation_maximisation(seed: int, prior_rows: float) -> None:
    p, y, w = case(seed)
    prior = np.array([0.2, 0.3, 0.5])
    found = fit_linear_pool(p, y, w, prior=prior, prior_rows=prior_rows)
    assert found == pytest.approx(expectation_maximisation(p, y, w, prior, prior_rows), abs=2e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_a_linear_pool_is_on_the_simplex_and_no_worse_than_its_best_member(seed: int, members: int) -> None:
    p, y, w = case(seed, members, 150)
    share = fit_linear_pool(p, y, w, prior_rows=0.0)
    assert (share >= 0).all()
    assert share.sum() == pytest.approx(1, abs=1e-12)
    pooled = log_loss(y, Pool("linear", tuple(share)).apply(p), w)
    assert pooled <= min(log_loss(y, column, w) for column in p.T) + 1e-7


def test_a_prior_worth_more_rows_than_there_are_is_what_comes_out() -> None:
    p, y, w = case(5)
    prior = np.array([0.1, 0.2, 0.7])
    assert fit_linear_pool(p, y, w, prior=prior, prior_rows=1e7) == pytest.approx(prior, abs=1e-3)


@pytest.mark.parametrize("ridge", [0.1, 1.0, 20.0])
def test_free_coefficients_are_those_of_a_penalised_logistic_regression(ridge: float) -> None:
    p, y, w = case(3)
    z = log_odds(p)
    peer = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=5000).fit(z, y, sample_weight=w)
    slope, intercept = fit_logarithmic_pool(z, y, w, ridge=ridge, non_negative=False)
    assert slope == pytest.approx(peer.coef_[0], abs=1e-5)
    assert intercept == pytest.approx(peer.intercept_[0], abs=1e-5)


def test_a_member_that_is_wrong_gets_nothing_where_signs_are_bound() -> None:
    p, y, w = case(4)
    z = np.column_stack([log_odds(p[:, 0]), -log_odds(p[:, 0])])
    slope, _ = fit_logarithmic_pool(z, y, w)
    assert slope[0] > 0.5
    assert slope[1] == 0
    free, _ = fit_logarithmic_pool(z, y, w, non_negative=False)
    assert free[1] < -0.3


def test_members_that_say_the_same_share_one_weight() -> None:
    p, y, w = case(6)
    z = log_odds(p[:, :1])
    alone, _ = fit_logarithmic_pool(z, y, w)
    three, _ = fit_logarithmic_pool(np.tile(z, 3), y, w)
    assert three.sum() == pytest.approx(alone[0], rel=0.02)
    assert np.ptp(three) < 1e-4


def test_a_pool_says_the_same_of_a_row_alone_and_keeps_every_bit_through_json() -> None:
    p, _, _ = case(7, members=5)
    for made in (Pool("linear", (0.1, 0.2, 0.3, 0.15, 0.25)), Pool("logarithmic", (0.3, 0.1, 0.7, 0.0, -0.2), 0.17)):
        again = Pool.from_json(json.loads(json.dumps(made.to_json())))
        whole = made.apply(p)
        assert np.array_equal(again.apply(p), whole)
        assert np.array_equal(np.concatenate([made.apply(p[row : row + 1]) for row in range(50)]), whole[:50])


def test_votes_count_and_a_tie_is_half_a_vote() -> None:
    votes = Pool("votes", (0.5, 0.25, 0.25)).apply([[0.9, 0.1, 0.2], [0.4, 0.5, 0.6]])
    assert votes.tolist() == [0.5, 0.375]


def test_what_is_no_pool_is_refused() -> None:
    for wrong in (
        {"form": "linear", "weights": [0.5, 0.6], "intercept": 0},
        {"form": "linear", "weights": [1.5, -0.5], "intercept": 0},
        {"form": "logarithmic", "weights": [float("nan")], "intercept": 0},
        {"form": "__import__", "weights": [1.0], "intercept": 0},
        {"form": "linear", "weights": [], "intercept": 0},
        {"form": "linear", "weights": "one", "intercept": 0},
        {"form": "linear", "weights": [10**400], "intercept": 0},
        {},
    ):
        with pytest.raises(DataError):
            Pool.from_json(wrong)
    with pytest.raises(DataError, match="shape"):
        Pool("linear", (1.0,)).apply([[0.5, 0.5]])
    p, y, w = case(0)
    with pytest.raises(ConfigurationError, match="ridge"):
        fit_logarithmic_pool(p, y, w, ridge=-1.0)
    with pytest.raises(DataError, match="both classes"):
        fit_logarithmic_pool(p, np.ones_like(y), w)
    with pytest.raises(DataError, match="weight"):
        fit_linear_pool(p, y, 0 * w, prior_rows=0)
