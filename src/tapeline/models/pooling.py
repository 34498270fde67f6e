"""Pooling: from the probabilities of several members to one, by weights learnt on rows that no member was trained on.

Two forms (Genest and Zidek 1986, Statistical Science 1, p. 114): the linear pool is a weighted mean of probabilities,
the logarithmic one a weighted sum of log odds with an intercept, which is a logistic regression on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.calibration import log_odds, sigmoid

Array = npt.NDArray[np.float64]

Form = Literal["linear", "votes", "logarithmic"]

_SMALLEST: Final = 1e-12


@dataclass(frozen=True)
class Pool:
    """A fitted combination of members, as plain numbers.

    Parameters
    ----------
    form:
        ``linear``: the weighted mean of probabilities. ``votes``: the weighted share of members above 0.5, one at 0.5
        counting half. ``logarithmic``: ``sigmoid(intercept + sum of weight * log odds)``.
    weights:
        One a member. Of ``linear`` and ``votes`` none is negative and their sum is 1.
    intercept:
        Of ``logarithmic``; 0 for the others.

    Examples
    --------
    >>> Pool("linear", (0.5, 0.5)).apply([[0.2, 0.6]]).tolist()
    [0.4]
    >>> Pool("logarithmic", (0.5, 0.5)).apply([[0.75, 0.75]]).round(4).tolist()
    [0.75]
    """

    form: Form
    weights: tuple[float, ...]
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in ("linear", "votes", "logarithmic"):
            raise DataError(f"no pool has the form {self.form!r}", hint="linear, votes or logarithmic")
        numbers = np.array([*self.weights, self.intercept], dtype=np.float64)
        if not self.weights or not np.isfinite(numbers).all():
            raise DataError("a pool holds no weight, or a number that is not finite")
        if self.form != "logarithmic" and (min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6):
            raise DataError(f"the weights {self.weights} of a {self.form} pool are negative or do not sum to 1")

    def apply(self, probability: npt.ArrayLike) -> Array:
        """The pooled probability of each row, from shape (rows, members); the same for a row alone and among others."""
        p = np.asarray(probability, dtype=np.float64)
        if p.ndim != 2 or p.shape[1] != len(self.weights):
            raise DataError(f"a pool of {len(self.weights)} members cannot take probabilities of shape {p.shape}")
        weight = np.array(self.weights)
        # Not a matrix product, whose last bits may depend on how many rows there are.
        if self.form == "logarithmic":
            return sigmoid(self.intercept + (log_odds(p) * weight).sum(axis=1))
        votes = p if self.form == "linear" else (np.sign(p - 0.5) + 1) / 2
        return np.clip((votes * weight).sum(axis=1), 0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts; floats keep every bit through ``json``."""
        return {"form": self.form, "weights": list(self.weights), "intercept": self.intercept}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pool:
        """Read :meth:`to_json`'s mapping back; DataError where it is not one."""
        try:
            return cls(value["form"], tuple(map(float, value["weights"])), float(value["intercept"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"this is not a pool of members: {type(error).__name__}: {error}") from error


def fit_linear_pool(
    probability: Array,
    target: npt.NDArray[Any],
    weight: Array,
    *,
    prior: Array | None = None,
    prior_rows: float = 1.0,
) -> Array:
    """Weights of a linear pool that minimise its log loss: none negative, their sum 1.

    Minimises ``-sum(w_i ln q_i) - prior_rows * sum(prior_k ln v_k)`` over the simplex, where ``q_i`` is the pooled
    probability of what happened in row i and ``v`` the weights: the posterior mode of a mixture's proportions, for
    which ``prior_rows`` rows speak for ``prior`` before any data does. The problem is convex; SLSQP solves it with its
    gradient.

    Parameters
    ----------
    probability:
        Shape (rows, members), each made by a member that had not been trained on that row.
    target, weight:
        0 or 1, and how many independent observations a row counts for.
    prior:
        Proportions to shrink towards; equal ones where absent.
    prior_rows:
        How many rows they are worth; 0 does not shrink.

    Returns
    -------
    Shape (members,).

    Raises
    ------
    DataError
        No row has weight, or the optimiser fails.

    Examples
    --------
    >>> says = np.column_stack([np.tile([0.9, 0.1], 50), np.full(100, 0.5)])
    >>> fit_linear_pool(says, np.tile([1.0, 0.0], 50), np.ones(100), prior_rows=0.0).round(3).tolist()
    [1.0, 0.0]
    """
    from scipy.optimize import minimize

    members = probability.shape[1]
    centre = np.full(members, 1 / members) if prior is None else np.asarray(prior, dtype=np.float64)
    total = float(weight.sum()) + prior_rows
    if not total > 0:
        raise DataError("no row has weight to learn pooling weights from")
    if members == 1:
        return np.ones(1)
    likelihood = np.clip(np.where(target[:, None] > 0.5, probability, 1 - probability), _SMALLEST, 1.0)

    def loss(share: Array) -> tuple[float, Array]:
        inside = np.maximum(share, _SMALLEST)
        pooled = np.maximum(likelihood @ inside, _SMALLEST)
        value = -(weight @ np.log(pooled)) - prior_rows * (centre @ np.log(inside))
        gradient = -(likelihood.T @ (weight / pooled)) - prior_rows * centre / inside
        return value / total, gradient / total

    start = 0.5 * centre + 0.5 / members
    found = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda share: share.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    # The line search may end for want of precision next to the optimum: judge by value, not by the flag.
    if not np.isfinite(found.x).all() or loss(found.x)[0] > loss(start)[0]:
        raise DataError(f"the pooling weights were not found: {found.message}")
    share = np.clip(found.x, 0.0, 1.0)
    return share / share.sum()


def fit_logarithmic_pool(
    evidence: Array,
    target: npt.NDArray[Any],
    weight: Array,
    *,
    ridge: float = 1.0,
    non_negative: bool = True,
) -> tuple[Array, float]:
    """Coefficients and intercept of a logistic regression on log odds, shrunk towards 0, which says the base rate.

    Minimises ``sum(w_i * log loss_i) + ridge / 2 * sum(coefficient ** 2)``; the intercept is free. Members that say
    the same share one coefficient's worth of evidence, for they are fitted jointly.

    Parameters
    ----------
    evidence:
        Log odds, shape (rows, members).
    target, weight:
        0 or 1, and how many independent observations a row counts for.
    ridge:
        Strength of the penalty, at least 0; at 0 members that say the same have no unique coefficients.
    non_negative:
        Whether a coefficient may not turn a member's opinion round.

    Returns
    -------
    (coefficients of shape (members,), intercept)

    Raises
    ------
    ConfigurationError
        ``ridge`` is negative.
    DataError
        No row has weight, or only one class has.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> truth = generator.normal(size=4000)
    >>> happened = (generator.uniform(size=4000) < sigmoid(truth)).astype(float)
    >>> slope, intercept = fit_logarithmic_pool(0.5 * truth[:, None], happened, np.ones(4000))
    >>> bool(abs(slope[0] - 2) < 0.2)
    True
    """
    from scipy.optimize import minimize

    if not ridge >= 0:
        raise ConfigurationError(f"ridge = {ridge} is below 0")
    ones, zeros = float(weight[target > 0.5].sum()), float(weight[target <= 0.5].sum())
    if not (ones > 0 and zeros > 0):
        raise DataError("pooling weights need rows of both classes with weight")
    members = evidence.shape[1]
    design = np.column_stack([evidence, np.ones(len(evidence))])
    total = float(weight.sum())

    def loss(theta: Array) -> tuple[float, Array]:
        z = design @ theta
        value = weight @ (np.logaddexp(0.0, z) - target * z) + ridge / 2 * (theta[:-1] @ theta[:-1])
        gradient = design.T @ (weight * (sigmoid(z) - target))
        gradient[:-1] += ridge * theta[:-1]
        return float(value) / total, gradient / total

    start = np.zeros(members + 1)
    start[-1] = np.log(ones / zeros)
    bounds = [(0.0 if non_negative else None, None)] * members + [(None, None)]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    )
    return np.asarray(found.x[:-1], dtype=np.float64), float(found.x[-1])
