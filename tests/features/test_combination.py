"""Lags by group and features of many parts in one frame: against pandas, and against every way to go wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.aggregation import FeaturePart, combine_features, parse_column
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.features.lags import lag_features
from tests.core.samples import eurusd

H1 = Timeframe.parse("H1")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", None]), st.sampled_from(["x", "y"]), st.integers(-3, 3)), max_size=40
    ),
    st.integers(1, 5),
)
def test_lags_against_pandas_by_symbol_and_session(rows, step) -> None:
    frame = pd.DataFrame(rows, columns=["symbol", "session", "rsi"]).astype({"rsi": float})
    ours = lag_features(frame, [step], kinds=["lag", "difference", "ratio"], by=["symbol", "session"])
    then = frame.groupby(["symbol", "session"])["rsi"].shift(step)
    np.testing.assert_array_equal(ours[f"rsi_lag_{step}"], then)
    np.testing.assert_array_equal(ours[f"rsi_difference_{step}"], frame["rsi"] - then)
    np.testing.assert_array_equal(ours[f"rsi_ratio_{step}"], (frame["rsi"] / then.where(then != 0)))


def test_lags_of_real_features_never_look_ahead() -> None:
    chosen = parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}, {"component": "london_session"}]})
    features = compute(chosen, eurusd().head(600), H1)
    full = lag_features(features, [1, 3], columns=["rsi_14"], kinds=["lag", "difference"], by=["london_session"])
    assert list(full.columns) == ["rsi_14_lag_1", "rsi_14_lag_3", "rsi_14_difference_1", "rsi_14_difference_3"]
    for cut in range(20, 600, 13):
        part = lag_features(
            features.iloc[:cut], [1, 3], columns=["rsi_14"], kinds=["lag", "difference"], by=["london_session"]
        )
        pd.testing.assert_frame_equal(part, full.iloc[:cut])
    # The first bar of a session looks back to the last bar of the session before, not to the bar before it.
    on = features["london_session"].to_numpy() == 1
    row = int(np.flatnonzero(on[200:] & ~on[199:-1])[0]) + 200
    last = int(np.flatnonzero(on[:row])[-1])
    assert last < row - 1
    assert full["rsi_14_lag_1"].iloc[row] == features["rsi_14"].iloc[last]


def test_what_lags_refuse() -> None:
    ts = pd.DatetimeIndex(["2017-01-02 01:00", "2017-01-02 00:00"], tz="UTC", name="ts")
    frame = pd.DataFrame({"rsi": [1.0, 2.0], "symbol": ["A", "A"]}, index=ts)
    with pytest.raises(DataError, match="comes after a later row"):
        lag_features(frame, [1])
    lag_features(frame.assign(symbol=["A", "B"]), [1], by=["symbol"])
    for lags in ([0], [-1], [1, 1], []):
        with pytest.raises(ConfigurationError, match="1 or more"):
            lag_features(frame, lags)
    with pytest.raises(ConfigurationError, match="the kind 'lead' is unknown"):
        lag_features(frame, [1], kinds=["lead"])
    with pytest.raises(ConfigurationError, match="no columns"):
        lag_features(frame, [1], by=["venue"])


def part(values, *, start="2017-01-02", delay="1h", **names) -> FeaturePart:
    ts = pd.date_range(start, periods=len(values), freq="1h", tz="UTC", name="ts").as_unit("ns")
    return FeaturePart(pd.DataFrame({"known_at": ts + pd.Timedelta(delay), "rsi_14": values}, index=ts), **names)


def test_parts_are_named_by_symbol_and_source_and_joined_when_known() -> None:
    base = part([1.0, 2.0, 3.0], symbol="EURUSD", source="mt5")
    whole = combine_features(
        base,
        [
            part([10.0, 20.0, 30.0], symbol="EURUSD", source="yahoo"),
            part([5.0, 6.0, 7.0], symbol="XAUUSD", source="mt5", delay="61min"),
        ],
    )
    assert list(whole.columns) == ["known_at", "EURUSD__mt5__rsi_14", "EURUSD__yahoo__rsi_14", "XAUUSD__mt5__rsi_14"]
    assert whole["EURUSD__yahoo__rsi_14"].tolist() == [10.0, 20.0, 30.0]
    np.testing.assert_array_equal(whole["XAUUSD__mt5__rsi_14"], [np.nan, 5.0, 6.0])
    assert [parse_column(name) for name in whole.columns[1:]] == [
        ("EURUSD", "mt5", "rsi_14"),
        ("EURUSD", "yahoo", "rsi_14"),
        ("XAUUSD", "mt5", "rsi_14"),
    ]
    aged = combine_features(
        part([1.0] * 5, symbol="A"), [part([9.0], symbol="B")], tolerance=pd.Timedelta("2h").to_pytimedelta()
    )
    np.testing.assert_array_equal(aged["B__rsi_14"], [9.0, 9.0, 9.0, np.nan, np.nan])


def test_windows_of_one_symbol_need_no_prefix() -> None:
    bars = eurusd().head(300)
    sets = [parse_feature_set({"name": "a", "feature": [{"component": "rsi", "window": w}]}) for w in (7, 21)]
    frames = [compute(one, bars, H1) for one in sets]
    whole = combine_features(FeaturePart(frames[0]), [FeaturePart(frames[1])])
    assert list(whole.columns) == ["known_at", "rsi_7", "rsi_21"]
    pd.testing.assert_series_equal(whole["rsi_21"], frames[1]["rsi_21"], check_dtype=False)


def test_a_name_that_would_be_written_twice_is_refused_before_anything_is_joined() -> None:
    base = part([1.0], symbol="EURUSD")
    with pytest.raises(ConfigurationError, match=r"'EURUSD__rsi_14' would be written by the parts 0 and 1"):
        combine_features(base, [part([2.0], symbol="EURUSD")])
    # A symbol could otherwise pass for a symbol and a source.
    with pytest.raises(ConfigurationError, match="cannot be part of a column's name"):
        combine_features(base, [part([2.0], symbol="EURUSD__mt5")])
    for wrong in ("known_at", "a b", "_x", "x_"):
        with pytest.raises(ConfigurationError, match="cannot be part of a column's name"):
            combine_features(base, [part([2.0], symbol=wrong)])
    with pytest.raises(DataError, match="lack known_at"):
        combine_features(base, [FeaturePart(base.features.drop(columns="known_at"), "GBPUSD")])
    with pytest.raises(DataError, match="not sorted"):
        combine_features(base, [FeaturePart(part([1.0, 2.0]).features.iloc[::-1], "GBPUSD")])
