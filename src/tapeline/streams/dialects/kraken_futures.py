"""Kraken Futures: the feeds ``book``, ``trade``, ``ticker`` and ``ticker_lite`` of its WebSocket API, version 1.

Fields: Kraken Futures documentation, "WebSocket API", "Public Feeds". Each product counts the changes of its book with
``seq``, one by one; a snapshot comes after each subscription.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import (
    MILLISECOND,
    Dialect,
    Milliseconds,
    Number,
    Price,
    Sequence,
    Size,
    Text,
    Unknown,
    Unreadable,
    decoder,
    or_nan,
    side_of,
    symbol_of,
)
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Heartbeat,
    Level,
    Notice,
    Record,
    Refusal,
    Subscription,
    Ticker,
    Trade,
    msgspec,
)


class _Level(msgspec.Struct):
    price: Price
    qty: Size


class _Fill(msgspec.Struct):
    product_id: Text
    uid: Text
    side: Text
    time: Milliseconds
    qty: Size
    price: Price


_Levels = Annotated[list[_Level], msgspec.Meta(max_length=200_000)]


class _Message(msgspec.Struct):
    event: Text | None = None
    feed: Text | None = None
    product_id: Text | None = None
    product_ids: Annotated[tuple[Text, ...], msgspec.Meta(max_length=10_000)] = ()
    message: Text | None = None
    timestamp: Milliseconds | None = None
    time: Milliseconds | None = None
    seq: Sequence | None = None
    side: Text | None = None
    price: Price | None = None
    qty: Size | None = None
    uid: Text | None = None
    bids: _Levels | None = None
    asks: _Levels | None = None
    trades: Annotated[list[_Fill], msgspec.Meta(max_length=10_000)] | None = None
    bid: Number | None = None
    ask: Number | None = None
    last: Number | None = None
    open: Number | None = None
    high: Number | None = None
    low: Number | None = None
    volume: Size | None = None


_MESSAGE = decoder(_Message)


class KrakenFutures(Dialect):
    """Kraken Futures.

    Examples
    --------
    >>> raw = b'{"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":7,"price":34981,"qty":0,"timestamp":1}'
    >>> delta = KrakenFutures().parse(raw)[0]
    >>> delta.asks, delta.last
    ([(34981.0, 0.0)], 7)
    """

    venue: ClassVar[str] = "kraken-futures"

    def _read(self, raw: bytes) -> list[Record]:
        found = _MESSAGE.decode(raw)
        if found.event is not None:
            return [_event(found)]
        if found.feed == "heartbeat":
            return [Heartbeat(None if found.time is None else found.time * MILLISECOND)]
        if found.product_id is None:
            raise Unknown(f"feed {found.feed!r} without a product")
        symbol = symbol_of(found.product_id)
        if found.feed == "book":
            return [_delta(found, symbol)]
        if found.feed == "book_snapshot":
            return [_snapshot(found, symbol)]
        if found.feed == "trade":
            if found.uid is None or found.side is None or found.time is None or found.qty is None:
                raise Unreadable("a trade without uid, side, time or qty")
            if found.price is None:
                raise Unreadable("a trade without a price")
            fill = _Fill(found.product_id, found.uid, found.side, found.time, found.qty, found.price)
            return [_trade(fill)]
        if found.feed == "trade_snapshot":
            # The newest stands first; records go in the order of time.
            return [_trade(fill) for fill in reversed(found.trades or [])]
        if found.feed in ("ticker", "ticker_lite"):
            return [_ticker(found, symbol)]
        raise Unknown(f"feed {found.feed!r} is unknown")


def _event(found: _Message) -> Record:
    if found.event in ("subscribed", "unsubscribed"):
        channels = tuple(f"{found.feed or ''}:{product}" for product in found.product_ids)
        return Subscription(channels, accepted=found.event == "subscribed")
    if found.event in ("error", "alert", "subscribed_failed", "unsubscribed_failed"):
        return Refusal("", found.message or found.event or "")
    if found.event in ("info", "pong"):
        return Notice(found.event, found.message or "")
    raise Unknown(f"event {found.event!r} is unknown")


def _delta(found: _Message, symbol: Symbol) -> BookDelta:
    if found.price is None or found.qty is None or found.side is None or found.seq is None:
        raise Unreadable("a change of a book without price, qty, side or seq")
    level: list[Level] = [(found.price, found.qty)]
    bids, asks = (level, []) if side_of(found.side) > 0 else ([], level)
    return BookDelta(symbol, _instant(found.timestamp), bids, asks, first=found.seq, last=found.seq)


def _snapshot(found: _Message, symbol: Symbol) -> BookSnapshot:
    if found.bids is None or found.asks is None or found.seq is None:
        raise Unreadable("a snapshot without bids, asks or seq")
    # Snapshots were seen to hold levels of size 0: they are none.
    bids: list[Level] = [(level.price, level.qty) for level in found.bids if level.qty > 0]
    asks: list[Level] = [(level.price, level.qty) for level in found.asks if level.qty > 0]
    return BookSnapshot(symbol, _instant(found.timestamp), bids, asks, sequence=found.seq)


def _trade(fill: _Fill) -> Trade:
    side = side_of(fill.side)
    return Trade(symbol_of(fill.product_id), fill.time * MILLISECOND, fill.price, fill.qty, side, fill.uid)


def _ticker(found: _Message, symbol: Symbol) -> Ticker:
    """The summary; ``ticker_lite`` leaves all but bid, ask and volume out."""
    ts = _instant(found.time)
    values = (or_nan(value) for value in (found.last, found.bid, found.ask, found.open, found.high, found.low))
    last, bid, ask, opened, high, low = values
    volume = math.nan if found.volume is None else found.volume
    return Ticker(symbol, ts, last, bid, ask, opened, high, low, volume)


def _instant(ms: int | None) -> int | None:
    return None if ms is None else ms * MILLISECOND
