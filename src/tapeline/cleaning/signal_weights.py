"""Weights for several signals about the same thing: by what they earned lately, how wildly, and how much alike.

Row ``t`` of every result uses what is known at the close of bar ``t`` and nothing after it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from tapeline.cleaning.signal_array import Floats, as_floats, require
from tapeline.core.errors import DataError

FLOOR = 0.05
"""A signal that hardly ever moves is not weighted as if it were calmer than this share of the mean variance."""

CLIP = 3.0
"""Payoffs beyond this many usual moves count as that many: losses must be bounded for the regret bound to hold."""


def hedge_weights(losses: Any, *, rate: float | None = None, decay: float = 1.0) -> Floats:
    """Exponential weights (Hedge): each expert's weight falls with the loss it has run up.

    Parameters
    ----------
    losses:
        ``[rounds, experts]``, each from 0 to 1; NaN where an expert says nothing that round: it is then charged what
        the weighted experts lost, which leaves its standing as it was.
    rate:
        Learning rate, above 0. Absent: ``sqrt(8 ln N / t)`` in round ``t``, which needs no horizon.
    decay:
        Above 0 to 1: how much of a loss still counts one round later. Below 1 follows a change of leader; the bound is
        for 1.

    Returns
    -------
    ``[rounds, experts]``, rows that sum to 1. Row ``t`` is after the losses of round ``t``, so it is what round
    ``t + 1`` is played with; the first round is played evenly.

    Notes
    -----
    Without decay the loss of playing these weights exceeds that of the best expert by at most
    :func:`hedge_regret_bound`, whatever the losses are.

    References
    ----------
    Y. Freund and R. E. Schapire, Journal of Computer and System Sciences 55 (1997), 119-139; N. Cesa-Bianchi and G.
    Lugosi, Prediction, Learning, and Games (2006), theorems 2.2 and 2.3; absent experts after Freund, Schapire,
    Singer and Warmuth, STOC 1997, 334-343.

    Examples
    --------
    >>> hedge_weights(np.array([[0.0, 1.0], [0.0, 1.0]]), rate=1.0).round(4).tolist()
    [[0.7311, 0.2689], [0.8808, 0.1192]]
    """
    table = _table(losses)
    outside = (table < 0.0) | (table > 1.0)
    if outside.any():
        row, column = (int(place) for place in np.argwhere(outside)[0])
        raise DataError(f"the loss of round {row}, expert {column} is {table[row, column]}, outside 0 to 1")
    if rate is not None:
        require("rate", rate, 1e-12)
    require("decay", decay, 1e-9, 1.0)
    return _hedge(table, -1.0 if rate is None else float(rate), float(decay))


def hedge_regret_bound(rounds: int, experts: int, rate: float | None = None) -> float:
    """The most that ``hedge_weights`` without decay can lose beyond the best expert over so many rounds.

    ``ln N / rate + rate n / 8`` for a fixed rate; ``2 sqrt(n / 2 ln N) + sqrt(ln N / 8)`` for the one that falls.

    Examples
    --------
    >>> round(hedge_regret_bound(1000, 10), 2)
    68.4
    """
    require("rounds", rounds, 0, whole=True)
    require("experts", experts, 1, whole=True)
    logs = math.log(experts)
    if rate is None:
        return 2.0 * math.sqrt(0.5 * rounds * logs) + math.sqrt(logs / 8.0)
    require("rate", rate, 1e-12)
    return logs / rate + rate * rounds / 8.0


def regret(losses: Any, weights: Any) -> float:
    """What playing row ``t - 1`` of the weights in round ``t`` lost beyond the best single expert; round 0 even.

    Examples
    --------
    >>> losses = np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> round(regret(losses, hedge_weights(losses, rate=1.0)), 4)
    0.7689
    """
    table, played = _table(losses), _table(weights)
    if not len(table):
        return 0.0
    before = np.vstack((np.full(table.shape[1], 1.0 / table.shape[1]), played[:-1]))
    return float((before * table).sum() - table.sum(axis=0).min())


def adaptive_weights(
    signals: pd.DataFrame, outcomes: pd.Series, *, memory: int = 500, rate: float = 1.0, risk: float = 1.0
) -> pd.DataFrame:
    """Weigh signals by their recent skill, the volatility of what they earn, and how alike they are.

    A signal of bar ``t - 1`` earns ``signal * outcome`` at bar ``t``. From these payoffs, with exponential memory:

    - skill: Hedge over losses ``(1 - payoff / (3 usual moves)) / 2``, clipped to 0 and 1;
    - volatility: divided by the deviation of the payoffs to the power ``risk``;
    - correlation: divided by the sum of its positive correlations with all signals, itself included, so that two
      copies of a signal share the weight of one.

    Parameters
    ----------
    signals:
        One column a signal, each from -1 to 1, known at the close of its bar; NaN where it says nothing.
    outcomes:
        The return over each bar, known at its close, on the same index.
    memory:
        Bars over which the past is forgotten to 1/e, 2 or more.
    rate:
        Learning rate of the skill in units of ``sqrt(8 ln N / memory)``; 0 leaves skill out.
    risk:
        0 leaves volatility out, 1 evens out risk.

    Returns
    -------
    Weights from 0 to 1 that sum to 1 at every bar with at least one signal; a NaN signal has weight 0. Even until two
    payoffs are known. NaN where no signal says anything.

    Raises
    ------
    DataError
        The index differs, or a signal lies outside -1 to 1.

    Examples
    --------
    >>> outcomes = pd.Series([0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    >>> right = outcomes.shift(-1, fill_value=0.0)
    >>> signals = pd.DataFrame({"right": right, "wrong": -right})
    >>> weights = adaptive_weights(signals, outcomes, memory=20)
    >>> bool(weights["right"].iloc[-1] > 0.6), weights.sum(axis=1).round(9).unique().tolist()
    (True, [1.0])
    """
    require("memory", memory, 2, whole=True)
    require("rate", rate, 0.0, 100.0)
    require("risk", risk, 0.0, 4.0)
    if not signals.index.equals(outcomes.index):
        raise DataError("signals and outcomes have different indexes")
    table = _table(signals)
    outside = np.abs(table) > 1.0
    if outside.any():
        row, column = (int(place) for place in np.argwhere(outside)[0])
        raise DataError(f"the signal '{signals.columns[column]}' is {table[row, column]} at row {row}, outside -1 to 1")
    experts = table.shape[1]
    eta = rate * math.sqrt(8.0 * math.log(experts) / memory) if experts > 1 else 0.0
    weights = _adapt(table, as_floats(outcomes), math.exp(-1.0 / memory), eta, float(risk), FLOOR, CLIP)
    return pd.DataFrame(weights, index=signals.index, columns=signals.columns)


def combine(signals: pd.DataFrame, weights: pd.DataFrame) -> pd.Series:
    """The weighted sum of the signals at each bar; NaN where no signal says anything.

    Examples
    --------
    >>> signals = pd.DataFrame({"a": [1.0, np.nan], "b": [0.0, -1.0]})
    >>> combine(signals, pd.DataFrame({"a": [0.5, 0.0], "b": [0.5, 1.0]})).tolist()
    [0.5, -1.0]
    """
    if not signals.index.equals(weights.index) or list(signals.columns) != list(weights.columns):
        raise DataError("signals and weights have different rows or columns")
    return (signals.fillna(0.0) * weights).sum(axis=1, skipna=False).rename("combined")


def _table(values: Any) -> Floats:
    table = np.ascontiguousarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 1:
        raise DataError(f"expected rows by experts, was given the shape {table.shape}")
    if np.isinf(table).any():
        raise DataError(f"row {int(np.argwhere(np.isinf(table))[0, 0])} holds an infinite value")
    return table


@njit(cache=True)
def _exponential(totals: Floats, rate: float, weights: Floats) -> None:
    best = totals.min()  # so that the largest exponential is 1 and their sum cannot vanish
    total = 0.0
    for i in range(totals.size):
        weights[i] = np.exp(-rate * (totals[i] - best))
        total += weights[i]
    for i in range(totals.size):
        weights[i] /= total


@njit(cache=True)
def _charge(totals: Floats, losses: Floats, weights: Floats, decay: float) -> None:
    """Add a round's losses; an absent expert is charged what the present ones lost on average by weight."""
    lost, present = 0.0, 0.0
    for i in range(totals.size):
        if not np.isnan(losses[i]):
            lost += weights[i] * losses[i]
            present += weights[i]
    mixed = lost / present if present > 0.0 else 0.0
    for i in range(totals.size):
        totals[i] = decay * totals[i] + (mixed if np.isnan(losses[i]) else losses[i])


@njit(cache=True)
def _hedge(losses: Floats, rate: float, decay: float) -> Floats:
    rounds, experts = losses.shape
    result = np.empty((rounds, experts))
    totals = np.zeros(experts)
    weights = np.full(experts, 1.0 / experts)
    horizon = 1.0 / (1.0 - decay) if decay < 1.0 else np.inf
    for t in range(rounds):
        _charge(totals, losses[t], weights, decay)
        now = rate if rate > 0.0 else np.sqrt(8.0 * np.log(experts) / min(t + 2.0, horizon))
        _exponential(totals, now, weights)
        result[t] = weights
    return result


@njit(cache=True)
def _adapt(
    signals: Floats, outcomes: Floats, decay: float, rate: float, risk: float, floor: float, clip: float
) -> Floats:
    rows, experts = signals.shape
    result = np.full((rows, experts), np.nan)
    totals, skill = np.zeros(experts), np.full(experts, 1.0 / experts)
    cross = np.zeros((experts, experts))
    payoffs, losses = np.empty(experts), np.empty(experts)
    usual, seen, age = 0.0, 0, 0.0
    for t in range(rows):
        outcome = outcomes[t]
        if t > 0 and not np.isnan(outcome):
            # A usual move is known from the bars before, so that one huge move is seen as such.
            unit = np.sqrt(usual / age) if age > 0.0 else 0.0
            for i in range(experts):
                payoffs[i] = signals[t - 1, i] * outcome
                losses[i] = np.nan
                if unit > 0.0 and not np.isnan(payoffs[i]):
                    losses[i] = 0.5 * (1.0 - min(max(payoffs[i] / (clip * unit), -1.0), 1.0))
            if unit > 0.0:
                _charge(totals, losses, skill, decay)
                _exponential(totals, rate, skill)
                seen += 1
            for i in range(experts):
                for j in range(experts):
                    product = payoffs[i] * payoffs[j]
                    cross[i, j] = decay * cross[i, j] + (0.0 if np.isnan(product) else product)
            usual = decay * usual + outcome * outcome
            age = decay * age + 1.0
        mean = 0.0
        for i in range(experts):
            mean += cross[i, i] / experts
        total = 0.0
        for i in range(experts):
            if np.isnan(signals[t, i]):
                continue
            weight = skill[i]
            if seen > 0 and mean > 0.0:
                crowd = 1.0
                for j in range(experts):
                    if j != i and cross[i, j] > 0.0 and not np.isnan(signals[t, j]):
                        crowd += cross[i, j] / (np.sqrt(cross[i, i]) * np.sqrt(cross[j, j]))
                weight /= crowd * np.sqrt(max(cross[i, i], floor * mean) / mean) ** risk
            result[t, i] = weight
            total += weight
        for i in range(experts):
            if total > 0.0:
                result[t, i] = 0.0 if np.isnan(signals[t, i]) else result[t, i] / total
    return result
