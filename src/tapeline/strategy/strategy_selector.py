"""Which one of several strategies to follow: by what each earned lately in the present regime, and what a change costs.

Skill is a mean return a bar, weighted exponentially towards the present, shrunk twice: that of the regime towards that
of all regimes, and that towards zero. A change is made only if what it is expected to earn over a horizon, less its
uncertainty, exceeds its cost and a margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import DataError

Floats = NDArray[np.float64]
NONE: Final = -1
"""The code of no strategy: nothing is followed."""
NO_REGIME: Final = -1

WEIGHT, SQUARES, MEAN, SPREAD = 0, 1, 2, 3
"""What is kept of one strategy in one regime, and in all: weights, their squares, mean, weighted squared deviations."""


class SelectorSettings(BaseModel):
    """How a strategy is selected.

    Parameters
    ----------
    half_life:
        Bars in which what was seen loses half its weight; within a regime, bars of that regime.
    prior_bars:
        Bars of returns of zero that the mean of all regimes is shrunk by.
    regime_prior_bars:
        Bars of the mean of all regimes that the mean within a regime is shrunk by.
    caution:
        Standard errors that are taken off an expected gain; 0: none.
    horizon:
        Bars over which a change must earn its cost.
    switching_cost:
        What a change costs, in the unit of returns; from or to nothing half of it.
    margin:
        What a change must be expected to earn beyond its cost, in the unit of returns.
    minimum_hold:
        Bars for which a choice stands at least.
    minimum_bars:
        Effective bars that must have been seen of a strategy before it may be followed.
    may_stand_aside:
        Whether to follow nothing where nothing is expected to earn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    half_life: Annotated[float, Field(gt=0)] = 250.0
    prior_bars: Annotated[float, Field(ge=0)] = 100.0
    regime_prior_bars: Annotated[float, Field(ge=0)] = 50.0
    caution: Annotated[float, Field(ge=0)] = 0.5
    horizon: Annotated[float, Field(gt=0)] = 100.0
    switching_cost: Annotated[float, Field(ge=0)] = 0.0005
    margin: Annotated[float, Field(ge=0)] = 0.0
    minimum_hold: Annotated[int, Field(ge=0)] = 0
    minimum_bars: Annotated[float, Field(ge=0)] = 20.0
    may_stand_aside: bool = True

    def compiled(self) -> Floats:
        """The numbers as the kernel takes them."""
        decay = math.exp2(-1.0 / self.half_life)
        return np.array(
            [
                *(decay, self.prior_bars, self.regime_prior_bars, self.caution, self.horizon, self.switching_cost),
                *(self.margin, self.minimum_hold, self.minimum_bars, float(self.may_stand_aside)),
            ]
        )


@dataclass(frozen=True)
class Selection:
    """What was followed.

    Parameters
    ----------
    path:
        One row a bar, decided at its close for the bar after: ``strategy`` (NaN: none), ``switched``, ``gain`` (what
        the best change was expected to earn over the horizon, less its uncertainty and before its cost; NaN where there
        was none to consider).
    skill, error:
        The mean return a bar expected of each strategy in the regime of the close, and its standard error; NaN before
        anything was seen.
    """

    path: pd.DataFrame
    skill: pd.DataFrame
    error: pd.DataFrame


@njit(cache=True)
def _learn(kept: Any, value: float, decay: float) -> None:
    """West 1979: weighted mean and squared deviations, without a difference of large sums."""
    kept[WEIGHT] = decay * kept[WEIGHT] + 1.0
    kept[SQUARES] = decay * decay * kept[SQUARES] + 1.0
    moved = value - kept[MEAN]
    kept[MEAN] += moved / kept[WEIGHT]
    kept[SPREAD] = decay * kept[SPREAD] + moved * (value - kept[MEAN])


@njit(cache=True)
def _bars(kept: Any) -> float:
    return kept[WEIGHT] * kept[WEIGHT] / kept[SQUARES] if kept[SQUARES] > 0.0 else 0.0


