"""Recorded sessions through the real dialects into live books: nothing lost, nothing invented, nothing crossed."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest

from tapeline.clock.drift import DriftMonitor
from tapeline.core.schemas import RAW_DEPTH
from tapeline.streams.book_depth import DepthSampler, spread_statistics
from tapeline.streams.book_sync import LiveBook, Outcome
from tapeline.streams.messages import BookDelta, BookSnapshot, Level, Quarantined, Quote, SequenceBreak, Ticker, Trade
from tapeline.streams.recording import Received
from tests.streams.sessions import SESSIONS, Session

L2_SESSIONS = ("binance spot 2024", "binance futures 2024")


@pytest.fixture(scope="module")
def recorded(test_data: Path) -> dict[str, list[Received]]:
    return {name: list(session.records(test_data)) for name, session in SESSIONS.items()}


@pytest.mark.parametrize("name", SESSIONS)
def test_every_message_is_read_and_every_book_stays_whole(recorded: dict[str, list[Received]], name: str) -> None:
    session: Session = SESSIONS[name]
    books = session.new_books()
    kinds: Counter[type] = Counter()
    for received in recorded[name]:
        kinds[type(received.record)] += 1
        books.take(received.record)
    assert not kinds[Quarantined]
    assert not kinds[SequenceBreak]
    assert kinds[BookDelta] == session.deltas
    assert len(books) == session.books
    for live in books:
        assert live.live
        assert not live.counters.gaps, list(live.gaps)
        assert not live.counters.crossed
        assert live.counters.applied + live.counters.stale == live.counters.deltas
        assert live.book.best_bid is not None or live.symbol.endswith(("-P", "-C"))
    assert sum(live.counters.deltas for live in books) == session.deltas


def test_krakens_checksums_are_reproduced(recorded: dict[str, list[Received]]) -> None:
    books = SESSIONS["kraken"].new_books()
    for received in recorded["kraken"]:
        books.take(received.record)
    assert sum(live.counters.checksums for live in books) == 4_269
    assert sum(live.counters.applied for live in books) == 4_269


@pytest.mark.parametrize("name", L2_SESSIONS)
def test_the_book_shows_what_the_best_price_stream_shows(recorded: dict[str, list[Received]], name: str) -> None:
    """An independent witness: where a quote has the number of the book's last change, the two must be the same."""
    books = SESSIONS[name].new_books()
    quotes = {r.record.sequence: r.record for r in recorded[name] if isinstance(r.record, Quote)}
    compared = 0
    for received in recorded[name]:
        outcome = books.take(received.record)
        quote = quotes.get(received.record.last) if isinstance(received.record, BookDelta) else None
        if outcome is Outcome.APPLIED and quote is not None:
            book = books["BTCUSDT"].book
            assert book.best_bid == (quote.bid, quote.bid_size)
            assert book.best_ask == (quote.ask, quote.ask_size)
            compared += 1
    assert compared > 200


def test_the_second_day_continues_the_first(test_data: Path) -> None:
    first = SESSIONS["binance spot 2024"]
    both = Session(
        (*first.files, first.files[0].replace("0808", "0809")), first.dialect, "binance", 1, 6_495, "BTCUSDT"
    )
    books = both.new_books()
    for received in both.records(test_data):
        books.take(received.record)
    live = books["BTCUSDT"]
    assert (live.counters.deltas, live.counters.gaps, live.counters.crossed, live.live) == (6_495, 0, 0, True)


@pytest.mark.parametrize("name", L2_SESSIONS)
@pytest.mark.parametrize("place", [500, 1_777, 3_300])
def test_a_dropped_delta_is_found_at_the_next_one(recorded: dict[str, list[Received]], name: str, place: int) -> None:
    deltas = _book_records(recorded[name])
    live = _fed(name, deltas[:place] + deltas[place + 1 :])
    assert [(gap.number, gap.reason) for gap in live.gaps] == [(place - _snapshots(deltas, place) + 1, "sequence")]
    missing, after = deltas[place], deltas[place + 1]
    assert isinstance(missing, BookDelta)
    assert isinstance(after, BookDelta)
    if after.previous is None:
        assert (live.gaps[0].expected, live.gaps[0].received) == (missing.first, after.first)
    else:
        assert live.gaps[0].received == missing.last
    assert not live.live


