"""Depth at an interval: what a live book showed at each tick of a clock, as rows for the lake, and its statistics."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.streams.book_sync import LiveBook

MAXIMUM_LEVEL: Final = 5_000
MAXIMUM_ROWS: Final = 2_000_000
"""Rows held at most: write and clear them before."""


class DepthSampler:
    """Takes the top of a book at every multiple of an interval.

    The instant t shows the book as of the last message received at or before t, so a row uses only what was known.
    Call :meth:`advance` with each receive time before the message is applied. Where the book is not live there is no
    row: a gap stays a gap.

    Parameters
    ----------
    interval:
        Nanoseconds between samples.
    depth:
        Levels a side.

    Examples
    --------
    >>> from tapeline.core.symbol import Symbol
    >>> from tapeline.streams.book_sequence import rule_of
    >>> from tapeline.streams.messages import BookSnapshot
    >>> symbol = Symbol.parse("BTCUSDT")
    >>> live = LiveBook(symbol, rule_of("binance"))
    >>> sampler = DepthSampler(live, interval=1_000_000_000, depth=1)
    >>> for received, record in [(2_500_000_000, BookSnapshot(symbol, None, [(9.0, 1.0)], [(10.0, 2.0)], 5))]:
    ...     sampler.advance(received)
    ...     _ = live.take(record)
    >>> sampler.advance(4_000_000_000)
    >>> sampler.frame().reset_index()[["ts", "side", "level", "price", "size"]].to_dict("list")["price"]
    [9.0, 10.0]
    >>> sampler.frame().index[0]
    Timestamp('1970-01-01 00:00:03+0000', tz='UTC')
    """

    def __init__(self, live: LiveBook, *, interval: int, depth: int) -> None:
        if interval < 1_000_000:
            raise ConfigurationError(f"interval = {interval} ns must be at least a millisecond")
        if not 1 <= depth <= MAXIMUM_LEVEL:
            raise ConfigurationError(f"depth = {depth} must be from 1 to {MAXIMUM_LEVEL}")
        self.live = live
        self.interval = interval
        self.depth = depth
        self._due: int | None = None
        self._rows: list[tuple[int, int, int, float, float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def advance(self, received: int) -> None:
        """Take the samples due before ``received``; the book must not yet hold what was received then.

        Raises
        ------
        ConfigurationError
            More than ``MAXIMUM_ROWS`` rows are held.
        """
        if self._due is None:
            self._due = -(-received // self.interval) * self.interval
        if self._due >= received:
            return
        due = range(self._due, received, self.interval)
        self._due = due[-1] + self.interval
        if not self.live.live:
            return
        sides = ((1, self.live.book.bids.top(self.depth)), (-1, self.live.book.asks.top(self.depth)))
        shown = [(side, rank, level[0], level[1]) for side, levels in sides for rank, level in enumerate(levels)]
        if len(self._rows) + len(shown) * len(due) > MAXIMUM_ROWS:
            raise ConfigurationError(f"more than {MAXIMUM_ROWS} rows of depth", hint="write and clear them earlier")
        for instant in due:
            self._rows.extend((instant, *row) for row in shown)

    def frame(self) -> pd.DataFrame:
        """The rows so far, indexed by ``ts``, in the schema of ``RAW_DEPTH``."""
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * 5
        index = pd.DatetimeIndex(pd.to_datetime(np.asarray(columns[0], dtype=np.int64), unit="ns", utc=True), name="ts")
        return pd.DataFrame(
            {
                "side": np.asarray(columns[1], dtype=np.int8),
                "level": np.asarray(columns[2], dtype=np.int16),
                "price": np.asarray(columns[3], dtype=np.float64),
                "size": np.asarray(columns[4], dtype=np.float64),
                # The instants are our own clock's, and what is sampled is there from that instant on.
                "ts_origin": pd.Categorical(["local"] * len(index), categories=["local"]),
                "ingested_at": index,
            },
            index=index,
        )

    def clear(self) -> None:
        """Forget the rows, as after they were written."""
        self._rows.clear()


def spread_statistics(depth: pd.DataFrame) -> pd.DataFrame:
    """Spread, mid and micro-price at each instant of a depth frame that holds level 0 of both sides.

    Parameters
    ----------
    depth:
        Rows as :meth:`DepthSampler.frame` gives them.

    Returns
    -------
    One row an instant: ``bid``, ``ask``, ``spread`` (price), ``spread_bps`` (basis points of the mid), ``mid``,
    ``microprice``. Instants at which one side is empty are left out.
    """
    best = depth[depth["level"] == 0]
    bids, asks = best[best["side"] == 1], best[best["side"] == -1]
    both = pd.concat(
        [bids[["price", "size"]].add_suffix("_bid"), asks[["price", "size"]].add_suffix("_ask")], axis=1, join="inner"
    )
    bid, ask = both["price_bid"], both["price_ask"]
    mid = (bid + ask) / 2
    weight = both["size_bid"] / (both["size_bid"] + both["size_ask"])
    return pd.DataFrame(
        {
            "bid": bid,
            "ask": ask,
            "spread": ask - bid,
            "spread_bps": (ask - bid) / mid * 1e4,
            "mid": mid,
            "microprice": ask * weight + bid * (1 - weight),
        }
    )
