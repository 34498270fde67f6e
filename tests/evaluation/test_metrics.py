"""Each metric against scikit-learn or a definition by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from tapeline.core.errors import DataError
from tapeline.evaluation.metrics import (
    accuracy,
    auc,
    brier_score,
    equal_mass_bins,
    expected_calibration_error,
    log_loss,
    maximum_drawdown,
    reliability_table,
    sharpe_ratio,
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets of both classes, probabilities with many ties, positive weights."""
    seed, rows = draw(st.integers(0, 10_000)), draw(st.integers(4, 200))
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 2, rows)
    target[:2] = (0, 1)
    probability = np.round(generator.uniform(0.01, 0.99, rows), draw(st.sampled_from([1, 6])))
    return target, np.clip(probability, 0.01, 0.99), generator.uniform(0.1, 3, rows)


@settings(max_examples=60, deadline=None)
@given(scored())
def test_the_metrics_are_those_of_scikit_learn(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    y, p, w = rows
    assert auc(y, p, w) == pytest.approx(peer.roc_auc_score(y, p, sample_weight=w))
    assert auc(y, p) == pytest.approx(peer.roc_auc_score(y, p))
    assert log_loss(y, p, w) == pytest.approx(peer.log_loss(y, p, sample_weight=w))
    assert brier_score(y, p, w) == pytest.approx(peer.brier_score_loss(y, p, sample_weight=w))
    assert accuracy(y, p, w) == pytest.approx(peer.accuracy_score(y, p > 0.5, sample_weight=w))


@settings(max_examples=60, deadline=None)
@given(scored(), st.integers(1, 20))
def test_bins_are_ordered_and_do_not_depend_on_the_order_of_the_rows(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray], bins: int
) -> None:
    y, p, w = rows
    group = equal_mass_bins(p, bins, w)
    order = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_array_equal(equal_mass_bins(p[order], bins, w[order]), group[order])
    assert set(group) == set(range(group.max() + 1))
    assert group.max() < bins
    ranked = np.argsort(p, kind="stable")
    assert (np.diff(group[ranked]) >= 0).all()
    assert all(len(set(group[p == value])) == 1 for value in np.unique(p))
    table = reliability_table(y, p, w, bins=bins)
    assert table["rows"].sum() == len(p)
    assert ((table["low"] <= table["frequency"]) & (table["frequency"] <= table["high"])).all()


def test_the_calibration_error_by_hand() -> None:
    y = np.array([0, 1, 1, 1])
    p = np.array([0.2, 0.2, 0.8, 0.8])
    # Two bins: |0.2 - 0.5| and |0.8 - 1|, half the rows each.
    assert expected_calibration_error(y, p, bins=2) == pytest.approx(0.25)
    assert expected_calibration_error(y, p, [1, 1, 3, 3], bins=2) == pytest.approx((2 * 0.3 + 6 * 0.2) / 8)


def test_the_error_of_a_perfectly_calibrated_model_is_what_the_documentation_says() -> None:
    generator = np.random.default_rng(0)
    seen = []
    for _ in range(50):
        truth = generator.uniform(0.3, 0.7, 1000)
        seen.append(expected_calibration_error(generator.uniform(size=1000) < truth, truth))
    assert np.mean(seen) == pytest.approx(0.4 * math.sqrt(15 / 1000), rel=0.15)


def test_wilsons_interval_of_the_textbook() -> None:
    # 1 of 10: Wilson 1927 gives 0.018 to 0.404 at 95 %.
    table = reliability_table([1] + [0] * 9, [0.5] * 10, bins=1)
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.0179, 0.4042], abs=1e-4)


def test_sharpe_and_drawdown_by_hand() -> None:
    assert sharpe_ratio([0.01, 0.03], periods_per_year=4) == pytest.approx(0.02 / (0.02 / math.sqrt(2)) * 2)
    assert sharpe_ratio([0.0, 0.0]) == 0
    assert math.isnan(sharpe_ratio([0.1]))
    assert math.isnan(sharpe_ratio([0.1, 0.1, 0.1]))
    assert maximum_drawdown([1, 3, 2, 4, 0.5, 5]) == 3.5
    assert maximum_drawdown([]) == 0


def test_one_class_has_no_auc_and_nonsense_is_named() -> None:
    assert math.isnan(auc([1, 1], [0.2, 0.3]))
    with pytest.raises(DataError, match="2 targets, 1 probabilities"):
        auc([1, 0], [0.5])
    with pytest.raises(DataError, match="no rows"):
        log_loss([], [])
    with pytest.raises(DataError, match="1 of 2 probabilities are NaN"):
        brier_score([0, 1], [0.5, math.nan])
