"""Profiles by period against pandas' own grouping, and when they were known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.events import standing
from tapeline.charts.period_profiles import period_profiles, session_profile
from tapeline.charts.profile_features import developing_profile, profile_place, rolling_profile
from tapeline.charts.profile_shape import SHAPES, shape_of
from tapeline.charts.scan import EventStream, choose
from tapeline.charts.volume_profile import volume_profile
from tapeline.core.errors import ConfigurationError
from tapeline.core.example import example_bars
from tests.core.samples import eurusd, rough_bars

BARS = eurusd().iloc[:1_200]
NEW_YORK = {"zone": "America/New_York", "start_minute": 17 * 60}


def groups_of(bars, span="day", zone="UTC", start_minute=0):
    local = bars.index.tz_convert(zone).tz_localize(None) + pd.Timedelta(minutes=(1440 - start_minute) % 1440)
    label = local.to_period({"day": "D", "week": "W-SUN", "month": "M"}[span])
    return [bars[label == one] for one in label.unique()]


@pytest.mark.parametrize(("span", "where"), [("day", {}), ("day", NEW_YORK), ("week", NEW_YORK), ("month", {})])
def test_each_completed_period_has_the_profile_of_its_bars(span, where):
    found = session_profile(BARS, span, **where)
    parts = groups_of(BARS, span, **where)
    expected = []
    # The first may have begun before these bars; the last is not over.
    for part, following in pairwise(parts[1:]):
        made = volume_profile(part)
        known = following["close_ts"].iloc[0]
        total = part["volume"].sum()
        expected.append(("value_area", made.value_low, made.value_high, made.held, known))
        share = made.volume[made.control] / total
        expected.append(("point_of_control", made.poc, made.poc, share, known))
        for kind, nodes in (("high_volume_node", made.high_nodes), ("low_volume_node", made.low_nodes)):
            for row in nodes:
                low, high = made.edges[row], made.edges[row + 1]
                expected.append((kind, low, high, made.volume[row] / total, known))
    assert len(found) == len(expected) > 0
    wanted = pd.DataFrame(expected, columns=["kind", "low", "high", "score", "confirmed_at"])
    order = ["confirmed_at", "kind", "low"]
    got = found.assign(kind=found["kind"].astype(str)).sort_values(order)[wanted.columns]
    pd.testing.assert_frame_equal(
        got.reset_index(drop=True), wanted.sort_values(order, ignore_index=True), check_dtype=False, rtol=1e-9
    )
    assert (found["confirmed_at"] > found["end"]).all()


def test_a_point_of_control_is_naked_until_a_bar_trades_it():
    found = session_profile(BARS)
    low, high, closed = BARS["low"].to_numpy(), BARS["high"].to_numpy(), BARS["close_ts"]
    points = found[found["kind"] == "point_of_control"]
    days = []
    for event in points.itertuples():
        first = closed.searchsorted(event.confirmed_at)
        later = np.flatnonzero((low[first:] <= event.low) & (event.low <= high[first:]))
        if later.size:
            assert event.invalidated_at == closed.iloc[first + later[0]]
            days.append(event.invalidated_at - event.confirmed_at)
        else:
            assert pd.isna(event.invalidated_at)
    assert points["invalidated_at"].isna().any()
    assert max(days) > pd.Timedelta(days=3), "some stay naked over many days"
    assert standing(points, BARS)["count"].max() > 2


def test_all_else_stands_until_the_next_profile_is_known():
    found = session_profile(BARS)
    areas = found[found["kind"] == "value_area"]
    assert areas["invalidated_at"].iloc[:-1].tolist() == areas["confirmed_at"].iloc[1:].tolist()
    assert pd.isna(areas["invalidated_at"].iloc[-1])
    assert standing(areas, BARS)["count"].max() == 1.0


def test_nobody_knows_a_day_before_the_next_one_trades():
    end = int(np.flatnonzero(np.diff(pd.DatetimeIndex(BARS.index).day) != 0)[20]) + 1
    before, after = session_profile(BARS.iloc[:end]), session_profile(BARS.iloc[: end + 1])
    assert len(after) > len(before)
    assert (after["confirmed_at"].iloc[len(before) :] == BARS["close_ts"].iloc[end]).all()


def test_bars_one_by_one_tell_the_same():
    bars = BARS.iloc[:140]
    choices = choose({"session_profile": {}, "profile_shape": {}, "profile_event": {}})
    stream = EventStream(choices)
    told = [event for row in bars[["open", "high", "low", "close", "volume", "close_ts"]].itertuples()
            for event in stream.push(*row).confirmed]  # fmt: skip
    whole = pd.concat([choice.detector(bars) for choice in choices])
    assert {event.id for event in told} == set(whole["id"])
    assert len(told) == len(whole) > 20


def test_a_day_without_trade_or_without_range_says_nothing():
    bars = example_bars(*[10.0] * 24, *[11.0] * 24, *[12.0] * 24, *[13.0] * 25)
    quiet = bars.assign(volume=np.where(np.arange(97) // 24 == 2, 0.0, bars["volume"]))
    still = bars.copy()
    still.loc[bars.index[48:72], ["low", "high"]] = 12.0
    for one in (quiet, still):
        found = session_profile(one)
        assert set(found["start"].dt.day) == {3, 5}
        place = profile_place(one, window=2)
        assert place.iloc[72:96].isna().all(axis=None)
        assert place.iloc[96:].notna().all(axis=None)
    assert len(set(session_profile(quiet, weight="time")["start"])) == 3


def test_longer_periods_than_asked_for_are_left_out():
    short = session_profile(BARS, longest=20)
    assert set(short["start"].dt.day_name()) <= {"Sunday", "Friday"}
    assert 0 < len(short) < len(session_profile(BARS)) / 3
    days = session_profile(BARS, longest=25)
    assert len(days) == len(session_profile(BARS))


def test_the_developing_profile_ends_as_the_completed_one():
    found = period_profiles(BARS)
    table = developing_profile(BARS)
    last = found.first[1:] - 1
    for name, prices in (("poc", found.poc), ("value_high", found.value_high), ("value_low", found.value_low)):
        np.testing.assert_array_equal(table[f"day_developing_{name}"].to_numpy()[last], prices[:-1])
    for t in range(30, 1_200, 61):
        part = BARS.iloc[found.first[found.which[t]] : t + 1]
        made = volume_profile(part)
        assert table.iloc[t].to_list() == pytest.approx([made.poc, made.value_high, made.value_low], rel=1e-12)
    assert developing_profile(BARS, "week", longest=30)["week_developing_poc"].isna().mean() > 0.5


def test_the_place_is_that_towards_the_day_before():
    got = profile_place(BARS).to_numpy()
    parts, unit = groups_of(BARS), mean_true_range(BARS, 14)
    where = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts)])
    seen = set()
    for t in range(20, 1_200, 11):
        if where[t] < 2:
            assert np.isnan(got[t]).all()
            continue
        made = volume_profile(parts[where[t] - 1])
        close = BARS["close"].iloc[t]
        shape = shape_of(made)
        seen.add(shape)
        expected = [
            (close - made.poc) / unit[t],
            (close - made.value_high) / unit[t],
            (close - made.value_low) / unit[t],
            float(made.value_low <= close <= made.value_high),
            (made.value_high - made.value_low) / unit[t],
            *[float(shape == name) for name in SHAPES],
        ]
        assert got[t] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert len(seen) >= 4


def test_the_rolling_form_is_the_profile_of_its_window():
    bars = rough_bars(400)
    got, unit = rolling_profile(bars, window=60), mean_true_range(bars, 14)
    for t in (59, 100, 138, 399):
        made = volume_profile(bars.iloc[t - 59 : t + 1]) if bars["volume"].iloc[t - 59 : t + 1].sum() else None
        if made is None:
            assert got.iloc[t].isna().all()
            continue
        close, height = bars["close"].iloc[t], made.value_high - made.value_low
        rows = np.arange(48.0)
        mean = np.average(rows, weights=made.volume)
        spread = np.sqrt(np.average((rows - mean) ** 2, weights=made.volume))
        expected = {
            "to_poc": (close - made.poc) / unit[t],
            "place": (close - made.value_low) / height,
            "skew": np.average(((rows - mean) / spread) ** 3, weights=made.volume),
            "width": height / (made.edges[-1] - made.edges[0]),
        }
        for name, value in expected.items():
            assert got[f"profile_{name}_60"].iloc[t] == pytest.approx(value, rel=1e-9)


def test_what_has_no_meaning_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="Mars"):
        session_profile(BARS, zone="Mars/Olympus")
    with pytest.raises(ConfigurationError, match="money"):
        session_profile(BARS, weight="money")
    assert session_profile(BARS.iloc[:0]).empty
    assert len(period_profiles(BarArrays(BARS.iloc[:0]))) == 0
