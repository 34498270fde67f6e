"""Drawn bars: patterns with known points, the same with noise, near-misses, and random walks that hold none.

They are synthetic and say so; they measure a detector (what share of the drawn ones it finds, what share of what it
finds was drawn, what it sees in noise), never a market.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

MINUTE = pd.Timedelta(minutes=1)


@dataclass(frozen=True)
class Drawing:
    """Bars on which a pattern was drawn.

    Parameters
    ----------
    bars:
        With ``close_ts`` and volume.
    kind:
        The kind of event that should be found; empty for a near-miss, in which it should not be.
    direction:
        Its direction.
    points:
        The (row, price) of its corner points.
    """

    bars: pd.DataFrame
    kind: str
    direction: int
    points: tuple[tuple[int, float], ...]


def bars_through(
    points: Sequence[tuple[int, float]], *, noise: float = 0.0, volume: ArrayLike | None = None, seed: int = 0
) -> pd.DataFrame:
    """Minute bars whose path runs straight from point to point, with the points as the extremes of their bars.

    Parameters
    ----------
    points:
        (row, price), rows ascending from 0; the last row ends the bars.
    noise:
        Standard deviation of the noise added to closes between the points, as a share of the mean leg's height per
        bar; noise never carries a bar beyond the points at the ends of its leg.
    volume:
        One number a bar; 1,000 each where absent.

    Examples
    --------
    >>> bars = bars_through([(0, 100.0), (4, 104.0), (6, 102.0)])
    >>> bars["high"].tolist()
    [100.0, 101.0, 102.0, 103.0, 104.0, 104.0, 103.0]
    """
    rows, prices = (np.array(part) for part in zip(*points, strict=True))
    if rows[0] != 0 or (np.diff(rows) <= 0).any():
        raise ValueError(f"rows {rows.tolist()} must begin at 0 and ascend")
    count = int(rows[-1]) + 1
    path = np.interp(np.arange(count), rows, prices)
    if noise:
        generator = np.random.default_rng(seed)
        step = float(np.abs(np.diff(prices)).sum() / np.diff(rows).sum())
        shaken = path + generator.normal(0.0, noise * step, count)
        leg = np.clip(np.searchsorted(rows, np.arange(count), side="right"), 1, len(rows) - 1)
        lowest, highest = np.minimum(prices[leg - 1], prices[leg]), np.maximum(prices[leg - 1], prices[leg])
        path = np.clip(shaken, lowest, highest)
        path[rows] = prices
    return bars_of_closes(path, volume=volume)


def bars_of_closes(closes: Iterable[float], *, volume: ArrayLike | None = None) -> pd.DataFrame:
    """Minute bars that open at the close before and reach no farther than open and close."""
    close = np.asarray(list(closes), dtype=np.float64)
    opened = np.concatenate((close[:1], close[:-1]))
    ts = pd.date_range("2017-01-02", periods=close.size, freq=MINUTE, tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": np.full(close.size, 1000.0) if volume is None else np.asarray(volume, dtype=np.float64),
            "close_ts": ts + MINUTE,
        },
        index=ts,
    )


def random_walk(rows: int, *, seed: int = 0, volatility: float = 0.001, start: float = 100.0) -> pd.DataFrame:
    """Minute bars of a geometric random walk, four steps a bar: a market in which no pattern means anything.

    Examples
    --------
    >>> random_walk(3, seed=1)["close"].round(3).tolist() == random_walk(3, seed=1)["close"].round(3).tolist()
    True
    """
    generator = np.random.default_rng(seed)
    path = start * np.exp(np.cumsum(generator.normal(0.0, volatility / 2.0, (rows, 4)), axis=None)).reshape(rows, 4)
    close = path[:, -1]
    bars = bars_of_closes(close, volume=generator.lognormal(7.0, 0.5, rows).round())
    return bars.assign(high=np.maximum(bars["open"], path.max(axis=1)), low=np.minimum(bars["open"], path.min(axis=1)))


@dataclass(frozen=True)
class Case:
    """What measures one kind: the detector, ``drawings(count, noise=, seed=)`` and ``near_misses(count, seed=)``."""

    detect: Callable[[pd.DataFrame], pd.DataFrame]
    drawings: Callable[..., Sequence[Drawing]]
    near_misses: Callable[..., Sequence[Drawing]]


@dataclass(frozen=True)
class Accuracy:
    """What a detector made of drawings and of random walks.

    ``recall``: the share of drawings in which the drawn kind and direction was found with its last point within
    ``slack`` bars. ``precision``: the share of what was found of these kinds, in the drawings, that was drawn.
    ``near_misses``: the share of near-misses in which it was found all the same. ``per_thousand``: findings of these
    kinds per 1,000 bars of random walk.
    """

    kind: str
    drawings: int
    recall: float
    precision: float
    near_misses: float
    per_thousand: float


def accuracy(
    detect: Callable[[pd.DataFrame], pd.DataFrame],
    kind: str,
    drawings: Sequence[Drawing],
    near_misses: Sequence[Drawing],
    walks: Sequence[pd.DataFrame],
    *,
    slack: int = 3,
) -> Accuracy:
    """Measure a detector on drawings of one kind, on near-misses of it, and on random walks."""
    hit = told = 0
    for drawing in drawings:
        found = _of_kind(detect(drawing.bars), kind)
        told += len(found)
        last = drawing.bars.index[drawing.points[-1][0]]
        near = (found["end"] - last).abs() <= slack * MINUTE
        hit += bool((near & (found["direction"] == drawing.direction)).any())
    missed = sum(bool(len(_of_kind(detect(drawing.bars), kind))) for drawing in near_misses)
    walked = sum(len(_of_kind(detect(walk), kind)) for walk in walks)
    bars = sum(len(walk) for walk in walks)
    return Accuracy(
        kind,
        drawings=len(drawings),
        recall=hit / len(drawings) if drawings else np.nan,
        precision=hit / told if told else np.nan,
        near_misses=missed / len(near_misses) if near_misses else np.nan,
        per_thousand=1000.0 * walked / bars if bars else np.nan,
    )


def _of_kind(events: pd.DataFrame, kind: str) -> pd.DataFrame:
    return events[events["kind"].astype(str) == kind]
