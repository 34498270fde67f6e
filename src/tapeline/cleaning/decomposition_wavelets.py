"""Wavelet decomposition: a signal split into scales, each holding waves of about twice the length of the one before.

``modwt``, ``causal_scales`` and ``causal_cwt`` read the past alone. The forms whose name ends in ``_whole`` treat the
series as a ring or extend it: their values near the ends are made of the other end or of mirrored values, and those
within ``boundary_length`` of an end are not to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeline.cleaning.signal_array import Floats, as_floats, delayed, require, weights_delay
from tapeline.cleaning.signal_kernels import weighted_window
from tapeline.cleaning.wavelet_kernels import Wavelet, circular_back, circular_step, overlap_step, wavelet_taps
from tapeline.core.errors import DataError
from tapeline.core.registry import research

CWT_REACH = 3.0
"""The Morlet wavelet is cut off at this many of its own standard deviations on each side: exp(-4.5), 1 %, is left."""

MORLET_FREQUENCY = 6.0
"""The Morlet wavelet's waves in its envelope, so that its mean is zero to rounding; Torrence and Compo (1998)."""


@dataclass(frozen=True)
class Scales:
    """Coefficients by scale: ``details[j - 1]`` of scale ``2 ** j`` bars, and the ``smooth`` that is left.

    Each row is as long as the signal.
    """

    details: Floats
    smooth: Floats

    def total(self) -> Floats:
        """The sum of all parts: for an additive decomposition the signal itself."""
        return self.details.sum(axis=0) + self.smooth


def boundary_length(wavelet: Wavelet, level: int) -> int:
    """How many coefficients of a level reach beyond the beginning: ``(2 ** level - 1) (taps - 1)``.

    Examples
    --------
    >>> boundary_length("haar", 3), boundary_length("db4", 3)
    (7, 49)
    """
    require("level", level, 1, 24, whole=True)
    return (2**level - 1) * (wavelet_taps(wavelet)[0].size - 1)


def modwt(values: Any, wavelet: Wavelet = "sym4", level: int = 4) -> Scales:
    """Maximal overlap discrete wavelet transform, causal: each coefficient is a filter of the values up to its bar.

    Where a coefficient would reach before the first value it is NaN, instead of wrapping round as the usual form does:
    the first ``boundary_length(wavelet, j)`` of level ``j``. Beyond them it equals the usual form. Squares of the
    details are the energy by scale; the parts do not add up to the signal (``causal_scales`` does).

    Returns
    -------
    Details and smooth; that of level ``j`` speaks of about ``2 ** j`` to ``2 ** (j + 1)`` bars.

    References
    ----------
    D. B. Percival and A. T. Walden, Wavelet Methods for Time Series Analysis (2000), chapter 5, pyramid algorithm.

    Examples
    --------
    >>> parts = modwt(np.array([1.0, 3.0, 5.0, 5.0]), wavelet="haar", level=1)
    >>> parts.details[0], parts.smooth
    (array([nan,  1.,  1.,  0.]), array([nan,  2.,  4.,  5.]))
    """
    low, high = _overlap_taps(wavelet)
    require("level", level, 1, 24, whole=True)
    smooth = as_floats(values)
    details = np.empty((level, smooth.size))
    for j in range(level):
        smooth, details[j] = overlap_step(smooth, low, high, 2**j)
    return Scales(details, smooth)


def _smooth_delay(wavelet: Wavelet, level: int) -> float:
    return (2.0**level - 1.0) * weights_delay(_overlap_taps(wavelet)[0])


@delayed(_smooth_delay)
def causal_scales(values: Any, wavelet: Wavelet = "haar", level: int = 4) -> Scales:
    """Additive split by scale from the past alone: differences between ever smoother causal averages.

    ``smooth_j`` is the MODWT's own at level ``j``; the detail of level ``j`` is ``smooth_{j-1} - smooth_j``. Details
    and smooth add up to the signal exactly, at every bar beyond the warm-up of ``boundary_length(wavelet, level)``. The
    declared delay is that of the smooth; the details hold what it is behind by.

    References
    ----------
    O. Renaud, J.-L. Starck and F. Murtagh, Wavelet-based combined signal filtering and prediction, IEEE Transactions
    on Systems, Man and Cybernetics B 35 (2005), 1241-1251.

    Examples
    --------
    >>> parts = causal_scales(np.array([1.0, 3.0, 5.0, 5.0]), level=1)
    >>> parts.details[0], parts.total()
    (array([nan,  1.,  1.,  0.]), array([nan,  3.,  5.,  5.]))
    """
    low, high = _overlap_taps(wavelet)
    require("level", level, 1, 24, whole=True)
    finer = as_floats(values)
    details = np.empty((level, finer.size))
    for j in range(level):
        smooth, _ = overlap_step(finer, low, high, 2**j)
        details[j] = finer - smooth
        finer = smooth
    return Scales(details, finer)


