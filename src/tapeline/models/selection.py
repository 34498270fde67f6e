"""Selection of columns as steps of a pipeline: what all selectors share, the correlation filter and mRMR.

A selector learns from the rows it is fitted on and from nothing else; as a step of
:func:`tapeline.models.estimator.build_estimator` it is fitted inside the fold. This module imports scikit-learn; import
it where it is used.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.features.association import (
    BINS,
    Method,
    association_matrix,
    equal_mass_codes,
    mutual_information,
    prune,
    shifted_maxima,
    target_information,
)

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

SHIFTS: Final = 99


class ColumnSelector(TransformerMixin, BaseEstimator):
    """Base of all selectors: after ``fit`` there are ``kept_`` (positions) and ``scores_`` (a number a column).

    A selector that finds nothing keeps nothing; ``at_least`` columns, the best by score, are kept in any case, for a
    pipeline whose model needs one.
    """

    at_least: int = 0

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:  # noqa: N803 - scikit-learn's name
        """The kept columns as float32."""
        values = np.asarray(X, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != self.n_features_in_:
            raise DataError(f"the selector knows {self.n_features_in_} columns, the rows have the shape {values.shape}")
        return values[:, self.kept_]

    def get_support(self, indices: bool = False) -> npt.NDArray[Any]:
        """Which columns are kept, as a mask or as positions."""
        if indices:
            return self.kept_
        return np.isin(np.arange(self.n_features_in_), self.kept_)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """The names of the kept columns."""
        names = input_features if input_features is not None else [f"x{i}" for i in range(self.n_features_in_)]
        return np.asarray(names, dtype=object)[self.kept_]

    def _keep(self, kept: npt.ArrayLike, scores: Floats) -> Self:
        chosen = [int(position) for position in np.asarray(kept, dtype=np.intp)]
        best = np.lexsort((np.arange(scores.size), -np.nan_to_num(scores, nan=-np.inf)))
        chosen += [int(p) for p in best if p not in chosen][: max(0, self.at_least - len(chosen))]
        self.kept_ = np.array(sorted(chosen), dtype=np.intp)
        self.scores_ = scores
        self.n_features_in_ = scores.size
        return self


class CorrelationFilter(ColumnSelector):
    """Drop columns that say nearly what a better one says.

    Columns are clustered by their association, and the best of each cluster stays: the one that tells most of the
    target, or, without a target, the one with the fewest missing values, then the first.

    Parameters
    ----------
    method:
        ``pearson``, ``spearman`` or ``mutual_information``; see :mod:`tapeline.features.association`.
    threshold:
        No two kept columns are associated by this or more, sign aside.

    Attributes
    ----------
    dropped_:
        A row a dropped column: ``column``, ``kept`` (which better one speaks for it) and ``association``.
    clusters_:
        The cluster of each column.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> rows = np.column_stack([x, x[:, 0] + 0.01 * x[:, 1]])
    >>> CorrelationFilter().fit(rows).kept_.tolist()
    [0, 1]
    >>> CorrelationFilter().fit(rows, x[:, 0] + x[:, 1] > 0).kept_.tolist()
    [1, 2]
    """

    def __init__(self, method: Method = "spearman", threshold: float = 0.9, *, at_least: int = 0) -> None:
        self.method = method
        self.threshold = threshold
        self.at_least = at_least

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike | None = None) -> Self:  # noqa: N803
        """Find the clusters and the best of each; the target, where given, decides which is better."""
        values = rows_of(X)
        scores = 1.0 - np.isnan(values).mean(axis=0)
        if y is not None:
            target = np.asarray(y, dtype=np.float64)
            if self.method == "mutual_information":
                scores = target_information(equal_mass_codes(values), target_codes(target))
            else:
                together = np.column_stack([values, target])
                scores = np.abs(association_matrix(together, self.method)[-1, :-1])
        pruning = prune(association_matrix(values, self.method), scores, self.threshold)
        self.dropped_, self.clusters_ = pruning.dropped, pruning.clusters
        return self._keep(pruning.kept, scores)


class MinimumRedundancy(ColumnSelector):
    """The filter mRMR: the columns that say most of the target and least of each other.

    First each column's mutual information with the target is held against luck: the target is moved around the circle
    of rows, which keeps its serial dependence, and only columns above what the best of all columns shows then, in all
    but ``significance`` of the shifts, are candidates. Of these the next is always the one with the greatest relevance
    less mean redundancy (or relevance over it) to those chosen before (Peng, Long and Ding 2005, IEEE Transactions on
    Pattern Analysis and Machine Intelligence 27, p. 1226).

    Parameters
    ----------
    columns:
        How many to choose at most.
    criterion:
        ``difference`` (MID) or ``quotient`` (MIQ).
    significance:
        The chance that a target without any link selects anything; 1 lets every column be a candidate.
    bins, shifts, seed:
        Of the estimate of information and of the test.

    Attributes
    ----------
    order_:
        The kept columns in the order of their choice.
    scores_:
        The information of each column with the target, in nats.
    threshold_:
        What luck shows.
    """

    def __init__(
        self,
        columns: int = 20,
        *,
        criterion: Literal["difference", "quotient"] = "difference",
        significance: float = 0.05,
        bins: int = BINS,
        shifts: int = SHIFTS,
        seed: int = 0,
        at_least: int = 0,
    ) -> None:
        self.columns = columns
        self.criterion = criterion
        self.significance = significance
        self.bins = bins
        self.shifts = shifts
        self.seed = seed
        self.at_least = at_least

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:  # noqa: N803
        """Choose columns; rows are in the order of time."""
        if self.criterion not in ("difference", "quotient"):
            raise ConfigurationError(f"no criterion is called {self.criterion!r}", hint="difference or quotient")
        codes = equal_mass_codes(rows_of(X), self.bins)
        target = target_codes(y)
        relevance = target_information(codes, target, self.bins)
        self.threshold_ = self._luck(codes, target)
        candidates = [int(column) for column in np.flatnonzero(relevance > self.threshold_)]
        redundancy = np.zeros(relevance.size)
        self.order_: list[int] = []
        while candidates and len(self.order_) < self.columns:
            mean = redundancy[candidates] / max(1, len(self.order_))
            if self.criterion == "difference":
                value = relevance[candidates] - mean
            else:
                value = relevance[candidates] / np.maximum(mean, 1e-12) if self.order_ else relevance[candidates]
            chosen = candidates.pop(int(np.argmax(value)))
            self.order_.append(chosen)
            for other in candidates:
                redundancy[other] += max(0.0, mutual_information(codes[other], codes[chosen], self.bins))
        return self._keep(self.order_, relevance)

    def _luck(self, codes: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> float:
        if self.significance >= 1:
            return -np.inf
        if self.significance * (self.shifts + 1) < 1:
            raise ConfigurationError(
                f"{self.shifts} shifts cannot show a significance of {self.significance}",
                hint=f"take at least {int(np.ceil(1 / self.significance)) - 1}",
            )
        generator = np.random.default_rng(self.seed)
        # Shifts by little would still hold what the target shares with its neighbours.
        edge = max(1, target.size // 50)
        shifts = generator.integers(edge, max(edge + 1, target.size - edge), self.shifts)
        maxima = np.sort(shifted_maxima(codes, target, shifts, self.bins))
        rank = int(np.floor(self.significance * (self.shifts + 1)))
        return float(maxima[-rank])


def rows_of(X: npt.ArrayLike) -> npt.NDArray[np.float32]:  # noqa: N803
    """Rows as a float32 matrix; DataError where they are none, or one is infinite."""
    values = X.to_numpy(dtype=np.float32) if isinstance(X, pd.DataFrame) else np.asarray(X, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise DataError(f"columns cannot be selected from rows of the shape {values.shape}")
    if np.isinf(values).any():
        raise DataError("a feature is infinite", hint="give NaN where it is undefined")
    return values


def target_codes(y: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """A target as bins: its classes where it has few values, else equal-mass bins."""
    values = np.asarray(y, dtype=np.float64)
    classes, place = np.unique(values, return_inverse=True)
    if classes.size <= BINS:
        return place.astype(np.uint8)
    return equal_mass_codes(values[:, None])[0]
