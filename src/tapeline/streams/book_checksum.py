"""The checksums that venues send over the top of a book, computed from ours: proof that both are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from zlib import crc32

from tapeline.streams.book import OrderBook

Checksum: TypeAlias = Callable[[OrderBook], int]


def kraken_checksum(book: OrderBook) -> int:
    """CRC-32 of the digits of the best ten asks, then of the best ten bids (Kraken, "Checksum calculation").

    Examples
    --------
    The example of Kraken's guide to its second dialect:

    >>> from tapeline.streams.dialects.kraken import checksum_digits
    >>> def side(text):
    ...     pairs = (pair.split(":") for pair in text.split())
    ...     return [(float(price), float(size), checksum_digits(price, size)) for price, size in pairs]
    >>> book = OrderBook()
    >>> book.replace(
    ...     side("45283.5:0.10000000 45283.4:1.54582015 45282.1:0.10000000 45281.0:0.10000000 45280.3:1.54592586 "
    ...          "45279.0:0.07990000 45277.6:0.03310103 45277.5:0.30000000 45277.3:1.54602737 45276.6:0.15445238"),
    ...     side("45285.2:0.00100000 45286.4:1.54571953 45286.6:1.54571109 45289.6:1.54560911 45290.2:0.15890660 "
    ...          "45291.8:1.54553491 45294.7:0.04454749 45296.1:0.35380000 45297.5:0.09945542 45299.5:0.18772827"),
    ... )
    >>> kraken_checksum(book)
    3310070434
    """
    levels = book.asks.top(10) + book.bids.top(10)
    return crc32("".join([level[2] for level in levels]).encode())


def okx_checksum(book: OrderBook) -> int:
    """CRC-32 of ``bid price:size:ask price:size:...`` over the best 25 levels (OKX v5, "Order book channel").

    Bids and asks alternate; where one side is shorter, the other goes on alone.
    """
    bids, asks = book.bids.top(25), book.asks.top(25)
    parts: list[str] = []
    for rank in range(max(len(bids), len(asks))):
        parts.extend(side[rank][2] for side in (bids, asks) if rank < len(side))
    return crc32(":".join(parts).encode())


CHECKSUMS: Final[Mapping[str, Checksum]] = {"kraken": kraken_checksum, "okx": okx_checksum}
"""By venue; other venues send none."""
