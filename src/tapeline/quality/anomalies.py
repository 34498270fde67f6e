"""Anomalies: bars that are unusual against the bars before them, each with the method that says so and its score.

Every method looks at the past only. A finding says that a bar is unusual, not that it is wrong, and nothing is
changed or removed because of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.core.errors import ConfigurationError
from tapeline.core.timeframe import Timeframe
from tapeline.quality.checks import columns_of, times
from tapeline.quality.order_statistics import median, push, quantile, robust_scale

WINDOW: Final = 200
"""How many past values a bar is held against."""

MINIMUM: Final = 50
"""With fewer past values than this no score is given."""

BURST: Final = 20
"""How many bars the short standard deviation spans."""

LONGEST_SPIKE: Final = 3
"""For how many bars a price may stay away and still be a spike when it returns."""

SMALLEST_SPIKE: Final = 3.0
"""Smaller steps, in robust standard deviations, are given no score by ``spike_and_return``."""

RETURNED: Final = 0.3
"""A price has returned when no more than this share of the spike is left."""

COLUMNS: Final = ("ts", "known_at", "method", "field", "score", "message")

Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Method:
    """One way to look for the unusual.

    Parameters
    ----------
    scores:
        From ``open high low close volume`` arrays to two arrays, both by the bar at whose close they are known: the
        score (NaN where nothing can be said) and how many bars before it the unusual bar lies.
    threshold:
        From which score on a bar is reported.
    field:
        What it looks at: ``price`` or ``volume``.
    word, unit:
        What a message calls the finding and its score.
    """

    scores: Callable[[Mapping[str, np.ndarray]], Scores]
    threshold: float
    field: str
    word: str
    unit: str


def find_anomalies(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    *,
    methods: Sequence[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Look for unusual bars.

    Parameters
    ----------
    bars:
        Sorted bars, open time as index or column ``ts``. Prices that are not finite and positive are passed over.
    timeframe:
        The bars' length.
    methods:
        Names of :data:`METHODS`; all where None.
    thresholds:
        Other thresholds than the methods' own, by name.

    Returns
    -------
    One row a bar and method, by time: ``ts`` of the unusual bar, ``known_at`` (the close of the bar at which it could
    be told: for ``spike_and_return`` the one that returned), ``method``, ``field``, ``score``, ``message``.

    Raises
    ------
    ConfigurationError
        A method is unknown, or a threshold is not above 0.
    SchemaError
        A column is missing, or the times are not time-zone-aware.

    Examples
    --------
    >>> ts = pd.date_range("2025-07-30 07:00", periods=62, freq="5min", tz="UTC", name="ts")
    >>> close = 1.1 + 0.0001 * (np.arange(62) % 3)
    >>> close[61] += 0.00035
    >>> bars = pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1.0}, index=ts)
    >>> find_anomalies(bars, "M5", methods=["zscore"], thresholds={"zscore": 3.0})["message"].tolist()
    ['OHLCV spike at 2025-07-30 12:05, z=3.2']
    """
    timeframe = Timeframe.parse(timeframe)
    chosen = _chosen(methods, thresholds or {})
    columns = columns_of(bars)
    ts = times(bars).as_unit("ns").tz_convert("UTC")
    found = []
    for name, threshold in chosen.items():
        method = METHODS[name]
        score, back = method.scores(columns)
        with np.errstate(invalid="ignore"):
            known = np.flatnonzero(np.abs(score) >= threshold)
        at = known - back[known]
        found.append(
            pd.DataFrame(
                {
                    "ts": ts[at],
                    "known_at": timeframe.closes(ts[known]),
                    "method": pd.array([name] * len(at), dtype="str"),
                    "field": pd.array([method.field] * len(at), dtype="str"),
                    "score": score[known],
                    "message": pd.array(
                        [
                            f"OHLCV {method.word} at {_clock(stamp)}, {method.unit}={value:.1f}"
                            for stamp, value in zip(ts[at], score[known], strict=True)
                        ],
                        dtype="str",
                    ),
                },
                columns=list(COLUMNS),
            )
        )
    return pd.concat(found, ignore_index=True).sort_values(["ts", "known_at", "method"], ignore_index=True)


def _chosen(methods: Sequence[str] | None, thresholds: Mapping[str, float]) -> dict[str, float]:
    names = list(METHODS) if methods is None else list(dict.fromkeys(methods))
    unknown = [name for name in [*names, *thresholds] if name not in METHODS]
    if unknown or not names:
        raise ConfigurationError(f"anomaly methods {unknown or names} are unknown", hint=f"use {sorted(METHODS)}")
    wrong = {name: value for name, value in thresholds.items() if not value > 0}
    if wrong:
        raise ConfigurationError(f"thresholds {wrong} must be above 0")
    return {name: thresholds.get(name, METHODS[name].threshold) for name in names}


