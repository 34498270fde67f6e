"""Resting orders against a tape, one trade after the other, and a recorded one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.strategy.latency import Latency, missed
from tapeline.strategy.resting_orders import Queue, queue_filled, rest_orders
from tapeline.streams.messages import Trade
from tests.streams.sessions import SESSIONS

START = pd.Timestamp("2024-01-01", tz="UTC")
DIRECT = Latency()


def tape(*trades: tuple[float, float, int]) -> pd.DataFrame:
    index = pd.date_range(START, periods=len(trades), freq="1s", name="ts")
    return pd.DataFrame(trades, columns=["price", "size", "side"], index=index)


def one(limit: float, quantity: float, displayed: float, *, side: int = 1, order: int = 1, **more) -> pd.DataFrame:
    values = {"order": order, "side": side, "limit": limit, "quantity": quantity, "displayed": displayed} | more
    return pd.DataFrame(values, index=pd.DatetimeIndex([START]))


def by_hand(orders, trades, latency, queue) -> list[tuple[float, int]]:
    """Each order through each trade, as the docstring of ``rest_orders`` has it."""
    found = []
    for sent, order in orders.iterrows():
        arrival = sent + latency.delays([int(order["order"])])[0]
        ahead, filled, chances, last = order["displayed"] * queue.share_ahead, 0.0, 0, -1
        for row, (ts, trade) in enumerate(trades.iterrows()):
            if ts < arrival or filled >= order["quantity"]:
                continue
            through = trade["price"] < order["limit"] if order["side"] > 0 else trade["price"] > order["limit"]
            at = trade["price"] == order["limit"] and trade["side"] != order["side"]
            size = trade["size"]
            if at:
                served = min(ahead, size)
                ahead, size = ahead - served, size - served
            if not (through or at) or size <= 0:
                continue
            chances += 1
            if missed(np.uint64(latency.seed), int(order["order"]), chances - 1, queue.miss_probability):
                continue
            filled = order["quantity"] if through else min(order["quantity"], filled + size)
            last = row
        found.append((filled, last))
    return found


def test_the_queue_is_served_first_then_the_order() -> None:
    trades = tape((10.0, 2.0, -1), (10.0, 2.0, -1), (10.0, 5.0, -1))
    for quantity, filled, done in ((1.0, 1.0, 1), (2.0, 2.0, 2), (9.0, 6.0, 2)):
        found = rest_orders(one(10.0, quantity, 3.0), trades, latency=DIRECT).iloc[0]
        assert (found["filled"], found["unfilled"], found["ahead"]) == (filled, quantity - filled, 3.0)
        assert found["done"] == trades.index[done]
    half = rest_orders(one(10.0, 9.0, 4.0), trades, latency=DIRECT, queue=Queue(share_ahead=0.5)).iloc[0]
    assert (half["ahead"], half["filled"]) == (2.0, 7.0)


def test_a_trade_through_the_limit_fills_the_rest_and_one_short_of_it_nothing() -> None:
    assert rest_orders(one(10.0, 50.0, 1e9), tape((9.99, 0.1, -1)), latency=DIRECT)["filled"].tolist() == [50.0]
    short = rest_orders(one(10.0, 50.0, 0.0), tape((10.01, 1e9, -1)), latency=DIRECT).iloc[0]
    assert short["filled"] == 0.0
    assert pd.isna(short["done"])
    assert rest_orders(one(10.0, 5.0, 9.0, side=-1), tape((10.01, 0.1, 1)), latency=DIRECT)["filled"].tolist() == [5.0]


def test_takers_of_the_orders_own_side_are_not_at_its_queue() -> None:
    trades = tape((10.0, 5.0, 1), (10.0, 2.0, 0))
    assert rest_orders(one(10.0, 9.0, 0.0), trades, latency=DIRECT)["filled"].tolist() == [2.0]
    assert rest_orders(one(10.0, 9.0, 0.0, side=-1), trades, latency=DIRECT)["filled"].tolist() == [7.0]


def test_an_order_meets_no_trade_before_it_arrived_and_none_after_it_expired() -> None:
    trades = tape(*[(10.0, 1.0, -1)] * 5)
    for wait, filled in ((0, 5.0), (1, 4.0), (1_000, 4.0), (3_500, 1.0), (4_001, 0.0)):
        found = rest_orders(one(10.0, 9.0, 0.0), trades, latency=Latency(median_ms=wait)).iloc[0]
        assert found["filled"] == filled
        assert found["arrival"] == START + pd.Timedelta(milliseconds=wait)
    expiring = one(10.0, 9.0, 0.0, expires=START + pd.Timedelta(seconds=2))
    assert rest_orders(expiring, trades, latency=DIRECT)["filled"].tolist() == [3.0]


@given(
    trades=st.lists(
        st.tuples(st.sampled_from([9.9, 10.0, 10.1]), st.integers(1, 5).map(float), st.sampled_from([-1, 0, 1])),
        min_size=1,
        max_size=25,
    ),
    wanted=st.lists(
        st.tuples(
            st.integers(0, 20), st.sampled_from([1, -1]), st.sampled_from([9.9, 10.0, 10.1]), st.integers(1, 9),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 2**62),
    miss=st.sampled_from([0.0, 0.3, 1.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_kernel_agrees_with_one_trade_after_the_other_and_orders_with_themselves_alone(
    trades, wanted, seed, miss
) -> None:
    recorded = tape(*trades)
    orders = pd.DataFrame(
        [
            (number, side, limit, float(quantity), float(shown))
            for number, (_, side, limit, quantity, shown) in enumerate(wanted)
        ],
        columns=["order", "side", "limit", "quantity", "displayed"],
        index=pd.DatetimeIndex([START + pd.Timedelta(seconds=second) for second, *_ in wanted]),
    )
    latency = Latency(kind="uniform", high_ms=5_000, seed=seed)
    queue = Queue(share_ahead=0.5, miss_probability=miss)
    found = rest_orders(orders, recorded, latency=latency, queue=queue)
    expected = by_hand(orders, recorded, latency, queue)
    assert found["filled"].tolist() == [filled for filled, _ in expected]
    done = [recorded.index[row] if row >= 0 else pd.NaT for _, row in expected]
    assert pd.DatetimeIndex(found["done"]).equals(pd.DatetimeIndex(done, tz="UTC"))
    assert (found["filled"] + found["unfilled"] == orders["quantity"]).all()
    for row in range(len(orders)):
        alone = rest_orders(orders.iloc[[row]], recorded, latency=latency, queue=queue)
        pd.testing.assert_frame_equal(alone, found.iloc[[row]])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_by_trades_and_by_volume_in_all_a_queue_gives_the_same(sizes, ahead, quantity) -> None:
    trades = tape(*[(10.0, float(size), -1) for size in sizes])
    found = rest_orders(one(10.0, float(quantity), float(ahead)), trades, latency=DIRECT)["filled"].iloc[0]
    assert queue_filled(float(ahead), float(quantity), float(sum(sizes))) == found
    assert queue_filled(float(ahead + 1), float(quantity), float(sum(sizes))) <= found


def test_what_is_missed_is_missed_by_seed() -> None:
    trades = tape(*[(10.0, 1.0, -1)] * 10)
    orders = pd.concat([one(10.0, 1.0, 0.0, order=number) for number in range(400)])
    whole, some = (
        rest_orders(orders, trades, latency=Latency(seed=2), queue=Queue(miss_probability=miss)) for miss in (0.0, 0.5)
    )
    assert (whole["done"] == START).all()
    assert (some["done"] == START).mean() == pytest.approx(0.5, abs=0.08)
    assert (some["done"] == START + pd.Timedelta("1s")).mean() == pytest.approx(0.25, abs=0.08)
    again = rest_orders(orders, trades, latency=Latency(seed=2), queue=Queue(miss_probability=0.5))
    pd.testing.assert_frame_equal(some, again)
    never = rest_orders(orders, trades, latency=Latency(seed=2), queue=Queue(miss_probability=1.0))
    assert never["filled"].sum() == 0
    assert never["done"].isna().all()


def test_orders_and_tapes_that_are_none_are_refused() -> None:
    trades = tape((10.0, 1.0, -1), (10.0, 1.0, -1))
    for orders, recorded, told in (
        (one(10.0, 1.0, 0.0).drop(columns="limit"), trades, "lack limit"),
        (one(10.0, 1.0, 0.0), trades.drop(columns="side"), "lack side"),
        (one(10.0, 1.0, 0.0), trades.iloc[::-1], "decrease"),
        (one(10.0, 0.0, 0.0), trades, "quantity"),
        (one(10.0, 1.0, -1.0), trades, "displayed"),
        (one(10.0, math.inf, 1.0), trades, "quantity"),
        (one(math.nan, 1.0, 1.0), trades, "limit"),
        (one(10.0, 1.0, 1.0, side=0), trades, "side"),
    ):
        with pytest.raises(DataError, match=told):
            rest_orders(orders, recorded, latency=DIRECT)


def test_a_recorded_tape_fills_fewer_the_longer_the_queue_and_the_way(test_data) -> None:
    session = SESSIONS["binance spot 2024"]
    ticks = [(item.received, item.record) for item in session.records(test_data) if isinstance(item.record, Trade)]
    trades = pd.DataFrame(
        {"price": [tick.price for _, tick in ticks], "size": [tick.size for _, tick in ticks],
         "side": [tick.side for _, tick in ticks]},
        index=pd.DatetimeIndex(pd.to_datetime([received for received, _ in ticks], utc=True), name="ts"),
    )  # fmt: skip
    assert len(trades) > 1_000
    sellers = trades[trades["side"] == -1].iloc[::40]
    orders = pd.DataFrame(
        {"order": range(len(sellers)), "side": 1, "limit": sellers["price"], "quantity": 0.01, "displayed": 0.0,
         "expires": sellers.index + pd.Timedelta(seconds=5)},
        index=sellers.index,
    )  # fmt: skip

    def share(displayed: float, wait: float) -> float:
        found = rest_orders(orders.assign(displayed=displayed), trades, latency=Latency(median_ms=wait))
        return (found["unfilled"] == 0).mean()

    at_once = share(0.0, 0.0)
    assert 0.5 < at_once <= 1
    assert share(0.1, 0.0) < at_once
    assert share(5.0, 0.0) <= share(0.1, 0.0)
    assert share(0.0, 500.0) < at_once
