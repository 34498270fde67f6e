"""Patterns as numbers: one-hot, by what came of them (from the past alone), and as learned codes of shapes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.arrays import Floats

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class PatternVocabulary:
    """The patterns that an encoding knows, in a fixed order; any other one is unknown, code -1.

    Examples
    --------
    >>> known = PatternVocabulary.of(["hammer", "doji", None, "hammer"])
    >>> known.patterns, known.codes(["doji", "star", None]).tolist()
    (('doji', 'hammer'), [0, -1, -1])
    >>> known.one_hot(["hammer", "star"]).values.tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """

    patterns: tuple[str, ...]

    @classmethod
    def of(cls, patterns: Iterable[Hashable], *, least: int = 1) -> PatternVocabulary:
        """Those that come up ``least`` times at least, in alphabetic order. Give it the training rows alone."""
        counts = pd.Series(list(patterns), dtype=object).dropna().astype(str).value_counts()
        return cls(tuple(sorted(counts.index[counts >= least])))

    def codes(self, patterns: Iterable[Hashable]) -> Codes:
        """The place of each pattern in the order; -1 for one that is unknown or missing."""
        return pd.Index(self.patterns, dtype=object).get_indexer(pd.Index(list(patterns), dtype=object))

    def one_hot(self, patterns: pd.Series | Sequence[Hashable]) -> pd.DataFrame:
        """A column a known pattern, 1 where it is; a row of zeros for an unknown one."""
        codes = self.codes(patterns)
        values = np.zeros((codes.size, len(self.patterns)))
        rows = np.flatnonzero(codes >= 0)
        values[rows, codes[rows]] = 1.0
        index = patterns.index if isinstance(patterns, pd.Series) else None
        return pd.DataFrame(values, index=index, columns=list(self.patterns))


def past_target_encoding(
    codes: ArrayLike, value: ArrayLike, t0: pd.DatetimeIndex, t_end: pd.DatetimeIndex, *, weight: float = 20.0
) -> Floats:
    """Each row's pattern as the mean label of its occurrences whose labels were known before the row's decision.

    A row uses exactly the labels with ``t_end`` before its own ``t0``; never its own, and never one that was still
    open. The mean is drawn towards the mean of all labels known by then, which counts as ``weight`` occurrences
    (Micci-Barreca, SIGKDD Explorations 3, 2001).

    Parameters
    ----------
    codes:
        Pattern of each row, from 0; -1 for none, which takes the mean of all.
    value:
        Its label; NaN where there is none: the row is encoded and teaches nothing.
    t0, t_end:
        Decision, and when the label became known; in any order.

    Returns
    -------
    One number a row; NaN where no label at all was known.

    Raises
    ------
    DataError
        Lengths differ, a code is below -1, or a label has no times.
    ConfigurationError
        A negative weight.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=5, freq="h", tz="UTC")
    >>> past_target_encoding([0, 0, 1, 0, 0], [1.0, 3.0, 9.0, 5.0, 0.0], t0, t0 + pd.Timedelta("90min"), weight=0)
    array([nan, nan,  1.,  2.,  2.])
    """
    if not weight >= 0:
        raise ConfigurationError(f"weight = {weight} is negative")
    places, values = np.asarray(codes, dtype=np.int64), np.asarray(value, dtype=np.float64)
    if not places.size == values.size == len(t0) == len(t_end):
        raise DataError(
            f"{places.size} codes, {values.size} labels, {len(t0)} and {len(t_end)} times do not belong together"
        )
    if places.size and places.min() < -1:
        raise DataError(f"the code {places.min()} is below -1")
    taught = np.flatnonzero(np.isfinite(values))
    if pd.DatetimeIndex(t0).hasnans or pd.DatetimeIndex(t_end)[taught].hasnans:
        raise DataError("a row has no decision time, or a label no end")
    begin, end = pd.DatetimeIndex(t0).as_unit("ns").asi8, pd.DatetimeIndex(t_end).as_unit("ns").asi8
    by_end = taught[np.argsort(end[taught], kind="stable")]
    return _past_means(places, values, begin, end, np.argsort(begin, kind="stable"), by_end, weight)


def fold_target_encoding(
    codes: ArrayLike,
    value: ArrayLike,
    splits: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    *,
    weight: float = 20.0,
) -> Floats:
    """Each row's pattern as the mean label of that pattern in the training rows of the split that tests the row.

    For research under cross-validation: a purged splitter's training rows may lie after the row. What a live model
    sees is :func:`past_target_encoding`.

    Returns
    -------
    One number a row, drawn towards the training rows' mean as there; NaN for rows that no split tests.

    Raises
    ------
    DataError
        A row is both in training and test of one split, or lengths differ.

    Examples
    --------
    >>> splits = [(np.array([0, 1]), np.array([2, 3])), (np.array([2, 3]), np.array([0, 1]))]
    >>> fold_target_encoding([0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0], splits, weight=0).tolist()
    [3.0, 4.0, 1.0, 2.0]
    """
    if not weight >= 0:
        raise ConfigurationError(f"weight = {weight} is negative")
    places, values = np.asarray(codes, dtype=np.int64), np.asarray(value, dtype=np.float64)
    if places.size != values.size:
        raise DataError(f"{places.size} codes and {values.size} labels do not belong together")
    result = np.full(places.size, np.nan)
    for train, test in splits:
        if np.intersect1d(train, test).size:
            raise DataError("a row is both in training and test of a split")
        used = train[np.isfinite(values[train])]
        if not used.size:
            continue
        mean = values[used].mean()
        seen = used[places[used] >= 0]
        size = int(places.max(initial=0)) + 1
        counts = np.bincount(places[seen], minlength=size)
        sums = np.bincount(places[seen], weights=values[seen], minlength=size)
        means = np.full(size + 1, mean)
        some = counts + weight > 0
        means[:size][some] = ((sums + weight * mean)[some]) / (counts + weight)[some]
        # The last place is that of code -1.
        result[test] = means[places[test]]
    return result


@dataclass(frozen=True)
class ShapeCodebook:
    """Learned codes: the typical shapes of past windows, and for a window the nearest of them.

    Parameters
    ----------
    centres:
        ``(k, window)``; numbered by their share of the training windows, the commonest 0.

    Examples
    --------
    >>> rise, fall = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 0.0, -1.0])
    >>> book = ShapeCodebook.fit(np.array([rise, rise, fall, rise]), 2)
    >>> book.codes(np.array([fall, rise])).tolist()
    [1, 0]
    """

    centres: Floats

    @classmethod
    def fit(cls, windows: Floats, shapes: int, *, seed: int = 0) -> ShapeCodebook:
        """Find ``shapes`` typical shapes by k-means (scikit-learn) in past windows ``(n, window)``, of mean 0 each.

        Give it the training rows alone; the same rows and seed give the same codes. Raises DataError where a number
        is not finite or there are fewer windows than shapes.
        """
        if shapes < 1 or len(windows) < shapes:
            raise DataError(f"{len(windows)} windows do not make {shapes} shapes")
        if not np.isfinite(windows).all():
            raise DataError("a window holds a number that is not finite", hint="leave such windows out of the fit")
        from sklearn.cluster import KMeans

        model = KMeans(shapes, n_init=3, random_state=seed).fit(windows)
        order = np.argsort(-np.bincount(model.labels_, minlength=shapes), kind="stable")
        return cls(np.ascontiguousarray(model.cluster_centers_[order], dtype=np.float64))

    def codes(self, windows: Floats) -> Codes:
        """The nearest shape of each window ``(n, window)``; -1 where it holds a NaN."""
        if windows.ndim != 2 or windows.shape[1] != self.centres.shape[1]:
            raise DataError(f"windows of shape {windows.shape} do not fit shapes of {self.centres.shape[1]} bars")
        square = (self.centres**2).sum(axis=1) - 2.0 * windows @ self.centres.T
        found = np.argmin(np.where(np.isnan(square), np.inf, square), axis=1)
        return np.where(np.isnan(square).any(axis=1), -1, found).astype(np.int64)


@njit(cache=True, nogil=True)
def _past_means(
    codes: Codes, values: Floats, begin: Codes, end: Codes, by_begin: Codes, by_end: Codes, weight: float
) -> Floats:
    """One pass over decisions and label ends in the order of time."""
    size = codes.max() + 1 if codes.size else 0
    sums, counts = np.zeros(size), np.zeros(size)
    total, number, read = 0.0, 0, 0
    result = np.full(codes.size, np.nan)
    for row in by_begin:
        while read < by_end.size and end[by_end[read]] < begin[row]:
            taught = by_end[read]
            total += values[taught]
            number += 1
            if codes[taught] >= 0:
                sums[codes[taught]] += values[taught]
                counts[codes[taught]] += 1.0
            read += 1
        if number == 0:
            continue
        mean, code = total / number, codes[row]
        if code >= 0 and counts[code] + weight > 0.0:
            result[row] = (sums[code] + weight * mean) / (counts[code] + weight)
        else:
            result[row] = mean
    return result
