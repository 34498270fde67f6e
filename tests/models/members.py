"""Members of ensembles whose behaviour is known: one that writes down what it sees, one that answers a constant."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin


class Witness(ClassifierMixin, BaseEstimator):
    """Answers the base rate; column 0 of X is the row's number, and every row it sees is written down."""

    seen: ClassVar[list[tuple[str, np.ndarray, np.ndarray]]] = []
    """(member, rows it was fitted on, rows it spoke of), one for each time it spoke."""

    def __init__(self, name: str = "a") -> None:
        self.name = name

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        self.rows_ = np.asarray(X)[:, 0].astype(int)
        self.classes_ = np.array([0, 1])
        self.rate_ = float(np.average(y, weights=sample_weight))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        Witness.seen.append((self.name, self.rows_, np.asarray(X)[:, 0].astype(int)))
        return np.tile([1 - self.rate_, self.rate_], (len(X), 1))


class Told(ClassifierMixin, BaseEstimator):
    """Answers the probability that stands in one column of X: what it says does not depend on its fit."""

    def __init__(self, column: int = 0) -> None:
        self.column = column

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        up = np.asarray(X, dtype=float)[:, self.column]
        return np.column_stack([1 - up, up])


def hours(rows: int, horizon: int = 0) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Decision times an hour apart, and labels that reach ``horizon`` hours."""
    t0 = pd.date_range("2017-01-02", periods=rows, freq="1h", tz="UTC").as_unit("ns")
    return t0, t0 + pd.Timedelta(hours=horizon)
