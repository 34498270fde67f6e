"""Supply and demand zones against a readable search, on drawings, on hand-made bars and on real ones."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.events import standing
from tapeline.charts.supply_demand import (
    KINDS,
    find_zones,
    nearest_zones,
    supply_demand_zone,
    zone_states,
    zone_test,
)
from tapeline.charts.supply_demand_drawings import CASES
from tapeline.charts.synthetic import accuracy, random_walk
from tapeline.core.example import example_bars
from tests.core.samples import eurusd, rough_bars


def slow_zones(bars, longest=6, body=0.5, narrow=1.0, impulse=1.5, leg=3, window=14):
    """Every run of base bars by itself, from the definition: (first, last, known, reached, left, low, high)."""
    unit = mean_true_range(bars, window)
    o, h, low, c = (bars[name].to_numpy() for name in ("open", "high", "low", "close"))
    quiet = [
        t > 0 and abs(c[t] - o[t]) <= body * (h[t] - low[t]) and h[t] - low[t] <= narrow * unit[t - 1]
        for t in range(len(bars))
    ]
    found = []
    for first in range(max(leg, 2), len(bars)):
        if not quiet[first] or quiet[first - 1] or np.isnan(unit[first - 2]) or not unit[first - 1] > 0:
            continue
        last = first
        while last + 1 < len(bars) and quiet[last + 1]:
            last += 1
        if last - first + 1 > longest:
            continue
        u = unit[first - 1]
        risen = c[first - 1] - low[first - leg : first].min()
        fallen = h[first - leg : first].max() - c[first - 1]
        if max(risen, fallen) < impulse * u:
            continue
        bottom, top = low[first : last + 1].min(), h[first : last + 1].max()
        beyond = [
            (t, 1 if c[t] > top else -1 if c[t] < bottom else 0) for t in range(last + 1, last + leg + 1) if t < len(c)
        ]
        sides = [side for _, side in beyond]
        for k, (t, side) in enumerate(beyond):
            far = max(c[t] - top, bottom - c[t])
            if side and far >= impulse * u and -side not in sides[:k]:
                found.append((first, last, t, 1 if risen >= fallen else -1, side, bottom, top))
                break
            if side and -side in sides[:k]:
                break
    return sorted(found, key=lambda zone: zone[2])


@pytest.mark.parametrize("bars", [random_walk(3_000, seed=4), rough_bars(900)], ids=["walk", "rough"])
def test_the_kernel_finds_the_zones_of_the_definition(bars):
    zones = find_zones(bars)
    got = zip(
        *(a.tolist() for a in (zones.first, zones.last, zones.known, zones.reached, zones.side, zones.low, zones.high)),
        strict=True,
    )
    expected = slow_zones(bars)
    assert list(got) == expected
    assert {(zone[3], zone[4]) for zone in expected} == set(KINDS)


def test_tests_shares_and_states_are_those_of_a_walk_through_each_zone():
    bars = random_walk(1_500, seed=6)
    zones, states, tests = find_zones(bars), zone_states(bars, max_age=200), zone_test(bars, max_age=200)
    h, low, c = (bars[name].to_numpy() for name in ("high", "low", "close"))
    expected, ended = [], []
    for i in range(len(zones)):
        side, bottom, top = zones.side[i], zones.low[i], zones.high[i]
        number, deepest, inside, state = 0, 0.0, False, None
        for t in range(zones.known[i] + 1, min(len(bars), zones.known[i] + 201)):
            depth = top - low[t] if side > 0 else h[t] - bottom
            if depth >= 0:
                deepest = max(deepest, min(depth / (top - bottom), 1.0))
                if not inside:
                    number += 1
                    expected.append((zones.first[i], t, number))
            inside = depth >= 0
            if c[t] < bottom if side > 0 else c[t] > top:
                state = "broken"
                ended.append(t)
                break
            if t == zones.known[i] + 200:
                state = "expired"
                ended.append(t)
        state = state or ("fresh" if not number else "tested" if deepest < 0.5 else "mitigated")
        assert states["state"].iloc[i] == state
        assert states["tests"].iloc[i] == number
        assert states["mitigated"].iloc[i] == pytest.approx(deepest)
    gone = supply_demand_zone(bars, max_age=200)["invalidated_at"].dropna()
    assert sorted(bars["close_ts"].searchsorted(gone).tolist()) == sorted(ended)
    got = zip(bars.index.get_indexer(tests["start"]), bars.index.get_indexer(tests["end"]), tests["score"], strict=True)
    assert sorted((int(a), int(b), int(n)) for a, b, n in got) == sorted((int(a), int(b), n) for a, b, n in expected)
    assert {"broken", "expired", "fresh"} <= set(states["state"])


def test_a_history_that_begins_within_a_base_makes_no_shorter_one_of_it():
    # Nine narrow bars are no base of six at most, and none of five where the first four are not known.
    closes = [
        *[100.0 + (2.0 if i % 2 else 0.0) for i in range(20)],
        104.0,
        108.0,
        *[108.0, 108.2] * 4,
        108.0,
        114.0,
        120.0,
    ]
    bars = example_bars(*closes).pipe(lambda b: b.assign(high=b["high"] - 0.8, low=b["low"] + 0.8))
    whole = {tuple(zone[:2]) for zone in slow_zones(bars, window=2, impulse=0.5)}
    for start in range(len(bars) - 4):
        zones = find_zones(bars.iloc[start:], window=2, impulse=0.5)
        assert {(a + start, b + start) for a, b in zip(zones.first.tolist(), zones.last.tolist(), strict=True)} <= whole


def test_one_zone_from_base_to_break():
    bars = example_bars(10, 10, 10, 14, 14.5, 20, 19, 16, 18, 20, 22, 22, 15, 14, 12)
    rules = {"window": 2, "impulse": 1.0}
    zone = supply_demand_zone(bars, **rules).iloc[0]
    assert (zone["kind"], zone["direction"], zone["low"], zone["high"]) == ("rally_base_rally", 1, 13.0, 15.5)
    assert zone["confirmed_at"] == bars["close_ts"].iloc[5]
    assert zone["invalidated_at"] == bars["close_ts"].iloc[14]
    # Bar 7 trades down to 15, bars 8 to 11 stay above 15.5 again only from bar 9 on; bar 12 comes back.
    assert bars.index.get_indexer(zone_test(bars, **rules)["end"])[:2].tolist() == [7, 12]
    near = nearest_zones(bars, **rules)
    assert near["demand_tests"].iloc[5:].tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2, 0]
    assert near["demand_mitigated"].iloc[[7, 12, 13]].round(3).tolist() == [0.2, 0.6, 1.0]
    assert near["demand_distance"].iloc[[4, 14]].tolist() == [20.0, 20.0]
    count = standing(supply_demand_zone(bars, **rules), bars)["count"].tolist()
    assert count == [0.0] * 5 + [1.0] * 9 + [0.0]


def test_strength_rises_with_speed_narrowness_and_volume():
    closes = [10, 10, 10, 14, 14.5]

    def strength(*ahead, volume=1000.0, wick=1.0):
        bars = example_bars(*closes, *ahead).assign(volume=1000.0)
        bars.iloc[5:, bars.columns.get_loc("volume")] = volume
        bars.iloc[4, bars.columns.get_loc("high")] = 14.5 + wick
        return supply_demand_zone(bars, window=2, impulse=1.0)["score"].iloc[0]

    usual = strength(20)
    assert strength(24) > usual > strength(18, 20.5)
    assert strength(20, volume=4000.0) > usual
    assert strength(20, wick=0.6) > usual
    assert strength(20, volume=np.nan) == pytest.approx((usual * 3 - 0.5) / 2)
    assert 0.0 < usual < 1.0


@pytest.mark.parametrize("kind", sorted(CASES))
def test_drawn_zones_are_found_and_near_misses_refused(kind):
    case = CASES[kind]
    clean = accuracy(case.detect, kind, case.drawings(20, noise=0.0, seed=1), case.near_misses(20, seed=2), [])
    shaken = accuracy(case.detect, kind, case.drawings(20, noise=1.0, seed=3), [], [])
    assert (clean.recall, clean.precision, clean.near_misses) == (1.0, 1.0, 0.0)
    assert shaken.recall >= 0.8


def test_zones_of_real_bars():
    bars = eurusd()
    found = supply_demand_zone(bars)
    assert set(found["kind"].astype(str)) == set(KINDS.values())
    assert 30 < len(found) < 150
    rows = bars["close_ts"].searchsorted(found["confirmed_at"])
    left = np.where(
        found["direction"] > 0,
        bars["close"].to_numpy()[rows] - found["high"],
        found["low"] - bars["close"].to_numpy()[rows],
    )
    assert (left > 1.4 * mean_true_range(bars, 14)[bars.index.get_indexer(found["start"]) - 1]).all()
    assert found["score"].between(0.0, 1.0).all()
