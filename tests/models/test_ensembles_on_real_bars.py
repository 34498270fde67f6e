"""Packaged EURUSD hours through ensembles, fusion, conformal sets and the choice of models: nobody is fooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.events import standing
from tapeline.charts.gaps import fair_value_gap
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.features import engine
from tapeline.features.feature_set import parse_feature_set
from tapeline.labels.label_set import compute, load_label_set
from tapeline.models.conformal import adaptive_sets, coverage_table
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.ensemble import StackingEnsemble
from tapeline.models.estimator import build_estimator
from tapeline.models.fusion import SignalFusion, event_signal
from tapeline.models.hybrid import HybridEnsemble
from tapeline.models.model_choice import select_estimator
from tapeline.models.out_of_fold import inner_folds, out_of_fold
from tapeline.models.rule_member import RuleMember
from tapeline.models.validation import time_holdout

H1 = Timeframe.parse("H1")
FEATURES = {
    "name": "few",
    "feature": [{"component": "log_return", "window": window} for window in (1, 6, 24)],
}


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    from tapeline.sources.base import BarRequest, Data
    from tapeline.sources.sample import SampleSource

    outcome = SampleSource().fetch(BarRequest(Symbol.parse("EURUSD"), H1))
    if not isinstance(outcome, Data):
        pytest.skip(f"the sample package cannot be read: {outcome}")
    found = outcome.bars
    return (found if found.index.name == "ts" else found.set_index("ts")).iloc[:3000]


@pytest.fixture(scope="module")
def dataset(bars: pd.DataFrame) -> Dataset:
    features = engine.compute(parse_feature_set(FEATURES), bars, H1)
    return assemble({"EURUSD": (features, compute(load_label_set(), bars, H1))})


@pytest.fixture(scope="module")
def members(dataset: Dataset) -> list[tuple[str, Any]]:
    fall = {"column": dataset.columns[-1], "comparison": "below", "value": 0.0}
    return [
        ("line", build_estimator("logistic")),
        ("trees", build_estimator("lightgbm", parameters={"n_estimators": 20})),
        ("rules", RuleMember([{"conditions": [fall]}], columns=dataset.columns)),
    ]


@pytest.mark.parametrize(
    "make", [StackingEnsemble, lambda members: HybridEnsemble(members, regime=2, edges=3)], ids=["stacking", "hybrid"]
)
def test_an_ensemble_of_real_bars_knows_that_it_knows_little(make: Any, dataset: Dataset, members: Any) -> None:
    early, late = time_holdout(dataset.t0, dataset.t_end, 0.25)
    fitted = make(members).fit(
        dataset.X[early], dataset.y[early], dataset.weight[early], t0=dataset.t0[early], t_end=dataset.t_end[early]
    )
    said = fitted.predict_proba(dataset.X[late])[:, 1]
    assert 0.35 < auc(dataset.y[late], said) < 0.65
    # Members that overfit do not make it sure of itself.
    assert log_loss(dataset.y[late], said) < np.log(2) + 0.05
    assert min(fitted.losses_.values()) > np.log(2) - 0.05


def test_on_real_bars_no_candidate_takes_the_place_of_the_base_rate_by_luck(dataset: Dataset, members: Any) -> None:
    choice = select_estimator(
        [("base rate", build_estimator("majority")), *members],
        dataset.X,
        dataset.y,
        t0=dataset.t0,
        t_end=dataset.t_end,
        sample_weight=dataset.weight,
        samples=300,
    )
    assert choice.name == "base rate"
    assert choice.table["low"].min() < choice.table["loss"].min() < np.log(2) + 0.02


def test_gaps_and_a_model_become_one_signal_whose_sets_cover(
    bars: pd.DataFrame, dataset: Dataset, members: Any
) -> None:
    closed = bars.assign(close_ts=H1.closes(bars.index))
    signal = event_signal(standing(fair_value_gap(closed), closed), half_life=12, confidence=None).reindex(dataset.ts)
    folds = inner_folds(dataset.t0, dataset.t_end, len(dataset), scheme="walk_forward")
    found = out_of_fold(members[:2], dataset.X, dataset.y, folds, sample_weight=dataset.weight)
    rows = found.rows
    frame = pd.DataFrame({"line": found.probability[rows, 0], "trees": found.probability[rows, 1]})
    frame["gap"] = signal.to_numpy()[rows]
    assert frame["gap"].notna().mean() > 0.1
    t0, t_end, y = dataset.t0[rows], dataset.t_end[rows], dataset.y[rows]
    fusion = SignalFusion(probabilities=("line", "trees"), signals=("gap",)).fit(
        frame, y, dataset.weight[rows], t0=t0, t_end=t_end
    )
    fused = fusion.fuse(frame)
    assert fused["probability"].between(0.2, 0.8).mean() > 0.95
    sets = adaptive_sets(fused["probability"], y, t0, t_end, miscoverage=0.2, rate=0.02)[["down", "up"]].to_numpy()
    assert coverage_table(sets, y).loc["all", "coverage"] == pytest.approx(0.8, abs=0.05)
