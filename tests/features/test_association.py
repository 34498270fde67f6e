"""Association of columns: pandas, scipy and scikit-learn as oracles, and a pruning that keeps the better of a pair."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import mutual_info_score

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.association import (
    association_matrix,
    clusters_of,
    equal_mass_codes,
    mutual_information,
    prune,
    shifted_maxima,
    target_information,
)
from tapeline.features.engine import compute
from tapeline.features.feature_set import load_feature_set
from tests.core.samples import eurusd


@pytest.fixture
def table() -> np.ndarray:
    generator = np.random.default_rng(2)
    x = generator.standard_normal((800, 6))
    x[:, 1] = x[:, 0] * 2e6 + generator.standard_normal(800) * 1e6
    x[:, 2] = np.exp(x[:, 0])
    x[:, 3] = 7.0
    x[:, 4] = np.abs(x[:, 0])
    return x


def test_correlations_equal_those_of_pandas_and_scipy(table) -> None:
    for method in ("pearson", "spearman"):
        told = pd.DataFrame(table).corr(method=method).fillna(0.0).to_numpy().copy()
        np.fill_diagonal(told, 1.0)
        np.testing.assert_allclose(association_matrix(table, method), told, atol=1e-10)
    holes = table.copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.2] = np.nan
    holes[:790, 5] = np.nan
    told = pd.DataFrame(holes).corr().fillna(0.0).to_numpy().copy()
    np.fill_diagonal(told, 1.0)
    np.testing.assert_allclose(association_matrix(holes, "pearson"), told, atol=1e-9)
    assert association_matrix(table, "spearman")[0, 2] == pytest.approx(spearmanr(table[:, 0], table[:, 2]).statistic)


def test_information_equals_that_of_scikit_learn(table) -> None:
    codes = equal_mass_codes(table, 10)
    counts = np.bincount(codes[0])
    assert counts.size == 10
    assert np.ptp(counts) <= 1
    assert (codes[3] == codes[3, 0]).all()
    for other in (1, 4, 5):
        plain = mutual_information(codes[0], codes[other], 10, corrected=False)
        assert plain == pytest.approx(mutual_info_score(codes[0], codes[other]), abs=1e-12)
    hole = codes[0].copy()
    hole[:300] = 255
    told = mutual_info_score(codes[0][300:], codes[1][300:])
    assert mutual_information(hole, codes[1], 10, corrected=False) == pytest.approx(told, abs=1e-12)


def test_information_sees_what_correlation_does_not_and_nothing_where_there_is_nothing(table) -> None:
    generator = np.random.default_rng(7)
    linear = generator.standard_normal((40_000, 2))
    linear[:, 1] = 0.6 * linear[:, 0] + 0.8 * linear[:, 1]
    assert association_matrix(linear, "mutual_information")[0, 1] == pytest.approx(0.6, abs=0.02)
    assert abs(association_matrix(table, "pearson")[0, 4]) < 0.1
    assert association_matrix(table, "mutual_information")[0, 4] > 0.8
    independent = association_matrix(generator.standard_normal((5000, 8)), "mutual_information")
    assert independent[np.triu_indices(8, 1)].max() < 0.1


def test_shifts_of_the_target_tell_what_luck_shows() -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((2000, 20))
    codes, target = equal_mass_codes(x), (x[:, 3] + generator.standard_normal(2000) > 0).astype(np.uint8)
    lucky = shifted_maxima(codes, target, generator.integers(100, 1900, 40))
    said = target_information(codes, target)
    assert said.argmax() == 3
    assert said[3] > lucky.max() * 5
    assert np.delete(said, 3).max() < np.quantile(lucky, 0.99) * 1.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.2, 0.95))
def test_no_two_kept_columns_are_too_close_and_every_dropped_one_has_a_better_in_sight(seed, width, threshold) -> None:
    generator = np.random.default_rng(seed)
    mixed = generator.standard_normal((60, width)) @ generator.standard_normal((width, width))
    matrix, scores = association_matrix(mixed, "pearson"), generator.integers(0, 4, width).astype(float)
    result = prune(matrix, scores, threshold)
    kept = result.kept
    assert (np.abs(matrix[np.ix_(kept, kept)]) - np.eye(len(kept)) < threshold).all()
    assert sorted([*kept, *result.dropped["column"]]) == list(range(width))
    for cluster in np.unique(result.clusters):
        members = np.flatnonzero(result.clusters == cluster)
        assert (np.abs(matrix[np.ix_(members, members)]) >= threshold - 1e-9).all()
        assert len(set(members) & set(kept)) <= 1
    assert scores[kept].max() == scores.max()


def test_the_better_of_a_pair_stays_and_the_worse_is_named() -> None:
    matrix = np.array([[1.0, 0.97, 0.1], [0.97, 1.0, 0.2], [0.1, 0.2, 1.0]])
    assert prune(matrix, np.array([1.0, 2.0, 0.0]), 0.9).kept.tolist() == [1, 2]
    worse = prune(matrix, np.array([2.0, 1.0, 0.0]), 0.9)
    assert worse.kept.tolist() == [0, 2]
    assert worse.dropped.to_dict("records") == [{"column": 1, "kept": 0, "association": 0.97}]
    assert prune(matrix, np.zeros(3), 0.9).kept.tolist() == [0, 2]
    assert clusters_of(matrix, 0.9).tolist() == [0, 0, 1]


def test_wrong_arguments_are_refused(table) -> None:
    with pytest.raises(ConfigurationError, match="no measure is called"):
        association_matrix(table, "kendall")
    with pytest.raises(ConfigurationError, match="threshold = 0"):
        clusters_of(np.eye(2), 0)
    with pytest.raises(ConfigurationError, match="bins = 1"):
        equal_mass_codes(table, 1)
    with pytest.raises(DataError, match="3 scores for 2"):
        prune(np.eye(2), np.zeros(3), 0.9)


def test_the_core_set_on_real_bars_holds_columns_that_say_the_same() -> None:
    features = compute(load_feature_set(), eurusd().iloc[:1500], Timeframe.parse("H1")).drop(columns="known_at")
    matrix = association_matrix(features.to_numpy()[500:], "spearman")
    result = prune(matrix, np.zeros(len(matrix)), 0.95)
    named = {features.columns[row.column]: features.columns[row.kept] for row in result.dropped.itertuples()}
    assert 3 <= len(named) < len(matrix) // 2
    assert all(
        abs(features[a].iloc[500:].corr(features[b].iloc[500:], method="spearman")) > 0.9 for a, b in named.items()
    )
