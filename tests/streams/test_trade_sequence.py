"""The sequence alone: any order, copies and losses in, the venue's order out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.core.symbol import Symbol
from tapeline.streams.messages import Trade
from tapeline.streams.trade_sequence import MissingIds, TradeSequence

BTC = Symbol.parse("BTCUSDT")


def trade(number: int | str) -> Trade:
    return Trade(BTC, 0, 1.0, 1.0, 1, str(number))


def ids(rows) -> list[int]:
    return [int(row.record.id) for row in rows]


@given(
    st.integers(5, 60),
    st.sets(st.integers(1, 60)),
    st.lists(st.integers(0, 59), max_size=200),
    st.integers(1, 10),
    st.integers(1, 7),
)
def test_whatever_comes_each_existing_trade_goes_out_once_in_order(count, absent, arrivals, held, page_size):
    existing = [number for number in range(count) if number not in absent]
    sequence = TradeSequence(last=-1, maximum_held=held)
    out = []
    for number in (number for number in arrivals if number in existing):
        out += ids(sequence.take(trade(number), number))
        assert out == sorted(set(out))
    out += ids(sequence.take(trade(existing[-1]), 0))
    for _ in range(count + 1):
        if sequence.gap is None:
            break
        first = sequence.gap.first
        page = [trade(number) for number in existing if number >= first][:page_size]
        out += ids(sequence.fill(first, page, 0))
    assert out == existing
    assert sequence.counters.released == len(existing)


def test_copies_are_counted_and_a_reordered_trade_is_late():
    sequence = TradeSequence()
    rows = [row for number in (5, 5, 7, 6, 7, 4) for row in sequence.take(trade(number), number)]
    assert ids(rows) == [5, 6, 7]
    assert [row.late for row in rows] == [False, True, False]
    assert (sequence.counters.duplicates, sequence.counters.gaps, sequence.gap) == (3, 1, None)


def test_ids_that_the_history_does_not_know_are_absent_not_lost():
    sequence = TradeSequence(last=10)
    sequence.take(trade(20), 0)
    assert sequence.gap == MissingIds(11, 19)
    assert ids(sequence.fill(11, [trade(20)], 0)) == [20]
    assert (sequence.counters.absent, sequence.counters.filled, sequence.gap) == (9, 0, None)


def test_a_history_that_skips_what_was_streamed_is_not_believed():
    sequence = TradeSequence(last=10)
    sequence.take(trade(12), 0)
    with pytest.raises(DataError, match="begins at 13, though 12 was streamed"):
        sequence.fill(11, [trade(13)], 0)
    assert sequence.last == 10


def test_a_damaged_number_far_ahead_changes_nothing():
    sequence = TradeSequence(maximum_jump=100)
    sequence.take(trade(1), 0)
    assert sequence.take(trade(10**15), 0) == []
    assert ids(sequence.take(trade(2), 0)) == [2]
    with pytest.raises(DataError, match="reaches"):
        sequence.fill(3, [trade(3), trade(10**15)], 0)
    with pytest.raises(DataError, match="not a number"):
        sequence.take(trade("x"), 0)
    assert (sequence.counters.implausible, sequence.last) == (1, 2)


def test_a_gap_that_is_given_up_is_named_and_counted():
    sequence = TradeSequence(last=0)
    for number in (3, 4, 7):
        sequence.take(trade(number), 0)
    gap, rows = sequence.give_up()
    assert (gap, ids(rows), sequence.gap) == (MissingIds(1, 2), [3, 4], MissingIds(5, 6))
    assert sequence.counters.unfilled == 2
