"""Early stopping against a staged loss by hand, directions that follow their columns, classes of equal mass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import log_loss
from tapeline.models.boosting import EarlyStopping
from tapeline.models.calibration import fit_calibration
from tapeline.models.dataset import Dataset
from tapeline.models.estimator import build_estimator, probability_up
from tapeline.models.monotone import positioned
from tapeline.models.selection import CorrelationFilter
from tapeline.models.training_rows import balancing_factors, training_rows
from tapeline.models.validation import PurgedKFold
from tests.models.synthetic import make_dataset

BOOSTED = ("lightgbm", "xgboost")
QUICK = EarlyStopping(share=0.3, patience=8, maximum=60)
FAST = {"learning_rate": 0.15}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    made = make_dataset(900, signal=0.6, horizon=7, columns=5)
    weight = np.random.default_rng(5).uniform(0.2, 1.0, len(made))
    object.__setattr__(made, "weight", weight)
    return made


class Seen(TransformerMixin, BaseEstimator):
    """Lets everything through and remembers which rows it was fitted on."""

    fits: list[np.ndarray] = []  # noqa: RUF012 - shared by clones on purpose

    def fit(self, X: Any, y: Any = None) -> Seen:  # noqa: N803
        self.fits.append(np.asarray(X)[:, 0].copy())
        self.n_features_in_ = np.shape(X)[1]
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return X

    def get_feature_names_out(self, names: Any = None) -> Any:
        return names


@pytest.mark.parametrize("kind", BOOSTED)
def test_the_rounds_are_those_of_a_staged_loss_by_hand(kind: str, dataset: Dataset) -> None:
    pipeline = build_estimator(kind, seed=1, parameters=FAST, early_stopping=QUICK)
    pipeline.fit(dataset.X, dataset.y, dataset.weight, t0=dataset.t0, t_end=dataset.t_end)
    border = dataset.t0[int(len(dataset) * 0.7)]
    early, late = np.flatnonzero(dataset.t_end < border), np.flatnonzero(dataset.t0 >= border)
    stopped = pipeline.stopped_
    assert (stopped.training_rows, stopped.validation_rows) == (len(early), len(late))
    assert stopped.purged_rows == len(dataset) - len(early) - len(late) > 0
    longest = build_estimator(kind, seed=1, parameters={**FAST, "n_estimators": len(stopped.losses)})
    longest.fit(dataset.X[early], dataset.y[early], dataset.weight[early])
    losses = []
    for rounds in range(1, len(stopped.losses) + 1):
        upto = {"num_iteration": rounds} if kind == "lightgbm" else {"iteration_range": (0, rounds)}
        said = longest[-1].predict_proba(dataset.X[late], **upto)[:, 1]
        losses.append(log_loss(dataset.y[late], said, dataset.weight[late]))
    assert_allclose(stopped.losses, losses, rtol=1e-5)
    assert stopped.rounds == int(np.argmin(losses)) + 1 > 1
    assert len(stopped.losses) == min(stopped.rounds + QUICK.patience, QUICK.maximum)


@pytest.mark.parametrize("kind", BOOSTED)
def test_the_model_is_that_of_all_rows_with_the_rounds_found(kind: str, dataset: Dataset) -> None:
    pipeline = build_estimator(kind, seed=1, parameters=FAST, early_stopping=QUICK)
    before = pipeline.get_params()
    before = {name: value for name, value in before.items() if name.startswith("model__")}
    pipeline.fit(dataset.X, dataset.y, dataset.weight, t0=dataset.t0, t_end=dataset.t_end)
    rounds = pipeline.stopped_.rounds
    plain = build_estimator(kind, seed=1, parameters={**FAST, "n_estimators": rounds})
    plain.fit(dataset.X, dataset.y, dataset.weight)
    assert_array_equal(pipeline.predict_proba(dataset.X), plain.predict_proba(dataset.X))
    after = pipeline.get_params()
    assert all(after[name] is value or after[name] == value for name, value in before.items() if value == value)
    assert not hasattr(clone(pipeline), "stopped_")


def test_no_step_sees_a_validation_row_or_a_label_that_reaches_into_it(dataset: Dataset) -> None:
    hours = np.arange(len(dataset), dtype=np.float32)[:, None]
    rows = np.hstack([hours, dataset.X])
    Seen.fits.clear()
    pipeline = build_estimator("lightgbm", selector=Seen(), parameters=FAST, early_stopping=QUICK)
    pipeline.fit(rows, dataset.y, t0=dataset.t0, t_end=dataset.t_end)
    probe, whole = Seen.fits
    border = dataset.t0[int(len(dataset) * 0.7)]
    assert_array_equal(probe, np.flatnonzero(dataset.t_end < border))
    assert_array_equal(whole, np.arange(len(dataset)))


@pytest.mark.parametrize("kind", BOOSTED)
def test_pure_noise_is_not_learnt_for_as_long_as_a_signal(kind: str, dataset: Dataset) -> None:
    made = make_dataset(900, signal=0.0, horizon=7, columns=5)
    pipeline = build_estimator(kind, parameters=FAST, early_stopping=QUICK)
    noise = pipeline.fit(made.X, made.y, t0=made.t0, t_end=made.t_end).stopped_
    signal = pipeline.fit(dataset.X, dataset.y, t0=dataset.t0, t_end=dataset.t_end).stopped_
    assert noise.rounds < signal.rounds
    assert min(noise.losses) > 0.98 * np.log(2)
    assert min(signal.losses) < 0.95 * np.log(2)


@pytest.mark.parametrize("kind", BOOSTED)
def test_cross_validation_cuts_the_intervals_with_the_rows(kind: str, dataset: Dataset) -> None:
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=3)
    scores = cross_val_score(
        build_estimator(kind, parameters=FAST, early_stopping=QUICK),
        dataset.X,
        dataset.y,
        cv=splitter,
        scoring="roc_auc",
        params={"t0": dataset.t0, "t_end": dataset.t_end, "sample_weight": dataset.weight},
    )
    assert scores.min() > 0.65


def test_early_stopping_refuses_what_it_cannot_do(dataset: Dataset) -> None:
    with pytest.raises(ConfigurationError, match="these can: lightgbm, xgboost"):
        build_estimator("random_forest", early_stopping=QUICK)
    with pytest.raises(ConfigurationError, match="needs the label intervals"):
        build_estimator(early_stopping=QUICK).fit(dataset.X, dataset.y)
    late = (np.arange(len(dataset)) > 700).astype(int)
    with pytest.raises(DataError, match="lack a class"):
        build_estimator(early_stopping=QUICK).fit(dataset.X, late, t0=dataset.t0, t_end=dataset.t_end)
    for wrong in ({"share": 0.0}, {"patience": 0}, {"maximum": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            EarlyStopping(**wrong)  # type: ignore[arg-type]


def arched(rows: int = 700) -> tuple[pd.DataFrame, np.ndarray]:
    """A class that is likeliest in the middle of ``arch``, beside a constant, a twin of noise and noise."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, (rows, 2)).astype(np.float32)
    frame = pd.DataFrame(
        {
            "still": np.float32(1.0),
            "noise": x[:, 0],
            "twin": x[:, 0] * 2 + generator.normal(0, 1e-3, rows).astype(np.float32),
            "arch": x[:, 1],
        }
    )
    return frame, (generator.uniform(size=rows) < np.exp(-(x[:, 1] ** 2))).astype(int)


