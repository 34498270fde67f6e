"""Scaling as a step of an estimator's pipeline: fitted on the training rows only, kept with the model as numbers.

This module imports scikit-learn; import it where it is used. What it learns is a
:class:`tapeline.models.column_map.ColumnMap`, which is stored with a model and applied without scikit-learn.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.column_map import KINDS, ColumnMap, ScalingKind


class Scaler(TransformerMixin, BaseEstimator):
    """Bring columns to one scale.

    Parameters
    ----------
    kind:
        ``standard``: less the mean, over the population standard deviation. ``robust``: less the median, over the
        distance between the quartiles. ``min_max``: the training rows' range becomes 0 to 1; later rows may lie
        outside. ``quantile``: the share of training rows below, 0 to 1, ties at the middle of theirs. ``rank_gauss``:
        the standard normal quantile of ``(rank - 0.5) / n``, so that any distribution becomes a normal one (Blom 1958,
        Statistical Estimates and Transformed Beta-Variables; Jahrer's solution of the Porto Seguro competition, 2017).
        The last two map what lies beyond the training rows to their ends.
    quantiles:
        At how many ranks the last two know the distribution; all of them where there are fewer rows.

    NaN stays NaN and is not counted. A column without a value or without spread is shifted, not stretched.

    Examples
    --------
    >>> rows = np.array([[1.0], [2.0], [3.0], [100.0]])
    >>> Scaler("min_max").fit_transform(rows).ravel().round(2)
    array([0.  , 0.01, 0.02, 1.  ], dtype=float32)
    >>> Scaler("rank_gauss").fit_transform(rows).ravel().round(2)
    array([-1.15, -0.32,  0.32,  1.15], dtype=float32)
    """

    def __init__(self, kind: ScalingKind = "standard", *, quantiles: int = 1000) -> None:
        self.kind = kind
        self.quantiles = quantiles

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Learn the map from these rows only.

        Raises
        ------
        ConfigurationError
            The kind is unknown, or ``quantiles`` is below 2.
        DataError
            There is no row, or a value is infinite.
        """
        if self.kind not in KINDS:
            raise ConfigurationError(f"no scaler is called {self.kind!r}", hint=", ".join(KINDS))
        if self.quantiles < 2:
            raise ConfigurationError(f"quantiles = {self.quantiles} is below 2")
        values = np.asarray(X, dtype=np.float64)
        if values.ndim != 2 or not values.size:
            raise DataError(f"a scaler cannot be fitted on rows of the shape {values.shape}")
        if np.isinf(values).any():
            raise DataError("a scaler cannot be fitted on infinite values", hint="give NaN where it is undefined")
        columns = [column[~np.isnan(column)] for column in values.T]
        if self.kind in ("quantile", "rank_gauss"):
            pairs = [self._ranked(column) for column in columns]
            knots, shares = zip(*pairs, strict=True)
            self.map_ = ColumnMap(self.kind, knots=knots, shares=shares)
        else:
            centers, scales = zip(*(self._affine(column) for column in columns), strict=True)
            self.map_ = ColumnMap(self.kind, centers, scales)
        self.n_features_in_ = values.shape[1]
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:  # noqa: N803
        """The rows, scaled, as float32."""
        return self.map_.apply(X)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """The names, unchanged."""
        names = input_features if input_features is not None else [f"x{i}" for i in range(self.n_features_in_)]
        return np.asarray(names, dtype=object)

    def _affine(self, column: npt.NDArray[np.float64]) -> tuple[float, float]:
        if not column.size:
            return 0.0, 1.0
        if self.kind == "standard":
            center, scale = column.mean(), column.std()
        elif self.kind == "robust":
            low, center, high = np.quantile(column, [0.25, 0.5, 0.75])
            scale = high - low
        else:
            center, scale = column.min(), np.ptp(column)
        # Rounding leaves a constant column a spread of a few units in the last place.
        still = scale <= 1e-12 * max(abs(float(center)), np.finfo(np.float64).tiny)
        return float(center), 1.0 if still else float(scale)

    def _ranked(self, column: npt.NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not column.size:
            return (0.0,), (0.5,)
        ordered, size = np.sort(column), column.size
        gauss = self.kind == "rank_gauss"
        if size <= self.quantiles:
            shares = (np.arange(size) + 0.5) / size if gauss else np.linspace(0.0, 1.0, size)
        else:
            grid = np.linspace(0.0, 1.0, self.quantiles)
            ordered = np.quantile(ordered, grid)
            shares = np.clip(grid, 0.5 / size, 1.0 - 0.5 / size) if gauss else grid
        knots, place = np.unique(ordered, return_inverse=True)
        middle = np.bincount(place, shares) / np.bincount(place)
        return tuple(knots.tolist()), tuple(middle.tolist())
