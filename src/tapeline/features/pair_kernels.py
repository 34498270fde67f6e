"""Compiled loops over two legs: rolling least squares, its residuals' unit root statistic, and a moving hedge ratio.

Every window is summed anew, around its own means, so that neither a price level nor what came before it is left in the
result. Sums may be taken in any order (``reassoc``), which is what lets the compiler take four or eight at a time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import STILL, Floats

DIFFUSE = 1e6
"""Variance of the unknown first state of the Kalman filter, in variances of the noise: nothing is known of it."""


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _sum(values: Floats) -> float:
    total = 0.0
    for j in range(values.size):
        total += values[j]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _squares(first: Floats, second: Floats, mean_first: float, mean_second: float) -> tuple[float, float, float]:
    xx, yy, xy = 0.0, 0.0, 0.0
    for j in range(first.size):
        x, y = first[j] - mean_first, second[j] - mean_second
        xx += x * x
        yy += y * y
        xy += x * y
    return xx, yy, xy


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _steps(y: Floats, x: Floats, level: float, slope: float) -> tuple[float, float, float]:
    before, product, changed = 0.0, 0.0, 0.0
    for j in range(1, y.size):
        last = y[j - 1] - slope * x[j - 1] - level
        step = y[j] - y[j - 1] - slope * (x[j] - x[j - 1])
        before += last * last
        product += last * step
        changed += step * step
    return before, product, changed


@njit(cache=True, nogil=True)
def rolling_hedge(y: Floats, x: Floats, window: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Least squares of the last ``window`` values of ``y`` on those of ``x`` and a constant.

    Returns
    -------
    The slope; the newest residual; the residuals' standard deviation with ``window - 2`` degrees of freedom; R squared.
    NaN where ``x`` has not moved; R squared is NaN where ``y`` has not.

    Examples
    --------
    >>> slope, residual, _, fit = rolling_hedge(np.array([1.0, 3.0, 5.0]), np.array([0.0, 1.0, 2.0]), 3)
    >>> slope[-1], residual[-1], fit[-1]
    (np.float64(2.0), np.float64(0.0), np.float64(1.0))
    """
    size = y.size
    slopes, residuals = np.full(size, np.nan), np.full(size, np.nan)
    deviations, fits = np.full(size, np.nan), np.full(size, np.nan)
    floor = window * STILL * STILL
    for i in range(window - 1, size):
        ours, theirs = y[i - window + 1 : i + 1], x[i - window + 1 : i + 1]
        mean_y, mean_x = _sum(ours) / window, _sum(theirs) / window
        xx, yy, xy = _squares(theirs, ours, mean_x, mean_y)
        if not (xx > floor and np.isfinite(xy)):
            continue
        slope = xy / xx
        slopes[i] = slope
        residuals[i] = y[i] - mean_y - slope * (x[i] - mean_x)
        if window > 2:
            deviations[i] = np.sqrt(max(yy - slope * xy, 0.0) / (window - 2))
        if yy > floor:
            fits[i] = min(slope * xy / yy, 1.0)
    return slopes, residuals, deviations, fits


@njit(cache=True, nogil=True)
def rolling_dickey_fuller(y: Floats, x: Floats, window: int) -> tuple[Floats, Floats]:
    """Student's t and the coefficient of the Dickey-Fuller regression on the residuals of :func:`rolling_hedge`.

    The regression is that of the residual's change on the residual before, without constant and lags: what Engle and
    Granger do in their second step. The coefficient lies below 0 where the residuals turn back.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 3.0, 4.0, 7.0, 7.5])
    >>> t, pull = rolling_dickey_fuller(2.0 * x + np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]), x, 6)
    >>> t[-1].round(2), pull[-1].round(2)
    (np.float64(-15.79), np.float64(-1.97))
    """
    size = y.size
    values, pulls = np.full(size, np.nan), np.full(size, np.nan)
    floor = window * STILL * STILL
    for i in range(window - 1, size):
        ours, theirs = y[i - window + 1 : i + 1], x[i - window + 1 : i + 1]
        mean_y, mean_x = _sum(ours) / window, _sum(theirs) / window
        xx, _, xy = _squares(theirs, ours, mean_x, mean_y)
        if not (xx > floor and np.isfinite(xy)):
            continue
        slope = xy / xx
        before, product, changed = _steps(ours, theirs, mean_y - slope * mean_x, slope)
        left = changed - product * product / before if before > floor else 0.0
        if left > floor:
            pulls[i] = product / before
            values[i] = pulls[i] / np.sqrt(left / (window - 2) / before)
    return values, pulls


@njit(cache=True, nogil=True)
def windowed_kalman_hedge(y: Floats, x: Floats, window: int, drift: float) -> tuple[Floats, Floats]:
    """A hedge ratio that moves: Kalman's filter of ``y = level + ratio * x + noise`` over the last ``window`` pairs.

    Level and ratio are random walks whose steps have ``drift / (1 - drift)`` times the variance of the noise, ``x``
    being measured in its own standard deviations. The filter starts from nothing at the first bar of each window; the
    variance of the noise is the one of highest likelihood, the mean of the squared standardised surprises before the
    newest one.

    Returns
    -------
    The ratio after the newest pair; the newest pair's surprise in standard deviations. NaN where ``x`` has not moved
    or nothing has surprised.

    Examples
    --------
    >>> x = np.sin(np.arange(60.0))
    >>> ratio, surprise = windowed_kalman_hedge(1.0 + 2.0 * x + 0.01 * np.cos(3.0 * np.arange(60.0)), x, 60, 1e-6)
    >>> round(float(ratio[-1]), 2)
    2.0
    """
    size = y.size
    ratios, surprises = np.full(size, np.nan), np.full(size, np.nan)
    noise = drift / (1.0 - drift)
    for i in range(window - 1, size):
        first = i - window + 1
        ours, theirs = y[first : i + 1], x[first : i + 1]
        mean_y, mean_x = _sum(ours) / window, _sum(theirs) / window
        xx, _, xy = _squares(theirs, ours, mean_x, mean_y)
        if not (xx > window * STILL * STILL and np.isfinite(xy)):
            continue
        unit = np.sqrt(xx / window)
        level, ratio = 0.0, 0.0
        p00, p01, p11 = DIFFUSE, 0.0, DIFFUSE
        likely, surprise, spread = 0.0, 0.0, 1.0
        for j in range(first, i + 1):
            if j > first:
                p00 += noise
                p11 += noise
                if j > first + 2:
                    likely += surprise * surprise / spread
            z = (x[j] - mean_x) / unit
            g0, g1 = p00 + p01 * z, p01 + p11 * z
            spread = g0 + g1 * z + 1.0
            surprise = y[j] - mean_y - level - ratio * z
            inverse = 1.0 / spread
            level += g0 * inverse * surprise
            ratio += g1 * inverse * surprise
            p00 -= g0 * g0 * inverse
            p01 -= g0 * g1 * inverse
            p11 -= g1 * g1 * inverse
        ratios[i] = ratio / unit
        likely /= window - 3
        if likely > STILL * STILL:
            surprises[i] = surprise / np.sqrt(spread * likely)
    return ratios, surprises
