"""Weights on strategies that learn from losses round by round, with a bound on regret that no sequence can break.

With full information every strategy's loss is seen after a round and capital is divided: :class:`Hedge`,
:class:`FixedShare`. With partial information only the loss of the one that was followed is: :class:`Exp3`,
:class:`UpperConfidence`, :class:`Thompson`. Losses lie in [0, 1]; :func:`losses_of_returns` maps returns there by a
range that is declared beforehand. A weight is used in the round after the losses that made it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy import allocation_kernels as kernels

Floats = NDArray[np.float64]
MOST_STRATEGIES: Final = 10_000

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rounds = Annotated[int, Field(ge=1)]


class _Method(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hedge(_Method):
    """Multiplicative weights (Freund and Schapire 1997, Journal of Computer and System Sciences 55, section 2).

    Parameters
    ----------
    horizon:
        Rounds to be played: the rate is sqrt(8 ln N / T), and regret to the best strategy stays within
        sqrt(T ln N / 2). None: the rate of round t is 2 sqrt(ln N / t), and regret stays within sqrt(t ln N) at every
        round at once (Bubeck 2011, Introduction to Online Optimization, theorem 2.4).
    rate:
        The rate itself, in place of a horizon.
    """

    horizon: Rounds | None = None
    rate: Positive | None = None

    def compiled(self, count: int) -> tuple[int, float, float]:
        """Kind, rate and share as kernels take them."""
        if self.horizon is None and self.rate is None:
            return kernels.HEDGE_ANYTIME, 0.0, 0.0
        rate = self.rate if self.rate is not None else math.sqrt(8 * math.log(count) / (self.horizon or 1))
        return kernels.HEDGE, rate, 0.0

    def bound(self, count: int, rounds: int) -> float:
        """The most that its loss can exceed that of the best of ``count`` strategies after ``rounds`` rounds."""
        if self.horizon is None and self.rate is None:
            return math.sqrt(rounds * math.log(count))
        rate = self.compiled(count)[1]
        return math.log(count) / rate + rate * rounds / 8 if rate else 0.0


class FixedShare(_Method):
    """Hedge that can come back to a strategy (Herbster and Warmuth 1998, Machine Learning 32, section 4).

    After each round every strategy receives the share ``switches`` / ``horizon`` / N of all weight. Regret is to the
    best sequence of strategies with that many switches.

    Parameters
    ----------
    horizon:
        Rounds to be played.
    switches:
        Changes of the best strategy to be ready for, below the horizon.
    """

    horizon: Rounds
    switches: Rounds

    def compiled(self, count: int) -> tuple[int, float, float]:
        """Kind, rate and share as kernels take them."""
        if self.switches >= self.horizon:
            raise ConfigurationError(f"switches = {self.switches} is not below the horizon of {self.horizon} rounds")
        share = self.switches / self.horizon
        rate = math.sqrt(8 * self._information(count, self.horizon, self.switches) / self.horizon)
        return kernels.FIXED_SHARE, rate, share

    def bound(self, count: int, rounds: int, switches: int | None = None) -> float:
        """The most that its loss can exceed that of the best sequence with ``switches`` switches.

        Cesa-Bianchi and Lugosi 2006, Prediction, Learning, and Games, theorem 5.2.
        """
        rate = self.compiled(count)[1]
        changes = self.switches if switches is None else switches
        return self._information(count, rounds, changes) / rate + rate * rounds / 8

    def _information(self, count: int, rounds: int, switches: int) -> float:
        share = self.switches / self.horizon
        stays = rounds - switches - 1
        return (switches + 1) * math.log(count) - switches * math.log(share) - stays * math.log1p(-share)


class Exp3(_Method):
    """Exponential weights on estimated rewards (Auer, Cesa-Bianchi, Freund and Schapire 2002, SIAM J. Computing 32).

    Parameters
    ----------
    horizon:
        Rounds to be played; the exploration is min(1, sqrt(N ln N / ((e - 1) T))), and expected regret to the best
        strategy stays within 2 sqrt((e - 1) T N ln N) (corollary 3.2).
    share:
        The share of all weight that strategies receive each round, so that it follows a drift (EXP3.S, section 8); 0:
        none. The bound is that without.
    """

    horizon: Rounds
    share: Share = 0.0

    def compiled(self, count: int) -> tuple[int, float, float]:
        """Kind, exploration and drift as kernels take them."""
        best = math.sqrt(count * math.log(count) / ((math.e - 1) * self.horizon))
        return kernels.EXP3, min(1.0, best), self.share

    def bound(self, count: int, rounds: int) -> float:
        """The most that its expected loss can exceed that of the best strategy, on any sequence of ``rounds``."""
        exploration = self.compiled(count)[1]
        return (math.e - 1) * exploration * rounds + count * math.log(count) / exploration if count > 1 else 0.0


class UpperConfidence(_Method):
    """The highest mean reward plus its uncertainty (UCB1: Auer, Cesa-Bianchi and Fischer 2002, Machine Learning 47).

    Parameters
    ----------
    width:
        2 in UCB1: the index is mean + sqrt(width ln t / n).
    discount:
        What a round's count and reward are worth a round later (Garivier and Moulines 2011); 1: nothing is forgotten.
    """

    width: Positive = 2.0
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0

    def compiled(self, _count: int) -> tuple[int, float, float]:
        """Kind, width and drift as kernels take them."""
        return kernels.UCB, self.width, self.discount

    @staticmethod
    def bound(means: ArrayLike, rounds: int) -> float:
        """The most expected regret of UCB1 on independent rewards with these means (theorem 1)."""
        values = np.asarray(means, dtype=np.float64)
        gaps = values.max() - values
        behind = gaps[gaps > 0]
        return float(np.sum(8 * math.log(rounds) / behind) + (1 + math.pi**2 / 3) * gaps.sum())


class Thompson(_Method):
    """A draw from what each mean reward may be, normal with variance 1 / (n + 1) (Agrawal and Goyal 2013, algorithm 2).

    Parameters
    ----------
    discount:
        As of :class:`UpperConfidence`.
    """

    discount: Annotated[float, Field(gt=0, le=1)] = 1.0

    def compiled(self, _count: int) -> tuple[int, float, float]:
        """Kind, an unused number and drift as kernels take them."""
        return kernels.THOMPSON, 0.0, self.discount


FullInformation = Hedge | FixedShare
PartialInformation = Exp3 | UpperConfidence | Thompson


@dataclass(frozen=True)
class Losses:
    """Losses in [0, 1], (rounds, strategies), and how many of them a return outside the range was cut to."""

    values: Floats
    clipped: int


def losses_of_returns(returns: ArrayLike, low: float, high: float) -> Losses:
    """Map returns to losses: ``high`` and above to 0, ``low`` and below to 1, in between on a line.

    The range is declared, not found in the returns, so that no loss depends on a later return. A bound on regret in
    losses holds in returns times ``high - low``, as far as nothing was clipped.

    Raises
    ------
    DataError
        A return is missing, or they are not (rounds, strategies).
    ConfigurationError
        The range is empty or not finite.

    Examples
    --------
    >>> losses_of_returns([[0.01, -0.02], [0.0, 0.05]], -0.02, 0.02)
    Losses(values=array([[0.25, 1.  ],
           [0.5 , 0.  ]]), clipped=1)
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigurationError(f"the range of returns from {low} to {high} is empty or not finite")
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise DataError(
            f"returns of shape {values.shape} are not (rounds, strategies), or one is missing",
            hint="a strategy that did not trade returned 0",
        )
    clipped = int(((values < low) | (values > high)).sum())
    return Losses(np.clip((high - values) / (high - low), 0.0, 1.0), clipped)


