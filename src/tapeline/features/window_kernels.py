"""Compiled loops over windows whose cost a bar does not grow with the window, or grows slowly.

Moments are kept as running sums around a centre. A value far outside the window's own spread would leave its rounding
in them when it goes, so the sums are taken anew whenever such a value has left or the centre has drifted.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.features.arrays import Floats

REACH = 100.0
"""Sums are taken anew once a value outside the window lay further out than this many times its sum of squares."""


@njit(cache=True, error_model="numpy")
def running_moments(values: Floats, window: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, population standard deviation, skewness and excess kurtosis of the last ``window`` values.

    Skewness and kurtosis are NaN where the values are all the same. A NaN makes NaN of the windows that hold it.

    Examples
    --------
    >>> _, _, skew, kurtosis = running_moments(np.array([0.0, 0.0, 3.0]), 3)
    >>> skew.round(4), kurtosis.round(4)
    (array([   nan,    nan, 0.7071]), array([ nan,  nan, -1.5]))
    """
    size = values.size
    share = 1.0 / window
    means, deviations = np.full(size, np.nan), np.full(size, np.nan)
    skews, kurtoses = np.full(size, np.nan), np.full(size, np.nan)
    centre, peak, s1, s2, s3, s4 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    valid = 0
    age = 0
    fresh = False
    for i in range(size):
        now = values[i]
        if not np.isfinite(now):
            valid = 0
            fresh = False
            continue
        valid += 1
        if valid < window:
            continue
        if fresh:
            x, y = now - centre, values[i - window] - centre
            xx, yy = x * x, y * y
            s1 += x - y
            s2 += xx - yy
            s3 += x * xx - y * yy
            s4 += xx * xx - yy * yy
            peak = max(peak, xx)
            age += 1
            mean = s1 * share
            spread = s2 - s1 * mean
            fresh = age < window and peak <= REACH * spread and mean * mean <= spread
        if not fresh:
            total = 0.0
            for j in range(i - window + 1, i + 1):
                total += values[j]
            centre = total / window
            peak, s1, s2, s3, s4 = 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(i - window + 1, i + 1):
                x = values[j] - centre
                xx = x * x
                s1 += x
                s2 += xx
                s3 += x * xx
                s4 += xx * xx
                peak = max(peak, xx)
            mean = s1 * share
            spread = s2 - s1 * mean
            age = 0
            fresh = True
        means[i] = centre + mean
        second = max(spread, 0.0) * share
        largest = abs(centre) + abs(mean)
        if second > (1e-14 * largest) ** 2 and second > 0.0:
            deviation = np.sqrt(second)
            deviations[i] = deviation
            square = mean * mean
            third = (s3 - 3.0 * mean * s2) * share + 2.0 * mean * square
            fourth = (s4 - 4.0 * mean * s3 + 6.0 * square * s2) * share - 3.0 * square * square
            inverse = 1.0 / second
            skews[i] = third * inverse * inverse * deviation
            kurtoses[i] = fourth * inverse * inverse - 3.0
        else:
            deviations[i] = 0.0
    return means, deviations, skews, kurtoses


@njit(cache=True, error_model="numpy")
def rolling_quantiles(values: Floats, window: int, shares: Floats) -> Floats:
    """Quantiles of the last ``window`` values, interpolated linearly (Hyndman and Fan, type 7); [shares, bars].

    The window is kept sorted: a bar takes one value out and puts one in, which moves those between.

    Examples
    --------
    >>> rolling_quantiles(np.array([3.0, 1.0, 2.0]), 3, np.array([0.5, 0.75]))[:, -1]
    array([2. , 2.5])
    """
    result = np.full((shares.size, values.size), np.nan)
    ordered = np.empty(window)
    filled = 0
    for i in range(values.size):
        now = values[i]
        if np.isnan(now):
            filled = 0
            continue
        if filled < window:
            place = np.searchsorted(ordered[:filled], now)
            for j in range(filled, place, -1):
                ordered[j] = ordered[j - 1]
            ordered[place] = now
            filled += 1
        else:
            # The place of the value that leaves, by halving without a branch that could be mispredicted.
            old = values[i - window]
            gone, span = 0, window
            while span > 1:
                half = span // 2
                gone = gone + half if ordered[gone + half - 1] < old else gone
                span -= half
            gone = gone + 1 if ordered[gone] < old else gone
            # One pass from the gap towards the new value's place.
            while gone + 1 < window and ordered[gone + 1] < now:
                ordered[gone] = ordered[gone + 1]
                gone += 1
            while gone > 0 and ordered[gone - 1] > now:
                ordered[gone] = ordered[gone - 1]
                gone -= 1
            ordered[gone] = now
        if filled == window:
            for k in range(shares.size):
                position = shares[k] * (window - 1)
                below = min(int(position), window - 1)
                above = min(below + 1, window - 1)
                result[k, i] = ordered[below] + (position - below) * (ordered[above] - ordered[below])
    return result


