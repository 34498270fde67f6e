"""Trendlines against a loop over all triples of pivots; their touches, breaks and retests against a loop over bars."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.line_kernels import REACH
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import bars_through, random_walk
from tapeline.charts.trendlines import find_lines, trendline
from tests.core.samples import eurusd


@pytest.fixture(scope="module", params=["walk", "real"])
def bars(request):
    return random_walk(2500, seed=6) if request.param == "walk" else eurusd().iloc[:2500]


def triples_by_the_rules(bars, tolerance=0.25, min_gap=5, max_span=300):
    pivots, close = find_pivots(bars, 2.0), bars["close"].to_numpy()
    usual = mean_true_range(bars, 14)
    found, anchors = [], set()
    for k in range(len(pivots)):
        known, side = int(pivots.confirmed[k]), int(pivots.side[k])
        near = tolerance * usual[known]
        mine = [p for p in range(k) if pivots.side[p] == side and pivots.row[k] - pivots.row[p] <= max_span]
        mine = mine[-REACH:]
        if not near > 0:
            continue
        for i in mine:
            best = None
            for j in (p for p in mine if p > i):
                x, y = pivots.row[[i, j]].astype(float), pivots.price[[i, j]]
                slope = (y[1] - y[0]) / (x[1] - x[0])

                def inside(p, i=i, slope=slope, side=side):
                    line = pivots.price[i] + slope * (pivots.row[p] - pivots.row[i])
                    return side * (line - pivots.price[p])

                rows = np.arange(pivots.row[i], known + 1)
                beyond = side * (close[rows] - y[0] - slope * (rows - x[0]))
                before = [p for p in range(i) if pivots.side[p] == side][-1:]
                if (
                    min(pivots.row[j] - pivots.row[i], pivots.row[k] - pivots.row[j]) >= min_gap
                    and abs(inside(k)) <= near
                    and all(inside(p) > near for p in mine if p > i and p != j)
                    and not any(abs(inside(p)) <= near and pivots.row[k] - pivots.row[p] <= max_span for p in before)
                    and (beyond <= near).all()
                    and (best is None or abs(inside(k)) < best[0])
                ):
                    best = (abs(inside(k)), j)
            if best and (i, best[1]) not in anchors:
                anchors.add((i, best[1]))
                found.append((i, best[1], k))
                break
    return found


def test_lines_are_those_of_a_loop_over_all_triples(bars):
    lines = find_lines(BarArrays(bars))
    expected = triples_by_the_rules(bars)
    assert [tuple(places) for places in lines.places] == expected
    assert len(expected) > 25
    pivots = find_pivots(bars, 2.0)
    assert (lines.known == pivots.confirmed[lines.places].max(axis=1)).all()
    assert ((lines.score >= 0.0) & (lines.score <= 1.0)).all()


def test_touches_breaks_and_retests_are_those_of_a_loop_over_bars(bars):
    arrays = BarArrays(bars)
    lines = find_lines(arrays)
    high, low, close = arrays.high, arrays.low, arrays.close
    expected = []
    for n in range(len(lines)):
        support = lines.side[n] < 0
        at, broken = int(lines.known[n]), None
        width = lines.width[n]

        def price(t, n=n):
            return lines.prices[n, 0] + lines.slope[n] * (t - lines.rows[n, 0])

        def touches(t, support=support, width=width, price=price):
            return low[t] <= price(t) + width if support else high[t] >= price(t) - width

        was = True
        for t in range(at + 1, min(len(bars), at + 201)):
            if (close[t] < price(t) - width) if support else (close[t] > price(t) + width):
                broken = t
                break
            if touches(t) and not was:
                expected.append(("trendline_touch", t))
            was = touches(t)
        if broken is None:
            continue
        rows = np.arange(lines.rows[n, 0], broken)
        away = (high[rows] - price(rows)) if support else (price(rows) - low[rows])
        target = price(broken) - (1 if support else -1) * away.max()
        if (close[broken] > target) if support else (close[broken] < target):
            expected.append(("trendline_break", broken))
        for t in range(broken + 1, min(len(bars), broken + 31)):
            if (close[t] > price(t) + width) if support else (close[t] < price(t) - width):
                break
            back = high[t] >= price(t) - width if support else low[t] <= price(t) + width
            if back and (close[t] < price(t) if support else close[t] > price(t)):
                target = price(t) - (1 if support else -1) * away.max()
                if (close[t] > target) if support else (close[t] < target):
                    expected.append(("trendline_retest", t))
                break
    found = trendline(bars)
    found = found[found["kind"].astype(str) != "trendline"]
    rows = bars["close_ts"].searchsorted(found["confirmed_at"])
    assert Counter(zip(found["kind"].astype(str), rows, strict=True)) == Counter(expected)
    assert {kind for kind, _ in expected} == {"trendline_touch", "trendline_break", "trendline_retest"}


CORNERS = [(0, 107), (20, 100), (30, 110), (40, 104), (50, 114), (60, 108), (66, 114)]


def test_a_line_is_known_with_its_third_touch_and_ends_with_its_break():
    bars = bars_through([*CORNERS, (80, 100)])
    found = trendline(bars)
    line, broken = found.iloc[0], found[found["kind"] == "trendline_break"].iloc[0]
    pivots = find_pivots(bars, 2.0)
    assert line["confirmed_at"] == bars["close_ts"].iloc[int(pivots.confirmed[pivots.row == 60][0])]
    assert line["invalidated_at"] == broken["confirmed_at"]
    assert [point["price"] for point in line["points"]] == [100.0, 104.0, 108.0]
    # Straight in price: 0.2 a bar from (20, 100) on.
    at = bars["close_ts"].searchsorted(broken["confirmed_at"])
    assert broken["low"] == pytest.approx(100.0 + 0.2 * (at - 20))


def test_a_break_is_retested_from_the_other_side():
    found = trendline(bars_through([*CORNERS, (74, 106), (82, 112.3), (100, 95)]))
    retest = found[found["kind"] == "trendline_retest"]
    assert retest["direction"].tolist() == [-1]
    assert retest["target"].iloc[0] < retest["low"].iloc[0] < retest["stop"].iloc[0]


def test_a_line_that_nobody_breaks_expires():
    bars = bars_through([*CORNERS, (300, 180)])
    found = trendline(bars, max_age=50)
    at = bars["close_ts"].searchsorted(found["confirmed_at"].iloc[0])
    assert found["invalidated_at"].iloc[0] == bars["close_ts"].iloc[at + 50]
