"""Comparing losses as time series: the Diebold-Mariano test, Holm's correction, the model confidence set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.statistics import stationary_bootstrap

Array = npt.NDArray[np.float64]

_EDGE: Final = 1e-12
_SAMPLES: Final = 1000


@dataclass(frozen=True)
class AccuracyTest:
    """A Diebold-Mariano test of two series of losses.

    Parameters
    ----------
    difference:
        Mean of the first less the second; below 0 the first is better.
    statistic:
        With the correction for small samples; Student's t with ``periods - 1`` degrees of freedom where both are
        equally good.
    p_value:
        Two-sided: how often equally good forecasts differ as much.
    p_better:
        One-sided: how often forecasts that are no better than the second look as good as the first.
    periods:
        Length of the series.
    horizon:
        Periods a forecast reaches; autocovariances are read up to one less.
    """

    difference: float
    statistic: float
    p_value: float
    p_better: float
    periods: int
    horizon: int


def diebold_mariano(
    first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int = 1, kernel: Literal["uniform", "bartlett"] = "uniform"
) -> AccuracyTest:
    """Whether two forecasts of the same periods are equally good.

    Diebold and Mariano 1995, Journal of Business and Economic Statistics 13, p. 253, with the factor and the t
    distribution of Harvey, Leybourne and Newbold 1997, International Journal of Forecasting 13, p. 281, equation 9.
    The variance of the mean difference is robust to autocorrelation over ``horizon - 1`` lags; their uniform weights
    may make it negative, in which case Bartlett's are taken (Newey and West 1987), with twice the lags.

    Parameters
    ----------
    first, second:
        Losses in time order, one a period.
    horizon:
        Periods that a forecast reaches, such as the bars of a label; 1 where labels do not overlap.
    kernel:
        ``bartlett`` from the start, for dependence that no horizon bounds.

    Returns
    -------
    Where the losses never differ the statistic is 0 and both p-values are 1.

    Raises
    ------
    ConfigurationError
        ``horizon`` is not in [1, periods / 2].
    DataError
        The series differ in length, hold fewer than two periods or a number that is not finite.

    Examples
    --------
    >>> found = diebold_mariano([0.2, 0.1, 0.3, 0.2, 0.1, 0.2], [0.3, 0.3, 0.2, 0.4, 0.3, 0.3])
    >>> round(found.statistic, 3), round(found.p_value, 3)
    (-2.445, 0.058)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 2 or not np.isfinite([a, b]).all():
        raise DataError(f"losses of shapes {a.shape} and {b.shape} are not two finite series of one length above 1")
    if not 1 <= horizon <= max(1, a.size // 2):
        raise ConfigurationError(f"horizon = {horizon} is not in [1, {max(1, a.size // 2)}] for {a.size} periods")
    difference = a - b
    mean, count = float(difference.mean()), a.size
    spread = difference - mean
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    if np.abs(spread).max() <= 1e-14 * scale:
        # No spread: equal, or apart by a constant, which no noise explains.
        if abs(mean) <= 1e-14 * scale:
            return AccuracyTest(0.0, 0.0, 1.0, 1.0, count, horizon)
        return AccuracyTest(mean, math.copysign(math.inf, mean), 0.0, float(mean > 0), count, horizon)
    lags = horizon - 1
    variance = _long_run_variance(spread, lags, kernel)
    if not variance > 0:
        variance = _long_run_variance(spread, min(2 * lags, count - 1), "bartlett")
    factor = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    statistic = mean / math.sqrt(variance / count) * math.sqrt(factor)
    from scipy.special import stdtr

    below = float(stdtr(count - 1, statistic))
    two_sided = 2 * float(stdtr(count - 1, -abs(statistic)))
    return AccuracyTest(mean, statistic, two_sided, below, count, horizon)


def confidence_set(losses: Array, *, mean_block: float, samples: int = _SAMPLES, seed: int = 0) -> Array:
    """P-value of each candidate in the model confidence set of Hansen, Lunde and Nason (2011, Econometrica 79, p. 453).

    Those whose p-value is at least ``significance`` are the set that holds the best model with a probability of ``1 -
    significance``. The candidate that looks worst is removed step by step; the test at each step is that of the largest
    standardised difference between any two of those left (their T_R), by a stationary bootstrap. Their T_max, which
    measures distances from the mean of all, hardly sees one good candidate among several bad ones.

    Parameters
    ----------
    losses:
        Shape (periods, candidates), in time order.
    mean_block:
        Mean block length of the bootstrap, in periods.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(200, 2))
    >>> found = confidence_set(np.column_stack([noise, noise[:, 0] + 1]), mean_block=1)
    >>> bool(found[2] < 0.05 <= found[:2].min())
    True
    """
    periods, candidates = losses.shape
    counts = stationary_bootstrap(periods, min(max(mean_block, 1.0), float(periods)), samples, seed=seed)
    mean = losses.mean(axis=0)
    drawn = counts @ (losses - mean) / periods
    distance = mean[:, None] - mean[None, :]
    error = np.array([np.sqrt(((column[:, None] - drawn) ** 2).mean(axis=0)) for column in drawn.T])
    # Losses that are the same row by row have no spread: no distance to test, or one that is certain.
    none = error <= _EDGE * (np.abs(losses).max() + _EDGE)
    error[none] = np.where(np.abs(distance[none]) <= _EDGE * (np.abs(losses).max() + _EDGE), np.inf, _EDGE)
    one, other = np.triu_indices(candidates, 1)
    by_chance = np.abs(drawn[:, one] - drawn[:, other]) / error[one, other]
    left, p_value, largest = np.ones(candidates, dtype=bool), np.ones(candidates), 0.0
    while left.sum() > 1:
        standard = np.where(left[:, None] & left, distance / error, -np.inf)
        reached = by_chance[:, left[one] & left[other]].max(axis=1)
        largest = max(largest, float((reached >= standard.max()).mean()))
        worst = int(np.argmax(standard.max(axis=1)))
        p_value[worst] = largest
        left[worst] = False
    return p_value


def _long_run_variance(spread: Array, lags: int, kernel: str) -> float:
    count = spread.size
    total = float(spread @ spread) / count
    for lag in range(1, lags + 1):
        share = 1.0 if kernel == "uniform" else 1 - lag / (lags + 1)
        total += 2 * share * float(spread[lag:] @ spread[:-lag]) / count
    return total
