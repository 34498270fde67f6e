"""LightGBM's bins, made once for all rows and shared by every fold and trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import lightgbm

_OF_THE_CLASSIFIER: Final = ("class_weight", "importance_type", "n_estimators", "objective")
_DECIDED_BY_BINS: Final = ("max_bin", "subsample_for_bin", "random_state", "n_jobs", "force_row_wise", "deterministic")


class BinnedDataset:
    """One binned matrix of all rows, from which a fold's training rows are taken without binning them again.

    Bins are found from the features of all rows given, those of the test folds included, and from no label: a border
    between two bins may lie where only test rows made it lie, as a quantile over all rows would. That tells nothing of
    a label, and the holdout is not among these rows; a run that wants even this to be strict fits an estimator on
    each fold's rows instead (``training.strict_bins``), which bins anew every time.

    Same rows, parameters, seed and number of threads give the same trees to the bit.

    Parameters
    ----------
    X:
        float32, shape (rows, columns); NaN where missing. It is not copied.
    y, weight:
        Target (0 or 1) and sample weight of each row. A row of weight 0 is left out, here as in a pipeline.
    estimator:
        An unfitted ``LGBMClassifier``: its number of bins, its seed and threads decide the binning.

    Examples
    --------
    >>> from tapeline.models.estimator import build_estimator
    >>> X = np.linspace(-1, 1, 400, dtype=np.float32)[:, None]
    >>> y = (X[:, 0] > 0).astype(np.int8)
    >>> model = build_estimator("lightgbm", parameters={"min_child_samples": 20})[-1]
    >>> booster = BinnedDataset(X, y, np.ones(400), model).fit(np.arange(0, 400, 2), model)
    >>> bool(booster.predict(X[[1]])[0] < 0.5 < booster.predict(X[[399]])[0])
    True
    """

    def __init__(
        self,
        X: npt.NDArray[np.float32],  # noqa: N803 - scikit-learn's name
        y: npt.NDArray[Any],
        weight: npt.NDArray[np.float64],
        estimator: Any,
    ) -> None:
        from lightgbm import Dataset

        given = estimator.get_params()
        # Features may not be thrown out in view of one trial's smallest leaf: the next trial may allow smaller ones.
        self._binning = {
            **{name: given[name] for name in _DECIDED_BY_BINS if given.get(name) is not None},
            "feature_pre_filter": False,
            "verbosity": -1,
        }
        self._weighs = np.asarray(weight) > 0
        if not self._weighs.all():
            X, y, weight = X[self._weighs], y[self._weighs], weight[self._weighs]  # noqa: N806 - scikit-learn's name
        self._data = Dataset(X, y, weight=weight, params=self._binning, free_raw_data=False).construct()
        self._place = np.cumsum(self._weighs) - 1

    def subset(self, rows: npt.NDArray[np.intp]) -> lightgbm.Dataset:
        """The binned rows at these positions, ready to train on."""
        rows = self._place[rows[self._weighs[rows]]]
        # Without parameters of its own LightGBM keeps those of the whole, and says nothing.
        return self._data.subset(np.sort(rows).tolist(), params=self._binning).construct()

    def fit(self, rows: npt.NDArray[np.intp], estimator: Any) -> lightgbm.Booster:
        """Train on these rows with an unfitted classifier's parameters; only its binning must be that of the whole."""
        from lightgbm import train

        given = estimator.get_params()
        return train(training_parameters(given), self.subset(rows), num_boost_round=given["n_estimators"])


def training_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an ``LGBMClassifier`` as ``lightgbm.train`` reads them, for two classes."""
    chosen = {name: value for name, value in given.items() if value is not None and name not in _OF_THE_CLASSIFIER}
    return {**chosen, "objective": "binary", "feature_pre_filter": False}
