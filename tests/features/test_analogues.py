"""Warping by hand and against the plain recursion; analogues against a search written out, past only."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.analogue_kernels import nearest_warped
from tapeline.features.analogues import analogue_outcome, nearest_analogues
from tapeline.features.behaviour import left_profile
from tapeline.features.warping import envelope, envelope_bound, warping_distance
from tests.core.samples import eurusd
from tests.support import make_bars

SERIES = st.lists(st.floats(-5, 5), min_size=2, max_size=12)


def slow_warping(first: list[float], second: list[float], band: int) -> float:
    """Sakoe and Chiba's recursion on the whole matrix."""
    size = len(first)
    cost = np.full((size + 1, size + 1), math.inf)
    cost[0, 0] = 0.0
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            if abs(i - j) <= band:
                away = (first[i - 1] - second[j - 1]) ** 2
                cost[i, j] = away + min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
    return math.sqrt(cost[size, size])


def test_warping_by_hand() -> None:
    # The matrix of sums, worked on paper, for (1, 3, 4) and (1, 1, 4): 0 0 9 / 4 4 1 / 13 13 1.
    first, second = np.array([1.0, 3.0, 4.0]), np.array([1.0, 1.0, 4.0])
    assert warping_distance(first, second, 2) == pytest.approx(1.0)
    assert warping_distance(first, second, 0) == pytest.approx(2.0)
    assert warping_distance(first, second[:2], 2) == math.inf


@settings(max_examples=60, deadline=None)
@given(SERIES, st.integers(0, 12), st.integers(0, 1_000))
def test_warping_is_the_recursion_and_the_bound_holds(values: list[float], band: int, seed: int) -> None:
    first = np.array(values)
    second = np.random.default_rng(seed).normal(size=first.size)
    found = warping_distance(first, second, band)
    assert found == pytest.approx(slow_warping(values, second.tolist(), band), abs=1e-9)
    low, high = envelope(first, band)
    assert envelope_bound(low, high, second) <= found + 1e-9
    assert found <= np.linalg.norm(first - second) + 1e-9
    assert warping_distance(first, first, band) == 0.0
    assert warping_distance(second, first, band) == pytest.approx(found, abs=1e-9)


def written_out(close: np.ndarray, row: int, window: int, horizon: int, count: int, history: int, band: int):
    """The search as the words say it: (ends, distances), nearest first."""

    def shape(end: int) -> np.ndarray:
        path = np.log(close[end - window + 1 : end + 1])
        return (path - path.mean()) / path.std()

    earliest = max(window - 1, row - history + window)
    numbers = {}
    for end in range(earliest, row - max(window, horizon) + 1):
        if band < 0:
            numbers[end] = float(np.linalg.norm(shape(end) - shape(row)))
        else:
            numbers[end] = slow_warping(shape(end).tolist(), shape(row).tolist(), band)
    ends: list[int] = []
    for end in sorted(numbers, key=lambda end: (numbers[end], -end)):
        if all(abs(end - other) >= window for other in ends):
            ends.append(end)
    return ends[:count], [numbers[end] / math.sqrt(window) for end in ends[:count]]


@pytest.mark.parametrize(("measure", "band"), [("euclid", -1), ("warping", 1)])
def test_the_table_and_the_feature_are_the_search_written_out(measure: str, band: int) -> None:
    bars = make_bars(170, seed=8)
    close = bars["close"].to_numpy()
    feature = analogue_outcome(bars, window=10, horizon=4, history=120, count=3, measure=measure)
    assert feature.iloc[:118].isna().all().all()
    for row in (119, 140, 169):
        ends, distances = written_out(close, row, 10, 4, 3, 120, band)
        table = nearest_analogues(bars, 10, horizon=4, count=3, history=120, measure=measure, at=bars.index[row])
        assert table["end"].tolist() == [bars.index[end] for end in ends]
        assert table["start"].tolist() == [bars.index[end - 9] for end in ends]
        np.testing.assert_allclose(table["distance"], distances, atol=1e-9)
        np.testing.assert_allclose(table["outcome"], [np.log(close[end + 4] / close[end]) for end in ends])
        assert (table["outcome_known_at"] <= bars.index[row]).all()
        scaled = [
            np.clip(np.log(close[end + 4] / close[end]) / np.log(close[end - 9 : end + 1]).std(), -10, 10)
            for end in ends
        ]
        outcome, rose, distance = feature.iloc[row]
        assert outcome == pytest.approx(np.mean(scaled), abs=1e-9)
        assert rose == pytest.approx(np.mean([value > 0 for value in scaled]))
        assert distance == pytest.approx(np.mean(distances), abs=1e-9)


