"""Bitstamp: the public channels of its WebSocket API, version 2.

Fields: Bitstamp "WebSocket API v2": ``live_trades``, ``order_book`` (the best 100 levels a side, whole, each time) and
``diff_order_book`` (changed levels; the book before them comes by REST). Nothing is numbered: ``microtimestamp`` grows
from change to change and skips, so that what is old can be told and what is missing cannot.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import (
    ABSENT,
    REFUSALS,
    Dialect,
    Price,
    Size,
    Text,
    Unknown,
    Unreadable,
    decoder,
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
    Side,
    Subscription,
    Trade,
    msgspec,
)

MICROSECOND = 1_000
_WHOLE_DEPTH = 100

_Microseconds = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000_000)]
_Levels = Annotated[list[tuple[Price, Size]], msgspec.Meta(max_length=200_000)]


class _Event(msgspec.Struct):
    event: Text
    channel: Text = ""
    data: msgspec.Raw = ABSENT


class _Trade(msgspec.Struct):
    id: Annotated[int, msgspec.Meta(ge=0)]
    microtimestamp: _Microseconds
    price_str: Price
    amount_str: Size
    type: Annotated[int, msgspec.Meta(ge=0, le=1)]


class _Book(msgspec.Struct):
    microtimestamp: _Microseconds
    bids: _Levels
    asks: _Levels


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: Text = ""


_EVENT = decoder(_Event)
_TRADE = decoder(_Trade)
_BOOK = decoder(_Book)
_ERROR = decoder(_Error)


class Bitstamp(Dialect):
    """Bitstamp. Symbols are those of its channels (``btcusd``).

    Examples
    --------
    >>> raw = b'{"event":"trade","channel":"live_trades_btcusd","data":{"id":7,"microtimestamp":"1584642064685000",'
    >>> trade = Bitstamp().parse(raw + b'"price_str":"6294.77","amount_str":"1.08","type":1}}')[0]
    >>> trade.symbol, trade.ts, trade.side
    (Symbol('btcusd'), 1584642064685000000, -1)
    """

    venue: ClassVar[str] = "bitstamp"

    def parse_snapshot(self, raw: bytes, symbol: str) -> list[Record]:
        """The record of a REST ``order_book`` answer, which does not name its instrument."""
        if len(raw) > self.maximum_bytes:
            return [self.refuse(raw, f"{len(raw)} bytes, more than {self.maximum_bytes}")]
        try:
            return [_snapshot(_BOOK.decode(raw), symbol_of(symbol), None)]
        except REFUSALS as error:
            return [self.refuse(raw, f"{type(error).__name__}: {error}")]

    def _read(self, raw: bytes) -> list[Record]:
        found = _EVENT.decode(raw)
        if found.event.startswith("bts:"):
            return [_control(found)]
        if found.data is ABSENT:
            raise Unreadable("an event without data")
        kind, _, name = found.channel.rpartition("_")
        if not kind or not name:
            raise Unknown(f"channel {found.channel!r} is unknown")
        symbol = symbol_of(name)
        if kind == "live_trades" and found.event == "trade":
            trade = _TRADE.decode(found.data)
            side: Side = 1 if trade.type == 0 else -1
            ts = trade.microtimestamp * MICROSECOND
            return [Trade(symbol, ts, trade.price_str, trade.amount_str, side, str(trade.id))]
        if kind == "order_book" and found.event == "data":
            return [_snapshot(_BOOK.decode(found.data), symbol, _WHOLE_DEPTH)]
        if kind == "diff_order_book" and found.event == "data":
            book = _BOOK.decode(found.data)
            bids: list[Level] = list(book.bids)
            asks: list[Level] = list(book.asks)
            return [BookDelta(symbol, book.microtimestamp * MICROSECOND, bids, asks, last=book.microtimestamp)]
        raise Unknown(f"event {found.event!r} of channel {found.channel!r} is unknown")


def _snapshot(book: _Book, symbol: Symbol, depth: int | None) -> BookSnapshot:
    bids: list[Level] = [level for level in book.bids if level[1] > 0]
    asks: list[Level] = [level for level in book.asks if level[1] > 0]
    ts = book.microtimestamp * MICROSECOND
    return BookSnapshot(symbol, ts, bids, asks, sequence=book.microtimestamp, depth=depth)


def _control(found: _Event) -> Record:
    kind = found.event.removeprefix("bts:")
    if kind == "heartbeat":
        return Heartbeat()
    if kind in ("subscription_succeeded", "unsubscription_succeeded"):
        return Subscription((found.channel,), accepted=kind == "subscription_succeeded")
    if kind == "request_reconnect":
        return Notice("reconnect", "the venue will end this connection")
    if kind == "error":
        error = _Error() if found.data is ABSENT else _ERROR.decode(found.data)
        return Refusal("" if error.code is None else str(error.code), error.message)
    raise Unknown(f"event {found.event!r} is unknown")
