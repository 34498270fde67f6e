"""Baselines that a model must beat: a naive forecast and two linear ones, each with probabilities.

All know two classes only. This module imports scikit-learn; the zoo imports it where it is used.
"""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.validation import PurgedKFold

Floats = npt.NDArray[np.float64]

_BLOCKS: Final = 5


class _TwoClasses(ClassifierMixin, BaseEstimator):
    """What the baselines share: two classes, and ``predict`` by the greater probability."""

    classes_: npt.NDArray[Any]

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803 - scikit-learn's name
        """The likelier class of each row; the first where they are equal."""
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """The probability of each class, in the order of ``classes_``."""
        up = self._second(X)
        return np.column_stack([1.0 - up, up])

    def _second(self, X: Any) -> Floats:  # noqa: N803
        raise NotImplementedError

    def _learn_classes(self, X: Any, y: Any, sample_weight: Any) -> tuple[Floats, Floats]:  # noqa: N803
        """Check the rows; return (1 where the second class, weights)."""
        self.classes_, place = np.unique(np.asarray(y), return_inverse=True)
        if self.classes_.size != 2:
            raise DataError(
                f"{type(self).__name__} knows two classes, the training rows hold {self.classes_.size}",
                hint="ask for a longer range, or use a family of the zoo that knows more classes",
            )
        self.n_features_in_ = np.shape(X)[1]
        weight = np.ones(place.size) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return place.astype(np.float64), weight


class Persistence(_TwoClasses):
    """The naive forecast: the side of one column goes on.

    The side of a row is the sign of ``column``; above 0 speaks for the second class, below 0 for the first. The
    probability of that class is the weighted share of the training rows with a side in which it came true, with one
    success and one failure added; under one half, the naive forecast is taken to reverse. A row without a side (0 or
    NaN) gets the weighted share of its class among all training rows.

    Parameters
    ----------
    column:
        Position of the column, or its name where rows are frames; the last return is the classic.

    Attributes
    ----------
    holds_:
        The probability that a side goes on.
    base_:
        The weighted share of the second class.

    Examples
    --------
    >>> last = np.array([[0.5], [0.1], [-0.2], [-0.3], [0.4], [0.0]])
    >>> model = Persistence().fit(last, [1, 1, 0, 0, 0, 1])
    >>> model.predict_proba([[0.7], [-0.7]])[:, 1].round(3).tolist()
    [0.714, 0.286]
    """

    def __init__(self, column: int | str = 0) -> None:
        self.column = column

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn how often the side went on.

        Raises
        ------
        DataError
            The training rows do not hold two classes.
        ConfigurationError
            The rows have no such column.
        """
        target, weight = self._learn_classes(X, y, sample_weight)
        side = self._side(X)
        told = side != 0
        came = float(weight[told] @ (target[told] == (side[told] > 0)))
        # Scaled to mean 1, so that doubling all weights changes nothing beside the one success and one failure.
        scale = weight.mean()
        self.holds_ = (came / scale + 1.0) / (float(weight[told].sum()) / scale + 2.0)
        self.base_ = float(np.average(target, weights=weight))
        return self

    def _second(self, X: Any) -> Floats:  # noqa: N803
        side = self._side(X)
        return np.where(side > 0, self.holds_, np.where(side < 0, 1.0 - self.holds_, self.base_))

    def _side(self, X: Any) -> Floats:  # noqa: N803
        if isinstance(self.column, str):
            if not isinstance(X, pd.DataFrame) or self.column not in X.columns:
                raise ConfigurationError(
                    f"the rows have no column called {self.column!r}",
                    hint="give the column's position, or its name and rows as a frame",
                )
            values = X[self.column].to_numpy(dtype=np.float64)
        else:
            rows = np.asarray(X, dtype=np.float64)
            if not -rows.shape[1] <= self.column < rows.shape[1]:
                raise ConfigurationError(f"the rows have {rows.shape[1]} columns, none at position {self.column}")
            values = rows[:, self.column]
        return np.nan_to_num(np.sign(values), nan=0.0)


class LinearProbability(_TwoClasses):
    """The linear probability model: weighted least squares of the target on the columns, clipped.

    Parameters
    ----------
    clip:
        Probabilities are kept within ``[clip, 1 - clip]``.

    Attributes
    ----------
    coef_, intercept_:
        Of the least-squares solution, of the smallest norm where columns depend on each other.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> LinearProbability().fit(x, [0, 0, 1, 1]).predict_proba([[1.5], [9.0]])[:, 1].round(2).tolist()
    [0.5, 0.99]
    """

    def __init__(self, *, clip: float = 0.01) -> None:
        self.clip = clip

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Solve the least-squares problem; DataError where there are not two classes."""
        if not 0 <= self.clip < 0.5:
            raise ConfigurationError(f"clip = {self.clip} is not in [0, 0.5)")
        target, weight = self._learn_classes(X, y, sample_weight)
        rows = np.asarray(X, dtype=np.float64)
        center, level = np.average(rows, axis=0, weights=weight), np.average(target, weights=weight)
        root = np.sqrt(weight)
        self.coef_ = np.linalg.lstsq(root[:, None] * (rows - center), root * (target - level), rcond=None)[0]
        self.intercept_ = float(level - center @ self.coef_)
        return self

    def _second(self, X: Any) -> Floats:  # noqa: N803
        said = np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_
        return np.clip(said, self.clip, 1.0 - self.clip)


