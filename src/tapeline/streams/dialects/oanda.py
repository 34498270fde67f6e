"""OANDA v20: the pricing stream, one JSON object a line, and the prices that REST answers hold.

Fields: OANDA v20 REST documentation, "Pricing Definitions" (``ClientPrice``, ``PricingHeartbeat``).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import (
    Dialect,
    Price,
    Size,
    Text,
    Unknown,
    Unreadable,
    decoder,
    seconds_text,
    symbol_of,
)
from tapeline.streams.messages import BookSnapshot, Heartbeat, Notice, Quote, Record, Refusal, msgspec

_INSTANT: Final = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?Z")


class _Bucket(msgspec.Struct):
    price: Price
    liquidity: Size = math.nan


_Buckets = Annotated[list[_Bucket], msgspec.Meta(max_length=1_000)]


class ClientPrice(msgspec.Struct):
    """One instrument's price for one account; the best bucket stands first."""

    instrument: Text
    time: Text
    bids: _Buckets = msgspec.field(default_factory=list)
    asks: _Buckets = msgspec.field(default_factory=list)
    tradeable: bool = True


class _Line(msgspec.Struct):
    type: Text = ""
    time: Text | None = None
    instrument: Text | None = None
    bids: _Buckets = msgspec.field(default_factory=list)
    asks: _Buckets = msgspec.field(default_factory=list)
    tradeable: bool = True
    status: Text | None = None
    errorMessage: Text | None = None  # noqa: N815 - the venue's spelling


_LINE = decoder(_Line)


class Oanda(Dialect):
    """OANDA's pricing stream.

    A price whose instrument cannot be traded now (``tradeable`` false: the market is closed) becomes a notice: its
    bid and ask are the last ones, and nobody would deal at them.

    Examples
    --------
    >>> line = b'{"type":"PRICE","instrument":"EUR_USD","time":"2016-10-27T08:38:43.094548890Z","tradeable":true,'
    >>> line += b'"bids":[{"price":"1.09","liquidity":1000000}],"asks":[{"price":"1.0902","liquidity":1000000}]}'
    >>> quote = Oanda().parse(line)[0]
    >>> quote.bid, quote.ask, quote.ts
    (1.09, 1.0902, 1477557523094548890)
    """

    venue: ClassVar[str] = "oanda"

    def _read(self, raw: bytes) -> list[Record]:
        line = _LINE.decode(raw)
        if line.type == "HEARTBEAT" and line.time is not None:
            return [Heartbeat(instant_of(line.time))]
        if line.type == "PRICE":
            if line.instrument is None or line.time is None:
                raise Unreadable("a price without an instrument or a time")
            price = ClientPrice(line.instrument, line.time, line.bids, line.asks, line.tradeable)
            symbol = symbol_of(price.instrument)
            if not price.tradeable:
                return [Notice("closed", str(symbol))]
            return [quote_of(symbol, price)]
        if line.errorMessage is not None:
            return [Refusal("", line.errorMessage)]
        if not line.type:
            raise Unreadable("a line without a type")
        raise Unknown(f"type {line.type!r} is unknown")


def instant_of(text: str) -> int:
    """Nanoseconds since the epoch of OANDA's RFC 3339 times, which carry nine decimals, or of its UNIX seconds.

    Examples
    --------
    >>> instant_of("2016-10-27T08:38:43.094548890Z"), instant_of("1477557523.094548890")
    (1477557523094548890, 1477557523094548890)
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        return seconds_text(text)
    whole = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return int(whole.timestamp()) * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


def quote_of(symbol: Symbol, price: ClientPrice) -> Quote:
    """The best bucket a side; NaN for a side that has none."""
    bid, bid_size = _best(price.bids)
    ask, ask_size = _best(price.asks)
    return Quote(symbol, instant_of(price.time), bid, bid_size, ask, ask_size)


def book_of(symbol: Symbol, price: ClientPrice) -> BookSnapshot:
    """The buckets as a book: what OANDA deals at, by size; not a market's order book."""
    bids: list[tuple[Any, ...]] = [(bucket.price, bucket.liquidity) for bucket in price.bids]
    asks: list[tuple[Any, ...]] = [(bucket.price, bucket.liquidity) for bucket in price.asks]
    return BookSnapshot(symbol, instant_of(price.time), bids, asks)


def _best(buckets: list[_Bucket]) -> tuple[float, float]:
    return (buckets[0].price, buckets[0].liquidity) if buckets else (math.nan, math.nan)
