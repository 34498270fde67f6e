"""Decompositions: exact reconstruction, energy, peer libraries, and nothing of the future in the causal forms."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning import decomposition_empirical as empirical
from tapeline.cleaning import decomposition_fourier as fourier
from tapeline.cleaning import decomposition_trend as trend
from tapeline.cleaning import decomposition_wavelets as wavelets
from tapeline.cleaning.signal_array import delay_of
from tapeline.cleaning.wavelet_kernels import wavelet_taps
from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError
from tapeline.core.registry import feature
from tests.core.samples import eurusd

WHOLE = [
    wavelets.modwt_whole,
    wavelets.imodwt_whole,
    wavelets.multiresolution_whole,
    wavelets.dwt_whole,
    wavelets.idwt_whole,
    wavelets.cwt_whole,
    fourier.stft_whole,
    fourier.istft_whole,
    fourier.fourier_bands_whole,
    trend.stl_whole,
    empirical.emd_whole,
    empirical.ceemdan_whole,
]


def rows(parts) -> np.ndarray:
    """Any result as rows of one value a bar."""
    if isinstance(parts, wavelets.Scales):
        return np.vstack((parts.details, parts.smooth))
    if isinstance(parts, trend.TrendAndSeason):
        return np.vstack((parts.trend, parts.season, parts.rest))
    if isinstance(parts, tuple):
        return np.hstack(parts).T
    return np.asarray(parts) if np.asarray(parts).shape[0] < 30 else np.asarray(parts).T


CAUSAL = {
    "modwt": lambda x: wavelets.modwt(x, "sym4", 3),
    "causal_scales": lambda x: wavelets.causal_scales(x, "haar", 4),
    "causal_cwt": lambda x: wavelets.causal_cwt(x, [4.0, 11.0]),
    "rolling_spectrum": lambda x: fourier.rolling_spectrum(x, 64),
    "dominant_periods": lambda x: fourier.dominant_periods(x, 64, 2),
    "online_trend_season": lambda x: trend.online_trend_season(x, 12, 3),
    "rolling_stl": lambda x: trend.rolling_stl(x, 12, 60, every=5),
    "rolling_emd": lambda x: empirical.rolling_emd(x, 40, 2, every=10),
}


@pytest.fixture(scope="module")
def close() -> np.ndarray:
    return eurusd()["close"].to_numpy()[:1024].copy()


@pytest.mark.parametrize("name", CAUSAL)
def test_the_causal_forms_know_no_future(name, close) -> None:
    full = rows(CAUSAL[name](close[:260]))
    assert full.shape[1] == 260
    assert np.isfinite(full[:, -60:][:, ~np.isnan(full[:, -60:]).all(axis=0)]).all()
    for cut in (90, 150, 231):
        other = np.r_[close[:cut], 2.0 - close[cut:260]]
        for part in (rows(CAUSAL[name](other))[:, :cut], rows(CAUSAL[name](close[:cut]))):
            np.testing.assert_allclose(part, full[:, :cut], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("function", WHOLE, ids=lambda function: function.__name__)
def test_the_research_forms_are_refused(function) -> None:
    with pytest.raises(ConfigurationError, match="reads the future"):
        feature(lookback=1, outputs="x", reference="none")(function)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4), min_size=16, max_size=90),
    wavelet=st.sampled_from(["haar", "db2", "db4", "sym8", "coif2"]),
    level=st.integers(1, 4),
)
def test_the_parts_give_the_signal_back(values, wavelet, level) -> None:
    x = np.array(values)
    near = 1e-9 * (1 + np.abs(x).max())
    whole = wavelets.modwt_whole(x, wavelet, level)
    np.testing.assert_allclose(wavelets.imodwt_whole(whole, wavelet), x, atol=near)
    np.testing.assert_allclose(wavelets.multiresolution_whole(x, wavelet, level).total(), x, atol=near)
    energy = (whole.details**2).sum() + (whole.smooth**2).sum()
    assert energy == pytest.approx((x**2).sum(), rel=1e-8, abs=near**2)
    np.testing.assert_allclose(
        wavelets.idwt_whole(wavelets.dwt_whole(x, wavelet, level), x.size, wavelet), x, atol=near
    )
    split = wavelets.causal_scales(x, wavelet, level).total()
    warm = wavelets.boundary_length(wavelet, level)
    assert np.isnan(split[:warm]).all()
    np.testing.assert_allclose(split[warm:], x[warm:], atol=near)
    np.testing.assert_allclose(fourier.fourier_bands_whole(x, [3.0, 9.0]).sum(axis=0), x, atol=near)


def test_short_time_fourier_gives_the_series_back_to_its_ends(close) -> None:
    for size, window, hop in ((1024, 128, 32), (1000, 64, 16), (777, 100, 50)):
        parts = fourier.stft_whole(close[:size], window, hop)
        np.testing.assert_allclose(fourier.istft_whole(parts, size, window, hop), close[:size], rtol=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "sym4", "db6"])
def test_the_maximal_overlap_transform_is_that_of_pywavelets(wavelet, close) -> None:
    """PyWavelets' stationary transform, normalised alike, is the same on a ring, turned by the filter's length."""
    import pywt

    ours = wavelets.modwt_whole(close, wavelet, 4)
    theirs = pywt.swt(close, wavelet, level=4, norm=True, trim_approx=True)
    for j in range(1, 5):
        peer = theirs[-j]
        peer = np.asarray(peer)
        mine = ours.details[j - 1]
        assert np.sort(mine**2) == pytest.approx(np.sort(peer**2), abs=1e-12), "the same but for a turn of the ring"
        turns = np.fft.ifft(np.fft.fft(mine) * np.conj(np.fft.fft(peer))).real
        best = int(np.argmax(np.abs(turns)))
        np.testing.assert_allclose(np.abs(mine), np.abs(np.roll(peer, best)), atol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "sym4", "coif1"])
def test_the_causal_transform_is_the_ring_beyond_its_boundary(wavelet, close) -> None:
    causal, ring = wavelets.modwt(close, wavelet, 4), wavelets.modwt_whole(close, wavelet, 4)
    for j in range(1, 5):
        warm = wavelets.boundary_length(wavelet, j)
        assert np.isnan(causal.details[j - 1][:warm]).all()
        np.testing.assert_allclose(causal.details[j - 1][warm:], ring.details[j - 1][warm:], atol=1e-12)
    np.testing.assert_allclose(causal.smooth[warm:], ring.smooth[warm:], rtol=1e-12)


def test_equivalent_filters_of_the_pyramid() -> None:
    """An impulse shows the filter of each level: Percival and Walden's own table for the Haar wavelet."""
    impulse = np.zeros(40)
    impulse[20] = 1.0
    parts = wavelets.modwt(impulse, "haar", 3)
    np.testing.assert_allclose(parts.details[0][20:23], [0.5, -0.5, 0.0], atol=1e-15)
    np.testing.assert_allclose(parts.details[1][20:25], [0.25, 0.25, -0.25, -0.25, 0.0], atol=1e-15)
    np.testing.assert_allclose(parts.smooth[20:29], [*[0.125] * 8, 0.0], atol=1e-15)


