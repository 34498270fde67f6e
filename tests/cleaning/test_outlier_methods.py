"""Outlier bounds against pandas, scipy and plain loops; the actions; and that the future changes nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tapeline.cleaning.outlier_methods import (
    METHODS,
    flag_outliers,
    outlier_bounds,
    outlier_bounds_whole,
    treat_outliers,
)
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tests.quality.batches import sample_bars

VALUES = st.lists(st.integers(-40, 40).map(lambda i: i / 4) | st.just(float("nan")), min_size=1, max_size=70)


def plain(x: np.ndarray, method: str, window: int, minimum: int, width: float) -> np.ndarray:
    """Lower bound, centre and upper bound, one value after the other, by numpy and scipy."""
    out = []
    for i in range(len(x)):
        past = x[:i][~np.isnan(x[:i])]
        if method in ("rolling", "hampel"):
            past = past[-window:]
        if len(past) < minimum:
            out.append((np.nan, np.nan, np.nan))
            continue
        if method in ("z", "rolling"):
            centre, reach = past.mean(), width * past.std(ddof=1)
            low, high = centre - reach, centre + reach
        elif method == "iqr":
            centre, (first, third) = np.median(past), np.quantile(past, [0.25, 0.75])
            reach = width * stats.iqr(past)
            low, high = first - reach, third + reach
        else:
            centre = np.median(past)
            scale = 1.4826 * stats.median_abs_deviation(past) or 1.2533 * np.abs(past - centre).mean()
            reach = width * scale
            low, high = centre - reach, centre + reach
        out.append((low, centre, high) if reach > 1e-12 else (np.nan, centre, np.nan))
    return np.array(out).T


@settings(max_examples=250, deadline=None)
@given(VALUES, st.sampled_from(METHODS), st.integers(4, 25), st.integers(2, 4), st.sampled_from([1.0, 2.5]))
def test_bounds_are_those_of_the_definition(
    values: list[float], method: str, window: int, minimum: int, width: float
) -> None:
    x = np.array(values)
    found = outlier_bounds(x, method, window=window, minimum=minimum, threshold=width)
    np.testing.assert_allclose(np.array(found), plain(x, method, window, minimum, width), rtol=1e-9, atol=1e-9)


def changes() -> pd.Series:
    return np.log(sample_bars()["close"]).diff()


def test_real_changes_agree_with_pandas_and_scipy() -> None:
    x = changes()
    shifted = x.shift()
    found = outlier_bounds(x, "rolling", window=100, minimum=100)
    np.testing.assert_allclose(found.centre[101:], shifted.rolling(100).mean()[101:], rtol=1e-9, atol=1e-12)
    want = (shifted.rolling(100).mean() + 10 * shifted.rolling(100).std())[101:]
    np.testing.assert_allclose(found.upper[101:], want, rtol=1e-7)
    found = outlier_bounds(x, "z")
    np.testing.assert_allclose(found.centre[31:], shifted.expanding().mean()[31:], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.upper[31:], (shifted.expanding().mean() + 10 * shifted.expanding().std())[31:])
    past = x.to_numpy()[1:5000]
    robust, fences = outlier_bounds(x, "robust_z"), outlier_bounds(x, "iqr")
    assert robust.centre[5000] == np.median(past)
    assert robust.upper[5000] == pytest.approx(np.median(past) + 14.826 * stats.median_abs_deviation(past))
    low, high = np.quantile(past, [0.25, 0.75])
    assert fences.lower[5000] == pytest.approx(low - 7 * (high - low))


def test_whole_forms_are_the_textbooks() -> None:
    x = changes().to_numpy()[1:800]
    z = outlier_bounds_whole(x, "z", threshold=3)
    np.testing.assert_array_equal(flag_outliers(x, z), np.abs(stats.zscore(x, ddof=1)) > 3)
    robust = outlier_bounds_whole(x, "robust_z", threshold=3)
    score = (x - np.median(x)) / (1.4826 * stats.median_abs_deviation(x))
    np.testing.assert_array_equal(flag_outliers(x, robust), np.abs(score) > 3)
    naive = outlier_bounds_whole(x, "hampel", window=21, minimum=5, threshold=3)
    for i in (0, 9, 10, 400, 798):
        around = x[max(i - 10, 0) : i + 11]
        scale = 1.4826 * stats.median_abs_deviation(around)
        assert (naive.centre[i], naive.upper[i]) == pytest.approx((np.median(around), np.median(around) + 3 * scale))
    rolling = outlier_bounds_whole(x, "rolling", window=21, minimum=21, threshold=3)
    assert rolling.centre[400] == pytest.approx(x[390:411].mean())
    with pytest.raises(ConfigurationError, match="even"):
        outlier_bounds_whole(x, "hampel", window=100)
    with pytest.raises(ConfigurationError, match="reads the future"):
        feature(lookback=1, outputs="x", reference="none")(outlier_bounds_whole)


@pytest.mark.parametrize("method", METHODS)
def test_the_future_changes_no_bound(method: str) -> None:
    x = changes().to_numpy()[:1500]
    whole = np.array(outlier_bounds(x, method))
    for cut in (1, 31, 777, 1499):
        changed = np.r_[x[:cut], x[cut:] * -50 + 1]
        np.testing.assert_array_equal(np.array(outlier_bounds(x[:cut], method)), whole[:, :cut])
        # The bounds of the next value do not even depend on that value.
        np.testing.assert_array_equal(np.array(outlier_bounds(changed, method))[:, : cut + 1], whole[:, : cut + 1])
    if method != "z":
        assert (np.array(outlier_bounds_whole(x, method)) != whole).any()


@pytest.mark.parametrize("action", ["clip", "winsorize", "repair"])
def test_actions_change_the_flagged_values_alone(action: str) -> None:
    x = changes().iloc[1:1000].copy()
    x.iloc[[500, 700]] = [0.2, -0.3]
    bounds = outlier_bounds(x, "hampel")
    treated, flags = treat_outliers(x, bounds, action)
    assert flags[[500, 700]].all()
    pd.testing.assert_series_equal(treated[~flags], x[~flags])
    unflagged = x.iloc[:500][~flags[:500]]
    want = {"clip": bounds.upper[500], "winsorize": np.quantile(unflagged, 0.99), "repair": bounds.centre[500]}
    assert treated.iloc[500] == pytest.approx(want[action])
    part, _ = treat_outliers(x.iloc[:600], outlier_bounds(x.iloc[:600], "hampel"), action)
    pd.testing.assert_series_equal(part, treated.iloc[:600])
    same, _ = treat_outliers(x, bounds, "flag")
    assert same is x


def test_arguments_are_checked() -> None:
    x = np.arange(5.0)
    for options, match in (
        ({"method": "sigma"}, "method 'sigma' is unknown"),
        ({"window": 1}, "window = 1"),
        ({"threshold": 0.0}, r"threshold = 0\.0"),
        ({"threshold": float("nan")}, "threshold = nan"),
        ({"window": 10}, "minimum .30. exceeds window"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            outlier_bounds(x, **options)
    bounds = outlier_bounds(x)
    with pytest.raises(ConfigurationError, match="action 'delete' is unknown"):
        treat_outliers(pd.Series(x), bounds, "delete")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="tail"):
        treat_outliers(pd.Series(x), bounds, "winsorize", tail=0.7)
