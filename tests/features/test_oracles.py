"""Features against published values, a peer library and definitions written out slowly."""

from __future__ import annotations

import json
import math
import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.features import (
    calendar,
    higher_timeframe,
    kernels,
    momentum,
    position,
    shape,
    trend,
    volatility,
    volume,
)
from tapeline.features import statistics as stats
from tests.core.samples import eurusd
from tests.support import make_bars


@pytest.fixture(scope="module")
def spy(test_data: Path) -> pd.DataFrame:
    """502 daily bars of SPY with the published values of a spreadsheet for each indicator."""
    bars = pd.read_csv(test_data / "data/indicator_oracles/quotes/default.csv", parse_dates=["date"])
    bars = bars.set_index(pd.DatetimeIndex(bars.pop("date"), tz="UTC", name="ts")).astype(float)
    return bars.assign(close_ts=bars.index + pd.Timedelta(days=1))


@pytest.fixture(scope="module")
def published(test_data: Path):
    def read(name: str, field: str) -> np.ndarray:
        rows = json.loads((test_data / f"data/indicator_oracles/results/{name}.standard.json").read_text())
        return np.array([np.nan if row[field] is None else row[field] for row in rows], dtype=float)

    return read


def agree(values: pd.Series, expected: np.ndarray, *, after: int, absolute: float = 1e-8) -> None:
    """Equal wherever the published series has settled, and both have values there."""
    assert np.isfinite(expected[after:]).all()
    np.testing.assert_allclose(values.to_numpy()[after:], expected[after:], atol=absolute, rtol=1e-9)


def test_published_momentum(spy, published) -> None:
    agree(momentum.cci(spy, 20), published("cci", "cci"), after=19)
    agree(momentum.ultimate_oscillator(spy), published("uo", "ultimate"), after=28)
    agree(momentum.true_strength(spy, 25, 13), published("tsi", "tsi"), after=300, absolute=1e-6)
    both = momentum.stochastic(spy, 14, 3)
    agree(both["stochastic_k_14"], published("stoch", "k"), after=15)
    agree(both["stochastic_d_14"], published("stoch", "d"), after=17)


def test_published_trend(spy, published) -> None:
    # Of equal extremes the publisher counts the older one; TA-Lib, and so we, the newer one.
    ours, theirs = trend.aroon(spy, 25).to_numpy(), published("aroon", "oscillator")
    differs = np.flatnonzero(~np.isclose(ours, theirs, equal_nan=True))
    assert differs.size == 2
    for row in differs:
        high, low = (spy[name].iloc[row - 25 : row + 1] for name in ("high", "low"))
        assert (high == high.max()).sum() + (low == low.min()).sum() > 2
    assert np.isfinite(theirs[25:]).all()
    agree(trend.vortex(spy, 14), published("vortex", "pvi") - published("vortex", "nvi"), after=14)


def test_published_volatility_and_position(spy, published) -> None:
    agree(volatility.atr_percent(spy, 14), published("atr", "atrp"), after=420, absolute=1e-6)
    lower, upper = published("keltner", "lowerBand"), published("keltner", "upperBand")
    agree(volatility.keltner_position(spy, 20, 10), (spy["close"] - lower) / (upper - lower), after=400, absolute=1e-6)
    lower, upper = published("donchian", "lowerBand"), published("donchian", "upperBand")
    # The published channel is that of the 20 bars before the current one.
    ours = position.donchian_position(spy, 20)
    close = spy["close"].to_numpy()[20:-1]
    np.testing.assert_allclose(ours[20:-1], (close - lower[21:]) / (upper[21:] - lower[21:]), atol=1e-9)


def test_published_volume(spy, published) -> None:
    agree(volume.money_flow_index(spy, 14), published("mfi", "mfi"), after=14)
    agree(volume.chaikin_money_flow(spy, 20), published("cmf", "cmf"), after=19)


def test_a_peer_library_on_real_bars() -> None:
    from ta import momentum as peer_momentum
    from ta import trend as peer_trend
    from ta import volatility as peer_volatility

    bars = eurusd().head(1500)
    high, low, close = bars["high"], bars["low"], bars["close"]
    pairs = [
        (momentum.rsi(bars, 14), peer_momentum.RSIIndicator(close, 14).rsi(), 1e-6),
        (momentum.williams_r(bars, 14), peer_momentum.WilliamsRIndicator(high, low, close, 14).williams_r(), 1e-8),
        (momentum.macd(bars)["macd_12_26"], 100 * peer_trend.MACD(close).macd() / close, 1e-6),
        (momentum.macd(bars)["macd_signal_12_26_9"], 100 * peer_trend.MACD(close).macd_signal() / close, 1e-6),
        (trend.adx(bars, 14)["adx_14"], peer_trend.ADXIndicator(high, low, close, 14).adx(), 1e-3),
        (
            volatility.bollinger(bars, 20)["bollinger_position_20"],
            peer_volatility.BollingerBands(close, 20).bollinger_pband(),
            1e-6,
        ),
        (
            volatility.bollinger(bars, 20)["bollinger_width_20"],
            peer_volatility.BollingerBands(close, 20).bollinger_wband(),
            1e-6,
        ),
    ]
    for ours, theirs, absolute in pairs:
        compared = ours.iloc[700:].notna() & theirs.iloc[700:].notna()
        assert compared.mean() > 0.95, ours.name
        np.testing.assert_allclose(ours.iloc[700:][compared], theirs.iloc[700:][compared], atol=absolute, rtol=1e-5)


