"""One round of each online allocation rule, and the pass over many: a stream calls the round, a history the pass."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

HEDGE, HEDGE_ANYTIME, FIXED_SHARE = 0, 1, 2
EXP3, UCB, THOMPSON = 0, 1, 2

ROUNDS: Final = 0
"""Where a state keeps the rounds played; per strategy follow its sums."""


@njit(cache=True)
def full_weights(kind: int, rate: float, state: Any, weights: Any) -> None:
    """The weights of the next round: ``state`` holds the rounds played, then cumulative losses or shares."""
    if kind == FIXED_SHARE:
        for which in range(weights.size):
            weights[which] = state[1 + which]
        return
    count = weights.size
    eta = rate if kind == HEDGE else 2.0 * math.sqrt(math.log(count) / (state[ROUNDS] + 1.0))
    least = np.min(state[1:])
    total = 0.0
    for which in range(count):
        weights[which] = math.exp(-eta * (state[1 + which] - least))
        total += weights[which]
    for which in range(count):
        weights[which] /= total


@njit(cache=True)
def full_update(kind: int, rate: float, share: float, state: Any, losses: Any) -> None:
    """What one round's losses, of all strategies, do to the state."""
    count = losses.size
    state[ROUNDS] += 1.0
    if kind != FIXED_SHARE:
        for which in range(count):
            state[1 + which] += losses[which]
        return
    total = 0.0
    for which in range(count):
        state[1 + which] *= math.exp(-rate * losses[which])
        total += state[1 + which]
    for which in range(count):
        state[1 + which] = (1.0 - share) * state[1 + which] / total + share / count


@njit(cache=True)
def allocate_rounds(kind: int, rate: float, share: float, state: Any, losses: Any, weights: Any) -> None:
    """Weights before each row of losses is seen."""
    for row in range(losses.shape[0]):
        full_weights(kind, rate, state, weights[row])
        full_update(kind, rate, share, state, losses[row])


@njit(cache=True)
def partial_choice(kind: int, exploration: float, state: Any, draws: Any) -> tuple[int, float]:
    """The strategy of the next round and the probability with which it was taken (1 where nothing was drawn).

    ``state``: the rounds played; for EXP3 log-weights, else the counts and sums of rewards, discounted. ``draws``: one
    uniform number for EXP3, a standard normal one a strategy for Thompson sampling, unused for UCB.
    """
    if kind == EXP3:
        count = state.size - 1
        most = np.max(state[1:])
        total = 0.0
        for which in range(count):
            total += math.exp(state[1 + which] - most)
        reached = 0.0
        for which in range(count):
            probability = (1.0 - exploration) * math.exp(state[1 + which] - most) / total + exploration / count
            reached += probability
            if draws[0] < reached or which == count - 1:
                return which, probability
    count = (state.size - 1) // 2
    pulls = np.sum(state[1 : 1 + count])
    best, highest = 0, -math.inf
    for which in range(count):
        pulled, gained = state[1 + which], state[1 + count + which]
        if kind == THOMPSON:
            index = gained / max(pulled, 1e-12) * (pulled > 0.0) + draws[which] / math.sqrt(pulled + 1.0)
        elif pulled <= 0.0:
            index = math.inf
        else:
            index = gained / pulled + math.sqrt(exploration * math.log(max(pulls, 1.0)) / pulled)
        if index > highest:
            best, highest = which, index
    return best, 1.0


@njit(cache=True)
def partial_update(
    kind: int, exploration: float, drift: float, state: Any, chosen: int, probability: float, loss: float
) -> None:
    """What the loss of the one strategy that was taken does to the state; no other loss is read."""
    state[ROUNDS] += 1.0
    reward = 1.0 - loss
    if kind == EXP3:
        count = state.size - 1
        most = np.max(state[1:])
        mean = 0.0
        for which in range(count):
            mean += math.exp(state[1 + which] - most)
        mixed = math.e * drift * mean / count
        state[1 + chosen] += exploration * reward / (probability * count)
        if drift > 0.0:
            # The share of all weights that each receives (EXP3.S), in logarithms.
            for which in range(count):
                state[1 + which] = most + math.log(math.exp(state[1 + which] - most) + mixed)
        return
    count = (state.size - 1) // 2
    for which in range(2 * count):
        state[1 + which] *= drift
    state[1 + chosen] += 1.0
    state[1 + count + chosen] += reward


@njit(cache=True)
def choose_rounds(
    kind: int, exploration: float, drift: float, state: Any, draws: Any, losses: Any, chosen: Any, probability: Any
) -> None:
    """The strategy taken in each round, before its loss is read."""
    for row in range(losses.shape[0]):
        chosen[row], probability[row] = partial_choice(kind, exploration, state, draws[row])
        loss = losses[row, chosen[row]]
        partial_update(kind, exploration, drift, state, chosen[row], probability[row], loss)
