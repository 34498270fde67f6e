"""Touches, rejections and breaks, zones and positions against plain loops over the same legs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.fibonacci import RETRACEMENTS
from tapeline.charts.fibonacci_levels import fibonacci_confluence, fibonacci_level, fibonacci_position
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import bars_through, random_walk
from tests.core.samples import eurusd


@pytest.fixture(scope="module")
def walk():
    return random_walk(1_500, seed=9)


def plain_level_events(bars, clear):
    """Each level of each leg on its own, bar by bar, as the docstring says."""
    high, low, close = (bars[name].tolist() for name in ("high", "low", "close"))
    usual = mean_true_range(bars, 14)
    pivots = find_pivots(bars)
    found = []
    for i in range(1, len(pivots)):
        start, end, side = pivots.price[i - 1], pivots.price[i], int(pivots.side[i])
        last = pivots.confirmed[i + 1] if i + 1 < len(pivots) else len(bars) - 1
        for ratio in RETRACEMENTS:
            level = end - ratio * (end - start)
            reached = [
                t for t in range(pivots.row[i] + 1, last + 1) if (low[t] <= level if side > 0 else high[t] >= level)
            ]
            if not reached or reached[0] <= pivots.confirmed[i]:
                continue
            found.append(("fibonacci_touch", reached[0], side, ratio, start, end, level))
            for t in range(reached[0], last + 1):
                away = side * (close[t] - level)
                if abs(away) >= clear * usual[t]:
                    kind = "fibonacci_rejection" if away > 0 else "fibonacci_break"
                    found.append((kind, t, side if away > 0 else -side, ratio, start, end, level))
                    break
    return found


@pytest.mark.parametrize("clear", [0.25, 1.0])
def test_events_at_levels_are_those_of_a_plain_loop(walk, clear):
    found = fibonacci_level(walk, clear=clear)
    expected = plain_level_events(walk, clear)
    assert {kind for kind, *_ in expected} == {"fibonacci_touch", "fibonacci_rejection", "fibonacci_break"}
    rows = {at: row for row, at in enumerate(walk["close_ts"])}
    got = sorted(
        zip(
            found["kind"],
            found["confirmed_at"].map(rows),
            found["direction"],
            found["score"],
            found["low"],
            strict=True,
        )
    )
    assert got == sorted((kind, int(t), way, ratio, pytest.approx(at)) for kind, t, way, ratio, _, _, at in expected)
    ends = {(t, ratio, kind): (start, end) for kind, t, _, ratio, start, end, _ in expected}
    for event in found.itertuples():
        start, end = ends[rows[event.confirmed_at], event.score, event.kind]
        assert (event.target, event.stop) == ((start, end) if event.kind == "fibonacci_break" else (end, start))
        assert [point["price"] for point in event.points] == [start, end, event.low]


def test_a_level_traded_before_the_leg_was_known_is_not_touched_again():
    # From 110 by 1.7 a bar: the second of these bars, down to 106.6, confirms the high and has passed 0.236 at 107.64;
    # the third trades at 0.382 and 0.5. Price is back at 107.64 later, which is no first touch.
    bars = bars_through([(0, 108.0), (20, 100.0), (40, 110.0), (43, 104.9), (80, 118.0)])
    assert find_pivots(bars).confirmed[2] == 42
    found = fibonacci_level(bars)
    mine = found[(found["direction"] == 1) & (found["kind"] == "fibonacci_touch") & (found["stop"] == 100.0)]
    assert mine["score"].tolist() == [0.382, 0.5]
    assert (mine["confirmed_at"] == bars["close_ts"].iloc[43]).all()


def plain_zones(bars, legs, least, width):
    """From each level upwards as wide as allowed, for each pivot by itself."""
    usual, close = mean_true_range(bars, 14), bars["close"].to_numpy()
    pivots = find_pivots(bars)
    found = []
    for i in range(legs, len(pivots)):
        at = pivots.confirmed[i]
        levels = sorted(
            (pivots.price[i - j] - ratio * (pivots.price[i - j] - pivots.price[i - j - 1]), j)
            for j in range(legs)
            for ratio in (*RETRACEMENTS, 1.272, 1.618)
        )
        while levels:
            group = [one for one in levels if one[0] <= levels[0][0] + width * usual[at]]
            owners = {j for _, j in group}
            if len(owners) >= least and 0 in owners:
                low, high = group[0][0], group[-1][0]
                if not low <= close[at] <= high:
                    found.append((int(at), 1 if high < close[at] else -1, low, high, len(owners) / legs))
                levels = levels[len(group) :]
            else:
                levels = levels[1:]
    return found


@pytest.mark.parametrize(("legs", "least", "width"), [(4, 3, 0.1), (3, 2, 0.3)])
def test_zones_are_those_of_a_plain_loop(walk, legs, least, width):
    found = fibonacci_confluence(walk, legs=legs, least=least, width=width, max_age=60)
    expected = plain_zones(walk, legs, least, width)
    assert len(expected) > 5
    rows = {at: row for row, at in enumerate(walk["close_ts"])}
    got = [
        *zip(
            found["confirmed_at"].map(rows),
            found["direction"],
            found["low"],
            found["high"],
            found["score"],
            strict=True,
        )
    ]
    assert got == [(t, way, pytest.approx(low), pytest.approx(high), score) for t, way, low, high, score in expected]
    close = walk["close"].to_numpy()
    for (t, way, low, high, _), gone in zip(expected, found["invalidated_at"], strict=True):
        through = [s for s in range(t + 1, len(close)) if (close[s] < low if way > 0 else close[s] > high)]
        until = min([*through[:1], t + 60])
        assert gone is pd.NaT if until >= len(close) else gone == walk["close_ts"].iloc[until]


def test_the_position_is_that_in_the_last_confirmed_leg(walk):
    got = fibonacci_position(walk)
    pivots, usual, close = find_pivots(walk), mean_true_range(walk, 14), walk["close"].to_numpy()
    assert got.columns.tolist() == ["fibonacci_position_3.0", "fibonacci_distance_3.0"]
    for t in range(0, len(walk), 7):
        known = [i for i in range(len(pivots)) if pivots.confirmed[i] <= t]
        if len(known) < 2:
            assert got.iloc[t].isna().all()
            continue
        end, start = pivots.price[known[-1]], pivots.price[known[-2]]
        levels = [end + ratio * (start - end) for ratio in (0.0, *RETRACEMENTS, 1.0)]
        nearest = min(levels, key=lambda level, here=close[t]: abs(here - level))
        assert got.iloc[t].tolist() == pytest.approx(
            [(end - close[t]) / (end - start), (close[t] - nearest) / usual[t]]
        )


def test_real_bars_have_events_of_each_kind():
    bars = eurusd()
    levels, zones, position = fibonacci_level(bars), fibonacci_confluence(bars), fibonacci_position(bars)
    assert set(levels["kind"]) == {"fibonacci_touch", "fibonacci_rejection", "fibonacci_break"}
    assert set(levels["score"]) == set(RETRACEMENTS)
    assert levels["id"].is_unique
    assert zones["score"].isin([0.75, 1.0]).all()
    assert set(zones["direction"]) == {-1, 1}
    assert np.isfinite(position.iloc[500:]).all(axis=None)
    # At each touch the close or the wick is at the level, so the position of the bar before lay short of it.
    touch = levels[levels["kind"] == "fibonacci_touch"]
    before = position["fibonacci_position_3.0"].shift(1).loc[touch["end"]]
    assert (before.to_numpy() < touch["score"].to_numpy()).mean() > 0.98


def test_few_bars_hold_nothing():
    bars = random_walk(20)
    assert fibonacci_level(bars).empty
    assert fibonacci_confluence(bars).empty
    assert fibonacci_position(bars).isna().all(axis=None)