@njit(cache=True, nogil=True)
def rolling_entropy(values: Floats, window: int, bins: int) -> Floats:
    """Shannon entropy of the last ``window`` values in ``bins`` equal bins between their extremes, 0 to 1.

    1 where all bins hold as many, 0 where one holds all. NaN where the values are all the same.

    Examples
    --------
    >>> rolling_entropy(np.array([0.0, 1.0, 0.0, 1.0]), 4, 2)
    array([nan, nan, nan,  1.])
    """
    result = np.full(values.size, np.nan)
    counts = np.empty(bins)
    for i in range(window - 1, values.size):
        low, high = np.inf, -np.inf
        known = True
        for j in range(i - window + 1, i + 1):
            known = known and np.isfinite(values[j])
            low, high = min(low, values[j]), max(high, values[j])
        if not known or not high - low > 1e-12 * max(abs(high), abs(low)):
            continue
        counts[:] = 0.0
        for j in range(i - window + 1, i + 1):
            counts[min(int((values[j] - low) / (high - low) * bins), bins - 1)] += 1.0
        entropy = 0.0
        for k in range(bins):
            if counts[k] > 0.0:
                share = counts[k] / window
                entropy -= share * np.log(share)
        result[i] = entropy / np.log(bins)
    return result


@njit(cache=True, nogil=True)
def rolling_drawdown(values: Floats, window: int) -> Floats:
    """Largest fall from a high to a later value within the last ``window`` values, as a share of the high, 0 to 1.

    Examples
    --------
    >>> rolling_drawdown(np.array([4.0, 2.0, 3.0, 8.0]), 3)
    array([nan, nan, 0.5, 0. ])
    """
    result = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        top = values[i - window + 1]
        worst = 0.0 * top
        for j in range(i - window + 2, i + 1):
            if values[j] > top:
                top = values[j]
            fall = 1.0 - values[j] / top
            if not fall <= worst:
                worst = fall
        result[i] = worst
    return result


@njit(cache=True, nogil=True)
def rolling_covariance(first: Floats, second: Floats, window: int) -> tuple[Floats, Floats]:
    """Sample covariance of the last ``window`` pairs, and the sample variance of the second side.

    Examples
    --------
    >>> rolling_covariance(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]), 3)
    (array([nan, nan,  2.]), array([nan, nan,  4.]))
    """
    covariance, variance = np.full(first.size, np.nan), np.full(first.size, np.nan)
    for i in range(window - 1, first.size):
        x, y = 0.0, 0.0
        for j in range(i - window + 1, i + 1):
            x += first[j]
            y += second[j]
        x, y = x / window, y / window
        xy, yy = 0.0, 0.0
        for j in range(i - window + 1, i + 1):
            xy += (first[j] - x) * (second[j] - y)
            yy += (second[j] - y) * (second[j] - y)
        covariance[i], variance[i] = xy / (window - 1), yy / (window - 1)
    return covariance, variance


@njit(cache=True, nogil=True)
def rolling_rank_correlation(first: Floats, second: Floats, window: int) -> Floats:
    """Spearman's rank correlation of the last ``window`` pairs, ties at their mean rank; NaN where a side is constant.

    Examples
    --------
    >>> rolling_rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([3.0, 4.0, 5.0]), 3)
    array([nan, nan,  1.])
    """
    result = np.full(first.size, np.nan)
    for i in range(window - 1, first.size):
        x, y = first[i - window + 1 : i + 1], second[i - window + 1 : i + 1]
        if np.isnan(x).any() or np.isnan(y).any():
            continue
        a, b = mean_ranks(x), mean_ranks(y)
        centre = (window + 1) / 2.0
        xx, yy, xy = 0.0, 0.0, 0.0
        for j in range(window):
            xx += (a[j] - centre) ** 2
            yy += (b[j] - centre) ** 2
            xy += (a[j] - centre) * (b[j] - centre)
        if xx > 0.0 and yy > 0.0:
            result[i] = min(max(xy / np.sqrt(xx * yy), -1.0), 1.0)
    return result


@njit(cache=True, nogil=True)
def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values at the mean of theirs.

    Examples
    --------
    >>> mean_ranks(np.array([5.0, 1.0, 5.0]))
    array([2.5, 1. , 2.5])
    """
    order = np.argsort(values)
    ranks = np.empty(values.size)
    start = 0
    while start < values.size:
        end = start
        while end + 1 < values.size and values[order[end + 1]] == values[order[start]]:
            end += 1
        for k in range(start, end + 1):
            ranks[order[k]] = (start + end) / 2.0 + 1.0
        start = end + 1
    return ranks
