"""The shape of sampled order books, and what it was in each bar: imbalance, slope, weighted mid, cost, resilience."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.candles.records import Integers
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import Floats
from tapeline.features.flow_bars import FlowBars, Rows, bar_starts, instants_of, read_only
from tapeline.features.quote_flow import positive

MAXIMUM_LEVELS: Final = 5_000
SHAPE: Final = (
    *("mid", "spread_bps", "weighted_mid_offset", "depth", "bid_slope", "ask_slope", "buy_cost_bps", "sell_cost_bps"),
)


def depth_shape(depth: pd.DataFrame, *, trade_size: float, levels: tuple[int, ...] = (1, 5, 10)) -> pd.DataFrame:
    """The shape of each sampled book.

    Parameters
    ----------
    depth:
        Rows as in ``RAW_DEPTH``: ``side`` (1 bid, -1 ask), ``level`` (0 the best), ``price``, ``size`` on ``ts``, the
        levels of a side in order.
    trade_size:
        The quantity whose cost is asked for.
    levels:
        Over how many of the best levels a side the imbalance is taken; the greatest of them bounds what is read.

    Returns
    -------
    One row an instant, on ``ts``:

    - ``mid``, ``spread_bps``: middle, and spread in basis points of it.
    - ``weighted_mid_offset``: (weighted mid - mid) / spread, from -0.5 to 0.5; the weighted mid weighs each best price
      by the other side's size.
    - ``depth``: quantity in all levels read, both sides.
    - ``bid_slope``, ``ask_slope``: quantity a basis point: the least-squares line through the origin of the quantity
      up to each level on the level's distance from the mid.
    - ``buy_cost_bps``, ``sell_cost_bps``: how much worse than the mid the average price of ``trade_size`` would be;
      NaN where the levels read hold less.
    - ``imbalance_<levels>``: bid size less ask size over their sum.

    NaN throughout where a side is empty or the book is crossed: such a book is none to trade on.

    Raises
    ------
    ConfigurationError
        A size that is not positive and finite, or levels that are none.
    SchemaError, DataError
        A column is missing; a price or size is not positive and finite, a side is none, the levels of a side are out
        of order.

    References
    ----------
    Cao, Hansch and Wang, The Information Content of an Open Limit-Order Book, Journal of Futures Markets 29 (2009), for
    imbalance and weighted price at levels; Naes and Skjeltorp, Order Book Characteristics and the Volume-Volatility
    Relation, Journal of Financial Markets 9 (2006), for the slope (theirs is an elasticity of log quantity).

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"] * 4, tz="UTC", name="ts")
    >>> book = pd.DataFrame({"side": [1, 1, -1, -1], "level": [0, 1, 0, 1],
    ...     "price": [99.0, 98.0, 101.0, 102.0], "size": [1.0, 5.0, 3.0, 4.0]}, index=ts)
    >>> shape = depth_shape(book, trade_size=4.0, levels=(1, 2))
    >>> shape[["weighted_mid_offset", "bid_slope", "buy_cost_bps", "imbalance_1"]].round(3).values.tolist()
    [[-0.25, 0.026, 125.0, -0.5]]
    """
    wanted = _check(trade_size, levels)
    rows = _read(depth)
    stamps = rows["ts"]
    starts = bar_starts(stamps, 1, 0)
    values = _shape(rows, starts, trade_size, wanted)
    index = pd.DatetimeIndex(stamps[starts[:-1]].view("M8[ns]"), name="ts").tz_localize("UTC")
    return pd.DataFrame(dict(zip(_names(levels), values, strict=True)), index=index)


class DepthFlow(FlowBars):
    """The shape of the book in each bar, from books sampled at an interval; a portion holds whole books.

    Columns of a bar, besides ``known_at`` (its close): those of :func:`depth_shape` in the bar's last book;
    ``mean_<column>`` of spread and imbalances over its books; ``book_count``; and ``resilience``: by which share the
    depth's distance from its mean shrinks from one book to the next, estimated over the last ``memory`` books: minus
    the slope of the line of changes of depth on depth before. 0 for a depth that wanders, 1 for one that is back at
    once. NaN before ``memory`` books, and where the depth has not varied.

    Parameters
    ----------
    timeframe:
        Of the bars.
    trade_size, levels:
        As for :func:`depth_shape`.
    memory:
        Books over which the resilience is estimated; they should be sampled at one interval.

    References
    ----------
    Kempf, Mayston, Gehde-Trapp and Yadav, Resiliency: A Dynamic View of Liquidity (2015), equation 1: resiliency as
    the speed at which depth reverts to its mean; the idea is of Kyle, Econometrica 53 (1985), p. 1316.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"] * 2, tz="UTC", name="ts")
    >>> book = pd.DataFrame({"side": [1, -1], "level": 0, "price": [99.0, 101.0], "size": [1.0, 3.0]}, index=ts)
    >>> flow = DepthFlow("M1", trade_size=1.0, levels=(1,))
    >>> flow.update(book, now=pd.Timestamp("2017-01-02 00:01", tz="UTC"))[["imbalance_1", "book_count"]].values.tolist()
    [[-0.5, 1.0]]
    """

    def __init__(
        self,
        timeframe: Timeframe | str,
        *,
        trade_size: float,
        levels: tuple[int, ...] = (1, 5, 10),
        memory: int = 120,
    ) -> None:
        super().__init__(timeframe)
        self._wanted = _check(trade_size, levels)
        self._levels, self._trade_size = levels, float(trade_size)
        if not 3 <= memory <= 1_000_000:
            raise ConfigurationError(f"memory = {memory} must be from 3 to 1000000 books")
        self._memory = memory
        self._depths = np.empty(0)

    def _read(self, frame: pd.DataFrame) -> Rows:
        return _read(frame)

    def _bars(self, rows: Rows, starts: Integers) -> dict[str, NDArray[Any]]:
        books = bar_starts(rows["ts"], 1, 0)
        values = _shape(rows, books, self._trade_size, self._wanted)
        # Which book begins each bar: both lists hold rows, and a bar begins with a book.
        first = np.searchsorted(books, starts).astype(np.int64)
        last = first[1:] - 1
        names = _names(self._levels)
        columns: dict[str, NDArray[Any]] = {"book_count": np.diff(first)}
        columns |= {name: part[last] for name, part in zip(names, values, strict=True)}
        for name in ("spread_bps", *names[len(SHAPE) :]):
            columns[f"mean_{name}"] = means_of(values[names.index(name)], first)
        depths = np.concatenate((self._depths, values[SHAPE.index("depth")]))
        columns["resilience"] = resilience_at(depths, last + self._depths.size, self._memory)
        self._depths = depths[-self._memory :].copy()
        return columns


def depth_flow(
    depth: pd.DataFrame, timeframe: Timeframe | str, *, now: pd.Timestamp | None = None, **options: Any
) -> pd.DataFrame:
    """The shape of the book in each bar of a whole history of sampled books, in one call; see :class:`DepthFlow`.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"] * 2, tz="UTC", name="ts")
    >>> book = pd.DataFrame({"side": [1, -1], "level": 0, "price": [99.0, 101.0], "size": [1.0, 3.0]}, index=ts)
    >>> depth_flow(book, "M1", now=pd.Timestamp("2017-01-02 00:01", tz="UTC"), trade_size=1.0)["depth"].tolist()
    [4.0]
    """
    return DepthFlow(timeframe, **options).update(depth, now=now)


@njit(cache=True, nogil=True)
def book_shapes(
    side: NDArray[np.int8],
    level: Integers,
    price: Floats,
    size: Floats,
    starts: Integers,
    trade_size: float,
    levels: Integers,
) -> Floats:
    """[8 + levels, books] in the order of :func:`depth_shape`; the books begin at the rows ``starts[:-1]``.

    Examples
    --------
    >>> book_shapes(np.array([1, -1], dtype=np.int8), np.zeros(2, dtype=np.int64), np.array([9.0, 11.0]), np.ones(2),
    ...     np.array([0, 2]), 1.0, np.array([1]))[:3, 0].tolist()
    [10.0, 2000.0, 0.0]
    """
    deepest = levels.max()
    result = np.full((8 + levels.size, starts.size - 1), np.nan)
    for k in range(starts.size - 1):
        best = np.full(2, np.nan)
        sizes = np.zeros(2)
        for i in range(starts[k], starts[k + 1]):
            if level[i] == 0:
                which = 0 if side[i] > 0 else 1
                best[which], sizes[which] = price[i], size[i]
        if not best[0] < best[1]:
            continue
        mid = 0.5 * (best[0] + best[1])
        shown, paid, left = np.zeros(2), np.zeros(2), np.full(2, trade_size)
        products, squares = np.zeros(2), np.zeros(2)
        upto = np.zeros((2, levels.size))
        for i in range(starts[k], starts[k + 1]):
            if level[i] >= deepest:
                continue
            which = 0 if side[i] > 0 else 1
            distance = 1e4 * abs(price[i] - mid) / mid
            shown[which] += size[i]
            products[which] += distance * shown[which]
            squares[which] += distance * distance
            taken = min(left[which], size[i])
            paid[which] += taken * distance
            left[which] -= taken
            for j in range(levels.size):
                if level[i] < levels[j]:
                    upto[which, j] += size[i]
        result[0, k] = mid
        result[1, k] = 1e4 * (best[1] - best[0]) / mid
        result[2, k] = sizes[0] / (sizes[0] + sizes[1]) - 0.5
        result[3, k] = shown[0] + shown[1]
        result[4, k], result[5, k] = products[0] / squares[0], products[1] / squares[1]
        result[6, k] = paid[1] / trade_size if left[1] <= 0.0 else np.nan
        result[7, k] = paid[0] / trade_size if left[0] <= 0.0 else np.nan
        for j in range(levels.size):
            result[8 + j, k] = (upto[0, j] - upto[1, j]) / (upto[0, j] + upto[1, j])
    return result


@njit(cache=True, nogil=True)
def means_of(values: Floats, starts: Integers) -> Floats:
    """Mean of the known values of each group that begins at ``starts[:-1]``; NaN where none is known.

    Examples
    --------
    >>> means_of(np.array([1.0, np.nan, 3.0]), np.array([0, 1, 3]))
    array([1., 3.])
    """
    result = np.full(starts.size - 1, np.nan)
    for k in range(starts.size - 1):
        total, known = 0.0, 0
        for i in range(starts[k], starts[k + 1]):
            if not np.isnan(values[i]):
                total += values[i]
                known += 1
        if known:
            result[k] = total / known
    return result


@njit(cache=True, nogil=True)
def resilience_at(depth: Floats, rows: Integers, memory: int) -> Floats:
    """Resilience at each of these rows from the ``memory`` depths that end there; see :class:`DepthFlow`.

    Examples
    --------
    >>> resilience_at(np.array([1.0, 3.0, 2.0, 2.5]), np.array([3]), 4)
    array([1.5])
    """
    result = np.full(rows.size, np.nan)
    for k in range(rows.size):
        first = rows[k] - memory + 1
        if first < 0:
            continue
        pairs = memory - 1
        before, after = 0.0, 0.0
        for i in range(first, rows[k]):
            before += depth[i]
            after += depth[i + 1]
        before, after = before / pairs, after / pairs
        spread, together = 0.0, 0.0
        for i in range(first, rows[k]):
            away = depth[i] - before
            spread += away * away
            together += away * (depth[i + 1] - after)
        if spread > pairs * (1e-12 * before) ** 2:
            result[k] = 1.0 - together / spread
    return result


def _check(trade_size: float, levels: tuple[int, ...]) -> Integers:
    if not 0.0 < trade_size < math.inf:
        raise ConfigurationError(f"trade_size = {trade_size} must be positive and finite")
    good = bool(levels) and all(isinstance(level, int) and 1 <= level <= MAXIMUM_LEVELS for level in levels)
    if not good or len(set(levels)) < len(levels):
        raise ConfigurationError(f"levels = {levels} must be different whole numbers from 1 to {MAXIMUM_LEVELS}")
    return np.array(levels, dtype=np.int64)


def _names(levels: tuple[int, ...]) -> list[str]:
    return [*SHAPE, *(f"imbalance_{level}" for level in levels)]


def _shape(rows: Rows, starts: Integers, trade_size: float, levels: Integers) -> Floats:
    side, level, price, size = (read_only(rows[name]) for name in ("side", "level", "price", "size"))
    return book_shapes(side, level, price, size, starts, trade_size, levels)


def _read(frame: pd.DataFrame) -> Rows:
    absent = [name for name in ("side", "level") if name not in frame.columns]
    if absent:
        raise SchemaError(f"depth: columns {absent} are missing")
    stamps = instants_of(frame, "depth")
    price, size = positive(frame, "price", "depth"), positive(frame, "size", "depth")
    side, level = _whole(frame, "side").astype(np.int8), _whole(frame, "level")
    wrong = out_of_order(stamps, side, level, price)
    if wrong >= 0:
        raise DataError(
            f"depth: row {wrong} ({frame.index[wrong]}): side {side[wrong]}, level {level[wrong]}, price "
            f"{price[wrong]} does not follow the rows before it",
            hint="a side is 1 or -1, and at each instant its levels run from 0, the best price first",
        )
    return {"ts": stamps, "side": side, "level": level, "price": price, "size": size}


def _whole(frame: pd.DataFrame, name: str) -> Integers:
    try:
        values = frame[name].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise SchemaError(f"depth: column '{name}' holds {frame[name].dtype}, expected whole numbers") from None
    wrong = ~((np.abs(values) <= MAXIMUM_LEVELS) & (values == np.floor(values)))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"depth: {name} is {values[row]} at row {row} ({frame.index[row]})")
    return values.astype(np.int64)


@njit(cache=True, nogil=True)
def out_of_order(stamps: Integers, side: NDArray[np.int8], level: Integers, price: Floats) -> int:
    """The first row that is not the next level of its side at its instant, at a worse price; -1 where there is none.

    Examples
    --------
    >>> two = np.zeros(2, dtype=np.int64)
    >>> out_of_order(two, np.ones(2, dtype=np.int8), np.array([0, 1]), np.array([9.0, 9.5]))
    1
    """
    following = np.zeros(2, dtype=np.int64)
    last = np.zeros(2)
    for i in range(stamps.size):
        if i == 0 or stamps[i] != stamps[i - 1]:
            following[:] = 0
        if side[i] != 1 and side[i] != -1:
            return i
        which = 0 if side[i] > 0 else 1
        if level[i] != following[which]:
            return i
        if level[i] > 0 and not (price[i] - last[which]) * side[i] < 0.0:
            return i
        following[which] += 1
        last[which] = price[i]
    return -1
