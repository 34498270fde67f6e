"""Overfitting statistics against a slow oracle that follows the paper's steps, and against what must hold."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.overfitting import clusters_of_trials, effective_trials, probability_of_overfitting


def oracle(returns: np.ndarray, blocks: int) -> tuple[list[float], float]:
    """The paper's algorithm, section 2, step by step, for rows that divide."""
    from scipy.stats import rankdata

    parts = np.split(returns, blocks)
    logits = []
    losses = 0
    for chosen in combinations(range(blocks), blocks // 2):
        rest = [number for number in range(blocks) if number not in chosen]
        inside = np.concatenate([parts[number] for number in chosen])
        outside = np.concatenate([parts[number] for number in rest])
        seen = inside.mean(axis=0) / inside.std(axis=0, ddof=1)
        unseen = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        best = int(np.argmax(seen))
        relative = rankdata(unseen)[best] / (returns.shape[1] + 1)
        logits.append(math.log(relative / (1 - relative)))
        losses += unseen[best] < 0
    return logits, losses / len(logits)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31), trials=st.integers(2, 9), rows=st.integers(2, 5), blocks=st.sampled_from([2, 4, 6, 8])
)
def test_every_logit_is_that_of_the_papers_steps(seed: int, trials: int, rows: int, blocks: int) -> None:
    returns = np.random.default_rng(seed).standard_normal((rows * blocks, trials)) * 0.01
    found = probability_of_overfitting(returns, blocks=blocks)
    logits, loss = oracle(returns, blocks)
    np.testing.assert_allclose(found.logits, logits, atol=1e-9)
    assert found.probability == np.mean(np.asarray(logits) <= 1e-12)
    assert found.probability_of_loss == pytest.approx(loss)


def test_sixteen_blocks_make_the_papers_number_of_splits() -> None:
    # Section 2.2 prints 12,780; the binomial coefficient of 16 over 8, which it means, is 12,870.
    found = probability_of_overfitting(np.random.default_rng(0).standard_normal((64, 3)))
    assert found.splits == len(found.logits) == 12_870


def test_trials_that_are_equally_good_over_all_time_are_always_overfitted() -> None:
    # What is above the mean in one half is below it in the other: the best in sample is among the worst outside.
    returns = np.random.default_rng(1).standard_normal((320, 40))
    returns -= returns.mean(axis=0)
    returns /= returns.std(axis=0)
    found = probability_of_overfitting(returns)
    assert found.probability > 0.99
    assert found.probability_of_loss == 1.0
    assert found.degradation < -0.9


def test_worthless_trials_are_overfitted_half_the_time_and_a_skilled_one_never() -> None:
    shares = []
    for seed in range(12):
        returns = np.random.default_rng(seed).standard_normal((480, 20)) * 0.01
        shares.append(probability_of_overfitting(returns, blocks=8).probability)
        returns[:, 7] += 0.004
        assert probability_of_overfitting(returns, blocks=8).probability < 0.02
    assert 0.35 < np.mean(shares) < 0.75


def test_few_periods_make_fewer_blocks_and_too_few_none() -> None:
    returns = np.random.default_rng(0).standard_normal((13, 3))
    assert probability_of_overfitting(returns).blocks == 6
    assert math.isnan(probability_of_overfitting(returns[:3]).probability)
    assert math.isnan(probability_of_overfitting(returns[:, :1]).probability)
    assert probability_of_overfitting(returns[:, :1]).splits == 0


def test_days_without_a_trade_and_equal_trials_are_no_error() -> None:
    returns = np.zeros((64, 4))
    returns[::5, 1] = 0.01
    found = probability_of_overfitting(returns, blocks=8)
    assert np.isfinite(found.logits).all()
    # The one that trades at all, and always wins, stays best: three idle trials tie below it.
    assert found.probability == 0.0
    same = probability_of_overfitting(np.tile(np.random.default_rng(0).standard_normal((64, 1)), (1, 3)), blocks=8)
    assert same.probability == 1.0  # rank one half: nothing was chosen


def test_impossible_matrices_are_named() -> None:
    with pytest.raises(ConfigurationError, match="blocks = 5"):
        probability_of_overfitting(np.zeros((20, 2)), blocks=5)
    with pytest.raises(DataError, match="finite"):
        probability_of_overfitting(np.full((20, 2), np.nan))
    with pytest.raises(DataError, match="matrix"):
        probability_of_overfitting(np.zeros(20))


def test_effective_trials_lie_between_one_and_all() -> None:
    generator = np.random.default_rng(3)
    common = generator.standard_normal((2000, 1))
    own = generator.standard_normal((2000, 10))
    assert effective_trials(own) == pytest.approx(10, abs=0.2)
    assert effective_trials(np.repeat(common, 10, axis=1)) == pytest.approx(1)
    half = effective_trials(common + own)  # correlations of one half: 0.5 + 0.5 * 10
    assert half == pytest.approx(5.5, abs=0.3)
    assert effective_trials(np.zeros((50, 3))) == 3.0
    assert effective_trials(own[:, :1]) == 1.0


def test_variations_of_one_strategy_are_one_cluster() -> None:
    generator = np.random.default_rng(4)
    source = generator.standard_normal((300, 4))
    trials = np.repeat(source, 5, axis=1) + 0.2 * generator.standard_normal((300, 20))
    assert clusters_of_trials(trials) == 4
    assert clusters_of_trials(np.zeros((10, 201))) is None
