"""Signs of trades: the rules as published, and how often they are right where the true side is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError, SchemaError
from tapeline.features.trade_sign import bulk_buy_share, lee_ready, quote_rule, tick_rule, tick_signs
from tapeline.streams.messages import Quote, Trade
from tests.features.recorded_flow import futures
from tests.streams.sessions import SESSIONS


def slow_tick_rule(prices: list[float]) -> list[int]:
    signs, last = [], 0
    for i, price in enumerate(prices):
        if i and price != prices[i - 1]:
            last = 1 if price > prices[i - 1] else -1
        signs.append(last)
    return signs


@settings(deadline=None)
@given(st.lists(st.sampled_from([1.0, 1.5, 2.0]), max_size=40), st.integers(0, 40))
def test_the_tick_rule_equals_the_slow_one_and_goes_on_after_a_cut(prices, cut) -> None:
    whole = tick_rule(prices)
    assert whole.tolist() == slow_tick_rule(prices)
    head, tail = np.array(prices[:cut]), np.array(prices[cut:])
    first = tick_signs(head, np.nan, 0)
    last = (head[-1], int(first[-1])) if head.size else (np.nan, 0)
    np.testing.assert_array_equal(np.concatenate((first, tick_signs(tail, *last))), whole)


def test_lee_and_ready_on_every_place_of_a_trade_in_the_spread() -> None:
    """Lee and Ready 1991, figure 3: at the quotes and inside them by the middle, at the middle by the tick."""
    ts = pd.date_range("2014-05-01 10:00", periods=7, freq="1s", tz="UTC")
    prices = [10.5, 11.0, 10.5, 10.75, 10.25, 10.5, 10.0]
    trades = pd.DataFrame({"price": prices}, index=ts)
    quotes = pd.DataFrame({"bid": [10.0], "ask": [11.0]}, index=ts[:1])
    # At the middle: nothing known, then after a fall, then after a rise.
    assert lee_ready(trades, quotes).tolist() == [0, 1, -1, 1, -1, 1, -1]
    assert quote_rule(prices, 10.0, 11.0).tolist() == [0, 1, 0, 1, -1, 0, -1]


def test_a_quote_counts_only_once_it_is_older_than_the_lag() -> None:
    ts = pd.DatetimeIndex(["2014-05-01 10:00:00", "2014-05-01 10:00:04"], tz="UTC")
    trades = pd.DataFrame({"price": [10.9]}, index=pd.DatetimeIndex(["2014-05-01 10:00:06"], tz="UTC"))
    quotes = pd.DataFrame({"bid": [10.0, 11.0], "ask": [11.0, 12.0]}, index=ts)
    assert lee_ready(trades, quotes).tolist() == [-1]
    assert lee_ready(trades, quotes, lag=pd.Timedelta("5s")).tolist() == [1]


def test_crossed_and_absent_quotes_decide_nothing() -> None:
    assert quote_rule([10.0, 10.0], [11.0, np.nan], [9.0, 9.0]).tolist() == [0, 0]


def test_bulk_classification_is_the_normal_distribution() -> None:
    from scipy.stats import norm

    change = np.linspace(-4.0, 4.0, 41)
    np.testing.assert_allclose(bulk_buy_share(change, np.full(41, 1.5)), norm.cdf(change / 1.5), atol=1e-15)
    limits = bulk_buy_share(np.array([0.0, 1.0, -1.0, 1.0]), np.array([0.0, 0.0, 0.0, np.nan]))
    np.testing.assert_array_equal(limits, [0.5, 1.0, 0.0, np.nan])


def test_how_often_the_rules_are_right_on_a_recorded_futures_market(test_data: Path) -> None:
    trades, quotes, _ = futures(test_data)
    side = trades["side"].to_numpy()
    by_tick = np.mean(tick_rule(trades["price"]) == side)
    at_once = np.mean(lee_ready(trades, quotes).to_numpy() == side)
    before = np.mean(lee_ready(trades, quotes, lag=pd.Timedelta(1, "ns")).to_numpy() == side)
    assert len(trades) == 21_313
    assert by_tick == pytest.approx(0.969, abs=0.001)
    # The quote of the same instant is the one that the trade left behind.
    assert at_once == pytest.approx(0.961, abs=0.001)
    assert before == pytest.approx(0.989, abs=0.001)


def test_how_often_the_tick_rule_is_right_on_the_spot_market(test_data: Path) -> None:
    trades = [
        item.record for item in SESSIONS["binance spot 2024"].records(test_data) if isinstance(item.record, Trade)
    ]
    right = tick_rule([trade.price for trade in trades]) == np.array([trade.side for trade in trades])
    assert len(trades) == 9_757
    assert right.mean() == pytest.approx(0.969, abs=0.001)


def test_quotes_tell_more_than_ticks_on_thin_markets(test_data: Path) -> None:
    """Five perpetual contracts of 2021, few trades each: the tick rule knows little, the quote nearly all."""
    trades: dict[str, list] = {}
    quotes: dict[str, list] = {}
    for item in SESSIONS["binance futures 2021"].records(test_data):
        record = item.record
        if isinstance(record, Trade):
            trades.setdefault(str(record.symbol), []).append((record.ts, record.price, record.side))
        elif isinstance(record, Quote):
            quotes.setdefault(str(record.symbol), []).append((record.ts, record.bid, record.ask))
    ticks, both = [], []
    for symbol, rows in trades.items():
        frame = pd.DataFrame(rows, columns=["ts", "price", "side"]).assign(
            ts=lambda f: pd.to_datetime(f["ts"], utc=True)
        )
        frame = frame.set_index("ts").sort_index(kind="stable")
        quoted = pd.DataFrame(quotes[symbol], columns=["ts", "bid", "ask"])
        quoted = quoted.set_index(pd.DatetimeIndex(pd.to_datetime(quoted.pop("ts"), utc=True)))
        ticks += (tick_rule(frame["price"]) == frame["side"]).tolist()
        both += (lee_ready(frame, quoted, lag=pd.Timedelta(1, "ns")) == frame["side"]).tolist()
    assert len(both) == 91
    assert np.mean(both) > 0.95
    assert np.mean(ticks) < 0.85


@pytest.mark.parametrize(
    ("file", "share"), [("orderflow/public_trades_list.csv", 0.972), ("XRP_ETH-trades.feather", 0.837)]
)
def test_how_often_the_tick_rule_is_right_on_other_recordings(test_data: Path, file, share) -> None:
    path = test_data / "data/freqtrade" / file
    trades = pd.read_csv(path) if path.suffix == ".csv" else pd.read_feather(path)
    side = np.where(trades["side"] == "buy", 1, -1)
    assert np.mean(tick_rule(trades["price"]) == side) == pytest.approx(share, abs=0.001)


def test_what_is_refused() -> None:
    ts = pd.DatetimeIndex(["2014-05-01 10:00"], tz="UTC")
    trades, quotes = pd.DataFrame({"price": [1.0]}, index=ts), pd.DataFrame({"bid": [1.0], "ask": [2.0]}, index=ts)
    with pytest.raises(SchemaError, match="ask"):
        lee_ready(trades, quotes[["bid"]])
    with pytest.raises(DataError, match="lag"):
        lee_ready(trades, quotes, lag=pd.Timedelta("-1s"))