@pytest.mark.parametrize(("wavelet", "level"), [("haar", 3), ("db4", 2), ("sym4", 4)])
def test_the_smooth_is_late_by_its_declared_delay(wavelet, level) -> None:
    line = 5.0 + 0.5 * np.arange(600.0)
    smooth = wavelets.causal_scales(line, wavelet, level).smooth
    declared = delay_of(wavelets.causal_scales, wavelet=wavelet, level=level)
    assert (line - smooth)[-1] / 0.5 == pytest.approx(declared, abs=1e-6)
    wave = np.cos(2 * np.pi * np.arange(6000) / 1500)
    phase = np.angle(
        (wavelets.causal_scales(wave, wavelet, level).smooth * np.exp(-2j * np.pi * np.arange(6000) / 1500))[
            3000:
        ].mean()
    )
    assert -phase * 1500 / (2 * np.pi) == pytest.approx(declared, abs=0.1)


def test_the_taps_are_those_of_an_orthogonal_wavelet() -> None:
    for name in ("haar", "db8", "sym6", "coif2"):
        low, high, _, _ = wavelet_taps(name)
        assert (low @ low, high @ high, low.sum(), high.sum()) == pytest.approx((1, 1, np.sqrt(2), 0), abs=1e-8)
    with pytest.raises(ConfigurationError, match="wavelet"):
        wavelet_taps("bior2.2")


