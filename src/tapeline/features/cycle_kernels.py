"""Compiled loops for cycles: the autocorrelation periodogram, a wave fitted at the window's end, a spectrum over time.

Sums may be taken in any order (``reassoc``), which is what lets the compiler take four or eight at a time.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _two_dots(values: Floats, first: Floats, second: Floats) -> tuple[float, float]:
    one, two = 0.0, 0.0
    for j in range(values.size):
        one += values[j] * first[j]
        two += values[j] * second[j]
    return one, two


@njit(cache=True, nogil=True)
def _lagged_products(values: Floats, i: int, window: int, products: Floats) -> None:
    """Sums of the last ``window`` values times those before them, the longest lag first, taken anew."""
    lags = products.size
    products[:] = 0.0
    for j in range(i - window + 1, i + 1):
        for m in range(lags):
            products[m] += values[j] * values[j - lags + 1 + m]


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _mean_and_size(values: Floats) -> tuple[float, float]:
    total = 0.0
    for j in range(values.size):
        total += values[j]
    mean = total / values.size
    squares = 0.0
    for j in range(values.size):
        squares += (values[j] - mean) ** 2
    return mean, np.sqrt(squares / values.size)


@njit(cache=True, nogil=True)
def high_pass(values: Floats, period: float) -> Floats:
    """Ehlers' two-pole high-pass filter: waves longer than ``period`` are damped, a straight line goes altogether.

    It starts settled: a line from the first value on gives nothing.

    Examples
    --------
    >>> high_pass(np.array([5.0, 5.0, 5.0, 6.0]), 10.0).round(4)
    array([0.    , 0.    , 0.    , 0.6654])
    """
    result = np.zeros(values.size)
    angle = np.sqrt(0.5) * 2.0 * np.pi / period
    alpha = (np.cos(angle) + np.sin(angle) - 1.0) / np.cos(angle)
    gain, keep = (1.0 - alpha / 2.0) ** 2, 1.0 - alpha
    for i in range(2, values.size):
        bend = values[i] - 2.0 * values[i - 1] + values[i - 2]
        result[i] = gain * bend + 2.0 * keep * result[i - 1] - keep * keep * result[i - 2]
    return result


@njit(cache=True, nogil=True)
def autocorrelation_periodogram(
    values: Floats, window: int, cosines: Floats, sines: Floats, periods: Floats, floor: float
) -> tuple[Floats, Floats, Floats]:
    """The dominant wave in the autocorrelations of the last values.

    At each bar the correlations of the last ``window`` values with those 0, 1, ... ``cosines.shape[1] - 1`` bars
    before are transformed into the squared amplitude at each of ``periods``, by the rows of ``cosines`` and ``sines``.
    The periods make a geometric series.

    Returns
    -------
    The period of the highest amplitude, refined by a parabola; the share of all squared amplitudes within a fifth of
    that period; the entropy of the squared amplitudes, 0 to 1. NaN where the values' deviation is not above ``floor``.

    Examples
    --------
    >>> lags, periods = np.arange(30.0), np.geomspace(4.0, 24.0, 20)
    >>> angles = 2.0 * np.pi * lags / periods[:, None]
    >>> wave = np.sin(2.0 * np.pi * np.arange(60.0) / 10.0)
    >>> found = autocorrelation_periodogram(wave, 20, np.cos(angles), np.sin(angles), periods, 0.0)
    >>> found[0][-1].round(1)
    np.float64(9.9)
    """
    size, lags, count = values.size, cosines.shape[1], periods.size
    dominant, shares, entropies = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    means, deviations = np.full(size, np.nan), np.full(size, np.nan)
    # The longest lag first, as the values lie in memory; taken anew every now and then, so that no rounding stays.
    products, correlations, power = np.empty(lags), np.empty(lags), np.empty(count)
    age = window
    for i in range(window - 1, size):
        means[i], deviations[i] = _mean_and_size(values[i - window + 1 : i + 1])
        if i < window + lags - 2:
            continue
        age += 1
        if age >= window:
            age = 0
            _lagged_products(values, i, window, products)
        else:
            new, old = values[i], values[i - window]
            for m in range(lags):
                products[m] += new * values[i - lags + 1 + m] - old * values[i - window - lags + 1 + m]
        known = True
        for k in range(lags):
            known = known and deviations[i - k] > floor
        if not known:
            continue
        for k in range(lags):
            covariance = products[lags - 1 - k] / window - means[i] * means[i - k]
            correlations[k] = covariance / (deviations[i] * deviations[i - k])
        best, total = 0, 0.0
        for p in range(count):
            real, imaginary = _two_dots(correlations, cosines[p], sines[p])
            power[p] = real * real + imaginary * imaginary
            total += power[p]
            if power[p] > power[best]:
                best = p
        if not total > 0.0:
            continue
        shift = 0.0
        if 0 < best < count - 1:
            bend = power[best - 1] - 2.0 * power[best] + power[best + 1]
            if bend < 0.0:
                shift = 0.5 * (power[best - 1] - power[best + 1]) / bend
        step = periods[1] / periods[0]
        period = periods[best] * step**shift
        near, entropy = 0.0, 0.0
        for p in range(count):
            share = power[p] / total
            if abs(periods[p] - period) <= 0.2 * period:
                near += share
            if share > 0.0:
                entropy -= share * np.log(share)
        dominant[i], shares[i], entropies[i] = period, near, entropy / np.log(count)
    return dominant, shares, entropies


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def wave_at_the_end(values: Floats, periods: Floats, cycles: float, longest: int) -> tuple[Floats, Floats, Floats]:
    """The wave of a given period that fits the last values best, beside a straight line, by least squares.

    At bar ``i`` the line and the wave are fitted to the last ``cycles * periods[i]`` values, at most ``longest``.

    Returns
    -------
    The wave's cosine part and sine part at bar ``i`` itself: it is ``a * cos(w * t) + b * sin(w * t)`` with ``t`` = 0
    now and negative before. And the share of the squares left by the line that the wave explains, 0 to 1. NaN where
    the period is, or nothing is left by the line.

    Examples
    --------
    >>> t = np.arange(50.0)
    >>> wave = 7.0 + 0.1 * t + 2.0 * np.cos(2.0 * np.pi * (t - 49.0) / 12.0)
    >>> a, b, share = wave_at_the_end(wave, np.full(50, 12.0), 2.0, 50)
    >>> a[-1].round(6), abs(b[-1].round(6)), share[-1].round(6)
    (np.float64(2.0), np.float64(0.0), np.float64(1.0))
    """
    size = values.size
    first, second, shares = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    for i in range(longest - 1, size):
        if np.isnan(periods[i]):
            continue
        n = int(min(max(np.rint(cycles * periods[i]), 6.0), longest))
        angle = 2.0 * np.pi / periods[i]
        turn_c, turn_s = np.cos(angle), np.sin(angle)
        now = values[i]
        middle = (n - 1) / 2.0
        tt = n * (n * n - 1.0) / 12.0
        sy, sc, ss, ty, tc, ts = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        yy, yc, ys, cc, cs, s2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        c, s = 1.0, 0.0
        for j in range(n):
            # t runs backwards from now, so its sine is that of a negative angle.
            y, t = values[i - j] - now, middle - j
            sy += y
            sc += c
            ss += s
            ty += t * y
            tc += t * c
            ts += t * s
            yy += y * y
            yc += y * c
            ys += y * s
            cc += c * c
            cs += c * s
            s2 += s * s
            c, s = c * turn_c + s * turn_s, s * turn_c - c * turn_s
        # Out of everything, its mean and its line.
        yy_left = yy - sy * sy / n - ty * ty / tt
        yc -= sy * sc / n + ty * tc / tt
        ys -= sy * ss / n + ty * ts / tt
        cc -= sc * sc / n + tc * tc / tt
        cs -= sc * ss / n + tc * ts / tt
        s2 -= ss * ss / n + ts * ts / tt
        determinant = cc * s2 - cs * cs
        if not (yy_left > 1e-12 * yy and yy > 0.0 and determinant > 1e-9 * n * n):
            continue
        a = (s2 * yc - cs * ys) / determinant
        b = (cc * ys - cs * yc) / determinant
        first[i], second[i] = a, b
        shares[i] = min(max((a * yc + b * ys) / yy_left, 0.0), 1.0)
    return first, second, shares


@njit(cache=True, nogil=True)
def rolling_lomb_scargle(
    values: Floats, times: NDArray[np.float64], window: int, periods: Floats, floor: float
) -> tuple[Floats, Floats]:
    """The strongest of some waves in the last ``window`` values, each at its own time.

    The periodogram of Lomb and Scargle with a free mean: the share of the values' squares around their mean that a
    wave of this period, fitted by least squares at the very times, explains.

    Parameters
    ----------
    times:
        When each value was taken, in the unit of ``periods``.
    floor:
        Windows whose standard deviation is not above it give NaN.

    Returns
    -------
    The period with the largest share, and that share, 0 to 1.

    Examples
    --------
    >>> times = np.array([0.0, 1.0, 2.0, 5.0, 6.0, 9.0, 11.0, 12.0, 15.0])
    >>> found = rolling_lomb_scargle(np.sin(2.0 * np.pi * times / 7.0), times, 9, np.array([5.0, 7.0, 9.0]), 0.0)
    >>> found[0][-1], found[1][-1].round(6)
    (np.float64(7.0), np.float64(1.0))
    """
    size = values.size
    best_period, best_share = np.full(size, np.nan), np.full(size, np.nan)
    means, totals = np.full(size, np.nan), np.full(size, np.nan)
    for i in range(window - 1, size):
        means[i], deviation = _mean_and_size(values[i - window + 1 : i + 1])
        if deviation > floor:
            totals[i] = deviation * deviation * window
            best_share[i] = -1.0
    for p in range(periods.size):
        angle = 2.0 * np.pi / periods[p]
        c, s = np.empty(size), np.empty(size)
        sc, ss, cc, cs, raw_c, raw_s = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        last_step, turn_c, turn_s = 0.0, 1.0, 0.0
        for i in range(size):
            # Even steps turn the wave by an angle that is known; now and then it is set right.
            step = times[i] - times[i - 1] if i > 0 else 0.0
            if i % 256 == 0:
                c[i], s[i] = np.cos(angle * times[i]), np.sin(angle * times[i])
            else:
                if step != last_step:
                    last_step, turn_c, turn_s = step, np.cos(angle * step), np.sin(angle * step)
                c[i] = c[i - 1] * turn_c - s[i - 1] * turn_s
                s[i] = s[i - 1] * turn_c + c[i - 1] * turn_s
            y = values[i] if np.isfinite(values[i]) else 0.0
            sc += c[i]
            ss += s[i]
            cc += c[i] * c[i]
            cs += c[i] * s[i]
            raw_c += y * c[i]
            raw_s += y * s[i]
            if i >= window:
                j = i - window
                y = values[j] if np.isfinite(values[j]) else 0.0
                sc -= c[j]
                ss -= s[j]
                cc -= c[j] * c[j]
                cs -= c[j] * s[j]
                raw_c -= y * c[j]
                raw_s -= y * s[j]
            if i < window - 1 or np.isnan(totals[i]):
                continue
            yc = raw_c - means[i] * sc
            ys = raw_s - means[i] * ss
            left_s = window - cc - ss * ss / window
            left_c = cc - sc * sc / window
            left_cs = cs - sc * ss / window
            determinant = left_c * left_s - left_cs * left_cs
            if determinant > 1e-9 * window * window:
                share = (left_s * yc * yc + left_c * ys * ys - 2.0 * left_cs * yc * ys) / determinant / totals[i]
                if share > best_share[i]:
                    best_share[i], best_period[i] = min(share, 1.0), periods[p]
    for i in range(size):
        if not best_share[i] >= 0.0:
            best_share[i], best_period[i] = np.nan, np.nan
    return best_period, best_share
