"""Compiled loops of the filters and smoothers: one pass over the values, each output from its own past alone.

A NaN makes NaN of every window that holds it. Recursive filters give NaN at a NaN and carry their state across it.
Running sums are taken anew once a window has gone by, so that rounding cannot build up along a long history.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.cleaning.signal_array import Floats
from tapeline.quality.order_statistics import median, push

BLOCK = 2048

REACH = 1e4
"""A running sum is also taken anew when a value leaves that was this many times the mean: it leaves its rounding."""


@njit(cache=True)
def weighted_window(values: Floats, weights: Floats) -> Floats:
    """Sum of ``weights[k] * values[t - k]``: the newest weight first; NaN before the first full window.

    Blocks of outputs take one weight after the other, so that the inner loop has no carried sum and runs vectorised;
    the order of additions for one output is the same wherever its block begins.
    """
    size, taps = values.size, weights.size
    result = np.full(size, np.nan)
    for start in range(taps - 1, size, BLOCK):
        stop = min(start + BLOCK, size)
        out = result[start:stop]
        out[:] = 0.0
        for k in range(taps):
            weight = weights[k]
            part = values[start - k : stop - k]
            for i in range(out.size):
                out[i] += weight * part[i]
    return result


@njit(cache=True)
def moving_mean(values: Floats, window: int) -> Floats:
    """Mean of the last ``window`` values by a running sum."""
    result = np.full(values.size, np.nan)
    total, valid, age = 0.0, 0, 0
    share = 1.0 / window
    for i in range(values.size):
        now = values[i]
        if np.isnan(now):
            valid = 0
            continue
        valid += 1
        if valid < window:
            continue
        if valid == window or age >= window:
            total, age = 0.0, 0
            for j in range(i - window + 1, i + 1):
                total += values[j]
        else:
            total += now - values[i - window]
            age += 1
            if not abs(values[i - window]) <= REACH * abs(total) * share:
                total = 0.0
                for j in range(i - window + 1, i + 1):
                    total += values[j]
        result[i] = total * share
    return result


@njit(cache=True)
def moving_linear(values: Floats, window: int) -> Floats:
    """Mean of the last ``window`` values with weights ``window, window - 1, ..., 1`` from the newest to the oldest."""
    result = np.full(values.size, np.nan)
    total, weighted, valid, age = 0.0, 0.0, 0, 0
    share = 2.0 / (window * (window + 1.0))
    for i in range(values.size):
        now = values[i]
        if np.isnan(now):
            valid = 0
            continue
        valid += 1
        if valid < window:
            continue
        old = values[i - window] if valid > window else 0.0
        fresh = valid == window or age >= window
        if not fresh:
            weighted += window * now - total
            total += now - old
            age += 1
            fresh = not abs(old) * window <= REACH * abs(total)
        if fresh:
            total, weighted, age = 0.0, 0.0, 0
            for j in range(window):
                value = values[i - window + 1 + j]
                total += value
                weighted += (j + 1.0) * value
        result[i] = weighted * share
    return result


@njit(cache=True)
def moving_median(values: Floats, window: int) -> Floats:
    """Median of the last ``window`` values, read off a window that is kept in order."""
    result = np.full(values.size, np.nan)
    ordered, ring = np.empty(window), np.empty(window)
    seen = 0
    for i in range(values.size):
        if np.isnan(values[i]):
            seen = 0
            continue
        count = push(ordered, ring, seen, values[i])
        seen += 1
        if count == window:
            result[i] = median(ordered, count)
    return result


@njit(cache=True)
def exponential(values: Floats, window: int, weight: float) -> Floats:
    """Exponential mean, started with the mean of the first ``window`` values that are not NaN."""
    result = np.full(values.size, np.nan)
    mean, seen = 0.0, 0
    for i in range(values.size):
        now = values[i]
        if np.isnan(now):
            continue
        seen += 1
        if seen < window:
            mean += now
        elif seen == window:
            mean = (mean + now) / window
            result[i] = mean
        else:
            mean += weight * (now - mean)
            result[i] = mean
    return result


@njit(cache=True)
def adaptive(values: Floats, window: int, fast: float, slow: float) -> Floats:
    """Kaufman's adaptive average: the weight moves between two by how straight the last ``window`` changes were."""
    result = np.full(values.size, np.nan)
    known = values[~np.isnan(values)]
    mean, path, seen, age = 0.0, 0.0, 0, 0
    for i in range(values.size):
        now = values[i]
        if np.isnan(now):
            continue
        k = seen
        seen += 1
        if k < window:
            mean = now
            continue
        if k == window or age >= window:
            path, age = 0.0, 0
            for j in range(k - window + 1, k + 1):
                path += abs(known[j] - known[j - 1])
        else:
            path += abs(now - known[k - 1]) - abs(known[k - window] - known[k - window - 1])
            age += 1
        straight = abs(now - known[k - window])
        efficiency = 1.0 if path <= straight else straight / path
        weight = (efficiency * (fast - slow) + slow) ** 2
        mean += weight * (now - mean)
        result[i] = mean
    return result


