"""Diebold-Mariano against published numbers, the model confidence set against a peer, and both against their size."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.multiple_testing import holm
from tapeline.models.loss_comparison import confidence_set, diebold_mariano


def published_series() -> list[np.ndarray]:
    """The three lists of the README of johntwk/Diebold-Mariano-Test: ``random.sample`` of Python 2 after seed 123."""
    generator = random.Random(123)
    lists = []
    for _ in range(3):
        pool, drawn = list(range(100)), []
        for left in range(100, 0, -1):
            place = int(generator.random() * left)
            drawn.append(pool[place])
            pool[place] = pool[left - 1]
        lists.append(np.array(drawn, dtype=float))
    return lists


@pytest.mark.parametrize(
    ("power", "statistic", "p_value"),
    [
        (1, 1.3275742446369585, 0.18737195617455585),
        (2, 1.2112523589452902, 0.22868210381769466),
        (4, 0.9124498079287283, 0.36374861695187799),
    ],
)
def test_the_numbers_that_were_published_come_out(power: int, statistic: float, p_value: float) -> None:
    actual, first, second = published_series()
    found = diebold_mariano(np.abs(actual - first) ** power, np.abs(actual - second) ** power)
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.p_value == pytest.approx(p_value, rel=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_statistic_is_that_of_the_paper(seed: int, horizon: int) -> None:
    """Harvey, Leybourne and Newbold 1997, equations 5 to 9, written out."""
    generator = np.random.default_rng(seed)
    a, b = np.exp(generator.normal(size=(2, 40)))
    d = a - b
    n = len(d)
    gamma = [sum((d[i] - d.mean()) * (d[i - lag] - d.mean()) for i in range(lag, n)) / n for lag in range(horizon)]
    variance = (gamma[0] + 2 * sum(gamma[1:])) / n
    found = diebold_mariano(a, b, horizon=horizon)
    if variance > 0:
        corrected = math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
        assert found.statistic == pytest.approx(d.mean() / math.sqrt(variance) * corrected, rel=1e-9)
        assert found.p_value == pytest.approx(2 * student.sf(abs(found.statistic), n - 1), rel=1e-9)
    turned = diebold_mariano(b, a, horizon=horizon)
    assert turned.statistic == pytest.approx(-found.statistic)
    assert turned.p_better + found.p_better == pytest.approx(1)


def test_a_variance_that_would_be_negative_is_taken_from_bartlett() -> None:
    losses = np.tile([1.0, -1.0], 20) + np.arange(40) * 1e-3
    found = diebold_mariano(losses, np.zeros(40), horizon=2)
    assert math.isfinite(found.statistic)
    assert found.p_value > 0.3


def test_equal_losses_are_equal_and_a_constant_distance_is_certain() -> None:
    losses = np.random.default_rng(0).uniform(size=50)
    same = diebold_mariano(losses, losses)
    assert (same.statistic, same.p_value, same.p_better) == (0, 1, 1)
    worse = diebold_mariano(losses + 1, losses)
    assert (worse.statistic, worse.p_value, worse.p_better) == (math.inf, 0, 1)
    assert diebold_mariano(losses - 1, losses).p_better == 0


@pytest.mark.parametrize("horizon", [1, 6])
def test_equally_good_forecasts_differ_as_seldom_as_the_level_says(horizon: int) -> None:
    generator = np.random.default_rng(1)
    kernel = np.ones(horizon)
    found = []
    for _ in range(1200):
        noise = np.convolve(generator.normal(size=200 + horizon - 1), kernel, "valid")
        found.append(diebold_mariano(noise, np.zeros(200), horizon=horizon).p_value)
    share = np.mean(np.array(found) < 0.05)
    # The correction keeps the size near its level; without the lags, six overlapping periods reject in over 40 %.
    assert 0.03 < share < (0.07 if horizon == 1 else 0.12)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_holm_is_that_of_the_peer(count: int) -> None:
    p_values = np.random.default_rng(count).uniform(0, 0.3, count).round(2)
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_the_confidence_set_is_that_of_the_peer() -> None:
    from arch.bootstrap import MCS

    generator = np.random.default_rng(3)
    for step in (0.0, 0.05, 0.1):
        losses = generator.normal(size=(300, 5)) + generator.normal(size=(300, 1)) + np.arange(5) * step
        peer = MCS(losses, 0.05, reps=3000, block_size=5, method="R", seed=1)
        peer.compute()
        expected = peer.pvalues["Pvalue"].sort_index().to_numpy()
        found = confidence_set(losses, mean_block=5, samples=3000)
        # Both are shares of 3,000 random samples.
        assert found == pytest.approx(expected, abs=0.05)
        assert np.array_equal(found == 1, expected == 1)


def test_the_set_holds_the_best_and_leaves_out_what_is_worse() -> None:
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        losses = generator.normal(size=(250, 4)) + np.array([0.0, 0.0, 0.05, 1.0])
        found = confidence_set(losses, mean_block=3, samples=200)
        held += found[:2].min() >= 0.1
        assert found[3] == 0
    assert held >= 48


def test_candidates_that_are_the_same_row_by_row_stay_together() -> None:
    losses = np.random.default_rng(5).normal(size=(100, 1)) + np.array([0.0, 0.0, 3.0])
    assert confidence_set(losses, mean_block=2, samples=100).tolist() == [1, 1, 0]


def test_what_is_no_series_is_refused() -> None:
    for first, second in (([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 2.0])):
        with pytest.raises(DataError):
            diebold_mariano(first, second)
    for horizon in (0, 11):
        with pytest.raises(ConfigurationError, match="horizon"):
            diebold_mariano(np.arange(20.0), np.ones(20), horizon=horizon)
