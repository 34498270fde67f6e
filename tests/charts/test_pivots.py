"""Pivot runs against plain slices, and what a run is allowed to know."""

from __future__ import annotations

import numpy as np

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.pivots import find_pivots, pivot_runs
from tests.support import make_bars


def test_runs_are_the_consecutive_pivots_and_known_with_the_last():
    pivots = find_pivots(make_bars(600), size=1.5)
    runs = pivot_runs(pivots, 5)
    assert len(runs) == len(pivots) - 4 > 20
    for i in (0, 7, len(runs) - 1):
        assert runs.price[i].tolist() == pivots.price[i : i + 5].tolist()
        assert runs.row[i].tolist() == pivots.row[i : i + 5].tolist()
        assert runs.known[i] == pivots.confirmed[i + 4] == pivots.confirmed[i : i + 5].max()
        assert runs.side[i] == pivots.side[i + 4]
    assert (runs.legs[:, :-1] * runs.legs[:, 1:] < 0).all()
    assert len(runs.take(runs.side > 0)) == (runs.side > 0).sum()


def test_too_few_pivots_make_no_run():
    runs = pivot_runs(find_pivots(make_bars(20)), 50)
    assert runs.price.shape == (0, 50)
    assert runs.known.size == runs.legs.size == 0


def test_one_scan_finds_pivots_once():
    arrays = BarArrays(make_bars(300))
    assert find_pivots(arrays, size=2.0) is find_pivots(arrays, size=2.0)
    assert find_pivots(arrays, size=2.0) is not find_pivots(arrays, size=2.5)
    np.testing.assert_array_equal(find_pivots(arrays, size=2.0).price, find_pivots(arrays.bars, size=2.0).price)
