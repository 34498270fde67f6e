"""Bands, scaled momentum, trend strength and window statistics against published values, peers and definitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.features import bands, momentum_scaled, trend_strength, window_kernels, window_statistics
from tests.core.samples import eurusd, rough_bars


@pytest.fixture(scope="module")
def spy(test_data: Path) -> pd.DataFrame:
    bars = pd.read_csv(test_data / "data/indicator_oracles/quotes/default.csv", parse_dates=["date"])
    return bars.set_index(pd.DatetimeIndex(bars.pop("date"), tz="UTC", name="ts")).astype(float)


@pytest.fixture(scope="module")
def published(test_data: Path):
    def read(name: str, field: str) -> np.ndarray:
        rows = json.loads((test_data / f"data/indicator_oracles/results/{name}.standard.json").read_text())
        return np.array([np.nan if row[field] is None else row[field] for row in rows], dtype=float)

    return read


def test_published_widths_and_lines(spy, published) -> None:
    upper, middle, lower = (published("keltner", f"{part}Band") for part in ("upper", "lower", "lower"))
    middle = (upper + lower) / 2
    ours = bands.keltner_width(spy, 20, 10).to_numpy()
    np.testing.assert_allclose(ours[400:], (100 * (upper - lower) / middle)[400:], rtol=1e-6)
    # The published channel is that of the 20 bars before the current one.
    upper, lower = published("donchian", "upperBand"), published("donchian", "lowerBand")
    ours = bands.donchian_width(spy, 20).to_numpy()
    np.testing.assert_allclose(ours[19:-1], (200 * (upper - lower) / (upper + lower))[20:], rtol=1e-9)
    lines = trend_strength.aroon_lines(spy, 25)
    for name, field in (("aroon_up_25", "aroonUp"), ("aroon_down_25", "aroonDown")):
        differs = ~np.isclose(lines[name], published("aroon", field), equal_nan=True)
        assert differs.sum() <= 2, "only where two extremes are equal"


def test_bands_against_a_peer_and_their_definition() -> None:
    from ta.trend import ADXIndicator
    from ta.volatility import AverageTrueRange, BollingerBands

    bars = eurusd().head(1500)
    high, low, close = bars["high"], bars["low"], bars["close"]
    unit = AverageTrueRange(high, low, close, 14).average_true_range()
    mean = close.rolling(20).mean()
    ours = bands.atr_bands(bars, 20, 14, 2.0).iloc[700:]
    np.testing.assert_allclose(ours["atr_band_position_20"], (0.5 + (close - mean) / (4 * unit))[700:], rtol=1e-6)
    np.testing.assert_allclose(ours["atr_band_width_20"], (400 * unit / mean)[700:], rtol=1e-6)
    bollinger = BollingerBands(close, 20)
    before = close.shift()
    ranges = pd.concat([high - low, (high - before).abs(), (low - before).abs()], axis=1).max(axis=1).rolling(20).mean()
    half = (bollinger.bollinger_hband() - bollinger.bollinger_lband()) / 2
    ours = bands.squeeze(bars).iloc[30:]
    np.testing.assert_allclose(ours["squeeze_20"], (half / (1.5 * ranges))[30:], rtol=1e-6)
    inside = ours["squeeze_20"] < 1
    assert inside.any()
    assert (~inside).any()
    np.testing.assert_array_equal(np.sign(ours["squeeze_age_20"]) > 0, inside)
    changed = inside.to_numpy()[1:] != inside.to_numpy()[:-1]
    np.testing.assert_array_equal(ours["squeeze_age_20"].abs().to_numpy()[1:][changed], 1.0)
    peer = ADXIndicator(high, low, close, 14)
    lines = trend_strength.directional_movement(bars, 14).iloc[700:]
    np.testing.assert_allclose(lines["plus_di_14"], peer.adx_pos()[700:], atol=1e-3)
    np.testing.assert_allclose(lines["minus_di_14"], peer.adx_neg()[700:], atol=1e-3)


def test_momentum_against_its_definitions() -> None:
    from ta.momentum import ROCIndicator

    bars = eurusd().head(900)
    close = bars["close"]
    np.testing.assert_allclose(
        momentum_scaled.rate_of_change(bars, 10)[10:], ROCIndicator(close, 10).roc()[10:], atol=1e-9
    )
    logs = np.log(close)
    volatility = np.sqrt((logs.diff() ** 2).rolling(96).mean())
    scaled = (logs - logs.shift(24)) / volatility / np.sqrt(24)
    np.testing.assert_allclose(momentum_scaled.scaled_momentum(bars)[100:], scaled[100:], rtol=1e-7, atol=1e-9)
    rule = momentum_scaled.time_series_momentum(bars, 24, 120, 480)
    votes = sum(np.sign(logs - logs.shift(h)) for h in (24, 120, 480)) / 3
    np.testing.assert_allclose(rule["momentum_agreement"][480:], votes[480:], atol=1e-12)
    np.testing.assert_allclose(
        rule["time_series_momentum"][480:], (votes * 0.1 / (100 * volatility)).clip(-10, 10)[480:], rtol=1e-9
    )


def test_the_t_value_is_that_of_scipy() -> None:
    from scipy.stats import linregress

    bars = eurusd().head(200)
    ours = trend_strength.trend_t_value(bars, 20)
    for row in range(19, 200, 9):
        fit = linregress(np.arange(20), np.log(bars["close"].iloc[row - 19 : row + 1]))
        assert ours.iloc[row] == pytest.approx(fit.slope / fit.stderr, rel=1e-6)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.75])
def test_the_hurst_exponent_of_fractional_brownian_motion(exponent) -> None:
    """Exact paths by Cholesky: the mean estimate over many of them lies near the true exponent."""
    size = 257
    lag = np.arange(size - 1)
    covariance = 0.5 * (
        np.abs(lag + 1.0) ** (2 * exponent) + np.abs(lag - 1.0) ** (2 * exponent) - 2 * lag ** (2 * exponent)
    )
    root = np.linalg.cholesky(covariance[np.abs(lag[:, None] - lag)])
    noise = np.random.default_rng(1).normal(size=(size - 1, 60))
    paths = np.vstack([np.zeros(60), np.cumsum(root @ noise, axis=0)]) * 1e-3
    found = [trend_strength.hurst(pd.DataFrame({"close": np.exp(path)}), 256).iloc[-1] for path in paths.T]
    assert np.mean(found) == pytest.approx(exponent, abs=0.04)


finite = st.floats(-50, 50).map(lambda value: round(value, 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=6, max_size=40), st.integers(3, 6))
def test_kernels_against_pandas_and_scipy(pairs, window) -> None:
    x, y = (np.array(values) for values in zip(*pairs, strict=True))
    frame = pd.Series(x).rolling(window)
    mean, deviation, skew, kurtosis = window_kernels.running_moments(x, window)
    np.testing.assert_allclose(mean, frame.mean(), atol=1e-9)
    np.testing.assert_allclose(deviation, frame.std(ddof=0), atol=1e-6)
    found = window_kernels.rolling_quantiles(x, window, np.array([0.0, 0.1, 0.5, 0.9, 1.0]))
    for share, ours in zip((0.0, 0.1, 0.5, 0.9, 1.0), found, strict=True):
        np.testing.assert_allclose(ours, frame.quantile(share), atol=1e-12)
    covariance, variance = window_kernels.rolling_covariance(x, y, window)
    np.testing.assert_allclose(covariance, frame.cov(pd.Series(y)), atol=1e-7)
    np.testing.assert_allclose(variance, pd.Series(y).rolling(window).var(), atol=1e-7)
    ranks = window_kernels.rolling_rank_correlation(x, y, window)
    for row in range(window - 1, x.size):
        part, other = x[row - window + 1 : row + 1], y[row - window + 1 : row + 1]
        if len(set(part)) > 1:
            away = part - part.mean()
            spread = np.sqrt((away**2).mean())
            assert skew[row] == pytest.approx((away**3).mean() / spread**3, abs=1e-6)
            assert kurtosis[row] == pytest.approx((away**4).mean() / spread**4 - 3, abs=1e-6)
            if len(set(other)) > 1:
                expected = np.corrcoef(pd.Series(part).rank(), pd.Series(other).rank())[0, 1]
                assert ranks[row] == pytest.approx(expected, abs=1e-9)
        else:
            assert np.isnan(skew[row])
            assert np.isnan(ranks[row])


def test_running_moments_forget_a_spike_and_a_gap_in_the_values() -> None:
    """A value a billion deviations out leaves no rounding behind, and a NaN no longer than the window."""
    values = np.random.default_rng(0).normal(0, 1e-4, 400)
    values[100], values[200] = 1e5, np.nan
    ours = window_kernels.running_moments(values, 30)
    for row in (29, 131, 150, 230, 260, 399):
        away = values[row - 29 : row + 1] - values[row - 29 : row + 1].mean()
        spread = np.sqrt((away**2).mean())
        assert ours[2][row] == pytest.approx((away**3).mean() / spread**3, abs=1e-9)
        assert ours[3][row] == pytest.approx((away**4).mean() / spread**4 - 3, abs=1e-9)
    assert np.isnan(ours[0][200:230]).all()
    # In a long window the mean hides a spike that is still too large for sums of fourth powers.
    values = np.random.default_rng(0).normal(0, 1.0, 6000)
    values[1500] = 2e4
    ours = window_kernels.running_moments(values, 1000)
    away = values[1501:2501] - values[1501:2501].mean()
    assert ours[3][2500] == pytest.approx((away**4).mean() / (away**2).mean() ** 2 - 3, abs=1e-9)


def test_entropy_and_drawdown_against_their_definitions() -> None:
    bars = eurusd().head(300)
    returns = np.log(bars["close"]).diff().round(12)
    entropy, fall = window_statistics.return_entropy(bars, 50, 8), window_statistics.max_drawdown(bars, 50)
    for row in range(60, 300, 17):
        counts, _ = np.histogram(returns.iloc[row - 49 : row + 1], bins=8)
        share = counts[counts > 0] / 50
        assert entropy.iloc[row] == pytest.approx(-(share * np.log(share)).sum() / np.log(8), abs=0.03)
        part = bars["close"].iloc[row - 49 : row + 1]
        assert fall.iloc[row] == pytest.approx(100 * (1 - part / part.cummax()).max())
    even = np.tile(np.arange(8.0), 8)
    assert window_kernels.rolling_entropy(even, 64, 8)[-1] == pytest.approx(1.0)


def test_the_features_of_two_series_against_pandas() -> None:
    bars = eurusd().head(400)
    other = pd.Series(rough_bars(400)["close"].to_numpy(), bars.index)
    wide = bars.assign(gold_close=other)
    ours, theirs = np.log(bars["close"]).diff(), np.log(other).diff()
    found = window_statistics.comovement(wide, "gold_close", 60)
    rolled = ours.rolling(60)
    known = found["gold_close_beta_60"].notna()
    assert known.sum() > 100
    np.testing.assert_allclose(found["gold_close_correlation_60"][known], rolled.corr(theirs)[known], atol=1e-7)
    np.testing.assert_allclose(
        found["gold_close_beta_60"][known], (rolled.cov(theirs) / theirs.rolling(60).var())[known], atol=1e-7
    )
    np.testing.assert_allclose(found["gold_close_covariance_60"][60:], 1e4 * rolled.cov(theirs)[60:], atol=1e-9)
    ranks = window_statistics.rank_comovement(wide, "gold_close", 60)
    for row in (60, 99, 180):
        part = slice(row - 59, row + 1)
        expected = ours.round(12)[part].rank().corr(theirs.round(12)[part].rank())
        assert ranks.iloc[row] == pytest.approx(expected, abs=1e-9)
    distribution = window_statistics.return_distribution(bars, 48)
    np.testing.assert_allclose(distribution["return_mean_48"][48:], 100 * ours.rolling(48).mean()[48:], atol=1e-9)
    np.testing.assert_allclose(distribution["return_deviation_48"][48:], 100 * ours.rolling(48).std()[48:], rtol=1e-7)
    quantiles = window_statistics.return_quantiles(bars, 96)
    np.testing.assert_allclose(quantiles["return_low_96"][96:], 100 * ours.rolling(96).quantile(0.05)[96:], atol=1e-12)


def test_the_hurst_exponent_against_its_definition() -> None:
    logs = np.log(eurusd()["close"].to_numpy()[:200])
    ours = trend_strength.hurst(pd.DataFrame({"close": np.exp(logs)}), 64).to_numpy()
    steps = np.array([1, 2, 4, 8, 16])
    for row in (64, 100, 199):
        part = logs[row - 64 : row + 1]
        means = [np.abs(part[step:] - part[:-step]).mean() for step in steps]
        assert ours[row] == pytest.approx(np.polyfit(np.log(steps), np.log(means), 1)[0], rel=1e-9)