def _clock(stamp: pd.Timestamp) -> str:
    return f"{stamp:%Y-%m-%d %H:%M}" if stamp.second == 0 else f"{stamp:%Y-%m-%d %H:%M:%S}"


def _returns(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return _log_changes(columns["close"], columns["close"])


def _log_volume(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    volume = columns["volume"]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((volume >= 0) & np.isfinite(volume), np.log1p(volume), np.nan)


def _log_changes(values: np.ndarray, before: np.ndarray) -> np.ndarray:
    """``log(values[t] / before[t-1])``, NaN where either is not finite and positive, and at the first bar."""
    out = np.full(len(values), np.nan)
    if len(values):
        one, other = values[1:], before[:-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            fine = (one > 0) & (other > 0) & np.isfinite(one) & np.isfinite(other)
            out[1:] = np.where(fine, np.log(one) - np.log(other), np.nan)
    return out


def _at_once(score: np.ndarray) -> Scores:
    return score, np.zeros(len(score), dtype=np.int64)


def _zscore(columns: Mapping[str, np.ndarray]) -> Scores:
    return _at_once(_moment_scores(_returns(columns), WINDOW, MINIMUM))


def _robust(columns: Mapping[str, np.ndarray]) -> Scores:
    changes = _returns(columns)
    return _at_once(_order_scores(changes, changes, WINDOW, MINIMUM, False))


def _interquartile(columns: Mapping[str, np.ndarray]) -> Scores:
    changes = _returns(columns)
    return _at_once(_order_scores(changes, changes, WINDOW, MINIMUM, True))


def _volume(columns: Mapping[str, np.ndarray]) -> Scores:
    level = _log_volume(columns)
    return _at_once(_order_scores(level, level, WINDOW, MINIMUM, False))


def _gap(columns: Mapping[str, np.ndarray]) -> Scores:
    # A gap is held against the whole changes of the close, of which it would be a part.
    jumps = _log_changes(columns["open"], columns["close"])
    return _at_once(_order_scores(jumps, _returns(columns), WINDOW, MINIMUM, False))


def _rolling_deviation(columns: Mapping[str, np.ndarray]) -> Scores:
    return _at_once(_deviation_ratios(_returns(columns), BURST, WINDOW, MINIMUM))


def _frozen(columns: Mapping[str, np.ndarray]) -> Scores:
    return _at_once(_frozen_runs(*(columns[name] for name in ("open", "high", "low", "close"))))


def _spike_and_return(columns: Mapping[str, np.ndarray]) -> Scores:
    with np.errstate(invalid="ignore", divide="ignore"):
        high, low, close = (
            np.where((columns[name] > 0) & np.isfinite(columns[name]), np.log(columns[name]), np.nan)
            for name in ("high", "low", "close")
        )
    changes = _returns(columns)
    scale = _scales(changes, WINDOW, MINIMUM)
    return _spikes(high, low, close, scale, SMALLEST_SPIKE, RETURNED, LONGEST_SPIKE)


@njit(cache=True)
def _moment_scores(x: np.ndarray, window: int, minimum: int) -> np.ndarray:
    """``(x - mean) / std`` by the values before; summed anew for each bar, so that a tail gives the same bits."""
    out = np.full(x.size, np.nan)
    ring = np.empty(window)
    seen = 0
    for i in range(x.size):
        if np.isnan(x[i]):
            continue
        count = min(seen, window)
        if count >= minimum:
            mean = 0.0
            for k in range(seen - count, seen):
                mean += ring[k % window]
            mean /= count
            square = 0.0
            for k in range(seen - count, seen):
                square += (ring[k % window] - mean) ** 2
            deviation = np.sqrt(square / (count - 1))
            if deviation > 0.0:
                out[i] = (x[i] - mean) / deviation
        ring[seen % window] = x[i]
        seen += 1
    return out


@njit(cache=True)
def _order_scores(x: np.ndarray, reference: np.ndarray, window: int, minimum: int, quartiles: bool) -> np.ndarray:
    """How far ``x`` lies from the references before it: in robust deviations, or in interquartile ranges."""
    out = np.full(x.size, np.nan)
    ring, ordered = np.empty(window), np.empty(window)
    seen = 0
    for i in range(x.size):
        count = min(seen, window)
        if count >= minimum and not np.isnan(x[i]):
            if quartiles:
                low, high = quantile(ordered, count, 0.25), quantile(ordered, count, 0.75)
                if high > low:
                    beyond = x[i] - high if x[i] > high else min(x[i] - low, 0.0)
                    out[i] = beyond / (high - low)
            else:
                middle = median(ordered, count)
                scale = robust_scale(ordered, count, middle)
                if scale > 0.0:
                    out[i] = (x[i] - middle) / scale
        if not np.isnan(reference[i]):
            push(ordered, ring, seen, reference[i])
            seen += 1
    return out


@njit(cache=True)
def _scales(x: np.ndarray, window: int, minimum: int) -> np.ndarray:
    """The robust standard deviation of the values before each bar."""
    out = np.full(x.size, np.nan)
    ring, ordered = np.empty(window), np.empty(window)
    seen = 0
    for i in range(x.size):
        count = min(seen, window)
        if count >= minimum:
            out[i] = robust_scale(ordered, count, median(ordered, count))
        if not np.isnan(x[i]):
            push(ordered, ring, seen, x[i])
            seen += 1
    return out


@njit(cache=True)
def _deviation_ratios(x: np.ndarray, short: int, window: int, minimum: int) -> np.ndarray:
    """The standard deviation of the last values, this one included, by that of the values before those."""
    out = np.full(x.size, np.nan)
    held = np.empty(short + window)
    seen = 0
    for i in range(x.size):
        if np.isnan(x[i]):
            continue
        held[seen % held.size] = x[i]
        seen += 1
        count = min(seen - short, window)
        if count < minimum:
            continue
        now = _deviation(held, seen - short, seen)
        before = _deviation(held, seen - short - count, seen - short)
        if before > 0.0:
            out[i] = now / before
    return out


@njit(cache=True)
def _deviation(held: np.ndarray, first: int, last: int) -> float:
    mean = 0.0
    for k in range(first, last):
        mean += held[k % held.size]
    mean /= last - first
    square = 0.0
    for k in range(first, last):
        square += (held[k % held.size] - mean) ** 2
    return np.sqrt(square / (last - first - 1))


@njit(cache=True)
def _frozen_runs(opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """How many bars in a row, this one included, are equal in all four prices."""
    out = np.ones(close.size)
    for i in range(1, close.size):
        same = opened[i] == opened[i - 1] and high[i] == high[i - 1] and low[i] == low[i - 1]
        if same and close[i] == close[i - 1]:
            out[i] = out[i - 1] + 1.0
    return out


@njit(cache=True)
def _spikes(
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    scale: np.ndarray,
    least: float,
    returned: float,
    longest: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Excursions that ended: within one bar, by its wick, or by a close that comes back after up to ``longest``."""
    score = np.full(close.size, np.nan)
    back = np.zeros(close.size, dtype=np.int64)
    for i in range(1, close.size):
        if scale[i] > 0.0:
            up = high[i] - max(close[i], close[i - 1])
            down = low[i] - min(close[i], close[i - 1])
            stray = up if up > -down else down
            if abs(stray) > least * scale[i]:
                score[i] = stray / scale[i]
        for d in range(1, min(longest, i - 1) + 1):
            first = i - d
            base = close[first - 1]
            stray = close[first] - base
            if not (scale[first] > 0.0 and abs(stray) > least * scale[first]):
                continue
            if not abs(close[i] - base) <= returned * abs(stray):
                continue
            away = True
            for k in range(first, i):
                if not (close[k] - base) * np.sign(stray) > returned * abs(stray):
                    away = False
            if away and (np.isnan(score[i]) or abs(stray) > abs(score[i]) * scale[first]):
                score[i] = stray / scale[first]
                back[i] = d
    return score, back


METHODS: Final[Mapping[str, Method]] = {
    "zscore": Method(_zscore, 6.0, "price", "spike", "z"),
    "robust_zscore": Method(_robust, 10.0, "price", "spike", "z"),
    "iqr": Method(_interquartile, 7.0, "price", "spike", "iqr"),
    "rolling_deviation": Method(_rolling_deviation, 3.0, "price", "burst of volatility", "ratio"),
    "frozen_price": Method(_frozen, 5.0, "price", "frozen price", "bars"),
    "gap": Method(_gap, 8.0, "price", "gap", "z"),
    "spike_and_return": Method(_spike_and_return, 10.0, "price", "spike and return", "z"),
    "volume": Method(_volume, 6.0, "volume", "volume spike", "z"),
}
"""Every method by name.

``zscore``
    The change of the log close by mean and standard deviation of the 200 changes before.
``robust_zscore``
    The same by median and MAD (Iglewicz and Hoaglin 1993, ch. 3), which one outlier does not inflate.
``iqr``
    How many interquartile ranges it lies beyond the quartiles (Tukey 1977).
``rolling_deviation``
    The standard deviation of the last 20 changes by that of the 200 before them.
``frozen_price``
    How many bars in a row repeat the same open, high, low and close.
``gap``
    The step from the last close to this open, in robust deviations of the changes of the close.
``spike_and_return``
    A wick, or a close that strays and is back within 3 bars with less than 30 % of the step left.
``volume``
    The logarithm of the volume by median and MAD of the 200 before.
"""

LOOKBACK: Final = WINDOW + BURST + LONGEST_SPIKE + 2
"""So many bars with sound prices, the judged one included, decide a score; ``frozen_price`` counts on without bound."""
