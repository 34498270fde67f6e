"""A year of packaged EURUSD hours through real features and labels: everything holds together, and nobody is fooled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.metrics import auc
from tapeline.evaluation.result import Versions
from tapeline.features import engine
from tapeline.features.feature_set import parse_feature_set
from tapeline.labels.label_set import compute, load_label_set
from tapeline.models.assessment import reach_in_instants
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.scoring import load_scorer
from tapeline.models.statistics import bootstrap_intervals
from tapeline.models.training import train
from tapeline.models.validation import PurgedKFold

H1 = Timeframe.parse("H1")
FEATURES = {
    "name": "few",
    "feature": [{"component": "log_return", "window": window} for window in (1, 3, 6, 12, 24)],
}


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    from tapeline.sources.base import BarRequest, Data
    from tapeline.sources.sample import SampleSource

    outcome = SampleSource().fetch(BarRequest(Symbol.parse("EURUSD"), H1))
    if not isinstance(outcome, Data):
        pytest.skip(f"the sample package cannot be read: {outcome}")
    found = outcome.bars
    return found if found.index.name == "ts" else found.set_index("ts")


@pytest.fixture(scope="module")
def features(bars: pd.DataFrame) -> pd.DataFrame:
    return engine.compute(parse_feature_set(FEATURES), bars, H1)


@pytest.fixture(scope="module")
def dataset(bars: pd.DataFrame, features: pd.DataFrame) -> Dataset:
    return assemble({"EURUSD": (features, compute(load_label_set(), bars, H1))})


def test_real_labels_overlap_and_no_fold_shares_one(dataset: Dataset) -> None:
    t0, t_end = dataset.t0.asi8, dataset.t_end.asi8
    assert np.mean(t0[1:] <= t_end[:-1]) > 0.9  # triple-barrier labels of one day reach over many hours
    for train_rows, test_rows in PurgedKFold(dataset.t0, dataset.t_end).split(dataset.X):
        first, last = t0[test_rows].min(), t_end[test_rows].max()
        assert not ((t0[train_rows] <= last) & (t_end[train_rows] >= first)).any()


def test_a_model_of_real_bars_is_trained_reported_honestly_and_scored(
    settings: Settings, dataset: Dataset, features: pd.DataFrame
) -> None:
    versions = Versions("few@1", load_label_set().version, "eurusd-2017")
    result = train(dataset, settings=settings, name="direction-H1-EURUSD", versions=versions)
    table = result.metrics.set_index("metric")
    # Five returns of the hour do not beat EURUSD by much: an AUC far from one half would be a leak.
    assert 0.4 < table.loc["auc", "value"] < 0.6
    # Labels that overlap for hours make the honest interval wider than that of independent rows.
    holdout = result.holdout
    width = {}
    for block in (1.0, 2 * reach_in_instants(dataset)):
        low, high = bootstrap_intervals(
            {"auc": auc}, holdout["y"], holdout["raw"], holdout.index, mean_block=block, samples=200
        )["auc"]
        width[block > 1] = high - low
    assert width[True] > 1.2 * width[False]
    assert len(result.trades) < len(result.holdout) / 3
    assert result.cost_ladder["total_return"].is_monotonic_decreasing
    scorer = load_scorer(settings, result.name, alias=result.model_version)
    live = scorer.score(features[features["known_at"] > scorer.trained_until], feature_set_version="few@1")
    assert len(live) >= len(result.holdout)
    shared = result.holdout.set_index("ts")["probability"]
    np.testing.assert_array_equal(live.loc[shared.index, "probability"], shared)
