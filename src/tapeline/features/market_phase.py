"""Market phases after Wyckoff: accumulation, markup, distribution, markdown; by rule and by a hidden Markov model.

A phase is a reading of what has happened, not a forecast; both forms read the past alone.
"""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import pandas as pd
from numba import njit
from pydantic import Field

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, Count, Floats, Window, changes, columns, frame, ratio
from tapeline.features.hidden_markov import GaussianHmm, Labels, Refit, period_starts, rolling_filtered
from tapeline.features.kernels import rolling_mean

PHASES: Final = ("accumulation", "markup", "distribution", "markdown")
"""In the order in which one follows another."""

Share = Annotated[float, Field(ge=0, le=1)]


@feature(
    lookback=lambda window, memory: window + memory + 1,
    outputs=PHASES,
    reference="Wyckoff's price cycle, in Pruden, The Three Skills of Top Trading (2007), chapters 2 and 7; trend and "
    "range told apart by Kaufman's efficiency ratio, volume by Chaikin's money flow",
)
def wyckoff_phase(
    bars: pd.DataFrame,
    window: Window = 40,
    memory: Count = 240,
    trend: Share = 0.35,
    quiet: Share = 0.2,
    pressure: Share = 0.15,
) -> pd.DataFrame:
    """The phase by rule: one of four columns is 1, the others 0; all 0 where nothing decides.

    The efficiency of the last ``window`` bars, net change over path, decides: from ``trend`` on it is a markup, from
    ``-trend`` down a markdown. Within ``quiet`` of 0 price is in a range: after a markdown that is an accumulation,
    after a markup a distribution, unless the volume contradicts. Money flow (volume weighted by where bars close in
    their range, -1 to 1) below ``-pressure``, with price in the lower half of the window's range, makes the range a
    distribution; above ``pressure``, with price in the upper half, an accumulation (redistribution and
    reaccumulation in Wyckoff's words). Between ``quiet`` and ``trend`` the phase before goes on. Both the trend before
    a range and the phase before are forgotten after half of ``memory`` bars; a range without one is told by money
    flow alone.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(19, 18, 17, 16, 15, 14, 13, 12, 12, 12, 12, 13, 14)
    >>> phases = wyckoff_phase(bars, window=3, memory=6)
    >>> phases.iloc[-4:].idxmax(axis=1).tolist()
    ['markdown', 'accumulation', 'markup', 'markup']
    """
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    efficiency = _efficiency(close, window)
    flow = money_flow(high, low, close, volume, window)
    place = place_in_range(high, low, close, window)
    phase = _phase(efficiency, flow, place, window, memory, trend, quiet, pressure)
    known = phase >= 0
    return frame(bars, **{name: np.where(known, phase == number + 1, np.nan) for number, name in enumerate(PHASES)})


@feature(
    lookback=lambda span, prior, window, longest: span + prior + window + longest + 1,
    outputs=tuple(f"{name}_probability" for name in PHASES),
    reference="Hamilton, Econometrica 57 (1989): filtered regime probabilities; Rabiner, Proceedings of the IEEE 77 "
    "(1989); states named after Wyckoff's price cycle",
    tolerance=Tolerance(relative=1e-6, absolute=1e-6),
)
def phase_probability(
    bars: pd.DataFrame,
    span: Window = 24,
    prior: Window = 96,
    window: Annotated[int, Field(ge=80, le=20_000)] = 240,
    refit: Refit = "week",
    longest: Count = 168,
    iterations: Annotated[int, Field(ge=1, le=200)] = 5,
) -> pd.DataFrame:
    """Filtered probability of each phase under a hidden Markov model of four states; the four add up to 1.

    It observes two numbers a bar: the efficiency of the last ``span`` bars (net change over path, -1 to 1), and that
    of the ``prior`` bars before those. At the first bar of each ``refit`` period the model is fitted on the ``window``
    bars before it, never on later ones, and used for at most ``longest`` bars. The state with the highest mean
    efficiency is markup, the lowest markdown; of the other two the one that follows the lower prior efficiency is
    accumulation. That order holds at each refit, so that a column means the same throughout.

    NaN before the first refit with a full window, and where a period has more than ``longest`` bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wave = 100 + 20 * np.sin(np.arange(400) / 15)
    >>> result = phase_probability(example_bars(*wave), span=8, prior=24, window=100, refit="day", longest=24)
    >>> result.iloc[-1].sum().round(9).item()
    1.0
    """
    (close,) = columns(bars, "close")
    now = _efficiency(close, span)
    earlier = _efficiency(close, prior)
    before = np.full(close.size, np.nan)
    before[span:] = earlier[:-span] if span < close.size else earlier[:0]
    observations = np.column_stack((now, before))
    probabilities = rolling_filtered(
        observations,
        period_starts(pd.DatetimeIndex(bars.index), refit),
        states=len(PHASES),
        window=window,
        longest=longest,
        label=_first_guess,
        order=_by_phase,
        iterations=iterations,
    )
    return frame(bars, **{f"{name}_probability": probabilities[:, number] for number, name in enumerate(PHASES)})