@pytest.mark.parametrize("name", L2_SESSIONS)
def test_a_repeated_delta_changes_nothing(recorded: dict[str, list[Received]], name: str) -> None:
    deltas = _book_records(recorded[name])
    place = 1_500
    live = _fed(name, [*deltas[: place + 1], deltas[place], *deltas[place + 1 :]])
    whole = _fed(name, deltas)
    assert not live.gaps
    assert live.counters.stale == whole.counters.stale + 1
    assert live.book.bids.top(50) == whole.book.bids.top(50)
    assert live.book.asks.top(50) == whole.book.asks.top(50)


@pytest.mark.parametrize("name", L2_SESSIONS)
def test_deltas_in_the_wrong_order_are_a_gap_there(recorded: dict[str, list[Received]], name: str) -> None:
    deltas = _book_records(recorded[name])
    place = 2_000
    live = _fed(name, [*deltas[:place], deltas[place + 1], deltas[place], *deltas[place + 2 :]])
    assert [gap.number for gap in live.gaps] == [place - _snapshots(deltas, place) + 1]


@pytest.mark.parametrize("name", L2_SESSIONS)
def test_a_new_snapshot_heals_the_gap_with_what_was_kept_meanwhile(
    recorded: dict[str, list[Received]], name: str
) -> None:
    deltas = _book_records(recorded[name])
    place, later = 1_000, 1_400
    whole = _fed(name, deltas)
    upto = _fed(name, deltas[:later])
    fetched = BookSnapshot(
        upto.symbol,
        None,
        upto.book.bids.top(100_000),
        upto.book.asks.top(100_000),
        sequence=upto.last,
    )
    # The answer arrives 300 deltas after the state that it shows.
    live = _fed(name, [*deltas[:place], *deltas[place + 1 : later + 300], fetched, *deltas[later + 300 :]])
    assert len(live.gaps) == 1
    assert live.live
    assert live.book.bids.top(500) == whole.book.bids.top(500)
    assert live.book.asks.top(500) == whole.book.asks.top(500)


@pytest.mark.parametrize("name", L2_SESSIONS)
def test_a_snapshot_older_than_what_was_kept_is_not_believed(recorded: dict[str, list[Received]], name: str) -> None:
    deltas = _book_records(recorded[name])
    snapshot = next(record for record in deltas if isinstance(record, BookSnapshot))
    live = _fed(name, [*deltas[1_000:1_010], snapshot])
    assert not live.live
    assert live.gaps[-1].reason == "sequence"


def test_a_dropped_kraken_update_is_found_by_the_checksum(recorded: dict[str, list[Received]]) -> None:
    """A checksum covers ten levels a side: the loss must be found as soon as it shows there, and not before."""
    records = _book_records(recorded["kraken"])
    books = SESSIONS["kraken"].new_books()
    lossy: dict[str, LiveBook] = {}
    found = 0
    for number, record in enumerate(records):
        faulty = lossy.pop(record.symbol, None)
        if faulty is None and number % 20 == 0 and isinstance(record, BookDelta):
            lossy[record.symbol] = deepcopy(books[record.symbol])
            books.take(record)
            continue
        books.take(record)
        if faulty is not None:
            faulty.take(record)
            assert bool(faulty.gaps) == (_top(faulty) != _top(books[record.symbol]))
            found += bool(faulty.gaps)
            if not faulty.gaps:
                lossy[record.symbol] = faulty
    assert found > 20


def test_a_dropped_change_of_kraken_futures_is_found_at_the_next_one(recorded: dict[str, list[Received]]) -> None:
    records = _book_records(recorded["kraken futures"])
    places = range(100, len(records), 250)
    books = SESSIONS["kraken futures"].new_books()
    whole = SESSIONS["kraken futures"].new_books()
    lost: dict[str, BookDelta] = {}
    for place, record in enumerate(records):
        whole.take(record)
        if place in places and isinstance(record, BookDelta) and record.symbol not in lost:
            lost[record.symbol] = record
            continue
        books.take(record)
    assert len(lost) >= 4
    for live in books:
        missing = lost.get(live.symbol)
        followed = missing is not None and whole[live.symbol].last != missing.last
        assert [gap.expected for gap in live.gaps][:1] == ([missing.last] if followed else [])
        assert live.live is not followed


