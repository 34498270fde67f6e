"""Each venue's sequence rule, waiting for snapshots, and the bounds of what is kept."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.streams.book_sequence import rule_of
from tapeline.streams.book_sync import LiveBook, LiveBooks, Outcome
from tapeline.streams.messages import BookDelta, BookSnapshot, Heartbeat, Quarantined, SequenceBreak

A = Symbol.parse("A")
BIDS, ASKS = [(9.0, 1.0, "91")], [(10.0, 1.0, "101")]


def snapshot(sequence: int | None, **more: int) -> BookSnapshot:
    return BookSnapshot(A, 0, BIDS, ASKS, sequence, **more)


def delta(first: int | None, last: int | None, previous: int | None = None, checksum: int | None = None) -> BookDelta:
    return BookDelta(A, 0, [(8.0, float(last or 1), "81")], [], first, last, previous, checksum)


def outcomes(market: str, *records: BookSnapshot | BookDelta) -> list[str]:
    live = LiveBook(A, rule_of(market))
    return [live.take(record).value for record in records]


@pytest.mark.parametrize(
    ("market", "records", "expected"),
    [
        # The documented procedure: what is in the snapshot is dropped, the event that spans it is the first.
        ("binance", [snapshot(10), delta(5, 10), delta(9, 12), delta(13, 13)], "synced stale applied applied"),
        ("binance", [snapshot(10), delta(12, 13)], "synced gap"),
        ("binance", [snapshot(10), delta(11, 13), delta(15, 16)], "synced applied gap"),
        ("binance-futures", [snapshot(10), delta(5, 9, 4), delta(8, 12, 7)], "synced stale applied"),
        ("binance-futures", [snapshot(10), delta(8, 12, 7), delta(20, 30, 12)], "synced applied applied"),
        ("binance-futures", [snapshot(10), delta(8, 12, 7), delta(20, 30, 15)], "synced applied gap"),
        ("binance-futures", [snapshot(10), delta(14, 16, 12)], "synced gap"),
        ("binance-futures", [snapshot(10), delta(14, 16, 10)], "synced applied"),
        # After the first event only the chain counts: an overlap that would have joined a snapshot is a gap.
        ("binance-futures", [snapshot(10), delta(8, 12, 7), delta(11, 15, 9)], "synced applied gap"),
        ("bybit", [snapshot(10), delta(11, 11), delta(11, 11), delta(13, 13)], "synced applied stale gap"),
        ("bybit-v2", [snapshot(None), delta(7, 7), delta(7, 7), delta(90, 90)], "synced applied stale applied"),
        ("okx", [snapshot(10), delta(None, 15, 10), delta(None, 15, 15)], "synced applied applied"),
        ("okx", [snapshot(10), delta(None, 15, 12)], "synced gap"),
        # Maintenance sets the numbers back; the chain still holds.
        ("okx", [snapshot(10), delta(None, 3, 10), delta(None, 4, 3)], "synced applied applied"),
        ("deribit", [snapshot(10), delta(None, 15, 10), delta(None, 20, 16)], "synced applied gap"),
        ("coinbase", [delta(None, None), snapshot(None), delta(None, None)], "ignored synced applied"),
        ("kraken", [snapshot(None), delta(None, None, None, 12345)], "synced gap"),
    ],
)
def test_sequence_rules(market: str, records: list[BookSnapshot | BookDelta], expected: str) -> None:
    assert " ".join(outcomes(market, *records)) == expected


def test_deltas_wait_for_a_requested_snapshot_and_are_joined() -> None:
    live = LiveBook(A, rule_of("binance"))
    for number in range(5, 15):
        assert live.take(delta(number, number)) is Outcome.PENDING
    assert live.take(snapshot(9)) is Outcome.SYNCED
    assert live.last == 14
    assert live.book.bids.size_at(8.0) == 14.0
    assert (live.counters.stale, live.counters.applied) == (5, 5)


def test_what_is_kept_while_waiting_is_bounded_and_newest() -> None:
    live = LiveBook(A, rule_of("binance"), maximum_pending=3)
    for number in range(1, 11):
        live.take(delta(number, number))
    assert live.counters.dropped == 7
    assert live.take(snapshot(5)) is Outcome.GAP  # 6 and 7 are gone
    assert live.take(snapshot(8)) is Outcome.SYNCED
    assert live.last == 10


def test_a_late_answer_does_not_turn_a_live_book_back() -> None:
    live = LiveBook(A, rule_of("binance"))
    live.take(snapshot(10))
    live.take(delta(11, 20))
    assert live.take(snapshot(15)) is Outcome.STALE
    assert live.last == 20
    assert live.take(snapshot(25)) is Outcome.SYNCED


def test_a_streamed_snapshot_always_replaces() -> None:
    live = LiveBook(A, rule_of("okx"))
    live.take(snapshot(10))
    assert live.take(snapshot(3)) is Outcome.SYNCED
    assert live.last == 3


def test_a_book_is_cut_to_the_depth_subscribed_to() -> None:
    live = LiveBook(A, rule_of("coinbase"))
    live.take(BookSnapshot(A, 0, [(9.0, 1.0), (8.0, 1.0)], [(10.0, 1.0)], depth=2))
    live.take(BookDelta(A, 0, [(8.5, 1.0)], []))
    assert [level[0] for level in live.book.bids.top(9)] == [9.0, 8.5]


def test_crossed_books_are_counted_not_hidden() -> None:
    live = LiveBook(A, rule_of("coinbase"))
    live.take(snapshot(None))
    live.take(BookDelta(A, 0, [(11.0, 1.0)], []))
    assert live.counters.crossed == 1
    assert live.live


def test_a_break_of_the_connection_loses_all_its_books() -> None:
    books = LiveBooks("coinbase")
    for name in "AB":
        books.take(BookSnapshot(Symbol.parse(name), 0, BIDS, ASKS))
    assert books.requests() == []
    assert books.take(SequenceBreak(None, 5, 7, "sequence_num")) is Outcome.GAP
    assert books.requests() == ["A", "B"]
    assert [books["B"].gaps[-1].expected, books["B"].gaps[-1].received] == [5, 7]
    books.take(BookSnapshot(A, 0, BIDS, ASKS))
    assert books.requests() == ["B"]
    assert books.take(SequenceBreak(A, None, 7, "level")) is Outcome.GAP
    assert books.requests() == ["A", "B"]
    assert books.take(Heartbeat()) is Outcome.IGNORED


def test_an_unreadable_message_loses_books_that_could_not_tell() -> None:
    unreadable = Quarantined("x", "cut", b"{", 1)
    for market, silent in (
        ("coinbase", True),
        ("bitmex", True),
        ("bybit-v2", True),
        ("binance", False),
        ("kraken", False),
    ):
        books = LiveBooks(market)
        books.take(snapshot(5))
        books.take(replace(unreadable, unknown=True))
        assert books["A"].live
        books.take(unreadable)
        assert books["A"].live is not silent


def test_a_lost_connection_is_a_gap_of_each_live_book() -> None:
    books = LiveBooks("binance")
    books.take(delta(1, 1))
    books.take(snapshot(1))
    books.disconnect()
    books.disconnect()
    assert [gap.reason for gap in books["A"].gaps] == ["disconnected"]
    assert books.requests() == ["A"]


def test_invented_symbols_cannot_fill_the_memory() -> None:
    books = LiveBooks("binance", maximum_books=5)
    for number in range(50):
        books.take(BookDelta(Symbol.parse(f"S{number}"), 0, [], [], 1, 1))
    assert len(books) == 5
    assert books.refused == 45
    live = LiveBook(A, rule_of("kraken"))
    for _ in range(2_000):
        live.take(snapshot(None))
        live.take(delta(None, None, None, 12345))
    assert live.counters.gaps == 2_000
    assert len(live.gaps) == 1_000


def test_unknown_markets_and_bounds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no sequence rule"):
        LiveBooks("nowhere")
    with pytest.raises(ConfigurationError, match="maximum_pending"):
        LiveBook(A, rule_of("binance"), maximum_pending=0)
