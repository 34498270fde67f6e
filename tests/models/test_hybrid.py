"""Trees, a net and rules under one gate: weights by regime, the past alone, and a way back where a regime is new."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.models.calibration import sigmoid
from tapeline.models.ensemble import ensemble_from_plan
from tapeline.models.estimator import build_estimator
from tapeline.models.hybrid import HybridEnsemble
from tapeline.models.rule_member import RuleMember
from tests.models.members import Told, hours


@pytest.fixture(scope="module")
def two_regimes() -> tuple[np.ndarray, np.ndarray, Any]:
    """Column 0 tells the truth in regime 0 and nothing in regime 1, column 1 the other way round; column 2 is it."""
    generator = np.random.default_rng(1)
    signal = generator.normal(size=(3000, 2)) * 1.5
    regime = np.repeat(generator.integers(0, 2, 60), 50)
    y = (generator.uniform(size=3000) < sigmoid(signal[np.arange(3000), regime])).astype(int)
    return np.column_stack([sigmoid(signal), regime]), y, hours(3000)


def told(**options: Any) -> HybridEnsemble:
    return HybridEnsemble([("first", Told(0)), ("second", Told(1))], regime=2, **options)


def test_each_regime_finds_its_member_and_beats_weights_that_know_no_regime(two_regimes: Any) -> None:
    rows, y, (t0, t_end) = two_regimes
    fitted = told().fit(rows[:2000], y[:2000], t0=t0[:2000], t_end=t_end[:2000])
    assert fitted.gates_[0]["first"] > 0.8
    assert fitted.gates_[1]["second"] > 0.8
    assert 0.3 < fitted.weights_["first"] < 0.7
    later, happened = rows[2000:], y[2000:]
    gated = log_loss(happened, fitted.predict_proba(later)[:, 1])
    without = log_loss(happened, fitted.pool_.apply(later[:, :2]))
    assert gated < without - 0.02


def test_a_regime_that_is_new_or_unknown_has_the_global_weights(two_regimes: Any) -> None:
    rows, y, (t0, t_end) = two_regimes
    fitted = told().fit(rows, y, t0=t0, t_end=t_end)
    assert json.loads(json.dumps(clone(fitted).set_params(regime=np.int64(2)).fit(rows, y, t0=t0, t_end=t_end).plan()))
    asked = np.array([[0.9, 0.2, regime] for regime in (7.0, np.nan, np.inf, 0.5, -1.0)])
    assert (fitted.predict_proba(asked)[:, 1] == fitted.pool_.apply([[0.9, 0.2]])[0]).all()
    assert fitted.predict_proba([[0.9, 0.2, 0.0]])[0, 1] > fitted.predict_proba(asked)[0, 1]


def test_few_rows_move_a_gate_little_and_shrinkage_less(two_regimes: Any) -> None:
    rows, y, (t0, t_end) = two_regimes
    rare = rows.copy()
    rare[:, 2] = 0
    rare[-40:, 2] = 1
    whole = told().fit(rare, y, t0=t0, t_end=t_end)
    distances = []
    for shrinkage in (1.0, 50.0, 1e6):
        fitted = told(shrinkage=shrinkage).fit(rare, y, t0=t0, t_end=t_end)
        distances.append(abs(fitted.gates_[1]["first"] - fitted.weights_["first"]))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3
    assert abs(whole.gates_[0]["first"] - whole.weights_["first"]) < 0.05


def test_gates_never_saw_what_came_later(two_regimes: Any) -> None:
    """A walk-forward's first block is never spoken of: what happened there does not reach the gates of told members."""
    rows, y, (t0, t_end) = two_regimes
    first = told(folds=5).fit(rows, y, t0=t0, t_end=t_end)
    turned = np.r_[1 - y[:600], y[600:]]
    assert told(folds=5).fit(rows, turned, t0=t0, t_end=t_end).gates_ == first.gates_
    turned = np.r_[y[:600], 1 - y[600:1200], y[1200:]]
    assert told(folds=5).fit(rows, turned, t0=t0, t_end=t_end).gates_ != first.gates_


