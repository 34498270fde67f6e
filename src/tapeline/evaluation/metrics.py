"""Metrics of probabilities and of returns, in numpy: small enough to be called a thousand times by a bootstrap."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError

Array = npt.NDArray[np.float64]

CALIBRATION_BINS: Final = 15
_SMALLEST: Final = 1e-12
_Z95: Final = 1.959963984540054


def auc(target: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a random positive row is ranked above a random negative one.

    Ties count one half (Mann-Whitney; Hanley and McNeil 1982, Radiology 143, p. 29). Only the order of
    ``probability`` matters. 0.5 is no skill, 1 perfect order. NaN where one of the classes has no weight.

    Parameters
    ----------
    target:
        0 or 1 for each row.
    probability:
        Any score that grows with the chance of 1.
    weight:
        Row weights; equal where absent.

    Examples
    --------
    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, p, w = _rows(target, probability, weight)
    _, inverse = np.unique(p, return_inverse=True)
    positive = np.bincount(inverse, w * y)
    negative = np.bincount(inverse, w * (1.0 - y))
    total = positive.sum() * negative.sum()
    if total <= 0:
        return math.nan
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / total)


def log_loss(target: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Mean negative log likelihood in nats, the proper score that training minimises (Good 1952).

    A constant 0.5 scores ``ln 2 = 0.693``; less is better. Probabilities are kept 1e-12 away from 0 and 1.

    Examples
    --------
    >>> round(log_loss([1, 0], [0.5, 0.5]), 4)
    0.6931
    """
    y, p, w = _rows(target, probability, weight)
    p = np.clip(p, _SMALLEST, 1.0 - _SMALLEST)
    return float(-(w * (y * np.log(p) + (1.0 - y) * np.log1p(-p))).sum() / w.sum())


