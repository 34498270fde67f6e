"""Venn-Abers against isotonic regression run once for each class, a peer, and the calibration it promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from tapeline.core.errors import DataError
from tapeline.models.venn_abers import VennAbers, fit_venn_abers


def slow_interval(score: float, scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """By definition: the new row joins as a 0, then as a 1; each time isotonic regression is fitted again."""
    bounds = [
        IsotonicRegression()
        .fit(np.r_[scores, score], np.r_[y, label], np.r_[weight, weight.mean()])
        .predict([score])[0]
        for label in (0.0, 1.0)
    ]
    return bounds[0], bounds[1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(1, 4)), min_size=1, max_size=25),
    st.booleans(),
    st.integers(-3, 27),
)
def test_both_bounds_are_isotonic_regression_with_the_row_added(
    rows: list[tuple[int, bool, int]], weighted: bool, asked: int
) -> None:
    scores, y, mass = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    weight = mass if weighted else np.ones(len(rows))
    low, high = fit_venn_abers(scores, y, weight if weighted else None).interval([asked / 2])
    assert (low[0], high[0]) == pytest.approx(slow_interval(asked / 2, scores, y, weight), abs=1e-12)


def test_the_peer_says_the_same() -> None:
    peer = pytest.importorskip("venn_abers").VennAbers()
    generator = np.random.default_rng(0)
    scores = np.round(generator.uniform(size=1500), 3)
    y = (generator.uniform(size=1500) < scores**2).astype(int)
    asked = generator.uniform(size=300)
    peer.fit(np.column_stack([1 - scores, scores]), y)
    probability, bounds = peer.predict_proba(np.column_stack([1 - asked, asked]))
    fitted = fit_venn_abers(scores, y)
    low, high = fitted.interval(asked)
    assert low == pytest.approx(bounds[:, 0], abs=1e-12)
    assert high == pytest.approx(bounds[:, 1], abs=1e-12)
    assert fitted.apply(asked) == pytest.approx(probability[:, 1], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 300))
def test_bounds_rise_with_the_score_and_hold_the_probability(seed: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=rows)
    fitted = fit_venn_abers(scores, generator.integers(0, 2, rows))
    asked = np.sort(np.r_[scores, generator.normal(size=50) * 3])
    low, high = fitted.interval(asked)
    probability = fitted.apply(asked)
    for values in (low, high, probability):
        assert (np.diff(values) >= -1e-12).all()
    assert ((low <= probability + 1e-12) & (probability <= high + 1e-12)).all()
    # However few the rows, an interval never claims what it cannot know.
    assert (high > 0).all()
    assert (low < 1).all()


def test_the_one_of_the_two_that_comes_true_is_calibrated_on_few_rows() -> None:
    """The theorem: p_y, with y what happens, is calibrated, on as few as 20 rows; it needs only exchangeability."""
    generator = np.random.default_rng(1)
    said, happened = [], []
    for _ in range(4000):
        scores = generator.uniform(size=21)
        y = (generator.uniform(size=21) < np.clip(3 * scores - 1, 0.05, 0.95)).astype(int)
        low, high = fit_venn_abers(scores[:20], y[:20]).interval(scores[20:])
        said.append(high[0] if y[20] else low[0])
        happened.append(y[20])
    said, happened = np.array(said), np.array(happened)
    for lower, upper in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        inside = (said >= lower) & (said < upper)
        error = 3 * 0.5 / np.sqrt(inside.sum())
        assert abs(said[inside].mean() - happened[inside].mean()) < error


def test_a_hundred_thousand_rows_cost_a_sort_and_a_pass() -> None:
    generator = np.random.default_rng(2)
    scores = generator.uniform(size=100_000)
    y = generator.uniform(size=100_000) < scores
    fitted = fit_venn_abers(scores, y)
    # A quadratic way would not come back; what is kept is the steps, not the rows.
    assert len(fitted.low) < 5000 > len(fitted.high)
    low, high = fitted.interval([0.1, 0.5, 0.9])
    assert low == pytest.approx([0.1, 0.5, 0.9], abs=0.05)
    assert (high - low < 0.01).all()


def test_it_keeps_every_bit_through_json_and_says_nothing_of_nan() -> None:
    generator = np.random.default_rng(3)
    fitted = fit_venn_abers(generator.uniform(size=200), generator.integers(0, 2, 200))
    again = VennAbers.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    assert np.isnan(fitted.apply([np.nan])).all()


def test_what_is_no_calibration_is_refused() -> None:
    for scores, y, weight in (
        ([], [], None),
        ([0.1], [0, 1], None),
        ([np.nan], [1], None),
        ([0.1], [2], None),
        ([0.1], [1], [0.0]),
        ([0.1], [1], [-1.0]),
    ):
        with pytest.raises(DataError):
            fit_venn_abers(scores, y, weight)
    whole = fit_venn_abers([0.1, 0.2], [0, 1]).to_json()
    for change in (
        {"low": [2.0] * len(whole["low"])},
        {"high": []},
        {"low_score": "ab"},
        {"high_score": [float("inf")]},
    ):
        with pytest.raises(DataError):
            VennAbers.from_json({**whole, **change})
