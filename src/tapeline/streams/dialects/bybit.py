"""Bybit: the unified dialect (v5) and the retired inverse and linear one (v2, ``orderBookL2_25``).

Fields: Bybit API documentation v5, "Orderbook", "Trade", "Ticker"; v2 as recorded. In v5 ``u`` counts the changes of
one topic without holes, and ``u`` = 1 is a snapshot after a restart. In v2 ``cross_seq`` grows but skips.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import (
    ABSENT,
    MILLISECOND,
    Dialect,
    Levels,
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
    split_sides,
    symbol_of,
)
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Candle,
    Heartbeat,
    Level,
    Record,
    Refusal,
    Subscription,
    Ticker,
    Trade,
    msgspec,
)


class _Request(msgspec.Struct):
    op: Text = ""
    args: tuple[Text, ...] = ()


class _Probe(msgspec.Struct):
    topic: Text | None = None
    type: Text | None = None
    ts: Milliseconds | None = None
    data: msgspec.Raw = ABSENT
    success: bool | None = None
    ret_msg: Text | None = None
    retMsg: Text | None = None  # noqa: N815 - the venue's spelling
    retCode: int | None = None  # noqa: N815
    op: Text | None = None
    req_id: Text | None = None
    request: _Request | None = None
    cross_seq: Sequence | None = None
    timestamp_e6: Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000_000)] | None = None
    result: msgspec.Raw = ABSENT


class _Book(msgspec.Struct):
    s: Text
    b: Levels
    a: Levels
    u: Sequence
    seq: Sequence | None = None
    ts: Milliseconds | None = None


class _Trade(msgspec.Struct):
    T: Milliseconds
    s: Text
    S: Text
    v: Size
    p: Price
    i: Text


class _Ticker(msgspec.Struct):
    symbol: Text
    lastPrice: Number | None = None  # noqa: N815
    bid1Price: Number | None = None  # noqa: N815
    ask1Price: Number | None = None  # noqa: N815
    prevPrice24h: Number | None = None  # noqa: N815
    highPrice24h: Number | None = None  # noqa: N815
    lowPrice24h: Number | None = None  # noqa: N815
    volume24h: Number | None = None


class _Bar(msgspec.Struct):
    start: Milliseconds
    interval: Text
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Size
    confirm: bool
    timestamp: Milliseconds


class _OldLevel(msgspec.Struct):
    price: Price
    side: Text
    size: Size = 0.0


class _OldBook(msgspec.Struct):
    order_book: list[_OldLevel]


class _OldDelta(msgspec.Struct):
    delete: list[_OldLevel]
    update: list[_OldLevel]
    insert: list[_OldLevel]


class _OldTrade(msgspec.Struct):
    symbol: Text
    price: Price
    size: Size
    trade_time_ms: Milliseconds
    side: Text
    trade_id: Text


_PROBE = decoder(_Probe)
_BOOK = decoder(_Book)
_TRADES = decoder(list[_Trade])
_TICKER = decoder(_Ticker)
_BARS = decoder(list[_Bar])
_OLD_LEVELS = decoder(list[_OldLevel])
_OLD_BOOK = decoder(_OldBook)
_OLD_DELTA = decoder(_OldDelta)
_OLD_TRADES = decoder(list[_OldTrade])


class Bybit(Dialect):
    """Bybit, v5 and v2, told apart topic by topic."""

    venue: ClassVar[str] = "bybit"

    def parse_snapshot(self, raw: bytes) -> list[Record]:
        """The records of a REST answer of ``/v5/market/orderbook``; the same as :meth:`parse` would give."""
        return self.parse(raw)

    def _read(self, raw: bytes) -> list[Record]:
        found = _PROBE.decode(raw)
        topic = found.topic
        if topic is None:
            return [_answer(found)]
        if found.data is ABSENT:
            raise Unreadable(f"topic {topic!r} without data")
        channel, _, rest = topic.partition(".")
        if channel == "orderbook":
            return [_book(found)]
        if channel == "trade" or channel == "publicTrade":
            return _trades(found.data)
        if channel == "orderBookL2_25" or channel == "orderBook_200":
            return [_old_book(found, symbol_of(rest.rpartition(".")[2]))]
        if channel == "tickers":
            return [_ticker(found)]
        if channel == "kline":
            return _candles(found.data, rest)
        raise Unknown(f"topic {topic!r} is unknown")


def _answer(found: _Probe) -> Record:
    if found.op in ("ping", "pong") or found.ret_msg == "pong":
        return Heartbeat()
    if found.retCode is not None:
        if found.retCode:
            return Refusal(str(found.retCode), found.retMsg or "")
        if found.result is not ABSENT:
            book = _BOOK.decode(found.result)
            ts = None if book.ts is None else book.ts * MILLISECOND
            return BookSnapshot(symbol_of(book.s), ts, book.b, book.a, book.u)
    if found.success is None:
        raise Unreadable("neither topic nor answer")
    named = found.request.args if found.request else (found.req_id or "",)
    return Subscription(named, found.success, found.ret_msg or found.retMsg or "")


def _book(found: _Probe) -> Record:
    book = _BOOK.decode(found.data)
    symbol = symbol_of(book.s)
    ts = None if found.ts is None else found.ts * MILLISECOND
    if found.type == "snapshot" or book.u == 1:
        return BookSnapshot(symbol, ts, book.b, book.a, book.u)
    if found.type == "delta":
        return BookDelta(symbol, ts, book.b, book.a, book.u, book.u)
    raise Unreadable(f"an order book of type {found.type!r}")


def _trades(data: msgspec.Raw) -> list[Record]:
    try:
        trades = _TRADES.decode(data)
    except msgspec.ValidationError:
        return [
            Trade(
                symbol_of(item.symbol),
                item.trade_time_ms * MILLISECOND,
                item.price,
                item.size,
                side_of(item.side),
                item.trade_id,
            )
            for item in _OLD_TRADES.decode(data)
        ]
    return [Trade(symbol_of(item.s), item.T * MILLISECOND, item.p, item.v, side_of(item.S), item.i) for item in trades]


def _ticker(found: _Probe) -> Ticker:
    # A delta names only what changed: absent fields stay NaN, and the reader keeps what it had.
    item = _TICKER.decode(found.data)
    return Ticker(
        symbol_of(item.symbol),
        None if found.ts is None else found.ts * MILLISECOND,
        or_nan(item.lastPrice),
        or_nan(item.bid1Price),
        or_nan(item.ask1Price),
        or_nan(item.prevPrice24h),
        or_nan(item.highPrice24h),
        or_nan(item.lowPrice24h),
        or_nan(item.volume24h),
    )


def _candles(data: msgspec.Raw, rest: str) -> list[Record]:
    symbol = symbol_of(rest.rpartition(".")[2])
    return [
        Candle(
            symbol,
            bar.start * MILLISECOND,
            bar.interval,
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.confirm,
            bar.timestamp * MILLISECOND,
        )
        for bar in _BARS.decode(data)
    ]


def _old_book(found: _Probe, symbol: Symbol) -> Record:
    ts = None if found.timestamp_e6 is None else found.timestamp_e6 * 1_000
    if found.type == "snapshot":
        # Linear contracts wrap the levels in ``order_book``, inverse ones do not.
        wrapped = memoryview(found.data)[:1] == b"{"
        levels = _OLD_BOOK.decode(found.data).order_book if wrapped else _OLD_LEVELS.decode(found.data)
        bids, asks = split_sides((side_of(item.side), (item.price, item.size)) for item in levels)
        return BookSnapshot(symbol, ts, bids, asks, found.cross_seq)
    if found.type == "delta":
        delta = _OLD_DELTA.decode(found.data)
        gone: list[tuple[str, Level]] = [(item.side, (item.price, 0.0)) for item in delta.delete]
        kept: list[tuple[str, Level]] = [(i.side, (i.price, i.size)) for i in (*delta.update, *delta.insert)]
        bids, asks = split_sides((side_of(side), level) for side, level in (*gone, *kept))
        return BookDelta(symbol, ts, bids, asks, found.cross_seq, found.cross_seq)
    raise Unreadable(f"an order book of type {found.type!r}")