def accuracy(target: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Share of rows on the right side of 0.5; a probability of exactly 0.5 says 'down', as a tie must say something.

    Examples
    --------
    >>> accuracy([1, 0, 1], [0.6, 0.4, 0.2])
    0.6666666666666666
    """
    y, p, w = _rows(target, probability, weight)
    return float((w * ((p > 0.5) == (y > 0.5))).sum() / w.sum())


def brier_score(target: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Mean squared distance between probability and outcome (Brier 1950); a constant 0.5 scores 0.25, less is better.

    Examples
    --------
    >>> brier_score([1, 0], [0.75, 0.25])
    0.0625
    """
    y, p, w = _rows(target, probability, weight)
    return float((w * (p - y) ** 2).sum() / w.sum())


def expected_calibration_error(
    target: npt.ArrayLike,
    probability: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    bins: int = CALIBRATION_BINS,
) -> float:
    """Mean distance between predicted probability and seen frequency over equal-mass bins (Naeini et al. 2015).

    0 is perfect. It is biased upwards on few rows: a perfectly calibrated model shows about
    ``0.4 * sqrt(bins / rows)``.

    Examples
    --------
    >>> round(expected_calibration_error([1, 1, 0, 0], [0.9, 0.9, 0.1, 0.1], bins=2), 3)
    0.1
    """
    y, p, w = _rows(target, probability, weight)
    group = equal_mass_bins(p, bins, w)
    gap = np.bincount(group, w * p) - np.bincount(group, w * y)
    return float(np.abs(gap).sum() / w.sum())


def reliability_table(
    target: npt.ArrayLike,
    probability: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    bins: int = CALIBRATION_BINS,
) -> pd.DataFrame:
    """What was predicted against what happened, a row an equal-mass bin.

    Returns
    -------
    Columns ``rows``, ``probability`` (mean predicted), ``frequency`` (share of ones), ``low`` and ``high`` (Wilson's
    95 % interval of the frequency, 1927, which takes rows for independent).

    Examples
    --------
    >>> reliability_table([1, 1, 0, 0], [0.9, 0.9, 0.1, 0.1], bins=2)[["rows", "probability", "frequency"]]
       rows  probability  frequency
    0     2          0.1        0.0
    1     2          0.9        1.0
    """
    y, p, w = _rows(target, probability, weight)
    group = equal_mass_bins(p, bins, w)
    rows = np.bincount(group)
    mass = np.bincount(group, w)
    keep = mass > 0
    rows, mass = rows[keep], mass[keep]
    predicted = np.bincount(group, w * p)[keep] / mass
    frequency = np.bincount(group, w * y)[keep] / mass
    centre = (frequency + _Z95**2 / (2 * rows)) / (1 + _Z95**2 / rows)
    half = _Z95 * np.sqrt(frequency * (1 - frequency) / rows + _Z95**2 / (4 * rows**2)) / (1 + _Z95**2 / rows)
    return pd.DataFrame(
        {
            "rows": rows,
            "probability": predicted,
            "frequency": frequency,
            # At a frequency of 0 or 1 rounding could leave it outside its own interval.
            "low": np.clip(np.minimum(centre - half, frequency), 0.0, 1.0),
            "high": np.clip(np.maximum(centre + half, frequency), 0.0, 1.0),
        }
    )


def equal_mass_bins(values: npt.ArrayLike, bins: int, weight: npt.ArrayLike | None = None) -> npt.NDArray[np.intp]:
    """Bin numbers 0, 1, ... of about equal weight, in the order of ``values``; equal values share a bin.

    Fewer than ``bins`` come back where values repeat, so the result does not depend on the order of the rows.

    Examples
    --------
    >>> equal_mass_bins([0.1, 0.2, 0.3, 0.3], 2).tolist()
    [0, 0, 1, 1]
    """
    v = np.asarray(values, dtype=np.float64)
    w = np.ones(v.size) if weight is None else np.asarray(weight, dtype=np.float64)
    _, inverse = np.unique(v, return_inverse=True)
    mass = np.bincount(inverse, w)
    middle = np.cumsum(mass) - mass / 2
    group = np.minimum((middle / mass.sum() * bins).astype(np.intp), bins - 1)
    _, dense = np.unique(group, return_inverse=True)
    return dense[inverse]


def sharpe_ratio(returns: npt.ArrayLike, *, periods_per_year: float = 1.0) -> float:
    """Mean over standard deviation (n - 1) of excess returns, times the root of ``periods_per_year`` (Sharpe 1994).

    With the default it is the ratio of one period, which is what the probabilistic and the deflated Sharpe ratio
    take. NaN for fewer than two returns; 0 where all are equal to zero.

    Examples
    --------
    >>> round(sharpe_ratio([0.01, -0.01, 0.02]), 4)
    0.4364
    """
    r = np.asarray(returns, dtype=np.float64)
    if r.size < 2:
        return math.nan
    spread = float(r.std(ddof=1))
    mean = float(r.mean())
    # A constant series leaves a rounding residue of its mean as 'spread'.
    if spread <= 1e-12 * max(abs(mean), _SMALLEST):
        return 0.0 if mean == 0.0 else math.nan
    return mean / spread * math.sqrt(periods_per_year)


def maximum_drawdown(equity: npt.ArrayLike) -> float:
    """The deepest fall below a former peak, in the units of ``equity`` (a positive number; 0 for a rising curve).

    Examples
    --------
    >>> maximum_drawdown([0.0, 0.5, 0.25, 0.75])
    0.25
    """
    e = np.asarray(equity, dtype=np.float64)
    return float((np.maximum.accumulate(e) - e).max()) if e.size else 0.0


def _rows(
    target: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None
) -> tuple[Array, Array, Array]:
    y = np.asarray(target, dtype=np.float64)
    p = np.asarray(probability, dtype=np.float64)
    w = np.ones(y.size) if weight is None else np.asarray(weight, dtype=np.float64)
    if not y.size == p.size == w.size:
        raise DataError(f"{y.size} targets, {p.size} probabilities and {w.size} weights do not belong together")
    if y.size == 0:
        raise DataError("a metric of no rows is undefined")
    if np.isnan(p).any():
        raise DataError(f"{int(np.isnan(p).sum())} of {p.size} probabilities are NaN")
    return y, p, w
