"""The regime a market is in: how far it moves and how often it trades, measured over finished intervals."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from tapeline.candles.records import Floats, Integers


class Regime(NamedTuple):
    """Wilder's average true range of interval bars, and how many ticks such a bar has had lately and for longer.

    Intervals without a tick do not count: a weekend is no information about Monday.
    """

    end: int
    bars: int
    ticks: int
    high: float
    low: float
    close: float
    previous: float
    true_range: float
    fast: float
    slow: float


@njit(cache=True)
def regime_loaded(floats: Floats, integers: Integers, f: int, i: int) -> Regime:
    """The regime out of the state arrays, from slots ``f`` and ``i`` on."""
    return Regime(
        integers[i],
        integers[i + 1],
        integers[i + 2],
        floats[f],
        floats[f + 1],
        floats[f + 2],
        floats[f + 3],
        floats[f + 4],
        floats[f + 5],
        floats[f + 6],
    )


@njit(cache=True)
def regime_store(regime: Regime, floats: Floats, integers: Integers, f: int, i: int) -> None:
    """The regime into the state arrays: 7 floats, 3 integers."""
    integers[i], integers[i + 1], integers[i + 2] = regime.end, regime.bars, regime.ticks
    floats[f], floats[f + 1], floats[f + 2], floats[f + 3] = regime.high, regime.low, regime.close, regime.previous
    floats[f + 4], floats[f + 5], floats[f + 6] = regime.true_range, regime.fast, regime.slow


@njit(cache=True)
def regime_finished(regime: Regime, window: int, fast_window: int) -> Regime:
    """The regime with its forming interval taken into the averages.

    The true range is seeded with the mean of the first ``window`` intervals (Wilder 1978, ch. 3); the tick counts are
    exponentially weighted means whose first weights are those of a plain mean, so that they have no start to forget.
    """
    high, low = regime.high, regime.low
    if regime.bars > 0:
        high, low = max(high, regime.previous), min(low, regime.previous)
    bars = regime.bars + 1
    true_range = regime.true_range + (high - low - regime.true_range) / min(bars, window)
    fast = regime.fast + (regime.ticks - regime.fast) / min(bars, fast_window)
    slow = regime.slow + (regime.ticks - regime.slow) / min(bars, window)
    return Regime(regime.end, bars, 0, 0.0, 0.0, 0.0, regime.close, true_range, fast, slow)


@njit(cache=True)
def regime_seen(regime: Regime, high: float, low: float, close: float, count: int, end: int) -> Regime:
    """The regime with one record added to its forming interval, which ends at ``end``."""
    if regime.ticks == 0:
        top, bottom = high, low
    else:
        top, bottom = max(regime.high, high), min(regime.low, low)
    return Regime(
        end,
        regime.bars,
        regime.ticks + max(count, 1),
        top,
        bottom,
        close,
        regime.previous,
        regime.true_range,
        regime.fast,
        regime.slow,
    )
