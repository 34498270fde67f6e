"""Ensembles keep scikit-learn's contract, find planted truths, and come back from plain numbers to the bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.models.calibration import log_odds, sigmoid
from tapeline.models.ensemble import (
    BlendingEnsemble,
    StackingEnsemble,
    VotingEnsemble,
    WeightedEnsemble,
    ensemble_from_plan,
)
from tapeline.models.estimator import build_estimator
from tapeline.models.hybrid import HybridEnsemble
from tapeline.models.validation import PurgedKFold
from tests.models.members import Told, hours

ROWS = 900
TREES = {"n_estimators": 15, "learning_rate": 0.1, "min_child_samples": 30}


def members() -> list[tuple[str, Any]]:
    return [
        ("line", build_estimator("logistic")),
        ("trees", build_estimator("lightgbm", parameters=TREES)),
        ("base", build_estimator("majority")),
    ]


ENSEMBLES: dict[str, Any] = {
    "voting": lambda: VotingEnsemble(members()),
    "majority": lambda: VotingEnsemble(members(), rule="majority", weights=(2, 1, 1)),
    "log odds": lambda: VotingEnsemble(members(), rule="log_odds"),
    "weighted": lambda: WeightedEnsemble(members(), folds=3),
    "stacking": lambda: StackingEnsemble(members(), folds=3),
    "ridge": lambda: StackingEnsemble(members(), folds=3, meta="ridge", scheme="walk_forward"),
    "blending": lambda: BlendingEnsemble(members(), refit=False),
    "hybrid": lambda: HybridEnsemble(members(), regime=2, edges=2, folds=3),
}


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray, Any, Any]:
    """Half of the truth is linear in column 0, half a step in column 1; labels reach three rows."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(ROWS, 4)).astype(np.float32)
    truth = sigmoid(0.9 * rows[:, 0] + 0.9 * np.sign(rows[:, 1]))
    y = (generator.uniform(size=ROWS) < truth).astype(int)
    return rows, y, generator.uniform(0.3, 1, ROWS), *hours(ROWS, 3)


@pytest.fixture(scope="module")
def fitted(planted: Any) -> dict[str, Any]:
    rows, y, weight, t0, t_end = planted
    return {name: make().fit(rows, y, weight, t0=t0, t_end=t_end) for name, make in ENSEMBLES.items()}


@pytest.mark.parametrize("name", list(ENSEMBLES))
def test_an_ensemble_is_a_classifier_like_any_other(name: str, planted: Any, fitted: Any) -> None:
    rows, y, weight, t0, t_end = planted
    first = fitted[name]
    said = first.predict_proba(rows)
    assert said.shape == (ROWS, 2)
    assert said.sum(axis=1) == pytest.approx(1)
    assert first.classes_.tolist() == [0, 1]
    assert set(first.members_) == {"line", "trees", "base"}
    # The same again, to the bit, from a clone that was never fitted.
    again = clone(first).fit(rows, y, weight, t0=t0, t_end=t_end)
    assert not hasattr(clone(first), "members_")
    assert np.array_equal(again.predict_proba(rows), said)
    assert auc(y, said[:, 1]) > 0.7


@pytest.mark.parametrize("name", list(ENSEMBLES))
def test_its_plan_and_its_members_give_the_same_probabilities_to_the_bit(name: str, planted: Any, fitted: Any) -> None:
    rows = planted[0]
    plan = json.loads(json.dumps(fitted[name].plan(), allow_nan=False))
    turned = dict(reversed(fitted[name].members_.items()))
    again = ensemble_from_plan(turned, plan)
    assert type(again) is type(fitted[name])
    assert np.array_equal(again.predict_proba(rows), fitted[name].predict_proba(rows))
    assert again.plan() == plan


def test_parameters_of_members_are_reached_and_members_replaced() -> None:
    made = StackingEnsemble(members(), ridge=2.0)
    made.set_params(trees__model__n_estimators=7, ridge=3.0)
    assert made.get_params()["trees__model__n_estimators"] == 7
    assert clone(made).get_params()["ridge"] == 3.0
    made.set_params(base=build_estimator("logistic"))
    assert "model__C" in made.members[2][1].get_params()


