"""Deribit: books chained by ``prev_change_id``, trades, quotes, tickers, over JSON-RPC.

Fields: Deribit API documentation v2, "Subscriptions".
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tapeline.streams.dialects.base import (
    ABSENT,
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
    Quote,
    Record,
    Refusal,
    Subscription,
    Ticker,
    Trade,
    msgspec,
)

_Changes = Annotated[list[tuple[Text, Price, Size]], msgspec.Meta(max_length=100_000)]
_ACTIONS = ("new", "change", "delete")


class _Parameters(msgspec.Struct):
    channel: Text | None = None
    data: msgspec.Raw = ABSENT
    type: Text | None = None


class _Problem(msgspec.Struct):
    code: int
    message: Text


class _Probe(msgspec.Struct):
    method: Text | None = None
    params: _Parameters | None = None
    result: msgspec.Raw = ABSENT
    error: _Problem | None = None
    id: int | None = None


class _Book(msgspec.Struct):
    instrument_name: Text
    timestamp: Milliseconds
    change_id: Sequence
    bids: _Changes
    asks: _Changes
    type: Text
    prev_change_id: Sequence | None = None


class _Trade(msgspec.Struct):
    instrument_name: Text
    timestamp: Milliseconds
    price: Price
    amount: Size
    direction: Text
    trade_id: Text


class _Quote(msgspec.Struct):
    instrument_name: Text
    timestamp: Milliseconds
    best_bid_price: Number | None
    best_ask_price: Number | None
    best_bid_amount: Size
    best_ask_amount: Size


class _Statistics(msgspec.Struct):
    volume: Number | None = None
    low: Number | None = None
    high: Number | None = None


class _Ticker(msgspec.Struct):
    instrument_name: Text
    timestamp: Milliseconds
    stats: _Statistics
    last_price: Number | None = None
    best_bid_price: Number | None = None
    best_ask_price: Number | None = None


_PROBE = decoder(_Probe)
_NAMES = decoder(list[Text])
_BOOK = decoder(_Book)
_TRADES = decoder(list[_Trade])
_QUOTE = decoder(_Quote)
_TICKER = decoder(_Ticker)


class Deribit(Dialect):
    """Deribit public subscriptions (``book.<instrument>.raw`` or ``.100ms``, trades, quote, ticker)."""

    venue: ClassVar[str] = "deribit"

    def _read(self, raw: bytes) -> list[Record]:
        found = _PROBE.decode(raw)
        if found.error is not None:
            return [Refusal(str(found.error.code), found.error.message)]
        if found.method == "heartbeat":
            return [Heartbeat()]
        if found.method is None and found.result is not ABSENT:
            return [_answer(found)]
        if found.method != "subscription" or found.params is None or found.params.channel is None:
            raise Unknown(f"method {found.method!r} is unknown")
        channel, data = found.params.channel.partition(".")[0], found.params.data
        if data is ABSENT:
            raise Unreadable(f"channel {channel!r} without data")
        if channel == "book":
            return [_book(_BOOK.decode(data))]
        if channel == "trades":
            return [
                Trade(
                    symbol_of(item.instrument_name),
                    item.timestamp * MILLISECOND,
                    item.price,
                    item.amount,
                    side_of(item.direction),
                    item.trade_id,
                )
                for item in _TRADES.decode(data)
            ]
        if channel == "ticker":
            return [_ticker(_TICKER.decode(data))]
        if channel == "quote":
            return [_quote(_QUOTE.decode(data))]
        raise Unknown(f"channel {channel!r} is unknown")


def _answer(found: _Probe) -> Record:
    if memoryview(found.result)[:1] == b"[":
        return Subscription(tuple(_NAMES.decode(found.result)), accepted=True)
    return Heartbeat()


def _levels(changes: list[tuple[str, float, float]]) -> list[Level]:
    levels: list[Level] = []
    for action, price, size in changes:
        if action not in _ACTIONS:
            raise Unreadable(f"book action {action!r} is unknown")
        levels.append((price, 0.0 if action == "delete" else size))
    return levels


def _book(book: _Book) -> Record:
    symbol, ts = symbol_of(book.instrument_name), book.timestamp * MILLISECOND
    bids, asks = _levels(book.bids), _levels(book.asks)
    if book.type == "snapshot":
        return BookSnapshot(symbol, ts, bids, asks, book.change_id)
    if book.type == "change" and book.prev_change_id is not None:
        return BookDelta(symbol, ts, bids, asks, None, book.change_id, book.prev_change_id)
    raise Unreadable(f"a book of type {book.type!r}")


def _quote(item: _Quote) -> Quote:
    return Quote(
        symbol_of(item.instrument_name),
        item.timestamp * MILLISECOND,
        or_nan(item.best_bid_price),
        item.best_bid_amount,
        or_nan(item.best_ask_price),
        item.best_ask_amount,
    )


def _ticker(item: _Ticker) -> Ticker:
    return Ticker(
        symbol_of(item.instrument_name),
        item.timestamp * MILLISECOND,
        or_nan(item.last_price),
        or_nan(item.best_bid_price),
        or_nan(item.best_ask_price),
        or_nan(None),
        or_nan(item.stats.high),
        or_nan(item.stats.low),
        or_nan(item.stats.volume),
    )
