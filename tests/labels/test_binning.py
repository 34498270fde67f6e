"""Bins against scikit-learn, R's published cuts and a slow search; edges from what was known."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.preprocessing import KBinsDiscretizer

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.binning import Binner, bin_labels
from tapeline.labels.future_return import future_return
from tapeline.labels.information_bins import information_cuts
from tests.core.samples import eurusd


@pytest.mark.parametrize(("kind", "strategy"), [("quantile", "quantile"), ("uniform", "uniform")])
@pytest.mark.parametrize("bins", [2, 3, 7])
def test_the_edges_are_those_of_scikit_learn(kind, strategy, bins) -> None:
    values = future_return(eurusd(), 24)["value"].to_numpy()[:1500]
    more = {"quantile_method": "linear"} if kind == "quantile" else {}
    peer = KBinsDiscretizer(bins, encode="ordinal", strategy=strategy, subsample=None, **more).fit(values[:, None])
    ours = Binner.fit(values, kind, bins=bins)
    np.testing.assert_allclose(ours.edges, peer.bin_edges_[0][1:-1], rtol=1e-6, atol=1e-9)
    assert (ours.transform(values) == peer.transform(values[:, None])[:, 0]).mean() > 0.999
    assert ours.count == bins


@pytest.mark.parametrize("bins", [2, 5])
def test_means_are_those_of_scikit_learn(bins) -> None:
    values = future_return(eurusd(), 24)["value"].to_numpy()[:1500]
    borders = np.linspace(values.min(), values.max(), bins + 1)
    start = (borders[1:] + borders[:-1])[:, None] / 2
    # Run until nothing moves; KBinsDiscretizer stops earlier.
    peer = KMeans(bins, init=start, n_init=1, tol=0.0, max_iter=1000).fit(values[:, None])
    centres = np.sort(peer.cluster_centers_[:, 0])
    np.testing.assert_allclose(Binner.fit(values, "kmeans", bins=bins).edges, (centres[1:] + centres[:-1]) / 2)


def test_mdlp_cuts_iris_where_r_does() -> None:
    """The cut points of mdlp(iris) in R's package discretization (Kim, 2012)."""
    data, classes = load_iris(return_X_y=True)
    published = [[5.55, 6.15], [2.95, 3.35], [2.45, 4.75], [0.80, 1.75]]
    for column, cuts in enumerate(published):
        np.testing.assert_allclose(information_cuts(data[:, column], classes), cuts, atol=1e-9)


def slow_cuts(values: list[float], classes: list[int]) -> list[float]:
    """Fayyad and Irani (1993), section 3, as it stands."""

    def entropy(group: list[int]) -> float:
        return -sum(group.count(c) / len(group) * math.log2(group.count(c) / len(group)) for c in set(group))

    pairs = sorted(zip(values, classes, strict=True), key=lambda pair: pair[0])
    whole = [c for _, c in pairs]
    options = []
    for at in range(1, len(pairs)):
        if pairs[at - 1][0] < pairs[at][0]:
            left, right = whole[:at], whole[at:]
            joint = (len(left) * entropy(left) + len(right) * entropy(right)) / len(whole)
            options.append((joint, at))
    if not options:
        return []
    least = min(joint for joint, _ in options)
    joint, at = next(option for option in options if option[0] <= least + 1e-12)
    left, right = whole[:at], whole[at:]
    k, k1, k2 = len(set(whole)), len(set(left)), len(set(right))
    delta = math.log2(3**k - 2) - (k * entropy(whole) - k1 * entropy(left) - k2 * entropy(right))
    if entropy(whole) - joint <= (math.log2(len(whole) - 1) + delta) / len(whole):
        return []
    sides = (pairs[:at], pairs[at:])
    inner = [slow_cuts([v for v, _ in side], [c for _, c in side]) for side in sides]
    return sorted([(pairs[at - 1][0] + pairs[at][0]) / 2, *inner[0], *inner[1]])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), rows=st.integers(1, 80), classes=st.integers(1, 4), noise=st.sampled_from([0.1, 0.6]))
