"""Fibonacci levels, zones of time, fans, arcs, ratios and confluence at values worked out by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.charts.fibonacci import (
    EXTENSIONS,
    RATIOS,
    RETRACEMENTS,
    arcs,
    confluence,
    extension,
    fan_lines,
    nearest_ratio,
    projection,
    retracement,
    time_zones,
)
from tapeline.core.errors import ConfigurationError, DataError

PRICE = st.floats(0.01, 1e5)


def test_the_levels_are_those_of_the_golden_section():
    golden = (1 + 5**0.5) / 2
    powers = {0.236: -3, 0.382: -2, 0.618: -1, 0.786: -0.5, 1.272: 0.5, 1.618: 1, 2.618: 2, 4.236: 3}
    for ratio, power in powers.items():
        assert ratio in RATIOS
        assert ratio == pytest.approx(golden**power, abs=6e-4)
    assert set(RETRACEMENTS) | set(EXTENSIONS) <= set(RATIOS)


def test_levels_of_a_leg_up_and_down():
    up, down = retracement(100.0, 110.0), retracement(110.0, 100.0)
    assert up.tolist() == pytest.approx([107.64, 106.18, 105.0, 103.82, 102.14])
    assert down.tolist() == pytest.approx([102.36, 103.82, 105.0, 106.18, 107.86])
    assert (up.index.name, up.name) == ("ratio", "price")
    assert extension(110.0, 100.0, (1.272, 1.618)).tolist() == pytest.approx([97.28, 93.82])
    assert projection(110.0, 100.0, 106.0, (0.618, 1.0)).tolist() == pytest.approx([99.82, 96.0])


@given(PRICE, PRICE, PRICE)
def test_a_projection_from_the_start_is_an_extension_and_ends_meet(a, b, c):
    assert np.allclose(projection(a, b, a, EXTENSIONS), extension(a, b))
    assert np.allclose(retracement(a, b, (0.0, 1.0)), [b, a])
    # A retracement by r of the leg is the leg back grown to r.
    assert np.allclose(retracement(a, b), extension(b, a, RETRACEMENTS))
    assert np.allclose(projection(a, b, c, (1.0,)) - c, b - a, atol=1e-6)


def test_time_zones_are_the_fibonacci_numbers():
    assert time_zones(100, 200).tolist() == [101, 102, 103, 105, 108, 113, 121, 134, 155, 189]
    assert time_zones(100, 200, unit=10).tolist() == [110, 120, 130, 150, 180]
    assert time_zones(100, 100).size == 0
    with pytest.raises(ConfigurationError, match="unit = 0"):
        time_zones(0, 10, unit=0)


def test_a_fan_runs_through_the_retracements():
    start, end = (10, 200.0), (30, 160.0)
    lines = fan_lines(start, end, [5, 10, 30, 50])
    assert np.isnan(lines[:, 0]).all()
    assert lines[:, 1].tolist() == [200.0] * 3
    assert lines[:, 2].tolist() == pytest.approx(retracement(200.0, 160.0, (0.382, 0.5, 0.618)).tolist())
    assert lines[1, 3] == pytest.approx(160.0)
    with pytest.raises(ConfigurationError, match="forward"):
        fan_lines(end, start, [5])


@given(st.integers(1, 60), st.floats(-50.0, 50.0).filter(lambda move: abs(move) > 0.1), st.floats(0.05, 5.0))
def test_every_point_of_an_arc_is_as_far_from_the_end_as_its_ratio_says(bars, move, scale):
    start, end = (0, 100.0), (bars, 100.0 + move)
    rows = np.arange(bars, 3 * bars + 1)
    length = np.hypot(bars, move / scale)
    for ratio, line in zip((0.382, 1.0), arcs(start, end, rows, price_per_bar=scale, ratios=(0.382, 1.0)), strict=True):
        drawn = ~np.isnan(line)
        assert drawn[0]
        far = np.hypot(rows - bars, (line - end[1]) / scale)[drawn]
        assert np.allclose(far, ratio * length)
        # Towards the start: below the end of a rise, above that of a fall.
        assert (np.sign(move) * (line[drawn] - end[1]) <= 1e-9).all()
        assert np.array_equal(drawn, rows - bars <= ratio * length)


def test_an_arc_needs_a_scale():
    with pytest.raises(ConfigurationError, match="price_per_bar = 0"):
        arcs((0, 1.0), (5, 2.0), [5], price_per_bar=0.0)
    assert np.isnan(arcs((0, 1.0), (5, 2.0), [4], price_per_bar=1.0)).all()


def test_the_nearest_ratio_and_how_far_it_is():
    found, error = nearest_ratio([0.61, 0.5, 1.05, -1.0, np.nan])
    assert found[:3].tolist() == [0.618, 0.5, 1.0]
    assert error[:3].tolist() == pytest.approx([0.61 / 0.618 - 1, 0.0, 0.05])
    assert np.isnan(found[3:]).all()
    assert np.isnan(error[3:]).all()
    one, off = nearest_ratio(0.9, (0.5, 1.0))
    assert (float(one), float(off)) == (1.0, pytest.approx(-0.1))
    with pytest.raises(ConfigurationError, match="positive"):
        nearest_ratio(1.0, (0.0, 1.0))


def plain_confluence(levels, width, least):
    """The fullest window over all of them, again and again, by looking at every one."""
    left, groups = dict(enumerate(levels)), []
    while True:
        best = None
        for first, low in left.items():
            inside = [place for place, price in left.items() if low <= price <= low + width]
            span = max(left[place] for place in inside) - low
            key = (-len(inside), span, low)
            if best is None or key < best[0]:
                best = (key, low, low + span, sorted(inside), first)
        if best is None or -best[0][0] < least:
            return groups
        groups.append((best[1], best[2], len(best[3]), best[3]))
        for place in best[3]:
            del left[place]


@given(st.lists(st.integers(0, 60), max_size=14), st.integers(0, 8), st.integers(1, 4))
def test_confluence_is_the_fullest_window_first(levels, width, least):
    prices = [float(level) for level in levels]
    got = confluence(prices, float(width), least=least)
    expected = pd.DataFrame(plain_confluence(prices, float(width), least), columns=["low", "high", "count", "levels"])
    assert got.to_dict("records") == expected.to_dict("records")
    assert ((got["high"] - got["low"]) <= width).all()
    for one, other in combinations(got["levels"], 2):
        assert not set(one) & set(other)


def test_confluence_over_several_swings():
    levels = np.concatenate((retracement(100.0, 110.0), retracement(96.0, 110.0), projection(110.0, 104.0, 108.0)))
    # Only 0.786 of the first leg, 102.14, and the whole of the projected one, 102, lie so near each other.
    found = confluence(levels, 0.25)
    assert found[["low", "high", "count"]].to_numpy().tolist() == [[102.0, pytest.approx(102.14), 2]]
    assert found["levels"].tolist() == [[4, 11]]
    with pytest.raises(DataError, match="1 of 2"):
        confluence([1.0, np.nan], 1.0)
