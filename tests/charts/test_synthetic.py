"""Drawn bars go where they are told, and accuracy counts what it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.swings import zigzag_swing
from tapeline.charts.synthetic import Drawing, accuracy, bars_through, random_walk

POINTS = ((0, 100.0), (20, 110.0), (30, 104.0), (60, 120.0), (80, 112.0))


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_the_points_are_the_extremes_of_their_legs(noise):
    bars = bars_through(POINTS, noise=noise, seed=3)
    assert [bars["close"].iloc[row] for row, _ in POINTS] == [price for _, price in POINTS]
    for (first, one), (last, other) in pairwise(POINTS):
        leg = bars.iloc[first + 1 : last + 1]
        assert leg["high"].max() == max(one, other)
        assert leg["low"].min() == min(one, other)
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert bars["close_ts"].iloc[0] == bars.index[1]


def test_rows_must_ascend():
    with pytest.raises(ValueError, match="ascend"):
        bars_through([(0, 1.0), (5, 2.0), (5, 3.0)])


def test_a_walk_is_a_walk():
    returns = np.log(random_walk(20_000, seed=1)["close"]).diff().dropna()
    assert abs(returns.autocorr()) < 0.02
    assert returns.std() == pytest.approx(0.001, rel=0.03)


def test_accuracy_counts_hits_false_alarms_and_near_misses():
    bars = bars_through(POINTS)

    def swings(given: pd.DataFrame) -> pd.DataFrame:
        return zigzag_swing(given, size=3.0, unit="percent")

    drawn = Drawing(bars, "zigzag_swing", -1, (POINTS[1],))
    elsewhere = Drawing(bars, "zigzag_swing", -1, ((70, 1.0),))
    told = accuracy(swings, "zigzag_swing", [drawn, elsewhere], [drawn], [bars])
    found = len(swings(bars))
    assert (told.recall, told.near_misses) == (0.5, 1.0)
    assert told.precision == 1 / (2 * found)
    assert told.per_thousand == pytest.approx(1000.0 * found / len(bars))
