"""Unusual behaviour in bars: volume without a move, runs on stops, shapes never seen before, bars unlike the others.

Every finding carries a score and the reason in words, and is known at its bar's close.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import feature
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import STILL, Floats, Window, columns, frame, ratio, series
from tapeline.features.behaviour_kernels import left_neighbours, rolling_absolute_deviation, sweeps_and_returns
from tapeline.features.hidden_markov import Refit, period_starts
from tapeline.features.kernels import rolling_mean

KINDS: Final = ("volume without move", "stop run", "discord", "isolated bar")
"""The kinds of :func:`unusual_bars`."""

_BOUND: Final = 10.0


@feature(
    lookback=lambda window: window + 2,
    outputs="effort_{window}",
    reference="Wyckoff's law of effort and result, in Pruden, The Three Skills of Top Trading (2007), chapter 7; "
    "Williams, Master the Markets (1993)",
)
def effort_without_result(bars: pd.DataFrame, window: Window = 50) -> pd.Series:
    """How much more volume than movement a bar has, both against the ``window`` bars before: log ratio, -10 to 10.

    ``log(volume / its mean) - log(true range / its mean)``: 0 where volume and movement are as usual to each other,
    2 where the volume is 7.4 times what the movement would suggest. 0 where nothing is usual or nothing was traded.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> effort_without_result(example_bars(10, 10, 10, 10).assign(volume=[1.0, 1, 1, 9]), window=2).round(2).tolist()
    [nan, nan, nan, 2.2]
    """
    effort, result = _relative_effort(bars, window)
    some = (effort > 0.0) & (result > 0.0)
    logs = np.log(np.where(some, effort, 1.0)) - np.log(np.where(some, result, 1.0))
    # Volume in a bar without any movement is effort without any result at all.
    logs = np.where((effort > 0.0) & (result == 0.0), _BOUND, logs)
    return series(bars, _warm(np.clip(logs, -_BOUND, _BOUND), window + 1))


@feature(
    lookback=lambda window, within: window + within + 1,
    outputs=("stop_run_{window}", "stop_run_depth_{window}"),
    reference="Osler, Stop-loss orders and price cascades in currency markets, Journal of International Money and "
    "Finance 24 (2005); the turtle soup of Connors and Raschke, Street Smarts (1995), chapter 5",
)
def stop_run(bars: pd.DataFrame, window: Window = 48, within: Annotated[int, Field(ge=1, le=100)] = 3) -> pd.DataFrame:
    """A sweep of a recent extreme, where stops lie, that comes back at once.

    Returns
    -------
    ``stop_run``: -1 at the first close back below the highest high of the ``window`` bars before a sweep, where a bar
    at most ``within - 1`` bars ago went above it, 1 for a sweep of the lowest low, else 0. ``stop_run_depth``: how far
    beyond the extreme the sweep went, in mean ranges of those ``window`` bars, 0 without one. Of a sweep on both sides
    the deeper one counts.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 10).assign(high=[11.0, 11, 11, 13])
    >>> stop_run(bars, window=2, within=1).iloc[-1].tolist()
    [-1.0, 1.0]
    """
    high, low, close = columns(bars, "high", "low", "close")
    side, depth = sweeps_and_returns(high, low, close, window, within)
    return frame(bars, **{f"stop_run_{window}": side, f"stop_run_depth_{window}": depth})


def left_profile(values: Floats, window: int) -> tuple[Floats, NDArray[np.int64]]:
    """How unlike everything before it each stretch of a series is: the left matrix profile, 0 (seen before) to 1.

    A stretch is ``window`` values long and stands at its last one. Its distance to the most similar stretch that ends
    before (a quarter of a window apart at least), each brought to mean 0 and deviation 1 first, is taken over the
    greatest one there can be, ``2 * sqrt(window)``. Later values are not read.

    Parameters
    ----------
    values:
        Finite numbers, ``(n,)``.
    window:
        3 at least.

    Returns
    -------
    The distances, ``(n,)``, NaN where there is no stretch before; and where the most similar stretch ends, -1 there.

    Raises
    ------
    ConfigurationError
        The window is below 3 or longer than the series.
    DataError
        A value is not finite.

    Notes
    -----
    After Yeh et al., Matrix Profile I, ICDM 2016. It costs ``n * n`` steps. :class:`ProfileStream` gives the same by
    stumpy (Law, Journal of Open Source Software 4, 2019), one value at a time.

    Examples
    --------
    >>> wave = np.tile([0.0, 1.0, 0.0, -1.0], 6)
    >>> wave[20:] = [0.0, 0.0, 2.0, 2.0]
    >>> distance, _ = left_profile(wave, 4)
    >>> bool(distance[19] < 0.01), bool(distance[23] > 0.1)
    (True, True)
    """
    numbers = _finite(values, window)
    left = left_neighbours(numbers - numbers.mean(), window, int(np.ceil(window / 4)))
    distance = np.full(numbers.size, np.nan)
    nearest = np.full(numbers.size, -1, dtype=np.int64)
    stretches = np.lib.stride_tricks.sliding_window_view(numbers, window)
    has = np.flatnonzero(left >= 0)
    distance[has + window - 1] = _distances(stretches[has], stretches[left[has]])
    nearest[has + window - 1] = left[has] + window - 1
    return distance, nearest


class ProfileStream:
    """The left matrix profile of a growing series: each new value costs one pass over those before it.

    Gives what :func:`left_profile` gives on the series so far: one distance profile a value, by Mueen's algorithm
    (stumpy's ``mass``). The first value in a process also compiles, for some ten seconds.

    Parameters
    ----------
    values:
        The series so far; may be empty.
    window:
        As in :func:`left_profile`.
    keep:
        Forget the oldest values beyond this many; None keeps all. What is forgotten is no longer compared with.

    Examples
    --------
    >>> stream = ProfileStream(np.sin(np.arange(40.0)), 8)
    >>> bool(0.0 <= stream.update(float(np.sin(40.0))) <= 0.2)
    True
    """

    def __init__(self, values: Floats, window: int, *, keep: int | None = None) -> None:
        if window < 3:
            raise ConfigurationError(f"window = {window} must be 3 at least")
        if keep is not None and keep < 2 * window:
            raise ConfigurationError(f"keep = {keep} must be at least twice the window of {window}")
        self.window = window
        self._values = deque((float(value) for value in values), maxlen=keep)
        if not np.isfinite(np.array(self._values)).all():
            raise DataError("the series so far holds a value that is not finite")

    def update(self, value: float) -> float:
        """Append a value; the distance of the stretch that it completes, 0 to 1, NaN without one before it."""
        if not np.isfinite(value):
            raise DataError(f"value = {value} is not finite")
        import stumpy

        self._values.append(float(value))
        numbers = np.array(self._values)
        others = numbers.size - self.window - int(np.ceil(self.window / 4))
        if others < 1:
            return float("nan")
        profile = stumpy.mass(numbers[-self.window :], numbers)
        return float(profile[:others].min()) / (2.0 * float(np.sqrt(self.window)))


def discord_scores(values: Floats, window: int, memory: int = 500) -> Floats:
    """How far each stretch's left profile lies above what has been usual, in robust standard deviations.

    Against median and median absolute deviation of the ``memory`` profile values before it; NaN until half of them
    are there. The profile falls as history grows, which only makes an old alarm harder to repeat.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> walk = np.sin(np.arange(400) / 3) + generator.normal(0, 0.05, 400)
    >>> walk[300:312] = 0.0
    >>> scores = discord_scores(walk, 12, memory=100)
    >>> bool(300 <= np.nanargmax(scores) <= 323)
    True
    """
    distance, _ = left_profile(values, window)
    return robust_score(distance, memory)


def robust_score(values: Floats, memory: int) -> Floats:
    """Each value's distance above the median of the ``memory`` values before it, in robust standard deviations.

    NaN until half of them are there, and where they do not vary.

    Examples
    --------
    >>> robust_score(np.array([1.0, 2.0, 3.0, 2.0, 9.0]), 4)[-1].round(2).item()
    9.44
    """
    past = pd.Series(values).shift(1).rolling(memory, min_periods=max(memory // 2, 1))
    middle = past.median().to_numpy()
    deviation = rolling_absolute_deviation(values, memory)
    return ratio(values - middle, 1.4826 * deviation, STILL * (1.0 + np.abs(np.nan_to_num(middle))))


def isolation_scores(
    observations: pd.DataFrame, *, window: int = 1000, refit: Refit = "week", trees: int = 100, seed: int = 0
) -> pd.DataFrame:
    """How easily each row is told apart from those of the past: the isolation forest's score, and the reason.

    At the first row of each period the forest is grown anew on the ``window`` rows before it; it then scores the rows
    up to the next one. No row is in the forest that scores it. The same rows give the same scores: the seed is fixed.

    Returns
    -------
    ``score``: 0 to 1, about 0.5 for a usual row, near 1 for one told apart at once; NaN before the first forest, and
    for a row with a missing number. ``column``: the number that lies farthest from its median in the forest's rows, in
    median absolute deviations, and ``deviations`` how many.

    Raises
    ------
    ConfigurationError
        A window below 64, or less than one tree.

    Notes
    -----
    Liu, Ting and Zhou, Isolation-based Anomaly Detection, ACM TKDD 6 (2012); scikit-learn's forest.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=240, freq="h", tz="UTC")
    >>> rows = pd.DataFrame({"x": np.sin(np.arange(240.0)), "y": np.cos(np.arange(240.0))}, index=ts)
    >>> rows.iloc[200, 1] = 50.0
    >>> found = isolation_scores(rows, window=128, trees=20)
    >>> bool(found["score"].iloc[200] > found["score"].median()), found["column"].iloc[200]
    (True, 'y')
    """
    if window < 64 or trees < 1:
        raise ConfigurationError(f"window = {window} must be at least 64, trees = {trees} at least 1")
    from sklearn.ensemble import IsolationForest

    values = observations.to_numpy(dtype=np.float64)
    usable = np.isfinite(values).all(axis=1)
    score, far = np.full(len(values), np.nan), np.full(len(values), np.nan)
    column = np.full(len(values), None, dtype=object)
    names = np.asarray(observations.columns, dtype=object)
    rows = np.flatnonzero(period_starts(pd.DatetimeIndex(observations.index), refit))
    rows = rows[rows >= window]
    for start, end in zip(rows, np.append(rows, len(values))[1:], strict=True):
        past = values[start - window : start][usable[start - window : start]]
        due = np.flatnonzero(usable[start:end]) + start
        if len(past) < window // 2 or not due.size:
            continue
        forest = IsolationForest(n_estimators=trees, random_state=seed, n_jobs=1).fit(past)
        score[due] = -forest.score_samples(values[due])
        middle = np.median(past, axis=0)
        spread = np.maximum(np.median(np.abs(past - middle), axis=0), 1e-12 * (1.0 + np.abs(middle)))
        away = np.abs(values[due] - middle) / spread
        worst = away.argmax(axis=1)
        column[due], far[due] = names[worst], away[np.arange(due.size), worst]
    return pd.DataFrame({"score": score, "column": column, "deviations": far}, index=observations.index)


@dataclass(frozen=True)
class Thresholds:
    """From where a bar is unusual.

    Parameters
    ----------
    volume:
        Volume against its mean of 50 bars, and ``effort``, the log ratio of :func:`effort_without_result`.
    depth:
        Mean ranges by which a stop run went beyond the extreme.
    discord:
        Robust deviations of a stretch of ``shape`` bars above the usual left profile.
    isolation:
        The forest's score, ``history`` bars behind it.
    """

    volume: float = 3.0
    effort: float = 1.5
    depth: float = 0.5
    discord: float = 6.0
    shape: int = 24
    isolation: float = 0.6
    history: int = 1000


def unusual_bars(bars: pd.DataFrame, timeframe: Timeframe, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Every unusual bar by every method, with its score and the reason.

    Parameters
    ----------
    bars:
        Clean bars, sorted by open time.

    Returns
    -------
    One row a finding, by bar, then kind: ``ts`` (the bar's open), ``known_at`` (its close), ``kind`` (:data:`KINDS`),
    ``score`` (1 at the threshold, more beyond it), ``reason``. Discords are sought in the logarithm of the closes,
    isolated bars among returns, ranges, volumes and wicks, each relative to the 50 bars before.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> quiet = example_bars(*[100, 101] * 60)
    >>> quiet["volume"] = [10.0] * 119 + [900.0]
    >>> unusual_bars(quiet, Timeframe.parse("H1"))[["kind", "reason"]].values.tolist()
    [['volume without move', 'volume 90.0 times, true range 1.0 times the mean of 50 bars']]
    """
    limits = thresholds or Thresholds()
    effort, result = _relative_effort(bars, 50)
    logs = effort_without_result(bars, 50).to_numpy()
    found: list[pd.DataFrame] = []

    def add(kind: str, rows: NDArray[np.intp], scores: Floats, reasons: list[str]) -> None:
        found.append(pd.DataFrame({"row": rows, "kind": kind, "score": scores, "reason": reasons}))

    rows = np.flatnonzero((effort >= limits.volume) & (logs >= limits.effort))
    reasons = [f"volume {effort[i]:.1f} times, true range {result[i]:.1f} times the mean of 50 bars" for i in rows]
    add(KINDS[0], rows, logs[rows] / limits.effort, reasons)

    sweeps = stop_run(bars).to_numpy()
    rows = np.flatnonzero((sweeps[:, 0] != 0.0) & (sweeps[:, 1] >= limits.depth))
    reasons = [
        f"went {sweeps[i, 1]:.1f} mean ranges {'above the high' if sweeps[i, 0] < 0 else 'below the low'} of 48 bars "
        "and came back"
        for i in rows
    ]
    add(KINDS[1], rows, sweeps[rows, 1] / limits.depth, reasons)

    close = bars["close"].to_numpy(dtype=np.float64)
    if close.size >= 4 * limits.shape:
        scores = discord_scores(np.log(close), limits.shape)
        rows = np.flatnonzero(scores >= limits.discord)
        reasons = [f"the last {limits.shape} bars are {scores[i]:.1f} deviations less like any before" for i in rows]
        add(KINDS[2], rows, scores[rows] / limits.discord, reasons)

    scored = isolation_scores(_observations(bars, effort, result), window=limits.history)
    score = scored["score"].to_numpy()
    rows = np.flatnonzero(score >= limits.isolation)
    names, far = scored["column"].to_numpy(), scored["deviations"].to_numpy()
    reasons = [f"told apart by its {names[i]}, {far[i]:.0f} deviations from the median" for i in rows]
    add(KINDS[3], rows, score[rows] / limits.isolation, reasons)

    table = pd.concat(found, ignore_index=True)
    table["kind"] = pd.Categorical(table["kind"], categories=list(KINDS), ordered=True)
    table = table.sort_values(["row", "kind"]).reset_index(drop=True)
    index = pd.DatetimeIndex(bars.index)[table.pop("row").to_numpy(dtype=np.intp)]
    table.insert(0, "ts", index)
    table.insert(1, "known_at", timeframe.closes(index))
    return table


def _observations(bars: pd.DataFrame, effort: Floats, result: Floats) -> pd.DataFrame:
    """What the forest sees of a bar: numbers without a price level."""
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    before = np.concatenate((close[:1], close[:-1]))
    normal = rolling_mean(np.abs(close - before), 50)
    height = high - low
    return frame(
        bars,
        move=ratio(close - before, normal, STILL * close),
        range=np.log1p(result),
        volume=np.log1p(effort),
        upper_wick=np.nan_to_num(ratio(high - np.maximum(opened, close), height, STILL * close)),
        lower_wick=np.nan_to_num(ratio(np.minimum(opened, close) - low, height, STILL * close)),
    )


def _relative_effort(bars: pd.DataFrame, window: int) -> tuple[Floats, Floats]:
    """Volume and true range over their means of the ``window`` bars before; NaN where those are 0."""
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    before = _shifted(close)
    height = np.maximum(high, before) - np.minimum(low, before)
    usual = _shifted(rolling_mean(height, window))
    return ratio(volume, _shifted(rolling_mean(volume, window))), ratio(height, usual, STILL * close)


def _distances(one: Floats, other: Floats) -> Floats:
    """Distance of stretches brought to mean 0 and deviation 1, over the greatest one; a flat one is like a flat one."""
    size = one.shape[1]
    first, second = one.std(axis=1), other.std(axis=1)
    flat_first, flat_second = np.ptp(one, axis=1) == 0.0, np.ptp(other, axis=1) == 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        a = (one - one.mean(axis=1, keepdims=True)) / first[:, None]
        b = (other - other.mean(axis=1, keepdims=True)) / second[:, None]
        distance = np.sqrt(((a - b) ** 2).sum(axis=1))
    distance[flat_first ^ flat_second] = np.sqrt(size)
    distance[flat_first & flat_second] = 0.0
    return distance / (2.0 * np.sqrt(size))


def _finite(values: Floats, window: int) -> Floats:
    numbers = np.ascontiguousarray(values, dtype=np.float64)
    if window < 3 or window > numbers.size:
        raise ConfigurationError(f"window = {window} must be 3 to the {numbers.size} values given")
    if not np.isfinite(numbers).all():
        raise DataError(f"value {int(np.argmin(np.isfinite(numbers)))} is not finite", hint="fill or cut the series")
    return numbers


def _shifted(values: Floats) -> Floats:
    return np.concatenate((np.full(min(values.size, 1), np.nan), values[:-1]))


def _warm(values: Floats, rows: int) -> Floats:
    values[:rows] = np.nan
    return np.where(np.isnan(values) & (np.arange(values.size) >= rows), 0.0, values)
