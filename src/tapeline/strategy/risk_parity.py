"""Weights under which every asset carries its share of a portfolio's risk."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import DataError

Floats = NDArray[np.float64]

_SWEEPS: Final = 20_000
_CLOSE: Final = 1e-13


def risk_parity_weights(covariance: Any, budgets: Any = None) -> Floats:
    """Long-only weights, summing to 1, whose risk contributions are the budgets.

    Asset i contributes ``w[i] * (covariance @ w)[i]`` to the variance. The weights minimise
    ``x' C x / 2 - sum(b * log(x))``, which has one minimum (Spinu 2013, An algorithm for computing risk parity
    weights), found by cyclical coordinate descent (Griveau-Billion, Richard and Roncalli 2013, A fast algorithm
    for computing high-dimensional risk parity portfolios) on the correlation matrix.

    Parameters
    ----------
    covariance:
        Of returns, symmetric and positive definite, shape (n, n), or (rows, n, n) for weights by row.
    budgets:
        Each asset's share of the risk, above 0; equal where absent. They are divided by their sum.

    Returns
    -------
    Shape (n,) or (rows, n); NaN in rows of which a covariance is NaN.

    Raises
    ------
    DataError
        A matrix is not square, symmetric or positive definite, or a budget is not above 0. Two assets that are one
        (or each other's opposite) have no such weights: take one out.

    Examples
    --------
    Three assets of one correlation are weighted by the inverse of their volatilities.

    >>> covariance = np.array([[0.04, 0.01, 0.02], [0.01, 0.01, 0.01], [0.02, 0.01, 0.04]])
    >>> risk_parity_weights(covariance).round(6).tolist()
    [0.25, 0.5, 0.25]
    """
    matrices = np.array(covariance, np.float64)
    if matrices.ndim not in (2, 3) or matrices.shape[-1] != matrices.shape[-2] or not matrices.shape[-1]:
        raise DataError(f"covariance of shape {matrices.shape} must be (n, n) or (rows, n, n)")
    count = matrices.shape[-1]
    shares = np.full(count, 1.0 / count) if budgets is None else np.array(budgets, np.float64)
    if shares.shape != (count,) or not (np.isfinite(shares) & (shares > 0)).all():
        raise DataError(f"budgets must be {count} numbers above 0, were {shares.tolist()}")
    stack = matrices.reshape(-1, count, count)
    known = ~np.isnan(stack).any(axis=(1, 2))
    _check_positive(stack[known])
    weights = np.full(stack.shape[:2], np.nan)
    left = np.zeros(len(stack))
    _descend(np.ascontiguousarray(stack), shares / shares.sum(), known, weights, left)
    if (left > 1e-11).any():
        row = int(left.argmax())
        raise DataError(
            f"the risk parity weights of matrix {row} did not settle: contributions are off by {left[row]:.1e}",
            hint="it is nearly singular: shrink the covariance, or take out assets that are almost one",
        )
    return weights.reshape(matrices.shape[:-1])


def risk_contributions(weights: Any, covariance: Any) -> Floats:
    """Each asset's share of the portfolio's variance; they sum to 1.

    Examples
    --------
    >>> risk_contributions([0.5, 0.5], [[0.04, 0.0], [0.0, 0.01]]).round(9).tolist()
    [0.8, 0.2]
    """
    held = np.asarray(weights, np.float64)
    parts = held * (np.asarray(covariance, np.float64) @ held[..., None])[..., 0]
    return np.asarray(parts / parts.sum(axis=-1, keepdims=True))


def _check_positive(stack: Floats) -> None:
    if not len(stack):
        return
    if not np.isfinite(stack).all():
        raise DataError("covariance holds an infinity")
    scale = np.abs(stack).max(axis=(1, 2), keepdims=True)
    if (np.abs(stack - stack.transpose(0, 2, 1)) > 1e-10 * scale).any():
        raise DataError("covariance is not symmetric")
    variances = np.diagonal(stack, axis1=1, axis2=2)
    if not (variances > 0).all():
        raise DataError(f"a variance is {variances.min()}, must be above 0")
    volatility = np.sqrt(variances)
    least = np.linalg.eigvalsh(stack / (volatility[:, :, None] * volatility[:, None, :]))[:, 0]
    if not (least > 1e-12).all():
        raise DataError(
            f"covariance is not positive definite: the least eigenvalue of its correlations is {least.min():.1e}",
            hint="use more periods than assets, or take out assets that are one",
        )


@njit(cache=True, nogil=True)
def _descend(stack: Any, budgets: Any, known: Any, weights: Any, left: Any) -> None:
    """Solve each matrix for ``x = weights * volatility``; ``left`` is how far the contributions are off at the end."""
    rows, count, _ = stack.shape
    volatility, correlation = np.empty(count), np.empty((count, count))
    for row in range(rows):
        if not known[row]:
            continue
        for i in range(count):
            volatility[i] = math.sqrt(stack[row, i, i])
        for i in range(count):
            for j in range(count):
                correlation[i, j] = stack[row, i, j] / (volatility[i] * volatility[j])
        x = np.sqrt(budgets)
        for _ in range(_SWEEPS):
            for i in range(count):
                others = 0.0
                for j in range(count):
                    if j != i:
                        others += correlation[i, j] * x[j]
                # The root above 0 of x^2 + others x - budget, without the difference of two near numbers.
                root = math.sqrt(others * others + 4.0 * budgets[i])
                x[i] = (root - others) / 2.0 if others <= 0.0 else 2.0 * budgets[i] / (root + others)
            worst = 0.0
            for i in range(count):
                pulled = 0.0
                for j in range(count):
                    pulled += correlation[i, j] * x[j]
                worst = max(worst, abs(x[i] * pulled / budgets[i] - 1.0))
            left[row] = worst
            if worst <= _CLOSE:
                break
        total = 0.0
        for i in range(count):
            weights[row, i] = x[i] / volatility[i]
            total += weights[row, i]
        for i in range(count):
            weights[row, i] /= total
