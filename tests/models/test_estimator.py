"""The estimators' contract: weights count, folds are clean, clones are equal, the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.estimator import ColumnFilter, build_estimator, probability_up
from tapeline.models.zoo import families

KINDS = tuple(one.name for one in families())


def planted(rows: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, 4)).astype(np.float32)
    return x, (x[:, 0] + generator.standard_normal(rows) > 0).astype(np.int8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_weights_and_missing_values_and_can_be_cloned(kind: str) -> None:
    x, y = planted()
    x[::7, 1] = np.nan
    estimator = build_estimator(kind, seed=3)
    weight = np.where(y == 1, 3.0, 1.0)
    plain = probability_up(clone(estimator).fit(x, y), x)
    weighted = probability_up(clone(estimator).fit(x, y, sample_weight=weight), x)
    assert ((plain >= 0) & (plain <= 1)).all()
    if kind != "persistence":  # it asks how often a side went on, which the weight of a class hardly moves
        assert weighted.mean() > plain.mean() + 0.1  # a class that weighs three times as much is likelier
    again = probability_up(clone(estimator).fit(x, y, weight), x)
    np.testing.assert_array_equal(again, weighted)


def test_the_majority_says_the_weighted_base_rate() -> None:
    x, y = planted()
    weight = np.arange(len(y), dtype=float)
    said = probability_up(build_estimator("majority").fit(x, y, weight), x)
    np.testing.assert_allclose(said, np.average(y, weights=weight))


@pytest.mark.parametrize("kind", ["lightgbm", "logistic"])
def test_a_planted_signal_is_found(kind: str) -> None:
    from sklearn.metrics import roc_auc_score

    x, y = planted(1500)
    fitted = build_estimator(kind).fit(x[:1000], y[:1000])
    assert roc_auc_score(y[1000:], probability_up(fitted, x[1000:])) > 0.7


def test_the_same_seed_gives_the_same_trees_and_another_seed_others() -> None:
    x, y = planted()
    texts = [build_estimator("lightgbm", seed=s).fit(x, y)[-1].booster_.model_to_string() for s in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_columns_that_do_not_vary_in_the_training_rows_are_not_used() -> None:
    x, y = planted()
    constant = np.full((len(x), 1), 5.0, dtype=np.float32)
    empty = np.full((len(x), 1), np.nan, dtype=np.float32)
    almost = empty.copy()
    almost[3] = 1.0  # one value only: nothing to split on
    wide = np.hstack([constant, x, empty, almost])
    fitted = build_estimator("lightgbm").fit(wide, y)
    assert fitted[0].kept_.tolist() == [1, 2, 3, 4]
    other = wide.copy()
    other[:, 0] = 1e9  # it varied later: a model that had taken it in would move
    np.testing.assert_array_equal(probability_up(fitted, other), probability_up(fitted, wide))
    assert fitted[0].get_feature_names_out(list("abcdefg")).tolist() == list("bcde")


def test_nothing_that_varies_is_an_error() -> None:
    with pytest.raises(DataError, match="none of 2 features varies"):
        ColumnFilter().fit(np.ones((5, 2)))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'forest'"):
        build_estimator("forest")


def test_one_class_in_training_gives_no_chance_to_the_other() -> None:
    x, _ = planted(50)
    assert probability_up(build_estimator("majority").fit(x, np.zeros(50, dtype=int)), x).tolist() == [0.0] * 50
