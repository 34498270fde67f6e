"""Data smoothers: moving averages, local regression and penalised trends, bar by bar from the past alone.

Each takes an array or a Series and declares its delay in bars (``signal_array.delay_of``). The forms whose name ends in
``_whole`` read the future too, for research and pictures only. A NaN gives NaN there; a window that holds one is NaN, a
recursion carries its state across it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tapeline.cleaning import signal_kernels as kernels
from tapeline.cleaning.signal_array import Floats, Values, delayed, on_values, require, weights_delay
from tapeline.core.errors import DataError
from tapeline.core.registry import research


@delayed(lambda window: (window - 1) / 2)
def simple_average(values: Values, window: int = 20) -> Values:
    """Simple moving average: the mean of the last ``window`` values.

    References
    ----------
    Murphy, Technical Analysis of the Financial Markets (1999), chapter 9.

    Examples
    --------
    >>> simple_average(np.array([1.0, 3.0, 5.0]), window=2)
    array([nan,  2.,  4.])
    """
    require("window", window, 1, whole=True)
    return on_values(values, lambda x: kernels.moving_mean(x, window))


@delayed(lambda window: (window - 1) / 2)
def exponential_average(values: Values, window: int = 20) -> Values:
    """Exponential moving average with the weight ``2 / (window + 1)``, started with a mean over ``window`` values.

    References
    ----------
    R. G. Brown, Statistical Forecasting for Inventory Control (1959); started as TA-Lib does.

    Examples
    --------
    >>> exponential_average(np.array([1.0, 3.0, 5.0]), window=2).round(4)
    array([nan,  2.,  4.])
    """
    require("window", window, 1, whole=True)
    return on_values(values, lambda x: kernels.exponential(x, window, 2.0 / (window + 1.0)))


@delayed(lambda window: (window - 1) / 3)
def weighted_average(values: Values, window: int = 20) -> Values:
    """Linearly weighted moving average: the newest value weighs ``window``, the oldest 1.

    References
    ----------
    Murphy, Technical Analysis of the Financial Markets (1999), chapter 9.

    Examples
    --------
    >>> weighted_average(np.array([0.0, 3.0, 3.0]), window=2)
    array([nan,  2.,  3.])
    """
    require("window", window, 1, whole=True)
    return on_values(values, lambda x: kernels.moving_linear(x, window))


@delayed(lambda window: 2 * (window // 2 - 1) / 3 - (window - 1) / 3 + (math.isqrt(window) - 1) / 3)
def hull_average(values: Values, window: int = 20) -> Values:
    """Hull moving average: twice a fast weighted average less a slow one, smoothed over the root of the window.

    Nearly without delay; it overshoots at turns. NaN before ``window + isqrt(window) - 1`` values are there.

    References
    ----------
    A. Hull, How to reduce lag in a moving average (2005); halves and roots rounded down.

    Examples
    --------
    >>> hull_average(np.arange(8.0), window=4).round(4)
    array([nan, nan, nan, nan,  4.,  5.,  6.,  7.])
    """
    require("window", window, 2, whole=True)

    def hull(x: Floats) -> Floats:
        lifted = 2.0 * kernels.moving_linear(x, window // 2) - kernels.moving_linear(x, window)
        return kernels.moving_linear(lifted, math.isqrt(window))

    return on_values(values, hull)


@delayed(lambda fast: 1.0 / (2.0 / (fast + 1.0)) ** 2 - 1.0)
def adaptive_average(values: Values, window: int = 10, fast: int = 2, slow: int = 30) -> Values:
    """Kaufman's adaptive moving average: fast while price moves straight, nearly still while it goes nowhere.

    The declared delay is that of a straight move. It grows with noise to that of the slow weight squared,
    ``((slow + 1) / 2) ** 2 - 1`` bars: 239 for the default. NaN before ``window + 1`` values.

    References
    ----------
    P. J. Kaufman, Trading Systems and Methods, 5th ed. (2013), chapter 17.

    Examples
    --------
    >>> adaptive_average(np.array([0.0, 1.0, 2.0, 1.0]), window=2).round(4)
    array([   nan,    nan, 1.4444, 1.4426])
    """
    require("window", window, 1, whole=True)
    require("fast", fast, 1)
    require("slow", slow, fast)
    return on_values(values, lambda x: kernels.adaptive(x, window, 2.0 / (fast + 1.0), 2.0 / (slow + 1.0)))


@lru_cache(maxsize=64)
def _loess_weights(window: int, degree: int) -> Floats:
    back = np.arange(window, dtype=np.float64)
    distance = back / max(window - 1.0, 1.0)
    tricube = np.sqrt((1.0 - distance**3) ** 3)
    powers = (-distance)[:, None] ** np.arange(degree + 1)
    weights = np.linalg.pinv(powers * tricube[:, None])[0] * tricube
    weights.flags.writeable = False
    return weights


@delayed(lambda window, degree: weights_delay(_loess_weights(window, degree)))
def loess(values: Values, window: int = 25, degree: int = 1) -> Values:
    """End value of a local regression over the last ``window`` values with tricube weights.

    Bars are evenly spaced, so the fit is a fixed weighted mean of the window. From degree 1 on a straight move has no
    delay. Without the robust repeats of the original, which weigh by the residuals. NaN before the first full window.

    Parameters
    ----------
    window:
        Values in the fit; the oldest one has the weight 0. At least ``degree + 2``.
    degree:
        0, 1 or 2.

    References
    ----------
    W. S. Cleveland, Robust locally weighted regression, JASA 74 (1979), 829-836.

    Examples
    --------
    >>> loess(np.arange(6.0), window=4).round(6)
    array([nan, nan, nan,  3.,  4.,  5.])
    """
    require("degree", degree, 0, 2, whole=True)
    require("window", window, degree + 2, whole=True)
    weights = _loess_weights(window, degree)
    return on_values(values, lambda x: kernels.weighted_window(x, weights))


@research
def loess_whole(values: Values, window: int = 25, repeats: int = 3) -> Values:
    """Robust local linear regression over the nearest ``window`` values on both sides; by statsmodels, without NaN.

    Examples
    --------
    >>> loess_whole(np.arange(30.0), window=9).round(6)[10].item()
    10.0
    """
    require("window", window, 3, whole=True)
    require("repeats", repeats, 0, whole=True)

    def smoothed(x: Floats) -> Floats:
        from statsmodels.nonparametric.smoothers_lowess import lowess

        share = min(window / x.size, 1.0)
        return lowess(x, np.arange(x.size, dtype=np.float64), frac=share, it=repeats, return_sorted=False)

    return on_values(values, smoothed)


@delayed(lambda: 0.0)
def hodrick_prescott(values: Values, smoothness: float = 1600.0) -> Values:
    """One-sided Hodrick-Prescott trend: at each bar the end value of the filter run on the values up to it.

    A Kalman filter gives these end values one after the other and exactly. The same number is the end of a Whittaker
    smoother with a penalty on second differences. A straight move has no delay; turns are followed late.

    Parameters
    ----------
    smoothness:
        The penalty, lambda, above 0. Waves longer than about ``2 pi lambda ** 0.25`` bars pass: 40 bars at 1600.

    Notes
    -----
    NaN until two values in a row are known. Across a NaN the trend is predicted; the output there is NaN.

    References
    ----------
    J. H. Stock and M. W. Watson, Journal of Monetary Economics 44 (1999), 293-335, footnote 5; R. J. Hodrick and E. C.
    Prescott, Journal of Money, Credit and Banking 29 (1997), 1-16.

    Examples
    --------
    >>> hodrick_prescott(np.array([0.0, 1.0, 2.0, 6.0]), smoothness=1.0).round(4)
    array([   nan, 1.    , 2.    , 5.3636])
    """
    require("smoothness", smoothness, 1e-9)
    return on_values(values, lambda x: kernels.one_sided_trend(x, float(smoothness)))


@research
def whittaker_whole(values: Values, smoothness: float = 1600.0, order: int = 2) -> Values:
    """Whittaker smoother: the series that is close to all values and has small ``order``-th differences.

    With order 2 this is the Hodrick-Prescott filter. It reads the future; ``hodrick_prescott`` is the causal form.

    References
    ----------
    E. T. Whittaker, Proceedings of the Edinburgh Mathematical Society 41 (1923), 63-75; P. H. C. Eilers, Analytical
    Chemistry 75 (2003), 3631-3636.

    Examples
    --------
    >>> whittaker_whole(np.array([0.0, 1.0, 2.0, 6.0]), smoothness=1.0).round(4)[-1].item()
    5.3636
    """
    require("smoothness", smoothness, 0.0)
    require("order", order, 1, 4, whole=True)
    return on_values(values, lambda x: penalised(x, float(smoothness), order))


def penalised(values: Floats, smoothness: float, order: int) -> Floats:
    """Solve ``(I + smoothness D'D) z = values`` with ``D`` the differences of an order: a banded system.

    Examples
    --------
    >>> penalised(np.array([0.0, 3.0, 0.0]), 1.0, 1)
    array([0.75, 1.5 , 0.75])
    """
    from scipy.linalg import solveh_banded

    if np.isnan(values).any():
        raise DataError(f"row {int(np.argmax(np.isnan(values)))} is NaN: this smoother needs every value")
    size = values.size
    if size <= order:
        return values.copy()
    difference = np.array([(-1.0) ** (order - k) * math.comb(order, k) for k in range(order + 1)])
    bands = np.zeros((order + 1, size))  # upper form: row order - k holds the k-th diagonal
    for k in range(order + 1):
        for j in range(order + 1 - k):
            # Row r of D touches columns r .. r + order; it adds this product at (r + j, r + j + k).
            bands[order - k, j + k : size - order + j + k] += smoothness * difference[j] * difference[j + k]
    bands[order] += 1.0
    return solveh_banded(bands, values)


def super_smoother_coefficients(period: float) -> tuple[float, float, float]:
    """The three coefficients of Ehlers' filter: of the input's two-bar mean, and of the last two outputs.

    Examples
    --------
    >>> round(sum(super_smoother_coefficients(10.0)), 12)
    1.0
    """
    require("period", period, 2.0)
    angle = math.sqrt(2.0) * math.pi / period
    decay = math.exp(-angle)
    c2, c3 = 2.0 * decay * math.cos(angle), -decay * decay
    return 1.0 - c2 - c3, c2, c3


def _super_smoother_delay(period: float) -> float:
    c1, c2, c3 = super_smoother_coefficients(period)
    return 0.5 + (c2 + 2.0 * c3) / c1


@delayed(_super_smoother_delay)
def super_smoother(values: Values, period: float = 10.0) -> Values:
    """Ehlers' SuperSmoother: a two-pole Butterworth after a two-bar mean, which removes the shortest wave altogether.

    It starts settled on the first value.

    Parameters
    ----------
    period:
        The wave, in bars, from which on the filter damps; 2 or more.

    References
    ----------
    J. F. Ehlers, Cycle Analytics for Traders (2013), chapter 3.

    Examples
    --------
    >>> super_smoother(np.array([0.0, 1.0, 1.0]), period=10.0).round(4)
    array([0.    , 0.1266, 0.3998])
    """
    c1, c2, c3 = super_smoother_coefficients(period)
    section = np.array([[0.5 * c1, 0.5 * c1, 0.0, -c2, -c3]])
    return on_values(values, lambda x: kernels.second_order_sections(x, section))
