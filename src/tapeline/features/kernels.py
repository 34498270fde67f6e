"""Compiled loops over bars.

A window is summed anew at every bar: that costs ``window`` additions a bar, and gives the same bits whatever came
before the window, where a running sum would carry the rounding of every spike it ever held. A NaN makes NaN of the
windows that hold it and of no other.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import Floats


@njit(cache=True, nogil=True)
def wilder_mean(values: Floats, window: int) -> Floats:
    """Wilder's average: seeded with the mean of the first ``window`` values that are not NaN, weight 1 / window.

    Examples
    --------
    >>> wilder_mean(np.array([np.nan, 1.0, 3.0, 6.0]), 2)
    array([nan, nan,  2.,  4.])
    """
    result = np.full(values.size, np.nan)
    start = 0
    while start < values.size and np.isnan(values[start]):
        start += 1
    if start + window > values.size:
        return result
    mean = 0.0
    for i in range(start, start + window):
        mean += values[i]
    mean /= window
    result[start + window - 1] = mean
    for i in range(start + window, values.size):
        mean += (values[i] - mean) / window
        result[i] = mean
    return result


@njit(cache=True, nogil=True)
def rolling_mean(values: Floats, window: int) -> Floats:
    """Mean of the last ``window`` values.

    Examples
    --------
    >>> rolling_mean(np.array([1.0, 3.0, 5.0]), 2)
    array([nan,  2.,  4.])
    """
    result = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for j in range(i - window + 1, i + 1):
            total += values[j]
        result[i] = total / window
    return result


@njit(cache=True, nogil=True)
def rolling_deviation(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of the last ``window`` values, in two passes.

    Examples
    --------
    >>> rolling_deviation(np.array([1.0, 3.0, 7.0]), 2)[1]
    array([nan,  1.,  2.])
    """
    means = np.full(values.size, np.nan)
    deviations = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for j in range(i - window + 1, i + 1):
            total += values[j]
        mean = total / window
        squares = 0.0
        for j in range(i - window + 1, i + 1):
            away = values[j] - mean
            squares += away * away
        means[i] = mean
        deviations[i] = np.sqrt(squares / window)
    return means, deviations


@njit(cache=True, nogil=True)
def rolling_moments(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Skewness and excess kurtosis (population) of the last ``window`` values; NaN where they are all the same.

    Examples
    --------
    >>> skew, kurtosis = rolling_moments(np.array([0.0, 0.0, 3.0]), 3)
    >>> skew.round(4), kurtosis
    (array([   nan,    nan, 0.7071]), array([ nan,  nan, -1.5]))
    """
    skews = np.full(values.size, np.nan)
    kurtoses = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        largest = 0.0
        for j in range(i - window + 1, i + 1):
            total += values[j]
            largest = max(largest, abs(values[j]))
        mean = total / window
        second, third, fourth = 0.0, 0.0, 0.0
        for j in range(i - window + 1, i + 1):
            away = values[j] - mean
            square = away * away
            second += square
            third += square * away
            fourth += square * square
        second /= window
        # Equal values leave a rounding of the mean behind, which is no variance.
        if second > (1e-14 * largest) ** 2 and second > 0.0:
            skews[i] = third / window / second**1.5
            kurtoses[i] = fourth / window / (second * second) - 3.0
    return skews, kurtoses


@njit(cache=True, nogil=True)
def rolling_correlation(first: Floats, second: Floats, window: int) -> Floats:
    """Pearson correlation of the last ``window`` pairs; NaN where one side does not vary.

    Examples
    --------
    >>> rolling_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 5.0]), 3).round(4)
    array([  nan,   nan, 0.982])
    """
    result = np.full(first.size, np.nan)
    for i in range(window - 1, first.size):
        total_x, total_y, largest_x, largest_y = 0.0, 0.0, 0.0, 0.0
        for j in range(i - window + 1, i + 1):
            total_x += first[j]
            total_y += second[j]
            largest_x = max(largest_x, abs(first[j]))
            largest_y = max(largest_y, abs(second[j]))
        mean_x, mean_y = total_x / window, total_y / window
        xx, yy, xy = 0.0, 0.0, 0.0
        for j in range(i - window + 1, i + 1):
            x, y = first[j] - mean_x, second[j] - mean_y
            xx += x * x
            yy += y * y
            xy += x * y
        if xx > window * (1e-14 * largest_x) ** 2 and yy > window * (1e-14 * largest_y) ** 2:
            result[i] = min(max(xy / np.sqrt(xx * yy), -1.0), 1.0)
    return result


@njit(cache=True, nogil=True)
def rolling_regression(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Slope a bar of the least-squares line through the last ``window`` values, and its R squared.

    R squared is NaN where the values do not vary.

    Examples
    --------
    >>> slope, fit = rolling_regression(np.array([1.0, 2.0, 3.0]), 3)
    >>> slope, fit
    (array([nan, nan,  1.]), array([nan, nan,  1.]))
    """
    slopes = np.full(values.size, np.nan)
    fits = np.full(values.size, np.nan)
    centre = (window - 1) / 2.0
    tt = window * (window * window - 1.0) / 12.0
    for i in range(window - 1, values.size):
        first = i - window + 1
        total, largest = 0.0, 0.0
        for j in range(first, i + 1):
            total += values[j]
            largest = max(largest, abs(values[j]))
        mean = total / window
        ty, yy = 0.0, 0.0
        for j in range(first, i + 1):
            y = values[j] - mean
            ty += (j - first - centre) * y
            yy += y * y
        slopes[i] = ty / tt
        if yy > window * (1e-14 * largest) ** 2:
            fits[i] = min(ty * ty / (tt * yy), 1.0)
    return slopes, fits


