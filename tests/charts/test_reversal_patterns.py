"""Reversals and bowls against the published rules, written as loops over pivots and closes."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts.bowl_kernels import bowl
from tapeline.charts.pivots import find_pivots
from tapeline.charts.reversal_patterns import bowl_pattern, reversal_pattern
from tapeline.charts.synthetic import bars_through, random_walk
from tests.core.samples import eurusd


@pytest.fixture(scope="module", params=["walk", "real"])
def bars(request):
    return random_walk(6000, seed=4) if request.param == "walk" else eurusd().iloc[:4000]


def alike(levels, within):
    return max(levels) - min(levels) <= within


def reversals_by_the_rules(bars, shoulders=0.3, peaks=0.15, max_wait=60, max_span=500):
    """Lo, Mamaysky, Wang (2000), section II.A, with likeness as a share of the height, and Bulkowski's neckline."""
    pivots, close = find_pivots(bars), bars["close"].to_numpy()
    best = {}
    for last in range(5, len(pivots)):
        side = int(pivots.side[last])
        for shape, peaks_in in (("head_and_shoulders", 3), ("double", 2), ("triple", 3)):
            count = 2 * peaks_in - 1
            places = list(range(last - count + 1, last + 1))
            e = [side * pivots.price[p] for p in places]
            x = [int(pivots.row[p]) for p in places]
            tops, troughs = e[0::2], e[1::2]
            if x[-1] - x[0] > max_span or side * pivots.price[places[0] - 1] >= min(troughs):
                continue
            if shape == "head_and_shoulders":
                slope = (troughs[1] - troughs[0]) / (x[3] - x[1])
                height = tops[1] - (troughs[0] + slope * (x[2] - x[1]))
                stop = tops[2]
                fits = (
                    height > 0
                    and alike((tops[0], tops[2]), shoulders * height)
                    and alike(troughs, shoulders * height)
                    and tops[1] - max(tops[0], tops[2]) > peaks * height
                )
            else:
                slope, stop = 0.0, max(tops)
                height = stop - min(troughs)
                fits = alike(tops, peaks * height)
            if not fits:
                continue
            known = int(pivots.confirmed[last])
            for t in range(known, min(len(bars), known + max_wait + 1)):
                neck = (troughs[0] + slope * (t - x[1])) if shape == "head_and_shoulders" else min(troughs)
                if side * close[t] > stop:
                    break
                if side * close[t] < neck:
                    if side * close[t] > neck - height:
                        kind = f"{shape}_{'top' if side > 0 else 'bottom'}"
                        found = (x[0], x[-1], side * (neck - height), side * stop)
                        best.setdefault((t, kind), []).append(found)
                    break
    return best


def rows_of(bars, frame):
    return bars["close_ts"].searchsorted(frame["confirmed_at"])


def test_reversals_are_those_of_the_rules(bars):
    expected = reversals_by_the_rules(bars)
    found = reversal_pattern(bars)
    known = rows_of(bars, found)
    assert sorted(zip(known, found["kind"].astype(str), strict=True)) == sorted(expected)
    assert len(expected) > 15
    first, last = bars.index.get_indexer(found["start"]), bars.index.get_indexer(found["end"])
    for i, (kind, target, stop) in enumerate(zip(found["kind"], found["target"], found["stop"], strict=True)):
        choices = expected[(known[i], kind)]
        assert any(
            (first[i], last[i]) == choice[:2] and np.allclose((target, stop), choice[2:], rtol=1e-12)
            for choice in choices
        )


def test_no_pattern_is_known_before_its_last_pivot_and_target_and_stop_enclose_the_close(bars):
    found = reversal_pattern(bars)
    pivots = find_pivots(bars)
    confirmation = dict(zip(pivots.row, pivots.confirmed, strict=True))
    known, last = rows_of(bars, found), bars.index.get_indexer(found["end"])
    close = bars["close"].to_numpy()[known]
    assert all(at >= confirmation[row] for at, row in zip(known, last, strict=True))
    assert (found["direction"] * (found["target"] - close) > 0).all()
    assert (found["direction"] * (close - found["stop"]) > 0).all()
    assert found["score"].between(0.0, 1.0).all()


HEAD = [(0, 95), (10, 90), (30, 105), (40, 100), (55, 110), (70, 100), (80, 105)]


def test_a_pattern_waits_for_the_close_through_its_neckline():
    whole = bars_through([*HEAD, (100, 85)])
    assert len(reversal_pattern(whole)) == 1
    at = whole["close_ts"].searchsorted(reversal_pattern(whole)["confirmed_at"].iloc[0])
    assert whole["close"].iloc[at] < 100.0 <= whole["close"].iloc[at - 1]
    assert reversal_pattern(whole.iloc[:at]).empty
    # Below the neckline only after a close above the right shoulder: the wait had ended.
    assert reversal_pattern(bars_through([*HEAD, (84, 101), (92, 106), (110, 101), (120, 85)]))["kind"].tolist() == []
    assert reversal_pattern(bars_through([*HEAD, (84, 101), (160, 103), (180, 85)]), max_wait=20).empty


