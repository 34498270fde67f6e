"""Pivot points against published tables and a plain group-by, across summer time, holes and missing borders."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.pivot_lines import LEVELS, period_numbers, pivot_levels, pivot_table
from tapeline.charts.pivot_points import pivot_break, pivot_points, pivot_touch, swing_pivots
from tapeline.charts.swings import find_swings
from tapeline.core.errors import ConfigurationError
from tapeline.core.example import example_bars
from tests.core.samples import eurusd, rough_bars

NEW_YORK = {"zone": "America/New_York", "start_minute": 17 * 60}

# SPY, from the calculation sheets of Stock.Indicators (Skender, Apache-2.0): high, low, close, open, then the levels.
SHEETS = {
    "classic": (224.2, 214.29, 223.41, 215.65, [207.1567, 210.7233, 217.0667, 220.6333, 226.9767, 230.5433, 236.8867]),
    "fibonacci": (370.31, 367.02, 369.13, 0.0, [365.53, 366.7868, 367.5632, 368.82, 370.0768, 370.8532, 372.11]),
    "woodie": (372.46, 371.05, 0.0, 370.97, [368.855, 369.9525, 370.265, 371.3625, 371.675, 372.7725, 373.085]),
    "demark": (224.2, 214.29, 223.41, 215.65, [218.85, 221.525, 228.76]),
    "camarilla": (
        254.32, 235.52, 236.23, 0.0,
        [225.89, 231.06, 232.7833, 234.5067, 236.23, 237.9533, 239.6767, 241.4, 246.57],
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", sorted(SHEETS))
def test_the_formulas_give_what_the_sheets_say(method):
    *given, expected = SHEETS[method]
    levels = pivot_levels(*given, method)
    ascending = [float(levels[name]) for name in LEVELS if name in levels]
    assert ascending == pytest.approx(expected, abs=1e-4)


def test_demark_by_hand_for_each_of_its_three_cases():
    # H 12, L 8: X = 12 + 16 + 9 = 37 where the close fell, 24 + 8 + 11 = 43 where it rose, 12 + 8 + 20 = 40 else.
    for close, opened, doubled in ((9.0, 10.0, 37.0), (11.0, 10.0, 43.0), (10.0, 10.0, 40.0)):
        levels = pivot_levels(12.0, 8.0, close, opened, "demark")
        assert [float(levels[name]) for name in ("s1", "pivot", "r1")] == [
            doubled / 2 - 12,
            doubled / 4,
            doubled / 2 - 8,
        ]


def test_monthly_pivots_of_spy_are_those_of_a_peer(test_data):
    folder = test_data / "data" / "indicator_oracles"
    bars = pd.read_csv(folder / "quotes" / "default.csv", parse_dates=["date"])
    bars = bars.set_index(pd.DatetimeIndex(bars.pop("date"), tz="UTC", name="ts").as_unit("ns")).astype(float)
    expected = json.loads((folder / "results" / "pivot-points.standard.json").read_text())
    table = pivot_table(bars, "classic", "month")
    compared = 0
    for row, line in zip(table.to_dict("records"), expected, strict=True):
        # The peer gives levels in the second month; ours wait until a month is known to be whole.
        if np.isnan(row["pivot"]):
            continue
        compared += 1
        for ours, theirs in (("pivot", "pp"), *((name, name) for name in ("s1", "s2", "s3", "r1", "r2", "r3"))):
            assert row[ours] == pytest.approx(line[theirs], abs=1e-9)
    assert compared > 440


def slow_lines(bars, span, zone, start_minute, method="classic"):
    """The levels at each bar by pandas: shift the local clock, label, group, take the group before."""
    local = bars.index.tz_convert(zone).tz_localize(None) + pd.Timedelta(minutes=(1440 - start_minute) % 1440)
    label = local.to_period({"day": "D", "week": "W-SUN", "month": "M"}[span])
    groups = bars.groupby(label)
    table = groups.agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    levels = pd.DataFrame(index=table.index, columns=list(LEVELS), dtype=float)
    for i in range(2, len(table)):
        before = table.iloc[i - 1]
        if before["high"] == before["low"]:
            continue
        opened = table["open"].iloc[i] if method == "woodie" else before["open"]
        for name, price in pivot_levels(before["high"], before["low"], before["close"], opened, method).items():
            levels.loc[table.index[i], name] = float(price)
    return levels.loc[label].set_axis(bars.index)


@pytest.mark.parametrize("span", ["day", "week", "month"])
@pytest.mark.parametrize(("zone", "start_minute"), [("UTC", 0), ("America/New_York", 1020), ("Asia/Kolkata", 555)])
def test_the_levels_at_each_bar_are_those_of_the_period_before(span, zone, start_minute):
    bars = eurusd().iloc[:3_000]
    for method in ("classic", "woodie", "demark"):
        pd.testing.assert_frame_equal(
            pivot_table(bars, method, span, zone, start_minute),
            slow_lines(bars, span, zone, start_minute, method),
            check_dtype=False,
        )


def test_weekly_levels_are_new_from_the_first_bar_of_the_week():
    """A known library holds a week's levels back for a week; here the week that has just ended counts at once."""
    bars = eurusd().iloc[:1_500]
    table = pivot_table(bars, "classic", "week", **NEW_YORK)
    monday = pd.Timestamp("2017-02-06 17:00", tz="America/New_York") - pd.Timedelta(days=1)
    first = bars.index.searchsorted(monday.tz_convert("UTC"))
    last = bars.loc[monday.tz_convert("UTC") - pd.Timedelta(days=7) : bars.index[first - 1]]
    assert table["pivot"].iloc[first] == pytest.approx(
        (last["high"].max() + last["low"].min() + last["close"].iloc[-1]) / 3
    )
    assert table["pivot"].iloc[first - 1] != table["pivot"].iloc[first]


