"""Alignment: against a plain search, with lags and tolerances, and never a value before it was known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.cleaning.alignment import TimedSeries, align_series
from tapeline.core.errors import ConfigurationError, DataError
from tests.quality.batches import sample_bars
from tests.support import make_bars


def plain(clock: pd.DatetimeIndex, known: list[pd.Timestamp], values: list[float], lag: int, limit: int | None) -> list:
    """The newest value known at each instant, found by looking at all of them."""
    out = []
    for at in clock:
        readable = [(k + pd.Timedelta(minutes=lag), i) for i, k in enumerate(known)]
        eligible = [(k, i) for k, i in readable if k <= at]
        newest = max(eligible) if eligible else None
        if newest is None or (limit is not None and at - newest[0] > pd.Timedelta(minutes=limit)):
            out.append((np.nan, np.nan))
        else:
            out.append((values[newest[1]], (at - newest[0]).total_seconds()))
    return out


@settings(max_examples=80, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 600), min_size=1, max_size=20),
    clock=st.lists(st.integers(0, 700), min_size=1, max_size=20),
    lag=st.integers(0, 90),
    limit=st.none() | st.integers(0, 120),
)
def test_each_value_is_the_newest_that_was_known(
    minutes: list[int], clock: list[int], lag: int, limit: int | None
) -> None:
    start = pd.Timestamp("2017-01-02", tz="UTC")
    known = [start + pd.Timedelta(minutes=m) for m in sorted(minutes)]
    values = [float(i) for i in range(len(known))]
    at = pd.DatetimeIndex([start + pd.Timedelta(minutes=m) for m in sorted(clock)])
    series = TimedSeries(
        pd.DataFrame({"value": values}, index=pd.DatetimeIndex(known)),
        lag=timedelta(minutes=lag),
        tolerance=None if limit is None else timedelta(minutes=limit),
    )
    found = align_series(at, {"x": series})
    want = plain(at, known, values, lag, limit)
    np.testing.assert_array_equal(found["x_value"], [value for value, _ in want])
    np.testing.assert_array_equal(found["x_age"], [age for _, age in want])


def test_bars_count_from_their_close_and_their_arrival() -> None:
    bars = make_bars(5)[["close"]]
    late = bars.assign(known_at=bars.index + pd.Timedelta(hours=3))
    early = bars.assign(known_at=bars.index)  # claims to be known before its close: not believed
    clock = bars.index[1:]
    found = align_series(
        clock, {"late": TimedSeries(late, "H1"), "plain": TimedSeries(bars, "H1"), "early": TimedSeries(early, "H1")}
    )
    close = bars["close"].tolist()
    assert found["plain_close"].tolist() == close[:4]
    assert found["early_close"].tolist() == close[:4]
    assert found["late_close"].isna().tolist() == [True, True, False, False]
    assert found["late_close"].tolist()[2:] == close[:2]
    assert list(found) == ["late_close", "late_age", "plain_close", "plain_age", "early_close", "early_age"]


def test_the_future_changes_nothing_of_real_bars() -> None:
    bars = sample_bars()[["close"]]
    other = bars.iloc[::7]
    clock = bars.index + pd.Timedelta(hours=1)
    whole = align_series(clock, {"o": TimedSeries(other, "H1", lag=timedelta(minutes=20))})
    cut = 3000
    part = align_series(
        clock[:cut], {"o": TimedSeries(other[other.index < clock[cut - 1]], "H1", lag=timedelta(minutes=20))}
    )
    pd.testing.assert_frame_equal(part, whole.iloc[:cut])
    assert whole["o_age"].min() >= 0


def test_arguments_are_checked() -> None:
    bars = make_bars(3)[["close"]]
    with pytest.raises(ConfigurationError, match="no series"):
        align_series(bars.index, {})
    with pytest.raises(DataError, match="negative"):
        align_series(bars.index, {"a": TimedSeries(bars, lag=timedelta(minutes=-1))})
    with pytest.raises(DataError, match="time-zone-aware"):
        align_series(bars.index, {"a": TimedSeries(bars.tz_localize(None))})
    with pytest.raises(DataError, match="missing instants"):
        align_series(bars.index, {"a": TimedSeries(bars.assign(known_at=pd.NaT))})
    with pytest.raises(DataError, match="decreases"):
        align_series(bars.index[::-1], {"a": TimedSeries(bars)})
