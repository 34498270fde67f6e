"""Z-scores: how many deviations a value lies from what is usual, where usual is learnt from the past alone.

The rolling, expanding and exponential forms move along with the series. ``fit_zscore`` learns once, on training data,
and applies the same numbers ever after. A score is NaN before enough is known, at a NaN, and where nothing varies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numba import njit

from tapeline.cleaning.signal_array import Floats, Values, as_floats, on_values, require
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import research
from tapeline.quality.order_statistics import MAD_TO_SIGMA, median, median_deviation, push, robust_scale

Method = Literal["mean", "median"]

STILL = 1e-13
"""A deviation below this share of the values' size is the rounding of equal values, and counts as none."""


def rolling_zscore(values: Values, window: int = 100, *, before: int = 0) -> Values:
    """Value less the mean of the last ``window`` values, in their sample standard deviations.

    Parameters
    ----------
    window:
        How many values make the mean, 2 or more; a window that holds a NaN gives NaN.
    before:
        How many bars before the scored one the window ends. 0 counts the scored value in, which bounds the score by
        ``(window - 1) / sqrt(window)``; 1 holds it against the values before it, as a surprise is measured.

    Examples
    --------
    >>> rolling_zscore(np.array([1.0, 2.0, 3.0, 9.0]), window=3, before=1)
    array([nan, nan, nan,  7.])
    """
    require("window", window, 2, whole=True)
    require("before", before, 0, whole=True)
    return on_values(values, lambda x: _score(x, *_window_moments(x, window), before))


def robust_zscore(values: Values, window: int = 100, *, before: int = 0) -> Values:
    """Value less the median of the last ``window`` values, in 1.4826 times their median absolute deviation.

    Up to half of a window may be wrong without moving the score. Where more than half of it is equal, the mean
    absolute deviation stands in for the median one.

    References
    ----------
    B. Iglewicz and D. C. Hoaglin, How to Detect and Handle Outliers (1993), chapter 3.

    Examples
    --------
    >>> robust_zscore(np.array([1.0, 2.0, 3.0, 9.0]), window=3, before=1).round(4)
    array([   nan,    nan,    nan, 4.7214])
    """
    require("window", window, 2, whole=True)
    require("before", before, 0, whole=True)
    return on_values(values, lambda x: _score(x, *_window_order(x, window), before))


def expanding_zscore(values: Values, minimum: int = 30, *, before: int = 0) -> Values:
    """Value less the mean of all values so far, in their sample standard deviations; NaN before ``minimum`` values.

    A NaN is left out. Welford's recurrence, which does not lose digits on long histories.

    References
    ----------
    B. P. Welford, Technometrics 4 (1962), 419-420.

    Examples
    --------
    >>> expanding_zscore(np.array([1.0, 2.0, 3.0, 9.0]), minimum=3, before=1)
    array([nan, nan, nan,  7.])
    """
    require("minimum", minimum, 2, whole=True)
    require("before", before, 0, whole=True)
    return on_values(values, lambda x: _score(x, *_all_moments(x, minimum), before))


def ewm_zscore(values: Values, window: int = 100, *, before: int = 0) -> Values:
    """Value less the exponentially weighted mean, in exponentially weighted standard deviations.

    The weight of the newest value is ``2 / (window + 1)``; the weights are normalised from the first value on and the
    variance is corrected for their sum, as pandas does with ``adjust=True, bias=False``. NaN before ``window`` values;
    a NaN is left out, the weights before it count on.

    Examples
    --------
    >>> ewm_zscore(np.array([1.0, 2.0, 3.0]), window=2).round(4)
    array([   nan, 0.3536, 0.4181])
    """
    require("window", window, 2, whole=True)
    require("before", before, 0, whole=True)
    return on_values(values, lambda x: _score(x, *_weighted_moments(x, window), before))