def test_the_day_turns_at_17_00_new_york_in_winter_and_in_summer():
    for day, hour in (("2017-01-10", 22), ("2017-07-11", 21)):
        ts = pd.date_range(day, periods=24, freq="1h", tz="UTC").as_unit("ns")
        numbers = period_numbers(ts, "day", **NEW_YORK)
        assert np.flatnonzero(np.diff(numbers)).tolist() == [hour - 1]
    # In the week in which clocks change, the days have 23 and 25 hours by UTC, and nothing is counted twice.
    for change in ("2017-03-10", "2017-11-03"):
        ts = pd.date_range(change, periods=24 * 5, freq="1h", tz="UTC").as_unit("ns")
        numbers = period_numbers(ts, "day", **NEW_YORK)
        assert set(np.diff(numbers)) == {0, 1}


def test_a_day_that_begins_where_clocks_go_back_begins_once():
    ts = pd.date_range("2017-11-05 04:00", periods=12, freq="15min", tz="UTC").as_unit("ns")
    # 01:30 in New York comes twice, at 05:30 and at 06:30 UTC.
    numbers = period_numbers(ts, "day", "America/New_York", 90)
    assert (np.diff(numbers) >= 0).all()
    assert np.flatnonzero(np.diff(numbers)).tolist() == [5]


def test_bars_missing_at_the_border_change_nothing_of_when_levels_hold():
    bars = example_bars(*np.linspace(10, 20, 96), start="2017-01-02")
    holes = bars.drop(bars.index[[46, 47, 48, 49, 50]])
    table = pivot_table(holes)
    day = holes.loc["2017-01-03"]
    pivot = (day["high"].max() + day["low"].min() + day["close"].iloc[-1]) / 3
    at = table["pivot"]
    assert at.loc["2017-01-04 03:00+00:00"] == pytest.approx(pivot)
    # The first day may have begun before these bars, so the second has no levels.
    assert at.loc[:"2017-01-03 21:00+00:00"].isna().all()
    # A whole day without bars: the day before it is the last completed one.
    gone = bars[(bars.index < "2017-01-04") | (bars.index >= "2017-01-05")]
    assert pivot_table(gone)["pivot"].loc["2017-01-05 00:00+00:00"] == pytest.approx(
        (
            bars.loc["2017-01-03", "high"].max()
            + bars.loc["2017-01-03", "low"].min()
            + bars.loc["2017-01-03 23:00+00:00", "close"]
        )
        / 3
    )