@research
def modwt_whole(values: Any, wavelet: Wavelet = "sym4", level: int = 4) -> Scales:
    """MODWT on a ring: the usual form, in which the beginning is filtered with the end of the series.

    The squares of all coefficients add up to those of the signal. ``imodwt_whole`` gives the signal back.

    Examples
    --------
    >>> parts = modwt_whole(np.array([1.0, 3.0, 5.0, 5.0]), wavelet="haar", level=1)
    >>> parts.details[0], parts.smooth
    (array([-2.,  1.,  1.,  0.]), array([3., 2., 4., 5.]))
    """
    low, high = _overlap_taps(wavelet)
    smooth = _complete(values, wavelet, level)
    details = np.empty((level, smooth.size))
    for j in range(level):
        smooth, details[j] = circular_step(smooth, low, high, 2**j)
    return Scales(details, smooth)


@research
def imodwt_whole(parts: Scales, wavelet: Wavelet = "sym4") -> Floats:
    """The signal that ``modwt_whole`` took apart, exact to rounding.

    Examples
    --------
    >>> imodwt_whole(modwt_whole(np.array([1.0, 3.0, 5.0, 5.0]), "haar", 2), "haar")
    array([1., 3., 5., 5.])
    """
    low, high = _overlap_taps(wavelet)
    result = parts.smooth
    for j in range(len(parts.details) - 1, -1, -1):
        result = circular_back(result, parts.details[j], low, high, 2**j)
    return result


@research
def multiresolution_whole(values: Any, wavelet: Wavelet = "sym4", level: int = 4) -> Scales:
    """Additive split by scale without delay: each part is rebuilt from the MODWT coefficients of its scale alone.

    The parts add up to the signal to rounding. Each lines up with the signal, which takes as much of the future as of
    the past. Values within ``boundary_length(wavelet, level)`` of either end are made of the other end too.

    References
    ----------
    Percival and Walden (2000), section 5.3: the multiresolution analysis.

    Examples
    --------
    >>> multiresolution_whole(np.array([1.0, 3.0, 5.0, 5.0]), "haar", 1).total()
    array([1., 3., 5., 5.])
    """
    whole = modwt_whole(values, wavelet, level)
    nothing = Scales(np.zeros_like(whole.details), np.zeros_like(whole.smooth))
    details = np.empty_like(whole.details)
    for j in range(level):
        alone = nothing.details.copy()
        alone[j] = whole.details[j]
        details[j] = imodwt_whole(Scales(alone, nothing.smooth), wavelet)
    return Scales(details, imodwt_whole(Scales(nothing.details, whole.smooth), wavelet))


@research
def dwt_whole(values: Any, wavelet: Wavelet = "sym4", level: int = 4) -> list[Floats]:
    """Decimated wavelet transform with mirrored ends: the smooth, then the details from the coarsest to the finest.

    By PyWavelets. A coefficient whose filter crosses an end holds mirrored values.

    References
    ----------
    S. Mallat, A Wavelet Tour of Signal Processing, 3rd ed. (2009), section 7.3.

    Examples
    --------
    >>> [part.round(4).tolist() for part in dwt_whole(np.array([1.0, 3.0, 5.0, 5.0]), "haar", 1)]
    [[2.8284, 7.0711], [-1.4142, 0.0]]
    """
    import pywt

    return pywt.wavedec(_complete(values, wavelet, level), wavelet, mode="symmetric", level=level)


@research
def idwt_whole(parts: list[Floats], size: int, wavelet: Wavelet = "sym4") -> Floats:
    """The ``size`` values that ``dwt_whole`` took apart, exact to rounding.

    Examples
    --------
    >>> idwt_whole(dwt_whole(np.array([1.0, 3.0, 5.0]), "haar", 1), 3, "haar").round(9)
    array([1., 3., 5.])
    """
    import pywt

    return pywt.waverec(parts, wavelet, mode="symmetric")[:size]


