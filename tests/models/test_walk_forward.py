"""A walk through time trains on nothing that was not known, and every prediction says which fit made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.settings import CostSettings
from tapeline.evaluation.metrics import auc
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.refit import FamilyRefit
from tapeline.models.walk_forward import walk_forward
from tests.models.synthetic import auc_standard_error, make_dataset, make_parts


class Recorder:
    """Fits the mean label, and writes down when each label that it saw ended and when each row was decided."""

    plan: ClassVar[dict[str, Any]] = {"recorder": 1}

    def __init__(self) -> None:
        self.seen: list[tuple[pd.Timestamp, pd.Timestamp, int]] = []

    def predictions(self, dataset: Dataset, folds: Sequence[Any]) -> Iterator[np.ndarray]:
        for train, test in folds:
            self.seen.append((dataset.t_end[train].max(), dataset.t0[test].min(), train.size))
            yield np.full(test.size, dataset.y[train].mean())


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("horizon", [1, 9, 40])
def test_no_fit_learns_from_a_label_that_ends_after_its_test_begins(window, horizon) -> None:
    parts = {symbol: make_parts(240, horizon=horizon, seed=n) for n, symbol in enumerate(("EURUSD", "GBPUSD"))}
    dataset, recorder = assemble(parts), Recorder()
    walk = walk_forward(dataset, recorder, folds=5, window=window)
    assert len(recorder.seen) == 4
    assert all(last < first for last, first, _ in recorder.seen)
    assert walk.steps["known_until"].tolist() == [last for last, _, _ in recorder.seen]
    assert (walk.predictions["known_until"] < walk.predictions["t0"]).all()
    sizes = [size for _, _, size in recorder.seen]
    if window is None:
        assert sizes == sorted(sizes)
        assert (walk.steps["trained_from"] == dataset.t0.min()).all()
    else:
        assert max(sizes) <= window * 96
        assert walk.steps["trained_from"].is_monotonic_increasing
    assert walk.kind == ("anchored" if window is None else f"rolling {window}")


def test_every_row_names_its_fit_and_the_name_is_that_of_what_was_learnt() -> None:
    dataset = make_dataset(300, signal=0.5, horizon=3)
    walk = walk_forward(dataset, FamilyRefit("logistic", {}), folds=4)
    assert walk.predictions["fit"].tolist() == sorted(walk.predictions["fit"])
    pairs = walk.predictions[["fit", "fit_version"]].drop_duplicates()
    pd.testing.assert_frame_equal(pairs.reset_index(drop=True), walk.steps[["fit", "fit_version"]])
    assert walk.steps["fit_version"].is_unique
    again = walk_forward(dataset, FamilyRefit("logistic", {}), folds=4)
    pd.testing.assert_frame_equal(walk.predictions, again.predictions)
    other = walk_forward(dataset, FamilyRefit("logistic", {"C": 5.0}), folds=4)
    assert not set(other.steps["fit_version"]) & set(walk.steps["fit_version"])
    assert len(walk.predictions) == walk.steps["tested_rows"].sum() == 225
    said = walk.predictions.groupby("fit")[["y", "probability"]].apply(lambda one: auc(one["y"], one["probability"]))
    np.testing.assert_allclose(said, walk.steps["auc"])


def test_a_signal_that_turns_is_followed_by_the_rolling_walk_only() -> None:
    dataset = make_dataset(2000, signal=1.0, columns=2)
    turned = dataset.X.copy()
    turned[1000:, 0] *= -1  # from the middle on the feature means the opposite
    dataset = Dataset(**{**dataset.__dict__, "X": turned})
    anchored = walk_forward(dataset, FamilyRefit("logistic", {}), folds=8)
    rolling = walk_forward(dataset, FamilyRefit("logistic", {}), folds=8, window=1)
    assert rolling.steps["auc"].iloc[-1] > 0.75
    assert anchored.steps["auc"].iloc[4] < 0.3
    assert rolling.total["total_return"][0] > anchored.total["total_return"][0]


def test_symbols_are_told_apart_and_trades_add_up() -> None:
    parts = {"EURUSD": make_parts(500, signal=1.0, seed=1), "NOISE": make_parts(500, signal=0.0, seed=2)}
    dataset = assemble(parts)
    walk = walk_forward(dataset, FamilyRefit("lightgbm", {}), folds=4, costs=CostSettings())
    symbols = walk.symbols.set_index("symbol")
    assert list(symbols.index) == ["all", "EURUSD", "NOISE"]
    assert symbols.loc["EURUSD", "auc_low"] > 0.6
    noise = walk.predictions[walk.predictions["symbol"] == "NOISE"]
    assert abs(symbols.loc["NOISE", "auc"] - 0.5) < 3 * auc_standard_error(noise["y"].to_numpy())
    assert symbols.loc["all", "net"] == pytest.approx(walk.total["total_return"][0])
    assert symbols.loc["all", "net"] == pytest.approx(walk.steps["net"].sum())
    assert symbols.loc["all", "trades"] == symbols["trades"].iloc[1:].sum() == walk.total["trades"][0]
    assert walk.total["percentile_of_random_entries"][0] > 95


def test_too_little_is_refused() -> None:
    with pytest.raises(DataError, match="known in time"):
        walk_forward(make_dataset(60, horizon=50), Recorder(), folds=4)
    dataset = make_dataset(60)
    with pytest.raises(DataError, match="same label"):
        walk_forward(Dataset(**{**dataset.__dict__, "y": np.ones_like(dataset.y)}), Recorder(), folds=4)
