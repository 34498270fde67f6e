"""Divergences against a slow search, and bar by bar as on the whole history."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tapeline.alerts.backtest import backtest_rule
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.kinds.divergence import REACH, SPAN, DivergenceFeed, divergences, from_history
from tapeline.alerts.rule import Rule
from tests.support import make_bars

HOUR = TIMEFRAMES["1h"]


@pytest.fixture(scope="module")
def bars():
    return make_bars(1_500, seed=11, gaps=False)


def slow(high, low, values) -> np.ndarray:
    """Pivots first, then each with the one before it."""
    found = np.zeros(len(high), int)
    for side, prices in ((1, low), (-1, -high)):
        pivots = [
            at
            for at in range(SPAN, len(high) - SPAN)
            if prices[at] < min(*prices[at - SPAN : at], *prices[at + 1 : at + SPAN + 1])
        ]
        for before, at in pairwise(pivots):
            if at - before <= REACH and prices[at] < prices[before] and side * values[at] > side * values[before]:
                found[at + SPAN] = side
    return found


@pytest.mark.parametrize("indicator", ["rsi", "macd"])
def test_divergences_are_those_of_a_slow_search(bars, indicator) -> None:
    talib = pytest.importorskip("talib")
    close = bars["close"].to_numpy()
    values = talib.RSI(close, 14) if indicator == "rsi" else talib.MACD(close, 12, 26, 9)[0]
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    expected = slow(high, low, values)
    assert {-1, 1} <= set(expected.tolist())
    assert divergences(high, low, values, SPAN, REACH).tolist() == expected.tolist()
    records = from_history({f"divergence:{indicator}:1h"}, "A", lambda _: bars)
    assert [one.value for one in records] == expected[expected != 0].tolist()
    assert [one.ts for one in records] == bars["close_ts"][expected != 0].astype("int64").tolist()


@pytest.mark.parametrize("indicator", ["rsi", "macd"])
def test_bar_by_bar_the_same_is_told(bars, indicator) -> None:
    feed = DivergenceFeed("A", indicator, HOUR)
    some = bars.iloc[:500]
    found = [record for bar in some.itertuples() for record in feed.push(*bar)]
    expected = from_history({feed.key}, "A", lambda _: some)
    assert len(expected) >= 3
    assert found == expected


def test_a_rule_hears_of_them_on_history(bars) -> None:
    rule = Rule(id="r", owner="me", condition='divergence("rsi", "up")', symbols=("A",), timeframe="1h")
    expected = [one.ts for one in from_history({"divergence:rsi:1h"}, "A", lambda _: bars) if one.value == 1.0]
    assert backtest_rule(rule, bars).firings["ts"].astype("int64").tolist() == expected
