"""OKX v5: books with sequence numbers and a checksum, best bid and ask, trades, tickers.

Fields: OKX API documentation v5, "Order book channel", "Trades channel", "Tickers channel". An update belongs on the
book whose ``seqId`` is its ``prevSeqId``; -1 marks a snapshot.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tapeline.core.symbol import Symbol
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
    amount,
    decoder,
    or_nan,
    positive,
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

_Entries = Annotated[list[tuple[str, str, str, str]], msgspec.Meta(max_length=20_000)]


class _Argument(msgspec.Struct):
    channel: Text = ""
    instId: Text = ""  # noqa: N815 - the venue's spelling


class _Probe(msgspec.Struct):
    arg: _Argument | None = None
    action: Text | None = None
    data: msgspec.Raw = ABSENT
    event: Text | None = None
    code: Text | None = None
    msg: Text | None = None


class _Book(msgspec.Struct):
    asks: _Entries
    bids: _Entries
    ts: Milliseconds
    checksum: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**32)] | None = None
    prevSeqId: Sequence | None = None  # noqa: N815
    seqId: Sequence | None = None  # noqa: N815


class _Trade(msgspec.Struct):
    instId: Text  # noqa: N815
    tradeId: Text  # noqa: N815
    px: Price
    sz: Size
    side: Text
    ts: Milliseconds


class _Ticker(msgspec.Struct):
    instId: Text  # noqa: N815
    ts: Milliseconds
    last: Number | None = None
    askPx: Number | None = None  # noqa: N815
    bidPx: Number | None = None  # noqa: N815
    open24h: Number | None = None
    high24h: Number | None = None
    low24h: Number | None = None
    vol24h: Number | None = None


_PROBE = decoder(_Probe)
_BOOKS = decoder(list[_Book])
_TRADES = decoder(list[_Trade])
_TICKERS = decoder(list[_Ticker])

_WINDOWS = {"books": 400, "books5": 5, "bbo-tbt": 1, "books50-l2-tbt": 50, "books-l2-tbt": 400}


class Okx(Dialect):
    """OKX v5 public channels."""

    venue: ClassVar[str] = "okx"

    def parse_snapshot(self, raw: bytes, symbol: str) -> list[Record]:
        """The records of a REST answer of ``/market/books``, which does not name its symbol."""
        if len(raw) > self.maximum_bytes:
            return self.parse(raw)
        try:
            found = _PROBE.decode(raw)
            if found.code not in (None, "0"):
                return [Refusal(found.code or "", found.msg or "")]
            return [_book(book, Symbol.parse(symbol), "snapshot", None) for book in _BOOKS.decode(found.data)]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return [self.refuse(raw, f"{type(error).__name__}: {error}")]

    def _read(self, raw: bytes) -> list[Record]:
        if raw == b"pong":
            return [Heartbeat()]
        found = _PROBE.decode(raw)
        if found.event is not None:
            return [_event(found)]
        if found.arg is None or found.data is ABSENT:
            raise Unreadable("neither event nor data")
        channel = found.arg.channel
        if channel == "bbo-tbt":
            symbol = symbol_of(found.arg.instId)
            return [_quote(book, symbol) for book in _BOOKS.decode(found.data)]
        if channel in _WINDOWS:
            # ``books5`` sends a whole window each time and names no action.
            action = "snapshot" if channel == "books5" else found.action
            symbol, depth = symbol_of(found.arg.instId), _WINDOWS[channel]
            return [_book(book, symbol, action, depth) for book in _BOOKS.decode(found.data)]
        if channel in ("trades", "trades-all"):
            return [
                Trade(
                    symbol_of(item.instId),
                    item.ts * MILLISECOND,
                    item.px,
                    item.sz,
                    side_of(item.side),
                    item.tradeId,
                )
                for item in _TRADES.decode(found.data)
            ]
        if channel == "tickers":
            return [_ticker(item) for item in _TICKERS.decode(found.data)]
        raise Unknown(f"channel {channel!r} is unknown")


def _event(found: _Probe) -> Record:
    named = (f"{found.arg.channel}:{found.arg.instId}",) if found.arg else ()
    if found.event in ("subscribe", "unsubscribe"):
        return Subscription(named, accepted=found.event == "subscribe")
    if found.event == "error":
        return Refusal(found.code or "", found.msg or "")
    if found.event in ("notice", "channel-conn-count"):
        return Notice(found.event, found.msg or "")
    raise Unknown(f"event {found.event!r} is unknown")


def _level(entry: tuple[str, str, str, str]) -> Level:
    price, size = entry[0], entry[1]
    return positive(price), amount(size), f"{price}:{size}"


def _book(book: _Book, symbol: Symbol, action: str | None, depth: int | None) -> Record:
    bids = [_level(entry) for entry in book.bids]
    asks = [_level(entry) for entry in book.asks]
    ts = book.ts * MILLISECOND
    if action == "snapshot":
        return BookSnapshot(symbol, ts, bids, asks, book.seqId, _signed(book.checksum), depth)
    if action == "update":
        # A checksum of 0 marks a channel on which the venue no longer computes one.
        checksum = _signed(book.checksum) if book.checksum else None
        return BookDelta(symbol, ts, bids, asks, None, book.seqId, book.prevSeqId, checksum)
    raise Unreadable(f"an order book with action {action!r}")


def _signed(checksum: int | None) -> int | None:
    """The checksum as the unsigned number that CRC-32 is; OKX writes it as a signed one."""
    return None if not checksum else checksum & 0xFFFFFFFF


def _quote(book: _Book, symbol: Symbol) -> Quote:
    if not (book.bids and book.asks):
        raise Unreadable("best bid and ask of a one-sided book")
    bid, ask = _level(book.bids[0]), _level(book.asks[0])
    return Quote(symbol, book.ts * MILLISECOND, bid[0], bid[1], ask[0], ask[1], book.seqId)


def _ticker(item: _Ticker) -> Ticker:
    return Ticker(
        symbol_of(item.instId),
        item.ts * MILLISECOND,
        or_nan(item.last),
        or_nan(item.bidPx),
        or_nan(item.askPx),
        or_nan(item.open24h),
        or_nan(item.high24h),
        or_nan(item.low24h),
        or_nan(item.vol24h),
    )