class RidgeProbability(_TwoClasses):
    """Ridge regression of the side (-1 and 1), turned into a probability by a sigmoid fitted out of block.

    The rows are cut into five blocks in the order of time; each block's values come from a ridge on the others, and
    Platt's sigmoid is fitted on those, for values of rows that a model was fitted on are too extreme. Where ``fit`` is
    given label intervals the blocks are purged by them; without, the rows must be in the order of time, and a label
    that reaches into the next block makes the sigmoid a little too steep.

    Parameters
    ----------
    penalty:
        The L2 penalty as a multiple of the sum of the weights, so that neither their scale nor the number of rows
        changes what it means; columns should be scaled.

    Attributes
    ----------
    coef_, intercept_:
        Of the ridge on all rows.
    calibration_:
        The sigmoid, a :class:`tapeline.models.calibration.Calibration`.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((500, 1))
    >>> model = RidgeProbability().fit(x, x[:, 0] + np.random.default_rng(1).standard_normal(500) > 0)
    >>> model.predict_proba([[-1.0], [1.0]])[:, 1].round(1).tolist()
    [0.1, 0.9]
    """

    def __init__(self, *, penalty: float = 0.1) -> None:
        self.penalty = penalty

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        t0: npt.ArrayLike | None = None,
        t_end: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit ridge and sigmoid; DataError where there are not two classes."""
        from tapeline.models.calibration import fit_calibration

        if not self.penalty > 0:
            raise ConfigurationError(f"penalty = {self.penalty} is not above 0")
        target, weight = self._learn_classes(X, y, sample_weight)
        rows = np.asarray(X, dtype=np.float64)
        stamps = np.arange(len(rows)) if t0 is None or t_end is None else None
        begin = pd.DatetimeIndex(np.asarray(t0) if stamps is None else stamps)
        end = pd.DatetimeIndex(np.asarray(t_end) if stamps is None else stamps)
        blocks = PurgedKFold(begin, end, folds=_BLOCKS, embargo=0.0)
        outside = np.empty(len(rows))
        for train, test in blocks.split(rows):
            coefficients, intercept = self._solve(rows[train], target[train], weight[train])
            outside[test] = rows[test] @ coefficients + intercept
        self.calibration_ = fit_calibration(_logistic(outside), target, weight, kind="platt")
        self.coef_, self.intercept_ = self._solve(rows, target, weight)
        return self

    def decision_function(self, X: Any) -> Floats:  # noqa: N803
        """The ridge's value of each row; above 0 speaks for the second class."""
        return np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_

    def _second(self, X: Any) -> Floats:  # noqa: N803
        return self.calibration_.apply(_logistic(self.decision_function(X)))

    def _solve(self, rows: Floats, target: Floats, weight: Floats) -> tuple[Floats, float]:
        center, level = np.average(rows, axis=0, weights=weight), 2.0 * np.average(target, weights=weight) - 1.0
        centred = rows - center
        normal = (centred * weight[:, None]).T @ centred
        normal[np.diag_indices_from(normal)] += self.penalty * weight.sum()
        coefficients = np.linalg.solve(normal, centred.T @ (weight * (2.0 * target - 1.0 - level)))
        return np.asarray(coefficients, dtype=np.float64), float(level - center @ coefficients)


def _logistic(values: Floats) -> Floats:
    """Any number as one between 0 and 1, whose log odds are twice the number: what a calibration takes."""
    return 0.5 * (1.0 + np.tanh(values))
