"""The as-of join against a slow definition, and the ways in which a join could read the future."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.core.pit import asof_join, join_timeframe
from tapeline.core.timeframe import Timeframe

H1, H4, D1, M15 = (Timeframe.parse(name) for name in ("H1", "H4", "D1", "M15"))


def instants(minutes: list[int]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.Timestamp("2017-01-02", tz="UTC") + pd.to_timedelta(minutes, unit="min")).as_unit("ns")


@settings(max_examples=200, deadline=None)
@given(
    at=st.lists(st.integers(0, 100), min_size=1, max_size=15).map(sorted),
    known=st.lists(st.integers(0, 100), max_size=15),
    lag=st.integers(0, 20),
    tolerance=st.none() | st.integers(0, 40),
)
def test_equal_to_the_definition(at, known, lag, tolerance) -> None:
    left = pd.DataFrame(index=instants(at))
    right = pd.DataFrame({"value": np.arange(float(len(known)))})
    joined = asof_join(
        left,
        right,
        at=instants(at),
        known_at=instants(known),
        lag=timedelta(minutes=lag),
        tolerance=None if tolerance is None else timedelta(minutes=tolerance),
        age=True,
    )
    for row, now in enumerate(at):
        eligible = [(when, place) for place, when in enumerate(known) if when + lag <= now]
        if tolerance is not None and eligible and now - (max(eligible)[0] + lag) > tolerance:
            eligible = []
        if eligible:
            when, place = max(eligible)
            assert joined["value"].iloc[row] == place
            assert joined["age"].iloc[row] == 60.0 * (now - when - lag)
        else:
            assert np.isnan(joined["value"].iloc[row])
            assert np.isnan(joined["age"].iloc[row])


def test_a_higher_bar_is_seen_from_its_close_on() -> None:
    hours = pd.date_range("2017-01-02", periods=9, freq="1h", tz="UTC", name="ts")
    bars = pd.DataFrame({"close": np.arange(9.0)}, index=hours)
    higher = pd.DataFrame({"close": [10.0, 20.0]}, index=hours[[0, 4]])
    joined = join_timeframe(bars, H1, higher, H4, prefix="h4_")
    np.testing.assert_array_equal(joined["h4_close"].to_numpy(), [np.nan] * 3 + [10.0] * 4 + [20.0] * 2)


def test_a_lower_bar_is_seen_from_its_close_on() -> None:
    quarters = pd.date_range("2017-01-02", periods=8, freq="15min", tz="UTC", name="ts")
    lower = pd.DataFrame({"close": np.arange(8.0)}, index=quarters)
    bars = pd.DataFrame({"close": [0.0, 1.0]}, index=quarters[[0, 4]])
    assert join_timeframe(bars, H1, lower, M15, prefix="m_")["m_close"].tolist() == [3.0, 7.0]


def test_a_row_that_arrived_late_is_seen_late_and_never_before_its_close() -> None:
    days = pd.date_range("2017-01-02", periods=2, freq="1D", tz="UTC", name="ts")
    hours = pd.date_range("2017-01-03", periods=30, freq="1h", tz="UTC", name="ts")
    other = pd.DataFrame({"close": [1.0, 2.0], "known_at": [days[0], days[1] + pd.Timedelta(days=1, hours=3)]}, days)
    joined = join_timeframe(pd.DataFrame(index=hours), H1, other, D1)["close"]
    # The first claims to have been known at its open: its close still counts.
    assert joined.iloc[0] == 1.0
    assert joined.loc["2017-01-04 01:00"] == 1.0
    assert joined.loc["2017-01-04 02:00"] == 2.0
    early = join_timeframe(pd.DataFrame(index=hours - pd.Timedelta(hours=2)), H1, other, D1)["close"]
    assert np.isnan(early.iloc[0])


def test_the_tolerance_reaches_the_join_of_timeframes() -> None:
    days = pd.date_range("2017-01-02", periods=1, freq="1D", tz="UTC", name="ts")
    hours = pd.date_range("2017-01-03", periods=30, freq="1h", tz="UTC", name="ts")
    other = pd.DataFrame({"close": [1.0]}, days)
    joined = join_timeframe(pd.DataFrame(index=hours), H1, other, D1, tolerance=timedelta(hours=5), age=True)
    assert joined["close"].notna().sum() == 5
    assert joined["age"].iloc[4] == 5 * 3600


def test_other_dtypes_survive_and_nothing_is_changed_in_place() -> None:
    left = pd.DataFrame({"x": [1, 2]}, index=instants([10, 20]))
    right = pd.DataFrame({"count": [7], "flag": [True], "text": ["a"], "when": instants([5])})
    before = right.copy()
    joined = asof_join(left, right, at=instants([10, 20]), known_at=instants([15]), prefix="r_")
    assert joined["r_count"].iloc[1] == 7
    assert joined["r_text"].iloc[1] == "a"
    assert joined["r_when"].iloc[1] == instants([5])[0]
    assert joined.iloc[0][["r_count", "r_flag", "r_text", "r_when"]].isna().all()
    pd.testing.assert_frame_equal(right, before)
    assert list(left.columns) == ["x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": instants([20, 10])}, "'at' decreases"),
        ({"at": instants([10])}, "1 instants for 2 rows"),
        ({"at": instants([10, 20]).tz_localize(None)}, "time-zone-aware"),
        ({"known_at": pd.DatetimeIndex([pd.NaT], tz="UTC")}, "missing instants"),
        ({"lag": timedelta(seconds=-1)}, "would read the future"),
        ({"prefix": ""}, r"columns \['x'\] exist"),
    ],
)
def test_what_could_go_wrong_is_refused(change, message) -> None:
    left = pd.DataFrame({"x": [1.0, 2.0]}, index=instants([10, 20]))
    call = {"at": instants([10, 20]), "known_at": instants([5]), "prefix": "r_", **change}
    with pytest.raises(DataError, match=message):
        asof_join(left, pd.DataFrame({"x": [0.0]}), **call)


def test_a_row_meets_only_rows_of_its_own_group() -> None:
    hours = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC")
    left = pd.DataFrame({"close": range(6)})
    at = hours[[0, 1, 3, 0, 2, 2]]
    right = pd.DataFrame({"value": [1.0, 2.0, 3.0, 4.0]})
    known = hours[[3, 1, 2, 0]]
    by = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2])
    joined = asof_join(left, right, at=at, known_at=known, by=by, age=True)
    np.testing.assert_array_equal(joined["value"], [np.nan, 2.0, 1.0, np.nan, 3.0, 4.0])
    np.testing.assert_array_equal(joined["age"], [np.nan, 0.0, 0.0, np.nan, 0.0, 7200.0])
    with pytest.raises(DataError, match="decreases"):
        asof_join(left, right, at=at[[1, 0, 2, 3, 4, 5]], known_at=known, by=by)
    with pytest.raises(DataError, match="decreases"):
        asof_join(left, right, at=at, known_at=known, by=(by[0][::-1].copy(), by[1]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_groups_joined_together_are_groups_joined_apart(seed: int) -> None:
    generator = np.random.default_rng(seed)
    left_group, right_group = np.sort(generator.integers(0, 3, 20)), generator.integers(0, 3, 15)
    start = pd.Timestamp("2017-01-02", tz="UTC")
    minutes = generator.integers(0, 30, 20)
    minutes = minutes[np.lexsort((minutes, left_group))]
    at, known = start + pd.to_timedelta(minutes, "min"), start + pd.to_timedelta(generator.integers(0, 30, 15), "min")
    left, right = pd.DataFrame(index=range(20)), pd.DataFrame({"value": generator.random(15)})
    together = asof_join(left, right, at=at, known_at=known, by=(left_group, right_group))
    apart = [
        asof_join(
            left[left_group == group],
            right[right_group == group],
            at=at[left_group == group],
            known_at=known[right_group == group],
        )
        for group in np.unique(left_group)
    ]
    pd.testing.assert_frame_equal(together, pd.concat(apart))