@pytest.mark.parametrize("bars", [eurusd().iloc[:800], rough_bars(500)], ids=["real", "rough"])
def test_touches_and_breaks_are_those_of_a_plain_walk(bars):
    table = pivot_table(bars, "camarilla").to_numpy()
    numbers = period_numbers(bars.index)
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    expected, open_ones, seen = [], [], set()
    for t in range(1, len(bars)):
        if numbers[t] != numbers[t - 1]:
            for event in open_ones:
                event["gone"] = event["gone"] or t
            seen, open_ones = set(), []
        for k, line in enumerate(table[t]):
            news = []
            if low[t] <= line <= high[t]:
                news.append(("pivot_touch", int(np.sign(close[t - 1] - line)), (k, "touch")))
            if close[t] > line >= close[t - 1]:
                news.append(("pivot_break", 1, (k, 1)))
            if close[t] < line <= close[t - 1]:
                news.append(("pivot_break", -1, (k, -1)))
            for kind, direction, key in news:
                if key not in seen:
                    seen.add(key)
                    open_ones.append(
                        {"kind": kind, "row": t, "k": k, "line": line, "direction": direction, "gone": None}
                    )
                    expected.append(open_ones[-1])
        for event in open_ones:
            if event["gone"] is None and event["direction"] * (close[t] - event["line"]) < 0:
                event["gone"] = t
    for detect, kind in ((pivot_touch, "pivot_touch"), (pivot_break, "pivot_break")):
        found = detect(bars, "camarilla")
        wanted = [event for event in expected if event["kind"] == kind]
        rows = bars.index.get_indexer(found["end"])
        got = sorted(zip(rows.tolist(), found["score"], found["direction"], found["low"], strict=True))
        assert got == sorted((e["row"], e["k"] - 4.0, e["direction"], e["line"]) for e in wanted)
        gone = sorted(bars["close_ts"].searchsorted(found["invalidated_at"].dropna()).tolist())
        assert gone == sorted(e["gone"] for e in wanted if e["gone"] is not None)
        assert len(wanted) > 20


def test_distances_are_those_of_the_table():
    bars = eurusd().iloc[:400]
    table, unit, close = pivot_table(bars).to_numpy(), mean_true_range(bars, 14), bars["close"].to_numpy()
    got = pivot_points(bars).to_numpy()
    for t in range(len(bars)):
        if np.isnan(table[t, 4]) or np.isnan(unit[t]):
            assert np.isnan(got[t]).all()
            continue
        way = (table[t][~np.isnan(table[t])] - close[t]) / unit[t]
        expected = [
            (close[t] - table[t, 4]) / unit[t],
            min([20.0, *way[way > 0]]),
            min([20.0, *-way[way <= 0]]),
            (way <= 0).sum() - (way > 0).sum(),
        ]
        assert got[t] == pytest.approx(expected)


def test_swing_pivots_are_the_last_confirmed_swings():
    bars = eurusd().iloc[:400]
    swings, unit, close = (
        find_swings(bars, "fractal", left=3, right=3),
        mean_true_range(bars, 14),
        bars["close"].to_numpy(),
    )
    got = swing_pivots(bars, reach=3, max_age=60)
    for t in range(20, 400, 7):
        for side, name in ((1, "high"), (-1, "low")):
            known = [i for i in range(len(swings)) if swings.side[i] == side and swings.confirmed[i] <= t]
            age = t - swings.row[known[-1]]
            assert got[f"swing_{name}_age"].iloc[t] == age
            assert got[f"swing_{name}_distance"].iloc[t] == pytest.approx(
                side * (swings.price[known[-1]] - close[t]) / unit[t]
            )
    assert swing_pivots(bars, reach=30, max_age=31).isna().any().any()


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 100.0), st.floats(0.01, 10.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_levels_ascend_and_are_those_of_the_scaled_prices(low, height, share, start):
    high, close, opened = low + height, low + share * height, low + start * height
    for method in ("classic", "fibonacci", "camarilla", "woodie", "demark"):
        levels = pivot_levels(high, low, close, opened, method)
        prices = [float(levels[name]) for name in LEVELS if name in levels]
        assert all(a <= b + 1e-9 for a, b in pairwise(prices))
        doubled = pivot_levels(2 * high, 2 * low, 2 * close, 2 * opened, method)
        assert [float(doubled[name]) for name in LEVELS if name in levels] == pytest.approx([2 * p for p in prices])


def test_a_day_without_range_has_no_levels():
    bars = example_bars(*[10.0] * 72).assign(high=10.0, low=10.0)
    assert pivot_table(bars).isna().all().all()
    assert pivot_touch(bars).empty


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"zone": "../../etc/passwd"}, "etc/passwd"),
        ({"method": "guess"}, "guess"),
        ({"span": "hour"}, "hour"),
        ({"start_minute": 1440}, "1440"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(wrong, said):
    with pytest.raises(ConfigurationError, match=said):
        pivot_table(example_bars(10, 11), **wrong)
