"""Conformal sets: which of the two classes cannot be ruled out at a chosen rate of error.

A set holds class 1 where ``1 - p`` (its nonconformity) is at most a threshold, and class 0 where ``p`` is. So a row
gets one of ``{}``, ``{0}``, ``{1}`` and ``{0,1}``. Probabilities need not be calibrated; the rows that thresholds are
fitted on must not have been trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from tapeline.core.errors import ConfigurationError, DataError

Array = npt.NDArray[np.float64]
Sets = npt.NDArray[np.bool_]

KINDS: Final = ("{}", "{0}", "{1}", "{0,1}")


@dataclass(frozen=True)
class ConformalSets:
    """Fitted thresholds.

    Parameters
    ----------
    miscoverage:
        The rate at which sets may miss what happens.
    down, up:
        The greatest nonconformity with which class 0, and class 1, is in the set; infinite where too few rows were
        there to rule anything out.
    """

    miscoverage: float
    down: float
    up: float

    def sets(self, probability: npt.ArrayLike) -> Sets:
        """Whether 0 and 1 are in each row's set, shape (rows, 2)."""
        p = _probabilities(probability)
        return np.column_stack([p <= self.down, 1 - p <= self.up])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; an infinite threshold is None."""
        down, up = (value if math.isfinite(value) else None for value in (self.down, self.up))
        return {"miscoverage": self.miscoverage, "down": down, "up": up}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConformalSets:
        """Read :meth:`to_json`'s mapping back; DataError where it is not one."""
        try:
            down, up = (math.inf if value[name] is None else float(value[name]) for name in ("down", "up"))
            made = cls(float(value["miscoverage"]), down, up)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"these are no conformal thresholds: {type(error).__name__}: {error}") from error
        if math.isnan(made.down) or math.isnan(made.up) or not 0 < made.miscoverage < 1:
            raise DataError("conformal thresholds are numbers, and their miscoverage lies in (0, 1)")
        return made


def fit_conformal(
    probability: npt.ArrayLike, target: npt.ArrayLike, *, miscoverage: float = 0.1, by_class: bool = False
) -> ConformalSets:
    """Split conformal prediction: thresholds from rows that the model was not trained on.

    Where those rows and the next are exchangeable, a set misses the next row's class in at most ``miscoverage`` of the
    cases, over the draw of all rows (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World, chapter
    2). With ``by_class`` that holds for the rows of each class alone (Mondrian, section 4.5), at the price of larger
    sets: without, the rarer class may carry nearly all misses.

    Parameters
    ----------
    probability:
        Of class 1.
    target:
        0 or 1.
    miscoverage:
        In (0, 1).
    by_class:
        Whether each class has a threshold of its own.

    Raises
    ------
    ConfigurationError
        ``miscoverage`` is not in (0, 1).
    DataError
        There are no rows, a probability is not one, or a target is neither 0 nor 1.

    Examples
    --------
    >>> fitted = fit_conformal([0.1, 0.2, 0.4, 0.7, 0.8, 0.9], [0, 0, 1, 1, 1, 1], miscoverage=0.3)
    >>> set_kinds(fitted.sets([0.05, 0.5, 0.95])).tolist()
    ['{0}', '{}', '{1}']
    """
    _check_rate(miscoverage)
    p, y = _probabilities(probability), np.asarray(target, dtype=np.float64)
    if p.size != y.size or not p.size or not np.isin(y, (0.0, 1.0)).all():
        raise DataError(f"{p.size} probabilities and {y.size} classes 0 or 1 make no conformal sets")
    distance = np.where(y == 1, 1 - p, p)
    if not by_class:
        bound = _threshold(np.sort(distance), miscoverage)
        return ConformalSets(miscoverage, bound, bound)
    down, up = (_threshold(np.sort(distance[y == value]), miscoverage) for value in (0, 1))
    return ConformalSets(miscoverage, down, up)


