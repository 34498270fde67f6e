"""Trend and season: a signal split into a slow course, a pattern that repeats every period, and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from tapeline.cleaning.signal_array import Floats, as_floats, delayed, require, weights_delay
from tapeline.cleaning.signal_kernels import weighted_window
from tapeline.core.errors import DataError
from tapeline.core.registry import research


@dataclass(frozen=True)
class TrendAndSeason:
    """Three parts that add up to the signal at each bar beyond the warm-up."""

    trend: Floats
    season: Floats
    rest: Floats


def _trend_weights(period: int, cycles: int) -> Floats:
    """One-sided tricube weights over whole cycles, averaged over one cycle so that no season is left in the trend."""
    steps = np.arange(cycles * period - period + 1, dtype=np.float64)
    tricube = (1.0 - (steps / steps.size) ** 3) ** 3
    weights = np.convolve(tricube, np.ones(period))
    return weights / weights.sum()


def _trend_delay(period: int, cycles: int) -> float:
    return weights_delay(_trend_weights(period, cycles))


@delayed(_trend_delay)
def online_trend_season(values: Any, period: int = 24, cycles: int = 4, weight: float = 0.3) -> TrendAndSeason:
    """Trend and season from the past alone, in one pass over the values.

    The trend is a one-sided weighted mean over the last ``cycles`` periods, in which every phase of the period weighs
    the same. The season is, for each phase, an exponential mean of what the trend leaves, known from the cycles before
    and updated with the current one; the rest is what remains.

    Parameters
    ----------
    period:
        Bars after which the pattern repeats, 2 or more.
    cycles:
        Periods that the trend reaches back, 2 or more. The declared delay is that of the trend.
    weight:
        Of the newest cycle in the season, above 0 to 1.

    Returns
    -------
    Parts that add up to the signal. NaN before ``cycles * period`` values, and where a window holds a NaN.

    Notes
    -----
    The trend is late by its delay, so on a steady rise its lag, a constant, ends up in the season of all phases alike.

    References
    ----------
    A. Mishra, R. Sriharsha and S. Zhong, OnlineSTL: scaling time series decomposition by 100x, Proceedings of the VLDB
    Endowment 15 (2022), 1417-1425.

    Examples
    --------
    >>> parts = online_trend_season(np.tile([0.0, 2.0], 20), period=2)
    >>> parts.trend[-1].round(9).item(), parts.season[-2:].round(2).tolist()
    (1.0, [-1.0, 1.0])
    """
    require("period", period, 2, whole=True)
    require("cycles", cycles, 2, whole=True)
    require("weight", weight, 1e-6, 1.0)
    x = as_floats(values)
    trend = weighted_window(x, _trend_weights(period, cycles))
    season = _season(x - trend, period, float(weight))
    return TrendAndSeason(trend, season, x - trend - season)


@njit(cache=True)
def _season(detrended: Floats, period: int, weight: float) -> Floats:
    result = np.full(detrended.size, np.nan)
    means = np.full(period, np.nan)
    for i in range(detrended.size):
        now = detrended[i]
        if np.isnan(now):
            continue
        phase = i % period
        old = means[phase]
        means[phase] = now if np.isnan(old) else old + weight * (now - old)
        result[i] = means[phase]
    return result


@research
def stl_whole(values: Any, period: int = 24, *, robust: bool = False) -> TrendAndSeason:
    """Seasonal-trend decomposition by loess of a whole series, by statsmodels; each value reads the future.

    The parts add up to the series. Within half a trend window of either end the loess is one-sided.

    References
    ----------
    R. B. Cleveland, W. S. Cleveland, J. E. McRae and I. Terpenning, STL, Journal of Official Statistics 6 (1990), 3-73.

    Examples
    --------
    >>> parts = stl_whole(np.tile([0.0, 2.0, 4.0], 20), period=3)
    >>> bool(abs(parts.trend + parts.season + parts.rest - np.tile([0.0, 2.0, 4.0], 20)).max() < 1e-9)
    True
    """
    return _stl(_complete(values, period), period, robust)


def rolling_stl(
    values: Any, period: int = 24, window: int = 240, *, robust: bool = False, every: int = 1
) -> TrendAndSeason:
    """The last values of an STL run on each window of the past: the exact causal form, at the price of one fit a bar.

    A fit over 240 values costs about half a millisecond, so this is for hourly bars and coarser; ``every`` leaves bars
    between fits NaN. ``online_trend_season`` costs nanoseconds.

    Parameters
    ----------
    window:
        Values a fit sees, two periods or more. NaN before the first full one and where one holds a NaN.

    Examples
    --------
    >>> parts = rolling_stl(np.tile([0.0, 2.0, 4.0], 20), period=3, window=30)
    >>> parts.trend[-1].round(6).item(), parts.season[[-3, -1]].round(6).tolist()
    (2.0, [-2.0, 2.0])
    """
    require("period", period, 2, whole=True)
    require("window", window, 2 * period, whole=True)
    require("every", every, 1, whole=True)
    x = as_floats(values)
    parts = np.full((3, x.size), np.nan)
    for last in range(window - 1, x.size, every):
        part = x[last - window + 1 : last + 1]
        if not np.isnan(part).any():
            fit = _stl(part, period, robust)
            parts[:, last] = fit.trend[-1], fit.season[-1], fit.rest[-1]
    return TrendAndSeason(*parts)


def _stl(x: Floats, period: int, robust: bool) -> TrendAndSeason:
    from statsmodels.tsa.seasonal import STL

    fit = STL(x, period=period, robust=robust).fit()
    return TrendAndSeason(np.asarray(fit.trend), np.asarray(fit.seasonal), np.asarray(fit.resid))


def _complete(values: Any, period: int) -> Floats:
    require("period", period, 2, whole=True)
    x = as_floats(values)
    require("the number of values", x.size, 2 * period, whole=True)
    if np.isnan(x).any():
        raise DataError(f"row {int(np.argmax(np.isnan(x)))} is NaN: the decomposition needs every value")
    return x
