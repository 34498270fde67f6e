"""Each rule and guideline at values the book names, and the tables that say which kind they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts import elliott_guidelines, elliott_rules
from tapeline.charts.elliott_guidelines import GUIDELINES, five_within, measured, nearness, three_within, weights_of
from tapeline.charts.elliott_rules import KINDS, POINTS, RULES, broken_rules

NOWHERE = np.full(2, np.nan)


def path(*legs):
    """Pivots from the lengths of the waves, the first one rising."""
    signed = [leg if k % 2 == 0 else -leg for k, leg in enumerate(legs)]
    return np.concatenate(([0.0], np.cumsum(signed)))


def before(low, high):
    return np.array([low, high])


@pytest.mark.parametrize(
    ("kind", "legs", "q", "broken"),
    [
        ("impulse", (10, 6, 16, 6, 10), NOWHERE, []),
        ("impulse", (10, 10, 16, 3, 10), NOWHERE, ["wave_two_holds_the_start"]),
        ("impulse", (10, 6, 6, 1, 10), NOWHERE, ["wave_three_passes_wave_one", "wave_three_is_not_the_shortest",
                                                 "wave_four_is_clear_of_wave_one"]),
        ("impulse", (20, 5, 10, 3, 12), NOWHERE, ["wave_three_is_not_the_shortest"]),
        ("impulse", (10, 6, 16, 10, 12), NOWHERE, ["wave_four_is_clear_of_wave_one"]),
        ("impulse", (10, 6, 16, 6, 6), NOWHERE, ["wave_five_passes_wave_three"]),
        ("ending_diagonal", (10, 7, 9, 5, 7), before(-5, 8), []),
        ("ending_diagonal", (10, 7, 9, 5, 7), before(-5, 20), ["ending_ends_a_move"]),
        ("ending_diagonal", (10, 7, 9, 5, 7), before(5, 8), ["ending_ends_a_move"]),
        ("leading_diagonal", (10, 7, 9, 5, 7), before(5, 20), []),
        ("leading_diagonal", (10, 7, 9, 5, 7), before(-5, 20), ["leading_starts_a_move"]),
        ("leading_diagonal", (10, 7, 9, 5, 10), before(5, 20), ["wave_three_is_not_the_shortest",
                                                                  "diagonal_thrusts_shrink"]),
        ("leading_diagonal", (10, 6, 9, 6.5, 7), before(5, 20), ["diagonal_returns_shrink"]),
        ("leading_diagonal", (10, 7, 9, 1.5, 2), before(5, 20), ["wave_four_overlaps_wave_one"]),
        ("leading_diagonal", (10, 4, 9, 9.5, 12), before(5, 20), ["wave_three_is_not_the_shortest",
                                                                    "wave_four_holds_wave_two",
                                                                    "diagonal_thrusts_shrink",
                                                                    "diagonal_returns_shrink"]),
        ("zigzag_correction", (10, 5, 10), before(0, 30), []),
        ("zigzag_correction", (10, 5, 10), before(0, 12), ["correction_stays_within_the_move"]),
        ("zigzag_correction", (10, 3, 10), before(0, 30), ["zigzag_b_at_least"]),
        ("zigzag_correction", (10, 8, 10), before(0, 30), ["zigzag_b_at_most"]),
        ("zigzag_correction", (10, 7.5, 7), before(0, 30), ["c_passes_a"]),
        ("zigzag_correction", (10, 5, 27), before(0, 40), ["c_at_most"]),
        ("flat_regular", (10, 9.5, 11), before(-20, 30), []),
        ("flat_regular", (10, 8.5, 11), before(-20, 30), ["flat_b_at_least"]),
        ("flat_regular", (10, 11, 12), before(-20, 30), ["regular_b_at_most"]),
        ("flat_expanded", (10, 12.36, 16.18), before(-20, 30), []),
        ("flat_expanded", (10, 10.2, 16.18), before(-20, 30), ["b_passes_the_start"]),
        ("flat_expanded", (10, 14, 16.18), before(-20, 30), ["b_at_most"]),
        ("flat_expanded", (10, 12, 11), before(-20, 30), ["c_passes_a"]),
        ("flat_running", (10, 12, 10), before(-20, 30), []),
        ("flat_running", (10, 12, 13), before(-20, 30), ["c_falls_short_of_a"]),
        ("flat_running", (10, 12, 6), before(-20, 30), ["c_at_least"]),
        ("triangle", (10, 9, 8, 6, 5), before(-20, 30), []),
        ("triangle", (10, 12, 8, 6, 5), before(-20, 30), []),
        ("triangle", (10, 8, 7, 7, 5), before(-20, 30), []),
        ("triangle", (10, 14, 8, 6, 5), before(-20, 30), ["triangle_b_at_most"]),
        ("triangle", (10, 9, 9, 6, 5), before(-20, 30), ["triangle_c_holds_a"]),
        ("triangle", (10, 9, 8, 8.5, 5), before(-20, 30), ["triangle_d_holds_b"]),
        ("triangle", (10, 9, 8, 6, 6), before(-20, 30), ["triangle_e_holds_c"]),
        ("combination", (10, 5, 10, 8, 10, 5, 10), before(0, 30), []),
        ("combination", (10, 5, 10, 5, 10, 5, 10), before(0, 30), ["x_at_least"]),
        ("combination", (10, 9.5, 11, 17, 20, 19, 21), before(-20, 30), ["x_is_no_new_trend"]),
        ("combination", (10, 5, 10, 14.9, 7, 3.5, 7), before(0, 30), ["double_zigzag_goes_on"]),
        ("combination", (10, 8.5, 10, 8, 10, 5, 10), before(0, 30), ["w_is_a_correction"]),
        ("combination", (10, 5, 10, 8, 10, 8.5, 10), before(0, 30), ["y_is_a_correction"]),
    ],
)  # fmt: skip
def test_a_kind_breaks_the_rules_it_should(kind, legs, q, broken):
    assert broken_rules(kind, path(*legs), q) == broken
    assert broken_rules(kind, 1024.0 * path(*legs), 1024.0 * q) == broken


def test_what_is_not_known_yet_breaks_nothing():
    for kind in KINDS:
        nothing = np.full(POINTS[kind], np.nan)
        assert broken_rules(kind, nothing, NOWHERE) == []
        assert set(np.isnan([*measured(kind, nothing, np.arange(POINTS[kind]), np.full(7, np.nan)).values()])) == {True}


def test_every_function_stands_in_its_table_with_its_source():
    def public(module):
        own = [value for value in vars(module).values() if hasattr(value, "py_func")]
        return {f.__name__ for f in own if f.py_func.__module__ == module.__name__ and f.__name__[0] != "_"}

    assert {rule.holds.__name__ for rule in RULES} == public(elliott_rules)
    assert {each.measure.__name__ for each in GUIDELINES} == public(elliott_guidelines) - {"nearness", "nearest"}
    for row in (*RULES, *GUIDELINES):
        assert row.source.startswith("ch. ")
        assert set(row.kinds) <= set(KINDS)
    assert all(len(weights_of(kind)) >= 2 for kind in KINDS)


def test_a_textbook_impulse_scores_what_the_book_says():
    p = path(10.0, 6.18, 16.18, 0.382 * 16.18, 10.0)
    # Rows on which the line 2-4 has its parallel through 3 end exactly at wave 5.
    r = np.array([0, 10, 16, 32, 38, 48])
    slope = (p[4] - p[2]) / (r[4] - r[2])
    values = measured("impulse", p, r, np.array([1.0, 1.0, 3.0, 1.0, 2.0]), [(1, False)] * 2 + [(5, True)])
    for name in ("wave_two_depth", "wave_three_multiple", "wave_four_depth", "wave_five_multiple", "wave_equality"):
        assert values[name] == pytest.approx(1.0)
    assert values["alternation"] == pytest.approx(1.0)
    assert values["volume_of_the_waves"] == 1.0
    assert values["five_within_wave_3"] == 1.0
    third, first = p[3] + slope * 16, p[1] + slope * 38
    height_3, height_1 = p[3] - (p[2] + slope * 16), p[1] - (p[2] - slope * 6)
    expected = max(0.0, 1 - abs(p[5] - third) / height_3, 1 - abs(p[5] - first) / height_1)
    assert values["channelling"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "name", "best", "worst"),
    [
        ("impulse", "wave_two_depth", (10, 5, 16, 6, 10), (10, 9, 16, 6, 10)),
        ("impulse", "wave_three_multiple", (10, 6, 26.18, 6, 10), (10, 6, 20.6, 6, 10)),
        ("impulse", "wave_four_depth", (10, 6, 16, 6.112, 10), (10, 6, 16, 10, 10)),
        ("impulse", "wave_five_multiple", (10, 6, 16, 6, 6.18), (10, 6, 16, 6, 24.0)),
        ("impulse", "wave_equality", (10, 6, 20, 6, 10), (10, 6, 20, 6, 16)),
        ("impulse", "alternation", (10, 7, 20, 2, 10), (10, 5, 20, 10, 10)),
        ("leading_diagonal", "diagonal_depths", (10, 7.35, 9, 6.615, 7), (10, 3, 9, 2, 7)),
        ("zigzag_correction", "zigzag_b_depth", (10, 6.18, 10), (10, 3.0, 10)),
        ("zigzag_correction", "zigzag_c_multiple", (10, 5, 16.18), (10, 5, 21.0)),
        ("flat_regular", "regular_flat_equality", (10, 10, 10), (10, 7, 14)),
        ("flat_expanded", "wide_flat_b", (10, 12.36, 16), (10, 9, 16)),
        ("flat_expanded", "expanded_flat_c", (10, 12, 16.18), (10, 12, 12.5)),
        ("flat_running", "running_flat_c", (10, 12, 10), (10, 12, 13)),
        ("triangle", "triangle_alternate_legs", (10, 9, 6.18, 5.562, 3.8), (10, 9.9, 9.8, 9.7, 9.6)),
        ("combination", "y_multiple", (10, 5, 10, 8, 10, 5, 10), (10, 5, 10, 8, 4, 2, 4)),
        ("combination", "x_depth", (10, 5, 10, 7.5, 10, 5, 10), (10, 5, 10, 4, 10, 5, 10)),
    ],
)  # fmt: skip
def test_a_guideline_is_1_at_its_ratio_and_0_far_from_it(kind, name, best, worst):
    for legs, expected in ((best, 1.0), (worst, 0.0)):
        rows = np.arange(0, 10 * len(legs) + 1, 10)
        value = measured(kind, path(*legs), rows, np.full(7, np.nan))[name]
        assert value == pytest.approx(expected, abs=0.03)


def test_lines_are_measured_in_the_height_of_their_channel():
    rows = np.array([0, 10, 20, 30, 40, 50])
    # B half-way back, so 0-B rises 5 in 20 bars; its parallel through A is at 15 at the row of C.
    on_line = measured("zigzag_correction", np.array([0.0, 10.0, 5.0, 15.0]), rows[:4], NOWHERE)
    assert on_line["zigzag_channel"] == pytest.approx(1.0)
    off = measured("zigzag_correction", np.array([0.0, 10.0, 5.0, 18.75]), rows[:4], NOWHERE)
    assert off["zigzag_channel"] == pytest.approx(0.5)
    # A-C falls from 10 to 8 in 20 bars: 6 at the row of E.
    triangle = measured("triangle", np.array([0.0, 10.0, 1.0, 8.0, 2.0, 6.0]), rows, NOWHERE)
    assert triangle["triangle_e_at_the_line"] == pytest.approx(1.0)
    wave = np.array([0.0, 10.0, 5.0, 25.0, 15.0, 35.0])
    assert measured("impulse", wave, rows, NOWHERE.repeat(3))["channelling"] == pytest.approx(1.0)


def test_waves_within_and_nearness():
    assert [five_within(*of) for of in ((5, True), (5, False), (13, False), (7, False))] == [1.0, 0.0, 0.5, 0.0]
    assert [three_within(legs, False) for legs in (3, 7, 5)] == [1.0, 0.5, 0.0]
    assert np.isnan(five_within(1, False))
    assert np.isnan(three_within(0, False))
    assert nearness(0.0, 1.0) == nearness(np.inf, 1.0) == 0.0
    golden = (1 + 5**0.5) / 2
    assert nearness(golden**0.25, 1.0) == pytest.approx(0.5)
    assert nearness(golden**-0.25, 1.0) == pytest.approx(0.5)


def test_volume_speaks_only_where_there_is_some():
    p, r = path(10, 6, 16, 6, 10), np.arange(6)
    for volume, expected in (((2.0, 1, 1, 1, 3), 0.0), ((1.0, 1, 2, 1, 3), 0.5), ((1.0, 1, 2, 1, 1), 1.0)):
        assert measured("impulse", p, r, np.array(volume))["volume_of_the_waves"] == expected
    assert np.isnan(measured("impulse", p, r, np.zeros(5))["volume_of_the_waves"])