def test_cross_validation_cuts_label_intervals_with_the_rows(planted: Any) -> None:
    rows, y, weight, t0, t_end = planted
    said = cross_val_predict(
        StackingEnsemble(members()[:2], folds=3),
        rows,
        y,
        cv=PurgedKFold(t0, t_end, folds=3),
        method="predict_proba",
        params={"sample_weight": weight, "t0": t0, "t_end": t_end},
    )[:, 1]
    truth = auc(y, sigmoid(0.9 * rows[:, 0] + 0.9 * np.sign(rows[:, 1])))
    assert truth - 0.06 < auc(y, said) < truth + 0.02


def test_stacking_beats_members_that_each_know_half(planted: Any) -> None:
    rows, y, _, t0, t_end = planted
    half = [("first", Told(0)), ("second", Told(1))]
    known = np.column_stack([sigmoid(0.9 * rows[:, 0]), sigmoid(0.9 * np.sign(rows[:, 1]))])
    stacked = StackingEnsemble(half).fit(known, y, t0=t0, t_end=t_end)
    # Evidence that is independent adds up in log odds: both coefficients are 1.
    assert list(stacked.meta_["coefficients"].values()) == pytest.approx([1, 1], abs=0.25)
    assert log_loss(y, stacked.predict_proba(known)[:, 1]) < min(stacked.losses_.values()) - 0.02
    # A mean of probabilities cannot be surer than its members.
    weighted = WeightedEnsemble(half).fit(known, y, t0=t0, t_end=t_end)
    assert log_loss(y, stacked.predict_proba(known)[:, 1]) < log_loss(y, weighted.predict_proba(known)[:, 1])


def test_stacking_is_a_logistic_regression_on_what_members_said_out_of_fold(planted: Any) -> None:
    rows, y, weight, t0, t_end = planted
    told = np.column_stack([sigmoid(rows[:, 0] + 0.3), sigmoid(rows[:, 1])])
    stacked = StackingEnsemble([("a", Told(0)), ("b", Told(1))], meta="ridge", ridge=2.0)
    stacked.fit(told, y, weight, t0=t0, t_end=t_end)
    peer = LogisticRegression(C=0.5, tol=1e-12, max_iter=1000).fit(log_odds(told), y, sample_weight=weight)
    assert stacked.predict_proba(told) == pytest.approx(peer.predict_proba(log_odds(told)), abs=1e-6)


def test_voting_is_that_of_scikit_learn(planted: Any) -> None:
    rows, y, *_ = planted
    pair = [("a", LogisticRegression(C=0.1)), ("b", LogisticRegression(C=1e-4)), ("c", LogisticRegression(C=10.0))]
    for rule, theirs, weights in (("mean", "soft", (3, 1, 2)), ("majority", "hard", None)):
        peer = VotingClassifier(pair, voting=theirs, weights=weights).fit(rows, y)
        mine = VotingEnsemble(pair, rule=rule, weights=weights).fit(rows, y)  # type: ignore[arg-type]
        assert np.array_equal(mine.predict(rows), peer.predict(rows))
        if theirs == "soft":
            assert mine.predict_proba(rows) == pytest.approx(peer.predict_proba(rows))


def test_a_mean_of_log_odds_is_the_normalised_geometric_mean(planted: Any) -> None:
    told = np.array([[0.9, 0.6], [0.2, 0.3]])
    rows = np.vstack([told, 1 - told])
    mine = VotingEnsemble([("a", Told(0)), ("b", Told(1))], rule="log_odds").fit(rows, [1, 0, 0, 1])
    up, down = np.sqrt(told.prod(axis=1)), np.sqrt((1 - told).prod(axis=1))
    assert mine.predict_proba(told)[:, 1] == pytest.approx(up / (up + down))


