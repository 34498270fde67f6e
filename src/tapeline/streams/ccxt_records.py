"""Rows as ccxt unifies them, read into the records that every venue's messages become."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from tapeline.core.errors import ProviderError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.streams.dialects.base import MILLISECOND
from tapeline.streams.messages import BookSnapshot, Candle, Level, Quote, Side, Ticker, Trade

_SIDES: Final[dict[str | None, Side]] = {"buy": 1, "sell": -1}


def trade_of(row: dict[str, Any]) -> Trade:
    """A trade; ProviderError where it has no time, price or size.

    Examples
    --------
    >>> row = {"symbol": "BTC/USD", "timestamp": 1, "price": 5.0, "amount": 2.0, "side": "buy", "id": "7"}
    >>> trade_of(row).ts, trade_of(row).side
    (1000000, 1)
    """
    price, size, ts = number(row.get("price")), number(row.get("amount")), instant(row)
    if ts is None or not price > 0 or not size >= 0:
        raise ProviderError(f"a trade of {row.get('symbol')!r} without a time, price or size")
    identity = row.get("id")
    side = _SIDES.get(row.get("side"), 0)
    return Trade(Symbol.parse(row["symbol"]), ts, price, size, side, "" if identity is None else str(identity))


def book_of(symbol: Symbol, book: dict[str, Any], depth: int | None) -> BookSnapshot:
    """A book, of which ``depth`` levels a side were asked for; its ``nonce`` is the sequence number."""
    bids: list[Level] = [(float(level[0]), float(level[1])) for level in book["bids"]]
    asks: list[Level] = [(float(level[0]), float(level[1])) for level in book["asks"]]
    nonce = book.get("nonce")
    sequence = nonce if isinstance(nonce, int) else None
    return BookSnapshot(symbol, instant(book), bids, asks, sequence=sequence, depth=depth)


def quote_of(symbol: Symbol, row: dict[str, Any]) -> Quote:
    """Best bid and ask of a ticker."""
    bid, bid_size, ask, ask_size = (number(row.get(name)) for name in ("bid", "bidVolume", "ask", "askVolume"))
    return Quote(symbol, instant(row), bid, bid_size, ask, ask_size)


def ticker_of(symbol: Symbol, row: dict[str, Any]) -> Ticker:
    """A rolling summary."""
    names = ("last", "bid", "ask", "open", "high", "low", "baseVolume")
    last, bid, ask, opened, high, low, volume = (number(row.get(name)) for name in names)
    return Ticker(symbol, instant(row), last, bid, ask, opened, high, low, volume)


def candle_of(symbol: Symbol, row: Sequence[Any], timeframe: Timeframe, now: int) -> Candle:
    """A bar; closed where ``now`` (ns) is not before its end."""
    ts = int(row[0]) * MILLISECOND
    opened, high, low, close, volume = (number(cell) for cell in row[1:6])
    closed = ts + timeframe.nanoseconds <= now
    return Candle(symbol, ts, timeframe.exchange_name, opened, high, low, close, volume, closed=closed, sent=now)


def instant(row: dict[str, Any]) -> int | None:
    """The ``timestamp`` in ns, None where there is none."""
    ms = row.get("timestamp")
    return int(ms) * MILLISECOND if isinstance(ms, int | float) and math.isfinite(ms) else None


def number(cell: Any) -> float:
    """A number, NaN where there is none."""
    try:
        return math.nan if cell is None else float(cell)
    except (TypeError, ValueError):
        return math.nan
