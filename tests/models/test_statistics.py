"""The statistics against the examples their authors published, and against what simulation says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import auc
from tapeline.models.statistics import (
    bootstrap_intervals,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    sharpe_evidence,
    stationary_bootstrap,
)

PAPER = {"sharpe": 2.5 / math.sqrt(250), "length": 1250, "variance": 0.5 / 250, "skewness": -3.0, "kurtosis": 10.0}


@pytest.mark.parametrize(
    ("change", "published"),
    [
        ({"trials": 100}, 0.9004),  # "there is a 90 % chance", section "a numerical example"
        ({"trials": 46}, 0.9505),  # the number of trials at which it would have passed at 95 %
        ({"trials": 88, "skewness": 0.0, "kurtosis": 3.0}, 0.9505),  # the same, had the returns been normal
    ],
)
def test_the_deflated_sharpe_ratio_of_the_paper(change: dict[str, float], published: float) -> None:
    assert deflated_sharpe_ratio(**{**PAPER, **change}) == pytest.approx(published, abs=5e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("periods", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_the_minimum_track_records_of_the_paper(periods: int, years: float) -> None:
    # Bailey and Lopez de Prado 2012: an annual ratio of 2 against 1, daily, weekly, monthly.
    root = math.sqrt(periods)
    length = minimum_track_record_length(2 / root, benchmark=1 / root)
    assert length / periods == pytest.approx(years, abs=0.006)


def test_the_probabilistic_sharpe_ratio_of_the_paper() -> None:
    # The same paper's hedge fund: 24 monthly returns, annual ratio 1.59, skewness -2.448, kurtosis 10.164.
    sharpe = 1.59 / math.sqrt(12)
    assert probabilistic_sharpe_ratio(sharpe, 24) == pytest.approx(0.982, abs=1e-3)
    assert probabilistic_sharpe_ratio(sharpe, 24, skewness=-2.448, kurtosis=10.164) == pytest.approx(0.913, abs=1e-3)


def test_a_track_record_of_the_minimum_length_is_just_long_enough() -> None:
    moments = {"skewness": -0.7, "kurtosis": 6.0, "benchmark": 0.02}
    length = minimum_track_record_length(0.11, **moments)
    assert probabilistic_sharpe_ratio(0.11, math.ceil(length), **moments) >= 0.95
    assert probabilistic_sharpe_ratio(0.11, math.floor(length), **moments) <= 0.95
    assert math.isinf(minimum_track_record_length(0.02, benchmark=0.02))


def test_the_expected_maximum_is_that_of_simulated_trials() -> None:
    generator = np.random.default_rng(0)
    best = generator.standard_normal((20_000, 50)).max(axis=1).mean() * 0.1
    assert expected_maximum_sharpe(50, 0.01) == pytest.approx(best, rel=0.02)
    assert expected_maximum_sharpe(1, 0.01) == 0


def test_the_best_of_many_worthless_strategies_is_not_believed() -> None:
    generator = np.random.default_rng(1)
    returns = generator.standard_normal((200, 500)) * 0.01
    sharpes = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    best = returns[sharpes.argmax()]
    alone = sharpe_evidence(best, trials=1)
    honest = sharpe_evidence(best, trials=200, trial_sharpes=list(sharpes))
    assert alone.probabilistic > 0.98
    assert alone.deflated == alone.probabilistic
    assert honest.deflated < 0.8
    # Trials that look alike may not talk their number away.
    alike = sharpe_evidence(best, trials=200, trial_sharpes=[0.1] * 200)
    assert alike.deflated == pytest.approx(honest.deflated, abs=0.1)


def test_the_minimum_backtest_length_of_the_paper_and_of_simulation() -> None:
    # "If only 5 years of data are available, no more than 45 independent model configurations should be tried."
    assert minimum_backtest_length(45) < 5 < minimum_backtest_length(46)
    assert minimum_backtest_length(1) == 0
    assert minimum_backtest_length(45, 2.0) == pytest.approx(minimum_backtest_length(45) / 4)
    years = minimum_backtest_length(20)
    generator = np.random.default_rng(0)
    worthless = generator.standard_normal((20_000, 20)) / math.sqrt(years)  # annual ratios over so many years
    assert worthless.max(axis=1).mean() == pytest.approx(1.0, abs=0.02)
    with pytest.raises(ConfigurationError, match="sharpe = 0"):
        minimum_backtest_length(5, 0)


def test_fewer_independent_trials_are_a_lower_bar_and_never_a_higher_one() -> None:
    returns = np.random.default_rng(3).standard_normal(500) * 0.01 + 0.0008
    strict = sharpe_evidence(returns, trials=40)
    assert strict.deflated_effective == strict.deflated
    lenient = sharpe_evidence(returns, trials=40, effective_trials=6.5)
    assert (lenient.deflated, lenient.trials, lenient.effective_trials) == (strict.deflated, 40, 6.5)
    alone = sharpe_evidence(returns, trials=40, effective_trials=0.2)  # nobody tries less than once
    assert strict.deflated < lenient.deflated_effective < alone.deflated_effective
    assert alone.deflated_effective == alone.probabilistic


def test_evidence_of_too_few_or_equal_returns_is_none() -> None:
    assert math.isnan(sharpe_evidence([0.01, 0.02], trials=3).deflated)
    assert math.isnan(sharpe_evidence([0.01] * 9, trials=3).deflated)


def test_the_stationary_bootstrap_draws_blocks_of_the_mean_length() -> None:
    counts = stationary_bootstrap(400, 20.0, 300, seed=1)
    assert (counts.sum(axis=1) == 400).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(400), abs=0.35)
    # Neighbours are drawn together: within a block, so their counts correlate; with blocks of 1 they do not.
    assert np.corrcoef(counts[:, 100], counts[:, 101])[0, 1] > 0.75
    single = stationary_bootstrap(400, 1.0, 300, seed=1)
    assert abs(np.corrcoef(single[:, 100], single[:, 101])[0, 1]) < 0.2


def test_the_interval_of_dependent_rows_is_as_wide_as_it_must_be() -> None:
    """Rows that repeat ten times carry a tenth of the information; rows of one instant likewise."""
    generator = np.random.default_rng(2)
    y, p = generator.integers(0, 2, 120), generator.uniform(size=120)
    repeated_y, repeated_p = np.repeat(y, 10), np.repeat(p, 10)

    def width(target: np.ndarray, score: np.ndarray, instant: np.ndarray, block: float) -> float:
        low, high = bootstrap_intervals({"auc": auc}, target, score, instant, mean_block=block)["auc"]
        return high - low

    right = width(y, p, np.arange(120), 1)
    assert width(repeated_y, repeated_p, np.repeat(np.arange(120), 10), 1) == pytest.approx(right, rel=0.15)
    assert width(repeated_y, repeated_p, np.arange(1200), 20) > 0.7 * right
    assert width(repeated_y, repeated_p, np.arange(1200), 1) < 0.5 * right  # the naive one believes too much


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        y, p = generator.integers(0, 2, 150), generator.uniform(size=150)
        low, high = bootstrap_intervals({"auc": auc}, y, p, np.arange(150), mean_block=2, samples=150)["auc"]
        covered += low <= 0.5 <= high
    assert 51 <= covered <= 60  # 95 % of 60 is 57, and fewer than 51 has a chance of 1 in 500


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ConfigurationError, match="trials = 0"):
        expected_maximum_sharpe(0, 0.1)
    with pytest.raises(ConfigurationError, match="confidence = 1"):
        minimum_track_record_length(0.1, confidence=1)
    with pytest.raises(ConfigurationError, match="blocks of 0"):
        stationary_bootstrap(5, 0, 1)
    with pytest.raises(DataError, match="no distribution"):
        probabilistic_sharpe_ratio(1.0, 10, skewness=5, kurtosis=3)
    with pytest.raises(DataError, match="differ in number"):
        bootstrap_intervals({"auc": auc}, [0, 1], [0.5], [1, 2], mean_block=1)
