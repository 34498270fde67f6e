"""Noise filters: what is left of a signal when its fast part is taken away, bar by bar from the past alone.

Each takes an array or a Series and declares its delay in bars (``signal_array.delay_of``). The forms whose name ends in
``_whole`` read the future too: they have no delay, and belong in research and pictures only.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tapeline.cleaning import signal_kernels as kernels
from tapeline.cleaning.signal_array import Floats, Values, delayed, on_values, require, weights_delay
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import research


def butterworth_sections(period: float, order: int) -> Floats:
    """Second-order sections of a Butterworth low-pass, one row ``b0 b1 b2 a1 a2`` each, gain 1 at frequency 0.

    The analogue poles on the unit circle, brought over by the bilinear transform so that a wave of ``period`` bars
    passes with the power halved. Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd ed., section 7.2.

    Examples
    --------
    >>> butterworth_sections(4.0, 1).round(12).tolist()
    [[0.5, 0.5, 0.0, -0.0, 0.0]]
    """
    require("period", period, 2.0 + 1e-9)
    require("order", order, 1, 12, whole=True)
    warp = math.tan(math.pi / period)
    rows = []
    for k in range(order // 2):
        # A pair of poles at the angle ``theta`` from the real axis: s^2 + 2 cos(theta) s + 1.
        damping = 2.0 * math.cos(math.pi * (order - 1 - 2 * k) / (2 * order)) * warp
        scale = 1.0 / (1.0 + damping + warp**2)
        gain = warp**2 * scale
        rows.append((gain, 2.0 * gain, gain, 2.0 * (warp**2 - 1.0) * scale, (1.0 - damping + warp**2) * scale))
    if order % 2:
        scale = 1.0 / (1.0 + warp)
        rows.append((warp * scale, warp * scale, 0.0, (warp - 1.0) * scale, 0.0))
    return np.array(rows)


def _sections_delay(sections: Floats) -> float:
    b, a = sections[:, :3], np.column_stack((np.ones(len(sections)), sections[:, 3:]))
    steps = np.arange(3)
    return float(((b @ steps) / b.sum(axis=1) - (a @ steps) / a.sum(axis=1)).sum())


@delayed(lambda period, order: _sections_delay(butterworth_sections(period, order)))
def butterworth(values: Values, period: float = 20.0, order: int = 2) -> Values:
    """Causal Butterworth low-pass: waves longer than ``period`` bars pass, shorter ones are damped.

    It starts settled on the first value, so that a constant comes out unchanged from the first bar on.

    Parameters
    ----------
    values:
        One-dimensional, finite or NaN. A NaN gives NaN there; the state is carried across it.
    period:
        The wave, in bars, that passes with half its power; more than 2.
    order:
        1 to 12: each adds 6 dB an octave of damping, and delay.

    References
    ----------
    S. Butterworth, On the Theory of Filter Amplifiers, Experimental Wireless 7 (1930), 536-541.

    Examples
    --------
    >>> butterworth(np.array([0.0, 4.0, 4.0, 4.0]), period=4.0, order=1)
    array([0., 2., 4., 4.])
    """
    sections = butterworth_sections(period, order)
    return on_values(values, lambda x: kernels.second_order_sections(x, sections))


@research
def butterworth_whole(values: Values, period: float = 20.0, order: int = 2) -> Values:
    """Butterworth low-pass run forwards and backwards over the whole series: no delay, and it reads the future.

    The order, and with it the damping, is doubled. No NaN allowed.

    References
    ----------
    F. Gustafsson, Determining the initial states in forward-backward filtering, IEEE Transactions on Signal
    Processing 44 (1996), 988-992; by ``scipy.signal.sosfiltfilt``.

    Examples
    --------
    >>> butterworth_whole(np.full(40, 3.0)).round(6).max().item()
    3.0
    """
    from scipy.signal import sosfiltfilt

    rows = butterworth_sections(period, order)
    sections = np.column_stack((rows[:, :3], np.ones(len(rows)), rows[:, 3:]))
    return on_values(values, lambda x: sosfiltfilt(sections, x))


@delayed(lambda window: (window - 1) / 2)
def median_filter(values: Values, window: int = 5) -> Values:
    """Median of the last ``window`` values: spikes shorter than half the window vanish, edges stay sharp.

    The delay is that of any monotone move, ``(window - 1) / 2`` bars. NaN before the first full window and in windows
    that hold a NaN.

    References
    ----------
    J. W. Tukey, Exploratory Data Analysis (1977), chapter 7.

    Examples
    --------
    >>> median_filter(np.array([1.0, 9.0, 2.0, 3.0]), window=3)
    array([nan, nan,  2.,  3.])
    """
    require("window", window, 1, whole=True)
    return on_values(values, lambda x: kernels.moving_median(x, window))


@research
def median_filter_whole(values: Values, window: int = 5) -> Values:
    """Median of ``window`` values around each one, an odd number: reads half a window of the future.

    NaN at both ends, where the window is not full.

    Examples
    --------
    >>> median_filter_whole(np.array([1.0, 9.0, 2.0, 3.0]), window=3)
    array([nan,  2.,  3., nan])
    """
    _require_odd(window)
    return on_values(values, lambda x: _advanced(kernels.moving_median(x, window), window // 2))


def steady_gain(ratio: float) -> float:
    """The gain that a local level filter settles at: the weight of the newest value.

    Examples
    --------
    >>> steady_gain(0.5)
    0.5
    """
    require("ratio", ratio, 1e-12)
    variance = 0.5 * (ratio + math.sqrt(ratio * ratio + 4.0 * ratio))
    return variance / (variance + 1.0)


@delayed(lambda ratio: 1.0 / steady_gain(ratio) - 1.0)
def kalman_level(values: Values, ratio: float = 0.05) -> Values:
    """Kalman filter of a level that walks at random and is seen through noise.

    Parameters
    ----------
    ratio:
        Variance of the level's step over the variance of the noise, above 0: the smaller, the smoother and the later.

    Notes
    -----
    The start is diffuse: the first value is taken as it is. Settled, the filter is an exponential average with the
    weight ``steady_gain(ratio)``. Across a NaN the level is predicted and grows less sure; the output there is NaN.

    References
    ----------
    R. E. Kalman, Journal of Basic Engineering 82 (1960), 35-45; the model in Durbin and Koopman, Time Series Analysis
    by State Space Methods, 2nd ed. (2012), chapter 2.

    Examples
    --------
    >>> kalman_level(np.array([0.0, 1.0, 1.0]), ratio=1.0).round(4)
    array([0.    , 0.6667, 0.875 ])
    """
    require("ratio", ratio, 1e-12)
    return on_values(values, lambda x: kernels.local_level(x, float(ratio)))


@delayed(lambda: 0.0)
def kalman_trend(values: Values, level_ratio: float = 0.05, slope_ratio: float = 0.001) -> Values:
    """Kalman filter of a level with a slope, both walking at random, seen through noise.

    It follows a straight line without delay, and overshoots where the line bends.

    Parameters
    ----------
    level_ratio, slope_ratio:
        Variances of the steps of level and slope over the variance of the noise; the slope's is above 0.

    Notes
    -----
    NaN until two values in a row are known: from these it starts, exactly as with a diffuse prior.

    References
    ----------
    A. C. Harvey, Forecasting, Structural Time Series Models and the Kalman Filter (1989), section 2.3.

    Examples
    --------
    >>> kalman_trend(np.array([0.0, 1.0, 2.0, 3.0]))
    array([nan,  1.,  2.,  3.])
    """
    require("level_ratio", level_ratio, 0.0)
    require("slope_ratio", slope_ratio, 1e-12)
    return on_values(values, lambda x: kernels.local_trend(x, float(level_ratio), float(slope_ratio))[0])


@research
def kalman_level_whole(values: Values, ratio: float = 0.05) -> Values:
    """Fixed-interval smoother of the local level model: each level given all values, past and future.

    The filter run forwards, then backwards; without a NaN. H. E. Rauch, F. Tung and C. T. Striebel, AIAA Journal 3
    (1965), 1445-1450.

    Examples
    --------
    >>> kalman_level_whole(np.array([0.0, 3.0, 0.0]), ratio=1.0).round(4)
    array([0.75, 1.5 , 0.75])
    """
    require("ratio", ratio, 1e-12)

    def smoothed(x: Floats) -> Floats:
        # Smoothing a local level is a penalty on first differences of the weight 1 / ratio.
        from tapeline.cleaning.smoothers import penalised

        return penalised(x, 1.0 / ratio, 1)

    return on_values(values, smoothed)


@lru_cache(maxsize=64)
def _savitzky_golay_weights(window: int, degree: int, centred: bool) -> Floats:
    steps = np.arange(window, dtype=np.float64)  # bars back from the newest
    here = window // 2 if centred else 0
    powers = ((here - steps) / window)[:, None] ** np.arange(degree + 1)
    weights = np.linalg.pinv(powers)[0]
    weights.flags.writeable = False
    return weights


@delayed(lambda window, degree: weights_delay(_savitzky_golay_weights(window, degree, False)))
def savitzky_golay(values: Values, window: int = 15, degree: int = 2) -> Values:
    """End value of the polynomial fitted to the last ``window`` values by least squares.

    A polynomial of ``degree`` comes out unchanged: from degree 1 on a straight move has no delay. The price is noise:
    the end of a fit is less sure than its middle. NaN before the first full window and in windows that hold a NaN.

    Parameters
    ----------
    window:
        Values in the fit, more than ``degree``.
    degree:
        0 to 5; 0 is the simple average.

    References
    ----------
    A. Savitzky and M. J. E. Golay, Analytical Chemistry 36 (1964), 1627-1639; the end point in P. A. Gorry, Analytical
    Chemistry 62 (1990), 570-573.

    Examples
    --------
    >>> savitzky_golay(np.arange(5.0) ** 2, window=4, degree=2).round(6)
    array([nan, nan, nan,  9., 16.])
    """
    _require_fit(window, degree)
    weights = _savitzky_golay_weights(window, degree, False)
    return on_values(values, lambda x: kernels.weighted_window(x, weights))


@research
def savitzky_golay_whole(values: Values, window: int = 15, degree: int = 2) -> Values:
    """Middle value of the polynomial fitted to ``window`` values around each one, an odd number.

    NaN at both ends, where the window is not full.

    Examples
    --------
    >>> savitzky_golay_whole(np.arange(5.0) ** 2, window=3, degree=2).round(6)
    array([nan,  1.,  4.,  9., nan])
    """
    _require_odd(window)
    _require_fit(window, degree)
    weights = _savitzky_golay_weights(window, degree, True)
    return on_values(values, lambda x: _advanced(kernels.weighted_window(x, weights), window // 2))


def _advanced(values: Floats, bars: int) -> Floats:
    """The values moved ``bars`` into the past: what a centred window does."""
    result = np.full(values.size, np.nan)
    result[: max(values.size - bars, 0)] = values[bars:]
    return result


def _require_odd(window: int) -> None:
    require("window", window, 1, whole=True)
    if window % 2 == 0:
        raise ConfigurationError(f"window = {window} has no middle", hint="give an odd number")


def _require_fit(window: int, degree: int) -> None:
    require("degree", degree, 0, 5, whole=True)
    require("window", window, degree + 1, whole=True)
