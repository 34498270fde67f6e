"""An order book's levels, and what they say: best prices, spread, mid, micro-price, the cost of a trade."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from tapeline.core.errors import ConfigurationError
from tapeline.streams.messages import Level

MAXIMUM_LEVELS: Final = 100_000
"""Levels a side at most; the farthest ones are dropped beyond it, so that a hostile feed cannot fill the memory."""


class Fill(NamedTuple):
    """What taking ``filled`` units from one side would cost, before fees.

    ``average`` is the mean price, ``worst`` the last level reached, ``slippage`` how much worse the average is than
    the mid, as a share of the mid (0.0001 is one basis point). All NaN where nothing could be filled.
    """

    filled: float
    average: float
    worst: float
    slippage: float


class BookSide:
    """The price levels of one side, best first.

    A dictionary from price to level and a sorted list of keys whose END is the best price, so that the changes near
    the best price, which are most, move little memory.

    Parameters
    ----------
    sign:
        1 for bids (higher is better), -1 for asks.
    """

    __slots__ = ("_keys", "_levels", "_sign", "dropped")

    def __init__(self, sign: Literal[1, -1]) -> None:
        self._sign = sign
        self._levels: dict[float, Level] = {}
        self._keys: list[float] = []
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._levels)

    def replace(self, levels: Iterable[Level]) -> None:
        """Forget everything and take these levels; ones of size 0 are left out, a repeated price keeps its last."""
        self._levels = {level[0]: level for level in levels if level[1]}
        self._keys = sorted(self._sign * price for price in self._levels)
        if len(self._keys) > MAXIMUM_LEVELS:
            self.truncate(MAXIMUM_LEVELS)

    def update(self, levels: Iterable[Level]) -> None:
        """Set the size at each price; 0 removes the level (removing an absent one is not an error)."""
        known, keys, sign = self._levels, self._keys, self._sign
        for level in levels:
            price = level[0]
            if level[1]:
                if price not in known:
                    insort(keys, sign * price)
                known[price] = level
            elif price in known:
                del known[price]
                del keys[bisect_left(keys, sign * price)]
        if len(keys) > MAXIMUM_LEVELS:
            self.truncate(MAXIMUM_LEVELS)

    def truncate(self, depth: int) -> None:
        """Keep the best ``depth`` levels."""
        surplus = len(self._keys) - depth
        if surplus > 0:
            for key in self._keys[:surplus]:
                del self._levels[self._sign * key]
            del self._keys[:surplus]
            self.dropped += surplus

    def best(self) -> Level | None:
        """The best level; None where the side is empty."""
        return self._levels[self._sign * self._keys[-1]] if self._keys else None

    def top(self, depth: int) -> list[Level]:
        """The best ``depth`` levels, best first."""
        known, sign = self._levels, self._sign
        return [known[sign * key] for key in reversed(self._keys[-depth:])] if depth > 0 else []

    def size_at(self, price: float) -> float:
        """The size at a price, 0 where there is none."""
        level = self._levels.get(price)
        return 0.0 if level is None else float(level[1])


class OrderBook:
    """Both sides of one instrument.

    Values of an empty or one-sided book are NaN, never an error, since a real book can be so.

    Examples
    --------
    >>> book = OrderBook()
    >>> book.replace(bids=[(99.0, 1.0), (98.0, 5.0)], asks=[(101.0, 3.0), (102.0, 4.0)])
    >>> book.mid, book.spread, round(book.spread_bps, 1), book.microprice
    (100.0, 2.0, 200.0, 99.5)
    >>> book.cost_to_trade(4.0)
    Fill(filled=4.0, average=101.25, worst=102.0, slippage=0.0125)
    >>> book.update(bids=[(99.0, 0.0)], asks=[])
    >>> book.best_bid
    (98.0, 5.0)
    """

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Take a snapshot."""
        self.bids.replace(bids)
        self.asks.replace(asks)

    def update(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Take the changes of a delta."""
        self.bids.update(bids)
        self.asks.update(asks)

    def truncate(self, depth: int) -> None:
        """Keep the best ``depth`` levels a side."""
        self.bids.truncate(depth)
        self.asks.truncate(depth)

    @property
    def best_bid(self) -> Level | None:
        """The highest bid."""
        return self.bids.best()

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask."""
        return self.asks.best()

    @property
    def crossed(self) -> bool:
        """True where the best bid is at or above the best ask: in a matching engine that cannot last."""
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid[0] >= ask[0]

    @property
    def mid(self) -> float:
        """Halfway between best bid and best ask."""
        bid, ask = self.bids.best(), self.asks.best()
        return math.nan if bid is None or ask is None else (bid[0] + ask[0]) / 2

    @property
    def spread(self) -> float:
        """Best ask less best bid, in price; negative where the book is crossed."""
        bid, ask = self.bids.best(), self.asks.best()
        return math.nan if bid is None or ask is None else ask[0] - bid[0]

    @property
    def spread_bps(self) -> float:
        """The spread as basis points of the mid."""
        bid, ask = self.bids.best(), self.asks.best()
        return math.nan if bid is None or ask is None else 2e4 * (ask[0] - bid[0]) / (ask[0] + bid[0])

    @property
    def microprice(self) -> float:
        """Best bid and ask, each weighted by the OTHER side's size: it leans to the thin side.

        The first-order form of S. Stoikov, "The micro-price", Quantitative Finance 18 (2018), also known as the
        weighted mid.
        """
        bid, ask = self.bids.best(), self.asks.best()
        if bid is None or ask is None:
            return math.nan
        return float((bid[0] * ask[1] + ask[0] * bid[1]) / (bid[1] + ask[1]))

    def imbalance(self, depth: int = 1) -> float:
        """Bid size less ask size over their sum, in the best ``depth`` levels: 1 is all bids, -1 all asks."""
        bids = sum(level[1] for level in self.bids.top(depth))
        asks = sum(level[1] for level in self.asks.top(depth))
        return (bids - asks) / (bids + asks) if bids + asks else math.nan

    def cost_to_trade(self, size: float, side: Literal[1, -1] = 1) -> Fill:
        """What buying (``side`` 1) or selling (-1) ``size`` units at market would cost against this book.

        Where the book is too thin, ``filled`` is less than ``size`` and the prices are of what could be filled.

        Raises
        ------
        ConfigurationError
            A size that is not positive and finite, or a side other than 1 and -1.
        """
        if not (0 < size < math.inf):
            raise ConfigurationError(f"size = {size} must be positive and finite")
        if side not in (1, -1):
            raise ConfigurationError(f"side = {side} must be 1 (buy) or -1 (sell)")
        ladder = self.asks if side == 1 else self.bids
        left, paid, worst, depth = size, 0.0, math.nan, 16
        done = 0
        while left > 0 and done < len(ladder):
            levels = ladder.top(depth)[done:]
            for price, available, *_ in levels:
                taken = min(left, available)
                paid += taken * price
                left -= taken
                worst = price
                if left <= 0:
                    break
            done, depth = done + len(levels), depth * 4
        filled = size - left
        if filled <= 0:
            return Fill(0.0, math.nan, math.nan, math.nan)
        average = paid / filled
        return Fill(filled, average, worst, side * (average - self.mid) / self.mid)

    def __repr__(self) -> str:
        return f"OrderBook(bid={self.best_bid}, ask={self.best_ask}, levels={len(self.bids)}/{len(self.asks)})"
