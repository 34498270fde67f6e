"""Venn-Abers calibration: two probabilities for each score, one of which is perfectly calibrated.

The inductive Venn-Abers predictor of Vovk, Petej and Fedorova (2015), "Large-scale probabilistic predictors with and
without guarantees of validity", NeurIPS 28, arXiv 1511.00213. Isotonic regression is run twice for each score, once as
if its row were a 0 and once as if it were a 1; what the two give there are ``p0 <= p1``. Where rows are exchangeable,
the one that belongs to what happens is calibrated, however few rows there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tapeline.core.errors import DataError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VennAbers:
    """The fitted predictor, as two step functions of the score.

    Parameters
    ----------
    low_score, low:
        ``p0`` of a score is the entry of ``low`` at the greatest ``low_score`` that is not above it; 0 below all.
    high_score, high:
        ``p1`` of a score is the entry of ``high`` at the smallest ``high_score`` that is not below it; 1 above all.
    """

    low_score: tuple[float, ...]
    low: tuple[float, ...]
    high_score: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        for score, value in ((self.low_score, self.low), (self.high_score, self.high)):
            s, v = np.array(score, dtype=np.float64), np.array(value, dtype=np.float64)
            if not s.size or s.size != v.size or not np.isfinite(s).all() or (np.diff(s) <= 0).any():
                raise DataError("the scores of a Venn-Abers predictor must be finite, rising and one a value")
            if not ((v >= 0) & (v <= 1)).all() or (np.diff(v) < 0).any():
                raise DataError("the values of a Venn-Abers predictor must be probabilities that do not fall")

    def interval(self, score: npt.ArrayLike) -> tuple[Array, Array]:
        """``(p0, p1)`` of each score; NaN for NaN."""
        s = np.asarray(score, dtype=np.float64)
        low = np.array([0.0, *self.low])[np.searchsorted(self.low_score, s, side="right")]
        high = np.array([*self.high, 1.0])[np.searchsorted(self.high_score, s, side="left")]
        unknown = np.isnan(s)
        return np.where(unknown, np.nan, np.minimum(low, high)), np.where(unknown, np.nan, high)

    def apply(self, score: npt.ArrayLike) -> Array:
        """One probability of each score, ``p1 / (1 - p0 + p1)``.

        It keeps the greatest possible regret of the log loss smallest (Vovk et al. 2015, section 4).
        """
        low, high = self.interval(score)
        return high / (1 - low + high)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; floats keep every bit through ``json``."""
        return {name: list(getattr(self, name)) for name in ("low_score", "low", "high_score", "high")}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> VennAbers:
        """Read :meth:`to_json`'s mapping back; DataError where it is not one."""
        try:
            return cls(*(tuple(map(float, value[name])) for name in ("low_score", "low", "high_score", "high")))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"this is no Venn-Abers predictor: {type(error).__name__}: {error}") from error


def fit_venn_abers(score: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> VennAbers:
    """Fit on rows that the model which made the scores was not trained on, in O(n log n).

    Parameters
    ----------
    score:
        Any finite score that grows with the chance of 1.
    target:
        0 or 1.
    weight:
        Row weights; the row to be judged has their mean. With weights that differ the theorem on validity does not
        hold any more; it does not for dependent rows either.

    Raises
    ------
    DataError
        There are no rows with weight, a score is not finite, or a target is neither 0 nor 1.

    Examples
    --------
    >>> fitted = fit_venn_abers([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1])
    >>> [bound.round(3).tolist() for bound in fitted.interval([0.25, 0.5])]
    [[0.333, 0.5], [0.667, 1.0]]
    """
    s, y = np.asarray(score, dtype=np.float64), np.asarray(target, dtype=np.float64)
    w = np.ones(s.size) if weight is None else np.asarray(weight, dtype=np.float64)
    if not s.size == y.size == w.size or not s.size:
        raise DataError(f"{s.size} scores, {y.size} targets and {w.size} weights make no calibration")
    if not np.isfinite(s).all() or not np.isin(y, (0.0, 1.0)).all():
        raise DataError("a score to calibrate is not finite, or a target is neither 0 nor 1")
    if not (w >= 0).all() or not np.isfinite(w).all() or not w.sum() > 0:
        raise DataError("a weight is negative or not finite, or all are 0")
    s, y, w = s[w > 0], y[w > 0], w[w > 0]
    distinct, place = np.unique(s, return_inverse=True)
    mass: Array = np.bincount(place, w).astype(np.float64)
    ones: Array = np.bincount(place, w * y).astype(np.float64)
    judged = float(w.mean())
    high = _as_one(mass, ones, judged)
    # With classes and order turned round, a row judged as 0 becomes one judged as 1.
    low = 1.0 - _as_one(mass[::-1].copy(), (mass - ones)[::-1].copy(), judged)[::-1]
    high, low = np.maximum.accumulate(np.clip(high, 0, 1)), np.maximum.accumulate(np.clip(low, 0, 1))
    begins = np.r_[True, np.diff(low) > 0]
    ends = np.r_[np.diff(high) > 0, True]
    return VennAbers(
        tuple(distinct[begins].tolist()),
        tuple(low[begins].tolist()),
        tuple(distinct[ends].tolist()),
        tuple(high[ends].tolist()),
    )


@njit(cache=True, nogil=True)
def _as_one(mass: Array, ones: Array, judged: float) -> Array:  # pragma: no cover - compiled
    """Isotonic regression's value at each distinct score, when a row of weight ``judged`` and class 1 joins it there.

    The value is the slope of the greatest convex minorant of the cumulative sums (algorithms 1 and 2 of the paper). A
    row that joins score i shifts all sums from i on by (judged, judged), which is the same as to shift those before i
    back and to put one more point before the first. Going from left to right, one point moves a step, and the minorant
    to its right is repaired.
    """
    count = mass.size
    # Point k is at place k + 1; place 0 is the point before the first.
    x, y = np.zeros(count + 2), np.zeros(count + 2)
    x[0], y[0] = -judged, -judged
    for i in range(count):
        x[i + 2], y[i + 2] = x[i + 1] + mass[i], y[i + 1] + ones[i]
    right = np.empty(count + 2, dtype=np.int64)
    right[0], right[1] = 0, 1
    size = 2
    for i in range(2, count + 2):
        while size > 1 and _not_left(x, y, right[size - 2], right[size - 1], i):
            size -= 1
        right[size] = i
        size += 1
    # The same corners with the leftmost on top.
    stack = right[:size][::-1].copy()
    room = np.empty(count + 2, dtype=np.int64)
    room[:size] = stack
    value = np.empty(count)
    for i in range(2, count + 2):
        top, after = room[size - 1], room[size - 2]
        value[i - 2] = (y[after] - y[top]) / (x[after] - x[top])
        x[i - 1] = x[i - 2] + x[i] - x[i - 1]
        y[i - 1] = y[i - 2] + y[i] - y[i - 1]
        if (x[after] - x[top]) * (y[i - 1] - y[top]) >= (y[after] - y[top]) * (x[i - 1] - x[top]):
            continue
        size -= 1
        while size > 1 and _not_left(x, y, i - 1, room[size - 1], room[size - 2]):
            size -= 1
        room[size] = i - 1
        size += 1
    return value


@njit(cache=True, nogil=True)
def _not_left(x: Array, y: Array, a: int, b: int, c: int) -> bool:  # pragma: no cover - compiled
    """Whether the way from a over b to c does not turn left."""
    return (x[b] - x[a]) * (y[c] - y[b]) - (y[b] - y[a]) * (x[c] - x[b]) <= 0
