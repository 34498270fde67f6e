"""The rows of one fit: cut alike whatever is cut, the rows themselves, labels, weights and label intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class TrainingRows:
    """What a pipeline is fitted on.

    Parameters
    ----------
    X:
        Array or frame, a row a decision.
    y:
        A label a row.
    weight:
        A weight a row; None where all are equal.
    t0, t_end:
        Label intervals; None where they are not known.
    parameters:
        What steps of the pipeline are given beside, by ``<step>__<name>``; arrays of one value a row are cut too.
    """

    X: Any
    y: npt.NDArray[Any]
    weight: Floats | None
    t0: Any
    t_end: Any
    parameters: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Rows) -> TrainingRows:
        """The rows at these positions."""
        return TrainingRows(
            _cut(self.X, rows),
            self.y[rows],
            None if self.weight is None else self.weight[rows],
            _cut(self.t0, rows),
            _cut(self.t_end, rows),
            {
                name: _cut(value, rows) if _per_row(value, len(self)) else value
                for name, value in self.parameters.items()
            },
        )

    def weighing(self) -> TrainingRows:
        """Without the rows of weight 0, which are to teach nothing.

        A learner alone would still count them: for the borders of bins, for the fewest rows of a leaf, for a median.
        """
        if self.weight is None or self.weight.all():
            return self
        return self.take(np.flatnonzero(self.weight))

    def balanced(self, factors: Mapping[Any, float]) -> TrainingRows:
        """The weights, times a factor a class."""
        classes = np.array(sorted(factors))
        factor = np.array([factors[label] for label in classes.tolist()])[np.searchsorted(classes, self.y)]
        return replace(self, weight=factor if self.weight is None else self.weight * factor)


def training_rows(
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any,
    weight: npt.ArrayLike | None,
    t0: Any,
    t_end: Any,
    parameters: Mapping[str, Any],
) -> TrainingRows:
    """Check that all belong together.

    Raises
    ------
    DataError
        Numbers of rows differ, a weight is negative or not a number, all are 0, or one of ``t0`` and ``t_end`` is
        given without the other.
    """
    labels = np.asarray(y)
    count = len(X)
    if labels.shape != (count,):
        raise DataError(f"{count} rows and labels of the shape {labels.shape} do not belong together")
    if (t0 is None) != (t_end is None):
        raise DataError("one of t0 and t_end was given without the other", hint="a label interval needs both")
    if t0 is not None and (len(t0) != count or len(t_end) != count):
        raise DataError(f"{count} rows, {len(t0)} decision times and {len(t_end)} label ends do not belong together")
    if weight is None:
        return TrainingRows(X, labels, None, t0, t_end, parameters)
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != (count,):
        raise DataError(f"{count} rows and weights of the shape {weights.shape} do not belong together")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise DataError("a weight is negative or not a number")
    if not weights.any():
        raise DataError(f"all {count} rows have the weight 0: there is nothing to learn from")
    return TrainingRows(X, labels, weights, t0, t_end, parameters).weighing()


def balancing_factors(y: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> dict[Any, float]:
    """For each class the factor on its weights that gives all classes the same mass and leaves the total as it is.

    A model fitted on balanced weights says probabilities of a world in which classes are as frequent: they must be
    calibrated on rows with their own weights before they are read as probabilities.

    Examples
    --------
    >>> balancing_factors([0, 0, 0, 1])
    {0: 0.6666666666666666, 1: 2.0}
    """
    classes, place = np.unique(np.asarray(y), return_inverse=True)
    weights = np.ones(place.size) if weight is None else np.asarray(weight, dtype=np.float64)
    mass = np.bincount(place, weights)
    factors = weights.sum() / (classes.size * mass)
    return dict(zip(classes.tolist(), factors.tolist(), strict=True))


def _cut(values: Any, rows: Rows) -> Any:
    if values is None:
        return None
    if isinstance(values, pd.DataFrame | pd.Series):
        return values.iloc[rows]
    return values[rows] if isinstance(values, pd.Index) else np.asarray(values)[rows]


def _per_row(values: Any, count: int) -> bool:
    array_like = isinstance(values, np.ndarray | pd.Series | pd.Index | pd.DataFrame | list | tuple)
    return array_like and len(values) == count
