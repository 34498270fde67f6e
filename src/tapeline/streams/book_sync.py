"""Live books kept from snapshots and deltas: what is missing is found, and a new snapshot asked for.

No I/O: a caller feeds records in and fetches the snapshots that ``requests`` names, by REST or by subscribing again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.streams.book import OrderBook
from tapeline.streams.book_sequence import SequenceRule, Verdict, rule_of
from tapeline.streams.messages import BookDelta, BookSnapshot, Quarantined, Record, SequenceBreak

MAXIMUM_PENDING: Final = 5_000
"""Deltas kept while a snapshot is awaited: about eight minutes at Binance's ten a second."""

MAXIMUM_BOOKS: Final = 10_000
MAXIMUM_GAPS: Final = 1_000


class Outcome(Enum):
    """What became of a record."""

    APPLIED = "applied"
    STALE = "stale"
    PENDING = "pending"
    GAP = "gap"
    SYNCED = "synced"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Gap:
    """A place where the stream broke. ``number`` counts the deltas of this book up to it, from 1."""

    symbol: Symbol | None
    reason: str
    expected: int | None
    received: int | None
    number: int
    ts: int | None


@dataclass
class Counters:
    """What happened to one book so far."""

    deltas: int = 0
    applied: int = 0
    stale: int = 0
    dropped: int = 0
    snapshots: int = 0
    gaps: int = 0
    crossed: int = 0
    checksums: int = 0


class LiveBook:
    """One instrument's book, live or waiting for a snapshot.

    Parameters
    ----------
    rule:
        The venue's rule.
    maximum_pending:
        Deltas kept while waiting. When there are more, the oldest go, and the snapshot must be newer than them.

    Attributes
    ----------
    book:
        The levels. Meaningful only while ``live``.
    live:
        False until a snapshot has been joined, and again from a gap on.
    gaps:
        The latest ``MAXIMUM_GAPS`` gaps.

    Examples
    --------
    >>> from tapeline.streams.book_sequence import rule_of
    >>> symbol = Symbol.parse("BTCUSDT")
    >>> live = LiveBook(symbol, rule_of("binance"))
    >>> live.take(BookDelta(symbol, 1, [(9.0, 2.0)], [], first=5, last=6)).value
    'pending'
    >>> live.take(BookSnapshot(symbol, None, [(8.0, 1.0)], [(10.0, 1.0)], sequence=5)).value
    'synced'
    >>> live.book.best_bid, live.last
    ((9.0, 2.0), 6)
    >>> live.take(BookDelta(symbol, 2, [], [], first=8, last=9)).value, live.live, live.gaps[-1].expected
    ('gap', False, 7)
    """

    def __init__(self, symbol: Symbol, rule: SequenceRule, *, maximum_pending: int = MAXIMUM_PENDING) -> None:
        if maximum_pending < 1:
            raise ConfigurationError(f"maximum_pending = {maximum_pending} must be at least 1")
        self.symbol = symbol
        self.rule = rule
        self.book = OrderBook()
        self.live = False
        self.last: int | None = None
        self.ts: int | None = None
        self.counters = Counters()
        self.gaps: deque[Gap] = deque(maxlen=MAXIMUM_GAPS)
        self._from_snapshot = False
        self._depth: int | None = None
        self._pending: deque[BookDelta] = deque(maxlen=maximum_pending)

    def take(self, record: BookSnapshot | BookDelta) -> Outcome:
        """Apply a record, keep it for later, or find that something is missing."""
        if isinstance(record, BookDelta):
            self.counters.deltas += 1
            return self._delta(record) if self.live else self._wait(record)
        return self._snapshot(record)

    def lose(self, reason: str, *, expected: int | None = None, received: int | None = None) -> None:
        """Declare the book unusable until the next snapshot, as after a lost connection."""
        self._lost(reason, expected, received, None)
        self._pending.clear()

    def _wait(self, delta: BookDelta) -> Outcome:
        if not self.rule.snapshot_by_request:
            self.counters.dropped += 1
            return Outcome.IGNORED
        if len(self._pending) == self._pending.maxlen:
            self.counters.dropped += 1
        self._pending.append(delta)
        return Outcome.PENDING

    def _snapshot(self, snapshot: BookSnapshot) -> Outcome:
        if self.live and self.rule.snapshot_by_request and _older(snapshot.sequence, self.last):
            # Two requests were under way: the later answer of the older one must not turn the book back.
            self.counters.stale += 1
            return Outcome.STALE
        self.book.replace(snapshot.bids, snapshot.asks)
        self._depth = snapshot.depth
        self.last, self.ts, self._from_snapshot = snapshot.sequence, snapshot.ts, True
        self.counters.snapshots += 1
        self.live = True
        if snapshot.checksum is not None and not self._proven(snapshot.checksum):
            self._lost("checksum of the snapshot", snapshot.checksum, None, snapshot.ts)
            return Outcome.GAP
        waiting, self._pending = self._pending, deque(maxlen=self._pending.maxlen)
        while waiting:
            if self._delta(waiting.popleft()) is Outcome.GAP:
                # The snapshot is older than what was kept, or the kept ones have a hole: the rest must still wait.
                self._pending.extend(waiting)
                return Outcome.GAP
        return Outcome.SYNCED

    def _delta(self, delta: BookDelta) -> Outcome:
        verdict = self.rule.judge(delta, self.last, self._from_snapshot)
        if verdict is Verdict.STALE:
            self.counters.stale += 1
            return Outcome.STALE
        if verdict is Verdict.GAP:
            received = delta.first if delta.previous is None else delta.previous
            expected = None if self.last is None else self.last + (delta.previous is None)
            self._lost("sequence", expected, received, delta.ts)
            self._wait(delta)
            return Outcome.GAP
        self.book.update(delta.bids, delta.asks)
        if self._depth is not None:
            self.book.truncate(self._depth)
        self._from_snapshot = False
        if delta.last is not None:
            self.last = delta.last
        self.ts = delta.ts
        self.counters.applied += 1
        if delta.checksum is not None and not self._proven(delta.checksum):
            self._lost("checksum", delta.checksum, None, delta.ts)
            return Outcome.GAP
        if self.book.crossed:
            self.counters.crossed += 1
        return Outcome.APPLIED

    def _proven(self, checksum: int) -> bool:
        if self.rule.checksum is None:
            return True
        self.counters.checksums += 1
        return self.rule.checksum(self.book) == checksum

    def _lost(self, reason: str, expected: int | None, received: int | None, ts: int | None) -> None:
        self.live = False
        self.counters.gaps += 1
        self.gaps.append(Gap(self.symbol, reason, expected, received, self.counters.deltas, ts))