def test_a_continuous_column_is_cut_by_edges_or_into_equal_parts(two_regimes: Any) -> None:
    rows, y, (t0, t_end) = two_regimes
    wide = rows.copy()
    wide[:, 2] = np.where(rows[:, 2] > 0, 30.0, 10.0) + np.random.default_rng(0).uniform(0, 5, len(rows))
    given = told(edges=[20.0]).fit(wide, y, t0=t0, t_end=t_end)
    assert given.regimes([[0.5, 0.5, value] for value in (-99.0, 19.9, 20.0, 99.0)]).tolist() == [0, 0, 1, 1]
    learnt = told(edges=np.int64(2)).fit(wide, y, t0=t0, t_end=t_end)
    assert learnt.edges_ == pytest.approx([np.median(wide[:, 2])])
    assert given.gates_[0]["first"] > 0.8
    with pytest.raises(DataError, match="no whole number"):
        told().fit(wide, y, t0=t0, t_end=t_end)
    for wrong in ([3.0, 1.0], [], [float("nan")], 1):
        with pytest.raises(ConfigurationError, match="edges"):
            told(edges=wrong).fit(wide, y, t0=t0, t_end=t_end)


@pytest.fixture(scope="module")
def mixed() -> tuple[HybridEnsemble, pd.DataFrame, np.ndarray]:
    """Trees, a net and a rule over a frame with holes; three truths, one for each."""
    generator = np.random.default_rng(2)
    frame = pd.DataFrame(generator.normal(size=(1500, 3)), columns=["step", "product", "rare"])
    frame["regime"] = np.repeat(generator.integers(0, 3, 30), 50).astype(float)
    truth = np.sign(frame["step"]) + np.tanh(frame["product"]) + 2.0 * (frame["rare"] > 1.5)
    y = (generator.uniform(size=1500) < sigmoid(truth)).astype(int)
    frame.loc[::23, "product"] = np.nan
    frame.loc[::31, "regime"] = np.nan
    members = [
        ("trees", build_estimator("lightgbm", parameters={"n_estimators": 20, "learning_rate": 0.1})),
        ("net", build_estimator("neural_net", parameters={"width": 16, "layers": 3, "learning_rate_init": 0.01})),
        ("rules", RuleMember([{"conditions": [{"column": "rare", "comparison": "above", "value": 1.5}]}])),
    ]
    t0, t_end = hours(1500, 2)
    hybrid = HybridEnsemble(members, regime="regime", folds=4)
    weight = generator.uniform(0.5, 1, 1500)
    hybrid.fit(frame[:1200], y[:1200], weight[:1200], t0=t0[:1200], t_end=t_end[:1200])
    return hybrid, frame, y


def test_trees_a_net_and_rules_work_together(mixed: Any) -> None:
    hybrid, frame, y = mixed
    assert set(hybrid.gates_) == {0, 1, 2}
    assert all(sum(gate.values()) == pytest.approx(1) for gate in hybrid.gates_.values())
    said = hybrid.predict_proba(frame[1200:])[:, 1]
    assert auc(y[1200:], said) > 0.7
    assert log_loss(y[1200:], said) < np.log(2)


def test_the_plan_holds_the_gates_and_gives_the_same_bits(mixed: Any) -> None:
    hybrid, frame, _ = mixed
    plan = json.loads(json.dumps(hybrid.plan(), allow_nan=False))
    again = ensemble_from_plan(hybrid.members_, plan)
    assert np.array_equal(again.predict_proba(frame), hybrid.predict_proba(frame))
    assert again.gates_ == hybrid.gates_  # type: ignore[attr-defined]
    assert again.weights_ == hybrid.weights_  # type: ignore[attr-defined]
    for change in (
        {"regime": None},
        {"regime": True},
        {"edges": [2.0, 1.0]},
        {"gates": [[0, [0.5, 0.5]]]},
        {"gates": [[0, [2.0, -0.5, -0.5]]]},
        {"gates": 3},
        {"gates": [[float("inf"), [0.5, 0.25, 0.25]]]},
        {"gates": [[0.5, [0.5, 0.25, 0.25]]]},
        {"gates": [[0, [10**400, 0, 0]]]},
        {"edges": [10**400]},
    ):
        with pytest.raises(DataError):
            ensemble_from_plan(hybrid.members_, {**plan, **change})


def test_a_regime_that_is_no_column_is_refused(two_regimes: Any) -> None:
    rows, y, (t0, t_end) = two_regimes
    for regime in (3, -1, "volatility"):
        with pytest.raises(ConfigurationError):
            HybridEnsemble([("a", Told(0))], regime=regime).fit(rows, y, t0=t0, t_end=t_end)
    with pytest.raises(ConfigurationError, match="shrinkage"):
        told(shrinkage=0.0).fit(rows, y, t0=t0, t_end=t_end)
