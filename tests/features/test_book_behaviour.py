"""Behaviour planted into real recordings of order books, at known instants, beside cases that only look alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.features.book_behaviour import (
    SPOOFING,
    STUFFING,
    BookFinding,
    BookWatch,
    BookWatchSettings,
    parse_settings,
    watch_book,
)
from tapeline.streams.book import OrderBook
from tapeline.streams.book_sync import LiveBooks, Outcome
from tapeline.streams.messages import BookDelta, BookSnapshot, Record, Trade
from tests.streams.sessions import SESSIONS

SYMBOL = Symbol.parse("BTCUSDT")
SECOND = 1_000_000_000
MILLISECOND = 1_000_000


@dataclass(frozen=True)
class Planted:
    """What was planted, and from when until when it may be found."""

    kind: str
    start: int
    end: int
    side: int = 0


@lru_cache(maxsize=2)
def recorded(folder: Path, name: str) -> tuple[Record, ...]:
    """A recorded session as its book applied it: the snapshot, then deltas in sequence with the trades between them."""
    session = SESSIONS[name]
    books = LiveBooks(session.market)
    kept: list[Record] = []
    for item in session.records(folder):
        record = item.record
        if isinstance(record, Trade):
            kept.append(record)
        elif isinstance(record, BookDelta | BookSnapshot):
            outcome = books.take(record)
            if outcome is Outcome.SYNCED:
                book = books[SYMBOL].book
                kept = [BookSnapshot(SYMBOL, None, book.bids.top(len(book.bids)), book.asks.top(len(book.asks)))]
            elif outcome is Outcome.APPLIED:
                kept.append(record)
    return tuple(kept)


def plant(records: tuple[Record, ...], inserts: list[tuple[int, Record]]) -> list[Record]:
    """The inserts among the records, by the venue's time; the unnumbered rule of Kraken's books keeps them in order."""
    result: list[Record] = []
    pending = sorted(inserts, key=lambda item: item[0])
    for record in records:
        ts = getattr(record, "ts", None)
        while ts is not None and pending and pending[0][0] <= ts:
            result.append(pending.pop(0)[1])
        result.append(record)
    return result


def mids(records: tuple[Record, ...]) -> tuple[np.ndarray, np.ndarray]:
    book, times, values = OrderBook(), [], []
    for record in records:
        if isinstance(record, BookSnapshot):
            book.replace(record.bids, record.asks)
        elif isinstance(record, BookDelta):
            book.update(record.bids, record.asks)
            times.append(record.ts or 0)
            values.append(book.mid)
    return np.array(times), np.array(values)


def delta(ts: int, side: int, levels: list[tuple[float, float]]) -> BookDelta:
    return BookDelta(SYMBOL, ts, levels if side == 1 else [], levels if side == -1 else [])


def scenario(records: tuple[Record, ...], size: float, seed: int) -> tuple[list[Record], list[Planted]]:
    """Twelve runs of spoof-like orders and ten bursts; six runs each of orders that trade, stay, or come singly."""
    generator = np.random.default_rng(seed)
    times, values = mids(records)
    begin, end = times[0] + 60 * SECOND, times[-1] - 20 * SECOND
    slots = np.linspace(begin, end, 40).astype(np.int64)
    roles = ["spoof"] * 12 + ["burst"] * 10 + ["traded"] * 6 + ["stays"] * 6 + ["single"] * 6
    inserts: list[tuple[int, Record]] = []
    planted: list[Planted] = []
    for number, (start, role) in enumerate(zip(slots, generator.permutation(roles), strict=True)):
        side = 1 if generator.random() < 0.5 else -1
        if role == "burst":
            far = float(values[np.searchsorted(times, start)]) * (1 - 0.01 * side)
            at = (start // (SECOND // 4) + 1) * (SECOND // 4) + 5 * MILLISECOND
            for step in range(60):
                levels = [(far + 0.001 * k, float(1 + (step + k) % 2)) for k in range(120)]
                inserts.append((at + step * 4 * MILLISECOND, delta(at + step * 4 * MILLISECOND, side, levels)))
            planted.append(Planted(STUFFING, at, at + SECOND))
            continue
        times_over = 1 if role == "single" else 5
        for turn in range(times_over):
            at = int(start + turn * 900 * MILLISECOND)
            mid = float(values[min(np.searchsorted(times, at), values.size - 1)])
            # Between the venue's ticks, so that no real level is touched.
            price = round(mid * (1 - side * generator.uniform(1e-4, 5e-4)), 2) + 0.001 * (number + 1)
            big = size * generator.uniform(1.0, 2.0)
            gone = at + int(generator.uniform(100, 600)) * MILLISECOND
            if role == "stays":
                gone = at + 8 * SECOND
            inserts.append((at, delta(at, side, [(price, big)])))
            if role == "traded":
                inserts.append((gone, Trade(SYMBOL, gone, price, big * 0.9, -side, f"planted-{number}-{turn}")))
            inserts.append((gone, delta(gone, side, [(price, 0.0)])))
        if role == "spoof":
            planted.append(Planted(SPOOFING, int(start), int(start) + 6 * SECOND, side))
    return plant(records, inserts), planted


def run(records: list[Record], settings: BookWatchSettings | None = None) -> list[BookFinding]:
    watch = BookWatch(SYMBOL, "kraken", settings)
    return [finding for record in records for finding in watch.take(record)]


def judged(findings: list[BookFinding], planted: list[Planted], kind: str) -> tuple[float, float]:
    """Precision and recall of one kind."""
    found = [finding for finding in findings if finding.kind == kind]
    due = [case for case in planted if case.kind == kind]

    def match(finding: BookFinding, case: Planted) -> bool:
        return case.start <= finding.ts <= case.end and case.side == finding.side

    true = sum(any(match(finding, case) for case in due) for finding in found)
    hit = sum(any(match(finding, case) for finding in found) for case in due)
    return true / len(found) if found else float("nan"), hit / len(due)


@pytest.mark.parametrize(("name", "size"), [("binance spot 2024", 12.0), ("binance futures 2024", 60.0)])
def test_planted_behaviour_is_found_and_what_looks_alike_is_not(test_data: Path, name: str, size: float) -> None:
    records = recorded(test_data, name)
    data, planted = scenario(records, size, seed=7)
    findings = run(data)
    # A burst amid a rush of trades is passed over: on the busy futures book that costs some of the ten.
    for kind, least in ((SPOOFING, 0.9), (STUFFING, 0.7)):
        precision, recall = judged(findings, planted, kind)
        assert recall >= least, (kind, precision, recall)
        assert precision >= 0.85, (kind, precision, recall)
    assert all(finding.score >= 1 and finding.reason for finding in findings)


def test_a_plain_recording_has_few_findings(test_data: Path) -> None:
    for name in ("binance spot 2024", "binance futures 2024"):
        findings = run(list(recorded(test_data, name)))
        assert len(findings) <= 3, "in less than six minutes of a real market"


def test_the_recording_through_its_own_rule_gives_the_same(test_data: Path) -> None:
    session = SESSIONS["binance spot 2024"]
    raw = [item.record for item in session.records(test_data)]
    live = watch_book(raw, "BTCUSDT", session.market)
    kept = run(list(recorded(test_data, "binance spot 2024")))
    assert live["reason"].tolist() == [finding.reason for finding in kept]


def small_book() -> list[Record]:
    """A quiet book: ten levels a side, one small change every 10 ms for 40 s, a trade a second."""
    generator = np.random.default_rng(2)
    levels = [(100.0 - 0.01 * k, 1.0) for k in range(1, 11)], [(100.0 + 0.01 * k, 1.0) for k in range(1, 11)]
    records: list[Record] = [BookSnapshot(SYMBOL, SECOND, *levels)]
    for step in range(4000):
        side = 1 if step % 2 else -1
        price = round(100.0 - side * 0.01 * float(generator.integers(1, 10)), 2)
        records.append(delta(SECOND + step * 10 * MILLISECOND, side, [(price, float(generator.uniform(0.5, 1.5)))]))
        if step % 100 == 0:
            records.append(Trade(SYMBOL, SECOND + step * 10 * MILLISECOND, 100.01, 0.1, 1, str(step)))
    return records


QUICK = BookWatchSettings(near_bps=20.0, history=40)


def spoofed(count: int, *, held: int = 300, traded: float = 0.0) -> list[tuple[int, Record]]:
    inserts: list[tuple[int, Record]] = []
    for turn in range(count):
        at = 30 * SECOND + turn * SECOND
        inserts.append((at, delta(at, 1, [(99.955, 50.0)])))
        gone = at + held * MILLISECOND
        if traded:
            inserts.append((gone, Trade(SYMBOL, gone, 99.955, 50.0 * traded, -1, f"t{turn}")))
        inserts.append((gone, delta(gone, 1, [(99.955, 0.0)])))
    return inserts


@pytest.mark.parametrize(
    ("inserts", "found"),
    [
        (spoofed(4), 1),
        (spoofed(3), 0),
        (spoofed(8), 2),
        (spoofed(6, held=900), 1),
        (spoofed(6, traded=0.5), 0),
        (spoofed(6, traded=0.05), 1),
    ],
)
def test_withdrawals_count_only_untraded_repeated_and_settled(inserts, found: int) -> None:
    findings = run(plant(tuple(small_book()), inserts), QUICK)
    assert [finding.kind for finding in findings] == [SPOOFING] * found
    if found:
        assert findings[0].side == 1
        assert "vanished untraded" in findings[0].reason
        fourth = (
            30 * SECOND
            + 3 * SECOND
            + (900 if inserts[1][0] - inserts[0][0] == 900 * MILLISECOND else 300) * MILLISECOND
        )
        assert findings[0].ts >= fourth + SECOND // 2, "trades may still be reported for half a second"
        assert findings[0].ts <= fourth + SECOND // 2 + 20 * MILLISECOND


def test_an_order_that_stays_or_lies_far_away_is_none() -> None:
    long = [item for turn in spoofed(6, held=2500) for item in [turn]]
    assert not run(plant(tuple(small_book()), long), QUICK)
    near = BookWatchSettings(near_bps=2.0, history=40)
    assert not run(plant(tuple(small_book()), spoofed(6)), near)


def test_a_burst_with_trades_is_a_market_at_work() -> None:
    at = 30 * SECOND + 10 * MILLISECOND
    burst = [(at + k * MILLISECOND, delta(at + k * MILLISECOND, 1, [(95.0, 1.0 + k % 2)])) for k in range(200)]
    trades = [(at + k * MILLISECOND, Trade(SYMBOL, at + k * MILLISECOND, 100.0, 1.0, 1, f"b{k}")) for k in range(50)]
    quiet = run(plant(tuple(small_book()), burst), QUICK)  # type: ignore[arg-type]
    assert [finding.kind for finding in quiet] == [STUFFING]
    assert quiet[0].ts == 30 * SECOND + SECOND // 4, "known when its interval has ended"
    assert not run(plant(tuple(small_book()), [*burst, *trades]), QUICK)  # type: ignore[list-item]


def test_a_gap_starts_the_evidence_anew_and_other_instruments_are_ignored() -> None:
    watch = BookWatch("BTCUSDT", "bybit")
    watch.take(BookSnapshot(SYMBOL, SECOND, [(99.0, 1.0)], [(101.0, 1.0)], sequence=1))
    watch.take(BookDelta(SYMBOL, 2 * SECOND, [(99.0, 2.0)], [], first=2, last=2))
    watch.take(BookDelta(SYMBOL, 3 * SECOND, [(99.0, 3.0)], [], first=9, last=9))
    assert watch.take(BookDelta(Symbol.parse("ETHUSDT"), 4 * SECOND, [(1.0, 1.0)], [], first=2, last=2)) == []
    assert watch.withdrawals == 0


def test_settings_from_outside_are_checked() -> None:
    assert parse_settings({"large": 2.5}).large == 2.5
    with pytest.raises(ConfigurationError, match="repeats = 0 is refused"):
        parse_settings({"repeats": 0})
    with pytest.raises(ConfigurationError, match="unknown"):
        parse_settings({"unknown": 1})
