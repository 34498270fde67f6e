"""The ladder against a plain dictionary and against the order-book package; measures against hand-made numbers."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.streams import book as book_module
from tapeline.streams.book import BookSide, OrderBook
from tapeline.streams.book_checksum import kraken_checksum, okx_checksum
from tapeline.streams.dialects.kraken import checksum_digits

_CHANGES = st.lists(
    st.tuples(st.integers(1, 40).map(lambda tick: tick / 100), st.sampled_from([0.0, 0.0, 1.0, 2.5])), max_size=120
)


@pytest.mark.parametrize("sign", [1, -1])
@settings(max_examples=150, deadline=None)
@given(first=_CHANGES, later=_CHANGES)
def test_a_side_is_a_sorted_dictionary(
    sign: int, first: list[tuple[float, float]], later: list[tuple[float, float]]
) -> None:
    side = BookSide(sign)  # type: ignore[arg-type]
    side.replace(first)
    expected = {price: size for price, size in first if size}
    for price, size in later:
        side.update([(price, size)])
        if size:
            expected[price] = size
        else:
            expected.pop(price, None)
    ranked = sorted(expected.items(), reverse=sign > 0)
    assert side.top(1_000) == ranked
    assert side.top(3) == ranked[:3]
    assert side.best() == (ranked[0] if ranked else None)
    assert len(side) == len(ranked)
    side.truncate(2)
    assert side.top(10) == ranked[:2]


@settings(max_examples=60, deadline=None)
@given(changes=_CHANGES)
def test_the_order_book_package_agrees(changes: list[tuple[float, float]]) -> None:
    peers = pytest.importorskip("order_book")
    peer, ours = peers.OrderBook(), OrderBook()
    for number, (price, size) in enumerate(changes):
        theirs, mine = (peer.bids, ours.bids) if number % 2 else (peer.asks, ours.asks)
        mine.update([(price, size)])
        if size:
            theirs[price] = size
        elif price in theirs:
            del theirs[price]
    assert ours.bids.top(1_000) == list(peer.bids.to_list())
    assert ours.asks.top(1_000) == list(peer.asks.to_list())


@settings(max_examples=60, deadline=None)
@given(
    bids=st.lists(st.integers(1, 10**6), min_size=10, max_size=60, unique=True),
    asks=st.lists(st.integers(10**6 + 1, 10**7), min_size=10, max_size=60, unique=True),
    sizes=st.integers(1, 10**9),
)
def test_the_order_book_package_computes_the_same_checksums(bids: list[int], asks: list[int], sizes: int) -> None:
    peers = pytest.importorskip("order_book")

    def sides(form: str) -> tuple[OrderBook, object]:
        ours, peer = OrderBook(), peers.OrderBook(checksum_format=form)
        for side, theirs, ticks in (("bids", peer.bids, bids), ("asks", peer.asks, asks)):
            levels = []
            for rank, tick in enumerate(ticks):
                price, size = f"{Decimal(tick) / 1000:.3f}", f"{Decimal(sizes + rank) / 10**8:.8f}"
                digits = checksum_digits(price, size) if form == "KRAKEN" else f"{price}:{size}"
                levels.append((float(price), float(size), digits))
                theirs[Decimal(price)] = Decimal(size)
            getattr(ours, side).replace(levels)
        return ours, peer

    ours, peer = sides("KRAKEN")
    assert kraken_checksum(ours) == peer.checksum() & 0xFFFFFFFF
    ours, peer = sides("OKX")
    assert okx_checksum(ours) == peer.checksum() & 0xFFFFFFFF


def test_okx_checksum_of_a_book_with_a_short_side() -> None:
    """Example of the venue's documentation: bids of one level, asks of three."""
    from zlib import crc32

    book = OrderBook()
    book.replace([(3366.1, 7.0, "3366.1:7")], [(p, 1.0, f"{p}:1") for p in (3366.8, 3368.0, 3372.0)])
    assert okx_checksum(book) == crc32(b"3366.1:7:3366.8:1:3368.0:1:3372.0:1")


def test_an_empty_or_one_sided_book_is_no_error() -> None:
    book = OrderBook()
    assert book.best_bid is None
    assert all(math.isnan(value) for value in (book.mid, book.spread, book.spread_bps, book.microprice))
    assert math.isnan(book.imbalance())
    assert not book.crossed
    assert book.cost_to_trade(1.0).filled == 0.0
    book.update([(9.0, 1.0)], [])
    assert math.isnan(book.mid)
    assert book.cost_to_trade(1.0, -1).average == 9.0


def test_measures() -> None:
    book = OrderBook()
    book.replace([(100.0, 2.0), (99.0, 8.0)], [(102.0, 6.0), (103.0, 4.0)])
    assert book.mid == 101.0
    assert book.spread == 2.0
    assert book.spread_bps == pytest.approx(2 / 101 * 1e4)
    assert book.microprice == pytest.approx((100 * 6 + 102 * 2) / 8)
    assert book.imbalance() == pytest.approx((2 - 6) / 8)
    assert book.imbalance(2) == pytest.approx(0.0)
    sold = book.cost_to_trade(5.0, -1)
    assert sold.average == pytest.approx((2 * 100 + 3 * 99) / 5)
    assert (sold.worst, sold.filled) == (99.0, 5.0)
    assert sold.slippage == pytest.approx((101 - sold.average) / 101)
    thin = book.cost_to_trade(50.0)
    assert thin.filled == 10.0
    assert thin.average == pytest.approx((6 * 102 + 4 * 103) / 10)
    book.update([(102.0, 1.0)], [])
    assert book.crossed
    assert book.spread == 0.0


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.floats(0.01, 5), min_size=1, max_size=200), share=st.floats(0.01, 1.2))
def test_the_cost_of_a_trade_is_the_sum_over_its_levels(sizes: list[float], share: float) -> None:
    book = OrderBook()
    book.replace([(1.0, 1.0)], [(100.0 + rank, size) for rank, size in enumerate(sizes)])
    wanted = share * sum(sizes)
    left, paid = wanted, 0.0
    for rank, size in enumerate(sizes):
        taken = min(left, size)
        paid += taken * (100.0 + rank)
        left -= taken
    fill = book.cost_to_trade(wanted)
    assert fill.filled == pytest.approx(wanted - left)
    assert fill.average * fill.filled == pytest.approx(paid)


@pytest.mark.parametrize("size", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_size_is_refused(size: float) -> None:
    with pytest.raises(ConfigurationError, match="size"):
        OrderBook().cost_to_trade(size)
    with pytest.raises(ConfigurationError, match="side"):
        OrderBook().cost_to_trade(1.0, 0)  # type: ignore[arg-type]


def test_a_hostile_feed_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "MAXIMUM_LEVELS", 100)
    side = BookSide(1)
    for first in range(1, 10_000, 50):
        side.update([(float(price), 1.0) for price in range(first, first + 50)])
        assert len(side) <= 100
    assert side.best() == (10_000.0, 1.0)
    assert side.dropped > 9_000
    side.replace((float(price), 1.0) for price in range(1, 10_000))
    assert len(side) == 100
