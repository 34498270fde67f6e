"""SuperTrend against its recursion written out bar by bar, and its turns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.supertrend import (
    GRID,
    find_trend,
    supertrend,
    supertrend_consensus,
    supertrend_flip,
    supertrend_state,
)
from tapeline.charts.synthetic import random_walk
from tests.core.samples import eurusd


def plain(bars: pd.DataFrame, window: int, multiple: float) -> list[tuple[float, int]]:
    high, low, close = (bars[name].tolist() for name in ("high", "low", "close"))
    ranges = [max(high[t], close[t - 1]) - min(low[t], close[t - 1]) for t in range(1, len(bars))]
    found = [(float("nan"), 0)] * window
    usual = sum(ranges[: window - 1])
    upper = lower = side = None
    for t in range(window, len(bars)):
        usual = sum(ranges[:window]) / window if t == window else usual + (ranges[t - 1] - usual) / window
        middle = (high[t] + low[t]) / 2
        above, below = middle + multiple * usual, middle - multiple * usual
        if side is None:
            upper, lower, side = above, below, 1 if close[t] > middle else -1
        else:
            if above < upper or close[t - 1] > upper:
                upper = above
            if below > lower or close[t - 1] < lower:
                lower = below
            if side == 1 and close[t] < lower:
                side = -1
            elif side == -1 and close[t] > upper:
                side = 1
        found.append((lower if side == 1 else upper, side))
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 20), st.floats(0.5, 5.0))
def test_it_is_the_published_recursion(seed, window, multiple):
    bars = random_walk(150, seed=seed, volatility=0.004)
    mine = find_trend(bars, window, multiple)
    line, direction = zip(*plain(bars, window, multiple), strict=True)
    np.testing.assert_allclose(mine.line, line, rtol=1e-10)
    np.testing.assert_array_equal(mine.direction, direction)


def test_the_line_never_leaves_price_while_a_trend_lasts():
    bars = eurusd().iloc[:2000]
    found = find_trend(bars)
    same = found.direction[1:] == found.direction[:-1]
    step = np.diff(found.line) * found.direction[1:]
    assert (step[same & (found.direction[1:] != 0)] >= -1e-12).all()
    beyond = (bars["close"].to_numpy() - found.line) * found.direction
    assert (beyond[found.direction != 0] >= 0).all()


def test_turns_are_the_changes_of_direction():
    bars = eurusd().iloc[:2000]
    direction = find_trend(bars).direction
    turns = supertrend_flip(bars)
    rows = [t for t in range(1, 2000) if direction[t] * direction[t - 1] == -1]
    assert turns["confirmed_at"].tolist() == bars["close_ts"].iloc[rows].tolist()
    assert turns["direction"].tolist() == direction[rows].tolist()
    assert turns["invalidated_at"].iloc[:-1].tolist() == turns["confirmed_at"].iloc[1:].tolist()
    assert len(rows) > 20
    age = supertrend_state(bars)["supertrend_age_10"].to_numpy()
    assert (age[rows] == 0).all()
    assert age[rows[3] + 4] == 4


def test_the_consensus_is_the_mean_vote():
    bars = eurusd().iloc[:1500]
    votes = [find_trend(bars, window, multiple).direction for window, multiple in GRID]
    told = supertrend_consensus(bars)
    t = np.arange(100, 1500)
    np.testing.assert_allclose(told["supertrend_consensus"].to_numpy()[t], np.mean(votes, axis=0)[t])
    majority = [max((np.array(votes)[:, i] == side).mean() for side in (1, -1)) for i in t]
    np.testing.assert_allclose(told["supertrend_agreement"].to_numpy()[t], majority)


def test_a_hole_starts_it_afresh():
    bars = eurusd().iloc[:300].copy()
    bars.iloc[150, bars.columns.get_loc("close")] = np.nan
    line = supertrend(bars)
    assert line.iloc[151:161].isna().all()
    pd.testing.assert_series_equal(line.iloc[151:], supertrend(bars.iloc[151:]))
    assert supertrend(bars.iloc[:5]).isna().all()
    assert pytest.approx(line.iloc[140]) == find_trend(eurusd().iloc[:300]).line[140]
