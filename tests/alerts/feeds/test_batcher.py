"""Batches by time and number, the clock of all, and room: any cutting gives the same records."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.engine.kernel import CLOCK, EVENT, GAP, TRADE, VALUE
from tapeline.alerts.feeds.batcher import SECOND, Batcher, BatcherOptions, Tick
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError

NUMBERS = {"A": 0, "B": 1}


def rows(found) -> list[tuple]:
    batch, taken = found
    return list(zip(*(one.tolist() for one in batch), taken.sequences.tolist(), taken.late.tolist(), strict=True))


def drain(batcher: Batcher) -> list[tuple]:
    out: list[tuple] = []
    while (found := batcher.flush(0, force=True)) is not None:
        out += rows(found)
    return out


def test_a_batch_is_due_by_time_or_by_number():
    now = [1_000]
    batcher = Batcher(NUMBERS, options=BatcherOptions(window=500, most=3), clock=lambda: now[0])
    batcher.take("A", SECOND, 10.0, 1.0)
    assert batcher.flush(1_499) is None
    assert len(rows(batcher.flush(1_500))) == 1
    now[0] = 2_000
    for price in (1.0, 2.0, 3.0, 4.0):
        batcher.take("B", SECOND, price, 1.0)
    batch, _ = batcher.flush(2_000)
    assert batch.prices.tolist() == [1.0, 2.0, 3.0]
    assert batcher.flush(2_000) is None
    assert batcher.flush(2_500)[0].prices.tolist() == [4.0]
    assert [one.dtype for one in batch] == [np.int32, np.int64, np.float64, np.float64, np.uint8]
    assert batcher.counters.batches == 3


@settings(max_examples=40, deadline=None)
@given(
    ticks=st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 20 * SECOND)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=8),
    most=st.integers(1, 7),
)
def test_any_cutting_gives_the_same_records(ticks, cuts, most):
    whole, cut = Batcher(NUMBERS), Batcher(NUMBERS, options=BatcherOptions(most=most))
    out = []
    for number, (symbol, ts) in enumerate(ticks):
        whole.take(symbol, ts, 1.0 + number, 1.0, number, "s")
        cut.take(symbol, ts, 1.0 + number, 1.0, number, "s")
        if number in cuts:
            out += drain(cut)
    assert out + drain(cut) == drain(whole)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30 * SECOND), min_size=1, max_size=30))
def test_the_clock_is_behind_the_newest_record_and_never_goes_back(times):
    batcher = Batcher(NUMBERS, options=BatcherOptions(lateness=2.0))
    for ts in times:
        batcher.take("A", ts, 1.0, 1.0)
    newest, clocks = times[0], []
    records = drain(batcher)
    for at, (symbol, ts, _, _, code, _, _) in enumerate(records):
        if code == TRADE:
            newest = max(newest, ts)
        else:
            assert (symbol, code) == (-1, CLOCK)
            # It stands before the record that moved it.
            assert records[at + 1][1] - 2 * SECOND >= ts > newest - 3 * SECOND
            clocks.append(ts)
    assert clocks == sorted(set(clocks))
    expected = (max(times) - 2 * SECOND) // SECOND * SECOND
    assert batcher.watermark == max(expected, (times[0] - 2 * SECOND) // SECOND * SECOND)


def test_a_held_symbol_keeps_its_bars_open_and_catches_up():
    batcher = Batcher(NUMBERS, options=BatcherOptions(lateness=0.0, hold_most=10.0))
    batcher.take("A", 0, 1.0, 1.0)
    batcher.hold("B")
    batcher.take("A", SECOND, 1.0, 1.0)
    batcher.release("B")
    batcher.take("A", 2 * SECOND, 1.0, 1.0)
    clocks = [(row[0], row[1]) for row in drain(batcher) if row[4] == CLOCK]
    assert clocks == [(0, SECOND), (1, SECOND), (-1, 2 * SECOND)]
    batcher.hold("B")
    batcher.take("A", 20 * SECOND, 1.0, 1.0)
    assert [row[0] for row in drain(batcher) if row[4] == CLOCK] == [-1]
    assert batcher.counters.holds_expired == 1
    batcher.hold("B", for_good=True)
    batcher.take("A", 200 * SECOND, 1.0, 1.0)
    batcher.reach("B", 150 * SECOND)
    assert [(row[0], row[1]) for row in drain(batcher) if row[4] == CLOCK] == [(0, 200 * SECOND), (1, 150 * SECOND)]


def test_time_goes_on_without_a_trade():
    batcher = Batcher(NUMBERS, options=BatcherOptions(lateness=1.0))
    batcher.take("A", 0, 1.0, 1.0)
    batcher.advance(5 * SECOND)
    batcher.advance(3 * SECOND)
    assert [(row[4], row[1]) for row in drain(batcher)] == [(TRADE, 0), (CLOCK, 4 * SECOND)]


def test_values_get_their_place_at_the_flush_and_gaps_stand_where_they_were():
    places = {("A", "sentiment:level"): 7}

    def place_of(symbol: str, key: str) -> int:
        try:
            return places[symbol, key]
        except KeyError:
            raise DataError("nobody reads it") from None

    batcher = Batcher(NUMBERS, place_of=place_of, options=BatcherOptions(most=4))
    batcher.value("A", "sentiment:level", 5, 0.5)
    batcher.gap("A", 6)
    batcher.value("B", "sentiment:level", 7, 0.5)
    batcher.take("A", 8, 1.0, 2.0)
    batcher.value("A", "sentiment:impact", 9, 0.9, event=True)
    places["A", "sentiment:level"], places["A", "sentiment:impact"] = 9, 3
    found = [(row[4], row[1], row[3]) for row in drain(batcher)]
    assert found == [(VALUE, 5, 9.0), (GAP, 6, 0.0), (TRADE, 8, 2.0), (EVENT, 9, 3.0)]
    assert batcher.counters.unread == 1


def test_positions_are_the_last_sequences_of_a_batch():
    batcher = Batcher(NUMBERS)
    batcher.take_all([Tick("A", 1, 1.0, 1.0, 4), Tick("A", 2, 1.0, 1.0, 5), Tick("B", 2, 1.0, 1.0)], "x")
    batcher.take("A", 3, 1.0, 1.0, 90, "y", late=True)
    _, taken = batcher.flush(0, force=True)
    assert taken.positions == {"x:A": 5, "y:A": 90}
    assert taken.late.tolist() == [False, False, False, True]


def test_the_engine_waits_for_a_batch():
    batcher = Batcher(NUMBERS, options=BatcherOptions(window=50_000_000))
    assert batcher.next(0.0) is None
    taker = threading.Thread(target=lambda: [batcher.take("A", 1, 1.0, 1.0, n, "x") for n in range(20)])
    taker.start()
    found = []
    while len(found) < 20:
        found += [row[5] for row in rows(batcher.next(10.0))]
    taker.join()
    assert found == list(range(20))
    batcher.take("A", 1, 1.0, 1.0, 20, "x")
    batcher.close()
    assert [row[5] for row in rows(batcher.next(10.0))] == [20]
    assert batcher.next(10.0) is None


def test_what_cannot_be_taken_is_refused_and_leaves_nothing():
    batcher = Batcher(NUMBERS, options=BatcherOptions(most=2, capacity=2), block=False)
    with pytest.raises(DataError, match="'C' is not known"):
        batcher.take_all([Tick("A", 1, 1.0, 1.0), Tick("C", 1, 1.0, 1.0)], "x")
    assert batcher.depth == 0
    batcher.take_all([Tick("A", 1, 1.0, 1.0)] * 2, "x")
    with pytest.raises(TemporaryError, match="2 records wait"):
        batcher.take("A", 2, 1.0, 1.0)
    batcher.close()
    with pytest.raises(TemporaryError, match="closed"):
        batcher.take("A", 2, 1.0, 1.0)
    with pytest.raises(ConfigurationError, match="most = 5"):
        BatcherOptions(most=5, capacity=4)


def test_a_taker_waits_for_room_and_nothing_is_dropped():
    batcher = Batcher(NUMBERS, options=BatcherOptions(most=4, capacity=4))
    taker = threading.Thread(target=lambda: [batcher.take("A", 1, 1.0, 1.0, n, "x") for n in range(100)])
    taker.start()
    found: list[int] = []
    while len(found) < 100:
        assert batcher.wait(10.0)
        assert batcher.depth <= 4
        found += [row[5] for row in rows(batcher.flush(0, force=True))]
    taker.join()
    assert found == list(range(100))
    assert batcher.counters.waits > 0
