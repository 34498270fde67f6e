"""Agreement, overlap, the sequential bootstrap and leaks: published cases, slow counts and planted faults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import Catalog
from tapeline.labels.consistency import (
    agreement,
    confusion,
    overlap,
    revealing_features,
    shared_with_test,
    wrong_ends,
)
from tapeline.labels.direction import candle_direction
from tapeline.labels.future_return import future_return
from tapeline.labels.sequential_bootstrap import draw_chances, label_spans, sequential_bootstrap
from tapeline.labels.triple_barrier import triple_barrier
from tapeline.labels.weights import average_uniqueness
from tests.core.samples import eurusd

LABELS = list(Catalog.discover(["tapeline.labels"]).values())


@pytest.mark.parametrize("component", LABELS, ids=lambda component: component.name)
def test_every_label_is_known_at_its_end_and_not_before(component) -> None:
    turns = np.sin(np.arange(900.0))
    bars = eurusd().iloc[:900].assign(sp500_close=10 + turns, signal=turns)
    assert wrong_ends(component.compute, bars, sample=25).empty


def test_planted_wrong_ends_are_found() -> None:
    bars = eurusd().iloc[:120]
    hour = pd.Timedelta(hours=1)
    early = wrong_ends(lambda b: future_return(b, 5).assign(t_end=lambda f: f["t_end"] - hour), bars)
    assert set(early["fault"]) == {"changes later"}
    late = wrong_ends(lambda b: future_return(b, 5).assign(t_end=lambda f: f["t_end"] + hour), bars.iloc[:30])
    assert "known earlier" in set(late["fault"])


def test_agreement_is_cohens_kappa_on_real_labels() -> None:
    bars = eurusd().iloc[:1500]
    schemes = {
        "barrier": triple_barrier(bars)["value"],
        "candle": candle_direction(bars)["value"],
        "day": np.sign(future_return(bars)["value"]),
    }
    found = agreement(schemes)
    assert len(found) == 3
    for (one, other), row in found.iterrows():
        both = pd.concat([schemes[one], schemes[other]], axis=1, join="inner").astype(int)
        assert row["bars"] == len(both)
        assert row["kappa"] == pytest.approx(cohen_kappa_score(both.iloc[:, 0], both.iloc[:, 1]))
        assert row["agreement"] == pytest.approx((both.iloc[:, 0] == both.iloc[:, 1]).mean())
    assert found.loc[("barrier", "day"), "kappa"] > 0.3
    assert confusion(schemes["barrier"], schemes["day"]).to_numpy().sum() == found.loc[("barrier", "day"), "bars"]


def test_cohens_own_example() -> None:
    """Cohen (1960), table 1: proportions of three categories by two judges; kappa is .492."""
    table = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    one = pd.Series(np.repeat(np.repeat([0.0, 1.0, 2.0], 3), table.ravel()))
    other = pd.Series(np.repeat(np.tile([0.0, 1.0, 2.0], 3), table.ravel()))
    row = agreement({"one": one, "other": other}).iloc[0]
    assert (row["agreement"], row["chance"]) == (pytest.approx(0.70), pytest.approx(0.41))
    assert row["kappa"] == pytest.approx(0.492, abs=5e-4)


def test_what_agreement_refuses() -> None:
    with pytest.raises(DataError, match="at least two"):
        agreement({"one": pd.Series([1.0])})
    twice = pd.Series([1.0, 1.0], index=[0, 0])
    with pytest.raises(DataError, match="repeat a time"):
        agreement({"one": twice, "other": twice})
    apart = agreement({"one": pd.Series([1.0]), "other": pd.Series([1.0], index=[5])})
    assert apart["bars"].iloc[0] == 0
    assert apart[["agreement", "kappa"]].isna().all().all()


def test_the_books_sequential_bootstrap() -> None:
    """Lopez de Prado (2018), section 4.5.3: labels on returns 0-2, 2-3, 4-5; after the second, 5/14, 3/14, 6/14."""
    first, last = np.array([0, 2, 4]), np.array([2, 3, 5])
    np.testing.assert_allclose(draw_chances(first, last, 6, np.array([], dtype=np.int64)), 1 / 3)
    np.testing.assert_allclose(draw_chances(first, last, 6, np.array([1])), [5 / 14, 3 / 14, 6 / 14])
    # The book's next draw is the third label; then its chance falls below the first one's.
    third = draw_chances(first, last, 6, np.array([1, 2]))
    np.testing.assert_allclose(third, np.array([5 / 6, 1 / 2, 1 / 2]) / (11 / 6))


def test_draws_follow_the_chances() -> None:
    first, last = np.array([0, 2, 4]), np.array([2, 3, 5])
    pairs = np.array([sequential_bootstrap(first, last, 6, draws=2, seed=seed) for seed in range(6000)])
    np.testing.assert_allclose(np.bincount(pairs[:, 0]) / 6000, 1 / 3, atol=0.02)
    after = pairs[pairs[:, 0] == 1, 1]
    np.testing.assert_allclose(np.bincount(after) / after.size, [5 / 14, 3 / 14, 6 / 14], atol=0.035)


def test_sequential_draws_are_more_unique_than_plain_ones() -> None:
    """The book's experiment (section 4.5.4) in small: random labels, both bootstraps, many times."""
    generator = np.random.default_rng(0)
    plain, sequential = [], []
    for seed in range(150):
        first = generator.integers(0, 100, 10)
        last = first + generator.integers(1, 5, 10)
        for chosen, kept in (
            (generator.integers(0, 10, 10), plain),
            (sequential_bootstrap(first, last, 110, seed=seed), sequential),
        ):
            kept.append(average_uniqueness(first[chosen], last[chosen], 110).mean())
    # Figure 4.2: "the median of the average uniqueness" is 0.6 of standard bootstraps and 0.7 of sequential ones.
    assert round(float(np.median(plain)), 1) == 0.6
    assert round(float(np.median(sequential)), 1) == 0.7


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=25), st.integers(0, 99))
def test_each_draw_has_the_chance_of_the_definition(spans, seed) -> None:
    first = np.array([start for start, _ in spans], dtype=np.int64)
    last = first + np.array([length for _, length in spans])
    drawn = sequential_bootstrap(first, last, 45, seed=seed)
    assert drawn.size == first.size
    np.testing.assert_array_equal(drawn, sequential_bootstrap(first, last, 45, seed=seed))
    uniform = np.random.default_rng(seed).random(first.size)
    for turn in range(drawn.size):
        beside = []
        for label in range(first.size):
            held = [*drawn[:turn], label]
            alive = [sum(first[h] <= bar <= last[h] for h in held) for bar in range(first[label], last[label] + 1)]
            beside.append(np.mean(1 / np.array(alive)))
        np.testing.assert_allclose(draw_chances(first, last, 45, drawn[:turn]), beside / np.sum(beside), atol=1e-12)
        edges = np.cumsum(beside) / np.sum(beside)
        assert (edges[drawn[turn] - 1] if drawn[turn] else 0) - 1e-12 <= uniform[turn] <= edges[drawn[turn]] + 1e-12


