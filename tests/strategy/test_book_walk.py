"""Walking a recorded book: what it holds is all there is, and no book is seen before its time."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.strategy.book_walk import RecordedBook, walk
from tapeline.streams.book_keeper import BookKeeper, DepthOptions
from tests.streams.sessions import SESSIONS

START = pd.Timestamp("2024-01-01", tz="UTC")


def book(*books: tuple[list[tuple[float, float]], list[tuple[float, float]]], seconds: float = 1.0) -> pd.DataFrame:
    rows = [
        (START + pd.Timedelta(seconds=seconds * number), side, level, price, size)
        for number, sides in enumerate(books)
        for side, levels in zip((1, -1), sides, strict=True)
        for level, (price, size) in enumerate(levels)
    ]
    return pd.DataFrame(rows, columns=["ts", "side", "level", "price", "size"]).set_index("ts")


def after(*seconds: float) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([START + pd.Timedelta(seconds=each) for each in seconds])


ONE = ([(99.0, 2.0), (98.0, 4.0)], [(101.0, 1.0), (102.0, 3.0), (105.0, 6.0)])

levels = st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.01, 50)), min_size=0, max_size=6)


def by_hand(ladder, side, quantity, limit, taken) -> tuple[float, float]:
    """One unit of the book after the other: the definition."""
    paid = filled = 0.0
    for price, size in ladder:
        gone = min(taken, size)
        taken, size = taken - gone, size - gone
        if (side > 0 and price > limit) or (side < 0 and price < limit):
            return filled, paid
        part = min(size, quantity - filled)
        filled, paid = filled + part, paid + part * price
    return filled, paid


@pytest.mark.parametrize(
    ("side", "quantity", "limit", "filled", "price"),
    [
        (1, 1.0, math.nan, 1.0, 101.0),
        (1, 4.0, math.nan, 4.0, (101 + 3 * 102) / 4),
        (1, 12.0, math.nan, 10.0, (101 + 3 * 102 + 6 * 105) / 10),
        (1, 12.0, 102.0, 4.0, (101 + 3 * 102) / 4),
        (1, 1.0, 100.0, 0.0, math.nan),
        (-1, 3.0, math.nan, 3.0, (2 * 99 + 98) / 3),
        (-1, 9.0, 99.0, 2.0, 99.0),
    ],
)
def test_levels_are_taken_best_first_until_the_quantity_the_limit_or_their_end(
    side, quantity, limit, filled, price
) -> None:
    found = RecordedBook(book(ONE)).fill(after(0), side=side, quantity=quantity, limit=limit).iloc[0]
    assert found["filled"] == filled
    assert found["unfilled"] == quantity - filled
    assert found["price"] == pytest.approx(price, nan_ok=True)
    assert found["slippage_bps"] == pytest.approx(side * (price - 100) / 100 * 1e4, nan_ok=True)


@given(levels, st.sampled_from([1, -1]), st.floats(0.01, 100), st.floats(0, 40), st.none() | st.floats(70, 130))
@example([(1.0, 17.0), *[(1.0, 3.603808103933311)] * 3, (1.0, 17.0)], 1, 21.32848433806623, 23.26472934791128, None)
@settings(max_examples=150, deadline=None)
def test_the_kernel_agrees_with_one_level_after_the_other(steps, side, quantity, taken, limit) -> None:
    prices = 100 + side * np.cumsum([step for step, _ in steps]) if steps else np.zeros(0)
    sizes = np.array([size for _, size in steps], float)
    bound = math.inf * side if limit is None else limit
    wanted, paid = by_hand(zip(prices, sizes, strict=True), side, quantity, bound, taken)
    filled, price = walk(
        np.asarray(prices, float), sizes, 0, len(sizes), side, quantity, math.nan if limit is None else limit, taken
    )
    assert filled == pytest.approx(wanted)
    assert filled <= quantity
    assert filled <= max(0.0, sizes.sum() - taken) + 1e-9
    if filled > 0:
        assert filled * price == pytest.approx(paid)
        # More is never cheaper a unit.
        more = walk(np.asarray(prices, float), sizes, 0, len(sizes), side, 2 * quantity, math.nan, taken)[1]
        assert side * (more - price) >= -1e-9


def test_a_book_is_seen_from_its_time_on_and_not_when_it_is_too_old() -> None:
    dear = ([(199.0, 1.0)], [(201.0, 1.0)])
    recorded = RecordedBook(book(ONE, dear, seconds=5), maximum_age=timedelta(seconds=20))
    at = after(-0.001, 0, 4.999999999, 5, 25, 25.000000001)
    found = recorded.fill(at, side=1, quantity=1.0, deplete=False)
    assert found["price"].tolist()[1:5] == [101.0, 101.0, 201.0, 201.0]
    assert found["filled"].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert found["age"].tolist()[1:5] == [0.0, pytest.approx(5.0, abs=1e-6), 0.0, 20.0]


def test_later_books_change_nothing_before_them() -> None:
    at = after(0, 0.5, 1.2)
    short = RecordedBook(book(ONE, ONE)).fill(at, side=1, quantity=2.0)
    changed = RecordedBook(book(ONE, ONE, ([(9.0, 1.0)], [(10.0, 99.0)]))).fill(at, side=1, quantity=2.0)
    pd.testing.assert_frame_equal(short, changed)


def test_orders_in_one_book_share_its_levels_until_the_next() -> None:
    recorded = RecordedBook(book(ONE, ONE))
    found = recorded.fill(after(0, 0.1, 0.2, 0.3, 1.0), side=[1, 1, -1, 1, 1], quantity=[3.0, 3.0, 2.0, 9.0, 3.0])
    assert found["filled"].tolist() == [3.0, 3.0, 2.0, 4.0, 3.0]
    assert found["price"].tolist() == pytest.approx([305 / 3, (102 + 2 * 105) / 3, 99.0, 105.0, 305 / 3])
    whole = recorded.fill(after(0, 0.1), side=1, quantity=3.0, deplete=False)
    assert whole["price"].tolist() == pytest.approx([305 / 3] * 2)


@given(st.lists(st.floats(0.1, 8), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_many_orders_take_what_one_takes_and_pay_the_same(parts) -> None:
    recorded = RecordedBook(book(ONE))
    found = recorded.fill(after(*[0] * len(parts)), side=1, quantity=parts)
    whole = recorded.fill(after(0), side=1, quantity=[sum(parts)]).iloc[0]
    assert found["filled"].sum() == pytest.approx(whole["filled"])
    assert (found["filled"] * found["price"]).sum() == pytest.approx(whole["filled"] * whole["price"])


def test_a_crossed_or_empty_book_fills_nothing() -> None:
    crossed = ([(101.0, 1.0)], [(101.0, 1.0)])
    lone = ([], [(101.0, 5.0)])
    found = RecordedBook(book(crossed, lone)).fill(after(0, 1, 1), side=[1, 1, -1], quantity=2.0)
    assert found["filled"].tolist() == [0.0, 2.0, 0.0]
    assert found["slippage_bps"].isna().all()
    assert RecordedBook(book(ONE).iloc[:0]).fill(after(0), side=1, quantity=1.0)["filled"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (lambda frame: frame.drop(columns="size"), SchemaError, "size"),
        (lambda frame: frame.reset_index(drop=True), SchemaError, "ts"),
        (lambda frame: frame.iloc[::-1].set_axis(frame.index - pd.to_timedelta(range(5), "s")), DataError, "decrease"),
        (lambda frame: frame.assign(side=2), DataError, "side 2"),
        (lambda frame: frame.assign(size=-1.0), DataError, "size"),
        (lambda frame: frame.assign(price=math.inf), DataError, "price"),
        (lambda frame: frame.assign(level=[1, 0, 0, 1, 2]), DataError, "worse"),
    ],
)
def test_rows_that_are_no_book_are_refused(wrong, error, told) -> None:
    with pytest.raises(error, match=told):
        RecordedBook(wrong(book(ONE)))


def test_orders_that_are_none_are_refused() -> None:
    recorded = RecordedBook(book(ONE))
    for side, quantity in ((0, 1.0), (1, 0.0), (1, -1.0), (1, math.nan)):
        with pytest.raises(DataError):
            recorded.fill(after(0), side=side, quantity=quantity)
    with pytest.raises(ConfigurationError, match="maximum_age"):
        RecordedBook(book(ONE), maximum_age=timedelta(seconds=-1))


def test_a_recorded_session_is_walked(test_data) -> None:
    session = SESSIONS["binance spot 2024"]
    keeper = BookKeeper(session.market, DepthOptions(levels=100))
    for item in session.records(test_data):
        keeper.take(item.record, item.received)
    frames = []
    keeper.flush(lambda frame, _: frames.append(frame))
    depth = pd.concat(frames)
    recorded = RecordedBook(depth)
    assert len(recorded) > 300
    at = pd.DatetimeIndex(depth.index.unique()) + pd.Timedelta(milliseconds=1)
    costs = [recorded.fill(at, side=side, quantity=size) for side in (1, -1) for size in (0.01, 1.0, 10.0)]
    for small, medium, large in (costs[:3], costs[3:]):
        assert (small["slippage_bps"] > 0).all()
        full = large["unfilled"] == 0
        assert (medium["slippage_bps"] >= small["slippage_bps"] - 1e-9).all()
        assert (large["slippage_bps"] >= medium["slippage_bps"] - 1e-9)[full].all()
    best = depth[(depth["level"] == 0) & (depth["side"] == -1)]
    unhurt = best["size"].to_numpy() >= 0.01
    assert (costs[0]["price"].to_numpy()[unhurt] == best["price"].to_numpy()[unhurt]).all()
