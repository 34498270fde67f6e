"""Walking a recorded book: what a market order would have paid, level by level, in the book that was known then."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.pit import asof_join

_COLUMNS: Final = ("side", "level", "price", "size")


@njit(cache=True, nogil=True)
def walk(
    price: Any, size: Any, first: int, end: int, side: float, quantity: float, limit: float, taken: float
) -> tuple[float, float]:
    """Take ``quantity`` from levels ``first`` to ``end - 1``, best first: the quantity filled and its average price.

    Parameters
    ----------
    price, size:
        Levels of many books in a row; for a buy those of the asks, for a sell those of the bids.
    side:
        1 a buy, -1 a sell.
    limit:
        No level beyond it is taken; NaN for none.
    taken:
        What was taken from these levels before, from the best on.

    Returns
    -------
    The quantity filled, the rest of which the levels do not hold, and its average price, NaN where it is 0.

    Examples
    --------
    >>> walk(np.array([10.0, 11.0]), np.array([2.0, 5.0]), 0, 2, 1, 4.0, np.nan, 0.0)
    (4.0, 10.5)
    >>> walk(np.array([10.0, 11.0]), np.array([2.0, 5.0]), 0, 2, 1, 9.0, np.nan, 1.0)[0]
    6.0
    """
    filled = 0.0
    best = math.nan
    beyond = 0.0
    for level in range(first, end):
        if side * price[level] > side * limit:
            break
        held = size[level]
        if taken > 0.0:
            passed = min(taken, held)
            taken -= passed
            held -= passed
        part = min(held, quantity - filled)
        if part > 0.0 and filled == 0.0:
            best = price[level]
        # A sum of parts may end a bit above the quantity.
        filled = min(quantity, filled + part)
        if part > 0.0:
            beyond += part * (price[level] - best)
        if filled >= quantity:
            break
    # As a distance from the first price taken, so that rounding never makes the average better than it.
    return filled, (best + beyond / filled if filled > 0.0 else math.nan)


@njit(cache=True, nogil=True)
def _fill_orders(
    price: Any,
    size: Any,
    bids: Any,
    asks: Any,
    end: Any,
    book: Any,
    side: Any,
    quantity: Any,
    limit: Any,
    deplete: bool,
) -> Any:
    filled, average = np.zeros(book.size), np.full(book.size, np.nan)
    last = -1
    taken = np.zeros(2)
    for order in range(book.size):
        at = book[order]
        if at < 0:
            continue
        if at != last or not deplete:
            taken[:] = 0.0
            last = at
        buys = side[order] > 0
        first, stop = (asks[at], end[at]) if buys else (bids[at], asks[at])
        filled[order], average[order] = walk(
            price, size, first, stop, side[order], quantity[order], limit[order], taken[int(buys)]
        )
        taken[int(buys)] += filled[order]
    return filled, average


class BookLevels(NamedTuple):
    """Books one after the other as kernels take them: each the bids from ``bids``, the asks from ``asks`` to ``end``.

    ``stamps`` are nanoseconds; the levels of a side stand best first. Of a crossed book nothing is left.
    """

    stamps: NDArray[np.int64]
    bids: NDArray[np.int64]
    asks: NDArray[np.int64]
    end: NDArray[np.int64]
    price: NDArray[np.float64]
    size: NDArray[np.float64]


class RecordedBook:
    """Sampled books of one instrument, to fill orders in.

    An order meets the newest book that was seen at or before its time, never a later one. Orders that meet one book
    share its levels: what an earlier one took is gone until the next book. Nothing is filled in a book that is older
    than ``maximum_age``, empty on the side needed, or crossed.

    Parameters
    ----------
    depth:
        Rows of the table ``raw/depth`` on ``ts``: ``side`` (1 bid, -1 ask), ``level`` (0 the best), ``price`` and
        ``size``.
    maximum_age:
        Beyond it a book says nothing: the recording had a gap.

    Raises
    ------
    SchemaError, DataError
        A column is missing; times decrease; a side is none; a price or size is not positive and finite; the prices of a
        side do not get worse from level to level.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"] * 4, tz="UTC", name="ts")
    >>> depth = pd.DataFrame({"side": [1, 1, -1, -1], "level": [0, 1, 0, 1],
    ...     "price": [99.0, 98.0, 101.0, 102.0], "size": [1.0, 5.0, 3.0, 4.0]}, index=ts)
    >>> at = pd.DatetimeIndex(["2017-01-01 23:59:59", "2017-01-02", "2017-01-02 00:00:01"], tz="UTC")
    >>> fills = RecordedBook(depth).fill(at, side=[1, 1, 1], quantity=[1.0, 4.0, 4.0])
    >>> fills[["filled", "unfilled", "price"]].values.tolist()
    [[0.0, 1.0, nan], [4.0, 0.0, 101.25], [3.0, 1.0, 102.0]]
    """

    def __init__(self, depth: pd.DataFrame, *, maximum_age: timedelta = timedelta(seconds=10)) -> None:
        if maximum_age < timedelta(0):
            raise ConfigurationError(f"maximum_age = {maximum_age} is negative")
        self.maximum_age = maximum_age
        missing = [name for name in _COLUMNS if name not in depth.columns]
        if missing:
            raise SchemaError(f"a recorded book needs {', '.join(_COLUMNS)}; {', '.join(missing)} is missing")
        if not isinstance(depth.index, pd.DatetimeIndex) or depth.index.tz is None:
            raise SchemaError("a recorded book is indexed by ts, in UTC")
        stamps = depth.index.as_unit("ns").asi8
        if (np.diff(stamps) < 0).any():
            raise DataError("the times of a recorded book decrease", hint="sort it by ts first")
        side = depth["side"].to_numpy(np.int64)
        if not np.isin(side, (1, -1)).all():
            raise DataError(f"side {side[~np.isin(side, (1, -1))][0]} is neither 1 (bid) nor -1 (ask)")
        # Book by book the bids, then the asks, best first.
        order = np.lexsort((depth["level"].to_numpy(np.int64), -side, stamps))
        stamps, side = stamps[order], side[order]
        self._price = depth["price"].to_numpy(np.float64)[order]
        self._size = depth["size"].to_numpy(np.float64)[order]
        for name, values in (("price", self._price), ("size", self._size)):
            wrong = ~(np.isfinite(values) & (values > 0))
            if wrong.any():
                raise DataError(f"a level's {name} is {values[wrong][0]}, which is not positive and finite")
        same = (np.diff(stamps) == 0) & (np.diff(side) == 0)
        if (same & (side[1:] * np.diff(self._price) >= 0)).any():
            raise DataError("the prices of a side do not get worse from level to level", hint="level 0 is the best")
        begins = np.flatnonzero(np.r_[True, np.diff(stamps) > 0]) if stamps.size else np.zeros(0, np.int64)
        self._bids = begins.astype(np.int64)
        self._end = np.r_[begins[1:], stamps.size].astype(np.int64) if stamps.size else self._bids
        self._asks = self._bids + (np.add.reduceat(side == 1, begins) if stamps.size else 0)
        self._stamps = pd.DatetimeIndex(pd.to_datetime(stamps[begins], unit="ns", utc=True))

    def __len__(self) -> int:
        return len(self._stamps)

    def fill(
        self, at: pd.DatetimeIndex, *, side: Any, quantity: Any, limit: Any = math.nan, deplete: bool = True
    ) -> pd.DataFrame:
        """Fill orders, one a row, in the order of their times.

        Parameters
        ----------
        at:
            When each order reached the venue; must not decrease.
        side:
            1 a buy, -1 a sell.
        quantity:
            Units, positive.
        limit:
            No level beyond it is taken; NaN for none.
        deplete:
            Whether orders that meet one book share its levels; False gives each the whole book.

        Returns
        -------
        Indexed by ``at``: ``filled`` and ``unfilled`` units, average ``price`` (NaN without a fill), ``slippage_bps``
        (how much worse than the middle, basis points; NaN where a side is empty), ``age`` of the book in seconds.

        Raises
        ------
        DataError
            A side that is none, a quantity that is not positive and finite, or decreasing times.
        """
        count = len(at)
        sides = np.broadcast_to(np.asarray(side, np.float64), count)
        quantities = np.broadcast_to(np.asarray(quantity, np.float64), count)
        limits = np.broadcast_to(np.asarray(limit, np.float64), count)
        if not np.isin(sides, (1.0, -1.0)).all():
            raise DataError(f"side {sides[~np.isin(sides, (1.0, -1.0))][0]} is neither 1 (buy) nor -1 (sell)")
        if not (np.isfinite(quantities) & (quantities > 0)).all():
            raise DataError("a quantity is not positive and finite", hint="the side says whether it is a sell")
        bid, ask = self._best(self._bids, self._asks), self._best(self._asks, self._end)
        books = pd.DataFrame({"book": np.arange(len(self), dtype=np.float64), "mid": (bid + ask) / 2})
        books["usable"] = ~(bid >= ask)
        seen = asof_join(
            pd.DataFrame(index=at), books, at=at, known_at=self._stamps, tolerance=self.maximum_age, age=True
        )
        usable = seen["usable"].eq(True).to_numpy(bool)
        book = np.where(usable, seen["book"].to_numpy(np.float64), -1.0).astype(np.int64)
        levels = (self._price, self._size, self._bids, self._asks, self._end)
        filled, price = _fill_orders(*levels, book, sides.copy(), quantities.copy(), limits.copy(), deplete)
        mid = seen["mid"].to_numpy(np.float64)
        worse = sides * (price - mid) / mid * 1e4
        return pd.DataFrame(
            {
                "filled": filled,
                "unfilled": quantities - filled,
                "price": price,
                "slippage_bps": worse,
                "age": seen["age"].to_numpy(np.float64),
            },
            index=at,
        )

    def levels(self) -> BookLevels:
        """The levels themselves, for an engine that walks them as it goes."""
        crossed = self._best(self._bids, self._asks) >= self._best(self._asks, self._end)
        bids, asks = np.where(crossed, self._end, self._bids), np.where(crossed, self._end, self._asks)
        return BookLevels(self._stamps.as_unit("ns").asi8, bids, asks, self._end, self._price, self._size)

    def _best(self, first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
        best = np.full(len(first), np.nan)
        held = end > first
        best[held] = self._price[first[held]]
        return best