def test_the_causal_continuous_transform_is_the_whole_one_delayed(close) -> None:
    periods = [8.0, 20.0]
    x = np.diff(np.log(close))
    causal, (whole, cone) = wavelets.causal_cwt(x, periods), wavelets.cwt_whole(x, periods)
    for row, period in enumerate(periods):
        half = wavelets.morlet_half_length(period)
        assert np.isnan(causal[row, : 2 * half]).all()
        np.testing.assert_allclose(causal[row, 2 * half :], whole[row, half:-half], atol=1e-12)
        assert cone[row] < half
    wave = 3.0 * np.cos(2 * np.pi * np.arange(400) / 20)
    found = wavelets.causal_cwt(wave, [20.0])[0, 300:]
    np.testing.assert_allclose(np.abs(found), 1.5, rtol=0.01)
    late = wavelets.morlet_half_length(20.0)
    np.testing.assert_allclose(np.angle(found * np.exp(-2j * np.pi * (np.arange(300, 400) - late) / 20)), 0, atol=0.02)


def test_the_whole_continuous_transform_follows_pywavelets() -> None:
    import pywt

    x = np.cumsum(np.random.default_rng(3).normal(size=600))
    ours, _ = wavelets.cwt_whole(x, [25.0])
    # The same wavelet in PyWavelets' words: envelope variance B / 2 and centre frequency C in units of its scale.
    frequency = 6.0 / (2 * np.pi)
    scale = wavelets._morlet_scale(25.0)
    theirs, _ = pywt.cwt(
        x - x.mean(),
        [25.0 * frequency],
        f"cmor{2.0 * (scale / (25.0 * frequency)) ** 2:.6f}-{frequency:.6f}",
        method="conv",
    )
    middle = slice(100, -100)
    assert abs(np.corrcoef(np.abs(ours[0, middle]), np.abs(theirs[0, middle]))[0, 1]) > 0.999


def test_a_wave_is_found_with_its_period_and_share() -> None:
    steps = np.arange(2000.0)
    for period in (6.3, 17.0, 41.0):
        noise = np.random.default_rng(0).normal(size=steps.size) * 0.2
        periods, shares = fourier.dominant_periods(np.cos(2 * np.pi * steps / period) + noise + 0.01 * steps, 256)
        np.testing.assert_allclose(periods[300:, 0], period, rtol=0.03)
        assert (shares[300:, 0] > 0.8).all()
    two = np.cos(2 * np.pi * steps / 8) + 0.6 * np.cos(2 * np.pi * steps / 30)
    periods, shares = fourier.dominant_periods(two, 256, 2)
    np.testing.assert_allclose(periods[-1], [8, 30], rtol=0.02)
    assert shares[-1, 0] > shares[-1, 1] > 0.15


def test_the_spectrum_is_scipys_periodogram_of_each_window(close) -> None:
    from scipy.signal import detrend
    from scipy.signal.windows import hann

    ours = fourier.rolling_spectrum(close, 63)
    np.testing.assert_allclose(ours[62:].sum(axis=1), 1.0)
    for row in (62, 400, 1023):
        part = detrend(close[row - 62 : row + 1]) * hann(63, sym=False)
        power = np.abs(np.fft.rfft(part))[1:] ** 2
        np.testing.assert_allclose(ours[row], power / power.sum(), rtol=1e-7, atol=1e-12)
    assert np.isnan(fourier.rolling_spectrum(np.arange(100.0), 32)).all(), "a line has no waves"
    assert fourier.spectral_entropy(np.full((1, 8), 0.125))[0] == pytest.approx(1.0)


def test_bands_hold_the_waves_of_their_lengths() -> None:
    steps = np.arange(480.0)
    fast, slow = np.cos(2 * np.pi * steps / 5), np.cos(2 * np.pi * steps / 60)
    bands = fourier.fourier_bands_whole(fast + slow + 2.0, [8.0, 100.0])
    np.testing.assert_allclose(bands, [fast, slow, np.full(480, 2.0)], atol=1e-10)
    for wrong in ([], [1.0], [9.0, 3.0], [4.0, 4.0]):
        with pytest.raises(ConfigurationError, match="periods"):
            fourier.fourier_bands_whole(fast, wrong)


