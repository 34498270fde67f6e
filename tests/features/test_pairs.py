"""Two legs: regression, cointegration and Kalman's filter against statsmodels, carry against worked numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import component_of
from tapeline.features.pair_kernels import (
    DIFFUSE,
    rolling_dickey_fuller,
    rolling_hedge,
    windowed_kalman_hedge,
)
from tapeline.features.pairs import (
    cointegration,
    hedge_ratio,
    kalman_hedge,
    log_spread,
    price_ratio,
    rate_carry,
    term_carry,
)
from tests.core.samples import eurusd
from tests.features.sample_series import daily_close


def two_legs(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = 2.0 + np.cumsum(generator.normal(0, 0.01, rows))
    error = np.zeros(rows)
    for i in range(1, rows):
        error[i] = 0.8 * error[i - 1] + generator.normal(0, 0.003)
    return 0.3 + 1.5 * x + error, x


def test_the_hedge_equals_rolling_least_squares() -> None:
    from statsmodels.regression.rolling import RollingOLS
    from statsmodels.tools import add_constant

    y, x = two_legs()
    slope, residual, deviation, fit = rolling_hedge(y, x, 60)
    theirs = RollingOLS(y, add_constant(x), window=60).fit()
    np.testing.assert_allclose(slope[59:], theirs.params[59:, 1], rtol=1e-8)
    expected = y - theirs.params[:, 0] - theirs.params[:, 1] * x
    np.testing.assert_allclose(residual[59:], expected[59:], atol=1e-9)
    np.testing.assert_allclose(deviation[59:] ** 2, theirs.mse_resid[59:], rtol=1e-6)
    np.testing.assert_allclose(fit[59:], theirs.rsquared[59:], rtol=1e-8)
    assert np.isnan(slope[:59]).all()


def test_the_cointegration_statistic_is_engle_and_grangers() -> None:
    from statsmodels.tsa.stattools import coint

    y, x = two_legs()
    t, pull = rolling_dickey_fuller(y, x, 120)
    for end in (119, 200, 333, 399):
        part = slice(end - 119, end + 1)
        expected = coint(y[part], x[part], trend="c", maxlag=0, autolag=None)[0]
        assert t[end] == pytest.approx(expected, rel=1e-6)
    # The errors keep 0.8 of themselves a bar: about -0.2 is pulled back, more in small samples.
    assert -0.45 < np.nanmedian(pull) < -0.15
    alone = rolling_dickey_fuller(np.random.default_rng(5).normal(0, 1, 400).cumsum(), x, 120)[0]
    assert np.nanmedian(t) < np.nanmedian(alone) - 1.0


def test_the_half_life_of_a_known_pull() -> None:
    y, x = two_legs(3000, seed=3)
    bars = pd.DataFrame({"close": np.exp(y), "gold_close": np.exp(x)})
    found = cointegration(bars, "gold_close", window=2000).iloc[-1]
    assert found["gold_close_half_life_2000"] == pytest.approx(np.log(2.0) / -np.log(0.8), rel=0.15)


def test_kalman_equals_the_state_space_filter_of_statsmodels() -> None:
    from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

    y, x = two_legs(120)
    window, drift = 50, 1e-3
    ratio, surprise = windowed_kalman_hedge(y, x, window, drift)
    for end in (49, 90, 119):
        ours, theirs = y[end - window + 1 : end + 1], x[end - window + 1 : end + 1]
        unit = theirs.std()
        peer = KalmanFilter(k_endog=1, k_states=2, k_posdef=2)
        peer.bind((ours - ours.mean())[None, :].copy())
        peer["design"] = np.stack((np.ones(window), (theirs - theirs.mean()) / unit))[None]
        peer["transition"] = peer["selection"] = np.eye(2)
        peer["state_cov"] = drift / (1.0 - drift) * np.eye(2)
        peer["obs_cov"] = np.eye(1)
        peer.initialize_known(np.zeros(2), DIFFUSE * np.eye(2))
        result = peer.filter()
        assert ratio[end] == pytest.approx(result.filtered_state[1, -1] / unit, rel=1e-5)
        error, spread = result.forecasts_error[0], result.forecasts_error_cov[0, 0]
        variance = np.mean(error[2:-1] ** 2 / spread[2:-1])
        assert surprise[end] == pytest.approx(error[-1] / np.sqrt(variance * spread[-1]), rel=1e-4)


def test_kalman_follows_a_ratio_that_changes_sooner_than_least_squares() -> None:
    generator = np.random.default_rng(2)
    x = np.cumsum(generator.normal(0, 0.01, 600))
    slope = np.where(np.arange(600) < 400, 1.0, 2.0)
    y = np.cumsum(slope * np.diff(x, prepend=0.0)) + generator.normal(0, 0.001, 600)
    bars = pd.DataFrame({"close": np.exp(y), "gold_close": np.exp(x)})
    moving = kalman_hedge(bars, "gold_close", window=200, drift=1e-2).iloc[460:480, 0]
    fixed = hedge_ratio(bars, "gold_close", window=200).iloc[460:480, 0]
    assert (moving - 2.0).abs().mean() < 0.5 * (fixed - 2.0).abs().mean()
    assert (moving - 2.0).abs().mean() < 0.2


def test_spreads_and_ratios_in_plain_pandas() -> None:
    y, x = two_legs()
    bars = pd.DataFrame({"close": np.exp(y), "gold_close": np.exp(x)})
    spread = pd.Series(y - x)
    rolled = spread.rolling(50)
    found = log_spread(bars, "gold_close", window=50)
    np.testing.assert_allclose(found.iloc[:, 0], 100 * spread.diff(50), atol=1e-10)
    np.testing.assert_allclose(found.iloc[:, 1], (spread - rolled.mean()) / rolled.std(ddof=0), atol=1e-7)
    np.testing.assert_allclose(price_ratio(bars, "gold_close"), np.exp(spread))


def test_an_unknown_or_resting_leg_gives_nan_only_where_it_counts() -> None:
    y, x = two_legs()
    bars = pd.DataFrame({"close": np.exp(y), "gold_close": np.exp(x)})
    bars.loc[100, "gold_close"] = np.nan
    bars.loc[250:, "gold_close"] = 5.0
    for component in (hedge_ratio, kalman_hedge, cointegration):
        found = component(bars, "gold_close", window=40).isna().all(axis=1)
        assert found.iloc[:39].all()
        assert found.iloc[100:140].all()
        assert not found.iloc[40:100].any()
        assert not found.iloc[140:280].any()
        assert found.iloc[300:].all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.integers(0, 5))
def test_units_of_either_price_change_nothing(ours: float, theirs: float, seed: int) -> None:
    y, x = two_legs(80, seed)
    plain = pd.DataFrame({"close": np.exp(y), "gold_close": np.exp(x)})
    scaled = pd.DataFrame({"close": ours * np.exp(y), "gold_close": theirs * np.exp(x)})
    for component in (hedge_ratio, kalman_hedge, cointegration):
        first, second = (component(bars, "gold_close", window=30).iloc[-1] for bars in (plain, scaled))
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-7)


def test_carry_in_worked_numbers() -> None:
    ts = pd.DatetimeIndex(["2017-01-06", "2017-01-09", "2017-01-10"], tz="UTC")
    bars = pd.DataFrame({"aud_close": [3.65, 7.30, 7.30], "jpy_close": [0.0, 0.0, 3.65]}, index=ts)
    found = rate_carry(bars, "aud_close", "jpy_close", window=2)
    # Three days at 3.65 percent a year over a weekend, one day at 7.30.
    assert found.iloc[-1].tolist() == pytest.approx([3.65, 0.03 + 0.02])
    terms = pd.DataFrame({"spot_close": [100.0, 100.0], "future_close": [99.0, 101.0]})
    annual = term_carry(terms, "spot_close", "future_close", days=36.5)
    assert annual.tolist() == pytest.approx([10.0503359, -9.9503309])


def test_small_windows_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="window = 19"):
        component_of(cointegration).parameters({"window": 19})


def test_two_real_indexes_hang_together_and_a_currency_does_not() -> None:
    """Daily S&P 500 against the NASDAQ, and hourly EURUSD against the S&P 500 as known at each close."""
    sp500, nasdaq = daily_close("SP500"), daily_close("NASDAQ")
    both = pd.DataFrame({"close": sp500, "nasdaq_close": nasdaq}).dropna().loc["2012":"2017"]
    found = hedge_ratio(both, "nasdaq_close", window=240).dropna()
    assert found.iloc[:, 2].median() > 0.8
    assert found.iloc[:, 0].median() == pytest.approx(0.75, abs=0.2)
    kalman = kalman_hedge(both, "nasdaq_close", window=120).dropna()
    assert kalman.iloc[:, 1].std() == pytest.approx(1.0, abs=0.3)
    assert cointegration(both, "nasdaq_close").iloc[239:].notna().all().all()
    bars = eurusd()
    # A day's close is known after that day.
    daily = sp500.copy()
    daily.index = daily.index + pd.Timedelta(days=1)
    bars["sp500_close"] = daily.reindex(bars.index, method="ffill").to_numpy()
    hourly = cointegration(bars, "sp500_close", window=480).iloc[480:].dropna()
    assert len(hourly) > 4000
    assert (hourly.iloc[:, 0] < -3.36).mean() < 0.25
