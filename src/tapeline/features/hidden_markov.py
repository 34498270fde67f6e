"""Hidden Markov models with Gaussian states, as a live run can have them: fitted on the past, filtered forwards.

A smoothed probability or a Viterbi path reads the whole series. Here a state's probability at a bar is filtered: it
comes from the observations up to that bar, under parameters that were fitted on earlier ones.

Rabiner, A Tutorial on Hidden Markov Models, Proceedings of the IEEE 77 (1989), sections III and V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.features.arrays import Floats

Labels = NDArray[np.int64]
Refit = Literal["day", "week", "month"]

VARIANCE_PRIOR: Final = 0.01
"""Added to each state's sum of squares, so that no state closes in on a single observation (hmmlearn's default)."""

_DAY: Final = 86_400_000_000_000
_MONDAY: Final = 4 * _DAY


@dataclass(frozen=True)
class GaussianHmm:
    """A fitted model of ``k`` states over observations of ``d`` numbers.

    Parameters
    ----------
    start:
        Probability of each state at the first observation, ``(k,)``.
    transition:
        Row ``i`` holds the probabilities of the next state after state ``i``, ``(k, k)``.
    means, variances:
        Of each state, ``(k, d)``; the numbers of one observation are independent within a state.
    """

    start: Floats
    transition: Floats
    means: Floats
    variances: Floats

    def filtered(self, observations: Floats) -> Floats:
        """Probability of each state given the observations up to each, ``(n, k)``; a row with NaN tells nothing."""
        return forward_filter(observations, self.start, self.transition, self.means, self.variances)

    def ordered(self, order: Labels) -> GaussianHmm:
        """The same model with its states in another order."""
        return GaussianHmm(
            np.ascontiguousarray(self.start[order]),
            np.ascontiguousarray(self.transition[np.ix_(order, order)]),
            np.ascontiguousarray(self.means[order]),
            np.ascontiguousarray(self.variances[order]),
        )


def fit_gaussian_hmm(observations: Floats, labels: Labels, states: int, iterations: int = 10) -> GaussianHmm:
    """Fit by expectation and maximisation, from the states that ``labels`` names.

    Deterministic: there is no random start. The states keep the places of their labels unless the data pulls them
    apart; order them afterwards by what they mean.

    Parameters
    ----------
    observations:
        ``(n, d)``, finite, of a scale near 1 (see :data:`VARIANCE_PRIOR`).
    labels:
        A first guess of each observation's state, 0 to ``states - 1``; its means and variances start the search.
    iterations:
        How many rounds; each costs ``n * states * (states + d)``.

    Raises
    ------
    DataError
        Lengths differ, an observation is not finite, or there are fewer than ten a state.

    Examples
    --------
    >>> values = np.array([[-1.0], [-1.1], [-0.9], [1.0], [1.1], [0.9]] * 4)
    >>> model = fit_gaussian_hmm(values, (values[:, 0] > 0).astype(np.int64), 2)
    >>> model.means.round(3).tolist()
    [[-1.0], [1.0]]
    """
    if len(observations) != len(labels):
        raise DataError(f"{len(observations)} observations have {len(labels)} labels")
    if len(observations) < 10 * states:
        raise DataError(
            f"{len(observations)} observations are too few for {states} states", hint="ten a state at least"
        )
    if not np.isfinite(observations).all():
        raise DataError("an observation is not finite", hint="leave such rows out of the fit")
    means = np.empty((states, observations.shape[1]))
    variances = np.empty_like(means)
    for state in range(states):
        chosen = observations[labels == state]
        # An empty state starts where everything lies; the search may then find it something.
        chosen = chosen if len(chosen) > 1 else observations
        means[state], variances[state] = chosen.mean(axis=0), chosen.var(axis=0) + VARIANCE_PRIOR
    start = np.full(states, 1.0 / states)
    transition = np.full((states, states), 0.1 / max(states - 1, 1))
    np.fill_diagonal(transition, 0.9 if states > 1 else 1.0)
    fitted = _maximise(np.ascontiguousarray(observations), start, transition, means, variances, iterations)
    return GaussianHmm(*fitted)


def rolling_filtered(
    observations: Floats,
    refits: NDArray[np.bool_],
    *,
    states: int,
    window: int,
    longest: int,
    label: Callable[[Floats], Labels],
    order: Callable[[GaussianHmm], Labels],
    iterations: int = 10,
) -> Floats:
    """Filtered state probabilities under a model that is fitted anew, on the past alone, where ``refits`` says so.

    At a refit the model is fitted on the ``window`` observations before it, its states are put into ``order``, and the
    filter starts anew at the first of those; it then runs to the next refit. So every probability depends on the last
    ``window + longest`` observations and on nothing older.

    Parameters
    ----------
    refits:
        True at each observation before which the model is fitted anew, such as the first of a week.
    longest:
        Observations for which a model is used; beyond it the result is NaN until the next refit.
    label:
        A first guess of the states of a window of finite observations.
    order:
        From a model, its states' indices in the order wanted: what keeps the labels from switching between refits.

    Returns
    -------
    ``(n, states)``; NaN before the first refit that has ``window`` finite observations behind it.
    """
    result = np.full((len(observations), states), np.nan)
    rows = np.flatnonzero(refits)
    rows = rows[rows >= window]
    ends = np.append(rows, len(observations))[1:]
    for row, following in zip(rows, ends, strict=True):
        past = observations[row - window : row]
        if not np.isfinite(past).all():
            continue
        model = fit_gaussian_hmm(past, label(past), states, iterations)
        model = model.ordered(order(model))
        end = min(int(following), int(row) + longest)
        result[row:end] = model.filtered(observations[row - window : end])[window:]
    return result


def period_starts(index: pd.DatetimeIndex, refit: Refit) -> NDArray[np.bool_]:
    """True at each bar that is the first of its UTC day, week (from Monday) or month; never at the first bar given.

    Examples
    --------
    >>> period_starts(pd.date_range("2017-01-01", periods=3, freq="D", tz="UTC"), "week").tolist()
    [False, True, False]
    """
    stamps = index.as_unit("ns").asi8
    if refit == "month":
        period = index.year.to_numpy(dtype=np.int64) * 12 + index.month.to_numpy(dtype=np.int64)
    elif refit == "week":
        period = (stamps - _MONDAY) // (7 * _DAY)
    else:
        period = stamps // _DAY
    starts = np.zeros(stamps.size, dtype=np.bool_)
    starts[1:] = period[1:] != period[:-1]
    return starts


@njit(cache=True, nogil=True)
def forward_filter(observations: Floats, start: Floats, transition: Floats, means: Floats, variances: Floats) -> Floats:
    """Probability of each state given the observations up to each, ``(n, k)``, each row adding up to 1.

    Examples
    --------
    >>> apart = np.array([[0.0], [5.0]])
    >>> forward_filter(apart, np.array([0.5, 0.5]), np.full((2, 2), 0.5), apart, np.ones((2, 1))).round(4)
    array([[1., 0.],
           [0., 1.]])
    """
    result = np.empty((observations.shape[0], start.size))
    constants = _log_constants(variances)
    for i in range(observations.shape[0]):
        _step(
            result[i - 1] if i else start, observations[i], transition, means, variances, constants, i == 0, result[i]
        )
    return result


@njit(cache=True, nogil=True)
def filter_step(
    before: Floats, observation: Floats, transition: Floats, means: Floats, variances: Floats, first: bool
) -> Floats:
    """The filter's next row from the one before: a live run needs no more than this.

    Examples
    --------
    >>> apart = np.array([[0.0], [5.0]])
    >>> filter_step(np.array([1.0, 0.0]), np.array([5.0]), np.full((2, 2), 0.5), apart, np.ones((2, 1)), False).round(4)
    array([0., 1.])
    """
    now = np.empty(before.size)
    _step(before, observation, transition, means, variances, _log_constants(variances), first, now)
    return now


@njit(cache=True, nogil=True)
def _step(
    before: Floats,
    observation: Floats,
    transition: Floats,
    means: Floats,
    variances: Floats,
    constants: Floats,
    first: bool,
    now: Floats,
) -> None:
    """Predict, then weigh by the densities, each over the largest one; what cannot be observed only predicts."""
    states = before.size
    best = -np.inf
    logs = np.empty(states)
    for j in range(states):
        now[j] = before[j]
        if not first:
            now[j] = 0.0
            for i in range(states):
                now[j] += before[i] * transition[i, j]
        logs[j] = constants[j]
        for d in range(means.shape[1]):
            away = observation[d] - means[j, d]
            logs[j] -= 0.5 * away * away / variances[j, d]
        if now[j] > 0.0:
            best = max(best, logs[j])
    if np.isnan(logs[0]):
        return
    total = 0.0
    for j in range(states):
        now[j] *= np.exp(logs[j] - best) if now[j] > 0.0 else 0.0
        total += now[j]
    for j in range(states):
        now[j] /= total


@njit(cache=True, nogil=True)
def _log_constants(variances: Floats) -> Floats:
    """What of each state's log density does not depend on the observation."""
    result = np.zeros(variances.shape[0])
    for j in range(variances.shape[0]):
        for d in range(variances.shape[1]):
            result[j] -= 0.5 * np.log(2.0 * np.pi * variances[j, d])
    return result


