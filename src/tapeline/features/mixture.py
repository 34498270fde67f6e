"""Gaussian mixtures with diagonal covariances: fitted on the past, then asked one observation at a time.

Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from tapeline.core.errors import DataError
from tapeline.features.arrays import Floats
from tapeline.features.hidden_markov import Labels

SMALLEST_VARIANCE: Final = 1e-4
"""Added to each variance, so that no part closes in on a single observation."""


@dataclass(frozen=True)
class GaussianMixture:
    """A fitted mixture of ``k`` parts over observations of ``d`` numbers.

    Parameters
    ----------
    weights:
        Share of each part, ``(k,)``.
    means, variances:
        Of each part, ``(k, d)``; the numbers of one observation are independent within a part.
    """

    weights: Floats
    means: Floats
    variances: Floats

    def responsibilities(self, observations: Floats) -> Floats:
        """Probability of each part given one observation alone, ``(n, k)``; NaN where it holds a NaN."""
        return responsibilities(observations, self.weights, self.means, self.variances)

    def ordered(self, order: Labels) -> GaussianMixture:
        """The same mixture with its parts in another order."""
        return GaussianMixture(self.weights[order], self.means[order], self.variances[order])


def fit_mixture(observations: Floats, labels: Labels, parts: int, iterations: int = 20) -> GaussianMixture:
    """Fit by expectation and maximisation, from the parts that ``labels`` names. Deterministic: no random start.

    Parameters
    ----------
    observations:
        ``(n, d)``, finite, of a scale near 1.
    labels:
        A first guess of each observation's part, 0 to ``parts - 1``.

    Raises
    ------
    DataError
        Lengths differ, an observation is not finite, or there are fewer than ten a part.

    Examples
    --------
    >>> values = np.array([[-1.0], [-1.1], [-0.9], [1.0], [1.1], [0.9]] * 4)
    >>> model = fit_mixture(values, (values[:, 0] > 0).astype(np.int64), 2)
    >>> model.means.round(3).tolist(), model.weights.round(3).tolist()
    ([[-1.0], [1.0]], [0.5, 0.5])
    """
    if len(observations) != len(labels):
        raise DataError(f"{len(observations)} observations have {len(labels)} labels")
    if len(observations) < 10 * parts:
        raise DataError(f"{len(observations)} observations are too few for {parts} parts", hint="ten a part at least")
    if not np.isfinite(observations).all():
        raise DataError("an observation is not finite", hint="leave such rows out of the fit")
    shares = np.zeros((len(observations), parts))
    shares[np.arange(len(observations)), labels] = 1.0
    weights, means, variances = _maximise(np.ascontiguousarray(observations, dtype=np.float64), shares)
    for _ in range(iterations):
        shares = responsibilities(observations, weights, means, variances)
        weights, means, variances = _maximise(observations, shares)
    return GaussianMixture(weights, means, variances)


@njit(cache=True, nogil=True)
def responsibilities(observations: Floats, weights: Floats, means: Floats, variances: Floats) -> Floats:
    """Probability of each part given each observation, ``(n, k)``, each row adding up to 1.

    Examples
    --------
    >>> apart = np.array([[0.0], [5.0]])
    >>> responsibilities(apart, np.array([0.5, 0.5]), apart, np.ones((2, 1))).round(4)
    array([[1., 0.],
           [0., 1.]])
    """
    rows, parts, numbers = observations.shape[0], weights.size, observations.shape[1]
    constants = np.empty(parts)
    for j in range(parts):
        constants[j] = np.log(max(weights[j], 1e-300))
        for d in range(numbers):
            constants[j] -= 0.5 * np.log(2.0 * np.pi * variances[j, d])
    result = np.empty((rows, parts))
    for i in range(rows):
        best = -np.inf
        for j in range(parts):
            value = constants[j]
            for d in range(numbers):
                away = observations[i, d] - means[j, d]
                value -= 0.5 * away * away / variances[j, d]
            result[i, j] = value
            best = max(best, value)
        total = 0.0
        for j in range(parts):
            result[i, j] = np.exp(result[i, j] - best)
            total += result[i, j]
        for j in range(parts):
            result[i, j] /= total
    return result


@njit(cache=True, nogil=True)
def _maximise(observations: Floats, shares: Floats) -> tuple[Floats, Floats, Floats]:
    rows, parts, numbers = observations.shape[0], shares.shape[1], observations.shape[1]
    weights, means, variances = np.zeros(parts), np.zeros((parts, numbers)), np.zeros((parts, numbers))
    for i in range(rows):
        for j in range(parts):
            weights[j] += shares[i, j]
            for d in range(numbers):
                means[j, d] += shares[i, j] * observations[i, d]
    for j in range(parts):
        # A part that lost everything stays where it can find something again: at the origin, with a little weight.
        weights[j] += 1e-12
        for d in range(numbers):
            means[j, d] /= weights[j]
    for i in range(rows):
        for j in range(parts):
            for d in range(numbers):
                away = observations[i, d] - means[j, d]
                variances[j, d] += shares[i, j] * away * away
    for j in range(parts):
        for d in range(numbers):
            variances[j, d] = variances[j, d] / weights[j] + SMALLEST_VARIANCE
        weights[j] /= rows
    return weights, means, variances
