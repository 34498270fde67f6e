"""The shape of books: worked by hand, equal to the live book's own numbers, the same in any portions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.features.flow_bars import join_flow
from tapeline.features.market_depth import DepthFlow, depth_flow, depth_shape, resilience_at
from tapeline.streams.book import OrderBook
from tapeline.streams.book_depth import spread_statistics
from tests.features.recorded_flow import futures
from tests.support import make_bars

M1 = Timeframe.parse("M1")


def random_books(books: int, seed: int = 0, levels: int = 12, seconds: float = 9.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    start, rows = pd.Timestamp("2017-01-02").value, []
    for number in range(books):
        ts, mid = start + int(number * seconds * 1e9), 100.0 + generator.normal()
        for side in (1, -1):
            distance = np.cumsum(generator.uniform(0.05, 0.5, levels))
            sizes = generator.exponential(3.0, levels) + 0.1
            rows += [(ts, side, k, mid - side * distance[k], sizes[k]) for k in range(levels)]
    frame = pd.DataFrame(rows, columns=["ts", "side", "level", "price", "size"])
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True).astype("datetime64[ns, UTC]")
    return frame.set_index("ts").astype({"side": "int8", "level": "int16"})


def live(books: pd.DataFrame) -> dict[pd.Timestamp, OrderBook]:
    """The same books as the live stream keeps them."""
    found = {}
    for ts, rows in books.groupby(level=0):
        sides = (rows[rows["side"] == side][["price", "size"]].to_numpy().tolist() for side in (1, -1))
        found[ts] = OrderBook()
        found[ts].replace(*([tuple(level) for level in side] for side in sides))
    return found


def test_the_shape_worked_by_hand() -> None:
    """Bids 1 at 99 and 5 at 98, asks 3 at 101 and 4 at 102: distances of 100 and 200 basis points."""
    ts = pd.DatetimeIndex(["2017-01-02"] * 4, tz="UTC", name="ts")
    book = pd.DataFrame(
        {"side": [1, 1, -1, -1], "level": [0, 1, 0, 1], "price": [99.0, 98, 101, 102], "size": [1.0, 5, 3, 4]}, ts
    )
    row = depth_shape(book, trade_size=4.0, levels=(1, 2)).iloc[0]
    # Weighted mid (99 * 3 + 101 * 1) / 4 = 99.5, half a unit below the mid, a quarter of the spread.
    assert row["weighted_mid_offset"] == (99.5 - 100.0) / 2.0
    assert row["imbalance_1"] == (1 - 3) / 4
    assert row["imbalance_2"] == (6 - 7) / 13
    # Slope: (100 * 1 + 200 * 6) / (100^2 + 200^2).
    assert row["bid_slope"] == pytest.approx(1300 / 50_000)
    # Buying 4: 3 at 101 and 1 at 102; selling 4: 1 at 99 and 3 at 98.
    assert row["buy_cost_bps"] == pytest.approx((3 * 100 + 1 * 200) / 4)
    assert row["sell_cost_bps"] == pytest.approx((1 * 100 + 3 * 200) / 4)
    thin = depth_shape(book, trade_size=6.5, levels=(2,)).iloc[0]
    assert np.isnan(thin["sell_cost_bps"])
    assert not np.isnan(thin["buy_cost_bps"])


def test_the_shape_is_that_of_the_live_book() -> None:
    books = random_books(40)
    found = depth_shape(books, trade_size=7.0, levels=(1, 4, 12))
    statistics = spread_statistics(books)
    np.testing.assert_allclose(found["spread_bps"], statistics["spread_bps"])
    weighted = found["mid"] * (1 + 1e-4 * found["weighted_mid_offset"] * found["spread_bps"])
    np.testing.assert_allclose(weighted, statistics["microprice"])
    for ts, book in live(books).items():
        row = found.loc[ts]
        for levels in (1, 4, 12):
            assert row[f"imbalance_{levels}"] == pytest.approx(book.imbalance(levels))
        for side, name in ((1, "buy_cost_bps"), (-1, "sell_cost_bps")):
            assert row[name] == pytest.approx(1e4 * book.cost_to_trade(7.0, side).slippage)
        distances = [1e4 * (book.mid - price) / book.mid for price, _ in book.bids.top(12)]
        upto = np.cumsum([size for _, size in book.bids.top(12)])
        slope = np.linalg.lstsq(np.array(distances)[:, None], upto, rcond=None)[0][0]
        assert row["bid_slope"] == pytest.approx(slope)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60 * 24), max_size=5))
def test_any_portions_give_the_same_bits(cuts) -> None:
    books = random_books(60)
    options = {"trade_size": 5.0, "levels": (1, 5), "memory": 10}
    flow, borders = DepthFlow(M1, **options), [0, *sorted(cuts), len(books)]
    # Portions may cut a book in two, but the order within a book must hold in each: cut between books.
    borders = sorted({border // 24 * 24 for border in borders})
    parts = [flow.update(books.iloc[a:b]) for a, b in pairwise(borders)]
    pd.testing.assert_frame_equal(
        pd.concat(parts), depth_flow(books, M1, **options), check_exact=True, check_freq=False
    )


def test_a_bar_holds_its_last_book_and_the_means_of_all() -> None:
    books = random_books(60)
    shape = depth_shape(books, trade_size=5.0, levels=(1, 5))
    found = depth_flow(books, M1, trade_size=5.0, levels=(1, 5), memory=10)
    minute = shape.index.floor("1min")
    last, mean = shape.groupby(minute).last().iloc[:-1], shape.groupby(minute).mean().iloc[:-1]
    for name in shape.columns:
        np.testing.assert_array_equal(found[name], last[name])
    for name in ("spread_bps", "imbalance_1", "imbalance_5"):
        np.testing.assert_allclose(found[f"mean_{name}"], mean[name], rtol=1e-12)
    depth = shape["depth"].to_numpy()
    ends = shape.reset_index().groupby(minute).apply(lambda part: part.index[-1]).to_numpy()[:-1]
    for row, end in zip(found["resilience"], ends, strict=True):
        if end < 9:
            assert np.isnan(row)
            continue
        window = depth[end - 9 : end + 1]
        assert row == pytest.approx(-np.polyfit(window[:-1], np.diff(window), 1)[0])


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_resilience_is_the_share_made_up_from_book_to_book(share) -> None:
    """Kempf et al. 2015, equation 1: dL = a - kappa L + e, with a known kappa."""
    generator = np.random.default_rng(6)
    depth = np.full(6_000, 50.0)
    for i in range(1, depth.size):
        depth[i] = depth[i - 1] - share * (depth[i - 1] - 50.0) + generator.normal()
    assert resilience_at(depth, np.array([depth.size - 1]), depth.size)[0] == pytest.approx(share, abs=0.03)
    assert np.isnan(resilience_at(np.full(50, 5.0), np.array([49]), 20)[0])


def test_a_crossed_or_one_sided_book_says_nothing() -> None:
    books = random_books(3)
    crossed = books.copy()
    crossed.loc[crossed.index[30], "price"] += np.where(crossed.loc[crossed.index[30], "side"] == 1, 50.0, 0.0)
    found = depth_shape(crossed, trade_size=1.0)
    assert found.iloc[1].isna().all()
    assert found.iloc[[0, 2]].notna().all(axis=None)
    one_sided = books[(books["side"] == 1) | (books.index != books.index[-1])]
    assert depth_shape(one_sided, trade_size=1.0).iloc[-1].isna().all()


def test_what_is_refused() -> None:
    books = random_books(2)
    for bad in ({"trade_size": 0.0}, {"trade_size": 1.0, "levels": ()}, {"trade_size": 1.0, "levels": (5, 5)}):
        with pytest.raises(ConfigurationError):
            depth_shape(books, **bad)
    with pytest.raises(ConfigurationError, match="memory = 2"):
        DepthFlow(M1, trade_size=1.0, memory=2)
    with pytest.raises(SchemaError, match="level"):
        depth_shape(books.drop(columns="level"), trade_size=1.0)
    for broken in (books.assign(side=np.int8(0)), books.drop(columns="side").assign(side=np.int8(1)), books.iloc[1:]):
        with pytest.raises(DataError, match="does not follow"):
            depth_shape(broken, trade_size=1.0)
    with pytest.raises(SchemaError, match="side"):
        depth_shape(books.assign(side="bid"), trade_size=1.0)
    with pytest.raises(DataError, match="level is nan"):
        depth_shape(books.assign(level=np.nan), trade_size=1.0)
    with pytest.raises(DataError, match="size is -1"):
        depth_shape(books.assign(size=-1.0), trade_size=1.0)


def test_features_of_recorded_books(test_data: Path) -> None:
    _, _, depth = futures(test_data)
    options = {"trade_size": 0.2, "levels": (1, 5, 20), "memory": 100}
    flow = depth_flow(depth, "S5", **options)
    assert len(flow) > 60
    assert (flow["spread_bps"] > 0).all(), "the live book is never crossed"
    assert flow["resilience"].dropna().between(0.0, 1.5).all()
    assert (flow["buy_cost_bps"] >= flow["spread_bps"] / 2 - 1e-9).all()
    bars = make_bars(len(flow), timeframe="S5").set_axis(flow.index)
    bars["close_ts"] = flow["known_at"]
    entries = ({"component": "depth_imbalance"}, {"component": "microprice_offset"}, {"component": "book_cost"})
    chosen = parse_feature_set({"name": "mine", "feature": [*entries, {"component": "book_state", "window": 5}]})
    found = compute(chosen, join_flow(bars, Timeframe.parse("S5"), flow, prefix="book_"), Timeframe.parse("S5"))
    np.testing.assert_allclose(found["depth_imbalance_5"], flow["imbalance_5"], rtol=1e-6)
    assert found["microprice_offset"].between(-0.5, 0.5).all()
    assert (found["trade_cost"].dropna() >= 0.999).all()
    assert found.iloc[30:].notna().all(axis=None)
    # More bids than asks, and the mid is higher five seconds later.
    ahead = flow["mid"].shift(-1) - flow["mid"]
    assert np.corrcoef(flow["imbalance_20"][:-1], ahead[:-1])[0, 1] > 0.0
