"""Value at risk against printed tables, definitions and other libraries, and its tests against theirs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.value_at_risk import (
    METHODS,
    WARM_UP,
    christoffersen_test,
    exceedances,
    kupiec_test,
    portfolio_returns,
    rolling_tail_risk,
    tail_of_losses,
    tail_risk,
)
from tests.core.samples import eurusd


@pytest.fixture(scope="module")
def returns() -> pd.Series:
    """700 skewed, fat-tailed returns whose volatility moves."""
    generator = np.random.default_rng(4)
    scale = 0.01 * np.exp(np.cumsum(generator.normal(0, 0.05, 700)) * 0.5)
    index = pd.date_range("2020-01-01", periods=700, freq="D", tz="UTC")
    return pd.Series(scale * (generator.standard_t(8, 700) - 0.1), index)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975, 0.99, 0.937])
def test_the_historical_tail_is_that_of_its_definition(returns, confidence) -> None:
    losses = np.sort(-returns.to_numpy())
    at_risk, shortfall = tail_risk(returns, confidence=confidence)
    assert at_risk == np.quantile(losses, confidence, method="inverted_cdf")
    # The mean over the tail of the quantile function, which is a step function.
    edges = np.arange(len(losses) + 1) / len(losses)
    inside = np.clip(edges[1:] - np.maximum(edges[:-1], confidence), 0, None)
    assert shortfall == pytest.approx((losses * inside).sum() / (1 - confidence), rel=1e-9)
    assert tail_of_losses(losses, confidence) == pytest.approx((at_risk, shortfall), rel=1e-12)


def test_the_normal_tail_is_scipys(returns) -> None:
    mean, deviation = returns.mean(), returns.std()
    at_risk, shortfall = tail_risk(returns, "normal", confidence=0.975)
    assert at_risk == pytest.approx(-stats.norm(mean, deviation).ppf(0.025), rel=1e-9)
    beyond = stats.norm(mean, deviation).expect(lambda x: -x, ub=-at_risk) / 0.025
    assert shortfall == pytest.approx(beyond, rel=1e-6)
    # The regulator's reason for 97.5%: its normal shortfall is the value at risk at 99%.
    assert shortfall == pytest.approx(tail_risk(returns, "normal", confidence=0.99).value_at_risk, rel=0.006)


def test_for_fixed_weights_the_normal_tail_is_the_variance_covariance_method() -> None:
    generator = np.random.default_rng(1)
    table = pd.DataFrame(generator.normal(0, 0.01, (300, 3)) @ generator.normal(size=(3, 3)), columns=list("ABC"))
    weights = np.array([0.5, -0.3, 0.8])
    scenarios = portfolio_returns(table, dict(zip("ABC", weights, strict=True)))
    deviation = math.sqrt(weights @ table.cov().to_numpy() @ weights)
    expected = -(table.mean().to_numpy() @ weights) - deviation * stats.norm.ppf(0.01)
    assert tail_risk(scenarios, "normal").value_at_risk == pytest.approx(expected, rel=1e-10)
    table.iloc[7, 1] = np.nan
    assert len(portfolio_returns(table, weights)) == 299


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_the_cornish_fisher_tail_is_that_of_the_expansion(returns, confidence) -> None:
    sample = returns.to_numpy()[-250:]
    skewness, excess = stats.skew(sample), stats.kurtosis(sample)

    def quantile(share: float) -> float:
        z = stats.norm.ppf(share)
        bent = z + (z**2 - 1) * skewness / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skewness**2 / 36
        return sample.mean() + sample.std(ddof=1) * bent

    at_risk, shortfall = tail_risk(sample, "cornish_fisher", confidence=confidence)
    assert at_risk == pytest.approx(-quantile(1 - confidence), rel=1e-9)
    mean_beyond = integrate.quad(quantile, 0, 1 - confidence, epsabs=1e-12)[0] / (1 - confidence)
    assert shortfall == pytest.approx(-mean_beyond, rel=1e-6)


def test_a_quantile_that_turns_is_refused_and_one_that_does_not_is_not() -> None:
    generator = np.random.default_rng(0)
    turned = 0
    for seed in range(20):
        sample = generator.standard_normal(60) * 0.01
        sample[0] -= 0.004 * seed
        skewness, excess = stats.skew(sample), stats.kurtosis(sample)
        z = np.linspace(-12, stats.norm.ppf(0.01), 2_000)
        bent = z + (z**2 - 1) * skewness / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skewness**2 / 36
        if (np.diff(bent) > 0).all() and excess / 8 > skewness**2 / 6:
            assert tail_risk(sample, "cornish_fisher").value_at_risk > 0
        else:
            turned += 1
            with pytest.raises(DataError, match="turns"):
                tail_risk(sample, "cornish_fisher")
    assert 2 < turned < 18


def test_the_filtered_tail_is_that_of_a_loop(returns) -> None:
    values, decay = returns.to_numpy()[:300], 0.9
    variance = float((values[:WARM_UP] ** 2).mean())
    residuals = []
    for value in values[WARM_UP:]:
        residuals.append(value / math.sqrt(variance))
        variance = decay * variance + (1 - decay) * value**2
    scenarios = -np.sort(np.array(residuals[-100:]) * math.sqrt(variance))[::1]
    at_risk, shortfall = tail_risk(values, "filtered", confidence=0.95, window=100, decay=decay)
    assert at_risk == pytest.approx(np.quantile(scenarios, 0.95, method="inverted_cdf"), rel=1e-12)
    assert shortfall == pytest.approx(np.sort(scenarios)[-5:].mean(), rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_rolling_forecast_is_that_of_the_past_alone(returns, method) -> None:
    rolling = rolling_tail_risk(returns, method, window=120, confidence=0.95)
    first = 119 + (WARM_UP if method == "filtered" else 0)
    assert rolling.isna().all(axis=1).sum() >= first
    assert rolling.iloc[:first].isna().all(axis=None)
    for row in (first, 333, 699):
        if rolling.iloc[row].notna().all():
            alone = tail_risk(returns.iloc[: row + 1], method, window=120, confidence=0.95)
            assert tuple(rolling.iloc[row]) == tuple(alone)
    changed = returns.copy()
    changed.iloc[400:] *= -7.0
    pd.testing.assert_frame_equal(
        rolling_tail_risk(changed, method, window=120, confidence=0.95).iloc[:400], rolling.iloc[:400]
    )


def test_filtered_forecasts_hold_where_volatility_moves_and_unfiltered_do_not() -> None:
    generator = np.random.default_rng(11)
    scale = np.where(np.arange(3000) // 500 % 2, 0.03, 0.01)
    series = pd.Series(generator.normal(0, scale))
    hits = {
        method: exceedances(series, rolling_tail_risk(series, method, confidence=0.95)["value_at_risk"])
        for method in ("historical", "filtered")
    }
    assert christoffersen_test(hits["historical"], confidence=0.95).p_value < 1e-6
    assert kupiec_test(hits["filtered"], confidence=0.95).p_value > 0.05


def test_forecasts_of_real_bars_are_exceeded_about_as_often_as_they_should() -> None:
    series = eurusd()["close"].pct_change().dropna()
    forecast = rolling_tail_risk(series, "filtered", window=500, confidence=0.95, decay=0.97)["value_at_risk"]
    test = kupiec_test(exceedances(series, forecast), confidence=0.95)
    assert test.exceedances == pytest.approx(test.expected, rel=0.2)


# Kupiec 1995, table 3, as printed in Jorion, Value at Risk, 3rd edition, table 6-2: the numbers of exceptions N that do
# not reject at 95% are those strictly between the two, by the model's probability and the days observed.
NOT_REJECTED = {
    0.01: {252: (None, 7), 510: (1, 11), 1000: (4, 17)},
    0.025: {252: (2, 12), 510: (6, 21), 1000: (15, 36)},
    0.05: {252: (6, 20), 510: (16, 36), 1000: (37, 65)},
    0.10: {252: (16, 36), 510: (38, 65), 1000: (81, 120)},
}


@pytest.mark.parametrize("probability", NOT_REJECTED)
def test_kupiecs_printed_regions(probability) -> None:
    for days, (low, high) in NOT_REJECTED[probability].items():
        kept = [
            count
            for count in range(125)
            if kupiec_test(np.arange(days) < count, confidence=1 - probability).p_value > 0.05
        ]
        assert kept[-1] == high - 1
        # The table prints no lower end at 252 days, where the ratio rejects 0 exceptions.
        assert kept[0] == (1 if low is None else low + 1)


def test_christoffersens_test_is_that_of_the_chain_it_supposes() -> None:
    hits = np.random.default_rng(6).random(500) < 0.06
    hits[100:106] = True
    pairs = list(itertools.pairwise(hits))
    after_calm, after_hit = [b for a, b in pairs if not a], [b for a, b in pairs if a]

    def likelihood(sample: list[bool], share: float) -> float:
        return float(sum(stats.bernoulli.logpmf(int(each), share) for each in sample))

    apart = likelihood(after_calm, np.mean(after_calm)) + likelihood(after_hit, np.mean(after_hit))
    together = likelihood(list(hits[1:]), np.mean(hits[1:]))
    independent = christoffersen_test(hits, confidence=0.95, conditional=False)
    assert independent.statistic == pytest.approx(2 * (apart - together), rel=1e-9)
    assert independent.p_value == pytest.approx(stats.chi2.sf(independent.statistic, 1), rel=1e-9)
    frequency = kupiec_test(hits, confidence=0.95)
    expected = 2 * (likelihood(list(hits), hits.mean()) - likelihood(list(hits), 0.05))
    assert frequency.statistic == pytest.approx(expected, rel=1e-9)
    assert frequency.p_value == pytest.approx(stats.chi2.sf(expected, 1), rel=1e-9)
    both = christoffersen_test(hits, confidence=0.95)
    assert both.statistic == pytest.approx(independent.statistic + frequency.statistic)
    assert both.p_value == pytest.approx(stats.chi2.sf(both.statistic, 2), rel=1e-9)
    # Without any exceedance, and with nothing else, both are still numbers.
    assert kupiec_test([False] * 100, confidence=0.95).statistic == pytest.approx(-200 * math.log(0.95))
    assert math.isfinite(christoffersen_test([True] * 10, confidence=0.95).statistic)


def test_what_cannot_be_answered_is_refused(returns) -> None:
    for call in (
        lambda: tail_risk(returns, confidence=1.0),
        lambda: tail_risk(returns, "bayes"),
        lambda: tail_risk(returns, "filtered", decay=1.0),
        lambda: rolling_tail_risk(returns, window=1),
    ):
        with pytest.raises(ConfigurationError):
            call()
    for call in (
        lambda: tail_risk([0.1, np.nan, 0.2]),
        lambda: tail_risk(returns[:50], window=60),
        lambda: tail_risk(returns[:21], "filtered"),
        lambda: kupiec_test([1, 0, 1]),
        lambda: portfolio_returns(pd.DataFrame({"A": [0.1]}), {"B": 1.0}),
        lambda: exceedances(returns, returns[1:]),
    ):
        with pytest.raises(DataError):
            call()
