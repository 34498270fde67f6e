"""Paths through combinatorial splits: the published table, a hand-computed example, and nothing learnt from itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.settings import CostSettings
from tapeline.evaluation.metrics import auc
from tapeline.models.dataset import Dataset
from tapeline.models.path_distribution import METRICS, path_distribution, path_table, summarise
from tapeline.models.refit import FamilyRefit
from tests.models.synthetic import auc_standard_error, bayes_auc, make_dataset, make_settings


class Watched:
    """Says the number of the split, and remembers what it was trained and tested on."""

    plan: ClassVar[dict[str, Any]] = {"watched": True}

    def __init__(self, scale: float = 0.001) -> None:
        self.folds: list[tuple[np.ndarray, np.ndarray]] = []
        self.scale = scale

    def predictions(self, dataset: Dataset, folds: Sequence[Any]) -> Iterator[np.ndarray]:
        self.folds = list(folds)
        for number, (_, test) in enumerate(folds):
            yield np.full(test.size, number * self.scale)


def test_the_paths_of_six_blocks_two_at_a_time_are_those_of_the_book() -> None:
    # Advances in Financial Machine Learning, figure 12.2: for each block the splits (from 1) that test it, by path.
    figure = [
        [1, 2, 3, 4, 5],
        [1, 6, 7, 8, 9],
        [2, 6, 10, 11, 12],
        [3, 7, 10, 13, 14],
        [4, 8, 11, 13, 15],
        [5, 9, 12, 14, 15],
    ]
    np.testing.assert_array_equal(path_table(6, 2) + 1, np.array(figure).T)


@pytest.mark.parametrize(("folds", "test_folds", "paths"), [(6, 2, 5), (10, 2, 9), (5, 1, 1), (6, 3, 10), (8, 5, 35)])
def test_there_are_as_many_paths_as_the_formula_says_and_each_split_serves_each_of_its_blocks_once(
    folds, test_folds, paths
) -> None:
    table = path_table(folds, test_folds)
    assert table.shape == (paths, folds)
    assert paths == comb(folds, test_folds) * test_folds // folds
    assert (np.bincount(table.ravel(), minlength=comb(folds, test_folds)) == test_folds).all()
    for block in table.T:
        assert len(set(block.tolist())) == paths


def test_four_blocks_two_at_a_time_by_hand() -> None:
    # Splits: 0 = {0,1}, 1 = {0,2}, 2 = {0,3}, 3 = {1,2}, 4 = {1,3}, 5 = {2,3}; so the three paths are
    expected = np.array([[0, 0, 1, 2], [1, 3, 3, 4], [2, 4, 5, 5]])
    dataset = make_dataset(40)
    found = path_distribution(dataset, Watched(), folds=4, test_folds=2, embargo=0.0)
    np.testing.assert_allclose(found.probability, np.repeat(expected, 10, axis=1) * 0.001)
    assert (found.splits, len(found.paths)) == (6, 3)
    assert found.paths["path"].tolist() == [1, 2, 3]


def test_no_training_label_touches_a_test_block_and_every_path_is_out_of_sample() -> None:
    dataset, watched = make_dataset(300, horizon=7), Watched()
    found = path_distribution(dataset, watched, folds=6, test_folds=2)
    assert np.isfinite(found.probability).all()
    for train, test in watched.folds:
        begin, end = dataset.t0[test], dataset.t_end[test]
        runs = np.split(np.arange(test.size), np.flatnonzero(np.diff(test) > 1) + 1)
        for run in runs:
            first, last = begin[run].min(), end[run].max()
            assert not ((dataset.t0[train] <= last) & (dataset.t_end[train] >= first)).any()
    assert found.trained_rows == min(train.size for train, _ in watched.folds)


def test_a_planted_signal_is_seen_on_every_path_and_noise_on_none() -> None:
    training = make_settings(Path()).training
    refit = FamilyRefit("lightgbm", {}, training)
    found = path_distribution(make_dataset(1800, signal=0.6), refit, costs=CostSettings())
    best, error = bayes_auc(0.6), auc_standard_error(make_dataset(1800, signal=0.6).y)
    assert (found.paths["auc"] > best - 0.05).all()
    assert (found.paths["auc"] < best + 3 * error).all()
    summary = found.summary.set_index("metric")
    assert summary.loc["skill", "bad"] > 0
    assert summary.loc["percentile_of_random_entries", "bad"] > 99
    assert summary.loc["log_loss", "bad"] >= summary.loc["log_loss", "median"] >= summary.loc["log_loss", "best"]
    noise = path_distribution(make_dataset(1200, seed=3), refit)
    assert (noise.paths["auc"] - 0.5).abs().max() < 4 * auc_standard_error(make_dataset(1200, seed=3).y)
    assert 1 < noise.paths["percentile_of_random_entries"].median() < 99


def test_the_metrics_of_a_path_are_those_of_its_probabilities() -> None:
    dataset = make_dataset(400, signal=0.5)
    found = path_distribution(dataset, FamilyRefit("logistic", {}), folds=4, test_folds=2, costs=CostSettings())
    for path, row in zip(found.probability, found.paths.itertuples(), strict=True):
        assert row.auc == auc(dataset.y, path)
        side = np.sign(path - 0.5)
        assert row.trades == 400  # no two labels overlap, so each row is a trade
        assert row.total_return == pytest.approx((side * dataset.outcome - 2e-4).sum())
    again = path_distribution(dataset, FamilyRefit("logistic", {}), folds=4, test_folds=2, costs=CostSettings())
    pd.testing.assert_frame_equal(found.paths, again.paths)


def test_a_path_without_trades_leaves_its_ratio_open() -> None:
    paths = pd.DataFrame({name: [np.nan, np.nan] for name in METRICS})
    assert summarise(paths)[["bad", "median"]].isna().all(axis=None)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="test_folds"):
        path_table(4, 4)
    with pytest.raises(DataError, match="leaves no row to train on"):
        path_distribution(make_dataset(60, horizon=200), Watched(), folds=3)
    with pytest.raises(DataError, match="not a probability"):
        path_distribution(make_dataset(60), Watched(scale=1.0), folds=4)
