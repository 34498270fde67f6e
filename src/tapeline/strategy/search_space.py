"""Which sets of parameters a search tries: all of a grid, or some drawn at random or by what earlier ones earned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError

Sampler = Literal["grid", "random", "tpe"]
Allowed = Callable[[Mapping[str, Any]], bool]
MAXIMUM_SETS: Final = 100_000
_ATTEMPTS: Final = 50


@dataclass(frozen=True)
class ParameterRange:
    """Numbers from ``low`` to ``high``, both possible: whole ones where both bounds are, on a log scale if asked.

    Examples
    --------
    >>> ParameterRange(5, 200, log=True).whole, ParameterRange(0.5, 3.0, step=0.25).whole
    (True, False)
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigurationError(f"a range from {self.low} to {self.high} is empty or infinite")
        if self.step is not None and (not self.step > 0 or self.log):
            raise ConfigurationError(f"step = {self.step} must be above 0, and a range has a step or a log scale")
        if self.log and not self.low > 0:
            raise ConfigurationError(f"a range from {self.low} has no log scale", hint="begin above 0")

    @property
    def whole(self) -> bool:
        """Whether the parameter is a whole number."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)


Space = Mapping[str, Sequence[Any] | ParameterRange]


def grid_sets(space: Space, allowed: Allowed | None = None) -> list[dict[str, Any]]:
    """Every combination of the values that is allowed, the last parameter moving fastest.

    Raises
    ------
    ConfigurationError
        A parameter is a range or has no values, or there are more than 100,000 combinations.

    Examples
    --------
    >>> grid_sets({"fast": [5, 10], "slow": [10, 20]}, lambda one: one["fast"] < one["slow"])
    [{'fast': 5, 'slow': 10}, {'fast': 5, 'slow': 20}, {'fast': 10, 'slow': 20}]
    """
    for name, values in space.items():
        if isinstance(values, ParameterRange):
            raise ConfigurationError(f"parameter {name!r} is a range", hint="a grid needs values; or draw at random")
    axes = {
        name: list(dict.fromkeys(values)) for name, values in space.items() if not isinstance(values, ParameterRange)
    }
    size = math.prod(len(values) for values in axes.values())
    if not axes or not size:
        raise ConfigurationError("a search needs at least one parameter, and each at least one value")
    if size > MAXIMUM_SETS:
        raise ConfigurationError(f"the grid has {size} sets, more than {MAXIMUM_SETS}", hint="draw some at random")
    sets = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
    return [one for one in sets if allowed is None or allowed(one)]


class ParameterDraws:
    """Distinct parameter sets, block by block.

    Parameters
    ----------
    space:
        By name, the values or the :class:`ParameterRange` of a parameter.
    sampler:
        ``grid``: all combinations. ``random``: independent draws. ``tpe``: a tree-structured Parzen estimator (Bergstra
        et al. 2011) that is told what the blocks before were worth.
    trials:
        How many sets, for ``random`` and ``tpe``; fewer where the space has no more.
    seed:
        Of the draws.
    allowed:
        Says which sets make sense, such as a fast window shorter than the slow one. Others are not tried.

    Examples
    --------
    >>> draws = ParameterDraws({"window": ParameterRange(5, 50)}, "random", trials=3, seed=1)
    >>> sorted(one["window"] for one in draws.block(10)), draws.block(10)
    ([5, 24, 38], [])
    """

    def __init__(
        self,
        space: Space,
        sampler: Sampler = "grid",
        *,
        trials: int | None = None,
        seed: int = 0,
        allowed: Allowed | None = None,
    ) -> None:
        self._allowed = allowed
        self._sampler = sampler
        self._pending: list[Any] = []
        self._seen: set[tuple[Any, ...]] = set()
        if sampler == "grid":
            self._sets = grid_sets(space, allowed)
            if trials is not None and trials < len(self._sets):
                raise ConfigurationError(
                    f"the grid has {len(self._sets)} sets, trials = {trials}", hint="draw at random"
                )
            self.count = len(self._sets)
            if not self.count:
                raise ConfigurationError("no set of the grid is allowed")
        else:
            if trials is None or not 1 <= trials <= MAXIMUM_SETS:
                raise ConfigurationError(f"trials = {trials} is not within 1 and {MAXIMUM_SETS}")
            self.count = trials
            self._study, self._distributions = _study(space, sampler, seed)
            self._attempts = _ATTEMPTS * trials

    def block(self, size: int) -> list[dict[str, Any]]:
        """The next sets, at most ``size``; none where all are drawn."""
        if self._sampler == "grid":
            taken, self._sets = self._sets[:size], self._sets[size:]
            return taken
        found: list[dict[str, Any]] = []
        while len(found) < size and len(self._seen) < self.count and self._attempts > 0:
            self._attempts -= 1
            trial = self._study.ask(self._distributions)
            one = dict(trial.params)
            key = tuple(one.values())
            if key in self._seen or (self._allowed is not None and not self._allowed(one)):
                self._fail(trial)
                continue
            self._seen.add(key)
            self._pending.append(trial)
            found.append(one)
        return found

    def tell(self, values: Iterable[float]) -> None:
        """What the sets of the last block were worth: more is better; not a number counts as failed."""
        if self._sampler != "grid":
            for trial, value in zip(self._pending, values, strict=True):
                if math.isfinite(value):
                    self._study.tell(trial, value)
                else:
                    self._fail(trial)
            self._pending = []

    def _fail(self, trial: Any) -> None:
        from optuna.trial import TrialState

        self._study.tell(trial, state=TrialState.FAIL)


def neighbours(sets: Sequence[Mapping[str, Any]], which: int) -> NDArray[np.intp]:
    """Rows of the sets that lie around one.

    Each parameter's distinct values are ranked; a value that is no number is one step from every other. Neighbours are
    the sets one step away in one parameter. Where there are none, as among sets drawn from ranges, they are the nearest
    ones, two a parameter, by the sum of the differences of ranks (each rank as a share of its parameter's).

    Examples
    --------
    >>> sets = grid_sets({"fast": [5, 10, 15], "slow": [20, 40]})
    >>> [sets[row] for row in neighbours(sets, 0)]
    [{'fast': 5, 'slow': 40}, {'fast': 10, 'slow': 20}]
    """
    steps = np.zeros(len(sets))
    shares = np.zeros(len(sets))
    for name in sets[which]:
        values = [one[name] for one in sets]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            distinct, rank = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)
            apart = np.abs(rank - rank[which]).astype(np.float64)
            shares += apart / max(len(distinct) - 1, 1)
        else:
            apart = np.array([float(value != values[which]) for value in values])
            shares += apart
        steps += apart
    near = np.flatnonzero(steps == 1.0)
    if near.size:
        return near
    order = np.argsort(shares, kind="stable")
    return np.sort(order[order != which][: 2 * len(sets[which])])


def _study(space: Space, sampler: Sampler, seed: int) -> tuple[Any, dict[str, Any]]:
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {}
    for name, values in space.items():
        if not isinstance(values, ParameterRange):
            if not len(values):
                raise ConfigurationError(f"parameter {name!r} has no values")
            distributions[name] = CategoricalDistribution(list(dict.fromkeys(values)))
        elif values.whole:
            step = int(values.step or 1)
            distributions[name] = IntDistribution(int(values.low), int(values.high), log=values.log, step=step)
        else:
            distributions[name] = FloatDistribution(values.low, values.high, log=values.log, step=values.step)
    if not distributions:
        raise ConfigurationError("a search needs at least one parameter")
    chosen = optuna.samplers.RandomSampler(seed=seed) if sampler == "random" else optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(direction="maximize", sampler=chosen), distributions
