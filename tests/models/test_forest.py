"""The forest against slow oracles, the book's numbers and scikit-learn, and its score where nothing can be known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import auc
from tapeline.labels.sequential_bootstrap import draw_chances
from tapeline.labels.weights import average_uniqueness, with_weights
from tapeline.models.forest import UniquenessForest, draw_rows, label_lives, overlapping
from tests.support import make_bars

BOOK = (np.array([0, 2, 4]), np.array([2, 3, 5]), 6)
"""The three labels of Lopez de Prado (2018), section 4.5.3."""

SMALL = {"max_depth": 6, "min_samples_leaf": 5, "random_state": 0}


def noise(seed: int, rows: int = 1200, horizon: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The side of a random walk over the next ``horizon`` steps, and slow features that know nothing of it."""
    generator = np.random.default_rng(seed)
    walk = np.cumsum(generator.standard_normal(rows + horizon))
    y = (walk[horizon:] > walk[:-horizon]).astype(int)
    steps = generator.standard_normal((rows, 4))
    slow = pd.DataFrame(steps).ewm(alpha=0.03, adjust=False).mean().to_numpy(dtype=np.float32, copy=True)
    return slow, y, np.arange(rows), np.arange(rows) + horizon


intervals = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=25).map(
    lambda pairs: (np.array([a for a, _ in pairs]), np.array([a + length for a, length in pairs]))
)


@given(intervals)
@settings(max_examples=60, deadline=None)
def test_lives_and_overlaps_are_those_of_a_slow_reading(times) -> None:
    t0, t_end = times
    instants = sorted({*t0.tolist(), *t_end.tolist()})
    lives = [{t for t in instants if a < t <= b} or {b} for a, b in zip(t0, t_end, strict=True)]
    alive = {t: sum(t in life for life in lives) for t in instants}
    slow = [np.mean([1 / alive[t] for t in life]) for life in lives]
    assert_allclose(average_uniqueness(*label_lives(t0, t_end)), slow)
    drawn = np.arange(0, t0.size, 2)
    met = [any(t0[i] <= t_end[j] and t_end[i] >= t0[j] for j in drawn) for i in range(t0.size)]
    assert overlapping(t0, t_end, drawn).tolist() == met


def test_the_uniqueness_is_that_of_the_label_weights() -> None:
    bars = make_bars(60, gaps=False)
    labels = pd.DataFrame({"t_end": bars["close_ts"].shift(-5)}, index=bars.index).dropna()
    weights = with_weights(labels, bars)["weight"]
    first, last, instants = label_lives(bars.loc[labels.index, "close_ts"], labels["t_end"])
    assert_allclose(average_uniqueness(first, last, instants), weights)


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.5])])
def test_after_the_second_label_the_chances_are_those_of_the_book(weight: np.ndarray | None) -> None:
    generator = np.random.default_rng(0)
    pairs = np.array([draw_rows("sequential", BOOK, 2, generator, weight) for _ in range(12_000)])
    after = pairs[pairs[:, 0] == 1, 1]
    chances = np.array([5, 3, 6]) / 14  # section 4.5.3
    assert_allclose(draw_chances(*BOOK, np.array([1])), chances)
    expected = chances if weight is None else chances * weight / (chances @ weight)
    error = np.sqrt(expected * (1 - expected) / after.size)
    assert (np.abs(np.bincount(after, minlength=3) / after.size - expected) < 4 * error).all()


def test_every_draw_has_the_chances_that_the_exact_bootstrap_computes() -> None:
    generator = np.random.default_rng(1)
    first = generator.integers(0, 20, 12)
    lives = (first, first + generator.integers(0, 6, 12), 30)
    surplus, variance = np.zeros(12), np.zeros(12)
    for _ in range(150):
        drawn = draw_rows("sequential", lives, 10, generator)
        for place, label in enumerate(drawn):
            chance = draw_chances(*lives, drawn[:place])
            surplus += (np.arange(12) == label) - chance
            variance += chance * (1 - chance)
    assert (np.abs(surplus) < 4 * np.sqrt(variance)).all()