@njit(cache=True, nogil=True)
def _maximise(
    observations: Floats, start: Floats, transition: Floats, means: Floats, variances: Floats, iterations: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Baum and Welch, with the densities of each row scaled by the largest one of them."""
    rows, states, numbers = observations.shape[0], start.size, observations.shape[1]
    for _ in range(iterations):
        density = np.empty((rows, states))
        constant = _log_constants(variances)
        for i in range(rows):
            best = -np.inf
            for j in range(states):
                value = constant[j]
                for d in range(numbers):
                    away = observations[i, d] - means[j, d]
                    value -= 0.5 * away * away / variances[j, d]
                density[i, j] = value
                best = max(best, value)
            for j in range(states):
                # Far below the best one, a density would underflow; the floor keeps every path possible.
                density[i, j] = max(np.exp(density[i, j] - best), 1e-300)
        forward = np.empty((rows, states))
        scale = np.empty(rows)
        for i in range(rows):
            total = 0.0
            for j in range(states):
                value = start[j]
                if i > 0:
                    value = 0.0
                    for k in range(states):
                        value += forward[i - 1, k] * transition[k, j]
                forward[i, j] = value * density[i, j]
                total += forward[i, j]
            scale[i] = total
            for j in range(states):
                forward[i, j] /= total
        backward = np.ones(states)
        moved = np.zeros((states, states))
        weight, first, second = np.zeros(states), np.zeros((states, numbers)), np.zeros((states, numbers))
        opening = np.zeros(states)
        for i in range(rows - 1, -1, -1):
            total = 0.0
            for j in range(states):
                total += forward[i, j] * backward[j]
            for j in range(states):
                share = forward[i, j] * backward[j] / total
                weight[j] += share
                if i == 0:
                    opening[j] = share
                for d in range(numbers):
                    first[j, d] += share * observations[i, d]
                    second[j, d] += share * observations[i, d] * observations[i, d]
            if i == 0:
                break
            previous = np.zeros(states)
            for k in range(states):
                for j in range(states):
                    onward = transition[k, j] * density[i, j] * backward[j] / scale[i]
                    previous[k] += onward
                    moved[k, j] += forward[i - 1, k] * onward
            backward = previous
        start = opening / opening.sum()
        transition, means, variances = np.empty_like(transition), np.empty_like(means), np.empty_like(variances)
        for j in range(states):
            leaving = moved[j].sum()
            for k in range(states):
                transition[j, k] = moved[j, k] / leaving if leaving > 0.0 else 1.0 / states
            kept = max(weight[j], 1e-5)
            for d in range(numbers):
                means[j, d] = first[j, d] / kept
                spread = second[j, d] - 2.0 * means[j, d] * first[j, d] + weight[j] * means[j, d] ** 2
                variances[j, d] = (VARIANCE_PRIOR + max(spread, 0.0)) / kept
    return start, transition, means, variances