def path_of(model: Any, frame: pd.DataFrame) -> np.ndarray:
    """The probability of 30 rows along ``arch``, a row a path."""
    rows = frame.to_numpy(dtype=np.float32)[:30].repeat(40, axis=0)
    rows[:, 3] = np.tile(np.linspace(-2, 2, 40), 30)
    return probability_up(model, rows).reshape(30, 40)


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost", "random_forest", "extra_trees"])
def test_a_direction_follows_its_column_through_filter_selector_and_scaler(kind: str) -> None:
    frame, y = arched()
    rows = frame.to_numpy(dtype=np.float32)
    small = {"n_estimators": 30}
    free = build_estimator(kind, parameters=small).fit(rows, y)
    steps = np.diff(path_of(free, frame), axis=1)
    assert steps.max() > 0.01
    assert steps.min() < -0.01
    for direction in (1, -1):
        options: dict[str, Any] = {"parameters": small, "scaling": "standard", "selector": CorrelationFilter()}
        by_position = build_estimator(kind, monotone={3: direction}, **options).fit(rows, y)
        assert by_position[:-1].get_feature_names_out(list(frame.columns)).tolist() != list(frame.columns)
        path = path_of(by_position, frame)
        assert (np.diff(path, axis=1) * direction).min() >= 0
        assert np.ptp(path) > 0.05
        named = build_estimator(kind, monotone={"arch": direction}, **options).fit(frame, y)
        listed = build_estimator(kind, monotone={"arch": direction}, column_names=list(frame.columns), **options)
        listed.fit(rows, y)
        assert_array_equal(path_of(named, frame), path)
        assert_array_equal(path_of(listed, frame), path)
    # What a fit set is not left behind: without directions the same object is free again.
    again = listed.set_params(monotone=None, select=None).fit(rows, y)
    assert (np.diff(path_of(again, frame), axis=1)).max() > 0.01


def test_directions_hold_while_rounds_are_sought() -> None:
    frame, y = arched()
    hours = np.arange(len(y))
    for kind in BOOSTED:
        model = build_estimator(kind, monotone={3: 1}, early_stopping=QUICK, parameters=FAST)
        model.fit(frame.to_numpy(dtype=np.float32), y, t0=hours, t_end=hours + 2)
        assert np.diff(path_of(model, frame), axis=1).min() >= 0


