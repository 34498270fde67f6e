"""Cycles: periods and phases of known waves, beside TA-Lib's; slow plain forms; scipy's periodogram."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.features.cycle_kernels import (
    autocorrelation_periodogram,
    high_pass,
    rolling_lomb_scargle,
    wave_at_the_end,
)
from tapeline.features.cycles import cycle_phase, cycle_strength, lomb_wave
from tests.core.samples import eurusd

STEPS = np.arange(1500.0)
PERIODS = (8, 10, 12, 15, 20, 25, 30, 36, 40, 44, 48)


def wave_bars(period: float, noise: float = 0.0, crest: float = 0.0) -> pd.DataFrame:
    """A sine with crests ``crest`` bars after multiples of the period, white noise, and a slow rise."""
    wave = np.cos(2.0 * np.pi * (STEPS - crest) / period)
    error = noise * np.random.default_rng(int(period)).normal(0, 1, STEPS.size)
    return pd.DataFrame({"close": 100.0 * np.exp(0.01 * (wave + error) + 1e-5 * STEPS)})


@pytest.mark.parametrize("period", PERIODS)
def test_the_period_of_a_pure_wave_is_found_as_by_talib(period: int) -> None:
    import talib

    bars = wave_bars(period)
    found = cycle_strength(bars)["cycle_period_48"].iloc[600:]
    theirs = talib.HT_DCPERIOD(bars["close"].to_numpy())[600:]
    assert found.sub(period).abs().max() < 0.06 * period
    assert abs(theirs.mean() - period) < 0.06 * period
    assert found.std() < 0.02 * period


@pytest.mark.parametrize("period", PERIODS)
def test_noise_does_not_hide_the_period_and_misleads_it_less_than_talib(period: int) -> None:
    import talib

    bars = wave_bars(period, noise=0.5)
    found = cycle_strength(bars)["cycle_period_48"].iloc[600:]
    theirs = talib.HT_DCPERIOD(bars["close"].to_numpy())[600:]
    assert found.sub(period).abs().quantile(0.9) < 0.12 * period
    assert found.sub(period).abs().mean() < np.abs(theirs - period).mean()


@pytest.mark.parametrize("period", [9, 16, 24, 40])
def test_the_phase_of_a_wave_is_the_true_one(period: int) -> None:
    bars = wave_bars(period, crest=3.0)
    found = cycle_phase(bars).iloc[700:]
    angle = 2.0 * np.pi * (STEPS[700:] - 3.0) / period
    np.testing.assert_allclose(found["cycle_sine_48"], np.cos(angle), atol=0.15)
    np.testing.assert_allclose(found["cycle_cosine_48"], -np.sin(angle), atol=0.15)
    assert found["cycle_rate_48"].mean() == pytest.approx(1.0 / period, rel=0.01)
    assert found["cycle_confidence_48"].min() > 0.98
    noisy = cycle_phase(wave_bars(period, noise=0.5, crest=3.0)).iloc[700:]
    assert np.corrcoef(noisy["cycle_sine_48"], np.cos(angle))[0, 1] > 0.9
    assert noisy["cycle_confidence_48"].median() < 0.9


def test_the_phase_turns_with_talibs() -> None:
    import talib

    bars = wave_bars(20)
    phase = np.radians(talib.HT_DCPHASE(bars["close"].to_numpy())[800:])
    found = cycle_phase(bars).iloc[800:]
    ours = np.arctan2(found["cycle_sine_48"], found["cycle_cosine_48"]).to_numpy()
    apart = np.angle(np.exp(1j * (ours - phase)))
    # TA-Lib's lags the wave by its filters; the lag stays the same.
    assert apart.std() < 0.1


def test_signal_to_noise_rises_with_the_signal_and_entropy_falls() -> None:
    clean, noisy = (cycle_strength(wave_bars(16, noise)).iloc[600:].mean() for noise in (0.2, 1.0))
    # A wave of power 1/2 over noise of variance 0.04 stands 11 decibels above it.
    assert clean["cycle_signal_to_noise_48"] == pytest.approx(10 * np.log10(0.5 / 0.04), abs=1.5)
    assert noisy["cycle_signal_to_noise_48"] < clean["cycle_signal_to_noise_48"] - 8
    assert noisy["cycle_power_48"] < clean["cycle_power_48"]
    assert noisy["cycle_entropy_48"] > clean["cycle_entropy_48"]


def test_the_periodogram_equals_its_plain_form() -> None:
    values = np.random.default_rng(1).normal(0, 1, 120)
    window, lags = 24, np.arange(37.0)
    periods = np.geomspace(5.0, 30.0, 25)
    angles = 2.0 * np.pi * lags / periods[:, None]
    period, share, entropy = autocorrelation_periodogram(values, window, np.cos(angles), np.sin(angles), periods, 0.0)
    assert np.isnan(period[: window + 35]).all()
    for end in (59, 60, 83, 84, 119):
        here = values[end - window + 1 : end + 1]
        correlations = [
            np.corrcoef(here, values[end - lag - window + 1 : end - lag + 1])[0, 1] for lag in range(lags.size)
        ]
        power = np.abs(np.exp(1j * angles) @ np.array(correlations)) ** 2
        assert abs(np.log(period[end] / periods[power.argmax()])) <= 0.5 * np.log(periods[1] / periods[0]) + 1e-9
        near = np.abs(periods - period[end]) <= 0.2 * period[end]
        assert share[end] == pytest.approx(power[near].sum() / power.sum(), rel=1e-9)
        shares = power / power.sum()
        assert entropy[end] == pytest.approx(-(shares * np.log(shares)).sum() / np.log(periods.size), rel=1e-9)


def test_the_high_pass_is_ehlers_recursion_and_stops_lines() -> None:
    from scipy.signal import lfilter

    values = np.random.default_rng(2).normal(0, 1, 200).cumsum()
    angle = 0.707 * 2.0 * np.pi / 48.0
    alpha = (np.cos(angle) + np.sin(angle) - 1.0) / np.cos(angle)
    gain, keep = (1.0 - alpha / 2.0) ** 2, 1.0 - alpha
    theirs = lfilter([gain, -2.0 * gain, gain], [1.0, -2.0 * keep, keep * keep], values - values[0])
    # Ehlers writes 0.707 for the root of one half, and starts from nothing.
    np.testing.assert_allclose(high_pass(values, 48.0)[150:], theirs[150:], atol=2e-3)
    assert np.abs(high_pass(3.0 + 0.5 * np.arange(100.0), 48.0)).max() < 1e-12


def test_the_wave_at_the_end_equals_least_squares() -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(0, 1, 200).cumsum()
    periods = generator.uniform(8.0, 40.0, 200)
    a, b, share = wave_at_the_end(values, periods, 2.0, 60)
    assert np.isnan(a[:59]).all()
    for end in (59, 100, 199):
        n = int(min(max(np.rint(2.0 * periods[end]), 6), 60))
        t = np.arange(-n + 1.0, 1.0)
        y = values[end - n + 1 : end + 1]
        angle = 2.0 * np.pi * t / periods[end]
        line = np.stack((np.ones(n), t), axis=1)
        full = np.column_stack((line, np.cos(angle), np.sin(angle)))
        fitted = np.linalg.lstsq(full, y)[0]
        assert (a[end], b[end]) == pytest.approx(tuple(fitted[2:]), rel=1e-7)
        left = [((y - m @ np.linalg.lstsq(m, y)[0]) ** 2).sum() for m in (line, full)]
        assert share[end] == pytest.approx(1.0 - left[1] / left[0], rel=1e-7)


def test_lomb_and_scargles_periodogram_is_scipys() -> None:
    from scipy.signal import lombscargle

    generator = np.random.default_rng(4)
    times = np.cumsum(generator.integers(1, 5, 400).astype(float))
    values = generator.normal(0, 1, 400) + 0.8 * np.sin(2.0 * np.pi * times / 13.0)
    periods = np.geomspace(4.0, 32.0, 24)
    period, share = rolling_lomb_scargle(values, times, 64, periods, 0.0)
    for end in (63, 64, 255, 256, 300, 399):
        part = slice(end - 63, end + 1)
        theirs = lombscargle(
            times[part],
            values[part] - values[part].mean(),
            2.0 * np.pi / periods,
            floating_mean=True,
            normalize=True,
        )
        assert share[end] == pytest.approx(theirs.max(), rel=1e-8)
        assert period[end] == periods[theirs.argmax()]
    assert np.median(np.abs(np.log(period[63:] / 13.0))) < np.log(1.12)


def test_time_counts_between_bars_as_scipy_has_it_and_rows_do_not() -> None:
    """A daily wave in hours of trading days: seen by the clock, blurred by counting bars."""
    ts = pd.date_range("2017-01-02", periods=3000, freq="1h", tz="UTC", name="ts").as_unit("ns")
    ts = ts[(ts.hour >= 6) & (ts.hour < 23)][:900]
    returns = 0.001 * np.sin(2.0 * np.pi * np.asarray(ts.hour + 24.0 * ts.day_of_year) / 11.0)
    bars = pd.DataFrame({"close": np.exp(np.cumsum(returns)), "close_ts": ts + pd.Timedelta(hours=1)}, index=ts)
    found = lomb_wave(bars).iloc[200:]
    assert (found["lomb_period_128"] / 11.0).between(0.93, 1.08).mean() > 0.95
    rows = pd.date_range("2017-01-02", periods=len(bars), freq="1h", tz="UTC", name="ts").as_unit("ns")
    counted = lomb_wave(bars.set_index(rows).assign(close_ts=rows + pd.Timedelta(hours=1))).iloc[200:]
    assert found["lomb_power_128"].mean() > counted["lomb_power_128"].mean() + 0.15
    assert found["lomb_chance_128"].max() < 1e-6


def test_chance_is_even_in_noise() -> None:
    generator = np.random.default_rng(6)
    ts = pd.date_range("2017-01-02", periods=6000, freq="1h", tz="UTC", name="ts").as_unit("ns")
    close = np.exp(np.cumsum(generator.normal(0, 1e-3, ts.size)))
    found = lomb_wave(pd.DataFrame({"close": close, "close_ts": ts + pd.Timedelta(hours=1)}, index=ts), window=64)
    rare = (found["lomb_chance_64"].dropna() < 0.1).mean()
    assert 0.03 < rare < 0.16


def test_real_bars_and_a_random_walk() -> None:
    real = eurusd().head(3000)
    strength, phase = cycle_strength(real).iloc[600:], cycle_phase(real).iloc[600:]
    assert strength["cycle_period_48"].between(6, 62.5).all()
    assert strength["cycle_power_48"].between(0, 1).all()
    assert strength["cycle_entropy_48"].between(0, 1).all()
    np.testing.assert_allclose(phase["cycle_sine_48"] ** 2 + phase["cycle_cosine_48"] ** 2, 1.0)
    assert phase["cycle_rate_48"].between(-0.5, 0.5).all()
    walk = pd.DataFrame({"close": np.exp(np.random.default_rng(7).normal(0, 1e-3, 6000).cumsum())})
    assert cycle_phase(walk)["cycle_confidence_48"].median() == pytest.approx(0.5, abs=0.15)
    assert abs(cycle_strength(walk)["cycle_signal_to_noise_48"].median()) < 3.0
    by_clock = lomb_wave(real).iloc[200:]
    assert by_clock["lomb_power_128"].between(0, 1).all()
