"""Explanations: exact SHAP values, from LightGBM itself and of log odds that are a line.

All are in log odds, and a row's values add up to its raw score less what is expected.
"""

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


def linear_shap_values(
    coefficients: npt.ArrayLike,
    intercept: float,
    X: npt.ArrayLike,  # noqa: N803
    background: npt.ArrayLike,
) -> tuple[npt.NDArray[np.float64], float]:
    """SHAP values of log odds that are a line: coefficient times distance from the background's mean.

    Exact where absent features are drawn from the background independently of the others (Strumbelj and Kononenko
    2014; Lundberg and Lee 2017, corollary 1).

    Parameters
    ----------
    coefficients, intercept:
        Of the line, over the columns as the model reads them, scaled.
    X, background:
        Rows to explain and rows that stand for what is usual, both as the model reads them.

    Examples
    --------
    >>> values, expected = linear_shap_values([2.0, -1.0], 0.5, [[1.0, 1.0]], [[0.0, 0.0], [1.0, 2.0]])
    >>> values.tolist(), expected
    ([[1.0, -0.0]], 0.5)
    """
    slope, rows = np.asarray(coefficients, dtype=np.float64), np.asarray(X, dtype=np.float64)
    usual = np.asarray(background, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != slope.size or usual.shape[1:] != (slope.size,) or not len(usual):
        raise DataError(f"a line over {slope.size} columns does not read rows of {rows.shape} and {usual.shape}")
    center = usual.mean(axis=0)
    return (rows - center) * slope, float(center @ slope + intercept)


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
