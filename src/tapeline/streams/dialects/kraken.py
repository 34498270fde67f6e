"""Kraken spot: the first WebSocket dialect (arrays that end with channel and pair) and the second one (objects).

Fields: Kraken WebSockets API 1.9 and 2.0, "Book", "Trade", "Ticker", "Heartbeat"; the checksum guide of each says which
digits count. Both books carry a CRC-32 of the best ten levels a side instead of a sequence number.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import (
    ABSENT,
    MAXIMUM_BYTES,
    Dialect,
    Instant,
    Number,
    Price,
    Size,
    Text,
    Unknown,
    Unreadable,
    amount,
    decoder,
    nanoseconds,
    positive,
    seconds_text,
    side_of,
    symbol_of,
)
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Heartbeat,
    Level,
    Notice,
    Quote,
    Record,
    Refusal,
    Subscription,
    Ticker,
    Trade,
    msgspec,
)

_Entries = Annotated[list[tuple[str, ...]], msgspec.Meta(max_length=20_000)]
_Checksum = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_DEFAULT_DEPTH = 10


class _Part(msgspec.Struct, rename={"snapshot_asks": "as", "snapshot_bids": "bs"}):
    snapshot_asks: _Entries | None = None
    snapshot_bids: _Entries | None = None
    a: _Entries | None = None
    b: _Entries | None = None
    c: _Checksum | None = None


class _Event(msgspec.Struct):
    """An object of either dialect."""

    event: Text | None = None
    channel: Text | None = None
    method: Text | None = None
    type: Text | None = None
    data: msgspec.Raw = ABSENT
    status: Text | None = None
    pair: Text | None = None
    channelName: Text | None = None  # noqa: N815 - the venue's spelling
    errorMessage: Text | None = None  # noqa: N815
    error: Text | None = None
    success: bool | None = None
    result: msgspec.Raw = ABSENT


class _TickerV1(msgspec.Struct):
    a: tuple[Price, Size, Size]
    b: tuple[Price, Size, Size]
    c: tuple[Price, Size]
    v: tuple[Size, Size]
    l: tuple[Price, Price]  # noqa: E741 - the venue's spelling
    h: tuple[Price, Price]
    o: tuple[Price, Price]


class _LevelV2(msgspec.Struct):
    price: msgspec.Raw
    qty: msgspec.Raw


class _BookV2(msgspec.Struct):
    symbol: Text
    checksum: _Checksum
    bids: Annotated[tuple[_LevelV2, ...], msgspec.Meta(max_length=20_000)] = ()
    asks: Annotated[tuple[_LevelV2, ...], msgspec.Meta(max_length=20_000)] = ()
    timestamp: Instant | None = None


class _TradeV2(msgspec.Struct):
    symbol: Text
    side: Text
    price: Price
    qty: Size
    trade_id: int
    timestamp: Instant


class _TickerV2(msgspec.Struct):
    symbol: Text
    bid: Price
    ask: Price
    last: Price
    volume: Size
    low: Number
    high: Number
    change: Number = 0.0
    timestamp: Instant | None = None


class _Subscribed(msgspec.Struct):
    channel: Text = ""
    symbol: Text = ""


_RAWS = decoder(list[msgspec.Raw])
_TEXT = decoder(Text)
_PART = decoder(_Part)
_EVENT = decoder(_Event)
_TRADES_V1 = decoder(list[tuple[str, str, str, str, str, str]])
_TICKER_V1 = decoder(_TickerV1)
_SPREAD_V1 = decoder(tuple[Price, Price, str, Size, Size])
_BOOKS_V2 = decoder(list[_BookV2])
_TRADES_V2 = decoder(list[_TradeV2])
_TICKERS_V2 = decoder(list[_TickerV2])
_SUBSCRIBED = decoder(_Subscribed)


def checksum_digits(price: str, size: str) -> str:
    """The digits of one level over which Kraken computes its checksum: no point, no leading zeros.

    Examples
    --------
    >>> checksum_digits("0.05005", "0.00000500")
    '5005500'
    """
    return price.replace(".", "").lstrip("0") + size.replace(".", "").lstrip("0")


class Kraken(Dialect):
    """Kraken spot, either dialect, told apart message by message.

    Parameters
    ----------
    depth:
        The depth subscribed to, for books of the second dialect; the first one names it in each message. A book must
        be cut to it, because Kraken does not say when a level leaves that window.
    """

    venue: ClassVar[str] = "kraken"

    def __init__(self, *, depth: int = _DEFAULT_DEPTH, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        super().__init__(maximum_bytes=maximum_bytes)
        self.depth = depth

    def _read(self, raw: bytes) -> list[Record]:
        if raw[:1] == b"[":
            return _array(raw)
        found = _EVENT.decode(raw)
        if found.event is not None:
            return [_event_v1(found)]
        if found.method is not None:
            return [_answer_v2(found)]
        if found.channel == "heartbeat":
            return [Heartbeat()]
        if found.channel == "status":
            return [Notice("status", bytes(found.data).decode()[:256])]
        if found.data is ABSENT:
            raise Unreadable("neither event, method nor data")
        if found.channel == "book":
            return [_book_v2(book, found.type, self.depth) for book in _BOOKS_V2.decode(found.data)]
        if found.channel == "trade":
            return [_trade_v2(trade) for trade in _TRADES_V2.decode(found.data)]
        if found.channel == "ticker":
            return [_ticker_v2(ticker) for ticker in _TICKERS_V2.decode(found.data)]
        raise Unknown(f"channel {found.channel!r} is unknown")


def _array(raw: bytes) -> list[Record]:
    items = _RAWS.decode(raw)
    if not 4 <= len(items) <= 5:
        raise Unreadable(f"an array of {len(items)} items, expected 4 or 5")
    channel = _TEXT.decode(items[-2])
    symbol = symbol_of(_TEXT.decode(items[-1]))
    if channel.startswith("book-"):
        return [_book_v1([_PART.decode(item) for item in items[1:-2]], symbol, _depth(channel))]
    if channel == "trade":
        return [_trade_v1(entry, symbol) for entry in _TRADES_V1.decode(items[1])]
    if channel == "ticker":
        found = _TICKER_V1.decode(items[1])
        # Second entries cover 24 hours, first ones the day since midnight UTC.
        return [
            Ticker(
                symbol,
                None,
                found.c[0],
                found.b[0],
                found.a[0],
                found.o[1],
                found.h[1],
                found.l[1],
                found.v[1],
            )
        ]
    if channel == "spread":
        bid, ask, ts, bid_size, ask_size = _SPREAD_V1.decode(items[1])
        return [Quote(symbol, seconds_text(ts), bid, bid_size, ask, ask_size)]
    raise Unknown(f"channel {channel!r} is unknown")


def _depth(channel: str) -> int:
    text = channel.removeprefix("book-")
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 5):
        raise Unreadable(f"channel {channel!r} has no depth")
    return int(text)


def _levels_v1(entries: list[tuple[str, ...]] | None) -> tuple[list[Level], int]:
    """The levels and the newest time among them."""
    levels: list[Level] = []
    newest = 0
    for entry in entries or ():
        # A fourth element "r" marks a level that is sent again because it came back into the window.
        if not 3 <= len(entry) <= 4:
            raise Unreadable(f"a level of {len(entry)} elements, expected 3 or 4")
        price, size = entry[0], entry[1]
        levels.append((positive(price), amount(size), checksum_digits(price, size)))
        newest = max(newest, seconds_text(entry[2]))
    return levels, newest


def _book_v1(parts: list[_Part], symbol: Symbol, depth: int) -> Record:
    first = parts[0]
    if first.snapshot_asks is not None or first.snapshot_bids is not None:
        bids, bid_ts = _levels_v1(first.snapshot_bids)
        asks, ask_ts = _levels_v1(first.snapshot_asks)
        return BookSnapshot(symbol, max(bid_ts, ask_ts), bids, asks, checksum=first.c, depth=depth)
    bids, asks, newest, checksum = [], [], 0, None
    for part in parts:
        more_bids, bid_ts = _levels_v1(part.b)
        more_asks, ask_ts = _levels_v1(part.a)
        bids += more_bids
        asks += more_asks
        newest = max(newest, bid_ts, ask_ts)
        checksum = checksum if part.c is None else part.c
    if not (bids or asks):
        raise Unreadable("a book message without levels")
    return BookDelta(symbol, newest, bids, asks, checksum=checksum)


def _trade_v1(entry: tuple[str, ...], symbol: Symbol) -> Trade:
    price, size, ts, side, _, _ = entry
    # This dialect gives trades no number.
    return Trade(symbol, seconds_text(ts), positive(price), amount(size), side_of(side), "")


def _event_v1(found: _Event) -> Record:
    if found.event in ("heartbeat", "pong"):
        return Heartbeat()
    if found.event == "systemStatus":
        return Notice("status", found.status or "")
    if found.event == "subscriptionStatus":
        channels = (f"{found.channelName or ''}:{found.pair or ''}",)
        return Subscription(channels, found.status == "subscribed", found.errorMessage or "")
    if found.event == "error":
        return Refusal("", found.errorMessage or "")
    raise Unknown(f"event {found.event!r} is unknown")


def _answer_v2(found: _Event) -> Record:
    if found.method == "pong":
        return Heartbeat()
    if found.success is False:
        return Refusal("", found.error or "")
    if found.method in ("subscribe", "unsubscribe") and found.result is not ABSENT:
        named = _SUBSCRIBED.decode(found.result)
        return Subscription((f"{named.channel}:{named.symbol}",), accepted=found.method == "subscribe")
    raise Unknown(f"method {found.method!r} is unknown")


def _level_v2(level: _LevelV2) -> Level:
    price, size = bytes(level.price).decode(), bytes(level.qty).decode()
    return positive(price), amount(size), checksum_digits(price, size)


def _book_v2(book: _BookV2, kind: str | None, depth: int) -> Record:
    symbol = symbol_of(book.symbol)
    ts = None if book.timestamp is None else nanoseconds(book.timestamp)
    bids = [_level_v2(level) for level in book.bids]
    asks = [_level_v2(level) for level in book.asks]
    if kind == "snapshot":
        return BookSnapshot(symbol, ts, bids, asks, checksum=book.checksum, depth=depth)
    if kind == "update":
        return BookDelta(symbol, ts, bids, asks, checksum=book.checksum)
    raise Unreadable(f"a book message of type {kind!r}")


def _trade_v2(trade: _TradeV2) -> Trade:
    ts = nanoseconds(trade.timestamp)
    return Trade(symbol_of(trade.symbol), ts, trade.price, trade.qty, side_of(trade.side), str(trade.trade_id))


def _ticker_v2(ticker: Any) -> Ticker:
    ts = None if ticker.timestamp is None else nanoseconds(ticker.timestamp)
    opened = ticker.last - ticker.change
    return Ticker(
        symbol_of(ticker.symbol),
        ts,
        ticker.last,
        ticker.bid,
        ticker.ask,
        opened,
        ticker.high,
        ticker.low,
        ticker.volume,
    )
