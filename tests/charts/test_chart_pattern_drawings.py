"""Every drawn kind is found, with noise as well; what breaks a definition is not."""

from __future__ import annotations

import pytest

from tapeline.charts.chart_pattern_drawings import CASES, KINDS, drawings
from tapeline.charts.synthetic import accuracy


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_patterns_are_found_and_near_misses_refused(kind):
    case = CASES[kind]
    clean = accuracy(case.detect, kind, case.drawings(16, seed=3), case.near_misses(18, seed=3), [])
    shaken = accuracy(case.detect, kind, case.drawings(16, noise=0.5, seed=4), [], [])
    assert clean.recall >= 0.9
    assert shaken.recall >= 0.85
    assert clean.precision >= 0.75
    assert clean.near_misses <= 0.25


def test_both_directions_are_drawn_where_a_kind_has_both():
    assert {drawing.direction for drawing in drawings("pennant", 4)} == {1, -1}
    assert {drawing.direction for drawing in drawings("triple_bottom", 4)} == {1}
    assert {drawing.kind for drawing in CASES["flag"].near_misses(3)} == {""}
