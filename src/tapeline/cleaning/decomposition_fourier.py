"""Fourier decomposition: which waves a window of the signal is made of, bar by bar from the past alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tapeline.cleaning.signal_array import Floats, as_floats, require
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import research

CHUNK_VALUES = 1 << 18
"""Windows are transformed in chunks of about this many values, so that memory does not grow with the signal."""


def rolling_spectrum(values: Any, window: int = 128) -> Floats:
    """Power by frequency in the window that ends at each bar: a short-time Fourier transform of the past alone.

    Each window loses its straight line (least squares), is tapered with Hann's cosine bell and transformed. The power
    is normalised to the share of the window's tapered variance, one-sided: a row adds up to 1.

    Returns
    -------
    ``[bars, window // 2]``: column ``k - 1`` for waves of ``window / k`` bars, ``k = 1 .. window // 2``. NaN before the
    first full window, in windows that hold a NaN, and where nothing but a straight line is there.

    Notes
    -----
    The taper weighs the middle of the window most: the spectrum speaks of ``(window - 1) / 2`` bars ago. Neighbouring
    frequencies leak into one another by the taper's width, two columns to each side.

    References
    ----------
    J. B. Allen and L. R. Rabiner, Proceedings of the IEEE 65 (1977), 1558-1564; the taper in F. J. Harris, Proceedings
    of the IEEE 66 (1978), 51-83.

    Examples
    --------
    >>> wave = np.cos(2.0 * np.pi * np.arange(64.0) / 8.0)
    >>> int(np.argmax(rolling_spectrum(wave, window=32)[-1])) + 1
    4
    """
    require("window", window, 8, whole=True)
    x = as_floats(values)
    result = np.full((x.size, window // 2), np.nan)
    for rows, power in _spectra(x, window):
        result[rows] = power
    return result


def dominant_periods(values: Any, window: int = 128, count: int = 1) -> tuple[Floats, Floats]:
    """The ``count`` strongest waves of each window by their length in bars, and the share of power around each.

    A wave is a local maximum of ``rolling_spectrum``; its frequency is refined by a parabola through the logarithms of
    the maximum and its neighbours, its share is that of these three. Ordered by power, strongest first.

    Returns
    -------
    Two arrays ``[bars, count]``: periods (2 to ``window``) and shares (0 to 1). NaN where there are fewer.

    References
    ----------
    M. Gasior and J. L. Gonzalez, Improving FFT frequency measurement resolution by parabolic and Gaussian spectrum
    interpolation, AIP Conference Proceedings 732 (2004), 276-285.

    Examples
    --------
    >>> wave = np.cos(2.0 * np.pi * np.arange(300.0) / 17.0)
    >>> periods, shares = dominant_periods(wave, window=128)
    >>> periods[-1].round(1).tolist(), bool(shares[-1, 0] > 0.95)
    ([17.0], True)
    """
    require("window", window, 8, whole=True)
    require("count", count, 1, window // 4, whole=True)
    x = as_floats(values)
    periods, shares = np.full((x.size, count), np.nan), np.full((x.size, count), np.nan)
    for rows, power in _spectra(x, window):
        periods[rows], shares[rows] = strongest_waves(power, window, count)
    return periods, shares


def strongest_waves(power: Floats, window: int, count: int) -> tuple[Floats, Floats]:
    """Periods and shares of the strongest waves of rows that ``rolling_spectrum`` gave; see ``dominant_periods``."""
    padded = np.pad(power, ((0, 0), (1, 1)))  # nothing beyond either end
    left, here, right = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    peaks = np.where((here > left) & (here >= right), here, -1.0)
    order = np.argmax(peaks, axis=1)[:, None] if count == 1 else np.argsort(-peaks, axis=1, kind="stable")[:, :count]
    height = np.take_along_axis(peaks, order, axis=1)
    low, middle, high = (np.take_along_axis(part, order, axis=1) for part in (left, here, right))
    floor = 1e-30
    a, b, c = (np.log(np.maximum(part, floor)) for part in (low, middle, high))
    bend = a - 2.0 * b + c
    inner = (low > 0.0) & (high > 0.0) & (bend < 0.0)
    shift = np.zeros_like(b)
    np.divide(0.5 * (a - c), bend, out=shift, where=inner)
    periods = window / (order + 1.0 + np.clip(shift, -0.5, 0.5))
    found = height > 0.0
    shares = np.where(found, np.minimum(low + middle + high, 1.0), np.nan)
    return np.where(found, np.clip(periods, 2.0, window), np.nan), shares


def spectral_entropy(power: Floats) -> Floats:
    """How evenly the power of each row is spread over its frequencies, 0 (one wave) to 1 (white noise).

    References
    ----------
    T. Inouye et al., Electroencephalography and Clinical Neurophysiology 79 (1991), 204-210.

    Examples
    --------
    >>> spectral_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    logs = np.zeros_like(power)
    np.log(power, out=logs, where=power > 0.0)
    return np.abs((power * logs).sum(axis=1)) / np.log(power.shape[1])


@research
def stft_whole(values: Any, window: int = 128, hop: int = 32) -> np.ndarray:
    """Short-time Fourier transform of a whole series: complex, ``[frequency, segment]``, Hann taper, zeros around it.

    By ``scipy.signal.ShortTimeFFT``. The windows are centred, so each reads half a window of the future.
    ``istft_whole`` gives the series back, both ends included.

    Examples
    --------
    >>> stft_whole(np.arange(256.0), window=64, hop=16).shape[0]
    33
    """
    return _transform(window, hop).stft(_complete(values, window))


@research
def istft_whole(coefficients: np.ndarray, size: int, window: int = 128, hop: int = 32) -> Floats:
    """The ``size`` values that ``stft_whole`` took apart, exact to rounding.

    Examples
    --------
    >>> istft_whole(stft_whole(np.arange(256.0), 64, 16), 256, 64, 16).round(9)[[1, 255]].tolist()
    [1.0, 255.0]
    """
    return _transform(window, hop).istft(coefficients, k1=size)


@research
def fourier_bands_whole(values: Any, periods: Sequence[float] = (8.0, 32.0, 128.0)) -> Floats:
    """Split a whole series into bands of wave lengths that add up to it: shorter than the first period, ..., longer.

    The series is taken as periodic: where its end does not meet its beginning, both are bent towards each other.

    Returns
    -------
    ``[len(periods) + 1, bars]``, the fastest band first, the last one with the mean.

    Examples
    --------
    >>> fourier_bands_whole(np.arange(8.0), [4.0]).sum(axis=0).round(9).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    edges = [float(period) for period in periods]
    if not edges or any(not edge >= 2.0 for edge in edges) or sorted(set(edges)) != edges:
        raise ConfigurationError(f"periods = {edges} are no rising wave lengths", hint="give numbers from 2 on, rising")
    x = _complete(values, 2)
    spectrum = np.fft.rfft(x)
    frequency = np.fft.rfftfreq(x.size)
    bounds = [np.inf, *(1.0 / edge for edge in edges), -1.0]
    return np.array(
        [
            np.fft.irfft(np.where((frequency <= upper) & (frequency > lower), spectrum, 0.0), x.size)
            for upper, lower in pairwise(bounds)
        ]
    )


def _spectra(x: Floats, window: int) -> Iterator[tuple[slice, Floats]]:
    """The shares of power of a run of windows, and the rows of the bars at which these windows end."""
    taper = np.hanning(window + 1)[:window]
    for rows, windows in _chunks(x, window):
        rest, still = _straightened(windows)
        power = np.abs(np.fft.rfft(rest * taper, axis=1)[:, 1:]) ** 2
        if window % 2 == 0:
            power[:, -1] *= 0.5
        total = power.sum(axis=1)
        share = np.full(power.shape, np.nan)
        np.divide(power, total[:, None], out=share, where=(~still & (total > 0.0))[:, None])
        yield rows, share


def _chunks(x: Floats, window: int) -> Iterator[tuple[slice, Floats]]:
    if x.size < window:
        return
    windows = np.lib.stride_tricks.sliding_window_view(x, window)
    step = max(CHUNK_VALUES // window, 1)
    for start in range(0, len(windows), step):
        part = windows[start : start + step]
        yield slice(start + window - 1, start + window - 1 + len(part)), part


def _straightened(windows: Floats) -> tuple[Floats, np.ndarray]:
    """Windows less their least-squares line, and which of them are nothing but that line."""
    window = windows.shape[1]
    steps = np.arange(window) - (window - 1) / 2.0
    level = windows.mean(axis=1, keepdims=True)
    slope = (windows - level) @ steps / (steps @ steps)
    rest = windows - level - slope[:, None] * steps
    largest = np.abs(windows).max(axis=1)
    still = ~(np.abs(rest).max(axis=1) > 1e-12 * largest)
    return rest, still


def _transform(window: int, hop: int) -> Any:
    require("window", window, 8, whole=True)
    require("hop", hop, 1, window // 2, whole=True)
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    return ShortTimeFFT(hann(window, sym=False), hop=hop, fs=1.0)


def _complete(values: Any, least: int) -> Floats:
    x = as_floats(values)
    require("the number of values", x.size, least, whole=True)
    if np.isnan(x).any():
        raise DataError(f"row {int(np.argmax(np.isnan(x)))} is NaN: the whole transform needs every value")
    return x
