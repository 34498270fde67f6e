"""What every family of the zoo promises: one contract of weights, clones, folds and seeds, and sane probabilities."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score

from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.features import engine
from tapeline.features.feature_set import parse_feature_set
from tapeline.labels.label_set import compute, load_label_set
from tapeline.models.baselines import LinearProbability, Persistence, RidgeProbability
from tapeline.models.calibration import fit_calibration
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.estimator import build_estimator, probability_up
from tapeline.models.training_rows import training_rows
from tapeline.models.validation import PurgedKFold
from tapeline.models.zoo import families, family
from tests.models.synthetic import bayes_auc, make_dataset

NAMES = tuple(one.name for one in families())
LEARNING = tuple(name for name in NAMES if name not in ("majority", "persistence"))
SMALL: dict[str, dict[str, Any]] = {
    "lightgbm": {"n_estimators": 20, "learning_rate": 0.1},
    "xgboost": {"n_estimators": 20, "learning_rate": 0.1},
    "random_forest": {"n_estimators": 20},
    "extra_trees": {"n_estimators": 20},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(900, signal=0.6, horizon=4, columns=4)


def build(name: str, **options: Any) -> Any:
    return build_estimator(name, seed=3, parameters=SMALL.get(name), **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_weight_is_as_if_absent(name: str, dataset: Dataset) -> None:
    weight = np.where(np.arange(len(dataset)) % 3 == 0, 0.0, np.linspace(0.2, 1.0, len(dataset)))
    wild = dataset.X.copy()
    wild[weight == 0] = 1e6  # it would move medians, bins and scales
    part = np.flatnonzero(weight)
    given = {"t0": dataset.t0, "t_end": dataset.t_end}
    with_all = build(name).fit(wild, dataset.y, weight, **given)
    cut = {key: value[part] for key, value in given.items()}
    without = build(name).fit(dataset.X[part], dataset.y[part], weight[part], **cut)
    assert_array_equal(with_all.predict_proba(dataset.X), without.predict_proba(dataset.X))


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_the_probability_are_in_the_order_of_the_classes(name: str, dataset: Dataset) -> None:
    numbers = build(name).fit(dataset.X, dataset.y, dataset.weight)
    for labels in (np.array([-1, 1]), np.array(["fall", "rise"])):
        model = build(name).fit(dataset.X, labels[dataset.y], dataset.weight)
        assert model.classes_.tolist() == labels.tolist()
        said = model.predict_proba(dataset.X)
        assert_allclose(said.sum(axis=1), 1.0, atol=1e-6)
        assert_array_equal(said, numbers.predict_proba(dataset.X))
        assert_array_equal(model.predict(dataset.X), labels[said.argmax(axis=1)])
    rising = said[dataset.y == 1, 1].mean() - said[dataset.y == 0, 1].mean()
    assert rising > 0.01 or name == "majority"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_and_clones_are_equal(name: str, dataset: Dataset) -> None:
    pipeline = build(name)
    first = pipeline.fit(dataset.X, dataset.y, dataset.weight).predict_proba(dataset.X)
    again = clone(pipeline).fit(dataset.X, dataset.y, dataset.weight).predict_proba(dataset.X)
    assert_array_equal(first, again)
    if name in SMALL:
        other = build_estimator(name, seed=4, parameters=SMALL[name]).fit(dataset.X, dataset.y, dataset.weight)
        assert (other.predict_proba(dataset.X) != first).any()


@pytest.mark.parametrize("name", NAMES)
def test_in_purged_folds_a_signal_is_found_and_a_doubled_weight_changes_nothing(name: str, dataset: Dataset) -> None:
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=3)
    score = make_scorer(lambda y, p: auc(y == 1, p), response_method="predict_proba")
    intervals = {"t0": dataset.t0.asi8, "t_end": dataset.t_end.asi8}
    scores = cross_val_score(build(name), dataset.X, dataset.y, cv=splitter, scoring=score, params=intervals)
    if name == "majority":
        assert_allclose(scores, 0.5)
    elif name == "persistence":
        assert scores.mean() > 0.6  # the sign alone of the first column, which is the one that tells
    else:
        assert scores.mean() > bayes_auc(0.6, 20_000) - 0.05
    if name not in ("random_forest", "xgboost", "lightgbm"):  # those have penalties or chances that weigh rows
        single, double = (build(name).fit(dataset.X, dataset.y, dataset.weight * by) for by in (1.0, 2.0))
        if name == "logistic":
            double.set_params(model__C=0.05).fit(dataset.X, dataset.y, dataset.weight * 2.0)
        assert_allclose(single.predict_proba(dataset.X), double.predict_proba(dataset.X), atol=1e-3)


class Corner:
    """Stands for a trial: draws the lowest, the highest or the given value of each parameter, and checks the bounds."""

    def __init__(self, which: str, wanted: dict[str, Any]) -> None:
        self.which = which
        self.wanted = wanted

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if self.which == "given":
            assert low <= self.wanted[name] <= high
            assert (self.wanted[name] - low) % step == 0
            return self.wanted[name]
        return low if self.which == "low" else high

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if self.which == "given":
            assert low <= self.wanted[name] <= high
            return self.wanted[name]
        return low if self.which == "low" else high

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if self.which == "given":
            assert self.wanted[name] in choices
            return self.wanted[name]
        return choices[0 if self.which == "low" else -1]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_lie_in_the_space_and_its_corners_and_the_grid_can_be_fitted(name: str, dataset: Dataset) -> None:
    one = family(name)
    searched = one.space(Corner("given", dict(one.defaults)))
    assert searched == {key: value for key, value in one.defaults.items() if key in searched}
    assert set(one.grid) <= set(searched)
    part = dataset.take(np.arange(300))
    for which in ("low", "high"):
        drawn = one.space(Corner(which, {}))
        drawn |= {"n_estimators": 5} if "n_estimators" in drawn else {}
        assert build_estimator(name, parameters=drawn).fit(part.X, part.y).predict_proba(part.X).shape == (300, 2)
    combinations = list(itertools.product(*one.grid.values()))
    assert 1 <= len(combinations) <= 8
    for values in (combinations[0], combinations[-1]):
        build_estimator(name, parameters=dict(zip(one.grid, values, strict=True))).named_steps["model"]


def test_the_grid_serves_the_grid_search_of_scikit_learn(dataset: Dataset) -> None:
    one = family("logistic")
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=3)
    grid = {f"model__{key}": list(values) for key, values in one.grid.items()}
    search = GridSearchCV(build("logistic"), grid, cv=splitter, scoring="neg_log_loss").fit(dataset.X, dataset.y)
    assert search.best_params_["model__C"] in one.grid["C"]


def test_an_unknown_family_gets_the_near_names_and_wrong_parameters_are_named() -> None:
    with pytest.raises(ConfigurationError, match="did you mean lightgbm"):
        build_estimator("light-gbm")
    with pytest.raises(ConfigurationError, match="did you mean random_forest"):
        build_estimator("Random Forest")
    with pytest.raises(ConfigurationError, match="majority"):
        build_estimator("quantum")
    with pytest.raises(ConfigurationError, match="logistic does not take"):
        build_estimator("logistic", parameters={"depth": 3})
    for name in ("lightgbm", "xgboost", "random_forest", "extra_trees"):
        with pytest.raises(ConfigurationError, match="random_state"):
            build_estimator(name, parameters={"random_state": 1})
    with pytest.raises(ConfigurationError, match="give seed and threads by their own names"):
        build_estimator("lightgbm", parameters={"num_threads": 4})


def test_without_xgboost_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tapeline.models.xgboost_classifier", raising=False)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tapeline\[xgboost\]'"):
        build_estimator("xgboost")


def test_rows_and_weights_that_do_not_belong_together_are_refused(dataset: Dataset) -> None:
    x, y = dataset.X, dataset.y
    for weight, message in (
        (np.zeros(len(y)), "nothing to learn from"),
        (-np.ones(len(y)), "negative"),
        (np.ones(3), "do not belong together"),
    ):
        with pytest.raises(DataError, match=message):
            build("logistic").fit(x, y, weight)
    with pytest.raises(DataError, match="without the other"):
        build("logistic").fit(x, y, t0=dataset.t0)
    with pytest.raises(DataError, match="labels of the shape"):
        build("logistic").fit(x, y[:-1])
    for name in ("persistence", "linear", "ridge"):
        with pytest.raises(DataError, match="knows two classes"):
            build(name).fit(x, np.arange(len(y)) % 3)
    with pytest.raises(DataError, match="same label"):
        build("xgboost").fit(x, np.ones(len(y)))


def test_what_one_step_is_given_loses_the_rows_without_weight_too() -> None:
    given = {"select__t0": np.arange(4), "select__names": ("a", "b")}
    rows = training_rows(pd.DataFrame({"a": range(4)}), [0, 1, 0, 1], [1.0, 0.0, 2.0, 1.0], None, None, given)
    assert rows.X["a"].tolist() == rows.parameters["select__t0"].tolist() == [0, 2, 3]
    assert rows.y.tolist() == [0, 0, 1]
    assert rows.parameters["select__names"] == ("a", "b")


def test_the_linear_model_is_least_squares() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((300, 3))
    y = (x[:, 0] + generator.standard_normal(300) > 0).astype(int)
    weight = generator.uniform(0.1, 2.0, 300)
    model = LinearProbability().fit(x, y, weight)
    peer = LinearRegression().fit(x, y, weight)
    assert_allclose(model.coef_, peer.coef_)
    assert_allclose(probability_up(model, x), np.clip(peer.predict(x), 0.01, 0.99))
    twins = LinearProbability().fit(np.hstack([x, x]), y, weight)  # no unique solution, but one forecast
    assert_allclose(probability_up(twins, np.hstack([x, x])), probability_up(model, x))


def test_the_ridge_is_that_of_scikit_learn_and_its_probabilities_come_true() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4000, 30))
    y = (x[:, 0] + generator.standard_normal(4000) > 0).astype(int)
    weight = generator.uniform(0.1, 2.0, 500)
    model = RidgeProbability(penalty=0.3).fit(x[:500], y[:500], weight)
    peer = RidgeClassifier(alpha=0.3 * weight.sum()).fit(x[:500], y[:500], weight)
    assert_allclose(model.decision_function(x), peer.decision_function(x))
    said = probability_up(model, x[500:])
    truth = bayes_probability(x[500:, 0])
    assert abs(said - truth).mean() < 0.1
    again = RidgeProbability(penalty=0.3).fit(x[:500], y[:500], 7 * weight)
    assert_allclose(again.coef_, model.coef_)


def bayes_probability(signal: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(signal)


def test_the_sigmoid_of_the_ridge_is_purged_where_intervals_are_known() -> None:
    dataset = make_dataset(300, signal=0.6, horizon=25, columns=3)
    free = RidgeProbability().fit(dataset.X, dataset.y)
    purged = RidgeProbability().fit(dataset.X, dataset.y, t0=dataset.t0, t_end=dataset.t_end)
    assert_array_equal(free.coef_, purged.coef_)
    assert free.calibration_ != purged.calibration_
    values = np.empty(300)
    for train, test in PurgedKFold(dataset.t0, dataset.t_end, folds=5, embargo=0).split(dataset.X):
        block = RidgeClassifier(alpha=0.1 * len(train)).fit(dataset.X[train], dataset.y[train])
        values[test] = block.decision_function(dataset.X[test])
    by_hand = fit_calibration(1 / (1 + np.exp(-2 * values)), dataset.y, kind="platt")
    assert (purged.calibration_.a, purged.calibration_.b) == pytest.approx((by_hand.a, by_hand.b), rel=1e-4)


def test_persistence_says_how_often_the_side_went_on() -> None:
    last = np.array([1.0, 2.0, -1.0, -3.0, 0.5, np.nan, 0.0, -0.1], dtype=np.float32)
    y = np.array([1, 1, 0, 1, 0, 1, 1, 0])
    weight = np.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    rows = np.column_stack([np.zeros(8, dtype=np.float32), last])
    model = Persistence(1).fit(rows, y, weight)
    mean = weight.mean()
    holds = (4.5 / mean + 1) / (6.5 / mean + 2)  # of 6.5 with a side 4.5 went on
    base = 5.5 / 8
    assert_allclose(probability_up(model, rows), np.where(last > 0, holds, np.where(last < 0, 1 - holds, base)))
    frame = pd.DataFrame(rows, columns=["other", "log_return_1"])
    named = build_estimator("persistence", parameters={"column": "log_return_1"}).fit(frame, y, weight)
    assert_array_equal(probability_up(named, frame), probability_up(model, rows))
    for column, message in (("nothing", "no column called"), (5, "none at position 5")):
        with pytest.raises(ConfigurationError, match=message):
            Persistence(column).fit(rows, y)


@pytest.fixture(scope="module")
def market() -> Dataset:
    """The last 2,000 hours of packaged EURUSD with five returns and the labels in force."""
    from tapeline.sources.base import BarRequest, Data
    from tapeline.sources.sample import SampleSource

    outcome = SampleSource().fetch(BarRequest(Symbol.parse("EURUSD"), Timeframe.parse("H1")))
    if not isinstance(outcome, Data):
        pytest.skip(f"the sample package cannot be read: {outcome}")
    bars = outcome.bars if outcome.bars.index.name == "ts" else outcome.bars.set_index("ts")
    bars = bars.iloc[-2000:]
    wanted = {"name": "few", "feature": [{"component": "log_return", "window": w} for w in (1, 3, 12, 24, 72)]}
    features = engine.compute(parse_feature_set(wanted), bars, Timeframe.parse("H1"))
    return assemble({"EURUSD": (features, compute(load_label_set(), bars, Timeframe.parse("H1")))})


@pytest.mark.parametrize("name", NAMES)
def test_on_real_bars_no_family_claims_what_it_does_not_know(name: str, market: Dataset) -> None:
    said = np.full(len(market), np.nan)
    for train, test in PurgedKFold(market.t0, market.t_end, folds=4).split(market.X):
        given = {"t0": market.t0[train], "t_end": market.t_end[train]}
        fitted = build(name).fit(market.X[train], market.y[train], market.weight[train], **given)
        said[test] = probability_up(fitted, market.X[test])
    assert ((said > 0) & (said < 1)).all()
    assert 0.35 < auc(market.y, said) < 0.65  # five returns of EURUSD tell little; far from one half would be a leak
    assert log_loss(market.y, said, market.weight) < 0.80


def test_on_real_bars_the_usual_out_of_bag_score_is_in_sample_and_the_honest_one_is_not(market: Dataset) -> None:
    options = {"max_depth": 8, "min_samples_leaf": 5, "random_state": 0}
    usual = RandomForestClassifier(50, oob_score=True, **options).fit(np.nan_to_num(market.X), market.y)
    flattering = auc(market.y, usual.oob_decision_function_[:, 1])
    model = build_estimator("random_forest", parameters={"n_estimators": 50, "oob_score": True})
    forest = model.fit(market.X, market.y, market.weight, t0=market.t0, t_end=market.t_end)[-1]
    judged = forest.oob_trees_ > 0
    assert judged.mean() > 0.9
    honest = auc(market.y[judged], forest.oob_decision_function_[judged, 1])
    assert flattering > honest + 0.08
    assert abs(honest - 0.5) < 0.08
