"""Opening gaps and voids against plain loops, their filling against a walk, on random bars and on real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.gaps import fair_value_gap
from tapeline.charts.liquidity_gaps import fill_states, gap_fill, liquidity_void, session_gap
from tapeline.charts.synthetic import random_walk
from tapeline.core.errors import DataError
from tapeline.core.example import example_bars
from tests.core.samples import eurusd, rough_bars

PAUSE = pd.Timedelta(minutes=30)


def slow_opening_gaps(bars, least, window=14):
    """Bar by bar: (row, kind, direction, before, after, size, row at which it is filled)."""
    unit = mean_true_range(bars, window)
    found = []
    for t in range(1, len(bars)):
        now, then = bars.iloc[t], bars.iloc[t - 1]
        step = now["open"] - then["close"]
        if bars.index[t] - then["close_ts"] < PAUSE or not unit[t - 1] > 0 or abs(step) < least * unit[t - 1]:
            continue
        noons = pd.date_range(then["close_ts"].normalize(), bars.index[t], freq="1D") + pd.Timedelta(hours=12)
        weekend = any(noon.day_of_week == 5 and then["close_ts"] <= noon < bars.index[t] for noon in noons)
        up = step > 0
        back = bars["low"] <= then["close"] if up else bars["high"] >= then["close"]
        filled = next((j for j in range(t, len(bars)) if back.iloc[j]), None)
        found.append(
            (
                t,
                "weekend_gap" if weekend else "session_gap",
                1 if up else -1,
                then["close"],
                now["open"],
                abs(step) / unit[t - 1],
                filled,
            )
        )
    return found


@pytest.mark.parametrize("bars", [eurusd().iloc[:2_500], rough_bars(900)], ids=["real", "rough"])
def test_opening_gaps_are_those_of_a_plain_loop(bars):
    expected = slow_opening_gaps(bars, 0.2)
    found = session_gap(bars, least=0.2)
    assert len(found) == len(expected) >= 8
    for event, (t, kind, direction, before, after, size, filled) in zip(found.itertuples(), expected, strict=True):
        assert (event.kind, event.direction, event.end) == (kind, direction, bars.index[t])
        assert (event.low, event.high) == (min(before, after), max(before, after))
        assert event.target == before
        assert event.score == pytest.approx(size)
        assert event.confirmed_at == bars["close_ts"].iloc[t]
        assert (event.invalidated_at is pd.NaT) == (filled is None)
        if filled is not None:
            assert event.invalidated_at == bars["close_ts"].iloc[filled]


def test_a_gap_is_a_weekend_s_or_a_session_s_or_none():
    bars = example_bars(*[10.0] * 8, start="2017-01-05", hours=4)
    for row in range(1, 8):
        for day, kind in (("2017-01-06 12:00", "session_gap"), ("2017-01-09 00:00", "weekend_gap")):
            later = bars.index[row:] + (pd.Timestamp(day, tz="UTC") - bars.index[row])
            moved = bars.set_index(bars.index[:row].append(later).rename("ts"))
            moved = moved.assign(close_ts=moved.index + pd.Timedelta(hours=4))
            moved.iloc[row, moved.columns.get_loc("open")] = 11.0
            found = session_gap(moved, window=2)
            if row < 3:
                assert found.empty, "no measure yet"
            else:
                assert found["kind"].astype(str).tolist() == [kind]
    # Without a pause there is a gap only where days are asked for.
    jump = bars.assign(open=[10.0] * 6 + [12.0, 10.0])
    assert session_gap(jump, window=2).empty
    assert session_gap(jump, across="day", window=2)["end"].tolist() == [bars.index[6]]
    assert session_gap(jump, across="day", start_minute=240, window=2).empty


def test_gap_fill_is_the_share_of_the_newest_gap():
    bars = rough_bars(700)
    gaps = slow_opening_gaps(bars, 0.25)
    got = gap_fill(bars, max_age=40)
    low, high, unit = bars["low"].to_numpy(), bars["high"].to_numpy(), mean_true_range(bars, 14)
    seen = 0
    for t in range(14, 700):
        mine = [gap for gap in gaps if gap[0] <= t and t - gap[0] <= 40]
        if not mine or np.isnan(unit[t]):
            expected = [0.0, 1.0, 41.0]
        else:
            row, _, direction, before, after, size, _ = mine[-1]
            inside = slice(row, t + 1)
            back = after - low[inside].min() if direction > 0 else high[inside].max() - after
            expected = [direction * size, min(back / abs(after - before), 1.0), t - row]
            seen += 0 < expected[1] < 1
        assert got.iloc[t].tolist() == pytest.approx(expected)
    assert seen, "some are partly filled"


def slow_voids(bars, span, reach, thin, sample, window=14):
    """Bar by bar: (row, direction, score)."""
    unit, volume = mean_true_range(bars, window), bars["volume"].to_numpy()
    opened, close = bars["open"].to_numpy(), bars["close"].to_numpy()
    found, before = [], 0
    for t in range(span + sample - 1, len(bars)):
        first = t - span + 1
        usual, paid = volume[first - sample : first], volume[first : t + 1].mean()
        move = close[t] - opened[first]
        quick = unit[first - 1] > 0 and abs(move) >= reach * unit[first - 1]
        side = int(np.sign(move)) if quick and (usual < paid).mean() <= thin else 0
        if side and side != before:
            found.append((t, side, (usual > paid).mean()))
        before = side
    return found


@pytest.mark.parametrize("rules", [(3, 2.0, 0.4, 100), (1, 1.2, 0.3, 50)])
def test_voids_are_those_of_a_plain_loop_and_fill_when_price_is_back(rules):
    bars = random_walk(1_200, seed=9)
    found = liquidity_void(bars, *rules)
    expected = slow_voids(bars, *rules)
    rows = bars.index.get_indexer(found["end"])
    got = list(zip(rows.tolist(), found["direction"].tolist(), found["score"].tolist(), strict=True))
    assert got == [(t, side, pytest.approx(score)) for t, side, score in expected]
    assert len(expected) > 10
    low, high = bars["low"].to_numpy(), bars["high"].to_numpy()
    for row, event in zip(rows, found.itertuples(), strict=True):
        begin = bars["open"].iloc[row - rules[0] + 1]
        later = low[row + 1 :] <= begin if event.direction > 0 else high[row + 1 :] >= begin
        assert (event.invalidated_at is pd.NaT) == (not later.any())
        if later.any():
            assert event.invalidated_at == bars["close_ts"].iloc[row + 1 + later.argmax()]


def test_no_void_without_volume_or_with_much_of_it():
    bars = random_walk(600, seed=9)
    assert len(liquidity_void(bars)) > 0
    assert liquidity_void(bars.assign(volume=np.nan)).empty
    assert liquidity_void(bars.assign(volume=np.arange(600.0))).empty


def test_fill_states_agree_with_what_became_of_the_events():
    bars = eurusd().iloc[:1_500]
    at = bars["close_ts"].iloc[1_000]
    for events in (session_gap(bars), liquidity_void(bars, thin=0.6), fair_value_gap(bars, mitigation="fill")):
        states = fill_states(events, bars, at)
        known = events.loc[states.index]
        assert (known["confirmed_at"] <= at).all()
        assert len(known) == (events["confirmed_at"] <= at).sum() > 3
        assert ((states["state"] == "filled") == (known["invalidated_at"] <= at)).all()
        assert ((states["filled"] >= 1.0) == (states["state"] == "filled")).all()
        cut = fill_states(events, bars.iloc[:1_001])
        pd.testing.assert_frame_equal(states, cut)


def test_real_weekends_leave_gaps():
    found = session_gap(eurusd())
    assert (found["kind"].astype(str) == "weekend_gap").sum() > 25
    assert found["end"].dt.day_of_week[found["kind"].astype(str) == "weekend_gap"].isin([6, 0]).all()


def test_states_of_no_bars_are_refused():
    bars = eurusd().iloc[:300]
    with pytest.raises(DataError, match="no bars"):
        fill_states(session_gap(bars), bars.iloc[:0])