def test_trend_and_season_add_up_and_are_found(close) -> None:
    hours = np.arange(1000.0)
    season = np.sin(2 * np.pi * hours / 24) + 0.5 * np.cos(4 * np.pi * hours / 24)
    x = 10.0 + season
    for parts, warm, near in (
        (trend.online_trend_season(x, 24), 400, 1e-3),
        (trend.rolling_stl(x[:400], 24, 240, every=20), 240, 0.01),
        (trend.stl_whole(x, 24), 0, 0.01),
    ):
        found = rows(parts)
        known = np.flatnonzero(~np.isnan(found[0]) & (np.arange(found.shape[1]) >= warm))
        assert known.size
        np.testing.assert_allclose(found.sum(axis=0)[known], x[known], rtol=1e-12)
        np.testing.assert_allclose(found[0][known], 10.0, atol=near)
        np.testing.assert_allclose(found[1][known], season[known], atol=near)
    line = np.arange(600.0)
    late = (line - trend.online_trend_season(line, 12, 3).trend)[-1]
    assert late == pytest.approx(delay_of(trend.online_trend_season, period=12, cycles=3), abs=1e-9)
    parts = trend.stl_whole(close, 24, robust=True)
    np.testing.assert_allclose(rows(parts).sum(axis=0), close, rtol=1e-12)


def test_the_rolling_form_is_the_end_of_the_whole_one(close) -> None:
    parts = trend.rolling_stl(close[:130], 12, 60)
    whole = trend.stl_whole(close[70:130], 12)
    assert (parts.trend[129], parts.season[129]) == pytest.approx((whole.trend[-1], whole.season[-1]), rel=1e-12)
    modes = empirical.rolling_emd(close[:100], 64, 9)
    whole = empirical.emd_whole(close[36:100])
    np.testing.assert_allclose(modes[: len(whole) - 1, 99], whole[:-1, -1], rtol=1e-9)


def test_empirical_modes_add_up_and_separate_waves(close) -> None:
    steps = np.arange(600.0)
    fast, slow = np.sin(2 * np.pi * steps / 8), 2 * np.sin(2 * np.pi * steps / 90)
    parts = empirical.emd_whole(fast + slow)
    np.testing.assert_allclose(parts.sum(axis=0), fast + slow, atol=1e-12)
    assert np.corrcoef(parts[0, 60:-60], fast[60:-60])[0, 1] > 0.99
    np.testing.assert_allclose(empirical.emd_whole(close[:300]).sum(axis=0), close[:300], rtol=1e-12)
    ensemble = empirical.ceemdan_whole(close[:200], trials=5, seed=3)
    np.testing.assert_allclose(ensemble.sum(axis=0), close[:200], rtol=1e-12)
    np.testing.assert_array_equal(ensemble, empirical.ceemdan_whole(close[:200], trials=5, seed=3))
    assert not np.array_equal(ensemble[0], empirical.ceemdan_whole(close[:200], trials=5, seed=4)[0])


def test_a_missing_package_is_named_with_its_extra(monkeypatch, close) -> None:
    monkeypatch.setitem(sys.modules, "PyEMD", None)
    with pytest.raises(MissingExtraError, match=r"tapeline\[decomposition\]"):
        empirical.emd_whole(close[:100])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: wavelets.modwt_whole(x, "haar", 2),
        lambda x: wavelets.dwt_whole(x, "haar", 2),
        lambda x: wavelets.cwt_whole(x, [8.0]),
        lambda x: fourier.stft_whole(x, 16, 4),
        lambda x: trend.stl_whole(x, 12),
        lambda x: empirical.emd_whole(x),
    ],
)
def test_a_hole_in_a_whole_series_is_named(call) -> None:
    x = np.arange(60.0)
    x[7] = np.nan
    with pytest.raises(DataError, match="row 7"):
        call(x)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: wavelets.modwt(x, "haar", 0), "level"),
        (lambda x: wavelets.modwt_whole(x, "haar", 9), "number of values"),
        (lambda x: wavelets.causal_cwt(x, [1.0]), "period"),
        (lambda x: fourier.rolling_spectrum(x, 4), "window"),
        (lambda x: fourier.dominant_periods(x, 32, 9), "count"),
        (lambda x: fourier.stft_whole(x, 32, 20), "hop"),
        (lambda x: trend.online_trend_season(x, 1), "period"),
        (lambda x: trend.rolling_stl(x, 12, 20), "window"),
        (lambda x: empirical.rolling_emd(x, 8), "window"),
        (lambda x: empirical.ceemdan_whole(x, trials=0), "trials"),
    ],
)
def test_parameters_out_of_bounds_are_named(call, said) -> None:
    with pytest.raises(ConfigurationError, match=said):
        call(np.arange(60.0))