@njit(cache=True)
def second_order_sections(values: Floats, sections: Floats) -> Floats:
    """Cascade of second-order sections (rows ``b0 b1 b2 a1 a2``, gain 1 at frequency 0), settled on the first value."""
    result = values.copy()
    first = 0
    while first < values.size and np.isnan(values[first]):
        first += 1
    for s in range(sections.shape[0]):
        b0, b1, b2, a1, a2 = sections[s, 0], sections[s, 1], sections[s, 2], sections[s, 3], sections[s, 4]
        start = values[first] if first < values.size else 0.0
        older = (b2 - a2) * start
        newer = (b1 - a1) * start + older
        for i in range(first, values.size):
            now = result[i]
            if np.isnan(now):
                continue
            out = b0 * now + newer
            newer = b1 * now - a1 * out + older
            older = b2 * now - a2 * out
            result[i] = out
    return result


@njit(cache=True)
def local_level(values: Floats, ratio: float) -> Floats:
    """Filtered level of the local level model; variances in units of the noise's, diffuse start."""
    result = np.full(values.size, np.nan)
    level, variance = 0.0, -1.0
    for i in range(values.size):
        now = values[i]
        if variance < 0.0:
            if not np.isnan(now):
                level, variance = now, 1.0
                result[i] = level
            continue
        variance += ratio  # also over a NaN: the level has moved on unseen
        if np.isnan(now):
            continue
        gain = variance / (variance + 1.0)
        level += gain * (now - level)
        variance = gain
        result[i] = level
    return result


@njit(cache=True)
def local_trend(values: Floats, level_ratio: float, slope_ratio: float) -> tuple[Floats, Floats]:
    """Filtered level and slope of the local linear trend model, started exactly from the first two values.

    A NaN restarts nothing: the state is predicted across it. Two values in a row must be known to start.
    """
    levels, slopes = np.full(values.size, np.nan), np.full(values.size, np.nan)
    level, slope = 0.0, 0.0
    p00, p01, p11 = 0.0, 0.0, 0.0
    started = False
    for i in range(values.size):
        now = values[i]
        if not started:
            if i > 0 and not np.isnan(now) and not np.isnan(values[i - 1]):
                level, slope = now, now - values[i - 1]
                p00, p01, p11 = 1.0, 1.0, 2.0 + level_ratio + slope_ratio
                levels[i], slopes[i] = level, slope
                started = True
            continue
        level += slope
        p00 += 2.0 * p01 + p11 + level_ratio
        p01 += p11
        p11 += slope_ratio
        if np.isnan(now):
            continue
        share = 1.0 / (p00 + 1.0)
        gain, drift = p00 * share, p01 * share
        error = now - level
        level += gain * error
        slope += drift * error
        p11 -= drift * p01
        p01 *= share
        p00 = gain
        levels[i], slopes[i] = level, slope
    return levels, slopes


@njit(cache=True)
def one_sided_trend(values: Floats, smoothness: float) -> Floats:
    """Filtered trend whose second difference has the variance ``1 / smoothness`` of the noise's: the HP end point."""
    result = np.full(values.size, np.nan)
    now, before = 0.0, 0.0
    p00, p01, p11 = 0.0, 0.0, 0.0
    started = False
    ratio = 1.0 / smoothness
    for i in range(values.size):
        value = values[i]
        if not started:
            if i > 0 and not np.isnan(value) and not np.isnan(values[i - 1]):
                now, before = value, values[i - 1]
                p00, p01, p11 = 1.0, 0.0, 1.0
                result[i] = now
                started = True
            continue
        predicted = 2.0 * now - before
        q00 = 4.0 * p00 - 4.0 * p01 + p11 + ratio
        q01 = 2.0 * p00 - p01
        q11 = p00
        before = now
        now = predicted
        if np.isnan(value):
            p00, p01, p11 = q00, q01, q11
            continue
        share = 1.0 / (q00 + 1.0)
        error = value - predicted
        now += q00 * share * error
        before += q01 * share * error
        p00, p01, p11 = q00 * share, q01 * share, q11 - q01 * q01 * share
        result[i] = now
    return result
