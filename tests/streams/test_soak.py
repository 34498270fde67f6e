"""The soak test itself: it sees memory that rises, and a short one loses nothing."""

from __future__ import annotations

import pytest

from benchmarks.soak_buffer import SYMBOLS, slope, soak


@pytest.mark.parametrize(("mib_per_second", "flat"), [(0.0, True), (0.01, True), (0.5, False), (5.0, False)])
def test_a_rise_is_seen_after_the_warm_up(mib_per_second, flat):
    samples = [(t / 4, 150.0 + (20.0 if t > 20 else t) + mib_per_second * t / 4 + t % 3) for t in range(240)]
    assert slope(samples)["flat"] is flat


def test_a_short_soak_loses_nothing_and_keeps_its_bounds(tmp_path):
    found = soak(0.8, tmp_path, sample_seconds=0.01)
    assert found["nothing_lost_nothing_doubled"]
    assert found["bound_held"]
    assert found["failures"] == 0
    assert found["ticks"] >= 50 * len(SYMBOLS)