def morlet_half_length(period: float) -> int:
    """Bars on each side of the middle of the Morlet wavelet for waves of ``period`` bars; the delay of ``causal_cwt``.

    Examples
    --------
    >>> morlet_half_length(16.0)
    47
    """
    return int(np.ceil(CWT_REACH * _morlet_scale(period)))


def causal_cwt(values: Any, periods: Any) -> np.ndarray:
    """Continuous wavelet transform from the past alone: complex coefficients, one row a period.

    The Morlet wavelet needs as much after a bar as before it. Here the coefficient of the bar ``half`` bars ago, with
    ``half = morlet_half_length(period)``, is stamped with the current bar: row by row, the whole form delayed by
    ``half``, about three periods. The modulus is half the amplitude of a wave of that period, the angle
    its phase. NaN for the first ``2 half`` bars.

    Parameters
    ----------
    periods:
        Wave lengths in bars, each 2 or more.

    References
    ----------
    C. Torrence and G. P. Compo, A practical guide to wavelet analysis, Bulletin of the American Meteorological Society
    79 (1998), 61-78.

    Examples
    --------
    >>> wave = 2.0 * np.cos(2.0 * np.pi * np.arange(200.0) / 16.0)
    >>> abs(causal_cwt(wave, [16.0]))[0, -1].round(2).item()
    1.0
    """
    x = as_floats(values)
    lengths = as_floats(periods)
    result = np.empty((lengths.size, x.size), dtype=np.complex128)
    for row, period in enumerate(lengths):
        require("period", float(period), 2.0)
        weights = _morlet(float(period))
        result[row] = weighted_window(x, weights.real.copy()) + 1j * weighted_window(x, weights.imag.copy())
    return result


@research
def cwt_whole(values: Any, periods: Any) -> tuple[np.ndarray, Floats]:
    """Continuous wavelet transform without delay, and how far its ends reach in.

    The series is continued with zeros after its mean was taken off.

    Returns
    -------
    Complex coefficients ``[period, bar]``, and for each period the bars at either end within the cone of influence,
    where the continuation matters: ``sqrt(2)`` scales.

    Examples
    --------
    >>> coefficients, cone = cwt_whole(np.cos(2.0 * np.pi * np.arange(200.0) / 16.0), [16.0])
    >>> abs(coefficients[0, 100]).round(2).item(), cone.round(1).tolist()
    (0.5, [21.9])
    """
    x = as_floats(values)
    lengths = as_floats(periods)
    if np.isnan(x).any():
        raise DataError(f"row {int(np.argmax(np.isnan(x)))} is NaN: the whole transform needs every value")
    rows = []
    for period in lengths:
        require("period", float(period), 2.0)
        weights, half = _morlet(float(period)), morlet_half_length(float(period))
        rows.append(np.convolve(x - x.mean(), weights)[half : half + x.size])
    return np.array(rows), np.sqrt(2.0) * np.array([_morlet_scale(float(period)) for period in lengths])


def _morlet_scale(period: float) -> float:
    """The scale whose Fourier wave has the period; Torrence and Compo, table 1."""
    return period * (MORLET_FREQUENCY + np.sqrt(2.0 + MORLET_FREQUENCY**2)) / (4.0 * np.pi)


def _morlet(period: float) -> np.ndarray:
    """The wavelet as weights from the newest bar back; a cosine of amplitude 2 and its period has the modulus 1."""
    half = morlet_half_length(period)
    steps = np.arange(half, -half - 1, -1, dtype=np.float64)  # the newest bar lies ``half`` after the middle
    envelope = np.exp(-0.5 * (steps / _morlet_scale(period)) ** 2)
    wave = envelope * np.exp(-2j * np.pi * steps / period)
    wave -= envelope * wave.sum() / envelope.sum()  # what cutting it off left of its mean
    gain = abs(np.sum(wave * np.exp(2j * np.pi * steps / period)))
    return wave / gain


def _overlap_taps(wavelet: Wavelet) -> tuple[Floats, Floats]:
    low, high, _, _ = wavelet_taps(wavelet)
    root = np.sqrt(2.0)
    # PyWavelets' high-pass has the opposite sign of Percival and Walden's: here a rise gives a positive coefficient.
    return low / root, -high / root


def _complete(values: Any, wavelet: Wavelet, level: int) -> Floats:
    x = as_floats(values)
    require("level", level, 1, 24, whole=True)
    require("the number of values", x.size, 2**level, whole=True)
    if np.isnan(x).any():
        raise DataError(f"row {int(np.argmax(np.isnan(x)))} is NaN: the whole transform needs every value")
    return x
