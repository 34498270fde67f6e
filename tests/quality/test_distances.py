"""Distances and histograms against scipy, a plain oracle, and themselves in parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from tapeline.core.errors import DataError
from tapeline.quality.distances import kernel_width, kolmogorov_smirnov, mean_discrepancy, wasserstein
from tapeline.quality.histogram import bin_counts, equal_share_edges, jensen_shannon, stability

VALUES = st.lists(
    st.one_of(
        st.floats(-1e6, 1e6, width=32), st.integers(-3, 3).map(float), st.sampled_from([np.nan, np.inf, -np.inf])
    ),
    min_size=1,
    max_size=60,
)
FINITE = st.lists(st.one_of(st.floats(-1e3, 1e3), st.integers(-3, 3).map(float)), min_size=1, max_size=60)


@given(values=VALUES, points=st.lists(st.floats(-1e6, 1e6), max_size=9, unique=True), narrow=st.booleans())
@settings(max_examples=150, deadline=None)
def test_each_value_lies_in_the_bin_whose_edges_enclose_it(values, points, narrow):
    edges = np.sort(np.array(points, dtype=np.float64))
    held = np.array(values, dtype=np.float32 if narrow else np.float64)
    expected = np.zeros(len(edges) + 1, dtype=int)
    for x in held.astype(np.float64):
        if np.isfinite(x):
            expected[sum(x >= edge for edge in edges)] += 1
    assert bin_counts(held, edges).tolist() == expected.tolist()
    cut = len(held) // 3
    assert (bin_counts(held[:cut], edges) + bin_counts(held[cut:], edges)).tolist() == expected.tolist()


def test_more_values_than_a_block_are_counted_once():
    values = np.random.default_rng(0).normal(size=20_001)
    edges = equal_share_edges(np.sort(values))
    assert bin_counts(values, edges).sum() == 20_001
    assert np.ptp(bin_counts(values, edges)) <= 1, "of equal share"


@given(one=FINITE, other=FINITE)
@settings(max_examples=150, deadline=None)
def test_the_distances_are_those_of_scipy(one, other):
    reference, batch = np.sort(one), np.sort(other)
    assert kolmogorov_smirnov(reference, batch) == pytest.approx(
        ks_2samp(reference, batch, method="asymp").statistic, abs=1e-12
    )
    assert wasserstein(reference, batch) == pytest.approx(wasserstein_distance(reference, batch), rel=1e-9, abs=1e-9)


def test_the_discrepancy_is_that_of_all_pairs():
    generator = np.random.default_rng(3)
    # An offset as of a price: the angles must not lose their digits.
    reference, batch = np.sort(60_000 + generator.normal(size=150)), 60_000 + generator.normal(1.0, 2.0, 70)
    width = kernel_width(reference)

    def mean_kernel(a, b):
        return np.exp(-((a[:, None] - b) ** 2) / (2 * width**2)).mean()

    exact = mean_kernel(reference, reference) + mean_kernel(batch, batch) - 2 * mean_kernel(reference, batch)
    assert exact > 0.1
    assert mean_discrepancy(reference, batch) == pytest.approx(exact, abs=1e-6)


def test_jensen_shannon_is_scipys_and_stability_is_its_formula():
    generator = np.random.default_rng(4)
    for _ in range(20):
        p, q = generator.integers(0, 9, 7).astype(float), generator.integers(0, 9, 7).astype(float)
        p[0] = q[1] = 5
        assert float(jensen_shannon(p, q)) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
        a, b = (q + 0.5) / (q + 0.5).sum(), (p + 0.5) / (p + 0.5).sum()
        assert float(stability(p, q)) == pytest.approx(sum((a - b) * np.log(a / b)))


def test_nothing_cannot_be_compared():
    with pytest.raises(DataError, match="no finite value"):
        kolmogorov_smirnov(np.array([1.0]), np.array([]))
