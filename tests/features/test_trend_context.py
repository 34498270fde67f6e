"""Tags of trend over several horizons: the t of scipy, ages by a plain loop, what is said of random walks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.features.trend_context import tag_ages, trend_context
from tests.core.samples import eurusd
from tests.support import make_bars


def test_the_strength_is_students_t_of_the_mean_return() -> None:
    from scipy.stats import ttest_1samp

    bars = make_bars(300)
    found = trend_context(bars, short=10, middle=40, long=160)
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)
    for horizon in (10, 40, 160):
        strength = found[f"trend_tag_strength_{horizon}"]
        assert strength.isna().sum() == horizon
        for end in (160, 222, 299):
            expected = ttest_1samp(returns[end - horizon + 1 : end + 1], 0.0).statistic
            assert strength.iloc[end] == pytest.approx(expected, rel=1e-7)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, float("nan")]), max_size=30), st.integers(1, 12))
def test_ages_equal_a_plain_count(tags: list[float], longest: int) -> None:
    expected = []
    for i, tag in enumerate(tags):
        age = 0
        while age <= i and tags[i - age] == tag:
            age += 1
        expected.append(min(age, longest) if tag == tag else np.nan)
    np.testing.assert_array_equal(tag_ages(np.array(tags), longest), expected)


def test_a_rise_a_rest_and_a_fall_are_tagged_as_they_happen() -> None:
    generator = np.random.default_rng(0)
    drift = np.repeat([0.5, 0.0, -0.5], 200)
    bars = pd.DataFrame({"close": np.exp(1e-3 * np.cumsum(drift + 0.3 * generator.normal(0, 1, 600)))})
    found = trend_context(bars, short=20, middle=40, long=80, threshold=2.0, longest=500)
    assert (found["trend_tag_20"].iloc[50:200] == 1).all()
    assert (found["trend_agreement"].iloc[100:200] == 1).all()
    assert (found["trend_tag_20"].iloc[220:400] == 0).mean() > 0.7
    assert (found["trend_agreement"].iloc[500:] == -1).all()
    # Longer horizons turn later, and know their trend for longer.
    turned = [int(np.argmax(found[f"trend_tag_{h}"].to_numpy()[400:] == -1)) for h in (20, 40, 80)]
    assert turned == sorted(turned)
    assert turned[0] < 20
    last = found.iloc[-1]
    assert last["trend_tag_age_80"] <= last["trend_tag_age_40"] == pytest.approx(600 - 400 - turned[1])
    both = found.dropna()
    assert (np.sign(both["trend_tag_strength_40"]) == both["trend_tag_40"])[both["trend_tag_40"] != 0].all()
    assert (both["trend_tag_strength_40"].abs() >= 2.0).equals(both["trend_tag_40"] != 0)


def test_price_that_stands_still_is_flat() -> None:
    found = trend_context(pd.DataFrame({"close": np.full(600, 1.1)})).iloc[-1]
    assert found.filter(like="strength").eq(0).all()
    assert found.filter(like="age").eq(120).all()
    assert found["trend_agreement"] == 0.0


def test_a_random_walk_trends_as_often_as_the_page_says_and_real_bars_about_so() -> None:
    walk = pd.DataFrame({"close": np.exp(np.random.default_rng(1).normal(0, 1e-3, 40_000).cumsum())})
    found = trend_context(walk).dropna()
    assert (found["trend_tag_24"] != 0).mean() == pytest.approx(0.33, abs=0.03)
    assert (found["trend_tag_strength_24"].abs() > 2).mean() == pytest.approx(0.055, abs=0.02)
    real = trend_context(eurusd()).dropna()
    assert 0.15 < (real["trend_tag_24"] != 0).mean() < 0.5
    # 2017 was a year in which the euro rose.
    assert real["trend_tag_384"].mean() > 0.2
    assert real.filter(like="age").max().max() == 120