def test_overlap_of_a_fixed_horizon_on_real_bars() -> None:
    bars = eurusd().iloc[:1000]
    found = overlap(future_return(bars, 10), bars, most=300)
    assert found.concurrency.max() == 10
    np.testing.assert_allclose(found.uniqueness.iloc[20:-20], 0.1)
    assert found.effective == pytest.approx(100, abs=2)
    # Labels so dense that any draw covers all bars cannot be drawn better; where there is room, they are.
    sparse = overlap(future_return(bars, 10).iloc[::5], bars)
    assert sparse.sequential_bootstrap > sparse.plain_bootstrap * 1.03


def test_what_overlap_and_draws_refuse() -> None:
    bars = eurusd().iloc[:50]
    labels = future_return(bars, 3)
    with pytest.raises(DataError, match="no label"):
        overlap(labels.head(0), bars)
    with pytest.raises(DataError, match="none of the bars"):
        label_spans(labels, bars.iloc[10:])
    with pytest.raises(DataError, match="ends after the last"):
        label_spans(labels, bars.iloc[:48])
    with pytest.raises(DataError, match="within 0 and 4"):
        sequential_bootstrap(np.array([0]), np.array([5]), 5)
    with pytest.raises(DataError, match="no label to draw"):
        sequential_bootstrap(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 5, draws=2)
    with pytest.raises(ConfigurationError, match="below 1"):
        sequential_bootstrap(np.array([0]), np.array([1]), 5, draws=0)


def test_training_labels_that_reach_into_the_test_are_named() -> None:
    bars = eurusd().iloc[:300]
    labels = triple_barrier(bars, 24)
    generator = np.random.default_rng(3)
    for _ in range(5):
        start = int(generator.integers(20, 220))
        test = labels.index[start : start + 30]
        train = labels.index.difference(test)
        found = shared_with_test(labels, train, test)
        expected = [ts for ts in train if ((labels.loc[test, "t_end"] >= ts) & (test <= labels.loc[ts, "t_end"])).any()]
        assert list(found.index) == expected
        assert len(expected) > 0
        assert (labels["t_end"].loc[found["test_ts"]].to_numpy() >= found.index.to_numpy()).all()
    purged = train.difference(found.index)
    assert shared_with_test(labels, purged, test).empty
    with pytest.raises(DataError, match="test names a time"):
        shared_with_test(labels, train, bars.index[-1:])


def test_a_feature_that_is_the_label_in_disguise_is_named() -> None:
    bars = eurusd().iloc[:500]
    labels = future_return(bars, 6)["value"]
    features = pd.DataFrame(
        {"last": bars["close"].pct_change(6), "leak": np.expm1(3 * labels) + 2, "against": -labels}, index=bars.index
    )
    assert set(revealing_features(features, labels).index) == {"leak", "against"}
