"""Isolation forests fitted on past bars: what few random cuts part from the bars before is unusual."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import research
from tapeline.core.timeframe import Timeframe

WINDOW: Final = 2000
"""How many past bars a forest is fitted on."""

MINIMUM: Final = 500
CONTAMINATION: Final = 0.01
"""The share of the bars fitted on that are more unusual than the border of a flag.

A forest does not extrapolate: far out is no more unusual to it than a little out. With a smaller share it misses spikes
that reach out in one respect only.
"""

_SCALE_WINDOW: Final = 100
_WEEK: Final = Timeframe.parse("W1")


def isolation_lookback(timeframe: Timeframe | str, window: int = WINDOW) -> int:
    """How many bars, the judged one included, decide its flag: a week, the bars fitted on, and what scales the first.

    Examples
    --------
    >>> isolation_lookback("H1")
    2269
    """
    week = max(_WEEK.nanoseconds // Timeframe.parse(timeframe).nanoseconds, 1)
    return int(week + window + _SCALE_WINDOW + 1)


def isolation_flags(
    bars: pd.DataFrame, *, window: int = WINDOW, minimum: int = MINIMUM, contamination: float = CONTAMINATION
) -> np.ndarray:
    """Flag bars that an isolation forest of earlier bars sets apart.

    At the first bar of each week (Monday 00:00 UTC) a forest is fitted on the ``window`` bars before it and judges the
    bars of that week; so there are as many fits as weeks, and new bars alone give the same flags as all of them. A bar
    is described by the change of its close, by how far its high and low reach from the close before, and by how much
    of that reach it gave back, each divided by the mean absolute change of the 100 closes before.

    Parameters
    ----------
    bars:
        Sorted bars with finite ``high low close`` on a UTC index.
    minimum:
        With fewer bars to fit on nothing is flagged.
    contamination:
        A bar is flagged where its score lies below this quantile of the scores of the bars fitted on.

    Returns
    -------
    One boolean a bar. It says that a bar is unusual, not that it is wrong.

    Raises
    ------
    ConfigurationError
        A parameter out of its bounds.
    DataError
        The index has no times.

    References
    ----------
    F. T. Liu, K. M. Ting and Z.-H. Zhou, "Isolation Forest", ICDM 2008, 413-422.
    """
    _check(bars, window, minimum, contamination)
    flags = np.zeros(len(bars), dtype=bool)
    if len(bars) < minimum:
        return flags
    described = _described(bars)
    usable = np.isfinite(described).all(axis=1)
    weeks = _WEEK.floor(pd.DatetimeIndex(bars.index)).asi8
    edges = np.flatnonzero(np.r_[True, np.diff(weeks) != 0])
    for first, end in zip(edges.tolist(), [*edges[1:].tolist(), len(bars)], strict=True):
        past = described[max(first - window, 0) : first]
        past = past[np.isfinite(past).all(axis=1)]
        rows = first + np.flatnonzero(usable[first:end])
        if len(past) >= minimum and rows.size:
            flags[rows] = _judged(past, described[rows], contamination)
    return flags


@research
def isolation_flags_whole(
    bars: pd.DataFrame, *, minimum: int = MINIMUM, contamination: float = CONTAMINATION
) -> np.ndarray:
    """The textbook form: one forest of all bars judges them all. Reads the future."""
    _check(bars, WINDOW, minimum, contamination)
    described = _described(bars)
    usable = np.isfinite(described).all(axis=1)
    flags = np.zeros(len(bars), dtype=bool)
    if usable.sum() >= minimum:
        flags[usable] = _judged(described[usable], described[usable], contamination)
    return flags


def _judged(past: np.ndarray, rows: np.ndarray, contamination: float) -> np.ndarray:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=50, max_samples=min(256, len(past)), random_state=0).fit(past)
    border = np.quantile(forest.score_samples(past), contamination)
    return np.asarray(forest.score_samples(rows) < border)


def _described(bars: pd.DataFrame) -> np.ndarray:
    high, low, close = (np.ascontiguousarray(bars[name], dtype=np.float64) for name in ("high", "low", "close"))
    return _describe(high, low, close, _SCALE_WINDOW)


@njit(cache=True)
def _describe(high: np.ndarray, low: np.ndarray, close: np.ndarray, window: int) -> np.ndarray:
    out = np.full((close.size, 4), np.nan)
    for i in range(window + 1, close.size):
        # Summed anew for each bar: a running sum would depend on where the series begins.
        total = 0.0
        for k in range(i - window, i):
            total += abs(close[k] - close[k - 1])
        scale = total / window
        if not scale > 0.0:
            continue
        before = close[i - 1]
        out[i, 0] = (close[i] - before) / scale
        out[i, 1] = (high[i] - before) / scale
        out[i, 2] = (low[i] - before) / scale
        out[i, 3] = max(high[i] - close[i], close[i] - low[i]) / scale
    return out


def _check(bars: pd.DataFrame, window: int, minimum: int, contamination: float) -> None:
    if not isinstance(bars.index, pd.DatetimeIndex):
        raise DataError("the bars have no time index", hint="set_index('ts') first")
    if not 0 < contamination < 0.5:
        raise ConfigurationError(f"contamination = {contamination} is not between 0 and 0.5")
    if not 10 <= minimum <= window:
        raise ConfigurationError(f"minimum = {minimum} is not between 10 and the window, {window}")
