"""Patterns between borders against their definitions, written as loops over pivots."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.continuation_patterns import bordered_pattern, flag_pattern
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import bars_through, random_walk
from tests.core.samples import eurusd


@pytest.fixture(scope="module", params=["walk", "real"])
def bars(request):
    return random_walk(5000, seed=9) if request.param == "walk" else eurusd().iloc[:4000]


def line(x, y):
    """The straight line through two points."""
    slope = (y[1] - y[0]) / (x[1] - x[0])
    return lambda at: y[0] + slope * (at - x[0])


def named(upper, lower, narrowing):
    """The table of Lo, Mamaysky and Wang, and of Bulkowski, as a decision on each border in turn."""
    ways = tuple("flat" if abs(move) <= 0.15 else "up" if move > 0 else "down" for move in (upper, lower))
    table = {
        ("flat", "up"): "ascending_triangle",
        ("down", "flat"): "descending_triangle",
        ("down", "up"): "symmetrical_triangle",
        ("flat", "flat"): "rectangle",
        ("up", "down"): "broadening",
        ("up", "flat"): "ascending_broadening",
        ("flat", "down"): "descending_broadening",
    }
    if narrowing <= 0.75:
        table |= {("up", "up"): "rising_wedge", ("down", "down"): "falling_wedge"}
    return table.get(ways)


def bordered_by_the_rules(bars, max_wait=60, max_span=400):
    pivots, close = find_pivots(bars), bars["close"].to_numpy()
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    expected = {}
    for last in range(4, len(pivots)):
        part = slice(last - 4, last + 1)
        x, e = pivots.row[part].astype(float), pivots.price[part]
        outer, inner = line(x[[0, 4]], e[[0, 4]]), line(x[[1, 3]], e[[1, 3]])
        height = e.max() - e.min()
        top, bottom = (outer, inner) if pivots.side[last] > 0 else (inner, outer)
        begins, ends = top(x[0]) - bottom(x[0]), top(x[4]) - bottom(x[4])
        if x[4] - x[0] > max_span or abs(e[2] - outer(x[2])) > 0.15 * height or min(begins, ends) <= 0:
            continue
        kind = named((top(x[4]) - top(x[0])) / height, (bottom(x[4]) - bottom(x[0])) / height, ends / begins)
        if kind is None:
            continue
        known = int(pivots.confirmed[last])
        for t in range(known, min(len(bars), known + max_wait + 1)):
            if top(t) < bottom(t):
                break
            if bottom(t) <= close[t] <= top(t):
                continue
            way = 1 if close[t] > top(t) else -1
            border = top(t) if way > 0 else bottom(t)
            target = border + way * height
            if (kind, way) in (("rising_wedge", -1), ("falling_wedge", 1)):
                target = e.min() if way < 0 else e.max()
            opposite = x[4] if (pivots.side[last] > 0) == (way < 0) else x[3]
            since = slice(int(opposite), t + 1)
            stop = low[since].min() if way > 0 else high[since].max()
            if way * (target - close[t]) > 0:
                expected.setdefault((t, kind, way), []).append((target, stop))
            break
    return expected


def rows_of(bars, frame):
    return bars["close_ts"].searchsorted(frame["confirmed_at"])


def test_borders_make_what_the_table_says(bars):
    expected = bordered_by_the_rules(bars)
    found = bordered_pattern(bars)
    keys = list(zip(rows_of(bars, found), found["kind"].astype(str), found["direction"], strict=True))
    assert sorted(keys) == sorted(expected)
    assert len({kind for _, kind, _ in keys}) >= 7
    for key, target, stop in zip(keys, found["target"], found["stop"], strict=True):
        assert any(np.allclose((target, stop), choice, rtol=1e-12) for choice in expected[key])
    assert found["score"].between(0.0, 1.0).all()


def test_nothing_is_known_before_the_last_touch_is_confirmed(bars):
    pivots = find_pivots(bars)
    confirmation = dict(zip(pivots.row, pivots.confirmed, strict=True))
    found = bordered_pattern(bars)
    last = bars.index.get_indexer(found["end"])
    assert all(at >= confirmation[row] for at, row in zip(rows_of(bars, found), last, strict=True))


def test_a_triangle_is_not_broken_after_its_borders_have_met():
    corners = [(0, 92), (10, 90), (30, 110), (45, 92), (60, 106), (72, 98), (82, 103.3)]
    broken = bordered_pattern(bars_through([*corners, (88, 100.8), (100, 112)]))
    assert "symmetrical_triangle" in broken["kind"].astype(str).tolist()
    late = bordered_pattern(bars_through([*corners, (88, 100.8), (140, 101.0), (150, 115)]))
    assert late[late["confirmed_at"] > late["end"].max() + (late["end"].max() - late["start"].min())].empty


def flags_by_the_rules(bars, pole=4.0, depth=0.62, narrow=0.6):
    pivots, close = find_pivots(bars, 1.0), bars["close"].to_numpy()
    usual = mean_true_range(bars, 14)
    expected = set()
    for last in range(4, len(pivots)):
        part = slice(last - 4, last + 1)
        over = -int(pivots.side[last])
        x, e = pivots.row[part].astype(float), over * pivots.price[part]
        length, bottom = e[1] - e[0], min(e[2], e[4])
        if x[1] - x[0] > 12 or x[4] - x[1] > 40 or not length >= pole * usual[int(x[0])] > 0:
            continue
        top, low = line(x[[1, 3]], e[[1, 3]]), line(x[[2, 4]], e[[2, 4]])
        begins, ends = e[1] - low(x[1]), top(x[4]) - e[4]
        if e[1] - bottom > depth * length or begins <= 0 or ends <= 0:
            continue
        if ends / begins <= narrow and e[3] < e[1]:
            kind = "pennant"
        elif narrow < ends / begins <= 1 / narrow and e[3] <= e[1] and e[4] <= e[2] + 0.25 * begins:
            kind = "flag"
        else:
            continue
        for t in range(int(pivots.confirmed[last]), min(len(bars), int(pivots.confirmed[last]) + 21)):
            if over * close[t] < bottom:
                break
            if over * close[t] > top(t):
                if over * close[t] < bottom + length:
                    expected.add((t, kind, over, round(over * (bottom + length), 9), round(over * bottom, 9)))
                break
    return expected


def test_flags_and_pennants_are_those_of_the_rules(bars):
    found = flag_pattern(bars)
    columns = (rows_of(bars, found), found["kind"].astype(str), found["direction"], found["target"].round(9),
               found["stop"].round(9))  # fmt: skip
    assert set(zip(*columns, strict=True)) == flags_by_the_rules(bars)
    assert set(found["kind"]) == {"flag", "pennant"}
    assert len(found) >= 10
