"""Fates against a loop over bars."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.fate import fates
from tapeline.charts.synthetic import random_walk
from tests.support import make_bars


def plain(bars, known, direction, target, stop, max_age):
    found = []
    for start, way, goal, limit in zip(known, direction, target, stop, strict=True):
        ended = (-1, 2)
        for t in range(start + 1, len(bars)):
            if t > start + max_age:
                ended = (t - 1, 0)
                break
            bar = bars.iloc[t]
            if (bar["low"] <= limit) if way > 0 else (bar["high"] >= limit):
                ended = (t, -1)
                break
            if (bar["high"] >= goal) if way > 0 else (bar["low"] <= goal):
                ended = (t, 1)
                break
        else:
            if start + max_age < len(bars):
                ended = (start + max_age, 0)
        found.append(ended)
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_first_of_target_and_stop_decides(seed, max_age):
    bars = random_walk(80, seed=seed)
    generator = np.random.default_rng(seed)
    known = np.sort(generator.integers(0, 80, 12))
    direction = generator.choice(np.array([-1, 1], np.int8), 12)
    at = bars["close"].to_numpy()[known]
    target = at * (1 + direction * generator.uniform(0.0005, 0.004, 12))
    stop = at * (1 - direction * generator.uniform(0.0005, 0.004, 12))
    target[0] = stop[1] = np.nan
    found = fates(bars, known, direction, target, stop, max_age)
    assert list(zip(found.row, found.outcome, strict=True)) == plain(bars, known, direction, target, stop, max_age)


def test_both_in_one_bar_is_the_stop():
    bars = make_bars(5)
    middle = np.array([bars["close"].iloc[2]])
    wide = fates(bars, np.array([1]), np.array([1], np.int8), target=middle, stop=middle, max_age=3)
    assert (wide.row[0], wide.outcome[0]) == (2, -1)
