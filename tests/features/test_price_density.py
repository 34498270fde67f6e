"""Densities against scipy's, clusters against scikit-learn's DBSCAN, levels only from turns that were confirmed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.features.density_kernels import CELLS, cluster_sorted, rolling_density
from tapeline.features.price_density import price_clusters, price_density, standing_clusters
from tests.core.samples import eurusd
from tests.support import make_bars


def walk(rows: int, seed: int) -> np.ndarray:
    return 100.0 + np.random.default_rng(seed).normal(0, 1, rows).cumsum()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_density_is_scipys(weighted: bool) -> None:
    from scipy.stats import gaussian_kde

    prices = walk(300, 1)
    weights = np.random.default_rng(2).exponential(1.0, 300) if weighted else np.ones(300)
    at = prices + np.random.default_rng(3).normal(0, 2, 300)
    window = 120
    share, to_main, to_nearest, count = rolling_density(prices, weights, at, window, 0.0)
    assert np.isnan(share[: window - 1]).all()
    for end in (119, 180, 240, 299):
        recent, heavy = prices[end - window + 1 : end + 1], weights[end - window + 1 : end + 1]
        theirs = gaussian_kde(recent, weights=heavy)
        grid = np.linspace(recent.min(), recent.max(), 5001)
        density = theirs(grid)
        assert share[end] == pytest.approx(min(theirs(at[end])[0] / density.max(), 1.0), rel=0.01, abs=1e-6)
        deviation = np.sqrt(np.average((recent - np.average(recent, weights=heavy)) ** 2, weights=heavy))
        cell = (grid[-1] - grid[0]) / (CELLS - 1)
        peaks = np.flatnonzero((density > np.r_[-1, density[:-1]]) & (density >= np.r_[density[1:], -1]))
        peaks = peaks[density[peaks] >= 0.1 * density.max()]
        assert count[end] == peaks.size
        main = at[end] - grid[density.argmax()]
        nearest = min(at[end] - grid[peaks], key=abs)
        assert to_main[end] * deviation == pytest.approx(main, abs=1.01 * cell)
        assert to_nearest[end] * deviation == pytest.approx(nearest, abs=1.01 * cell)


def test_volume_draws_the_mode_to_where_it_was_traded() -> None:
    bars = make_bars(60, gaps=False)
    price = np.where(np.arange(60) < 40, 1.0, 1.2) + 0.001 * np.sin(np.arange(60.0))
    bars = bars.assign(open=price, high=price, low=price, close=price, volume=np.where(price > 1.1, 100.0, 1.0))
    by_time = price_density(bars, window=60).iloc[-1]
    by_volume = price_density(bars, window=60, weight="volume").iloc[-1]
    assert by_time["time_to_main_mode_60"] == pytest.approx(0.2 / np.std(price), rel=0.05)
    assert abs(by_volume["volume_to_main_mode_60"]) < 0.3
    assert by_time["time_density_60"] < 0.8 < by_volume["volume_density_60"]
    none = price_density(bars.assign(volume=[np.nan, 0.0] * 30), window=60, weight="volume")
    assert none.isna().all().all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=40),
    st.sampled_from([1.5, 2.5, 4.5]),
    st.integers(2, 6),
)
def test_clusters_are_those_of_scikit_learn(places: list[int], reach: float, minimum: int) -> None:
    from sklearn.cluster import DBSCAN

    values = np.sort(np.array(places, dtype=np.float64))
    marks = np.empty(values.size, dtype=np.int64)
    count = cluster_sorted(values, values.size, reach, minimum, marks)
    theirs = DBSCAN(eps=reach, min_samples=minimum).fit(values[:, None]).labels_
    np.testing.assert_array_equal(marks, theirs)
    assert count == theirs.max() + 1


def plain_levels(bars: pd.DataFrame, window: int, span: int, reach: float, turns: int) -> list[tuple[float, int]]:
    """Mean price and number of turns of each cluster at the last bar, by the definition and scikit-learn."""
    from sklearn.cluster import DBSCAN

    part = bars.iloc[-window:]
    high, low = part["high"].to_numpy(), part["low"].to_numpy()
    found = []
    for row in range(span, window - span):
        sides = [k for k in range(row - span, row + span + 1) if k != row]
        for values, beyond in ((high, 1.0), (low, -1.0)):
            now = beyond * values[row]
            if all(now > beyond * values[k] if k < row else now >= beyond * values[k] for k in sides):
                found.append(values[row])
    before = bars["close"].shift(1).iloc[-window:].to_numpy()
    unit = (np.maximum(high, before) - np.minimum(low, before)).mean()
    prices = np.sort(np.array(found))[:, None]
    labels = DBSCAN(eps=reach * unit, min_samples=turns).fit(prices).labels_
    return [(float(prices[labels == k].mean()), int((labels == k).sum())) for k in range(labels.max() + 1)]


@pytest.mark.parametrize("end", [200, 333, 500])
def test_levels_equal_the_plain_form_in_both_views(end: int) -> None:
    bars = make_bars(500, seed=4).iloc[:end]
    expected = plain_levels(bars, 160, 2, 0.3, 3)
    assert expected
    table = standing_clusters(bars, window=160, span=2, reach=0.3, turns=3)
    assert table["turns"].tolist() == [turns for _, turns in expected]
    np.testing.assert_allclose(table["level"], [level for level, _ in expected])
    assert (table["known_at"] <= bars.index[-1]).all()
    assert (table["low"] <= table["level"]).all()
    assert (table["level"] <= table["high"]).all()
    row = price_clusters(bars, window=160, span=2, reach=0.3, turns=3).iloc[-1]
    close = bars["close"].iloc[-1]
    before = bars["close"].shift(1).iloc[-160:]
    part = bars.iloc[-160:]
    unit = (np.maximum(part["high"], before) - np.minimum(part["low"], before)).mean()
    above = [(level - close, turns) for level, turns in expected if level > close]
    below = [(close - level, turns) for level, turns in expected if level <= close]
    for name, side in (("above", above), ("below", below)):
        distance, turns = min(side, default=(np.inf, 0))
        if distance / unit < 20:
            assert row[f"cluster_{name}_160"] == pytest.approx(distance / unit)
            assert row[f"cluster_{name}_turns_160"] == turns
        else:
            assert row[f"cluster_{name}_160"] == 20.0
            assert row[f"cluster_{name}_turns_160"] == 0.0


def test_a_turn_counts_only_once_it_is_confirmed() -> None:
    """Two turns at one price stood before; the third makes the level three bars after it, not sooner."""
    close = 10.0 + np.sin(0.37 * np.arange(60.0)) * 0.3
    for row in (15, 30, 45):
        close[row] = 13.0
    ts = pd.date_range("2017-01-02", periods=60, freq="1h", tz="UTC", name="ts").as_unit("ns")
    bars = pd.DataFrame({"open": close, "high": close + 0.01, "low": close - 0.01, "close": close}, index=ts)
    found = price_clusters(bars, window=44, span=3, reach=0.05, turns=3)
    made = found["cluster_above_turns_44"] == 3
    near = found["cluster_above_44"] > 3
    assert not (made & near).iloc[:48].any()
    assert (made & near).iloc[48]
    assert len(standing_clusters(bars.iloc[:48], window=44, span=3, reach=0.05)) + 1 == len(
        standing_clusters(bars.iloc[:49], window=44, span=3, reach=0.05)
    )


def test_wrong_parameters_are_refused_and_young_bars_have_no_levels() -> None:
    bars = make_bars(100)
    with pytest.raises(ConfigurationError, match="window = 5"):
        standing_clusters(bars, window=5)
    with pytest.raises(ConfigurationError, match="reach = 0"):
        standing_clusters(bars, reach=0)
    assert standing_clusters(bars.iloc[:0]).empty
    assert standing_clusters(bars, window=200).empty


def test_real_bars_turn_at_levels_and_return_to_modes() -> None:
    bars = eurusd().head(4000)
    density = price_density(bars).iloc[240:]
    assert density["time_density_240"].between(0, 1).all()
    # Price is more often where it has been often: at a place drawn evenly from the range it would be about half.
    assert density["time_density_240"].median() > 0.35
    assert (density["time_modes_240"] >= 1).all()
    levels = price_clusters(bars).iloc[481:]
    assert levels.notna().all().all()
    known = levels[(levels["cluster_below_turns_480"] > 0) & (levels["cluster_above_turns_480"] > 0)]
    assert len(known) > 0.3 * len(levels)
    assert (known[["cluster_above_turns_480", "cluster_below_turns_480"]] >= 3).all().all()
