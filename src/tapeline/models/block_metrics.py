"""Metrics of many parts of the same rows under one block bootstrap: everything is a product of matrices.

The blocks are drawn once, over the decision times of all rows. What is then compared (a slice with the whole, one bin
of probabilities with another) was drawn together, so that what both share cancels.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError
from tapeline.models.statistics import stationary_bootstrap

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SAMPLES: Final = 400
_CELLS: Final = 2_000_000


class BlockMetrics:
    """Resampled means and rankings of rows that depend on each other.

    Parameters
    ----------
    instant:
        The decision time of each row, of any sortable type; rows of one instant are drawn together.
    mean_block:
        Mean block length of the stationary bootstrap, in instants; about twice the reach of a label.
    samples, seed:
        Of the bootstrap.

    Examples
    --------
    >>> rows = BlockMetrics([1, 1, 2, 3], mean_block=1.0)
    >>> rows.means([[0.5], [0.5], [0.5], [0.5]], [[1.0], [1.0], [0.0], [0.0]]).round(2)[0].tolist()
    [0.5]
    """

    def __init__(self, instant: npt.ArrayLike, *, mean_block: float, samples: int = SAMPLES, seed: int = 0) -> None:
        unique, self._position = np.unique(np.asarray(instant), return_inverse=True)
        if not unique.size:
            raise DataError("there is no row to resample")
        block = min(max(mean_block, 1.0), float(unique.size))
        self._counts = stationary_bootstrap(unique.size, block, samples, seed=seed).astype(np.float64)
        self.rows = self._position.size
        self.instants = unique.size

    def means(self, values: npt.ArrayLike, mass: npt.ArrayLike) -> Array:
        """The mean of ``values`` weighted by ``mass`` in each sample, both of shape (rows, parts).

        Returns
        -------
        Shape (samples, parts); NaN where a sample drew no mass of a part.
        """
        weight = np.asarray(mass, dtype=np.float64)
        total = self._counts @ self._by_instant(weight)
        drawn = self._counts @ self._by_instant(np.asarray(values, dtype=np.float64) * weight)
        return np.divide(drawn, total, out=np.full(total.shape, np.nan), where=total > 0)

    def auc(self, target: npt.ArrayLike, probability: npt.ArrayLike, part: Mask) -> Array:
        """The area under the ROC curve of the rows of a part in each sample; NaN where one class was not drawn."""
        rows = np.flatnonzero(part)
        if not rows.size:
            return np.full(len(self._counts), math.nan)
        y, p = np.asarray(target, dtype=np.float64)[rows], np.asarray(probability, dtype=np.float64)[rows]
        order = np.argsort(p, kind="stable")
        first = np.flatnonzero(np.r_[True, np.diff(p[order]) > 0])
        drawn = np.empty(len(self._counts))
        # A sample holds a number a row: a few samples at a time keep large parts from filling the memory.
        step = max(1, _CELLS // rows.size)
        for begin in range(0, drawn.size, step):
            weight = self._counts[begin : begin + step][:, self._position[rows[order]]]
            positive = np.add.reduceat(weight * y[order], first, axis=1)
            negative = np.add.reduceat(weight * (1.0 - y[order]), first, axis=1)
            below = np.cumsum(negative, axis=1) - 0.5 * negative
            pairs = positive.sum(axis=1) * negative.sum(axis=1)
            found = (positive * below).sum(axis=1)
            drawn[begin : begin + step] = np.divide(found, pairs, out=np.full(found.shape, np.nan), where=pairs > 0)
        return drawn

    def _by_instant(self, values: Array) -> Array:
        result = np.zeros((self.instants, values.shape[1]))
        np.add.at(result, self._position, values)
        return result


def interval(drawn: Array, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of what samples gave; NaN twice where none gave a number.

    Examples
    --------
    >>> [round(edge, 6) for edge in interval(np.arange(101.0), confidence=0.9)]
    [5.0, 95.0]
    """
    finite = drawn[np.isfinite(drawn)]
    if not finite.size:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)