def test_the_end_is_the_first_of_target_and_stop():
    reached = reversal_pattern(bars_through([*HEAD, (104, 85)]))
    assert reached["target"].tolist() == [90.0]
    bars = bars_through([*HEAD, (104, 85)])
    hit = bars["close_ts"].searchsorted(reached["invalidated_at"].iloc[0])
    assert bars["low"].iloc[hit] <= 90.0 < bars["low"].iloc[hit - 1]
    stopped = reversal_pattern(bars_through([*HEAD, (90, 98), (110, 112)]))
    assert stopped["stop"].tolist() == [105.0]
    assert stopped["invalidated_at"].notna().all()


def test_volume_that_recedes_raises_the_score():
    corners = [*HEAD, (100, 85)]
    shrinking, growing = np.linspace(200, 100, 101), np.linspace(100, 200, 101)
    more = reversal_pattern(bars_through(corners, volume=shrinking))["score"].iloc[0]
    less = reversal_pattern(bars_through(corners, volume=growing))["score"].iloc[0]
    unknown = reversal_pattern(bars_through(corners, volume=np.full(101, np.nan)))["score"].iloc[0]
    assert more - less == pytest.approx(1 / 3)
    assert more - unknown == pytest.approx(1 / 6)


def test_the_parabola_is_that_of_polyfit():
    closes = np.random.default_rng(2).normal(0, 1, 41) + 0.02 * np.arange(-20.0, 21.0) ** 2 + 50.0
    quality, lowest, beyond = bowl(closes, 0, 40, 1)
    across = np.linspace(-1, 1, 41)
    curve = np.poly1d(np.polyfit(across, closes, 2))
    left = ((closes - curve(across)) ** 2).sum()
    assert quality == pytest.approx(1 - left / ((closes - closes.mean()) ** 2).sum())
    assert lowest == pytest.approx(curve.deriv().roots[0])
    bottom = int(closes.argmin())
    corners = np.interp(np.arange(41), [0, bottom, 40], closes[[0, bottom, 40]])
    assert beyond == pytest.approx(left / ((closes - corners) ** 2).sum())
    assert bowl(closes, 0, 40, -1)[0] == -1.0


def test_bowls_are_those_of_a_loop_over_rims(bars):
    pivots, close = find_pivots(bars, 2.0), bars["close"].to_numpy()
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    expected = {}
    for row, at, side, price in zip(pivots.row, pivots.confirmed, pivots.side, pivots.price, strict=True):
        beyond = [t for t in range(at + 1, min(len(bars), row + 451)) if side * (close[t] - price) > 0]
        if not beyond or beyond[0] - row < 20:
            continue
        t = beyond[0]
        across, part = np.linspace(-1, 1, t - row + 1), side * close[row : t + 1]
        bend, slope, base = np.polyfit(across, part, 2)
        left = ((part - np.polyval((bend, slope, base), across)) ** 2).sum()
        bottom = int(part.argmin())
        if bend <= 0 or abs(-slope / (2 * bend)) > 0.4 or bottom in (0, len(part) - 1):
            continue
        straight = np.interp(np.arange(len(part)), [0, bottom, len(part) - 1], part[[0, bottom, -1]])
        fit = 1 - left / ((part - part.mean()) ** 2).sum()
        deepest = low[row : t + 1].min() if side > 0 else high[row : t + 1].max()
        target = 2 * price - deepest
        if fit >= 0.8 and left < ((part - straight) ** 2).sum() and side * (target - close[t]) > 0:
            expected.setdefault((t, "rounding_bottom" if side > 0 else "rounding_top"), []).append((target, deepest))
    found = bowl_pattern(bars)
    found = found[found["kind"].astype(str).str.startswith("rounding")]
    assert sorted(zip(rows_of(bars, found), found["kind"].astype(str), strict=True)) == sorted(expected)
    assert len(expected) >= 5
    for at, kind, target, stop in zip(rows_of(bars, found), found["kind"], found["target"], found["stop"], strict=True):
        assert any(np.allclose((target, stop), choice) for choice in expected[(at, kind)])


def test_cups_keep_to_their_proportions():
    walk = random_walk(20_000, seed=3)
    found = bowl_pattern(walk)
    found = found[found["kind"].astype(str).str.endswith("handle")]
    assert len(found) >= 5
    close = walk["close"].to_numpy()
    for event, at in zip(found.to_dict("records"), rows_of(walk, found), strict=True):
        left, bottom, right, handle, neck = (point["price"] for point in event["points"])
        over = event["direction"]
        rows = walk.index.get_indexer([point["ts"] for point in event["points"]])
        depth = over * (right - bottom)
        assert depth > 0
        assert abs(left - right) <= 0.25 * depth
        assert over * (right - handle) <= 0.5 * depth
        assert neck == right
        assert over * (close[at] - right) > 0 >= (over * (close[rows[2] + 1 : at] - right)).max(initial=-1.0)
        assert event["target"] == pytest.approx(right + over * depth)
        assert rows[4] == at <= rows[2] + (rows[2] - rows[0]) // 2
        before = walk.iloc[max(0, 2 * rows[0] - rows[2]) : rows[0] + 1]
        base = before["low"].min() if over > 0 else before["high"].max()
        assert over * (left - base) >= depth
