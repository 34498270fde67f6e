"""Selectors find what was planted, almost nothing in a permuted target, and what slow oracles find."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.feature_selection import RFECV
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import cross_val_score

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.association import equal_mass_codes
from tapeline.models.dataset import Dataset
from tapeline.models.estimator import build_estimator
from tapeline.models.selection import CorrelationFilter, MinimumRedundancy
from tapeline.models.selection_folds import BorutaShap, ClusteredImportance, RecursiveElimination
from tapeline.models.validation import PurgedKFold
from tests.models.synthetic import auc_standard_error, make_dataset

FAST = {"parameters": {"n_estimators": 25, "learning_rate": 0.1, "min_child_samples": 40}, "folds": 3}
SELECTORS = {
    "mrmr": MinimumRedundancy(),
    "elimination": RecursiveElimination(step=2, **FAST),
    "boruta": BorutaShap(rounds=16, **FAST),
    "clustered": ClusteredImportance(repeats=2, **{**FAST, "folds": 5}),
}


def fit(selector, dataset: Dataset, y: np.ndarray | None = None):
    target = dataset.y if y is None else y
    if isinstance(selector, CorrelationFilter | MinimumRedundancy):
        return clone(selector).fit(dataset.X, target)
    return clone(selector).fit(dataset.X, target, t0=dataset.t0, t_end=dataset.t_end)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """f0 carries the signal; f1 is nearly the same; the rest is noise, f7 a slow random walk."""
    made = make_dataset(1500, signal=0.8, columns=8)
    generator = np.random.default_rng(8)
    made.X[:, 1] = made.X[:, 0] + 0.3 * generator.standard_normal(1500)
    made.X[:, 7] = np.cumsum(generator.standard_normal(1500))
    return made


@pytest.mark.parametrize("name", SELECTORS)
def test_a_planted_signal_is_found_and_the_same_seed_gives_the_same(name: str, dataset: Dataset) -> None:
    selector = fit(SELECTORS[name], dataset)
    assert 0 in selector.kept_
    assert len(set(selector.kept_) - {0, 1}) <= 1
    np.testing.assert_array_equal(selector.transform(dataset.X), dataset.X[:, selector.kept_])
    assert selector.get_feature_names_out(dataset.columns).tolist() == [f"f{i}" for i in selector.kept_]
    again = fit(SELECTORS[name], dataset)
    np.testing.assert_array_equal(again.scores_, selector.scores_)
    np.testing.assert_array_equal(again.get_support(indices=True), selector.kept_)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_permuted_target_selects_almost_nothing(name: str, dataset: Dataset) -> None:
    chosen = 0
    for seed in range(3):
        chosen += fit(SELECTORS[name], dataset, np.random.default_rng(seed).permutation(dataset.y)).kept_.size
    assert chosen <= 1, "of 24 columns"


def test_the_filter_is_the_greedy_choice_that_is_written_in_the_paper(dataset: Dataset) -> None:
    for criterion in ("difference", "quotient"):
        selector = MinimumRedundancy(4, criterion=criterion, significance=1, bins=10).fit(dataset.X, dataset.y)
        codes = equal_mass_codes(dataset.X, 10).astype(np.int64)

        def information(a: np.ndarray, b: np.ndarray) -> float:
            plain = mutual_info_score(a, b)
            cells, first, second = (np.unique(one).size for one in (a * 32 + b, a, b))
            return plain - (cells - first - second + 1) / (2 * len(a))

        chosen: list[int] = []
        while len(chosen) < 4:
            best, place = -np.inf, -1
            for one in set(range(8)) - set(chosen):
                relevance = information(codes[one], dataset.y)
                mean = np.mean([max(0.0, information(codes[one], codes[other])) for other in chosen]) if chosen else 0.0
                value = relevance - mean if criterion == "difference" or not chosen else relevance / max(mean, 1e-12)
                if value > best:
                    best, place = value, one
            chosen.append(place)
        assert selector.order_ == chosen


def test_the_elimination_is_that_of_scikit_learn(dataset: Dataset) -> None:
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=3)
    ours = RecursiveElimination(
        step=1, importance="split", one_standard_error=False, significance=1, folds=3, parameters=FAST["parameters"]
    ).fit(dataset.X, dataset.y, t0=dataset.t0, t_end=dataset.t_end)
    model = build_estimator("lightgbm", parameters=FAST["parameters"])[-1]
    assert isinstance(model, LGBMClassifier)
    peer = RFECV(model, step=1, cv=list(splitter.split(dataset.X)), scoring="neg_log_loss").fit(dataset.X, dataset.y)
    told = -peer.cv_results_["mean_test_score"]
    np.testing.assert_allclose(ours.path_["log_loss"].to_numpy()[::-1], told, rtol=1e-6)
    assert ours.kept_.tolist() == np.flatnonzero(peer.support_).tolist()
    sparing = RecursiveElimination(step=1, folds=3, parameters=FAST["parameters"])
    sparing.fit(dataset.X, dataset.y, t0=dataset.t0, t_end=dataset.t_end)
    assert 0 in sparing.kept_
    assert len(sparing.kept_) <= len(ours.kept_)
    assert sparing.better_ == 1.0


def make_book_example(seed: int = 0, rows: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """After section 6.2 of the book: informative columns, redundant ones made of them by noise, and noise."""
    generator = np.random.default_rng(seed)
    informative = generator.standard_normal((rows, 3))
    source = np.array([0, 0, 1, 1, 2, 2])
    redundant = informative[:, source] + 0.4 * generator.standard_normal((rows, 6))
    noise = generator.standard_normal((rows, 4))
    y = (informative @ [1.0, 1.0, -1.0] + 0.7 * generator.standard_normal(rows) > 0).astype(int)
    return np.column_stack([informative, redundant, noise]).astype(np.float32), y


def test_clusters_show_what_single_columns_hide() -> None:
    x, y = make_book_example()
    t0 = pd.date_range("2017-01-02", periods=len(x), freq="1h", tz="UTC")
    parameters = {"n_estimators": 60, "learning_rate": 0.1, "min_child_samples": 20, "colsample_bytree": 0.5}
    options = {"folds": 5, "repeats": 2, "parameters": parameters}
    clustered = ClusteredImportance(**options).fit(x, y, t0=t0, t_end=t0)
    assert [set(columns) for columns in clustered.importance_["columns"]][:3] == [{0, 3, 4}, {1, 5, 6}, {2, 7, 8}]
    assert clustered.kept_.tolist() == list(range(9))
    noise = clustered.importance_["mean"][3:]
    assert clustered.importance_["mean"][:3].min() > 10 * noise.abs().max()
    single = ClusteredImportance(clustered=False, **options).fit(x, y, t0=t0, t_end=t0)
    # A column's twins stand in for it: alone it seems to matter far less than its cluster does.
    assert single.importance_["mean"][:9].max() < clustered.importance_["mean"][:3].min()


def test_the_correlation_filter_keeps_the_better_of_a_pair(dataset: Dataset) -> None:
    for method in ("pearson", "spearman", "mutual_information"):
        selector = CorrelationFilter(method, 0.8).fit(dataset.X, dataset.y)
        assert 0 in selector.kept_
        assert 1 not in selector.kept_
        assert selector.dropped_[["column", "kept"]].to_numpy().tolist() == [[1, 0]]
    swapped = dataset.X[:, [1, 0, 2]]
    assert CorrelationFilter(threshold=0.8).fit(swapped, dataset.y).kept_.tolist() == [1, 2]
    assert CorrelationFilter(threshold=0.8).fit(swapped).kept_.tolist() == [0, 2]


@pytest.mark.parametrize("selector", [CorrelationFilter(threshold=0.8), MinimumRedundancy(at_least=1)])
def test_a_filter_in_a_pipeline_is_fitted_inside_the_fold(selector, dataset: Dataset) -> None:
    seen = []

    class Watched(type(selector)):
        def fit(self, X, y=None):  # noqa: N803
            seen.append(len(X))
            return super().fit(X, y)

    watched = Watched(**selector.get_params())
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=3)
    pipeline = build_estimator("lightgbm", selector=watched, parameters=FAST["parameters"])
    scores = cross_val_score(pipeline, dataset.X, dataset.y, cv=splitter, scoring="roc_auc")
    assert seen == [len(train) for train, _ in splitter.split(dataset.X)]
    assert scores.min() > 0.65


def test_a_selector_on_folds_in_a_pipeline_gets_the_intervals_of_the_fold(dataset: Dataset) -> None:
    selector = BorutaShap(rounds=12, at_least=1, **FAST)
    pipeline = build_estimator("lightgbm", selector=selector, parameters=FAST["parameters"])
    splitter = PurgedKFold(dataset.t0, dataset.t_end, folds=3)
    intervals = {"select__t0": dataset.t0.asi8, "select__t_end": dataset.t_end.asi8}
    scores = cross_val_score(pipeline, dataset.X, dataset.y, cv=splitter, scoring="roc_auc", params=intervals)
    assert scores.min() > 0.65
    fitted = clone(pipeline).fit(dataset.X, dataset.y, sample_weight=dataset.weight, **intervals)
    assert 0 in fitted.named_steps["select"].kept_
    with pytest.raises(ConfigurationError, match="needs the label intervals"):
        clone(pipeline).fit(dataset.X, dataset.y)


def test_a_choice_of_columns_made_on_all_rows_flatters_itself_and_one_inside_the_fold_does_not() -> None:
    noise = make_dataset(600, columns=300, seed=6)
    splitter = PurgedKFold(noise.t0, noise.t_end, folds=4)
    greedy = MinimumRedundancy(10, bins=2, significance=1)
    logistic = {"kind": "logistic", "parameters": {"C": 1.0}}
    inside = cross_val_score(
        build_estimator(selector=greedy, **logistic), noise.X, noise.y, cv=splitter, scoring="roc_auc"
    )
    chosen = clone(greedy).fit(noise.X, noise.y).transform(noise.X)
    outside = cross_val_score(build_estimator(**logistic), chosen, noise.y, cv=splitter, scoring="roc_auc")
    assert abs(inside.mean() - 0.5) < 3 * auc_standard_error(noise.y)
    assert outside.mean() > inside.mean() + 0.05


def test_wrong_arguments_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigurationError, match="no criterion is called"):
        MinimumRedundancy(criterion="ratio").fit(dataset.X, dataset.y)
    with pytest.raises(ConfigurationError, match="9 shifts cannot show"):
        MinimumRedundancy(shifts=9).fit(dataset.X, dataset.y)
    with pytest.raises(DataError, match="infinite"):
        CorrelationFilter().fit([[np.inf], [1.0]])
    with pytest.raises(DataError, match="differ in number"):
        BorutaShap().fit(dataset.X, dataset.y[:-1], t0=dataset.t0, t_end=dataset.t_end)
    with pytest.raises(DataError, match="knows 8 columns"):
        fit(SELECTORS["mrmr"], dataset).transform(dataset.X[:, :2])
