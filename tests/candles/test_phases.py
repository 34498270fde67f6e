"""Candle-range phases against a slow definition, and what each confirmation needs."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.phases import Phase, PhaseMarker, candle_range_phases
from tapeline.core.errors import ConfigurationError, DataError
from tests.support import make_bars

ANY = {"bars_in_range": 1, "widest": math.inf, "window": 1}


def bars_of(rows: list[tuple[float, float, float]]) -> pd.DataFrame:
    """Bars from (high, low, close)."""
    ts = pd.date_range("2020-01-01", periods=len(rows), freq="1h", tz="UTC", name="ts")
    high, low, close = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return pd.DataFrame(
        {"open": close, "high": high, "low": low, "close": close, "volume": 1.0, "close_ts": ts + pd.Timedelta("1h")},
        index=ts,
    )


def slow_phases(bars, *, bars_in_range, widest, window, patience, target):
    """The definition in words, bar by bar, looking back over the whole history each time."""
    high, low, close = (bars[name].tolist() for name in ("high", "low", "close"))
    ranges = [top - bottom for top, bottom in zip(high, low, strict=True)]
    for t in range(1, len(ranges)):
        ranges[t] = max(high[t], close[t - 1]) - min(low[t], close[t - 1])
    average, rows, found, waited = 0.0, [], None, 0
    for t in range(len(close)):
        average += (ranges[t] - average) / min(t + 1, window)
        waited += 1
        if found and found["phase"] == 3:
            found = None
        if found and found["phase"] == 1:
            top, bottom = found["top"], found["bottom"]
            left = (high[t] > top, low[t] < bottom)
            if not bottom <= close[t] <= top or all(left):
                found = None
            elif any(left):
                found |= {"phase": 2, "direction": -1 if left[0] else 1, "extreme": high[t] if left[0] else low[t]}
                waited = 0
            elif waited > patience:
                found = None
        elif found and found["phase"] == 2:
            up = found["direction"] > 0
            goal = found["top"] if up else found["bottom"]
            if target == "middle":
                goal = 0.5 * (found["top"] + found["bottom"])
            reached = close[t] >= goal if up else close[t] <= goal
            broken = close[t] < found["extreme"] if up else close[t] > found["extreme"]
            if reached:
                found["phase"] = 3
            elif broken or waited > patience:
                found = None
        if found is None and t + 1 >= max(bars_in_range, window):
            top, bottom = max(high[t + 1 - bars_in_range : t + 1]), min(low[t + 1 - bars_in_range : t + 1])
            if top - bottom <= widest * average:
                found, waited = {"phase": 1, "direction": 0, "top": top, "bottom": bottom, "extreme": math.nan}, 0
        empty = {"phase": 0, "direction": 0, "top": math.nan, "bottom": math.nan, "extreme": math.nan}
        state = found or empty
        rows.append(tuple(state[name] for name in ("phase", "direction", "top", "bottom", "extreme")))
    return rows


OPTIONS = st.fixed_dictionaries(
    {
        "bars_in_range": st.integers(1, 5),
        "widest": st.sampled_from([1.0, 2.0, math.inf]),
        "window": st.integers(1, 6),
        "patience": st.integers(1, 8),
        "target": st.sampled_from(["opposite", "middle"]),
    }
)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), OPTIONS, st.lists(st.integers(0, 150), max_size=5).map(sorted))
def test_definition_and_chunks(seed, options, cuts):
    bars = make_bars(150, seed=seed)
    marks = candle_range_phases(bars, **options)
    names = ["phase", "direction", "range_high", "range_low", "sweep_extreme"]
    np.testing.assert_array_equal(marks[names].to_numpy(), np.array(slow_phases(bars, **options)))
    marker, parts = PhaseMarker(**options), []
    for start, end in zip([0, *cuts], [*cuts, 150], strict=True):
        parts.append(marker.update(bars.iloc[start:end]))
        saved = json.loads(json.dumps(marker.state()))
        marker = PhaseMarker(**options)
        marker.restore(saved)
    pd.testing.assert_frame_equal(pd.concat(parts), marks, check_exact=True)


def test_random_bars_hold_every_phase():
    counts = candle_range_phases(make_bars(600))["phase"].value_counts()
    assert set(counts.index) == set(Phase)


@pytest.mark.parametrize(
    ("rows", "phases", "directions"),
    [
        ([(11, 9, 10), (10.5, 8, 9.5), (12, 9.5, 11)], [1, 2, 3], [0, 1, 1]),
        ([(11, 9, 10), (12, 9.5, 10.5), (10, 8, 9)], [1, 2, 3], [0, -1, -1]),
        # Beyond the low and closed there: a breakout is no sweep, and its bar is the next range.
        ([(11, 9, 10), (10, 8, 8.5)], [1, 1], [0, 0]),
        # Out on both sides in one bar.
        ([(11, 9, 10), (12, 8, 10), (11.9, 8.1, 10)], [1, 1, 1], [0, 0, 0]),
        # Swept, then closed beyond the sweep's extreme: failed.
        ([(11, 9, 10), (10.5, 8, 9.5), (9, 7, 7.5)], [1, 2, 1], [0, 1, 0]),
        # Touching the target is not closing there.
        ([(11, 9, 10), (10.5, 8, 9.5), (12, 9.5, 10.9), (11.5, 10, 11)], [1, 2, 2, 3], [0, 1, 1, 1]),
    ],
)
def test_three_candles(rows, phases, directions):
    marks = candle_range_phases(bars_of(rows), **ANY)
    assert marks["phase"].tolist() == phases
    assert marks["direction"].tolist() == directions
    assert (marks["confirmed_at"] == bars_of(rows)["close_ts"]).all()


def test_patience_ends():
    rows = [(11, 9, 10), (10.5, 8, 9.5), *[(10, 9.2, 9.6)] * 4]
    assert candle_range_phases(bars_of(rows), **ANY, patience=2)["phase"].tolist() == [1, 2, 2, 2, 1, 1]


def test_later_bars_change_no_mark():
    bars = make_bars(300)
    whole = candle_range_phases(bars)
    for rows in (30, 111, 299):
        pd.testing.assert_frame_equal(candle_range_phases(bars.iloc[:rows]), whole.iloc[:rows], check_exact=True)


def test_wrong_use_is_refused():
    with pytest.raises(ConfigurationError, match="target = 'top'"):
        PhaseMarker(target="top")
    with pytest.raises(ConfigurationError, match="patience = 0"):
        PhaseMarker(patience=0)
    marker = PhaseMarker()
    marker.update(make_bars(5))
    with pytest.raises(DataError, match="not later than the last"):
        marker.update(make_bars(5))
    with pytest.raises(ConfigurationError, match="not of"):
        PhaseMarker(patience=3).restore(marker.state())
    with pytest.raises(DataError, match="damaged"):
        marker.restore({**marker.state(), "floats": ["1.0"]})
