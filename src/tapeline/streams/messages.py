"""The records that every venue's messages become: trades, quotes, books, tickers, candles, and what the feed says.

Times are nanoseconds since the epoch on the venue's clock, or None where the venue sends none. Prices and sizes are
float64: a decimal of up to 15 significant digits has exactly one nearest float64, so a price is a safe key of a book
level. Where a venue's checksum reads digits, the level carries them as a third element.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from tapeline.core.errors import MissingExtraError
from tapeline.core.symbol import Symbol

try:
    # The other modules take it from here, so that its absence is said in one place.
    import msgspec as msgspec
except ImportError as error:
    raise MissingExtraError("msgspec", "streams") from error

Side: TypeAlias = Literal[-1, 0, 1]
"""Who took liquidity: 1 a buyer, -1 a seller, 0 not said."""

Level: TypeAlias = tuple[Any, ...]
"""``(price, size)`` or ``(price, size, digits)``; ``size`` is the total at that price, 0 removes the level.

``digits`` is the level's part of the text over which the venue computes its checksum.
"""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade, or several at one price that the venue reports as one. ``id`` is the venue's, as text."""

    symbol: Symbol
    ts: int
    price: float
    size: float
    side: Side
    id: str


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask with their sizes (NaN where the venue sends none)."""

    symbol: Symbol
    ts: int | None
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    sequence: int | None = None


class Ticker(msgspec.Struct, frozen=True, gc=False):
    """A rolling summary, usually of 24 hours; NaN marks what a venue leaves out or sends as null."""

    symbol: Symbol
    ts: int | None
    last: float
    bid: float
    ask: float
    open: float
    high: float
    low: float
    volume: float


class Candle(msgspec.Struct, frozen=True, gc=False):
    """A bar as the venue builds it. ``ts`` is its OPEN time; it is final only where ``closed``."""

    symbol: Symbol
    ts: int
    interval: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    closed: bool
    sent: int


class BookSnapshot(msgspec.Struct, frozen=True):
    """A whole book, or its best ``depth`` levels a side where ``depth`` is given.

    ``sequence`` is the venue's number of the last change that it contains.
    """

    symbol: Symbol
    ts: int | None
    bids: list[Level]
    asks: list[Level]
    sequence: int | None = None
    checksum: int | None = None
    depth: int | None = None


class BookDelta(msgspec.Struct, frozen=True):
    """Changed levels. ``first`` to ``last`` are the changes it covers; ``previous`` is the ``last`` before it.

    A venue that numbers nothing leaves all three None.
    """

    symbol: Symbol
    ts: int | None
    bids: list[Level]
    asks: list[Level]
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    checksum: int | None = None


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """The connection is alive. ``sequence`` counts where the venue counts."""

    ts: int | None = None
    symbol: Symbol | None = None
    sequence: int | None = None


class Subscription(msgspec.Struct, frozen=True):
    """The venue's answer to a subscription: what it named, and whether it accepted."""

    channels: tuple[str, ...]
    accepted: bool
    detail: str = ""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The venue reports an error; ``code`` is its own, as text."""

    code: str
    detail: str


class Notice(msgspec.Struct, frozen=True, gc=False):
    """The venue says something about itself: its status, a greeting, maintenance."""

    kind: str
    detail: str


class SequenceBreak(msgspec.Struct, frozen=True, gc=False):
    """A message is missing. ``symbol`` is None where the whole connection is counted as one sequence."""

    symbol: Symbol | None
    expected: int | None
    received: int | None
    detail: str


class Quarantined(msgspec.Struct, frozen=True):
    """A message that could not be read: why, what of it was kept, and how long it was.

    ``raw`` holds the first bytes only, so that a hostile message cannot fill the disk. ``unknown`` where it is of a
    kind that the dialect does not read at all; else it may have been a part of a book.
    """

    venue: str
    reason: str
    raw: bytes
    length: int
    unknown: bool = False


BookRecord: TypeAlias = BookSnapshot | BookDelta
Record: TypeAlias = (
    Trade
    | Quote
    | Ticker
    | Candle
    | BookSnapshot
    | BookDelta
    | Heartbeat
    | Subscription
    | Refusal
    | Notice
    | SequenceBreak
    | Quarantined
)
