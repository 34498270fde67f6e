"""Depth rows: at every tick of the interval, never of what came later, none while the book is lost."""

from __future__ import annotations

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import RAW_DEPTH
from tapeline.core.symbol import Symbol
from tapeline.streams import book_depth
from tapeline.streams.book_depth import DepthSampler, spread_statistics
from tapeline.streams.book_sequence import rule_of
from tapeline.streams.book_sync import LiveBook
from tapeline.streams.messages import BookDelta, BookSnapshot

A = Symbol.parse("A")
SECOND = 1_000_000_000


def _sampled(*events: tuple[float, BookSnapshot | BookDelta | None], depth: int = 2) -> DepthSampler:
    live = LiveBook(A, rule_of("binance"))
    sampler = DepthSampler(live, interval=SECOND, depth=depth)
    for seconds, record in events:
        sampler.advance(int(seconds * SECOND))
        if record is not None:
            live.take(record)
    return sampler


START = BookSnapshot(A, None, [(9.0, 1.0), (8.0, 2.0), (7.0, 3.0)], [(10.0, 4.0)], 10)


def test_rows_show_what_was_known_at_the_instant() -> None:
    change = BookDelta(A, None, [(9.5, 5.0)], [], 11, 11)
    frame = _sampled((0.5, START), (2.0, change), (3.5, None)).frame()
    best = frame[(frame["level"] == 0) & (frame["side"] == 1)]
    seen = {ts.second: price for ts, price in best["price"].items()}
    # A message received exactly at an instant is in its row: it was known then.
    assert seen == {1: 9.0, 2: 9.5, 3: 9.5}
    first = frame.iloc[:3]
    assert first["side"].tolist() == [1, 1, -1]
    assert first["level"].tolist() == [0, 1, 0]
    assert first["size"].tolist() == [1.0, 2.0, 4.0]


def test_a_lost_book_leaves_no_rows() -> None:
    gap = BookDelta(A, None, [], [], 15, 16)
    frame = _sampled(
        (0.5, START), (2.2, gap), (5.5, BookSnapshot(A, None, [(9.0, 1.0)], [(10.0, 1.0)], 20)), (7.5, None)
    )
    assert sorted({ts.second for ts in frame.frame().index}) == [1, 2, 6, 7]


def test_an_empty_sampler_has_the_schema() -> None:
    frame = _sampled().frame()
    assert RAW_DEPTH.to_arrow(frame).num_rows == 0
    assert spread_statistics(frame).empty


def test_statistics_leave_out_one_sided_instants() -> None:
    empty = BookDelta(A, None, [], [(10.0, 0.0)], 11, 11)
    statistics = spread_statistics(_sampled((0.5, START), (1.5, empty), (3.5, None)).frame())
    assert [ts.second for ts in statistics.index] == [1]
    row = statistics.iloc[0]
    assert (row["spread"], row["mid"]) == (1.0, 9.5)
    assert row["spread_bps"] == pytest.approx(1 / 9.5 * 1e4)
    assert row["microprice"] == pytest.approx((9.0 * 4.0 + 10.0 * 1.0) / 5.0)


def test_rows_are_bounded_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = _sampled((0.5, START), (3.5, None))
    assert len(sampler) == 9
    sampler.clear()
    assert len(sampler) == 0
    monkeypatch.setattr(book_depth, "MAXIMUM_ROWS", 100)
    with pytest.raises(ConfigurationError, match="rows of depth"):
        sampler.advance(1_000_000 * SECOND)


@pytest.mark.parametrize(("interval", "depth"), [(0, 5), (SECOND, 0), (SECOND, 10**6)])
def test_bounds(interval: int, depth: int) -> None:
    with pytest.raises(ConfigurationError):
        DepthSampler(LiveBook(A, rule_of("binance")), interval=interval, depth=depth)