def money_flow(high: Floats, low: Floats, close: Floats, volume: Floats, window: int) -> Floats:
    """Chaikin's money flow: volume weighted by where each bar closes in its range, over the volume, -1 to 1.

    0 where nothing was traded; NaN for the first ``window - 1`` bars.

    Examples
    --------
    >>> one = np.ones(2)
    >>> money_flow(one * 3, one, np.array([3.0, 2.0]), np.array([1.0, 3.0]), 2)
    array([ nan, 0.25])
    """
    height = high - low
    location = np.nan_to_num(ratio(2.0 * close - high - low, height, STILL * close))
    flow = np.nan_to_num(ratio(rolling_mean(location * volume, window), rolling_mean(volume, window)))
    flow[: window - 1] = np.nan
    return flow


@njit(cache=True, nogil=True)
def place_in_range(high: Floats, low: Floats, close: Floats, window: int) -> Floats:
    """Where the close lies between the lowest low (0) and the highest high (1) of the last ``window`` bars.

    0.5 where there is no range; NaN for the first ``window - 1`` bars.

    Examples
    --------
    >>> place_in_range(np.array([3.0, 4.0]), np.array([2.0, 3.0]), np.array([2.0, 3.5]), 2)
    array([ nan, 0.75])
    """
    result = np.full(close.size, np.nan)
    for i in range(window - 1, close.size):
        top, bottom = -np.inf, np.inf
        for j in range(i - window + 1, i + 1):
            top = max(top, high[j])
            bottom = min(bottom, low[j])
        result[i] = (close[i] - bottom) / (top - bottom) if top > bottom else 0.5
    return result


@njit(cache=True, nogil=True)
def _phase(
    efficiency: Floats,
    flow: Floats,
    place: Floats,
    window: int,
    memory: int,
    trend: float,
    quiet: float,
    pressure: float,
) -> Floats:
    """The phase's number from 1, 0 where undecided, -1 in the warm-up. Markers older than ``memory`` are forgotten."""
    result = np.full(efficiency.size, -1.0)
    trended, direction = -1, 0.0
    decided, phase = -1, 0.0
    for i in range(window, efficiency.size):
        strength = efficiency[i]
        if abs(strength) >= trend:
            trended, direction = i, 1.0 if strength > 0.0 else -1.0
            decided, phase = i, 2.0 if strength > 0.0 else 4.0
        elif abs(strength) <= quiet:
            support = -direction if trended >= 0 and i - trended < memory // 2 else 0.0
            if support == 0.0:
                support = 1.0 if flow[i] > pressure else -1.0 if flow[i] < -pressure else 0.0
            elif support > 0.0 and flow[i] < -pressure and place[i] < 0.5:
                support = -1.0
            elif support < 0.0 and flow[i] > pressure and place[i] > 0.5:
                support = 1.0
            decided, phase = i, 1.0 if support > 0.0 else 3.0 if support < 0.0 else 0.0
        if i >= window + memory:
            result[i] = phase if decided >= 0 and i - decided < memory // 2 else 0.0
    return result


def _efficiency(close: Floats, window: int) -> Floats:
    """Net change over path; 0 where nothing moved, NaN for the first ``window`` bars."""
    change = changes(close)
    path = rolling_mean(np.abs(change), window)
    result = np.nan_to_num(ratio(rolling_mean(change, window), path, STILL * close))
    result[:window] = np.nan
    return result


def _first_guess(observations: Floats) -> Labels:
    """Quarters of the window: the strongest up, the strongest down, and the middle by what came before."""
    now, before = observations[:, 0], observations[:, 1]
    rank = np.argsort(np.argsort(now, kind="stable"), kind="stable") / now.size
    middle = np.where(before < np.median(before), 0, 2)
    return np.where(rank >= 0.75, 1, np.where(rank < 0.25, 3, middle)).astype(np.int64)


def _by_phase(model: GaussianHmm) -> Labels:
    """The states of a model in the order of :data:`PHASES`."""
    by_strength = np.argsort(model.means[:, 0], kind="stable")
    markdown, markup = by_strength[0], by_strength[-1]
    middle = by_strength[1:-1]
    accumulation, distribution = middle[np.argsort(model.means[middle, 1], kind="stable")]
    return np.array([accumulation, markup, distribution, markdown], dtype=np.int64)