@njit(cache=True)
def _skill(memory: Any, which: int, regime: int, settings: Any) -> tuple[float, float]:
    """The expected return a bar and its standard error."""
    every = memory[which, 0]
    bars = _bars(every)
    degrees = every[WEIGHT] - every[SQUARES] / every[WEIGHT] if every[WEIGHT] > 0.0 else 0.0
    if degrees <= 1e-9:
        return math.nan, math.nan
    variance = every[SPREAD] / degrees
    mean, strength = bars / (bars + settings[1]) * every[MEAN], bars + settings[1]
    if regime != NO_REGIME:
        # What the regime is shrunk towards is known no better than from all bars seen.
        here, prior = _bars(memory[which, 1 + regime]), min(settings[2], strength)
        if here + prior > 0.0:
            mean = (here * memory[which, 1 + regime, MEAN] + prior * mean) / (here + prior)
            strength = here + prior
    return mean, math.sqrt(variance / strength)


@njit(cache=True)
def _select(
    returns: Any, earned_in: Any, regime: Any, settings: Any, memory: Any, state: Any, skill: Any, error: Any
) -> float:
    """One bar: learn its returns, then look for a better strategy than ``state[0]``, held for ``state[1]`` bars."""
    count = returns.size
    for which in range(count):
        if math.isfinite(returns[which]):
            _learn(memory[which, 0], returns[which], settings[0])
            if earned_in != NO_REGIME:
                _learn(memory[which, 1 + earned_in], returns[which], settings[0])
        skill[which], error[which] = _skill(memory, which, regime, settings)
    current = state[0]
    state[1] += 1
    now = skill[current] if current != NONE else 0.0
    doubt = error[current] if current != NONE else 0.0
    best, best_net, best_gain = current, -math.inf, math.nan
    for which in range(NONE, count):
        if which == current or (which == NONE and settings[9] == 0.0):
            continue
        if which != NONE and not (_bars(memory[which, 0]) >= settings[8] and math.isfinite(skill[which])):
            continue
        expected = skill[which] if which != NONE else 0.0
        own = error[which] if which != NONE else 0.0
        gain = settings[4] * (expected - now - settings[3] * math.sqrt(own * own + doubt * doubt))
        cost = settings[5] * (0.5 if which == NONE or current == NONE else 1.0)
        if gain - cost > best_net:
            best, best_net, best_gain = which, gain - cost, gain
    # With nothing followed and no leave to stand aside, the first that is known well enough is taken.
    forced = current == NONE and settings[9] == 0.0 and best != NONE
    if forced or (best_net > settings[6] and state[1] > settings[7]):
        state[0], state[1] = best, 0
    return best_gain


@njit(cache=True)
def _pass(
    returns: Any, regimes: Any, settings: Any, memory: Any, state: Any, chosen: Any, gain: Any, skill: Any, error: Any
) -> None:
    earned_in = np.int64(NO_REGIME)
    for row in range(returns.shape[0]):
        gain[row] = _select(returns[row], earned_in, regimes[row], settings, memory, state, skill[row], error[row])
        chosen[row] = state[0]
        earned_in = regimes[row]


def select_strategies(
    returns: pd.DataFrame, settings: SelectorSettings | None = None, *, regimes: pd.Series | None = None
) -> Selection:
    """Select a strategy at every close of a history.

    Parameters
    ----------
    returns:
        One column a strategy: what it earned from the close before to this close. NaN: nothing is learned of it.
    regimes:
        The regime known at each close, as words or categories on the same index; missing: unknown, and skill over all
        regimes counts. What a bar earned is booked to the regime that was known when it began, at the close before.

    Raises
    ------
    DataError
        No strategies, a name twice, an infinite return, or an index that differs.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> made = pd.DataFrame({"trend": generator.normal(0.001, 0.002, 300), "fade": generator.normal(0, 0.002, 300)})
    >>> path = select_strategies(made).path
    >>> path["strategy"].iloc[0], path["strategy"].iloc[-1], int(path["switched"].sum())
    (nan, 'trend', 1)
    """
    settings = settings or SelectorSettings()
    names = _names(returns.columns)
    values = np.ascontiguousarray(returns.to_numpy(dtype=np.float64))
    if np.isinf(values).any():
        raise DataError("a return is infinite", hint="a return is a share, NaN where there is none")
    codes, count = np.full(len(returns), NO_REGIME, dtype=np.int64), 0
    if regimes is not None:
        if not regimes.index.equals(returns.index):
            raise DataError("regimes are not at the times of the returns")
        # Numbered as they come, so that a regime of the future changes nothing.
        found, known = pd.factorize(regimes)
        codes, count = found.astype(np.int64), len(known)
    memory, state = np.zeros((len(names), 1 + count, 4)), np.array([NONE, 0], dtype=np.int64)
    rows = len(values)
    chosen, gain = np.empty(rows, dtype=np.int64), np.empty(rows)
    skill, error = np.empty_like(values), np.empty_like(values)
    _pass(values, codes, settings.compiled(), memory, state, chosen, gain, skill, error)
    path = pd.DataFrame(
        {
            "strategy": pd.Categorical.from_codes(chosen, categories=pd.Index(names)),
            "switched": np.diff(chosen, prepend=NONE) != 0,
            "gain": gain,
        },
        index=returns.index,
    )
    return Selection(
        path,
        pd.DataFrame(skill, index=returns.index, columns=list(names)),
        pd.DataFrame(error, index=returns.index, columns=list(names)),
    )


