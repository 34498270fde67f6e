"""Trade flow per bar: equal to a slow count, the same in any portions, from nothing that came after the close."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.builder import build_candles
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.features.flow_bars import join_flow
from tapeline.features.trade_flow import TradeFlow, trade_flow, trades_of_ticks
from tests.features.recorded_flow import futures
from tests.support import make_bars

M1 = Timeframe.parse("M1")
START = pd.Timestamp("2017-01-02", tz="UTC")


def random_trades(rows: int, seed: int = 0, seconds: float = 7.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    steps = generator.exponential(seconds * 1e9, rows).astype(np.int64)
    ts = pd.DatetimeIndex(START.as_unit("ns").value + np.cumsum(steps), tz="UTC", name="ts")
    price = 100.0 + np.cumsum(generator.integers(-1, 2, rows)) * 0.25
    side = generator.integers(-1, 2, rows).astype(np.int8)
    return pd.DataFrame({"price": price, "size": generator.exponential(2.0, rows) + 0.01, "side": side}, index=ts)


def slow_flow(trades: pd.DataFrame, memory: int, multiple: float) -> pd.DataFrame:
    """Bar by bar and trade by trade, in plain Python."""
    rows, before, sign, total, past = [], math.nan, 0, 0.0, []
    bars: dict[pd.Timestamp, list] = {}
    for ts, price, size, side in zip(trades.index, trades["price"], trades["size"], trades["side"], strict=True):
        bars.setdefault(ts.floor("1min"), []).append((price, size, side))
    for ts, inside in list(bars.items())[:-1]:
        row = dict.fromkeys(("trade_count", "buy_count", "sell_count", "uptick_count", "downtick_count"), 0)
        row |= dict.fromkeys(("traded", "bought", "sold", "large", "signed_root_value"), 0.0)
        known = past[-memory:] if len(past) >= memory else []
        limit = multiple * sum(v for v, _ in known) / sum(n for _, n in known) if known else math.nan
        for price, size, side in inside:
            row["uptick_count"] += price > before
            row["downtick_count"] += price < before
            sign = 1 if price > before else -1 if price < before else sign
            before = price
            taken = side or sign
            row["trade_count"] += 1
            row["buy_count"] += taken > 0
            row["sell_count"] += taken < 0
            row["traded"] += size
            row["bought"] += size if taken > 0 else 0.0
            row["sold"] += size if taken < 0 else 0.0
            row["large"] += size if size >= limit else 0.0
            row["signed_root_value"] += taken * math.sqrt(price * size)
        if not known:
            row["large"] = math.nan
        total += row["bought"] - row["sold"]
        row |= {"delta": row["bought"] - row["sold"], "cumulative_delta": total}
        row |= {"mean_size": row["traded"] / row["trade_count"], "large_share": row["large"] / row["traded"]}
        past.append((row["traded"], row["trade_count"]))
        rows.append({"ts": ts, **row})
    return pd.DataFrame(rows).set_index("ts")


def test_the_flow_equals_a_slow_count() -> None:
    trades = random_trades(900)
    found = trade_flow(trades, M1, memory=5, large_multiple=2.0)
    expected = slow_flow(trades, 5, 2.0)
    assert (found["known_at"] == found.index + pd.Timedelta("1min")).all()
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False, rtol=1e-12, check_freq=False)
    assert found["large"].iloc[:5].isna().all()
    assert 0.05 < found["large_share"].iloc[5:].mean() < 0.9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=6), st.integers(0, 3))
def test_any_portions_give_the_same_bits(cuts, seed) -> None:
    trades = random_trades(300, seed)
    whole = trade_flow(trades, M1, memory=3, reset="H1", now=trades.index[-1] + M1.duration)
    flow = TradeFlow(M1, memory=3, reset="H1")
    borders = [0, *sorted(cuts), len(trades)]
    parts = [flow.update(trades.iloc[a:b]) for a, b in pairwise(borders)]
    parts.append(flow.update(trades.iloc[:0], now=trades.index[-1] + M1.duration))
    pd.testing.assert_frame_equal(pd.concat(parts), whole, check_exact=True, check_freq=False)


def test_volume_and_bars_are_those_of_the_candles() -> None:
    trades = random_trades(500)
    flow, bars = trade_flow(trades, M1), build_candles(trades, TimeCandles("M1"))
    assert flow.index.equals(bars.index)
    np.testing.assert_allclose(flow["traded"], bars["volume"], rtol=1e-14)
    np.testing.assert_array_equal(flow["trade_count"], bars["tick_count"])
    assert (flow["known_at"] == bars["close_ts"]).all()


def test_what_was_received_after_the_close_is_not_in_the_bar() -> None:
    trades = random_trades(400)
    known = trades.index + pd.Timedelta("2s")
    late = trades.assign(known_at=known)
    flow = TradeFlow(M1)
    found = flow.update(late)
    in_time = known <= trades.index.floor("1min") + pd.Timedelta("1min")
    assert 0 < flow.late == (~in_time).sum() < 60
    expected = trade_flow(trades[in_time], M1)
    pd.testing.assert_frame_equal(found.loc[expected.index], expected, check_exact=True, check_freq=False)
    # Rows of a bar that is closed already, arriving in a portion of their own, are late, too.
    assert flow.update(late[~in_time].iloc[-1:]).empty
    assert flow.late == (~in_time).sum() + 1


def test_no_row_after_the_close_changes_a_bar() -> None:
    trades = random_trades(400)
    whole = trade_flow(trades, M1, memory=3)
    for cut in (50, 170, 333):
        end = trades.index[cut].floor("1min")
        shocked = trades.copy()
        shocked.loc[end:, ["price", "size"]] *= 1000.0
        now = trade_flow(shocked, M1, memory=3)
        pd.testing.assert_frame_equal(now.loc[: end - M1.duration], whole.loc[: end - M1.duration], check_exact=True)


def test_unknown_sides_may_be_left_and_the_delta_may_be_reset() -> None:
    trades = random_trades(2_000)
    left = trade_flow(trades, M1, unknown_side="leave")
    some = trades["side"].groupby(trades.index.floor("1min")).agg(lambda s: (s > 0).sum())
    np.testing.assert_array_equal(left["buy_count"], some.iloc[:-1])
    hourly = trade_flow(trades, M1, reset="H1")
    by_hour = hourly["delta"].groupby(hourly.index.floor("1h")).cumsum()
    np.testing.assert_allclose(hourly["cumulative_delta"], by_hour, atol=1e-9)
    assert trade_flow(trades, M1)["cumulative_delta"].iloc[-1] == pytest.approx(hourly["delta"].sum())


def test_ticks_count_as_trades_of_one() -> None:
    ts = pd.to_datetime(["2017-01-02 00:00:01", "2017-01-02 00:00:02", "2017-01-02 00:00:03"], utc=True)
    ticks = pd.DataFrame(
        {"bid": [1.0, 1.5, 1.25], "ask": [1.5, 2.0, 1.75], "last": np.nan, "volume": np.nan, "flags": 6}, index=ts
    )
    row = trade_flow(trades_of_ticks(ticks), M1, now=START + M1.duration).iloc[0]
    assert row[["trade_count", "uptick_count", "downtick_count", "traded", "delta"]].tolist() == [3, 1, 1, 3, 0]
    with pytest.raises(SchemaError, match="flags"):
        trades_of_ticks(ticks.drop(columns="flags"))


def test_a_refused_portion_changes_nothing() -> None:
    trades = random_trades(200)
    flow = TradeFlow(M1)
    first = flow.update(trades.iloc[:100])
    for bad, error in (
        (trades.iloc[:50], "comes after"),
        (trades.iloc[100:].assign(size=-1.0), "size is -1"),
        (trades.iloc[100:][::-1], "ts decreases"),
    ):
        with pytest.raises(DataError, match=error):
            flow.update(bad)
    both = pd.concat([first, flow.update(trades.iloc[100:])])
    pd.testing.assert_frame_equal(both, trade_flow(trades, M1), check_exact=True, check_freq=False)
    flow.update(trades.iloc[:0], now=trades.index[-1] + pd.Timedelta("5min"))
    with pytest.raises(DataError, match="known_at"):
        flow.update(trades.iloc[-1:])


@pytest.mark.parametrize(
    "options",
    [{"memory": 0}, {"large_size": -1.0}, {"large_multiple": math.inf}, {"unknown_side": "x"}, {"reset": "S30"}],
)
def test_bad_parameters_are_refused(options) -> None:
    with pytest.raises(ConfigurationError):
        TradeFlow(M1, **options)


def test_a_feature_set_reads_the_flow_of_its_own_bars_only() -> None:
    trades = random_trades(3_000)
    bars = build_candles(trades, TimeCandles("M1"))[["open", "high", "low", "close", "volume"]]
    flow = trade_flow(trades, M1)
    chosen = parse_feature_set(
        {
            "name": "flow",
            "feature": [
                {"component": name, "window": 5}
                for name in ("flow_imbalance", "large_trade_share", "kyle_impact", "hasbrouck_impact", "tick_balance")
            ],
        }
    )
    joined = join_flow(bars, M1, flow, prefix="flow_")
    found = compute(chosen, joined, M1)
    expected = flow["delta"].rolling(5).sum() / (flow["bought"] + flow["sold"]).rolling(5).sum()
    np.testing.assert_allclose(found["flow_imbalance_5"], expected, rtol=1e-5, atol=1e-6)
    assert found.iloc[60:].notna().all(axis=None)
    tail = compute(chosen, joined, M1, tail=3)
    np.testing.assert_allclose(tail.iloc[:, 1:], found.iloc[-3:, 1:], rtol=1e-5)
    with pytest.raises(ConfigurationError, match="flow_bought"):
        compute(chosen, bars, M1)
    # A bar without flow of its own does not get the flow of the one before.
    holed = join_flow(bars, M1, flow.drop(flow.index[10]), prefix="flow_")
    assert holed["flow_bought"].isna().sum() == 1 + joined["flow_bought"].isna().sum()
    with pytest.raises(DataError, match="no close of a M1 bar"):
        join_flow(bars, M1, trade_flow(trades, "M5"), prefix="flow_")


def test_a_bar_that_traded_nothing_has_nothing_bought() -> None:
    bars = make_bars(5, timeframe="M1")
    bars.iloc[2, bars.columns.get_loc("volume")] = 0.0
    flow = pd.DataFrame({"known_at": bars["close_ts"].iloc[:2], "bought": 1.0, "mean_size": 2.0})
    joined = join_flow(bars, M1, flow, prefix="flow_")
    np.testing.assert_array_equal(joined["flow_bought"], [1.0, 1.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(joined["flow_mean_size"], [2.0, 2.0, np.nan, np.nan, np.nan])


def test_the_flow_of_recorded_trades_adds_up_and_moves_price(test_data: Path) -> None:
    trades, _, _ = futures(test_data)
    flow = trade_flow(trades, "S1", now=trades.index[-1] + pd.Timedelta("1s"))
    assert flow["trade_count"].sum() == len(trades)
    assert flow["bought"].sum() == pytest.approx(trades.loc[trades["side"] > 0, "size"].sum())
    bars = build_candles(trades, TimeCandles("S1"), now=trades.index[-1] + pd.Timedelta("1s"))
    together = np.corrcoef(np.log(bars["close"]).diff()[1:], flow["delta"][1:])[0, 1]
    assert together > 0.4, "net buying and rising prices go together"