class LiveBooks:
    """All books of one connection.

    Parameters
    ----------
    market:
        The name of a rule in ``book_sequence.RULES``.
    maximum_books:
        Records of further instruments are ignored, so that invented symbols cannot fill the memory.

    Examples
    --------
    >>> books = LiveBooks("binance")
    >>> symbol = Symbol.parse("BTCUSDT")
    >>> books.take(BookDelta(symbol, 1, [], [], first=5, last=6)).value
    'pending'
    >>> books.requests()
    [Symbol('BTCUSDT')]
    """

    def __init__(self, market: str, *, maximum_books: int = MAXIMUM_BOOKS) -> None:
        self.rule = rule_of(market)
        self.maximum_books = maximum_books
        self.refused = 0
        self._books: dict[Symbol, LiveBook] = {}

    def __getitem__(self, symbol: str) -> LiveBook:
        return self._books[Symbol.parse(symbol)]

    def __iter__(self) -> Iterator[LiveBook]:
        return iter(self._books.values())

    def __len__(self) -> int:
        return len(self._books)

    def take(self, record: Record) -> Outcome:
        """Hand a record to its book; what breaks the whole connection loses all of them. Others are ignored."""
        if isinstance(record, BookDelta | BookSnapshot):
            live = self._books.get(record.symbol)
            if live is None:
                if len(self._books) >= self.maximum_books:
                    self.refused += 1
                    return Outcome.IGNORED
                live = self._books[record.symbol] = LiveBook(record.symbol, self.rule)
            return live.take(record)
        if isinstance(record, SequenceBreak):
            for live in self._books.values():
                if record.symbol is None or record.symbol == live.symbol:
                    live.lose(record.detail, expected=record.expected, received=record.received)
            return Outcome.GAP
        if isinstance(record, Quarantined) and not record.unknown and self.rule.loses_silently:
            # It may have been a delta of any book, and nothing that follows would tell.
            for live in self._books.values():
                live.lose("unreadable message")
            return Outcome.GAP
        return Outcome.IGNORED

    def disconnect(self) -> None:
        """The connection ended: no book is live until its next snapshot."""
        for live in self._books.values():
            if live.live:
                live.lose("disconnected")

    def requests(self) -> list[Symbol]:
        """The instruments that wait for a snapshot."""
        return [live.symbol for live in self._books.values() if not live.live]


def _older(sequence: int | None, last: int | None) -> bool:
    return sequence is not None and last is not None and sequence < last
