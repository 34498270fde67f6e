"""The kernels of profiles against exact fractions, scipy's prominence, and plain loops."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from tapeline.charts import profile_kernels as kernels
from tests.core.samples import rough_bars

VOLUMES = st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(any)


def exact_rows(low, high, weight, bottom, height, rows):
    """Each bar over each row by its overlap, in fractions: a row takes its lower border, the last one both."""
    volume = [Fraction(0)] * rows
    borders = [Fraction(bottom) + k * Fraction(height) for k in range(rows + 1)]
    for down, up, load in zip(map(Fraction, low), map(Fraction, high), map(Fraction, weight), strict=True):
        for k in range(rows):
            if down == up:
                here = borders[k] <= down < borders[k + 1] or (k == rows - 1 and down == borders[rows])
                volume[k] += load if here else 0
            else:
                volume[k] += load * max(min(up, borders[k + 1]) - max(down, borders[k]), Fraction(0)) / (up - down)
    return np.array([float(part) for part in volume])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64), st.integers(0, 1000)), min_size=1, max_size=30),
    st.sampled_from([1, 3, 8, 48, 64]),
)
def test_a_bar_is_spread_evenly_to_the_last_digit(bars, rows):
    pairs = np.array([(min(a, b), max(a, b), v) for a, b, v in bars], dtype=np.float64)
    low, high, weight = 100.0 + pairs[:, 0] / 64.0, 100.0 + pairs[:, 1] / 64.0, np.ascontiguousarray(pairs[:, 2])
    volume = np.empty(rows)
    total = kernels.spread(low, high, weight, 100.0, 1.0 / rows, volume)
    whole = max(weight.sum(), 1.0)
    # The height of a third is no number of the binary system: who stands on a border may fall on either side of it.
    if rows in (1, 8, 64):
        np.testing.assert_allclose(volume, exact_rows(low, high, weight, 100.0, 1.0 / rows, rows), atol=1e-9 * whole)
    assert total == pytest.approx(weight.sum(), rel=1e-9)
    assert volume.sum() == pytest.approx(weight.sum(), rel=1e-9)
    assert volume.min() >= 0.0


def test_a_needle_across_a_border_drowns_nothing():
    """Its density is a billion times that of the others; what it leaves in their rows must still be nothing."""
    low, high = np.array([0.0, 1.0, 2.0 - 1e-12]), np.array([4.0, 4.0, 2.0 + 1e-12])
    volume = np.empty(4)
    kernels.spread(low, high, np.array([4.0, 1.0, 8.0]), 0.0, 1.0, volume)
    np.testing.assert_allclose(volume, [1.0, 5.0 + 1.0 / 3.0, 5.0 + 1.0 / 3.0, 1.0 + 1.0 / 3.0], rtol=1e-3)
    assert volume[0] == 1.0
    assert volume[3] == pytest.approx(1.0 + 1.0 / 3.0, rel=1e-12)
    assert volume.sum() == pytest.approx(13.0, rel=1e-12)


def test_a_row_that_nobody_traded_holds_nothing_at_all():
    low, high = np.array([0.0, 7.3, 7.1, 0.2]), np.array([3.0, 10.0, 9.7, 2.9])
    volume = np.empty(10)
    kernels.spread(low, high, np.array([1e9, 3.0, 0.1, 7.0]), 0.0, 1.0, volume)
    assert volume[3:7].tolist() == [0.0] * 4


@settings(max_examples=80, deadline=None)
@given(VOLUMES, st.floats(0.05, 1.0), st.sampled_from([1, 2]))
def test_the_value_area_grows_as_the_book_says(numbers, share, together):
    volume = np.array(numbers, dtype=np.float64)
    total = volume.sum()
    control = kernels.control_row(volume, total)
    middle = (len(numbers) - 1) / 2
    assert control == min(
        (k for k in range(len(numbers)) if numbers[k] == max(numbers)), key=lambda k: (abs(k - middle), k)
    )
    first = last = control
    held = numbers[control]
    while held < share * sum(numbers) * (1 - 1e-11):
        above, below = numbers[last + 1 : last + 1 + together], numbers[max(first - together, 0) : first]
        if above and (not below or sum(above) >= sum(below)):
            last, held = last + len(above), held + sum(above)
        else:
            first, held = first - len(below), held + sum(below)
    assert kernels.value_rows(volume, total, control, share, together) == (first, last)
    assert volume[first : last + 1].sum() >= share * total * (1 - 1e-9)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=3, max_size=40, unique=True), st.floats(0.01, 1.0))
def test_nodes_are_the_prominent_peaks_and_the_lowest_rows_between_them(numbers, share):
    volume = np.array(numbers, dtype=np.float64)
    size = share * volume.max()
    row, side = np.empty(volume.size, np.int64), np.empty(volume.size, np.int8)
    count = kernels.profile_nodes(volume, volume.sum(), size, row, side)
    padded = np.concatenate(([0.0], volume, [0.0]))
    peaks = find_peaks(padded, prominence=size)[0] - 1
    found = row[:count][side[:count] > 0]
    assert found.tolist() == peaks.tolist()
    lows = [a + int(np.argmin(volume[a:b])) for a, b in pairwise(peaks)]
    assert row[:count][side[:count] < 0].tolist() == lows


def test_a_plateau_counts_as_its_middle():
    row, side = np.empty(9, np.int64), np.empty(9, np.int8)
    count = kernels.profile_nodes(np.array([1.0, 5, 5, 5, 0, 0, 0, 4, 1]), 21.0, 2.0, row, side)
    assert (row[:count].tolist(), side[:count].tolist()) == ([2, 5, 7], [1, -1, 1])


def test_the_first_trade_of_a_price_is_that_of_a_plain_search():
    generator = np.random.default_rng(5)
    middle = np.cumsum(generator.normal(0, 1, 400))
    low, high = middle - generator.uniform(0, 1, 400), middle + generator.uniform(0, 1, 400)
    low[7], high[50] = np.nan, np.nan
    known = np.sort(generator.integers(0, 400, 60))
    price = np.round(middle[known] + generator.normal(0, 4, 60), 1)
    expected = [
        next((t for t in range(k, 400) if low[t] <= level <= high[t]), -1)
        for k, level in zip(known, price, strict=True)
    ]
    assert kernels.first_trades(low, high, known, price).tolist() == expected
    assert -1 in expected


def slow_profile(bars, rows=48, share=0.7, together=2):
    low, high, volume = (bars[name].to_numpy() for name in ("low", "high", "volume"))
    bottom, top = low.min(), high.max()
    out = np.empty(rows)
    total = kernels.spread(low, high, volume, bottom, (top - bottom) / rows, out)
    control = kernels.control_row(out, total)
    first, last = kernels.value_rows(out, total, control, share, together)
    step = (top - bottom) / rows
    places = np.arange(rows) - (np.arange(rows) * out).sum() / total
    skew = (places**3 * out).sum() / total / ((places**2 * out).sum() / total) ** 1.5
    return bottom + (control + 0.5) * step, bottom + first * step, bottom + (last + 1) * step, skew, top - bottom


def test_each_rolling_profile_is_that_of_its_window_alone():
    bars = rough_bars(400)
    result = np.empty((5, len(bars)))
    kernels.rolling_profiles(*(bars[name].to_numpy() for name in ("low", "high", "volume")), 60, 48, 0.7, 2, result)
    assert np.isnan(result[:, :59]).all()
    compared = 0
    for t in range(59, 400, 7):
        window = bars.iloc[t - 59 : t + 1]
        if window["volume"].sum() == 0.0 or window["high"].max() == window["low"].min():
            assert np.isnan(result[:, t]).all()
            continue
        assert result[:, t] == pytest.approx(slow_profile(window), rel=1e-9)
        compared += 1
    assert compared > 30


def test_each_developing_profile_is_that_of_the_period_so_far():
    bars = rough_bars(300)
    begins = np.arange(300) // 50 * 50
    low, high, volume = (bars[name].to_numpy() for name in ("low", "high", "volume"))
    result = np.empty((3, 300))
    kernels.developing_profiles(low, high, volume, begins, 40, 48, 0.7, 2, result)
    compared = 0
    for t in range(300):
        window = bars.iloc[begins[t] : t + 1]
        if t - begins[t] >= 40 or window["volume"].sum() == 0.0 or window["high"].max() == window["low"].min():
            assert np.isnan(result[:, t]).all()
            continue
        assert result[:, t] == pytest.approx(slow_profile(window)[:3], rel=1e-12)
        compared += 1
    assert compared > 100
