"""Streams that show the relation of a feature, or of a model's score, to what then happened.

A detector sees one number at a time. A feature may keep its distribution while it comes to mean something else; what
moves then is one of these streams. Each value uses its own row and a frozen reference only, so that a stream grows row
by row as the labels become known.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import ConfigurationError, DataError

Floats = NDArray[np.float64]
Measure = Literal["spearman", "auc"]

SMALLEST_BLOCK: Final = 10


def errors(side: ArrayLike, value: ArrayLike) -> Floats:
    """1 where the predicted side is not the one that came, else 0; rows in which either was 0 are left out.

    Examples
    --------
    >>> errors([1, -1, 0, 1], [1, 1, 1, 0]).tolist()
    [0.0, 1.0]
    """
    said, came = np.sign(np.asarray(side, dtype=np.float64)), np.sign(np.asarray(value, dtype=np.float64))
    _same_length(said, came)
    judged = (said != 0) & (came != 0)
    return (said[judged] != came[judged]).astype(np.float64)


def losses(probability: ArrayLike, happened: ArrayLike) -> Floats:
    """The squared error of each probability, from 0 to 1 (G. W. Brier, Monthly Weather Review 78, 1950, per event).

    Parameters
    ----------
    probability:
        Of the event, from 0 to 1.
    happened:
        1 where it came, 0 where not.

    Examples
    --------
    >>> losses([0.5, 1.0], [1, 0]).tolist()
    [0.25, 1.0]
    """
    said, came = np.asarray(probability, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    _same_length(said, came)
    if not (np.all((said >= 0) & (said <= 1)) and np.isin(came, (0.0, 1.0)).all()):
        raise DataError("probabilities lie from 0 to 1, and what happened is 0 or 1")
    return np.asarray((said - came) ** 2)


def residual_signs(prediction: ArrayLike, target: ArrayLike) -> Floats:
    """1 where the target came out above its prediction, 0 where below; rows that were met exactly are left out.

    A prediction of the median has as many of the one as of the other for as long as it holds, whatever the spread.

    Examples
    --------
    >>> residual_signs([1.0, 1.0, 1.0], [2.0, 0.0, 1.0]).tolist()
    [1.0, 0.0]
    """
    difference = np.asarray(target, dtype=np.float64) - np.asarray(prediction, dtype=np.float64)
    return (difference[np.isfinite(difference) & (difference != 0)] > 0).astype(np.float64)


class RankRelation:
    """Spearman's correlation of a feature and a target, row by row: the product of both ranks in a frozen reference.

    The mean of the stream over the reference is its rank correlation; over other rows it is the covariance of the
    ranks that they would have had there. A row needs no other new row, so that nothing waits for a block to fill.

    Parameters
    ----------
    feature, target:
        Of the reference, a value a row; rows without either are left out.

    Raises
    ------
    DataError
        Fewer than 10 rows are left.

    Examples
    --------
    >>> held = np.arange(100.0)
    >>> relation = RankRelation(held, held)
    >>> round(float(relation.stream(held, held).mean()), 2)
    1.0
    >>> relation.stream([99.0], [0.0]).round(2).tolist()
    [-2.94]
    """

    def __init__(self, feature: ArrayLike, target: ArrayLike) -> None:
        one, other = np.asarray(feature, dtype=np.float64), np.asarray(target, dtype=np.float64)
        _same_length(one, other)
        both = np.isfinite(one) & np.isfinite(other)
        if both.sum() < SMALLEST_BLOCK:
            raise DataError(f"a relation over {int(both.sum())} rows says too little", hint="10 rows are needed")
        self._feature, self._target = np.sort(one[both]), np.sort(other[both])

    def stream(self, feature: ArrayLike, target: ArrayLike) -> Floats:
        """``12 (u - 1/2) (v - 1/2)`` of each row that has both, ``u`` and ``v`` their mid-ranks in the reference."""
        one, other = np.asarray(feature, dtype=np.float64), np.asarray(target, dtype=np.float64)
        _same_length(one, other)
        both = np.isfinite(one) & np.isfinite(other)
        return 12 * (_mid_rank(self._feature, one[both]) - 0.5) * (_mid_rank(self._target, other[both]) - 0.5)


def separate_rows(starts: ArrayLike, ends: ArrayLike) -> NDArray[np.int64]:
    """The rows left when each that begins before the one kept last has ended is dropped.

    Labels over several bars overlap: an error repeats itself for as long as the same move is judged, and detectors,
    which take rows for independent, would take that for a change.

    Parameters
    ----------
    starts, ends:
        Of each row's label, ascending by start: when it was decided, and when it became known (ns).

    Examples
    --------
    >>> separate_rows([0, 1, 2, 3], [2, 5, 4, 9]).tolist()
    [0, 2]
    """
    return np.asarray(_separate(np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)))


def block_relation(
    feature: ArrayLike, target: ArrayLike, *, block: int = 100, measure: Measure = "spearman"
) -> pd.DataFrame:
    """The relation within each full block of rows: its last row's ``position`` and the ``value``, known only there.

    Parameters
    ----------
    feature, target:
        A value a row; a row without either counts in neither.
    block:
        Rows of a block.
    measure:
        ``spearman``: the rank correlation, from -1 to 1. ``auc``: how often the feature of a row with a target above 0
        is larger than that of one without (J. A. Hanley and B. J. McNeil, Radiology 143, 1982); NaN in a block that
        has only one kind.

    Examples
    --------
    >>> rows = np.arange(20.0)
    >>> block_relation(rows, rows % 2, block=10, measure="auc").values.tolist()
    [[9.0, 0.6], [19.0, 0.6]]
    """
    if block < SMALLEST_BLOCK:
        raise ConfigurationError(f"block = {block} rows, at least {SMALLEST_BLOCK} are needed")
    if measure not in ("spearman", "auc"):
        raise ConfigurationError(f"measure {measure!r} is unknown", hint="spearman or auc")
    one, other = np.asarray(feature, dtype=np.float64), np.asarray(target, dtype=np.float64)
    _same_length(one, other)
    places = np.flatnonzero(np.isfinite(one) & np.isfinite(other))
    full = len(places) // block * block
    rows = pd.DataFrame({"block": np.arange(full) // block, "one": one[places[:full]], "other": other[places[:full]]})
    if measure == "auc":
        rows["other"] = (rows["other"] > 0).astype(np.float64)
    ranks = rows.groupby("block")[["one", "other"]].rank()
    if measure == "auc":
        positive = rows["other"].groupby(rows["block"]).sum()
        of_positive = (ranks["one"] * rows["other"]).groupby(rows["block"]).sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (of_positive - positive * (positive + 1) / 2) / (positive * (block - positive))
    else:
        centred = ranks - (block + 1) / 2
        products = centred.assign(both=centred["one"] * centred["other"], one=centred["one"] ** 2)
        sums = products.assign(other=centred["other"] ** 2).groupby(rows["block"]).sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            value = sums["both"] / np.sqrt(sums["one"] * sums["other"])
    return pd.DataFrame({"position": places[block - 1 : full : block], "value": value.to_numpy()})


@njit(cache=True)
def _separate(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    kept = np.empty(starts.size, dtype=np.int64)
    count = 0
    for i in range(starts.size):
        if count == 0 or starts[i] >= ends[kept[count - 1]]:
            kept[count] = i
            count += 1
    return kept[:count]


def _mid_rank(ordered: Floats, values: Floats) -> Floats:
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(ordered)))


def _same_length(one: Floats, other: Floats) -> None:
    if one.shape != other.shape or one.ndim != 1:
        raise DataError(f"the two sides have the shapes {one.shape} and {other.shape}, expected one value a row each")
