"""Z-scores and volume normalisers against pandas and slow readable loops."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning import normalization as norm
from tapeline.cleaning import volume_profile as profile
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import feature
from tests.core.samples import eurusd

ROLLING = {
    "rolling": lambda x, before=0: norm.rolling_zscore(x, 20, before=before),
    "robust": lambda x, before=0: norm.robust_zscore(x, 20, before=before),
    "expanding": lambda x, before=0: norm.expanding_zscore(x, 20, before=before),
    "ewm": lambda x, before=0: norm.ewm_zscore(x, 20, before=before),
}


def pandas_scores(name: str, x: pd.Series) -> pd.Series:
    if name == "robust":
        middle = x.rolling(20).median()
        mad = x.rolling(20).apply(lambda part: np.median(np.abs(part - np.median(part))), raw=True)
        return (x - middle) / (1.4826 * mad)
    seen = {"rolling": x.rolling(20), "expanding": x.expanding(20), "ewm": x.ewm(span=20, min_periods=20)}[name]
    return (x - seen.mean()) / seen.std()


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return eurusd().head(1200)


@pytest.mark.parametrize("name", ROLLING)
def test_scores_are_those_of_pandas(name, bars) -> None:
    for x in (bars["volume"], np.log(bars["close"]).diff(), bars["close"]):
        np.testing.assert_allclose(ROLLING[name](x), pandas_scores(name, x), rtol=1e-6, atol=1e-6)
    holed = bars["volume"].mask(np.arange(1200) % 97 == 50)
    np.testing.assert_allclose(ROLLING[name](holed), pandas_scores(name, holed), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ROLLING)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_scores_know_no_future(name, before, bars) -> None:
    x = bars["close"].to_numpy()[:400]
    full = ROLLING[name](x, before)
    for cut in (1, 19, 25, 200, 399):
        np.testing.assert_array_equal(ROLLING[name](np.r_[x[:cut], 5 * x[cut:]], before)[:cut], full[:cut])
        np.testing.assert_array_equal(ROLLING[name](x[:cut].copy(), before), full[:cut])


@pytest.mark.parametrize("name", ROLLING)
def test_a_surprise_is_held_against_the_values_before(name) -> None:
    x = np.random.default_rng(0).normal(size=100)
    x[-1] = 1e6
    with_it, without = ROLLING[name](x)[-1], ROLLING[name](x, 1)[-1]
    assert without > 1e5
    assert name == "robust" or with_it < 10
    assert np.isnan(ROLLING[name](np.full(60, 3.3))).all(), "where nothing varies there is no score"
    assert ROLLING[name](np.array([])).size == 0


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=60), scale=st.sampled_from([0.5, 8.0, 1024.0]))
def test_scores_have_no_unit_and_no_origin(values, scale) -> None:
    x = np.round(np.array(values), 3)
    for score in (norm.rolling_zscore(x, 3), norm.robust_zscore(x, 3), norm.expanding_zscore(x, 3)):
        assert np.nanmax(np.abs(score), initial=0.0) < 1e7
    np.testing.assert_array_equal(norm.robust_zscore(x * scale, 3), norm.robust_zscore(x, 3))
    np.testing.assert_allclose(
        norm.expanding_zscore(x * scale + 64, 3), norm.expanding_zscore(x, 3), rtol=1e-3, atol=1e-3
    )


def test_one_huge_value_does_not_stay_in_the_sums() -> None:
    x = np.random.default_rng(0).normal(size=300)
    spiked = x.copy()
    spiked[100] = 1e12
    np.testing.assert_allclose(norm.rolling_zscore(spiked, 20)[120:], norm.rolling_zscore(x, 20)[120:], rtol=1e-9)


def test_the_whole_form_is_scipys_and_refused(bars) -> None:
    from scipy.stats import zscore

    np.testing.assert_allclose(norm.zscore_whole(bars["close"]), zscore(bars["close"]), rtol=1e-9)
    with pytest.raises(ConfigurationError, match="reads the future"):
        feature(lookback=1, outputs="x", reference="none")(norm.zscore_whole)


@pytest.mark.parametrize("method", ["mean", "median"])
def test_a_fit_learns_from_training_alone(method, bars) -> None:
    training, later = bars[["close", "volume"]].iloc[:600], bars[["volume", "close"]].iloc[600:] * 7.0
    fitted = norm.fit_zscore(training, method)
    scores = fitted.transform(later)
    assert list(scores.columns) == ["close", "volume"]
    for name in scores:
        known = training[name]
        centre = known.mean() if method == "mean" else known.median()
        scale = known.std() if method == "mean" else 1.4826 * (known - known.median()).abs().median()
        np.testing.assert_allclose(scores[name], (later[name] - centre) / scale, rtol=1e-9)
    pd.testing.assert_frame_equal(fitted.inverse(scores), later[["close", "volume"]])
    again = norm.ZScore.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    pd.testing.assert_frame_equal(fitted.transform(later.iloc[:5]), scores.iloc[:5])


def test_a_fit_refuses_what_it_cannot_learn_from() -> None:
    with pytest.raises(DataError, match="'x' has 1 known"):
        norm.fit_zscore(pd.DataFrame({"x": [1.0, np.nan]}))
    with pytest.raises(DataError, match="row 1"):
        norm.fit_zscore(pd.DataFrame({"x": [1.0, np.inf]}))
    with pytest.raises(ConfigurationError, match="method"):
        norm.fit_zscore(pd.DataFrame({"x": [1.0, 2.0]}), "mode")
    flat = norm.fit_zscore(pd.DataFrame({"x": [0.1, 0.1, 0.1]}))
    assert flat.transform(pd.DataFrame({"x": [5.0]})).isna().all(axis=None)
    assert norm.ZScore.from_dict(json.loads(json.dumps(flat.to_dict()))).to_dict() == flat.to_dict()
    with pytest.raises(DataError, match="missing"):
        flat.transform(pd.DataFrame({"y": [5.0]}))
    for stored in ({}, {**flat.to_dict(), "centres": []}, {**flat.to_dict(), "scales": [-1]}, {"method": 1}):
        with pytest.raises(DataError, match="stored"):
            norm.ZScore.from_dict(stored)


def test_volume_over_its_median_and_its_logarithm(bars) -> None:
    volume = bars["volume"]
    usual = volume.rolling(48).median().shift()
    np.testing.assert_allclose(profile.volume_to_median(volume, 48), volume / usual, rtol=1e-12)
    np.testing.assert_allclose(profile.log_volume(volume, 48), np.log((1 + volume / usual) / 2), rtol=1e-9, atol=1e-12)
    assert np.isnan(profile.volume_to_median(np.zeros(9), 3)).all()
    with pytest.raises(DataError, match="row 1"):
        profile.volume_to_median(np.array([1.0, -1.0, 2.0]), 1)


def slow_relative(volume: pd.Series, days: int, minimum: int, minutes: int, zone: str) -> list[float]:
    local = volume.index.tz_convert(zone)
    slot = (local.hour * 60 + local.minute) // minutes
    result = []
    for row, value in enumerate(volume):
        same = volume.iloc[:row][slot[:row] == slot[row]].dropna().tail(days)
        usual = same.median() if len(same) >= minimum else np.nan
        result.append(value / usual if usual > 0 else np.nan)
    return result


@pytest.mark.parametrize(("zone", "minutes"), [("UTC", 60), ("America/New_York", 240)])
def test_relative_volume_by_time_is_the_slow_loop(zone, minutes, bars) -> None:
    volume = bars["volume"].iloc[:700].mask(np.arange(700) % 41 == 3)
    ours = profile.relative_volume_by_time(volume, days=10, minimum=3, slot_minutes=minutes, zone=zone)
    np.testing.assert_allclose(ours, slow_relative(volume, 10, 3, minutes, zone), rtol=1e-12)
    shaped = pd.Series(100.0 + 50.0 * (volume.index.hour == 8), volume.index)
    np.testing.assert_allclose(profile.relative_volume_by_time(shaped)[200:], 1.0), "the shape of the day is gone"


def slow_cumulative(volume: pd.Series, days: int, minimum: int) -> list[float]:
    date, hour = volume.index.date, volume.index.hour
    result = []
    for row in range(len(volume)):
        past = []
        earlier = [day for day in dict.fromkeys(date[:row]) if day != date[row]][-days:]
        for day in earlier:
            inside = (date == day) & (np.arange(len(volume)) < row)
            if hour[inside].max() >= hour[row] and not volume[inside].isna().any():
                past.append(volume[inside & (hour <= hour[row])].sum())
        so_far = volume[(date == date[row]) & (np.arange(len(volume)) <= row)].sum(skipna=False)
        usual = np.median(past) if len(past) >= minimum else np.nan
        result.append(so_far / usual if usual > 0 else np.nan)
    return result


def test_the_day_so_far_is_the_slow_loop(bars) -> None:
    volume = bars["volume"].iloc[30:430].mask(np.arange(400) == 77)
    volume = volume.drop(volume.index[[5, 6, 111, 240, 241]])
    ours = profile.cumulative_relative_volume(volume, days=6, minimum=2)
    np.testing.assert_allclose(ours, slow_cumulative(volume, 6, 2), rtol=1e-12)


@pytest.mark.parametrize("function", [profile.relative_volume_by_time, profile.cumulative_relative_volume])
def test_relative_volumes_know_no_future_and_forget(function, bars) -> None:
    volume = bars["volume"]
    full = function(volume, longest=300)
    for cut in (20, 333, 700):
        pd.testing.assert_series_equal(function(volume.iloc[:cut], longest=300), full.iloc[:cut])
    for last in (450, 777, 1199):
        tail = function(volume.iloc[last - 299 : last + 1], longest=300)
        assert tail.iloc[-1] == pytest.approx(full.iloc[last], nan_ok=True, rel=1e-12)
    for wrong in (
        {"slot_minutes": 7},
        {"zone": "Mars/Phobos"},
        {"zone": "../../etc/passwd"},
        {"days": 0},
        {"minimum": 30},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            function(volume, **wrong)
    with pytest.raises(DataError, match="UTC"):
        function(volume.tz_localize(None))


def test_an_opening_stays_in_its_slot_through_summer_time() -> None:
    index = pd.DatetimeIndex(["2017-03-10 14:30", "2017-03-13 13:30"], tz="UTC")
    slots, days = profile.time_slots(index, 30, "America/New_York")
    assert slots.tolist() == [19, 19]
    assert (days[1] - days[0]) == 3