def test_the_rsi_against_wilders_rule_written_out() -> None:
    closes = eurusd()["close"].head(200).tolist()
    values = momentum.rsi(pd.DataFrame({"close": closes}), 14)
    gains = [max(b - a, 0.0) for a, b in pairwise(closes)]
    losses = [max(a - b, 0.0) for a, b in pairwise(closes)]
    gain, loss = sum(gains[:14]) / 14, sum(losses[:14]) / 14
    assert values.iloc[:14].isna().all()
    for row in range(14, len(closes)):
        assert values.iloc[row] == pytest.approx(100 - 100 / (1 + gain / loss))
        if row < len(gains):
            gain, loss = (13 * gain + gains[row]) / 14, (13 * loss + losses[row]) / 14


def test_range_volatilities_agree_on_a_fine_random_walk() -> None:
    """All five estimate the same thing where a bar is a driftless walk of many steps."""
    generator = np.random.default_rng(5)
    steps = generator.normal(0, 0.001 / np.sqrt(400), (3000, 400))
    path = np.cumsum(steps, axis=None).reshape(3000, 400)
    opened = np.concatenate(([0.0], path[:-1, -1]))
    logs = {
        "open": opened,
        "high": np.maximum(path.max(axis=1), opened),
        "low": np.minimum(path.min(axis=1), opened),
        "close": path[:, -1],
    }
    bars = pd.DataFrame({name: np.exp(values) for name, values in logs.items()})
    for estimate in (
        volatility.realised_volatility,
        volatility.parkinson,
        volatility.garman_klass,
        volatility.rogers_satchell,
        volatility.yang_zhang,
    ):
        # A range seen at 400 steps is a little short of the true one: at most 6 percent.
        assert estimate(bars, 2900).iloc[-1] == pytest.approx(0.1, rel=0.06), estimate.__name__


finite = st.floats(-100, 100).map(lambda value: round(value, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=6, max_size=40), st.integers(3, 6))
def test_kernels_against_slow_definitions(pairs, window) -> None:
    x, y = (np.array(values) for values in zip(*pairs, strict=True))
    mean, deviation = kernels.rolling_deviation(x, window)
    correlation = kernels.rolling_correlation(x, y, window)
    slope, _ = kernels.rolling_regression(x, window)
    rank = kernels.rolling_rank(x, window)
    skew, kurtosis = kernels.rolling_moments(x, window)
    for row in range(window - 1, x.size):
        part, other = x[row - window + 1 : row + 1].tolist(), y[row - window + 1 : row + 1].tolist()
        centre = statistics.fmean(part)
        assert mean[row] == pytest.approx(centre, abs=1e-9)
        assert deviation[row] == pytest.approx(statistics.pstdev(part), abs=1e-9)
        assert slope[row] == pytest.approx(statistics.linear_regression(range(window), part).slope, abs=1e-8)
        assert rank[row] == pytest.approx(
            sum(1.0 if v < part[-1] else 0.5 if v == part[-1] else 0.0 for v in part) / window
        )
        if len(set(part)) > 1 and len(set(other)) > 1:
            assert correlation[row] == pytest.approx(statistics.correlation(part, other), abs=1e-6)
            spread = statistics.pstdev(part)
            third = statistics.fmean([(v - centre) ** 3 for v in part]) / spread**3
            fourth = statistics.fmean([(v - centre) ** 4 for v in part]) / spread**4 - 3
            assert skew[row] == pytest.approx(third, abs=1e-5)
            assert kurtosis[row] == pytest.approx(fourth, abs=1e-5)
        if len(set(part)) == 1:
            assert math.isnan(correlation[row])
            assert math.isnan(skew[row])
    assert np.isnan(mean[: window - 1]).all()


def test_sessions_follow_the_clocks_of_their_cities() -> None:
    """The week of 2017-03-13: New York is on summer time already, London is not."""
    hours = pd.date_range("2017-03-06", "2017-03-31 23:00", freq="30min", tz="UTC", name="ts")
    bars = pd.DataFrame({"close": 1.0}, index=hours)

    def first_open(session, day: str) -> str:
        opened = session(bars).loc[day]
        return f"{opened[opened == 1.0].index[0]:%H:%M}"

    assert first_open(calendar.new_york_session, "2017-03-10") == "14:30"
    assert first_open(calendar.new_york_session, "2017-03-13") == "13:30"
    assert first_open(calendar.london_session, "2017-03-24") == "08:00"
    assert first_open(calendar.london_session, "2017-03-27") == "07:00"
    assert first_open(calendar.tokyo_session, "2017-03-27") == "00:00"
    assert calendar.london_session(bars).loc["2017-03-11"].sum() == 0
    assert calendar.london_session(bars).loc["2017-03-24"].sum() == 17


