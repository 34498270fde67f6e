"""Explanations: SHAP values from LightGBM itself, exact for trees and without the shap package in the path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError


def shap_values(
    booster: Any,
    X: npt.NDArray[np.float32],  # noqa: N803 - scikit-learn's name
) -> tuple[npt.NDArray[np.float64], float]:
    """What each feature adds to each row's log odds (Lundberg et al. 2020, Nature Machine Intelligence 2, p. 56).

    Parameters
    ----------
    booster:
        A ``lightgbm.Booster`` of a binary classifier.
    X:
        Shape (rows, the booster's features).

    Returns
    -------
    The values, shape of X, and the expected log odds; a row's values and the expectation add up to its raw score.
    """
    if X.ndim != 2 or X.shape[1] != booster.num_feature():
        raise DataError(f"the booster has {booster.num_feature()} features, the rows {X.shape[1:]}")
    contributions = np.asarray(booster.predict(X, pred_contrib=True), dtype=np.float64)
    return contributions[:, :-1], float(contributions[0, -1]) if len(X) else 0.0


def importance_table(values: npt.NDArray[np.float64], columns: Sequence[str]) -> pd.DataFrame:
    """Rank features by their mean absolute SHAP value.

    Returns
    -------
    Columns ``feature``, ``mean_abs_shap`` (log odds) and ``share`` (of the sum), the largest first; names break ties.

    Examples
    --------
    >>> importance_table(np.array([[1.0, -0.5], [-1.0, 0.0]]), ["rsi_14", "atr_14"])
      feature  mean_abs_shap  share
    0  rsi_14           1.00    0.8
    1  atr_14           0.25    0.2
    """
    if values.shape[1] != len(columns):
        raise DataError(f"{values.shape[1]} SHAP columns for {len(columns)} features")
    mean = np.abs(values).mean(axis=0) if len(values) else np.zeros(len(columns))
    total = mean.sum()
    table = pd.DataFrame(
        {"feature": list(columns), "mean_abs_shap": mean, "share": mean / total if total > 0 else mean}
    )
    return table.sort_values(["mean_abs_shap", "feature"], ascending=[False, True]).reset_index(drop=True)
