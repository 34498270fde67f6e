"""BitMEX: books of numbered levels, quotes and trades.

Fields: BitMEX API documentation, "WebSocket API". Updates and deletions of ``orderBookL2`` name a level by its id
alone, so the dialect remembers the price of each id from the insertion on; an id it never saw means a lost message.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

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
    decoder,
    nanoseconds,
    or_nan,
    side_of,
    split_sides,
    symbol_of,
)
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Level,
    Notice,
    Quote,
    Record,
    Refusal,
    SequenceBreak,
    Side,
    Subscription,
    Trade,
    msgspec,
)

MAXIMUM_IDS: Final = 500_000
"""How many level ids one instrument may have; a real book has some thousands."""


class _Filter(msgspec.Struct):
    symbol: Text | None = None


class _Probe(msgspec.Struct):
    table: Text | None = None
    action: Text | None = None
    data: msgspec.Raw = ABSENT
    filter: _Filter | None = None
    success: bool | None = None
    subscribe: Text | None = None
    unsubscribe: Text | None = None
    info: Text | None = None
    error: Text | None = None
    status: int | None = None


class _Level(msgspec.Struct):
    symbol: Text
    id: int
    side: Text
    size: Size | None = None
    price: Price | None = None
    timestamp: Instant | None = None


class _Quote(msgspec.Struct):
    timestamp: Instant
    symbol: Text
    bidSize: Size | None = None  # noqa: N815 - the venue's spelling
    bidPrice: Number | None = None  # noqa: N815
    askPrice: Number | None = None  # noqa: N815
    askSize: Size | None = None  # noqa: N815


class _Trade(msgspec.Struct):
    timestamp: Instant
    symbol: Text
    side: Text
    size: Size
    price: Price
    trdMatchID: Text = ""  # noqa: N815


_PROBE = decoder(_Probe)
_LEVELS = decoder(Annotated[list[_Level], msgspec.Meta(max_length=200_000)])
_QUOTES = decoder(list[_Quote])
_TRADES = decoder(list[_Trade])


class Bitmex(Dialect):
    """BitMEX. One instance remembers the level ids of one connection; ``reset`` it on reconnect."""

    venue: ClassVar[str] = "bitmex"

    def __init__(self, *, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        super().__init__(maximum_bytes=maximum_bytes)
        self._prices: dict[Symbol, dict[int, float]] = {}

    def reset(self) -> None:
        """Forget all level ids."""
        self._prices.clear()

    def _read(self, raw: bytes) -> list[Record]:
        found = _PROBE.decode(raw)
        if found.table is None:
            return [_answer(found)]
        if found.data is ABSENT:
            raise Unreadable(f"table {found.table!r} without data")
        if found.table in ("orderBookL2", "orderBookL2_25"):
            return self._book(_LEVELS.decode(found.data), found.action)
        if found.table == "quote":
            return [_quote(item) for item in _QUOTES.decode(found.data)]
        if found.table == "trade":
            return [_trade(item) for item in _TRADES.decode(found.data)]
        raise Unknown(f"table {found.table!r} is unknown")

    def _book(self, rows: list[_Level], action: str | None) -> list[Record]:
        if action not in ("partial", "insert", "update", "delete"):
            raise Unreadable(f"action {action!r} is unknown")
        by_symbol: dict[Symbol, list[_Level]] = {}
        for row in rows:
            by_symbol.setdefault(symbol_of(row.symbol), []).append(row)
        return [self._changes(symbol, part, action) for symbol, part in by_symbol.items()]

    def _changes(self, symbol: Symbol, rows: list[_Level], action: str) -> Record:
        known = {} if action == "partial" else self._prices.get(symbol)
        if known is None:
            # Rows that come before the partial belong to no book; the venue says to drop them.
            return Notice("before partial", symbol)
        levels: list[tuple[Side, Level]] = []
        for row in rows:
            if row.price is not None:
                known[row.id] = row.price
            price = known.get(row.id)
            if price is None:
                self._prices.pop(symbol, None)
                return SequenceBreak(symbol, None, row.id, f"{action} of a level that was never inserted")
            if action == "delete":
                known.pop(row.id)
            elif row.size is None:
                raise Unreadable(f"{action} without a size")
            levels.append((side_of(row.side), (price, 0.0 if action == "delete" else row.size)))
        if len(known) > MAXIMUM_IDS:
            raise Unreadable(f"{symbol} has more than {MAXIMUM_IDS} levels")
        bids, asks = split_sides(levels)
        stamps = [nanoseconds(row.timestamp) for row in rows if row.timestamp is not None]
        ts = max(stamps) if stamps else None
        if action == "partial":
            self._prices[symbol] = known
            return BookSnapshot(symbol, ts, bids, asks)
        return BookDelta(symbol, ts, bids, asks)


def _answer(found: _Probe) -> Record:
    if found.error is not None:
        return Refusal("" if found.status is None else str(found.status), found.error)
    if found.success is not None:
        named = found.subscribe or found.unsubscribe or ""
        return Subscription((named,), found.success and found.unsubscribe is None)
    if found.info is not None:
        return Notice("info", found.info)
    raise Unreadable("neither table nor answer")


def _quote(item: Any) -> Quote:
    return Quote(
        symbol_of(item.symbol),
        nanoseconds(item.timestamp),
        or_nan(item.bidPrice),
        or_nan(item.bidSize),
        or_nan(item.askPrice),
        or_nan(item.askSize),
    )


def _trade(item: _Trade) -> Trade:
    # Auctions and settlements have an empty side.
    side: Side = side_of(item.side) if item.side else 0
    return Trade(symbol_of(item.symbol), nanoseconds(item.timestamp), item.price, item.size, side, item.trdMatchID)