@njit(cache=True, nogil=True)
def rolling_rank(values: Floats, window: int) -> Floats:
    """Share of the last ``window`` values, the current one included, that lie below it; ties count half.

    Examples
    --------
    >>> rolling_rank(np.array([1.0, 2.0, 0.0]), 2)
    array([ nan, 0.75, 0.25])
    """
    result = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        now = values[i]
        below = 0.0
        for j in range(i - window + 1, i + 1):
            if values[j] < now:
                below += 1.0
            elif values[j] == now:
                below += 0.5
            elif not values[j] > now:
                below = np.nan
        result[i] = below / window
    return result


@njit(cache=True, nogil=True)
def run_length(directions: Floats, longest: int) -> Floats:
    """How many bars in a row had the direction of the current one, signed with it; counted up to ``longest``.

    Examples
    --------
    >>> run_length(np.array([np.nan, 1.0, 1.0, -1.0, 0.0]), 9)
    array([nan,  1.,  2., -1.,  0.])
    """
    result = np.full(directions.size, np.nan)
    run = 0
    for i in range(directions.size):
        now = directions[i]
        if np.isnan(now):
            run = 0
            continue
        run = min(run + 1, longest) if i > 0 and directions[i - 1] == now else 1
        result[i] = run * now
    return result


@njit(cache=True, nogil=True)
def extremes_of_period(high: Floats, low: Floats, periods: NDArray[np.int64], longest: int) -> tuple[Floats, Floats]:
    """Highest high and lowest low since the current period began, over at most the last ``longest`` bars.

    Examples
    --------
    >>> extremes_of_period(np.array([3.0, 2.0, 1.0]), np.array([2.0, 1.0, 0.0]), np.array([0, 0, 1]), 9)
    (array([3., 3., 1.]), array([2., 1., 0.]))
    """
    highs = np.empty(high.size)
    lows = np.empty(high.size)
    first = top = bottom = 0
    for i in range(high.size):
        if periods[i] != periods[first]:
            first = top = bottom = i
        start = max(first, i - longest + 1)
        # Only an extreme that has left the window makes it necessary to look through the window again.
        if top < start:
            top = start
            for j in range(start + 1, i + 1):
                top = j if high[j] >= high[top] else top
        elif high[i] >= high[top]:
            top = i
        if bottom < start:
            bottom = start
            for j in range(start + 1, i + 1):
                bottom = j if low[j] <= low[bottom] else bottom
        elif low[i] <= low[bottom]:
            bottom = i
        highs[i], lows[i] = high[top], low[bottom]
    return highs, lows
