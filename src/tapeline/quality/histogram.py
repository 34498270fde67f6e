"""Histograms on frozen bins: counts that add up, and how far two of them lie apart.

The bins of a reference never change, so that counts of parts may be added, and subtracted again, without any loss: what
was counted piece by piece is what one pass over everything counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS: Final = 20
"""Bins of a histogram, of equal share in the values that set their edges."""
FALSE_ALARM: Final = 1e-4
"""Chance that sampling alone carries the stability index of independent rows beyond its limit."""
_BLOCK: Final = 4096
"""Values that are compared with every edge while they lie in the processor's first cache."""


def equal_share_edges(ordered: Floats, bins: int = BINS) -> Floats:
    """The inner edges of bins of equal share in sorted finite values, each edge once.

    A constant column keeps one edge, which parts it from what is smaller.

    Examples
    --------
    >>> equal_share_edges(np.arange(101.0), 4).tolist()
    [25.0, 50.0, 75.0]
    """
    if bins < 2:
        raise ConfigurationError(f"bins = {bins}, at least 2 are needed")
    return np.unique(np.quantile(ordered, np.arange(1, bins) / bins)) if len(ordered) else np.empty(0)


def counts_of_sorted(ordered: Floats, edges: Floats) -> Counts:
    """How many sorted values lie in each bin; bin i holds ``edges[i-1] <= x < edges[i]``.

    Examples
    --------
    >>> counts_of_sorted(np.array([1.0, 2.0, 2.0, 7.0]), np.array([2.0, 5.0])).tolist()
    [1, 2, 1]
    """
    below = np.searchsorted(ordered, edges, side="left")
    return np.diff(np.r_[0, below, len(ordered)])


def bin_counts(values: NDArray[np.floating], edges: Floats) -> Counts:
    """How many of some values, in any order, lie in each bin; what is not finite is left out.

    Parameters
    ----------
    values:
        One column, float32 or float64. A float32 is compared exactly with the edges, which are float64.
    edges:
        Sorted inner edges; bin i holds ``edges[i-1] <= x < edges[i]``.

    Examples
    --------
    >>> bin_counts(np.array([7.0, np.nan, 2.0, 1.0, -np.inf, 2.0]), np.array([2.0, 5.0])).tolist()
    [1, 2, 1]
    """
    if values.dtype == np.float32:
        narrow = edges.astype(np.float32)
        # The smallest float32 that is not below the edge splits float32 values exactly as the edge does.
        return np.asarray(_counts(values, np.where(narrow < edges, np.nextafter(narrow, np.float32(np.inf)), narrow)))
    return np.asarray(_counts(np.asarray(values, dtype=np.float64), edges))


@njit(cache=True, error_model="numpy")
def _counts(values, edges):  # type: ignore[no-untyped-def]
    # To compare each value with each edge has neither branches nor tables, so that the compiler makes it wide; for 20
    # bins it beats a binary search several times over.
    below = np.zeros(edges.size + 1, dtype=np.int64)
    infinity = values.dtype.type(np.inf)
    start = 0
    while start < values.size:
        block = values[start : start + _BLOCK]
        held = np.int32(0)
        lowest = np.int32(0)
        for i in range(block.size):
            held += np.int32(np.abs(block[i]) < infinity)
            lowest += np.int32(block[i] == -infinity)
        below[edges.size] += held
        for k in range(edges.size):
            edge = edges[k]
            less = np.int32(0)
            for i in range(block.size):
                less += np.int32(block[i] < edge)
            below[k] += less - lowest
        start += _BLOCK
    out = below.copy()
    for k in range(1, below.size):
        out[k] = below[k] - below[k - 1]
    return out


def stability(reference: NDArray[np.float64], batch: NDArray[np.float64]) -> Floats:
    """The population stability index of each row of counts against the same row of the reference.

    ``sum((p - q) * ln(p / q))`` over the bins, each bin with half a row more than was counted, so that an empty one has
    no infinite weight. N. Siddiqi, Credit Risk Scorecards (2006), ch. 8: below 0.1 nothing has happened, above 0.25
    much has.

    Examples
    --------
    >>> float(stability(np.array([50.0, 50.0]), np.array([500.0, 500.0])))
    0.0
    """
    bins = batch.shape[-1]
    p = (batch + 0.5) / (batch.sum(axis=-1, keepdims=True) + 0.5 * bins)
    q = (reference + 0.5) / (reference.sum(axis=-1, keepdims=True) + 0.5 * bins)
    return np.asarray(np.sum((p - q) * np.log(p / q), axis=-1))


def population_stability(reference: NDArray[np.float64], batch: NDArray[np.float64]) -> tuple[float, float]:
    """The population stability index of two histograms on the same bins, and what sampling alone may make of it.

    Returns
    -------
    The index, and the limit that two samples of the same distribution, of independent rows, exceed once in 10,000:
    ``(1/n + 1/m)`` times a chi-square quantile (B. Yurdakul, Statistical Properties of Population Stability Index,
    2018). Rows that depend on each other need :mod:`tapeline.quality.block_bootstrap` instead.

    Examples
    --------
    >>> same = population_stability(np.array([500.0, 500.0]), np.array([50.0, 50.0]))
    >>> other = population_stability(np.array([500.0, 500.0]), np.array([95.0, 5.0]))
    >>> round(same[0], 4), round(other[0], 2), round(other[1], 2)
    (0.0, 1.27, 0.17)
    """
    from scipy.special import chdtri

    n, m, bins = float(batch.sum()), float(reference.sum()), len(batch)
    if bins < 2 or n == 0 or m == 0:
        return 0.0, 0.0
    return float(stability(reference, batch)), float((1 / n + 1 / m) * chdtri(bins - 1, FALSE_ALARM))


def jensen_shannon(reference: NDArray[np.float64], batch: NDArray[np.float64]) -> Floats:
    """The Jensen-Shannon distance of each row of counts to the same row of the reference, from 0 to 1.

    The square root of the divergence in bits (J. Lin, IEEE Transactions on Information Theory 37, 1991); it needs no
    smoothing. NaN where a side is empty.

    Examples
    --------
    >>> float(jensen_shannon(np.array([5.0, 0.0]), np.array([0.0, 7.0])))
    1.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p = batch / batch.sum(axis=-1, keepdims=True)
        q = reference / reference.sum(axis=-1, keepdims=True)
        middle = (p + q) / 2
        one = np.where(p > 0, p * np.log2(p / middle), p)
        other = np.where(q > 0, q * np.log2(q / middle), q)
    return np.asarray(np.sqrt(np.maximum(np.sum(one + other, axis=-1) / 2, 0.0)))