@research
def zscore_whole(values: Values) -> Values:
    """Value less the mean of the whole series in its standard deviations (population): the future is in both.

    Examples
    --------
    >>> zscore_whole(np.array([1.0, 2.0, 3.0])).round(4)
    array([-1.2247,  0.    ,  1.2247])
    """

    def scored(x: Floats) -> Floats:
        known = x[~np.isnan(x)]
        if not known.size:
            return x.copy()
        return _score(x, np.full(x.size, known.mean()), np.full(x.size, known.std()), 0)

    return on_values(values, scored)


@dataclass(frozen=True)
class ZScore:
    """Centres and scales learnt on training data, one a column, to be applied to any data later.

    Made by :func:`fit_zscore`; it never learns again. ``to_dict`` and ``from_dict`` keep it beside a model.
    """

    method: Method
    columns: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The scores of these columns; a column that did not vary in training is NaN.

        Raises
        ------
        DataError
            A column that was fitted is missing.
        """
        return self._chosen(frame).sub(np.array(self.centres)).div(np.array(self.scales))

    def inverse(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The values that have these scores."""
        return self._chosen(scores).mul(np.array(self.scales)).add(np.array(self.centres))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        scales = [None if np.isnan(scale) else scale for scale in self.scales]
        return {"method": self.method, "columns": [*self.columns], "centres": [*self.centres], "scales": scales}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ZScore:
        """What ``to_dict`` wrote; DataError where that is not what it is."""
        try:
            columns, centres = tuple(map(str, stored["columns"])), tuple(float(c) for c in stored["centres"])
            scales = tuple(np.nan if scale is None else float(scale) for scale in stored["scales"])
            method = stored["method"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is no stored z-score: {error!r}") from None
        sound = len(columns) == len(centres) == len(scales) and method in ("mean", "median")
        if not sound or not np.isfinite(centres).all() or any(scale <= 0.0 for scale in scales):
            raise DataError("this is no stored z-score: columns, centres and scales do not fit together")
        return cls(method, columns, centres, scales)

    def _chosen(self, frame: pd.DataFrame) -> pd.DataFrame:
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            raise DataError(f"the columns {missing} were fitted and are missing")
        return frame.loc[:, list(self.columns)].astype(np.float64)


def fit_zscore(training: pd.DataFrame, method: Method = "mean") -> ZScore:
    """Learn each column's centre and scale on training data alone.

    Parameters
    ----------
    training:
        Numeric columns; NaN are left out. Only rows from before what is to be scored, or the future leaks in.
    method:
        ``mean``: mean and sample standard deviation. ``median``: median and 1.4826 median absolute deviations.

    Raises
    ------
    DataError
        A column has fewer than two known values, or an infinite one.

    Examples
    --------
    >>> scaling = fit_zscore(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    >>> scaling.transform(pd.DataFrame({"x": [5.0]}))["x"].tolist()
    [3.0]
    """
    if method not in ("mean", "median"):
        raise ConfigurationError(f"method = {method!r} is unknown", hint="give 'mean' or 'median'")
    centres, scales = [], []
    for name in training.columns:
        known = as_floats(training[name])
        known = known[~np.isnan(known)]
        if known.size < 2:
            raise DataError(f"the column '{name}' has {known.size} known values, two are the least to fit")
        if method == "mean":
            centre, scale = float(known.mean()), float(known.std(ddof=1))
        else:
            ordered = np.sort(known)
            centre = float(median(ordered, ordered.size))
            scale = float(robust_scale(ordered, ordered.size, centre))
        centres.append(centre)
        scales.append(scale if scale > STILL * float(np.abs(known).max()) else np.nan)
    return ZScore(method, tuple(map(str, training.columns)), tuple(centres), tuple(scales))


def _score(x: Floats, centres: Floats, scales: Floats, before: int) -> Floats:
    result = np.full(x.size, np.nan)
    rows = max(x.size - before, 0)
    centre, scale = centres[:rows], scales[:rows]
    varies = scale > STILL * np.abs(centre)
    np.divide(x[x.size - rows :] - centre, scale, out=result[x.size - rows :], where=varies)
    return result


@njit(cache=True, error_model="numpy")
def _window_moments(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation of the last ``window`` values, by sums around a centre that follows them."""
    means, deviations = np.full(values.size, np.nan), np.full(values.size, np.nan)
    centre, first, second, peak = 0.0, 0.0, 0.0, 0.0
    valid, age = 0, 0
    share, unbiased = 1.0 / window, 1.0 / (window - 1.0)
    for i in range(values.size):
        now = values[i]
        if np.isnan(now):
            valid = 0
            continue
        valid += 1
        if valid < window:
            continue
        fresh = valid == window or age >= window
        mean, spread = 0.0, 0.0
        if not fresh:
            x, y = now - centre, values[i - window] - centre
            first += x - y
            second += x * x - y * y
            peak = max(peak, x * x)
            age += 1
            mean = first * share
            spread = second - first * mean
            # The squares of a value that left must not swamp those that stayed, nor the centre lie far off them.
            fresh = not (peak <= 100.0 * spread and mean * mean <= spread)
        if fresh:
            centre = 0.0
            for j in range(i - window + 1, i + 1):
                centre += values[j]
            centre *= share
            first, second, peak, age = 0.0, 0.0, 0.0, 0
            for j in range(i - window + 1, i + 1):
                x = values[j] - centre
                first += x
                second += x * x
                peak = max(peak, x * x)
            mean = first * share
            spread = second - first * mean
        means[i] = centre + mean
        deviations[i] = np.sqrt(max(spread, 0.0) * unbiased)
    return means, deviations


@njit(cache=True)
def _window_order(values: Floats, window: int) -> tuple[Floats, Floats]:
    middles, scales = np.full(values.size, np.nan), np.full(values.size, np.nan)
    ordered, ring = np.empty(window), np.empty(window)
    seen = 0
    for i in range(values.size):
        if np.isnan(values[i]):
            seen = 0
            continue
        count = push(ordered, ring, seen, values[i])
        seen += 1
        if count == window:
            middle = median(ordered, count)
            scale = MAD_TO_SIGMA * median_deviation(ordered, count, middle)
            middles[i] = middle
            scales[i] = scale if scale > 0.0 else robust_scale(ordered, count, middle)
    return middles, scales


@njit(cache=True)
def _all_moments(values: Floats, minimum: int) -> tuple[Floats, Floats]:
    means, deviations = np.full(values.size, np.nan), np.full(values.size, np.nan)
    mean, squares, count = 0.0, 0.0, 0
    for i in range(values.size):
        now = values[i]
        if not np.isnan(now):
            count += 1
            away = now - mean
            mean += away / count
            squares += away * (now - mean)
        if count >= minimum:
            means[i] = mean
            deviations[i] = np.sqrt(squares / (count - 1.0))
    return means, deviations


@njit(cache=True)
def _weighted_moments(values: Floats, window: int) -> tuple[Floats, Floats]:
    means, deviations = np.full(values.size, np.nan), np.full(values.size, np.nan)
    decay = 1.0 - 2.0 / (window + 1.0)
    mean, squares, total, total_squares = 0.0, 0.0, 0.0, 0.0
    count = 0
    for i in range(values.size):
        now = values[i]
        total *= decay
        squares *= decay
        total_squares *= decay * decay
        if not np.isnan(now):
            count += 1
            total += 1.0
            total_squares += 1.0
            away = now - mean
            mean += away / total
            squares += away * (now - mean)
        if count >= window:
            means[i] = mean
            # The weighted variance, corrected for how few values the weights amount to.
            effective = total - total_squares / total
            deviations[i] = np.sqrt(max(squares, 0.0) / effective) if effective > 0.0 else np.nan
    return means, deviations