def allocate(losses: ArrayLike, method: FullInformation) -> Floats:
    """The weights of each round, decided before its losses are seen; the first round's are equal.

    Parameters
    ----------
    losses:
        (rounds, strategies), in [0, 1].

    Examples
    --------
    >>> allocate([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], Hedge(rate=math.log(2))).round(3).tolist()
    [[0.5, 0.5], [0.667, 0.333], [0.8, 0.2]]
    """
    values = _checked(losses)
    weights = np.empty_like(values)
    kind, rate, share = method.compiled(values.shape[1])
    kernels.allocate_rounds(kind, rate, share, _full_state(kind, values.shape[1]), values, weights)
    return weights


def choose(losses: ArrayLike, method: PartialInformation, *, seed: int) -> tuple[NDArray[np.int64], Floats]:
    """The strategy of each round and the probability with which it was taken; only its loss is read.

    Examples
    --------
    >>> chosen, _ = choose(np.tile([0.9, 0.1], (200, 1)), UpperConfidence(), seed=0)
    >>> int((chosen == 1).sum()) > 150
    True
    """
    values = _checked(losses)
    rounds, count = values.shape
    kind, exploration, drift = method.compiled(count)
    chosen, probability = np.empty(rounds, dtype=np.int64), np.empty(rounds)
    draws = _draws(kind, np.random.default_rng(seed), rounds, count)
    kernels.choose_rounds(kind, exploration, drift, _partial_state(kind, count), draws, values, chosen, probability)
    return chosen, probability


def regret(losses: ArrayLike, weights: ArrayLike) -> Floats:
    """After each round, the loss of the weights less that of the strategy that is best so far.

    Examples
    --------
    >>> regret([[0.0, 1.0], [0.0, 1.0]], [[0.5, 0.5], [1.0, 0.0]]).tolist()
    [0.5, 0.5]
    """
    values = _checked(losses)
    paid = np.cumsum(np.sum(values * np.asarray(weights, dtype=np.float64), axis=1))
    return np.asarray(paid - np.cumsum(values, axis=0).min(axis=1))


