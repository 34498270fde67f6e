"""Coinbase: the Exchange feed (``type`` messages) and the Advanced Trade feed (``channel`` messages).

Fields: Coinbase Exchange "WebSocket Channels" and Coinbase Advanced Trade "WebSocket Channels". The first numbers no
book changes. The second counts ``sequence_num`` over ALL messages of a connection, from 0: a hole means that any
subscription may have lost something, so every book of the connection must be taken anew.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from tapeline.streams.dialects.base import (
    ABSENT,
    MAXIMUM_BYTES,
    Dialect,
    Instant,
    Levels,
    Number,
    Price,
    Sequence,
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
    Heartbeat,
    Record,
    Refusal,
    SequenceBreak,
    Side,
    Subscription,
    Ticker,
    Trade,
    msgspec,
)


class _Probe(msgspec.Struct):
    type: Text | None = None
    channel: Text | None = None
    sequence_num: Sequence | None = None
    timestamp: Instant | None = None
    events: msgspec.Raw = ABSENT
    message: Text | None = None
    reason: Text | None = None


class _Snapshot(msgspec.Struct):
    product_id: Text
    bids: Levels
    asks: Levels
    time: Instant | None = None


class _Update(msgspec.Struct):
    product_id: Text
    changes: Annotated[list[tuple[Text, Price, Size]], msgspec.Meta(max_length=200_000)]
    time: Instant


class _Match(msgspec.Struct):
    trade_id: int
    product_id: Text
    side: Text
    size: Size
    price: Price
    time: Instant


class _Ticker(msgspec.Struct):
    product_id: Text
    price: Price
    best_bid: Number | None = None
    best_ask: Number | None = None
    open_24h: Number | None = None
    low_24h: Number | None = None
    high_24h: Number | None = None
    volume_24h: Number | None = None
    low_24_h: Number | None = None
    high_24_h: Number | None = None
    volume_24_h: Number | None = None
    time: Instant | None = None


class _Heartbeat(msgspec.Struct):
    product_id: Text
    sequence: Sequence
    time: Instant


class _Channel(msgspec.Struct):
    name: Text
    product_ids: tuple[Text, ...] = ()


class _Subscriptions(msgspec.Struct):
    channels: Annotated[list[_Channel], msgspec.Meta(max_length=1_000)]


class _Change(msgspec.Struct):
    side: Text
    price_level: Price
    new_quantity: Size


class _LevelEvent(msgspec.Struct):
    type: Text
    product_id: Text
    updates: Annotated[list[_Change], msgspec.Meta(max_length=400_000)]


class _AdvancedTrade(msgspec.Struct):
    trade_id: Text
    product_id: Text
    price: Price
    size: Size
    side: Text
    time: Instant


class _TradeEvent(msgspec.Struct):
    trades: list[_AdvancedTrade]


class _TickerEvent(msgspec.Struct):
    tickers: list[_Ticker]


class _Beat(msgspec.Struct):
    heartbeat_counter: int


class _SubscriptionEvent(msgspec.Struct):
    subscriptions: dict[Text, list[Text]]


_PROBE = decoder(_Probe)
_SNAPSHOT = decoder(_Snapshot)
_UPDATE = decoder(_Update)
_MATCH = decoder(_Match)
_TICKER = decoder(_Ticker)
_HEARTBEAT = decoder(_Heartbeat)
_SUBSCRIPTIONS = decoder(_Subscriptions)
_LEVEL_EVENTS = decoder(list[_LevelEvent])
_TRADE_EVENTS = decoder(list[_TradeEvent])
_TICKER_EVENTS = decoder(list[_TickerEvent])
_BEATS = decoder(list[_Beat])
_SUBSCRIPTION_EVENTS = decoder(list[_SubscriptionEvent])


class Coinbase(Dialect):
    """Coinbase, either feed. One instance counts the messages of one connection; ``reset`` it on reconnect."""

    venue: ClassVar[str] = "coinbase"

    def __init__(self, *, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        super().__init__(maximum_bytes=maximum_bytes)
        self._last: int | None = None

    def reset(self) -> None:
        """Forget the count."""
        self._last = None

    def _read(self, raw: bytes) -> list[Record]:
        found = _PROBE.decode(raw)
        if found.channel is not None:
            return self._advanced(found)
        kind = found.type
        if kind == "l2update":
            return [_update(raw)]
        if kind in ("match", "last_match"):
            return [_match(raw)]
        if kind == "ticker":
            return [_ticker(_TICKER.decode(raw), None)]
        if kind == "snapshot":
            return [_snapshot(raw)]
        if kind == "heartbeat":
            beat = _HEARTBEAT.decode(raw)
            return [Heartbeat(nanoseconds(beat.time), symbol_of(beat.product_id), beat.sequence)]
        if kind == "subscriptions":
            return [_subscriptions(raw)]
        if kind == "error":
            return [Refusal("", ": ".join(text for text in (found.message, found.reason) if text))]
        raise Unknown(f"type {kind!r} is unknown")

    def _advanced(self, found: _Probe) -> list[Record]:
        if found.sequence_num is None:
            raise Unreadable("a message without sequence_num")
        if found.events is ABSENT:
            raise Unreadable("a message without events")
        # Counted before its contents are read: a message that cannot be read was nonetheless received.
        expected = None if self._last is None else self._last + 1
        self._last = found.sequence_num
        events = self._events(found)
        if expected is None or found.sequence_num == expected:
            return events
        lost = SequenceBreak(None, expected, found.sequence_num, "sequence_num of the connection")
        return [lost, *events]

    def _events(self, found: _Probe) -> list[Record]:
        ts = None if found.timestamp is None else nanoseconds(found.timestamp)
        channel = found.channel
        if channel == "l2_data":
            return [_levels(event, ts) for event in _LEVEL_EVENTS.decode(found.events)]
        if channel == "market_trades":
            return [_advanced_trade(trade) for event in _TRADE_EVENTS.decode(found.events) for trade in event.trades]
        if channel in ("ticker", "ticker_batch"):
            return [_ticker(item, ts) for event in _TICKER_EVENTS.decode(found.events) for item in event.tickers]
        if channel == "heartbeats":
            return [Heartbeat(ts, None, beat.heartbeat_counter) for beat in _BEATS.decode(found.events)]
        if channel == "subscriptions":
            named = [event.subscriptions for event in _SUBSCRIPTION_EVENTS.decode(found.events)]
            pairs = tuple(f"{name}:{product}" for each in named for name, ids in each.items() for product in ids)
            return [Subscription(pairs, accepted=True)]
        raise Unknown(f"channel {channel!r} is unknown")


def _snapshot(raw: bytes) -> BookSnapshot:
    found = _SNAPSHOT.decode(raw)
    ts = None if found.time is None else nanoseconds(found.time)
    return BookSnapshot(symbol_of(found.product_id), ts, found.bids, found.asks)


def _update(raw: bytes) -> BookDelta:
    found = _UPDATE.decode(raw)
    bids, asks = split_sides((side_of(side), (price, size)) for side, price, size in found.changes)
    return BookDelta(symbol_of(found.product_id), nanoseconds(found.time), bids, asks)


def _match(raw: bytes) -> Trade:
    found = _MATCH.decode(raw)
    # ``side`` is the maker's: a match at a resting sell order was a buyer's doing.
    taker: Side = -1 if side_of(found.side) > 0 else 1
    ts = nanoseconds(found.time)
    return Trade(symbol_of(found.product_id), ts, found.price, found.size, taker, str(found.trade_id))


def _ticker(found: Any, ts: int | None) -> Ticker:
    return Ticker(
        symbol_of(found.product_id),
        ts if found.time is None else nanoseconds(found.time),
        found.price,
        or_nan(found.best_bid),
        or_nan(found.best_ask),
        or_nan(found.open_24h),
        or_nan(found.high_24h if found.high_24_h is None else found.high_24_h),
        or_nan(found.low_24h if found.low_24_h is None else found.low_24_h),
        or_nan(found.volume_24h if found.volume_24_h is None else found.volume_24_h),
    )


def _subscriptions(raw: bytes) -> Subscription:
    channels = _SUBSCRIPTIONS.decode(raw).channels
    return Subscription(tuple(f"{item.name}:{product}" for item in channels for product in item.product_ids), True)


def _levels(event: _LevelEvent, ts: int | None) -> Record:
    symbol = symbol_of(event.product_id)
    bids, asks = split_sides((side_of(item.side), (item.price_level, item.new_quantity)) for item in event.updates)
    if event.type == "snapshot":
        return BookSnapshot(symbol, ts, bids, asks)
    if event.type == "update":
        return BookDelta(symbol, ts, bids, asks)
    raise Unreadable(f"a level2 event of type {event.type!r}")


def _advanced_trade(found: _AdvancedTrade) -> Trade:
    # In the market_trades channel, too, ``side`` is the maker's.
    taker: Side = -1 if side_of(found.side) > 0 else 1
    ts = nanoseconds(found.time)
    return Trade(symbol_of(found.product_id), ts, found.price, found.size, taker, found.trade_id)
