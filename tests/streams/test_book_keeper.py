"""Books of a connection are sampled only while they are what the venue shows, and no sample is lost on its way."""

from __future__ import annotations

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.streams.book_keeper import MAXIMUM_SILENCE, BookKeeper, DepthOptions, check_depth
from tapeline.streams.messages import BookDelta, BookSnapshot

BITCOIN = Symbol.parse("BTCUSDT")
SECOND = 1_000_000_000


def snapshot(sequence: int) -> BookSnapshot:
    return BookSnapshot(BITCOIN, None, [(9.0, 1.0), (8.0, 2.0)], [(10.0, 1.0)], sequence)


def delta(number: int, price: float = 9.0, size: float = 5.0) -> BookDelta:
    return BookDelta(BITCOIN, number, [(price, size)], [], first=number, last=number)


def samples(keeper: BookKeeper) -> list[tuple[float, int, float, float]]:
    found = []

    def write(frame, symbol):
        assert symbol == BITCOIN
        rows = zip(frame.index.as_unit("ns").asi8 / SECOND, frame["side"], frame["price"], frame["size"], strict=True)
        found.extend(rows)

    keeper.flush(write)
    return found


def test_there_are_no_samples_between_a_gap_and_the_next_snapshot():
    keeper = BookKeeper("binance", DepthOptions(levels=1, interval=SECOND))
    keeper.take(snapshot(5), SECOND // 2)
    keeper.take(delta(6), SECOND * 3 // 2)
    keeper.take(delta(8), SECOND * 5 // 2)  # 7 is missing
    assert keeper.requests() == [BITCOIN]
    keeper.advance(SECOND * 9 // 2)
    keeper.take(snapshot(8), SECOND * 9 // 2)
    keeper.advance(SECOND * 11 // 2)
    assert [(at, size) for at, side, _, size in samples(keeper) if side == 1] == [(1.0, 1.0), (2.0, 5.0), (5.0, 1.0)]
    assert dict(keeper.counters())[BITCOIN]["gaps"] == 1


@pytest.mark.parametrize("how", ["disconnect", "standstill"])
def test_a_lost_connection_or_a_standstill_ends_the_samples(how):
    keeper = BookKeeper("binance", DepthOptions(levels=2, interval=SECOND))
    keeper.take(snapshot(5), SECOND // 2)
    keeper.advance(SECOND * 3 // 2)
    if how == "disconnect":
        keeper.disconnect()
        keeper.advance(SECOND * 5)
    else:
        keeper.advance(SECOND * 3 // 2 + MAXIMUM_SILENCE + 1)
    assert [row[:1] + row[2:3] for row in samples(keeper)] == [(1.0, 9.0), (1.0, 8.0), (1.0, 10.0)]
    assert keeper.requests() == [BITCOIN]


def test_what_could_not_be_written_is_written_the_next_time_once():
    keeper = BookKeeper("binance", DepthOptions(levels=1, interval=SECOND))
    keeper.take(snapshot(5), SECOND // 2)
    keeper.advance(SECOND * 3 // 2)

    def fails(frame, symbol):
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        keeper.flush(fails)
    assert keeper.waiting_rows == 2
    keeper.advance(SECOND * 5 // 2)
    assert [row[0] for row in samples(keeper)] == [1.0, 1.0, 2.0, 2.0]
    assert keeper.waiting_rows == 0
    assert keeper.samples == 4
    assert samples(keeper) == []


def test_a_keeper_without_options_keeps_books_and_samples_nothing():
    keeper = BookKeeper("binance")
    keeper.take(snapshot(5), SECOND)
    keeper.advance(SECOND * 9)
    assert keeper.books[BITCOIN].live
    assert keeper.waiting_rows == 0


def test_options_out_of_bounds_are_refused():
    assert check_depth(1, 0.5) == DepthOptions(1, SECOND // 2)
    for levels, seconds in ((0, 1.0), (1_001, 1.0), (1, 0.0), (1, 4_000.0)):
        with pytest.raises(ConfigurationError, match="must be from"):
            check_depth(levels, seconds)
