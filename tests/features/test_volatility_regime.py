"""Volatility levels by hand and against arch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.features.garch import backcast, fit_garch, garch_variances, targeted_loss
from tapeline.features.market_regime import ratio_returns
from tapeline.features.refit_clock import fit_spans, refit_starts
from tapeline.features.volatility_regime import (
    LEVELS,
    SHARES,
    arch_forecasts,
    garch_regime,
    name_levels,
    volatility_regime,
)
from tests.core.samples import eurusd
from tests.support import make_bars


def garch_returns(rows: int, omega: float, alpha: float, beta: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    noise, result, variance = generator.normal(size=rows), np.empty(rows), omega / (1 - alpha - beta)
    for i in range(rows):
        result[i] = np.sqrt(variance) * noise[i]
        variance = omega + alpha * result[i] ** 2 + beta * variance
    return result


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 0.3), st.floats(0.1, 0.68), st.integers(0, 1_000))
def test_variances_and_likelihood_are_archs(alpha: float, beta: float, seed: int) -> None:
    from arch import arch_model

    returns = garch_returns(150, 0.1, 0.1, 0.8, seed)
    omega = (returns**2).mean() * (1 - alpha - beta)
    peer = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fix([omega, alpha, beta])
    first = backcast(returns)
    ours = garch_variances(returns, omega, alpha, beta, first)
    np.testing.assert_allclose(ours[:-1], peer.conditional_volatility**2, rtol=1e-10)
    assert ours[-1] == pytest.approx(peer.forecast(horizon=1).variance.to_numpy()[-1, 0], rel=1e-10)
    loss = targeted_loss(returns, alpha, beta, (returns**2).mean(), first)
    assert -0.5 * (loss + returns.size * np.log(2 * np.pi)) == pytest.approx(peer.loglikelihood, rel=1e-9)


def test_the_fit_finds_what_a_fine_grid_finds_and_the_truth() -> None:
    returns = garch_returns(4_000, 0.05, 0.1, 0.85)
    omega, alpha, beta, first = fit_garch(returns)
    variance = (returns**2).mean()
    best = targeted_loss(returns, alpha, beta, variance, first)
    grid = [
        targeted_loss(returns, a, p - a, variance, first)
        for a in np.linspace(0.01, 0.3, 30)
        for p in np.linspace(0.4, 0.995, 60)
        if p > a
    ]
    assert best <= min(grid) + 1e-6
    assert (alpha, beta) == (pytest.approx(0.1, abs=0.03), pytest.approx(0.85, abs=0.05))
    assert omega / (1 - alpha - beta) == pytest.approx(variance)


def test_the_kernel_forecasts_what_arch_forecasts() -> None:
    bars = eurusd().iloc[:1_500]
    peer = arch_forecasts(bars)
    found = garch_regime(bars)
    returns = ratio_returns(bars["close"].to_numpy())
    usual = np.full(len(bars), np.nan)
    for row, end in fit_spans(refit_starts(bars, 120), 401, 120):
        usual[row:end] = np.sqrt((returns[row - 400 : row] ** 2).mean())
    both = peer["forecast"].notna().to_numpy()
    np.testing.assert_array_equal(both, found.notna().all(axis=1).to_numpy())
    ours, theirs = found["garch_volatility_400"].to_numpy()[both] * usual[both], peer["forecast"].to_numpy()[both]
    # arch also fits the long-run variance: the same forecasts but for that.
    assert np.corrcoef(np.log(ours), np.log(theirs))[0, 1] > 0.95
    assert np.median(np.abs(np.log(ours / theirs))) < 0.03
    assert (found["garch_level_400"].to_numpy()[both] == peer["level"].to_numpy()[both]).mean() > 0.85
    # The forecast is worth something: it goes with the size of the next move.
    ahead = np.abs(returns[1:])[both[:-1]]
    assert pd.Series(ours[:-1] if both[-1] else ours).corr(pd.Series(ahead), method="spearman") > 0.15


def test_levels_by_hand() -> None:
    bars = make_bars(150)
    found = volatility_regime(bars, window=5, memory=60)
    returns = np.log(bars["close"].to_numpy()[1:] / bars["close"].to_numpy()[:-1])
    volatility = np.sqrt(pd.Series(np.r_[np.nan, returns]).pow(2).rolling(5).mean().to_numpy())
    for i in range(len(bars)):
        past = volatility[max(i - 59, 0) : i + 1]
        level, relative = found.iloc[i]
        if past.size < 60 or np.isnan(past).any():
            assert np.isnan(level)
            continue
        low, high, extreme = np.quantile(past, SHARES)
        word = LEVELS[0 if past[-1] < low else 1 if past[-1] <= high else 2 if past[-1] <= extreme else 3]
        assert name_levels(np.array([level]))[0] == word
        assert relative == pytest.approx(np.log(past[-1] / np.median(past)), abs=1e-9)


def test_a_still_market_is_normal_and_has_no_garch() -> None:
    flat = make_bars(700).assign(open=1.0, high=1.0, low=1.0, close=1.0)
    assert (volatility_regime(flat).dropna().to_numpy() == [1.0, 0.0]).all()
    assert garch_regime(flat).isna().all().all()
    assert arch_forecasts(flat).isna().all().all()


def test_each_level_comes_about_as_often_as_it_should_on_real_bars() -> None:
    levels = volatility_regime(eurusd()).iloc[:, 0].dropna()
    shares = levels.value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(shares.to_numpy(), [0.25, 0.5, 0.2, 0.05], atol=0.06)


def test_a_window_too_short_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="window = 50"):
        arch_forecasts(make_bars(100), window=50)