def test_the_weights_prefer_the_member_that_is_right(planted: Any) -> None:
    rows, y, _, t0, t_end = planted
    told = np.column_stack([sigmoid(0.9 * rows[:, 0] + 0.9 * np.sign(rows[:, 1])), sigmoid(rows[:, 3])])
    found = WeightedEnsemble([("right", Told(0)), ("noise", Told(1))]).fit(told, y, t0=t0, t_end=t_end)
    assert found.weights_["right"] > 0.8
    assert sum(found.weights_.values()) == pytest.approx(1)


def test_blending_keeps_or_refits_the_members(planted: Any) -> None:
    rows, y, _, t0, t_end = planted
    line = [("line", build_estimator("logistic"))]
    kept = BlendingEnsemble(line, refit=False, tail=0.5).fit(rows, y, t0=t0, t_end=t_end)
    again = BlendingEnsemble(line, refit=True, tail=0.5).fit(rows, y, t0=t0, t_end=t_end)
    assert kept.pool_ == again.pool_
    whole = build_estimator("logistic").fit(rows, y).predict_proba(rows)
    assert np.array_equal(again.members_["line"].predict_proba(rows), whole)
    assert not np.allclose(kept.members_["line"].predict_proba(rows), whole)


def test_no_member_moves_the_ensemble_of_pure_noise_far_from_the_base_rate() -> None:
    found = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        rows, y = generator.normal(size=(500, 5)), (generator.uniform(size=500) < 0.5).astype(int)
        t0, t_end = hours(500, 5)
        stacked = StackingEnsemble(members()[:2], folds=4).fit(rows[:400], y[:400], t0=t0[:400], t_end=t_end[:400])
        found.append(auc(y[400:], stacked.predict_proba(rows[400:])[:, 1]))
    assert abs(np.mean(found) - 0.5) < 3 * 0.058 / np.sqrt(6)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "pickle"},
        {"members": ["line", "trees"]},
        {"members": ["line", "trees", "base", "base"]},
        {"members": "line"},
        {"pool": None},
        {"pool": {"form": "linear", "weights": [1.0], "intercept": 0.0}},
        {"pool": {"form": "linear", "weights": [float("nan"), 1.0, 0.0], "intercept": 0.0}},
    ],
)
def test_a_plan_that_is_none_is_refused(change: dict[str, Any], fitted: Any) -> None:
    whole = fitted["weighted"]
    with pytest.raises(DataError):
        ensemble_from_plan(whole.members_, {**whole.plan(), **change})


def test_what_is_no_ensemble_is_refused(planted: Any) -> None:
    rows, y, weight, t0, t_end = planted
    with pytest.raises(ConfigurationError, match="share a name"):
        VotingEnsemble([("a", Told(0)), ("a", Told(1))]).fit(rows, y)
    for name in ("a__b", "rule"):
        with pytest.raises(ConfigurationError, match="told from parameters"):
            VotingEnsemble([(name, Told(0))]).fit(rows, y)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="negative or not finite"):
            VotingEnsemble(members()).fit(rows, y, np.r_[wrong, weight[1:]])
    # Rows of class 1 that have no weight are no class.
    with pytest.raises(DataError, match="one class"):
        StackingEnsemble(members()).fit(rows, y, np.where(y, 0.0, 1.0), t0=t0, t_end=t_end)
    with pytest.raises(ConfigurationError, match="none"):
        VotingEnsemble([]).fit(rows, y)
    with pytest.raises(ConfigurationError, match="rule"):
        VotingEnsemble(members(), rule="loudest").fit(rows, y)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="weights"):
        VotingEnsemble(members(), weights=(1.0, -1.0, 1.0)).fit(rows, y)
    with pytest.raises(ConfigurationError, match="meta"):
        StackingEnsemble([("a", Told(0))], meta="deep").fit(sigmoid(rows), y, t0=t0, t_end=t_end)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 and 1"):
        VotingEnsemble(members()).fit(rows, y * 2)
    with pytest.raises(DataError, match="differ in number"):
        VotingEnsemble(members()).fit(rows, y, weight[:-1])
    with pytest.raises(DataError, match="one class"):
        BlendingEnsemble(members()).fit(rows, np.r_[np.zeros(700, int), np.ones(200, int)], t0=t0, t_end=t_end)