def test_mdlp_is_the_slow_search(seed, rows, classes, noise) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, classes, rows)
    values = np.round(codes % 3 + generator.normal(0, noise, rows), 1)
    ours = information_cuts(values, codes)
    expected = slow_cuts(values.tolist(), codes.tolist())
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_mdlp_finds_planted_borders_and_none_in_noise() -> None:
    generator = np.random.default_rng(0)
    values = generator.uniform(0, 1, 2000)
    np.testing.assert_allclose(information_cuts(values, np.digitize(values, [0.3, 0.7])), [0.3, 0.7], atol=2e-3)
    assert information_cuts(values, generator.integers(0, 3, 2000)).size == 0
    assert information_cuts(np.ones(50), generator.integers(0, 2, 50)).size == 0
    assert information_cuts(np.empty(0), np.empty(0, dtype=np.int64)).size == 0


def test_the_edges_come_from_labels_known_by_the_end_of_training_alone() -> None:
    bars = eurusd().iloc[:800]
    labels = future_return(bars, 24)
    end = bars["close_ts"].iloc[400]
    binned, binner = bin_labels(labels, end, bins=5)
    known = labels["t_end"] <= end
    assert binner.trained_on == known.sum() == 377
    np.testing.assert_allclose(binner.edges, np.quantile(labels["value"][known], [0.2, 0.4, 0.6, 0.8]))
    np.testing.assert_allclose(binned["bin"][known].value_counts(normalize=True), 0.2, atol=0.01)
    # Another future moves no edge and no bin of the past.
    wild = labels.assign(value=labels["value"].where(known, 100.0))
    other, same = bin_labels(wild, end, bins=5)
    assert same == binner
    pd.testing.assert_series_equal(other["bin"][known], binned["bin"][known])
    assert (other["bin"][~known] == 4).all()
    with pytest.raises(DataError, match="no label is known by"):
        bin_labels(labels, bars.index[0])


def test_mdlp_on_labels_reads_training_classes_alone() -> None:
    bars = eurusd().iloc[:600]
    labels = future_return(bars, 4)
    end = bars["close_ts"].iloc[400]
    classes = (labels["value"] > 0.0004).astype(int)
    _, binner = bin_labels(labels, end, "mdlp", classes=classes)
    assert len(binner.edges) == 1
    assert binner.edges[0] == pytest.approx(0.0004, abs=1e-4)
    flipped = classes.where(labels["t_end"] <= end, 0)
    assert bin_labels(labels, end, "mdlp", classes=flipped)[1] == binner


def test_bins_survive_json_and_a_missing_value_has_none() -> None:
    binner = Binner.fit([1.0, 2.0, np.nan, 3.0, 4.0], "quantile", bins=4, trained_until="2017-01-01T00:00:00+00:00")
    assert Binner.from_dict(json.loads(json.dumps(binner.to_dict()))) == binner
    assert binner.trained_on == 4
    assert binner.transform([np.nan, -9.0, 9.0]).tolist() == [-1, 0, 3]
    for wrong in ({}, {"kind": "guess", "edges": [1], "trained_on": 1}, {**binner.to_dict(), "edges": [2, 1]}):
        with pytest.raises(DataError, match="these are no bins"):
            Binner.from_dict(wrong)


def test_equal_values_leave_fewer_bins_and_wrong_ones_are_refused() -> None:
    assert Binner.fit([1.0] * 9 + [2.0], "quantile", bins=4).count == 1
    assert Binner.fit([5.0, 5.0], "uniform").count == 1
    for arguments, message in (
        (([1.0], "guess"), "is unknown"),
        (([1.0], "mdlp"), "needs the classes"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Binner.fit(*arguments)
    with pytest.raises(ConfigurationError, match="outside 2 and 1000"):
        Binner.fit([1.0], bins=1)
    for values in ([np.nan], [], [np.inf, 1.0]):
        with pytest.raises(DataError):
            Binner.fit(values)
    with pytest.raises(DataError, match="whole number"):
        Binner.fit([1.0, 2.0], "mdlp", classes=[0.5, 1])
    with pytest.raises(DataError, match="1 classes for 2 values"):
        Binner.fit([1.0, 2.0], "mdlp", classes=[1])
