"""XGBoost's classifier for labels of any kind. This module imports xgboost; the zoo imports it where it is used."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from xgboost import XGBClassifier

from tapeline.core.errors import DataError


class XGBoostClassifier(XGBClassifier):
    """``XGBClassifier`` whose labels need not be 0 to k - 1: -1 and 1 are as good, and ``classes_`` names them.

    The columns of ``predict_proba`` are in the order of ``classes_``, which is sorted.

    Examples
    --------
    >>> model = XGBoostClassifier(n_estimators=5, n_jobs=1, verbosity=0)
    >>> model.fit(np.arange(40.0).reshape(-1, 1), np.repeat([-1, 1], 20)).predict([[3.0], [33.0]]).tolist()
    [-1, 1]
    """

    def fit(self, X: Any, y: Any, *, eval_set: Any = None, **parameters: Any) -> Self:  # noqa: N803 - scikit-learn's
        """Fit on encoded labels; those of ``eval_set`` are encoded alike.

        Raises
        ------
        DataError
            The training rows hold one class only, or ``eval_set`` a class that they lack.
        """
        labels, encoded = np.unique(np.asarray(y), return_inverse=True)
        if labels.size < 2:
            raise DataError(f"all {encoded.size} training rows have the same label", hint="ask for a longer range")
        self.labels_ = np.arange(labels.size)
        pairs = None if eval_set is None else [(rows, _encode(labels, target)) for rows, target in eval_set]
        super().fit(X, encoded, eval_set=pairs, **parameters)
        self.labels_ = labels
        return self

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The labels, sorted."""
        if not hasattr(self, "labels_"):
            raise AttributeError("classes_ is known after fit")
        return self.labels_

    def predict(self, X: Any, **parameters: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The likeliest label of each row, or the margins where ``output_margin`` asks for them."""
        found = super().predict(X, **parameters)
        return found if parameters.get("output_margin") else self.labels_[np.asarray(found, dtype=np.intp)]


def _encode(labels: npt.NDArray[Any], target: Any) -> npt.NDArray[np.intp]:
    values = np.asarray(target)
    place = np.clip(np.searchsorted(labels, values), 0, labels.size - 1)
    if (labels[place] != values).any():
        raise DataError(f"the label {values[labels[place] != values][0]!r} is not among those trained on")
    return place