def test_few_warping_distances_are_worked_out() -> None:
    generator = np.random.default_rng(3)
    paths = np.cumsum(generator.normal(size=(24, 500)), axis=0)
    paths = (paths - paths.mean(axis=0)) / paths.std(axis=0)
    current = paths[:, -1] + generator.normal(0, 0.1, 24)
    places, distances, worked = nearest_warped(paths, current, 5, 1, 2)
    slow = np.array([slow_warping(paths[:, j].tolist(), current.tolist(), 2) for j in range(500)])
    np.testing.assert_allclose(np.sort(slow)[:5], distances, atol=1e-9)
    assert set(places) == set(np.argsort(slow)[:5])
    assert worked < 150, worked


def test_the_nearest_one_is_the_left_matrix_profiles() -> None:
    closes = eurusd()["close"].to_numpy()[:400]
    bars = eurusd().iloc[:400]
    distance, nearest = left_profile(np.log(closes), 24)
    same = 0
    for row in range(200, 400, 10):
        if row - nearest[row] < 24:
            # The matrix profile lets a stretch overlap the current one; the comparison does not.
            continue
        found = nearest_analogues(bars, 24, horizon=1, count=1, at=bars.index[row])
        assert found["end"].iloc[0] == bars.index[nearest[row]]
        # The profile is over the greatest distance there can be, which is twice the root of the window.
        assert found["distance"].iloc[0] == pytest.approx(2.0 * distance[row], abs=1e-6)
        same += 1
    assert same >= 10


def test_what_comes_later_changes_nothing_and_a_repeat_is_found() -> None:
    generator = np.random.default_rng(0)
    steps = generator.normal(0, 1e-3, 300)
    # The shape of bars 100 to 123 comes again, twice as large, at 250; what followed the first time is planted.
    steps[251:274] = 2.0 * steps[101:124]
    steps[124:130] = 0.004
    bars = make_bars(300).assign(close=np.exp(np.cumsum(steps)))
    found = nearest_analogues(bars, 24, horizon=6, count=1, at=bars.index[273])
    assert found["end"].iloc[0] == bars.index[123]
    assert found["distance"].iloc[0] == pytest.approx(0.0, abs=1e-6)
    assert found["outcome"].iloc[0] == pytest.approx(0.024)
    other = bars.copy()
    other.iloc[274:, other.columns.get_loc("close")] *= 3.0
    pd.testing.assert_frame_equal(found, nearest_analogues(other, 24, horizon=6, count=1, at=bars.index[273]))


def test_a_still_market_has_no_shape_and_no_analogues() -> None:
    bars = make_bars(600).assign(close=1.0)
    assert nearest_analogues(bars).empty
    assert analogue_outcome(bars).isna().all().all()


def test_on_real_bars_warping_is_never_farther() -> None:
    bars = eurusd().iloc[:800]
    plain = analogue_outcome(bars, history=300, count=1).dropna()
    warped = analogue_outcome(bars, history=300, count=1, measure="warping").dropna()
    assert len(plain) == len(warped) > 490
    assert (warped.iloc[:, 2] <= plain.iloc[:, 2] + 1e-9).all()
    assert warped.iloc[:, 2].mean() < 0.95 * plain.iloc[:, 2].mean()


def test_bad_questions_are_refused() -> None:
    bars = make_bars(60)
    for wrong in ({"window": 3}, {"horizon": 0}, {"count": 0}, {"history": 0}, {"band": -1}, {"measure": "cosine"}):
        with pytest.raises(ConfigurationError):
            nearest_analogues(bars, **wrong)
    with pytest.raises(DataError, match="no bar at"):
        nearest_analogues(bars, at=pd.Timestamp("2001-01-01", tz="UTC"))
    with pytest.raises(DataError, match="fewer than the window"):
        nearest_analogues(bars.iloc[:10], 24)
    assert nearest_analogues(bars.iloc[:25], 24).empty