def test_directions_that_cannot_be_kept_are_refused() -> None:
    frame, y = arched(100)
    rows = frame.to_numpy(dtype=np.float32)
    with pytest.raises(ConfigurationError, match="'logistic' cannot keep directions"):
        build_estimator("logistic", monotone={0: 1})
    for monotone, message in (
        ({"arhc": 1}, "did you mean arch"),
        ({9: 1}, "none at position 9"),
        ({"arch": 2}, "direction 2"),
        ({"arch": 1, 3: 1}, "two directions"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            build_estimator(monotone=monotone).fit(frame, y)
    with pytest.raises(ConfigurationError, match="the rows have no names"):
        build_estimator(monotone={"arch": 1}).fit(rows, y)
    with pytest.raises(ConfigurationError, match="columns of its own"):
        build_estimator(monotone={3: 1}, selector=PCA(2)).fit(rows, y)
    with pytest.raises(DataError, match="among two"):
        build_estimator(monotone={3: 1}).fit(rows, np.arange(100) % 3)
    assert positioned({"a": -1}, 2, ["b", "a"]) == [0, -1]


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.01, 100)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_balanced_classes_have_one_mass_and_the_sum_stays(pairs) -> None:
    y = np.array([label for label, _ in pairs])
    weight = np.array([mass for _, mass in pairs])
    rows = training_rows(y[:, None], y, weight, None, None, {}).balanced(balancing_factors(y, weight))
    masses = [rows.weight[y == label].sum() for label in np.unique(y)]
    assert_allclose(masses, weight.sum() / len(masses))


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost", "logistic", "majority"])
def test_a_rare_class_is_weighed_up_and_calibration_brings_its_rate_back(kind: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3000, 3)).astype(np.float32)
    y = (x[:, 0] + 0.7 * generator.standard_normal(3000) > 1.6).astype(int)
    assert 0.08 < y.mean() < 0.12
    parameters = {} if kind in ("logistic", "majority") else {"n_estimators": 40, "learning_rate": 0.1}
    plain = build_estimator(kind, parameters=parameters).fit(x[:1500], y[:1500])
    assert probability_up(plain, x[1500:]).mean() < 0.15
    balanced = build_estimator(kind, parameters=parameters, balance=True).fit(x[:1500], y[:1500])
    said = probability_up(balanced, x[1500:])
    if kind == "majority":
        assert_allclose(said, 0.5)
        return
    assert probability_up(balanced, x[1500:][y[1500:] == 1]).mean() > 0.6
    by_hand = np.where(y[:1500] == 1, 0.5 / y[:1500].mean(), 0.5 / (1 - y[:1500].mean()))
    weighed = build_estimator(kind, parameters=parameters).fit(x[:1500], y[:1500], by_hand)
    assert_allclose(said, probability_up(weighed, x[1500:]), atol=2e-3)
    calibrated = fit_calibration(said[:750], y[1500:2250]).apply(said[750:])
    assert abs(calibrated.mean() - y[2250:].mean()) < 0.03


@pytest.mark.parametrize(
    ("kind", "alike"),
    # Both count weights for where they start, XGBoost also for where its bins lie.
    [("lightgbm", {"boost_from_average": False}), ("xgboost", {"base_score": 0.5, "max_bin": 4096})],
)
def test_balancing_is_what_the_libraries_do_by_a_parameter_of_theirs(kind: str, alike: dict[str, Any]) -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((800, 3)).astype(np.float32)
    y = (x[:, 0] + 0.7 * generator.standard_normal(800) > 1.4).astype(int)
    factors = balancing_factors(y)
    ours = build_estimator(kind, balance=True, parameters=FAST | alike).fit(x, y)
    theirs = build_estimator(kind, parameters={**FAST, **alike, "scale_pos_weight": factors[1] / factors[0]})
    theirs.fit(x, y, np.full(len(y), factors[0]))
    assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("kind", BOOSTED)
def test_later_rows_of_a_rare_class_judge_with_the_weight_it_has_in_training(kind: str, dataset: Dataset) -> None:
    part = dataset.take(np.flatnonzero((dataset.y == 0) | (np.arange(len(dataset)) % 5 == 0)))
    pipeline = build_estimator(kind, parameters=FAST, early_stopping=QUICK, balance=True)
    pipeline.fit(part.X, part.y, t0=part.t0, t_end=part.t_end)
    stopped = pipeline.stopped_
    early = np.flatnonzero(part.t_end < part.t0[len(part) - stopped.validation_rows])
    late = np.arange(len(part) - stopped.validation_rows, len(part))
    factors = balancing_factors(part.y[early])
    assert factors[1] > 3 * factors[0]
    first = build_estimator(kind, parameters={**FAST, "n_estimators": 5}, balance=True).fit(
        part.X[early], part.y[early]
    )
    weight = np.where(part.y[late] == 1, factors[1], factors[0])
    said = probability_up(first, part.X[late])
    assert stopped.losses[4] == pytest.approx(log_loss(part.y[late], said, weight), rel=1e-5)
    assert stopped.losses[4] != pytest.approx(log_loss(part.y[late], said), rel=1e-3)
