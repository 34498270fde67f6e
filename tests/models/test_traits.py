"""The traits of datasets whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapeline.models.dataset import Dataset, assemble
from tapeline.models.traits import dataset_traits
from tests.models.synthetic import bayes_auc, make_dataset, make_parts


@pytest.fixture(scope="module")
def plain() -> Dataset:
    return make_dataset(3000, signal=0.6)


def test_counts_shares_and_steps_are_what_they_are_called(plain: Dataset) -> None:
    holes = plain.X.copy()
    holes[::4, :4] = np.nan
    found = dataset_traits(replace(plain, X=holes))
    assert found["log_rows"] == pytest.approx(np.log10(3000))
    assert found["log_columns"] == pytest.approx(np.log10(8))
    assert found["log_step"] == pytest.approx(np.log10(3600))
    assert found["missing"] == pytest.approx(0.125)
    assert found["balance"] == pytest.approx(plain.y.mean())
    assert found["effective_rows"] == pytest.approx(1.0)
    assert found["log_symbols"] == 0.0


def test_overlap_is_measured_within_a_symbol() -> None:
    parts = {symbol: make_parts(800, columns=3, horizon=4, seed=n) for n, symbol in enumerate(("EURUSD", "AAPL"))}
    found = dataset_traits(assemble(parts))
    assert found["reach"] == pytest.approx(np.log10(4), abs=0.01)
    assert found["uniqueness"] == pytest.approx(0.25, abs=0.01)
    assert found["log_symbols"] == pytest.approx(np.log10(2))
    assert dataset_traits(make_dataset(400))["uniqueness"] == 1.0


def test_the_linear_area_is_that_of_the_planted_signal_and_noise_has_none(plain: Dataset) -> None:
    found = dataset_traits(plain)
    assert found["linear_auc"] == pytest.approx(bayes_auc(0.6), abs=0.03)
    assert abs(found["curvature"]) < 0.02
    noise = dataset_traits(make_dataset(3000, seed=5))
    assert noise["linear_auc"] == pytest.approx(0.5, abs=0.04)


def test_a_signal_in_the_square_shows_as_curvature(plain: Dataset) -> None:
    generator = np.random.default_rng(2)
    y = (plain.X[:, 1] ** 2 - 1 + 0.5 * generator.standard_normal(len(plain)) > 0).astype(np.int8)
    found = dataset_traits(replace(plain, y=y))
    assert found["linear_auc"] == pytest.approx(0.5, abs=0.05)
    assert found["curvature"] > 0.3


def test_memory_dimension_and_tails_of_the_columns(plain: Dataset) -> None:
    generator = np.random.default_rng(3)
    walk = np.empty((3000, 6))
    walk[0] = 0
    for row in range(1, 3000):
        walk[row] = 0.9 * walk[row - 1] + generator.standard_normal(6)
    slow = dataset_traits(replace(plain, X=walk.astype(np.float32), columns=plain.columns[:6]))
    fast = dataset_traits(plain)
    assert slow["autocorrelation"] == pytest.approx(0.9, abs=0.03)
    assert fast["autocorrelation"] == pytest.approx(0.0, abs=0.03)
    assert fast["dimension"] > 0.95
    one = np.repeat(plain.X[:, :1], 8, axis=1)
    assert dataset_traits(replace(plain, X=one))["dimension"] == pytest.approx(1 / 8, abs=1e-6)
    assert fast["tails"] == pytest.approx(np.log(3), abs=0.1)


def test_scale_and_order_of_columns_change_nothing(plain: Dataset) -> None:
    first = dataset_traits(plain)
    second = dataset_traits(replace(plain, X=np.ascontiguousarray(plain.X[:, ::-1] * np.float32(1024))))
    assert first == pytest.approx(second, abs=1e-5)
    assert first == dataset_traits(plain)


def test_what_cannot_be_computed_is_nan_and_no_error() -> None:
    few = dataset_traits(make_dataset(5, horizon=3))
    assert np.isnan(few["linear_auc"])
    rising = make_dataset(300)
    found = dataset_traits(replace(rising, y=np.ones_like(rising.y)))
    assert np.isnan(found["linear_auc"])
    constant = dataset_traits(replace(rising, X=np.zeros_like(rising.X)))
    assert np.isnan(constant["dimension"])
    assert constant["linear_auc"] == pytest.approx(0.5)


def test_real_hours_are_slow_in_their_labels_and_nearly_unpredictable_from_returns() -> None:
    from tapeline.core.symbol import Symbol
    from tapeline.core.timeframe import Timeframe
    from tapeline.features import engine
    from tapeline.features.feature_set import parse_feature_set
    from tapeline.labels.label_set import compute, load_label_set
    from tapeline.sources.base import BarRequest, Data
    from tapeline.sources.sample import SampleSource

    frame = Timeframe.parse("H1")
    outcome = SampleSource().fetch(BarRequest(Symbol.parse("EURUSD"), frame))
    if not isinstance(outcome, Data):
        pytest.skip(f"the sample package cannot be read: {outcome}")
    bars = outcome.bars if outcome.bars.index.name == "ts" else outcome.bars.set_index("ts")
    chosen = {"name": "few", "feature": [{"component": "log_return", "window": window} for window in (1, 6, 24)]}
    features = engine.compute(parse_feature_set(chosen), bars, frame)
    found = dataset_traits(assemble({"EURUSD": (features, compute(load_label_set(), bars, frame))}))
    assert found["log_step"] == pytest.approx(np.log10(3600))
    assert found["uniqueness"] < 0.3  # labels of a day, every hour
    assert found["target_autocorrelation"] > 0.5
    assert 0.4 < found["linear_auc"] < 0.6
    assert found["tails"] > np.log(3)
    assert all(np.isfinite(list(found.values())))
