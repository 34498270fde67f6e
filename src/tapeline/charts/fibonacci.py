"""Fibonacci ratios of price and time as pure functions; prices are linear, not logarithms.

Sources: the ratios are powers of the golden section, 0.618 and 1.618, their roots (0.786, 1.272) and one half, as
Frost, Prechter, Elliott Wave Principle (1978), ch. 4, and Boroden, Fibonacci Trading (2008), use them; fans, arcs and
time zones as in Murphy, Technical Analysis of the Financial Markets (1999), ch. 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.charts.bar_arrays import Floats, Rows
from tapeline.core.errors import ConfigurationError, DataError

RETRACEMENTS: Final = (0.236, 0.382, 0.5, 0.618, 0.786)
EXTENSIONS: Final = (1.272, 1.414, 1.618, 2.0, 2.618, 4.236)
PROJECTIONS: Final = (0.618, 1.0, 1.272, 1.618, 2.618)
FANS: Final = (0.382, 0.5, 0.618)
RATIOS: Final = tuple(sorted({*RETRACEMENTS, *EXTENSIONS, *PROJECTIONS, 0.886, 3.618}))

Point = tuple[int, float]
"""A row and a price."""


def retracement(start: float, end: float, ratios: Sequence[float] = RETRACEMENTS) -> pd.Series:
    """The prices at which a leg is retraced by each ratio: 0 at its end, 1 at its start.

    Examples
    --------
    >>> retracement(100.0, 110.0, (0.382, 0.618)).round(6).to_dict()
    {0.382: 106.18, 0.618: 103.82}
    """
    return _levels(end, start - end, ratios)


def extension(start: float, end: float, ratios: Sequence[float] = EXTENSIONS) -> pd.Series:
    """The prices at which a leg has become each ratio of its length, measured from its start.

    Examples
    --------
    >>> extension(100.0, 110.0, (1.618,)).round(6).to_dict()
    {1.618: 116.18}
    """
    return _levels(start, end - start, ratios)


def projection(a: float, b: float, c: float, ratios: Sequence[float] = PROJECTIONS) -> pd.Series:
    """The prices at which the leg from ``c`` is each ratio of the leg from ``a`` to ``b``.

    Examples
    --------
    >>> projection(100.0, 110.0, 105.0, (1.0, 1.618)).round(6).to_dict()
    {1.0: 115.0, 1.618: 121.18}
    """
    return _levels(c, b - a, ratios)


def time_zones(row: int, last_row: int, unit: int = 1) -> Rows:
    """The rows up to ``last_row`` that lie 1, 2, 3, 5, 8, 13, ... times ``unit`` bars after a row.

    Raises
    ------
    ConfigurationError
        ``unit`` below one bar.

    Examples
    --------
    >>> time_zones(10, 40).tolist()
    [11, 12, 13, 15, 18, 23, 31]
    """
    if unit < 1:
        raise ConfigurationError(f"unit = {unit} is refused", hint="at least one bar")
    rows, (here, following) = [], (1, 2)
    while row + here * unit <= last_row:
        rows.append(row + here * unit)
        here, following = following, here + following
    return np.array(rows, dtype=np.int64)


def fan_lines(start: Point, end: Point, rows: ArrayLike, ratios: Sequence[float] = FANS) -> Floats:
    """The prices of the fan's lines at some rows: from the start of a leg through its retracements at the end's row.

    Returns
    -------
    Shape (ratios, rows); NaN before the start.

    Examples
    --------
    >>> fan_lines((0, 100.0), (10, 110.0), [10, 20], (0.5,)).tolist()
    [[105.0, 110.0]]
    """
    (first, low), (last, high) = start, end
    _ahead(first, last)
    at = np.asarray(rows, dtype=np.float64) - first
    through = np.array([high - ratio * (high - low) for ratio in ratios]) - low
    lines = low + np.outer(through / (last - first), at)
    return np.where(at < 0.0, np.nan, lines)


def arcs(start: Point, end: Point, rows: ArrayLike, *, price_per_bar: float, ratios: Sequence[float] = FANS) -> Floats:
    """The prices of circles around the end of a leg, whose radius is each ratio of the leg's length.

    A circle over price and time exists only on a stated scale: ``price_per_bar`` says how much price counts as much
    as one bar. The half towards the start is given.

    Returns
    -------
    Shape (ratios, rows); NaN before the leg's end and where the circle does not reach.

    Raises
    ------
    ConfigurationError
        ``price_per_bar`` that is not positive, a leg that does not go forward.

    Examples
    --------
    >>> arcs((0, 100.0), (30, 140.0), [30, 60], price_per_bar=1.0, ratios=(0.5, 0.618)).round(2).tolist()
    [[115.0, nan], [109.1, 132.6]]
    """
    (first, low), (last, high) = start, end
    _ahead(first, last)
    if not price_per_bar > 0.0:
        raise ConfigurationError(f"price_per_bar = {price_per_bar} is refused", hint="a positive price")
    at = np.asarray(rows, dtype=np.float64) - last
    length = np.hypot(last - first, (high - low) / price_per_bar)
    square = np.square(np.asarray(ratios)[:, None] * length) - np.square(at)
    reach = np.sqrt(np.where((square < 0.0) | (at < 0.0), np.nan, square)) * price_per_bar
    return high - np.sign(high - low) * reach


def nearest_ratio(ratio: ArrayLike, ratios: Sequence[float] = RATIOS) -> tuple[Any, Any]:
    """The Fibonacci ratio nearest to each of some ratios, and the error as a share of it.

    Nearest by quotient, as ratios are compared: 0.9 is as far below 1 as 1.11 is above it.

    Examples
    --------
    >>> found, error = nearest_ratio([0.6, 1.7])
    >>> found.tolist(), error.round(3).tolist()
    ([0.618, 1.618], [-0.029, 0.051])
    """
    given, known = np.asarray(ratio, dtype=np.float64), np.sort(np.asarray(ratios, dtype=np.float64))
    if (known <= 0.0).any() or not known.size:
        raise ConfigurationError(f"ratios {list(ratios)} are refused", hint="positive numbers")
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(np.log(given[..., None] / known))
    found = known[np.where(np.isnan(apart), np.inf, apart).argmin(axis=-1)]
    error = np.where(given > 0.0, given / found - 1.0, np.nan)
    return np.where(given > 0.0, found, np.nan), error


def confluence(levels: ArrayLike, width: float, *, least: int = 2) -> pd.DataFrame:
    """Groups of levels that lie within ``width`` of each other, the fullest first.

    The window with most levels is taken first (of equals the narrowest, then the lowest), its levels are taken out,
    and so on while one has at least ``least``.

    Returns
    -------
    A frame: ``low``, ``high``, ``count`` and ``levels`` (their places in what was given).

    Raises
    ------
    DataError
        A level that is no number.

    Examples
    --------
    >>> confluence([100.0, 103.9, 104.0, 104.2, 108.0], 0.5)[["low", "high", "count"]].to_numpy().tolist()
    [[103.9, 104.2, 3.0]]
    """
    prices = np.asarray(levels, dtype=np.float64)
    if np.isnan(prices).any():
        raise DataError(f"{int(np.isnan(prices).sum())} of {prices.size} levels are no numbers")
    order = np.argsort(prices, kind="stable")
    groups: list[tuple[float, float, int, list[int]]] = []
    while order.size >= least:
        held = prices[order]
        until = np.searchsorted(held, held + width, side="right")
        counts = until - np.arange(held.size)
        # Of equals the narrowest: a stable sort by width, then by count downwards.
        best = np.lexsort((held[until - 1] - held, -counts))[0]
        if counts[best] < least:
            break
        taken = order[best : until[best]]
        groups.append((float(held[best]), float(held[until[best] - 1]), int(counts[best]), sorted(taken.tolist())))
        order = np.delete(order, np.arange(best, until[best]))
    return pd.DataFrame(groups, columns=["low", "high", "count", "levels"])


def _levels(origin: float, move: float, ratios: Sequence[float]) -> pd.Series:
    found: NDArray[np.float64] = origin + np.asarray(ratios, dtype=np.float64) * move
    return pd.Series(found, index=pd.Index(ratios, name="ratio"), name="price")


def _ahead(first: int, last: int) -> None:
    if last <= first:
        raise ConfigurationError(f"a leg from row {first} to row {last} does not go forward")
