"""Order flow at the best quotes: the published cases, a slow count, any portions, and prices that follow it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.features.flow_bars import join_flow
from tapeline.features.quote_flow import QuoteFlow, best_quotes, order_flow, quote_flow
from tests.features.recorded_flow import futures
from tests.support import make_bars

M1 = Timeframe.parse("M1")


def contribution(old: tuple[float, ...], new: tuple[float, ...]) -> float:
    arrays = [np.array([value]) for value in new]
    return float(order_flow(*arrays, np.array(old))[0])


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ((9.0, 7.0, 10.0, 4.0), 2.0),  # 2 added to the bid
        ((9.0, 3.0, 10.0, 4.0), -2.0),  # 2 sold at, or taken from, the bid
        ((9.0, 5.0, 10.0, 6.0), -2.0),  # 2 added to the ask
        ((9.0, 5.0, 10.0, 1.0), 3.0),  # 3 bought at, or taken from, the ask
        ((9.5, 2.0, 10.0, 4.0), 2.0),  # a better bid of 2
        ((8.5, 6.0, 10.0, 4.0), -5.0),  # the bid of 5 is gone
        ((9.0, 5.0, 9.5, 2.0), -2.0),  # a better ask of 2
        ((9.0, 5.0, 10.5, 9.0), 4.0),  # the ask of 4 is gone
        ((9.5, 3.0, 10.5, 9.0), 7.0),  # both: the ask of 4 is gone, a better bid of 3
    ],
)
def test_each_event_counts_as_published(new, expected) -> None:
    """Cont, Kukanov and Stoikov 2014, section 2.1: the signed contributions of events at the best quotes."""
    assert contribution((9.0, 5.0, 10.0, 4.0), new) == expected


def test_price_moves_by_flow_over_twice_the_depth_in_the_stylized_book() -> None:
    """Their stylized book, section 2.2: depth D at every level beyond the best; ten times D bought moves it ten ticks.

    Here both sides move together, so the mid moves by the flow over twice the depth.
    """
    depth, tick = 8.0, 0.5
    steps = np.arange(11)
    bid, ask = 100.0 + tick * steps, 100.5 + tick * steps
    size = np.full(11, depth)
    flow = order_flow(bid, size, ask, size, np.array([bid[0], depth, ask[0], depth])).sum()
    assert flow == 2 * depth * 10
    assert (bid[-1] - bid[0]) / tick == flow / (2.0 * depth)


def random_quotes(rows: int, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    steps = generator.exponential(4e9, rows).astype(np.int64)
    ts = pd.DatetimeIndex(pd.Timestamp("2017-01-02").value + np.cumsum(steps), tz="UTC", name="ts")
    bid = 100.0 + np.cumsum(generator.integers(-1, 2, rows)) * 0.5
    sizes = generator.integers(1, 9, (2, rows)).astype(float)
    ask = bid + 0.5 * generator.integers(1, 3, rows)
    return pd.DataFrame({"bid": bid, "bid_size": sizes[0], "ask": ask, "ask_size": sizes[1]}, index=ts)


def test_the_flow_equals_a_slow_count() -> None:
    quotes = random_quotes(500)
    rows = list(quotes.itertuples(index=False, name=None))
    each = [0.0, *(contribution(old, new) for old, new in pairwise(rows))]
    minute = quotes.index.floor("1min")
    found = quote_flow(quotes, M1)
    by_bar = pd.Series(each, index=quotes.index).groupby(minute).sum().iloc[:-1]
    np.testing.assert_allclose(found["ofi"], by_bar, atol=1e-9)
    both = quotes["bid_size"] + quotes["ask_size"]
    np.testing.assert_allclose(found["depth"], (both / 2).groupby(minute).mean().iloc[:-1])
    imbalance = (quotes["bid_size"] - quotes["ask_size"]) / both
    np.testing.assert_allclose(found["imbalance"], imbalance.groupby(minute).last().iloc[:-1])
    np.testing.assert_allclose(found["mean_imbalance"], imbalance.groupby(minute).mean().iloc[:-1], atol=1e-12)
    spread = 1e4 * (quotes["ask"] - quotes["bid"]) / ((quotes["ask"] + quotes["bid"]) / 2)
    np.testing.assert_allclose(found["spread_bps"], spread.groupby(minute).mean().iloc[:-1])
    assert found["quote_count"].sum() == (minute < minute[-1]).sum()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=5))
def test_any_portions_give_the_same_bits(cuts) -> None:
    quotes = random_quotes(200)
    flow, borders = QuoteFlow(M1), [0, *sorted(cuts), 200]
    parts = [flow.update(quotes.iloc[a:b]) for a, b in pairwise(borders)]
    pd.testing.assert_frame_equal(pd.concat(parts), quote_flow(quotes, M1), check_exact=True, check_freq=False)


def test_a_feature_set_reads_it() -> None:
    quotes = random_quotes(2_000)
    flow = quote_flow(quotes, M1)
    bars = make_bars(len(flow), timeframe="M1").set_axis(flow.index)
    bars["close_ts"] = flow["known_at"]
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "order_flow_imbalance", "window": 3}]})
    found = compute(chosen, join_flow(bars, M1, flow, prefix="quote_"), M1)
    expected = 3 * flow["ofi"].rolling(3).sum() / flow["depth"].rolling(3).sum()
    np.testing.assert_allclose(found["order_flow_imbalance_3"], expected, rtol=1e-5, atol=1e-5)


def test_what_is_refused() -> None:
    quotes = random_quotes(10)
    with pytest.raises(SchemaError, match="ask_size"):
        quote_flow(quotes.drop(columns="ask_size"), M1)
    with pytest.raises(DataError, match="bid is nan at row 3"):
        quote_flow(quotes.assign(bid=quotes["bid"].where(np.arange(10) != 3)), M1)
    with pytest.raises(DataError, match="ts decreases"):
        quote_flow(quotes[::-1], M1)
    with pytest.raises(SchemaError, match="level"):
        best_quotes(pd.DataFrame({"side": [1]}))


def test_recorded_prices_follow_recorded_order_flow(test_data: Path) -> None:
    """Their finding, on other data: over 10 seconds order flow imbalance explains most of the mid's moves (65 %)."""
    _, quotes, depth = futures(test_data)
    flow = quote_flow(quotes, "S10")
    moved = flow["mid"].diff()
    share = np.corrcoef(flow["ofi"][1:], moved[1:])[0, 1] ** 2
    assert share > 0.4
    sampled = best_quotes(depth)
    assert (sampled["bid"] < sampled["ask"]).all()
    assert len(sampled) > 3_000
