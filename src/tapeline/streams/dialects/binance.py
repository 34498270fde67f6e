"""Binance spot and USD-margined futures: combined, raw and array streams, REST depth snapshots.

Fields: Binance API documentation, "Web Socket Streams" (spot) and "Websocket Market Streams" (USD-M futures). Both
markets speak one dialect; futures add ``T`` (transaction time) and ``pu`` (the ``u`` of the message before).
"""

from __future__ import annotations

from typing import Any, ClassVar

from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import (
    ABSENT,
    MAXIMUM_BYTES,
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
    symbol_of,
)
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Candle,
    Quote,
    Record,
    Refusal,
    Side,
    Subscription,
    Ticker,
    Trade,
    msgspec,
)


class _Probe(msgspec.Struct):
    """What tells one kind of message from another; one pass that skips the rest."""

    stream: Text | None = None
    data: msgspec.Raw = ABSENT
    e: Text | None = None
    u: int | None = None
    lastUpdateId: int | None = None  # noqa: N815 - the venue's spelling
    id: int | str | None = None
    error: msgspec.Raw = ABSENT
    code: int | None = None
    msg: Text | None = None


class _Depth(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    E: Milliseconds
    s: Text
    U: Sequence
    u: Sequence
    b: Levels
    a: Levels
    pu: Sequence | None = None


class _Book(msgspec.Struct):
    lastUpdateId: Sequence  # noqa: N815
    bids: Levels
    asks: Levels
    E: Milliseconds | None = None


class _BookTicker(msgspec.Struct):
    u: Sequence
    s: Text
    b: Price
    B: Size
    a: Price
    A: Size
    E: Milliseconds | None = None


class _Trade(msgspec.Struct, tag_field="e", tag="trade"):
    s: Text
    t: Sequence
    p: Size
    q: Size
    T: Milliseconds
    m: bool
    X: Text | None = None


class _AggregateTrade(msgspec.Struct, tag_field="e", tag="aggTrade"):
    s: Text
    a: Sequence
    p: Price
    q: Size
    T: Milliseconds
    m: bool


class _Bar(msgspec.Struct):
    t: Milliseconds
    i: Text
    o: Price
    h: Price
    l: Price  # noqa: E741 - the venue's spelling
    c: Price
    v: Size
    x: bool


class _Kline(msgspec.Struct, tag_field="e", tag="kline"):
    E: Milliseconds
    s: Text
    k: _Bar


class _Ticker(msgspec.Struct):
    e: Text
    E: Milliseconds
    s: Text
    c: Number
    o: Number
    h: Number
    l: Number  # noqa: E741
    v: Size
    b: Number | None = None
    a: Number | None = None


class _Problem(msgspec.Struct):
    code: int | str = ""
    msg: Text = ""


_PROBE = decoder(_Probe)
_DEPTH = decoder(_Depth)
_BOOK = decoder(_Book)
_BOOK_TICKER = decoder(_BookTicker)
_TRADE = decoder(_Trade)
_AGGREGATE = decoder(_AggregateTrade)
_KLINE = decoder(_Kline)
_TICKER = decoder(_Ticker)
_ARRAY = decoder(list[msgspec.Raw])
_PROBLEM = decoder(_Problem)

_TICKERS = ("24hrTicker", "24hrMiniTicker")


class Binance(Dialect):
    """Binance, spot or USD-M futures.

    Parameters
    ----------
    symbol:
        The instrument of depth snapshots found among the messages: the REST answer does not name it.

    Examples
    --------
    >>> Binance().parse(b'{"u":7,"s":"BTCUSDT","b":"10.5","B":"2","a":"10.6","A":"1"}')
    [Quote(symbol=Symbol('BTCUSDT'), ts=None, bid=10.5, bid_size=2.0, ask=10.6, ask_size=1.0, sequence=7)]
    >>> Binance().parse(b'{"u":7')[0].reason
    'DecodeError: Input data was truncated'
    """

    venue: ClassVar[str] = "binance"

    def __init__(self, *, symbol: str | None = None, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        super().__init__(maximum_bytes=maximum_bytes)
        self.symbol = None if symbol is None else Symbol.parse(symbol)

    def parse_snapshot(self, raw: bytes, symbol: str) -> list[Record]:
        """The records of a REST answer of ``/depth``, which does not name its symbol."""
        if len(raw) > self.maximum_bytes:
            return self.parse(raw)
        try:
            found = _PROBE.decode(raw)
            return self._refusal(raw, found) if found.code is not None else [_snapshot(raw, Symbol.parse(symbol))]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return [self.refuse(raw, f"{type(error).__name__}: {error}")]

    def _read(self, raw: bytes) -> list[Record]:
        if raw[:1] == b"[":
            return [record for item in _ARRAY.decode(raw) for record in self._event(item, _PROBE.decode(item))]
        found = _PROBE.decode(raw)
        if found.stream is not None and found.data is not ABSENT:
            return self._streamed(found.stream, found.data)
        return self._event(raw, found)

    def _streamed(self, stream: str, data: Any) -> list[Record]:
        channel = stream.partition("@")[2]
        if channel.startswith("depth") and not channel[5:6].isdigit():
            return [_delta(data)]
        if channel == "bookTicker":
            return [_quote(data)]
        if channel == "trade":
            return _trade(data)
        if memoryview(data)[:1] == b"[":
            return [record for item in _ARRAY.decode(data) for record in self._event(item, _PROBE.decode(item))]
        if channel.startswith("depth"):
            return [_partial(data, stream)]
        return self._event(data, _PROBE.decode(data))

    def _event(self, raw: Any, found: _Probe) -> list[Record]:
        kind = found.e
        if kind == "depthUpdate":
            return [_delta(raw)]
        if kind == "trade":
            return _trade(raw)
        if kind == "aggTrade":
            return [_aggregate(raw)]
        if kind == "bookTicker" or (kind is None and found.u is not None):
            return [_quote(raw)]
        if kind == "kline":
            return [_candle(raw)]
        if kind in _TICKERS:
            return [_ticker(raw)]
        if kind is None:
            if found.lastUpdateId is not None:
                if self.symbol is None:
                    raise Unreadable("a depth snapshot without a symbol: tell the dialect which")
                return [_snapshot(raw, self.symbol)]
            if found.error is not ABSENT or found.code is not None:
                return self._refusal(raw, found)
            if found.id is not None:
                return [Subscription((str(found.id),), accepted=True)]
        raise Unknown(f"event {kind!r} is unknown")

    def _refusal(self, raw: Any, found: _Probe) -> list[Record]:
        if found.error is not ABSENT:
            problem = _PROBLEM.decode(found.error)
            return [Refusal(str(problem.code), problem.msg)]
        return [Refusal(str(found.code), found.msg or "")]


def _delta(raw: Any) -> BookDelta:
    message = _DEPTH.decode(raw)
    if message.u < message.U:
        raise Unreadable(f"u = {message.u} is before U = {message.U}")
    return BookDelta(
        symbol_of(message.s),
        message.E * MILLISECOND,
        message.b,
        message.a,
        message.U,
        message.u,
        message.pu,
    )


def _snapshot(raw: Any, symbol: Symbol, depth: int | None = None) -> BookSnapshot:
    message = _BOOK.decode(raw)
    ts = None if message.E is None else message.E * MILLISECOND
    return BookSnapshot(symbol, ts, message.bids, message.asks, message.lastUpdateId, depth=depth)


def _partial(raw: Any, stream: str) -> BookSnapshot:
    """A partial book (``depth20``) is a snapshot of the best levels; futures dress it as a depth update."""
    name, _, channel = stream.partition("@")
    depth = int(channel[5:].partition("@")[0])
    if _PROBE.decode(raw).e is None:
        return _snapshot(raw, symbol_of(name.upper()), depth)
    update = _delta(raw)
    return BookSnapshot(update.symbol, update.ts, update.bids, update.asks, update.last, depth=depth)


def _quote(raw: Any) -> Quote:
    message = _BOOK_TICKER.decode(raw)
    ts = None if message.E is None else message.E * MILLISECOND
    return Quote(symbol_of(message.s), ts, message.b, message.B, message.a, message.A, message.u)


def _trade(raw: Any) -> list[Record]:
    message = _TRADE.decode(raw)
    if message.X is not None and message.X != "MARKET":
        # Insurance fund and auto-deleveraging entries are not trades of the book, and may have price 0.
        return []
    if not message.p:
        raise Unreadable("a trade at price 0")
    return [_traded(message, message.t)]


def _aggregate(raw: Any) -> Trade:
    message = _AGGREGATE.decode(raw)
    return _traded(message, message.a)


def _traded(message: Any, number: int) -> Trade:
    # ``m``: the buyer was the maker, hence the seller took.
    side: Side = -1 if message.m else 1
    return Trade(symbol_of(message.s), message.T * MILLISECOND, message.p, message.q, side, str(number))


def _candle(raw: Any) -> Candle:
    message = _KLINE.decode(raw)
    bar = message.k
    return Candle(
        symbol_of(message.s),
        bar.t * MILLISECOND,
        bar.i,
        bar.o,
        bar.h,
        bar.l,
        bar.c,
        bar.v,
        bar.x,
        message.E * MILLISECOND,
    )


def _ticker(raw: Any) -> Ticker:
    message = _TICKER.decode(raw)
    nan = float("nan")
    return Ticker(
        symbol_of(message.s),
        message.E * MILLISECOND,
        message.c,
        nan if message.b is None else message.b,
        nan if message.a is None else message.a,
        message.o,
        message.h,
        message.l,
        message.v,
    )
