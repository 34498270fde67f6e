"""The venues' own rules of which delta may follow which: what to apply, what to drop, where a message is missing.

Each rule is a pure function of three numbers; sizes in a delta are totals, so a delta that overlaps what is already in
the book may be applied, and one that lies wholly behind it may be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tapeline.core.errors import ConfigurationError
from tapeline.streams.book_checksum import Checksum, kraken_checksum, okx_checksum
from tapeline.streams.messages import BookDelta


class Verdict(Enum):
    """What to do with a delta."""

    APPLY = "apply"
    STALE = "stale"
    GAP = "gap"


Judge = Callable[[BookDelta, int | None, bool], Verdict]
"""``(delta, last number in the book, whether that is a snapshot's)`` to a verdict."""


def consecutive(delta: BookDelta, last: int | None, _from_snapshot: bool) -> Verdict:
    """Numbers without holes: Binance spot (``U`` to ``u``), Bybit v5 (``u``), Kraken Futures (``seq``).

    Binance, "How to manage a local order book correctly": drop ``u`` at or below the book's; the first event kept, and
    each one after it, must begin at or below the book's number plus one.

    Examples
    --------
    >>> from tapeline.core.symbol import Symbol
    >>> delta = BookDelta(Symbol("X"), None, [], [], first=11, last=15)
    >>> [consecutive(delta, last, False).value for last in (15, 12, 10, 9)]
    ['stale', 'apply', 'apply', 'gap']
    """
    if last is None or delta.last is None or delta.first is None or delta.first > last + 1:
        return Verdict.GAP
    return Verdict.STALE if delta.last <= last else Verdict.APPLY


def binance_futures(delta: BookDelta, last: int | None, from_snapshot: bool) -> Verdict:
    """Numbers with holes, chained by ``pu``: Binance USD-M futures.

    Binance, "How to manage a local order book correctly" (futures): drop ``u`` below the snapshot's; the first event
    kept must span it (``U <= lastUpdateId <= u``); from then on ``pu`` must be the ``u`` before.
    """
    if last is None or delta.last is None or delta.first is None:
        return Verdict.GAP
    if delta.previous == last:
        return Verdict.APPLY
    if from_snapshot:
        if delta.last < last:
            return Verdict.STALE
        return Verdict.APPLY if delta.first <= last else Verdict.GAP
    return Verdict.STALE if delta.last <= last else Verdict.GAP


def chained(delta: BookDelta, last: int | None, _from_snapshot: bool) -> Verdict:
    """Each delta names the one before it: OKX (``prevSeqId``, ``seqId``), Deribit (``prev_change_id``, ``change_id``).

    A number may repeat (OKX sends an empty update with ``seqId == prevSeqId`` when nothing happened for a minute) and
    may go back after maintenance, where the chain still holds.
    """
    if last is None or delta.last is None or delta.previous is None:
        return Verdict.GAP
    if delta.previous == last:
        return Verdict.APPLY
    return Verdict.STALE if delta.last <= last else Verdict.GAP


def ascending(delta: BookDelta, last: int | None, _from_snapshot: bool) -> Verdict:
    """Numbers that grow but skip (Bybit v2, Bitstamp's times): what is old can be told, what is missing cannot."""
    if last is None or delta.last is None:
        return Verdict.APPLY
    return Verdict.STALE if delta.last <= last else Verdict.APPLY


def unnumbered(_delta: BookDelta, _last: int | None, _from_snapshot: bool) -> Verdict:
    """No numbers: the connection's order is all there is (Coinbase, BitMEX), or a checksum tells (Kraken)."""
    return Verdict.APPLY


@dataclass(frozen=True)
class SequenceRule:
    """How one venue's books are kept.

    Parameters
    ----------
    judge:
        Which delta may follow which.
    checksum:
        How the venue's checksum is computed from our book; None where it sends none.
    snapshot_by_request:
        True where the snapshot comes by another way (REST) than the deltas: deltas that arrive meanwhile are kept and
        joined to it. False where the stream itself sends it: what arrives before it belongs to no book.
    """

    judge: Judge
    checksum: Checksum | None = None
    snapshot_by_request: bool = False

    @property
    def loses_silently(self) -> bool:
        """True where neither number nor checksum would show that a delta is missing."""
        return self.checksum is None and self.judge in (ascending, unnumbered)


RULES: Final[Mapping[str, SequenceRule]] = {
    "binance": SequenceRule(consecutive, snapshot_by_request=True),
    "binance-futures": SequenceRule(binance_futures, snapshot_by_request=True),
    "kraken": SequenceRule(unnumbered, kraken_checksum),
    "kraken-futures": SequenceRule(consecutive),
    "coinbase": SequenceRule(unnumbered),
    "bybit": SequenceRule(consecutive),
    "bybit-v2": SequenceRule(ascending),
    "okx": SequenceRule(chained, okx_checksum),
    "deribit": SequenceRule(chained),
    "bitmex": SequenceRule(unnumbered),
    "bitstamp": SequenceRule(ascending, snapshot_by_request=True),
}
"""By market."""


def rule_of(market: str) -> SequenceRule:
    """The rule of a market; raises ConfigurationError for one that is not known.

    Examples
    --------
    >>> rule_of("okx").snapshot_by_request
    False
    """
    try:
        return RULES[market]
    except KeyError:
        raise ConfigurationError(
            f"market {market!r} has no sequence rule", hint=f"use one of {', '.join(sorted(RULES))}"
        ) from None
