"""Shapes on drawn profiles, migration and visits against plain loops, and how well drawn days are seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.fate import fates
from tapeline.charts.period_profiles import period_profiles
from tapeline.charts.profile_drawings import CASES
from tapeline.charts.profile_shape import profile_event, profile_shape, shape_of, shape_table
from tapeline.charts.synthetic import accuracy
from tapeline.charts.volume_profile import profile_of_rows
from tests.core.samples import eurusd, rough_bars
from tests.support import make_bars

BARS = eurusd().iloc[:2_000]

# Each drawn sideways, the lowest price first: how many letters a price has.
P = "1 1 1 1 1 1 2 4 7 8 6 3"
D = "1 2 3 5 7 8 8 6 5 3 2 1"
DOUBLE = "1 4 7 8 4 1 1 3 7 8 4 1"
FLAT = "3 3 3 3 3 3 3 3 3 3 3 3"
WIDE_P = "4 3 4 3 4 3 2 4 7 8 6 3"
LEANING_D = "1 1 1 1 3 8 9 8 7 7 7 6"
DEEP_ENOUGH = "1 8 8 8 2 2 2 8 8 8 1 1"
TOO_SHALLOW = "1 8 8 8 4 4 4 8 8 8 1 1"
ONE_SIDED = "1 9 9 9 9 9 9 9 1 6 1 1"


def drawn(letters: str) -> str:
    volume = np.array(letters.split(), dtype=np.float64)
    return shape_of(profile_of_rows(np.arange(volume.size + 1.0), volume))


@pytest.mark.parametrize(
    ("letters", "shape"),
    [
        (P, "p"),
        (P[::-1], "b"),
        (D, "d"),
        (DOUBLE, "double"),
        (DOUBLE[::-1], "double"),
        (FLAT, ""),
        (WIDE_P, ""),
        (LEANING_D, ""),
        (DEEP_ENOUGH, "double"),
        (TOO_SHALLOW, ""),
        (ONE_SIDED, ""),
    ],
)
def test_drawn_profiles_have_their_shape(letters, shape):
    assert drawn(letters) == shape


@pytest.mark.parametrize("kind", sorted(CASES))
def test_drawn_days_are_found_and_near_misses_are_not(kind):
    case = CASES[kind]
    misses = case.near_misses(12, seed=5)
    exact = accuracy(case.detect, kind, case.drawings(20, noise=0.0, seed=3), misses, [])
    assert (exact.recall, exact.precision, exact.near_misses) == (1.0, 1.0, 0.0)
    noisy = accuracy(case.detect, kind, case.drawings(20, noise=1.0, seed=7), [], [])
    assert noisy.recall >= 0.85


def test_the_events_are_the_shapes_of_the_table():
    found = profile_shape(BARS)
    table = shape_table(BARS, period_profiles(BARS))
    named = table[table["shape"] != ""]
    assert len(table) > len(named) == len(found)
    got = found.sort_values("confirmed_at")
    assert ("profile_shape_" + named["shape"]).tolist() == got["kind"].astype(str).tolist()
    assert named["known_at"].tolist() == got["confirmed_at"].tolist()
    by_kind = {kind: set(part["direction"]) for kind, part in found.groupby(found["kind"].astype(str))}
    assert by_kind["profile_shape_p"] == {1}
    assert by_kind["profile_shape_b"] == {-1}
    assert by_kind["profile_shape_d"] == {0}
    assert by_kind["profile_shape_double"] == {1, -1}
    assert found["score"].between(0.0, 1.0).all()


def slow_areas(bars):
    """By day: first row, VAL, VAH (None where there is no profile)."""
    found = period_profiles(bars)
    return found.first.tolist(), [
        (low, high) if control >= 0 else None
        for control, low, high in zip(found.control, found.value_low, found.value_high, strict=True)
    ]


def slow_visits(bars, minutes, closes):
    """The rule, day by day and bracket by bracket: where the last close lay, and what was traded since."""
    first, areas = slow_areas(bars)
    step = pd.Timedelta(minutes=minutes)
    found = []
    for day in range(2, len(first)):
        if areas[day - 1] is None:
            continue
        bottom, top = areas[day - 1]
        part = bars.iloc[first[day] : first[day + 1] if day + 1 < len(first) else len(bars)]
        opened = part["open"].iloc[0]
        side = 1 if opened > top else -1 if opened < bottom else 0
        since = [(opened, opened)]
        run, inside, bracket = 0, [], []
        for ts, bar in part.iterrows():
            bracket.append((bar["low"], bar["high"]))
            if bar["close_ts"].floor(step) <= ts.floor(step):
                continue
            inside += bracket
            now = 1 if bar["close"] > top else -1 if bar["close"] < bottom else 0
            if now == 0:
                run += 1
            lows, highs = [low for low, _ in inside], [high for _, high in inside]
            if now == 0 and side != 0 and run == closes:
                stop = max(highs + [high for _, high in since]) if side > 0 else min(lows + [low for low, _ in since])
                found.append(("value_acceptance", ts, -side, top if side < 0 else bottom, stop))
                side = 0
            elif now != 0:
                if now == side and (min(lows) <= top if side > 0 else max(highs) >= bottom):
                    found.append(("value_rejection", ts, side, np.nan, min(lows) if side > 0 else max(highs)))
                side, run, since, inside = now, 0, bracket, []
            bracket = []
    return found


def got_visits(found):
    chosen = found[found["kind"] != "value_migration"].sort_values("confirmed_at", kind="stable")
    return [
        (str(kind), end, direction, target, stop)
        for kind, end, direction, target, stop in zip(
            chosen["kind"], chosen["end"], chosen["direction"], chosen["target"], chosen["stop"], strict=True
        )
    ]


@pytest.mark.parametrize(
    ("bars", "minutes", "closes"),
    [
        (BARS, 30, 2),
        (BARS, 120, 1),
        (rough_bars(600), 60, 2),
        (make_bars(4_000, timeframe="M5", seed=3), 30, 2),
        (make_bars(3_000, timeframe="M15", seed=4).drop(pd.Timestamp("2017-01-05 10:15", tz="UTC")), 60, 3),
    ],
    ids=["hours", "two hours", "rough", "five minutes", "a hole"],
)
def test_visits_are_those_of_a_plain_walk(bars, minutes, closes):
    found = profile_event(bars, minutes=minutes, closes=closes)
    expected = slow_visits(bars, minutes, closes)
    got = got_visits(found)
    assert [row[:3] for row in got] == [row[:3] for row in expected]
    np.testing.assert_allclose([row[3:] for row in got], [row[3:] for row in expected], rtol=1e-12)
    assert {row[0] for row in got} == {"value_acceptance", "value_rejection"}


def test_targets_lie_ahead_and_stops_behind():
    found = profile_event(BARS)
    close = BARS["close"].loc[found["end"]].to_numpy()
    accepted = (found["kind"] == "value_acceptance").to_numpy()
    way = found["direction"].to_numpy()
    assert (way * (found["target"] - close) >= 0.0)[accepted].all()
    visits = (found["kind"] != "value_migration").to_numpy()
    assert (way * (close - found["stop"]) > 0.0)[visits].all()
    assert found["score"].between(0.0, 1.0).all()
    # The stop of an acceptance lies outside the area, that of a rejection may lie beyond its far edge.
    outside = np.where(way > 0, found["stop"] < found["low"], found["stop"] > found["high"])
    assert outside[accepted].all()


def test_what_ends_a_visit_is_its_target_its_stop_or_its_age():
    found = profile_event(BARS, max_age=40)
    visits = found[found["kind"] != "value_migration"]
    known = BARS["close_ts"].searchsorted(visits["confirmed_at"])
    direction, target, stop = (visits[name].to_numpy() for name in ("direction", "target", "stop"))
    row = fates(BARS, known, direction.astype(np.int8), target, stop, 40).row
    expected = [BARS["close_ts"].iloc[at] if at >= 0 else pd.NaT for at in row]
    assert visits["invalidated_at"].tolist() == expected
    # How an event is followed is no part of what it is.
    assert set(found["id"]) == set(profile_event(BARS)["id"])


def test_value_has_moved_where_both_edges_have():
    found = profile_event(BARS)
    moved = found[found["kind"] == "value_migration"]
    first, areas = slow_areas(BARS)
    expected = []
    for day in range(2, len(first) - 1):
        (low, high), (under, over) = areas[day], areas[day - 1]
        way = 1 if low > under and high > over else -1 if low < under and high < over else 0
        shared = max(min(high, over) - max(low, under), 0.0) / (high - low)
        expected.append((BARS["close_ts"].iloc[first[day + 1]], low, high, way, shared))
    names = ["confirmed_at", "low", "high", "direction", "score"]
    pd.testing.assert_frame_equal(
        moved[names].reset_index(drop=True), pd.DataFrame(expected, columns=names), check_dtype=False, rtol=1e-12
    )
    assert set(moved["direction"]) == {-1, 0, 1}
    assert {0.0, 1.0} < set(moved["score"].round(12))
    assert moved["invalidated_at"].iloc[:-1].tolist() == moved["confirmed_at"].iloc[1:].tolist()


def test_prices_and_volumes_in_other_units_say_the_same():
    prices = ["open", "high", "low", "close"]
    scaled = BARS.assign(**{name: BARS[name] * 1024.0 for name in prices}, volume=BARS["volume"] * 8.0)
    for detect in (profile_shape, profile_event):
        before, after = detect(BARS), detect(scaled)
        assert before["kind"].astype(str).tolist() == after["kind"].astype(str).tolist()
        np.testing.assert_array_equal(before["score"], after["score"])
        np.testing.assert_array_equal(before["low"] * 1024.0, after["low"])
        np.testing.assert_array_equal(before["stop"] * 1024.0, after["stop"])
