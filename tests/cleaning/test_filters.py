"""Filters and smoothers against peer libraries, slow definitions and their own declared delay."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning import filters, smoothers
from tapeline.cleaning.signal_array import delay_of
from tapeline.cleaning.wavelet_denoise import wavelet_denoise, wavelet_denoise_whole
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import feature
from tests.core.samples import eurusd

CAUSAL = [
    (filters.butterworth, {"period": 20.0, "order": 1}),
    (filters.butterworth, {"period": 12.0, "order": 4}),
    (filters.butterworth, {"period": 30.0, "order": 5}),
    (filters.median_filter, {"window": 7}),
    (filters.kalman_level, {"ratio": 0.02}),
    (filters.kalman_trend, {}),
    (filters.savitzky_golay, {"window": 15, "degree": 2}),
    (filters.savitzky_golay, {"window": 9, "degree": 0}),
    (wavelet_denoise, {"window": 64}),
    (smoothers.simple_average, {"window": 12}),
    (smoothers.exponential_average, {"window": 12}),
    (smoothers.weighted_average, {"window": 12}),
    (smoothers.hull_average, {"window": 16}),
    (smoothers.hull_average, {"window": 21}),
    (smoothers.adaptive_average, {"slow": 10}),
    (smoothers.loess, {"window": 21, "degree": 0}),
    (smoothers.loess, {"window": 21, "degree": 1}),
    (smoothers.hodrick_prescott, {"smoothness": 100.0}),
    (smoothers.super_smoother, {"period": 15.0}),
]
NAMES = [f"{function.__name__}-{'-'.join(map(str, given.values()))}" for function, given in CAUSAL]
WHOLE = [
    filters.butterworth_whole,
    filters.median_filter_whole,
    filters.kalman_level_whole,
    filters.savitzky_golay_whole,
    wavelet_denoise_whole,
    smoothers.loess_whole,
    smoothers.whittaker_whole,
]


@pytest.fixture(scope="module")
def close() -> np.ndarray:
    return eurusd()["close"].to_numpy()[:1500].copy()


@pytest.mark.parametrize(("function", "given"), CAUSAL, ids=NAMES)
def test_a_rising_line_comes_out_late_by_the_declared_delay(function, given) -> None:
    if function is wavelet_denoise:
        pytest.skip("declared for a move in noise: see its own test")
    line = 100.0 + 0.5 * np.arange(2000.0)
    late = (line - function(line, **given))[-1] / 0.5
    assert late == pytest.approx(delay_of(function, **given), abs=1e-5)


@pytest.mark.parametrize(("function", "given"), CAUSAL, ids=NAMES)
def test_a_slow_wave_comes_out_late_by_the_declared_delay(function, given) -> None:
    """The phase at a period of 4000 bars. Medians and adaptive averages are no linear filters: within half a bar."""
    if function is wavelet_denoise:
        pytest.skip("declared for a move in noise: see its own test")
    bars = np.arange(16_000.0)
    wave = np.exp(2j * np.pi * bars / 4000)
    out = function(wave.real.copy(), **given)[8000:]
    phase = np.angle(np.mean(out * wave[8000:].conj()))
    late = -phase * 4000 / (2 * np.pi)
    assert late == pytest.approx(delay_of(function, **given), abs=0.5)


@pytest.mark.parametrize(("window", "wavelet", "level"), [(64, "sym4", 3), (64, "haar", 2), (50, "db2", 3)])
def test_a_move_slow_against_the_noise_leaves_the_wavelet_denoiser_by_its_delay_late(window, wavelet, level) -> None:
    line = 0.002 * np.arange(20_000.0)
    late = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(size=line.size)
        out = [wavelet_denoise(sign * line + noise, window, wavelet, level, 3.0) for sign in (1.0, -1.0)]
        late.append(np.mean(line[window:] - (out[0] - out[1])[window:] / 2) / 0.002)
    assert np.mean(late) == pytest.approx(
        delay_of(wavelet_denoise, window=window, wavelet=wavelet, level=level), rel=0.1
    )
    clean = wavelet_denoise(np.arange(300.0), window, wavelet, level)
    if wavelet != "haar":
        np.testing.assert_allclose(clean[window:], np.arange(300.0)[window:], rtol=1e-9)


@pytest.mark.parametrize(
    ("window", "wavelet", "level"), [(64, "sym4", 3), (37, "haar", 4), (50, "db2", 3), (80, "db6", 2)]
)
def test_the_rolling_denoiser_is_pywavelets_on_each_window(window, wavelet, level, close) -> None:
    import pywt

    ours = wavelet_denoise(close, window, wavelet, level, 0.7)
    for row in range(window - 1, 500, 7):
        parts = pywt.wavedec(close[row - window + 1 : row + 1], wavelet, mode="symmetric", level=level)
        threshold = 0.7 * np.sqrt(2 * np.log(window)) * np.median(np.abs(parts[-1])) / 0.6745
        kept = [parts[0], *(pywt.threshold(part, threshold, "soft") for part in parts[1:])]
        assert ours[row] == pytest.approx(pywt.waverec(kept, wavelet, mode="symmetric")[window - 1], rel=1e-10)


@pytest.mark.parametrize(("function", "given"), CAUSAL, ids=NAMES)
def test_a_constant_stays_and_a_step_settles(function, given) -> None:
    step = np.r_[np.full(1000, 2.0), np.full(3000, 3.0)]
    out = function(step, **given)
    before = out[:1000]
    np.testing.assert_allclose(before[~np.isnan(before)], 2.0, rtol=1e-11)
    assert out[-1] == pytest.approx(3.0, abs=1e-9)


@pytest.mark.parametrize(("function", "given"), CAUSAL, ids=NAMES)
def test_the_past_does_not_change_with_the_future(function, given, close) -> None:
    out = function(close[:700], **given)
    for cut in (1, 2, 30, 333, 699):
        other = np.r_[close[:cut], close[cut:700] * 3.0 + 1.0]
        np.testing.assert_array_equal(function(other, **given)[:cut], out[:cut])
        np.testing.assert_array_equal(function(close[:cut].copy(), **given), out[:cut])


@pytest.mark.parametrize(("function", "given"), CAUSAL, ids=NAMES)
def test_series_keep_their_index_and_a_nan_stays_local(function, given, close) -> None:
    holed = pd.Series(close[:900], name="close", index=pd.RangeIndex(5, 905))
    holed.iloc[400] = np.nan
    out = function(holed, **given)
    assert out.index.equals(holed.index)
    assert out.name == "close"
    assert np.isnan(out.iloc[400])
    assert out.iloc[600:].notna().all()
    assert not np.isinf(out).any()
    assert function(np.array([]), **given).size == 0


@pytest.mark.parametrize("function", WHOLE, ids=lambda function: function.__name__)
def test_the_research_forms_read_the_future_and_are_refused(function, close) -> None:
    with pytest.raises(ConfigurationError, match="reads the future"):
        feature(lookback=1, outputs="x", reference="none")(function)
    with pytest.raises(ConfigurationError, match="no delay"):
        delay_of(function)
    changed = close[:300].copy()
    changed[200:] *= -1.0
    before, after = function(close[:300].copy()), function(changed)
    assert not np.allclose(before[150:200], after[150:200], equal_nan=True, atol=1e-12, rtol=0)


@pytest.mark.parametrize("order", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("period", [2.5, 10.0, 60.0])
def test_butterworth_is_that_of_scipy(order, period, close) -> None:
    from scipy.signal import butter, sosfilt, sosfilt_zi

    sections = butter(order, 2.0 / period, output="sos")
    expected, _ = sosfilt(sections, close, zi=sosfilt_zi(sections) * close[0])
    np.testing.assert_allclose(filters.butterworth(close, period, order), expected, rtol=1e-9)


def test_window_filters_are_those_of_scipy_pandas_and_statsmodels(close) -> None:
    from scipy.signal import savgol_coeffs, savgol_filter
    from statsmodels.nonparametric.smoothers_lowess import lowess

    values = pd.Series(close)
    np.testing.assert_allclose(filters.median_filter(values, 11), values.rolling(11).median(), rtol=1e-15)
    np.testing.assert_allclose(
        filters.median_filter_whole(values, 11), values.rolling(11, center=True).median(), rtol=1e-15
    )
    for window, degree in ((15, 2), (21, 3), (8, 1)):
        weights = savgol_coeffs(window, degree, pos=window - 1)
        expected = np.convolve(close, weights)[window - 1 : close.size]
        np.testing.assert_allclose(filters.savitzky_golay(close, window, degree)[window - 1 :], expected, rtol=1e-9)
    np.testing.assert_allclose(
        filters.savitzky_golay_whole(close, 15, 2)[7:-7], savgol_filter(close, 15, 2)[7:-7], rtol=1e-10
    )
    ours = smoothers.loess(close, 25)
    for row in range(24, 400, 37):
        fit = lowess(close[row - 24 : row + 1], np.arange(25.0), frac=1.0, it=0, return_sorted=False)
        assert ours[row] == pytest.approx(fit[-1], rel=1e-6), "statsmodels cuts weights beyond 0.999 of the radius"


@pytest.mark.parametrize(
    ("name", "function", "given"),
    [
        ("SMA", smoothers.simple_average, {}),
        ("EMA", smoothers.exponential_average, {}),
        ("WMA", smoothers.weighted_average, {}),
        ("KAMA", smoothers.adaptive_average, {}),
    ],
)
@pytest.mark.parametrize("window", [2, 10, 33])
def test_averages_are_those_of_talib(name, function, given, window, close) -> None:
    import talib

    np.testing.assert_allclose(
        function(close, window=window, **given), getattr(talib, name)(close, timeperiod=window), rtol=1e-10
    )


def test_hull_is_its_definition(close) -> None:
    import talib

    lifted = 2 * talib.WMA(close, 10) - talib.WMA(close, 20)
    np.testing.assert_allclose(smoothers.hull_average(close, 20)[30:], talib.WMA(lifted[19:], 4)[11:], rtol=1e-10)


def test_the_super_smoother_is_ehlers_recursion(close) -> None:
    """The listing of the book, with its angle in degrees and its 1.414."""
    period = 10
    decay = np.exp(-1.414 * 3.14159 / period)
    c2, c3 = 2 * decay * np.cos(np.deg2rad(1.414 * 180 / period)), -decay * decay
    expected = [close[0], close[0]]
    for row in range(2, 400):
        expected.append((1 - c2 - c3) * (close[row] + close[row - 1]) / 2 + c2 * expected[-1] + c3 * expected[-2])
    np.testing.assert_allclose(smoothers.super_smoother(close, 10.0)[50:400], expected[50:], rtol=1e-6)


def test_kalman_filters_are_those_of_statsmodels(close) -> None:
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    part = close[:300].copy()
    part[120:123] = np.nan
    level = UnobservedComponents(part, "llevel", use_exact_diffuse=True).filter([1.0, 0.05])
    known = ~np.isnan(part)
    np.testing.assert_allclose(filters.kalman_level(part, 0.05)[known], level.filtered_state[0][known], rtol=1e-9)
    assert np.isnan(filters.kalman_level(part, 0.05)[~known]).all()
    trend = UnobservedComponents(part, "lltrend", use_exact_diffuse=True).filter([1.0, 0.05, 0.001])
    ours = filters.kalman_trend(part, 0.05, 0.001)
    np.testing.assert_allclose(ours[known][1:], trend.filtered_state[0][known][1:], rtol=1e-8)
    smoothed = UnobservedComponents(close[:300], "llevel", use_exact_diffuse=True).smooth([1.0, 0.05])
    np.testing.assert_allclose(
        filters.kalman_level_whole(close[:300].copy(), 0.05), smoothed.smoothed_state[0], rtol=1e-8
    )


@pytest.mark.parametrize("smoothness", [1.0, 1600.0, 129_600.0])
def test_the_one_sided_trend_is_the_end_of_the_two_sided_on_each_history(smoothness, close) -> None:
    from statsmodels.tsa.filters.hp_filter import hpfilter

    ours = smoothers.hodrick_prescott(close[:250].copy(), smoothness)
    for row in (3, 10, 57, 130, 249):
        _, trend = hpfilter(close[: row + 1], smoothness)
        assert ours[row] == pytest.approx(trend[-1], rel=1e-8)
    _, trend = hpfilter(close[:250], smoothness)
    np.testing.assert_allclose(smoothers.whittaker_whole(close[:250].copy(), smoothness), trend, rtol=1e-8)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=40),
    smoothness=st.floats(0.01, 1e4),
    order=st.integers(1, 4),
)
def test_whittaker_solves_its_normal_equations(values, smoothness, order) -> None:
    x = np.array(values)
    differences = np.diff(np.eye(x.size), n=order, axis=0)
    expected = np.linalg.solve(np.eye(x.size) + smoothness * differences.T @ differences, x)
    np.testing.assert_allclose(
        smoothers.whittaker_whole(x, smoothness, order), expected, atol=1e-6 * (1 + abs(x).max())
    )


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))), max_size=60), window=st.integers(1, 12))
def test_windows_with_holes_are_those_of_pandas(values, window) -> None:
    x = pd.Series(values, dtype=float)
    rolled = x.rolling(window)
    np.testing.assert_allclose(smoothers.simple_average(x, window), rolled.mean(), atol=1e-9)
    np.testing.assert_allclose(filters.median_filter(x, window), rolled.median(), atol=1e-12)
    weights = np.arange(1.0, window + 1)
    expected = rolled.apply(lambda part: part @ weights / weights.sum(), raw=True)
    np.testing.assert_allclose(smoothers.weighted_average(x, window), expected, atol=1e-9)


def test_rounding_of_a_spike_does_not_stay(close) -> None:
    spiked = close.copy()
    spiked[100] = 1e15
    for function in (smoothers.simple_average, smoothers.weighted_average):
        np.testing.assert_allclose(function(spiked, 20)[121:], function(close, 20)[121:], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: filters.butterworth(x, 2.0), "period"),
        (lambda x: filters.butterworth(x, 20.0, 13), "order"),
        (lambda x: filters.median_filter(x, 0), "window"),
        (lambda x: filters.median_filter_whole(x, 4), "no middle"),
        (lambda x: filters.kalman_level(x, 0.0), "ratio"),
        (lambda x: filters.savitzky_golay(x, 2, 2), "window"),
        (lambda x: smoothers.loess(x, 25, 3), "degree"),
        (lambda x: smoothers.simple_average(x, 2.5), "window"),
        (lambda x: smoothers.adaptive_average(x, 10, 30, 2), "slow"),
        (lambda x: smoothers.hodrick_prescott(x, float("nan")), "smoothness"),
        (lambda x: wavelet_denoise(x, wavelet="db2; import os"), "wavelet"),
        (lambda x: wavelet_denoise(x, window=48, level=9), "level"),
    ],
)
def test_parameters_out_of_bounds_are_named(call, said) -> None:
    with pytest.raises(ConfigurationError, match=said):
        call(np.ones(50))


def test_what_is_no_signal_is_refused() -> None:
    for wrong in (np.ones((3, 2)), np.array(["a"]), np.array([1.0, np.inf])):
        with pytest.raises(DataError):
            smoothers.simple_average(wrong, 2)
    with pytest.raises(DataError, match="row 1"):
        smoothers.whittaker_whole(np.array([1.0, np.nan, 2.0, 3.0]))


def test_each_filter_brings_a_noisy_wave_closer_to_the_clean_one() -> None:
    generator = np.random.default_rng(2)
    clean = np.sin(2 * np.pi * np.arange(4000) / 4000)
    noisy = clean + 0.3 * generator.normal(size=4000)
    for function, parameters in CAUSAL:
        error = (function(noisy, **parameters) - clean)[500:]
        assert error.std() < 0.85 * 0.3, function.__name__