def selected_returns(returns: pd.DataFrame, selection: Selection, settings: SelectorSettings) -> pd.Series:
    """What following the selection earned: of each bar the strategy chosen at the close before, less each change.

    A change is paid in the bar after its close, and to or from nothing at half.

    Examples
    --------
    >>> made = pd.DataFrame({"a": [0.01] * 4})
    >>> path = pd.DataFrame({"strategy": pd.Categorical(["a", "a", None, None])})
    >>> chosen = Selection(path, made, made)
    >>> selected_returns(made, chosen, SelectorSettings(switching_cost=0.002)).round(4).tolist()
    [0.0, 0.009, 0.01, -0.001]
    """
    places = {name: place for place, name in enumerate(map(str, returns.columns))}
    now = np.array([places.get(name, NONE) for name in selection.path["strategy"].tolist()], dtype=np.int64)
    held = np.concatenate(([NONE], now[:-1]))
    before = np.concatenate(([NONE], held[:-1]))
    values = np.nan_to_num(returns.to_numpy(dtype=np.float64))
    earned = np.where(held == NONE, 0.0, values[np.arange(len(held)), np.maximum(held, 0)])
    share = np.where(held == before, 0.0, np.where((held == NONE) | (before == NONE), 0.5, 1.0))
    return pd.Series(earned - settings.switching_cost * share, index=returns.index, name="return")


class SelectorStream:
    """A selector that is told returns and the regime close by close.

    Examples
    --------
    >>> stream = SelectorStream(("trend", "fade"), SelectorSettings(minimum_bars=3, prior_bars=0, caution=0))
    >>> for step in range(10):
    ...     followed = stream.push({"trend": 0.01 + step / 1e4, "fade": 0.0}, regime="calm")
    >>> followed
    'trend'
    """

    def __init__(self, strategies: tuple[str, ...], settings: SelectorSettings | None = None) -> None:
        self.strategies = _names(pd.Index(strategies))
        self._settings = (settings or SelectorSettings()).compiled()
        self._regimes: dict[str, int] = {}
        self._memory = np.zeros((len(strategies), 1, 4))
        self._state = np.array([NONE, 0], dtype=np.int64)
        self._earned_in = NO_REGIME
        self.skill, self.error = np.full(len(strategies), np.nan), np.full(len(strategies), np.nan)

    def push(self, returns: Mapping[str, float], regime: str | None = None) -> str | None:
        """Learn what each strategy earned to this close, and say which to follow from here, or None.

        ``regime`` is the one known at this close.
        """
        values = np.array([float(returns.get(name, math.nan)) for name in self.strategies])
        if np.isinf(values).any():
            raise DataError("a return is infinite", hint="a return is a share, NaN where there is none")
        code = NO_REGIME
        if regime is not None:
            code = self._regimes.setdefault(regime, len(self._regimes))
            if code + 2 > self._memory.shape[1]:
                self._memory = np.concatenate((self._memory, np.zeros((len(self.strategies), 1, 4))), axis=1)
        _select(values, self._earned_in, code, self._settings, self._memory, self._state, self.skill, self.error)
        self._earned_in = code
        return None if self._state[0] == NONE else self.strategies[int(self._state[0])]


def _names(columns: pd.Index) -> tuple[str, ...]:
    names = tuple(map(str, columns))
    if not names or len(set(names)) < len(names):
        raise DataError(f"strategies {list(names)} are none, or one stands twice")
    return names