def allocated_returns(returns: pd.DataFrame, weights: Floats, *, cost: float = 0.0) -> pd.Series:
    """What the weighted strategies earned in each round, less ``cost`` a unit of weight that moved before it.

    Examples
    --------
    >>> returns = pd.DataFrame({"a": [0.01, 0.02], "b": [0.03, 0.0]})
    >>> allocated_returns(returns, np.array([[0.5, 0.5], [1.0, 0.0]]), cost=0.001).round(4).tolist()
    [0.02, 0.019]
    """
    values = returns.to_numpy(dtype=np.float64)
    if values.shape != weights.shape:
        raise DataError(f"returns have the shape {values.shape}, the weights {weights.shape}")
    moved = np.abs(np.diff(weights, axis=0, prepend=weights[:1])).sum(axis=1)
    return pd.Series(np.sum(values * weights, axis=1) - cost * moved, index=returns.index, name="return")


class AllocationStream:
    """Weights that are told the losses of all strategies round by round.

    Examples
    --------
    >>> stream = AllocationStream(Hedge(rate=math.log(2)), 2)
    >>> stream.update([0.0, 1.0])
    >>> stream.weights.round(3).tolist()
    [0.667, 0.333]
    """

    def __init__(self, method: FullInformation, count: int) -> None:
        self.count = _counted(count)
        self._kind, self._rate, self._share = method.compiled(count)
        self._state = _full_state(self._kind, count)

    @property
    def weights(self) -> Floats:
        """The weights of the round to come."""
        result = np.empty(self.count)
        kernels.full_weights(self._kind, self._rate, self._state, result)
        return result

    def update(self, losses: ArrayLike) -> None:
        """Learn from a round's losses, one a strategy."""
        values = _checked(np.asarray(losses, dtype=np.float64).reshape(1, -1))[0]
        if values.size != self.count:
            raise DataError(f"{values.size} losses were given for {self.count} strategies")
        kernels.full_update(self._kind, self._rate, self._share, self._state, values)


class ChoiceStream:
    """A choice of one strategy a round, which is told that one's loss.

    Examples
    --------
    >>> stream = ChoiceStream(UpperConfidence(width=0.1), 2, seed=0)
    >>> for _ in range(20):
    ...     stream.update([0.9, 0.1][stream.choose()])
    >>> stream.choose()
    1
    """

    def __init__(self, method: PartialInformation, count: int, *, seed: int) -> None:
        self.count = _counted(count)
        self._kind, self._exploration, self._drift = method.compiled(count)
        self._state = _partial_state(self._kind, count)
        self._generator = np.random.default_rng(seed)
        self._taken: tuple[int, float] | None = None

    def choose(self) -> int:
        """The strategy of the round to come; the same until its loss is told."""
        if self._taken is None:
            draws = _draws(self._kind, self._generator, 1, self.count)[0]
            chosen, probability = kernels.partial_choice(self._kind, self._exploration, self._state, draws)
            self._taken = int(chosen), float(probability)
        return self._taken[0]

    def update(self, loss: float) -> None:
        """Learn from the loss of the strategy that was chosen."""
        if self._taken is None:
            raise DataError("a loss was told before a strategy was chosen", hint="call choose() first")
        value = float(_checked(np.array([[loss]], dtype=np.float64))[0, 0])
        kernels.partial_update(self._kind, self._exploration, self._drift, self._state, *self._taken, value)
        self._taken = None


def _checked(losses: ArrayLike) -> Floats:
    values = np.ascontiguousarray(np.asarray(losses, dtype=np.float64))
    if values.ndim != 2 or values.shape[1] < 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            f"losses of shape {values.shape} are not (rounds, strategies) in [0, 1]", hint="see losses_of_returns"
        )
    _counted(values.shape[1])
    return values


def _counted(count: int) -> int:
    if not 1 <= count <= MOST_STRATEGIES:
        raise ConfigurationError(f"{count} strategies are not between 1 and {MOST_STRATEGIES}")
    return count


def _full_state(kind: int, count: int) -> Floats:
    state = np.zeros(1 + count)
    if kind == kernels.FIXED_SHARE:
        state[1:] = 1.0 / count
    return state


def _partial_state(kind: int, count: int) -> Floats:
    return np.zeros(1 + (1 if kind == kernels.EXP3 else 2) * count)


def _draws(kind: int, generator: np.random.Generator, rounds: int, count: int) -> Any:
    if kind == kernels.THOMPSON:
        return generator.standard_normal((rounds, count))
    return generator.random((rounds, 1)) if kind == kernels.EXP3 else np.zeros((rounds, 1))
