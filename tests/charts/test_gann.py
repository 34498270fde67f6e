"""Fans, scales, the Square of Nine and crossings, by hand and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.gann import ANGLES, gann_angle, gann_fan, price_per_bar, square_of_nine, unit_of
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import random_walk
from tapeline.core.errors import ConfigurationError
from tests.core.samples import eurusd


def spiral(count):
    """The whole numbers wound round 1, as the square is drawn: number -> (column, row)."""
    places, x, y, dx, dy = {1: (0, 0)}, 0, 0, 1, 0
    number, steps = 1, 1
    while number < count:
        for _ in range(2):
            for _ in range(steps):
                number, x, y = number + 1, x + dx, y + dy
                places[number] = (x, y)
            dx, dy = -dy, dx
        steps += 1
    return places


def test_a_turn_of_the_square_leads_along_one_ray_of_the_drawn_spiral():
    places = spiral(1_000)
    steps = set()
    for root in range(1, 29):
        number = root * root
        half, whole = square_of_nine(float(number), [180.0, 360.0], unit=1.0)
        assert (half, whole) == (pytest.approx((root + 1) ** 2), pytest.approx((root + 2) ** 2))
        (x, y), (further, above) = places[number], places[round(whole)]
        steps.add((root % 2, further - x, above - y))
    # Odd squares run down one arm of a diagonal, a step a turn; the even ones, half a turn away, up the other arm.
    assert steps == {(1, 1, -1), (0, -1, 1)}


def test_the_square_depends_on_the_unit_and_only_on_it():
    in_dollars = square_of_nine(100.0, [45, 90, -180], unit=1.0)
    assert in_dollars.tolist() == [105.0625, 110.25, 81.0]
    assert square_of_nine(10_000.0, [45, 90, -180], unit=100.0) == pytest.approx(100 * in_dollars)
    assert square_of_nine(100.0, [90], unit=0.01)[0] == pytest.approx(101.0025)
    assert np.isnan(square_of_nine(4.0, [-720], unit=1.0)).all()
    for price, unit in ((0.0, 1.0), (1.0, 0.0), (np.nan, 1.0)):
        with pytest.raises(ConfigurationError, match="refused"):
            square_of_nine(price, [90], unit=unit)


@given(st.floats(0.01, 1e5), st.floats(0.0, 720.0), st.floats(1e-4, 1.0))
def test_there_and_back_on_the_square(price, degrees, unit):
    out = square_of_nine(price, [degrees], unit=unit)[0]
    assert square_of_nine(out, [-degrees], unit=unit)[0] == pytest.approx(price, rel=1e-6)


def test_scales():
    assert price_per_bar("true_range", 100.0, [2.0, 3.0], scale=0.5).tolist() == [1.0, 1.5]
    assert float(price_per_bar("percent", 80.0, 2.0, scale=0.25)) == pytest.approx(0.2)
    # 1.0842 is 1084.2 thousandths; one degree more of the root.
    expected = (np.sqrt(1084.2) + 1 / 180) ** 2 * 0.001 - 1.0842
    assert float(price_per_bar("square_root", 1.0842, 0.0)) == pytest.approx(expected)
    assert float(price_per_bar("square_root", 108.42, 0.0)) == pytest.approx(100 * expected)
    assert unit_of([9.999, 10.0, 0.052]).tolist() == pytest.approx([0.001, 0.01, 0.00001])
    with pytest.raises(ConfigurationError, match="unknown"):
        price_per_bar("golden", 1.0, 1.0)
    with pytest.raises(ConfigurationError, match="positive"):
        unit_of(-1.0)


def test_a_fan_falls_from_a_high_and_needs_a_scale():
    lines = gann_fan(5, 50.0, [4, 5, 9], price_per_bar=2.0, rising=False)
    assert lines.shape == (9, 3)
    assert np.isnan(lines[:, 0]).all()
    assert (lines[:, 1] == 50.0).all()
    assert lines[:, 2].tolist() == pytest.approx([50.0 - 8.0 * angle for angle in ANGLES])
    with pytest.raises(ConfigurationError, match="price_per_bar = 0"):
        gann_fan(0, 1.0, [1], price_per_bar=0.0)


def plain_crossings(bars, rule, scale):
    """For each swing and each bar the lines the close is above, and which of them that was not so a bar before."""
    close, usual = bars["close"].to_numpy(), mean_true_range(bars, 14)
    pivots = find_pivots(bars, 6.0)
    found = []
    for i in range(len(pivots)):
        row, price, low = int(pivots.row[i]), float(pivots.price[i]), pivots.side[i] < 0
        step = float(price_per_bar(rule, price, usual[pivots.confirmed[i]], scale=scale))
        if not step > 0:
            continue
        last = pivots.confirmed[i + 2] if i + 2 < len(pivots) else len(bars) - 1
        rows = np.arange(pivots.confirmed[i], last + 1)
        lines = gann_fan(row, price, rows, price_per_bar=step, rising=bool(low))
        side = 1 if low else -1
        seen = set()
        for n in range(len(rows)):
            if side * (close[rows[n]] - price) < 0:
                break
            if n == 0:
                continue
            now, before = (side * (close[rows[m]] - lines[:, m]) > 0 for m in (n, n - 1))
            changed = np.flatnonzero(now != before)
            if not changed.size:
                continue
            along = now[changed[0]]
            angle = int(changed[-1] if along else changed[0])
            if angle not in seen:
                way = side if along else -side
                found.append((int(rows[n]), way, ANGLES[angle], row, float(lines[angle, n])))
            seen |= set(changed.tolist())
    return found


@pytest.mark.parametrize(("rule", "scale"), [("true_range", 0.25), ("percent", 0.02), ("square_root", 0.5)])
def test_crossings_are_those_of_a_plain_loop(rule, scale):
    bars = random_walk(2_000, seed=12)
    found = gann_angle(bars, rule=rule, scale=scale)
    expected = plain_crossings(bars, rule, scale)
    assert len(expected) > 40
    rows = {at: row for row, at in enumerate(bars["close_ts"])}
    starts = {at: row for row, at in enumerate(bars.index)}
    columns = (found["confirmed_at"].map(rows), found["direction"], found["score"], found["start"].map(starts))
    got = sorted(zip(*columns, found["low"], strict=True))
    assert [line[:4] for line in got] == [line[:4] for line in sorted(expected)]
    assert [line[4] for line in got] == pytest.approx([line[4] for line in sorted(expected)])


def test_levels_are_the_angles_on_both_sides():
    bars = random_walk(2_000, seed=12)
    found = gann_angle(bars)
    usual, rows = mean_true_range(bars, 14), {at: row for row, at in enumerate(bars["close_ts"])}
    pivots = find_pivots(bars, 6.0)
    confirmed = dict(zip(bars.index[pivots.row], pivots.confirmed, strict=True))
    ends = 0
    for event in found.itertuples():
        origin = event.points[0]["price"]
        step = 0.25 * usual[confirmed[event.start]]
        bars_since = rows[event.confirmed_at] - bars.index.get_loc(event.start)
        side = 1 if event.low > origin else -1
        lines = [origin + side * step * bars_since * angle for angle in ANGLES]
        ahead = ANGLES.index(event.score) + (1 if event.direction == side else -1)
        if 0 <= ahead < len(ANGLES):
            assert event.target == pytest.approx(lines[ahead])
            assert event.direction * (event.target - event.low) > 0
        else:
            assert np.isnan(event.target)
            ends += 1
    assert ends


def test_it_scales_with_price_and_real_bars_cross():
    bars = eurusd()
    found = gann_angle(bars)
    assert found["score"].nunique() >= 7
    assert set(found["direction"]) == {-1, 1}
    assert found["id"].is_unique
    large = bars.assign(**{name: bars[name] * 1024.0 for name in ("open", "high", "low", "close")})
    assert gann_angle(large)[["confirmed_at", "direction", "score"]].equals(
        found[["confirmed_at", "direction", "score"]]
    )
    assert gann_angle(random_walk(20)).empty
