"""SHAP values of any model: exact where its format gives them, else by sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError
from tapeline.models.bundle import LIGHTGBM, Model
from tapeline.models.calibration import log_odds
from tapeline.models.explain import linear_shap_values, shap_values
from tapeline.models.tree_shap import tree_shap_values

Score = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]

EXACT_ROWS: Final = 2000
SAMPLED_ROWS: Final = 100
BACKGROUND_ROWS: Final = 50
"""Rows over the whole time that the values of XGBoost's trees are counted from."""


@dataclass(frozen=True)
class Contributions:
    """What each feature adds to each row's log odds, by a model of any family.

    Parameters
    ----------
    shares:
        Shape (rows, the bundle's kept columns).
    expected:
        By row, the log odds that the values are counted from; with them the shares add up to the row's raw score.
    method:
        How they were found, in words.
    """

    shares: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    method: str


def explain_model(model: Model, X: npt.NDArray[np.float32]) -> Contributions:  # noqa: N803
    """SHAP values of the last rows: exact for LightGBM, XGBoost and models whose log odds are a line, else sampled.

    Returns
    -------
    Of the last 2,000 rows where exact, of the last 100 where sampled.
    """
    found = _exact(model, X[-EXACT_ROWS:], X) if exact_method(model) else None
    if found is not None:
        values, expected = found
        return Contributions(values, np.full(len(values), expected), f"exact: {exact_method(model)}")
    rows = X[-SAMPLED_ROWS:]
    values = sampled_shap_values(model.raw_probability, rows, background=X)[:, list(model.bundle.kept)]
    expected_here = log_odds(model.raw_probability(rows)) - values.sum(axis=1)
    return Contributions(values, expected_here, f"sampled on the newest {len(rows)} rows")


def exact_method(model: Model) -> str | None:
    """How a model's SHAP values are computed exactly; None where they are sampled."""
    if model.bundle.model_format == LIGHTGBM:
        return "TreeSHAP by LightGBM"
    if model.bundle.model_format == "xgboost":
        return f"interventional TreeSHAP against {BACKGROUND_ROWS} rows"
    return None if getattr(model.booster, "line", None) is None else "coefficient times distance from the mean"


def contributions(model: Model, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:  # noqa: N803
    """The shares of :func:`explain_model`."""
    return explain_model(model, X).shares


def _exact(
    model: Model, rows: npt.NDArray[np.float32], background: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], float]:
    if model.bundle.model_format == LIGHTGBM:
        return shap_values(model.booster, model.read(rows))
    if model.bundle.model_format == "xgboost":
        spread = np.unique(np.linspace(0, len(background) - 1, BACKGROUND_ROWS).astype(np.intp))
        values, expected = tree_shap_values(model.booster.trees, model.read(rows), model.read(background[spread]))
        return values, expected + model.booster.margin
    slope, intercept = model.booster.line
    return linear_shap_values(slope, intercept, model.read(rows), model.read(background))


def sampled_shap_values(
    score: Score,
    X: npt.NDArray[np.float32],  # noqa: N803 - scikit-learn's name
    *,
    background: npt.NDArray[np.float32],
    pairs: int = 1,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """What each feature adds to each row's log odds, estimated by walking from a background row to the row itself.

    Features are exchanged one by one in a random order; what the log odds change by is the feature's share. Every
    order is walked backwards too (Strumbelj and Kononenko 2014, Knowledge and Information Systems 41, p. 647, with
    antithetic orders). Exact for a model that is linear in its log odds, apart from the choice of background rows.

    Parameters
    ----------
    score:
        From rows to probabilities of class 1.
    X:
        The rows to explain.
    background:
        Rows that stand for what is usual; one is drawn for each walk.
    pairs:
        Orders to walk; the error falls with its root. A pair costs ``2 * columns * rows`` predictions.

    Returns
    -------
    Shape of X. A row's values add up to its log odds less those of its background rows.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    >>> values = sampled_shap_values(lambda x: 1 / (1 + np.exp(-x[:, 0].astype(float))), rows, background=rows)
    >>> bool(np.abs(values[:, 0]).mean() > 0.5), bool(np.abs(values[:, 1]).max() < 1e-9)
    (True, True)
    """
    if X.ndim != 2 or X.shape[1:] != background.shape[1:] or not len(background):
        raise DataError(f"rows of shape {X.shape} cannot be explained by background rows of shape {background.shape}")
    generator = np.random.default_rng(seed)
    rows, columns = X.shape
    values = np.zeros((rows, columns))
    for _ in range(pairs):
        order = generator.permuted(np.tile(np.arange(columns), (rows, 1)), axis=1)
        start = background[generator.integers(0, len(background), rows)]
        for walk in (order, order[:, ::-1]):
            values += _walk(score, X, start, walk)
    return values / (2 * pairs)


def _walk(
    score: Score, target: npt.NDArray[np.float32], start: npt.NDArray[np.float32], order: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    place = np.arange(len(target))
    shares = np.zeros(target.shape)
    at = start.copy()
    before = log_odds(score(at))
    for step in range(target.shape[1]):
        column = order[:, step]
        at[place, column] = target[place, column]
        after = log_odds(score(at))
        shares[place, column] = after - before
        before = after
    return shares
