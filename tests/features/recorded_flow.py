"""Trades, quotes and sampled books of the recorded sessions, as frames."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd

from tapeline.core.symbol import Symbol
from tapeline.streams.book_depth import DepthSampler
from tapeline.streams.messages import BookDelta, BookSnapshot, Quote, Trade
from tests.streams.sessions import SESSIONS

BTC = Symbol.parse("BTCUSDT")


def _frame(rows: list[tuple], *columns: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["ts", *columns])
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True).astype("datetime64[ns, UTC]")
    return frame.set_index("ts").sort_index(kind="stable")


@lru_cache(maxsize=1)
def futures(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Trades with the taker's side, best quotes, both on the venue's clock, and 20 levels of the book every 100 ms."""
    session = SESSIONS["binance futures 2024"]
    books = session.new_books()
    trades, quotes = [], []
    sampler = None
    for item in session.records(folder):
        record = item.record
        if isinstance(record, Trade):
            trades.append((record.ts, record.price, record.size, record.side))
        elif isinstance(record, Quote):
            quotes.append((record.ts, record.bid, record.bid_size, record.ask, record.ask_size))
        elif isinstance(record, BookDelta | BookSnapshot):
            if sampler is not None:
                sampler.advance(item.received)
            books.take(record)
            if sampler is None:
                sampler = DepthSampler(books[BTC], interval=100_000_000, depth=20)
            assert not books[BTC].live or not books[BTC].book.crossed
    assert sampler is not None
    frame = _frame(trades, "price", "size", "side").astype({"side": "int8"})
    return frame, _frame(quotes, "bid", "bid_size", "ask", "ask_size"), sampler.frame()
