"""Fractal dimension of curves whose dimension is known, and repeats against a loop over all earlier sequences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.fractal_kernels import rolling_higuchi, rolling_katz, rolling_sevcik
from tapeline.charts.fractals import fractal_dimension, fractal_repeat
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import bars_through, random_walk
from tests.core.samples import eurusd


def higuchi_by_the_paper(x, longest):
    """Higuchi (1988), equations 1 to 3, with his one-based m."""
    n, logs = len(x), []
    for k in range(1, longest + 1):
        lengths = []
        for m in range(1, k + 1):
            jumps = (n - m) // k
            walked = sum(abs(x[m + i * k - 1] - x[m + (i - 1) * k - 1]) for i in range(1, jumps + 1))
            lengths.append(walked * (n - 1) / (jumps * k) / k)
        logs.append((np.log(1 / k), np.log(np.mean(lengths))))
    return np.polyfit(*zip(*logs, strict=True), 1)[0]


def weierstrass(dimension, rows):
    """A sum of cosines whose graph has this dimension (Mandelbrot's cosine fractal, gamma 1.5)."""
    t, gamma = np.linspace(0, 1, rows), 1.5
    return sum(gamma ** (-(2 - dimension) * i) * np.cos(2 * np.pi * gamma**i * t + i**2) for i in range(40))


def test_higuchi_is_that_of_the_paper():
    values = np.cumsum(np.random.default_rng(1).normal(size=200))
    found = rolling_higuchi(values, 64, 8)
    assert np.isnan(found[:63]).all()
    for t in (63, 100, 199):
        assert found[t] == pytest.approx(higuchi_by_the_paper(values[t - 63 : t + 1], 8))


def test_dimensions_of_known_curves():
    generator = np.random.default_rng(3)
    noise = generator.normal(size=1500)
    straight = np.arange(1500.0)
    higuchi = [np.nanmean(rolling_higuchi(values, 500, 8)) for values in (straight, np.cumsum(noise), noise)]
    assert higuchi == pytest.approx([1.0, 1.5, 2.0], abs=0.06)
    for dimension in (1.3, 1.5, 1.7):
        assert rolling_higuchi(weierstrass(dimension, 2000), 2000, 8)[-1] == pytest.approx(dimension, abs=0.12)
    for rolling in (rolling_sevcik, rolling_katz):
        smooth, walk, rough = (np.nanmean(rolling(values, 500)) for values in (straight, np.cumsum(noise), noise))
        assert smooth < walk < rough


def test_sevcik_and_katz_are_their_formulas():
    values = np.cumsum(np.random.default_rng(2).normal(size=50))
    part = values[-32:]
    across = np.full(31, 1 / 31)
    length = np.hypot(across, np.diff((part - part.min()) / np.ptp(part))).sum()
    assert rolling_sevcik(values, 32)[-1] == pytest.approx(1 + np.log(length) / np.log(2 * 31))
    walked, farthest = np.abs(np.diff(part)).sum(), np.abs(part - part[0]).max()
    # Katz: log n over log n + log(d / L), n the steps.
    assert rolling_katz(values, 32)[-1] == pytest.approx(np.log(31) / (np.log(31) + np.log(farthest / walked)))


def test_real_hours_are_near_a_random_walk_and_what_stands_still_has_none():
    found = fractal_dimension(eurusd().iloc[:3000], window=200)
    assert found["higuchi_dimension_200"].mean() == pytest.approx(1.5, abs=0.1)
    assert fractal_dimension(pd.DataFrame({"close": np.ones(60)}), window=32).isna().all(axis=None)


def repeats_by_a_loop(bars, legs=4, size=3.0, ratio=2.0, bound=0.1, memory=1000, max_wait=200):
    close = bars["close"].to_numpy()
    degrees = [find_pivots(bars, size), find_pivots(bars, size * ratio)]

    def shape(pivots, first):
        tall = np.abs(np.diff(pivots.price[first : first + legs + 1]))
        long = np.diff(pivots.row[first : first + legs + 1])
        return tall / tall.sum(), long / long.sum()

    def sequel(pivots, last, now):
        top, bottom = sorted(pivots.price[last - 1 : last + 1])[::-1]
        for t in range(pivots.confirmed[last], min(now, pivots.confirmed[last] + max_wait) + 1):
            if close[t] > top or close[t] < bottom:
                return 1 if close[t] > top else -1
        return None

    fine, expected = degrees[0], []
    for first in range(len(fine) - legs):
        last, best = first + legs, None
        now = int(fine.confirmed[last])
        tall, long = shape(fine, first)
        for pivots in degrees:
            for early in range(len(pivots) - legs):
                if pivots.confirmed[early + legs] >= fine.row[first] or pivots.row[early] < now - memory:
                    continue
                way = sequel(pivots, early + legs, now)
                if way is None:
                    continue
                a, b = shape(pivots, early)
                apart = (np.abs(a - tall).sum() / 2 + np.abs(b - long).sum() / 2) / 2
                if apart <= bound and (best is None or apart < best[0] - 1e-15):
                    best = (apart, way * int(pivots.side[early + legs]) * int(fine.side[last]), pivots.row[early])
        low, high = sorted(fine.price[last - 1 : last + 1])
        if best and low <= close[now] <= high:
            expected.append((now, best[1], int(best[2]), round(1 - best[0], 9)))
    return expected


@pytest.mark.parametrize("make", [lambda: random_walk(2500, seed=5), lambda: eurusd().iloc[:2500]])
def test_repeats_are_the_nearest_of_all_earlier_sequences(make):
    bars = make()
    found = fractal_repeat(bars, legs=4)
    got = [
        (int(at), way, bars.index.get_loc(points[0]["ts"]), round(score, 9))
        for at, way, points, score in zip(
            bars["close_ts"].searchsorted(found["confirmed_at"]),
            found["direction"],
            found["points"],
            found["score"],
            strict=True,
        )
    ]
    expected = repeats_by_a_loop(bars)
    assert got == expected
    assert len(expected) > 15


SHAPE = [(0, 100), (20, 110), (30, 104), (50, 118), (62, 106), (80, 115)]


@pytest.mark.parametrize("scale", [2.0, -1.0])
def test_a_larger_copy_and_a_mirrored_one_are_recognised(scale):
    later = [(row + 180, scale * (price - 100) + 140) for row, price in SHAPE]
    sequel = (130, 86)
    end = (275, later[-1][1] - scale * 20)
    corners = [(0, 105), (20, 100), *[(row + 20, price) for row, price in SHAPE[1:]], sequel, *later, end]
    bars = bars_through(corners)
    found = fractal_repeat(bars, legs=4)
    copy = found[(found["score"] > 0.999) & (found["start"] == bars.index[200])]
    assert copy["direction"].tolist() == [-1 if scale > 0 else 1]
    assert [bars.index.get_loc(point["ts"]) for point in copy["points"].iloc[0]] == [40, 100, 200, 260]
