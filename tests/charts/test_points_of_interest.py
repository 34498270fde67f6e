"""Points of interest: the table by hand and as of any instant, the event against a plain loop, on real bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.events import Findings, event_frame
from tapeline.charts.levels import support_resistance
from tapeline.charts.liquidity_gaps import session_gap
from tapeline.charts.period_profiles import session_profile
from tapeline.charts.points_of_interest import FAMILIES, MEMBERS, point_of_interest, points_of_interest
from tapeline.charts.supply_demand import supply_demand_zone
from tapeline.charts.synthetic import random_walk
from tapeline.core.errors import DataError
from tapeline.core.example import example_bars
from tests.core.samples import eurusd, rough_bars


def finding(kind, low, high, *, direction=1, confirmed=2, invalidated=-1, score=np.nan):
    one = np.array([confirmed])
    return Findings(
        kind, np.array([direction], np.int8), one - 1, one, one, np.array([low]), np.array([high]),
        invalidated=np.array([invalidated]), score=np.array([score]),
    )  # fmt: skip


def test_the_table_by_hand():
    """Closes of 10 with a mean true range of 2."""
    bars = example_bars(*[10.0] * 8)
    events = event_frame(
        bars,
        [
            finding("level", 7.0, 7.0, score=2.0),
            finding("gap", 7.4, 8.0),
            finding("level", 13.0, 13.5, direction=-1, score=1.0),
            finding("rally_base_drop", 13.8, 14.0, direction=-1, score=0.1),
            finding("drop_base_drop", 14.1, 14.6, direction=-1, score=0.2),
            finding("gap", 2.0, 9.0),
            finding("gap", 9.9, 10.1, confirmed=3, invalidated=5),
        ],
        {},
    )
    found = points_of_interest(events, bars, within=0.25, widest=3.0, window=2)
    # 2.0 to 9.0 is wider than 6; the last gap no longer stands. 7.4 is 0.4 above 7.0, within half a point.
    assert found["low"].tolist() == [7.0, 13.0]
    assert found["high"].tolist() == [8.0, 14.6]
    assert found["kinds"].tolist() == [("gap", "level"), ("level", "supply_demand")]
    assert found["members"].tolist() == [2, 3]
    # The level of score 2 is the higher of two, that of score 1 lies above neither but itself.
    assert found["strength"].tolist() == [1.0 + 0.75, 0.75 + 1.0]
    assert found["distance"].tolist() == [-1.0, 1.5]
    assert found["interest"].tolist() == pytest.approx([1.75 / 2.0, 1.75 / 2.5])
    assert found["direction"].tolist() == [1, -1]
    assert found["rank"].tolist() == [1, 2]
    narrow = events[(events["high"] - events["low"] < 6.0) & events["invalidated_at"].isna()]
    assert sorted(i for ids in found["events"] for i in ids) == sorted(narrow["id"])
    # While the gap at the close stood, it was a place too.
    before = points_of_interest(events, bars, bars["close_ts"].iloc[4], within=0.25, window=2)
    assert before.iloc[1][["low", "distance", "interest"]].tolist() == [9.9, 0.0, 0.75]


def test_the_table_knows_only_what_was_known():
    bars = eurusd().iloc[:1_200]
    arrays = BarArrays(bars)
    events = pd.concat([member(arrays) for member in MEMBERS], ignore_index=True)
    for row in (300, 777, 1_000):
        short = BarArrays(bars.iloc[: row + 1])
        then = pd.concat([member(short) for member in MEMBERS], ignore_index=True)
        at = bars["close_ts"].iloc[row]
        pd.testing.assert_frame_equal(points_of_interest(events, bars, at), points_of_interest(then, short))


def test_wider_clusters_are_cut_and_scale_changes_nothing():
    bars = eurusd().iloc[:1_000]
    for factor in (1.0, 1024.0):
        scaled = bars.assign(**{name: bars[name] * factor for name in ("open", "high", "low", "close")})
        events = pd.concat([member(scaled) for member in MEMBERS], ignore_index=True)
        found = points_of_interest(events, scaled, widest=2.0)
        unit = mean_true_range(scaled, 14)[-1]
        assert ((found["high"] - found["low"]) <= 2.0 * unit * (1 + 1e-9)).all()
        ranks = found[["rank", "members", "strength", "distance"]]
        if factor == 1.0:
            plain = ranks
    pd.testing.assert_frame_equal(plain, ranks)
    assert found["interest"].is_monotonic_decreasing
    assert len(found) > 3


def slow_confluences(bars, needed, within, widest, max_age):
    """Every pair of findings looked at: (row, low, high, direction, kinds)."""
    unit = mean_true_range(bars, 14)
    rows = []
    for number, member in enumerate(MEMBERS):
        frame = member(bars)
        known = bars["close_ts"].searchsorted(frame["confirmed_at"])
        gone = bars["close_ts"].searchsorted(frame["invalidated_at"].fillna(pd.Timestamp("2100-01-01", tz="UTC")))
        rows += [
            (int(k), number, int(g), e.low, e.high, e.direction)
            for k, g, e in zip(known, gone, frame.itertuples(), strict=True)
        ]
    rows.sort(key=lambda row: row[:2])
    found = []
    for i, (t, family, gone, low, high, direction) in enumerate(rows):
        u = unit[t]
        if not u > 0 or high - low > widest * u or gone <= t:
            continue
        met = [
            other
            for other in rows[:i]
            if t - other[0] <= max_age
            and other[2] > t
            and other[4] - other[3] <= widest * u
            and other[3] <= high + within * u
            and other[4] >= low - within * u
        ]
        kinds = {other[1] for other in met}
        if family in kinds or len(kinds) + 1 < needed:
            continue
        bottom = max(min([low, *(other[3] for other in met)]), low - within * u)
        top = min(max([high, *(other[4] for other in met)]), high + within * u)
        event = (t, bottom, top, int(np.sign(direction + sum(other[5] for other in met))), len(kinds) + 1)
        if not any(event[:3] == old[:3] for old in found):
            found.append(event)
    return found


@pytest.mark.parametrize("bars", [random_walk(900, seed=2), rough_bars(900)], ids=["walk", "rough"])
def test_the_event_is_that_of_a_plain_loop(bars):
    found = point_of_interest(bars, needed=3, max_age=150)
    rows = bars["close_ts"].searchsorted(found["confirmed_at"])
    got = list(zip(rows.tolist(), found["low"], found["high"], found["direction"], found["score"], strict=True))
    expected = slow_confluences(bars, 3, 0.25, 3.0, 150)
    assert sorted(got) == [pytest.approx(event) for event in sorted(expected)]
    assert len(got) > 10
    close = bars["close"].to_numpy()
    for row, event in zip(rows, found.itertuples(), strict=True):
        later = close[row + 1 : row + 151]
        through = later < event.low if event.direction > 0 else later > event.high
        through = through if event.direction else np.zeros(later.size, bool)
        end = row + 1 + int(through.argmax()) if through.any() else row + 150
        gone = bars["close_ts"].iloc[end] if end < len(bars) else pd.NaT
        assert event.invalidated_at == gone or (gone is pd.NaT and event.invalidated_at is pd.NaT)


def test_forms_of_one_thing_are_one_kind():
    bars = example_bars(*[10.0] * 8)
    for family in set(FAMILIES.values()):
        forms = [kind for kind, whole in FAMILIES.items() if whole == family]
        assert len(forms) >= 2
        events = event_frame(bars, [finding(kind, 11.0, 12.0) for kind in (*forms, "level")], {})
        found = points_of_interest(events, bars, window=2).iloc[0]
        assert set(found["kinds"]) == {family, "level"}
        assert (found["members"], found["strength"]) == (len(forms) + 1, 1.5)


def test_nodes_of_a_volume_profile_join_by_themselves():
    bars = eurusd().iloc[:600]
    arrays = BarArrays(bars)
    events = pd.concat([support_resistance(arrays), supply_demand_zone(arrays), session_gap(arrays)])
    found = points_of_interest(pd.concat([events, session_profile(arrays)], ignore_index=True), arrays)
    joined = [kinds for kinds in found["kinds"] if "volume_profile" in kinds and len(kinds) > 1]
    assert joined, "a level or a zone at a price of the profile"
    assert found["strength"].max() > points_of_interest(events, arrays)["strength"].max()


def test_places_of_real_bars_are_ranked_and_near_ones_come_first():
    bars = eurusd()
    events = pd.concat([member(bars) for member in MEMBERS], ignore_index=True)
    found = points_of_interest(events, bars)
    assert found["members"].max() >= 4
    assert abs(found["distance"].iloc[0]) < 3.0
    assert found["rank"].tolist() == list(range(1, len(found) + 1))
    inside = found[found["distance"] == 0.0]
    price = bars["close"].iloc[-1]
    assert ((inside["low"] <= price) & (price <= inside["high"])).all()


def test_without_bars_or_events():
    bars = example_bars(*[10.0] * 8)
    none = event_frame(bars, [], {})
    assert points_of_interest(none, bars, window=2).empty
    with pytest.raises(DataError, match="mean true range over 14 bars"):
        points_of_interest(none, bars)
    with pytest.raises(DataError, match="time zone"):
        points_of_interest(none, bars, pd.Timestamp("2017-01-02 05:00"), window=2)