@dataclass
class AdaptiveConformal:
    """Conformal sets whose long-run coverage holds under drift: adaptive conformal inference.

    Gibbs and Candes 2021, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 34, arXiv 2106.00170. After
    each row whose class became known, the level moves: ``level += rate * (miscoverage - missed)``. Whatever the rows
    are, the share of misses among T rows differs from ``miscoverage`` by no more than ``(1 + rate) / (rate * T)`` where
    each class is known before the next row (their proposition 4.1), and little more where it is known later. A level of
    0 or below gives ``{0,1}``, one of 1 or above ``{}``.

    Parameters
    ----------
    miscoverage:
        The rate of misses to hold.
    rate:
        How fast the level moves; greater follows drift faster and swings more.
    window:
        How many of the latest known rows the threshold is taken from.
    level:
        Where the level stands; ``miscoverage`` where absent.
    distances:
        Nonconformities of the latest known rows, the oldest first.

    Examples
    --------
    >>> state = AdaptiveConformal(miscoverage=0.2, rate=0.05)
    >>> for _ in range(20):
    ...     given = state.sets([0.7])
    ...     state.learn(0.7, 1, missed=not given[0, 1])
    >>> set_kinds(state.sets([0.7, 0.2])).tolist(), round(state.level, 2)
    (['{1}', '{0}'], 0.4)
    """

    miscoverage: float = 0.1
    rate: float = 0.01
    window: int = 500
    level: float = math.nan
    distances: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_rate(self.miscoverage)
        if not self.rate > 0 or not math.isfinite(self.rate):
            raise ConfigurationError(f"rate = {self.rate} is not above 0")
        if self.window < 1:
            raise ConfigurationError(f"window = {self.window} is below 1 row")
        if math.isnan(self.level):
            self.level = self.miscoverage

    @property
    def threshold(self) -> float:
        """The greatest nonconformity that is in a set now."""
        return _threshold(np.sort(np.array(self.distances, dtype=np.float64)), self.level)

    def sets(self, probability: npt.ArrayLike) -> Sets:
        """Whether 0 and 1 are in the set of each row that is decided now, shape (rows, 2)."""
        bound = self.threshold
        return ConformalSets(self.miscoverage, bound, bound).sets(probability)

    def learn(self, probability: float, target: int, *, missed: bool) -> None:
        """Take in that the row which had this probability turned out ``target``, and whether its set missed that."""
        self.level += self.rate * (self.miscoverage - missed)
        self.distances = [*self.distances, 1 - probability if target else probability][-self.window :]

    def to_json(self) -> dict[str, Any]:
        """The whole state as plain numbers."""
        return {
            "miscoverage": self.miscoverage,
            "rate": self.rate,
            "window": self.window,
            "level": self.level,
            "distances": list(self.distances),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read :meth:`to_json`'s mapping back; DataError where it is not one."""
        try:
            numbers = [float(number) for number in value["distances"]]
            made = cls(
                float(value["miscoverage"]), float(value["rate"]), int(value["window"]), float(value["level"]), numbers
            )
        except (KeyError, TypeError, ValueError, OverflowError, ConfigurationError) as error:
            raise DataError(f"this is no state of conformal sets: {type(error).__name__}: {error}") from error
        if not math.isfinite(made.level) or not all(0 <= number <= 1 for number in numbers):
            raise DataError("a state of conformal sets holds a finite level and nonconformities in [0, 1]")
        return made


def adaptive_sets(
    probability: npt.ArrayLike,
    target: npt.ArrayLike,
    t0: pd.DatetimeIndex,
    t_end: pd.DatetimeIndex,
    *,
    miscoverage: float = 0.1,
    rate: float = 0.01,
    window: int = 500,
) -> pd.DataFrame:
    """What :class:`AdaptiveConformal` would have said of each row at its decision, in one pass.

    A row's class is learnt from where its label ended before another row's decision, as purging has it: overlapping
    labels delay what is known.

    Parameters
    ----------
    probability, target:
        Of each row, in any order; the probabilities out of sample.
    t0, t_end:
        Decision and label end.
    miscoverage, rate, window:
        As there.

    Returns
    -------
    In the rows' order: ``down`` and ``up`` (whether 0 and 1 are in the set), ``level`` and ``threshold`` as they were.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC")
    >>> given = adaptive_sets([0.7, 0.8, 0.9, 0.1], [1, 1, 1, 1], t0, t0, miscoverage=0.5)
    >>> given[["down", "up"]].to_numpy().tolist()
    [[True, True], [False, True], [False, True], [True, False]]
    """
    AdaptiveConformal(miscoverage, rate, window)  # checks the parameters
    p, y = _probabilities(probability), np.asarray(target)
    begin, end = (pd.DatetimeIndex(times).as_unit("ns").asi8 for times in (t0, t_end))
    if not p.size == y.size == begin.size or not np.isin(y, (0, 1)).all():
        raise DataError(f"{p.size} probabilities, {y.size} classes and {begin.size} labels do not belong together")
    if begin.size != end.size or (end < begin).any():
        raise DataError("a label ends before its decision, or has no end")
    decided = np.argsort(begin, kind="stable")
    # Among labels that end together, the earlier decision is learnt first.
    learnt = decided[np.argsort(end[decided], kind="stable")]
    level, threshold = _adaptive(p, y.astype(np.int64), begin, end, decided, learnt, miscoverage, rate, window)
    return pd.DataFrame({"down": p <= threshold, "up": 1 - p <= threshold, "level": level, "threshold": threshold})


def set_kinds(sets: Sets) -> npt.NDArray[np.str_]:
    """The set of each row as text, one of ``{}``, ``{0}``, ``{1}``, ``{0,1}``.

    Examples
    --------
    >>> set_kinds(np.array([[True, False], [True, True]])).tolist()
    ['{0}', '{0,1}']
    """
    inside = np.asarray(sets, dtype=np.int64)
    return np.array(KINDS)[inside[:, 0] + 2 * inside[:, 1]]


def coverage_table(sets: Sets, target: npt.ArrayLike) -> pd.DataFrame:
    """How often sets held what happened, and how much they said.

    Returns
    -------
    Rows ``all``, ``0`` and ``1`` (the class that happened) with ``rows``, ``coverage``, and the share of each kind of
    set; a class without rows has NaN.

    Examples
    --------
    >>> coverage_table(np.array([[True, False], [True, True]]), [0, 1]).loc["all", ["coverage", "{0,1}"]].tolist()
    [1.0, 0.5]
    """
    inside, y = np.asarray(sets, dtype=bool), np.asarray(target, dtype=np.int64)
    if inside.shape != (y.size, 2):
        raise DataError(f"sets of shape {inside.shape} do not belong to {y.size} rows")
    kinds, held = set_kinds(inside), inside[np.arange(y.size), y]
    table: dict[str, dict[str, float]] = {}
    for name, rows in (("all", np.ones(y.size, dtype=bool)), ("0", y == 0), ("1", y == 1)):
        count = int(rows.sum())
        share = {kind: float((kinds[rows] == kind).mean()) if count else math.nan for kind in KINDS}
        table[name] = {"rows": count, "coverage": float(held[rows].mean()) if count else math.nan, **share}
    return pd.DataFrame.from_dict(table, orient="index")


@njit(cache=True, nogil=True)
def _threshold(ordered: Array, level: float) -> float:  # pragma: no cover - compiled
    """Of n ascending nonconformities the entry ``ceil((n + 1) * (1 - level))``, from 1 on; infinite beyond them."""
    if level <= 0:
        return np.inf
    if level >= 1:
        return -np.inf
    # A rounding residue must not ask for one entry more.
    place = int(np.ceil((ordered.size + 1) * (1 - level) - 1e-9))
    return np.inf if place > ordered.size else ordered[max(place, 1) - 1]


@njit(cache=True, nogil=True)
def _adaptive(  # pragma: no cover - compiled
    p: Array,
    y: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    decided: npt.NDArray[np.int64],
    learnt: npt.NDArray[np.int64],
    miscoverage: float,
    rate: float,
    window: int,
) -> tuple[Array, Array]:
    rows = p.size
    levels, thresholds = np.empty(rows), np.empty(rows)
    ordered, recent = np.empty(window), np.empty(window)
    size, known, level = 0, 0, miscoverage
    for row in decided:
        while known < rows and end[learnt[known]] < begin[row]:
            other = learnt[known]
            distance = 1 - p[other] if y[other] == 1 else p[other]
            level += rate * (miscoverage - (1.0 if distance > thresholds[other] else 0.0))
            slot = known % window
            if size == window:
                gone = np.searchsorted(ordered[:size], recent[slot])
                ordered[gone : size - 1] = ordered[gone + 1 : size].copy()
                size -= 1
            place = np.searchsorted(ordered[:size], distance)
            ordered[place + 1 : size + 1] = ordered[place:size].copy()
            ordered[place] = distance
            size += 1
            recent[slot] = distance
            known += 1
        levels[row] = level
        thresholds[row] = _threshold(ordered[:size], level)
    return levels, thresholds


def _probabilities(values: npt.ArrayLike) -> Array:
    p = np.asarray(values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError("conformal sets are made of probabilities in [0, 1], one a row")
    return p


def _check_rate(miscoverage: float) -> None:
    if not 0 < miscoverage < 1:
        raise ConfigurationError(f"miscoverage = {miscoverage} is not in (0, 1)")
