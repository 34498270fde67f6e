"""Calibration: from a model's score to a probability that comes true as often as it says.

Fitted on purged out-of-fold scores only, kept as plain numbers, applied with numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError
from tapeline.evaluation.metrics import equal_mass_bins

ISOTONIC_ROWS: Final = 1000
ROWS_PER_KNOT: Final = 50
MAXIMUM_KNOTS: Final = 100
_EDGE: Final = 1e-6

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A map from a raw probability to a calibrated one that never reverses the order of two rows.

    Parameters
    ----------
    kind:
        ``isotonic``: linear between knots ``(x, y)``, flat beyond them. ``platt``: ``1 / (1 + exp(-(a * logit + b)))``.
    x, y:
        The isotonic knots, both ascending; empty for Platt.
    a, b:
        Platt's slope and intercept on the log odds; slope 1 and intercept 0 for isotonic.
    """

    kind: Literal["isotonic", "platt"]
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    a: float = 1.0
    b: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("isotonic", "platt"):
            raise DataError(f"calibration kind {self.kind!r} is neither 'isotonic' nor 'platt'")
        numbers = np.array([*self.x, *self.y, self.a, self.b], dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise DataError("a calibration holds a number that is not finite")
        if self.kind == "platt" and self.a < 0:
            raise DataError(f"Platt's slope {self.a} is negative, which would reverse the model's order")
        if self.kind == "isotonic":
            x, y = np.array(self.x), np.array(self.y)
            if not x.size or x.size != y.size or (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
                raise DataError("isotonic knots must be ascending and of equal number")
            if y.min() < 0 or y.max() > 1:
                raise DataError("an isotonic knot is not a probability")

    def apply(self, probability: npt.ArrayLike) -> Array:
        """The calibrated probability of each raw one."""
        p = np.asarray(probability, dtype=np.float64)
        if self.kind == "isotonic":
            return np.interp(p, self.x, self.y)
        return sigmoid(self.a * log_odds(p) + self.b)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts; floats keep every bit through ``json``."""
        if self.kind == "isotonic":
            return {"kind": self.kind, "x": list(self.x), "y": list(self.y)}
        return {"kind": self.kind, "a": self.a, "b": self.b}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """Read :meth:`to_json`'s mapping back; DataError where it is not one."""
        try:
            return cls(
                kind=value["kind"],
                x=tuple(float(number) for number in value.get("x", ())),
                y=tuple(float(number) for number in value.get("y", ())),
                a=float(value.get("a", 1.0)),
                b=float(value.get("b", 0.0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is not a calibration: {error}") from error


def fit_calibration(
    probability: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    kind: Literal["isotonic", "platt"] | None = None,
) -> Calibration:
    """Fit on out-of-fold scores: isotonic above 1,000 rows, Platt up to there.

    Isotonic regression (Zadrozny and Elkan 2002) runs over equal-mass bins of at least 50 rows, each smoothed by one
    observation at the base rate, so that a handful of rows at the edge never yields a probability of 0 or 1. Platt's
    method (1999) uses his smoothed targets; a negative slope is refused in favour of the base rate.

    Parameters
    ----------
    probability:
        Scores of rows that their model was not trained on, in [0, 1].
    target:
        0 or 1.
    weight:
        Row weights; equal where absent.
    kind:
        To choose it by hand instead of by the number of rows.

    Raises
    ------
    DataError
        There are no rows, fewer than 50 for ``isotonic``, or a score is not a probability.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> truth = generator.uniform(size=4000)
    >>> timid = 0.5 + (truth - 0.5) / 4
    >>> calibration = fit_calibration(timid, generator.uniform(size=4000) < truth)
    >>> bool(abs(calibration.apply([0.6])[0] - 0.9) < 0.1), calibration.kind
    (True, 'isotonic')
    """
    p = np.asarray(probability, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64)
    w = np.ones(p.size) if weight is None else np.asarray(weight, dtype=np.float64)
    if not p.size or p.size != y.size or p.size != w.size or w.sum() <= 0:
        raise DataError(f"{p.size} scores, {y.size} targets and {w.size} weights make no calibration")
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("a score to calibrate is not in [0, 1]")
    if kind == "isotonic" and p.size < ROWS_PER_KNOT:
        raise DataError(
            f"{p.size} rows are below the {ROWS_PER_KNOT} that isotonic calibration needs", hint="use platt"
        )
    isotonic = p.size > ISOTONIC_ROWS if kind is None else kind == "isotonic"
    return _isotonic(p, y, w) if isotonic else _platt(p, y, w)


def _isotonic(p: Array, y: Array, w: Array) -> Calibration:
    group = equal_mass_bins(p, min(MAXIMUM_KNOTS, p.size // ROWS_PER_KNOT), w)
    mass = np.bincount(group, w)
    base = float((w * y).sum() / w.sum())
    one = w.mean()
    x = np.bincount(group, w * p) / mass
    rate = (np.bincount(group, w * y) + one * base) / (mass + one)
    value = pool_adjacent_violators(rate, mass + one)
    # Two bins of equal weight far apart may still have one mean to the last bit.
    x, first = np.unique(x, return_index=True)
    value = np.clip(value[first], _EDGE, 1 - _EDGE)
    return Calibration("isotonic", tuple(map(float, x)), tuple(map(float, value)))


def pool_adjacent_violators(value: Array, weight: Array) -> Array:
    """The ascending sequence nearest to ``value`` in weighted squares (Ayer et al. 1955).

    Examples
    --------
    >>> pool_adjacent_violators(np.array([1.0, 3.0, 2.0]), np.ones(3)).tolist()
    [1.0, 2.5, 2.5]
    """
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for mean, mass in zip(value.tolist(), weight.tolist(), strict=True):  # at most MAXIMUM_KNOTS rounds
        length = 1
        while means and means[-1] >= mean:
            mean = (means[-1] * masses[-1] + mean * mass) / (masses[-1] + mass)
            mass += masses.pop()
            length += lengths.pop()
            means.pop()
        means.append(mean)
        masses.append(mass)
        lengths.append(length)
    return np.repeat(means, lengths)


def _platt(p: Array, y: Array, w: Array) -> Calibration:
    positive, negative = float((w * y).sum()), float((w * (1 - y)).sum())
    smooth = np.where(y > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    base = float((w * smooth).sum() / w.sum())
    intercept = float(log_odds(np.array([base]))[0])
    z = log_odds(p)
    if np.ptp(z) < _EDGE:
        return Calibration("platt", a=0.0, b=intercept)
    theta = np.array([0.0, intercept])
    design = np.column_stack([z, np.ones_like(z)])
    for _ in range(100):
        fitted = sigmoid(design @ theta)
        gradient = design.T @ (w * (fitted - smooth))
        curvature = (design * (w * fitted * (1 - fitted))[:, None]).T @ design + 1e-10 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # A long Newton step over nearly separable scores would overshoot into where the curvature vanishes.
        theta = theta - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    if theta[0] <= 0:
        return Calibration("platt", a=0.0, b=intercept)
    return Calibration("platt", a=float(theta[0]), b=float(theta[1]))


def log_odds(probability: npt.ArrayLike) -> Array:
    """``ln(p / (1 - p))``, of probabilities kept a millionth away from 0 and 1.

    Examples
    --------
    >>> log_odds([0.5, 0.75]).round(4).tolist()
    [0.0, 1.0986]
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.log(p / (1 - p))


def sigmoid(z: npt.ArrayLike) -> Array:
    """``1 / (1 + exp(-z))``: log odds back to probabilities.

    Examples
    --------
    >>> sigmoid([0.0]).tolist()
    [0.5]
    """
    return 1.0 / (1.0 + np.exp(-np.asarray(z, dtype=np.float64)))
