"""Channels against least squares by numpy, plain geometry and loops over bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.channels import channel_of_regression, parallel_channel, pitchfork, regression_channel
from tapeline.charts.line_kernels import rolling_channel
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import bars_of_closes, random_walk
from tapeline.charts.trendlines import find_lines
from tests.core.samples import eurusd


@pytest.fixture(scope="module", params=["walk", "real"])
def bars(request):
    return random_walk(3000, seed=8) if request.param == "walk" else eurusd().iloc[:3000]


def rows_of(bars, stamps, column="close_ts"):
    return bars[column].searchsorted(stamps) if column else bars.index.get_indexer(stamps)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 40))
def test_the_rolling_line_is_that_of_polyfit(seed, window):
    closes = 1.1 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, 60)))
    slope, value, deviation, fit = rolling_channel(closes, window)
    assert np.isnan(slope[: window - 1]).all()
    for t in (window - 1, 45, 59):
        part = closes[t - window + 1 : t + 1]
        bend, base = np.polyfit(np.arange(window), part, 1)
        left = part - base - bend * np.arange(window)
        assert slope[t] == pytest.approx(bend, rel=1e-6, abs=1e-12)
        assert value[t] == pytest.approx(base + bend * (window - 1))
        assert deviation[t] == pytest.approx(left.std(), rel=1e-5, abs=1e-12)
        assert fit[t] == pytest.approx(1 - left.var() / part.var(), abs=1e-6)


def test_closes_that_stand_still_have_no_channel():
    still = bars_of_closes(np.full(60, 1.1))
    assert channel_of_regression(still, window=20).isna().all(axis=None)
    assert regression_channel(still, window=20).empty


def test_the_columns_say_where_price_is(bars):
    columns = channel_of_regression(bars, window=50, deviations=1.5)
    t = 2000
    part = bars["close"].to_numpy()[t - 49 : t + 1]
    bend, base = np.polyfit(np.arange(50), part, 1)
    spread = (part - base - bend * np.arange(50)).std()
    usual = mean_true_range(bars, 14)[t]
    slope, position, width, _ = columns.iloc[t]
    assert slope == pytest.approx(bend / usual, rel=1e-6)
    assert width == pytest.approx(3.0 * spread / usual, rel=1e-6)
    bottom = base + bend * 49 - 1.5 * spread
    assert position == pytest.approx((part[-1] - bottom) / (3.0 * spread), rel=1e-6)


def follow(bars, kind, channel, max_age):
    """Touches and break of one drawn channel by a loop: the events that name its first row and slope."""
    start, known, lower, height, slope, width, median = channel
    events, on = [], {-1: True, 0: True, 1: True}
    for t in range(known + 1, min(len(bars), known + max_age + 1)):
        low, high, close = bars["low"].iloc[t], bars["high"].iloc[t], bars["close"].iloc[t]
        bottom = lower + slope * (t - start)
        if close < bottom - width or close > bottom + height + width:
            way = -1 if close < bottom else 1
            border = bottom if way < 0 else bottom + height
            if way * (border + way * height - close) > 0:
                events.append((f"{kind}_break", t, way))
            break
        middle = bottom + height / 2
        now = {-1: low <= bottom + width, 0: low <= middle <= high, 1: high >= bottom + height - width}
        events += [
            (f"{kind}_touch" if border else f"{kind}_median", t, border)
            for border in (-1, 0, 1)
            if now[border] and not on[border] and (border or median)
        ]
        on = now
    return events


def test_parallels_run_through_the_farthest_price(bars):
    found = parallel_channel(bars)
    made = found[found["kind"] == "parallel_channel"]
    lines = find_lines(BarArrays(bars))
    by_start = {(int(lines.rows[n, 0]), int(lines.known[n])): n for n in range(len(lines))}
    pivots = find_pivots(bars, 2.0)
    expected, seen = [], 0
    for event in made.to_dict("records"):
        start, known = bars.index.get_loc(event["start"]), int(rows_of(bars, event["confirmed_at"]))
        n = by_start[(start, known)]
        part = bars.iloc[start : known + 1]
        line = lines.prices[n, 0] + lines.slope[n] * np.arange(known - start + 1)
        support = event["direction"] > 0
        away = (part["high"] - line).max() if support else (line - part["low"]).max()
        assert event["high"] - event["low"] == pytest.approx(away)
        assert (event["low"] if support else event["high"]) == pytest.approx(line[-1])
        others = (pivots.side == event["direction"]) & (pivots.row > start) & (pivots.confirmed <= known)
        off = [
            abs(away - event["direction"] * (pivots.price[p] - line[pivots.row[p] - start]))
            for p in np.flatnonzero(others)
        ]
        assert min(off) <= lines.width[n] * (1 + 1e-9)
        lower = lines.prices[n, 0] - (0.0 if support else away)
        channel = (start, known, lower, away, lines.slope[n], lines.width[n], False)
        expected += follow(bars, "parallel_channel", channel, 200)
        seen += 1
    assert seen > 20
    rest = found[found["kind"] != "parallel_channel"]
    sides = np.where(rest["kind"].astype(str).str.endswith("break"), rest["direction"], -rest["direction"])
    got = list(zip(rest["kind"].astype(str), rows_of(bars, rest["confirmed_at"]), sides, strict=True))
    assert sorted(got) == sorted(expected)
    assert found["score"].between(0.0, 1.0).all()


def test_a_regression_channel_forms_when_its_fit_rises_to_the_bound(bars):
    found = regression_channel(bars)
    made = found[found["kind"] == "regression_channel"]
    _, _, deviation, fit = rolling_channel(bars["close"].to_numpy(), 60)
    rows = rows_of(bars, made["confirmed_at"])
    expected = [t for t in range(60, len(bars)) if fit[t] >= 0.75 > fit[t - 1]]
    assert rows.tolist() == expected
    assert len(expected) > 15
    assert (made["high"] - made["low"]).to_numpy() == pytest.approx(4.0 * deviation[rows])
    assert made["score"].to_numpy() == pytest.approx(fit[rows])
    broken = found[found["kind"] == "regression_channel_break"]
    close = bars["close"].to_numpy()[rows_of(bars, broken["confirmed_at"])]
    assert (broken["direction"] * (close - broken["low"]) > 0).all()
    assert (broken["direction"] * (broken["target"] - close) > 0).all()
    assert (broken["direction"] * (broken["low"] - broken["stop"]) > 0).all()


def test_the_median_line_halves_the_fork(bars):
    found = pitchfork(bars)
    usual = mean_true_range(bars, 14)
    expected, seen = [], 0
    for event in found[found["kind"] == "pitchfork"].to_dict("records"):
        (ax, a), (bx, b), (cx, c) = ((bars.index.get_loc(p["ts"]), p["price"]) for p in event["points"])
        known = int(rows_of(bars, event["confirmed_at"]))
        slope = ((b + c) / 2 - a) / ((bx + cx) / 2 - ax)
        through_b, through_c = b + slope * (known - bx), c + slope * (known - cx)
        assert (event["low"], event["high"]) == pytest.approx(sorted((through_b, through_c)))
        assert a + slope * (known - ax) == pytest.approx((event["low"] + event["high"]) / 2)
        assert event["low"] <= bars["close"].iloc[known] <= event["high"]
        share = abs(c - b) / abs(b - a)
        assert share < 1
        assert event["score"] == pytest.approx(1 - 2 * abs(share - 0.5))
        height = event["high"] - event["low"]
        channel = (ax, known, event["low"] - slope * (known - ax), height, slope, 0.25 * usual[known], True)
        expected += follow(bars, "pitchfork", channel, 100)
        seen += 1
    assert seen > 40
    rest = found[found["kind"] != "pitchfork"]
    got = list(zip(rest["kind"].astype(str), rows_of(bars, rest["confirmed_at"]), strict=True))
    assert sorted(got) == sorted((kind, t) for kind, t, _ in expected)


def test_pitchforks_stand_from_the_confirmation_of_their_third_pivot(bars):
    made = pitchfork(bars)
    made = made[made["kind"] == "pitchfork"]
    pivots = find_pivots(bars)
    confirmation = pd.Series(pivots.confirmed, index=bars.index[pivots.row])
    assert (rows_of(bars, made["confirmed_at"]) == confirmation.loc[made["end"]].to_numpy()).all()