def test_sequential_draws_are_more_unique_and_weights_are_chances() -> None:
    t0 = np.arange(300)
    lives = label_lives(t0, t0 + 10)
    generator = np.random.default_rng(2)
    shares = {}
    for kind in ("rows", "uniqueness", "sequential"):
        drawn = [draw_rows(kind, lives, 30, generator) for _ in range(40)]
        shares[kind] = np.mean([average_uniqueness(lives[0][d], lives[1][d], lives[2]).mean() for d in drawn])
    assert shares["sequential"] > shares["rows"] + 0.05
    weight = np.r_[np.zeros(100), np.full(100, 1.0), np.full(100, 3.0)]
    for kind in ("rows", "uniqueness"):
        counts = np.bincount(draw_rows(kind, lives, 40_000, generator, weight) // 100, minlength=3) / 40_000
        assert_allclose(counts, [0, 0.25, 0.75], atol=0.01)
    assert draw_rows("sequential", lives, 200, generator, weight).min() >= 100


def test_a_score_of_pure_noise_is_one_half_where_the_usual_one_is_inflated() -> None:
    honest, usual = [], []
    for seed in range(6):
        x, y, t0, t_end = noise(seed)
        forest = UniquenessForest(50, oob_score=True, **SMALL).fit(x, y, t0=t0, t_end=t_end)
        judged = forest.oob_trees_ > 0
        assert judged.mean() > 0.95
        honest.append(auc(y[judged] == 1, forest.oob_decision_function_[judged, 1]))
        plain = RandomForestClassifier(50, oob_score=True, **SMALL).fit(x, y)
        usual.append(auc(y == 1, plain.oob_decision_function_[:, 1]))
    # Over twelve steps labels repeat: a tenth of the rows is independent, hence the error of one score and of the mean.
    independent = 1200 / 12
    error = np.sqrt((independent + 1) / (12 * (independent / 2) ** 2) / len(honest))
    assert abs(np.mean(honest) - 0.5) < 3 * error
    assert np.mean(usual) > 0.6
    assert min(np.array(usual) - np.array(honest)) > 0


def test_the_score_is_that_of_a_slow_reading_and_finds_what_is_there() -> None:
    generator = np.random.default_rng(3)
    t0 = np.arange(200)
    t_end = t0 + generator.integers(0, 8, 200)
    x = generator.standard_normal((200, 3)).astype(np.float32)
    y = (x[:, 0] + 0.3 * generator.standard_normal(200) > 0).astype(int)
    forest = UniquenessForest(12, oob_score=True, **SMALL).fit(x, y, t0=t0, t_end=t_end)
    total, trees = np.zeros((200, 2)), np.zeros(200, dtype=int)
    lives = label_lives(t0, t_end)
    for tree in forest.estimators_:  # a tree's draw follows from its seed
        drawn = draw_rows("uniqueness", lives, forest.draws_, np.random.default_rng(tree.random_state))
        for row in range(200):
            if not any(t0[row] <= t_end[j] and t_end[row] >= t0[j] for j in drawn):
                total[row] += tree.predict_proba(x[row : row + 1])[0]
                trees[row] += 1
    assert_array_equal(forest.oob_trees_, trees)
    judged = trees > 0
    said = total[judged] / trees[judged, None]
    assert_allclose(forest.oob_decision_function_[judged], said)
    assert np.isnan(forest.oob_decision_function_[~judged]).all()
    assert forest.oob_score_ == pytest.approx(np.mean(said.argmax(axis=1) == y[judged]))
    assert forest.oob_log_loss_ == pytest.approx(-np.mean(np.log(np.clip(said[range(len(said)), y[judged]], 1e-15, 1))))
    assert forest.oob_score_ > 0.75


def test_as_many_draws_as_rows_leave_no_tree_that_knows_nothing_of_a_row() -> None:
    x, y, t0, t_end = noise(0, rows=300, horizon=20)
    forest = UniquenessForest(5, draw="rows", oob_score=True, **SMALL).fit(x, y, t0=t0, t_end=t_end)
    assert forest.draws_ == 300
    assert not forest.oob_trees_.any()
    assert np.isnan([forest.oob_score_, forest.oob_log_loss_]).all()
    assert UniquenessForest(5, **SMALL).fit(x, y, t0=t0, t_end=t_end).draws_ == round(
        300 * average_uniqueness(*label_lives(t0, t_end)).mean()
    )


def test_a_tree_is_that_of_scikit_learn_on_the_rows_drawn() -> None:
    x, y, t0, t_end = noise(4, rows=400)
    options = {"max_depth": 4, "max_features": None, "min_samples_leaf": 1}
    forest = UniquenessForest(3, random_state=5, **options).fit(x, y, t0=t0, t_end=t_end)
    for tree in forest.estimators_:
        seed = tree.random_state
        drawn = draw_rows("uniqueness", label_lives(t0, t_end), forest.draws_, np.random.default_rng(seed))
        peer = DecisionTreeClassifier(random_state=seed, **options).fit(x[drawn], y[drawn])
        assert_allclose(tree.predict_proba(x), peer.predict_proba(x))
    usual = RandomForestClassifier.predict_proba(forest, x)  # its sum, on one thread
    assert_array_equal(forest.predict_proba(x), usual)


@pytest.mark.parametrize("draw", ["uniqueness", "sequential", "rows"])
def test_the_same_seed_gives_the_same_forest_on_any_number_of_threads(draw: str) -> None:
    x, y, t0, t_end = noise(6, rows=300)
    x[::9, 1] = np.nan
    labels = np.array(["fall", "rise"])[y]
    weight = np.random.default_rng(0).uniform(0.1, 1.0, len(y))
    said = []
    for threads, seed in ((1, 7), (2, 7), (1, 8)):
        forest = clone(UniquenessForest(12, draw=draw, max_depth=4, n_jobs=threads, random_state=seed))
        said.append(forest.fit(x, labels, weight, t0=t0, t_end=t_end).predict_proba(x))
        assert forest.classes_.tolist() == ["fall", "rise"]
        assert set(forest.predict(x)) <= {"fall", "rise"}
    assert_array_equal(said[0], said[1])
    assert (said[0] != said[2]).any()
    assert forest.feature_importances_.sum() == pytest.approx(1.0)


def test_without_intervals_rows_count_as_alone_but_are_not_scored() -> None:
    x, y, _, _ = noise(8, rows=200)
    forest = UniquenessForest(3, random_state=0).fit(x, y)
    assert (forest.average_uniqueness_, forest.draws_) == (1.0, 200)
    with pytest.raises(ConfigurationError, match="needs the label intervals"):
        UniquenessForest(3, oob_score=True).fit(x, y)
    with pytest.raises(AttributeError, match="not kept"):
        _ = forest.estimators_samples_


def test_what_does_not_belong_together_is_refused() -> None:
    x, y, t0, t_end = noise(9, rows=50)
    with pytest.raises(ConfigurationError, match="no draw is called 'block'"):
        UniquenessForest(draw="block").fit(x, y, t0=t0, t_end=t_end)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_samples = 2"):
        UniquenessForest(max_samples=2).fit(x, y)
    with pytest.raises(ConfigurationError, match="n_estimators = 0"):
        UniquenessForest(0).fit(x, y)
    with pytest.raises(DataError, match="end before their decision"):
        UniquenessForest().fit(x, y, t0=t_end, t_end=t0)
    with pytest.raises(DataError, match="do not match"):
        UniquenessForest().fit(x, y, t0=t0[1:], t_end=t_end[1:])
    with pytest.raises(DataError, match="weights of 50 rows"):
        UniquenessForest().fit(x, y, -np.ones(50), t0=t0, t_end=t_end)
