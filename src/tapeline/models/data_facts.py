"""What the rows that a model learnt from cover, and how to tell a row that lies beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.models.dataset import Dataset

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureRange:
    """The least and greatest value of each feature in the rows that a model was developed on.

    Beyond them trees go on as at the edge and lines go on for ever: neither was ever checked there.

    Parameters
    ----------
    columns:
        Names of the features.
    low, high:
        Of each; NaN where the feature was never known.

    Examples
    --------
    >>> known = FeatureRange.of(np.array([[0.0, 5.0], [1.0, np.nan]], dtype=np.float32), ("rsi", "atr"))
    >>> known.outside(np.array([[0.5, 9.0], [np.nan, 5.0]], dtype=np.float32)).tolist()
    [[False, True], [False, False]]
    """

    columns: tuple[str, ...]
    low: Rows
    high: Rows

    @classmethod
    def of(cls, X: Rows, columns: tuple[str, ...]) -> FeatureRange:  # noqa: N803 - scikit-learn's name
        """The range of rows; DataError where there is none."""
        if X.ndim != 2 or not len(X) or X.shape[1] != len(columns):
            raise DataError(f"rows of shape {X.shape} have no range over {len(columns)} features")
        unknown = np.isnan(X)
        low, high = np.where(unknown, np.inf, X).min(axis=0), np.where(unknown, -np.inf, X).max(axis=0)
        never = unknown.all(axis=0)
        return cls(columns, np.where(never, np.nan, low), np.where(never, np.nan, high))

    def outside(self, X: Rows) -> npt.NDArray[np.bool_]:  # noqa: N803
        """Which values lie beyond the range, shape of X; a missing value does not, a feature never known always does.

        Raises
        ------
        DataError
            The rows have another number of columns.
        """
        if X.ndim != 2 or X.shape[1] != len(self.columns):
            raise DataError(f"rows of shape {X.shape} do not have the {len(self.columns)} features of the range")
        known = np.isfinite(X)
        return known & ((self.low > X) | (self.high < X) | np.isnan(self.low))

    def rows_outside(self, X: Rows) -> npt.NDArray[np.bool_]:  # noqa: N803
        """Which rows have at least one value beyond the range."""
        return np.asarray(self.outside(X).any(axis=1))


def coverage(parts: Mapping[str, Dataset]) -> pd.DataFrame:
    """What each part of the data holds of each symbol.

    Returns
    -------
    A row a part and symbol: ``part``, ``symbol``, ``rows``, ``first`` and ``last`` (decision), ``rises`` (share),
    ``missing`` (share of feature values).
    """
    rows = []
    for part, data in parts.items():
        for symbol in sorted(set(data.symbol.tolist())):
            mine = data.symbol == symbol
            rows.append(
                {
                    "part": part,
                    "symbol": str(symbol),
                    "rows": int(mine.sum()),
                    "first": data.t0[mine].min(),
                    "last": data.t0[mine].max(),
                    "rises": float(data.y[mine].mean()),
                    "missing": float(np.isnan(data.X[mine]).mean()),
                }
            )
    return pd.DataFrame(rows)


def feature_facts(development: Dataset, holdout: Dataset) -> pd.DataFrame:
    """The range of each feature, how often it was missing, and how often the holdout left the range.

    Returns
    -------
    A row a feature: ``feature``, ``low``, ``high`` (of the development rows), ``missing_development``,
    ``missing_holdout`` and ``outside`` (shares of rows; outside of the holdout's).
    """
    known = FeatureRange.of(development.X, development.columns)
    return pd.DataFrame(
        {
            "feature": list(development.columns),
            "low": known.low.astype(np.float64),
            "high": known.high.astype(np.float64),
            "missing_development": np.isnan(development.X).mean(axis=0),
            "missing_holdout": np.isnan(holdout.X).mean(axis=0),
            "outside": known.outside(holdout.X).mean(axis=0),
        }
    )