def test_the_clock_and_the_week_go_round() -> None:
    bars = make_bars(24 * 14, gaps=False)
    hour, day = calendar.hour_of_day(bars), calendar.day_of_week(bars)
    np.testing.assert_allclose(hour["hour_sine"] ** 2 + hour["hour_cosine"] ** 2, 1.0)
    assert hour["hour_cosine"].loc["2017-01-04 12:00"] == pytest.approx(-1.0)
    angle = np.arctan2(day["weekday_sine"], day["weekday_cosine"]) / (2 * np.pi) * 7 % 7
    np.testing.assert_allclose(angle.round(6) % 7, bars.index.day_of_week)


def test_the_pause_over_a_weekend_on_real_bars() -> None:
    bars = eurusd()
    pauses = calendar.pause(bars)
    assert pauses.loc["2017-01-08 22:00"] == 48.0
    assert (pauses.dropna() >= 0).all()
    assert (pauses > 0).sum() == 52


def test_the_day_so_far_against_a_slow_definition() -> None:
    bars = eurusd().head(300)
    ours = position.position_in_day(bars)
    for row in range(len(bars)):
        day = bars.iloc[: row + 1]
        day = day[day.index.normalize() == bars.index[row].normalize()]
        low, high = day["low"].min(), day["high"].max()
        assert ours.iloc[row] == pytest.approx((bars["close"].iloc[row] - low) / (high - low))


def test_the_limit_of_bars_in_a_period_is_a_trailing_window() -> None:
    bars = make_bars(200, timeframe="M1", gaps=False)
    limited = position.position_in_day(bars, longest=30)
    rolled = position.donchian_position(bars, 30)
    np.testing.assert_allclose(limited.iloc[30:], rolled.iloc[30:])


def test_the_higher_timeframe_against_resampling_by_pandas() -> None:
    bars = eurusd().iloc[:2000]
    ours = higher_timeframe.higher_timeframe(bars, factor=24, window=5)
    days = bars.resample("1D").agg({"high": "max", "low": "min", "close": "last"}).dropna()
    change = days["close"].diff()
    up = change.clip(lower=0).rolling(5).mean()
    expected = pd.DataFrame(
        {
            "rsi": 100 * up / change.abs().rolling(5).mean(),
            "low": days["low"].rolling(5).min(),
            "high": days["high"].rolling(5).max(),
        }
    )
    for row in range(0, 2000, 7):
        closed = expected[expected.index + pd.Timedelta(days=1) <= bars["close_ts"].iloc[row]]
        if len(closed) < 6:
            continue
        last = closed.iloc[-1]
        assert ours["higher_24_rsi_5"].iloc[row] == pytest.approx(last["rsi"])
        place = (bars["close"].iloc[row] - last["low"]) / (last["high"] - last["low"])
        assert ours["higher_24_position_5"].iloc[row] == pytest.approx(place)


def test_the_parts_of_a_candle_add_up() -> None:
    parts = shape.candle(make_bars())
    np.testing.assert_allclose(parts["body"].abs() + parts["upper_wick"] + parts["lower_wick"], 1.0)
    assert (parts[["upper_wick", "lower_wick"]] >= 0).all().all()


def test_statistics_tell_a_trend_from_a_reversal() -> None:
    generator = np.random.default_rng(3)
    noise = generator.normal(0, 0.001, 3000)
    trending, reverting = np.zeros(3000), np.zeros(3000)
    for i in range(1, 3000):
        trending[i] = 0.5 * trending[i - 1] + noise[i]
        reverting[i] = -0.5 * reverting[i - 1] + noise[i]
    for returns, sign in ((trending, 1), (reverting, -1)):
        bars = pd.DataFrame({"close": np.exp(np.cumsum(returns))})
        assert stats.autocorrelation(bars, 2000).iloc[-1] == pytest.approx(0.5 * sign, abs=0.06)
        ratio = stats.variance_ratio(bars, 2000, 2).iloc[-1]
        assert ratio == pytest.approx(1 + 0.5 * sign, abs=0.08)
    assert stats.close_rank(pd.DataFrame({"close": np.arange(1.0, 101.0)}), 100).iloc[-1] == 0.995


def test_volume_features_point_the_right_way() -> None:
    bars = make_bars()
    rising = bars["close"].diff() > 0
    weighted = bars.assign(volume=np.where(rising, 10.0, 1.0))
    assert volume.signed_volume(weighted, 200).iloc[-1] > 0.6
    assert volume.relative_volume(bars.assign(volume=5.0), 10).iloc[-1] == 1.0
    assert volume.signed_volume(bars.assign(volume=0.0), 10).isna().all()
    returns = np.log(bars["close"]).diff().abs().fillna(0.0)
    assert volume.volume_correlation(bars.assign(volume=returns * 7 + 1), 50).iloc[-1] == pytest.approx(1.0)
    flat = bars.assign(high=bars["close"], low=bars["close"])
    assert (volume.vwap_distance(bars.assign(volume=1.0), 5).dropna().abs() < 10).all()
    assert volume.chaikin_money_flow(flat, 5).dropna().eq(0.0).all()