def test_the_quotes_of_kraken_futures_are_those_of_the_book(recorded: dict[str, list[Received]]) -> None:
    """An independent witness: the venue's own summary, sent about once a second, against the book kept from changes."""
    books = SESSIONS["kraken futures"].new_books()
    compared = same = 0
    for received in recorded["kraken futures"]:
        books.take(received.record)
        ticker = received.record
        if isinstance(ticker, Ticker) and any(live.symbol == ticker.symbol and live.live for live in books):
            book = books[ticker.symbol].book
            compared += 1
            same += (book.best_bid[0], book.best_ask[0]) == (ticker.bid, ticker.ask)
    assert compared > 80
    # The summary is computed a moment before or after the changes beside it.
    assert same / compared > 0.8


def test_the_recorders_clock_raises_the_drift_alert(recorded: dict[str, list[Received]]) -> None:
    for name in L2_SESSIONS:
        monitor = DriftMonitor()
        alerts = []
        for received in recorded[name]:
            record = received.record
            if isinstance(record, BookDelta | Trade) and record.ts is not None:
                alert = monitor.add(name, record.ts, received.received)
                alerts += [] if alert is None else [alert]
        assert [alert.kind for alert in alerts] == ["raised"]
        # Trades carry their own time, in bursts up to a tenth of a second before they were sent.
        assert 1.15e9 < monitor.drift(name) < 1.28e9
        history = monitor.frame()
        assert history["alert"].all()
        assert history["median_ms"].between(1_150, 1_280).all()
        assert len(history) > 20


def test_the_drift_of_depth_messages_is_the_one_documented(recorded: dict[str, list[Received]]) -> None:
    monitor = DriftMonitor(window=10_001)
    for received in recorded["binance futures 2024"]:
        if isinstance(received.record, BookDelta) and received.record.ts is not None:
            monitor.add("binance", received.record.ts, received.received)
    assert monitor.drift("binance") == pytest.approx(1.27e9, abs=5e6)


def test_depth_at_an_interval_uses_only_what_was_known(recorded: dict[str, list[Received]]) -> None:
    records = [r for r in recorded["binance spot 2024"] if isinstance(r.record, BookDelta | BookSnapshot)]
    live = LiveBook(records[0].record.symbol, SESSIONS["binance spot 2024"].new_books().rule)
    second = 1_000_000_000
    sampler = DepthSampler(live, interval=second, depth=5)
    shown = {}
    for received in records:
        if live.live:
            shown[received.received] = (live.book.best_bid, live.book.best_ask)
        sampler.advance(received.received)
        live.take(received.record)
    depth = sampler.frame()
    assert RAW_DEPTH.to_arrow(depth).num_rows == len(depth)
    assert 330 < depth.index.nunique() <= 346
    assert depth.groupby(level=0).size().eq(10).all()
    times = sorted(shown)
    for instant, row in spread_statistics(depth).iloc[::25].iterrows():
        known = next(t for t in times if t > instant.value)
        bid, ask = shown[known]
        assert (row["bid"], row["ask"]) == (bid[0], ask[0])
        assert row["bid"] <= row["microprice"] <= row["ask"]
    assert (spread_statistics(depth)["spread_bps"] > 0).all()


def _book_records(recorded: list[Received]) -> list[BookDelta | BookSnapshot]:
    return [r.record for r in recorded if isinstance(r.record, BookDelta | BookSnapshot)]


def _snapshots(records: list[BookDelta | BookSnapshot], place: int) -> int:
    return sum(isinstance(record, BookSnapshot) for record in records[:place])


def _fed(name: str, records: list[BookDelta | BookSnapshot]) -> LiveBook:
    live = LiveBook(records[0].symbol, SESSIONS[name].new_books().rule)
    for record in records:
        live.take(record)
    return live


def _top(live: LiveBook) -> tuple[list[Level], list[Level]]:
    return live.book.bids.top(10), live.book.asks.top(10)
