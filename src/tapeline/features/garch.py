"""GARCH(1,1) with the long-run variance given by the sample: fitted in microseconds a row, forecast one bar ahead.

Bollerslev, Journal of Econometrics 31 (1986); variance targeting: Engle and Mezrich, Risk 9 (1996). The package
``arch`` has the general models; its recursion and its first value (back-cast) are used here too, so that one can be
held against the other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.features.arrays import STILL, Floats

_STEPS: Final = 40


@njit(cache=True, nogil=True)
def garch_variances(returns: Floats, omega: float, alpha: float, beta: float, first: float) -> Floats:
    """Variance of each return given those before it, and of the one after the last: ``n + 1`` values.

    ``variance[t] = omega + alpha * returns[t - 1] ** 2 + beta * variance[t - 1]``; before the first return both stand
    at ``first``.

    Examples
    --------
    >>> garch_variances(np.array([1.0, 2.0]), 0.1, 0.2, 0.5, 1.0).round(3).tolist()
    [0.8, 0.7, 1.25]
    """
    result = np.empty(returns.size + 1)
    square, variance = first, first
    for i in range(returns.size + 1):
        variance = omega + alpha * square + beta * variance
        result[i] = variance
        if i < returns.size:
            square = returns[i] * returns[i]
    return result


@njit(cache=True, nogil=True)
def backcast(returns: Floats) -> float:
    """The variance before the first return: the first 75 squares, weighted by 0.94 to their age.

    Examples
    --------
    >>> backcast(np.array([1.0, 1.0]))
    1.0
    """
    total, weights, weight = 0.0, 0.0, 1.0
    for i in range(min(75, returns.size)):
        total += weight * returns[i] * returns[i]
        weights += weight
        weight *= 0.94
    return total / weights


@njit(cache=True, nogil=True)
def targeted_loss(returns: Floats, alpha: float, beta: float, variance: float, first: float) -> float:
    """Twice the negative Gaussian log likelihood, less its constant; infinite outside the stationary region.

    ``omega`` is ``variance * (1 - alpha - beta)``, so that the model's long-run variance is ``variance``.

    Examples
    --------
    >>> targeted_loss(np.array([1.0, -1.0]), 0.0, 0.0, 1.0, 1.0)
    2.0
    """
    if not (alpha >= 0.0 and beta >= 0.0 and alpha + beta < 0.9999):
        return np.inf
    omega = variance * (1.0 - alpha - beta)
    loss, product, square, now = 0.0, 1.0, first, first
    for i in range(returns.size):
        now = omega + alpha * square + beta * now
        square = returns[i] * returns[i]
        loss += square / now
        product *= now / variance
        # One logarithm for eight factors: each lies between about 1e-4 and 1e8, so the product cannot overflow.
        if i % 8 == 7:
            loss += np.log(product)
            product = 1.0
    return loss + np.log(product) + returns.size * np.log(variance)


@njit(cache=True, nogil=True)
def fit_garch(returns: Floats) -> tuple[float, float, float, float]:
    """The most likely GARCH(1,1) whose long-run variance is the mean square of the returns.

    The best point of a grid starts a simplex search (Nelder and Mead 1965) of a fixed number of steps: the same
    returns give the same bits.

    Parameters
    ----------
    returns:
        Finite, of mean near 0; 100 at least make sense.

    Returns
    -------
    ``(omega, alpha, beta, first)``, as :func:`garch_variances` takes them; NaN where nothing moved.

    Examples
    --------
    >>> quiet = np.tile([1.0, -1.0], 200)
    >>> omega, alpha, beta, _ = fit_garch(quiet)
    >>> round(omega / (1 - alpha - beta), 6)
    1.0
    """
    total = 0.0
    for value in returns:
        total += value * value
    variance = total / max(returns.size, 1)
    if not np.sqrt(variance) > STILL:
        return np.nan, np.nan, np.nan, np.nan
    first = backcast(returns)
    best_alpha, best_beta, best = 0.05, 0.9, np.inf
    for alpha in (0.01, 0.05, 0.1, 0.2):
        for persistence in (0.5, 0.7, 0.9, 0.98):
            loss = targeted_loss(returns, alpha, persistence - alpha, variance, first)
            if loss < best:
                best_alpha, best_beta, best = alpha, persistence - alpha, loss
    corner = np.empty((3, 2))
    losses = np.empty(3)
    corner[0, 0], corner[0, 1] = best_alpha, best_beta
    corner[1, 0], corner[1, 1] = best_alpha * 0.6, best_beta
    corner[2, 0], corner[2, 1] = best_alpha, best_beta * 0.95
    for k in range(3):
        losses[k] = targeted_loss(returns, corner[k, 0], corner[k, 1], variance, first)
    for _ in range(_STEPS):
        _simplex_step(returns, corner, losses, variance, first)
    low = np.argmin(losses)
    alpha, beta = corner[low, 0], corner[low, 1]
    return variance * (1.0 - alpha - beta), alpha, beta, first


@njit(cache=True, nogil=True)
def _simplex_step(returns: Floats, corner: Floats, losses: Floats, variance: float, first: float) -> None:
    low, high = np.argmin(losses), np.argmax(losses)
    if low == high:
        return
    middle = 3 - low - high
    centre_a, centre_b = 0.5 * (corner[low, 0] + corner[middle, 0]), 0.5 * (corner[low, 1] + corner[middle, 1])
    step_a, step_b = centre_a - corner[high, 0], centre_b - corner[high, 1]
    reflected = targeted_loss(returns, centre_a + step_a, centre_b + step_b, variance, first)
    factor, found = 1.0, reflected
    if reflected < losses[low]:
        expanded = targeted_loss(returns, centre_a + 2.0 * step_a, centre_b + 2.0 * step_b, variance, first)
        if expanded < reflected:
            factor, found = 2.0, expanded
    elif not reflected < losses[middle]:
        factor = 0.5 if reflected < losses[high] else -0.5
        found = targeted_loss(returns, centre_a + factor * step_a, centre_b + factor * step_b, variance, first)
        if not found < min(reflected, losses[high]):
            for k in range(3):
                if k != low:
                    corner[k, 0] = 0.5 * (corner[k, 0] + corner[low, 0])
                    corner[k, 1] = 0.5 * (corner[k, 1] + corner[low, 1])
                    losses[k] = targeted_loss(returns, corner[k, 0], corner[k, 1], variance, first)
            return
    corner[high, 0], corner[high, 1], losses[high] = centre_a + factor * step_a, centre_b + factor * step_b, found


@njit(cache=True, nogil=True)
def garch_over_time(returns: Floats, spans: NDArray[np.int64], window: int, shares: Floats) -> tuple[Floats, Floats]:
    """Forecast of each next bar's volatility under the model of the past, and its level among that window's own.

    Parameters
    ----------
    spans:
        For each fit the first row it serves and the row after the last, as
        :func:`tapeline.features.refit_clock.fit_spans` gives them; it is fitted on the ``window`` rows before.
    shares:
        Rising shares: the level is how many of these quantiles of the window's own variances lie below the forecast.

    Returns
    -------
    The forecast over the root mean square of the window, and the level; NaN where no model is, or where the window
    holds a NaN or no movement.

    Examples
    --------
    >>> noise = np.sin(np.arange(60.0) ** 2)
    >>> relative, level = garch_over_time(noise, np.array([[50, 60]]), 50, np.array([0.5]))
    >>> bool(np.isnan(relative[49])), bool(0.5 < relative[59] < 2.0), set(level[50:]) <= {0.0, 1.0}
    (True, True, True)
    """
    relative, level = np.full(returns.size, np.nan), np.full(returns.size, np.nan)
    for k in range(spans.shape[0]):
        row, end = spans[k, 0], spans[k, 1]
        past = returns[row - window : row]
        if not np.isfinite(past).all():
            continue
        omega, alpha, beta, first = fit_garch(past)
        if np.isnan(omega):
            continue
        variances = garch_variances(returns[row - window : end], omega, alpha, beta, first)
        borders = np.quantile(variances[:window], shares)
        usual = omega / (1.0 - alpha - beta)
        for i in range(row, end):
            now = variances[window + i - row + 1]
            relative[i] = np.sqrt(now / usual)
            level[i] = 0.0
            for border in borders:
                if now > border:
                    level[i] += 1.0
    return relative, level
